"""What a compiled pipeline asks of a cluster, read from both of its YAML documents."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import yaml

from ..connection import ClientError
from ..options import BEAM_KEY, DUE

LAYER = __package__.rpartition(".")[0]
SERVES, RECORDS = f"{LAYER}.serve.Executor", f"{LAYER}.baseline.RecordExecutor"
CLASS = "--executor_class_path"  # TFX's argument
PUSHES = "push_destination"  # Pusher's property
URI = re.compile(r"(?:s3|gs|az)://\S+")


@dataclasses.dataclass(frozen=True)
class Task:
    """What one task asks for.

    Attributes:
        name: as KFP calls the task.
        image: of its container.
        requests, limits: resource -> amount, in cores, bytes and pieces; what is not requested but limited is both.
        selector: labels that the node has to have.
        tolerations: as in a Pod.
        claims: the PersistentVolumeClaims that it mounts.
        secrets: name -> the keys that become variables; none for what is mounted as files.
        optional: which of the secrets need not be there.
        pull_secrets: for the image.
        sub_paths: whether it mounts a part of a volume.
        beam: whether it is told Beam's options, see `kubeflow.options.Beam`.
        flink: HOST:PORT of Flink's REST interface, if its Beam pipeline runs there.
    """

    name: str
    image: str
    requests: Mapping[str, Decimal] = dataclasses.field(default_factory=dict)
    limits: Mapping[str, Decimal] = dataclasses.field(default_factory=dict)
    selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tolerations: tuple[Mapping, ...] = ()
    claims: tuple[str, ...] = ()
    secrets: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    pull_secrets: tuple[str, ...] = ()
    sub_paths: bool = False
    beam: bool = False
    flink: str = ""


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder or object in an object store, whether something is written there, and the secrets of who uses it."""

    uri: str
    written: bool
    secrets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a pipeline asks for.

    Attributes:
        tasks: those that run containers.
        exit_task: whether one runs at the end, whatever became of the others.
        serves: whether a task applies an InferenceService.
        due: whether a task is told when a scheduled run was due.
        places: in object stores; none that lies in another, or that another lies in, if that one is written.
    """

    tasks: tuple[Task, ...]
    exit_task: bool
    serves: bool
    due: bool
    places: tuple[Place, ...]


def read_needs(text: str, values: Mapping[str, object] | None = None) -> Needs:
    """Reads what a compiled pipeline asks for.

    Args:
        text: as `kubeflow.compiler.compile` or kfp's own compiler writes it.
        values: of parameters, instead of their defaults.

    Raises:
        ClientError: it is no compiled pipeline.
    """
    try:
        documents = list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        return _needs(documents[0], documents[1] if len(documents) > 1 else {}, values or {})
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, json.JSONDecodeError):
        raise ClientError("This is not a pipeline that was compiled for Kubeflow Pipelines v2.") from None


def _needs(spec: dict, platform: dict, values: Mapping[str, object]) -> Needs:
    executors = spec["deploymentSpec"]["executors"]
    wanted = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    definitions = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    given = {
        about["defaultValue"]: values[name]
        for name, about in definitions.items()
        if name in values and isinstance(about.get("defaultValue"), str)
    }
    found: list[Task] = []
    users: dict[str, set[str]] = {}
    written = set()
    serves = last = False
    for name, task in _tasks(spec, spec["root"]):
        last = last or task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        label = spec["components"][task["componentRef"]["name"]].get("executorLabel", "")
        container = executors.get(label, {}).get("container")
        if not container:
            continue
        made = _task(name, container, wanted.get(label, {}))
        found.append(made)
        path = _executor(container)
        serves = serves or path == SERVES
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            texts = _texts(source.get("runtimeValue", {}).get("constant"))
            for place in filter(URI.fullmatch, (str(given.get(text, text)) for text in texts)):
                users.setdefault(place, set()).update(secret for secret, keys in made.secrets.items() if keys)
                if path == RECORDS or key == PUSHES:
                    written.add(place)
    places = []
    for uri in sorted(users):
        if uri in written or not any(_within(uri, other) or _within(other, uri) for other in written):
            places.append(Place(uri, uri in written, tuple(sorted(users[uri]))))
    return Needs(tuple(found), last, serves, DUE in str(spec), tuple(places))


def _within(uri: str, folder: str) -> bool:
    return f"{uri}/".startswith(f"{folder.rstrip('/')}/")


def _tasks(spec: Mapping, component: Mapping) -> Iterator[tuple[str, Mapping]]:
    """All tasks of a component and of the DAGs in it."""
    for name, task in component.get("dag", {}).get("tasks", {}).items():
        yield name, task
        yield from _tasks(spec, spec["components"][task["componentRef"]["name"]])


def _task(name: str, container: Mapping, platform: Mapping) -> Task:
    requests, limits = _resources(container.get("resources", {}))
    secrets: dict[str, frozenset[str]] = {}
    optional = set()
    for secret in platform.get("secretAsEnv", ()):
        key = _named(secret)
        keys = {pair["secretKey"] for pair in secret.get("keyToEnv", ())}
        secrets[key] = secrets.get(key, frozenset()) | keys
        optional |= {key} if secret.get("optional") else set()
    for secret in platform.get("secretAsVolume", ()):
        key = _named(secret)
        secrets.setdefault(key, frozenset())
        optional |= {key} if secret.get("optional") else set()
    beam = platform.get("podMetadata", {}).get("annotations", {}).get(BEAM_KEY)
    mounts = platform.get("pvcMount", ())
    claims = [one.get("constant") or _constant(one.get("pvcNameParameter")) for one in mounts]
    return Task(
        name,
        container.get("image", ""),
        {**limits, **requests},
        limits,
        platform.get("nodeSelector", {}).get("labels", {}),
        tuple(platform.get("tolerations", ())),
        tuple(claim for claim in claims if claim),
        {key: keys for key, keys in secrets.items() if key},
        frozenset(optional),
        tuple(name for secret in platform.get("imagePullSecret", ()) if (name := _named(secret))),
        any(one.get("subPath") for one in mounts),
        bool(beam),
        json.loads(beam or "{}").get("flink", ""),
    )


def _resources(told: Mapping) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """Requests and limits. KFP has two generations of fields: numbers (of 10^9 bytes), and text as in Kubernetes."""
    found: list[dict[str, Decimal]] = []
    for kind in ("Request", "Limit"):
        amounts = {}
        for resource, unit in (("cpu", 1), ("memory", 10**9)):
            text = told.get(f"resource{resource.capitalize()}{kind}")
            number = told.get(f"{resource}{kind}")
            try:
                amounts[resource] = quantity(text) if text else Decimal(str(number or 0)) * unit
            except (ValueError, InvalidOperation):  # a parameter decides it when the run starts
                continue
        found.append({resource: amount for resource, amount in amounts.items() if amount})
    accelerator = told.get("accelerator") or {}
    device = accelerator.get("resourceType") or accelerator.get("type")
    count = str(accelerator.get("resourceCount") or accelerator.get("count") or "0")
    if device and count.isdecimal() and int(count):  # Kubernetes wants both to be the same
        for amounts in found:
            amounts[device] = Decimal(count)
    return found[0], found[1]


def quantity(text: object) -> Decimal:
    """A quantity of Kubernetes as a number. Raises ValueError."""
    from kubernetes.utils.quantity import parse_quantity  # takes seconds

    return parse_quantity(text)


def _named(secret: Mapping) -> str:
    return secret.get("secretName") or _constant(secret.get("secretNameParameter"))


def _constant(source: Mapping | None) -> str:
    """A name that stands in the pipeline; "" if a parameter or another task tells it."""
    return str(((source or {}).get("runtimeValue") or {}).get("constant") or "")


def _executor(container: Mapping) -> str:
    arguments = container.get("args") or []
    return arguments[arguments.index(CLASS) + 1] if CLASS in arguments else ""


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value, which may be JSON in a text."""
    if isinstance(value, str):
        if value.lstrip()[:1] not in ("{", "["):
            yield value
            return
        try:
            yield from _texts(json.loads(value))
        except ValueError:
            yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
