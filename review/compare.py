"""Whether one run's model is better than another's beyond chance: overall, by class and by slice.

On the same test examples the exact McNemar test is used: what both models have right, or both wrong, says nothing
about which is better, so it counts the examples that only one of them has right. Without the same examples it is
Fisher's exact test of two independent shares, which finds less. Several tests at once are corrected with Holm's
method. All of them, with their sources, are in `review.statistics`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from core.errors import UserError
from review.statistics import Interval, fisher, holm, independent_interval, mcnemar, paired_interval, ratio

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05  # a change with a smaller corrected p is called beyond chance
LEAST_SHARED = 0.5  # of the smaller test split; with fewer shared examples the runs are compared as independent ones
# What Evaluator writes of a prediction; further columns are features of the image.
COLUMNS = ("id", "label", "class_name", "predicted", "probability", "true_probability", "top", "top_probabilities")


@dataclasses.dataclass(frozen=True)
class Change:
    """How a share of right answers differs from the first run's.

    Attributes:
        values: of the class or slice, one for each feature; empty for all examples.
        count, first_count: test examples in this run and in the first.
        first, share: the share of them that the first run has right, and this one.
        interval: 95 %, of the difference, uncorrected.
        lost, gained: examples that only the first run has right, and only this one; None if they are not the same.
        p: of the test; corrected: for all classes or slices and runs compared with the first (Holm).
    """

    values: tuple[str, ...]
    count: int
    first_count: int
    first: float
    share: float
    interval: Interval
    lost: int | None
    gained: int | None
    p: float
    corrected: float = 1.0

    @property
    def change(self) -> float:
        """This run's share minus the first's."""
        return self.share - self.first

    @property
    def verdict(self) -> Literal["better", "worse", "chance"]:
        """Chance: what the runs differ by may be chance."""
        if self.corrected > ALPHA or not self.change:
            return "chance"
        return "better" if self.change > 0 else "worse"

    def record(self) -> dict:
        """For JSON and CSV, without the values."""
        return {
            "count": self.count,
            "share": self.share,
            "first_count": self.first_count,
            "first_share": self.first,
            "change": self.change,
            "change_low": self.interval[0],
            "change_high": self.interval[1],
            "lost": self.lost,
            "gained": self.gained,
            "p": self.p,
            "p_corrected": self.corrected,
            "verdict": self.verdict,
        }


def paired(values: tuple[str, ...], both: int, lost: int, gained: int, neither: int) -> Change:
    """The change on the same examples, with McNemar's test; the counts as for `paired_interval`."""
    count = both + lost + gained + neither
    return Change(
        values,
        count,
        count,
        ratio(both + lost, count),
        ratio(both + gained, count),
        paired_interval(both, lost, gained, neither),
        lost,
        gained,
        mcnemar(lost, gained),
    )


def independent(values: tuple[str, ...], first: float, first_count: int, share: float, count: int) -> Change:
    """The change between different examples, with Fisher's test; shares in 0 to 1."""
    numbers = round(first * first_count), first_count, round(share * count), count
    return Change(
        values, count, first_count, first, share, independent_interval(*numbers), None, None, fisher(*numbers)
    )


def correct(groups: Iterable[Sequence[Change]]) -> list[list[Change]]:
    """The same groups of changes, with p-values corrected over all of them together."""
    groups = [list(group) for group in groups]
    corrected = iter(holm([change.p for group in groups for change in group]))
    return [[dataclasses.replace(change, corrected=next(corrected)) for change in group] for group in groups]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """What two runs said of the same test examples.

    Attributes:
        frame: one row an example: `first` and `second` (bool: right), `class_name` and the features of the second.
        counts: examples of the first run and of the second.
        differing: shared ids that are of another image or class now; they are not in `frame`.
        repeated: ids that a run has more than once; they are not in `frame`.
    """

    frame: pd.DataFrame
    counts: tuple[int, int]
    differing: int
    repeated: int

    def changes(self, features: Sequence[str]) -> dict[tuple[str, ...], Change] | None:
        """The change in every slice by these features (none: one for all), None if a feature is not kept."""
        if not set(features) <= set(self.frame.columns):
            return None
        keys = [self.frame[feature].astype(str) for feature in features]
        groups = self.frame.groupby(keys, sort=True) if keys else [((), self.frame)]
        found = {}
        for values, rows in groups:
            both = int((rows["first"] & rows["second"]).sum())
            lost = int((rows["first"] & ~rows["second"]).sum())
            gained = int((~rows["first"] & rows["second"]).sum())
            found[tuple(values)] = paired(tuple(values), both, lost, gained, len(rows) - both - lost - gained)
        return found


def pair(first: pd.DataFrame, second: pd.DataFrame) -> Pairs:
    """Joins the predictions of two runs by the examples' id.

    Args:
        first, second: as `review.predictions.read` gives them. What they say of the image itself (width, height,
            derived features) must be the same in both, or it is another image.
    """
    counts = len(first), len(second)
    single = [frame[~frame["id"].duplicated(keep=False)] for frame in (first, second)]
    joined = single[0].merge(single[1], on="id", suffixes=("_first", ""))
    same = (joined["class_name_first"] == joined["class_name"]).to_numpy()
    for column in set(first.columns) & set(second.columns) - set(COLUMNS):
        same &= (joined[f"{column}_first"] == joined[column]).to_numpy()
    joined["first"] = joined["label_first"] == joined["predicted_first"]
    joined["second"] = joined["label"] == joined["predicted"]
    return Pairs(
        joined.loc[same, ["first", "second", *(column for column in second.columns if column not in COLUMNS[3:])]],
        counts,
        int((~same).sum()),
        sum(counts) - len(single[0]) - len(single[1]),
    )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One run against the first.

    Attributes:
        first, run: ids.
        test: "mcnemar" on the same examples, "fisher" on different ones.
        shared: test examples that were compared one by one; None if none were.
        how: sentences that say what was compared, and with which test.
        overall: all examples.
        classes: those that got worse beyond chance first, then the better ones, then the others; by change.
    """

    first: str
    run: str
    test: Literal["mcnemar", "fisher"]
    shared: int | None
    how: list[str]
    overall: Change
    classes: list[Change]

    def rows(self) -> list[dict]:
        """For CSV: all examples, whose class name is empty, then the classes."""
        shared = {"first": self.first, "run": self.run, "test": self.test}
        return [
            {**shared, "class_name": "".join(change.values), **change.record()}
            for change in (self.overall, *self.classes)
        ]

    def record(self) -> dict:
        """For JSON."""
        return {
            "first": self.first,
            "run": self.run,
            "test": self.test,
            "shared": self.shared,
            "how": self.how,
            "overall": self.overall.record(),
            "classes": [{"class_name": change.values[0], **change.record()} for change in self.classes],
        }


def compare(runs: Sequence[Mapping]) -> list[Comparison]:
    """Compares evaluated runs with the first of them; every class and run counts for the correction.

    Args:
        runs: results, as Workdir.find gives them.

    Raises:
        UserError: a run is named twice, or the runs are of other classes.
    """
    first, *others = runs
    for index, run in enumerate(runs):
        if run["run"] in {earlier["run"] for earlier in runs[:index]}:
            raise UserError(f"Run {run['run']} is named twice: name different runs to compare.")
    met = [meet(first, run) for run in others]
    overall = correct([changes(first, run, pairs, ()) for run, (pairs, _) in zip(others, met, strict=True)])
    classes = correct(
        [changes(first, run, pairs, ("class_name",)) for run, (pairs, _) in zip(others, met, strict=True)]
    )
    return [
        Comparison(
            first["run"],
            run["run"],
            "fisher" if pairs is None else "mcnemar",
            None if pairs is None else len(pairs.frame),
            how,
            whole[0],
            sorted(parts, key=lambda c: (("worse", "better", "chance").index(c.verdict), c.change, c.values)),
        )
        for run, (pairs, how), whole, parts in zip(others, met, overall, classes, strict=True)
    ]


def meet(first: Mapping, run: Mapping) -> tuple[Pairs | None, list[str]]:
    """What two runs said of the same test examples, and sentences about it; None if they are to be told apart as
    independent ones.

    Raises:
        UserError: the runs are of other classes.
    """
    fit(first, run)
    notes = [_without_leaked(result) for result in (first, run) if result["evaluation"].get("without_leaked")]
    notes += [_without_near(result) for result in (first, run) if result["evaluation"].get("without_near")]
    frames = [predictions(result["evaluation"]) for result in (first, run)]
    missing = [result["run"] for result, frame in zip((first, run), frames, strict=True) if frame is None]
    if missing:
        why = f"Run{'s' if len(missing) > 1 else ''} {' and '.join(missing)} kept no predictions"
        return None, [f"{why}, so {WITHOUT_PAIRS}", *notes]
    pairs = pair(*frames)
    shared, counts = len(pairs.frame), pairs.counts
    if pairs.differing:
        notes.append(f"{pairs.differing:,} examples have the id of another image or class and were left out.")
    if pairs.repeated:
        notes.append(f"{pairs.repeated:,} examples have no id of their own and were left out.")
    if shared < LEAST_SHARED * min(counts):
        what = f"Only {shared:,} test examples are shared" if shared else "The runs share no test example"
        return None, [f"{what} ({counts[0]:,} and {counts[1]:,} in all), so {WITHOUT_PAIRS}", *notes]
    if counts == (shared, shared):
        what = f"Both were tested on the same {shared:,} examples"
    else:
        what = f"Compared on the {shared:,} test examples that both have (of {counts[0]:,} and {counts[1]:,})"
    if first["evaluation"]["path"] == run["evaluation"]["path"]:
        notes.append("Both runs show the same evaluation: the later one took it from the cache.")
    return pairs, [f"{what}, with McNemar's exact test.", *notes]


def _without_leaked(result: Mapping) -> str:
    """That a run's accuracy is partly of pictures that it was trained on."""
    part = result["evaluation"]["without_leaked"]
    rest = "none remains" if part["accuracy"] is None else f"without them its accuracy is {part['accuracy']:.2%}"
    many = "s have pictures" if part["leaked"] != 1 else " has a picture"
    return (
        f"Run {result['run']}: {part['leaked']:,} test example{many} of its training or validation split; {rest}, "
        f"n={part['count']:,}."
    )


def _without_near(result: Mapping) -> str:
    """That a run's accuracy is partly of pictures that are nearly those it was trained on."""
    part = result["evaluation"]["without_near"]
    rest = "none remains" if part["accuracy"] is None else f"its accuracy is {part['accuracy']:.2%}"
    return (
        f"Run {result['run']}: without the {part['leaked']:,} test examples that are duplicates or near-duplicates "
        f"of its training or validation split {rest}, n={part['count']:,}."
    )


WITHOUT_PAIRS = (
    "their shares are compared as of independent test splits, with Fisher's exact test, which finds less than a "
    "comparison example by example."
)


def correction(tests: int, of: str, runs: int = 1) -> str:
    """What the corrected p-values mean, in one line.

    Args:
        tests: how many classes or slices were compared, in each run.
        of: "classes" or "slices".
        runs: that were compared with the first.
    """
    times = f" in {runs} runs" if runs > 1 else ""
    return (
        f"p is corrected for comparing {tests:,} {of}{times} at once (Holm): if nothing had changed, the chance that "
        f"any is called better or worse would be at most {ALPHA:.0%}."
    )


def fit(first: Mapping, run: Mapping) -> None:
    """Raises UserError if two runs are of other classes."""
    names = [set(result["evaluation"]["class_names"]) for result in (first, run)]
    if names[0] != names[1]:
        odd = sorted(names[0] ^ names[1])
        some = ", ".join(odd[:5]) + (f" and {len(odd) - 5} more" if len(odd) > 5 else "")
        raise UserError(
            f"Runs {first['run']} ({first['name']}) and {run['run']} ({run['name']}) cannot be compared: only one of "
            f"them knows the classes {some}; name runs of the same classes."
        )


def predictions(evaluation: Mapping) -> pd.DataFrame | None:
    """The kept predictions of an evaluation; None if there are none. Raises UserError if they cannot be read."""
    from review import predictions as kept

    try:
        return kept.read(evaluation["path"])
    except FileNotFoundError:
        return None


def changes(first: Mapping, run: Mapping, pairs: Pairs | None, features: Sequence[str]) -> list[Change]:
    """The change in every class or slice that both runs have, on the same examples where there are pairs.

    Args:
        first, run: results.
        pairs: of them, from `meet`.
        features: of the slices; ("class_name",) for the classes, () for all examples.
    """
    before, after = (shares(result["evaluation"], features) for result in (first, run))
    on_pairs = pairs.changes(features) if pairs is not None else None
    # The names of the slices may be made otherwise than from the kept features; then they say nothing here.
    if on_pairs is not None and set(on_pairs) <= set(after):
        return [on_pairs[values] for values in after if values in on_pairs]
    return [independent(values, *before[values], *after[values]) for values in after if values in before]


def shares(evaluation: Mapping, features: Sequence[str]) -> dict[tuple[str, ...], tuple[float, int]]:
    """Values of a slice -> (share that is right, examples). Raises UserError for slices that were not evaluated."""
    if not features:
        return {(): (evaluation["accuracy"], evaluation["count"])}
    if tuple(features) == ("class_name",):
        return {(row["class_name"],): (row["recall"], row["count"]) for row in evaluation["classes"]}
    found = find_slices(evaluation, features)
    order = [found["features"].index(feature) for feature in features]
    return {tuple(row["values"][k] for k in order): (row["accuracy"], row["count"]) for row in found["rows"]}


def find_slices(evaluation: Mapping, features: Sequence[str]) -> dict:
    """The slices by these features, in any order, as schema.Slices. Raises UserError that names those there are."""
    known = evaluation.get("slices") or []
    for found in known:
        if sorted(found["features"]) == sorted(features):
            return found
    there = [",".join(found["features"]) for found in known]
    raise UserError(
        f"--slice {','.join(features)}: it was evaluated on {', '.join(['class_name', *there])}; to add this one, "
        f"run it with --set 'evaluation.slices={json.dumps([*there, ','.join(features)])}'."
    )


def page(runs: Sequence[Mapping], found: Sequence[Comparison]) -> str:
    """The comparison as the text of an HTML file.

    Args:
        runs: results, the first one first.
        found: what `compare` said of them.
    """
    from review.report.web import environment

    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            first=runs[0],
            runs=runs,
            found=found,
            widest=[
                max(abs(end) for change in (part.overall, *part.classes) for end in change.interval) for part in found
            ],
            correction=correction(len(found[0].classes), "classes", len(found)),
        )
    )
