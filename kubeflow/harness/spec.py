"""What the API server and the Argo compiler of KFP check before anything runs."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

ARGO_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")
RETRY = ("maxRetryCount", "backoffDuration", "backoffFactor", "backoffMaxDuration")
KINDS = {
    "STRING": str,
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}
# The fields of kfp-kubernetes' KubernetesExecutorConfig that the harness knows.
PLATFORM = {
    "activeDeadlineSeconds", "configMapAsEnv", "configMapAsVolume", "emptyDirMounts", "enabledSharedMemory",
    "fieldPathAsEnv", "genericEphemeralVolume", "imagePullPolicy", "imagePullSecret", "nodeAffinity", "nodeSelector",
    "podAffinity", "podMetadata", "pvcMount", "secretAsEnv", "secretAsVolume", "tolerations",
}  # fmt: skip


class Refused(ValueError):
    """KFP would not take this pipeline or this run."""


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A pipeline that passed the checks: KFP's spec, and the platform spec of each executor label."""

    spec: dict[str, Any]
    platform: dict[str, dict]

    @property
    def name(self) -> str:
        return self.spec["pipelineInfo"]["name"]

    def executor(self, component: Mapping[str, Any]) -> dict:
        """Of a component that is no DAG."""
        return self.spec["deploymentSpec"]["executors"][component["executorLabel"]]

    def component(self, task: Mapping[str, Any]) -> dict:
        """That a task is made from."""
        return self.spec["components"][task["componentRef"]["name"]]


def load(text: str) -> Pipeline:
    """A compiled pipeline. Raises Refused."""
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as problem:
        raise Refused(f"not YAML: {problem}") from None
    spec = documents[0]
    if not isinstance(spec, dict) or "pipelineSpec" in spec:
        raise Refused("a PipelineJob, or something else: the API server takes a bare PipelineSpec")
    try:
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(spec.get("deploymentSpec", {}), pipeline_spec_pb2.PipelineDeploymentConfig())
    except json_format.ParseError as problem:
        raise Refused(f"not a PipelineSpec: {problem}") from None
    if spec.get("schemaVersion") != "2.1.0":
        raise Refused(f"schemaVersion is {spec.get('schemaVersion')}, not 2.1.0")
    if not spec.get("pipelineInfo", {}).get("name"):
        raise Refused("pipelineInfo.name is empty")
    platform = _platform(documents[1:])
    pipeline = Pipeline(spec, platform)
    _check_dag(pipeline, spec["root"]["dag"])
    labels = {component["executorLabel"] for component in spec["components"].values() if "executorLabel" in component}
    if unknown := platform.keys() - labels:
        raise Refused(f"the platform spec names executors that do not exist: {sorted(unknown)}")
    return pipeline


def parameters(pipeline: Pipeline, given: Mapping[str, object]) -> dict[str, object]:
    """The values of the pipeline's parameters for a run. Raises Refused."""
    defined = pipeline.spec["root"].get("inputDefinitions", {}).get("parameters", {})
    if unknown := given.keys() - defined.keys():
        raise Refused(f"parameters that the pipeline does not have: {sorted(unknown)}")
    values = {}
    for name, definition in defined.items():
        if name in given:
            values[name] = given[name]
        elif "defaultValue" in definition:
            values[name] = definition["defaultValue"]
        elif not definition.get("isOptional"):
            raise Refused(f"the parameter {name} has neither a value nor a default")
        else:
            continue
        kind = KINDS.get(definition["parameterType"], object)
        if not isinstance(values[name], kind) or (isinstance(values[name], bool) and kind is not bool):
            raise Refused(f"the parameter {name} is {values[name]!r}, not {definition['parameterType']}")
    return values


def order(dag: Mapping[str, Any]) -> list[str]:
    """The names of the tasks, each after those it needs. Raises Refused for a circle."""
    needed = {name: set(producers(task)) for name, task in dag["tasks"].items()}
    found: list[str] = []
    while needed:
        ready = sorted(name for name, others in needed.items() if others <= set(found))
        if not ready:
            raise Refused(f"tasks wait for each other, or for tasks that do not exist: {sorted(needed)}")
        found += ready
        for name in ready:
            del needed[name]
    return found


def producers(task: Mapping[str, Any]) -> Iterator[str]:
    """The names of the tasks that a task needs."""
    yield from task.get("dependentTasks", [])
    inputs = task.get("inputs", {})
    for value in inputs.get("artifacts", {}).values():
        yield value["taskOutputArtifact"]["producerTask"]
    for value in inputs.get("parameters", {}).values():
        if "taskOutputParameter" in value:
            yield value["taskOutputParameter"]["producerTask"]


def is_exit(task: Mapping[str, Any]) -> bool:
    """Whether a task runs at the end whatever happened."""
    return task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"


def _platform(documents: list) -> dict[str, dict]:
    if not documents:
        return {}
    if len(documents) > 1:
        raise Refused("more than two documents")
    try:
        ((kind, kubernetes),) = documents[0]["platforms"].items()
        executors = kubernetes["deploymentSpec"]["executors"]
    except (KeyError, TypeError, ValueError):
        raise Refused("the second document is no platform spec") from None
    if kind != "kubernetes":
        raise Refused(f"an unknown platform: {kind}")
    for label, found in executors.items():
        if unknown := found.keys() - PLATFORM:
            raise Refused(f"{label}: unknown fields in the platform spec: {sorted(unknown)}")
    return executors


def _check_dag(pipeline: Pipeline, dag: Mapping[str, Any], inputs: Mapping[str, Any] | None = None) -> None:
    if inputs is None:
        inputs = pipeline.spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, task in dag["tasks"].items():
        if not ARGO_NAME.fullmatch(name):
            raise Refused(f"{name}: Argo allows only letters, digits and - in the name of a task")
        if "iterator" in task or "artifactIterator" in task or "parameterIterator" in task:
            raise Refused(f"{name}: loops are not executed here")
        try:
            component = pipeline.component(task)
        except KeyError:
            raise Refused(f"{name}: its component does not exist") from None
        for value in task.get("inputs", {}).get("parameters", {}).values():
            if "componentInputParameter" in value and value["componentInputParameter"] not in inputs:
                raise Refused(
                    f"{name}: the parent DAG does not have the parameter {value['componentInputParameter']}"
                )
            if "runtimeValue" in value and "constant" not in value["runtimeValue"]:
                raise Refused(f"{name}: param runtime value spec not implemented: {json.dumps(value)}")
        if "retryPolicy" in task and any(key not in task["retryPolicy"] for key in RETRY):
            raise Refused(f"{name}: retryPolicy needs all of {', '.join(RETRY)}")
        if "dag" in component:
            inner = component.get("inputDefinitions", {}).get("parameters", {})
            _check_dag(pipeline, component["dag"], inner)
            continue
        try:
            executor = pipeline.executor(component)
        except KeyError:
            raise Refused(f"{name}: executor not found in deployment config") from None
        if not executor.keys() & {"container", "importer"}:
            raise Refused(f"{name}: non-container and non-importer executor not implemented")
        if "condition" in task.get("triggerPolicy", {}):
            if "importer" in executor:
                raise Refused(f"{name}: triggerPolicy.condition on importer task is not supported")
            raise Refused(f"{name}: conditions are not executed here")
        if "lifecycle" in executor.get("container", {}):
            raise Refused(f"{name}: lifecycle hooks never run on open-source KFP; ExampleGen would find no data")
    order(dag)
