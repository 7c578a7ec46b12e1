"""Starts a TFX executor in a container of open-source Kubeflow Pipelines v2: `python -m kubeflow.entrypoint`.

TFX's own entrypoint expects what Vertex hands over. KFP's launcher hands over artifacts without a type, with URIs of
an object store that TensorFlow cannot open (their files lie on the local disk) and with metadata as its store gives
it back. This one translates in both directions and lets TFX do the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .options import BEAM, TOLD

# The launcher stages at fixed absolute paths; where a test has no root to write to, this puts them elsewhere.
ROOT = "KUBEFLOW_STAGING_ROOT"
SCHEMES = {"minio": "minio", "s3": "s3", "gs": "gcs"}  # scheme -> folder, as in KFP's LocalPathForURI
BY_KFP = ("display_name", "store_session_info")  # metadata that KFP adds to every artifact
LOGS = "executor-logs"  # an output that KFP adds where it publishes logs


def main(argv: list[str]) -> None:
    """Runs the executor that the arguments name; they are those of TFX's entrypoint, and what our compiler adds."""
    arguments, others = parse(argv)
    spec = json.loads(arguments.json_serialized_inputs_spec_args or "{}")
    executor_input = json.loads(arguments.json_serialized_invocation_args)
    with _beam(executor_input) as (folder, options), staged_in(folder, executor_input):
        _run(arguments, [*others, *options], spec, executor_input)


def _run(arguments: argparse.Namespace, others: list[str], spec: dict, executor_input: dict) -> None:
    translate_input(executor_input, spec)
    forget_placeholders(executor_input)
    apply_parameters(executor_input, json.loads(arguments.parameter_targets))

    from tfx.orchestration.kubeflow.v2 import compiler_utils

    _open_object_stores()
    compiler_utils.TITLE_TO_CLASS_PATH.update(json.loads(arguments.artifact_classes))
    check_types(executor_input, compiler_utils.TITLE_TO_CLASS_PATH)
    make_folders(executor_input)
    if arguments.example_gen_driver:
        _drive(executor_input, spec)

    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    arguments.json_serialized_invocation_args = json.dumps(executor_input)
    arguments.json_serialized_inputs_spec_args = json.dumps(spec)
    kubeflow_v2_run_executor.main((arguments, others))
    output_file = executor_input["outputs"]["outputFile"]
    with open(output_file) as file:
        output = json.load(file)
    translate_output(output)
    with open(output_file, "w") as file:
        json.dump(output, file)


@contextlib.contextmanager
def _beam(executor_input: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """What `kubeflow.options.Beam` says: a folder that Beam's workers see, too, or ""; and Beam's options."""
    given = os.environ.get(BEAM)
    if given is None:
        yield "", []
        return
    if not given:
        sys.exit(
            "This version of Kubeflow Pipelines does not give single tasks their annotations, and Beam's options are "
            "in one: update it to 2.14, or compile without them."
        )
    beam = json.loads(given)
    module, _, name = beam["hook"].partition(":")
    outputs = executor_input["outputs"].get("artifacts", {})
    uri = min((one["uri"] for value in outputs.values() for one in value["artifacts"]), default="")
    with getattr(importlib.import_module(module), name)(os.path.dirname(uri), beam["told"]) as found:
        yield found


@contextlib.contextmanager
def staged_in(folder: str, executor_input: dict) -> Iterator[None]:
    """While it lasts, what the launcher stages lies in `folder`, if it is not "", with temporary files beside it.

    Inputs are copied there. Outputs and the output file are copied to where the launcher looks for them, at the end.
    """
    if not folder:
        yield
        return
    inputs = executor_input.get("inputs", {}).get("artifacts", {})
    root, environment = _root(), dict(os.environ)
    for value in inputs.values():
        for one in value.get("artifacts", []):
            path = local_path(one)
            if path != one["uri"] and os.path.exists(path):
                copied = os.path.join(folder, os.path.relpath(path, root))
                _copy(path, copied)
                if one.get("customPath"):
                    one["customPath"] = copied
    outputs = executor_input["outputs"]
    launchers = outputs["outputFile"]
    outputs["outputFile"] = os.path.join(folder, "output", os.path.basename(launchers))
    os.makedirs(os.path.dirname(outputs["outputFile"]))
    os.makedirs(os.path.join(folder, "tmp"))
    os.environ |= {ROOT: folder, "TMPDIR": os.path.join(folder, "tmp")}
    tempfile.tempdir = None  # it is looked up again
    try:
        for value in outputs.get("artifacts", {}).values():
            for one in value["artifacts"]:
                os.makedirs(os.path.dirname(local_path(one)), exist_ok=True)
        yield
    finally:
        for name in (ROOT, "TMPDIR"):
            os.environ.pop(name)
            os.environ |= {key: text for key, text in environment.items() if key == name}
        tempfile.tempdir = None
    for value in outputs.get("artifacts", {}).values():
        for one in value["artifacts"]:
            inside = os.path.relpath(one["uri"], folder)  # it is a path by now
            if inside.split(os.sep)[0] in SCHEMES.values() and os.path.exists(one["uri"]):
                _copy(one["uri"], os.path.join(root, inside))
    _copy(outputs["outputFile"], launchers)


def _copy(source: str, target: str) -> None:
    """Copies a file or folder, without who may read it: the volume has rules of its own."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(source):
        shutil.copytree(source, target, copy_function=shutil.copyfile, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def _open_object_stores() -> None:
    """Lets TFX's components read and write object stores, where the project has what that takes."""
    try:
        import storage.filesystem  # noqa: F401
    except ModuleNotFoundError as missing:
        if not (missing.name or "").startswith("storage"):
            raise


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Known arguments, and the others, which are Beam's."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--executor_class_path", required=True)
    parser.add_argument("--json_serialized_invocation_args", required=True)
    parser.add_argument("--json_serialized_inputs_spec_args", default="")
    parser.add_argument("--artifact_classes", default="{}", help="JSON: schema title -> path of the class")
    parser.add_argument("--parameter_targets", default="{}", help="JSON: parameter -> paths into the properties")
    parser.add_argument("--example_gen_driver", action="store_true", help="resolve span and version first")
    return parser.parse_known_args(argv)


def translate_input(executor_input: dict, spec: Mapping[str, Any]) -> None:
    """Changes KFP's ExecutorInput to what TFX expects, in place.

    Args:
        executor_input: as the launcher puts it in the place of `{{$}}`.
        spec: ComponentInputsSpec of the component: types of the inputs, and which are optional.
    """
    inputs = executor_input.setdefault("inputs", {})
    artifacts = inputs.setdefault("artifacts", {})
    outputs = executor_input.setdefault("outputs", {})
    declared = spec.get("artifacts", {})
    for key in list(artifacts):
        found = (artifacts[key] or {}).get("artifacts") or []
        if declared.get(key, {}).get("isOptional"):
            # KFP registers an output also when nothing was written into it.
            found = [one for one in found if os.path.exists(local_path(one))]
        if not found or "." in key:  # TFX calls so what a condition needs, and not the executor
            del artifacts[key]
            continue
        artifacts[key]["artifacts"] = found
        for one in found:
            if not any((one.get("type") or {}).values()):
                one["type"] = declared.get(key, {}).get("artifactType", {})
    outputs.get("artifacts", {}).pop(LOGS, None)
    every = [
        one
        for group in (artifacts, outputs.get("artifacts", {}))
        for value in group.values()
        for one in value["artifacts"]
    ]
    places = {one["uri"]: local_path(one) for one in every}
    for one in every:
        one["uri"] = one.pop("customPath", None) or places[one["uri"]]
        one["metadata"] = {
            key: _map_text(_plain(value), lambda text: _inside(text, places))
            for key, value in (one.get("metadata") or {}).items()
            if key not in BY_KFP and value is not None
        }


def translate_output(output: dict) -> None:
    """Changes TFX's ExecutorOutput to what KFP expects, in place: URIs of the object store, no nulls."""
    for value in output.get("artifacts", {}).values():
        for one in value["artifacts"]:
            one["uri"] = to_uri(one["uri"])
            metadata = {key: _map_text(part, to_uri) for key, part in one.get("metadata", {}).items()}
            one["metadata"] = {key: part for key, part in metadata.items() if part is not None}


def forget_placeholders(executor_input: dict) -> None:
    """Makes "" of what KFP was to tell of the run and did not, because it is too old, in place."""
    values = executor_input["inputs"].get("parameterValues", {})
    for name, value in values.items():
        if value in TOLD:
            values[name] = ""


def apply_parameters(executor_input: dict, targets: Mapping[str, list[list[str]]]) -> None:
    """Puts the values of pipeline parameters into the properties that they are part of, in place."""
    values = executor_input["inputs"].get("parameterValues", {})
    for name, paths in sorted(targets.items()):
        given = values.pop(name)
        for property_name, *path in paths:
            if not path:
                values[property_name] = given
                continue
            tree = json.loads(values[property_name])
            inner = tree
            for key in path[:-1]:
                inner = inner[int(key)] if isinstance(inner, list) else inner[key]
            last = int(path[-1]) if isinstance(inner, list) else path[-1]
            is_int = isinstance(inner[last], int) and not isinstance(inner[last], bool)
            inner[last] = int(given) if is_int and float(given).is_integer() else given
            values[property_name] = json.dumps(tree, sort_keys=True)


def check_types(executor_input: Mapping[str, Any], known: Mapping[str, str]) -> None:
    """Raises ValueError for an artifact whose type has no class, before TFX tries to import its title."""
    for side in ("inputs", "outputs"):
        for key, value in executor_input[side].get("artifacts", {}).items():
            for one in value["artifacts"]:
                title = _title(one.get("type") or {})
                if title not in known:
                    raise ValueError(
                        f"The artifact {key} has the type {title!r}, of which no class is known; compile the "
                        "pipeline with kubeflow.compiler, which names the classes of the types."
                    )


def make_folders(executor_input: Mapping[str, Any]) -> None:
    """Makes the folders of the outputs, as TFX's own launcher does; KFP makes those above them.

    KFP's own types, system.HTML and such, are files. A folder that stays empty is not uploaded.
    """
    for value in executor_input["outputs"].get("artifacts", {}).values():
        for one in value["artifacts"]:
            if not _title(one["type"]).startswith("system."):
                os.makedirs(one["uri"], exist_ok=True)


def local_path(one: Mapping[str, Any]) -> str:
    """Where the launcher puts the files of an artifact."""
    if one.get("customPath"):
        return one["customPath"]
    scheme, colon, rest = one["uri"].partition("://")
    if not colon or scheme not in SCHEMES:
        return one["uri"]
    return os.path.join(_root(), SCHEMES[scheme], rest)


def to_uri(path: str) -> str:
    """The inverse of `local_path`; what lies elsewhere stays as it is."""
    for scheme, folder in SCHEMES.items():
        start = os.path.join(_root(), folder) + "/"
        if path.startswith(start):
            return f"{scheme}://{path.removeprefix(start)}"
    return path


def _root() -> str:
    return os.environ.get(ROOT) or "/"


def _inside(text: str, places: Mapping[str, str]) -> str:
    """The local path of a URI at or below one of `places`; other text as it is."""
    for uri, path in places.items():
        if text == uri or text.startswith(f"{uri}/"):
            return path + text.removeprefix(uri)
    return text


def _plain(value: object) -> object:
    """A list or a dict as it was before KFP's metadata store wrapped it."""
    if isinstance(value, dict) and len(value) == 1 and (set(value) <= {"list", "struct"}):
        return next(iter(value.values()))
    return value


def _map_text(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_map_text(part, change) for part in value]
    if isinstance(value, dict):
        return {key: _map_text(part, change) for key, part in value.items()}
    return value


def _title(kind: Mapping[str, str]) -> str:
    if "schemaTitle" in kind:
        return kind["schemaTitle"]
    found = re.search(r"^title:\s*(\S+)\s*$", kind.get("instanceSchema", ""), re.MULTILINE)
    return found[1] if found else ""


def _drive(executor_input: dict, spec: Mapping[str, Any]) -> None:
    """Finds the newest span and version of a file-based ExampleGen, in TFX's driver, which KFP does not start."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx.orchestration.kubeflow.v2.file_based_example_gen import driver

    parsed = json_format.ParseDict(executor_input, pipeline_spec_pb2.ExecutorInput(), ignore_unknown_fields=True)
    parsed_spec = json_format.ParseDict(spec, pipeline_spec_pb2.ComponentInputsSpec(), ignore_unknown_fields=True)
    driver._run_driver(parsed, parsed_spec)
    # TFX's entrypoint reads the properties from the driver's file; the artifact's metadata are Vertex's business.
    with open(executor_input["outputs"]["outputFile"]) as file:
        found = json.load(file)
    for key, value in found.get("artifacts", {}).items():
        for one, update in zip(
            executor_input["outputs"]["artifacts"][key]["artifacts"], value["artifacts"], strict=True
        ):
            one["metadata"] |= update.get("metadata", {})


if __name__ == "__main__":
    from absl import app

    given = sys.argv[1:]
    app.run(lambda _: main(given), argv=sys.argv[:1])
