"""Weak slices as they are shown: in the terminal, the report's page and the model card."""

import re

import pytest
import report_data
from browser import browser  # noqa: F401  a fixture
from rich.cells import cell_len
from run_data import examples, predict, write_run
from terminal_lines import AWKWARD, shown

from core.workdir import Workdir
from review import statistics, terminal, weak_words
from review.report import card, page, schema, web

NAMES = ("cat", "<script>alert(1)</script>", "owl")


def rows(names=NAMES, files=()):
    """Weak slices as in report.json; `files` are the pictures of the first."""
    made = []
    for number, (class_name, right, count, p) in enumerate(((names[1], 9, 40, 2e-9), (None, 700, 900, 0.012))):
        share = right / count
        made.append(
            {
                "features": [*(["class_name"] if class_name else []), "brightness", "lens"],
                "values": [*([class_name] if class_name else []), "dark (<64)", names[0]],
                "count": count,
                "accuracy": share,
                "accuracy_interval": list(statistics.wilson(share, count)),
                "rest_accuracy": 0.9,
                "p": p,
                "examples": ["a", "b"],
                "pictures": list(files) if number == 0 else [],
            }
        )
    return made


def found(names=NAMES, files=(), none=False):
    return {"features": ["brightness", "lens"], "looked_at": 1234, "rows": [] if none else rows(names, files)}


def report_with(weak, **options):
    """A report, its pictures, and the weak slices in it; `weak` makes them of the names of some pictures."""
    report, pictures = report_data.make_report(names=NAMES, **options)
    mistakes = [picture for picture in report.pictures if picture.kind == "mistake" and picture.true == NAMES[1]]
    made = schema.WeakSlices(**weak([picture.file for picture in mistakes]))
    changed = report.evaluation.model_copy(update={"weak_slices": made})
    return report.model_copy(update={"evaluation": changed}), pictures, mistakes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (found(), "2 of 1,234 slices looked at are worse than the rest beyond chance."),
        (found() | {"rows": rows()[:1]}, "1 of 1,234 slices looked at is worse than the rest beyond chance."),
        (found(none=True), "None of 1,234 slices looked at is worse than the rest beyond chance."),
        (found(none=True) | {"looked_at": 0}, "No feature divides the test examples"),
    ],
)
def test_one_sentence_says_how_many_were_found(given, said):
    assert weak_words.heading(given).startswith(said)
    assert shown(weak_words.show, given, width=120)[0].startswith(said)


def test_a_slice_is_named_by_its_class_and_its_features():
    assert weak_words.name(["class_name", "width"], ["cat", "20 to 31"]) == "cat × width 20 to 31"


@pytest.mark.parametrize("width", [30, 60, 80, 120, 200])
def test_they_come_first_in_the_terminal_and_fit(tmp_path, width):
    run = write_run(Workdir(tmp_path), "20260101-000000", predict(examples(AWKWARD, 40), 0.9))
    run["evaluation"]["weak_slices"] = found(AWKWARD)
    lines = shown(terminal.slices, run, width=width)
    text = "\n".join(lines)
    assert "\x1b" not in text
    weak, classes = (
        next(n for n, line in enumerate(lines) if line.startswith(head)) for head in ("weak sl", "class")
    )
    assert weak < classes
    if width > 30:
        assert max(map(cell_len, lines)) <= width
        assert "22.5%" in text
    if width == 200:
        assert "<script>alert(1)</script> × brightness dark (<64) × lens [red]cat[/]" in text
        assert "<0.001" in text
        assert "0.012" in text
    chosen = shown(terminal.slices, run, run["evaluation"]["slices"][0], width=width)
    assert not any(line.startswith("weak sl") for line in chosen)


def test_where_nobody_looked_nothing_is_said(tmp_path):
    run = write_run(Workdir(tmp_path), "20260101-000000", predict(examples(), 0.9))
    assert not any("worse than the rest" in line for line in shown(terminal.slices, run))
    report, pictures = report_data.make_report(3)
    assert "Weak where" not in page.render(report, pictures)
    assert "Weak slices" not in card.markdown(report)
    assert weak_words.sentences(None) == []


def test_the_card_has_them_as_a_table_and_as_limits():
    report, _, _ = report_with(lambda files: found())
    limits = [" ".join(map(str, item)) if isinstance(item, tuple) else item for item in card.limits(report)]
    said = [item for item in limits if "It is weak on" in item]
    assert len(said) == 2
    low, high = (web.percent(end) for end in statistics.wilson(9 / 40, 40))
    assert f"accuracy {web.percent(9 / 40)} ({low} to {high}, n = 40)" in said[0]
    assert "p <\u00a00.001, corrected for the 1,234 slices" in said[0]
    text = card.markdown(report)
    assert "Weak slices, looked for among all features and their crosses" in text
    assert "<script>" not in text
    none, _, _ = report_with(lambda files: found(none=True))
    assert "None of 1,234 slices looked at is worse" in card.markdown(none)
    assert "It is weak on" not in card.markdown(none)


def test_in_the_page_they_are_the_first_of_the_slices_with_their_pictures(browser, tmp_path):  # noqa: F811
    report, pictures, mistakes = report_with(lambda files: found(files=files[:2]))
    assert len(mistakes) > 2
    text = page.render(report, pictures, card.html(report))
    assert "<script>alert" not in text
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    for script in (True, False):
        context = browser.new_context(java_script_enabled=script)
        tab = context.new_page()
        tab.goto(file.as_uri())
        assert tab.locator("#slices h3").first.text_content() == "Weak where nobody asked"
        names = tab.locator("#weak-table tbody th").all_text_contents()
        assert names == [weak_words.name(row["features"], row["values"]) for row in rows()]
        assert tab.locator("#weak figure.pic .id").all_text_contents() == [each.id for each in mistakes[:2]]
        assert tab.locator("#weak-1").text_content().startswith(names[0])
        assert "2 of 31 mistakes" in tab.locator("#weak-1").text_content()
        tab.locator("#weak-table a").click()
        assert tab.url.endswith("#weak-1")
        context.close()


def test_a_picture_is_shown_once_beside_the_confusion_matrix(browser, tmp_path):  # noqa: F811
    report, pictures, mistakes = report_with(lambda files: found(files=files))
    file = tmp_path / "report.html"
    file.write_text(page.render(report, pictures), encoding="utf-8")
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(file.as_uri())
    labels = report.evaluation.class_names.index
    pair = [each for each in report.pictures if (each.true, each.predicted) == (NAMES[1], mistakes[0].predicted)]
    tab.locator(
        f'#matrix a[data-true="{labels(NAMES[1])}"][data-predicted="{labels(mistakes[0].predicted)}"]'
    ).click()
    assert tab.locator("#shown figure").count() == len(pair)
    context.close()


def test_pictures_that_were_left_out_are_left_out_here_too():
    report, _, _ = report_with(lambda files: found(files=files))
    text = page.render(report, {})
    assert 'id="weak-1"' not in text
    assert re.search(r'id="weak-table"', text)
