"""The state of a training in one file, so that a killed run goes on after the last whole epoch.

Keras' BackupAndRestore writes weights and epoch as two files in place; a kill between or within the writes leaves
a state that is wrong or cannot be read. Here the one file is written aside and renamed, which is atomic.
"""

from __future__ import annotations

import json
import logging
import os
import pathlib
import zipfile
from typing import Any

import keras
import numpy as np

from core.events import emit

log = logging.getLogger(__name__)


class Checkpoint:
    """Weights, optimizer and random number generators of a compiled model, and the history of its epochs."""

    def __init__(self, directory: pathlib.Path, model: keras.Model) -> None:
        """
        Args:
            directory: a local folder, made when needed; it belongs to this one training.
            model: built and compiled. `restore` belongs in the scope of its distribution strategy.
        """
        self._file = pathlib.Path(directory) / "state.npz"
        self._model = model

    def save(self, history: list[dict]) -> None:
        """Replaces the saved state with the current one. `history` has one JSON-able dict for each epoch done."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {f"variable_{at}": np.asarray(each) for at, each in enumerate(self._variables())}
        partial = self._file.with_suffix(".partial")
        with open(partial, "wb") as file:
            np.savez(file, history=json.dumps(history), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._file)

    def restore(self) -> list[dict]:
        """Puts the saved state into the model and returns its history; nothing saved: leaves it alone, []."""
        variables = self._variables()  # first: making some is work that several workers do together
        if not self._file.exists():
            return []
        try:
            with np.load(self._file) as saved:
                arrays = [saved[f"variable_{at}"] for at in range(len(variables))]
                history = json.loads(str(saved["history"]))
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as problem:
            log.warning("%s cannot be read: %s", self._file, problem)
            emit("warning", text=f"training starts from the beginning: {self._file} cannot be read")
            return []
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
            emit("warning", text=f"training starts from the beginning: {self._file} is of another network")
            return []
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return history

    def _variables(self) -> list[keras.Variable]:
        optimizer = self._model.optimizer
        if not optimizer.built:
            optimizer.build(self._model.trainable_variables)
        return [*self._model.variables, *optimizer.variables]
