"""The layer can be taken into another project, under another name: PyPI has a package called kubeflow, too."""

import ast
import os
import pathlib
import shutil
import subprocess
import sys

import kubeflow_project
import pytest

TESTS = pathlib.Path(__file__).parent
LAYER = TESTS.parent / "kubeflow"
OURS = {"components", "pipeline", "trainer", "environment", "benchmarks", "kubeflow"}

COMPILES = """
import kubeflow_project
from elsewhere import compiler
text = compiler.compile(kubeflow_project.standard(), compiler.Options("image"))
assert "elsewhere.entrypoint" in text
from elsewhere.harness import Cluster
run = Cluster("cluster").run(text)
assert run.state == "succeeded", run.tasks["Write"].log
"""


@pytest.mark.parametrize("path", sorted(LAYER.rglob("*.py")), ids=lambda path: str(path.relative_to(LAYER)))
def test_the_layer_imports_nothing_of_this_project_nor_itself_by_name(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        assert not OURS & {name.split(".")[0] for name in names}


def test_the_layer_runs_under_another_name(tmp_path):
    shutil.copytree(LAYER, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("__pycache__"))
    project = (TESTS / "kubeflow_project.py").read_text().replace("from kubeflow", "from elsewhere")
    (tmp_path / "kubeflow_project.py").write_text(project)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILES], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_example_uses_the_layer_alone():
    tree = ast.parse(pathlib.Path(kubeflow_project.__file__).read_text())
    used = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert used & OURS == {"kubeflow"}
