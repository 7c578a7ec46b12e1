"""Evaluator: TFX's own, which also slices by features derived from the image, and keeps every prediction.

The stock executor leaves no room for either: its extractors can be replaced, but a result of one cannot be written.
So this one puts the same TFMA evaluation together itself, from TFMA's public parts. Both serve from one pass of
predictions.
"""

from __future__ import annotations

import os
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from apache_beam.io import parquetio
from tensorflow_model_analysis.proto import config_pb2
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.util import tfxio_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import io_utils, json_utils, path_utils, proto_utils

from components import derived_features, records
from core.errors import UserError
from review import predictions
from trainer import features

CANDIDATE, BASELINE = "candidate", "baseline"  # names of the models in TFMA's config
ANALYSIS = "predictions"  # the key of the rows among TFMA's outputs


class Executor(base_beam_executor.BaseBeamExecutor):
    """Evaluates the model, and the baseline if there is one, on the named splits."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes TFMA's result and the predictions into `evaluation`, and the word of TFMA into `blessing`.

        Raises:
            UserError: a feature to slice by is in no example.
        """
        output = artifact_utils.get_single_uri(output_dict[standard_component_specs.EVALUATION_KEY])
        examples = input_dict[standard_component_specs.EXAMPLES_KEY]
        model = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_KEY])
        baseline = next(iter(input_dict.get(standard_component_specs.BASELINE_MODEL_KEY) or []), None)
        config = config_pb2.EvalConfig()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.EVAL_CONFIG_KEY], config)
        splits = json_utils.loads(exec_properties[standard_component_specs.EXAMPLE_SPLITS_KEY])
        _check_slices(config, next(records.read(artifact_utils.get_single_instance(examples), splits[0])))

        tfxio = tfxio_utils.get_tfxio_factory_from_artifact(
            examples, telemetry_descriptors=["Evaluator"], raw_record_column_name=tfma.constants.ARROW_INPUT_COLUMN
        )
        with self._make_beam_pipeline() as pipeline:
            batches = [
                pipeline | f"Read {split} {number}" >> tfxio(io_utils.all_files_pattern(uri)).BeamSource()
                for split in splits
                for number, uri in enumerate(artifact_utils.get_split_uris(examples, split))
            ]
            _ = (
                batches
                | beam.Flatten()
                | evaluate(
                    config,
                    path_utils.serving_model_path(model.uri),
                    path_utils.serving_model_path(baseline.uri) if baseline else None,
                    output,
                )
            )
        _bless(artifact_utils.get_single_instance(output_dict["blessing"]), output, model, baseline)


class EvaluatorSpec(component_spec.ComponentSpec):
    """The interface of TFX's Evaluator, and a fingerprint of the code for the cache."""

    PARAMETERS = {
        **standard_component_specs.EvaluatorSpec.PARAMETERS,
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = standard_component_specs.EvaluatorSpec.INPUTS
    OUTPUTS = standard_component_specs.EvaluatorSpec.OUTPUTS


class Evaluator(base_beam_component.BaseBeamComponent):
    """TFX's Evaluator with the executor and the interface above; outputs `evaluation` and `blessing`."""

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self, eval_config: config_pb2.EvalConfig, splits: list[str], code: str = "", **inputs: types.BaseChannel
    ) -> None:
        """Args:
        eval_config: with thresholds, or there would be no blessing.
        splits: of the examples to evaluate on.
        code: fingerprint of the code that evaluates.
        **inputs: `examples`, `model`, and `baseline_model`, which may be empty.
        """
        super().__init__(
            EvaluatorSpec(
                eval_config=eval_config,
                example_splits=json_utils.dumps(splits),
                code=code,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
                **inputs,
            )
        )


def evaluate(
    config: config_pb2.EvalConfig, model: str, baseline: str | None, output: str
) -> tfma.ExtractEvaluateAndWriteResults:
    """TFMA's evaluation of Arrow batches of raw examples.

    Args:
        config: with the model specs "candidate" and "baseline"; its first metrics spec is measured in every slice,
            the others over all examples only.
        model, baseline: SavedModels; no baseline the first time, when the gates against it do not apply.
        output: where results and predictions go.
    """
    config = tfma.utils.update_eval_config_with_defaults(config, has_baseline=bool(baseline), rubber_stamp=True)
    tfma.utils.verify_eval_config(config)
    models = [
        tfma.default_eval_shared_model(
            eval_saved_model_path=baseline if spec.is_baseline else model, model_name=spec.name, eval_config=config
        )
        for spec in config.model_specs
    ]
    models = models[0] if len(models) == 1 else models
    return tfma.ExtractEvaluateAndWriteResults(
        eval_shared_model=models,
        eval_config=config,
        extractors=_extractors(models, config),
        evaluators=_evaluators(models, config),
        writers=[
            *tfma.default_writers(output_path=output, eval_shared_model=models, eval_config=config),
            tfma.writers.Writer("WritePredictions", _WritePredictions(os.path.join(output, predictions.FOLDER))),
        ],
        output_path=output,
    )


def _check_slices(config: config_pb2.EvalConfig, example: bytes) -> None:
    """Raises UserError if the examples lack a feature to slice by; TFMA would just leave the slices out."""
    known = {*tf.train.Example.FromString(example).features.feature, *derived_features.NAMES}
    known -= {features.IMAGE, features.ID}
    for spec in config.slicing_specs:
        for key in spec.feature_keys:
            if key not in known:
                raise UserError(
                    f"evaluation.slices names {key}, which the examples do not have: "
                    f"they have {', '.join(sorted(known))}."
                )


def _extractors(models: Any, config: config_pb2.EvalConfig) -> list:
    """TFMA's own, with the derived features put in where each example stands alone and has no slices yet."""
    stock = tfma.default_extractors(eval_shared_model=models, eval_config=config)
    place = next(n for n, e in enumerate(stock) if e.stage_name == tfma.extractors.SLICE_KEY_EXTRACTOR_STAGE_NAME)
    ours = tfma.extractors.Extractor("DeriveFeatures", beam.Map(_derive))
    return [*stock[:place], ours, *stock[place:]]


def _evaluators(models: Any, config: config_pb2.EvalConfig) -> list:
    """TFMA's own, once for the slices and once for all examples, and the one that keeps the predictions."""
    sliced, overall = (config_pb2.EvalConfig.FromString(config.SerializeToString()) for _ in range(2))
    del sliced.metrics_specs[1:], overall.metrics_specs[:1]
    whole = tfma.evaluators.MetricsPlotsAndValidationsEvaluator(overall, models)
    return [
        *tfma.default_evaluators(eval_shared_model=models, eval_config=sliced),
        whole._replace(stage_name="EvaluateOverall", ptransform=_Overall(whole.ptransform)),
        tfma.evaluators.AnalysisTableEvaluator(key=ANALYSIS, include=None, exclude=[tfma.INPUT_KEY]),
    ]


class _Overall(beam.PTransform):
    """An evaluator's metrics and plots over all examples; TFMA itself measures everything in every slice."""

    def __init__(self, stock: beam.PTransform) -> None:
        super().__init__()
        self._stock = stock

    def expand(self, extracts: beam.PCollection) -> dict[str, beam.PCollection]:
        found = extracts | beam.Map(lambda extract: {**extract, tfma.SLICE_KEY_TYPES_KEY: [()]}) | self._stock
        return {key: found[key] for key in (tfma.METRICS_KEY, tfma.PLOTS_KEY)}


def _derive(extracts: tfma.Extracts) -> tfma.Extracts:
    given = extracts[tfma.FEATURES_KEY]
    derived = derived_features.derive(_only(given[features.IMAGE]))
    kept = {key: value for key, value in given.items() if key != features.IMAGE}  # slicing needs no pixels
    kept |= {key: np.array([value]) for key, value in derived.items()}
    return {**extracts, tfma.FEATURES_KEY: kept}


class _WritePredictions(beam.PTransform):
    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    def expand(self, evaluation: dict[str, beam.PCollection]) -> beam.PCollection:
        return (
            evaluation[ANALYSIS]
            | beam.Map(_row)
            | parquetio.WriteToParquet(
                os.path.join(self._folder, "part"), predictions.SCHEMA, file_name_suffix=".parquet"
            )
        )


def _row(extracts: tfma.Extracts) -> dict[str, object]:
    given = extracts[tfma.FEATURES_KEY]
    answer = extracts[tfma.PREDICTIONS_KEY]
    label = extracts[tfma.LABELS_KEY]
    if isinstance(answer, dict):  # with a baseline, one for each model
        answer, label = answer[CANDIDATE], label[CANDIDATE] if isinstance(label, dict) else label
    derived = {key: _only(given[key]) for key in (*derived_features.NAMES, "width", "height", "digest")}
    id, class_name = (_only(given[key]).decode() for key in (features.ID, features.CLASS_NAME))
    return predictions.row(id, int(_only(label)), class_name, np.ravel(answer), derived)


def _only(values: np.ndarray) -> Any:
    """The one value of a feature."""
    value = np.ravel(values)[0]
    return value.item() if isinstance(value, np.generic) else value


def _bless(blessing: types.Artifact, output: str, model: types.Artifact, baseline: types.Artifact | None) -> None:
    """Writes down what TFMA decided, with the files and properties of TFX's own Evaluator."""
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if baseline:
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri)
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id)
    passed = tfma.load_validation_result(output).validation_ok
    name, value = (
        (constants.BLESSED_FILE_NAME, constants.BLESSED_VALUE)
        if passed
        else (constants.NOT_BLESSED_FILE_NAME, constants.NOT_BLESSED_VALUE)
    )
    io_utils.write_string_file(os.path.join(blessing.uri, name), "")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
