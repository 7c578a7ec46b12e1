"""What the experiments on a GPU train, choose and tell; on JAX on the CPU, in processes of their own."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest
from image_data import write_dark_and_light

from benchmarks import arrays, gpu, reference, report
from core import settings

ROOT = pathlib.Path(__file__).parents[2]
needs_jax = pytest.mark.skipif(
    not importlib.util.find_spec("jax"), reason="needs JAX, which the development lock has"
)

# Prints how far the weights of an epoch in one call are from those of `fit`, and how far both are from the start.
SAME = """
    import keras
    import numpy as np
    from benchmarks import arrays, epochs
    from core.settings import Model, Training
    from trainer import model, recipe

    random = np.random.default_rng(1)
    split = arrays.Split(random.integers(0, 256, (64, 12, 12, 3), np.uint8), random.integers(0, 3, 64))
    settings = Training(epochs=2, learning_rate=0.1, muon=0.03, cutout=4)

    def learner():
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        network = model.build(Model(input_size=12, width=0.1, dropout=0.5), 3, 12, (120.0,) * 3, (4000.0,) * 3)
        return recipe.learner(network, settings, steps=4)

    fitted = learner()
    network = fitted.layers[-1]
    first = [np.array(variable) for variable in network.trainable_variables]
    fitted.fit(split.images, split.labels, batch_size=16, epochs=2, shuffle=False, verbose=0)
    made = epochs.Training(epochs.of_learner(learner(), settings.label_smoothing), split, 16, 2, seed=1)
    kept = []
    for epoch in range(2):
        made.epoch(epoch, order=np.arange(64).reshape(4, 16))
        made.average()
        kept.append([np.array(value) for value in made.values()[0]])
    for variables, values, before in (
        (network.trainable_variables, made.values()[0], first),
        (network.non_trainable_variables, made.values()[1], None),
    ):
        for at, (variable, value) in enumerate(zip(variables, values, strict=True)):
            np.testing.assert_allclose(value, variable, rtol=1e-3, atol=1e-4, err_msg=variable.path)
            if before:
                assert not np.allclose(value, before[at], rtol=1e-2, atol=1e-3), variable.path
    predicted = np.argmax(fitted.predict(split.images, verbose=0), axis=1)
    assert abs(made.accuracy(split) - np.mean(predicted == split.labels)) < 0.05
    for mean, *values in zip(made.values(mean=True)[0], *kept, strict=True):
        np.testing.assert_allclose(mean, np.mean(values, axis=0), rtol=1e-4, atol=1e-5)
    assert 0 <= made.accuracy(split, view_count=6, mean=True) <= 1
"""

CHANGES = """
    import jax
    import jax.numpy as jnp
    import keras
    import numpy as np
    from benchmarks import epochs

    images = jnp.asarray(np.random.default_rng(1).integers(0, 256, (8, 16, 16, 3), np.uint8))
    flat = jnp.broadcast_to(jnp.arange(8, dtype=jnp.uint8)[:, None, None, None] * 20, images.shape)
    target = jnp.eye(8)
    key = jax.random.key(1)
    mixed, told = epochs.cutmix(1.0, 0.9)(flat, target, key, 0.5)
    for at in range(8):
        # The part of the target that is an image's own is the part of its pixels that are.
        assert abs(float(told[at, at]) - float(jnp.mean(mixed[at] == 20 * at))) < 1e-6
        assert abs(float(jnp.sum(told[at])) - 1) < 1e-6
    assert 0.2 < float(jnp.mean(jnp.diag(told))) < 0.8
    for change in (epochs.cutmix(1.0, 0.9), epochs.distortion(1.0, 0.9), epochs.cutmix(0.0)):
        late, unchanged = change(images, target, key, 0.95)
        np.testing.assert_array_equal(late, images)
        np.testing.assert_array_equal(unchanged, target)
    distorted, unchanged = epochs.distortion(1.0)(images, target, key, 0.0)
    assert distorted.dtype == images.dtype and distorted.shape == images.shape
    assert float(jnp.mean(distorted != images)) > 0.5
    np.testing.assert_array_equal(unchanged, target)
    both = epochs.one_after_the_other(epochs.distortion(1.0), epochs.cutmix(1.0))(images, target, key, 0.0)
    assert not np.array_equal(both[0], distorted) and not np.array_equal(both[1], target)

    x = jnp.asarray(np.random.default_rng(2).permutation(2 * 9 * 12 * 3).reshape(2, 9, 12, 3), jnp.float32)
    for padding in ("same", "valid"):
        kinds = keras.layers.MaxPooling2D, epochs.SlicedMaxPooling
        layers = [kind(3, strides=2, padding=padding) for kind in kinds]
        pooled = [layer(x) for layer in layers]
        np.testing.assert_array_equal(*pooled)
        gradients = [jax.grad(lambda x: jnp.sum(layer(x) ** 2))(x) for layer in layers]
        np.testing.assert_array_equal(*gradients)
"""


def run(code, *arguments):
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr[-3000:]


@needs_jax
def test_an_epoch_in_one_call_learns_what_fit_learns():
    run(SAME)


@needs_jax
def test_mixed_and_distorted_images_and_pooling_by_slices():
    run(CHANGES)


@needs_jax
@pytest.mark.slow
def test_experiments_build_on_each_other_and_are_told(tmp_path):
    data = write_dark_and_light(tmp_path / "data.npz", train=300, test=100, size=32)
    target, work = tmp_path / "results" / "gpu.json", tmp_path / "work"
    for folder in (target.parent, work):
        folder.mkdir()
    (work / "gpu.json").write_text('{"experiments": {}}')  # to go on from, so that the check is left out
    arguments = ["--data", str(data), "--json", str(target), "--work", str(work), "--minutes", "60"]
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--tiny",
        *arguments,
        "--only",
        "peak",
        "width 1",
        "CutMix",
        "taught",
    ]
    # Compiling is most of the time: on a CPU, that of slow programs takes half as long.
    environment = os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    first = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr[-3000:]
    written = json.loads(target.read_text())
    found = {name: run["state"] for name, run in written["experiments"].items()}
    names = ["peak", "width 1", "and CutMix", "taught by the best two"]
    assert found == dict.fromkeys(names, "done"), first.stderr[-3000:]
    assert len(written["experiments"]["taught by the best two"]["recipe"]["teachers"]) == 2
    again = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-3000:]
    assert " s left]" not in again.stdout  # nothing is left to do
    assert json.loads(target.read_text())["experiments"] == written["experiments"]
    report.main([str(target.parent), "--output", str(tmp_path / "docs")])
    text = (tmp_path / "docs" / report.PAGE).read_text()
    assert "## On a GPU" in text
    assert "| taught by the best two |" in text


def test_another_backend_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--json", str(tmp_path / "gpu.json")])
    assert "set KERAS_BACKEND=jax" in capsys.readouterr().err


@pytest.fixture
def bench(tmp_path):
    about = {"accelerator": "NVIDIA H200", "cores": 16}
    result = {"machine": about, "peak_tflops": 989.0, "targets": [0.7734, 0.9], "experiments": {}}
    data = gpu.few(arrays.load("shapes10", 60), 20)
    return gpu.Bench(data, result, tmp_path / "gpu.json", tmp_path, time.monotonic() + 3600, tiny=False)


def trained(recipe, accuracy, **further):
    epochs = [{"epoch": n, "seconds": 2.0 * n, "images_per_second": 1e5, "val_accuracy": n / 5} for n in range(1, 5)]
    return {
        "recipe": {**recipe, "sets": list(recipe["sets"]), "teachers": list(recipe["teachers"])},
        "epochs": epochs,
        "seconds": 8.0,
        "images_per_second": 1e5,
        "flops_per_image": 1e9,
        "tflops": 100.0,
        "served_val_accuracy": accuracy,
        **further,
    }


def as_kept(wanted):
    return gpu.dataclasses.asdict(wanted)


def test_an_experiment_that_fails_or_takes_too_long_is_told_and_done_again(bench):
    def fails():
        raise ValueError("no memory")

    bench.do("a", "search", fails)
    bench.do("b", "search", lambda: bench._allow(4000))
    found = bench.result["experiments"]
    assert (found["a"]["state"], found["a"]["why"]) == ("failed", "ValueError: no memory")
    assert found["b"]["state"] == "skipped"
    assert "it would take about 4000 s" in found["b"]["why"]
    kept = json.loads((bench._work / "gpu.json").read_text())
    assert [row[:2] for row in kept["tables"][0]["rows"]] == [["a", "failed"], ["b", "skipped"]]
    bench.do("a", "search", lambda: trained(as_kept(gpu.Recipe("cifar10-best")), 0.9))
    bench.do("a", "search", fails)
    assert found["a"]["state"] == "done"


def test_the_search_goes_on_from_what_was_best(bench):
    with pytest.raises(gpu.TooLong):
        gpu.chosen(bench)
    plain = gpu.Recipe("cifar10-best", ("model.width=1.0",), 64, sliced=True)
    for name, wanted, accuracy in (
        ("plain", plain, 0.91),
        ("CutMix", gpu.on_top_of(plain, cutmix=0.5), 0.92),
        ("worse", gpu.on_top_of(plain, sets=("model.dropout=0.3",)), 0.90),
    ):
        bench.do(name, "search", lambda wanted=wanted, accuracy=accuracy: trained(as_kept(wanted), accuracy))
    assert gpu.chosen(bench)[0] == "CutMix"
    wider = gpu.on_top(bench, sets=("model.pools=[2, 4, 5]",), wider=1.5)
    assert (wider.cutmix, wider.sets[-1]) == (0.5, "model.width=1.5")
    assert bench.of(wider).model.pools == (2, 4, 5)
    pupil = gpu.pupil(bench, 2, 1.5)
    assert (pupil.teachers, pupil.epochs, pupil.cutmix) == (("CutMix", "plain"), 6, 0.5)  # the trainings had 4 epochs
    bench.do("pupil", "search", lambda: trained(as_kept(pupil), 0.93))
    assert gpu.chosen(bench) == ("pupil", pupil)
    assert gpu.on_top(bench, distorted=0.5) == gpu.on_top_of(gpu.on_top_of(plain, cutmix=0.5), distorted=0.5)


def test_every_experiment_has_settings_that_are_known(bench):
    for name, group, _ in gpu.experiments(bench):
        assert group in ("peak", *gpu.GROUPS), name
    assert bench.of(gpu.Recipe("paper", gpu.BATCHES_OF_512, 10)).training.batch_size == 512
    assert settings.load("cifar10-best").model.views == gpu.SERVED


def test_the_tables_tell_times_and_shares_of_the_peak(bench):
    wanted = as_kept(gpu.Recipe("cifar10-best"))
    bench.do("one", "recipes", lambda: trained(wanted, 0.91, test_accuracy=0.9, compile_seconds=12.3))
    (table,) = bench.result["tables"]
    row = dict(zip(table["columns"], table["rows"][0], strict=True))
    assert row["images/s"] == "100,000"
    assert row["of peak"] == "10.1 %"
    assert (row["to 77.34 %"], row["in all"], row["compiled"]) == ("8.0", "8.0", "12")
    assert row["validation, as served"] == "91.00 %"
    assert "to 90 %" not in row  # none reached it
    assert table["title"].endswith("NVIDIA H200")


def test_the_goals_are_told_beside_what_was_reached(bench):
    paper, best = (as_kept(gpu.Recipe(preset)) for preset in ("paper", "cifar10-best"))
    for name, accuracy in (("paper, 10 epochs", 0.7734), ("paper with Muon, 30 epochs", 0.899)):
        run = trained(paper, 0.9, served_test_accuracy=accuracy, compile_seconds=18.1)
        bench.do(name, "recipes", lambda run=run: run)
    bench.do("paper, 30 epochs", "recipes", lambda: bench._allow(4000))
    bench.do("peak", "peak", lambda: {
        "size": 8192, "tflops_of_product": 400.0, "seconds_of_pooling": 1.0, "seconds_of_pooling_by_slices": 1.0,
    })  # fmt: skip
    bench.do("first", "search", lambda: trained(best, 0.92, seed=1, served_test_accuracy=0.91))
    taught = as_kept(gpu.Recipe("cifar10-best", teachers=("first",)))
    bench.do("best", "search", lambda: trained(taught, 0.94, seed=1, served_test_accuracy=0.92))
    further = trained(taught, 0.93, seed=2, served_test_accuracy=0.93, of="best")
    bench.do("the best, seed 2", "seeds", lambda: further)
    tables = {table["title"].partition(";")[0]: table["rows"] for table in bench.result["tables"]}
    assert tables["Goals"] == [
        ["paper, 10 epochs: 77.34 % of test", "77.34 %", "met"],
        ["paper, 30 epochs: 90.00 % of test", "–", "not measured"],
        ["paper with Muon, 30 epochs: 90.00 % of test", "89.90 %", "not met"],
        [
            "paper, 10 epochs: within 51 s",
            "8.0 s, and 18 s of compilation; 25.00 % of the TFLOP/s of the product of matrices",
            "met",
        ],
        ["the best of the search: 93 % of validation, 2 seeds", "93.50 %", "met"],
        ["the best of the search: 93 % of test, 2 seeds", "92.50 %", "not met"],
        ["the best of the search: within 300 s", "8 s, and 8 s of its teachers", "met"],
    ]
    assert [row[0] for row in tables["The best of the search, further seeds"]] == [
        "best, seed 1",
        "the best, seed 2",
        "mean",
        "sd",
    ]


@pytest.mark.parametrize(
    ("name", "preset"),
    [("and poolings after 2, 4 and 5", "cifar10-gpu"), ("paper with Muon, 30 epochs", "paper-best")],
)
def test_a_preset_has_the_settings_that_were_measured(name, preset):
    results = json.loads((ROOT / "benchmarks" / "results" / "gpu.json").read_text())
    chosen = settings.load(preset)
    measured = settings.parse(results["experiments"][name]["settings"])  # with what was not there to be set then
    assert (chosen.model, chosen.training) == (measured.model, measured.training)
    reached = results["experiments"][name]["served_test_accuracy"]
    assert chosen.gates.min_accuracy < reached - 0.01


def test_the_wider_reference_adds_the_first_result_to_the_third():
    data = arrays.load("shapes10", 20, validation_share=0)
    network = reference.build(data, (32, 32, 64), depth=3)
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [24, 32, 32, 32, 32, 32, 32, 64, 64, 64]
    assert sum(isinstance(layer, keras.layers.Add) for layer in network.layers) == 3
    assert np.isfinite(keras.ops.convert_to_numpy(network(data.train.images[:2]))).all()


def test_a_data_set_is_packed_as_one_file(tmp_path):
    target = tmp_path / "packed.npz"
    arrays.main(["shapes10", str(target)])
    assert len(np.load(target)["x_train"]) == arrays.DRAWN["train"]
    with pytest.raises(SystemExit):
        arrays.main([str(tmp_path / "none.npz"), str(target)])
