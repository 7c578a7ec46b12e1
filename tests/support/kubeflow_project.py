"""A TFX project that is not ours, as small as can be, for the tests of `kubeflow/`."""

import json
import os
import pathlib

from tensorflow_model_analysis.proto import config_pb2
from tfx import components as tfx_components
from tfx import types
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.io import fileio
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.proto import example_gen_pb2, pusher_pb2, trainer_pb2
from tfx.types.standard_artifacts import Model, ModelBlessing, Schema

from kubeflow import compiler
from kubeflow.baseline import Latest


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


def conditional(limit: int) -> tfx_pipeline.Pipeline:
    """Write runs if Draw has drawn more than `limit` numbers."""
    draw = Draw(count=3, words=json.dumps({"first": 10}), share=2.0)
    with Cond(draw.outputs["table"].future()[0].custom_property("rows") > limit):
        write = Write()
    return tfx_pipeline.Pipeline(pipeline_name="conditional", pipeline_root="", components=[draw, write])


# Penguins: a whole pipeline of TFX's own components.

MEASURED, SPECIES = ("mass", "flipper"), "species"  # columns of the CSV files


def write_penguins(folder: pathlib.Path, count: int = 60, heavier: int = 0) -> None:
    """Writes a CSV file of penguins of three species, which differ in what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{3000 + 900 * (n % 3) + n + heavier},{180 + 20 * (n % 3) + n % 5},{n % 3}" for n in range(count)]
    (folder / "data.csv").write_text("\n".join([",".join((*MEASURED, SPECIES)), *rows]) + "\n")


def preprocessing_fn(inputs: dict) -> dict:
    """Transform's: what was measured as z-scores."""
    import tensorflow_transform as tft

    return {name: tft.scale_to_z_score(inputs[name]) for name in MEASURED} | {SPECIES: inputs[SPECIES]}


def run_fn(arguments: FnArgs) -> None:
    """Trainer's: a small network, exported with the transformation inside."""
    import keras
    import tensorflow as tf
    import tensorflow_transform as tft

    transformed = tft.TFTransformOutput(arguments.transform_output)
    records = tf.data.TFRecordDataset(tf.io.gfile.glob(arguments.train_files), "GZIP")
    examples = tf.io.parse_example(list(records.as_numpy_iterator()), transformed.transformed_feature_spec())
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((len(MEASURED),)), keras.layers.Dense(3, "softmax")])
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    model.fit(tf.concat([examples[name] for name in MEASURED], 1), examples[SPECIES], epochs=30, verbose=2)

    served = tf.Module()
    served.model, served.transform = model, transformed.transform_features_layer()
    raw = {name: spec for name, spec in transformed.raw_feature_spec().items() if name in MEASURED}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def serve(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        features = served.transform(tf.io.parse_example(serialized, raw))
        return {"probabilities": model(tf.concat([features[name] for name in MEASURED], 1))}

    tf.saved_model.save(served, arguments.serving_model_dir, signatures={"serving_default": serve})


def penguins(data: str, push: str) -> tfx_pipeline.Pipeline:
    """From CSV files in folders `span-N`, of which the newest is taken, to a model that is not worse than the last.

    Args:
        data: the folder with the spans.
        push: where models are pushed to; the newest there is the baseline.
    """
    gate = config_pb2.MetricThreshold(
        value_threshold=config_pb2.GenericValueThreshold(lower_bound={"value": 0.6}),
        change_threshold=config_pb2.GenericChangeThreshold(
            absolute={"value": -0.1}, direction=config_pb2.MetricDirection.HIGHER_IS_BETTER
        ),
    )
    accuracy = config_pb2.MetricConfig(class_name="SparseCategoricalAccuracy", threshold=gate)
    judge = config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(signature_name="serving_default", label_key=SPECIES)],
        slicing_specs=[config_pb2.SlicingSpec()],
        metrics_specs=[config_pb2.MetricsSpec(metrics=[accuracy])],
    )
    split = example_gen_pb2.Input.Split(name="all", pattern="span-{SPAN}/*")
    examples = tfx_components.CsvExampleGen(input_base=data, input_config=example_gen_pb2.Input(splits=[split]))
    statistics = tfx_components.StatisticsGen(examples=examples.outputs["examples"])
    schema = tfx_components.SchemaGen(statistics=statistics.outputs["statistics"])
    transform = tfx_components.Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=f"{__name__}.preprocessing_fn",
    )
    trainer = tfx_components.Trainer(
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        run_fn=f"{__name__}.run_fn",
        train_args=trainer_pb2.TrainArgs(),
        eval_args=trainer_pb2.EvalArgs(),
    )
    baseline = Latest(Model, "model", history=push, under="Format-Serving").with_id("Baseline")
    evaluator = tfx_components.Evaluator(
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=baseline.outputs["model"],
        eval_config=judge,
    )
    pusher = tfx_components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=push)
        ),
    )
    return tfx_pipeline.Pipeline(
        pipeline_name="penguins",
        pipeline_root="",
        components=[examples, statistics, schema, transform, trainer, baseline, evaluator, pusher],
    )


def penguins_on_kubeflow(data: str, push: str) -> str:
    """The YAML. What depends on more than its inputs is never taken from the cache."""
    anew = compiler.Task(cache=False)
    tasks = dict.fromkeys(("CsvExampleGen", "Baseline", "Pusher"), anew)
    return compiler.compile(penguins(data, push), compiler.Options("registry.example.com/penguins", tasks=tasks))
