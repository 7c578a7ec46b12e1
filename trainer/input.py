"""The transformed examples as batches of pixels."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pathlib
from collections.abc import Sequence

import tensorflow as tf

from core.errors import UserError
from trainer import features, images

log = logging.getLogger(__name__)

FEATURES = {
    features.PIXELS: tf.io.FixedLenFeature([], tf.string),
    features.LABEL: tf.io.FixedLenFeature([], tf.int64),
}
PARSE_BATCH = 512  # examples parsed in one call
SHUFFLE_BYTES = 2**30  # memory that the shuffle buffer may take
CACHE_SHARE = 0.5  # of the free memory that the cache may take


def training_dataset(
    files: Sequence[str],
    image_size: int,
    examples: int,
    batch_size: int,
    steps: int,
    epochs: range,
    seed: int,
    cache: bool = True,
    class_weights: Sequence[float] | None = None,
) -> tf.data.Dataset:
    """The batches of all `epochs`, one after the other.

    The order of epoch e depends on nothing but `seed` and e, so that a training that was interrupted goes on with
    the examples it would have seen.

    Args:
        files: patterns of gzipped TFRecords of transformed examples.
        image_size: side of the stored images in pixels.
        examples: how many there are in all, for the size of the shuffle buffer.
        batch_size: examples in a batch.
        steps: batches in an epoch; what is left over is dropped, others in each epoch.
        epochs: numbers of the epochs to come, e.g. range(0, 8).
        seed: of the order.
        cache: keep the pixels in memory from the first epoch on, if they fit; else they are read in every epoch.
        class_weights: by label, what an example counts in the loss; None: all the same.

    Returns:
        Of (images uint8 [batch_size, image_size, image_size, 3], labels int64 [batch_size]), with class weights also
        (..., weights float32 [batch_size]), `len(epochs) * steps` batches.
    """
    stored = _read(files, image_size, cache and _fits(examples, image_size)).unbatch()
    buffer = max(1, min(examples, SHUFFLE_BYTES // (image_size * image_size * images.CHANNELS)))

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        shuffled = stored.shuffle(buffer, seed=seed + number, reshuffle_each_iteration=False)
        return shuffled.batch(batch_size, drop_remainder=True).take(steps)

    batches = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(epoch)
    if class_weights is not None:
        by_label = tf.constant(class_weights, tf.float32)
        batches = batches.map(lambda pixels, labels: (pixels, labels, tf.gather(by_label, labels)))
    return batches.prefetch(tf.data.AUTOTUNE)


def evaluation_dataset(files: Sequence[str], image_size: int, batch_size: int) -> tf.data.Dataset:
    """Every example once, in the order of the files; the arguments and elements are those of `training_dataset`.

    Batches have no weights, and are of `even_batch(...)` examples, the last one of what is left.

    Raises:
        UserError: there is no example.
    """
    examples = sum(1 for _ in records(files))
    if not examples:
        raise UserError("The validation split is empty: raise data.validation_share.")
    batch_size = even_batch(examples, batch_size)
    stored = _read(files, image_size, _fits(examples, image_size)).unbatch()
    batches = stored.batch(batch_size).prefetch(tf.data.AUTOTUNE)
    return batches.apply(tf.data.experimental.assert_cardinality(math.ceil(examples / batch_size)))


def even_batch(examples: int, most: int) -> int:
    """The size from half of `most` to `most` that leaves the fullest last batch.

    Of a small last batch some of several devices would get nothing, where TensorFlow stops.
    """
    return max(range(math.ceil(most / 2), most + 1), key=lambda size: (((examples - 1) % size + 1) / size, size))


def records(files: Sequence[str]) -> tf.data.TFRecordDataset:
    """The serialized examples in the order of the files."""
    names = sorted(name for pattern in files for name in tf.io.gfile.glob(pattern))
    return tf.data.TFRecordDataset(names, compression_type="GZIP")


def _fits(examples: int, image_size: int) -> bool:
    """Whether the pixels may be cached."""
    needed = examples * image_size * image_size * images.CHANNELS
    fits = needed <= CACHE_SHARE * free_memory()
    if not fits:
        log.warning("%d images, %d MB, do not fit into memory: they are read in every epoch.", examples, needed >> 20)
    return fits


def free_memory(root: pathlib.Path = pathlib.Path("/")) -> int:
    """Bytes that a process may still take: of the machine, or of its container (cgroup v2) where that has less.

    Where the system does not say, as on macOS, half of the machine's memory.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except FileNotFoundError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(FileNotFoundError, ValueError):  # no such file, or "max"
        group = root / "sys/fs/cgroup"
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        # What the kernel merely remembers of files counts as used, but gives way.
        files = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(files["inactive_file"]))
    return free


def _read(files: Sequence[str], image_size: int, cache: bool) -> tf.data.Dataset:
    """Batches of pixels and labels."""

    def parse(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parsed = tf.io.parse_example(batch, FEATURES)
        return images.from_bytes(parsed[features.PIXELS], image_size), parsed[features.LABEL]

    parsed = records(files).batch(PARSE_BATCH).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return parsed.cache() if cache else parsed
