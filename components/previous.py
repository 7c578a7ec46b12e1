"""Strategies for TFX's Resolver: what came before the current artifact.

The stock strategies answer "the latest", which on a second, unchanged run is the current artifact itself: a model
would be compared with itself and nothing after it could come from the cache. "The latest before this one" has the
same answer however often the run is repeated.
"""

from __future__ import annotations

import os
import re

import ml_metadata
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.common import resolver
from tfx.utils import path_utils

from components import decisions, pushing
from core.events import emit
from storage import versions

CURRENT = "current"  # the key of the artifact that others must precede


class PreviousStatisticsStrategy(resolver.ResolverStrategy):
    """`statistics`: the latest that DataCheck accepted and that are older than the current ones; none at first.

    Those it refused do not count, or the same bad data would pass the second time.
    """

    def resolve_artifacts(
        self, store: ml_metadata.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        earlier = before(input_dict)["statistics"]
        gone = lost(store, input_dict, "ExampleStatistics")
        accepted = read_by(store, [artifact.id for artifact in [*earlier, *gone]], "DataCheck")
        found = latest([artifact for artifact in earlier if artifact.id in accepted])
        tell("previous statistics", found, [artifact for artifact in gone if artifact.id in accepted])
        return {"statistics": found, CURRENT: input_dict[CURRENT]}


class PreviousBlessedModelStrategy(resolver.ResolverStrategy):
    """`model`: the model that serves, or would if the current one and later ones had not been pushed.

    Where none was pushed that is still known, it is the latest that an Evaluator blessed, that is older than the
    current one, and that nobody rejected or rolled back. Without a current one, all count.
    """

    def __init__(self, push: str = "") -> None:
        """Args:
        push: the folder of versions for servers; "": none is known.
        """
        self._push = push

    def resolve_artifacts(
        self, store: ml_metadata.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        blessed = {
            blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY): blessing
            for blessing in input_dict["model_blessing"]
            if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == constants.BLESSED_VALUE
        }
        current = input_dict.get(CURRENT, [])
        earlier = before(input_dict)["model"] if current else input_dict["model"]
        models = self._served(earlier, current)
        if not models:
            out = self._taken_out()
            models = latest([one for one in earlier if one.id in blessed and filed(one.uri) not in out])
            if current:
                tell("baseline model", models, lost_models(store, input_dict))
        found = {
            "model": models,
            "model_blessing": [blessed[model.id] for model in models if model.id in blessed],
        }
        return {**found, CURRENT: current} if current else found

    def _served(self, earlier: list[types.Artifact], current: list[types.Artifact]) -> list[types.Artifact]:
        """The model of the newest version, but for versions of the current model and of later ones."""
        known = {filed(model.uri): model for model in earlier}
        with pushing.told():
            numbers = versions.versions(self._push) if self._push else []
        for number in reversed(numbers):
            record = pushing.read(os.path.join(self._push, str(number))) or {}
            place = filed(record.get("model", ""))
            if model := known.get(place):
                path = path_utils.serving_model_path(model.uri)
                if versions.fingerprint(path) == record["fingerprint"]:
                    return [model]
            if not any(is_later(place, filed(one.uri)) for one in current):
                return []  # of another pipeline, or gone
        return []

    def _taken_out(self) -> set[str]:
        """Where the models were made that people have rejected or rolled back."""
        if not self._push:
            return set()
        found = set()
        for digest, entry in decisions.standing(decisions.log(self._push)).items():
            told = [entry, *entry.get("withdrawn", ())]
            found |= {filed(one.get("model", "")) for one in told if one.get("fingerprint") == digest}
        return found


class PreviousReportStrategy(resolver.ResolverStrategy):
    """`report`: the latest that is older than the current evaluation; none at first."""

    def resolve_artifacts(
        self, store: ml_metadata.MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        found = latest(before(input_dict)["report"])
        tell("previous report", found, lost(store, input_dict, "alexnet.EvaluationReport"))
        return {"report": found, CURRENT: input_dict[CURRENT]}


def filed(uri: str) -> str:
    """How TFX filed an artifact, wherever the working directory was then: artifacts/DATA/NODE/OUTPUT/EXECUTION."""
    found = re.search(r"(?:^|/)(artifacts/[^/]+/[^/]+/[^/]+/\d+)(?:/|$)", uri)
    return found[1] if found else ""


def is_later(place: str, other: str) -> bool:
    """Whether an artifact is another, or was made after it by the same node; both as `filed`."""
    (folder, _, number), (others, _, first) = place.rpartition("/"), other.rpartition("/")
    return folder == others and bool(folder) and int(number) >= int(first)


def before(input_dict: dict[str, list[types.Artifact]]) -> dict[str, list[types.Artifact]]:
    """The other artifacts that are older than every current one."""
    first = oldest(input_dict[CURRENT])
    return {
        key: [artifact for artifact in artifacts if artifact.id < first]
        for key, artifacts in input_dict.items()
        if key != CURRENT
    }


def oldest(artifacts: list[types.Artifact]) -> int:
    """The lowest id; 0 of none."""
    return min((artifact.id for artifact in artifacts), default=0)


def lost(
    store: ml_metadata.MetadataStore, input_dict: dict[str, list[types.Artifact]], kind: str
) -> list[metadata_store_pb2.Artifact]:
    """The artifacts of a type that would count as earlier ones if their files were still there."""
    return [
        artifact
        for artifact in same_pipeline(store, input_dict, kind)
        if artifact.state == metadata_store_pb2.Artifact.DELETED and artifact.id < oldest(input_dict[CURRENT])
    ]


def lost_models(
    store: ml_metadata.MetadataStore, input_dict: dict[str, list[types.Artifact]]
) -> list[metadata_store_pb2.Artifact]:
    """The blessed models before the current one that are no longer there, or whose blessing is not."""
    current_model = constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY
    is_blessed = constants.ARTIFACT_PROPERTY_BLESSED_KEY
    usable = {
        blessing.get_int_custom_property(current_model)
        for blessing in input_dict["model_blessing"]
        if blessing.get_int_custom_property(is_blessed) == constants.BLESSED_VALUE
    }
    blessed = {
        blessing.custom_properties[current_model].int_value
        for blessing in same_pipeline(store, input_dict, "ModelBlessing")
        if blessing.custom_properties[is_blessed].int_value == constants.BLESSED_VALUE
    }
    return [
        model
        for model in same_pipeline(store, input_dict, "Model")
        if model.id < oldest(input_dict[CURRENT])
        and model.id in blessed
        and (model.state == metadata_store_pb2.Artifact.DELETED or model.id not in usable)
    ]


def same_pipeline(
    store: ml_metadata.MetadataStore, input_dict: dict[str, list[types.Artifact]], kind: str
) -> list[metadata_store_pb2.Artifact]:
    """The artifacts of a type that runs on the same data made, whether they are still there or not."""
    contexts = [
        context
        for artifact in input_dict[CURRENT][:1]
        for context in store.get_contexts_by_artifact(artifact.id)
        if context.type == "pipeline"
    ]
    return [
        artifact
        for context in contexts
        for artifact in store.get_artifacts_by_context(context.id)
        if artifact.type == kind
    ]


def tell(what: str, found: list[types.Artifact], gone: list[metadata_store_pb2.Artifact]) -> None:
    """Says so if a later one than what was found is gone.

    Args:
        what: is looked for.
        found: what is taken: one or none.
        gone: of the earlier ones.
    """
    if missing := max((artifact.id for artifact in gone), default=0):
        (place,) = (os.path.abspath(artifact.uri) for artifact in gone if artifact.id == missing)
        if not found:
            emit("warning", text=f"the {what} in {place} can no longer be used, and there is no earlier one")
        elif found[0].id < missing:
            other = os.path.abspath(found[0].uri)
            emit("warning", text=f"the {what} in {place} can no longer be used; {other} is used instead")


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
