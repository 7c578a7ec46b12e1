"""What a run produced, read from ML Metadata and from the artifacts."""

from __future__ import annotations

import json
import os
import pathlib
import shutil

import ml_metadata
from ml_metadata.proto import metadata_store_pb2

from components.example_gen import REPORT
from components.previous import node_of
from components.serving_check import RESULT
from pipeline import evaluation

Execution = metadata_store_pb2.Execution


def tidy(store: ml_metadata.MetadataStore, root: pathlib.Path) -> None:
    """Closes the executions that a killed run left open, and removes their unfinished outputs below `root`."""
    for execution in store.get_executions():
        if execution.last_known_state != Execution.RUNNING:
            continue
        for folder in [*root.glob(f"*/*/{execution.id}"), *root.glob(f"*/.system/*/{execution.id}")]:
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
            if event.type in (metadata_store_pb2.Event.OUTPUT, metadata_store_pb2.Event.INTERNAL_OUTPUT):
                (artifact,) = store.get_artifacts_by_id([event.artifact_id])
                found.setdefault(node, {})[event.path.steps[0].key] = artifact
    return found


def summarise(store: ml_metadata.MetadataStore, run_id: str) -> dict[str, object]:
    """The facts about a run that `pipeline.results` makes its results of; a part that did not run is left out."""
    found = artifacts(store, run_id)
    summary: dict[str, object] = {}
    for key, node, output, file in (
        ("data", "ImageExampleGen", "examples", REPORT),
        ("serving_check", "ServingCheck", "blessing", RESULT),
        ("history", "Trainer", "model_run", "history.json"),
    ):
        if artifact := found.get(node, {}).get(output):
            path = pathlib.Path(artifact.uri, file)
            summary[key] = json.loads(path.read_text()) if path.is_file() else None
    if trainer := found.get("Trainer"):
        summary["model"] = os.path.join(trainer["model"].uri, "Format-Serving")
        summary["tensorboard"] = trainer["model_run"].uri
    if evaluator := found.get("Evaluator"):
        path = evaluator["evaluation"].uri
        for key in (evaluation.CANDIDATE, evaluation.BASELINE):
            loaded = evaluation.load(path, key)
            summary[key] = vars(loaded) if loaded else None
        summary["blessed"] = evaluator["blessing"].custom_properties["blessed"].int_value == 1
        summary["evaluation"] = path
    if pusher := found.get("Pusher"):
        properties = pusher["pushed_model"].custom_properties
        summary["pushed"] = None
        if properties["pushed"].int_value == 1:
            summary["pushed"] = {
                "path": properties["pushed_destination"].string_value,
                "version": properties["pushed_version"].string_value,
            }
    return summary
