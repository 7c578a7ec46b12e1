"""What the report, the model card and the terminal tell of labels that may be wrong, or were corrected."""

import html
import re

import markupsafe
import pytest
import report_data
from rich.cells import cell_len
from terminal_lines import AWKWARD, shown

from core import corrections
from review import suspects_terminal
from review.report import card, page, schema
from review.report import suspects as part


def section(text, name="suspects"):
    """The words of a section of a page."""
    found = re.search(rf'<section id="{name}">.*?</section>', text, re.DOTALL)
    return " ".join(html.unescape(markupsafe.Markup(found[0]).striptags()).split()) if found else None


@pytest.fixture
def made():
    return report_data.make_report(3, suspects=5)


def test_the_report_shows_the_suspects_in_words(made):
    report, pictures = made
    words = section(text := page.render(report, pictures))
    judged = sum(report.suspects.judged.values())
    assert f"5 labels are suspected to be wrong among the {judged:,} test and validation examples" in words
    assert "The least plausible 3 of 5 pictures" in words
    first = report.suspects.rows[0]
    assert f"labelled {first.label}, looks like {first.suggested_label}, 97 %" in words
    assert f"test: {first.id}" in words
    assert 'href="#suspects"' in text
    assert re.search(r"alexnet suspects --run \S+ --output corrections\.csv", words)
    assert words.endswith("--set data.corrections=corrections.csv")
    assert "Corrections: 3 relabelled, 2 left out by /data/<b>corrections.csv." in section(text, "data")


def test_a_list_that_was_used_is_gone_on_with(made):
    report, _ = made
    data = {**report.settings["data"], "corrections": "/my data/list.csv"}
    report = report.model_copy(update={"settings": {**report.settings, "data": data}})
    written, again = part.commands(report, "alexnet run --set 'data.corrections=/my data/list.csv'").splitlines()
    assert written.endswith("--output '/my data/list.csv'")
    assert again.count("data.corrections") == 1


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (schema.Suspects(judged={"test": 50}, total=50, count=0), "No label is suspected to be wrong among the 50"),
        (schema.Suspects(judged={}, total=50, count=0), "No label could be judged."),
        (None, None),
    ],
)
def test_without_suspects_there_is_no_work(made, found, said):
    report, pictures = made
    report = report.model_copy(update={"suspects": found, "data": None})
    text = page.render(report, pictures)
    words = section(text)
    assert words is None if said is None else said in words
    assert "data.corrections" not in text.partition("Settings")[0]
    assert ("suspect" in card.markdown(report)) == bool(found and found.judged), said
    assert "may be better or worse" not in card.markdown(report)


def test_the_model_card_tells_of_both(made):
    report, _ = made
    text = card.markdown(report)
    assert "3 relabelled, 2 left out, in all splits, by `/data/<b>corrections.csv`" in text
    assert text.count("5 labels are suspected to be wrong among the") == 2  # the data, and the caveats
    assert "may be better or worse than they seem" in text


def test_a_report_of_before_still_opens(made):
    report, _ = made
    content = report.model_dump(mode="json")
    del content["suspects"], content["data"]["corrections"]
    older = schema.Report(**content)
    assert (older.suspects, older.data.corrections) == (None, None)
    assert schema.Report(**report.model_dump(mode="json")) == report


def test_the_list_of_a_report_is_what_corrections_read(made):
    report, _ = made
    lines = part.listed(report).splitlines()
    assert lines[0] == ",".join(corrections.COLUMNS)
    assert len(lines) == 6
    filled = part.listed(report).replace(",0.97,,", ",0.97,drop,")
    found = corrections.parse(filled.encode(), "list.csv", report.evaluation.class_names)
    assert [(each.id, each.digest, each.action) for each in found] == [
        (row.id, row.digest, "drop") for row in report.suspects.rows
    ]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_terminal_shows_the_first_ones_whatever_they_are_called(width):
    report, _ = report_data.make_report(names=AWKWARD, suspects=suspects_terminal.FOLD + 7)
    lines = shown(suspects_terminal.show, "20260101-000000", report.suspects, width=width)
    assert max(map(cell_len, lines)) <= width
    assert "\x1b" not in "".join(lines)
    text = " ".join(" ".join(lines).split())
    assert f"{suspects_terminal.FOLD + 7} labels are suspected to be wrong" in text
    assert "and 7 more: --output FILE or --format csv shows all" in text
    assert "[red]cat[/]" in text
    assert len([line for line in lines if "97.0%" in line]) == suspects_terminal.FOLD


def test_the_terminal_shows_the_end_of_a_long_path():
    report, _ = report_data.make_report(3, suspects=1)
    (row,) = report.suspects.rows
    row = row.model_copy(update={"id": "test/" + "folder/" * 20 + "the-picture.png"})
    found = report.suspects.model_copy(update={"rows": [row]})
    assert "the-picture.png" in "".join(shown(suspects_terminal.show, "1", found, width=200))
