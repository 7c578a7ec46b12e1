"""`alexnet suspects`, as a user calls it: real processes."""

import csv
import io
import json
import pathlib
import subprocess
import sys

import pytest
import report_data
from run_data import examples, predict, write_run

from core.workdir import Workdir
from review.report import build

ALEXNET = str(pathlib.Path(sys.executable).with_name("alexnet"))


def alexnet(*arguments, **options):
    return subprocess.run([ALEXNET, *map(str, arguments)], capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run with 25 suspects, a later one with none, and one of before they were looked for."""
    made = Workdir(tmp_path_factory.mktemp("work"))
    for number, count in enumerate((25, 1, 0), 1):
        found = write_run(made, f"2026010{number}-000000", predict(examples(("cat", "dog"), 20), 0.9))
        report, pictures = report_data.make_report(names=["cat", "dog"], suspects=count)
        if number == 2:
            empty = report.suspects.model_copy(update={"count": 0, "rows": []})
            report = report.model_copy(update={"suspects": empty})
        folder = made.run(found["run"])
        (folder / build.REPORT).write_text(build.to_json(report))
        (folder / build.PICTURES).write_bytes(build.zipped(pictures))
    return made.path


def test_the_suspects_of_a_run_are_named(workdir):
    done = alexnet("suspects", "--workdir", workdir, "--run", "20260101")
    assert done.returncode == 0, done.stderr
    assert "Run 20260101-000000: 25 labels are suspected to be wrong among the" in " ".join(done.stdout.split())
    assert "… and 5 more" in done.stdout


def test_scripts_get_all_of_them(workdir):
    arguments = ("suspects", "--workdir", workdir, "--run", "20260101", "--format")
    told = json.loads(alexnet(*arguments, "json").stdout)
    rows = list(csv.DictReader(io.StringIO(alexnet(*arguments, "csv").stdout)))
    assert (told["run"], told["count"], len(told["suspects"]), len(rows)) == ("20260101-000000", 25, 25, 25)
    assert told["judged"].keys() == {"test", "validation"}
    for one, row in zip(told["suspects"], rows, strict=True):
        assert {key: row[key] for key in ("id", "split", "label", "suggested_label", "digest")} == {
            key: one[key] for key in ("id", "split", "label", "suggested_label", "digest")
        }
        assert float(row["suggested_probability"]) == one["suggested_probability"] == 0.97
        assert row["action"] == ""


def test_without_suspects_it_says_so_in_every_form(workdir):
    arguments = ("suspects", "--workdir", workdir, "--run", "20260102", "--format")
    assert "No label is suspected to be wrong" in " ".join(alexnet(*arguments, "table").stdout.split())
    assert json.loads(alexnet(*arguments, "json").stdout)["suspects"] == []
    assert alexnet(*arguments, "csv").stdout.strip().startswith("id,split,label")


def test_a_list_that_was_worked_through_keeps_the_work(workdir, tmp_path):
    file = tmp_path / "corrections.csv"
    done = alexnet("suspects", "--workdir", workdir, "--run", "20260101", "--output", file)
    assert f"List: {file}" in done.stdout
    rows = list(csv.DictReader(file.open()))
    assert len(rows) == 25
    rows[3]["action"] = "dog"
    with file.open("w", newline="") as written:
        writer = csv.DictWriter(written, list(rows[0]))
        writer.writeheader()
        writer.writerows([*rows, {"id": "by hand", "action": "drop"}])
    assert alexnet("suspects", "--workdir", workdir, "--run", "20260101", "--output", file).returncode == 0
    again = list(csv.DictReader(file.open()))
    assert [(row["id"], row["action"]) for row in again[:2]] == [(rows[3]["id"], "dog"), ("by hand", "drop")]
    assert {row["id"] for row in again} == {row["id"] for row in rows} | {"by hand"}
    assert len(again) == 26


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "20260103"], "Run 20260103-000000 has not looked for wrong labels: it is of an older version"),
        (["--run", "2025"], "there is no such finished run"),
        (["--run", "20260101", "--output", "other.txt"], "other.txt has no column id and no column action"),
        (["--run", "20260101", "--output", "none/list.csv"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(workdir, tmp_path, arguments, said):
    (tmp_path / "other.txt").write_text("my notes\n")
    done = alexnet("suspects", "--workdir", workdir, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "other.txt").read_text() == "my notes\n"


def test_a_list_that_is_not_there_is_told_before_anything_runs(tmp_path):
    done = alexnet("run", "--set", "data.corrections=none.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert f"data.corrections={tmp_path}/none.csv: there is no such file" in done.stderr
    assert list(tmp_path.iterdir()) == []
