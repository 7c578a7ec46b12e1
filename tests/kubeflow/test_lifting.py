"""The layer can be taken into another project, under another name: PyPI has a package called kubeflow, too."""

import ast
import os
import pathlib
import shutil
import subprocess
import sys

import kubeflow_project
import pytest

ROOT = pathlib.Path(__file__).parents[2]
LAYER = ROOT / "kubeflow"
OURS = {"benchmarks", "components", "core", "environment", "kubeflow", "pipeline", "review", "storage", "trainer"}

COMPILES = """
import sys
{absent}
import kubeflow_project
from elsewhere import compiler
text = compiler.compile(kubeflow_project.standard(), compiler.Options("image"))
assert "elsewhere.entrypoint" in text
from elsewhere.harness import Cluster
run = Cluster("cluster").run(text)
assert run.state == "succeeded", run.tasks["Write"].log
"""
HISTORY = """
import sys
{absent}
from elsewhere import baseline
from storage import versions
versions.record("made", "history")
versions.record("made", "history")
assert len(versions.versions("history")) == 1
"""


def imported(path):
    """The packages of this project that a file imports by name."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module)
    return OURS & {name.split(".")[0] for name in names}


def lift(folder, *packages):
    """Copies packages of the project, the layer under another name, and the little project that uses it."""
    for name in packages:
        target = "elsewhere" if name == "kubeflow" else name
        shutil.copytree(ROOT / name, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
    project = pathlib.Path(kubeflow_project.__file__).read_text().replace("from kubeflow", "from elsewhere")
    (folder / "kubeflow_project.py").write_text(project)


def run(code, folder, absent=()):
    """Runs code in a folder where modules are as if they were not installed; those of this project never are."""
    lines = [f"sys.modules[{name!r}] = None" for name in (*OURS - {path.name for path in folder.iterdir()}, *absent)]
    done = subprocess.run(
        [sys.executable, "-c", code.format(absent="\n".join(lines))],
        env=os.environ | {"PYTHONPATH": str(folder)}, cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("path", sorted(LAYER.rglob("*.py")), ids=lambda path: str(path.relative_to(LAYER)))
def test_the_layer_imports_storage_alone_and_that_in_three_places(path):
    allowed = {"storage"} if path.name in ("baseline.py", "entrypoint.py", "probe.py") else set()
    assert imported(path) == allowed


@pytest.mark.parametrize("path", sorted((ROOT / "storage").rglob("*.py")), ids=lambda path: path.name)
def test_storage_imports_nothing_of_this_project_nor_itself_by_name(path):
    assert imported(path) == set()


@pytest.mark.slow
def test_the_layer_runs_under_another_name_and_without_storage(tmp_path):
    lift(tmp_path, "kubeflow")
    # What finds earlier versions needs storage; the rest of the little project does not.
    project = (tmp_path / "kubeflow_project.py").read_text()
    (tmp_path / "kubeflow_project.py").write_text(project.replace("from elsewhere.baseline import Latest", ""))
    run(COMPILES, tmp_path, absent=["boto3"])


def test_a_history_on_a_volume_needs_nothing_of_object_stores(tmp_path):
    lift(tmp_path, "kubeflow", "storage")
    for name in ("object_store", "object_versions", "filesystem", "stores"):
        (tmp_path / "storage" / f"{name}.py").unlink()
    (tmp_path / "made").mkdir()
    (tmp_path / "made/file").write_text("content")
    run(HISTORY, tmp_path, absent=["boto3", "botocore", "obstore"])


def test_the_example_uses_the_layer_alone():
    assert imported(pathlib.Path(kubeflow_project.__file__)) == {"kubeflow"}
