"""Whether a year of runs in one working directory costs more than its first week: room, and the time of commands.

    python -m benchmarks.operation [--runs N | --workdir DIR] [--counts N N ...] [--keep N] [--versions N]
                                   [--json FILE]

First N real runs of the pipeline on the smallest embedded data, each with data that count as new, so that every node
works, and with `retention.runs` and `retention.versions`; or a directory with real runs of such data, of which a copy
is taken, and one of which took nothing from the cache. Then copies of the newest such run, up to the counts, are made
as TFX and `alexnet run` make a run: its contexts, executions, events and artifacts are put into ML Metadata with the
calls and properties of the real one, its files are copied and recorded, and what a run does at
its end for the retention is done. Room, the times of `alexnet runs` and `alexnet history`, and what a run asks before
its first node are measured after each count; a real run whose nodes all come from the cache, after five runs and at
the end.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from typing import Any

import ml_metadata
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

from benchmarks import machine, report
from benchmarks.pipeline import SMALL, Cost, alexnet
from core import settings
from core.workdir import Workdir
from pipeline import cleaning, inventory, lineage, local_runner

FIRST = 5  # real runs, with which all is compared
REPEATS = 3
PARTS = ("artifacts", "serving", "runs", "metadata.sqlite")
COMMANDS = ("runs", "history")
START, CACHED = "start of a run, as far as it asks what was before", "run, all from the cache"
CHANGES = (*SMALL, "gates.max_accuracy_drop=1", "gates.max_class_recall_drop=1")
DATA = "shapes10/small"
FORM = "%Y%m%d-%H%M%S"  # of a run's id


def main(arguments: list[str] | None = None) -> None:
    """Measures, and prints tables; `--json` also writes the numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operation", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=12, help="real runs; at least 5")
    parser.add_argument(
        "--workdir", default=None, help="take the real runs of this one, fewer than 5; change nothing"
    )
    parser.add_argument("--counts", type=int, nargs="*", default=[50, 100, 200], help="of runs, by copies")
    parser.add_argument("--keep", type=int, default=5, help="retention.runs")
    parser.add_argument("--versions", type=int, default=10, help="retention.versions")
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    real = len(Workdir(asked.workdir).results()) if asked.workdir else asked.runs
    if (real >= FIRST) == bool(asked.workdir):
        parser.error(f"--runs must be at least {FIRST}, and the runs in --workdir fewer")
    about = machine.describe()
    kept = {"runs": asked.keep, "versions": asked.versions}
    rooms: dict[int, dict[str, int]] = {}
    times: dict[int, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        few, many = Workdir(pathlib.Path(folder, "few")), Workdir(pathlib.Path(folder, "many"))
        counts = sorted({FIRST, max(real, FIRST), *(count for count in asked.counts if count > real)})
        if asked.workdir:
            shutil.copytree(asked.workdir, many.path, symlinks=True)
        for number in range(real + 1 if asked.workdir else 1, counts[-1] + 1):
            if number <= real:
                run(many, number, kept)
            else:
                copy(many, number)
                retain(many, kept)
            rooms[number] = room(many)
            if number in counts:
                times[number] = {name: [command(many, name) for _ in range(REPEATS)] for name in COMMANDS}
                times[number][START] = [start(many) for _ in range(REPEATS)]
                told = {name: round(_median(costs)["processor"], 2) for name, costs in times[number].items()}
                print(
                    f"{number} runs: {sum(rooms[number].values()) / 1e6:.1f} MB, {told}", file=sys.stderr, flush=True
                )
                if asked.json:  # each time: the last ones take longer than all before
                    done = [count for count in counts if count <= number]
                    asked.json.write_text(json.dumps(summary(about, real, kept, done, rooms, times), indent=1))
            if number == FIRST and not asked.workdir:
                shutil.copytree(many.path, few.path)
        if not asked.workdir:
            times[FIRST] |= from_cache(few, FIRST, kept)
            run(many, counts[-1] + 1, kept)  # of the last real one the cache has nothing any more
            times[counts[-1]] |= from_cache(many, counts[-1] + 1, kept)
    result = summary(about, real, kept, counts, rooms, times)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))
    report.show(result)


def run(workdir: Workdir, number: int, kept: Mapping[str, int]) -> tuple[Cost, dict]:
    """A real run, on data that count as the `number`th; returns its cost and its results. Raises RuntimeError."""
    changes = [*CHANGES, f"data.version={number}", *(f"retention.{name}={value}" for name, value in kept.items())]
    sets = [part for change in changes for part in ("--set", change)]
    cost = alexnet("run", "--data", DATA, "--workdir", str(workdir.path), *sets)
    return cost, workdir.find()


def command(workdir: Workdir, name: str) -> dict[str, float]:
    """The cost of a command."""
    cost = alexnet(name, "--workdir", str(workdir.path))
    return {"seconds": cost.seconds, "processor": cost.processor}


def start(workdir: Workdir) -> dict[str, float]:
    """What a run does before its first node with results, ML Metadata and artifacts, without what it imports."""
    connection = metadata.sqlite_metadata_connection_config(str(workdir.metadata))
    began, used = time.perf_counter(), time.process_time()
    workdir.next_number()
    inventory.check(workdir.metadata, workdir.artifacts())
    local_runner.prepare(connection, settings.load(), workdir)
    return {"seconds": time.perf_counter() - began, "processor": time.process_time() - used}


def from_cache(workdir: Workdir, number: int, kept: Mapping[str, int]) -> dict[str, list[dict[str, float]]]:
    """The cost of a run whose nodes all come from the cache. Raises RuntimeError if one does not."""
    cost, found = run(workdir, number, kept)
    states = {node["state"] for name, node in found["nodes"].items() if name not in lineage.RESOLVERS}
    if states != {"cached"}:
        raise RuntimeError(f"not from the cache: {found['nodes']}")
    return {CACHED: [{"seconds": cost.seconds, "processor": cost.processor}]}


def room(workdir: Workdir) -> dict[str, int]:
    """Bytes that the parts of a working directory take on the disk."""
    return {name: cleaning.taken(workdir.path / name) for name in PARTS}


def retain(workdir: Workdir, kept: Mapping[str, int]) -> None:
    """What a run does at its end."""
    asked = {"workdir": str(workdir.path), "pushed": str(workdir.serving("shapes10")), **kept}
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = cleaning.main([json.dumps(asked)])
    if code:
        raise RuntimeError(said.getvalue())


def copy(workdir: Workdir, number: int) -> None:
    """Makes the newest run that took nothing from the cache over again, with outputs of its own, a day later."""
    results = workdir.results()
    source = [one for one in results if "cached" not in {node["state"] for node in one["nodes"].values()}][-1]
    before = datetime.datetime.strptime(results[-1]["run"][:15], FORM)
    run_id = (before + datetime.timedelta(days=1)).strftime(FORM)
    workdir.run(run_id).mkdir()
    store = cleaning.opened(workdir)
    with contextlib.chdir(workdir.path):
        replaced = _record(store, source["run"], run_id)
    for file in workdir.run(source["run"]).iterdir():  # report and pictures are copied as they are
        shutil.copyfile(file, workdir.run(run_id) / file.name)
    for name in ("request.json", "results.json", "summary.json"):
        text = (workdir.run(run_id) / name).read_text()
        made = json.loads(_changed(text, {**replaced, source["run"]: run_id})) | {"number": number}
        if name == "results.json":
            made["started"] = (before + datetime.timedelta(days=1)).isoformat()
        (workdir.run(run_id) / name).write_text(json.dumps(made))


def _record(store: ml_metadata.MetadataStore, source: str, run_id: str) -> dict[str, str]:
    """Enters a run as TFX does, and copies its artifacts; relative paths are below the current folder.

    Returns:
        What paths become in it.
    """
    (old,) = (one for one in store.get_contexts_by_type("pipeline_run") if one.name == source)
    (context,) = store.put_contexts([_without_id(old, name=run_id)])
    parents = store.get_parent_contexts_by_context(old.id)
    store.put_parent_contexts(
        [metadata_store_pb2.ParentContext(child_id=context, parent_id=parent.id) for parent in parents]
    )
    ids: dict[int, int] = {}
    paths: dict[str, str] = {}
    for execution in sorted(store.get_executions_by_context(old.id), key=lambda one: one.id):
        contexts = [_follows(store, one, old.id, context) for one in store.get_contexts_by_execution(execution.id)]
        events = store.get_events_by_execution_ids([execution.id])
        made = _without_id(execution, name=str(uuid.uuid4()))
        (made.id,) = store.put_executions([made])
        pairs = []
        for event in events:
            (artifact,) = store.get_artifacts_by_id([event.artifact_id])
            own = event.type in lineage.WRITTEN and lineage.first_writer(store, artifact.id) == execution.id
            if own:
                artifact = _artifact(artifact, execution.id, made.id, ids, paths)
            elif event.artifact_id in ids:
                (artifact,) = store.get_artifacts_by_id([ids[event.artifact_id]])
            pairs.append((artifact, _event(event), event.artifact_id if own else None))
        _, written, _ = store.put_execution(made, [(one, event) for one, event, _ in pairs], contexts)
        ids |= {old_id: new for (_, _, old_id), new in zip(pairs, written, strict=True) if old_id}
    return paths


def _artifact(old: Any, execution: int, new: int, ids: Mapping[int, int], paths: dict[str, str]) -> Any:
    """A copy of an artifact, with its files, as the output of the execution `new`."""
    made = _without_id(old, name="")
    made.uri = f"{old.uri.removesuffix(str(execution))}{new}"
    paths[old.uri] = made.uri
    shutil.copytree(old.uri, made.uri)
    properties = made.custom_properties
    if "current_model_id" in properties:
        properties["current_model_id"].int_value = ids[properties["current_model_id"].int_value]
    if "pushed_destination" in properties and properties["pushed_destination"].string_value:
        place = properties["pushed_destination"].string_value
        version = pathlib.Path(place).with_name(str(int(pathlib.Path(place).name) + 1))
        shutil.copytree(place, version)
        pushed = version / "assets.extra" / "pushed.json"
        pushed.write_text(_changed(pushed.read_text(), paths))
        paths[place] = properties["pushed_destination"].string_value = str(version)
        properties["pushed_version"].string_value = version.name
    inventory.record(made)
    return made


def _without_id(old: Any, name: str) -> Any:
    made = type(old)()
    made.CopyFrom(old)
    for field in ("id", "create_time_since_epoch", "last_update_time_since_epoch"):
        made.ClearField(field)
    if name:
        made.name = name
    else:
        made.ClearField("name")
    return made


def _event(old: Any) -> Any:
    made = type(old)()
    made.type = old.type
    made.path.CopyFrom(old.path)
    return made


def _follows(store: ml_metadata.MetadataStore, context: Any, old: int, new: int) -> Any:
    """The context of the copy that stands for one of the run: its own, or one of its key in the cache."""
    if context.id == old:
        (found,) = store.get_contexts_by_id([new])
        return found
    if context.type == "execution_cache":
        (id,) = store.put_contexts([_without_id(context, name=uuid.uuid4().hex * 2)])
        (found,) = store.get_contexts_by_id([id])
        return found
    return context


def _changed(text: str, replaced: Mapping[str, str]) -> str:
    """A text with paths replaced, the longest first, none within a longer number."""
    for old in sorted(replaced, key=len, reverse=True):
        for end in ('"', "/", "\\"):
            text = text.replace(f"{old}{end}", f"{replaced[old]}{end}")
    return text


def summary(
    about: dict,
    real: int,
    kept: Mapping[str, int],
    counts: list[int],
    rooms: Mapping[int, Mapping[str, int]],
    times: Mapping[int, Mapping[str, list[dict[str, float]]]],
) -> dict[str, object]:
    """The result, see `benchmarks.report`.

    Args:
        about: the machine.
        real: how many runs were real.
        kept: the settings of retention.
        counts: of runs, at which times were measured.
        rooms: number of runs -> part -> bytes.
        times: number of runs -> what -> costs.
    """
    said = f"retention.runs={kept['runs']}, retention.versions={kept['versions']}"
    rows = [
        [
            f"{count}",
            *(f"{rooms[count][part] / 1e6:.1f}" for part in PARTS),
            f"{sum(rooms[count].values()) / 1e6:.1f}",
        ]
        for count in counts
    ]
    made = [
        {
            "title": f"MB on the disk; {said}; {real} real runs, the others copies",
            "columns": ["runs", "artifacts", "serving", "results and reports", "ML Metadata", "in all"],
            "rows": rows,
        }
    ]
    names = list(dict.fromkeys(name for count in counts for name in times[count]))
    for what, title in (("processor", "seconds of processor time"), ("seconds", "seconds by the clock")):
        rows = []
        for name in names:
            costs = [times[count].get(name) for count in counts]
            values = [_median(some).get(what) if some else None for some in costs]
            if any(value is not None for value in values):
                rows.append([name, *("" if value is None else f"{value:.2f}" for value in values)])
        columns = ["command", *(f"{count} runs" for count in counts)]
        made.append({"title": f"{title}, median of {REPEATS}, of runs one", "columns": columns, "rows": rows})
    return {
        "benchmark": "operation",
        "machine": about,
        "real": real,
        "retention": dict(kept),
        "rooms": {str(count): dict(parts) for count, parts in rooms.items()},
        "times": {str(count): dict(found) for count, found in times.items()},
        "tables": made,
    }


def _median(costs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(cost[key] for cost in costs) for key in costs[0]}


if __name__ == "__main__":
    main()
