"""Pictures of a later split that are nearly one of an earlier split: what the ingest writes down, and others ask."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from core.repeated import Member


@dataclasses.dataclass(frozen=True)
class NearDuplicate:
    """An example whose picture is nearly, though not in every pixel, that of an example of an earlier split.

    Attributes:
        example: of the later split.
        known: the one of an earlier split that is most alike.
        digest, known_digest: of their pixels, hexadecimal.
        likeness: from `components.near_duplicates.likeness`; 1 where they differ in brightness and contrast alone.
        mirrored: whether that is so only where one of them is mirrored.
    """

    example: Member
    known: Member
    digest: str
    known_digest: str
    likeness: float
    mirrored: bool = False

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> NearDuplicate:
        """From an entry of near_duplicates.json."""
        places = {key: Member(*entry[key]) for key in ("example", "known")}
        return cls(**{**entry, **places})

    @property
    def contradicting(self) -> bool:
        """Whether the two stand under different classes."""
        return self.example.class_name != self.known.class_name
