"""`alexnet run`: starts the worker, follows it, and writes down what became of it. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

from components import stored_schema
from components.sources import fingerprint
from core import files, settings
from core.events import VARIABLE, Reader
from core.exit_codes import FAILURE, INTERRUPTED, NOT_PUSHED, OK, USER_ERROR
from core.settings import DEFAULT_PRESET
from core.workdir import Workdir
from pipeline import nodes
from pipeline.progress import Node, Run
from review import results, run_report

STOP_SECONDS = 10  # that an interrupted worker is given before it is killed
LOG = "log.txt"
# Of the summary, what the results have as it is.
FACTS = (
    "data", "serving_check", "tuning", "recipe", "history", "model", "tensorboard", "pushed", "report", "lineage",
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
        UserError: the working directory is in use or cannot be used.
    """
    with workdir.lock("alexnet run") as lock:
        workdir.clean()
        run_id = workdir.new_run()
        folder = workdir.run(run_id)
        started = datetime.datetime.now()
        asked = write_request(request, workdir, run_id)
        planned = nodes.planned(request.settings)
        state = Run({name: Node() for name in planned})
        try:
            code = follow(folder, workdir, lock, state, show)
            interrupted = False
        except KeyboardInterrupt:
            code, interrupted = INTERRUPTED, True
        finally:
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
            found |= {"state": "failed", "error": state.error or ended_by(code)}
            code = USER_ERROR if state.error_is_users else FAILURE
        else:
            outcome, code = read_outcome(folder, request)
            found |= outcome
        files.replace(folder / "results.json", json.dumps(workdir.with_relative_paths(found)))
        found = workdir.with_absolute_paths(found)
        run_report.write(workdir, found)
        return code, found


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
    environment = os.environ | {
        VARIABLE: str(folder / "events.jsonl"),
        "TMPDIR": str(workdir.temporary),  # TFX and Beam leave much behind; all of it goes with this folder
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
    }
    reader = Reader(folder / "events.jsonl")
    with open(folder / LOG, "w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "pipeline.local_runner", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[lock],  # the lock holds as long as either of the two lives
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
                    return worker.returncode
        finally:
            stop(worker)


def stop(worker: subprocess.Popen) -> None:
    """Ends the worker and all it started, if it still runs."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, number)
        try:
            worker.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A request to terminate ends a run as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


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
    return outcome | {"state": "not pushed"}, NOT_PUSHED
