"""Corrected labels in the ingest: what becomes of each record, and what the report says of it.

A correction changes the class of an example, or leaves the example out. It never changes which split an example is
in: that is settled by the classes that the source gives.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from core import corrections, errors
from core.corrections import DROP, KEEP, Correction
from core.errors import UserError
from core.text import plain

MATCHED, OTHER_PICTURE, CHANGED = "matched", "other picture", "changed"  # kinds of notes
LEFT_OUT = ""  # what a class becomes whose example is dropped
Note = tuple[str, object, object, int]


@dataclasses.dataclass(frozen=True)
class Listed:
    """A list of corrections as the workers have it.

    Attributes:
        file: where it is.
        fingerprint: identifies its content.
        by_id: id of an example -> its corrections; several where pictures share an id.
    """

    file: str = ""
    fingerprint: str = ""
    by_id: Mapping[str, tuple[Correction, ...]] = dataclasses.field(default_factory=dict)

    @classmethod
    def open(cls, file: str | None, class_names: Sequence[str]) -> Listed:
        """The list in a file; an empty one without a file. Raises UserError, see `core.corrections`."""
        if not file:
            return cls()
        content = corrections.read(file)
        by_id = collections.defaultdict(list)
        for each in corrections.parse(content, file, class_names):
            by_id[each.id].append(each)
        return cls(file, corrections.fingerprint(content), {id: tuple(found) for id, found in by_id.items()})


class Matched:
    """Looks up the records of a shard, and remembers which corrections are theirs."""

    def __init__(self, listed: Listed) -> None:
        self._listed = listed
        self._found: collections.Counter[tuple[str, int]] = collections.Counter()

    def becomes(self, id: str, digest: bytes, class_name: str) -> str:
        """The class of an example after its correction, if there is one; LEFT_OUT: it is dropped.

        Args:
            id: of the example.
            digest: of its pixels.
            class_name: that the source gives.
        """
        after = class_name
        for each in self._listed.by_id.get(id, ()):
            if each.digest and each.digest != digest.hex():
                self._found[OTHER_PICTURE, each.line] += 1
                continue
            self._found[MATCHED, each.line] += 1
            if each.action != KEEP:
                after = LEFT_OUT if each.action == DROP else each.action
        return after

    def bad(self, id: str) -> None:
        """A record that cannot be used: its correction is not needed, which is no mistake."""
        for each in self._listed.by_id.get(id, ()):
            self._found[MATCHED, each.line] += 1

    def notes(self) -> Iterator[Note]:
        """When all records of the shard were looked up."""
        for (kind, line), count in self._found.items():
            yield kind, line, "", count


def summarise(
    listed: Listed, notes: Iterable[str], counts: Mapping[str, Mapping[str, int]]
) -> tuple[dict[str, Any], dict[str, dict[str, int]]]:
    """What the corrections did.

    Args:
        listed: the corrections.
        notes: of the ingest, as JSON; those of other kinds are passed over.
        counts: split -> class name -> examples, by the classes that the source gives.

    Returns:
        In the form of `review.report.schema.Corrections`, {} without a list; and `counts` by the corrected classes.

    Raises:
        UserError: a row of the list is no example of the data, or may be several.
    """
    after = {split: dict(of_split) for split, of_split in counts.items()}
    if not listed.file:
        return {}, after
    found: collections.Counter[tuple[str, int]] = collections.Counter()
    changes: collections.Counter[tuple[str, str]] = collections.Counter()
    for kind, first, second, number in map(json.loads, notes):
        if kind in (MATCHED, OTHER_PICTURE):
            found[kind, first] += number
        elif kind == CHANGED:
            before, becomes = second
            changes[before, becomes] += number
            after[first][before] -= number
            if becomes != LEFT_OUT:
                after[first][becomes] += number
    everything = [each for of_id in listed.by_id.values() for each in of_id]
    _check(listed.file, everything, found)
    ordered = sorted(changes.items(), key=lambda change: (-change[1], change[0]))
    return {
        "file": listed.file,
        "fingerprint": listed.fingerprint,
        "relabelled": sum(number for (_, becomes), number in ordered if becomes != LEFT_OUT),
        "left_out": sum(number for (_, becomes), number in ordered if becomes == LEFT_OUT),
        "changes": [[before, becomes or None, number] for (before, becomes), number in ordered],
        "checked": [[each.id, each.digest] for each in everything if each.action != DROP],
    }, after


def _check(file: str, listed: Sequence[Correction], found: Mapping[tuple[str, int], int]) -> None:
    """Raises UserError for the first row that does not mean just one example."""
    file = errors.shortened(file)
    unknown = [each for each in listed if not found.get((MATCHED, each.line))]
    moved = [each for each in unknown if found.get((OTHER_PICTURE, each.line))]
    if moved:
        raise UserError(
            f"{file}, line {moved[0].line}: {plain(moved[0].id)} has another picture in these data{_more(moved)}; "
            "look at it again, then correct or empty the digest, or remove the row."
        )
    if unknown:
        raise UserError(
            f"{file}, line {unknown[0].line}: there is no example {plain(unknown[0].id)} in these "
            f"data{_more(unknown)}; correct the id, or remove the row."
        )
    for each in listed:
        if not each.digest and (many := found[MATCHED, each.line]) > 1:
            raise UserError(
                f"{file}, line {each.line}: {many} examples are called {plain(each.id)}; give the digest of the one "
                "that is meant, as `alexnet suspects` writes it."
            )


def _more(rows: Sequence[Correction]) -> str:
    return f" (likewise {len(rows) - 1:,} more rows)" if len(rows) > 1 else ""
