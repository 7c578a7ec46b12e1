"""The recipe: what is optimized, that it is reproducible, and that it survives a kill."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import types

import keras
import numpy as np
import pytest
import sklearn.metrics
import sklearn.utils.class_weight
import tensorflow as tf
from toy_training import MODEL, SAME, SIZE, SUMMARY, in_float64, recipe, write_examples

from core import events
from core.errors import UserError
from core.settings import Training
from trainer import checkpoint, hardware, model, optimization, run, tensorboard, training
from trainer import recipe as recipes
from trainer.input import evaluation_dataset, training_dataset
from trainer.summary import DataSummary


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_examples(folder / "train.gz", 64), write_examples(folder / "eval.gz", 20)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A finished training: network, records, its folder, its events."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(events.VARIABLE, str(folder / "events"))
        patch.setattr("trainer.callbacks.SECONDS_BETWEEN_EVENTS", 0)
        network, records = training.train(MODEL, recipe(), SUMMARY, *data, folder / "run")
    return network, records, folder / "run", list(events.Reader(folder / "events").new())


needs_bfloat16 = pytest.mark.skipif(
    not hardware.onednn_may_use_bfloat16(),
    reason="ONEDNN_MAX_CPU_ISA keeps oneDNN from bfloat16, and TensorFlow crashes on it then",
)


def weights_equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_the_learning_rate_rises_and_falls_once():
    schedule = optimization.OneCycle(peak=0.4, steps=10, warmup_share=0.2)
    rates = [float(schedule(step)) for step in range(11)]
    expected = [0.1, 0.3, 0.375, 0.325, 0.275, 0.225, 0.175, 0.125, 0.075, 0.025, 0]
    np.testing.assert_allclose(rates, expected, atol=1e-6)
    again = optimization.OneCycle.from_config(schedule.get_config())
    assert float(again(3)) == rates[3]


@pytest.mark.parametrize(("share", "first", "last"), [(0.0, 0.95, 0.05), (1.0, 0.05, 0.95)])
def test_a_schedule_may_only_fall_or_only_rise(share, first, last):
    schedule = optimization.OneCycle(peak=1, steps=10, warmup_share=share)
    np.testing.assert_allclose([float(schedule(0)), float(schedule(9))], [first, last], rtol=1e-5)


def test_only_kernels_decay_and_as_much_as_by_an_l2_penalty():
    network = model.build(MODEL, 2, SIZE)
    for variable in network.trainable_variables:
        variable.assign(np.ones(variable.shape))
    momentum, decay, rate, steps = 0.5, 0.01, 0.001, 40
    optimizer = optimization.sgd(rate, momentum, decay)
    for _ in range(steps):
        optimizer.apply(
            [np.zeros(variable.shape) for variable in network.trainable_variables], network.trainable_variables
        )
    changed = {variable.name: float(variable[..., 0].numpy().mean()) for variable in network.trainable_variables}
    assert set(changed) == {"kernel", "bias", "gamma", "beta"}
    assert {name for name, value in changed.items() if value != 1} == {"kernel"}
    np.testing.assert_allclose(1 - changed["kernel"], steps * rate * decay / (1 - momentum), rtol=1e-2)


def hidden_kernels(network):
    return [layer.kernel for layer in network.layers if hasattr(layer, "kernel")][1:-1]


def test_muon_steps_in_all_directions_of_hidden_kernels_alone():
    network = model.build(MODEL, 2, SIZE)
    schedule, share = optimization.OneCycle(0.5, 10, 0), 0.1
    settings = recipe(learning_rate=0.5, muon=0.5 * share, weight_decay=0.01)
    ours, plain = (recipes.optimizer(network, settings.model_copy(update=c), schedule) for c in ({}, {"muon": 0}))
    random = np.random.default_rng(1)
    gradients = [[random.normal(size=v.shape).astype("f4") for v in network.trainable_variables] for _ in range(2)]
    start, results = network.get_weights(), []
    for optimizer in (ours, plain):
        network.set_weights(start)
        seen = []
        for some in gradients:
            optimizer.apply(some, network.trainable_variables)
            seen.append([variable.numpy() for variable in network.trainable_variables])
        results.append(seen)
    hidden = {variable.path for variable in hidden_kernels(network)}
    assert {path.split("/")[0] for path in hidden} == {"conv2", "conv3", "conv4", "conv5", "fc6", "fc7"}
    rate, momentum = share * float(schedule(1)), settings.momentum
    ours, plain = (zip(*seen, strict=True) for seen in results)
    for variable, (first, second), (before, after), (_, by_sgd) in zip(
        network.trainable_variables, zip(*gradients, strict=True), ours, plain, strict=True
    ):
        if variable.path not in hidden:
            np.testing.assert_array_equal(after, by_sgd)
            continue
        as_matrix = (-1, variable.shape[-1])
        kept = before * (variable.shape[-1] ** 0.5 / np.linalg.norm(before))
        step = ((kept - after) / rate).reshape(as_matrix)
        nesterov = second + momentum * (second + momentum * first)
        left, values, right = np.linalg.svd(nesterov.reshape(as_matrix), full_matrices=False)
        directions = np.einsum("ik,ij,jk->k", left, step, right.T)  # how far along each direction of the gradient
        assert directions[values > 0.05 * np.linalg.norm(values)].min() > 0.4
        assert directions.max() < 1.3
        np.testing.assert_allclose(step, left * directions @ right, atol=1e-3)


def test_muon_computes_as_the_network_does():
    network = model.build(MODEL, 2, SIZE)
    schedule = optimization.OneCycle(0.5, 10, 0)
    for policy, expected in (("float32", "float32"), ("mixed_float16", "float32"), ("mixed_bfloat16", "bfloat16")):
        with model.dtype_policy(policy):
            made = recipes.optimizer(network, recipe(muon=0.05), schedule)
        assert made.precision == expected
        assert optimization.Muon.from_config(made.get_config()).precision == expected


@needs_bfloat16
def test_muon_in_bfloat16_is_nearly_that_in_float32():
    matrix = np.random.default_rng(1).normal(size=(40, 8)).astype("f4")
    exact, rounded = (optimization.orthogonalized(matrix, precision) for precision in ("float32", "bfloat16"))
    assert rounded.dtype == exact.dtype
    exact, rounded = np.asarray(exact), np.asarray(rounded)
    assert np.array_equal(rounded, np.asarray(tf.cast(tf.cast(rounded, "bfloat16"), "float32")))
    # With a rounding of 2^-8 in each of 9 products this is 0.02 to 0.035, the most where the sums are bfloat16, too,
    # as on processors without it; one iteration less would be 0.26.
    assert 0 < np.linalg.norm(rounded - exact) < 0.1 * np.linalg.norm(exact)


def learns(records):
    """Whether a training got anywhere with images that brightness alone tells apart.

    By chance the accuracy is 0.5; with each of 12 seeds, with and without Muon, it was 0.92 or more. That on the
    validation split says nothing after 16 steps: the moving statistics lag behind, and with some seeds it was 0.5.
    """
    return records[-1]["accuracy"] > 0.75


def test_muon_trains(data, tmp_path):
    _, records = training.train(MODEL, recipe(muon=0.05), SUMMARY, *data, tmp_path)
    assert learns(records)


def test_the_loss_is_cross_entropy_with_smoothed_labels():
    logits, labels, smoothing = np.array([[2.0, 0.0, -1.0], [0.5, 0.1, 3.0]]), np.array([0, 1]), 0.3
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    target = np.eye(3)[labels] * (1 - smoothing) + smoothing / 3
    expected = -(target * log_probabilities).sum(axis=1)
    np.testing.assert_allclose(optimization.smoothed_crossentropy(smoothing)(labels, logits), expected, rtol=1e-6)


def test_an_epoch_is_a_whole_number_of_calls():
    plan = hardware.plan(Training(batch_size=10, steps_per_execution=4), examples=107)
    assert (plan.batch_size, plan.steps, plan.steps_per_call) == (10, 9, 3)
    small = hardware.plan(Training(batch_size=512), examples=100)
    assert (small.batch_size, small.steps) == (100, 1)


@pytest.mark.parametrize(
    ("flags", "limit", "precision"),
    [
        ({"sse2", "avx512_bf16"}, "", "mixed_bfloat16"),
        ({"sse2", "avx512f"}, "", "float32"),
        ({"avx512_bf16"}, "AVX512_CORE_BF16", "mixed_bfloat16"),
        ({"avx512_bf16", "amx_bf16"}, "avx512_core", "float32"),
        ({"avx512_bf16", "amx_bf16"}, "AVX2", "float32"),
    ],
)
def test_precision_follows_the_processor_and_what_onednn_may_use_of_it(monkeypatch, flags, limit, precision):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: flags)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    monkeypatch.setattr(hardware, "gpus", list)
    assert hardware.plan(Training(), 1000).precision == precision
    assert hardware.plan(Training(precision="mixed_float16"), 1000).precision == "mixed_float16"


def test_training_learns_and_keeps_its_history(trained):
    network, records, folder, _ = trained
    assert learns(records)
    assert json.loads((folder / "history.json").read_text()) == {"epochs": records}
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    assert set(records[0]) == {
        *("epoch", "loss", "accuracy", "val_loss", "val_accuracy"),
        *("learning_rate", "images_per_second", "seconds"),
        *("val_macro_f1", "val_recall", "val_precision", "val_f1"),
    }
    assert network.output_shape == (None, 2)


def test_every_epoch_knows_its_classes(trained, data):
    network, records, _, seen = trained
    for record in records:
        assert np.mean(record["val_recall"]) == pytest.approx(record["val_accuracy"])  # 10 examples of each class
        assert record["val_macro_f1"] == pytest.approx(np.mean(record["val_f1"]))
    labels, predicted = [], []
    for images, truth in evaluation_dataset(data[1], SIZE, 16):
        labels += truth.numpy().tolist()
        predicted += network.predict_on_batch(images).argmax(axis=1).tolist()
    expected = sklearn.metrics.precision_recall_fscore_support(labels, predicted, zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        np.testing.assert_allclose(records[-1][f"val_{name}"], values, atol=1e-6)
    plain = {name for name, value in records[0].items() if not isinstance(value, list)}
    for event in seen:
        if event["kind"] == "epoch":  # what the terminal shows stays a short line
            assert set(event) == {"time", "kind", "epochs", *plain}


@pytest.mark.slow
def test_two_devices_count_every_validation_image_once(data, tmp_path):
    child = textwrap.dedent(
        f"""
        import sys
        sys.path[:0] = {[str(pathlib.Path(__file__).parent), *sys.path]!r}
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        import toy_training
        from trainer import hardware, metrics, training

        hardware._strategy = lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        read = metrics.ClassCounts.counts

        def counts(self):
            print(*read(self).sum(axis=1)[1:], read(self)[1].tolist())
            return read(self)

        metrics.ClassCounts.counts = counts
        _, records = training.train(
            toy_training.MODEL, toy_training.recipe(epochs=2), toy_training.SUMMARY, *{data!r}, {str(tmp_path)!r}
        )
        assert all(abs(sum(r["val_recall"]) / 2 - r["val_accuracy"]) < 1e-6 for r in records), records
        """
    )
    # oneDNN's convolution fails on the empty batch that the second device gets of the last 4 images.
    quiet = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"}
    process = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, env=quiet)
    assert process.stdout.splitlines() == ["20 20 [10, 10]"] * 2, process.stderr[-3000:]


def test_training_reports_its_progress(trained):
    _, records, _, seen = trained
    steps = [event for event in seen if event["kind"] == "training"]
    assert [(event["epoch"], event["step"]) for event in steps] == [(e, s) for e in range(1, 5) for s in range(1, 5)]
    assert {(event["epochs"], event["steps"]) for event in steps} == {(4, 4)}
    assert all(event["images_per_second"] > 0 for event in steps)
    ends = [event for event in seen if event["kind"] == "epoch"]
    assert [event["val_accuracy"] for event in ends] == [record["val_accuracy"] for record in records]


def test_tensorboard_gets_curves_graph_and_pictures(trained):
    _, records, folder, _ = trained
    found = {"train": {}, "validation": {}}
    graphs = 0
    for part, values in found.items():
        for file in sorted((folder / part).iterdir()):
            for event in tf.compat.v1.train.summary_iterator(str(file)):
                graphs += bool(event.graph_def)
                values.update({(value.tag, event.step): value for value in event.summary.value})
    for record in records:
        step = record["epoch"]
        assert found["train"]["epoch/loss", step].simple_value == pytest.approx(record["loss"])
        assert found["validation"]["epoch/accuracy", step].simple_value == pytest.approx(record["val_accuracy"])
        assert found["validation"]["epoch/macro_f1", step].simple_value == pytest.approx(record["val_macro_f1"])
        for label, name in enumerate(SUMMARY.class_names):
            shown = found["validation"][f"recall/{name}", step].simple_value
            assert shown == pytest.approx(record["val_recall"][label])
    for name in ("confusion matrix", "predictions"):
        png = found["validation"][f"validation/{name}", 4].image.encoded_image_string
        assert tf.io.decode_png(png).shape[0] > 100
    assert graphs == 1


def test_the_confusion_matrix_counts_true_by_predicted(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr("trainer.figures.confusion_matrix", lambda counts, names: drawn.append(counts) or b"")
    flat = [keras.layers.Rescaling(1.0, dtype="float32"), keras.layers.Flatten()]
    network = keras.Sequential([keras.Input([1, 1, 3], dtype="uint8"), *flat])
    pixels = np.array([[9, 0, 0], [0, 9, 0], [0, 9, 0], [0, 0, 9]], np.uint8).reshape(4, 1, 1, 3)
    dataset = tf.data.Dataset.from_tensor_slices((pixels, [0, 0, 1, 0])).batch(3)
    names = DataSummary(("a", "b", "c"), (1, 1, 1), (0.0,) * 3, (1.0,) * 3, 1)
    tensorboard.write_validation(tmp_path, network, dataset, names, step=1)
    np.testing.assert_array_equal(drawn[0], [[1, 1, 1], [0, 1, 0], [0, 0, 0]])


def test_the_seed_decides_the_first_weights(data, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.Sequential, "fit", lambda *_, **__: None)
    monkeypatch.setattr(tensorboard, "write_validation", lambda *_, **__: None)
    first, again, other = (
        training.train(MODEL, recipe(seed=seed), SUMMARY, *data, tmp_path / str(at))[0]
        for at, seed in enumerate((3, 3, 4))
    )
    assert weights_equal(first, again)
    assert not weights_equal(first, other)


@needs_bfloat16
def test_mixed_precision_stays_inside_the_training(data, tmp_path):
    network, _ = training.train(MODEL, recipe(epochs=1, precision="mixed_bfloat16"), SUMMARY, *data, tmp_path)
    assert keras.config.dtype_policy().name == "float32"
    assert {layer.compute_dtype for layer in network.layers} <= {"float32", "uint8"}


def test_divergence_is_a_user_error_and_nothing_is_saved(data, tmp_path):
    # Decay alone multiplies the kernels by 1 - 100 * rate (see optimization.sgd), with rates up to 10: after some
    # 20 of the 120 steps they are beyond float32, whatever the gradients are.
    settings = recipe(learning_rate=10, weight_decay=1, momentum=0.99, epochs=30)
    unstable = MODEL.model_copy(update={"normalization": "none"})
    with pytest.raises(UserError, match=r"diverged.*training\.learning_rate"):
        training.train(unstable, settings, SUMMARY, *data, tmp_path / "run", tmp_path / "checkpoint")
    for file in tmp_path.glob("checkpoint/*"):
        with np.load(file) as state:
            assert all(np.isfinite(state[name]).all() for name in state if name != "history")


def test_warm_start_takes_the_weights_of_the_same_architecture(trained, tmp_path):
    trained[0].save(tmp_path / "model.keras")
    network = model.build(MODEL, 2, SIZE)
    assert not weights_equal(network, trained[0])
    training.warm_start(network, tmp_path / "model.keras")
    assert weights_equal(network, trained[0])


@pytest.mark.parametrize("change", [{"width": 0.2}, {"normalization": "none"}, {"classes": 3}])
def test_warm_start_refuses_another_architecture(trained, tmp_path, change):
    trained[0].save(tmp_path / "model.keras")
    classes = change.pop("classes", 2)
    network = model.build(MODEL.model_copy(update=change), classes, SIZE)
    with pytest.raises(UserError, match="warm_start"):
        training.warm_start(network, tmp_path / "model.keras")


def test_a_killed_training_goes_on_as_if_nothing_had_happened(data, tmp_path):
    child = textwrap.dedent(
        f"""
        import os, signal, sys
        sys.path[:0] = {[str(pathlib.Path(__file__).parent), *sys.path]!r}
        import toy_training
        from trainer import callbacks, training

        def die(self, batch, logs=None):
            if self._epoch == 3 and batch == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        callbacks.Progress.on_train_batch_end = die
        with toy_training.in_float64():
            training.train(
                toy_training.MODEL, toy_training.recipe(), toy_training.SUMMARY, *{data!r},
                {str(tmp_path / "killed")!r}, {str(tmp_path / "checkpoint")!r},
            )
        """
    )
    process = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr[-3000:]

    begun = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.callbacks.Save.on_epoch_begin", lambda self, epoch, logs=None: begun.append(epoch))
        with in_float64():
            resumed, records = training.train(
                MODEL, recipe(), SUMMARY, *data, tmp_path / "resumed", tmp_path / "checkpoint"
            )
    assert begun == [2, 3]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    assert json.loads((tmp_path / "resumed" / "history.json").read_text())["epochs"] == records
    shown = {
        event.step: value.simple_value
        for file in (tmp_path / "resumed" / "validation").iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
        if value.tag == "recall/light"
    }
    assert shown == {record["epoch"]: pytest.approx(record["val_recall"][1]) for record in records}

    with in_float64():
        whole, expected = training.train(MODEL, recipe(), SUMMARY, *data, tmp_path / "whole")
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        assert one.dtype == "float64"
        np.testing.assert_allclose(one, other, rtol=0, atol=SAME)
    assert [r["learning_rate"] for r in records] == [r["learning_rate"] for r in expected]
    for name in ("loss", "val_loss"):
        assert [r[name] for r in records] == pytest.approx([r[name] for r in expected], abs=SAME)


def test_an_epoch_is_told_of_when_it_is_saved(data, tmp_path, monkeypatch):
    saved = []

    def emit(kind, **fields):
        if kind == "epoch":
            with np.load(tmp_path / "checkpoint" / "state.npz") as state:
                saved.append((fields["epoch"], len(json.loads(str(state["history"])))))

    monkeypatch.setattr("trainer.callbacks.events.emit", emit)
    training.train(MODEL, recipe(epochs=2), SUMMARY, *data, tmp_path / "run", tmp_path / "checkpoint")
    assert saved == [(1, 1), (2, 2)]


def test_a_checkpoint_survives_a_kill_while_it_is_written(tmp_path, monkeypatch):
    network = model.build(MODEL, 2, SIZE)
    network.compile("sgd", "mse")
    saved = checkpoint.Checkpoint(tmp_path, network)
    saved.save([{"epoch": 1}])
    before = network.get_weights()
    for variable in network.variables:
        variable.assign(np.full(variable.shape, 7))

    def break_off(file, **arrays):
        file.write(b"half a check")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", break_off)
    with pytest.raises(KeyboardInterrupt):
        saved.save([{"epoch": 1}, {"epoch": 2}])
    assert saved.restore() == [{"epoch": 1}]
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), before, strict=True))


@pytest.mark.parametrize("content", [b"", b"not a zip file", None])
def test_without_a_usable_checkpoint_training_starts_at_the_beginning(tmp_path, monkeypatch, content):
    network = model.build(MODEL, 2, SIZE)
    network.compile("sgd", "mse")
    if content is None:  # that of another network
        other = model.build(MODEL, 3, SIZE)
        other.compile("sgd", "mse")
        checkpoint.Checkpoint(tmp_path, other).save([{"epoch": 1}])
    else:
        (tmp_path / "state.npz").write_bytes(content)
    before = network.get_weights()
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    assert checkpoint.Checkpoint(tmp_path, network).restore() == []
    (told,) = events.Reader(tmp_path / "events").new()
    assert told["kind"] == "warning"
    assert told["text"].startswith(f"training starts from the beginning: {tmp_path / 'state.npz'} ")
    assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), before, strict=True))


@pytest.fixture
def fn_args(data, tmp_path):
    """What TFX hands to run_fn, with a transform graph for the toy data."""
    assets = tmp_path / "graph" / "transform_fn" / "assets"
    assets.mkdir(parents=True)
    (assets / "classes").write_text("32 000000 dark\n32 000001 light\n")
    rows = [f"{64 * SIZE * SIZE / 2} {channel} {value}" for channel in range(3) for value in (64, 192)]
    (assets / "histogram").write_text("\n".join(rows))
    return types.SimpleNamespace(
        train_files=data[0],
        eval_files=data[1],
        transform_output=str(tmp_path / "graph"),
        serving_model_dir=str(tmp_path / "model" / "Format-Serving"),
        model_run_dir=str(tmp_path / "run"),
        base_model=None,
        hyperparameters=None,
        custom_config={
            "model": MODEL.model_dump(mode="json"),
            "training": recipe(epochs=1).model_dump(mode="json"),
            "background": "white",
            "fit": "stretch",
            "checkpoint_root": str(tmp_path / "checkpoints"),
            "code": "abc",
        },
    )


def test_run_fn_trains_exports_and_cleans_up(fn_args, tmp_path):
    run.run_fn(fn_args)
    assert (tmp_path / "model/Format-Serving/saved_model.pb").exists()
    assert (tmp_path / "run/history.json").exists()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_run_fn_starts_from_the_base_model_only_when_told_so(fn_args, monkeypatch):
    seen = []

    def train(*arguments):
        seen.append(arguments[-1])
        raise UserError("enough")

    monkeypatch.setattr(training, "train", train)
    fn_args.base_model = "/blessed"
    for warm_start in (False, True):
        fn_args.custom_config["training"]["warm_start"] = warm_start
        with pytest.raises(UserError):
            run.run_fn(fn_args)
    assert seen == [None, pathlib.Path("/blessed/assets.extra/model.keras")]


@pytest.mark.parametrize("change", ["model", "training", "code", "train_files", "base_model", "hyperparameters"])
def test_only_the_same_training_shares_a_checkpoint(fn_args, change):
    before = run.working_folder(fn_args)
    assert run.working_folder(fn_args) == before
    if change in fn_args.custom_config:
        fn_args.custom_config[change] = "other"
    else:
        setattr(fn_args, change, "other")
    assert run.working_folder(fn_args) != before


def test_balanced_weights_are_scikit_learns():
    labels = np.repeat([0, 1, 2], [60, 30, 3])
    expected = sklearn.utils.class_weight.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert recipes.class_weights([60, 30, 3]) == pytest.approx(expected)
    assert np.mean(np.array(recipes.class_weights([60, 30, 3]))[labels]) == pytest.approx(1)
    assert recipes.class_weights([60, 0, 20]) == pytest.approx(
        [80 / 120, 0, 80 / 40]
    )  # a class that a search left out


def test_each_example_brings_the_weight_of_its_class(data):
    dataset = training_dataset(data[0], SIZE, 64, 16, 4, range(2), 1, class_weights=[0.5, 2.0])
    seen = [(labels.numpy(), weights.numpy()) for _, labels, weights in dataset]
    assert len(seen) == 8
    for labels, weights in seen:
        np.testing.assert_array_equal(weights, np.where(labels == 0, 0.5, 2.0))
    plain = [labels.numpy() for _, labels in training_dataset(data[0], SIZE, 64, 16, 4, range(2), 1)]
    np.testing.assert_array_equal(plain, [labels for labels, _ in seen])  # in the same order


def test_a_weight_counts_in_the_loss_as_so_many_examples():
    """The gradient of a batch in which an example counts twice is that of one in which it is there twice."""
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(0)
    network = model.build(MODEL.model_copy(update={"dropout": 0.0}), 2, SIZE)
    pixels, labels = random.integers(0, 256, (6, SIZE, SIZE, 3), np.uint8), np.array([0, 1, 0, 1, 1, 0])
    learner = recipes.learner(network, recipe(flip=False, shift=0), steps=1)

    def loss(chosen, weights):
        answers = network(pixels[chosen], training=False)
        return float(
            learner.compute_loss(None, labels[chosen], answers, None if weights is None else np.array(weights))
        )

    once = loss([0, 1, 2, 3, 4, 5], [2, 1, 1, 1, 1, 0])
    assert once == pytest.approx(loss([0, 0, 1, 2, 3, 4], None), rel=1e-5)
    assert once != pytest.approx(loss([0, 1, 2, 3, 4, 5], None), rel=1e-5)


def test_a_training_with_balanced_classes_weighs_them(data, tmp_path, monkeypatch):
    given = []
    original = training.training_dataset

    def spy(*arguments):
        given.append(arguments[-1])
        return original(*arguments)

    monkeypatch.setattr(training, "training_dataset", spy)
    summary = dataclasses.replace(SUMMARY, class_counts=(48, 16))
    _, records = training.train(MODEL, recipe(epochs=2, class_weights="balanced"), summary, *data, tmp_path)
    training.train(MODEL, recipe(epochs=1), summary, *data, tmp_path)
    assert given == [pytest.approx([64 / 96, 64 / 32]), None]
    assert len(records) == 2
