"""Loads an exported model as a server would and sends requests to it; a program of its own for ServingCheck.

    python -m components.serving_probe MODEL REQUESTS RESULT

MODEL is a SavedModel; REQUESTS a JSON file {"images": {name: base64}, "examples": {name: base64}}; RESULT the JSON
file to write: {"load_seconds", "latency_ms", "responses": {name: {"probabilities", "class_id", "class_name"}},
"examples": {name: probabilities}}. It knows nothing of this project but the names of the two signatures.
"""

from __future__ import annotations

import base64
import json
import pathlib
import statistics
import sys
import time
from typing import Any

REPEATS = 10


def probe(model: str, requests: dict[str, dict[str, str]]) -> dict[str, object]:
    """Loads `model` and answers every request alone, then repeats the first one to take its time."""
    import tensorflow as tf

    start = time.perf_counter()
    loaded = tf.saved_model.load(model)
    serving = loaded.signatures["serving_default"]
    by_example = loaded.signatures["serving_examples"]
    load_seconds = time.perf_counter() - start

    def ask(signature: Any, value: str) -> dict[str, Any]:
        (argument,) = signature.structured_input_signature[1]
        answer = signature(**{argument: tf.constant([base64.b64decode(value)])})
        return {key: tensor.numpy()[0] for key, tensor in answer.items()}

    responses = {}
    for name, value in requests["images"].items():
        answer = ask(serving, value)
        responses[name] = {
            "probabilities": [float(p) for p in answer["probabilities"]],
            "class_id": int(answer["class_id"]),
            "class_name": answer["class_name"].decode(),
        }
    examples = {
        name: [float(p) for p in ask(by_example, value)["probabilities"]]
        for name, value in requests["examples"].items()
    }
    times = []
    first = next(iter(requests["images"].values()))
    for _ in range(REPEATS):
        start = time.perf_counter()
        ask(serving, first)
        times.append(1000 * (time.perf_counter() - start))
    return {
        "load_seconds": load_seconds,
        "latency_ms": statistics.median(times),
        "responses": responses,
        "examples": examples,
    }


if __name__ == "__main__":
    model_path, requests_path, result_path = sys.argv[1:]
    result = probe(model_path, json.loads(pathlib.Path(requests_path).read_text()))
    pathlib.Path(result_path).write_text(json.dumps(result))
