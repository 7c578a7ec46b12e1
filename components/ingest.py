"""The Beam transforms that turn a source's shards into tf.Examples in three splits.

A picture of the training split goes to validation by its digest, unless the source has a validation split: always the
same ones, whatever else there is, and a picture that is there twice goes one way. Three things only the whole can
tell, and they are settled at the end: that each class keeps a training picture, which pictures occur more than once,
and which nearly do. Corrected labels, see `components.corrected`, move nothing: what is settled goes by the classes
that the source gives.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import time
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam
import numpy as np
import tensorflow as tf

from components import corrected, near_duplicates
from components.ingest_report import SPLITS
from components.sources import BadRecord, Record, Shard, Source
from core import images
from core.errors import UserError
from core.events import emit
from trainer.images import see

KINDS = ("read", "settled")
BUCKETS = 16  # of digests, so that few and not too large elements are grouped


class ReadExamples(beam.PTransform):
    """Shards -> a dict of PCollections: serialized examples by kind and split ("read train"), and "notes" as JSON.

    A note is ["count", split, class name, n], ["bad", where, why, n], ["fatal", sentence, "", 1],
    ["repeated", digest, [[split, class name, id], ...], 1], or one of `components.corrected`:
    ["changed", split, [class name, corrected one], n], ["matched" or "other picture", line, "", n]. The counts are by
    the classes that the source gives, everything else is by the corrected ones. "thumbnails" are tables of
    `near_duplicates.SCHEMA`, none where near-duplicates are not wanted.
    """

    def __init__(
        self,
        source: Source,
        validation_share: float,
        background: str,
        near: bool = True,
        listed: corrected.Listed | None = None,
    ) -> None:
        super().__init__()
        self._read = _Read(source, validation_share, background, near, listed or corrected.Listed())

    def expand(self, shards: beam.PCollection) -> dict[str, beam.PCollection]:
        tags = ("notes", "seen", "thumbnails", *SPLITS)
        read = shards | "Shards to examples" >> beam.ParDo(self._read).with_outputs("held", *tags)
        settled = (
            read.held
            | "As one" >> beam.GroupBy(lambda held: 0)
            | "Settle" >> beam.ParDo(_Settle(), notes=beam.pvalue.AsIter(read.notes)).with_outputs(*tags)
        )
        seen = (read.seen, settled.seen) | "All seen" >> beam.Flatten() | "By picture" >> beam.GroupByKey()
        repeated = seen | "Several" >> beam.FlatMap(_note_repeated)
        # The examples are not flattened: that would copy them all for the few that are settled.
        splits = {
            f"{kind} {name}": found[name]
            for kind, found in zip(KINDS, (read, settled), strict=True)
            for name in SPLITS
        }
        thumbnails = (read.thumbnails, settled.thumbnails) | "All thumbnails" >> beam.Flatten()
        notes = (read.notes, settled.notes, repeated) | "All notes" >> beam.Flatten()
        return splits | {"notes": notes, "thumbnails": thumbnails}


@dataclasses.dataclass(frozen=True)
class _Placed:
    """A serialized example and where it goes.

    Attributes:
        class_name: that the source gives it.
        becomes: its class after corrections; corrected.LEFT_OUT: it is not written, and has no `example`.
        thumbnail: of its picture, empty where none is wanted.
    """

    split: str
    class_name: str
    id: str
    digest: bytes
    example: bytes
    becomes: str
    thumbnail: bytes = b""


class _Outputs:
    """Gives out examples, and remembers their pictures and how many they are."""

    def __init__(self) -> None:
        self._counts: collections.Counter[tuple[str, str]] = collections.Counter()
        self._changed: collections.Counter[tuple[str, str, str]] = collections.Counter()
        self._seen: dict[int, list[tuple[bytes, tuple[str, str, str]]]] = {}
        self._thumbnails: list[near_duplicates.Seen] = []

    def example(self, placed: _Placed) -> Iterator[beam.pvalue.TaggedOutput]:
        self._counts[placed.split, placed.class_name] += 1
        if placed.becomes != placed.class_name:
            self._changed[placed.split, placed.class_name, placed.becomes] += 1
        if placed.becomes == corrected.LEFT_OUT:
            return
        bucket = self._seen.setdefault(placed.digest[0] % BUCKETS, [])
        bucket.append((placed.digest, (placed.split, placed.becomes, placed.id)))
        if placed.thumbnail:
            seen = near_duplicates.Seen(placed.split, placed.becomes, placed.id, placed.digest, placed.thumbnail)
            self._thumbnails.append(seen)
        yield beam.pvalue.TaggedOutput(placed.split, placed.example)

    def rest(self) -> Iterator[beam.pvalue.TaggedOutput]:
        """What is to be given out when all examples are."""
        for bucket, pictures in self._seen.items():
            yield beam.pvalue.TaggedOutput("seen", (bucket, pictures))
        for table in near_duplicates.pack(self._thumbnails):
            yield beam.pvalue.TaggedOutput("thumbnails", table)
        for (split, name), count in self._counts.items():
            yield _note("count", split, name, count)
        for (split, name, becomes), count in self._changed.items():
            yield _note(corrected.CHANGED, split, [name, becomes], count)


class _Read(beam.DoFn):
    """Reads a shard, but holds back of each class the pictures nearest to the border between train and validation.

    They, and only they, are moved across it by `_Settle`.
    """

    def __init__(
        self,
        source: Source,
        validation_share: float,
        background: str,
        near: bool,
        listed: corrected.Listed,
    ) -> None:
        self._source = source
        self._own = source.own_validation
        self._validation_share = validation_share
        self._near = near
        self._background = images.colour(background)
        self._listed = listed
        self._done = 0
        self._told = 0.0

    def process(self, shard: Shard) -> Iterator[beam.pvalue.TaggedOutput]:
        outputs, matched = _Outputs(), corrected.Matched(self._listed)
        held: dict[tuple[str, str], list[_Placed]] = {}
        try:
            for record in self._source.read(shard):
                if isinstance(record, BadRecord):
                    matched.bad(record.where)
                    yield _note("bad", record.where, record.why, record.count)
                    continue
                try:
                    placed = self._place(record, shard.split, matched)
                except images.BadImage as problem:
                    matched.bad(record.id)
                    yield _note("bad", record.id, str(problem), 1)
                    continue
                self._progress()
                for decided in [placed] if shard.split == "test" or self._own else _hold(held, placed):
                    yield from outputs.example(decided)
        except UserError as problem:
            # Beam would wrap the exception into a page of its own; the executor raises it again.
            yield _note("fatal", str(problem), "", 1)
        for nearest in held.values():
            for each in nearest:
                yield beam.pvalue.TaggedOutput("held", each)
        yield from outputs.rest()
        yield from (_note(*note) for note in matched.notes())

    def _place(self, record: Record, split: str, matched: corrected.Matched) -> _Placed:
        if not 0 <= record.label < len(self._source.class_names):
            raise images.BadImage(f"label {record.label} is none of the {len(self._source.class_names)} classes")
        encoded, pixels = look(record.image, self._background)
        digest = images.digest(pixels)
        if split == "train" and not self._own and images.share_of(digest) < self._validation_share:
            split = "validation"
        name = self._source.class_names[record.label]
        becomes = matched.becomes(record.id, digest, name)
        example = thumbnail = b""
        if becomes != corrected.LEFT_OUT:
            label = record.label if becomes == name else self._source.class_names.index(becomes)
            example = make_example(encoded, label, becomes, record.id, record.features)
            thumbnail = near_duplicates.thumbnail(pixels) if self._near else b""
        return _Placed(split, name, record.id, digest, example, becomes, thumbnail)

    def _progress(self) -> None:
        self._done += 1
        if self._done % 512 == 0 and time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            emit("ingest", images=self._done)


def check(image: bytes | np.ndarray, background: images.RGB) -> tuple[bytes, bytes]:
    """Makes sure that TensorFlow decodes an image, as Transform and a server will.

    Args:
        image: encoded bytes of any format, or uint8 pixels of shape [height, width, 3].
        background: the colour behind transparent pixels.

    Returns:
        PNG or JPEG bytes without transparency (the given ones where they need no change), and the digest of the
        pixels that the network will see.

    Raises:
        core.images.BadImage: truncated, corrupt, or not an image.
    """
    encoded, pixels = look(image, background)
    return encoded, images.digest(pixels)


def look(image: bytes | np.ndarray, background: images.RGB) -> tuple[bytes, np.ndarray]:
    """As `check`, but the pixels themselves, uint8 [height, width, 3], in place of their digest."""
    if isinstance(image, np.ndarray):
        return images.encode(image), image
    seen = see(image, background)
    return images.encode(seen.pixels) if seen.transparent else seen.encoded, seen.pixels


def _hold(held: dict[tuple[str, str], list[_Placed]], placed: _Placed) -> list[_Placed]:
    """Holds `placed` back if it is nearer to the border than what was held of its split and class.

    Copies of one picture are held together. Returns what need not be held any more.
    """
    key = placed.split, placed.class_name
    nearest = held.get(key)
    if not nearest:
        held[key] = [placed]
        return []
    if placed.digest == nearest[0].digest:
        nearest.append(placed)
        return []
    if (images.share_of(placed.digest) < images.share_of(nearest[0].digest)) == (placed.split == "train"):
        held[key] = [placed]
        return nearest
    return [placed]


class _Settle(beam.DoFn):
    """Decides about what `_Read` held back, and notes how many it was."""

    def process(
        self, everything: tuple[int, Iterable[_Placed]], notes: Iterable[str]
    ) -> Iterator[beam.pvalue.TaggedOutput]:
        counts: collections.Counter[tuple[str, str]] = collections.Counter()
        for kind, split, name, number in map(json.loads, notes):
            if kind == "count":
                counts[split, name] += number
        outputs = _Outputs()
        for placed in settle(list(everything[1]), counts):
            yield from outputs.example(placed)
        yield from outputs.rest()


def settle(held: list[_Placed], counts: Mapping[tuple[str, str], int]) -> list[_Placed]:
    """Sees to it that each class has a training picture, and that there is a validation picture at all.

    A picture moves with all its copies. A class with a single picture keeps it in train.

    Args:
        held: of each class, the train and validation examples nearest to the border.
        counts: (split, class name) -> how many other examples there are.

    Returns:
        `held`, in the splits where they belong.
    """
    total = collections.Counter(counts)
    total.update((each.split, each.class_name) for each in held)

    def move(chosen: _Placed, split: str) -> None:
        for at, each in enumerate(held):
            if each.digest == chosen.digest and each.split != split:
                total[each.split, each.class_name] -= 1
                total[split, each.class_name] += 1
                held[at] = dataclasses.replace(each, split=split)

    def nearest(split: str) -> list[_Placed]:
        found = [each for each in held if each.split == split]
        return sorted(found, key=lambda each: (images.share_of(each.digest), each.id), reverse=split == "validation")

    for name in sorted({each.class_name for each in held}):
        if not total["train", name]:
            move(next(each for each in nearest("validation") if each.class_name == name), "train")
    if not any(count for (split, _), count in total.items() if split == "validation"):
        for candidate in nearest("train"):
            moving = collections.Counter(each.class_name for each in held if each.digest == candidate.digest)
            if all(total["train", name] > count for name, count in moving.items()):
                move(candidate, "validation")
                break
    return held


def _note_repeated(bucket: tuple[int, Iterable[list[tuple[bytes, tuple[str, str, str]]]]]) -> Iterator[str]:
    members = collections.defaultdict(list)
    for seen in bucket[1]:
        for digest, member in seen:
            members[digest].append(member)
    for digest, found in members.items():
        if len(found) > 1:
            found.sort(key=lambda member: (SPLITS.index(member[0]), *member[1:]))
            yield json.dumps(["repeated", digest.hex(), found, 1])


def _note(*note: object) -> beam.pvalue.TaggedOutput:
    return beam.pvalue.TaggedOutput("notes", json.dumps(note))


def make_example(
    image: bytes, label: int, class_name: str, id: str, further: Mapping[str, str] | None = None
) -> bytes:
    """A serialized tf.train.Example with the features `image`, `label`, `class_name`, `id` and further ones."""
    example = tf.train.Example()
    feature = example.features.feature
    feature["image"].bytes_list.value.append(image)
    feature["label"].int64_list.value.append(label)
    for key, value in {"class_name": class_name, "id": id, **(further or {})}.items():
        feature[key].bytes_list.value.append(value.encode())
    return example.SerializeToString()
