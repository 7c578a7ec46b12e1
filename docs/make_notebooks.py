"""Makes the notebooks for learners from their sources: `.venv/bin/python docs/make_notebooks.py [NAME ...]`.

A source, `docs/notebooks/NAME.py`, is in the percent format, which VS Code, PyCharm, Spyder and Jupytext know, too:
`# %%` begins a cell of code, `# %% [markdown]` one of text, in comments. It is executed in a kernel of this Python,
in an empty folder, and written with what it showed to `NAME.ipynb`. What another run would show differently without
need - paths, warnings, log lines, seconds - is left out, so that little changes from one run to the next.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from unittest import mock

import nbclient
import nbformat
from nbformat import v4

FOLDER = pathlib.Path(__file__).resolve().parent / "notebooks"
MARK = re.compile(r"^# %%(?P<text> \[markdown\])?(?: tags=(?P<tags>\[.*\]))?$")
PARAMETERS = "parameters"  # tag of the cell whose values may be changed, as Papermill has it
SOLUTION = re.compile(r"<details>.*?</details>", re.DOTALL)
CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SECONDS = re.compile(r" \(\d+\.\d s\)|  [\d,]+ images/s")  # in the lines of a run
STYLE = re.compile(r"<style scoped>.*?</style>\n?", re.DOTALL)  # of a table; GitHub and Jupyter bring their own


def read(source: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook of a source, not executed.

    Raises:
        ValueError: it does not begin with a cell, or text is not in comments.
    """
    cells: list[nbformat.NotebookNode] = []
    for block in _blocks(source.read_text(encoding="utf-8")):
        mark = MARK.match(block[0])
        if not mark:
            raise ValueError(f"{source}: not the beginning of a cell: {block[0]}")
        lines = [re.sub("^# ?", "", line) if mark["text"] else line for line in block[1:]]
        if mark["text"] and (bare := [line for line in block[1:] if line and not line.startswith("#")]):
            raise ValueError(f"{source}: text is no comment: {bare[0]}")
        content = "\n".join(lines).strip("\n")
        cell = (v4.new_markdown_cell if mark["text"] else v4.new_code_cell)(content)
        cell.id = hashlib.blake2b(content.encode(), digest_size=4).hexdigest()
        if mark["tags"]:
            cell.metadata.tags = json.loads(mark["tags"])
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def _blocks(text: str) -> Iterator[list[str]]:
    """The lines of each cell, its mark first."""
    block: list[str] = []
    for line in text.rstrip("\n").split("\n"):
        if line.startswith("# %%") and block:
            yield block
            block = []
        block.append(line)
    yield block


def solutions(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """The code in each folded solution."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return [CODE.findall(solution) for text in texts for solution in SOLUTION.findall(text)]


def execute(
    notebook: nbformat.NotebookNode, folder: pathlib.Path, changes: Mapping[str, object] | None = None
) -> nbformat.NotebookNode:
    """The same notebook with what it shows.

    Args:
        notebook: is left as it is.
        folder: in which its kernel runs.
        changes: other values for names in the cell of parameters.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    made = copy.deepcopy(notebook)
    if changes:
        (place,) = [n for n, cell in enumerate(made.cells) if PARAMETERS in cell.metadata.get("tags", ())]
        values = "\n".join(f"{name} = {value!r}" for name, value in changes.items())
        made.cells.insert(place + 1, v4.new_code_cell(values))
    with kernel() as name:
        resources = {"metadata": {"path": str(folder)}}
        nbclient.NotebookClient(
            made,
            timeout=None,  # a busy machine takes its time
            startup_timeout=600,
            kernel_name=name,
            resources=resources,
            record_timing=False,
        ).execute()
    made.metadata = copy.deepcopy(notebook.metadata)
    return made


@contextlib.contextmanager
def kernel() -> Iterator[str]:
    """The name of a kernel of this Python, whatever others the user has; it warns of nothing."""
    with tempfile.TemporaryDirectory() as home:
        place = pathlib.Path(home, "kernels", "this")
        place.mkdir(parents=True)
        command = [sys.executable, "-W", "ignore", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        content = {"argv": command, "display_name": "this", "language": "python"}
        (place / "kernel.json").write_text(json.dumps(content))
        variables = {
            "JUPYTER_PATH": home,
            "JUPYTER_RUNTIME_DIR": f"{home}/runtime",
            "IPYTHONDIR": f"{home}/ipython",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        with mock.patch.dict(os.environ, variables):
            yield "this"


def clean(notebook: nbformat.NotebookNode, folder: pathlib.Path) -> None:
    """Leaves out what another run would show differently without need.

    Args:
        notebook: that was executed; changed in place.
        folder: in which that was.
    """
    for cell in notebook.cells:
        for key in cell.metadata.keys() - {"tags"}:
            del cell.metadata[key]
        if cell.cell_type != "code":
            continue
        cell.outputs = _joined([output for output in cell.outputs if output.get("name") != "stderr"])
        for output in cell.outputs:
            if "text" in output:
                output.text = SECONDS.sub("", _without_paths(output.text, folder))
            for form, content in output.get("data", {}).items():
                if form.startswith("text/"):
                    output.data[form] = STYLE.sub("", _without_paths(content, folder))
            if "image/png" in output.get("data", {}):
                output.data["text/plain"] = "<picture>"


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """With what was printed in a row as one: where it is parted depends on the time."""
    found: list[nbformat.NotebookNode] = []
    for output in outputs:
        if found and output.output_type == found[-1].output_type == "stream":
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def _without_paths(text: str, folder: pathlib.Path) -> str:
    for path in (folder, folder.resolve(), FOLDER, FOLDER.parents[1]):
        text = text.replace(f"{path}/", "").replace(str(path), ".")
    return text


def make(source: pathlib.Path) -> None:
    """Writes the notebook of a source beside it."""
    notebook = read(source)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        executed = execute(notebook, folder)
        clean(executed, folder)
    nbformat.validate(executed)
    nbformat.write(executed, source.with_suffix(".ipynb"))


def sources() -> list[pathlib.Path]:
    """All of them, by their number."""
    return sorted(FOLDER.glob("*.py"))


def main(names: list[str]) -> None:
    """Makes the notebooks of these names, or all."""
    chosen = [FOLDER / f"{pathlib.Path(name).stem}.py" for name in names] or sources()
    for source in chosen:
        print(source.name, flush=True)
        make(source)


if __name__ == "__main__":
    main(sys.argv[1:])
