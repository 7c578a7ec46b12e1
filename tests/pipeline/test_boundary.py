"""What surrounds the program: the user's folder, terminal and rights. Real processes."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from command_line import ALEXNET, alexnet
from image_data import encoded, write_folder
from run_data import examples, predict, write_run
from unprivileged import folder, options

from core import output, settings
from core.errors import UserError
from core.events import LastWord
from core.exit_codes import FAILURE, OK, UNREAD, USER_ERROR
from core.workdir import Workdir
from pipeline import local_runner
from pipeline import run as runner

PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CLASSES = ("Käse, <b>", "[red]cat")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run in a folder full of modules of the user's, with no home and no UTF-8, whose output nobody can read."""
    here = tmp_path_factory.mktemp("here")
    write_folder(here / "photos", CLASSES)
    for name in ("queue", "numpy", "trainer", "core", "tensorflow", "components/__init__", "pipeline/local_runner"):
        (here / f"{name}.py").parent.mkdir(exist_ok=True)
        (here / f"{name}.py").write_text("raise SystemExit('shadowed')\n")
    environment = {key: value for key, value in os.environ.items() if key != "HOME"} | PLAIN
    command = [ALEXNET, "run", "--data", "photos", "--to", "ImageExampleGen"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=here, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    return here, done


def test_the_run_reaches_its_end_all_the_same(hostile):
    here, done = hostile
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = Workdir(here / "workdir").results()
    assert found["state"] == "partial"
    assert found["data"]["counts"]["test"] == dict.fromkeys(CLASSES, 6)


def test_no_module_of_the_user_was_taken_for_ours(hostile):
    here, _ = hostile
    for command in (["presets"], ["runs"], ["predict", "--help"]):
        done = alexnet(*command, cwd=here)
        assert (done.returncode, done.stderr) == (0, "")
    (log,) = (here / "workdir" / "runs").glob("*/log.txt")
    assert "shadowed" not in log.read_text()


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """--workdir and a working directory with two evaluated runs."""
    place = tmp_path_factory.mktemp("reviewed")
    split = examples(CLASSES, 60)
    for number, skill in enumerate((0.6, 0.9), 1):
        write_run(Workdir(place), f"2026010{number}-000000", predict(split, skill, number))
    return ["--workdir", place]


READING = (
    ["slices"],
    ["slices", "--compare", "20260101"],
    ["history"],
    ["runs"],
    ["compare", "20260101", "20260102"],
)


@pytest.mark.parametrize(
    ("command", "environment"),
    [*((command, PLAIN) for command in READING), (READING[0], {"PYTHONIOENCODING": "ascii"})],
    ids=lambda value: " ".join(value),
)
def test_a_terminal_without_utf_8_gets_plainer_tables(reviewed, command, environment):
    done = alexnet(*command, *reviewed, env=os.environ | environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert command == ["runs"] or "Kase, <b>" in done.stdout
    widths = {len(line.rstrip("\n")) for line in done.stdout.splitlines() if line.startswith(("Kase", "[red]"))}
    assert len(widths) <= 2  # of the two tables of the history


def test_data_for_programs_are_the_same_in_every_terminal(reviewed):
    for form in ("csv", "json"):
        plain = alexnet("slices", *reviewed, "--format", form, env=os.environ | PLAIN, encoding="utf-8")
        assert plain.stdout == alexnet("slices", *reviewed, "--format", form, encoding="utf-8").stdout
    assert CLASSES[0] in alexnet("slices", *reviewed, "--format", "csv", encoding="utf-8").stdout


@pytest.mark.parametrize(
    "command", [["slices"], ["runs"], ["report"], ["slices", "--json"], ["slices", "--format", "csv"]]
)
def test_an_output_that_takes_nothing_is_told_and_one_that_is_left_is_not(reviewed, command):
    line = " ".join(f"'{part}'" for part in (ALEXNET, *command, *reviewed))
    done = subprocess.run(["bash", "-c", f"{line} > /dev/full"], capture_output=True, text=True)
    assert done.returncode == USER_ERROR
    assert done.stderr == "alexnet: Standard output cannot be written: no space is left on the device.\n"
    # The pipe has lost its reader before anything is written.
    done = subprocess.run(["bash", "-c", f"exec 3> >(:); wait $!; {line} >&3"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (UNREAD, "")
    assert subprocess.run(["bash", "-c", f"{line} >&-"], capture_output=True).returncode == 0


def test_help_and_mistakes_of_the_command_line_keep_to_it_too():
    for arguments, code in ((["--help"], USER_ERROR), (["nonsense"], USER_ERROR)):
        line = " ".join([ALEXNET, *arguments])
        done = subprocess.run(["bash", "-c", f"{line} > /dev/full"], capture_output=True, text=True)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
    assert alexnet("run", "--prezet", "ä", env=os.environ | PLAIN).returncode == USER_ERROR


@pytest.mark.parametrize(
    "arguments",
    [
        ["slices", "--run", ""],
        ["slices", "--run="],
        ["run", "--to", ""],
        ["run", "--from="],
        ["predict", "--model", "", "x.png"],
        ["report", "--workdir", ""],
    ],
)
def test_an_empty_value_does_not_mean_all_or_the_latest(arguments, tmp_path):
    done = alexnet(*arguments, cwd=tmp_path)
    option = next(part for part in arguments if part.startswith("--")).rstrip("=")
    assert done.returncode == USER_ERROR
    assert done.stderr.startswith(f"alexnet: {option} is empty: give it a value, or leave it out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--workdir", "file/w"], "--workdir {here}/file/w: {here}/file is a file; name a folder"),
        (["runs", "--workdir", "file"], "--workdir {here}/file: {here}/file is a file; name a folder"),
        (["run", "--data-dir", "file"], "data.data_dir {here}/file: {here}/file is a file; name a folder"),
        (["run", "--set", "push.destination=file"], "push.destination {here}/file: {here}/file is a file"),
        (["run", "--data", "~no-such-user/x"], "~no-such-user/x: Could not determine home directory"),
        (["run", "--preset", "folder"], "--preset folder is a folder: name a preset, or a YAML file"),
        (["run", "--preset", "x" * 5000], "the name is too long"),
        (["runs", "--workdir", "x" * 5000], "the name is too long"),
        (["run", "--set", r'data.source="a\0b"'], r"data.source=a\0b: no value can hold a NUL character"),
        (["predict", "--model", "file", "file"], "file is not a model that this pipeline exported"),
        (["run", "--workdir", "a\nb"], r"--workdir {here}/a\nb: the path must not have a line break in it"),
        (["run", "--workdir", "w[1]"], "--workdir {here}/w[1]: the path must not have [, ] in it; name another one"),
        (["run", "--workdir", b"w\xff".decode("utf-8", "surrogateescape")], "the path is not valid UTF-8"),
        (["config", "--preset", "x\ny"], r"There is no preset 'x\\ny'"),
    ],
)
def test_a_path_of_the_wrong_kind_is_one_sentence(arguments, said, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    done = alexnet(*arguments, cwd=tmp_path, errors="surrogateescape")
    assert done.returncode == USER_ERROR
    assert said.format(here=tmp_path) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_a_current_folder_that_is_gone_is_told(tmp_path):
    (tmp_path / "gone").mkdir()
    for arguments in (["runs"], ["run", "--workdir", str(tmp_path / "w")]):
        line = f'cd "$0"; rm -r "$0"; {ALEXNET} {" ".join(arguments)}; mkdir "$0"'
        done = subprocess.run(["bash", "-c", line, tmp_path / "gone"], capture_output=True, text=True)
        assert done.stderr.count("\n") == 1
        assert "the current folder no longer exists" in done.stderr


@pytest.fixture
def theirs():
    """A folder that a user without rights has, and how to start a program as that user."""
    place = folder()
    (place / "work" / "runs").mkdir(parents=True)
    (place / "serving").mkdir()
    write_folder(place / "pets", train=4, test=2)
    yield place, options(place)
    for path in place.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(place)


@pytest.mark.parametrize("kept", ["work", "work/runs", "pets", "pets/train/cat", "serving"])
def test_a_folder_without_permission_is_named(theirs, kept):
    place, as_them = theirs
    (place / kept).chmod(0o000)
    arguments = ["--data", place / "pets", "--workdir", place / "work", "--set", f"push.destination={place}/serving"]
    done = alexnet("run", *arguments, "--to", "ImageExampleGen", cwd="/", **as_them)
    assert done.returncode == USER_ERROR, done.stdout + done.stderr
    assert "ermission denied" in done.stderr
    assert str(place / kept) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    (place / kept).chmod(0o755)
    assert kept.startswith("pets") or list((place / "work" / "runs").iterdir()) == []


def test_a_file_that_may_not_grow_is_told_by_the_worker(tmp_path):
    """What a full disk is, for those who are not root: an error of the system in the middle of an artifact."""
    write_folder(tmp_path / "pets")
    random = np.random.default_rng(0)
    for number in range(10):  # of half a megabyte each
        noise = random.integers(0, 256, (400, 400, 3), np.uint8)
        (tmp_path / "pets" / "train" / "cat" / f"noise{number}.png").write_bytes(encoded(noise))
    limit = 1_500_000  # bytes: more than ML Metadata needs, less than the examples

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    arguments = ["run", "--data", tmp_path / "pets", "--workdir", tmp_path / "work", "--to", "ImageExampleGen"]
    done = alexnet(*arguments, preexec_fn=limited)
    assert done.returncode == USER_ERROR, done.stdout + done.stderr
    assert "the file would be larger than is allowed here; raise the limit (ulimit -f)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    (found,) = Workdir(tmp_path / "work").results()
    assert found["state"] == "failed"
    assert "File too large" in (Workdir(tmp_path / "work").run(found["run"]) / "log.txt").read_text()


def last_word(monkeypatch, tmp_path, problem):
    """What a worker whose pipeline raises `problem` returns, and says at its end."""

    def run(*arguments):
        raise problem

    monkeypatch.setattr(local_runner, "run", run)
    monkeypatch.setattr(local_runner, "_end_with_parent", lambda: None)
    folder = tmp_path / "work" / "runs" / "1"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps({"workdir": str(tmp_path / "work")}))
    (folder / "settings.yaml").write_text("{}")
    pipe = LastWord()
    monkeypatch.setenv(LastWord.VARIABLE, str(pipe.writer))
    monkeypatch.setenv("ALEXNET_EVENTS", "/dev/full")  # where no event can be written
    with output.restored():
        code = local_runner.main(folder)
    return code, pipe.read()


def test_the_worker_tells_what_can_be_mended_even_where_no_event_can_be_written(monkeypatch, tmp_path):
    problem = RuntimeError("OSError: [Errno 28] No space left on device [while running 'Write']")
    code, said = last_word(monkeypatch, tmp_path, problem)
    place = tmp_path / "work"
    words = f"{place} cannot be used: no space is left on the device; free some, or use another disk."
    assert (code, said) == (USER_ERROR, {"text": words, "user": True})


def test_a_bug_in_the_worker_stays_one(monkeypatch, tmp_path):
    code, said = last_word(monkeypatch, tmp_path, KeyError("label"))
    assert (code, said) == (FAILURE, {"text": "KeyError: 'label'", "user": False})


def test_a_bug_in_a_command_shows_where_it_is():
    script = (
        "import sys\nfrom core import settings\nfrom pipeline.cli import main\n"
        "settings.presets = lambda: 1 / 0\nsys.argv = ['alexnet', 'presets']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == FAILURE
    assert "ZeroDivisionError" in done.stderr


@pytest.fixture
def ended(monkeypatch, tmp_path):
    """Runs whose worker ends at once, as asked: call it with the exit code and what is to be done meanwhile."""

    def run(code, meanwhile=lambda folder: None):
        monkeypatch.setattr(runner, "follow", lambda folder, *others: (meanwhile(folder), code)[1])
        request = runner.Request(settings.load(**{"data.version": "1"}), to_node="ImageExampleGen")
        said = []
        found = runner.run(request, Workdir(tmp_path / "work"), lambda state, line: said.append(line))
        return *found, [line for line in said if line]

    return run


def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_run_whose_results_cannot_be_kept_says_what_became_of_it(ended, tmp_path):
    said = r"The run has ended \(failed: .* code 1\), but its results are not kept: .*results.json cannot be written"
    with pytest.raises(UserError, match=said):
        ended(FAILURE, lambda folder: (folder / "results.json" / "in the way").mkdir(parents=True))
    assert not list(tmp_path.rglob("*.partial"))


def test_a_run_whose_report_cannot_be_written_is_what_it_is(ended, monkeypatch, tmp_path):
    monkeypatch.setattr(runner.run_report, "write", full)
    code, found, said = ended(OK, lambda folder: (folder / "summary.json").write_text("{}"))
    assert (code, found["state"]) == (OK, "partial")
    (warning,) = said
    assert warning.startswith("Warning: the report was not written. ")
    assert "no space is left on the device" in warning
    assert [one["state"] for one in Workdir(tmp_path / "work").results()] == ["partial"]


def test_a_worker_that_cannot_be_started_is_a_failed_run(ended, tmp_path):
    code, found, _ = ended(OK, full)
    assert (code, found["state"]) == (USER_ERROR, "failed")
    assert f"{tmp_path}/work cannot be used: no space is left on the device" in found["error"]


def test_a_run_that_could_not_begin_leaves_nothing_behind(ended, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "write_request", full)
    with pytest.raises(OSError, match="No space left"):
        ended(OK)
    assert list((tmp_path / "work" / "runs").iterdir()) == []


def test_the_end_of_a_terminal_interrupts_a_run_but_not_under_nohup():
    for before, ends in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
        own = signal.signal(signal.SIGHUP, before)
        try:
            with pytest.raises(KeyboardInterrupt) if ends else contextlib.nullcontext(), runner.interruptible():
                signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == before
        finally:
            signal.signal(signal.SIGHUP, own)
