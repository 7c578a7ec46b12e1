"""The Beam transforms that turn a source's shards into tf.Examples in three splits."""

from __future__ import annotations

import collections
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping

import apache_beam as beam
import tensorflow as tf

from components.sources import BadRecord, Record, Shard, Source
from core import images
from core.errors import UserError
from core.events import emit

SPLITS = ("train", "validation", "test")
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
    """

    source: str
    class_names: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    bad: int
    bad_records: tuple[tuple[str, str, int], ...]
    ignored: dict[str, int]
    fatal: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Examples written."""
        return sum(sum(counts.values()) for counts in self.counts.values())

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        return cls(**json.loads(text))


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
            raise UserError(
                f"{report.source}: the split {split} is empty: add examples, or change data.validation_share."
            )
        empty = [name for name in report.class_names if not counts.get(name)]
        if empty and split != "validation":
            raise UserError(
                f"{report.source}: class {empty[0]} has no {split} examples: add some, or remove the class."
            )


class ReadExamples(beam.PTransform):
    """Shards -> serialized examples, as a dict of PCollections: one a split, and "notes".

    A note is ("count", split, class name, n), ("bad", where, why, n) or ("fatal", sentence, "", 1).
    """

    def __init__(self, source: Source, validation_share: float) -> None:
        super().__init__()
        self._do = _Read(source, validation_share)

    def expand(self, shards: beam.PCollection) -> beam.pvalue.DoOutputsTuple:
        return shards | beam.ParDo(self._do).with_outputs("notes", *SPLITS)


class _Read(beam.DoFn):
    def __init__(self, source: Source, validation_share: float) -> None:
        self._source = source
        self._validation_share = validation_share
        self._done = 0
        self._told = 0.0

    def process(self, shard: Shard) -> Iterator[beam.pvalue.TaggedOutput]:
        counts: collections.Counter[tuple[str, str]] = collections.Counter()
        try:
            for record in self._source.read(shard):
                if isinstance(record, BadRecord):
                    yield self._note("bad", record.where, record.why, record.count)
                    continue
                try:
                    split, example = self._convert(record, shard.split)
                except images.BadImage as problem:
                    yield self._note("bad", record.id, str(problem), 1)
                    continue
                counts[split, self._source.class_names[record.label]] += 1
                yield beam.pvalue.TaggedOutput(split, example)
                self._progress()
        except UserError as problem:
            # Beam would wrap the exception into a page of its own; the executor raises it again.
            yield self._note("fatal", str(problem), "", 1)
        for (split, name), count in counts.items():
            yield self._note("count", split, name, count)

    def _convert(self, record: Record, split: str) -> tuple[str, bytes]:
        if not 0 <= record.label < len(self._source.class_names):
            raise images.BadImage(f"label {record.label} is none of the {len(self._source.class_names)} classes")
        encoded, digest = images.check(record.image)
        if split == "train" and images.share_of(digest) < self._validation_share:
            split = "validation"
        name = self._source.class_names[record.label]
        return split, make_example(encoded, record.label, name, record.id, record.features)

    def _note(self, *note: object) -> beam.pvalue.TaggedOutput:
        return beam.pvalue.TaggedOutput("notes", json.dumps(note))

    def _progress(self) -> None:
        self._done += 1
        if self._done % 512 == 0 and time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            emit("ingest", images=self._done)


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


def summarise(source_name: str, source: Source, notes: list[str]) -> Report:
    """The report from all notes."""
    counts = {split: dict.fromkeys(source.class_names, 0) for split in SPLITS}
    bad: list[tuple[str, str, int]] = []
    fatal: list[str] = []
    for kind, first, second, number in map(json.loads, sorted(notes)):
        if kind == "count":
            counts[first][second] += number
        elif kind == "bad":
            bad.append((first, second, number))
        else:
            fatal.append(first)
    return Report(
        source=source_name,
        class_names=source.class_names,
        counts=counts,
        bad=sum(number for _, _, number in bad),
        bad_records=tuple(bad[:NOTED]),
        ignored=source.ignored(),
        fatal=tuple(fatal),
    )
