"""The notebooks for learners: they run, and so do their solutions; what is committed is what they show, to anyone."""

import html.parser
import pathlib
import re

import nbclient
import nbformat
import pytest

from docs import make_notebooks

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = make_notebooks.sources()
# Of each, values of its parameters with which it takes less time; they teach nothing.
SMALL = {
    "4-is-it-any-good": {"TRAIN": 600, "TEST": 800, "EPOCHS": 2},
}
PLAIN = {"text/plain", "text/html", "text/markdown", "image/png"}  # what GitHub shows, and needs no script
TABLE = {"div", "table", "thead", "tbody", "tr", "th", "td", "p"}
ABSOLUTE = re.compile(r"(?<![\w.:/<*])/(?:[\w.@~-]+/)+[\w.@~-]+|[A-Z]:\\")


def each(function):
    return pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)(function)


def committed(source):
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def texts(notebook):
    """All that a notebook shows, but for pictures."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            yield output.get("text", "")
            yield from (content for form, content in output.get("data", {}).items() if form != "image/png")


@pytest.mark.slow
@each
def test_it_runs_and_so_do_its_solutions(source, tmp_path):
    notebook = make_notebooks.read(source)
    for codes in make_notebooks.solutions(notebook):
        notebook.cells += [nbformat.v4.new_code_cell(code) for code in codes]
    executed = make_notebooks.execute(notebook, tmp_path, SMALL[source.stem])
    assert len(executed.cells) == len(notebook.cells) + 1
    make_notebooks.clean(executed, tmp_path)
    assert not [text for text in texts(executed) if ABSOLUTE.search(text)]


@each
def test_what_is_committed_was_made_from_the_source(source):
    """`.venv/bin/python docs/make_notebooks.py` makes it."""
    made, asked = committed(source), make_notebooks.read(source)
    nbformat.validate(made)
    assert made.metadata == asked.metadata
    for cell, wanted in zip(made.cells, asked.cells, strict=True):
        assert (cell.source, cell.cell_type, cell.id, cell.metadata) == (
            wanted.source,
            wanted.cell_type,
            wanted.id,
            wanted.metadata,
        )


@each
def test_what_is_committed_ran_from_top_to_bottom(source):
    code = [cell for cell in committed(source).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {(output.output_type, output.get("name")) for cell in code for output in cell.outputs}
    assert kinds <= {("stream", "stdout"), ("execute_result", None), ("display_data", None)}


@each
def test_it_tells_nothing_of_the_machine_that_made_it(source):
    notebook = committed(source)
    for text in (*texts(notebook), *(cell.source for cell in notebook.cells)):
        assert not ABSOLUTE.search(text), text
        assert "Traceback" not in text
        assert not re.search(r"\b0x[0-9a-f]{8,}", text), text  # where an object lies
    for cell in notebook.cells:
        assert cell.metadata.keys() <= {"tags"}


@each
def test_it_reads_without_widgets_and_scripts(source):
    for cell in committed(source).cells:
        for output in cell.get("outputs", ()):
            assert output.get("data", {}).keys() <= PLAIN
            tags = Tags(output.get("data", {}).get("text/html", ""))
            assert tags.found <= TABLE
            assert tags.attributes <= {"border", "class", "style", "colspan", "rowspan", "valign", "halign"}


class Tags(html.parser.HTMLParser):
    """The tags and attributes in HTML."""

    def __init__(self, text):
        super().__init__()
        self.found, self.attributes = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


@each
def test_it_has_three_exercises_with_folded_solutions(source):
    text = "\n\n".join(cell.source for cell in make_notebooks.read(source).cells if cell.cell_type == "markdown")
    asked = text.partition("## Exercises")[2]
    exercises = re.findall(r"^\*\*\d\. .*?(?=^\*\*\d\. |^## )", asked, re.DOTALL | re.MULTILINE)
    assert len(exercises) == 3
    for exercise in exercises:
        # The blank lines make what is inside Markdown again.
        assert re.search(r"<details>\n<summary>Solution</summary>\n\n.*```\n\n</details>", exercise, re.DOTALL)
        assert exercise.count("<details>") == exercise.count("</details>") == 1
    assert len(make_notebooks.solutions(make_notebooks.read(source))) == 3


@each
def test_its_links_lead_somewhere(source):
    text = "\n".join(cell.source for cell in make_notebooks.read(source).cells)
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert links
    for link in links:
        assert (source.parent / link).exists(), link


@each
def test_the_readme_leads_to_it(source):
    assert f"(docs/notebooks/{source.stem}.ipynb)" in (ROOT / "README.md").read_text()


def test_each_has_small_values_for_its_parameters():
    assert {source.stem for source in SOURCES} == SMALL.keys()
    for source in SOURCES:
        (cell,) = [
            c for c in make_notebooks.read(source).cells if make_notebooks.PARAMETERS in c.metadata.get("tags", ())
        ]
        for name in SMALL[source.stem]:
            assert re.search(rf"\b{name}\b.* = ", cell.source), name


SOURCE = """# %% [markdown]
# # Title
#
# Text.

# %% tags=["parameters"]
NUMBER = 1

# %%
import logging
import pathlib
import warnings

warnings.warn("odd", stacklevel=1)
logging.getLogger().warning("odd")
print(pathlib.Path("here").resolve(), NUMBER)
print("Node: done (1.2 s)")
NUMBER + 1
"""


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "some.py"
    file.write_text(SOURCE)
    return file


def test_a_source_is_read(source):
    notebook = make_notebooks.read(source)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code"]
    assert notebook.cells[0].source == "# Title\n\nText."
    assert notebook.cells[1] == {**notebook.cells[1], "source": "NUMBER = 1", "metadata": {"tags": ["parameters"]}}
    source.write_text(SOURCE.replace("# Text.", "Text."))
    with pytest.raises(ValueError, match=r"text is no comment: Text\."):
        make_notebooks.read(source)
    source.write_text(f"import os\n{SOURCE}")
    with pytest.raises(ValueError, match="not the beginning of a cell: import os"):
        make_notebooks.read(source)


def test_what_differs_from_run_to_run_is_left_out(source, tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    notebook = make_notebooks.read(source)
    executed = make_notebooks.execute(notebook, folder, {"NUMBER": 5})
    make_notebooks.clean(executed, folder)
    said, value = executed.cells[-1].outputs
    assert said.text == "here 5\nNode: done\n"
    assert value.data == {"text/plain": "6"}
    assert executed.cells[2].source == "NUMBER = 5"
    assert all("outputs" not in cell or not cell.outputs for cell in notebook.cells)


def test_a_cell_that_fails_stops_it(source, tmp_path):
    notebook = make_notebooks.read(source)
    notebook.cells.append(nbformat.v4.new_code_cell("1 / 0"))
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        make_notebooks.execute(notebook, tmp_path)
