"""Folders of images: `<class>/**`, or `train|test/<class>/**` with or without `validation/`.

The folders of splits may be called as `splits.NAMES` has it. Both forms may lie below `span-N/` folders.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Iterator

from components.sources import splits
from components.sources.base import BadRecord, Record, Shard, Source
from core import images, settings
from core.errors import UserError
from core.events import emit
from core.text import plain
from core.walk import Entry, printable, subfolders, walk

SPAN_KEY = "span"
SPAN = re.compile(r"span-(\d+)$")
FOREIGN = {"__MACOSX": "made by macOS (__MACOSX)", "@eaDir": "made by Synology (@eaDir)"}  # which no class is called
LAYOUT = "expected are <class>/, or train/<class>/ and test/<class>/, with image files"


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder that holds class folders.

    Attributes:
        name: below the root; "" for the root itself.
        split: of all in it; "": it follows from the ids.
    """

    name: str
    split: str


@dataclasses.dataclass(frozen=True)
class FolderSource(Source):
    """Images sorted into folders by class, at any depth below the class; ids are paths below the root."""

    root: str
    spans: tuple[str, ...]  # folders below root that were asked for; "" for the root itself
    places: tuple[Place, ...]
    class_names: tuple[str, ...]
    features: tuple[str, ...] = ()  # further ones to keep: none, or the span
    held_out: splits.HeldOut | None = None  # where the data have no splits

    @classmethod
    def open(cls, root: pathlib.Path, data: settings.Data) -> FolderSource:
        """Looks at the folders below `root`.

        Args:
            root: the folder.
            data: the settings of the data.

        Raises:
            UserError: a split is missing, there twice, or has no class, there is no such feature, or a folder cannot
                be read.
        """
        spans = newest(root, data.newest_spans)
        known = (SPAN_KEY,) if spans != ("",) else ()
        for key in data.features:
            if key not in known:
                raise UserError(f"data.features names {key}, but {root} has {' '.join(known) or 'no further ones'}.")
        if any(_has_splits(root, span) for span in spans):
            places = _splits(root, spans)
        else:
            places = tuple(Place(span, "") for span in spans)
        names = {printable(name) for place in places for name in classes(root, place.name)}
        if not names:
            raise UserError(f"There is no class folder in {root}: {LAYOUT}.")
        warn_of_case(names)
        source = cls(str(root), spans, places, tuple(sorted(names)), data.features)
        if any(place.split for place in places):
            return source
        only = os.path.join(spans[0], *classes(root, spans[0])[:1])
        if len(names) == 1 and subfolders(root, only):
            raise UserError(
                f"{root} has only the class folder {printable(only)}, so there is nothing to tell apart: if the "
                f"classes are the folders in that, give {root / only}."
            )
        splits.tell_held_out(data.test_share)
        return dataclasses.replace(source, held_out=splits.HeldOut.of(source._ids(), data.test_share))

    @property
    def own_validation(self) -> bool:
        return any(place.split == "validation" for place in self.places)

    @property
    def own_test(self) -> bool:
        return self.held_out is None

    def shards(self) -> list[Shard]:
        return [
            Shard(split=split, name=os.path.join(place.name, name), class_name=printable(name))
            for place in self.places
            for split in ([place.split] if place.split else ["train", "test"])
            for name in classes(self.root, place.name)
        ]

    def read(self, shard: Shard) -> Iterator[Record | BadRecord]:
        label = self.class_names.index(shard.class_name)
        kept = dict.fromkeys(self.features, pathlib.PurePath(shard.name).parts[0])
        for entry in walk(self.root, shard.name):
            if self._passed_over(entry):
                continue
            where = printable(entry.path)
            if self.held_out and self.held_out.split(where) != shard.split:
                continue
            if entry.problem:
                yield BadRecord(where, entry.problem)
                continue
            data = content(pathlib.Path(self.root, entry.path))
            if isinstance(data, str):
                yield BadRecord(where, data)
            else:
                yield Record(image=data, label=label, id=where, features=kept)

    def ignored(self) -> dict[str, int]:
        """Of everything below the folder that `read` does not give: why, and how many."""
        return dict(collections.Counter(filter(None, map(self._passed_over, walk(self.root)))))

    def _ids(self) -> dict[str, list[str]]:
        """Class name -> ids of its examples, as far as they can be read; only of classes without splits."""
        found: dict[str, list[str]] = collections.defaultdict(list)
        for place in self.places:
            for name in classes(self.root, place.name):
                for entry in walk(self.root, os.path.join(place.name, name)):
                    if not entry.problem and not self._passed_over(entry):
                        found[printable(name)].append(printable(entry.path))
        return found

    def _passed_over(self, entry: Entry) -> str:
        """Why `entry` is no example, not even a bad one; "" if it is one."""
        parts = pathlib.PurePath(entry.path).parts
        if any(part.startswith(".") for part in parts):
            return "hidden"
        inner = parts
        if self.spans != ("",):
            if parts[0] not in self.spans:
                return "outside the span folders that were asked for"
            inner = parts[1:]
        if not self._by_parts:
            if len(inner) == 1:
                return "in no class folder"
        elif not (place := self._by_parts.get(parts[: len(parts) - len(inner) + 1])) or len(inner) == 1:
            return f"outside {self._expected()}"
        else:
            inner = inner[1:]
            if len(inner) == 1:
                return f"directly in {pathlib.PurePath(place.name).name}/, in no class folder"
        if inner[0] in FOREIGN:
            return FOREIGN[inner[0]]
        suffix = os.path.splitext(entry.path)[1].lower()
        if suffix not in suffixes():
            return f"not an image file ({suffix or 'no suffix'})"
        return ""

    @functools.cached_property
    def _by_parts(self) -> dict[tuple[str, ...], Place]:
        """The folders of the splits by their parts; none where there are no splits."""
        return {pathlib.PurePath(place.name).parts: place for place in self.places if place.split}

    def _expected(self) -> str:
        """The folders of the splits in words, as "train/ and test/"."""
        names = list(dict.fromkeys(f"{pathlib.PurePath(place.name).name}/" for place in self.places))
        return f"{', '.join(names[:-1])} and {names[-1]}"


def has_splits(root: pathlib.Path) -> bool:
    """Whether a folder holds splits of class folders, or spans."""
    return newest(root, 0) != ("",) or _has_splits(root, "")


def newest(root: pathlib.Path, count: int) -> tuple[str, ...]:
    """The names of the `count` newest spans below `root` (0: all), oldest first; ("",) if it has none."""
    numbered = sorted((int(match[1]), name) for name in subfolders(root) if (match := SPAN.match(name)))
    names = tuple(name for _, name in numbered)
    return names[-count:] if names else ("",)


def classes(root: str | os.PathLike, place: str) -> list[str]:
    """The names of the class folders in `root`/`place`."""
    return [name for name in subfolders(root, place) if name not in FOREIGN]


def content(file: pathlib.Path) -> bytes | str:
    """What is in a file, or why it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as problem:
        return (problem.strerror or "cannot be read").lower()
    except ValueError:  # of a NUL
        return "no name of a file"


def warn_of_case(names: set[str]) -> None:
    """Tells of classes that differ in nothing but capital letters; they stay two."""
    alike: dict[str, list[str]] = collections.defaultdict(list)
    for name in sorted(names):
        alike[name.casefold()].append(name)
    for several in alike.values():
        if len(several) > 1:
            emit("warning", text=f"classes that differ in capital letters alone: {', '.join(map(plain, several))}")


@functools.cache
def suffixes() -> frozenset[str]:
    """What the names of image files end with."""
    return images.suffixes()


def _has_splits(root: pathlib.Path, span: str) -> bool:
    """Whether the folders are those of splits. A class may be called "train": without folders, but others beside."""
    names = classes(root, span)
    own = [name for name in names if splits.named(name)]
    return bool(own) and (len(own) == len(names) or any(subfolders(root, os.path.join(span, name)) for name in own))


def _splits(root: pathlib.Path, spans: tuple[str, ...]) -> tuple[Place, ...]:
    """The folders of the splits. Raises UserError."""
    found = []
    for span in spans:
        by_split: dict[str, str] = {}
        for name in classes(root, span):
            if not (split := splits.named(name)):
                continue
            if split in by_split:
                raise UserError(
                    f"{root / span} holds {by_split[split]}/ and {name}/, which both mean the split {split}: move "
                    "them into one folder, or one of them elsewhere."
                )
            by_split[split] = name
        found += [Place(os.path.join(span, by_split[split]), split) for split in splits.ORDER if split in by_split]
    if instead := splits.stands_in(place.split for place in found):
        (name, *_) = (pathlib.PurePath(place.name).name for place in found if place.split in instead)
        emit("note", text=f"There is no test/: {name}/ is the test split, and validation is held out of train")
        found = [Place(place.name, instead.get(place.split, place.split)) for place in found]
    for split in ("train", "test"):
        own = [place.name for place in found if place.split == split]
        if not any(classes(root, name) for name in own):
            missing = " or ".join(
                str(root / name) for name in own[:3] or [os.path.join(span, split) for span in spans[:3]]
            )
            raise UserError(f"There is no class folder in {missing}: {LAYOUT}{_hint(root, spans, found, split)}.")
    return tuple(found)


def _hint(root: pathlib.Path, spans: tuple[str, ...], found: list[Place], missing: str) -> str:
    """What else would do where there is nothing to test on."""
    train = [place.name for place in found if place.split == "train"]
    if missing == "train" or spans != ("",) or not classes(root, train[0]):
        return ""
    return f"; to hold out a share of the training pictures, give {root / train[0]} itself, see data.test_share"
