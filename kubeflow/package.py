"""A compiled pipeline as it is uploaded, and the values that a run of it gets."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import yaml

from .connection import ClientError
from .options import TOLD

KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "STRING": (str, "text"),
    "NUMBER_INTEGER": (int, "a whole number"),
    "NUMBER_DOUBLE": ((int, float), "a number"),
    "BOOLEAN": (bool, "true or false"),
    "LIST": (list, "a list"),
    "STRUCT": (dict, "a mapping"),
}


@dataclasses.dataclass(frozen=True)
class Package:
    """A compiled pipeline, as `kubeflow.compiler.compile` writes it.

    Attributes:
        text: the YAML.
        name: of the pipeline.
        digest: of the text.
        parameters: their definitions by name.
        facts: what its tasks are told of the run, see `kubeflow.options.Options.told`.
        cached: the tasks that may take an earlier run's result.
    """

    text: str
    name: str
    digest: str
    parameters: Mapping[str, Mapping]
    facts: frozenset[str] = frozenset()
    cached: frozenset[str] = frozenset()

    @property
    def version(self) -> str:
        """What its version is called: by its content, and unlike those of other pipelines."""
        return f"{self.name}-{self.digest[:12]}"


def read_package(text: str) -> Package:
    """Reads a compiled pipeline. Raises ClientError if it is none."""
    try:
        documents = list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        spec = documents[0]
        name = spec["pipelineInfo"]["name"]
        parameters = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        dags = [spec["root"], *spec["components"].values()]
        tasks = [pair for one in dags for pair in one.get("dag", {}).get("tasks", {}).items()]
        cached = frozenset(name for name, task in tasks if task.get("cachingOptions", {}).get("enableCache"))
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError):
        raise ClientError("This is not a pipeline that was compiled for Kubeflow Pipelines v2.") from None
    facts = frozenset(fact for fact in TOLD if fact in text)
    return Package(text, name, hashlib.sha256(text.encode()).hexdigest(), parameters, facts, cached)


def check_parameters(package: Package, values: Mapping[str, object]) -> None:
    """Refuses what the server would: unknown names, missing values, wrong types. Raises ClientError."""
    known = package.parameters
    for name, value in values.items():
        if name not in known:
            takes = ", ".join(sorted(known)) or "none"
            raise ClientError(f"{package.name} has no parameter {name}: it takes {takes}.")
        kind, words = KINDS.get(known[name].get("parameterType", "STRING"), (object, ""))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ClientError(f"The parameter {name} must be {words}, not {value!r}.")
    for name, about in known.items():
        if name not in values and "defaultValue" not in about and not about.get("isOptional"):
            raise ClientError(f"The parameter {name} of {package.name} has no default: give it a value.")
