"""Launcher, metadata store, cache and object store of KFP, for one pipeline at a time."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import yaml

from ..entrypoint import LOGS, ROOT, SCHEMES
from ..options import CREATED, DUE
from . import pod as pods
from . import spec as specs
from .driver import CACHED, FAILED, SUCCEEDED, Driver, TaskFailed, TaskRun
from .store import Folders, Store


@dataclasses.dataclass
class Run:
    """A run of a pipeline: its id, "succeeded" or "failed", and its tasks by name, each after those that it needs.

    Tasks inside of other DAGs are called "DAG/task", those of the iterations of a loop "loop[0]/task".
    """

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
        version: tuple[int, int] = (2, 17),
        publish_logs: bool = True,
        parallel: int | None = None,
        store: Store | None = None,
    ) -> None:
        """Args:
        folder: for everything that the cluster keeps; made when needed.
        root: the pipeline root, with the scheme minio, s3 or gs.
        environment: for the containers, beside this process's.
        secrets: Secrets of the namespace: name -> key -> value.
        version: of KFP, from 2.5 on; what differs between versions is what a task is given and told.
        publish_logs: whether logs are an output of every task, as in KFP's default installation.
        parallel: how many tasks may run at the same time; as many as there are processors if not given.
        store: for artifacts, such as `kubeflow.harness.S3`; folders below `folder` if not given.
        """
        self.folder = pathlib.Path(folder).resolve()
        self.root = root
        self.store = store or Folders(self.folder / "store")
        self.environment = dict(environment or {})
        self.secrets = secrets or {}
        self.version = version
        self.publish_logs = publish_logs
        self._cache: dict[str, tuple[dict, dict]] = {}
        self._ids = itertools.count(1)
        self._slots = threading.BoundedSemaphore(parallel or os.cpu_count() or 1)

    def run(
        self,
        text: str,
        parameters: Mapping[str, object] | None = None,
        started: Callable[[str, int, subprocess.Popen], None] | None = None,
        tasks: set[str] | None = None,
        due: datetime.datetime | None = None,
    ) -> Run:
        """Runs a compiled pipeline to its end.

        Args:
            text: the YAML.
            parameters: of the run; the others have their defaults.
            started: called with the task's name, the attempt (from 1) and the process after each start; of several
                tasks at once, in several threads.
            tasks: run only these; what they need of others must be among them.
            due: aware; the run is one of a schedule, which wanted it then. A parameter is what it is there, too:
                KFP leaves its macros, such as [[ScheduledTime]], as they are.

        Raises:
            Refused: KFP would not start this run.
        """
        pipeline = specs.load(text, self.version)
        values = specs.parameters(pipeline, parameters or {})
        run_id = uuid.uuid4().hex[:12]

        def launch(name: str, task: dict, component: dict, inputs: dict) -> TaskRun:
            return self._task(pipeline, run_id, name, task, component, inputs, started)

        found = Driver(pipeline, run_id, launch, tasks, self._facts(due)).run(values)
        failed = any(task.state == FAILED for task in found.values())
        return Run(run_id, FAILED if failed else SUCCEEDED, found)

    def _facts(self, due: datetime.datetime | None) -> dict[str, str]:
        """The times that a driver knows."""
        if self.version < (2, 16):
            return {}
        if self.version < (2, 17):
            return {CREATED: "", DUE: ""}
        now = datetime.datetime.now(datetime.UTC)
        return {
            fact: f"{time.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
            for fact, time in ((CREATED, now), (DUE, due or now))
        }

    def path(self, uri: str) -> pathlib.Path:
        """Where the object store keeps what `uri` names, or a copy of it."""
        return self.store.path(uri)

    def _task(
        self,
        pipeline: specs.Pipeline,
        run_id: str,
        name: str,
        task: dict,
        component: dict,
        inputs: dict,
        started: Callable | None,
    ) -> TaskRun:
        """What a task that is no DAG comes to: from the cache, or from the launcher."""
        result = TaskRun(FAILED)
        try:
            executor = pipeline.executor(component)
            if "importer" in executor:
                result.outputs = self._import(executor["importer"], component, inputs)
                result.state = SUCCEEDED
                return result
            container = executor["container"]
            outputs = self._provision(component, f"{self.root}/{pipeline.name}/{run_id}/{name.rpartition('/')[2]}")
            caching = task.get("cachingOptions", {}).get("enableCache", False)
            platform = pipeline.platform.get(component["executorLabel"], {})
            claims = {one["constant"] for one in platform.get("pvcMount", ())} if self.version >= (2, 15) else set()
            key = fingerprint(inputs, outputs, container, claims)
            if caching and key in self._cache:
                result.outputs, result.parameters = copy.deepcopy(self._cache[key])
                result.state = CACHED
                return result
            attempts = 1 + task.get("retryPolicy", {}).get("maxRetryCount", 0)
            # In a container it is the same for all tasks; here at least for all attempts and runs of one.
            pod = self.folder / "pods" / name
            for result.attempts in range(1, attempts + 1):
                given = {"inputs": copy.deepcopy(inputs), "outputs": copy.deepcopy(outputs)}
                try:
                    with self._slots:
                        self._launch(pod, name, container, platform, component, given, result, started)
                except TaskFailed as problem:
                    result.error = str(problem)
                    continue
                finally:
                    shutil.rmtree(pod)
                result.state, result.error = SUCCEEDED, ""
                if caching:
                    self._cache[key] = copy.deepcopy((result.outputs, result.parameters))
                break
        except TaskFailed as problem:
            result.error = str(problem)
        return result

    @property
    def _newer(self) -> bool:
        """Whether the launcher is that of 2.16, where an attempt's outputs and logs have places of their own."""
        return self.version >= (2, 16)

    def _provision(self, component: dict, task_root: str) -> dict:
        """The outputs of a task's ExecutorInput, before it runs."""
        defined = component.get("outputDefinitions", {})
        place = f"{task_root}/{uuid.uuid4()}"
        artifacts = {}
        for key, value in defined.get("artifacts", {}).items():
            one = {"uri": f"{place}/{key}", "type": value["artifactType"], "metadata": value.get("metadata", {})}
            artifacts[key] = {"artifacts": [one | ({"name": key} if self._newer else {})]}
        if self.publish_logs:
            one = {"name": LOGS, "uri": f"{place}/{LOGS}", "type": {"schemaTitle": "system.Artifact"}}
            artifacts[LOGS] = {"artifacts": [one]}
        return {"artifacts": artifacts, "parameters": defined.get("parameters", {}), "place": place}

    def _launch(
        self,
        pod: pathlib.Path,
        name: str,
        container: dict,
        platform: dict,
        component: dict,
        given: dict,
        result: TaskRun,
        started: Callable | None,
    ) -> None:
        """One attempt of a task, as KFP's launcher does it. Raises TaskFailed."""
        pod.mkdir(parents=True)
        outputs = given["outputs"]
        place = outputs.pop("place")
        outputs["outputFile"] = str(
            (stage(pod, place) if self._newer else pod / "tmp" / "kfp_outputs") / "output_metadata.json"
        )
        outputs["parameters"] = {key: {"outputFile": str(pod / "tmp" / key)} for key in outputs["parameters"]}
        for key, definition in component.get("inputDefinitions", {}).get("parameters", {}).items():
            if "defaultValue" in definition:
                given["inputs"]["parameterValues"].setdefault(key, definition["defaultValue"])
        if self._newer and LOGS in outputs["artifacts"]:
            (one,) = outputs["artifacts"][LOGS]["artifacts"]
            one["uri"] += f"-{result.attempts - 1}"
        result.given = written(given)
        for value in given["inputs"]["artifacts"].values():
            for one in value["artifacts"]:
                if one["uri"].split("://")[0] in SCHEMES:  # others are "not recognized" and skipped
                    with copying("download input artifact", one["uri"]):
                        self.store.download(one["uri"], stage(pod, one["uri"]))
        for value in outputs["artifacts"].values():
            for one in value["artifacts"]:
                stage(pod, one["uri"]).parent.mkdir(parents=True, exist_ok=True)
        if not container.get("command"):
            raise TaskFailed("the container has no command: the launcher would execute the first argument")
        command = [fill(part, given, pod) for part in (*container["command"], *container.get("args", []))]
        environment = os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        environment |= self.environment
        environment |= {one["name"]: one["value"] for one in container.get("env", [])}
        environment |= self._secret_environment(platform)
        self._check_secret_files(platform)
        result.pod = pods.patch(container, platform)
        result.metadata = pods.metadata(platform, self.version)
        environment |= pods.from_fields(result.pod, result.metadata)
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
            try:
                code = process.wait(result.pod.get("activeDeadlineSeconds"))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise TaskFailed("Pod was active on the node longer than the specified deadline") from None
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

    def _check_secret_files(self, platform: dict) -> None:
        """A pod does not start without them. They are not mounted here: that would take root's rights."""
        for secret in platform.get("secretAsVolume", []):
            if secret["secretName"] not in self.secrets and not secret.get("optional"):
                raise TaskFailed(f"there is no secret {secret['secretName']}")

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
                with copying("upload output artifact", one["uri"]):
                    self.store.upload(stage(pod, one["uri"]), one["uri"])
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


def written(given: dict) -> dict:
    """An ExecutorInput as its protobuf becomes JSON: without what is empty."""
    found = copy.deepcopy(given)
    for side in ("inputs", "outputs"):
        for group in found[side].get("artifacts", {}).values():
            group["artifacts"] = [_filled(one) for one in group["artifacts"]]
        found[side] = _filled(found[side])
    return found


def _filled(value: dict) -> dict:
    return {key: part for key, part in value.items() if part != {}}


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


def fingerprint(inputs: dict, outputs: dict, container: dict, claims: Iterable[str] = ()) -> str:
    """KFP's cache key: ids of input artifacts, parameters, kinds of outputs, image, command, from 2.15 on claims."""
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
        "containerSpec": [container["image"], container.get("command"), container.get("args"), *sorted(claims)],
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def fill(text: str, given: dict, pod: pathlib.Path) -> str:
    """An argument with its placeholders replaced."""
    if "{{$" not in text:
        return text
    text = text.replace("{{$}}", json.dumps(specs.plain_numbers(written(given))))
    for name, value in given["inputs"]["parameterValues"].items():
        shown = value if isinstance(value, str) else json.dumps(specs.plain_numbers(value))
        text = text.replace(f"{{{{$.inputs.parameters['{name}']}}}}", shown)
    for name, value in given["outputs"]["parameters"].items():
        text = text.replace(f"{{{{$.outputs.parameters['{name}'].output_file}}}}", value["outputFile"])
    for side in ("inputs", "outputs"):
        for name, value in given[side]["artifacts"].items():
            for one in value["artifacts"][:1]:
                text = text.replace(f"{{{{$.{side}.artifacts['{name}'].uri}}}}", one["uri"])
                if one["uri"].split("://")[0] in SCHEMES:
                    path = str(stage(pod, one["uri"]))
                    text = text.replace(f"{{{{$.{side}.artifacts['{name}'].path}}}}", path)
    return text


def stage(pod: pathlib.Path, uri: str) -> pathlib.Path:
    """Where the launcher stages what `uri` names, below the pod's root."""
    scheme, _, key = uri.partition("://")
    if scheme not in SCHEMES:
        raise TaskFailed(f"failed to generate local path for URI {uri}: unsupported storage scheme")
    return pod / SCHEMES[scheme] / key


@contextlib.contextmanager
def copying(what: str, uri: str) -> Iterator[None]:
    """Turns an error of the object store into the launcher's."""
    try:
        yield
    except OSError as problem:
        raise TaskFailed(f"failed to {what} {uri}: {problem}") from None
