"""Labels that are probably wrong, by confident learning, and what is said of those that were corrected.

Confident learning (Northcutt, Jiang and Chuang, *Confident Learning: Estimating Uncertainty in Dataset Labels*, JAIR
2021, arXiv:1911.00068) compares labels with the probabilities of a model that was not trained on them; it is the
library cleanlab's. Here these are the test and validation splits: what a model has learned by heart, it does not
doubt. Imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas

SPLITS = ("test", "validation")
MOST_CELLS = 50_000_000  # examples times classes that are judged, in half a GiB; of more, a part is
RANKING = "self_confidence"  # of cleanlab's scores; `python -m benchmarks.labels` compares them


class NotKept(UserError):
    """The evaluation has no probabilities of all classes."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        judged: split -> examples whose label was judged.
        total: examples of these splits, more than were judged where there are very many of them.
        rows: the suspects, the least plausible label first, with the keys of `schema.Suspect` but for its file.
    """

    judged: dict[str, int]
    total: int
    rows: list[dict[str, Any]]


def find(
    evaluation: str,
    class_names: Sequence[str],
    checked: Iterable[Sequence[str]] = (),
    temperature: float = 1.0,
) -> Found:
    """The suspects of an evaluation.

    Args:
        evaluation: path of Evaluator's result.
        class_names: by label.
        checked: (id, digest) of examples whose label somebody has looked at; they are judged and not named. An empty
            digest means all of that id.
        temperature: by which the model's logits are divided: they are judged without it, as modest as the training
            left them. On shapes10 three times as many right labels are named with it.

    Raises:
        FileNotFoundError: the evaluation kept no predictions, or they are gone.
        NotKept: it kept only those of the most probable classes.
        UserError: they are damaged.
    """
    import numpy as np

    from review import predictions

    table, probabilities = _read(evaluation)
    total = len(table)
    usable = np.isfinite(probabilities).all(axis=1)  # a model that diverged says nothing
    most = max(1, MOST_CELLS // probabilities.shape[1])
    if usable.sum() > most:
        # As good as by lot, and the same ones in the next run; by its beginning a picture came into its split.
        lots = table["digest"].str[16:].to_numpy(str)
        usable[np.lexsort((lots, ~usable))[most:]] = False
    table, probabilities = table[usable].reset_index(drop=True), probabilities[usable].astype(np.float32)
    labels = table["label"].to_numpy()
    known = {tuple(one) for one in checked}
    rows = []
    least = float(np.finfo(np.float16).smallest_subnormal)
    own = np.exp(predictions.without_temperature(probabilities, temperature, least)).astype(np.float32)
    for at in judge(labels, own):
        example = table.iloc[at]
        id, digest = example["id"], example["digest"]
        if known & {(id, digest), (id, "")}:
            continue
        suggested = int(probabilities[at].argmax())
        rows.append(
            {
                "id": id,
                "split": example["split"],
                "label": class_names[labels[at]],
                "suggested_label": class_names[suggested],
                "label_probability": round(float(probabilities[at, labels[at]]), 5),
                "suggested_probability": round(float(probabilities[at, suggested]), 5),
                "digest": digest,
            }
        )
    judged = {split: int((table["split"] == split).sum()) for split in SPLITS}
    return Found({split: count for split, count in judged.items() if count}, total, rows)


def judge(labels: np.ndarray, probabilities: np.ndarray, rank_by: str = RANKING) -> np.ndarray:
    """Which examples are suspects: those with the least plausible labels, as many as confident learning estimates.

    The estimate is the sum off the diagonal of the calibrated confident joint (section 3.1 of the paper). Its
    standard error is added, since it costs more to overlook a wrong label than to look at a right one. The filters of
    cleanlab round the estimate for each pair of classes, and so overlook more where wrong labels are few.

    Args:
        labels: int [n].
        probabilities: float32 [n, classes], of a model that was not trained on these examples.
        rank_by: as `method` of `cleanlab.rank.get_label_quality_scores`.

    Returns:
        Their places, int [suspects], the least plausible label first.
    """
    import numpy as np

    if len(np.unique(labels)) < 2:  # nothing to confuse; cleanlab refuses it
        return np.zeros(0, int)
    from cleanlab import count, rank  # loads scikit-learn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with few examples
        joint = count.compute_confident_joint(labels, probabilities, calibrate=False)
        scores = rank.get_label_quality_scores(labels, probabilities, method=rank_by)
    total = np.bincount(labels, minlength=len(joint))
    estimate = float((total * (1 - joint.diagonal() / joint.sum(axis=1))).sum())
    counted = int(joint.sum() - joint.trace())
    many = round(estimate * (1 + counted**-0.5)) if counted else 0  # the relative error of a count
    order = np.argsort(scores, kind="stable")
    return order[probabilities[order].argmax(axis=1) != labels[order]][:many]


def _read(evaluation: str) -> tuple[pandas.DataFrame, np.ndarray]:
    """The examples of both splits and their probabilities, float16 [examples, classes]."""
    import numpy as np
    import pandas

    from review import predictions

    tables, parts = [], []
    for split in SPLITS:
        try:
            table, probabilities = predictions.read_probabilities(evaluation, split)
        except FileNotFoundError:
            if split == "test":
                raise
            continue  # of an older version, or of another who evaluates
        if probabilities is None:
            raise NotKept(
                f"The predictions in {predictions.folder(evaluation, split)} are without the probabilities of all "
                f"classes: they are of an older version, or of more than {predictions.MOST_CLASSES:,} classes; with "
                "fewer, run again."
            )
        tables.append(table.assign(split=split))
        parts.append(probabilities)
    return pandas.concat(tables, ignore_index=True), np.concatenate(parts)


def checked(results: Mapping[str, Any]) -> list[list[str]]:
    """The examples of a run whose label somebody has looked at, for `find`, by its results or its ingest's report."""
    data = results.get("data") or {}
    return (data.get("corrections") or {}).get("checked") or []


def words(row: Mapping[str, Any], percent: Callable[[float], str] = "{:.0%}".format) -> str:
    """A suspect in words, such as "labelled cat, looks like dog, 97 %"."""
    return f"labelled {row['label']}, looks like {row['suggested_label']}, {percent(row['suggested_probability'])}"


def tell(count: int, judged: Mapping[str, int], total: int, percent: Callable[[float], str] = "{:.1%}".format) -> str:
    """How many labels are suspected, in a sentence."""
    number = sum(judged.values())
    where = " and ".join(split for split in judged) or "test"
    if not number:
        return "No label could be judged."
    part = f" (of {total:,} in all)" if total > number else ""
    if not count:
        return f"No label is suspected to be wrong among the {number:,} {where} examples{part}."
    which = "label is" if count == 1 else "labels are"
    return (
        f"{count:,} {which} suspected to be wrong among the {number:,} {where} examples{part}, "
        f"{percent(count / number)}."
    )


def tell_corrections(found: Mapping[str, Any] | None) -> str:
    """What a list of corrections did, in a sentence; "" where there was none.

    Args:
        found: as `schema.Corrections`, or empty.
    """
    if not found:
        return ""
    return f"Corrections: {found['relabelled']:,} relabelled, {found['left_out']:,} left out by {found['file']}."


def corrections_of(results: Mapping[str, Any]) -> list[str]:
    """The sentence on a run's corrections, if it had any."""
    sentence = tell_corrections((results.get("data") or {}).get("corrections"))
    return [sentence] if sentence else []
