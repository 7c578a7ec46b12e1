"""Trains by the recipe, as fast as the hardware allows, on one worker or several."""

from __future__ import annotations

import functools
import logging
import pathlib
from collections.abc import Sequence

import keras

from core.errors import UserError
from core.settings import Model, Training
from trainer import callbacks, hardware, model, recipe, tensorboard
from trainer.checkpoint import Checkpoint
from trainer.input import evaluation_dataset, training_dataset
from trainer.summary import DataSummary

log = logging.getLogger(__name__)


def train(
    model_settings: Model,
    training_settings: Training,
    summary: DataSummary,
    train_files: Sequence[str],
    eval_files: Sequence[str],
    run_dir: str | pathlib.Path,
    checkpoint_dir: str | pathlib.Path | None = None,
    warm_start_from: str | pathlib.Path | None = None,
) -> tuple[keras.Model, list[dict]]:
    """Trains a network.

    Args:
        model_settings: what to build.
        training_settings: how to train it.
        summary: of the training split.
        train_files: patterns of gzipped TFRecords of transformed examples.
        eval_files: likewise, for validation after each epoch.
        run_dir: gets history.json and TensorBoard's files; made when needed.
        checkpoint_dir: a local folder for this training alone, in which it continues if it was interrupted; the
            caller removes it when the model is safe. None: no checkpoints.
        warm_start_from: a .keras file whose weights to start from.

    Returns:
        The network, which computes in float32 with the weights that were trained in whatever precision, so that any
        hardware can serve it, and one record for each epoch, see `callbacks.Records`.

    Raises:
        UserError: the loss became NaN, the network of warm_start_from has another architecture, or several workers
            found different checkpoints.
    """
    run_dir = pathlib.Path(run_dir)
    epochs = training_settings.epochs
    plan = hardware.plan(training_settings, summary.examples)
    build = functools.partial(
        model.build,
        model_settings,
        len(summary.class_names),
        summary.image_size,
        summary.mean,
        summary.variance,
    )
    keras.utils.set_random_seed(training_settings.seed)
    with plan.strategy.scope(), model.dtype_policy(plan.precision):
        network = build(to_train=True)
        if plan.strategy.num_replicas_in_sync > 1:
            hardware.share_statistics(network)
        if warm_start_from:
            warm_start(network, warm_start_from)
        learner = recipe.learner(network, training_settings, plan.steps, plan.jit, plan.steps_per_call)
        checkpoint = Checkpoint(pathlib.Path(checkpoint_dir), learner) if checkpoint_dir else None
        records = checkpoint.restore() if checkpoint else []
    done = hardware.wait_for_workers(len(records))
    if len(set(done)) > 1:
        raise UserError(f"The workers' checkpoints are of different epochs, {done}: give the workers one folder.")
    log.info("Training on %s, %d of %d epochs done.", plan, len(records), epochs)
    validation = hardware.share_batches(evaluation_dataset(eval_files, summary.image_size, plan.batch_size))
    weights = recipe.class_weights(summary.class_counts) if training_settings.class_weights == "balanced" else None
    history = run_dir / "history.json" if hardware.is_chief() else None
    beside = [
        callbacks.Progress(epochs, plan.steps, plan.batch_size),  # first: it stops at NaN
        callbacks.Records(history, plan.steps * plan.batch_size, records, learner.class_counts),
    ]
    if hardware.is_chief():
        beside.append(tensorboard.Scalars(run_dir, records, summary))
        if checkpoint:
            beside.append(callbacks.Save(checkpoint, records))
    beside.append(callbacks.Announce(epochs, records))  # last: what it tells is kept
    if len(records) < epochs:
        learner.fit(
            hardware.share_batches(
                training_dataset(
                    train_files,
                    summary.image_size,
                    summary.examples,
                    plan.batch_size,
                    plan.steps,
                    range(len(records), epochs),
                    training_settings.seed,
                    training_settings.cache,
                    weights,
                )
            ),
            steps_per_epoch=plan.steps,
            initial_epoch=len(records),
            epochs=epochs,
            validation_data=validation,
            callbacks=beside,
            shuffle=False,  # the data set has done that
            verbose=0,
        )

    with model.dtype_policy("float32"):
        trained = build()
    trained.set_weights(network.get_weights())
    if hardware.is_chief():
        tensorboard.write_validation(run_dir, trained, validation, summary, step=epochs)
    return trained, records


def warm_start(network: keras.Model, file: str | pathlib.Path) -> None:
    """Copies the weights of a saved network of the same architecture.

    Raises:
        UserError: the file's network has other weights.
    """
    saved = keras.models.load_model(file, compile=False)
    if _shapes(saved) != _shapes(network):
        raise UserError(
            f"The network of the latest blessed model ({file}) differs from the one of these settings in its layers "
            "or classes: train without training.warm_start, or with its model settings."
        )
    network.set_weights(saved.get_weights())


def _shapes(network: keras.Model) -> list[tuple]:
    return [(weight.path.partition("/")[2] or weight.path, tuple(weight.shape)) for weight in network.weights]
