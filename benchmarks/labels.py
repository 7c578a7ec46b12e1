"""How well `review.suspects` finds wrong labels: where some were changed at random, and where none was.

    python -m benchmarks.labels [--preset NAME|FILE] [--set GROUP.KEY=VALUE] [--data SOURCE] [--share 0.02]
        [--seeds 1 2 3] [--images N] [--epochs N] [--json FILE]

For each seed the recipe is trained twice: on the labels as they are, and with `--share` of the labels of every split
changed to another class, drawn evenly. The validation and the test split are judged, by probabilities as Evaluator
keeps them. *found* is the share of the changed labels that are among the first suspects, one and a half times as many
as were changed. The goals are for shapes10, of which all labels are right.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys
import warnings

from benchmarks import training  # first: it chooses the backend

# isort: split

import numpy as np
from cleanlab import filter

from benchmarks import arrays, machine, report
from core import settings
from core.errors import UserError
from review import suspects

OURS = "the estimate and its error"
FILTERS = (
    "both", "prune_by_noise_rate", "prune_by_class", "confident_learning", "low_normalized_margin",
    "low_self_confidence", "predicted_neq_given",
)  # fmt: skip
RANKINGS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
FOUND, NAMED = 0.9, 0.002  # the goals: at least, less than
ALLOWANCE = 1.5  # suspects that may be looked at, for each label that was changed


def main(arguments: list[str] | None = None) -> None:
    """Trains twice for each seed, and prints tables; `--json` also writes them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels", description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default=settings.DEFAULT_PRESET)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="GROUP.KEY=VALUE")
    parser.add_argument("--data", default="shapes10", help="shapes10, a CIFAR-10 archive, a folder or an .npz file")
    parser.add_argument("--share", type=float, default=0.02, help="of the labels that are changed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int, help="of train and validation together, at most")
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    try:
        chosen = settings.load(asked.preset, asked.overrides, **{"training.epochs": asked.epochs})
        data = arrays.load(asked.data, asked.images, chosen.data.validation_share)
    except UserError as problem:
        parser.error(str(problem))
    about = machine.describe()
    runs = [measure(chosen, data, seed, asked.share) for seed in asked.seeds]
    result = {
        "benchmark": "labels",
        "machine": about,
        "preset": asked.preset,
        "data": pathlib.Path(asked.data).name,
        "share": asked.share,
        "runs": runs,
    }
    result["tables"] = [goals(result), comparison(result)]
    report.show(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))


def measure(chosen: settings.Settings, data: arrays.Arrays, seed: int, share: float) -> dict[str, object]:
    """One seed.

    Returns:
        seed; judged, the number of examples; changed, how many of their labels were; accuracy without changes; named,
        way -> suspects, likewise; found, way and ranking -> share of the changed labels; named_with_changes,
        way -> suspects.
    """
    print(f"seed {seed}", file=sys.stderr, flush=True)
    labels, probabilities = judged(chosen, data, seed)
    changed, wrong = change(data, share, seed)
    noisy_labels, noisy = judged(chosen, changed, seed)
    count = int(wrong.sum())
    most = math.floor(ALLOWANCE * count)
    ways = (OURS, *FILTERS)
    orders = {f"{way}, {ranking}": judge(noisy_labels, noisy, way, ranking) for way in ways for ranking in RANKINGS}
    return {
        "seed": seed,
        "judged": len(labels),
        "changed": count,
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "named": {way: len(judge(labels, probabilities, way)) for way in ways},
        "found": {name: float(wrong[order[:most]].sum() / count) for name, order in orders.items()},
        "named_with_changes": {way: len(orders[f"{way}, {RANKINGS[0]}"]) for way in ways},
    }


def judge(labels: np.ndarray, probabilities: np.ndarray, way: str, ranking: str = RANKINGS[0]) -> np.ndarray:
    """The places of the suspects, the least plausible label first: by `review.suspects`, or a filter of cleanlab."""
    if way == OURS:
        return suspects.judge(labels, probabilities, ranking)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as there
        return filter.find_label_issues(
            labels, probabilities, filter_by=way, return_indices_ranked_by=ranking, n_jobs=1
        )


def judged(chosen: settings.Settings, data: arrays.Arrays, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels [n] of the validation and the test split, and the probabilities, float32 [n, classes], of a training."""
    _, learner, _, _, batch_size = training.fit(chosen, data, seed)
    images = np.concatenate([data.validation.images, data.test.images])
    logits = training.logits(learner, images, chosen.model.views, batch_size).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    kept = probabilities.astype(np.float16).astype(np.float32)  # as review.predictions keeps them
    return np.concatenate([data.validation.labels, data.test.labels]), kept


def change(data: arrays.Arrays, share: float, seed: int) -> tuple[arrays.Arrays, np.ndarray]:
    """The data with some labels of every split changed, and which of the validation and the test split were [n]."""
    random = np.random.default_rng(seed)

    def changed(split: arrays.Split) -> tuple[arrays.Split, np.ndarray]:
        chosen = np.zeros(len(split), bool)
        chosen[random.choice(len(split), round(share * len(split)), replace=False)] = True
        others = (split.labels + random.integers(1, data.classes, len(split))) % data.classes
        return arrays.Split(split.images, np.where(chosen, others, split.labels)), chosen

    train, _ = changed(data.train)
    validation, first = changed(data.validation)
    test, second = changed(data.test)
    return arrays.Arrays(train, validation, test, data.classes), np.concatenate([first, second])


def goals(result: dict) -> dict[str, object]:
    """The two goals, with the filter and the ranking that are used."""
    runs = result["runs"]
    used = f"{OURS}, {suspects.RANKING}"
    found = [run["found"][used] for run in runs]
    named = [run["named"][OURS] / run["judged"] for run in runs]
    seeds = f"seeds {', '.join(str(run['seed']) for run in runs)}" if len(runs) > 1 else f"seed {runs[0]['seed']}"
    return {
        "title": f"Goals; {result['preset']} on {result['data']}, {seeds}",
        "columns": ["goal", "reached", ""],
        "rows": [
            [
                f"of {result['share']:.0%} changed labels, found among {ALLOWANCE:g} times as many suspects: "
                f"at least {FOUND:.0%}".replace("%", " %"),
                ", ".join(f"{share:.1%}".replace("%", " %") for share in found),
                "met" if min(found) >= FOUND else "not met",
            ],
            [
                f"of unchanged labels, named: less than {NAMED:.1%}".replace("%", " %"),
                ", ".join(f"{share:.2%}".replace("%", " %") for share in named),
                "met" if max(named) < NAMED else "not met",
            ],
        ],
    }


def comparison(result: dict) -> dict[str, object]:
    """Ours, and every filter of cleanlab, with every ranking; the means over the seeds."""
    runs = result["runs"]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    rows = []
    for name in (OURS, *FILTERS):
        found = {ranking: mean([run["found"][f"{name}, {ranking}"] for run in runs]) for ranking in RANKINGS}
        named = mean([run["named"][name] / run["judged"] for run in runs])
        with_changes = mean([run["named_with_changes"][name] / run["changed"] for run in runs])
        cells = [f"{found[ranking]:.1%}" for ranking in RANKINGS]
        rows.append([name, f"{named:.2%}", f"{with_changes:.2f}", *cells])
    first = runs[0]
    return {
        "title": f"{result['data']}: {first['judged']:,} examples judged, {first['changed']:,} labels changed, "
        f"accuracy {mean([run['accuracy'] for run in runs]):.2%}; means".replace("%", " %"),
        "columns": [
            "how many are named",
            "named of unchanged",
            "named for each changed",
            *(f"found, by {ranking}" for ranking in RANKINGS),
        ],
        "rows": [[cell.replace("%", " %") for cell in row] for row in rows],
    }


if __name__ == "__main__":
    main()
