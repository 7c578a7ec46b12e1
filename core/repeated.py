"""Pictures that several examples have, pixel by pixel: what the ingest writes down of them, and others ask."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

SPLITS = ("train", "validation", "test")  # what is in one must not be in those after it


class Member(typing.NamedTuple):
    """One of the examples of a picture."""

    split: str
    class_name: str
    id: str


@dataclasses.dataclass(frozen=True)
class Repeated:
    """A picture that occurs more than once; its examples in the order of the splits, then of their ids.

    Attributes:
        digest: of its pixels, hexadecimal.
        examples: that have it.
    """

    digest: str
    examples: tuple[Member, ...]

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Repeated:
        """From an entry of duplicates.json."""
        return cls(entry["digest"], tuple(Member(*member) for member in entry["examples"]))

    @property
    def contradicting(self) -> bool:
        """Whether it stands under several classes."""
        return len({member.class_name for member in self.examples}) > 1

    def leaked(self, split: str) -> list[Member]:
        """Its examples in `split`, if it is in an earlier split, too: what is measured on them is known before."""
        if not self.earlier(split):
            return []
        return [member for member in self.examples if member.split == split]

    def earlier(self, split: str) -> list[Member]:
        """Its examples in the splits before `split`."""
        return [member for member in self.examples if member.split in SPLITS[: SPLITS.index(split)]]

    def copies(self, split: str) -> int:
        """How often it is in `split` beyond the first time."""
        return max(0, sum(member.split == split for member in self.examples) - 1)
