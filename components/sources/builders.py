"""Any image-classification data set of TensorFlow Datasets by name, our own `shapes10` among them."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
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
from core import settings
from core.errors import UserError
from core.events import emit

EMBEDDED = "shapes10"
SHARD_SIZE = 10_000  # examples
NETWORK_SECONDS = 15


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
        image_key, label_key, id_key = _features(builder)
        return cls(
            directory=str(builder.data_path),
            splits=(("train", data.train_split), ("test", _test_split(builder, data))),
            class_names=tuple(builder.info.features[label_key].names),
            image_key=image_key,
            label_key=label_key,
            id_key=id_key,
            feature_keys=_further(builder, data.features),
        )

    def shards(self) -> list[Shard]:
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
        builder = tfds.builder_from_directory(self.directory)
        theirs = dict(self.splits)[shard.split]
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
                yield BadRecord(where, f"{type(problem).__name__}: {problem.message[:200]}", lost)
                return
            further = [[_words(features[key], value) for value in batch[key]] for key in self.feature_keys]
            for image, label, name, *values in zip(
                batch[self.image_key], batch[self.label_key], batch[id_key], *further, strict=True
            ):
                kept = dict(zip(self.feature_keys, values, strict=True))
                yield Record(image, int(label), name.decode("utf-8", "replace"), kept)
                done += 1


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
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}" if close else "see https://www.tensorflow.org/datasets/catalog"
        raise UserError(
            f"{name} is neither a file or folder nor a data set of TensorFlow Datasets: {hint}."
        ) from None
    except (ValueError, AssertionError) as problem:
        raise UserError(f"{name}: {str(problem).splitlines()[0]}") from None


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
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
        raise UserError(
            f"{name} is not prepared in {_data_dir(builder)} and cannot be downloaded ({reason}). Three ways on: "
            "connect to the network; name the folder of a prepared copy with --data-dir; or name an archive or a "
            "folder of images with --data."
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
