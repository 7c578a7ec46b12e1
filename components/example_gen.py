"""ImageExampleGen: images with classes from TensorFlow Datasets, archives or folders, as tf.Examples.

Everything is done in the executor, none of it in a driver, so that it works the same under every orchestrator.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import os
import pathlib
import tempfile
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts

from components import corrected, ingest, ingest_report, near_duplicates
from components.records import DUPLICATES, NEAR_DUPLICATES, REPORT
from components.sources import fingerprint, open_source
from core import settings
from core.events import emit
from review import suspects


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the source and writes the splits."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the splits train, validation and test, `ingest.json`, `duplicates.json` and, where they are looked
        for, `near_duplicates.json` into `examples`.

        Raises:
            UserError: the source is not there, unusable, or holds too many bad examples; or the list of corrections
                does not fit it.
        """
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        data = settings.Data(**json.loads(exec_properties["data"]), version=exec_properties["version"])
        began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        # Which a distributed runner's workers can reach, too.
        notes, thumbnails = (os.path.join(examples.uri, name) for name in ("notes", "thumbnails"))
        with tempfile.TemporaryDirectory() as scratch:
            source = open_source(data, pathlib.Path(scratch))
            listed = corrected.Listed.open(data.corrections, source.class_names)
            with self._make_beam_pipeline() as pipeline:
                outputs = (
                    pipeline
                    | "Shards" >> beam.Create(source.shards(), reshuffle=True)
                    | "Read"
                    >> ingest.ReadExamples(
                        source, data.validation_share, data.background, data.near_duplicates, listed
                    )
                )
                for kind, split in itertools.product(ingest.KINDS, ingest_report.SPLITS):
                    pattern = os.path.join(examples.uri, f"Split-{split}", kind)
                    _ = outputs[f"{kind} {split}"] | f"Write {kind} {split}" >> beam.io.WriteToTFRecord(
                        pattern, file_name_suffix=".tfrecord"
                    )
                _ = outputs["notes"] | "Notes" >> beam.io.WriteToText(os.path.join(notes, "part"), num_shards=1)
                pattern = os.path.join(thumbnails, "part")
                _ = outputs["thumbnails"] | "Thumbnails" >> beam.io.WriteToTFRecord(pattern)
            (written,) = fileio.glob(os.path.join(notes, "part*"))
            with fileio.open(written, "r") as file:
                told = file.read().splitlines()
            report, repeated = ingest_report.summarise(data.source, source, told)
        if not report.fatal:  # or not all records were read
            changed, counts = corrected.summarise(listed, told, report.counts)
            report = dataclasses.replace(report, corrections=changed, counts=counts)
        near = None
        if data.near_duplicates:
            near = near_duplicates.find(lambda: near_duplicates.read(thumbnails), repeated)
            report = dataclasses.replace(report, near_duplicates=ingest_report.count_near_duplicates(near))
        for folder in (notes, thumbnails):
            fileio.rmtree(folder)
        # Now, since only reading prepares what TensorFlow Datasets has to download or draw.
        version = exec_properties["version"]
        report = dataclasses.replace(
            report,
            fingerprint=fingerprint.data(data) if version == "auto" else version,
            read=began,
            due=exec_properties["due"] or "",
        )
        ingest_report.verdict(report, data.max_bad_share)
        if report.bad:
            where, why, _ = report.bad_records[0]
            emit("warning", text=f"{report.bad} bad examples dropped; the first is {where}: {why}")
        for reason, count in report.ignored.items():
            emit("warning", text=f"{count} files ignored: {reason}")
        if report.corrections:
            emit("note", text=suspects.tell_corrections(report.corrections).rstrip("."))
        for sentence in ingest_report.tell_duplicates(report, repeated):
            emit("warning", text=sentence)
        for sentence in ingest_report.tell_near_duplicates(report, near or ()):
            emit("warning", text=sentence)
        pictures = [dataclasses.asdict(each) for each in repeated]
        files = {REPORT: report.to_json(), DUPLICATES: json.dumps({"pictures": pictures}, indent=1)}
        if near is not None:
            pairs = [dataclasses.asdict(each) for each in near]
            files[NEAR_DUPLICATES] = json.dumps({"examples": pairs}, indent=1)
        for name, content in files.items():
            with fileio.open(os.path.join(examples.uri, name), "w") as file:
                file.write(content)
        examples.split_names = artifact_utils.encode_split_names(list(ingest_report.SPLITS))
        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)


class ImageExampleGenSpec(component_spec.ComponentSpec):
    """ImageExampleGen's interface."""

    PARAMETERS = {
        "data": component_spec.ExecutionParameter(type=str),
        "version": component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
        "due": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {}
    OUTPUTS = {"examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)}


class ImageExampleGen(base_beam_component.BaseBeamComponent):
    """Ingests an image data set; output `examples` with the splits train, validation and test."""

    SPEC_CLASS = ImageExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, data: settings.Data, version: str, code: str = "") -> None:
        """Args:
        data: what to read, and how to split it.
        version: identifies the content of the source; a cached result is used only for the same version. "auto":
            found out when it is read, for orchestrators that do not cache this node.
        code: fingerprint of the code that reads, for the same purpose.
        """
        wanted = data.model_dump(include=INGEST_SETTINGS)
        super().__init__(
            ImageExampleGenSpec(
                data=json.dumps(wanted, sort_keys=True),
                version=version,
                code=code,
                due="",  # an orchestrator with schedules puts the time there
                examples=types.Channel(type=standard_artifacts.Examples),
            )
        )


# The other settings of the data concern later nodes and must not invalidate the cache.
INGEST_SETTINGS = {
    "source", "data_dir", "train_split", "test_split", "validation_share", "background", "max_bad_share",
    "newest_spans", "features", "corrections", "near_duplicates", "test_share",
}  # fmt: skip
