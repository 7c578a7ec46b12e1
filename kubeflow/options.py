"""What a pipeline is compiled with: what its tasks need, its parameters, its exit task."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

COMMAND = ("python", "-m", f"{__package__}.entrypoint")
# In the command of an exit task: what KFP puts there.
STATUS = "{{$.inputs.parameters['status']}}"
RUN_NAME = "{{$.inputs.parameters['run_name']}}"
RUN_ID = "{{$.inputs.parameters['run_id']}}"

# What a property may be told of the run, see `Options.told`.
# KFP 2.17 knows both times, in UTC by RFC 3339; 2.16 puts "" there, older versions leave the text as it is.
DUE = "{{$.pipeline_job_schedule_time_utc}}"  # when a scheduled run was due; of any other, when it was created
CREATED = "{{$.pipeline_job_create_time_utc}}"
RUN_UUID = "{{$.pipeline_job_uuid}}"
TOLD = (DUE, CREATED, RUN_UUID)

BEAM = "KUBEFLOW_BEAM"  # environment variable: a `Beam` as JSON
BEAM_KEY = "pipelines/beam"  # the pod's annotation that it comes from

QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|[MGTP]|[KMGTP]i)?")
UNITS = {None: 1, "m": 1e-3, "k": 1000} | {
    f"{prefix}{i}": base**power
    for power, prefix in enumerate("KMGTP", 1)
    for i, base in (("", 1000), ("i", 1024))
    if prefix + i != "K"
}


class CompileError(ValueError):
    """The pipeline or the options ask for what open-source KFP v2 cannot run; says which node and what to do."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of the pipeline that sets values inside the nodes' properties.

    TFX's RuntimeParameter replaces a whole property. This one reaches into those that are JSON, such as Trainer's
    custom_config. Its type and its default are what the pipeline was built with.

    Attributes:
        name: as KFP's UI and API call it.
        targets: "Node.property" or "Node.property.key.0.key", all with the same value in the pipeline.
        description: shown in KFP's UI.
    """

    name: str
    targets: tuple[str, ...]
    description: str = ""


@dataclasses.dataclass(frozen=True)
class Toleration:
    """Of a taint, as in a Pod; `seconds` only for the effect NoExecute."""

    key: str = ""
    operator: str = "Exists"
    value: str = ""
    effect: str = ""
    seconds: int | None = None


@dataclasses.dataclass(frozen=True)
class Volume:
    """A PersistentVolumeClaim of the pipeline's namespace, mounted at `path`; `sub_path` needs KFP 2.16."""

    claim: str
    path: str
    sub_path: str = ""


@dataclasses.dataclass(frozen=True)
class SecretEnv:
    """Keys of a Kubernetes Secret as environment variables: name of the variable -> key."""

    secret: str
    variables: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class SecretFiles:
    """A Kubernetes Secret as files, one for each key, in the folder `path`."""

    secret: str
    path: str
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Retry:
    """How often and when a failed task is started again; times in seconds."""

    count: int = 2
    wait: int = 60
    factor: float = 2.0
    longest_wait: int = 3600


@dataclasses.dataclass(frozen=True)
class Beam:
    """How the Beam pipeline of a task runs; needs KFP 2.14.

    It stands in an annotation of the pod, whence Kubernetes puts it into a variable: KFP's cache counts arguments,
    since 2.18 also plain variables, and how a task runs is not what it computes.

    Attributes:
        hook: "module:function" in the image, which makes a context manager of the task's id (text, the same in every
            attempt) and `told`. It yields a folder that Beam's workers see under the same path, in which the
            entrypoint then stages inputs and outputs, or "" where they run in the task's own pod; and Beam's options.
        told: JSON values for the hook.
        flink: HOST:PORT of the service that is Flink's REST interface, if the hook wants one: for `kubeflow.doctor`.
    """

    hook: str
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    flink: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
    """What one task needs. What is None or empty is left to the cluster.

    Attributes:
        image: instead of the pipeline's.
        cpu, cpu_limit: Kubernetes quantities, such as "500m" or "4".
        memory, memory_limit: the same, such as "8Gi".
        accelerator: the resource's name in Kubernetes, such as "nvidia.com/gpu".
        accelerators: how many.
        env: plain environment variables.
        shared_memory: size of /dev/shm, such as "2Gi"; what is in it counts as memory of the container.
        deadline: seconds after which Kubernetes ends the task.
        cache: whether an earlier result of the same inputs is taken.
        beam: for a task on Beam; it runs in its own pod if not given.
    """

    image: str | None = None
    cpu: str | None = None
    cpu_limit: str | None = None
    memory: str | None = None
    memory_limit: str | None = None
    accelerator: str | None = None
    accelerators: int = 0
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    volumes: tuple[Volume, ...] = ()
    secret_env: tuple[SecretEnv, ...] = ()
    secret_files: tuple[SecretFiles, ...] = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shared_memory: str | None = None
    deadline: int | None = None
    retry: Retry | None = None
    cache: bool = True
    beam: Beam | None = None


@dataclasses.dataclass(frozen=True)
class ExitTask:
    """A container that runs after all others, whatever became of them; needs KFP 2.14.

    In an argument, KFP puts a JSON object with `state`, `pipelineTaskName`, `pipelineJobResourceName` and `error` in
    the place of `STATUS`, and what they say in the places of `RUN_NAME` and `RUN_ID`.
    """

    name: str
    command: tuple[str, ...]
    task: Task = Task(cache=False)


@dataclasses.dataclass(frozen=True)
class Options:
    """How to compile.

    Attributes:
        image: of all tasks; best with a digest.
        default: what every task needs.
        tasks: node id -> what that one needs instead; `dataclasses.replace(default, ...)` makes one.
        parameters: besides the RuntimeParameters in the pipeline.
        image_pull_policy: "Always", "IfNotPresent" or "Never"; "" leaves it to Kubernetes.
        image_pull_secrets: names of Secrets.
        exit_task: runs at the end, also after a failure.
        told: "Node.property" -> DUE, CREATED or RUN_UUID, for properties that are text. As each run is told something
            else, the cache never answers for such a node. A server that does not know it leaves the property "".
        command: starts the entrypoint in the image; TFX's arguments follow.
    """

    image: str
    default: Task = Task()
    tasks: Mapping[str, Task] = dataclasses.field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    exit_task: ExitTask | None = None
    told: Mapping[str, str] = dataclasses.field(default_factory=dict)
    command: tuple[str, ...] = COMMAND


def quantity(text: str) -> float:
    """A quantity of Kubernetes as a number: "500m" is 0.5, "8Gi" 8589934592. Raises CompileError."""
    found = QUANTITY.fullmatch(text)
    if not found:
        raise CompileError(f"{text!r} is no quantity; write it as in Kubernetes, for example 500m, 4 or 8Gi.")
    return float(found[1]) * UNITS[found[2]]
