"""DataCheck: stops the pipeline on anomalies, in words. TFX's ExampleValidator only writes them down."""

import json
import os
from collections.abc import Mapping, Sequence

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics, Schema
from tfx.utils import io_utils

from components import records
from components.records import REPORT as INGEST
from core.errors import UserError
from core.repeated import Repeated
from core.text import plain

FEATURE = "class_name"  # whose distribution is compared


@component
def DataCheck(
    examples: InputArtifact[Examples],
    statistics: InputArtifact[ExampleStatistics],
    schema: InputArtifact[Schema],
    anomalies: InputArtifact[ExampleAnomalies],
    distribution: OutputArtifact[ExampleAnomalies],
    max_skew: Parameter[float],
    max_drift: Parameter[float],
    max_leaked_share: Parameter[float],
    previous_statistics: InputArtifact[ExampleStatistics] = None,
) -> None:
    """Raises UserError if the data do not fit the schema, labels are distributed differently, or too much leaks.

    Args:
        examples: with what the ingest told of them.
        statistics: of this run's splits.
        schema: what they must fit.
        anomalies: what ExampleValidator found.
        distribution: the result of comparing the distribution of labels, as TFDV writes it.
        max_skew: largest allowed difference of a class's share between train and test (L-infinity distance).
            Of a test split that the ingest held out, only chance can be the reason for one, so any is allowed.
        max_drift: the same between this run's train and the last run's.
        max_leaked_share: largest allowed share of test examples whose picture is in an earlier split, too; 1: any.
        previous_statistics: of the last run, if there was one.
    """
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        found = read_anomalies(os.path.join(anomalies.uri, f"Split-{split}", "SchemaDiff.pb"))
        refuse(found, f"the split {split} does not fit the schema")
    train, test = (stats_artifact_utils.load_statistics(statistics, split).proto() for split in ("train", "test"))
    previous = None
    if previous_statistics is not None:
        previous = stats_artifact_utils.load_statistics(previous_statistics, "train").proto()
    expected = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri))
    with fileio.open(os.path.join(examples.uri, INGEST), "r") as file:
        ingested = json.loads(file.read())
    own_test = ingested.get("own_test", True)
    found = compare(train, test, previous, expected, max_skew if own_test else 1.0, max_drift)
    distribution.split_names = artifact_utils.encode_split_names(["train"])
    folder = os.path.join(distribution.uri, "Split-train")
    fileio.makedirs(folder)
    with fileio.open(os.path.join(folder, "SchemaDiff.pb"), "wb") as file:
        file.write(found.SerializeToString())
    refuse(
        found,
        "the distribution of labels changed more than data.max_label_skew or data.max_label_drift allows",
    )
    if max_leaked_share < 1:
        refuse_leaks(ingested, records.duplicates(examples.uri), max_leaked_share)


def refuse_leaks(ingested: Mapping, pictures: Sequence[Repeated], most: float) -> None:
    """Raises UserError if too many test examples have a picture of an earlier split.

    Args:
        ingested: the ingest's report.
        pictures: that several examples have.
        most: share of the test examples that may.
    """
    if not ingested.get("duplicates"):
        raise UserError(
            "data.max_leaked_share cannot be kept: these examples were ingested before duplicates were looked for; "
            "ingest them again with --fresh, or leave the limit out."
        )
    leaked, total = ingested["duplicates"]["leaked"].get("test", 0), sum(ingested["counts"]["test"].values())
    if leaked <= most * total:
        return
    first = next(picture for picture in pictures if picture.leaked("test"))
    known = first.earlier("test")[0]
    raise UserError(
        f"{leaked} of {total} test examples ({leaked / total:.2%}) are duplicates of training or validation "
        f"pictures, more than data.max_leaked_share={most} allows; {plain(first.leaked('test')[0].id)} (test) is the "
        f"same picture as {plain(known.id)} ({known.split}). Remove them from one of the splits, or allow more with "
        "--set data.max_leaked_share=..."
    )


def compare(
    train: statistics_pb2.DatasetFeatureStatisticsList,
    test: statistics_pb2.DatasetFeatureStatisticsList,
    previous: statistics_pb2.DatasetFeatureStatisticsList | None,
    schema: schema_pb2.Schema,
    max_skew: float,
    max_drift: float,
) -> anomalies_pb2.Anomalies:
    """TFDV's anomalies of train against test (skew) and against the last run's train (drift)."""
    schema = schema_pb2.Schema.FromString(schema.SerializeToString())
    feature = next(feature for feature in schema.feature if feature.name == FEATURE)
    feature.skew_comparator.infinity_norm.threshold = max_skew
    if previous is not None:
        feature.drift_comparator.infinity_norm.threshold = max_drift
    return tfdv.validate_statistics(train, schema, previous_statistics=previous, serving_statistics=test)


def read_anomalies(path: str) -> anomalies_pb2.Anomalies:
    """The anomalies in a file that ExampleValidator wrote."""
    with fileio.open(path, "rb") as file:
        return anomalies_pb2.Anomalies.FromString(file.read())


def words(anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """Each anomaly as a phrase, e.g. "class_name: Examples contain values missing from the schema: yak (~1%)"."""
    return [
        f"{name}: {(info.description or info.short_description).strip().rstrip('.')}"
        for name, info in sorted(anomalies.anomaly_info.items())
    ]


def refuse(anomalies: anomalies_pb2.Anomalies, what: str) -> None:
    """Raises UserError if there is any anomaly."""
    found = words(anomalies)
    if found:
        raise UserError(
            f"The data were refused, {what}: {'; '.join(found)}. Correct the data; or, if they are right, raise the "
            "limit, accept what is new in your own data with --set data.update_schema=true, or file other data under "
            "another name with --set data.name=..."
        )
