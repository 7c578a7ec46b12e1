"""What happens beside the training steps: progress, history, checkpoints."""

from __future__ import annotations

import json
import math
import pathlib
import time

import keras

from core import events, files
from core.errors import UserError
from trainer import metrics
from trainer.checkpoint import Checkpoint

SECONDS_BETWEEN_EVENTS = 0.5


class Diverged(UserError):
    """The loss of a training is not a number any more."""


class Progress(keras.callbacks.Callback):
    """Emits "training" events while an epoch runs, and stops at a loss of NaN.

    "training": epoch (from 1), epochs, step, steps, images_per_second, loss, accuracy.

    Raises:
        Diverged: the loss is not a number; raised before anything of that epoch is saved.
    """

    def __init__(self, epochs: int, steps: int, batch_size: int) -> None:
        super().__init__()
        self._epochs, self._steps, self._batch_size = epochs, steps, batch_size
        self._epoch = 0
        self._epoch_began = self._last_event = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch + 1
        self._epoch_began = self._last_event = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        now = time.monotonic()
        if now - self._last_event < SECONDS_BETWEEN_EVENTS:
            return  # reading the loss waits for the device, so not in every step
        self._last_event = now
        step = batch + 1
        loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
        self._check(loss)
        events.emit(
            "training",
            epoch=self._epoch,
            epochs=self._epochs,
            step=step,
            steps=self._steps,
            images_per_second=round(step * self._batch_size / (now - self._epoch_began), 1),
            loss=loss,
            accuracy=accuracy,
        )

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        for name in ("loss", "val_loss"):
            self._check(logs.get(name, 0.0))

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise Diverged(
                f"Training diverged in epoch {self._epoch} (the loss is {loss}), so no model was written: "
                "lower training.learning_rate or raise training.warmup_share."
            )


class Records(keras.callbacks.Callback):
    """Keeps one record for each epoch, also in a JSON file that is replaced as a whole at each epoch's end.

    A record: epoch (from 1), loss, accuracy, val_loss, val_accuracy, learning_rate (at the end of the epoch),
    images_per_second (in the training steps), seconds (with the validation). And of the validation split, as
    `metrics.by_class` gives them: val_macro_f1, and the lists val_recall, val_precision and val_f1 by label.
    """

    def __init__(
        self,
        file: pathlib.Path | None,
        images_per_epoch: int,
        records: list[dict],
        class_counts: metrics.ClassCounts,
    ) -> None:
        """
        Args:
            file: the JSON file, {"epochs": [record, ...]}; None: none.
            images_per_epoch: training images that an epoch sees.
            records: of the epochs before this process; extended in place.
            class_counts: of the latest validation.
        """
        super().__init__()
        self.records = records
        self._file, self._images, self._class_counts = file, images_per_epoch, class_counts
        self._began = self._trained = 0.0
        self._write()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._began = time.monotonic()

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._trained = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        now = time.monotonic()
        training = max(self._trained, self._began) - self._began or now - self._began
        by_class = metrics.by_class(self._class_counts.counts())
        numbers = {
            "epoch": epoch + 1,
            **{name: float(value) for name, value in logs.items()},
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "images_per_second": round(self._images / training, 1),
            "seconds": round(now - self._began, 3),
            "val_macro_f1": metrics.macro_f1(by_class["f1"]),
        }
        self.records.append(numbers | {f"val_{name}": values for name, values in by_class.items()})
        self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        files.replace(self._file, json.dumps({"epochs": self.records}, indent=1))


class Save(keras.callbacks.Callback):
    """Saves a checkpoint at each epoch's end."""

    def __init__(self, checkpoint: Checkpoint, records: list[dict]) -> None:
        super().__init__()
        self._checkpoint, self._records = checkpoint, records

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._checkpoint.save(self._records)


class Announce(keras.callbacks.Callback):
    """Emits an "epoch" event when all else of an epoch is done: an epoch that was told of is never trained again.

    "epoch": epochs, and the numbers of the epoch's record, see `Records`, without its lists.
    """

    def __init__(self, epochs: int, records: list[dict]) -> None:
        super().__init__()
        self._epochs, self._records = epochs, records

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # With 1,000 classes the lists would be too long a line.
        numbers = {name: value for name, value in self._records[-1].items() if not isinstance(value, list)}
        events.emit("epoch", epochs=self._epochs, **numbers)
