"""Pusher: TFX's own, but it pushes atomically, only once, and nothing that people have decided against.

The stock executor copies file by file into the folder that the server watches, and pushes a second time whenever it
runs twice. This one lets a version appear at once (`components.pushing`), on a volume or in an object store, and
finds a model that is already there. With `push.approval: manual` the model waits (`components.decisions`).
"""

from __future__ import annotations

import pathlib
from typing import Any

from tfx import types
from tfx.components.pusher import executor as tfx_pusher
from tfx.dsl.components.base import base_component, executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import proto_utils

from components import decisions, pushing
from components.evaluation_report import Report
from core import who
from core.events import emit
from review.report import build
from storage import retention

REPORT, KEEP, APPROVAL, DECIDED, RUN = "report", "keep_versions", "approval", "decided", "run"
MANUAL = "manual"
# Custom properties of what was not pushed: where the model waits, or what people decided against it.
WAITS_IN, HELD = "waits_in", "held"


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
        base = destination.filesystem.base_directory
        run = exec_properties.get(RUN) or getattr(self._context, "pipeline_run_id", None) or ""
        facts, card = pushing.Facts(run), None
        if reports := input_dict.get(REPORT):
            facts = pushing.Facts.of_report(run, reports[0].uri)
            card = pathlib.Path(reports[0].uri, build.CARD).read_bytes()
        model = self.GetModelPath(input_dict)
        record = pushing.record_of(model, facts)
        with decisions.turn(base, of_run=True):
            decisions.settle(base)
            if why := decisions.held(base, record["fingerprint"]):
                self._hold(pushed, HELD, why)
                emit("note", text=f"the model is not pushed: {why}")
                return
            serves = decisions.serving_fingerprint(base) == record["fingerprint"]
            if exec_properties.get(APPROVAL) == MANUAL and not serves:
                self._hold(pushed, WAITS_IN, decisions.wait(model, base, record, card))
                return
            entry = {"kind": decisions.PUSHED, "by": who.name(), "reason": ""}
            path, version = decisions.decide(model, base, record, card, entry)
        self._MarkPushed(pushed, pushed_destination=path, pushed_version=version)
        retention.tidy(base, int(exec_properties.get(KEEP) or 0))

    def _hold(self, pushed: types.Artifact, name: str, value: str) -> None:
        self._MarkNotPushed(pushed)
        pushed.set_string_custom_property(name, value)


class PusherSpec(component_spec.ComponentSpec):
    """The interface of TFX's Pusher, the report whose model card goes with the model, and how many versions stay."""

    PARAMETERS = {
        **standard_component_specs.PusherSpec.PARAMETERS,
        KEEP: component_spec.ExecutionParameter(type=int),
        APPROVAL: component_spec.ExecutionParameter(type=str),
        DECIDED: component_spec.ExecutionParameter(type=str),
        RUN: component_spec.ExecutionParameter(type=str),
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
        self,
        push_destination: pusher_pb2.PushDestination,
        keep_versions: int = 0,
        approval: str = "none",
        decided: str = "",
        **inputs: types.BaseChannel,
    ) -> None:
        """Args:
        push_destination: with `filesystem.base_directory`.
        keep_versions: how many of the newest stay there, see `storage.retention`; 0: all.
        approval: "manual" lets a blessed model wait until somebody approves it.
        decided: changes with the decisions about that folder, for the cache.
        **inputs: of `PusherSpec`.
        """
        pushed = types.Channel(type=standard_artifacts.PushedModel)
        given = {"push_destination": push_destination, KEEP: keep_versions, APPROVAL: approval, DECIDED: decided}
        given[RUN] = ""  # an orchestrator that tells its executors nothing of the run puts the id there
        super().__init__(PusherSpec(**given, pushed_model=pushed, **inputs))
