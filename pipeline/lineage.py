"""What a run produced, read from ML Metadata and from the artifacts."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from typing import Any

import ml_metadata
from ml_metadata.proto import metadata_store_pb2

from components import evaluation, records
from components.previous import CURRENT, node_of
from components.pusher import HELD, WAITS_IN
from components.records import REPORT
from components.serving_check import RESULT
from review import results
from review.report.build import REPORT as REPORT_FILE

Artifact, Execution, Event = metadata_store_pb2.Artifact, metadata_store_pb2.Execution, metadata_store_pb2.Event
READ = (Event.INPUT, Event.INTERNAL_INPUT)
WRITTEN = (Event.OUTPUT, Event.INTERNAL_OUTPUT)
# What a resolver found is not its own work: it gets a name that says where it comes from.
RESOLVERS = {
    "Baseline": "baseline",
    "PreviousStatistics": "previous",
    "PreviousReport": "previous",
    "WarmStart": "warm start",
}

# What the evaluation in a run's results is read from: node and output.
EVALUATED = (("ImageExampleGen", "examples"), ("Evaluator", "evaluation"), ("Evaluator", "blessing"))


def tidy(store: ml_metadata.MetadataStore, root: pathlib.Path) -> None:
    """Closes the executions that a killed run left open, and removes their unfinished outputs.

    Args:
        store: of the working directory.
        root: the folder of the artifacts of all data.
    """
    for execution in store.get_executions():
        if execution.last_known_state != Execution.RUNNING:
            continue
        for folder in [*root.glob(f"*/*/*/{execution.id}"), *root.glob(f"*/*/.system/*/{execution.id}")]:
            shutil.rmtree(folder, ignore_errors=True)
        execution.last_known_state = Execution.CANCELED
        store.put_executions([execution])


def artifacts(store: ml_metadata.MetadataStore, run_id: str) -> dict[str, dict[str, metadata_store_pb2.Artifact]]:
    """The output artifacts of a run: node id -> output key -> artifact."""
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    if context is None:
        return {}
    found: dict[str, dict[str, metadata_store_pb2.Artifact]] = {}
    for execution in store.get_executions_by_context(context.id):
        node = node_of(store, execution.id)
        for event in store.get_events_by_execution_ids([execution.id]):
            if event.type in WRITTEN:
                (artifact,) = store.get_artifacts_by_id([event.artifact_id])
                found.setdefault(node, {})[event.path.steps[0].key] = artifact
    return found


def succeeded(store: ml_metadata.MetadataStore, run_id: str) -> set[str]:
    """The nodes of a run that ended well, or whose results were taken from an earlier one."""
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    done = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)
    executions = store.get_executions_by_context(context.id) if context else []
    return {node_of(store, one.id) for one in executions if one.last_known_state in done}


def first_writer(store: ml_metadata.MetadataStore, artifact: int) -> int:
    """The execution that made an artifact; later ones took it from the cache, or found it."""
    events = store.get_events_by_artifact_ids([artifact])
    return min(event.execution_id for event in events if event.type in WRITTEN)


def maker(store: ml_metadata.MetadataStore, artifact: int) -> str:
    """The id of the node that made an artifact."""
    return node_of(store, first_writer(store, artifact))


def last_run(store: ml_metadata.MetadataStore, pipeline: str) -> str | None:
    """The run id of the last run of the pipeline called so, whatever the clock said; None if there was none."""
    context = store.get_context_by_type_and_name("pipeline", pipeline)
    runs = store.get_children_contexts_by_context(context.id) if context else []
    latest = max((run.id, run.name) for run in runs if run.type == "pipeline_run") if runs else None
    return latest[1] if latest else None


def links(store: ml_metadata.MetadataStore, run_id: str) -> list[dict[str, object]]:
    """The artifacts of a run and all that they were made from, in the form of `review.report.schema.Artifact`.

    Every artifact is followed to the execution that made it, which for a cached one was in an earlier run.
    """
    names: dict[int, tuple[str, str]] = {}  # of the artifact: the node that made it, and the name of its output
    sources: dict[int, list[int]] = {}
    found = [artifact.id for made in artifacts(store, run_id).values() for artifact in made.values()]
    resolved = resolutions(store, run_id)
    while found:
        id = found.pop()
        if id in names:
            continue
        execution = first_writer(store, id)
        events = store.get_events_by_execution_ids([execution])
        (key,) = {event.path.steps[0].key for event in events if event.artifact_id == id and event.type in WRITTEN}
        names[id] = node_of(store, execution), key
        # What an earlier run's baseline was made from is that run's story.
        sources[id] = [] if id in resolved else [event.artifact_id for event in events if event.type in READ]
        found += sources[id]
    outputs = [key for id, (_, key) in names.items() if id not in resolved]

    def name(id: int) -> str:
        node, key = names[id]
        if id in resolved:
            return f"{resolved[id]} {key}"
        return key if outputs.count(key) == 1 else f"{key} of {node}"

    return [
        {
            "name": name(artifact.id),
            "type": artifact.type,
            "id": artifact.id,
            "uri": artifact.uri,
            "producer": names[artifact.id][0],
            "made_from": [name(source) for source in sources[artifact.id]],
        }
        for artifact in store.get_artifacts_by_id(sorted(names))
    ]


def resolutions(store: ml_metadata.MetadataStore, run_id: str) -> dict[int, str]:
    """The artifacts of earlier runs that the resolvers of a run found, and what they are called."""
    context = store.get_context_by_type_and_name("pipeline_run", run_id)
    found: dict[int, str] = {}
    if context is None:
        return found
    for execution in store.get_executions_by_context(context.id):
        node = node_of(store, execution.id)
        if node in RESOLVERS:
            for event in store.get_events_by_execution_ids([execution.id]):
                if event.type in WRITTEN and event.path.steps[0].key != CURRENT:
                    found[event.artifact_id] = RESOLVERS[node]
    return found


def summarise(store: ml_metadata.MetadataStore, run_id: str) -> dict[str, Any]:
    """The facts about a run that `review.results` makes its results of; a part that did not run is left out.

    Relative paths in ML Metadata are below the current folder.
    """
    found = artifacts(store, run_id)
    summary: dict[str, Any] = {}
    for key, node, output, file in (
        ("data", "ImageExampleGen", "examples", REPORT),
        ("serving_check", "ServingCheck", "blessing", RESULT),
        ("tuning", "Tuner", "tuner_results", "tuner_results.json"),
        ("recipe", "Trainer", "model_run", "recipe.json"),
        ("history", "Trainer", "model_run", "history.json"),
    ):
        if artifact := found.get(node, {}).get(output):
            path = pathlib.Path(artifact.uri, file)
            summary[key] = json.loads(path.read_text()) if path.is_file() else None
    if summary.get("tuning"):
        summary["tuning"] = results.trials(summary["tuning"])
    if trainer := found.get("Trainer"):
        summary["model"] = os.path.join(trainer["model"].uri, "Format-Serving")
        summary["tensorboard"] = trainer["model_run"].uri
    evaluated = [found[node][output] for node, output in EVALUATED if output in found.get(node, {})]
    if len(evaluated) == len(EVALUATED) and all(artifact.state == Artifact.LIVE for artifact in evaluated):
        examples, measured, blessing = evaluated
        summary |= evaluation.measured(
            measured.uri, records.duplicates(examples.uri), records.near_duplicates(examples.uri)
        )
        summary["blessed"] = blessing.custom_properties["blessed"].int_value == 1
    if report := found.get("EvaluationReport"):
        summary["report"] = report["report"].uri
        summary["lineage"] = links(store, run_id)
        summary["weak_slices"] = _weak_slices(pathlib.Path(report["report"].uri, REPORT_FILE))
    if pusher := found.get("Pusher"):
        properties = pusher["pushed_model"].custom_properties
        summary["pushed"] = None
        if properties["pushed"].int_value == 1:
            summary["pushed"] = {
                "path": properties["pushed_destination"].string_value,
                "version": properties["pushed_version"].string_value,
            }
        elif WAITS_IN in properties:
            summary["waiting"] = {"path": properties[WAITS_IN].string_value}
        elif HELD in properties:
            summary["held"] = properties[HELD].string_value
    return summary


def _weak_slices(report: pathlib.Path) -> dict[str, Any] | None:
    """Those of report.json, in the form of `review.report.schema.WeakSlices`; None if there are none."""
    if not report.is_file():
        return None
    return (json.loads(report.read_text()).get("evaluation") or {}).get("weak_slices")
