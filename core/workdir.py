"""The working directory: where everything of every local run lies, and who is using it. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator

from core.errors import UserError

DEFAULT = "workdir"


class Workdir:
    """The paths below a working directory."""

    def __init__(self, path: str | os.PathLike = DEFAULT) -> None:
        self.path = pathlib.Path(path).expanduser().resolve()
        self.metadata = self.path / "metadata.sqlite"
        self.runs = self.path / "runs"
        self.temporary = self.path / "tmp"
        self.checkpoints = self.path / "checkpoints"

    def artifacts(self, name: str) -> pathlib.Path:
        """The pipeline root for the data called `name`."""
        return self.path / "artifacts" / name

    def schema(self, name: str) -> pathlib.Path:
        """The stored schema of a user's own data."""
        return self.path / "schemas" / f"{name}.pbtxt"

    def serving(self, name: str) -> pathlib.Path:
        """The folder that a model server watches."""
        return self.path / "serving" / name

    def run(self, run_id: str) -> pathlib.Path:
        """The folder of one run: settings, log, events and results."""
        return self.runs / run_id

    def new_run(self) -> str:
        """Makes the folder of a new run and returns its id, e.g. "20260131-235959"."""
        moment = datetime.datetime.now()
        while True:
            run_id = moment.strftime("%Y%m%d-%H%M%S")
            try:
                self.run(run_id).mkdir(parents=True)
            except FileExistsError:
                moment += datetime.timedelta(seconds=1)
            else:
                return run_id

    def results(self) -> list[dict]:
        """The results of all runs that ended, oldest first."""
        files = sorted(self.runs.glob("*/results.json")) if self.runs.is_dir() else []
        return [json.loads(file.read_text()) for file in files]

    def find(self, run_id: str | None = None, evaluated: bool = False) -> dict:
        """The results of the run `run_id`, or of the latest one.

        Args:
            run_id: or its beginning; None for the latest.
            evaluated: take only runs that reached Evaluator.

        Raises:
            UserError: there is none.
        """
        found = [result for result in self.results() if not evaluated or result.get("evaluation")]
        if run_id:
            matching = [result for result in found if result["run"].startswith(run_id)]
            if len(matching) == 1:
                return matching[0]
            known = ", ".join(result["run"] for result in found[-5:]) or "none"
            how = "several runs match" if matching else "there is no such finished run"
            raise UserError(f"Run {run_id}: {how} in {self.path}; the latest are {known}.")
        if not found:
            raise UserError(f"{self.path} holds no finished run yet: start one with `alexnet run`.")
        return found[-1]

    def latest_push(self) -> pathlib.Path:
        """The newest version that the latest pushing run left for the server. Raises UserError if there is none."""
        for result in reversed(self.results()):
            pushed = result.get("pushed")
            if pushed and (folder := self.model(pushed["path"])).is_dir():
                return folder
        raise UserError(f"No model has been pushed in {self.path} yet: run `alexnet run`, or name one with --model.")

    def model(self, path: str) -> pathlib.Path:
        """The folder of a pushed model; one in an object store is copied here the first time. Raises UserError."""
        if not path.startswith("s3://"):
            return pathlib.Path(path)
        folder = self.path / "models" / hashlib.sha256(path.encode()).hexdigest()[:16]
        if not folder.is_dir():
            from storage import object_store

            incoming = self.path / "models" / f".incoming-{os.getpid()}"
            try:
                object_store.download(object_store.find(f"{path.rstrip('/')}/"), incoming)
                if not incoming.is_dir():
                    raise UserError(f"There is no model at {path}.")
                incoming.rename(folder)
            except OSError as problem:
                raise UserError(str(problem)) from None
            finally:
                shutil.rmtree(incoming, ignore_errors=True)
        return folder

    @contextlib.contextmanager
    def lock(self, what: str) -> Iterator[int]:
        """Keeps other runs out; yields the lock's file descriptor, which a child process may share.

        Raises:
            UserError: another process holds it; names that process.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as problem:
            raise UserError(f"{self.path} cannot be used as working directory: {problem.strerror}.") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip() or "another process"
                raise UserError(
                    f"{self.path} is in use by {holder}: wait until it ends, or name another --workdir."
                ) from None
            os.ftruncate(descriptor, 0)
            started = datetime.datetime.now().strftime("%H:%M:%S")
            os.pwrite(descriptor, f"process {os.getpid()} ({what}, since {started})".encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def clean(self) -> None:
        """Removes temporary files; only while the lock is held."""
        shutil.rmtree(self.temporary, ignore_errors=True)
