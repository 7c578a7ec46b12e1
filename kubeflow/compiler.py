"""Compiles a TFX pipeline for open-source Kubeflow Pipelines v2 (2.5 and newer).

TFX's KubeflowV2DagRunner writes for Vertex. What it writes is completed here so that the API server, driver and
launcher of open-source KFP take it: parameters keep their defaults, tasks get resources, retries and caching, and
what Kubernetes alone understands goes into a second YAML document, with the field names of kfp-kubernetes. The
containers start with `kubeflow.entrypoint`, which mends what KFP hands to TFX at run time.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.components import InfraValidator
from tfx.components.example_gen.component import FileBasedExampleGen
from tfx.dsl.components.base import base_node
from tfx.dsl.components.common import importer, resolver
from tfx.dsl.experimental.conditionals import conditional
from tfx.orchestration import data_types
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.v2 import compiler_utils, kubeflow_v2_dag_runner
from tfx.types import artifact
from tfx.utils import name_utils

from .options import (
    BEAM,
    BEAM_KEY,
    CREATED,
    DUE,
    RUN_ID,
    RUN_NAME,
    RUN_UUID,
    STATUS,
    TOLD,
    Beam,
    CompileError,
    ExitTask,
    Options,
    Parameter,
    Retry,
    SecretEnv,
    SecretFiles,
    Task,
    Toleration,
    Volume,
    quantity,
)

__all__ = [
    "CREATED", "DUE", "RUN_ID", "RUN_NAME", "RUN_UUID", "STATUS", "Beam", "CompileError", "ExitTask", "Options",
    "Parameter", "Retry", "SecretEnv", "SecretFiles", "Task", "Toleration", "Volume", "compile",
]  # fmt: skip

DAG = "tfx-dag"  # the sub-DAG that an exit task waits for
SPEC = "--json_serialized_inputs_spec_args"  # TFX's argument
CLASSES, TARGETS, DRIVER = "--artifact_classes", "--parameter_targets", "--example_gen_driver"  # our entrypoint's

TASK_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")  # Argo builds names of Kubernetes objects of it
PIPELINE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,126}[a-z0-9])?")
PARAMETER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# TFX's own rule for titles of custom types: two parts, at least three characters each.
TYPE_NAME = re.compile(r"[a-z][a-z0-9_-]{2,20}[.][A-Z][a-zA-Z0-9_-]{2,49}")


def compile(pipeline: tfx_pipeline.Pipeline, options: Options) -> str:
    """The pipeline as YAML: KFP's pipeline spec, and a second document for Kubernetes if anything needs one.

    The same pipeline and options give the same text. The pipeline root is not part of it; give it with each run.

    Raises:
        CompileError: a resolver, a condition on an importer, an illegal name, ...
    """
    nodes = {node.id: node for node in pipeline.components}
    _check(pipeline, nodes, options)
    config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
        default_image=options.image, default_commands=list(options.command), use_pipeline_spec_2_1=True
    )
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(config)
    spec = runner.run(pipeline, write_out=False)["pipelineSpec"]
    executors = spec["deploymentSpec"]["executors"]
    platform = {}
    for name, node in nodes.items():
        task = options.tasks.get(name, options.default)
        component = spec["components"][name]
        label = component["executorLabel"]
        _optional(node, component)
        _task(spec["root"]["dag"]["tasks"][name], task)
        if container := executors[label].get("container"):
            _arguments(node, component, container)
            _container(container, task)
            platform[label] = _kubernetes(task, options)
    for target, fact in options.told.items():
        _tell(target, fact, spec)
    inputs = _runtime_parameters(nodes)
    for parameter in options.parameters:
        if parameter.name in inputs:
            raise CompileError(f"There are two parameters called {parameter.name}.")
        inputs[parameter.name] = _reach(parameter, spec)
    if inputs:
        spec["root"]["inputDefinitions"] = {"parameters": inputs}
    if options.exit_task:
        platform |= _exit(spec, options, options.exit_task, inputs)
    try:
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as problem:
        raise CompileError(f"KFP's pipeline spec does not allow this: {problem}") from None
    documents = [spec]
    platform = {label: found for label, found in platform.items() if found}
    if platform:
        documents.append({"platforms": {"kubernetes": {"deploymentSpec": {"executors": platform}}}})
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=2**20)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True  # an anchor is legal YAML, but nobody wants to read one


def _check(pipeline: tfx_pipeline.Pipeline, nodes: Mapping[str, base_node.BaseNode], options: Options) -> None:
    name = pipeline.pipeline_info.pipeline_name or ""
    if not PIPELINE_NAME.fullmatch(name):
        raise CompileError(f"The pipeline's name {name!r} is illegal: only a-z, 0-9 and - are allowed.")
    for id, node in nodes.items():
        if not TASK_NAME.fullmatch(id):
            raise CompileError(
                f"The node id {id!r} is illegal in Argo: only letters, digits and - inside are allowed. "
                "Give it another with .with_id()."
            )
        if isinstance(node, resolver.Resolver):
            raise CompileError(
                f"{id} is a Resolver, which open-source KFP does not execute. kubeflow.baseline has components that "
                "find what earlier runs left."
            )
        if isinstance(node, InfraValidator):
            raise CompileError(
                f"{id} is an InfraValidator, which TFX does not compile for KFP v2. Check in a component."
            )
        if isinstance(node, importer.Importer) and conditional.get_predicates(node, pipeline.dsl_context_registry):
            raise CompileError(
                f"{id} is an Importer with a condition, which KFP refuses. Put it before the condition."
            )
        for kind in _types(node):
            if kind in compiler_utils._SUPPORTED_STANDARD_ARTIFACT_TYPES:
                continue
            path = name_utils.get_full_name(kind)
            if not TYPE_NAME.fullmatch(kind.TYPE_NAME or ""):
                raise CompileError(
                    f"{id} has artifacts of the type {kind.TYPE_NAME!r}, which is no legal name in KFP. Set "
                    f"TYPE_NAME of {path} to something like 'project.{kind.__name__}'."
                )
            if kind.PROPERTIES:
                raise CompileError(
                    f"{id} has artifacts of the type {path}, which has PROPERTIES: TFX compiles those of its own "
                    "types only. Use custom properties."
                )
    for id in options.tasks:
        if id not in nodes:
            raise CompileError(f"There are options for {id}, but no such node: the nodes are {', '.join(nodes)}.")
    if options.exit_task and (options.exit_task.name in nodes or not TASK_NAME.fullmatch(options.exit_task.name)):
        raise CompileError(f"The exit task's name {options.exit_task.name!r} is illegal or taken.")


def _types(node: base_node.BaseNode) -> Iterator[type[artifact.Artifact]]:
    for channel in (*node.inputs.values(), *node.outputs.values()):
        yield channel.type


def _optional(node: base_node.BaseNode, component: dict) -> None:
    """Says in the spec which inputs may be empty; TFX does not."""
    declared = getattr(getattr(node, "spec", None), "INPUTS", {})
    for key, artifact_spec in component.get("inputDefinitions", {}).get("artifacts", {}).items():
        if key in declared and declared[key].optional:
            artifact_spec["isOptional"] = True


def _arguments(node: base_node.BaseNode, component: dict, container: dict) -> None:
    """Tells the entrypoint what TFX's arguments leave out."""
    arguments = container.setdefault("args", [])
    if SPEC not in arguments:
        return  # a container component, which our entrypoint does not start
    arguments[arguments.index(SPEC) + 1] = _json(component.get("inputDefinitions", {}))
    ours = []
    classes = {
        kind.TYPE_NAME: name_utils.get_full_name(kind)
        for kind in _types(node)
        if kind not in compiler_utils._SUPPORTED_STANDARD_ARTIFACT_TYPES
    }
    if classes:
        ours += [CLASSES, _json(classes)]
    if isinstance(node, FileBasedExampleGen):
        container.pop("lifecycle", None)  # KFP does not run the driver, so the entrypoint does
        ours += [DRIVER]
    container["args"] = ours + arguments


def _task(task_spec: dict, task: Task) -> None:
    task_spec["cachingOptions"] = {"enableCache": True} if task.cache else {}
    if task.retry:
        task_spec["retryPolicy"] = {
            "maxRetryCount": task.retry.count,
            "backoffDuration": f"{task.retry.wait}s",
            "backoffFactor": float(task.retry.factor),
            "backoffMaxDuration": f"{task.retry.longest_wait}s",
        }


def _container(container: dict, task: Task) -> None:
    # The newer fields are unknown to older servers, and newer servers still read these.
    wanted = {
        "cpuRequest": (task.cpu, 1),
        "cpuLimit": (task.cpu_limit, 1),
        "memoryRequest": (task.memory, 1e9),
        "memoryLimit": (task.memory_limit, 1e9),
    }
    resources = container.get("resources", {}) | {
        key: quantity(text) / unit for key, (text, unit) in wanted.items() if text is not None
    }
    if task.accelerators:
        if not task.accelerator:
            raise CompileError("A task has accelerators but no type of them, such as nvidia.com/gpu.")
        resources["accelerator"] = {"type": task.accelerator, "count": str(task.accelerators)}
    if resources:
        container["resources"] = resources
    if task.env:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(task.env.items())]
    if task.image:
        container["image"] = task.image


def _kubernetes(task: Task, options: Options) -> dict:
    """The task's part of the platform spec (kfp-kubernetes' KubernetesExecutorConfig).

    Names of secrets and claims stand in the fields that KFP 2.5 knows and newer servers call deprecated but read.
    """
    found: dict = {}
    if task.node_selector:
        found["nodeSelector"] = {"labels": dict(task.node_selector)}
    if task.tolerations:
        found["tolerations"] = [_toleration(toleration) for toleration in task.tolerations]
    if task.volumes:
        found["pvcMount"] = [
            {"constant": volume.claim, "mountPath": volume.path}
            | ({"subPath": volume.sub_path} if volume.sub_path else {})
            for volume in task.volumes
        ]
    if task.secret_env:
        found["secretAsEnv"] = [
            {
                "secretName": secret.secret,
                "keyToEnv": [{"secretKey": key, "envVar": name} for name, key in sorted(secret.variables.items())],
            }
            for secret in task.secret_env
        ]
    if task.secret_files:
        found["secretAsVolume"] = [
            {"secretName": secret.secret, "mountPath": secret.path, "optional": secret.optional}
            for secret in task.secret_files
        ]
    if task.shared_memory:
        quantity(task.shared_memory)
        # KFP has enabledSharedMemory as well, which none of its drivers reads.
        found["emptyDirMounts"] = [
            {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": task.shared_memory}
        ]
    if task.deadline:
        found["activeDeadlineSeconds"] = str(task.deadline)
    if task.beam:
        found["podMetadata"] = {"annotations": {BEAM_KEY: _json(dataclasses.asdict(task.beam))}}
        found["fieldPathAsEnv"] = [{"name": BEAM, "fieldPath": f"metadata.annotations['{BEAM_KEY}']"}]
    if options.image_pull_policy:
        if options.image_pull_policy not in ("Always", "IfNotPresent", "Never"):
            raise CompileError(f"{options.image_pull_policy!r} is no image pull policy of Kubernetes.")
        found["imagePullPolicy"] = options.image_pull_policy
    if options.image_pull_secrets:
        found["imagePullSecret"] = [{"secretName": name} for name in options.image_pull_secrets]
    return found


def _toleration(toleration: Toleration) -> dict:
    fields = {"key": toleration.key, "operator": toleration.operator, "value": toleration.value}
    fields |= {"effect": toleration.effect}
    found = {key: value for key, value in fields.items() if value}
    if toleration.seconds is not None:
        found["tolerationSeconds"] = str(toleration.seconds)
    return found


def _runtime_parameters(nodes: Mapping[str, base_node.BaseNode]) -> dict[str, dict]:
    """The definitions of the RuntimeParameters, with the defaults that TFX drops."""
    found: dict[str, dict] = {}
    kinds: dict[type | None, str] = {
        int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", str: "STRING", bool: "BOOLEAN",
    }  # fmt: skip
    for node in nodes.values():
        for value in node.exec_properties.values():
            if not isinstance(value, data_types.RuntimeParameter):
                continue
            definition: dict = {"parameterType": kinds[value.ptype]}
            if value.default is not None:
                if not isinstance(value.default, str | int | float | bool):
                    raise CompileError(f"The default of the parameter {value.name} must be text or a number.")
                definition["defaultValue"] = value.default
            if found.setdefault(value.name, definition) != definition:
                raise CompileError(f"There are two parameters called {value.name}.")
    return found


def _reach(parameter: Parameter, spec: dict) -> dict:
    """Connects a parameter with its targets; returns its definition."""
    if not PARAMETER_NAME.fullmatch(parameter.name):
        raise CompileError(f"The parameter's name {parameter.name!r} is illegal: use letters, digits, - and _.")
    values = {}
    paths: dict[str, list[list]] = {}
    for target in parameter.targets:
        name, *path = target.split(".")
        task = spec["root"]["dag"]["tasks"].get(name)
        properties = task["inputs"].get("parameters", {}) if task else {}
        if not path or path[0] not in properties or "runtimeValue" not in properties[path[0]]:
            raise CompileError(f"The parameter {parameter.name} has the target {target}, which is no property.")
        values[target] = _value(properties[path[0]]["runtimeValue"]["constant"], path[1:], target)
        paths.setdefault(name, []).append(path)
    if len({json.dumps(value) for value in values.values()}) != 1:
        raise CompileError(
            f"The targets of the parameter {parameter.name} have different values: "
            + ", ".join(f"{target} is {value!r}" for target, value in values.items())
        )
    value = next(iter(values.values()))
    definition = {"parameterType": _kind(parameter.name, value), "defaultValue": value}
    if parameter.description:
        definition["description"] = parameter.description
    inner = f"pipelinechannel--{parameter.name}"  # as kfp's SDK calls them inside of tasks
    for name, targets in paths.items():
        component = spec["components"][name]
        component["inputDefinitions"]["parameters"][inner] = {"parameterType": definition["parameterType"]}
        spec["root"]["dag"]["tasks"][name]["inputs"]["parameters"][inner] = {
            "componentInputParameter": parameter.name
        }
        arguments = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]["args"]
        if TARGETS not in arguments:
            arguments[:0] = [TARGETS, "{}"]
        at = arguments.index(TARGETS) + 1
        arguments[at] = _json(json.loads(arguments[at]) | {inner: targets})
        arguments[arguments.index(SPEC) + 1] = _json(component["inputDefinitions"])
    return definition


def _tell(target: str, fact: str, spec: dict) -> None:
    """Puts in the place of a property what KFP replaces in each run."""
    name, _, key = target.partition(".")
    task = spec["root"]["dag"]["tasks"].get(name)
    value = (
        task["inputs"].get("parameters", {}).get(key, {}).get("runtimeValue", {}).get("constant") if task else None
    )
    if fact not in TOLD or not isinstance(value, str):
        raise CompileError(
            f"{target} cannot be told {fact}: it is no property that is text, or KFP does not know it."
        )
    task["inputs"]["parameters"][key]["runtimeValue"]["constant"] = fact


def _value(constant: Any, path: list[str], target: str) -> object:
    if not path:
        return int(constant) if isinstance(constant, float) and constant.is_integer() else constant
    try:
        value = json.loads(constant)
        for key in path:
            value = value[int(key)] if isinstance(value, list) else value[key]
    except (TypeError, ValueError, LookupError):
        raise CompileError(f"The target {target} does not exist in that property.") from None
    return value


def _kind(name: str, value: object) -> str:
    kinds = {bool: "BOOLEAN", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", str: "STRING"}
    if type(value) not in kinds:
        raise CompileError(f"The parameter {name} would be {value!r}; only text and numbers can be parameters.")
    return kinds[type(value)]


def _exit(spec: dict, options: Options, last: ExitTask, inputs: Mapping[str, dict]) -> dict:
    """Puts all tasks into a sub-DAG and the exit task beside it. Returns the exit task's platform spec.

    Only a launcher notes that a DAG is complete. If the task that ends last came from the cache, the exit task would
    be told that the DAG is RUNNING, as after some failures; so what nothing waits for is not cached.
    """
    label = f"{last.name}_executor"
    tasks = spec["root"]["dag"]["tasks"]
    for name in tasks.keys() - {other for task in tasks.values() for other in task.get("dependentTasks", [])}:
        tasks[name]["cachingOptions"] = {}
    spec["components"][DAG] = {"dag": spec["root"]["dag"]}
    outer: dict = {"componentRef": {"name": DAG}, "taskInfo": {"name": DAG}}
    if inputs:
        spec["components"][DAG]["inputDefinitions"] = {"parameters": dict(inputs)}
        outer["inputs"] = {"parameters": {name: {"componentInputParameter": name} for name in inputs}}
    texts = {"run_name": "{{$.pipeline_job_name}}", "run_id": "{{$.pipeline_job_uuid}}"}  # KFP fills them in
    spec["components"][last.name] = {
        "executorLabel": label,
        "inputDefinitions": {
            "parameters": {
                "status": {"parameterType": "TASK_FINAL_STATUS", "isOptional": True},
                **{name: {"parameterType": "STRING"} for name in texts},
            }
        },
    }
    exit_spec = {
        "componentRef": {"name": last.name},
        "taskInfo": {"name": last.name},
        "dependentTasks": [DAG],
        "inputs": {
            "parameters": {
                "status": {"taskFinalStatus": {"producerTask": DAG}},
                **{name: {"runtimeValue": {"constant": text}} for name, text in texts.items()},
            }
        },
        "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
    }
    _task(exit_spec, last.task)
    spec["root"]["dag"] = {"tasks": {DAG: outer, last.name: exit_spec}}
    container = {"image": options.image, "command": [last.command[0]], "args": list(last.command[1:])}
    _container(container, last.task)
    spec["deploymentSpec"]["executors"][label] = {"container": container}
    return {label: _kubernetes(last.task, options)}


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
