"""What all sources have in common."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Shard:
    """A piece of a source that one worker reads from start to end.

    Attributes:
        split: "train", "test", or, of a source that has its own, "validation".
        name: what it is, for messages: a file or a folder.
        start, stop: which of its records; stop 0 means all.
        class_name: of all its records, where the source groups them by class.
    """

    split: str
    name: str
    start: int = 0
    stop: int = 0
    class_name: str = ""


@dataclasses.dataclass(frozen=True)
class Record:
    """One example as the source has it.

    Attributes:
        image: encoded PNG or JPEG bytes, or uint8 pixels of shape [height, width, 3].
        label: index into the source's class names.
        id: names the example within its source.
        features: further features of the source, by name.
    """

    image: bytes | np.ndarray
    label: int
    id: str
    features: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """One or more records that cannot be used, and why."""

    where: str
    why: str
    count: int = 1


class Source(abc.ABC):
    """Examples with their classes. Picklable, because Beam sends it to its workers."""

    class_names: tuple[str, ...]

    @property
    def own_validation(self) -> bool:
        """Whether the data have a validation split, so that none is held out of train."""
        return False

    @property
    def own_test(self) -> bool:
        """Whether the data have a test split, so that none is held out by the ids of the examples."""
        return True

    @abc.abstractmethod
    def shards(self) -> list[Shard]:
        """All shards of all splits."""

    @abc.abstractmethod
    def read(self, shard: Shard) -> Iterator[Record | BadRecord]:
        """The records of one shard, holding no more than a few of them (an archive's batch at most) in memory."""

    def ignored(self) -> dict[str, int]:
        """Files that are no examples and were passed over: reason and how many."""
        return {}
