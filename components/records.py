"""Reading the examples that ImageExampleGen wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator

import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils


def read(examples: Artifact, split: str) -> Iterator[bytes]:
    """The serialized tf.Examples of a split."""
    files = sorted(map(str, fileio.glob(os.path.join(artifact_utils.get_split_uri([examples], split), "*"))))
    compression = "GZIP" if files[0].endswith(".gz") else ""
    return tf.data.TFRecordDataset(files, compression).as_numpy_iterator()
