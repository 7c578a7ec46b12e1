"""Any image-classification data set of TensorFlow Datasets by name, our own `shapes10` among them.

Every record of a TFRecord file has a checksum, which TensorFlow looks at. That all records and files are there is
looked at here, before any is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
import pathlib
import re
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from components.sources.base import BadRecord, Record, Shard, Source
from components.sources.names import EMBEDDED
from core import errors, settings
from core.errors import UserError
from core.events import emit
from core.text import plain

SHARD_SIZE = 10_000  # examples
NETWORK_SECONDS = 15
FRAME = 16  # bytes of a TFRecord file beside each record: its length, and two checksums


@dataclasses.dataclass(frozen=True)
class BuilderSource(Source):
    """A prepared TensorFlow Datasets directory; images stay encoded as they are there."""

    directory: str
    splits: tuple[tuple[str, str], ...]  # ours and theirs: (("train", "train"), ("test", "validation"))
    class_names: tuple[str, ...]
    image_key: str
    label_key: str
    id_key: str  # "" if the data set has no ids of its own
    feature_keys: tuple[str, ...] = ()  # further ones to keep

    @classmethod
    def open(cls, data: settings.Data, scratch: pathlib.Path) -> BuilderSource:
        """Prepares the data set if it is not yet: downloads it, or draws the embedded one.

        Raises:
            UserError: no such data set, nothing to classify in it, no such split, or no way to get it.
        """
        builder = _builder(data, scratch)
        _prepare(builder)
        directory = str(builder.data_path)
        with _undamaged(directory):
            image_key, label_key, id_key = _features(builder)
            class_names = _class_names(builder, label_key)
            splits = (("train", data.train_split), ("test", _test_split(builder, data)))
            for _, theirs in splits:
                _check_files(builder, theirs)
        return cls(
            directory=directory,
            splits=splits,
            class_names=class_names,
            image_key=image_key,
            label_key=label_key,
            id_key=id_key,
            feature_keys=_further(builder, data.features),
        )

    def shards(self) -> list[Shard]:
        with _undamaged(self.directory):
            builder = tfds.builder_from_directory(self.directory)
        found = []
        for split, theirs in self.splits:
            try:
                total = builder.info.splits[theirs].num_examples
            except (KeyError, ValueError):
                names = ", ".join(builder.info.splits)
                raise UserError(f"{builder.info.name} has no split {theirs}: it has {names}.") from None
            found += [
                Shard(split, f"{builder.info.name} {theirs}", start, min(start + SHARD_SIZE, total))
                for start in range(0, total, SHARD_SIZE)
            ]
        return found

    def read(self, shard: Shard) -> Iterator[Record | BadRecord]:
        theirs = dict(self.splits)[shard.split]
        with _undamaged(self.directory):
            builder = tfds.builder_from_directory(self.directory)
            dataset = builder.as_dataset(
                split=_part(theirs, shard, builder),
                decoders={self.image_key: tfds.decode.SkipDecoding()},
                read_config=tfds.ReadConfig(add_tfds_id=True, interleave_cycle_length=1, try_autocache=False),
                shuffle_files=False,
            )
        id_key = self.id_key or "tfds_id"
        wanted = {self.image_key, self.label_key, id_key, *self.feature_keys}
        features = builder.info.features
        # In batches, because crossing from TensorFlow to Python once an example costs more than reading it.
        batches = dataset.map(lambda example: {key: example[key] for key in wanted}).batch(256).prefetch(2)
        done = 0
        iterator = batches.as_numpy_iterator()
        while True:
            try:
                batch = next(iterator)
            except StopIteration:
                break
            except tf.errors.OpError as problem:
                # A damaged record hides where the next one begins.
                lost = shard.stop - shard.start - done
                where = f"{shard.name}, from about example {shard.start + done}"
                yield BadRecord(where, f"{type(problem).__name__}: {_reason(problem)}", lost)
                return
            further = [[_words(features[key], value) for value in batch[key]] for key in self.feature_keys]
            for image, label, name, *values in zip(
                batch[self.image_key], batch[self.label_key], batch[id_key], *further, strict=True
            ):
                kept = dict(zip(self.feature_keys, values, strict=True))
                yield Record(image, int(label), name.decode("utf-8", "replace"), kept)
                done += 1


@contextlib.contextmanager
def _undamaged(directory: str) -> Iterator[None]:
    """Raises UserError for whatever TensorFlow Datasets raises within, when what it had prepared is damaged."""
    try:
        yield
    except UserError:
        raise
    except Exception as problem:
        raise UserError(
            f"The data set in {directory} cannot be read ({_reason(problem)}): if its files are damaged, remove the "
            "folder and prepare the data set again."
        ) from None


def _reason(problem: Exception) -> str:
    """The gist of an exception of TensorFlow's or TensorFlow Datasets', on one line."""
    text = problem.message if isinstance(problem, tf.errors.OpError) else str(problem)
    text = re.sub(r"\{\{.*?\}\} ?|^.*Failed to construct dataset .*?\}\": | \[Op:.*", "", text)
    return plain(text.strip().split("\n")[0])[:200].rstrip(". ") or type(problem).__name__


def _check_files(builder: tfds.core.DatasetBuilder, theirs: str) -> None:
    """Raises UserError unless the files of the split `theirs` have as many records as dataset_info.json tells.

    The sizes of the files tell it, as a rule; where they do not fit, the records are counted. Nothing is looked at
    where the files are not here, or no TFRecord files.
    """
    name = re.split(r"[\[%]", theirs)[0]
    if "://" in str(builder.data_path) or name not in builder.info.splits:
        return
    if builder.info.file_format not in (None, tfds.core.FileFormat.TFRECORD):
        return
    whole = builder.info.splits[name]
    for split in getattr(whole, "split_infos", [whole]):
        paths = [pathlib.Path(path) for path in split.filepaths]
        for path in paths:
            if not path.is_file():
                raise UserError(f"{path} is missing: remove its folder and prepare the data set again.")
        size = sum(path.stat().st_size for path in paths)
        if min(split.shard_lengths, default=0) >= 0 and size == split.num_bytes + FRAME * split.num_examples:
            continue
        for path, told in zip(paths, split.shard_lengths, strict=True):
            if (found := _records(path)) != told:
                raise UserError(
                    f"{path} has {found:,} complete records, but dataset_info.json beside it tells of {told:,}: "
                    "remove the folder and prepare the data set again."
                )


def _records(path: pathlib.Path) -> int:
    """How many complete records a TFRecord file has, by their lengths alone."""
    count = at = 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while len(header := file.read(8)) == 8 and (at := at + FRAME + int.from_bytes(header, "little")) <= size:
            file.seek(at)
            count += 1
    return count


def _part(theirs: str, shard: Shard, builder: tfds.core.DatasetBuilder) -> tfds.core.ReadInstruction:
    """The shard's examples of a split such as "train" or "train[:80%]"."""
    parts = tfds.core.ReadInstruction.from_spec(theirs).to_absolute(builder.info.splits)
    first = parts[0]
    if len(parts) != 1:
        raise UserError(f"{theirs}: name one split or a part of one, such as train[:80%].")
    begin = first.from_ or 0
    return tfds.core.ReadInstruction(first.splitname, begin + shard.start, begin + shard.stop, unit="abs")


def _builder(data: settings.Data, scratch: pathlib.Path) -> tfds.core.DatasetBuilder:
    name = data.source
    embedded = settings.builder_name(name) == EMBEDDED
    if embedded:
        from components import shapes10  # noqa: F401  importing it registers the builder
    directory = data.data_dir or (str(scratch) if embedded else None)
    try:
        return tfds.builder(name, data_dir=directory)
    except Exception as problem:  # damaged JSON makes it raise many kinds
        unknown = isinstance(problem, tfds.core.DatasetNotFoundError)
        if unknown or str(problem).startswith("Parsing builder name"):
            known = tfds.list_builders(with_community_datasets=False)
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}" if close else "see https://www.tensorflow.org/datasets/catalog"
            raise UserError(
                f"{errors.shortened(name)} is neither a file or folder nor a data set of TensorFlow Datasets: {hint}."
            ) from None
        prepared = f"; if the files in {directory} are damaged, remove them and prepare the data set again"
        raise UserError(f"{name}: {_reason(problem)}{prepared if directory else ''}.") from None


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
    if builder.is_prepared():
        return
    name = builder.info.name
    try:
        _reach(builder)
        with _progress(builder):
            builder.download_and_prepare()
    except Exception as problem:  # whatever the network, the disk or the builder's own code raises
        if name == EMBEDDED:
            raise
        raise UserError(
            f"{name} is not prepared in {_data_dir(builder)} and cannot be downloaded ({_reason(problem)}). Three "
            "ways on: connect to the network; name the folder of a prepared copy with --data-dir; or name an archive "
            "or a folder of images with --data."
        ) from None


def _reach(builder: tfds.core.DatasetBuilder) -> None:
    """Raises if the data set's first file cannot be asked for: TensorFlow Datasets itself tries for minutes."""
    url = next(iter(builder.url_infos or ()), None)
    if url and url.startswith("http"):
        try:
            requests.head(url, timeout=NETWORK_SECONDS, allow_redirects=True)
        except requests.RequestException:
            raise ConnectionError(f"{urllib.parse.urlsplit(url).hostname} cannot be reached") from None


def _data_dir(builder: tfds.core.DatasetBuilder) -> str:
    return str(builder.data_path).split(f"/{builder.name}/")[0]


@contextlib.contextmanager
def _progress(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    """Tells every half second how much has been downloaded."""
    total = int(builder.info.download_size or 0)
    folder = pathlib.Path(_data_dir(builder), "downloads")
    stop = threading.Event()

    def tell() -> None:
        done = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0
        emit("download", name=builder.name, megabytes=done >> 20, of=total >> 20)

    def watch() -> None:
        while not stop.wait(0.5):
            tell()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        tell()


def _features(builder: tfds.core.DatasetBuilder) -> tuple[str, str, str]:
    """The keys of the image, the label and the id (or "")."""
    features = builder.info.features
    flat = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    images = [key for key, feature in flat.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in flat.items() if isinstance(feature, tfds.features.ClassLabel)]
    supervised = builder.info.supervised_keys or ()
    image = next((key for key in supervised if key in images), images[0] if images else None)
    label = next((key for key in supervised if key in labels), labels[0] if labels else None)
    if image is None or label is None:
        raise UserError(f"{builder.info.name} has no image with a class label, so there is nothing to classify.")
    return image, label, "id" if "id" in flat and isinstance(flat["id"], tfds.features.Text) else ""


def _class_names(builder: tfds.core.DatasetBuilder, label_key: str) -> tuple[str, ...]:
    """The names of the classes. Raises UserError if the file that has them is damaged; nobody else looks."""
    label = builder.info.features[label_key]
    names = tuple(label.names)
    file = builder.data_path / f"{label_key}.labels.txt"
    numbered = names == tuple(map(str, range(label.num_classes)))  # what TensorFlow Datasets says without the file
    if len(set(names)) != label.num_classes or (
        numbered and file.exists() and file.read_bytes().decode("utf-8", "replace").split() != [*names]
    ):
        raise UserError(
            f"{file} does not have the names of {label.num_classes} classes, each once: remove its folder and "
            "prepare the data set again."
        )
    return names


def _further(builder: tfds.core.DatasetBuilder, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The features to keep. Raises UserError if the data set lacks one, or it is not a single value."""
    single = [
        key
        for key, feature in builder.info.features.items()
        if feature.shape == () and not isinstance(feature, tfds.features.FeaturesDict)
    ]
    for key in wanted:
        if key not in single:
            raise UserError(f"data.features names {key}, but {builder.info.name} has {', '.join(sorted(single))}.")
    return wanted


def _words(feature: tfds.features.FeatureConnector, value: Any) -> str:
    """The value of a feature as text; of a class label its name."""
    if isinstance(feature, tfds.features.ClassLabel):
        return feature.int2str(int(value))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _test_split(builder: tfds.core.DatasetBuilder, data: settings.Data) -> str:
    """The split to evaluate on; data sets without "test" mostly have "validation"."""
    base = re.split(r"[\[%]", data.test_split)[0]
    if base == "test" and "test" not in builder.info.splits and "validation" in builder.info.splits:
        return data.test_split.replace("test", "validation", 1)
    return data.test_split
