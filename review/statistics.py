"""Tests and intervals of shares, from their sources.

The interval of a share is that of Wilson 1927 (Journal of the American Statistical Association 22). Whether two
shares differ beyond chance: McNemar 1947, of the same examples (Note on the sampling error of the difference between
correlated proportions or percentages, Psychometrika 12), and Fisher 1922, of different ones (On the interpretation of
chi-squared from contingency tables). Several tests are corrected after Holm 1979 (A simple sequentially rejective
multiple test procedure, Scandinavian Journal of Statistics 6). The interval of a difference is that of Newcombe 1998
(Statistics in Medicine 17: method 10 for two independent shares, p. 873, and method 10 for paired ones, p. 2635).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Interval = tuple[float, float]


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share of `count` examples (Wilson 1927)."""
    if not count or math.isnan(share):
        return 0.0, 1.0
    centre = share + z * z / (2 * count)
    margin = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - margin) / scale), min(1.0, (centre + margin) / scale)


def mcnemar(lost: int, gained: int) -> float:
    """The two-sided p-value of the exact McNemar test.

    Args:
        lost: examples that only the first model has right.
        gained: examples that only the second one has right.

    Returns:
        The probability of a split at least as uneven if each of these examples went either way with equal chance; 1
        where there are none.
    """
    from scipy import stats

    return float(stats.binomtest(gained, lost + gained).pvalue) if lost + gained else 1.0


def fisher(first_right: int, first_count: int, right: int, count: int) -> float:
    """The two-sided p-value of Fisher's exact test that two independent shares are equal; 1 without examples."""
    from scipy import stats

    if not first_count or not count:
        return 1.0
    table = [[first_right, first_count - first_right], [right, count - right]]
    return float(stats.fisher_exact(table).pvalue)


def holm(values: Sequence[float], tests: int | None = None) -> list[float]:
    """P-values corrected for being several: those below ALPHA keep the chance of any false one below ALPHA.

    `tests`: how many there are in all, where only the smallest ones are given.
    """
    tests = len(values) if tests is None else tests
    corrected = [0.0] * len(values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, values[index] * (tests - rank)))
        corrected[index] = highest
    return corrected


def paired_interval(both: int, lost: int, gained: int, neither: int) -> Interval:
    """The 95 % interval of the difference of two shares of the same examples, second minus first.

    Args:
        both: examples that both models have right.
        lost: that only the first has right.
        gained: that only the second has right.
        neither: that none has right.
    """
    count = both + lost + gained + neither
    if not count:
        return -1.0, 1.0
    first, second = (both + lost) / count, (both + gained) / count
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    product: float = both * neither - lost * gained
    if product > 0:  # Newcombe's correction for continuity
        product = max(product - count / 2, 0)
    correlation = ratio(product, math.sqrt(margins))
    return _difference(first, count, second, count, correlation)


def independent_interval(first_right: int, first_count: int, right: int, count: int) -> Interval:
    """The 95 % interval of the difference of two independent shares, second minus first."""
    if not first_count or not count:
        return -1.0, 1.0
    return _difference(first_right / first_count, first_count, right / count, count, 0.0)


def _difference(first: float, first_count: int, second: float, count: int, correlation: float) -> Interval:
    """Joins the Wilson intervals of two shares into that of their difference."""
    (first_low, first_high), (low, high) = wilson(first, first_count), wilson(second, count)

    def margin(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))

    difference = second - first
    least = difference - margin(second - low, first_high - first)
    most = difference + margin(high - second, first - first_low)
    return max(-1.0, least), min(1.0, most)


def ratio(a: float, b: float) -> float:
    """a / b; 0 where b is 0."""
    return a / b if b else 0.0
