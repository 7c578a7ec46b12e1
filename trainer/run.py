"""What TFX's Trainer calls: reads the summary, trains, exports. Found by the dotted path `trainer.run.run_fn`."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
from typing import TYPE_CHECKING

import keras

from pipeline.settings import Model, Training
from trainer import export, summary, training

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

if not (keras.__version__.startswith("3.") and keras.backend.backend() == "tensorflow"):
    raise ImportError(f"needs Keras 3 on TensorFlow, not Keras {keras.__version__} on {keras.backend.backend()}")


def run_fn(fn_args: FnArgs) -> None:
    """Trains on fn_args.train_files, validates on fn_args.eval_files, writes to fn_args.serving_model_dir.

    fn_args.custom_config: {"model": settings.Model as a dict, "training": settings.Training as a dict,
    "checkpoint_root": a local folder for checkpoints or "", "code": a hash of the code}.

    fn_args.base_model: the SavedModel to start from when training.warm_start is set, or None.

    Raises:
        UserError: see `training.train` and `summary.read_summary`.
    """
    model_settings = Model(**fn_args.custom_config["model"])
    training_settings = Training(**fn_args.custom_config["training"])
    data = summary.read_summary(fn_args.transform_output)
    checkpoint_dir = _checkpoint_dir(fn_args) if training_settings.checkpoint else None
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
    export.export(model, data, fn_args.serving_model_dir)
    if checkpoint_dir:
        shutil.rmtree(checkpoint_dir, ignore_errors=True)


def _checkpoint_dir(fn_args: FnArgs) -> pathlib.Path | None:
    """A folder that only a run with the same code, settings, data and starting point shares."""
    root = fn_args.custom_config.get("checkpoint_root")
    if not root:
        return None
    identity = {key: fn_args.custom_config.get(key) for key in ("model", "training", "code")}
    identity["files"] = [fn_args.train_files, fn_args.eval_files, fn_args.base_model]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return pathlib.Path(root) / digest[:16]
