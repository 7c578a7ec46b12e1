"""Finished runs in a working directory: results.json and predictions, of simulated models."""

import json
import pathlib

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from core import settings
from review import gates, predictions, results, statistics

LEVELS = ("dark (<64)", "dim (64-127)", "light (>=192)")


def examples(classes=("cat", "dog", "owl"), count=60, seed=0, prefix="test"):
    """Test examples: id, label, class_name, what is derived from the image, and how hard each is (0 to 1)."""
    random = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(classes), dtype=np.int32), count)
    return pd.DataFrame(
        {
            "id": [f"{prefix}-{number:05d}" for number in range(len(label))],
            "label": label,
            "class_name": np.array(classes, object)[label],
            "width": np.int32(32),
            "height": np.int32(32),
            "brightness": np.array(LEVELS, object)[random.integers(0, len(LEVELS), len(label))],
            "contrast": "high (>=64)",
            "size": "to 32 px",
            "digest": [f"{prefix}{number:08x}" for number in range(len(label))],
            "sharpness": "sharp (2000-3999)",
            "hue": "grey",
            "hardness": random.random(len(label)),
        }
    )


def predict(split, skill, seed=0, classes=None):
    """What a model says that is right where `skill` (a number, or one for each class name) beats the hardness.

    Returns:
        The table of predictions, as `review.predictions.read` gives it.
    """
    random = np.random.default_rng(seed)
    names = list(classes or split["class_name"].unique())
    skills = split["class_name"].map(skill).to_numpy() if isinstance(skill, dict) else np.full(len(split), skill)
    label = split["label"].to_numpy()
    right = skills + random.normal(0, 0.05, len(split)) > split["hardness"]
    wrong = (label + random.integers(1, len(names), len(split))) % len(names)
    predicted = np.where(right, label, wrong).astype(np.int32)
    second = np.where(right, wrong, label)
    probability = random.uniform(0.5, 1, len(split)).astype(np.float32)
    rest = (1 - probability).astype(np.float32)
    made = split.drop(columns="hardness").assign(
        predicted=predicted,
        probability=probability,
        true_probability=np.where(right, probability, rest),
        top=[[int(a), int(b)] for a, b in zip(predicted, second, strict=True)],
        top_probabilities=[[a, b] for a, b in zip(probability, rest, strict=True)],
        probabilities=list(_spread(len(names), (predicted, probability), (second, rest))),
    )
    return made[predictions.SCHEMA.names]


def _spread(classes, *parts):
    """float16 [examples, classes] with the (class, probability) of each part, and nothing else."""
    made = np.zeros([len(parts[0][0]), classes], np.float16)
    for chosen, probability in parts:
        made[np.arange(len(made)), chosen] = probability
    return made


def evaluation(table, path, slices=("brightness", "class_name,brightness"), names=None, limits=None, baseline=None):
    """The evaluation part of results.json that belongs to a table of predictions."""
    names = list(names or dict(sorted(zip(table["label"], table["class_name"], strict=True))).values())
    right = table["label"] == table["predicted"]
    matrix = np.zeros([len(names)] * 2, int)
    np.add.at(matrix, (table["label"], table["predicted"]), 1)
    by_class = right.groupby(table["class_name"])
    candidate = {
        "matrix": matrix.tolist(),
        "recalls": by_class.mean().to_dict(),
        "counts": by_class.size().to_dict(),
        "auc": [0.9] * len(names),
    }
    limits = limits or settings.Gates(min_accuracy=0.5, min_class_recall=0.4, confidence=0)
    judged = gates.judge(
        limits,
        float(right.mean()),
        len(table),
        candidate["recalls"],
        candidate["counts"],
        baseline["accuracy"] if baseline else None,
        baseline["recalls"] if baseline else None,
    )
    rows = results.classes(candidate, baseline, names, judged)
    place = np.clip(np.ceil(table["probability"] * 10).astype(int) - 1, 0, 9)
    bins = []
    for k in range(10):
        inside = (place == k).to_numpy()
        bins.append(
            {
                "low": k / 10,
                "high": (k + 1) / 10,
                "count": int(inside.sum()),
                "confidence": float(table["probability"][inside].mean()) if inside.any() else None,
                "accuracy": float(right[inside].mean()) if inside.any() else None,
            }
        )
    return {
        "count": len(table),
        "accuracy": float(right.mean()),
        "accuracy_interval": list(statistics.wilson(float(right.mean()), len(table))),
        "loss": 0.5,
        "top_3_accuracy": 1.0,
        "macro_f1": float(np.mean([row["f1"] or 0 for row in rows])),
        "calibration_error": 0.1,
        "baseline_accuracy": baseline["accuracy"] if baseline else None,
        "baseline_loss": None,
        "classes": rows,
        "class_names": names,
        "confusion_matrix": candidate["matrix"],
        "calibration": bins,
        "slices": [_slices(table, right, features.split(",")) for features in slices],
        "smallest_slice": 30,
        "gates": [{**vars(gate), "words": gate.words()} for gate in judged],
        "blessed": all(gate.passed for gate in judged),
        "path": str(path),
    }


def _slices(table, right, features):
    rows = []
    for values, part in right.groupby([table[feature] for feature in features]):
        share, count = float(part.mean()), len(part)
        rows.append(
            {
                "values": [str(value) for value in values],
                "count": count,
                "accuracy": share,
                "accuracy_interval": list(statistics.wilson(share, count)),
                "loss": 0.5,
                "baseline_accuracy": None,
                "too_small": count < 30,
            }
        )
    return {"features": features, "rows": sorted(rows, key=lambda row: row["accuracy"])}


def epochs(count=6):
    """Records of a training."""
    return [
        {
            "epoch": n,
            "loss": 2.3 / n,
            "accuracy": 1 - 0.9 / n,
            "val_loss": 2.4 / n,
            "val_accuracy": 1 - 1 / n,
            "learning_rate": 0.1 / n,
            "images_per_second": 1000.0,
            "seconds": 2.0,
        }
        for n in range(1, count + 1)
    ]


def ended(run_id, **fields):
    """The results of a run that ended, as small as they may be."""
    day, time = run_id.split("-")[:2]
    return {
        "version": 1,
        "run": run_id,
        "name": "pets",
        "preset": "shapes10",
        "started": f"{day[:4]}-{day[4:6]}-{day[6:]}T{time[:2]}:{time[2:4]}:{time[4:]}",
        "seconds": 100.0,
        "nodes": {},
        "state": "partial",
        **fields,
    }


def class_row(**fields):
    """A class of an evaluation in the results, as small as it may be."""
    return {
        "class_name": "cat",
        "count": 100,
        "recall": 0.5,
        "recall_interval": [0.4, 0.6],
        "precision": None,
        "f1": None,
        "baseline_recall": None,
        "mostly_taken_for": None,
        "mostly_taken_for_count": 0,
        "passed": True,
        **fields,
    }


def evaluated(accuracy=0.5, **fields):
    """An evaluation in the results, as small as it may be."""
    return {
        "count": 100,
        "accuracy": accuracy,
        "accuracy_interval": list(statistics.wilson(accuracy, 100)),
        "loss": 0.5,
        "top_3_accuracy": 1.0,
        "baseline_accuracy": None,
        "confusion_matrix": [[50, 50], [0, 0]],
        "classes": [class_row(recall=accuracy)],
        "class_names": ["cat", "dog"],
        "gates": [],
        "blessed": True,
        "path": "artifacts/pets/Evaluator/evaluation/1",
        **fields,
    }


def write_run(workdir, run_id, table, name="pets", state=None, kept=True, source=None, **options):
    """Writes a finished run into `workdir` (a core.workdir.Workdir); returns its results.

    Args:
        table: predictions.
        kept: whether Evaluator kept them.
        source: results of the run that this one takes its evaluation from, through the cache.
        **options: for `evaluation`.
    """
    path = pathlib.Path(workdir.path, "artifacts", name, "Evaluator", run_id)
    part = source["evaluation"] if source else evaluation(table, path, **options)
    if kept and not source:
        folder = path / predictions.FOLDER
        folder.mkdir(parents=True)
        made = pyarrow.Table.from_pandas(table, predictions.SCHEMA, preserve_index=False)
        pyarrow.parquet.write_table(made, folder / "part-00000-of-00001.parquet")
    state = state or ("pushed" if part["blessed"] else "not pushed")
    found = ended(
        run_id,
        name=name,
        nodes={"Evaluator": {"state": "cached" if source else "done", "seconds": 1.0}},
        state=state,
        history={"epochs": epochs()},
        evaluation=part,
    )
    workdir.run(run_id).mkdir(parents=True)
    (workdir.run(run_id) / "results.json").write_text(json.dumps(found))
    return found
