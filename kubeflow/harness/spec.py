"""What the API server and the Argo compiler of KFP check before anything runs."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from . import cel
from . import pod as pods

ARGO_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")
RETRY = ("maxRetryCount", "backoffDuration", "backoffFactor", "backoffMaxDuration")
KINDS: dict[str, type | tuple[type, ...]] = {
    "STRING": str,
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
    "TASK_FINAL_STATUS": dict,
}
# Images that stand for what KFP's driver does itself.
BY_DRIVER = ("argostub/createpvc", "argostub/deletepvc")


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


def load(text: str, version: tuple[int, int] = (2, 17)) -> Pipeline:
    """A compiled pipeline, as KFP of this version takes it. Raises Refused."""
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
    if version < (2, 14) and any("taskFinalStatus" in str(task) for task in spec["root"]["dag"]["tasks"].values()):
        raise Refused("task final status not supported yet")
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
            values[name] = None
            continue
        if not fits(values[name], definition["parameterType"]):
            raise Refused(f"the parameter {name} is {values[name]!r}, not {definition['parameterType']}")
    return values


def fits(value: object, kind: str) -> bool:
    """Whether a value is of a parameter type."""
    found = KINDS.get(kind, object)
    return isinstance(value, found) and not (isinstance(value, bool) and kind.startswith("NUMBER"))


def plain_numbers(value: Any) -> Any:
    """A value as KFP writes it into JSON: 3.0 is 3."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [plain_numbers(part) for part in value]
    if isinstance(value, dict):
        return {key: plain_numbers(part) for key, part in value.items()}
    return value


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
        if "taskOutputArtifact" in value:
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
        try:
            json_format.ParseDict(found, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
        except json_format.ParseError as problem:
            raise Refused(f"{label}: not a KubernetesExecutorConfig: {problem}") from None
        for field in sorted(found.keys() & pods.IGNORED.keys()):
            raise Refused(f"{label}: KFP reads {field} and does nothing: use {pods.IGNORED[field]}")
        if unknown := sorted(found.keys() - pods.KNOWN):
            raise Refused(f"{label}: {', '.join(unknown)} of the platform spec is not done here")
    return executors


def _check_dag(pipeline: Pipeline, dag: Mapping[str, Any], inputs: Mapping[str, Any] | None = None) -> None:
    if inputs is None:
        inputs = pipeline.spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, task in dag["tasks"].items():
        if not ARGO_NAME.fullmatch(name):
            raise Refused(f"{name}: Argo allows only letters, digits and - in the name of a task")
        if "artifactIterator" in task:
            raise Refused(f"{name}: artifact iterator not implemented")
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
            if "{{$.workspace_path}}" in str(value):
                raise Refused(f"{name}: workspaces are not executed here")
        _check_order(dag, name, task)
        if condition := task.get("triggerPolicy", {}).get("condition"):
            try:
                cel.parse(condition)
            except cel.CelError as problem:
                raise Refused(f"{name}: {problem}") from None
        if "retryPolicy" in task and any(key not in task["retryPolicy"] for key in RETRY):
            raise Refused(f"{name}: retryPolicy needs all of {', '.join(RETRY)}")
        if "dag" in component:
            inner = component.get("inputDefinitions", {}).get("parameters", {})
            _check_dag(pipeline, component["dag"], inner)
            continue
        if "parameterIterator" in task:
            raise Refused(f"{name}: loops over anything but a DAG are not executed here")
        if any(one["parameterType"] == "TASK_CONFIG" for one in _parameters(component)):
            raise Refused(f"{name}: inputs of the type TASK_CONFIG are not executed here")
        try:
            executor = pipeline.executor(component)
        except KeyError:
            raise Refused(f"{name}: executor not found in deployment config") from None
        if not executor.keys() & {"container", "importer"}:
            raise Refused(f"{name}: non-container and non-importer executor not implemented")
        if "condition" in task.get("triggerPolicy", {}) and "importer" in executor:
            raise Refused(f"{name}: triggerPolicy.condition on importer task is not supported")
        if executor.get("container", {}).get("image") in BY_DRIVER:
            raise Refused(f"{name}: volumes that the pipeline itself makes are not made here")
        if "lifecycle" in executor.get("container", {}):
            raise Refused(f"{name}: lifecycle hooks never run on open-source KFP; ExampleGen would find no data")
    order(dag)


def _parameters(component: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from component.get("inputDefinitions", {}).get("parameters", {}).values()


def _check_order(dag: Mapping[str, Any], name: str, task: Mapping[str, Any]) -> None:
    """Argo runs an exit task as a hook of another one, outside of the DAG."""
    if is_exit(task) and len(task.get("dependentTasks", [])) != 1:
        raise Refused(f"{name}: an exit task that waits for several tasks, or for none, is not executed here")
    for producer in producers(task):
        if not is_exit(task) and producer in dag["tasks"] and is_exit(dag["tasks"][producer]):
            raise Refused(f"{name}: it waits for the exit task {producer}, which is not part of the DAG")
