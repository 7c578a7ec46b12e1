"""The evaluations of the same data over time."""

import csv
import io
import json

import pytest
from run_data import examples, predict, write_run

from core.errors import UserError
from core.workdir import Workdir
from pipeline import cli
from review import history

SPLIT = examples(count=40)


@pytest.fixture
def workdir(tmp_path):
    """Four runs: the third takes the second's evaluation from the cache and pushes, the last has other data."""
    made = Workdir(tmp_path)
    write_run(made, "20260101-000000", predict(SPLIT, 0.3, 1))
    second = write_run(made, "20260102-000000", predict(SPLIT, 0.9, 2), state="not pushed")
    write_run(made, "20260103-000000", None, source=second, state="pushed")
    write_run(made, "20260104-000000", predict(SPLIT, 0.8, 4), name="zoo")
    write_run(made, "20260105-000000", predict(examples(count=50), 0.8, 5), state="not pushed")
    return made


def test_repeated_runs_of_an_evaluation_are_one(workdir):
    name, pasts = history.collect(workdir.results())
    assert name == "pets"
    assert [past.runs for past in pasts] == [
        ("20260101-000000",),
        ("20260102-000000", "20260103-000000"),
        ("20260105-000000",),
    ]
    assert [past.run for past in pasts] == ["20260101-000000", "20260102-000000", "20260105-000000"]
    assert [past.blessed for past in pasts] == [False, True, True]
    assert [past.pushed for past in pasts] == [False, True, False]
    assert [past.same_data for past in pasts] == [True, True, False]
    assert pasts[0].made == "2026-01-01T00:00:00"


def test_another_fingerprint_is_other_data_where_both_are_known(workdir):
    results = workdir.results()[:2]

    def same(*fingerprints):
        told = [
            {**result, "data": {"fingerprint": text} if text else None}
            for result, text in zip(results, fingerprints, strict=True)
        ]
        return history.collect(told)[1][1].same_data

    assert same("a", "a")
    assert not same("a", "b")
    assert same("a", None)
    assert same(None, None)


def test_data_are_chosen_by_name(workdir):
    assert [past.run for past in history.collect(workdir.results(), "zoo")[1]] == ["20260104-000000"]
    with pytest.raises(UserError, match="--name cats: no run of such data has been evaluated; there are pets, zoo"):
        history.collect(workdir.results(), "cats")
    with pytest.raises(UserError, match="No run has been evaluated yet"):
        history.collect([{"run": "1", "evaluation": None}])


def past(**recalls):
    return history.Past("1", ("1",), "2026-01-01", "p", 10, 0.5, (0.4, 0.6), recalls, True, False)


def test_courses_go_from_the_worst_to_those_that_are_gone():
    found = history.courses([past(a=0.5, b=0.9, gone=0.1), past(a=0.8, b=0.7, new=0.6)])
    assert [course.class_name for course in found] == ["new", "b", "a", "gone"]
    new, b, a, gone = found
    assert new.recalls == (None, 0.6)
    assert gone.recalls == (0.1, None)
    assert b.change == pytest.approx(-0.2)
    assert a.range == pytest.approx(0.3)
    assert gone.change == 0


def test_of_many_classes_the_worst_and_the_most_changed_are_told():
    names = [f"c{k:02d}" for k in range(30)]
    first = {name: 0.5 + k / 100 for k, name in enumerate(names)}
    second = first | {"c20": 0.99, "c25": 0.01}
    third = dict(first)
    courses = history.courses([past(**first), past(**second), past(**third)])
    assert [course.class_name for course in history.telling(courses, 4)] == ["c00", "c01", "c20", "c25"]
    assert history.telling(courses, 30) == courses


def test_the_page_has_all_of_it_and_escapes_names(tmp_path):
    workdir = Workdir(tmp_path)
    split = examples(("<script>alert(1)</script>", "a & b"), 40)
    for k in (1, 2):
        write_run(workdir, f"2026010{k}-000000", predict(split, 0.5 + k / 10, k), name="<b>")
    name, pasts = history.collect(workdir.results())
    page = history.page(name, pasts)
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "History of &lt;b&gt;" in page
    assert page.count('class="spark"') == 2
    assert all(past.run in page for past in pasts)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    alone = history.page(name, pasts[:1])
    assert 'class="spark"' not in alone


def test_json_and_csv_hold_every_value(workdir):
    name, pasts = history.collect(workdir.results())
    told = json.loads(json.dumps(history.record(name, pasts)))
    assert told["name"] == "pets"
    assert told["evaluations"][1]["runs"] == ["20260102-000000", "20260103-000000"]
    rows = history.rows(pasts)
    assert len(rows) == 3 * (1 + 3)
    assert {row["value"] for row in rows if row["what"] == "accuracy"} == {one.accuracy for one in pasts}
    assert {(row["run"], row["class_name"]): row["value"] for row in rows if row["what"] == "recall"} == {
        (one.run, name): recall for one in pasts for name, recall in one.recalls.items()
    }


def test_the_command(workdir, tmp_path, capsys):
    def run(*arguments):
        cli.main(["history", "--workdir", str(workdir.path), *map(str, arguments)], standalone_mode=False)
        return capsys.readouterr().out

    table = run()
    assert "3 evaluations in 4 runs" in table
    assert "20260102-000000 ×2" in table
    files = {form: tmp_path / f"history.{form}" for form in ("png", "svg", "html")}
    rows = list(
        csv.DictReader(io.StringIO(run("--format", "csv", *(x for f, p in files.items() for x in (f"--{f}", p)))))
    )
    assert len(rows) == 12
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert "recall of each class</text>" in files["svg"].read_text()
    assert files["html"].read_text().startswith("<!doctype html>")
    with pytest.raises(SystemExit) as ended:
        run("--png", tmp_path / "none" / "history.png")
    assert ended.value.code == 2
    assert "history.png cannot be written" in capsys.readouterr().err
