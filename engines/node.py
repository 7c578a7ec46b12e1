"""One node on Beam in a process of its own, as a pod of Kubeflow is: what `kubeflow.entrypoint` asks for.

The engine's workers are in other pods and have one volume with this one. Each task gets a folder there, in which they
read and write, for as long as it runs. Nobody may be there to tidy up: Kubeflow Pipelines and Argo do not hand a
SIGTERM on, and a container may be killed. So each attempt and each task ends and removes what others have left that
can no longer be running.
"""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

from core.errors import UserError
from core.settings import Beam
from engines import flink, jobs
from engines.session import Session

UNTIL = "until"  # in a task's folder: the time, in seconds since 1970, from which on nobody can be using it
POLL = 5  # seconds between looks for a free slot


@contextlib.contextmanager
def options(task: str, told: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The folder that Beam's workers see under the same path, "" if they run in this pod, and Beam's options.

    Args:
        task: what tells it from all others, the same in every attempt: URI/RUN/NODE/ID.
        told: "runner", "master", "workers", "arguments"; for an engine also "folder", which holds those of tasks, and
            "kept", the seconds after which this one can be running no more.

    Raises:
        UserError: the engine is not there or not fit, or the job failed of something that can be mended.
    """
    arguments = tuple(told["arguments"])
    if not told.get("runner"):
        yield "", list(arguments)
        return
    name = hashlib.sha256(task.encode()).hexdigest()[:16]
    run, node = ["", "", *(re.sub(r"[^\w-]", "-", part) for part in task.split("/"))][-3:-1]
    place = pathlib.Path(told["folder"])
    with _ended_by_sigterm(), tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        beam = Beam(runner=told["runner"], master=told["master"], workers=told["workers"], pipeline_args=arguments)
        session = Session(beam, place / name, run, pathlib.Path(temporary), sys.stderr, waits=True)
        stack.enter_context(contextlib.closing(session))
        try:
            sweep(place)
            folder = place / name
            _remove(folder)  # of an earlier attempt
            _await_slot(beam)
            found = session.arguments(node)
            folder.mkdir(parents=True, exist_ok=True)
            stack.callback(_remove, folder, forgiving=True)
            (folder / UNTIL).write_text(str(time.time() + told["kept"]))
            jobs.mark(beam, folder)
            yield str(folder), found
        except Exception as problem:
            sentence: str | None = str(problem)
            if not isinstance(problem, UserError):
                sentence = session.explain(problem)
            if not sentence:
                raise
            raise UserError(re.sub(r"\bbeam\.(master|workers)\b", r"kubeflow.beam_\1", sentence)) from problem


def sweep(place: pathlib.Path) -> None:
    """Removes the folders of tasks that were killed, each after the time that it names itself."""
    with contextlib.suppress(FileNotFoundError):
        for folder in place.iterdir():
            with contextlib.suppress(OSError, ValueError):  # such as what is no folder
                if time.time() > float((folder / UNTIL).read_text()):
                    print(f"engines.node: {folder} is of a task that was killed, and is removed", file=sys.stderr)
                    _remove(folder, forgiving=True)


def _remove(folder: pathlib.Path, forgiving: bool = False) -> None:
    """Ends the jobs of a task and removes its folder.

    Raises:
        UserError: a job does not end, or Flink does not answer; `forgiving`: then the folder is left to others.
    """
    if problems := jobs.end_all(folder):
        if not forgiving:
            raise UserError(problems[0])
        print(f"engines.node: {problems[0]}", file=sys.stderr)
        return
    for inside in list(folder.glob("*")):
        if inside.is_dir():
            shutil.rmtree(inside, ignore_errors=True)
        elif inside.name != UNTIL:
            inside.unlink(missing_ok=True)
    if [inside.name for inside in folder.glob("*")] in ([], [UNTIL]):  # else it is found again when its time has come
        shutil.rmtree(folder, ignore_errors=True)


def _await_slot(beam: Beam) -> None:
    """Waits for as long as all slots of a cluster are in use; the pod's deadline ends that."""
    told = False
    with contextlib.suppress(flink.NoAnswer):  # which the session tells
        while (cluster := flink.Rest(beam.cluster).cluster()).task_managers and not cluster.free_slots:
            if not told:
                told = True
                print(f"engines.node: waits for one of {cluster.slots} slots of Flink, all in use", file=sys.stderr)
            time.sleep(POLL)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM end this process in order."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
