"""ServingCheck: does the exported model serve? Emits the InfraBlessing that Pusher asks for.

TFX's InfraValidator needs Docker or Kubernetes. This asks the same question of the SavedModel in a fresh process,
with real images through the signature that users will call.
"""

import base64
import io
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import PIL.Image
import tensorflow as tf
from tfx.components.util import model_utils  # noqa: F401  Pusher reads the blessing with it
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import Examples, InfraBlessing, Model
from tfx.utils import path_utils

from components import records
from core import processes
from core.events import emit

TIMEOUT = 600  # seconds; loading TensorFlow and a large model on a busy machine
RESULT = "serving_check.json"
TOLERANCE = 1e-3  # between the two signatures on the same image


@component
def ServingCheck(
    model: InputArtifact[Model],
    examples: InputArtifact[Examples],
    blessing: OutputArtifact[InfraBlessing],
    images: Parameter[int],
    max_latency_ms: Parameter[float],
    code: Parameter[str],
) -> None:
    """Sends `images` test images, and one as JPEG, PNG, grey and in two other sizes, to the model.

    The blessing is withheld, and the reason written to `serving_check.json` beside it, if the model does not load,
    an answer has the wrong form, both signatures disagree, or the median request takes longer than max_latency_ms.
    """
    del code
    path = path_utils.serving_model_path(model.uri)
    requests = make_requests(list(itertools.islice(records.read(examples, "test"), images)))
    result, problems = run_probe(path, requests)
    if result:
        problems += judge(result, max_latency_ms)
    for problem in problems:
        emit("warning", text=f"serving check: {problem}")
    result = {key: result.get(key) for key in ("load_seconds", "latency_ms")} | {
        "requests": sum(map(len, requests.values())),
        "problems": problems,
    }
    with fileio.open(os.path.join(blessing.uri, RESULT), "w") as file:
        file.write(json.dumps(result, indent=1))
    # The property and the file are those of TFX's InfraValidator.
    blessing.set_int_custom_property("blessed", 0 if problems else 1)
    with fileio.open(os.path.join(blessing.uri, "INFRA_NOT_BLESSED" if problems else "INFRA_BLESSED"), "w") as file:
        file.write("")


def make_requests(examples: list[bytes]) -> dict[str, dict[str, str]]:
    """The requests for the probe: every image and its example, and the first image in other forms."""
    images = [tf.train.Example.FromString(e).features.feature["image"].bytes_list.value[0] for e in examples]
    requests = {f"test image {number}": image for number, image in enumerate(images)}
    first = PIL.Image.open(io.BytesIO(images[0])).convert("RGB")
    forms = {
        "a PNG": (first, "PNG"),
        "a JPEG": (first, "JPEG"),
        "a grey PNG": (first.convert("L"), "PNG"),
        "a grey JPEG": (first.convert("L"), "JPEG"),
        "a larger PNG": (first.resize((300, 200)), "PNG"),
        "a smaller JPEG": (first.resize((17, 23)), "JPEG"),
    }
    for name, (image, form) in forms.items():
        buffer = io.BytesIO()
        image.save(buffer, form)
        requests[name] = buffer.getvalue()
    by_example = {f"test image {number}": example for number, example in enumerate(examples)}
    return {
        "images": {name: base64.b64encode(value).decode() for name, value in requests.items()},
        "examples": {name: base64.b64encode(value).decode() for name, value in by_example.items()},
    }


def run_probe(model: str, requests: dict[str, dict[str, str]]) -> tuple[dict, list[str]]:
    """The probe's result from a fresh process, and what went wrong instead."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = pathlib.Path(folder, "requests.json"), pathlib.Path(folder, "result.json")
        asked.write_text(json.dumps(requests))
        command = processes.module("components.serving_probe", model, str(asked), str(answered))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return {}, [f"the model did not answer within {TIMEOUT} s"]
        if done.returncode:
            sys.stderr.write(done.stderr)
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return {}, [f"the model does not load or answer: {last[:300]}"]
        return json.loads(answered.read_text()), []


def judge(result: dict, max_latency_ms: float) -> list[str]:
    """What is wrong with the probe's answers, in phrases."""
    problems = []
    sizes = {len(answer["probabilities"]) for answer in result["responses"].values()}
    if len(sizes) != 1:
        problems.append(f"answers have different numbers of classes: {sorted(sizes)}")
    for name, answer in result["responses"].items():
        probabilities = answer["probabilities"]
        if not all(math.isfinite(p) and -1e-6 <= p <= 1 + 1e-6 for p in probabilities):
            problems.append(f"{name} gives numbers that are no probabilities")
        elif abs(sum(probabilities) - 1) > 1e-3:
            problems.append(f"{name} gives probabilities that add up to {sum(probabilities):.3f}")
        elif probabilities[answer["class_id"]] != max(probabilities) or not answer["class_name"]:
            problems.append(f"{name} gives a class that is not the most probable one")
    for name, probabilities in result["examples"].items():
        other = result["responses"][name]["probabilities"]
        if max(abs(a - b) for a, b in zip(probabilities, other, strict=True)) > TOLERANCE:
            problems.append(f"the two signatures disagree on {name}")
    if result["latency_ms"] > max_latency_ms:
        problems.append(
            f"a request takes {result['latency_ms']:.0f} ms, more than serving.max_latency_ms={max_latency_ms:g}"
        )
    return problems
