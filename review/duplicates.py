"""The same picture in several examples: what it does to an evaluation, in numbers and in words.

A test example is leaked if its picture is in an earlier split, too: the model may know it by heart. A picture is
contradicting if it stands under two or more classes: no answer can be right for all of them. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.repeated import SPLITS, Member, Repeated
from review.statistics import wilson

if TYPE_CHECKING:
    import pandas

    from review.report import schema

SHOWN = 24  # pictures of each kind in the report
PLACES = 4  # examples that are named below a picture

Chosen = Mapping[str, tuple[list[Repeated], int]]  # kind -> (some pictures, how many there are)


def kept(table: pandas.DataFrame, pictures: Sequence[Repeated]) -> dict[str, dict[str, int]] | None:
    """What remains of the predictions without the leaked test examples.

    Args:
        table: from `predictions.read`.
        pictures: that several examples have.

    Returns:
        class name -> its test examples that are "leaked", the "count" of the others, and how many of these are
        "right". None if nothing leaked, or if the predictions do not tell which examples. These are told apart by
        their pixels: an id need not be an example's own.
    """
    digests = {picture.digest: len(picture.leaked("test")) for picture in pictures if picture.leaked("test")}
    if not digests or "digest" not in table:
        return None
    leaked = table["digest"].isin(digests)
    if leaked.sum() != sum(digests.values()):  # another decoder than the ingest's: nothing can be said for sure
        return None
    right = (table["label"] == table["predicted"]) & ~leaked
    names = table["class_name"]
    columns = {"leaked": leaked, "count": ~leaked, "right": right}
    sums = {key: column.groupby(names).sum() for key, column in columns.items()}
    return {str(name): {key: int(found[name]) for key, found in sums.items()} for name in sorted(names.unique())}


def overall(remaining: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """The accuracy without the leaked test examples, from `kept`, in the form of `schema.WithoutLeaked`."""
    leaked, count, right = (sum(row[key] for row in remaining.values()) for key in ("leaked", "count", "right"))
    return {"leaked": leaked, "count": count} | _share("accuracy", right, count)


def of_class(row: Mapping[str, int] | None) -> dict[str, Any]:
    """The recall of a class without them, for its row in the results."""
    row = row or {"leaked": 0, "count": 0, "right": 0}
    return {"leaked": row["leaked"]} | _share("recall_without_leaked", row["right"], row["count"])


def _share(name: str, right: int, count: int) -> dict[str, Any]:
    """A share and its interval; None where nothing remains."""
    share = right / count if count else None
    return {name: share, f"{name}_interval": None if share is None else list(wilson(share, count))}


def sentences(
    found: Mapping[str, Any] | None,
    counts: Mapping[str, Mapping[str, int]],
    without: Mapping[str, Any] | None = None,
    percent: Callable[[float], str] = "{:.1%}".format,
) -> list[str]:
    """What there is to say of duplicates; nothing if there are none, or if nobody looked.

    Args:
        found: `duplicates` of the results' data; None or empty for a run of before they were looked for.
        counts: split -> class name -> examples.
        without: as `schema.WithoutLeaked`, if a model was evaluated.
        percent: writes a share.
    """
    if not found or not found["pictures"]:
        return []
    said = []
    totals = {split: sum(of_split.values()) for split, of_split in counts.items()}
    leaked = {split: found["leaked"].get(split, 0) for split in ("test", "validation")}
    if leaked["test"]:
        total = totals["test"]
        share = leaked["test"] / total if total else 1.0
        what = "is a duplicate: its picture is" if leaked["test"] == 1 else "are duplicates: their pictures are"
        sentence = (
            f"{leaked['test']:,} of {total:,} test examples ({percent(share)}) {what} in the training or validation "
            "split, too"
        )
        if leaked["test"] >= total:
            said.append(f"{sentence}. No test example is left to tell how the model does on new pictures.")
        elif without and without["accuracy"] is not None:
            said.append(f"{sentence}. {of_rest('them', without, percent)}")
        else:
            said.append(f"{sentence}.")
    if leaked["validation"]:
        what = "is a duplicate of a training picture"
        if leaked["validation"] != 1:
            what = "are duplicates of training pictures"
        said.append(f"{leaked['validation']:,} of {totals['validation']:,} validation examples {what}.")
    bad = found["contradicting"]
    if bad["pictures"]:
        many = "pictures stand" if bad["pictures"] != 1 else "picture stands"
        said.append(
            f"{bad['pictures']:,} {many} under two or more classes ({bad['examples']:,} examples): no answer can be "
            "right for all of them."
        )
    copies = [f"{split} {count:,}" for split, count in found["copies"].items() if count]
    if copies:
        said.append(f"Further copies of a picture within a split: {', '.join(copies)}.")
    return said


def of_rest(which: str, without: Mapping[str, Any], percent: Callable[[float], str]) -> str:
    """The accuracy without some test examples, `which`, as `schema.WithoutLeaked` has it, in a sentence."""
    low, high = without["accuracy_interval"]
    return (
        f"Without {which} the accuracy is {percent(without['accuracy'])} (95 % interval {percent(low)} to "
        f"{percent(high)}, n={without['count']:,}); the gates judge all test examples."
    )


def of_results(results: Mapping[str, Any]) -> list[str]:
    """The sentences on a run's results."""
    data = results.get("data") or {}
    without = (results.get("evaluation") or {}).get("without_leaked")
    return sentences(data.get("duplicates"), data.get("counts") or {}, without)


def of_report(report: schema.Report, percent: Callable[[float], str] = "{:.1%}".format) -> list[str]:
    """The sentences on a report."""
    data, without = report.data, report.evaluation.without_leaked
    if data is None or data.duplicates is None:
        return []
    return sentences(data.duplicates.model_dump(), data.counts, without.model_dump() if without else None, percent)


def choose(pictures: Sequence[Repeated]) -> Chosen:
    """Which to show, SHOWN of a kind at most.

    The kinds are "leaked" (test examples before validation examples) and "contradicting"; a picture may be of both.
    """
    leaked = [picture for picture in pictures if picture.leaked("test")]
    leaked += [picture for picture in pictures if picture.leaked("validation") and not picture.leaked("test")]
    contradicting = [picture for picture in pictures if picture.contradicting]
    return {
        kind: (found[:SHOWN], len(found))
        for kind, found in (("leaked", leaked), ("contradicting", contradicting))
        if found
    }


def places(picture: Repeated) -> list[Member]:
    """The examples that are named below a picture, PLACES at most: of each split and class one, test first."""
    examples = sorted(picture.examples, key=lambda member: -SPLITS.index(member.split))
    by_split, by_class = _firsts(examples, lambda one: one.split), _firsts(examples, lambda one: one.class_name)
    by_both = _firsts(examples, lambda one: one[:2])
    chosen = list(dict.fromkeys([*by_split, *by_class, *by_both, *examples]))[:PLACES]
    return sorted(chosen, key=examples.index)


def _firsts(examples: Iterable[Member], of: Callable[[Member], object]) -> list[Member]:
    """The first example of each kind."""
    found: dict[object, Member] = {}
    for example in examples:
        found.setdefault(of(example), example)
    return list(found.values())
