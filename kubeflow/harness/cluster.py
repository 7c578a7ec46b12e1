"""Driver, launcher, metadata store and object store of KFP, for one pipeline at a time, task after task."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from kubeflow.entrypoint import LOGS, ROOT, SCHEMES
from kubeflow.harness import spec as specs

SUCCEEDED, FAILED, CACHED, SKIPPED = "succeeded", "failed", "cached", "skipped"
Artifacts = dict[str, list[dict[str, Any]]]


@dataclasses.dataclass
class TaskRun:
    """What became of a task.

    Attributes:
        state: "succeeded", "failed", "cached" or "skipped" (something before it failed).
        attempts: how often its process was started.
        log: what the last attempt wrote.
        error: why it failed, in the launcher's words.
        outputs: its artifacts as the metadata store keeps them: output -> {name, uri, type, metadata}.
        given: the ExecutorInput of the last attempt.
    """

    state: str
    attempts: int = 0
    log: str = ""
    error: str = ""
    outputs: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    parameters: dict[str, object] = dataclasses.field(default_factory=dict)
    given: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Run:
    """A run of a pipeline: its id, "succeeded" or "failed", and its tasks by name."""

    id: str
    state: str
    tasks: dict[str, TaskRun]


class Cluster:
    """What a KFP installation keeps between runs: object store, metadata, cache.

    A PersistentVolumeClaim is not mounted: give the pipeline mount paths that exist on this machine.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        root: str = "minio://mlpipeline/v2/artifacts",
        environment: Mapping[str, str] | None = None,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        newest: bool = True,
        publish_logs: bool = True,
    ) -> None:
        """Args:
        folder: for everything that the cluster keeps; made when needed.
        root: the pipeline root, with the scheme minio, s3 or gs.
        environment: for the containers, beside this process's.
        secrets: Secrets of the namespace: name -> key -> value.
        newest: behave as KFP 2.16 rather than as 2.5 where they differ in what a container is given.
        publish_logs: whether logs are an output of every task, as in KFP's default installation.
        """
        self.folder = pathlib.Path(folder).resolve()
        self.root = root
        self.environment = dict(environment or {})
        self.secrets = secrets or {}
        self.newest = newest
        self.publish_logs = publish_logs
        self._cache: dict[str, tuple[dict, dict]] = {}
        self._ids = itertools.count(1)

    def run(
        self,
        text: str,
        parameters: Mapping[str, object] | None = None,
        started: Callable[[str, int, subprocess.Popen], None] | None = None,
        tasks: set[str] | None = None,
    ) -> Run:
        """Runs a compiled pipeline to its end.

        Args:
            text: the YAML.
            parameters: of the run; the others have their defaults.
            started: called with the task's name, the attempt (from 1) and the process after each start.
            tasks: run only these; what they need of others must be among them.

        Raises:
            Refused: KFP would not start this run.
        """
        pipeline = specs.load(text)
        run = Run(uuid.uuid4().hex[:12], SUCCEEDED, {})
        values = specs.parameters(pipeline, parameters or {})
        self._dag(pipeline, pipeline.spec["root"]["dag"], values, run, started, tasks)
        if any(task.state == FAILED for task in run.tasks.values()):
            run.state = FAILED
        return run

    def path(self, uri: str) -> pathlib.Path:
        """Where the object store keeps what `uri` names."""
        scheme, _, key = uri.partition("://")
        return self.folder / "store" / scheme / key

    def _dag(
        self,
        pipeline: specs.Pipeline,
        dag: dict,
        values: dict[str, object],
        run: Run,
        started: Callable | None,
        chosen: set[str] | None,
    ) -> str:
        """Runs the tasks of a DAG; returns its state."""
        states: dict[str, str] = {}
        names = specs.order(dag)
        for name in sorted(names, key=lambda name: specs.is_exit(dag["tasks"][name])):
            task = dag["tasks"][name]
            component = pipeline.component(task)
            if "dag" in component:
                inner = {
                    key: values[value["componentInputParameter"]]
                    for key, value in task.get("inputs", {}).get("parameters", {}).items()
                }
                states[name] = self._dag(pipeline, component["dag"], inner, run, started, chosen)
                continue
            if chosen is not None and name not in chosen:
                continue
            waited = [states[other] for other in specs.producers(task) if other in states]
            if not specs.is_exit(task) and any(state in (FAILED, SKIPPED) for state in waited):
                run.tasks[name] = TaskRun(SKIPPED)
            else:
                run.tasks[name] = self._task(pipeline, name, task, component, values, run, states, started)
            states[name] = run.tasks[name].state
        return FAILED if FAILED in states.values() else SUCCEEDED

    def _task(
        self,
        pipeline: specs.Pipeline,
        name: str,
        task: dict,
        component: dict,
        values: dict[str, object],
        run: Run,
        states: dict[str, str],
        started: Callable | None,
    ) -> TaskRun:
        """Driver, then launcher, of a task."""
        result = TaskRun(FAILED)
        try:
            inputs = self._resolve(task, values, run, states)
            executor = pipeline.executor(component)
            if "importer" in executor:
                result.outputs = self._import(executor["importer"], component, inputs)
                result.state = SUCCEEDED
                return result
            container = executor["container"]
            outputs = self._provision(component, f"{self.root}/{pipeline.name}/{run.id}/{name}")
            caching = task.get("cachingOptions", {}).get("enableCache", False)
            key = fingerprint(inputs, outputs, container)
            if caching and key in self._cache:
                result.outputs, result.parameters = copy.deepcopy(self._cache[key])
                result.state = CACHED
                return result
            attempts = 1 + task.get("retryPolicy", {}).get("maxRetryCount", 0)
            platform = pipeline.platform.get(component["executorLabel"], {})
            for result.attempts in range(1, attempts + 1):
                given = {"inputs": copy.deepcopy(inputs), "outputs": copy.deepcopy(outputs)}
                try:
                    self._launch(name, container, platform, component, given, result, started)
                except TaskFailed as problem:
                    result.error = str(problem)
                    continue
                result.state, result.error = SUCCEEDED, ""
                if caching:
                    self._cache[key] = copy.deepcopy((result.outputs, result.parameters))
                break
        except TaskFailed as problem:
            result.error = str(problem)
        return result

    def _resolve(self, task: dict, values: dict[str, object], run: Run, states: dict[str, str]) -> dict:
        """The inputs of a task's ExecutorInput, as KFP's driver resolves them."""
        found: dict[str, Any] = {"parameterValues": {}, "artifacts": {}}
        wanted = task.get("inputs", {})
        for key, value in wanted.get("parameters", {}).items():
            if "componentInputParameter" in value:
                name = value["componentInputParameter"]
                if name not in values:
                    raise TaskFailed(f"parent DAG does not have input parameter {name}")
                found["parameterValues"][key] = values[name]
            elif "runtimeValue" in value:
                constant = value["runtimeValue"]["constant"]
                words = {"{{$.pipeline_job_uuid}}": run.id, "{{$.pipeline_job_name}}": f"run {run.id}"}
                found["parameterValues"][key] = (
                    words.get(constant, constant) if isinstance(constant, str) else constant
                )
            elif "taskOutputParameter" in value:
                source = value["taskOutputParameter"]
                made = run.tasks[source["producerTask"]].parameters
                found["parameterValues"][key] = made[source["outputParameterKey"]]
            elif "taskFinalStatus" in value:
                producer = value["taskFinalStatus"]["producerTask"]
                state = "COMPLETE" if states[producer] == SUCCEEDED else "FAILED"
                found["parameterValues"][key] = {
                    "state": state,
                    "pipelineTaskName": producer,
                    "pipelineJobResourceName": run.id,
                    "error": {},
                }
        for key, value in wanted.get("artifacts", {}).items():
            source = value["taskOutputArtifact"]
            recorded = run.tasks[source["producerTask"]].outputs.get(source["outputArtifactKey"])
            if recorded is None:
                raise TaskFailed(f"cannot find output artifact key {source['outputArtifactKey']!r}")
            # The store knows the type, but the driver does not hand it on.
            given = {field: recorded[field] for field in ("name", "uri", "metadata")}
            if not self.newest:
                given["type"] = {"instanceSchema": ""}
            found["artifacts"][key] = {"artifacts": [given]}
        return found

    def _provision(self, component: dict, task_root: str) -> dict:
        """The outputs of a task's ExecutorInput, before it runs."""
        defined = component.get("outputDefinitions", {})
        place = f"{task_root}/{uuid.uuid4()}"
        artifacts = {}
        for key, value in defined.get("artifacts", {}).items():
            one = {"uri": f"{place}/{key}", "type": value["artifactType"], "metadata": value.get("metadata", {})}
            artifacts[key] = {"artifacts": [one | ({"name": key} if self.newest else {})]}
        if self.publish_logs:
            one = {"name": LOGS, "uri": f"{place}/{LOGS}", "type": {"schemaTitle": "system.Artifact"}}
            artifacts[LOGS] = {"artifacts": [one]}
        return {"artifacts": artifacts, "parameters": defined.get("parameters", {}), "place": place}

    def _launch(
        self,
        name: str,
        container: dict,
        platform: dict,
        component: dict,
        given: dict,
        result: TaskRun,
        started: Callable | None,
    ) -> None:
        """One attempt of a task, as KFP's launcher does it. Raises TaskFailed."""
        pod = self.folder / "pod"  # always the same path, as in a container
        shutil.rmtree(pod, ignore_errors=True)
        pod.mkdir(parents=True)
        outputs = given["outputs"]
        place = outputs.pop("place")
        outputs["outputFile"] = str(
            (stage(pod, place) if self.newest else pod / "tmp" / "kfp_outputs") / "output_metadata.json"
        )
        outputs["parameters"] = {key: {"outputFile": str(pod / "tmp" / key)} for key in outputs["parameters"]}
        result.given = copy.deepcopy(given)
        for value in given["inputs"]["artifacts"].values():
            for one in value["artifacts"]:
                if one["uri"].split("://")[0] in SCHEMES:  # others are "not recognized" and skipped
                    copy_all(self.path(one["uri"]), stage(pod, one["uri"]))
        for value in outputs["artifacts"].values():
            for one in value["artifacts"]:
                stage(pod, one["uri"]).parent.mkdir(parents=True, exist_ok=True)
        if not container.get("command"):
            raise TaskFailed("the container has no command: the launcher would execute the first argument")
        command = [fill(part, given) for part in (*container["command"], *container.get("args", []))]
        environment = os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        environment |= self.environment
        environment |= {one["name"]: one["value"] for one in container.get("env", [])}
        environment |= self._secret_environment(platform)
        environment[ROOT] = str(pod)
        log = pod / "log.txt"
        with open(log, "w") as file:
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment
                )
            except OSError as problem:
                raise TaskFailed(f"the command cannot be executed: {problem}") from None
            if started:
                started(name, result.attempts, process)
            code = process.wait()
        result.log = log.read_text(errors="replace")
        if code:
            raise TaskFailed(f"exit status {code}")
        self._publish(pod, component, outputs, result)

    def _secret_environment(self, platform: dict) -> dict[str, str]:
        found = {}
        for secret in platform.get("secretAsEnv", []):
            for pair in secret["keyToEnv"]:
                try:
                    found[pair["envVar"]] = self.secrets[secret["secretName"]][pair["secretKey"]]
                except KeyError:
                    raise TaskFailed(f"the secret {secret['secretName']} has no {pair['secretKey']}") from None
        return found

    def _publish(self, pod: pathlib.Path, component: dict, outputs: dict, result: TaskRun) -> None:
        """Uploads and records what the task wrote."""
        written: dict[str, Any] = {}
        file = pathlib.Path(outputs["outputFile"])
        if file.exists():
            try:
                written = json.loads(file.read_text())
            except ValueError as problem:
                raise TaskFailed(f"failed to unmarshal ExecutorOutput: {problem}") from None
        for key, value in outputs["parameters"].items():
            if key in written.get("parameterValues", {}):
                result.parameters[key] = written["parameterValues"][key]
            elif pathlib.Path(value["outputFile"]).exists():
                kind = component["outputDefinitions"]["parameters"][key]["parameterType"]
                text = pathlib.Path(value["outputFile"]).read_text()
                result.parameters[key] = text if kind == "STRING" else json.loads(text)
            else:
                raise TaskFailed(f"failed to read output parameter name={key!r}")
        for key, value in outputs["artifacts"].items():
            (one,) = value["artifacts"]
            changed = (written.get("artifacts", {}).get(key, {}).get("artifacts") or [{}])[0]
            one["uri"] = changed.get("uri") or one["uri"]
            one["metadata"] = one.get("metadata", {}) | changed.get("metadata", {})
            if one["uri"].split("://")[0] not in SCHEMES:
                pass  # "does not have a recognized storage URI. Skipping uploading": and nobody finds it again
            elif not one["uri"].startswith(f"{self.root}/"):
                raise TaskFailed(
                    f"failed to upload output artifact {key!r}: the URI {one['uri']} is of another bucket"
                )
            else:
                copy_all(stage(pod, one["uri"]), self.path(one["uri"]))
            result.outputs[key] = self._record(key, one)

    def _record(self, key: str, one: dict) -> dict:
        """An artifact as the metadata store gives it back."""
        kind = one.get("type", {})
        title = kind.get("schemaTitle") or (yaml.safe_load(kind.get("instanceSchema") or "{}") or {}).get("title")
        if not title:
            raise TaskFailed(f"failed to determine schema for output {key!r}: no title specified")
        metadata = {name: stored(value) for name, value in one.get("metadata", {}).items()}
        metadata.setdefault("display_name", key)
        metadata.setdefault("store_session_info", json.dumps({"Provider": "minio", "Params": {"fromEnv": "true"}}))
        return {"name": str(next(self._ids)), "uri": one["uri"], "type": kind, "metadata": metadata}

    def _import(self, importer: dict, component: dict, inputs: dict) -> dict:
        uri = importer["artifactUri"].get("constant")
        if uri is None:
            uri = inputs["parameterValues"][importer["artifactUri"]["runtimeParameter"]]
        (key,) = component["outputDefinitions"]["artifacts"]
        one = {"uri": uri, "type": importer["typeSchema"], "metadata": importer.get("metadata", {})}
        return {key: self._record(key, one)}


class TaskFailed(Exception):
    """An attempt of a task failed, or the task could not start."""


def stored(value: object) -> object:
    """A metadata value after its way through ML Metadata, by KFP's converter.go."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return {"list": value}
    if isinstance(value, dict):
        return {"struct": value}
    raise TaskFailed(f"unknown/unsupported value type {value!r} in metadata")


def fingerprint(inputs: dict, outputs: dict, container: dict) -> str:
    """KFP's cache key: ids of input artifacts, parameters, kinds of outputs, image, command."""
    key = {
        "inputArtifactNames": {
            name: [one["name"] for one in value["artifacts"]] for name, value in inputs["artifacts"].items()
        },
        "inputParameterValues": inputs["parameterValues"],
        "outputArtifactsSpec": {
            name: [{field: value for field, value in one.items() if field != "uri"} for one in group["artifacts"]]
            for name, group in outputs["artifacts"].items()
        },
        "outputParametersSpec": outputs["parameters"],
        "containerSpec": [container["image"], container.get("command"), container.get("args")],
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def fill(text: str, given: dict) -> str:
    """An argument with its placeholders replaced."""
    text = text.replace("{{$}}", json.dumps(given))
    for name, value in given["inputs"]["parameterValues"].items():
        shown = value if isinstance(value, str) else json.dumps(value)
        text = text.replace(f"{{{{$.inputs.parameters['{name}']}}}}", shown)
    for side in ("inputs", "outputs"):
        for name, value in given[side]["artifacts"].items():
            text = text.replace(f"{{{{$.{side}.artifacts['{name}'].uri}}}}", value["artifacts"][0]["uri"])
    return text


def stage(pod: pathlib.Path, uri: str) -> pathlib.Path:
    """Where the launcher stages what `uri` names, below the pod's root."""
    scheme, _, key = uri.partition("://")
    if scheme not in SCHEMES:
        raise TaskFailed(f"failed to generate local path for URI {uri}: unsupported storage scheme")
    return pod / SCHEMES[scheme] / key


def copy_all(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies files as an object store does: empty folders do not exist, and nothing is no error."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    elif source.is_dir():
        for file in source.rglob("*"):
            if file.is_file():
                place = target / file.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
