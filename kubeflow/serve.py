"""A node after Pusher that serves what was pushed with KServe (`kubeflow.inference`)."""

from __future__ import annotations

from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from . import inference

PUSHED, VERSION = "pushed", "pushed_version"  # TFX's Pusher sets these


class Executor(base_executor.BaseExecutor):
    """Applies an InferenceService if a model was pushed."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads `pushed_model`, `name`, `storage_uri` and `namespace`. Raises kubeflow.inference.InferenceError."""
        pushed = artifact_utils.get_single_instance(input_dict["pushed_model"])
        if not pushed.get_custom_property(PUSHED):
            logging.info("No model was pushed, so what is served stays as it is.")
            return
        uri = exec_properties["storage_uri"]
        # On a volume the running server finds the new version; a change here would start it anew.
        version = "" if uri.startswith("pvc://") else str(pushed.get_custom_property(VERSION) or "")
        service = inference.render(exec_properties["name"], uri, version, namespace=exec_properties["namespace"])
        inference.apply(service)
        logging.info("Applied the InferenceService %s.", exec_properties["name"])


class _Spec(component_spec.ComponentSpec):
    PARAMETERS = {key: component_spec.ExecutionParameter(type=str) for key in ("name", "storage_uri", "namespace")}
    INPUTS = {"pushed_model": component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}
    OUTPUTS = {}


class InferenceService(base_component.BaseComponent):
    """Creates or updates an InferenceService in the cluster that the pipeline runs in; compile it with caching off.

    The service account of the run needs the right to do so: see manifests/base/service-account.yaml.
    """

    SPEC_CLASS = _Spec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, pushed_model: types.BaseChannel, name: str, storage_uri: str, namespace: str = "") -> None:
        """Args:
        pushed_model: Pusher's output.
        name: of the InferenceService.
        storage_uri: the folder that Pusher pushes to, as KServe calls it: pvc://CLAIM/FOLDER, s3://..., gs://...
        namespace: default: that of the run.
        """
        super().__init__(_Spec(pushed_model=pushed_model, name=name, storage_uri=storage_uri, namespace=namespace))
