"""What the data of a run must look like: curated schemas for known data, inferred ones for a user's own."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from core.errors import UserError

FOLDER = pathlib.Path(__file__).resolve().parent
FEATURES = ("image", "label", "class_name", "id")


def minimal() -> schema_pb2.Schema:
    """Says only that `image` holds bytes: statistics then skip counting distinct pictures, which takes longest."""
    schema = schema_pb2.Schema()
    feature = schema.feature.add(name="image", type=schema_pb2.BYTES)
    feature.image_domain.SetInParent()
    return schema


def curated(name: str) -> schema_pb2.Schema | None:
    """The repository's own schema for the data called `name`, if there is one."""
    path = FOLDER / f"{name}.pbtxt"
    return read(path.read_text(), str(path)) if path.is_file() else None


def infer(statistics: statistics_pb2.DatasetFeatureStatisticsList) -> schema_pb2.Schema:
    """The schema that these statistics of the training split fit: each feature present once, these classes only."""
    schema = tfdv.infer_schema(statistics, infer_feature_shape=True, max_string_domain_size=100_000)
    numeric = {feature.path.step[0]: feature for feature in statistics.datasets[0].features}
    for feature in schema.feature:
        feature.presence.min_fraction = 1
        feature.presence.min_count = 1
        if feature.name == "image":
            feature.image_domain.SetInParent()
        elif feature.name == "label":
            feature.int_domain.min = 0
            feature.int_domain.max = int(numeric["label"].num_stats.max)
            feature.int_domain.is_categorical = True
        elif feature.name == "class_name":
            values = sorted(bucket.label for bucket in numeric["class_name"].string_stats.rank_histogram.buckets)
            feature.string_domain.value[:] = values
        elif feature.WhichOneof("domain_info"):
            feature.ClearField(feature.WhichOneof("domain_info"))
    del schema.string_domain[:]
    return schema


def allow(schema: schema_pb2.Schema, names: Iterable[str]) -> None:
    """Adds further features, strings that every example has, where the schema does not speak of them."""
    known = {feature.name for feature in schema.feature}
    for name in names:
        if name not in known:
            feature = schema.feature.add(name=name, type=schema_pb2.BYTES)
            feature.presence.min_fraction = 1
            feature.presence.min_count = 1
            feature.shape.dim.add(size=1)


def read(text: str, where: str) -> schema_pb2.Schema:
    """A schema from text format. Raises UserError if it is not one, or lacks one of our features."""
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as problem:
        raise UserError(f"{where} is not a schema in protobuf text format: {problem}.") from None
    missing = set(FEATURES) - {feature.name for feature in schema.feature}
    if missing:
        raise UserError(f"{where} lacks the feature {sorted(missing)[0]}.")
    return schema
