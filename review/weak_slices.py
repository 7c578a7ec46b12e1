"""Weak where nobody asked: slices of the test split that are worse than the rest, looked for among all features.

What is looked at are the values of every feature and the crosses of two features, each in the whole test split and
within each class: so up to three values, such as the small dark ones of one class. Slice Finder (Chung et al., Slice
Finder: Automated Data Slicing for Model Validation, ICDE 2019) searches with tests and stops early, SliceLine
(Sagadeeva and Boehm, SliceLine: Fast, Linear-Algebra-based Slice Finding for ML Model Debugging, SIGMOD 2021) looks
at all slices and ranks them by a score; here all are looked at and tested, and the classes are held apart.

- **Worse than the rest.** Recall differs from class to class, and features go along with classes: so a slice is
  compared with the other examples of the same classes (Cochran 1954, Some methods for strengthening the common χ²
  tests, Biometrics 10; Mantel and Haenszel 1959, Journal of the National Cancer Institute 22). If nothing but the
  class mattered, the mistakes of a class would fall on its examples as if drawn: within one class that is Fisher's
  exact test, one-sided. Over several classes the number of mistakes is a sum of independent trials (Vatutin and
  Mikhailov 1982, Theory of Probability and its Applications 27), whose upper tail is no larger than that of as many
  equal ones (Hoeffding 1956, On the distribution of the number of successes in independent trials, Annals of
  Mathematical Statistics 27): the p-value may be too large, never too small.
- **Beyond chance.** All that were looked at count for the correction after Holm: if no feature mattered, the chance
  that anything is named would be at most ALPHA. The tests that follow only choose among what is left.
- **Not a larger one again.** A cross must be worse than the rest of each slice that it is a part of, corrected for
  those that are worse than the rest. Without its class, a slice holds other classes: then the question is whether its
  features do more harm in this class than in the others, by the odds ratio of Mantel and Haenszel.
- **One name for one weakness.** The clearest is named first; another one only if it is also worse where the examples
  in and outside of those before it are compared apart; and a part of one before it only if it is worse than the rest
  of that beyond chance, too, corrected for all that were looked at.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from core.settings import Evaluation
from review.compare import ALPHA, COLUMNS
from review.statistics import holm, wilson

CLASS = "class_name"
NO_FEATURES = (*COLUMNS, "digest")
QUANTILES = 4  # bins of a number with many values
MOST_VALUES, MOST_COLUMNS = 32, 40  # the most frequent values, the first columns: a bound on what it costs
SCREEN = 1.5  # standard deviations more mistakes than expected: with fewer no test is tried
MOST_TESTED, MOST_EXAMINED = 2000, 200  # the clearest; what is left out is not named
MOST_NAMED = 10
SHOWN = 8  # mistakes of each slice


@dataclasses.dataclass(frozen=True)
class WeakSlice:
    """A slice that is worse than the rest.

    Attributes:
        features, values: what its examples have in common; the class first.
        count: test examples, copies of a picture counted once.
        right: those that the model has right.
        rest_accuracy: of the other examples of the same classes, weighted as the classes are in the slice.
        p: corrected for all slices that were looked at.
        rows: of the table, its mistakes, the most confident first, SHOWN at most.
        ids: of these examples.
    """

    features: tuple[str, ...]
    values: tuple[str, ...]
    count: int
    right: int
    rest_accuracy: float
    p: float
    rows: tuple[int, ...]
    ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Found:
    """What the search found.

    Attributes:
        features: that were looked at, besides the class.
        looked_at: different slices of enough examples.
        slices: the weak ones, the clearest first, MOST_NAMED at most.
    """

    features: tuple[str, ...]
    looked_at: int
    slices: tuple[WeakSlice, ...]

    @property
    def rows(self) -> list[int]:
        """The rows of the table whose pictures are wanted, each once."""
        return list(dict.fromkeys(row for weak in self.slices for row in weak.rows))

    def record(self, files: dict[int, str] | None = None) -> dict[str, Any]:
        """In the form of `review.report.schema.WeakSlices`; `files`: row of the table -> its picture's file."""
        files = files or {}
        return {
            "features": list(self.features),
            "looked_at": self.looked_at,
            "rows": [
                {
                    "features": list(weak.features),
                    "values": list(weak.values),
                    "count": weak.count,
                    "accuracy": weak.right / weak.count,
                    "accuracy_interval": list(wilson(weak.right / weak.count, weak.count)),
                    "rest_accuracy": weak.rest_accuracy,
                    "p": weak.p,
                    "examples": list(weak.ids),
                    "pictures": [files[row] for row in weak.rows if row in files],
                }
                for weak in self.slices
            ],
        }


def find(table: pd.DataFrame, settings: Evaluation) -> Found | None:
    """The weak slices of an evaluation; None if they are not asked for.

    Args:
        table: from `predictions.read`; older ones lack some features.
        settings: smallest_slice and find_weak_slices are used.
    """
    return search(table, settings.smallest_slice) if settings.find_weak_slices else None


def search(table: pd.DataFrame, smallest: int) -> Found:
    """The slices of a table that are worse than the rest, see above.

    Args:
        table: `id`, `label`, `class_name`, `predicted` and `probability` of each example, and any number of columns
            with features, as words or numbers. Copies of a picture, by `digest` and label, say nothing new: the
            first one counts.
        smallest: examples of a slice, at least.
    """
    table = table.reset_index(drop=True)
    if "digest" in table:
        table = table.drop_duplicates(["digest", "label"])
    split = _Split.of(table, smallest)
    looked_at, candidates = split.candidates()
    named = split.different(split.significant(candidates, looked_at), looked_at)
    return Found(
        tuple(column.name for column in split.columns),
        looked_at,
        tuple(split.describe(candidate, table) for candidate in named),
    )


def excess(n: np.ndarray, w: np.ndarray, of_n: np.ndarray, of_w: np.ndarray) -> np.ndarray:
    """The p-value that a slice has no more mistakes than the strata, of which it is a part, would give it by chance.

    Args:
        n, w: integers [..., strata]: examples and mistakes of the slice in each stratum.
        of_n, of_w: those of the strata themselves, the slice included.

    Returns:
        float64 [...]: the probability of as many mistakes or more, if within each stratum the mistakes are drawn
        from its examples: exact for one stratum, an upper bound for several. 1 where there is nothing to compare.
    """
    inside = (n > 0) & (n < of_n)  # a stratum that lies wholly in the slice compares it with nothing
    n, w, of_n, of_w = (np.where(inside, part, 0) for part in (n, w, of_n, of_w))
    expected = (n * (of_w / np.maximum(of_n, 1))).sum(-1)
    trials = np.maximum(np.minimum(n, of_w).sum(-1), 1)
    mistakes = w.sum(-1)
    bound = stats.binom.sf(mistakes - 1, trials, np.minimum(expected / trials, 1))
    bound = np.where(mistakes >= expected + 1, bound, 1.0)  # Hoeffding's holds from one above the mean on
    exact = stats.hypergeom.sf(mistakes - 1, np.maximum(of_n.sum(-1), 1), of_w.sum(-1), n.sum(-1))
    return np.where(inside.sum(-1) == 1, exact, bound)


@dataclasses.dataclass(frozen=True, eq=False)
class _Column:
    """A feature: `codes` int16 [examples] into `values`; len(values) stands for all other values."""

    name: str
    codes: np.ndarray
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class _Candidate:
    """A slice that may be weak.

    Attributes:
        columns: of its features, by their place.
        cell: code of its value for each of them.
        label: its class; None for all.
        z: standard deviations by which its mistakes exceed what is expected.
        first_p: of the test against the rest; p: corrected.
        larger_p: the largest of the tests against the rest of each larger slice; 0 without one.
    """

    columns: tuple[int, ...]
    cell: tuple[int, ...]
    label: int | None
    z: float
    first_p: float
    p: float = 1.0
    larger_p: float = 0.0

    @functools.cached_property
    def parts(self) -> frozenset[tuple[int, int]]:
        """Its conditions: column and code, of the class column -1 and label."""
        of_class = [] if self.label is None else [(-1, self.label)]
        return frozenset([*zip(self.columns, self.cell, strict=True), *of_class])

    def rank(self) -> tuple:
        """The clearest first; of equally clear ones the simplest."""
        return self.first_p, -self.z, len(self.parts), sorted(self.parts)


@dataclasses.dataclass(frozen=True, eq=False)
class _Split:
    """The test split.

    Attributes:
        classes: names.
        label: intp [examples] into `classes`.
        wrong: bool [examples].
        columns: features with two or more values.
        smallest: examples of a slice.
    """

    classes: tuple[str, ...]
    label: np.ndarray
    wrong: np.ndarray
    columns: tuple[_Column, ...]
    smallest: int

    @classmethod
    def of(cls, table: pd.DataFrame, smallest: int) -> _Split:
        """Of a table as for `search`."""
        label, classes = pd.factorize(table[CLASS], sort=True)
        wrong = (table["label"] != table["predicted"]).to_numpy()
        names = sorted((name for name in table.columns if name not in NO_FEATURES), key=_is_side)
        columns: dict[bytes, _Column] = {}
        for name in names:
            if len(columns) < MOST_COLUMNS and (column := _column(name, table[name], smallest)):
                # Two features that divide the examples alike (width and height of squares) are one.
                columns.setdefault(pd.factorize(column.codes)[0].tobytes(), column)
        return cls(tuple(map(str, classes)), label, wrong, tuple(columns.values()), smallest)

    @functools.cached_property
    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Examples and mistakes of each class."""
        count = len(self.classes)
        return np.bincount(self.label, minlength=count), np.bincount(self.label[self.wrong], minlength=count)

    @functools.cached_property
    def singles(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """`counts` of each feature."""
        return [self.counts((place,)) for place in range(len(self.columns))]

    def counts(self, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Examples and mistakes, int64 [values of the first feature, ..., classes]."""
        sizes = [len(self.columns[place].values) + 1 for place in places]
        key: np.ndarray = self.columns[places[0]].codes.astype(np.intp)
        for place, size in zip(places[1:], sizes[1:], strict=True):
            key = key * size + self.columns[place].codes
        key = key * len(self.classes) + self.label
        shape = (*sizes, len(self.classes))
        kept = (slice(-1),) * len(sizes)
        parts = (np.bincount(part, minlength=int(np.prod(shape))) for part in (key, key[self.wrong]))
        n, w = (part.reshape(shape)[kept] for part in parts)
        return n, w

    def sets(self) -> Iterator[tuple[int, ...]]:
        """The features that are crossed."""
        for size in (1, 2):
            yield from itertools.combinations(range(len(self.columns)), size)

    def candidates(self) -> tuple[int, list[_Candidate]]:
        """How many slices there are, and those that have more mistakes than the rest, at ALPHA without correction."""
        of_n, of_w = self.totals
        share = of_w / of_n
        spread = share * (1 - share) / np.maximum(of_n - 1, 1)
        looked_at, found = 0, []
        for places in self.sets():
            n, w = self.counts(places)
            everywhere, within = self._different_from_larger(places, n)
            looked_at += int(everywhere.sum()) + int(within.sum())
            expected, variance = n * share, n * (of_n - n) * spread  # of the hypergeometric distribution
            for kept, z in (
                (everywhere, _deviations(w.sum(-1), expected.sum(-1), variance.sum(-1))),
                (within, _deviations(w, expected, variance)),
            ):
                at = np.nonzero(kept & (z >= SCREEN))
                if not at[0].size:
                    continue
                if kept is within:
                    p = stats.hypergeom.sf(w[at] - 1, of_n[at[-1]], of_w[at[-1]], n[at])
                else:
                    p = excess(n[at], w[at], of_n, of_w)
                for row in np.flatnonzero(p <= ALPHA):
                    cell = tuple(int(axis[row]) for axis in at)
                    label = cell[-1] if kept is within else None
                    found.append(_Candidate(places, cell[: len(places)], label, float(z[at][row]), float(p[row])))
        return looked_at, found

    def _different_from_larger(self, places: Sequence[int], n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which slices, over all classes and within each, have enough examples and are not all of a larger one."""
        total = n.sum(-1)
        everywhere = (total >= self.smallest) & (total < len(self.label))
        within = (n >= self.smallest) & (n < self.totals[0]) & (n < total[..., None])
        if len(places) > 1:
            for axis, place in enumerate(places):
                parent = np.expand_dims(self.singles[place][0], 1 - axis)
                everywhere &= total < parent.sum(-1)
                within &= n < parent
        return everywhere, within

    def significant(self, found: Sequence[_Candidate], looked_at: int) -> list[_Candidate]:
        """Those that are worse than the rest beyond chance, and no larger slice again; the clearest first.

        Args:
            found: from `candidates`.
            looked_at: slices to correct for.
        """
        corrected = holm([one.first_p for one in found], looked_at)
        weak = [dataclasses.replace(one, p=p) for one, p in zip(found, corrected, strict=True) if p <= ALPHA]
        kept: list[_Candidate] = []
        tested = sorted(sorted(weak, key=_Candidate.rank)[:MOST_TESTED], key=_of_features)
        for places, group in itertools.groupby(tested, _of_features):
            n, w = self.counts(places)
            members = list(group)
            everywhere = [one for one in members if one.label is None]
            within = [one for one in members if one.label is not None]
            for part, test in ((everywhere, self._against_larger), (within, self._against_larger_of_class)):
                if part:
                    larger = test(places, n, w, part)
                    kept += [dataclasses.replace(one, larger_p=float(p)) for one, p in zip(part, larger, strict=True)]
        return sorted((one for one in kept if one.larger_p * len(weak) <= ALPHA), key=_Candidate.rank)

    def _against_larger(
        self, places: Sequence[int], n: np.ndarray, w: np.ndarray, group: Sequence[_Candidate]
    ) -> np.ndarray:
        """The largest p-value of slices of all classes against the rest of each larger one; 0 for single features.

        Args:
            places: of the features.
            n, w: their `counts`.
            group: the slices.
        """
        largest = np.zeros(len(group))
        if len(places) > 1:
            cells = tuple(np.array([one.cell for one in group]).T)
            for place, values in zip(places, cells, strict=True):
                of_n, of_w = self.singles[place]
                largest = np.maximum(largest, excess(n[cells], w[cells], of_n[values], of_w[values]))
        return largest

    def _against_larger_of_class(
        self, places: Sequence[int], n: np.ndarray, w: np.ndarray, group: Sequence[_Candidate]
    ) -> np.ndarray:
        """The same for slices of one class; the class itself was the first test."""
        cells = tuple(np.array([one.cell for one in group]).T)
        label = np.array([one.label for one in group])
        count, mistakes = n[(*cells, label)], w[(*cells, label)]
        largest = self._against_other_classes(n[cells], w[cells], label)
        if len(places) > 1:
            for place, values in zip(places, cells, strict=True):
                of_n, of_w = (part[values, label] for part in self.singles[place])
                largest = np.maximum(largest, stats.hypergeom.sf(mistakes - 1, of_n, of_w, count))
        return largest

    def _against_other_classes(self, n: np.ndarray, w: np.ndarray, label: np.ndarray) -> np.ndarray:
        """The p-value that some features do no more harm in a class than in the others.

        Args:
            n, w: integers [slices, classes]: examples with these features, and mistakes among them.
            label: the class of each slice, [slices].
        """
        of_n, of_w = self.totals
        others = np.arange(len(of_n)) != label[:, None]
        # The odds ratio of Mantel and Haenszel over the other classes; the halves keep it finite.
        harmed = (w * (of_n - n - of_w + w) / of_n * others).sum(-1) + 0.5
        spared = ((n - w) * (of_w - w) / of_n * others).sum(-1) + 0.5
        rows = np.arange(len(label))
        count, mistakes = n[rows, label], w[rows, label]
        elsewhere = (of_w[label] - mistakes + 0.5) / (of_n[label] - count + 1)
        odds = np.maximum(harmed / spared, 1) * elsewhere / (1 - elsewhere)
        return stats.binom.sf(mistakes - 1, count, odds / (1 + odds))

    def different(self, found: Sequence[_Candidate], looked_at: int) -> list[_Candidate]:
        """Of significant slices, the clearest first, those that are not those before them again.

        Args:
            found: from `significant`.
            looked_at: slices to correct for, since any of them may be one more.
        """
        level = ALPHA / max(1, looked_at)
        named: list[_Candidate] = []
        for one in found[:MOST_EXAMINED]:
            others = [other for other in named if not other.parts < one.parts]
            if (len(others) == len(named) or one.larger_p <= level) and self._apart_from(one, others) <= level:
                named.append(one)
            if len(named) == MOST_NAMED:
                break
        # What was named first may owe all to a smaller one that was named after it.
        return [
            one
            for one in named
            if self._apart_from(one, [other for other in named if one.parts < other.parts]) <= level
        ]

    def _apart_from(self, one: _Candidate, others: Sequence[_Candidate]) -> float:
        """`excess` of a slice over its classes, where the examples in and outside of the others are kept apart.

        0 without others: it was tested.
        """
        if not others:
            return 0.0
        domain = slice(None) if one.label is None else self.label == one.label
        strata = self.label[domain]
        for other in others:
            strata = pd.factorize(2 * strata + self.mask(other)[domain])[0]
        inside, wrong = self.mask(one)[domain], self.wrong[domain]
        size = int(strata.max()) + 1
        n, w, of_n, of_w = (
            np.bincount(strata[part], minlength=size) for part in (inside, inside & wrong, slice(None), wrong)
        )
        return float(excess(n, w, of_n, of_w))

    def mask(self, one: _Candidate) -> np.ndarray:
        """Its examples, bool [examples]."""
        found = np.ones(len(self.label), bool) if one.label is None else self.label == one.label
        for place, code in zip(one.columns, one.cell, strict=True):
            found &= self.columns[place].codes == code
        return found

    def describe(self, one: _Candidate, table: pd.DataFrame) -> WeakSlice:
        """A slice in the words of the table that the split was made of."""
        mask = self.mask(one)
        of_n, of_w = self.totals
        n, w = (np.bincount(self.label[part], minlength=len(of_n)) for part in (mask, mask & self.wrong))
        shared = (n > 0) & (n < of_n)
        others_right = 1 - (of_w - w)[shared] / (of_n - n)[shared]
        mistakes = table[mask & self.wrong].sort_values("probability", ascending=False, kind="stable")[:SHOWN]
        of_class = [] if one.label is None else [(CLASS, self.classes[one.label])]
        crossed = [
            (self.columns[place].name, self.columns[place].values[code])
            for place, code in zip(one.columns, one.cell, strict=True)
        ]
        features, values = zip(*of_class, *crossed, strict=True)
        return WeakSlice(
            features,
            values,
            count=int(n.sum()),
            right=int(n.sum() - w.sum()),
            rest_accuracy=float(np.average(others_right, weights=n[shared])),
            p=one.p,
            rows=tuple(int(row) for row in mistakes.index),
            ids=tuple(map(str, mistakes["id"])),
        )


def _of_features(one: _Candidate) -> tuple[int, ...]:
    return one.columns


def _is_side(name: str) -> bool:
    """Whether a feature comes last: of features that divide the examples alike, the first one is named."""
    return name in ("width", "height")


def _deviations(mistakes: np.ndarray, expected: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Standard deviations by which there are more mistakes than expected; 0 where there is no variance."""
    return np.divide(mistakes - expected, np.sqrt(variance), out=np.zeros(variance.shape), where=variance > 0)


def _column(name: str, given: pd.Series, smallest: int) -> _Column | None:
    """A feature with its values, or bins of them; None if it divides nothing, or holds no single values."""
    if not len(given) or not pd.api.types.is_scalar(given.iloc[0]):
        return None
    codes, found = pd.factorize(given)  # -1: missing
    numbers = pd.to_numeric(pd.Series(found), errors="coerce").to_numpy(float)
    if len(found) > 2 * QUANTILES and np.isfinite(numbers).all():
        codes, words = _bins(codes, numbers)
    else:
        words = [str(value) for value in found]
    counts = np.bincount(codes[codes >= 0], minlength=len(words))
    kept = [
        code for code in np.argsort(-counts, kind="stable")[:MOST_VALUES] if counts[code] >= smallest and words[code]
    ]
    if not kept or counts[kept[0]] == len(given):
        return None
    translated = np.full(len(words) + 1, len(kept), np.int16)  # the last for -1
    translated[kept] = np.arange(len(kept))
    return _Column(name, translated[codes], tuple(words[code] for code in kept))


def _bins(codes: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Quantiles of a number with many values: the bin of each example, and what the bins hold.

    Args:
        codes: of the examples into `numbers`; -1 where there is none.
        numbers: finite.
    """
    known = codes >= 0
    values = numbers[codes[known]]
    edges = np.unique(np.quantile(values, np.arange(1, QUANTILES) / QUANTILES, method="lower"))
    bins = np.full(len(codes), -1)
    bins[known] = np.searchsorted(edges, values)
    ends = pd.Series(values).groupby(bins[known]).agg(["min", "max"])
    words = {
        code: f"{low:.7g}" if low == high else f"{low:.7g} to {high:.7g}" for code, low, high in ends.itertuples()
    }
    return bins, [words.get(code, "") for code in range(len(edges) + 1)]
