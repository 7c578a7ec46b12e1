"""Which split an example is in: the one that the data name, or one that follows from its id."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping

from core.events import emit

ORDER = ("train", "validation", "test")
NAMES = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


def named(name: str) -> str:
    """The split that a folder or a value is called after, "" if none: train, Training, val, TEST ..."""
    return NAMES.get(name.strip().lower(), "")


def stands_in(found: Iterable[str]) -> dict[str, str]:
    """Which split stands for which: without a test split validation is that, as with TensorFlow Datasets."""
    found = set(found)
    return {"validation": "test"} if "validation" in found and "test" not in found else {}


def share_of(id: str) -> float:
    """A number in [0, 1) that depends on the id alone, evenly spread."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big") / 2**64


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A test split of examples that have none: those whose id has a `share_of` below `share`.

    So an example stays where it is when others come or go. Only a class that would have no test example, or nothing
    else, has the nearest one moved.

    Attributes:
        share: of each class, about.
        moved: ids of the examples that are moved.
    """

    share: float
    moved: frozenset[str]

    @classmethod
    def of(cls, ids: Mapping[str, Iterable[str]], share: float) -> HeldOut:
        """Args:
        ids: class name -> ids of its examples.
        share: of the examples, to be held out.
        """
        return cls(share, frozenset(id for of_class in ids.values() for id in _moved(of_class, share)))

    def split(self, id: str) -> str:
        """ "train" or "test"."""
        return "test" if (share_of(id) < self.share) != (id in self.moved) else "train"


def tell_held_out(share: float) -> None:
    """Says that the data have no test split, for who follows the run."""
    emit("note", text=f"The data have no splits: {share:.0%} of each class are held out for test (data.test_share)")


def _moved(ids: Iterable[str], share: float) -> Iterator[str]:
    """Of one class, what is nearest to the border if all lie on one side; a single example belongs into train."""
    ordered = sorted((share_of(id), id) for id in ids)
    if not ordered:
        return
    (least, first), (most, last) = ordered[0], ordered[-1]
    if most < share:
        yield last
    elif least >= share and len(ordered) > 1:
        yield first
