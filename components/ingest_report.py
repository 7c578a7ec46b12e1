"""What became of the records of a source: what the executor of ImageExampleGen tells, refuses and writes down."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any

from components.sources import Source
from core.errors import UserError
from core.near_duplicates import NearDuplicate
from core.repeated import SPLITS, Member, Repeated

NOTED = 100  # bad records that are named in the report; all are counted


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of the source's records; kept as `ingest.json` beside the examples.

    Attributes:
        class_names: by label.
        counts: split -> class name -> examples written.
        bad: how many records were dropped.
        bad_records: where and why, of the first `NOTED` of them.
        ignored: files that are no examples: reason -> count.
        fatal: sentences of what makes the source unusable as a whole.
        duplicates: of the pictures that occur more than once, see `count_duplicates`; {}: not looked for.
        near_duplicates: of those that nearly do, see `count_near_duplicates`; {}: not looked for.
        fingerprint: identifies the content of the source as it was read.
        read: when reading began, in UTC by ISO 8601.
        due: when an orchestrator's schedule wanted the run, likewise; "" where there was none or it does not tell.
        corrections: what became of corrected labels, see `components.corrected.summarise`; {}: there are none.
        own_test: whether the test split is that of the data; else it was held out by the ids of the examples.
    """

    source: str
    class_names: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    bad: int
    bad_records: tuple[tuple[str, str, int], ...]
    ignored: dict[str, int]
    fatal: tuple[str, ...] = ()
    duplicates: dict[str, Any] = dataclasses.field(default_factory=dict)
    near_duplicates: dict[str, Any] = dataclasses.field(default_factory=dict)
    fingerprint: str = ""
    read: str = ""
    due: str = ""
    corrections: dict[str, Any] = dataclasses.field(default_factory=dict)
    own_test: bool = True

    @property
    def total(self) -> int:
        """Examples written."""
        return sum(sum(counts.values()) for counts in self.counts.values())

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        return cls(**json.loads(text))


def count_duplicates(repeated: Iterable[Repeated]) -> dict[str, Any]:
    """The numbers for the report.

    Returns:
        pictures: different ones that occur more than once; examples: of these pictures.
        leaked: {"validation", "test"}: examples of the split whose picture is in an earlier split, too.
        contradicting: {"pictures", "examples"}: of those that stand under several classes.
        copies: {"train", "validation", "test"}: examples that repeat another one of the same split.
    """
    repeated = list(repeated)
    contradicting = [each for each in repeated if each.contradicting]
    return {
        "pictures": len(repeated),
        "examples": sum(len(each.examples) for each in repeated),
        "leaked": {split: sum(len(each.leaked(split)) for each in repeated) for split in SPLITS[1:]},
        "contradicting": {
            "pictures": len(contradicting),
            "examples": sum(len(each.examples) for each in contradicting),
        },
        "copies": {split: sum(each.copies(split) for each in repeated) for split in SPLITS},
    }


def count_near_duplicates(found: Iterable[NearDuplicate]) -> dict[str, Any]:
    """The numbers for the report.

    Returns:
        examples: {"validation", "test"}: of the split, whose pictures are nearly one of an earlier split.
        contradicting: those that stand under another class than the one that is most alike.
    """
    found = list(found)
    return {
        "examples": {split: sum(each.example.split == split for each in found) for split in SPLITS[1:]},
        "contradicting": sum(each.contradicting for each in found),
    }


def tell_near_duplicates(report: Report, found: Iterable[NearDuplicate]) -> Iterator[str]:
    """A sentence about test examples that are nearly pictures of an earlier split, for who follows the run."""
    test = [each for each in found if each.example.split == "test"]
    if test:
        first = max(test, key=lambda each: each.likeness)
        yield (
            f"test examples that are nearly training pictures: {len(test)} of {sum(report.counts['test'].values())}, "
            f"such as {first.example.id} of {first.known.id}; what is measured on them proves little"
        )


def tell_duplicates(report: Report, repeated: list[Repeated]) -> Iterator[str]:
    """Sentences about pictures that occur more than once, for who follows the run."""
    leaked = [each for each in repeated if each.leaked("test")]
    if leaked:
        count, first = report.duplicates["leaked"]["test"], leaked[0]
        tests = sum(report.counts["test"].values())
        yield (
            f"test examples that are duplicates of training pictures: {count} of {tests}, such as "
            f"{first.leaked('test')[0].id} of {first.examples[0].id}; what is measured on them proves little"
        )
    contradicting = [each for each in repeated if each.contradicting]
    if contradicting:
        one, *others = contradicting[0].examples
        other = next(member for member in others if member.class_name != one.class_name)
        yield (
            f"pictures under more than one class: {len(contradicting)}, such as {one.id} ({one.class_name}) and "
            f"{other.id} ({other.class_name})"
        )
    copies = {split: count for split, count in report.duplicates["copies"].items() if count}
    if copies:
        words = ", ".join(f"{count} in {split}" for split, count in copies.items())
        yield f"examples that are duplicates of another one in their split: {words}"


def verdict(report: Report, max_bad_share: float) -> None:
    """Raises UserError if the examples must not be used: too many bad ones, an empty split or class."""
    if report.fatal:
        raise UserError(report.fatal[0])
    if len(report.class_names) < 2:
        raise UserError(
            f"{report.source} has only the class {report.class_names[0]}: there is nothing to tell apart."
        )
    all_records = report.total + report.bad
    if report.bad > max_bad_share * all_records:
        where, why, _ = report.bad_records[0]
        raise UserError(
            f"{report.bad} of {all_records} examples are bad ({report.bad / all_records:.2%}), more than "
            f"data.max_bad_share={max_bad_share} allows; the first is {where}: {why}. Mend or remove them, or allow "
            "more with --set data.max_bad_share=..."
        )
    for split in SPLITS:
        counts = report.counts.get(split, {})
        if not any(counts.values()):
            more = "add examples" + (", or change data.validation_share" if split == "validation" else "")
            raise UserError(f"{report.source}: the split {split} is empty{_dropped(report)}: {more}.")
        empty = [name for name in report.class_names if not counts.get(name)]
        if empty and split != "validation":
            raise UserError(
                f"{report.source}: class {empty[0]} has no {split} examples{_dropped(report)}: add some, or remove "
                "the class."
            )


def _dropped(report: Report) -> str:
    """What may explain that something is empty."""
    told = [f"{count} files: {reason}" for reason, count in report.ignored.items()]
    if corrections := report.corrections:
        counts = f"{corrections['left_out']} left out and {corrections['relabelled']} relabelled"
        told.append(f"{counts} by {corrections['file']}")
    if report.bad:
        told.insert(0, f"{report.bad} bad ones, the first is {report.bad_records[0][0]}: {report.bad_records[0][1]}")
    return f" (not used were {'; '.join(told)})" if told else ""


def summarise(source_name: str, source: Source, notes: list[str]) -> tuple[Report, list[Repeated]]:
    """The report from all notes, and the pictures that occur more than once: first those that leaked into test."""
    counts = {split: dict.fromkeys(source.class_names, 0) for split in SPLITS}
    bad: list[tuple[str, str, int]] = []
    fatal: list[str] = []
    repeated: list[Repeated] = []
    for kind, first, second, number in map(json.loads, sorted(notes)):
        if kind == "count":
            counts[first][second] += number
        elif kind == "bad":
            bad.append((first, second, number))
        elif kind == "repeated":
            repeated.append(Repeated(first, tuple(Member(*member) for member in second)))
        elif kind == "fatal":
            fatal.append(first)
    repeated.sort(key=lambda each: (not each.leaked("test"), not each.contradicting, each.digest))
    report = Report(
        source=source_name,
        class_names=source.class_names,
        counts=counts,
        bad=sum(number for _, _, number in bad),
        bad_records=tuple(bad[:NOTED]),
        ignored=source.ignored(),
        fatal=tuple(fatal),
        duplicates=count_duplicates(repeated),
        own_test=source.own_test,
    )
    return report, repeated
