"""Test examples that are nearly pictures of an earlier split: what they do to an evaluation, in numbers and in words.

They are counted besides those that are in an earlier split pixel by pixel, of which `review.duplicates` tells.
Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.near_duplicates import NearDuplicate
from core.repeated import Member, Repeated
from review import duplicates

if TYPE_CHECKING:
    import pandas

    from review.report import schema

SHOWN = 24  # pairs in the report


def kept(
    table: pandas.DataFrame, found: Sequence[NearDuplicate], pictures: Sequence[Repeated] = ()
) -> dict[str, dict[str, int]] | None:
    """What remains of the predictions without the near-duplicates and the leaked test examples.

    Args:
        table: from `predictions.read`.
        found: near-duplicates of all splits.
        pictures: that several examples have.

    Returns:
        class name -> its test examples that are "near", those that are left out in all ("leaked"), the "count" of the
        others, and how many of these are "right". None if there is no near one, or if the predictions do not tell
        which: by their pixels, as in `duplicates.kept`.
    """
    near = [one.digest for one in found if one.example.split == "test"]
    exact = {picture.digest: len(picture.leaked("test")) for picture in pictures if picture.leaked("test")}
    if not near or "digest" not in table:
        return None
    is_near, is_exact = table["digest"].isin(near), table["digest"].isin(exact)
    if is_near.sum() != len(near) or is_exact.sum() != sum(exact.values()):
        return None
    out = is_near | is_exact
    right = (table["label"] == table["predicted"]) & ~out
    columns = {"near": is_near, "leaked": out, "count": ~out, "right": right}
    sums = {key: column.groupby(table["class_name"]).sum() for key, column in columns.items()}
    names = sorted(table["class_name"].unique())
    return {str(name): {key: int(counted[name]) for key, counted in sums.items()} for name in names}


def into(
    rows: Sequence[Mapping[str, Any]], remaining: Mapping[str, Mapping[str, int]] | None
) -> list[dict[str, Any]]:
    """The rows of the classes with what remains of each, from `kept`; as they were where that is None."""
    made = [dict(row) for row in rows]
    for row in made if remaining else ():
        counted = (remaining or {}).get(row["class_name"]) or {"near": 0, "leaked": 0, "count": 0, "right": 0}
        share = duplicates.of_class(counted)
        row["near"] = counted["near"]
        row["recall_without_near"] = share["recall_without_leaked"]
        row["recall_without_near_interval"] = share["recall_without_leaked_interval"]
    return made


def sentences(
    found: Mapping[str, Any] | None,
    counts: Mapping[str, Mapping[str, int]],
    without: Mapping[str, Any] | None = None,
    percent: Callable[[float], str] = "{:.1%}".format,
) -> list[str]:
    """What there is to say of near-duplicates; nothing if there are none, or if nobody looked.

    Args:
        found: `near_duplicates` of the results' data; None or empty for a run that did not look for them.
        counts: split -> class name -> examples.
        without: as `schema.WithoutLeaked`, if a model was evaluated: of what is neither a near-duplicate nor leaked.
        percent: writes a share.
    """
    counted = (found or {}).get("examples", {})
    totals = {split: sum(of_split.values()) for split, of_split in counts.items()}
    said = []
    if number := counted.get("test"):
        total = totals.get("test", 0)
        what = "is a near-duplicate: its picture is" if number == 1 else "are near-duplicates: their pictures are"
        sentence = (
            f"{number:,} of {total:,} test examples ({percent(number / total if total else 1.0)}) {what} nearly the "
            "same as one of the training or validation split"
        )
        if without is None:
            said.append(f"{sentence}.")
        elif without["accuracy"] is None:
            said.append(f"{sentence}. Without these and the duplicates no test example is left.")
        else:
            which = "it" if number == 1 else "them"
            which += " and the duplicates" if without["leaked"] > number else ""
            said.append(f"{sentence}. {duplicates.of_rest(which, without, percent)}")
    if number := counted.get("validation"):
        what = "is a near-duplicate of a training picture"
        if number != 1:
            what = "are near-duplicates of training pictures"
        said.append(f"{number:,} of {totals.get('validation', 0):,} validation examples {what}.")
    if number := (found or {}).get("contradicting", 0):
        stand = "stands under another class than its counterpart"
        if number != 1:
            stand = "stand under other classes than their counterparts"
        said.append(f"{number:,} of the near-duplicates {stand}.")
    return said


def of_results(results: Mapping[str, Any]) -> list[str]:
    """The sentences on a run's results."""
    data = results.get("data") or {}
    without = (results.get("evaluation") or {}).get("without_near")
    return sentences(data.get("near_duplicates"), data.get("counts") or {}, without)


def of_report(report: schema.Report, percent: Callable[[float], str] = "{:.1%}".format) -> list[str]:
    """The sentences on a report."""
    data, without = report.data, report.evaluation.without_near
    if data is None or data.near_duplicates is None:
        return []
    found = data.near_duplicates.model_dump()
    return sentences(found, data.counts, without.model_dump() if without else None, percent)


def choose(found: Sequence[NearDuplicate]) -> list[NearDuplicate]:
    """Which to show, SHOWN at most: the test split's first, and the least alike, so the most doubtful, before others.

    Where there are more, every so many of the test split's, from the least to the most alike.
    """
    ordered = sorted(found, key=lambda one: (one.example.split != "test", one.likeness, one.example))
    test = [one for one in ordered if one.example.split == "test"]
    if len(test) <= SHOWN:
        return ordered[:SHOWN]
    last = len(test) - 1
    return [test[round(place * last / (SHOWN - 1))] for place in range(SHOWN)]


def keys(pairs: Sequence[NearDuplicate]) -> dict[str, set[tuple[str, str]]]:
    """The images that are needed to show pairs: split -> (id, digest)."""
    wanted: dict[str, set[tuple[str, str]]] = {}
    for pair in pairs:
        for member, digest in sides(pair):
            wanted.setdefault(member.split, set()).add((member.id, digest))
    return wanted


def sides(pair: NearDuplicate) -> list[tuple[Member, str]]:
    """The example of the later split and that of the earlier one, each with the digest of its pixels."""
    return [(pair.example, pair.digest), (pair.known, pair.known_digest)]
