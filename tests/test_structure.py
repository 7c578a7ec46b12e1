"""The plan of the house: every import points down, none back up, and no modules import each other in a circle."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What each room may import, itself aside. README.md draws the same.
BELOW = {
    "storage": set(),
    "kubeflow": {"storage"},
    "core": {"storage"},
    "engines": {"core"},
    "trainer": {"core"},
    "review": {"trainer", "core"},
    "components": {"review", "trainer", "core", "storage"},
    "pipeline": {"engines", "components", "review", "trainer", "core", "kubeflow", "storage"},
    "benchmarks": {"pipeline", "engines", "components", "review", "trainer", "core", "environment"},
    "environment": set(),
}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in BELOW
    for path in sorted((ROOT / room).rglob("*.py"))
}


def imported(module):
    """The modules of this project that a module imports, wherever in it, and whether for types alone."""
    found = set()
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names] if node.level else []
            names = names or [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else name.rpartition(".")[0] for name in names]
        else:
            continue
        found |= {name for name in names if name.split(".")[0] in BELOW}
    return found


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_down(module):
    room = module.split(".")[0]
    rooms = {name.split(".")[0] for name in imported(module)} - {room}
    assert rooms <= BELOW[room]


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: imported(module) & FILES.keys() - {module} for module in FILES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_all_imports_are_seen():
    assert imported("pipeline.cli") >= {"pipeline.commands.run", "pipeline.commands.common"}
    assert "review.terminal" in imported("pipeline.commands.runs")  # within a function
    assert "storage.object_versions" in imported("storage.versions")  # relative
    assert "review.compare" in imported("review.notebook")  # for types alone


def test_every_folder_with_code_is_a_room_of_the_plan():
    folders = {path.parent.relative_to(ROOT).parts[0] for path in ROOT.glob("*/*.py")}
    assert folders - {"tests", "docs", "build"} == BELOW.keys()


def test_programs_of_ours_are_started_in_one_way():
    """`core.processes` keeps the user's modules out; what makes `.venv`, or measures, runs in the checkout alone."""
    starting = {name for name, path in FILES.items() if "sys.executable" in path.read_text()}
    others = {name for name in starting if name.split(".")[0] not in ("environment", "benchmarks")}
    assert others == {"core.processes", "kubeflow.harness.cluster"}  # which puts it on the PATH of a container's
