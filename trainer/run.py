"""What TFX's Trainer calls: reads the summary, trains, exports. Found by the dotted path `trainer.run.run_fn`."""

from __future__ import annotations

import hashlib
import json
import logging
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras

from core import files
from core.events import emit
from core.images import colour
from core.settings import Model, Training
from trainer import calibration, export, hardware, images, summary, training
from trainer.input import evaluation_dataset

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

log = logging.getLogger(__name__)

if not (keras.__version__.startswith("3.") and keras.backend.backend() == "tensorflow"):
    raise ImportError(f"needs Keras 3 on TensorFlow, not Keras {keras.__version__} on {keras.backend.backend()}")


def run_fn(fn_args: FnArgs) -> None:
    """Trains on fn_args.train_files, validates on fn_args.eval_files, writes to fn_args.serving_model_dir.

    fn_args.custom_config: {"model": settings.Model as a dict, "training": settings.Training as a dict,
    "background": the colour behind transparent pixels, see settings.Data, "fit": see settings.Preprocessing,
    "checkpoint_root": a local folder for
    checkpoints or "", "code": a hash of the code}.

    fn_args.base_model: the SavedModel to start from when training.warm_start is set, or None.

    fn_args.hyperparameters: what Tuner found, a config of keras_tuner.HyperParameters, or None.

    Called by several workers (see `hardware`), which have to see the same folders, only the chief writes.

    fn_args.model_run_dir gets recipe.json beside what `training.train` writes: the settings that were used.

    Raises:
        UserError: see `training.train` and `summary.read_summary`.
    """
    found = (fn_args.hyperparameters or {}).get("values", {})
    model_settings, training_settings = recipe(fn_args.custom_config, found)
    data = summary.read_summary(fn_args.transform_output)
    if training_settings.flip and hardware.is_chief() and look_like_characters(data.class_names):
        shown = ", ".join(data.class_names[:3])
        text = f"the classes look like characters ({shown}, ...), and half of the training images are mirrored"
        emit("warning", text=f"{text}: for digits and letters set training.flip=false")
    checkpoint_dir = working_folder(fn_args) if training_settings.checkpoint else None
    warm_start_from = None
    if fn_args.base_model and training_settings.warm_start:
        warm_start_from = pathlib.Path(fn_args.base_model) / export.KERAS_FILE
    model, _ = training.train(
        model_settings,
        training_settings,
        data,
        fn_args.train_files,
        fn_args.eval_files,
        fn_args.model_run_dir,
        checkpoint_dir,
        warm_start_from,
    )
    if hardware.is_chief():
        background = colour(fn_args.custom_config["background"])
        temperature = 1.0
        if model_settings.calibration == "temperature":
            validation = evaluation_dataset(fn_args.eval_files, data.image_size, training_settings.batch_size)
            temperature = calibration.temperature(
                *calibration.served_logits(model, validation.as_numpy_iterator(), model_settings.views)
            )
            log.info("The temperature is %.3f.", temperature)
        fit = images.Fit(fn_args.custom_config["fit"], background)
        export.export(model, data, fn_args.serving_model_dir, model_settings.views, background, temperature, fit)
        used = {
            "model": model_settings.model_dump(mode="json"),
            "training": training_settings.model_dump(mode="json"),
        }
        files.replace(pathlib.Path(fn_args.model_run_dir, "recipe.json"), json.dumps(used, indent=1))
        if checkpoint_dir:
            shutil.rmtree(checkpoint_dir, ignore_errors=True)
    hardware.wait_for_workers()  # TFX fails where it finds no model, so nobody returns before it is there


def recipe(config: Mapping[str, Mapping], found: Mapping[str, object]) -> tuple[Model, Training]:
    """The settings with found values in them.

    Args:
        config: {"model": settings.Model as a dict, "training": settings.Training as a dict}.
        found: "model.NAME" or "training.NAME" -> value; other keys, which are Keras Tuner's own, are ignored.
    """
    groups = {"model": Model, "training": Training}
    changes: dict[str, dict[str, object]] = {name: {} for name in groups}
    for key, value in found.items():
        group, _, name = key.partition(".")
        if group in groups:
            changes[group][name] = value
    return tuple(kind(**{**config[name], **changes[name]}) for name, kind in groups.items())


def look_like_characters(class_names: Sequence[str]) -> bool:
    """Whether classes are called as digits or letters are."""
    return all(len(name) == 1 and name.isalnum() for name in class_names)


def working_folder(fn_args: FnArgs) -> pathlib.Path | None:
    """A folder that only a run with the same code, settings, data and starting point shares."""
    root = fn_args.custom_config.get("checkpoint_root")
    if not root:
        return None
    identity = {key: value for key, value in fn_args.custom_config.items() if key != "checkpoint_root"}
    identity["files"] = [fn_args.train_files, fn_args.eval_files, fn_args.base_model]
    identity["found"] = fn_args.hyperparameters
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return pathlib.Path(root) / digest[:16]
