"""Pusher: TFX's own, but it pushes atomically and only once.

The stock executor copies file by file into the folder that the server watches, and pushes a second time whenever it
runs twice. This one lets a version appear at once (`storage.versions.publish`), on a volume or in an object store,
and finds a model that is already there.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from tfx import types
from tfx.components.pusher import executor as tfx_pusher
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import proto_utils

from components.evaluation_report import Report
from core import walk
from core.errors import UserError
from review.report import build
from storage import retention, versions
from storage.object_store import ObjectStoreError

RECORD = os.path.join("assets.extra", "pushed.json")
CARD = os.path.join("assets.extra", build.CARD)
REPORT, KEEP = "report", "keep_versions"


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
        retention.tidy(destination.filesystem.base_directory, int(exec_properties.get(KEEP) or 0))


class PusherSpec(component_spec.ComponentSpec):
    """The interface of TFX's Pusher, the report whose model card goes with the model, and how many versions stay."""

    PARAMETERS = {
        **standard_component_specs.PusherSpec.PARAMETERS,
        KEEP: component_spec.ExecutionParameter(type=int),
    }
    INPUTS = {
        **standard_component_specs.PusherSpec.INPUTS,
        REPORT: component_spec.ChannelParameter(type=Report, optional=True),
    }
    OUTPUTS = standard_component_specs.PusherSpec.OUTPUTS


class Pusher(base_component.BaseComponent):
    """TFX's Pusher with the executor and the interface above."""

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self, push_destination: pusher_pb2.PushDestination, keep_versions: int = 0, **inputs: types.BaseChannel
    ) -> None:
        """Args:
        push_destination: with `filesystem.base_directory`.
        keep_versions: how many of the newest stay there, see `storage.retention`; 0: all.
        **inputs: of `PusherSpec`.
        """
        pushed = types.Channel(type=standard_artifacts.PushedModel)
        given = {"push_destination": push_destination, KEEP: keep_versions}
        super().__init__(PusherSpec(**given, pushed_model=pushed, **inputs))


def push(model: str, base: str, card: str | None = None) -> tuple[str, str]:
    """Makes the SavedModel `model` the newest version below `base`.

    A version appears complete or not at all. A model with the same content as the newest version is not pushed again.

    Args:
        model: a folder.
        base: the folder that servers watch, or a folder in an object store, such as s3://BUCKET/FOLDER.
        card: the model card, a Markdown file; it is put into `assets.extra/`.

    Returns:
        The path of the version, and its number as text.

    Raises:
        UserError: the object store is not there, or refuses.
    """
    digest = versions.fingerprint(model)

    def known(version: str) -> str:
        """A version of this very model counts as pushed only while all its files are there."""
        whole = walk.missing(pathlib.Path(version), walk.contents(pathlib.Path(model))) is None
        return pushed_fingerprint(version) if whole else ""

    extra = {RECORD: json.dumps({"fingerprint": digest, "model": model}).encode()}
    if card:
        extra[CARD] = pathlib.Path(card).read_bytes()
    try:
        version = str(versions.publish(model, base, digest, extra, known=known))
    except ObjectStoreError as problem:
        raise UserError(str(problem)) from None
    return os.path.join(base, version), version


def pushed_fingerprint(version: str) -> str:
    """Of the model in the folder of a version that `push` made; "" for any other, and where that is damaged."""
    path = os.path.join(version, RECORD)
    if not fileio.exists(path):
        return ""
    try:
        with fileio.open(path, "r") as file:
            return json.loads(file.read())["fingerprint"]
    except (ValueError, KeyError, TypeError):
        return ""
