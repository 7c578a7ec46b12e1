"""Pusher: TFX's own, but it pushes atomically and only once.

The stock executor copies file by file into the folder that the server watches, and pushes a second time whenever it
runs twice. This one copies beside it and renames, and finds a model that is already there.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

from tfx import types
from tfx.components.pusher import executor as tfx_pusher
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import io_utils, proto_utils

from components.evaluation_report import Report
from components.report import build
from kubeflow.baseline import fingerprint, versions  # of any folder of numbered versions

RECORD = os.path.join("assets.extra", "pushed.json")
CARD = os.path.join("assets.extra", build.CARD)
REPORT = "report"


class Executor(tfx_pusher.Executor):
    """Pushes a blessed model into `BASE/VERSION`, the layout of TensorFlow Serving."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """As TFX's own, with `push_destination.filesystem.base_directory`; not blessed means not pushed."""
        pushed = artifact_utils.get_single_instance(output_dict[standard_component_specs.PUSHED_MODEL_KEY])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination)
        reports = input_dict.get(REPORT)
        card = os.path.join(reports[0].uri, build.CARD) if reports else None
        path, version = push(self.GetModelPath(input_dict), destination.filesystem.base_directory, card)
        self._MarkPushed(pushed, pushed_destination=path, pushed_version=version)


class PusherSpec(component_spec.ComponentSpec):
    """The interface of TFX's Pusher, and the report whose model card goes with the model."""

    PARAMETERS = standard_component_specs.PusherSpec.PARAMETERS
    INPUTS = {
        **standard_component_specs.PusherSpec.INPUTS,
        REPORT: component_spec.ChannelParameter(type=Report, optional=True),
    }
    OUTPUTS = standard_component_specs.PusherSpec.OUTPUTS


class Pusher(base_component.BaseComponent):
    """TFX's Pusher with the executor and the interface above."""

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, push_destination: pusher_pb2.PushDestination, **inputs: types.BaseChannel) -> None:
        """Args:
        push_destination: with `filesystem.base_directory`.
        **inputs: of `PusherSpec`.
        """
        pushed = types.Channel(type=standard_artifacts.PushedModel)
        super().__init__(PusherSpec(push_destination=push_destination, pushed_model=pushed, **inputs))


def push(model: str, base: str, card: str | None = None) -> tuple[str, str]:
    """Makes the SavedModel `model` the newest version below `base`.

    A version appears complete or not at all: it is copied under a name that servers ignore, then renamed. A model
    with the same content as the newest version is not pushed again.

    Args:
        model: a folder.
        base: the folder that servers watch.
        card: the model card, a Markdown file; it is put into `assets.extra/`.

    Returns:
        The path of the version, and its number as text.
    """
    digest = fingerprint(model)
    existing = versions(base)
    if existing and pushed_fingerprint(base, existing[-1]) == digest:
        return os.path.join(base, str(existing[-1])), str(existing[-1])
    incoming = os.path.join(base, f".incoming-{uuid.uuid4().hex}")
    fileio.makedirs(base)
    try:
        io_utils.copy_dir(model, incoming)
        fileio.makedirs(os.path.join(incoming, os.path.dirname(RECORD)))
        with fileio.open(os.path.join(incoming, RECORD), "w") as file:
            file.write(json.dumps({"fingerprint": digest, "model": model}))
        if card:
            fileio.copy(card, os.path.join(incoming, CARD))
        # Seconds since 1970 as everywhere in TFX, but always above what is there.
        version = max([int(time.time()), *(number + 1 for number in existing)])
        path = os.path.join(base, str(version))
        fileio.rename(incoming, path)
    finally:
        if fileio.exists(incoming):
            fileio.rmtree(incoming)
    return path, str(version)


def pushed_fingerprint(base: str, version: int) -> str:
    """Of a version that `push` made; "" for any other."""
    path = os.path.join(base, str(version), RECORD)
    if not fileio.exists(path):
        return ""
    with fileio.open(path, "r") as file:
        return json.loads(file.read())["fingerprint"]
