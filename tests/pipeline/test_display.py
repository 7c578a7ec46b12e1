"""What the terminal shows of a run: it fits, and no name of a class is obeyed."""

import pytest
from rich.cells import cell_len
from run_data import examples, predict, write_run
from terminal_lines import AWKWARD, shown

from core.workdir import Workdir
from pipeline import display, progress
from review import run_report


@pytest.mark.parametrize("width", [30, 80, 120])
def test_no_name_is_obeyed(tmp_path, width):
    found = write_run(Workdir(tmp_path), "20260101-000000", predict(examples(AWKWARD, 40), 0.9, 1), name="[bold]pets")
    lines = shown(display.summary, found, width=width)
    assert "\x1b" not in "".join(lines)
    if width > 30:
        assert "[red]cat[/]" in "\n".join(lines)
        assert max(map(cell_len, lines)) <= width


def test_many_classes_are_folded(tmp_path):
    split = examples([f"c{number}" for number in range(45)], 40)
    found = write_run(Workdir(tmp_path), "20260101-000000", predict(split, 0.8, 1))
    assert any("25 more classes" in line for line in shown(display.summary, found))


def test_the_outcome_says_what_nobody_may_miss(tmp_path):
    work = Workdir(tmp_path)
    found = write_run(work, "20260101-000000", predict(examples(), 0.9))
    folder = work.run(found["run"])
    row = {"values": ["cat"], "features": ["hue"], "count": 40, "accuracy": 0.2, "rest_accuracy": 0.9}
    row |= {"accuracy_interval": [0.1, 0.3], "p": 0.01}
    for rows in ([], [row]):
        found["evaluation"]["weak_slices"] = {"features": ["hue"], "looked_at": 7, "rows": rows}
        report = run_report.from_results(work, found)
        (folder / "report.json").write_text(report.model_dump_json())
        said = "Weakest where hue cat: accuracy 20.0% (n=40), 90.0% elsewhere." in shown(
            display.outcome, found, folder
        )
        assert said == bool(rows)


def test_the_outcome_says_where_the_report_is(tmp_path):
    found = write_run(Workdir(tmp_path), "20260101-000000", predict(examples(AWKWARD, 40), 0.9, 1))
    lines = shown(display.outcome, found, tmp_path / "runs" / found["run"], width=30)
    assert f"Report: {tmp_path}/runs/{found['run']}/report.html" in lines  # to be clicked on, so on one line


def test_what_is_unpacked_is_told_beside_its_node():
    run = progress.Run()
    run.apply({"kind": "node", "node": "ImageExampleGen", "state": progress.RUNNING, "time": 0})
    assert run.apply({"kind": "unpack", "name": "pets.zip", "megabytes": 3, "of": 9}) is None
    assert run.nodes["ImageExampleGen"].detail == "unpacking pets.zip: 3 of 9 MB"
