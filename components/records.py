"""Reading the examples that ImageExampleGen wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils

from core.repeated import Repeated

# Beside the splits.
REPORT = "ingest.json"  # ingest_report.Report
DUPLICATES = "duplicates.json"  # {"pictures": [core.repeated.Repeated as a dict, ...]}


def read(examples: Artifact, split: str) -> Iterator[bytes]:
    """The serialized tf.Examples of a split."""
    files = sorted(map(str, fileio.glob(os.path.join(artifact_utils.get_split_uri([examples], split), "*"))))
    compression = "GZIP" if files[0].endswith(".gz") else ""
    return tf.data.TFRecordDataset(files, compression).as_numpy_iterator()


def duplicates(uri: str) -> list[Repeated]:
    """The pictures that several examples have, leaked ones first; none where nobody looked for them.

    Args:
        uri: of the Examples artifact.
    """
    path = os.path.join(uri, DUPLICATES)
    if not fileio.exists(path):
        return []
    with fileio.open(path, "r") as file:
        return [Repeated.read(entry) for entry in json.loads(file.read())["pictures"]]
