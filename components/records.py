"""Reading the examples that ImageExampleGen wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils

from core.near_duplicates import NearDuplicate
from core.repeated import Repeated

# Beside the splits.
REPORT = "ingest.json"  # ingest_report.Report
DUPLICATES = "duplicates.json"  # {"pictures": [core.repeated.Repeated as a dict, ...]}
NEAR_DUPLICATES = "near_duplicates.json"  # {"examples": [core.near_duplicates.NearDuplicate as a dict, ...]}


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
    return [Repeated.read(entry) for entry in _entries(uri, DUPLICATES, "pictures")]


def near_duplicates(uri: str) -> list[NearDuplicate]:
    """The examples that are nearly pictures of an earlier split; none where nobody looked for them.

    Args:
        uri: of the Examples artifact.
    """
    return [NearDuplicate.read(entry) for entry in _entries(uri, NEAR_DUPLICATES, "examples")]


def _entries(uri: str, name: str, key: str) -> list[Any]:
    """A list in a JSON file beside the splits; an empty one where there is no file."""
    path = os.path.join(uri, name)
    if not fileio.exists(path):
        return []
    with fileio.open(path, "r") as file:
        return json.loads(file.read())[key]
