"""`alexnet run`: starts the worker, follows it, and writes down what became of it. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from components import stored_schema
from components.sources import fingerprint, names
from core import errors, files, processes, settings
from core.errors import UserError
from core.events import VARIABLE, LastWord, Reader
from core.exit_codes import FAILURE, INTERRUPTED, NOT_PUSHED, OK, USER_ERROR, WAITING
from core.settings import DEFAULT_PRESET
from core.workdir import Workdir
from engines import check, jobs
from pipeline import cleaning, nodes
from pipeline.progress import Node, Run
from review import results, run_report
from storage import schemes

STOP_SECONDS = 10  # that an interrupted worker is given before it is killed
LOG = "log.txt"
SCARCE = 1 << 20  # bytes; with fewer of them free, a worker that ends without a word found the disk full
# Of the summary, what the results have as it is.
FACTS = (
    "data", "serving_check", "tuning", "recipe", "history", "model", "tensorboard", "pushed", "waiting", "held",
    "report", "lineage",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Request:
    """What to run.

    Attributes:
        preset: its name, for the list of runs.
        from_node, to_node: run only this part; None for all.
        fresh: reuse nothing of earlier runs.
    """

    settings: settings.Settings
    preset: str = DEFAULT_PRESET
    from_node: str | None = None
    to_node: str | None = None
    fresh: bool = False


def run(request: Request, workdir: Workdir, show: Callable[[Run, str | None], object]) -> tuple[int, dict]:
    """Runs the pipeline to its end.

    Args:
        request: what to run.
        workdir: where; no other run may use it meanwhile.
        show: called with the state so far, a few times a second, and with a line for every event worth one.

    Returns:
        The exit code (core.exit_codes) and the results, with absolute paths; `results.json` of the run's folder has
        them, too, with paths relative to the working directory.

    Raises:
        UserError: the working directory is in use or cannot be used, or it lies within the data; or the engine of
            the Beam nodes is not there.
    """
    check_path(workdir.path)
    check_apart(request.settings, workdir.path)
    with workdir.lock("alexnet run") as lock:
        if left := jobs.end_all(workdir.path):  # they may still write into what is cleaned now
            raise UserError(left[0])
        check.check(request.settings.beam)  # now that no job of ours is in its slots
        workdir.clean()
        run_id = workdir.new_run()
        folder = workdir.run(run_id)
        started = datetime.datetime.now()
        try:
            asked = write_request(request, workdir, run_id)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # nothing has run
            raise
        planned = nodes.planned(request.settings)
        state = Run({name: Node() for name in planned})
        interrupted = False
        jobs.mark(request.settings.beam, workdir.path)
        try:
            code = follow(folder, workdir, lock, state, show)
        except KeyboardInterrupt:
            code, interrupted = INTERRUPTED, True
        except Exception as problem:
            if not (words := errors.words(problem, str(workdir.path))):
                raise
            state.error, state.error_is_users, code = words, True, USER_ERROR
        finally:
            left = jobs.end_all(workdir.path)
            state.notes += [f"Warning: {sentence}" for sentence in left]
            if not left:
                workdir.clean()
        state.end()
        show(state, None)
        found = {
            "version": results.VERSION,
            "run": run_id,
            "number": asked["number"],
            "name": request.settings.name,
            "preset": request.preset,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round((datetime.datetime.now() - started).total_seconds(), 1),
            "nodes": {
                name: {"state": node.state, "seconds": round(node.seconds, 2)} for name, node in state.nodes.items()
            },
            "notes": state.notes,
            "peak_memory_mb": peak_memory(),
        }
        if interrupted:
            found |= {"state": "interrupted"}
        elif code:
            if not state.error and shutil.disk_usage(workdir.path).free < SCARCE:
                state.error, state.error_is_users = errors.sentence(errno.ENOSPC, workdir.path), True
            found |= {"state": "failed", "error": state.error or ended_by(code)}
            code = USER_ERROR if state.error_is_users else FAILURE
        else:
            outcome, code = read_outcome(folder, request)
            found |= outcome
        try:
            files.replace(folder / "results.json", json.dumps(workdir.with_relative_paths(found)))
        except OSError as problem:
            ended = f"The run has ended ({results.verdict(found)}), but its results are not kept"
            raise UserError(f"{ended}: {errors.sentence(problem, problem.filename, 'written')}") from None
        found = workdir.with_absolute_paths(found)
        try:
            run_report.write(workdir, found)
        except Exception as problem:  # the run is what it is without it, and `alexnet report` makes it later
            if not (words := errors.words(problem, str(folder))):
                raise
            state.notes.append(f"Warning: the report was not written. {words}")
            show(state, state.notes[-1])
        if line := cleaning.after_run(workdir, request.settings, lock, folder / LOG):
            state.notes.append(line)
            show(state, line)
        return code, found


def check_path(path: pathlib.Path) -> None:
    """Raises UserError for a working directory that TFX and Beam cannot work in, whatever is asked for."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"--workdir {text}: the path is not valid UTF-8; name another one.") from None
    if odd := sorted(set("*?[]\n\r") & set(text)):
        what = ", ".join("a line break" if letter in "\n\r" else letter for letter in odd)
        raise UserError(f"--workdir {errors.shortened(text)}: the path must not have {what} in it; name another one.")


def check_apart(chosen: settings.Settings, path: pathlib.Path) -> None:
    """Raises UserError for a working directory or pushes within the data: what a run writes would count as data."""
    if not settings.looks_like_path(chosen.data.source) or settings.is_remote(chosen.data.source):
        return
    source = files.absolute(chosen.data.source, "The data source")
    places = {"--workdir": path}
    if (pushed := chosen.push.destination) and not settings.is_remote(pushed):
        places["push.destination"] = files.absolute(pushed, "push.destination")
    for option, place in places.items():
        if place.is_relative_to(source):
            what = f"{option} {place} is within the data, {source}"
            raise UserError(f"{what}, and what a run writes there would count as data: name another {option}.")


def localised(chosen: settings.Settings) -> tuple[settings.Settings, str]:
    """The settings with the paths of this machine made absolute, and a line on what could be misunderstood, or "".

    Raises:
        UserError: a path does not exist or is of the wrong kind, or the model could not be pushed in the end.
    """
    files.absolute(".", "The current folder")
    source, said = names.local(chosen.data)
    changes: dict[str, dict[str, str]] = {"data": {}, "push": {}, "notify": {}}
    if source:
        changes["data"]["source"] = str(source)
    if (prepared := chosen.data.data_dir) is not None and "://" not in prepared:
        changes["data"]["data_dir"] = str(files.folder(prepared, "data.data_dir"))
    if (listed := chosen.data.corrections) is not None and not settings.is_remote(listed):
        changes["data"]["corrections"] = str(path := files.absolute(listed, "data.corrections"))
        if not path.is_file():  # said at once, not when TensorFlow has loaded
            raise UserError(f"data.corrections={path}: there is no such file; correct the path, or leave it out.")
    pushed = chosen.push.destination
    if pushed and "://" in pushed and not settings.is_remote(pushed):
        raise UserError(f"push.destination={pushed}: name a folder, or write {schemes.FORMS}.")
    if pushed is not None and not settings.is_remote(pushed):
        changes["push"]["destination"] = str(files.folder(pushed, "push.destination", written=True))
    elif pushed:
        _check_store(pushed)
    if (webhook := chosen.notify.webhook) is not None and not chosen.notify.variable:
        changes["notify"]["webhook"] = str(files.absolute(webhook, "notify.webhook"))
    groups = {name: getattr(chosen, name).model_copy(update=update) for name, update in changes.items()}
    return chosen.model_copy(update=groups), said


def _check_store(pushed: str) -> None:
    """Raises UserError if the object store would be found missing or closed only when the model is pushed."""
    from storage import object_store  # loads TFX

    try:
        object_store.is_folder(pushed)
    except object_store.ObjectStoreError as problem:
        raise UserError(f"push.destination: {problem}") from None


def write_request(request: Request, workdir: Workdir, run_id: str) -> dict:
    """Stores what the worker needs, and what is needed to run it again; returns what is in request.json.

    The settings get absolute paths: the worker runs in the working directory.
    """
    folder = workdir.run(run_id)
    files.replace(folder / "settings.yaml", settings.dump(settings.absolute(request.settings)))
    asked = {
        "run": run_id,
        "number": workdir.next_number(),
        "workdir": str(workdir.path),
        "from": request.from_node,
        "to": request.to_node,
        "fresh": request.fresh,
        "data_version": fingerprint.data(request.settings.data),
        "schema_version": stored_schema.version(workdir.schema(request.settings.name)),
    }
    files.replace(folder / "request.json", json.dumps(asked, indent=1))
    return asked


def follow(
    folder: pathlib.Path, workdir: Workdir, lock: int, state: Run, show: Callable[[Run, str | None], object]
) -> int:
    """Starts the worker and shows its events until it ends; returns its exit code."""
    workdir.temporary.mkdir(exist_ok=True)
    last_word = LastWord()
    environment = os.environ | {
        VARIABLE: str(folder / "events.jsonl"),
        LastWord.VARIABLE: str(last_word.writer),
        processes.SAFE_PATH: "1",  # for all that the worker starts, such as Beam's processes
        "PYTHONUTF8": "1",  # names of classes are UTF-8, whatever the terminal is
        "TMPDIR": str(workdir.temporary),  # TFX and Beam leave much behind; all of it goes with this folder
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
    }
    reader = Reader(folder / "events.jsonl")
    with open(folder / LOG, "w") as log:
        worker = subprocess.Popen(
            processes.module("pipeline.local_runner", str(folder)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[lock, last_word.writer],  # the lock holds as long as either of the two lives
            start_new_session=True,  # a Ctrl-C reaches this process alone, which then stops the worker in order
        )
    with interruptible():
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.wait(0.2)
                for event in reader.new():
                    show(state, state.apply(event))
                show(state, None)
                if worker.returncode is not None:
                    break
        finally:
            stop(worker)
            said = last_word.read()
    if worker.returncode and said:
        state.error, state.error_is_users = said["text"], said["user"]
    return worker.returncode


def stop(worker: subprocess.Popen) -> None:
    """Ends the worker and all it started, if it still runs; waits for them, so that no job is submitted later."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, number)
        until = time.monotonic() + STOP_SECONDS
        while time.monotonic() < until:
            worker.poll()
            try:
                os.killpg(worker.pid, 0)
            except (ProcessLookupError, PermissionError):  # the second of none but zombies, on macOS
                return
            time.sleep(0.05)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A request to terminate, or the end of the terminal, ends a run as Ctrl-C does; not under nohup."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in previous.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def peak_memory() -> int:
    """Of the largest process that this one has started and seen end, in MiB."""
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return most >> (20 if sys.platform == "darwin" else 10)  # macOS counts bytes, Linux KiB


def ended_by(code: int) -> str:
    """What to say of a worker that ended without a word."""
    if code == -signal.SIGKILL:
        return "the worker was killed, perhaps for lack of memory; run it again to continue"
    return f"the worker ended with {'signal' if code < 0 else 'code'} {abs(code)}"


def read_outcome(folder: pathlib.Path, request: Request) -> tuple[dict, int]:
    """The results of a worker that ran to its end, and the exit code."""
    summary = json.loads((folder / "summary.json").read_text())
    outcome = {key: summary.get(key) for key in FACTS}
    outcome["evaluation"] = results.evaluate(summary, request.settings)
    if "pushed" not in summary:
        return outcome | {"state": "partial"}, OK
    if outcome["pushed"]:
        return outcome | {"state": "pushed"}, OK
    if outcome["waiting"]:
        return outcome | {"state": "waiting"}, WAITING
    return outcome | {"state": "not pushed"}, NOT_PUSHED
