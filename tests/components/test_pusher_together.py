"""Several pushes at once, in processes of their own, as when a controller starts a run twice."""

import pathlib
import subprocess
import sys

import pytest

from components import pushing
from storage import versions

ROUNDS = 10
# Waits for a line of its input before each round, so that all processes begin it together.
PUSHES = """
import sys
from components import pushing
model, serving, which = sys.argv[1:]
print("ready", flush=True)
for number, _ in enumerate(sys.stdin):
    print(pushing.push(f"{model}/{which}/{number}", f"{serving}/{number}")[1], flush=True)
"""


@pytest.fixture
def models(tmp_path):
    """A model for every process and round: of many files, so that a copy takes a while."""
    for which in ("a", "b"):
        for number in range(ROUNDS):
            folder = tmp_path / "models" / which / str(number)
            (folder / "variables").mkdir(parents=True)
            (folder / "saved_model.pb").write_text(f"{which} {number}")
            for file in range(50):
                (folder / "variables" / str(file)).write_text(which)
    return tmp_path / "models"


@pytest.mark.slow
def test_pushes_at_once_all_succeed_and_readers_never_see_half(models, tmp_path):
    which = "aab"  # two processes push the same model, a third another one
    serving = tmp_path / "serving"
    root = pathlib.Path(pushing.__file__).parents[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PUSHES, str(models), str(serving), one],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root,
        )
        for one in which
    ]  # fmt: skip
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * len(which)
    for number in range(ROUNDS):
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        while not (serving / str(number)).is_dir():
            assert all(process.poll() is None for process in processes)
        seen = 0
        while seen < 2:  # what a server would find, at any time
            assert all(process.poll() is None for process in processes)
            found = versions.versions(str(serving / str(number)))
            for version in found:
                files = [path for path in (serving / str(number) / str(version)).rglob("*") if path.is_file()]
                assert len(files) == 1 + 50 + 1  # the graph, the variables, the record of the push
            seen = max(seen, len(found))
        pushed = {process.stdout.readline().strip() for process in processes}
        complete = versions.versions(str(serving / str(number)))
        assert pushed == {str(version) for version in complete}
        contents = [(serving / str(number) / str(version) / "saved_model.pb").read_text() for version in complete]
        # The second push of a model finds the first, unless the other model came between them.
        assert [model[0] for model in contents] in (["a", "b"], ["b", "a"], ["a", "b", "a"])
        assert not list((serving / str(number)).glob(".incoming-*"))
    for process in processes:
        process.communicate()
        assert process.returncode == 0
