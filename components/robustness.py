"""How a model bears a worse camera: TFMA's accuracy on test examples that were harmed, by kind, strength and class.

Every chosen example is judged as it is, and once for each kind and strength (`components.corruptions`). It is harmed
as the network sees it, decoded and resized, so that the numbers do not depend on how large the pictures are stored.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zlib
from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import PIL.Image
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2
from tfx_bsl.tfxio import tf_example_record

from components import by_slice, corruptions, tfma_metrics
from core.images import colour
from core.settings import Settings
from trainer import features, images

KIND, STRENGTH, HARMED = "corruption", "strength", "corrupted"  # features of the examples
NONE, YES, NO = "none", "yes", "no"
PICTURE, SIDE = "harmed.png", 96  # file in images.zip; pixels of a side of each example in it
ACCURACY, COUNT = "accuracy", "example_count"
SLICES = ((HARMED,), (KIND,), (KIND, STRENGTH), (features.CLASS_NAME, HARMED), (features.CLASS_NAME, KIND))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is harmed and how.

    Attributes:
        kinds: of `corruptions.KINDS`.
        examples: how many, about; 0: all.
        image_size: side in pixels to which they are resized before.
        fit, background: how they become squares, and the colour of margins, see `settings`.
        floor: of the mean accuracy over all kinds and strengths; None: the model may be as bad as it likes.
    """

    kinds: tuple[str, ...]
    examples: int
    image_size: int
    floor: float | None = None
    fit: str = images.STRETCH
    background: str = "white"

    def written(self) -> str:
        """As JSON, for the properties of a node."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def read(cls, text: str) -> Plan | None:
        """What `written` wrote; None of an empty text."""
        if not text:
            return None
        found = json.loads(text)
        return cls(**{**found, "kinds": tuple(found["kinds"])})

    @classmethod
    def of(cls, settings: Settings) -> Plan | None:
        """That of a run's settings; None if it has none."""
        chosen = settings.evaluation
        if not chosen.corruptions:
            return None
        return cls(
            chosen.corruptions,
            chosen.corrupted_examples,
            settings.preprocessing.image_size,
            settings.gates.min_corrupted_accuracy,
            settings.preprocessing.fit,
            settings.data.background,
        )

    def decode(self, encoded: bytes) -> np.ndarray:
        """The pixels of an image as the network sees it, uint8 [image_size, image_size, 3]."""
        return images.decode(encoded, self.image_size, fit=images.Fit(self.fit, colour(self.background))).numpy()


def eval_config(plan: Plan) -> config_pb2.EvalConfig:
    """What TFMA measures, and the gate."""
    accuracy = tfma_metrics.configured(tfma_metrics.Accuracy, ACCURACY)
    if plan.floor is not None:
        threshold = config_pb2.MetricThreshold()
        threshold.value_threshold.lower_bound.value = plan.floor
        where = config_pb2.SlicingSpec(feature_values={HARMED: YES})
        accuracy.per_slice_thresholds.add(slicing_specs=[where], threshold=threshold)
    return config_pb2.EvalConfig(
        model_specs=[config_pb2.ModelSpec(signature_name=features.EVALUATION_SIGNATURE, label_key=features.LABEL)],
        slicing_specs=[config_pb2.SlicingSpec(feature_keys=names) for names in SLICES],
        metrics_specs=[
            config_pb2.MetricsSpec(metrics=[accuracy, tfma_metrics.configured(tfma_metrics.Count, COUNT)])
        ],
    )


def harmed(plan: Plan, share: float, serialized: bytes) -> Iterator[bytes]:
    """An example as it is and harmed in every way, or nothing.

    Args:
        plan: what to do.
        share: of the examples that are taken, by a hash of their ids.
        serialized: tf.Example with the raw features.

    Yields:
        tf.Examples of the label, the class name, the image as PNG, and KIND, STRENGTH and HARMED.
    """
    given = tf.train.Example.FromString(serialized).features.feature
    id = given[features.ID].bytes_list.value[0]
    if zlib.crc32(b"corrupted " + id) >= share * 2**32:
        return
    pixels = plan.decode(given[features.IMAGE].bytes_list.value[0])
    variants = [(NONE, 0, pixels)]
    variants += [
        (kind, strength, corruptions.corrupt(pixels, kind, strength, id.decode()))
        for kind in plan.kinds
        for strength in corruptions.STRENGTHS
    ]
    for kind, strength, changed in variants:
        example = tf.train.Example()
        found = example.features.feature
        for name in (features.LABEL, features.CLASS_NAME):
            found[name].CopyFrom(given[name])
        found[features.IMAGE].bytes_list.value.append(tf.io.encode_png(changed).numpy())
        found[KIND].bytes_list.value.append(kind.encode())
        found[STRENGTH].bytes_list.value.append(str(strength).encode())
        found[HARMED].bytes_list.value.append((YES if strength else NO).encode())
        yield example.SerializeToString()


@beam.ptransform_fn
def Evaluate(examples: beam.PCollection, plan: Plan, total: int, model: str, output: str) -> object:
    """TFMA's evaluation of serialized raw examples, harmed.

    Args:
        examples: of bytes.
        plan: what to do.
        total: how many examples there are.
        model: a SavedModel.
        output: where TFMA's result goes.
    """
    share = min(1.0, plan.examples / total) if plan.examples else 1.0
    config = tfma.utils.update_eval_config_with_defaults(eval_config(plan))
    source = tf_example_record.TFExampleBeamRecord(
        "inmem", telemetry_descriptors=["Robustness"], raw_record_column_name=tfma.constants.ARROW_INPUT_COLUMN
    )
    shared = tfma.default_eval_shared_model(eval_saved_model_path=model, eval_config=config)
    return (
        examples
        | "Harm" >> beam.FlatMap(lambda example: harmed(plan, share, example))
        | "Batch" >> source.BeamSource()
        | tfma.ExtractEvaluateAndWriteResults(
            eval_shared_model=shared,
            eval_config=config,
            evaluators=[by_slice.evaluator(config, shared)],
            output_path=output,
        )
    )


def load(path: str) -> dict | None:
    """TFMA's result in the form of `review.report.schema.Corruptions`; None if there is none, or of no example."""
    try:
        result = tfma.load_eval_result(path)
    except (OSError, ValueError, tf.errors.NotFoundError):
        return None
    found = {
        tuple(sorted((name, str(value)) for name, value in key)): outputs[""][""]
        for key, outputs in result.slicing_metrics
    }
    if not found:
        return None

    def accuracy(**values: str) -> float | None:
        measured = found.get(tuple(sorted(values.items())))
        return tfma_metrics.number(measured[ACCURACY]) if measured else None

    named = [dict(key) for key in found]
    kinds = [kind for kind in corruptions.KINDS if {KIND: kind} in named]
    names = sorted({values[features.CLASS_NAME] for values in named if features.CLASS_NAME in values})
    return {
        "examples": round(tfma_metrics.number(found[(HARMED, NO),][COUNT])),
        "copies": round(tfma_metrics.number(found[(HARMED, YES),][COUNT])),
        "accuracy": accuracy(**{HARMED: YES}),
        "unharmed_accuracy": accuracy(**{HARMED: NO}),
        "kinds": [
            {
                "kind": kind,
                "accuracy": accuracy(**{KIND: kind}),
                "accuracies": [
                    accuracy(**{KIND: kind, STRENGTH: str(strength)}) for strength in corruptions.STRENGTHS
                ],
            }
            for kind in kinds
        ],
        "classes": [
            {
                "class_name": name,
                "unharmed_recall": accuracy(**{features.CLASS_NAME: name, HARMED: NO}),
                "recall": accuracy(**{features.CLASS_NAME: name, HARMED: YES}),
                "recalls": [accuracy(**{features.CLASS_NAME: name, KIND: kind}) for kind in kinds],
            }
            for name in names
        ],
    }


def picture(serialized: bytes, plan: Plan) -> bytes:
    """An example as it is and harmed, as a PNG: the kinds below each other, to the right by strength."""
    given = tf.train.Example.FromString(serialized).features.feature
    pixels = plan.decode(given[features.IMAGE].bytes_list.value[0])
    id = given[features.ID].bytes_list.value[0].decode()
    rows = [
        np.hstack([pixels, *(corruptions.corrupt(pixels, kind, strength, id) for strength in corruptions.STRENGTHS)])
        for kind in plan.kinds
    ]
    sheet = PIL.Image.fromarray(np.vstack(rows))
    if (scale := SIDE // plan.image_size) > 1:
        sheet = sheet.resize((sheet.width * scale, sheet.height * scale), PIL.Image.Resampling.NEAREST)
    sheet.thumbnail((SIDE * (1 + len(corruptions.STRENGTHS)), SIDE * len(plan.kinds)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
