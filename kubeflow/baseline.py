"""What stands in for TFX's resolvers, which open-source KFP does not execute: finding what earlier runs left.

A history is a folder that outlives the runs, on a volume or in an object store (`s3://`), with numbered versions
(`FOLDER/1767225600/`), each of which is complete or not there for `versions`: the layout of TensorFlow Serving.
`Record` adds an artifact to a history, `Latest` makes an artifact of the newest version in one. A folder that a
Pusher fills through `publish` is a history of models as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec
from tfx.utils import io_utils

from . import object_store

KEPT = 10  # versions that stay in a history


class LatestExecutor(base_executor.BaseExecutor):
    """Copies the newest version into the output; leaves it empty if there is none."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads `history`, writes into the one output, below `under`."""
        (found,) = output_dict.values()
        artifact = artifact_utils.get_single_instance(found)
        folder = exec_properties["history"]
        numbers = versions(folder)
        if not numbers:
            return
        io_utils.copy_dir(
            os.path.join(folder, str(numbers[-1])), os.path.join(artifact.uri, exec_properties["under"])
        )
        beside = os.path.join(folder, f"{numbers[-1]}.json")
        if fileio.exists(beside):
            with fileio.open(beside, "r") as file:
                for name, value in json.loads(file.read()).items():
                    setattr(artifact, name, value)
        artifact.set_string_custom_property("version", str(numbers[-1]))


class RecordExecutor(base_executor.BaseExecutor):
    """Adds the input to a history, once."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads the one input, writes below `history`."""
        (found,) = input_dict.values()
        artifact = artifact_utils.get_single_instance(found)
        properties = {name: getattr(artifact, name) for name in artifact.PROPERTIES or ()}
        record(artifact.uri, exec_properties["history"], properties)


@functools.cache
def _latest_spec(kind: type[types.Artifact], key: str) -> type[component_spec.ComponentSpec]:
    parameters = {name: component_spec.ExecutionParameter(type=str) for name in ("history", "under")}
    outputs = {key: component_spec.ChannelParameter(type=kind)}
    return type(
        "LatestSpec", (component_spec.ComponentSpec,), {"PARAMETERS": parameters, "INPUTS": {}, "OUTPUTS": outputs}
    )


@functools.cache
def _record_spec(kind: type[types.Artifact]) -> type[component_spec.ComponentSpec]:
    parameters = {"history": component_spec.ExecutionParameter(type=str)}
    inputs = {"artifact": component_spec.ChannelParameter(type=kind)}
    return type(
        "RecordSpec", (component_spec.ComponentSpec,), {"PARAMETERS": parameters, "INPUTS": inputs, "OUTPUTS": {}}
    )


class Latest(base_component.BaseComponent):
    """The newest version of a history as an artifact; an empty one, which the entrypoint drops, if there is none.

    Compile it with caching off, or it would find the same for ever.
    """

    SPEC_CLASS = component_spec.ComponentSpec  # made for the type, see __init__
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(LatestExecutor)

    def __init__(self, kind: type[types.Artifact], key: str, history: str, under: str = "") -> None:
        """Args:
        kind: type of the artifact.
        key: name of the output.
        history: a folder of numbered versions.
        under: subfolder of the artifact that the files go to, such as "Format-Serving" for a Model.
        """
        self.SPEC_CLASS = _latest_spec(kind, key)
        super().__init__(self.SPEC_CLASS(history=history, under=under, **{key: types.Channel(type=kind)}))


class Record(base_component.BaseComponent):
    """Adds an artifact to a history: complete or not at all, and not twice in a row."""

    SPEC_CLASS = component_spec.ComponentSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(RecordExecutor)

    def __init__(self, artifact: types.BaseChannel, history: str) -> None:
        """Args:
        artifact: what to keep.
        history: the folder; made when needed.
        """
        self.SPEC_CLASS = _record_spec(artifact.type)
        super().__init__(self.SPEC_CLASS(artifact=artifact, history=history))


def versions(folder: str) -> list[int]:
    """The numbers of the versions in a history, ascending. Raises kubeflow.object_store.ObjectStoreError."""
    if object_store.is_uri(folder):
        return object_store.versions(folder)
    if not fileio.isdir(folder):
        return []
    names = (name.strip("/") for name in fileio.listdir(folder))
    return sorted(int(name) for name in names if name.isdigit())


def record(source: str, folder: str, properties: Mapping[str, str | float] | None = None, kept: int = KEPT) -> None:
    """Copies the folder `source` into a history as its newest version, unless the newest has the same files.

    Args:
        source: what to keep.
        folder: the history; made when needed.
        properties: of the artifact's type, such as split_names; they lie beside the version.
        kept: versions that stay.
    """
    publish(source, folder, fingerprint(source), properties=properties)
    for number in versions(folder)[:-kept]:
        if object_store.is_uri(folder):
            object_store.remove(folder, number)
            continue
        fileio.rmtree(os.path.join(folder, str(number)))
        if fileio.exists(beside := os.path.join(folder, f"{number}.json")):
            fileio.remove(beside)


def publish(
    source: str,
    folder: str,
    digest: str,
    extra: Mapping[str, bytes] | None = None,
    properties: Mapping[str, object] | None = None,
    known: Callable[[str], str] | None = None,
) -> int:
    """Makes the files of `source` the newest version in a history, unless the newest has them already.

    Readers never see half of it: on a volume the copy is made under another name and then renamed, for object stores
    see `kubeflow.object_store`. Of several at once that bring the same, one makes a version.

    Args:
        source: a local folder.
        folder: the history; made when needed.
        digest: identifies the content of `source`.
        extra: further files, by their names in the version.
        properties: for a JSON file beside the version.
        known: gives the digest of a version's folder; the default is `fingerprint`.

    Returns:
        The version's number.
    """
    if object_store.is_uri(folder):
        return object_store.publish(source, folder, digest, extra, properties)
    fileio.makedirs(folder)
    incoming = os.path.join(folder, f".incoming-{uuid.uuid4().hex}")
    with _alone(folder):
        existing = versions(folder)
        if existing and (known or fingerprint)(os.path.join(folder, str(existing[-1]))) == digest:
            return existing[-1]
        # Seconds since 1970 as everywhere in TFX, but always above what is there.
        version = max([int(time.time()), *(number + 1 for number in existing)])
        try:
            io_utils.copy_dir(source, incoming)
            for name, body in (extra or {}).items():
                fileio.makedirs(os.path.dirname(os.path.join(incoming, name)))
                with fileio.open(os.path.join(incoming, name), "wb") as file:
                    file.write(body)
            if properties:
                with fileio.open(os.path.join(folder, f"{version}.json"), "w") as file:
                    file.write(json.dumps(dict(properties)))
            fileio.rename(incoming, os.path.join(folder, str(version)))
        finally:
            if fileio.exists(incoming):
                fileio.rmtree(incoming)
    return version


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Lets one caller at a time write into a history on a volume; the system ends the turn of one that was killed."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # some file systems cannot lock
            file = stack.enter_context(open(os.path.join(folder, ".lock"), "a"))  # NFS locks what is open for writing
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fingerprint(folder: str) -> str:
    """A digest of all files below a folder and of their names."""
    digest = hashlib.sha256()
    for inner, _, names in sorted(fileio.walk(folder)):
        for name in sorted(names):
            path = os.path.join(inner, name)
            digest.update(f"{os.path.relpath(path, folder)}\0".encode())
            with fileio.open(path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
