"""Two workers on the loopback train as one process does, and only the chief writes."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import toy_training
from ports import kept_ports

from core.errors import UserError
from trainer import hardware, model, optimization
from trainer.input import evaluation_dataset

# Without what each worker draws for its own images, so that there is only one right result.
MODEL = toy_training.MODEL.model_copy(update={"dropout": 0.0})
RECIPE = toy_training.recipe(epochs=2, flip=False, shift=0, muon=0.02)
SUMMARY = toy_training.SUMMARY

TRAIN = """
    import json, sys
    sys.path[:0] = {path!r}
    import test_multiworker as tests
    import toy_training
    from core.errors import UserError
    from trainer import hardware, training

    def train(checkpoint):
        return training.train(tests.MODEL, tests.RECIPE, tests.SUMMARY, *{data!r}, {folder!r} + "/run", checkpoint)

    with toy_training.in_float64():
        network, records = train({folder!r} + "/checkpoint")
    if hardware.is_chief():
        network.save_weights({folder!r} + "/network.weights.h5")
    refused = []
    for wrong in (
        lambda: train({folder!r} + ("/checkpoint" if hardware.is_chief() else "/none")),
        lambda: hardware.plan(toy_training.recipe(jit="on"), 64),
    ):
        try:
            wrong()
        except UserError as problem:
            refused.append(str(problem))
    print(json.dumps([records, refused]))
"""


def start(workers, folder, data):
    """What `TRAIN` prints in each of several processes."""
    path = [str(pathlib.Path(__file__).parent), *sys.path]
    code = textwrap.dedent(TRAIN).format(path=path, folder=str(folder), data=data)
    running = []
    with kept_ports(workers) as ports:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        for index in range(workers):
            config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
            environment = os.environ | {"TF_CONFIG": config, "CUDA_VISIBLE_DEVICES": ""}
            arguments = [sys.executable, "-c", code]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            running.append(subprocess.Popen(arguments, env=environment, text=True, **pipes))
        printed = [process.communicate() for process in running]
    assert not any(process.returncode for process in running), [error[-1500:] for _, error in printed]
    return [json.loads(output.splitlines()[-1]) for output, _ in printed]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The same training by one process and by two workers: their folders, what each process printed, the data."""
    root = tmp_path_factory.mktemp("workers")
    data = toy_training.write_examples(root / "train.gz", 64), toy_training.write_examples(root / "eval.gz", 28)
    folders = [root / "one", root / "two"]
    for folder in folders:
        folder.mkdir()
    return folders, [start(workers, folder, data) for workers, folder in zip((1, 2), folders, strict=True)], data


def load(folder):
    with toy_training.in_float64():
        network = model.build(MODEL, 2, toy_training.SIZE, SUMMARY.mean, SUMMARY.variance)
    network.load_weights(folder / "network.weights.h5")
    return network


@pytest.mark.slow
def test_two_workers_train_as_one_process_with_the_same_global_batch(trained):
    (one, two), (((alone, _),), ((chief, _), _)), _ = trained
    for ours, theirs in zip(chief, alone, strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert ours[name] == pytest.approx(theirs[name], abs=toy_training.SAME), name
        assert ours["learning_rate"] == theirs["learning_rate"]  # of the number of the step alone
    start = model.build(MODEL, 2, toy_training.SIZE)
    for ours, theirs, first in zip(load(two).weights, load(one).weights, start.weights, strict=True):
        assert ours.dtype == theirs.dtype == "float64"
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=toy_training.SAME, err_msg=ours.path)
        if ours.name == "kernel":
            assert np.abs(np.asarray(ours) - np.asarray(first)).max() > 0.01
    # With the momentums of the optimizer.
    ours, theirs = (np.load(folder / "checkpoint/state.npz") for folder in (two, one))
    assert ours.files == theirs.files
    for name in set(ours.files) - {"history"}:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=toy_training.SAME, err_msg=name)


@pytest.mark.slow
def test_the_workers_validate_every_image_once(trained):
    (_, two), (_, ((records, _), (others, _))), data = trained
    timed = ("seconds", "images_per_second")
    assert [{k: v for k, v in r.items() if k not in timed} for r in records] == [
        {k: v for k, v in r.items() if k not in timed} for r in others
    ]
    network, loss = load(two), optimization.smoothed_crossentropy(RECIPE.label_smoothing)
    right, losses = [], []
    for images, labels in evaluation_dataset(data[1], toy_training.SIZE, 28):
        logits = network(images)
        right += (np.argmax(logits, axis=1) == labels.numpy()).tolist()
        losses += np.asarray(loss(labels, logits)).tolist()
    assert len(right) == 28
    assert records[-1]["val_accuracy"] == pytest.approx(np.mean(right))
    assert records[-1]["val_loss"] == pytest.approx(np.mean(losses), abs=toy_training.SAME)
    assert np.mean(records[-1]["val_recall"]) == pytest.approx(np.mean(right))  # 14 of each class


@pytest.mark.slow
def test_only_the_chief_writes(trained):
    (one, two), _, _ = trained
    kinds = [
        {f"{path.parent.relative_to(folder)}/{path.name.split('.')[0]}" for path in folder.rglob("*.*")}
        for folder in (one, two)
    ]
    assert kinds[0] == kinds[1] >= {"run/history", "run/train/events", "run/validation/events", "checkpoint/state"}
    assert len(list((two / "run/train").iterdir())) == 1  # one file for each process that writes
    assert len(json.loads((two / "run/history.json").read_text())["epochs"]) == RECIPE.epochs


@pytest.mark.slow
def test_what_several_workers_cannot_do_is_refused(trained):
    _, (((_, alone),), workers), _ = trained
    assert alone == []
    for _, refused in workers:
        assert refused == [
            "The workers' checkpoints are of different epochs, [2, 0]: give the workers one folder.",
            "training.jit=on works on one device only, and here are 2: leave it on auto.",
        ]


def config(monkeypatch, cluster, kind, index):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))


def test_the_chief_is_the_one_so_called_or_worker_0(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert (hardware.workers(), hardware.is_chief()) == (1, True)
    two = {"worker": ["a:1", "b:1"]}
    with_chief = {"chief": ["c:1"], **two}
    for cluster, kind, index, expected in (
        ({"worker": ["a:1"]}, "worker", 0, (1, True)),
        (two, "worker", 0, (2, True)),
        (two, "worker", 1, (2, False)),
        (with_chief, "chief", 0, (3, True)),
        (with_chief, "worker", 0, (3, False)),
    ):
        config(monkeypatch, cluster, kind, index)
        assert (hardware.workers(), hardware.is_chief()) == expected


@pytest.mark.parametrize("text", ["{", "[1]", '{"cluster": 7}'])
def test_a_configuration_that_cannot_be_read_is_the_users_mistake(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG"):
        hardware.workers()
