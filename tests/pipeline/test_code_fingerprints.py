"""What a node computes with is in the fingerprint of its code, so that the cache never answers for older code."""

import ast

import pytest

from core import fingerprint
from pipeline import pipeline

# These say how a thing is told, asked for, started, fetched or written, not what it is.
HARMLESS = (
    "core/errors.py", "core/events.py", "core/files.py", "core/harm.py", "core/processes.py", "core/settings.py",
    "core/text.py", "core/yaml_text.py", "storage",
)  # fmt: skip
PACKAGES = ("components", "core", "review", "storage", "trainer")


def imported(name, seen=frozenset()):
    """Files of the project that a source file imports, with what those import."""
    found = set()
    for node in ast.walk(ast.parse((fingerprint.ROOT / name).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for module in modules:
                path = module.replace(".", "/")
                for file in (f"{path}.py", f"{path}/__init__.py"):
                    if (fingerprint.ROOT / file).is_file() and file not in seen:
                        found |= {file, *imported(file, seen | {file})}
    return found


@pytest.mark.parametrize(
    ("root", "covered"),
    [
        ("components/ingest.py", pipeline.INGEST_CODE),
        ("components/serving_check.py", pipeline.SERVING_CODE),
        ("trainer/preprocessing.py", pipeline.PREPROCESSING_CODE),
        ("trainer/run.py", pipeline.TRAINING_CODE),
    ],
)
def test_what_a_node_imports_is_in_the_fingerprint_of_its_code(root, covered):
    sources = {name: ast.parse((fingerprint.ROOT / name).read_text()).body for name in imported(root)}
    code = {name for name, body in sources.items() if any(not isinstance(node, ast.Expr) for node in body)}
    known = (*covered, *HARMLESS)
    missing = {name for name in code if not any(name == one or name.startswith(f"{one}/") for one in known)}
    assert missing == set()


def test_a_file_that_moves_is_other_code(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    code = fingerprint.code.__wrapped__  # without its memory
    (tmp_path / "room").mkdir()
    (tmp_path / "room/a.py").write_text("1")
    before = code("room")
    assert code("room") == before
    (tmp_path / "room/a.py").rename(tmp_path / "room/b.py")
    assert code("room") != before
