"""What the model said of every test example; kept as Parquet in Evaluator's result. Reading needs no TensorFlow.

Beside them are those of the validation split, for what looks for wrong labels; no metric and no gate counts them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow
import pyarrow.parquet

from core import errors
from core.errors import UserError

if TYPE_CHECKING:
    import pandas

FOLDER = "predictions"  # inside the evaluation; of another split than test: predictions-SPLIT
TOP = 3  # classes that are kept with their probability
MOST_CLASSES = 1000  # with more, the probabilities of all classes are not kept: 2 bytes each
PROBABILITIES = "probabilities"
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
        ("sharpness", pyarrow.string()),
        ("hue", pyarrow.string()),
        (PROBABILITIES, pyarrow.list_(pyarrow.float16())),
    ]
)


def schema(further: Sequence[str] = ()) -> pyarrow.Schema:
    """The columns of the table, with those of the data's own features."""
    return pyarrow.schema([*SCHEMA, *(pyarrow.field(name, pyarrow.string()) for name in further)])


def folder(evaluation: str, split: str = "test") -> str:
    """Where the predictions of a split are in an evaluation."""
    return os.path.join(evaluation, FOLDER if split == "test" else f"{FOLDER}-{split}")


def without_temperature(probabilities: np.ndarray, temperature: float, least: float) -> np.ndarray:
    """Logarithms of the probabilities that a model gives if its logits are not divided by a temperature.

    A softmax of divided logits is, to the power of the temperature and made to add up to 1 again, that of the logits.

    Args:
        probabilities: float [n, classes].
        temperature: by which the logits were divided.
        least: what counts for a probability that is 0, or less than this, for want of digits.

    Returns:
        float64 [n, classes].
    """
    from scipy import special

    logits = temperature * np.log(np.maximum(probabilities.astype(np.float64), least))
    return logits - special.logsumexp(logits, axis=1, keepdims=True)


def row(id: str, label: int, class_name: str, probabilities: np.ndarray, derived: dict) -> dict[str, object]:
    """A row of the table.

    Args:
        id: of the example.
        label: the true class, and `class_name` its name.
        probabilities: float [classes].
        derived: from `derived_features.derive`, and the values of the data's own features.
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
        PROBABILITIES: probabilities.astype(np.float16) if len(probabilities) <= MOST_CLASSES else None,
    }


def read(evaluation: str, split: str = "test") -> pandas.DataFrame:
    """The table of an evaluation, a row for each test example, by id.

    Args:
        evaluation: path of Evaluator's result.
        split: or each example of this one.

    Returns:
        The columns of SCHEMA but the last: `predicted` is the most probable class and `probability` its probability,
        `true_probability` that of the true class, `top` and `top_probabilities` those of the three most probable
        ones; `width` and `height` in pixels, then the derived features; `digest` is the same for the same pixels;
        then the data's own features (data.features), "" where an example has none. Older evaluations lack `digest`,
        `sharpness`, `hue` and the own features.

    Raises:
        FileNotFoundError: this evaluation kept none, or they are gone.
        UserError: they are damaged.
    """
    table = _read(folder(evaluation, split), lambda name: name != PROBABILITIES)
    return table.to_pandas().sort_values("id", ignore_index=True)


def read_probabilities(evaluation: str, split: str = "test") -> tuple[pandas.DataFrame, np.ndarray | None]:
    """The examples of a split, and what the model said of them, of all classes.

    Args:
        evaluation, split: as for `read`.

    Returns:
        The columns id, label and digest, by id and digest; and the probabilities, float16 [examples, classes], None
        where they were not kept: by an older version, or of more than MOST_CLASSES classes.

    Raises:
        As `read`.
    """
    table = _read(folder(evaluation, split), {"id", "label", "digest", PROBABILITIES}.__contains__)
    frame = table.select([name for name in table.column_names if name != PROBABILITIES]).to_pandas()
    frame = frame.sort_values([name for name in ("id", "digest") if name in frame])
    order = frame.index.to_numpy()
    kept = table.column(PROBABILITIES).combine_chunks() if PROBABILITIES in table.column_names else None
    if kept is None or kept.null_count or not len(kept):
        return frame.reset_index(drop=True), None
    probabilities = kept.flatten().to_numpy(zero_copy_only=False).reshape(len(kept), -1)
    return frame.reset_index(drop=True), probabilities[order]


def _read(place: str, wanted: Callable[[str], bool]) -> pyarrow.Table:
    """The columns of the files in a folder that are `wanted`. Raises as `read`."""
    try:
        files = pyarrow.parquet.ParquetDataset(place)
        names = files.schema.names
        table = files.read(columns=[name for name in names if wanted(name)])
    except (OSError, ValueError) as problem:
        if isinstance(problem, FileNotFoundError) or getattr(problem, "errno", None) in errors.SYSTEM:
            raise
        table = None  # Arrow says at length what it found
    if table is not None and not table.column_names:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place)
    if table is None or "id" not in table.column_names:
        raise UserError(f"The predictions in {place} cannot be read, a file is cut off or damaged: evaluate again.")
    return table
