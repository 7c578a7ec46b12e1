"""A TFX project that is not ours, as small as can be, for the tests of `kubeflow/`."""

import json
import os
import pathlib

from tfx import components as tfx_components
from tfx import types
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.proto import example_gen_pb2
from tfx.types.standard_artifacts import Model, ModelBlessing, Schema


class Table(types.Artifact):
    """Numbers in `data.json`."""

    TYPE_NAME = "tiny.Table"


class Page(types.Artifact):
    """One HTML file, which KFP's UI shows."""

    TYPE_NAME = "system.HTML"


@component
def Draw(table: OutputArtifact[Table], count: Parameter[int], words: Parameter[str], share: Parameter[float]) -> None:
    """Writes `count` numbers; `words` is JSON with the first of them."""
    first = json.loads(words)["first"]
    fileio.makedirs(table.uri)
    with fileio.open(os.path.join(table.uri, "data.json"), "w") as file:
        file.write(json.dumps([first + number for number in range(count)]))
    table.set_int_custom_property("rows", count)
    table.set_float_custom_property("share", share)
    table.set_int_custom_property("largest", first + count - 1)
    table.set_json_value_custom_property("sides", [1, 2])
    table.set_string_custom_property("file", os.path.join(table.uri, "data.json"))


@component
def Nothing(model: OutputArtifact[Model]) -> None:
    """Finds nothing, as on a first run."""


@component
def Judge(
    table: InputArtifact[Table],
    blessing: OutputArtifact[ModelBlessing],
    page: OutputArtifact[Page],
    baseline: InputArtifact[Model] = None,
) -> None:
    """Fails unless it is given what Draw made."""
    with fileio.open(os.path.join(table.uri, "data.json"), "r") as file:
        numbers = json.loads(file.read())
    seen = {
        "numbers": numbers,
        "rows": table.get_int_custom_property("rows"),
        "largest": table.get_int_custom_property("largest"),
        "share": table.get_float_custom_property("share"),
        "sides": table.get_json_value_custom_property("sides"),
        "file_is_there": os.path.isfile(table.get_string_custom_property("file")),
        "properties": sorted(table.mlmd_artifact.custom_properties),
        "baseline": None if baseline is None else baseline.uri,
    }
    fileio.makedirs(os.path.dirname(page.uri))
    with fileio.open(page.uri, "w") as file:
        file.write(json.dumps(seen))
    blessing.set_string_custom_property("current_model", table.uri)
    blessing.set_int_custom_property("blessed", 1)


@component
def Fragile(
    page: InputArtifact[Page], schema: OutputArtifact[Schema], marks: Parameter[str], failures: Parameter[int]
) -> None:
    """Fails the first `failures` times; `marks` is a folder on a volume that counts."""
    folder = pathlib.Path(marks)
    (folder / f"{len(list(folder.iterdir()))}").touch()
    if len(list(folder.iterdir())) <= failures:
        raise RuntimeError("not yet")
    fileio.makedirs(schema.uri)
    with fileio.open(os.path.join(schema.uri, "schema.pbtxt"), "w") as file:
        file.write("")


def tiny(marks: str = "marks", failures: int = 0, count: object = 3) -> tfx_pipeline.Pipeline:
    """Draw -> Judge -> Fragile, with Nothing beside."""
    draw = Draw(count=count, words=json.dumps({"first": 10, "more": [{"x": 0.5}]}), share=2.0)
    nothing = Nothing()
    judge = Judge(table=draw.outputs["table"], baseline=nothing.outputs["model"])
    fragile = Fragile(page=judge.outputs["page"], marks=str(marks), failures=failures)
    return tfx_pipeline.Pipeline(
        pipeline_name="tiny", pipeline_root="", components=[draw, nothing, judge, fragile], enable_cache=True
    )


@component
def Write(schema: OutputArtifact[Schema]) -> None:
    """Writes a file, with nothing but TFX's own types."""
    with fileio.open(os.path.join(schema.uri, "schema.pbtxt"), "w") as file:
        file.write("")


def standard() -> tfx_pipeline.Pipeline:
    """A pipeline that TFX itself compiles for Vertex without a change."""
    return tfx_pipeline.Pipeline(pipeline_name="standard", pipeline_root="", components=[Write()])


def penguins(folder: str) -> tfx_pipeline.Pipeline:
    """CSV files in folders `span-N`, of which ExampleGen's driver takes the newest, and their statistics."""
    split = example_gen_pb2.Input.Split(name="all", pattern="span-{SPAN}/*")
    examples = tfx_components.CsvExampleGen(input_base=folder, input_config=example_gen_pb2.Input(splits=[split]))
    statistics = tfx_components.StatisticsGen(examples=examples.outputs["examples"])
    return tfx_pipeline.Pipeline(pipeline_name="penguins", pipeline_root="", components=[examples, statistics])
