"""What stands in for TFX's resolvers, which open-source KFP does not execute: finding what earlier runs left.

A history is a folder that outlives the runs, on a volume or in an object store, with numbered versions: see
`storage.versions` and `storage.retention`, which this module alone of the layer needs. `Record` adds an artifact to a
history, `Latest` makes an artifact of the newest version in one. A folder that a Pusher fills through `publish` is a
history of models as it is.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec
from tfx.utils import io_utils

from storage import retention, versions


class LatestExecutor(base_executor.BaseExecutor):
    """Copies the newest version into the output; leaves it empty if there is none."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads `history`, writes into the one output, below `under`."""
        (found,) = output_dict.values()
        artifact = artifact_utils.get_single_instance(found)
        folder = exec_properties["history"]
        numbers = versions.versions(folder)
        if not numbers:
            return
        io_utils.copy_dir(
            os.path.join(folder, str(numbers[-1])), os.path.join(artifact.uri, exec_properties["under"])
        )
        beside = os.path.join(folder, f"{numbers[-1]}.json")
        if fileio.exists(beside):
            with fileio.open(beside, "r") as file:
                for name, value in json.loads(file.read()).items():
                    setattr(artifact, name, value)
        artifact.set_string_custom_property("version", str(numbers[-1]))


class RecordExecutor(base_executor.BaseExecutor):
    """Adds the input to a history, once."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads the one input, writes below `history`."""
        (found,) = input_dict.values()
        artifact = artifact_utils.get_single_instance(found)
        properties = {name: getattr(artifact, name) for name in artifact.PROPERTIES or ()}
        versions.record(artifact.uri, exec_properties["history"], properties)
        retention.tidy(exec_properties["history"], int(exec_properties["keep"]))


@functools.cache
def _latest_spec(kind: type[types.Artifact], key: str) -> type[component_spec.ComponentSpec]:
    parameters = {name: component_spec.ExecutionParameter(type=str) for name in ("history", "under")}
    outputs = {key: component_spec.ChannelParameter(type=kind)}
    return type(
        "LatestSpec", (component_spec.ComponentSpec,), {"PARAMETERS": parameters, "INPUTS": {}, "OUTPUTS": outputs}
    )


@functools.cache
def _record_spec(kind: type[types.Artifact]) -> type[component_spec.ComponentSpec]:
    parameters = {
        "history": component_spec.ExecutionParameter(type=str),
        "keep": component_spec.ExecutionParameter(type=int),
    }
    inputs = {"artifact": component_spec.ChannelParameter(type=kind)}
    return type(
        "RecordSpec", (component_spec.ComponentSpec,), {"PARAMETERS": parameters, "INPUTS": inputs, "OUTPUTS": {}}
    )


class Latest(base_component.BaseComponent):
    """The newest version of a history as an artifact; an empty one, which the entrypoint drops, if there is none.

    Compile it with caching off, or it would find the same for ever.
    """

    SPEC_CLASS = component_spec.ComponentSpec  # made for the type, see __init__
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(LatestExecutor)

    def __init__(self, kind: type[types.Artifact], key: str, history: str, under: str = "") -> None:
        """Args:
        kind: type of the artifact.
        key: name of the output.
        history: a folder of numbered versions.
        under: subfolder of the artifact that the files go to, such as "Format-Serving" for a Model.
        """
        self.SPEC_CLASS = _latest_spec(kind, key)  # type: ignore[arg-type]  # takes the artifacts' hash for the class's
        super().__init__(self.SPEC_CLASS(history=history, under=under, **{key: types.Channel(type=kind)}))


class Record(base_component.BaseComponent):
    """Adds an artifact to a history: complete or not at all, and not twice in a row. Old ones go."""

    SPEC_CLASS = component_spec.ComponentSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RecordExecutor)

    def __init__(self, artifact: types.BaseChannel, history: str, keep: int = 10) -> None:
        """Args:
        artifact: what to keep.
        history: the folder; made when needed.
        keep: how many of the newest stay, see `storage.retention`; 0: all.
        """
        self.SPEC_CLASS = _record_spec(artifact.type)  # type: ignore[arg-type]  # likewise
        super().__init__(self.SPEC_CLASS(artifact=artifact, history=history, keep=keep))
