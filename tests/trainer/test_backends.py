"""The network and its recipe need no TensorFlow, and do the same on JAX."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from image_data import write_dark_and_light

ROOT = pathlib.Path(__file__).parents[2]
PURE = (
    *("augmentation", "batch_norm", "callbacks", "checkpoint", "metrics", "model", "optimization", "recipe"),
    "summary",
)
BACKENDS = ("tensorflow", "jax")

IMPORTS = """
    import importlib, sys
    import keras  # brings in its backend, whose name is then taken away

    sys.modules |= dict.fromkeys(["tensorflow", "tensorflow_transform", "tfx", "apache_beam"])
    for name in sys.argv[1].split():
        importlib.import_module(name)
"""

COMPUTES = """
    import sys
    import keras
    import numpy as np
    from keras import ops
    from core.settings import Model
    from trainer import augmentation, model, optimization

    images = np.random.default_rng(1).integers(0, 256, (6, 12, 12, 3), np.uint8)
    network = model.build(Model(input_size=8, width=0.1), 3, 12, (120.0,) * 3, (4000.0,) * 3)
    for number, weight in enumerate(network.weights):
        random = np.random.default_rng(number)
        weight.assign(np.abs(random.normal(scale=0.2, size=weight.shape)) + 0.1)
    logits = network(images, training=False)
    schedule = optimization.OneCycle(0.4, 10, 0.2)
    made = {
        "logits": logits,
        "loss": optimization.smoothed_crossentropy(0.1)(np.arange(6) % 3, logits),
        "rates": [schedule(step) for step in range(10)],
        "orthogonalized": optimization.orthogonalized(ops.convert_to_tensor(np.eye(5, 3, dtype="float32") + 0.1)),
    }
    moved = augmentation.FlipAndShift(seed=1)(images, training=True)
    assert moved.shape == images.shape and not np.array_equal(ops.convert_to_numpy(moved), images)
    np.savez(sys.argv[1], **{name: ops.convert_to_numpy(value) for name, value in made.items()})
    print(keras.backend.backend(), "tensorflow" in sys.modules)
"""


def run(code, backend, argument):
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), argument], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout.split()


def test_the_recipe_and_its_benchmark_are_imported_without_tensorflow():
    modules = [f"trainer.{name}" for name in PURE] + [
        f"benchmarks.{name}" for name in ("arrays", "training", "guard")
    ]
    run(IMPORTS, BACKENDS[0], " ".join(modules))


@pytest.mark.slow
def test_every_backend_gives_the_same_numbers(tmp_path):
    made = {}
    for backend in ("numpy", *BACKENDS):
        file = tmp_path / f"{backend}.npz"
        assert run(COMPUTES, backend, str(file)) == [backend, str(backend == "tensorflow")]
        made[backend] = dict(np.load(file))
    for backend in BACKENDS:
        for name, expected in made["numpy"].items():
            np.testing.assert_allclose(made[backend][name], expected, rtol=2e-4, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_the_benchmark_trains_on_jax(tmp_path):
    target = tmp_path / "result.json"
    data = write_dark_and_light(tmp_path / "data.npz", train=320, test=100, size=8)
    arguments = ["--data", str(data), "--epochs", "3"]
    for change in ("model.width=0.1", "model.input_size=8", "training.batch_size=32"):
        arguments += ["--set", change]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.training", *arguments, "--test", "--json", str(target)],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        cwd=ROOT,
        check=True,
    )
    result = json.loads(target.read_text())
    (run,) = result["runs"]
    assert result["backend"] == "jax"
    assert len(run["epochs"]) == 3
    # By chance it is 0.5; with each of six seeds it was 0.99 or more, and 1 of the test images.
    assert run["epochs"][-1]["accuracy"] > 0.75
    assert run["test_accuracy"] > 0.75
    assert [row[0] for row in result["tables"][0]["rows"]] == ["1"]
