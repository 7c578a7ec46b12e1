"""EvaluationReport: one page, and one JSON file, with all that is needed to decide whether a model may serve.

It runs between Evaluator and Pusher, so that the model card can be pushed with the model.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from typing import Any, cast

import keras
import tensorflow as tf
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

import trainer.model  # noqa: F401  its layers, which a Keras file may name
from components import data_check, derived_features, evaluation, records, robustness, saliency_maps, serving_check
from components.records import REPORT as INGEST
from core.events import emit
from core.images import colour
from core.settings import AROUND, Settings
from review import duplicates, near_duplicates, predictions, results, weak_slices
from review.report import build, card, page, schema
from review.report import suspects as suspected_part
from trainer import export, features
from trainer.images import Fit

PASTS = 100  # evaluations that a report shows the course of


class Report(types.Artifact):
    """`report.html`, `report.json` (form: review.report.schema), `images.zip`, `model_card.md` and `suspects.csv`."""

    TYPE_NAME = "alexnet.EvaluationReport"  # Kubeflow wants two parts


class Executor(base_executor.BaseExecutor):
    """Reads the artifacts and writes the report."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the files of the report into `report`."""
        given = {key: artifacts[0] for key, artifacts in input_dict.items() if artifacts}
        settings = Settings(**json.loads(exec_properties["settings"]))
        previous = read_report(given["previous_report"].uri) if "previous_report" in given else None
        emit("status", text="writing the report")
        report, files = gather(given, settings, previous, getattr(self._context, "pipeline_run_id", None))
        output = artifact_utils.get_single_uri(output_dict["report"])
        write(output, report, files)
        with fileio.open(os.path.join(output, build.CARD), "w") as file:
            file.write(card.markdown(report))
        if report.suspects:
            with fileio.open(os.path.join(output, suspected_part.LIST), "w") as file:
                file.write(suspected_part.listed(report))


class ReportSpec(component_spec.ComponentSpec):
    """EvaluationReport's interface."""

    PARAMETERS = {
        "settings": component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        "infra_blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_run": component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
        "anomalies": component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        "distribution": component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        "tuner_results": component_spec.ChannelParameter(type=standard_artifacts.TunerResults, optional=True),
        "previous_report": component_spec.ChannelParameter(type=Report, optional=True),
    }
    OUTPUTS = {"report": component_spec.ChannelParameter(type=Report)}


class EvaluationReport(base_component.BaseComponent):
    """Writes the report of an evaluation; output `report`."""

    SPEC_CLASS = ReportSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        settings: Settings,
        code: str = "",
        tuner_results: types.BaseChannel | None = None,
        previous_report: types.BaseChannel | None = None,
        **inputs: types.BaseChannel,
    ) -> None:
        """Args:
        settings: of the run; the report shows them.
        code: fingerprint of the code that writes the report, for the cache.
        tuner_results: of the search that found the recipe, if there was one.
        previous_report: of the run before, which hands on the history.
        **inputs: the required inputs of `ReportSpec`.
        """
        super().__init__(
            ReportSpec(
                settings=json.dumps(settings.model_dump(mode="json", exclude=AROUND), sort_keys=True),
                code=code,
                tuner_results=tuner_results,
                previous_report=previous_report,
                report=types.Channel(type=Report),
                **inputs,
            )
        )


def gather(
    given: dict[str, types.Artifact],
    settings: Settings,
    previous: schema.Report | None,
    run_id: str | None,
) -> tuple[schema.Report, dict[str, bytes]]:
    """The report of an evaluation, and its pictures by file name.

    Args:
        given: the inputs of `ReportSpec` by their names.
        settings: of the run; the report shows the recipe that was used, which Tuner may have changed.
        previous: the report of the run before.
        run_id: of the pipeline run.
    """
    used = _read_json(given["model_run"].uri, "recipe.json")
    settings = Settings(**{**settings.model_dump(), **used})
    ingested = _read_json(given["examples"].uri, INGEST)
    served = _read_json(given["infra_blessing"].uri, serving_check.RESULT)
    blessed = given["blessing"].get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
    serves = given["infra_blessing"].get_int_custom_property("blessed") == 1
    repeated = records.duplicates(given["examples"].uri)
    near = records.near_duplicates(given["examples"].uri)
    measured = {"data": ingested, "blessed": blessed, **evaluation.measured(given["evaluation"].uri, repeated, near)}
    evaluated = cast(dict, results.evaluate(measured, settings))  # a candidate was measured
    state = "cleared" if blessed and serves else "not pushed"
    sentence = results.verdict({"state": state, "evaluation": evaluated, "serving_check": served})
    made = datetime.datetime.now().isoformat(timespec="seconds")
    plan = robustness.Plan.of(settings)
    if evaluated["corruptions"]:
        evaluated["corruptions"]["picture"] = robustness.PICTURE
    part = schema.Evaluation(**evaluated)
    past = schema.Past(
        run=run_id or "",
        made=made,
        count=part.count,
        accuracy=part.accuracy,
        recalls={row.class_name: row.recall for row in part.classes},
        blessed=blessed,
    )
    table = predictions.read(given["evaluation"].uri)
    weak = weak_slices.find(table, settings.evaluation)
    chosen = build.choose(table, [row.class_name for row in part.classes], weak.rows if weak else ())
    twins = duplicates.choose(repeated)
    temperature = part.uncalibrated.temperature if part.uncalibrated else 1.0
    suspected = suspected_part.find(given["evaluation"].uri, part.class_names, ingested, temperature)
    wanted = suspected_part.with_wanted(build.wanted(table, chosen, twins), suspected)
    pairs = near_duplicates.choose(near)
    for split, keys in near_duplicates.keys(pairs).items():
        wanted.setdefault(split, set()).update(keys)
    images = read_images(given["examples"], wanted)
    pictures, files = build.pictures(table, chosen, images, part.class_names)
    if plan and part.corruptions:
        files[robustness.PICTURE] = robustness.picture(next(records.read(given["examples"], "test")), plan)
    if weak:
        found = weak.record({row: picture.file for (row, _), picture in zip(chosen, pictures, strict=True)})
        part = part.model_copy(update={"weak_slices": schema.WeakSlices(**found)})
    network = load(path_utils.serving_model_path(given["model"].uri))
    maps = None
    if settings.evaluation.saliency_maps:
        encoded = [images[build.key(table.iloc[row])] for row, _ in chosen]
        fit = Fit(settings.preprocessing.fit, colour(settings.data.background))
        pictures, drawn, maps = saliency_maps.add(network, pictures, encoded, part.class_names, fit)
        files |= drawn
    shown, more = build.duplicate_pictures(twins, images)
    files |= more
    suspects, more = suspected_part.pictures(suspected, images)
    files |= more
    near_shown, near_files = build.near_pairs(pairs, images)
    files |= near_files
    report = schema.Report(
        name=settings.name,
        made=made,
        verdict=schema.Verdict(state=state, sentence=sentence),
        run=schema.Run(id=run_id) if run_id else None,
        model=describe(settings, network),
        evaluation=part,
        pictures=pictures,
        maps=maps,
        data=_data(ingested, given, twins, shown, near_shown),
        suspects=suspects,
        training=_read_json(given["model_run"].uri, "history.json")["epochs"],
        tuning=results.trials(_read_json(given["tuner_results"].uri, "tuner_results.json"))
        if "tuner_results" in given
        else [],
        serving=schema.Serving(**served),
        history=course(previous, past),
        settings=settings.model_dump(mode="json", exclude=AROUND),
        versions=build.versions(),
        lineage=[
            schema.Artifact(
                name=key, type=artifact.type_name, id=artifact.id, uri=artifact.uri, producer="", made_from=[]
            )
            for key, artifact in given.items()
        ],
    )
    return report, files


def read_images(examples: types.Artifact, wanted: Mapping[str, set[build.Key]]) -> dict[build.Key, bytes]:
    """The encoded images of some examples.

    Args:
        examples: to read from.
        wanted: split -> id of an example and digest of its pixels, since an id need not be an example's own; an empty
            digest takes any. A split is read no further than to the last of them.
    """
    found: dict[build.Key, bytes] = {}
    for split, keys in wanted.items():
        ids, missing = {id for id, _ in keys}, set(keys)
        for record in records.read(examples, split) if missing else ():
            feature = tf.train.Example.FromString(record).features.feature
            id = feature[features.ID].bytes_list.value[0].decode()
            if id not in ids:
                continue
            image = feature[features.IMAGE].bytes_list.value[0]
            for key in {(id, ""), (id, derived_features.digest(image))} & missing:
                found[key] = image
                missing.remove(key)
            if not missing:
                break
    return found


def load(model: str) -> keras.Model | None:
    """The network in an exported model; None where it is not ours and has no Keras file."""
    path = os.path.join(model, export.KERAS_FILE)
    return keras.models.load_model(path, compile=False) if fileio.exists(path) else None


def course(previous: schema.Report | None, past: schema.Past) -> list[schema.Past]:
    """The history that a report hands on: of nightly runs it would grow for ever; `alexnet history` shows all."""
    return [*(previous.history if previous else ()), past][-PASTS:]


def describe(settings: Settings, network: keras.Model | None) -> str:
    """The network in a sentence."""
    chosen = settings.model
    kind = {"paper": "AlexNet as published", "cifar": "AlexNet with a stem for small images"}[chosen.variant]
    normalization = {"batch": "batch", "lrn": "local response", "none": "no"}[chosen.normalization]
    parameters = f", {network.count_params():,} parameters" if network else ""
    views = f", answers averaged over {chosen.views} views of an image" if chosen.views > 1 else ""
    return (
        f"{kind}, width {chosen.width:g}, {normalization} normalization, input {chosen.input_size} × "
        f"{chosen.input_size} pixels{parameters}{views}"
    )


def write(folder: str, report: schema.Report, files: dict[str, bytes]) -> None:
    """Writes report.json, images.zip and report.html into a folder of the artifact store."""
    fileio.makedirs(folder)
    html = page.render(report, files, card.html(report))
    for name, content in (
        (build.PICTURES, build.zipped(files)),
        (build.REPORT, build.to_json(report).encode()),
        (build.PAGE, html.encode()),
    ):
        with fileio.open(os.path.join(folder, name), "wb") as file:
            file.write(content)


def read_report(uri: str) -> schema.Report:
    """The report of another run."""
    return schema.Report(**_read_json(uri, build.REPORT))


def _data(
    ingested: dict,
    given: dict[str, types.Artifact],
    twins: duplicates.Chosen,
    shown: list[schema.DuplicatePicture],
    near_shown: list[schema.NearPair],
) -> schema.Data:
    anomalies = []
    for split in artifact_utils.decode_split_names(given["anomalies"].split_names):
        found = data_check.read_anomalies(os.path.join(given["anomalies"].uri, f"Split-{split}", "SchemaDiff.pb"))
        anomalies += [f"{split}: {words}" for words in data_check.words(found)]
    compared = data_check.read_anomalies(os.path.join(given["distribution"].uri, "Split-train", "SchemaDiff.pb"))
    distributions = [
        schema.Distribution(what=what, value=measurement.value, limit=measurement.threshold)
        for info in compared.drift_skew_info
        for what, measurements in (("skew", info.skew_measurements), ("drift", info.drift_measurements))
        for measurement in measurements
    ]
    kept = {key: ingested[key] for key in ("source", "class_names", "counts", "bad", "bad_records", "ignored")}
    found = ingested.get("duplicates")
    if found:
        found = {**found, "kinds": {kind: count for kind, (_, count) in twins.items()}, "shown": shown}
    near = ingested.get("near_duplicates")
    if near:
        near = {**near, "shown": near_shown}
    kept |= {key: ingested.get(key) or None for key in ("fingerprint", "read", "due", "corrections")}
    return schema.Data(
        **kept, anomalies=anomalies, distributions=distributions, duplicates=found, near_duplicates=near
    )


def _read_json(uri: str, name: str) -> Any:
    with fileio.open(os.path.join(uri, name), "r") as file:
        return json.loads(file.read())
