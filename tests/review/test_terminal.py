"""What the terminal shows: it fits, it is understood without colour, and no name of a class is obeyed."""

import re

import pytest
from rich.cells import cell_len
from run_data import examples, predict, write_run
from terminal_lines import AWKWARD, shown

from core.workdir import Workdir
from review import compare, history, tables, terminal


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs on ten classes; the second has the first as baseline."""
    workdir = Workdir(tmp_path_factory.mktemp("work"))
    classes = [*(f"class number {k}" for k in range(9)), "[red]cat[/]"]
    split = examples(classes, 60)
    made = []
    for k, skill in enumerate((0.7, 0.95, 0.8), 1):
        before = made[-1]["evaluation"] if made else None
        baseline = before and {
            "accuracy": before["accuracy"],
            "recalls": {row["class_name"]: row["recall"] for row in before["classes"]},
        }
        skills = dict.fromkeys(classes, skill) | {"[red]cat[/]": 0.35}
        made.append(write_run(workdir, f"2026010{k}-000000", predict(split, skills, k), baseline=baseline))
    return made


def changes(runs, features):
    pairs, how = compare.meet(*runs)
    return how, {c.values: c for c in compare.correct([compare.changes(*runs, pairs, features)])[0]}


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_every_table_fits_into_the_terminal(runs, width):
    chosen = runs[1]["evaluation"]["slices"][1]
    how, by_class = changes(runs[:2], ["class_name"])
    _, by_slice = changes(runs[:2], chosen["features"])
    outputs = {
        "slices": shown(terminal.slices, runs[1], width=width),
        "chosen": shown(terminal.slices, runs[1], chosen, width=width),
        "compared": shown(terminal.slices, runs[1], None, runs[0], how, by_class, width=width),
        "chosen, compared": shown(terminal.slices, runs[1], chosen, runs[0], how, by_slice, width=width),
        "comparison": shown(terminal.comparison, compare.compare(runs), width=width),
        "history": shown(terminal.history, *history.collect(runs), width=width),
    }
    for name, lines in outputs.items():
        assert max(map(cell_len, lines)) <= width, name
        assert "\x1b" not in "".join(lines)


def test_a_wider_terminal_shows_more_columns(runs):
    heads = {
        width: next(line for line in shown(terminal.slices, runs[1], width=width) if line.startswith("class "))
        for width in (80, 130)
    }
    narrow, wide = ({text.strip() for text in re.split(r"\s{2,}", head)} for head in heads.values())
    assert {"class", "n", "recall", "change", "gates"} <= narrow < wide
    assert {"interval", "precision", "F1", "AUC", "taken for"} <= wide


def test_the_worst_class_comes_first_and_verdicts_are_words(runs):
    lines = shown(terminal.slices, runs[1])
    rows = [line for line in lines if "60 " in line]
    assert "[red]cat[/]" in rows[0]
    assert "✗ fail" in rows[0]
    assert "✓ pass" in rows[1]
    coloured = "\n".join(shown(terminal.slices, runs[1], colour=True))
    assert "\x1b[1;31m✗ fail" in coloured


def test_beside_another_run_the_change_and_its_verdict_are_shown(runs):
    how, by_class = changes(runs[:2], ["class_name"])
    lines = shown(terminal.slices, runs[1], None, runs[0], how, by_class)
    row = next(line for line in lines if "class number 3" in line)
    change = by_class["class number 3",]
    assert f"{change.first:.1%}" in row
    assert f"{100 * change.change:+.1f}" in row
    assert "▲ better" in row
    assert "· chance" in next(line for line in lines if "[red]cat" in line)
    assert any("McNemar" in line for line in lines)


def test_slices_that_are_too_small_are_marked(tmp_path):
    table = predict(examples(("cat", "dog"), 40), 0.9)
    run = write_run(Workdir(tmp_path), "20260101-000000", table)
    lines = shown(terminal.slices, run, run["evaluation"]["slices"][1])
    marked = [line for line in lines if " few " in line]
    assert len(marked) == sum(row["too_small"] for row in run["evaluation"]["slices"][1]["rows"]) > 0
    assert any("fewer than 30 examples (evaluation.smallest_slice)" in line for line in lines)
    assert not any("few" in line for line in shown(terminal.slices, run))


@pytest.mark.parametrize("width", [30, 80, 120])
def test_no_name_is_obeyed(tmp_path, width):
    workdir = Workdir(tmp_path)
    runs = [
        write_run(workdir, f"2026010{k}-000000", predict(examples(AWKWARD, 40), skill, k), name="[bold]pets")
        for k, skill in enumerate((0.9, 0.5), 1)
    ]
    outputs = [
        shown(terminal.slices, runs[0], width=width),
        shown(terminal.slices, runs[0], runs[0]["evaluation"]["slices"][1], width=width),
        shown(terminal.comparison, compare.compare(runs), width=width),
        shown(terminal.history, *history.collect(runs), width=width),
    ]
    for lines in outputs:
        text = "\n".join(lines)
        assert "\x1b" not in text
        if width > 30:
            assert "[red]cat[/]" in text
            assert "<script>alert(1)" in text
            assert "a�[31mb c" in text
            assert max(map(cell_len, lines)) <= width


def test_many_classes_are_folded_but_not_where_they_are_asked_for(tmp_path):
    workdir = Workdir(tmp_path)
    split = examples([f"c{k}" for k in range(45)], 40)
    runs = [write_run(workdir, f"2026010{k}-000000", predict(split, 0.8, k)) for k in (1, 2)]
    assert sum("✓ pass" in line for line in shown(terminal.slices, runs[0])) == 45
    lines = shown(terminal.comparison, compare.compare(runs))
    assert sum(line.startswith("c") for line in lines[5:]) == terminal.FOLD + 1  # and the header
    assert any("25 more classes" in line for line in lines)
    lines = shown(terminal.history, *history.collect(runs))
    assert any("The worst and the most changed of 45 classes" in line for line in lines)


def test_a_comparison_says_what_was_found(runs):
    text = " ".join(shown(terminal.comparison, compare.compare(runs[:2]), width=200))
    (found,) = compare.compare(runs[:2])
    assert f"▲ better: accuracy {found.overall.first:.2%} → {found.overall.share:.2%}" in text
    assert f"{found.overall.lost} examples right only in the first, {found.overall.gained} only in this one" in text
    assert "p\u00a0<\u00a00.001" in text
    assert "at most 5%" in text


def test_an_evaluation_of_before_this_version_is_shown_too(runs):
    part = dict(runs[1]["evaluation"])
    for key in ("macro_f1", "calibration_error", "slices", "smallest_slice", "calibration", "baseline_loss"):
        del part[key]
    part["classes"] = [{key: value for key, value in row.items() if key != "auc"} for row in part["classes"]]
    lines = shown(terminal.slices, {**runs[1], "evaluation": part}, width=150)
    assert any("✗ fail" in line for line in lines)
    assert not any("AUC" in line for line in lines)


def test_a_bar_is_solid_up_to_the_interval_and_lighter_in_it():
    assert tables.bar(0.5, 0.4, 0.7, 0.0, 10, "green").plain == "████▓░░"
    assert tables.bar(0.75, 0.75, 0.75, 0.5, 10, "green").plain == "█████"
    assert tables.bar(0.2, 0.1, 0.3, 0.5, 10, "green").plain == ""
    assert tables.bar(1.0, 0.9, 1.0, 0.0, 10, "green").plain == "█████████▓"


def test_a_sparkline_goes_from_the_lowest_to_one_and_leaves_gaps():
    assert tables.sparkline([0.5, None, 0.75, 1.0], 0.5) == "▁ ▅█"
    assert tables.sparkline([1.0, 1.0], 1.0) == "▁▁"
    assert len(tables.sparkline([0.5] * 100, 0.5)) == 24


@pytest.mark.parametrize(
    ("difference", "text"), [(0.0123, "+1.2"), (-0.0123, "-1.2"), (0.0, "0.0"), (-0.0001, "0.0"), (1.0, "+100.0")]
)
def test_points_have_a_sign(difference, text):
    assert tables.points(difference) == text
