"""Evaluator: TFX's own, which also slices by features derived from the image, and keeps every prediction.

It keeps those of the validation split, too, without counting them in any metric or gate: what looks for wrong labels
(`review.suspects`) needs them.

The stock executor leaves no room for either: its extractors can be replaced, but a result of one cannot be written.
So this one puts the same TFMA evaluation together itself, from TFMA's public parts. Both serve from one pass of
predictions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from absl import logging
from apache_beam.io import parquetio
from tensorflow_model_analysis.proto import config_pb2
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.util import tfxio_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import io_utils, json_utils, path_utils, proto_utils

from components import by_slice, derived_features, records, robustness, tfma_metrics
from core.errors import UserError
from core.events import emit
from review import predictions
from trainer import features

CANDIDATE, BASELINE = "candidate", "baseline"  # names of the models in TFMA's config
UNCALIBRATED = "uncalibrated"  # name of a metric
CORRUPTED = "corrupted"  # folder of the evaluation on harmed examples, in the evaluation
ANALYSIS = "predictions"  # the key of the rows among TFMA's outputs
KEPT = "kept_splits"  # whose predictions are kept, and nothing else is done with


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
        if baseline and (why := incomparable(_served(model), _served(baseline))):
            logging.warning("No baseline: %s", why)
            emit("warning", text=f"the model is judged without the baseline, {why}")
            baseline = None
        config = config_pb2.EvalConfig()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.EVAL_CONFIG_KEY], config)
        splits = json_utils.loads(exec_properties[standard_component_specs.EXAMPLE_SPLITS_KEY])
        kept_splits = json_utils.loads(exec_properties[KEPT])
        first = next(records.read(artifact_utils.get_single_instance(examples), splits[0]))
        _check_slices(config, first)

        tfxio = tfxio_utils.get_tfxio_factory_from_artifact(
            examples, telemetry_descriptors=["Evaluator"], raw_record_column_name=tfma.constants.ARROW_INPUT_COLUMN
        )
        with self._make_beam_pipeline() as pipeline:

            def batches(splits: list[str]) -> beam.PCollection:
                return [
                    pipeline | f"Read {split} {number}" >> tfxio(io_utils.all_files_pattern(uri)).BeamSource()
                    for split in splits
                    for number, uri in enumerate(artifact_utils.get_split_uris(examples, split))
                ] | f"All of {', '.join(splits)}" >> beam.Flatten()

            _ = batches(splits) | evaluate(
                config,
                _served(model),
                _served(baseline) if baseline else None,
                output,
                own_features(first),
            )
            for split in kept_splits:
                folder = predictions.folder(output, split)
                _ = batches([split]) | f"Keep {split}" >> Keep(config, _served(model), folder)
        outputs = [output]
        if plan := robustness.Plan.read(exec_properties["robustness"]):
            emit("status", text="judging harmed pictures")
            harmed = os.path.join(output, CORRUPTED)
            self._judge_harmed(plan, examples, splits, _served(model), harmed)
            outputs += [harmed] if plan.floor is not None else []
        _bless(artifact_utils.get_single_instance(output_dict["blessing"]), outputs, model, baseline)

    def _judge_harmed(
        self, plan: robustness.Plan, examples: list[types.Artifact], splits: list[str], model: str, output: str
    ) -> None:
        """Evaluates a model on harmed examples of the splits."""
        total = sum(1 for artifact in examples for split in splits for _ in records.read(artifact, split))
        with self._make_beam_pipeline() as pipeline:
            read = [
                pipeline | f"Read {split} {number}" >> beam.io.ReadFromTFRecord(io_utils.all_files_pattern(uri))
                for split in splits
                for number, uri in enumerate(artifact_utils.get_split_uris(examples, split))
            ]
            _ = read | beam.Flatten() | robustness.Evaluate(plan, total, model, output)


def _served(model: types.Artifact) -> str:
    return path_utils.serving_model_path(model.uri)


def incomparable(model: str, baseline: str) -> str:
    """Why two SavedModels of this pipeline cannot be compared: they know other classes. "" if they can."""
    found = []
    for place in (model, baseline):
        path = os.path.join(place, features.CLASSES_FILE)
        if not fileio.exists(path):  # a model of somebody else, whose classes nobody knows
            return ""
        with fileio.open(path, "r") as file:
            found.append(json.loads(file.read()))
    ours, theirs = found
    if ours == theirs:
        return ""
    new, gone = ([name for name in one if name not in other] for one, other in ((ours, theirs), (theirs, ours)))
    words = [f"without {', '.join(new[:5])}"] if new else []
    words += [f"with {', '.join(gone[:5])}"] if gone else []
    return f"which has other classes: {', and '.join(words)}" if words else "which has the classes in another order"


def _measure_uncalibrated(config: config_pb2.EvalConfig, model: str) -> None:
    """Adds what the model would have been without its temperature, if it has one, to what is measured overall."""
    path = os.path.join(model, features.CALIBRATION_FILE)
    if not fileio.exists(path):  # a model of somebody else, or of before
        return
    with fileio.open(path, "r") as file:
        temperature = json.loads(file.read())["temperature"]
    if temperature != 1:
        metric = tfma_metrics.configured(tfma_metrics.Uncalibrated, UNCALIBRATED, temperature=temperature)
        config.metrics_specs[1].metrics.append(metric)


class EvaluatorSpec(component_spec.ComponentSpec):
    """The interface of TFX's Evaluator, and a fingerprint of the code for the cache."""

    PARAMETERS = {
        **standard_component_specs.EvaluatorSpec.PARAMETERS,
        "robustness": component_spec.ExecutionParameter(type=str),
        KEPT: component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = standard_component_specs.EvaluatorSpec.INPUTS
    OUTPUTS = standard_component_specs.EvaluatorSpec.OUTPUTS


class Evaluator(base_beam_component.BaseBeamComponent):
    """TFX's Evaluator with the executor and the interface above; outputs `evaluation` and `blessing`."""

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        eval_config: config_pb2.EvalConfig,
        splits: list[str],
        plan: robustness.Plan | None = None,
        kept_splits: Sequence[str] = (),
        code: str = "",
        **inputs: types.BaseChannel,
    ) -> None:
        """Args:
        eval_config: with thresholds, or there would be no blessing.
        splits: of the examples to evaluate on.
        plan: how examples are harmed for a second evaluation; None: there is none.
        kept_splits: others whose predictions are kept, and count in no metric and no gate.
        code: fingerprint of the code that evaluates.
        **inputs: `examples`, `model`, and `baseline_model`, which may be empty.
        """
        super().__init__(
            EvaluatorSpec(
                eval_config=eval_config,
                example_splits=json_utils.dumps(splits),
                robustness=plan.written() if plan else "",
                code=code,
                **{KEPT: json_utils.dumps(list(kept_splits))},
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
                **inputs,
            )
        )


def evaluate(
    config: config_pb2.EvalConfig, model: str, baseline: str | None, output: str, further: Sequence[str] = ()
) -> tfma.ExtractEvaluateAndWriteResults:
    """TFMA's evaluation of Arrow batches of raw examples.

    Args:
        config: with the model specs "candidate" and "baseline"; its first metrics spec is measured in every slice,
            the others over all examples only.
        model, baseline: SavedModels; no baseline the first time, when the gates against it do not apply.
        output: where results and predictions go.
        further: the data's own features, which are kept with the predictions.
    """
    config = tfma.utils.update_eval_config_with_defaults(config, has_baseline=bool(baseline), rubber_stamp=True)
    _measure_uncalibrated(config, model)
    if baseline:  # of which nothing more than what the gates and slices compare is asked
        for spec in config.metrics_specs[1:]:
            spec.model_names.append(CANDIDATE)
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
            tfma.writers.Writer("WritePredictions", _WritePredictions(predictions.folder(output), further)),
        ],
        output_path=output,
    )


def own_features(example: bytes) -> list[str]:
    """The names of the features that the data brought along (data.features), by the alphabet."""
    ours = {features.IMAGE, features.LABEL, features.CLASS_NAME, features.ID, *predictions.SCHEMA.names}
    return sorted(set(tf.train.Example.FromString(example).features.feature) - ours)


class Keep(beam.PTransform):
    """Keeps what a model says of Arrow batches of raw examples, and measures nothing."""

    def __init__(self, config: config_pb2.EvalConfig, model: str, folder: str) -> None:
        """Args:
        config: whose candidate says how to ask the model.
        model: SavedModel.
        folder: for the predictions.
        """
        super().__init__()
        specs = [spec for spec in config.model_specs if not spec.is_baseline]
        self._config = tfma.utils.update_eval_config_with_defaults(config_pb2.EvalConfig(model_specs=specs))
        self._model = model
        self._folder = folder

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        model = tfma.default_eval_shared_model(
            eval_saved_model_path=self._model,
            model_name=self._config.model_specs[0].name,
            eval_config=self._config,
        )
        return (
            batches
            | "Inputs" >> tfma.BatchedInputsToExtracts()
            | tfma.ExtractAndEvaluate(extractors=_extractors(model, self._config), evaluators=[_table_evaluator()])
            | _WritePredictions(self._folder)
        )


def _table_evaluator() -> tfma.evaluators.Evaluator:
    """Gives every example with its prediction."""
    return tfma.evaluators.AnalysisTableEvaluator(key=ANALYSIS, include=None, exclude=[tfma.INPUT_KEY])


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
    """TFMA's own by slices, once for the slices and once for all examples, and the one that keeps the predictions."""
    sliced, overall = (config_pb2.EvalConfig.FromString(config.SerializeToString()) for _ in range(2))
    del sliced.metrics_specs[1:], overall.metrics_specs[:1]
    return [by_slice.evaluator(sliced, models), by_slice.overall_evaluator(overall, models), _table_evaluator()]


def _derive(extracts: tfma.Extracts) -> tfma.Extracts:
    given = extracts[tfma.FEATURES_KEY]
    derived = derived_features.derive(_only(given[features.IMAGE]))
    kept = {key: value for key, value in given.items() if key != features.IMAGE}  # slicing needs no pixels
    kept |= {key: np.array([value]) for key, value in derived.items()}
    return {**extracts, tfma.FEATURES_KEY: kept}


class _WritePredictions(beam.PTransform):
    def __init__(self, folder: str, further: Sequence[str] = ()) -> None:
        super().__init__()
        self._folder = folder
        self._further = further

    def expand(self, evaluation: dict[str, beam.PCollection]) -> beam.PCollection:
        return (
            evaluation[ANALYSIS]
            | beam.Map(_row, self._further)
            | parquetio.WriteToParquet(
                os.path.join(self._folder, "part"), predictions.schema(self._further), file_name_suffix=".parquet"
            )
        )


def _row(extracts: tfma.Extracts, further: Sequence[str]) -> dict[str, object]:
    given = extracts[tfma.FEATURES_KEY]
    answer = extracts[tfma.PREDICTIONS_KEY]
    label = extracts[tfma.LABELS_KEY]
    if isinstance(answer, dict):  # with a baseline, one for each model
        answer, label = answer[CANDIDATE], label[CANDIDATE] if isinstance(label, dict) else label
    derived = {key: _only(given[key]) for key in (*derived_features.NAMES, "width", "height", "digest")}
    own = {key: _text(given.get(key)) for key in further}
    id, class_name = (_only(given[key]).decode() for key in (features.ID, features.CLASS_NAME))
    return predictions.row(id, int(_only(label)), class_name, np.ravel(answer), derived | own)


def _only(values: np.ndarray) -> Any:
    """The one value of a feature."""
    value = np.ravel(values)[0]
    return value.item() if isinstance(value, np.generic) else value


def _text(values: np.ndarray | None) -> str:
    """The one value of a feature that an example need not have, as text."""
    if values is None or not np.size(values) or (value := _only(values)) is None:
        return ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _bless(
    blessing: types.Artifact, outputs: list[str], model: types.Artifact, baseline: types.Artifact | None
) -> None:
    """Writes down what TFMA decided in every evaluation, with the files and properties of TFX's own Evaluator."""
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri)
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if baseline:
        blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri)
        blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id)
    passed = all(tfma.load_validation_result(output).validation_ok for output in outputs)
    name, value = (
        (constants.BLESSED_FILE_NAME, constants.BLESSED_VALUE)
        if passed
        else (constants.NOT_BLESSED_FILE_NAME, constants.NOT_BLESSED_VALUE)
    )
    io_utils.write_string_file(os.path.join(blessing.uri, name), "")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
