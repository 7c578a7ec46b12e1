"""Strategies for TFX's Resolver: what came before the current artifact.

The stock strategies answer "the latest", which on a second, unchanged run is the current artifact itself: a model
would be compared with itself and nothing after it could come from the cache. "The latest before this one" has the
same answer however often the run is repeated.
"""

from __future__ import annotations

import ml_metadata
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common import resolver

CURRENT = "current"  # the key of the artifact that others must precede


class PreviousStatisticsStrategy(resolver.ResolverStrategy):
    """`statistics`: the latest that DataCheck accepted and that are older than the current ones; none at first.

    Those it refused do not count, or the same bad data would pass the second time.
    """

    def resolve_artifacts(
        self, store: ml_metadata.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        earlier = before(input_dict)["statistics"]
        accepted = read_by(store, [artifact.id for artifact in earlier], "DataCheck")
        found = latest([artifact for artifact in earlier if artifact.id in accepted])
        return {"statistics": found, CURRENT: input_dict[CURRENT]}


class PreviousBlessedModelStrategy(resolver.ResolverStrategy):
    """`model`: the latest model that an Evaluator blessed and that is older than the current one."""

    def resolve_artifacts(
        self, store: ml_metadata.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        blessed = {
            blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY): blessing
            for blessing in input_dict["model_blessing"]
            if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == constants.BLESSED_VALUE
        }
        models = latest([model for model in before(input_dict)["model"] if model.id in blessed])
        return {
            "model": models,
            "model_blessing": [blessed[model.id] for model in models],
            CURRENT: input_dict[CURRENT],
        }


class PreviousReportStrategy(resolver.ResolverStrategy):
    """`report`: the latest that is older than the current evaluation; none at first."""

    def resolve_artifacts(
        self, store: ml_metadata.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        return {"report": latest(before(input_dict)["report"]), CURRENT: input_dict[CURRENT]}


def before(input_dict: dict[str, list[types.Artifact]]) -> dict[str, list[types.Artifact]]:
    """The other artifacts that are older than every current one."""
    first = min((artifact.id for artifact in input_dict[CURRENT]), default=0)
    return {
        key: [artifact for artifact in artifacts if artifact.id < first]
        for key, artifacts in input_dict.items()
        if key != CURRENT
    }


def read_by(store: ml_metadata.MetadataStore, artifact_ids: list[int], node: str) -> set[int]:
    """Which of the artifacts were input of an execution of `node` that succeeded."""
    events = [
        event
        for event in store.get_events_by_artifact_ids(artifact_ids)
        if event.type == metadata_store_pb2.Event.INPUT
    ]
    executions = store.get_executions_by_id({event.execution_id for event in events})
    succeeded = {
        execution.id
        for execution in executions
        if execution.last_known_state in (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)
        and node_of(store, execution.id) == node
    }
    return {event.artifact_id for event in events if event.execution_id in succeeded}


def node_of(store: ml_metadata.MetadataStore, execution_id: int) -> str:
    """The id of the node that an execution is of; the store files it under "PIPELINE.NODE"."""
    contexts = store.get_contexts_by_execution(execution_id)
    return next(context.name for context in contexts if context.type == "node").split(".")[-1]


def latest(artifacts: list[types.Artifact]) -> list[types.Artifact]:
    """The newest artifact in a list of its own, or none."""
    return [max(artifacts, key=lambda artifact: artifact.id)] if artifacts else []
