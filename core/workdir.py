"""The working directory: where everything of every local run lies, and who is using it. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from core import errors, files
from core.errors import UserError
from storage import schemes

DEFAULT = "workdir"
# How TFX files what a node makes, and what is in it.
FILED = re.compile(r"(?P<place>/.*)/artifacts/[^/]+/[^/]+/[^/]+/(?P<execution>\d+)(/|$)")


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A run whose results cannot be read, why, and what to do about it, in phrases."""

    run: str
    why: str
    remedy: str = "remove this one's folder"

    @property
    def sentence(self) -> str:
        """For people."""
        return f"Run {self.run} cannot be read: {self.why}."


class Workdir:
    """The paths below a working directory, and the runs in it.

    What is recorded of it has paths relative to it, so that it may be moved and copied. In what earlier versions
    recorded they are absolute; `request.json`, or how artifacts are filed, says where the directory was then.
    """

    def __init__(self, path: str | os.PathLike = DEFAULT) -> None:
        self.path = files.folder(path, "--workdir")
        self.metadata = self.path / "metadata.sqlite"
        self.runs = self.path / "runs"
        self.temporary = self.path / "tmp"
        self.checkpoints = self.path / "checkpoints"

    def artifacts(self, name: str = "") -> pathlib.Path:
        """The pipeline root for the data called `name`; without a name the folder of them all."""
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
        """Makes the folder of a new run and returns its id, e.g. "20260131-235959".

        The id tells people when the run began, by their clock; which run came before which, `number` tells.

        Raises:
            UserError: it cannot be made.
        """
        moment = datetime.datetime.now()
        while True:
            run_id = moment.strftime("%Y%m%d-%H%M%S")
            try:
                self.runs.mkdir(parents=True, exist_ok=True)
                self.run(run_id).mkdir()
            except FileExistsError:
                if not self.runs.is_dir():
                    raise UserError(f"{self.runs} is no folder: move it away, or name another --workdir.") from None
                moment += datetime.timedelta(seconds=1)
            except OSError as problem:
                raise UserError(f"{self.runs} cannot be used: {problem.strerror}.") from None
            else:
                return run_id

    def next_number(self) -> int:
        """The number of a new run, greater than any before; only while the lock is held."""
        return 1 + max((number for _, number, _ in self.records()), default=0)

    def ended(self) -> list[dict | Unreadable]:
        """All runs that ended, in the order in which they were started: their results, or why they cannot be read.

        All paths in the results are absolute, wherever the working directory was when they were written.
        """
        return [found for _, _, found in self.records() if found is not None]

    def results(self) -> list[dict]:
        """The results of all runs that ended and can be read, the oldest first; paths are absolute."""
        return [found for found in self.ended() if isinstance(found, dict)]

    def records(self) -> list[tuple[str, int, dict | Unreadable | None]]:
        """Of every run, the oldest first: id, number, and results; None in their place for one that has not ended.

        Runs from before they were numbered have 0. Raises UserError if the folder of the runs cannot be read.
        """
        try:
            names = sorted(entry.name for entry in os.scandir(self.runs) if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as problem:
            raise UserError(f"{self.runs} cannot be read: {problem.strerror}.") from None
        found = [self._record(name) for name in names if not name.startswith(".")]
        return sorted(found, key=lambda record: record[1])  # stable: by name where there is no number

    def _record(self, run_id: str) -> tuple[str, int, dict | Unreadable | None]:
        folder, request = self.run(run_id), {}
        with contextlib.suppress(FileNotFoundError, PermissionError, ValueError):
            request = _read(folder / "request.json")
        number = request.get("number")
        number = number if isinstance(number, int) else 0
        try:
            results = _read(folder / "results.json")
        except FileNotFoundError:
            return run_id, number, None
        except PermissionError as problem:
            what = f"{folder / 'results.json'} cannot be read ({problem.strerror})"
            return run_id, number, Unreadable(run_id, what, "correct its owner and permissions")
        except ValueError as problem:
            return run_id, number, Unreadable(run_id, f"results.json {problem}")
        from core import records  # pydantic takes its time

        if why := records.problem(results):
            return run_id, number, Unreadable(run_id, f"results.json has another form ({why})")
        origin = request.get("workdir")
        if not isinstance(origin, str):
            filed = filter(None, map(FILED.match, self.paths(results)))
            origin = next((match["place"] for match in filed), None)
        found = self.with_absolute_paths(results, origin)
        return run_id, found.get("number", number), found | {"run": run_id}  # a copy of a run is a run of its own

    def find(
        self, run_id: str | None = None, evaluated: bool = False, tell: Callable[[str], object] = lambda text: None
    ) -> dict:
        """The results of the run `run_id`, or of the latest one; paths are absolute.

        Args:
            run_id: or its beginning; None for the latest.
            evaluated: take only runs that reached Evaluator.
            tell: called with a sentence if the latest may be another one, which cannot be read.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        ended = self.ended()
        results = [result for result in ended if isinstance(result, dict)]
        found = [result for result in results if not evaluated or result.get("evaluation")]
        unreadable = {one.run: one for one in ended if isinstance(one, Unreadable)}
        if run_id:
            names = [*(result["run"] for result in found), *unreadable]
            matching = [name for name in names if name.startswith(run_id)]
            if run_id in matching:
                matching = [run_id]
            if len(matching) == 1:
                if problem := unreadable.get(matching[0]):
                    raise UserError(f"{problem.sentence} Name another run, or {problem.remedy}.")
                return next(result for result in found if result["run"] == matching[0])
            known = ", ".join(result["run"] for result in found[-5:]) or "none"
            others = [result["run"] for result in results if result["run"].startswith(run_id)]
            if others and not matching:
                which = run_id if run_id in others else others[-1]
                raise UserError(
                    f"Run {which} was not evaluated: name one that reached Evaluator; the latest are {known}."
                )
            how = "several runs match" if matching else "there is no such finished run"
            raise UserError(f"Run {run_id}: {how} in {self.path}; the latest are {known}.")
        if not found and unreadable:
            raise UserError(
                f"{self.path} holds no finished run that can be read ({len(unreadable)} cannot: see `alexnet runs`): "
                "start one with `alexnet run`."
            )
        if not found:
            raise UserError(f"{self.path} holds no finished run yet: start one with `alexnet run`.")
        if passed := passed_over(ended, found[-1]["run"]):
            tell(passed)
        return found[-1]

    def absolute(self, path: str, origin: str | None = None) -> str:
        """Where a recorded path leads now.

        Args:
            path: relative to the working directory, absolute, or in an object store.
            origin: where the working directory was when an absolute path was recorded; None if it is not known.
        """
        if "://" in path:
            return path
        if origin and pathlib.PurePath(path).is_relative_to(origin):
            path = os.path.relpath(path, origin)
        return str(self.path / path)

    def relative(self, path: str) -> str:
        """How a path is recorded: relative to the working directory if it is below that, or else as it is."""
        if "://" in path or not pathlib.PurePath(path).is_relative_to(self.path):
            return path
        return os.path.relpath(path, self.path)

    def with_absolute_paths(self, results: Mapping, origin: str | None = None) -> dict:
        """Results for who reads them: every path in them is absolute; `origin` as for `absolute`."""
        return _change_paths(results, lambda path: self.absolute(path, origin))

    def with_relative_paths(self, results: Mapping) -> dict:
        """Results as they are recorded, so that a directory that was moved or copied is as good as before."""
        return _change_paths(results, self.relative)

    def paths(self, results: Mapping) -> list[str]:
        """All paths in results."""
        found = []

        def note(path: str) -> str:
            found.append(path)
            return path

        _change_paths(results, note)
        return found

    def latest_push(self, tell: Callable[[str], object] = lambda text: None) -> pathlib.Path:
        """The newest version for the server that is still there: where the latest run left one, or in `serving/`.

        Args:
            tell: called with a sentence if it is not the one that the latest pushing run left, or may not be.

        Raises:
            UserError: there is none.
        """
        gone, ended = None, self.ended()
        for result in reversed(ended):
            if isinstance(result, dict) and (pushed := result.get("pushed")):
                folder = self.model(self._newest_beside(pushed["path"]))
                if (folder / "saved_model.pb").is_file():
                    if passed := passed_over(ended, result["run"]):
                        tell(passed)
                    if gone:
                        tell(f"The model pushed last is no longer in {gone}; this is {folder}.")
                    return folder
                gone = gone or folder
        versions = [
            path for path in (self.path / "serving").glob("*/*/saved_model.pb") if path.parent.name.isdecimal()
        ]
        if versions:
            if passed := passed_over(ended):
                tell(passed)
            folder = max(versions, key=lambda path: int(path.parent.name)).parent
            tell(f"No run tells of a pushed model that is still there; this is {folder}.")
            return folder
        what = (
            f"The model pushed last is no longer in {gone}"
            if gone
            else f"No model has been pushed in {self.path} yet"
        )
        raise UserError(f"{what}: run `alexnet run`, or name one with --model.")

    @staticmethod
    def _newest_beside(path: str) -> str:
        """The newest version in the folder of a pushed one: another one, once somebody has rolled back."""
        base, _, version = path.rstrip("/").rpartition("/")
        if schemes.is_uri(path):
            from storage import versions

            try:
                numbers = versions.versions(base)
            except OSError as problem:
                raise UserError(str(problem)) from None
        else:
            there = pathlib.Path(base).glob("*/saved_model.pb")
            numbers = [int(file.parent.name) for file in there if file.parent.name.isdecimal()]
        newest = max(numbers, default=0)
        return f"{base}/{newest}" if version.isdecimal() and newest > int(version) else path

    def model(self, path: str) -> pathlib.Path:
        """The folder of a pushed model; one in an object store is copied here the first time. Raises UserError."""
        if not schemes.is_uri(path):
            return pathlib.Path(path)
        folder = self.path / "models" / hashlib.sha256(path.encode()).hexdigest()[:16]
        if not (folder / "saved_model.pb").is_file():
            from storage import object_store

            incoming = self.path / "models" / f".incoming-{os.getpid()}"
            try:
                found = object_store.find(f"{path.rstrip('/')}/")
                if not any(one.name == "saved_model.pb" for one in found):  # such as a folder of versions
                    inside = sorted(one.name for one in found if one.name.endswith("/saved_model.pb"))
                    nearest = f"; {path.rstrip('/')}/{inside[-1].rpartition('/')[0]} is one" if inside else ""
                    raise UserError(f"There is no model at {path}{nearest}.")
                object_store.download(found, incoming)
                shutil.rmtree(folder, ignore_errors=True)
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
            raise UserError(errors.sentence(problem, self.path, "used as working directory")) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip() or "another process"
                raise UserError(
                    f"{self.path} is in use by {holder}: wait until it ends, or name another --workdir."
                ) from None
            started = datetime.datetime.now().strftime("%H:%M:%S")
            with contextlib.suppress(OSError):  # a full disk is told of when what matters is written
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} ({what}, since {started})".encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def clean(self) -> None:
        """Removes temporary files; only while the lock is held."""
        shutil.rmtree(self.temporary, ignore_errors=True)


def passed_over(ended: Sequence[Mapping | Unreadable], chosen: str = "") -> str | None:
    """A sentence on the runs that cannot be read and may be later than the one that was taken; None without any.

    Args:
        ended: all runs, as `Workdir.ended` gives them.
        chosen: the run that was taken; "": all count.
    """
    place = next((at for at, one in enumerate(ended) if isinstance(one, Mapping) and one["run"] == chosen), -1)
    # One that has lost its number, too, stands before those that have theirs.
    later = [one for at, one in enumerate(ended) if isinstance(one, Unreadable) and (at > place or one.run > chosen)]
    if not later:
        return None
    more = f" and {len(later) - 1} more were" if len(later) > 1 else " was"
    this = f"; this is run {chosen}" if chosen else ""
    latest = max(later, key=lambda one: one.run)
    return f"Run {latest.run}{more} passed over: {latest.why}{this}."


def _read(path: pathlib.Path) -> dict:
    """The object in a JSON file.

    Raises:
        FileNotFoundError, PermissionError: of the system.
        ValueError: a phrase that says what is wrong.
    """
    try:
        content = path.read_bytes()
        found = json.loads(content)
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as problem:
        raise ValueError(f"cannot be read ({problem.strerror})") from None
    except (ValueError, RecursionError):
        raise ValueError("is cut off, or no JSON" if content else "is empty") from None
    if not isinstance(found, dict):
        raise ValueError("holds no results")
    return found


def _change_paths(results: Mapping, change: Callable[[str], str]) -> dict:
    """Results, or the summary of a run, with `change` applied to every path in them."""

    def changed(part: Any, keys: Iterable[str]) -> Any:
        """A part with its paths changed; a summary has the path of the evaluation alone."""
        if isinstance(part, str):
            return change(part)
        if isinstance(part, Mapping):
            return {**part, **{key: change(part[key]) for key in keys if isinstance(part.get(key), str)}}
        return part

    made = changed(results, ("model", "tensorboard", "report"))
    for key in {"evaluation", "pushed", "waiting"} & made.keys():
        made[key] = changed(made[key], ("path",))
    if made.get("lineage"):
        made["lineage"] = [changed(artifact, ("uri",)) for artifact in made["lineage"]]
    return made
