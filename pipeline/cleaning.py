"""What `alexnet clean` does: removes the artifacts of earlier runs, and what killed ones have left.

ML Metadata is told first, all at once: whatever ends the process, nothing of which something is missing counts as
there, and the next call finds by what lies on the disk what this one had still to remove. Results and reports stay,
and so do Evaluator's predictions, which `alexnet compare` reads. As a program it does what a run does at its end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from core import errors, processes
from core.errors import UserError
from core.settings import Settings
from core.workdir import FILED, Unreadable, Workdir
from engines import jobs
from pipeline import inventory
from storage import schemes

if TYPE_CHECKING:
    import ml_metadata
    from ml_metadata.proto import metadata_store_pb2

KEEP = 5  # runs, where nobody says
PIPELINE = "alexnet-"  # with what a pipeline's name begins, before that of its data
KEPT = ("Evaluator", "predictions")  # of this node's outputs stays what begins so
EXECUTED = ".system/executor_execution"  # in the folder of a node: what executors said, a folder an execution
WORKED = ".system/stateful_working_dir"  # and what they worked in
DEAD = 2 * 86_400  # seconds after which what a push was copying is left over, as in storage.retention
AGES = {"h": 3600, "d": 86_400, "w": 7 * 86_400}  # seconds


@dataclasses.dataclass(frozen=True)
class Run:
    """An earlier run.

    Attributes:
        id: of the run; the name of its folder.
        name: of its data.
        evaluated: whether it reached Evaluator.
        started: seconds since 1970; 0 where that is not known.
        waits: whether its model waits for somebody's word.
    """

    id: str
    name: str
    evaluated: bool
    started: float
    waits: bool


@dataclasses.dataclass(frozen=True)
class Removal:
    """What is removed from one folder.

    Attributes:
        run: the run that made it; "" for what is left over.
        path: of the folder or file.
        inside: what is removed of it; empty: all.
        size: in bytes, as the disk counts them.
    """

    run: str
    path: pathlib.Path
    inside: tuple[pathlib.Path, ...]
    size: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        artifacts: ids of those that ML Metadata is to know as deleted.
        removals: of artifacts.
        checkpoints, temporary: what killed runs have left.
        unreported: runs whose report is to be written before the artifacts go that it is made of.
        runs: how many runs keep their artifacts.
        pushed: how many pushed versions keep the model that they were made of.
        waiting: how many runs are kept because they wait for somebody's word.
        stays: bytes of the artifacts that stay.
    """

    artifacts: list[int]
    removals: list[Removal]
    checkpoints: list[Removal]
    temporary: list[Removal]
    unreported: list[Mapping]
    runs: int
    pushed: int
    waiting: int
    stays: int

    @property
    def all(self) -> list[Removal]:
        """Everything that is removed."""
        return [*self.removals, *self.checkpoints, *self.temporary]

    @property
    def size(self) -> int:
        """Bytes that it frees."""
        return sum(one.size for one in self.all)


def waits(found: Mapping) -> bool:
    """Whether a run, by its results, has a model that waits for somebody's word: nothing of it is removed."""
    return found.get("state") == "waiting"


def age(text: str) -> float:
    """Seconds of "12h", "30d" or "8w". Raises UserError for another form."""
    found = re.fullmatch(r"(\d{1,6})([hdw])", text.strip())
    if not found:
        raise UserError(f"--older-than {text}: write a number and h, d or w, such as 30d for thirty days.")
    return int(found[1]) * AGES[found[2]]


@contextlib.contextmanager
def alone(workdir: Workdir) -> Iterator[None]:
    """Keeps runs out, and ends what a killed one may have left on an engine. Raises UserError."""
    if not workdir.path.is_dir():
        raise UserError(f"{workdir.path} does not exist: name another --workdir.")
    with workdir.lock("alexnet clean"):
        if left := jobs.end_all(workdir.path):  # they may still write into what is removed now
            raise UserError(left[0])
        yield


def plan(workdir: Workdir, keep: int, before: float | None = None) -> Plan:
    """What is to be removed; nothing is yet. Only while the lock is held.

    What stays: of each data, the artifacts that the newest `keep` runs, and the newest `keep` evaluated ones, made or
    used, so that the next run finds them in the cache; what it compares itself with, which is the baseline, the
    statistics and the report before it; the models of which a pushed version is still there; and all of runs that
    wait for somebody's word.

    Args:
        workdir: where.
        keep: how many runs; with 0 the cache is emptied.
        before: seconds since 1970; what was begun later stays as well.

    Raises:
        UserError: ML Metadata cannot be used.
    """
    inventory.check(workdir.metadata, workdir.artifacts())
    folders = _folders(workdir)
    if not workdir.metadata.is_file():
        if folders:
            raise UserError(
                f"{workdir.metadata} is not there, so nothing tells which artifacts are still needed: put it back, "
                "or start `alexnet run` first."
            )
        known = Known()
    else:
        known = _read(workdir)
    records = workdir.records()
    runs = _runs(records, known)
    kept = _kept(runs, keep, before)
    results = {run: found for run, _, found in records if isinstance(found, dict)}
    places, staying = _staying(workdir, known, kept, results)
    going = [folder for folder in folders if folder not in places]
    makers = {execution: run for run, executions in known.executions.items() for execution in executions}
    removals = [
        one
        for folder in going
        if (one := _removal(folder, makers.get(int(folder.name), ""), _spared(folder))).inside or one.size
    ]
    executions = {int(place.name) for place in places}
    executions |= {execution for run in kept for execution in known.executions.get(run, ())}
    stays = sum(taken(place) for place in places if place in set(folders))
    stays += sum(taken(path) for folder in going for path in _spared(folder))
    gone = {folder.relative_to(workdir.path).as_posix() for folder in going}
    return Plan(
        artifacts=[
            one.id
            for one in known.live
            if _gone(workdir, one) or ((place := _place(workdir, one.uri)) and place not in places)
        ],
        removals=removals,
        checkpoints=_checkpoints(workdir, runs, kept, keep, before),
        temporary=_temporary(workdir, executions),
        unreported=_unreported(workdir, results, gone),
        runs=len(kept),
        pushed=len(staying),
        waiting=sum(run.waits for run in runs),
        stays=stays,
    )


def remove(workdir: Workdir, made: Plan) -> None:
    """Does what was planned, under the same lock.

    Raises:
        UserError: something cannot be removed; all the rest was.
    """
    from review import run_report

    spared = set()
    for found in made.unreported:
        try:
            run_report.write(workdir, found)
        except (OSError, UserError):  # of a full disk, say: the next call has room for it
            spared.add(_place(workdir, found["report"]))
    if made.artifacts:
        store = opened(workdir)
        inventory.discard(store, *made.artifacts)
        del store  # closes the file
    problems = []
    for removal in made.all:
        if removal.path in spared:
            continue
        for path in removal.inside or (removal.path,):
            try:
                delete(path)
            except OSError as problem:
                problems.append(errors.sentence(problem, problem.filename or path, "removed"))
    if problems:
        more = f" So it is with {len(problems) - 1} more." if len(problems) > 1 else ""
        raise UserError(f"{problems[0]}{more}")


def delete(path: pathlib.Path) -> None:
    """Removes a file, a link or a folder with all that is in it; what links lead to stays. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


def after_run(workdir: Workdir, settings: Settings, lock: int, log: pathlib.Path) -> str:
    """What a run does at its end for the group `retention`, in a process of its own, which holds the lock as well.

    Args:
        workdir: whose lock is held.
        settings: of the run.
        lock: its file descriptor.
        log: of the run; what libraries say goes there.

    Returns:
        A line on what was removed, or a warning; "" if there was nothing to do.
    """
    if not (settings.retention.runs or settings.retention.versions):
        return ""
    pushed = settings.push.destination or str(workdir.serving(settings.name))
    asked = {"workdir": str(workdir.path), "pushed": pushed, **settings.retention.model_dump()}
    try:
        with open(log, "a") as file:
            done = subprocess.run(
                processes.module("pipeline.cleaning", json.dumps(asked)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                pass_fds=[lock],
                env=os.environ | {"PYTHONUTF8": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
            )
    except OSError as problem:
        return f"Warning: earlier runs were not cleaned away. {errors.sentence(problem, problem.filename)}"
    said = done.stdout.strip()
    if done.returncode:
        return f"Warning: earlier runs were not cleaned away. {said or f'The log says why: {log}.'}"
    return said


def main(arguments: Sequence[str]) -> int:
    """For `after_run`: keeps what the settings say, and prints a line on it. Returns an exit code."""
    asked = json.loads(arguments[0])
    workdir = Workdir(asked["workdir"])
    try:
        removed = set()
        if asked["versions"]:
            from storage import retention  # loads TFX

            going = retention.prune(asked["pushed"], asked["versions"])
            removed = {os.path.join(asked["pushed"], str(number)) for number in going}
        if workdir.metadata.is_file():  # or the next run would take it for a loss
            store = opened(workdir)
            inventory.discard(store, *(one.id for one in _live(store) if _withdrawn(workdir, one, removed)))
            del store
        if asked["runs"]:
            made = plan(workdir, asked["runs"])
            remove(workdir, made)
            if made.size:
                print(f"Earlier runs cleaned away: {size(made.size)} freed, artifacts of {size(made.stays)} stay.")
    except Exception as problem:
        if not (words := errors.words(problem, str(workdir.path))) and not isinstance(problem, OSError):
            raise
        print(words or problem)
        return 1
    return 0


def size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def told(made: Plan) -> list[str]:
    """A line for each run of which something is removed, and for what is left over."""
    by_run: dict[str, list[Removal]] = {}
    for one in made.removals:
        by_run.setdefault(one.run, []).append(one)
    rows = [(f"run {run}" if run else "runs that are not known", some) for run, some in sorted(by_run.items())]
    rows += [("checkpoints", made.checkpoints), ("temporary files", made.temporary)]
    return [_row(what, some) for what, some in rows if some]


def _row(what: str, some: Sequence[Removal]) -> str:
    things = "" if not what.startswith("run") else f"{len(some)} artifact{'s' if len(some) > 1 else ''}"
    return f"{what:<23}{things:>14}{size(sum(one.size for one in some)):>12}"


def summed_up(made: Plan, dry_run: bool) -> str:
    """What was done, or would be, and what stays."""
    runs = "the newest run" if made.runs == 1 else f"{made.runs} runs" if made.runs else "no run"
    kept = [f"those of {runs}", "what the next one is compared with"]
    if made.pushed:
        kept.append(f"the models of {made.pushed} pushed version{'s' if made.pushed > 1 else ''}")
    if made.waiting:
        kept.append(f"{made.waiting} that wait{'s' if made.waiting == 1 else ''}")
    stays = f"artifacts of {size(made.stays)} stay: {', '.join(kept)}" if made.stays else "no artifacts are there"
    if not made.all:
        return f"Nothing to remove; {stays}."
    return f"{'Would free' if dry_run else 'Freed'} {size(made.size)}; {stays}."


@dataclasses.dataclass
class Known:
    """What ML Metadata knows.

    Attributes:
        names: run -> its pipeline.
        executions: run -> ids of its executions.
        used: execution -> ids of the artifacts that it read or made.
        live: the artifacts that are not deleted.
        latest: ids of those of each pipeline that its next run compares itself with.
    """

    names: dict[str, str] = dataclasses.field(default_factory=dict)
    executions: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    used: dict[int, set[int]] = dataclasses.field(default_factory=dict)
    live: list[metadata_store_pb2.Artifact] = dataclasses.field(default_factory=list)
    latest: set[int] = dataclasses.field(default_factory=set)


def opened(workdir: Workdir) -> ml_metadata.MetadataStore:
    """ML Metadata of a working directory. Raises UserError."""
    import ml_metadata
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(workdir.metadata)
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE
    try:
        return ml_metadata.MetadataStore(config)
    except (RuntimeError, ml_metadata.errors.StatusError) as problem:
        raise inventory.unusable(workdir.metadata, str(problem)) from None


def _live(store: ml_metadata.MetadataStore) -> list[metadata_store_pb2.Artifact]:
    from ml_metadata.proto import metadata_store_pb2

    # This build of ML Metadata has no filters.
    return [one for one in store.get_artifacts() if one.state == metadata_store_pb2.Artifact.LIVE]


def _read(workdir: Workdir) -> Known:
    from ml_metadata.proto import metadata_store_pb2

    store, known = opened(workdir), Known()
    known.live = _live(store)
    events = store.get_events_by_artifact_ids([one.id for one in known.live]) if known.live else []
    for event in events:
        known.used.setdefault(event.execution_id, set()).add(event.artifact_id)
    pipelines = store.get_contexts_by_type("pipeline") if "pipeline" in _types(store) else []
    for pipeline in pipelines:
        for run in store.get_children_contexts_by_context(pipeline.id):
            if run.type == "pipeline_run":
                known.names[run.name] = pipeline.name
    nodes = {}
    for execution in sorted(known.used):
        for context in store.get_contexts_by_execution(execution):
            if context.type == "pipeline_run":
                known.executions.setdefault(context.name, []).append(execution)
            elif context.type == "node":
                nodes[execution] = context.name.rpartition(".")[2]
    done = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)
    checks = [execution for execution, node in nodes.items() if node == "DataCheck"]
    found = store.get_executions_by_id(checks) if checks else []
    accepted = {id for one in found if one.last_known_state in done for id in known.used[one.id]}
    by_id = {one.id: one for one in known.live}
    for name in {*known.names.values()}:
        runs = [run for run, pipeline in known.names.items() if pipeline == name]
        used = {id for run in runs for execution in known.executions.get(run, ()) for id in known.used[execution]}
        known.latest |= _latest([by_id[id] for id in used], accepted)
    return known


def _types(store: ml_metadata.MetadataStore) -> set[str]:
    return {kind.name for kind in store.get_context_types()}


def _latest(found: Iterable[metadata_store_pb2.Artifact], accepted: Collection[int]) -> set[int]:
    """Of the artifacts of a pipeline those that the strategies in `components.previous` would take."""
    by_type: dict[str, dict[int, metadata_store_pb2.Artifact]] = {}
    for one in found:
        by_type.setdefault(one.type, {})[one.id] = one
    chosen = {max(by_type[kind]) for kind in ("alexnet.EvaluationReport",) if by_type.get(kind)}
    chosen |= {max(ids) for ids in [accepted & by_type.get("ExampleStatistics", {}).keys()] if ids}
    blessings = {
        one.custom_properties["current_model_id"].int_value: one.id
        for one in by_type.get("ModelBlessing", {}).values()
        if "blessed" in one.custom_properties and one.custom_properties["blessed"].int_value == 1
    }
    if models := by_type.get("Model", {}).keys() & blessings.keys():
        chosen |= {max(models), blessings[max(models)]}
    return chosen


def _runs(records: Sequence[tuple[str, int, dict | Unreadable | None]], known: Known) -> list[Run]:
    """All runs, the oldest first; those of which nothing but their artifacts is left are the oldest."""
    made = []
    ids = [run for run, _, _ in records]
    for run in [*sorted(known.names.keys() - set(ids)), *ids]:
        found = next((found for id, _, found in records if id == run and isinstance(found, dict)), {})
        name = found.get("name") or known.names.get(run, "").removeprefix(PIPELINE)
        made.append(Run(run, name, bool(found.get("evaluation")), _started(run, found), waits(found)))
    return made


def _started(run: str, found: Mapping) -> float:
    """Seconds since 1970, by the results or the run's id, both of which are local time."""
    with contextlib.suppress(KeyError, ValueError, OverflowError):
        return datetime.datetime.fromisoformat(found["started"]).timestamp()
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.datetime.strptime(run[:15], "%Y%m%d-%H%M%S").timestamp()
    return 0.0


def _kept(runs: Sequence[Run], keep: int, before: float | None) -> set[str]:
    """The ids of the runs whose artifacts stay.

    A run that failed or was killed counts, too: the next one may go on from it. But many of them in a row do not
    push out those that were evaluated, nor pile up.
    """
    kept = {run.id for run in runs if run.waits or (before is not None and run.started >= before)}
    for name in {run.name for run in runs}:
        of_name = [run for run in runs if run.name == name]
        evaluated = [run for run in of_name if run.evaluated]
        if keep:
            kept |= {run.id for some in (of_name, evaluated) for run in some[-keep:]}
    return kept


def _staying(
    workdir: Workdir, known: Known, kept: Collection[str], results: Mapping[str, Mapping]
) -> tuple[set[pathlib.Path], set[str]]:
    """The folders of the artifacts that stay, and the pushed versions that are still there."""
    staying = set(known.latest)
    for run in kept:
        for execution in known.executions.get(run, ()):
            staying |= known.used[execution]
    pushed, named = _pushed(workdir, known, results)
    for one in known.live:
        if one.type == inventory.PUSHED and not _gone(workdir, one) and _destination(one):
            pushed.add(workdir.absolute(_destination(one), _origin(one.uri)))
            makers = [execution for execution, ids in known.used.items() if one.id in ids]
            used = {id for execution in makers for id in known.used[execution]}
            staying |= {other.id for other in known.live if other.id in used and other.type in PUSHED_OF}
    by_place = {place: one.id for one in known.live if (place := _place(workdir, one.uri))}
    models = {by_place[place] for place in named if place in by_place}
    staying |= models | {
        one.id
        for one in known.live
        if one.type == "ModelBlessing" and one.custom_properties["current_model_id"].int_value in models
    }
    places = {place for one in known.live if one.id in staying and (place := _place(workdir, one.uri))}
    for run in kept:  # ML Metadata may be an older copy, or a new one
        found = (_place(workdir, path) for path in workdir.paths(results.get(run, {})))
        places |= {place for place in found if place}
    return places, pushed


PUSHED_OF = (inventory.PUSHED, "Model", "ModelBlessing", "InfraBlessing")


def _pushed(workdir: Workdir, known: Known, results: Mapping[str, Mapping]) -> tuple[set[str], set[pathlib.Path]]:
    """The versions in the folders of this machine that servers watch, and the models that these were made of."""
    folders = {path for path in (workdir.path / "serving").glob("*") if path.is_dir()}
    told = [_destination(one) for one in known.live if one.type == inventory.PUSHED]
    told += [(found.get("pushed") or {}).get("path") or "" for found in results.values()]
    folders |= {pathlib.Path(workdir.absolute(path)).parent for path in told if path and not schemes.is_uri(path)}
    versions, models = set(), set()
    for folder in folders:
        for version in folder.glob("[0-9]*"):
            if not version.is_dir():
                continue
            versions.add(str(version))
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                model = json.loads((version / "assets.extra" / "pushed.json").read_bytes())["model"]
                if place := _place(workdir, model):
                    models.add(place)
    return versions, models


def _destination(artifact: metadata_store_pb2.Artifact) -> str:
    """Where a push went; "" if there was none."""
    properties = artifact.custom_properties
    if "pushed" not in properties or not properties["pushed"].int_value:
        return ""
    return properties["pushed_destination"].string_value


def _gone(workdir: Workdir, artifact: metadata_store_pb2.Artifact) -> bool:
    """Whether it tells of a pushed version that is no longer there; of one in an object store nobody asks."""
    path = _destination(artifact) if artifact.type == inventory.PUSHED else ""
    return (
        bool(path) and not schemes.is_uri(path) and not os.path.isdir(workdir.absolute(path, _origin(artifact.uri)))
    )


def _withdrawn(workdir: Workdir, artifact: metadata_store_pb2.Artifact, removed: Collection[str]) -> bool:
    """Whether it tells of a pushed version that is no longer there, or that was just removed from an object store."""
    return artifact.type == inventory.PUSHED and (_gone(workdir, artifact) or _destination(artifact) in removed)


def _origin(path: str) -> str | None:
    found = FILED.match(path)
    return found["place"] if found else None


def _place(workdir: Workdir, path: str) -> pathlib.Path | None:
    """The folder of the artifact that a recorded path is of or in; None if it is not one of this directory."""
    if "://" in path or not path:
        return None
    found = pathlib.Path(os.path.normpath(workdir.absolute(path, _origin(path))))
    if not found.is_relative_to(workdir.artifacts()):
        return None
    parts = found.relative_to(workdir.artifacts()).parts[:4]
    return workdir.artifacts().joinpath(*parts) if len(parts) == 4 and parts[3].isdecimal() else None


def _folders(workdir: Workdir) -> list[pathlib.Path]:
    """Those of all outputs on the disk, in their order."""
    found = [path for path in workdir.artifacts().glob("*/*/[!.]*/*") if path.name.isdecimal()]
    return sorted(found, key=lambda path: (int(path.name), path))


def _spared(folder: pathlib.Path) -> list[pathlib.Path]:
    """What stays of an output that goes."""
    node, beginning = KEPT
    if folder.parents[1].name != node or folder.is_symlink() or not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name.startswith(beginning)]


def _removal(path: pathlib.Path, run: str, spared: Collection[pathlib.Path]) -> Removal:
    inside = tuple(sorted(one for one in path.iterdir() if one not in spared)) if spared else ()
    if spared and not inside:
        return Removal(run, path, (), 0)
    return Removal(run, path, inside, sum(map(taken, inside or (path,))))


def taken(path: pathlib.Path) -> int:
    """Bytes that a file or folder takes on the disk, links not followed."""
    total, waiting = 0, [os.fspath(path)]
    while waiting:
        place = waiting.pop()
        with contextlib.suppress(OSError):
            status = os.lstat(place)
            total += status.st_blocks * 512
            if stat.S_ISDIR(status.st_mode):
                waiting += [entry.path for entry in os.scandir(place)]
    return total


def _checkpoints(
    workdir: Workdir, runs: Sequence[Run], kept: Collection[str], keep: int, before: float | None
) -> list[Removal]:
    """Those of trainings and searches that no run whose artifacts stay can have begun."""
    first = min((run.started for run in runs if run.id in kept), default=None)
    if first is None and keep:
        return []
    limits = [limit for limit in (first if keep else None, before) if limit is not None]
    found = []
    for path in sorted(workdir.checkpoints.glob("*")):
        if all(_touched(path) < limit for limit in limits):
            found.append(_removal(path, "", ()))
    return found


def _touched(path: pathlib.Path) -> float:
    """When a file in a folder was last written."""
    times = [path.lstat().st_mtime]
    for place, _, names in os.walk(path):
        with contextlib.suppress(OSError):
            times += [os.lstat(os.path.join(place, name)).st_mtime for name in names]
    return max(times)


def _temporary(workdir: Workdir, executions: Collection[int]) -> list[Removal]:
    """What is left over of runs, nodes, reports and pushes that were killed."""
    found = [workdir.temporary] if os.path.lexists(workdir.temporary) else []
    said = workdir.artifacts().glob(f"*/*/{EXECUTED}/*")
    found += [path for path in said if path.name.isdecimal() and int(path.name) not in executions]
    found += workdir.artifacts().glob(f"*/*/{WORKED}/*")
    found += workdir.runs.glob("*/.*.partial")
    found += [path for path in (workdir.path / "models").glob(".incoming-*") if not _alive(path.name)]
    for beginning in (".incoming-", ".going-"):  # as storage.versions names them
        pushes = (workdir.path / "serving").glob(f"*/{beginning}*")
        found += [path for path in pushes if time.time() - path.lstat().st_mtime > DEAD]
    return [_removal(path, "", ()) for path in sorted(found)]


def _alive(name: str) -> bool:
    """Whether the process lives whose id a name ends with."""
    number = name.rpartition("-")[2]
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _unreported(workdir: Workdir, results: Mapping[str, Mapping], gone: Collection[str]) -> list[Mapping]:
    """The runs whose report was never written, or was lost, and is made of what goes now."""
    from review.report.build import PAGE, REPORT

    found = []
    for run, result in results.items():
        place = _place(workdir, result.get("report") or "")
        if not place or not result.get("evaluation") or place.relative_to(workdir.path).as_posix() not in gone:
            continue
        if (place / REPORT).is_file() and not all((workdir.run(run) / name).is_file() for name in (PAGE, REPORT)):
            found.append(result)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
