"""What the model said of every test example; kept as Parquet in Evaluator's result. Reading needs no TensorFlow."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
import pyarrow.parquet

from core import errors
from core.errors import UserError

if TYPE_CHECKING:
    import pandas

FOLDER = "predictions"  # inside the evaluation
TOP = 3  # classes that are kept with their probability
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("label", pyarrow.int32()),
        ("class_name", pyarrow.string()),
        ("predicted", pyarrow.int32()),
        ("probability", pyarrow.float32()),
        ("true_probability", pyarrow.float32()),
        ("top", pyarrow.list_(pyarrow.int32())),
        ("top_probabilities", pyarrow.list_(pyarrow.float32())),
        ("width", pyarrow.int32()),
        ("height", pyarrow.int32()),
        ("brightness", pyarrow.string()),
        ("contrast", pyarrow.string()),
        ("size", pyarrow.string()),
        ("digest", pyarrow.string()),
    ]
)


def row(id: str, label: int, class_name: str, probabilities: np.ndarray, derived: dict) -> dict[str, object]:
    """A row of the table.

    Args:
        id: of the example.
        label: the true class, and `class_name` its name.
        probabilities: float [classes].
        derived: from `derived_features.derive`.
    """
    top = np.argsort(-probabilities, kind="stable")[:TOP]
    return {
        "id": id,
        "label": label,
        "class_name": class_name,
        "predicted": int(top[0]),
        "probability": float(probabilities[top[0]]),
        "true_probability": float(probabilities[label]),
        "top": top.tolist(),
        "top_probabilities": probabilities[top].tolist(),
        **derived,
    }


def read(evaluation: str) -> pandas.DataFrame:
    """The table of an evaluation, a row for each test example, by id.

    Args:
        evaluation: path of Evaluator's result.

    Returns:
        The columns of SCHEMA: `predicted` is the most probable class and `probability` its probability,
        `true_probability` that of the true class, `top` and `top_probabilities` those of the three most probable
        ones; `width` and `height` in pixels, then the derived features; `digest` is the same for the same pixels, and
        missing in older evaluations.

    Raises:
        FileNotFoundError: this evaluation kept none, or they are gone.
        UserError: they are damaged.
    """
    folder = os.path.join(evaluation, FOLDER)
    try:
        table = pyarrow.parquet.read_table(folder)
    except (OSError, ValueError) as problem:
        if isinstance(problem, FileNotFoundError) or getattr(problem, "errno", None) in errors.SYSTEM:
            raise
        table = None  # Arrow says at length what it found
    if table is not None and not table.column_names:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
    if table is None or "id" not in table.column_names:
        raise UserError(f"The predictions in {folder} cannot be read, a file is cut off or damaged: evaluate again.")
    return table.to_pandas().sort_values("id", ignore_index=True)
