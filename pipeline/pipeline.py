"""The one DAG, for every runner."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Protocol

import tensorflow_data_validation as tfdv
from tfx import components as tfx_components
from tfx import types
from tfx.dsl.components.base import base_node
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2
from tfx.types.channel import OutputChannel

from components import evaluation, robustness, schemas
from components.data_check import DataCheck
from components.evaluation_report import EvaluationReport
from components.evaluator import Evaluator
from components.example_gen import ImageExampleGen
from components.pusher import Pusher
from components.schema_gen import ImageSchemaGen
from components.serving_check import ServingCheck
from core import fingerprint
from core.settings import Settings

# What a node computes with: when one of these files changes, its cached results count no more.
PREPROCESSING_CODE = (
    "core/images.py",
    "trainer/preprocessing.py",
    "trainer/images.py",
    "trainer/features.py",
    "trainer/summary.py",
)
TRAINING_CODE = ("core/images.py", "trainer")
EVALUATION_CODE = (
    "components/by_slice.py",
    "components/corruptions.py",
    "components/evaluator.py",
    "components/derived_features.py",
    "components/records.py",
    "components/robustness.py",
    "components/tfma_metrics.py",
    "core/images.py",
    "core/near_duplicates.py",
    "core/repeated.py",
    "review/gates.py",
    "review/predictions.py",
    "review/statistics.py",
    "trainer/images.py",
)
REPORT_CODE = (
    "components/evaluation.py",
    "components/evaluation_report.py",
    "components/records.py",
    "components/robustness.py",
    "components/saliency_maps.py",
    "components/tfma_metrics.py",
    "core/corrections.py",
    "core/near_duplicates.py",
    "core/repeated.py",
    "review/duplicates.py",
    "review/gates.py",
    "review/near_duplicates.py",
    "review/notes.py",
    "review/predictions.py",
    "review/report",
    "review/results.py",
    "review/statistics.py",
    "review/suspects.py",
    "review/weak_slices.py",
    "review/weak_words.py",
    "trainer/images.py",
    "trainer/saliency.py",
)
SERVING_CODE = (
    "components/records.py",
    "components/serving_check.py",
    "components/serving_probe.py",
    "core/near_duplicates.py",
    "core/repeated.py",
)
INGEST_CODE = (
    "components/corrected.py",
    "components/ingest.py",
    "components/ingest_report.py",
    "components/near_duplicates.py",
    "components/shapes.py",
    "components/shapes10.py",
    "components/sources",
    "core/corrections.py",
    "core/images.py",
    "core/near_duplicates.py",
    "core/repeated.py",
    "core/walk.py",
    "trainer/images.py",
    "trainer/summary.py",
)


@dataclasses.dataclass(frozen=True)
class Places:
    """Where a pipeline keeps things, as paths that its components can open.

    Attributes:
        root: artifacts, filed by component and execution.
        schema: the stored schema of a user's own data.
        checkpoints: of a training that is under way; "" for none.
        push: versions of the model for the server.
        keep: how many of the newest stay there; 0: all.
        decided: changes with what people decide about these, for the cache.
    """

    root: str
    schema: str
    checkpoints: str
    push: str
    keep: int = 0
    decided: str = ""


class History(Protocol):
    """Finds what earlier runs left. How depends on the orchestrator, so the runner brings it."""

    def statistics(self, current: types.BaseChannel) -> base_node.BaseNode:
        """A node with the output `statistics`: those of the run before the one that made `current`, or none."""

    def baseline(self, current: types.BaseChannel) -> base_node.BaseNode:
        """A node with the output `model`: the one that serves, or did before `current` came, or none."""

    def report(self, current: types.BaseChannel) -> base_node.BaseNode:
        """A node with the output `report`: of the run before the one that made the evaluation `current`, or none."""

    def latest(self) -> base_node.BaseNode:
        """A node with the output `model`: the one that serves, or none."""

    def keep(self, produced: OutputChannel, after: base_node.BaseNode) -> list[base_node.BaseNode]:
        """Nodes that hand `produced` on, to later runs or to a server, once `after` has succeeded; maybe none."""


def create_pipeline(
    settings: Settings,
    places: Places,
    history: History,
    data_version: str,
    schema_version: str = "",
    **options: Any,
) -> tfx_pipeline.Pipeline:
    """Wires the components.

    Args:
        settings: of the run.
        places: where artifacts and results go.
        history: how to find the baseline and the last run's statistics.
        data_version: identifies the content of the data source, for the cache.
        schema_version: identifies an edited stored schema, for the cache.
        **options: for TFX's Pipeline, such as metadata_connection_config and enable_cache.
    """
    examples = ImageExampleGen(settings.data, data_version, fingerprint.code(*INGEST_CODE))
    statistics = tfx_components.StatisticsGen(
        examples=examples.outputs["examples"],
        stats_options=tfdv.StatsOptions(schema=schemas.minimal(), use_sketch_based_topk_uniques=True),
    )
    schema = ImageSchemaGen(
        statistics=statistics.outputs["statistics"],
        name=settings.name,
        stored=places.schema,
        version=schema_version,
        update=settings.data.update_schema,
        features=",".join(settings.data.features),
    )
    validator = tfx_components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    previous = history.statistics(statistics.outputs["statistics"])
    leaked = settings.data.max_leaked_share
    check = DataCheck(
        examples=examples.outputs["examples"],
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        anomalies=validator.outputs["anomalies"],
        previous_statistics=previous.outputs["statistics"],
        max_skew=settings.data.max_label_skew,
        max_drift=settings.data.max_label_drift,
        max_leaked_share=1.0 if leaked is None else leaked,
    )
    transform = tfx_components.Transform(
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="trainer.preprocessing.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(analyze=["train"], transform=["train", "validation"]),
        custom_config={
            "preprocessing": settings.preprocessing.model_dump(),
            "background": settings.data.background,
            "code": fingerprint.code(*PREPROCESSING_CODE),
        },
        disable_statistics=True,
        disable_analyzer_cache=True,
    )
    transform.add_upstream_node(check)
    nodes = [examples, statistics, schema, validator, previous, check, transform]
    nodes += history.keep(statistics.outputs["statistics"], after=check)

    base_model = None
    if settings.training.warm_start:
        warm_start = history.latest()
        base_model = warm_start.outputs["model"]
        nodes.append(warm_start)
    found = None
    if settings.tuner.trials:
        tuner = tfx_components.Tuner(
            tuner_fn="trainer.tuning.tuner_fn",
            examples=transform.outputs["transformed_examples"],
            transform_graph=transform.outputs["transform_graph"],
            train_args=trainer_pb2.TrainArgs(splits=["train"]),
            eval_args=trainer_pb2.EvalArgs(splits=["validation"]),
            custom_config={
                "model": settings.model.model_dump(),
                "training": settings.training.model_dump(exclude={"epochs", "warm_start", "checkpoint"}),
                "tuner": settings.tuner.model_dump(),
                "checkpoint_root": places.checkpoints,
                "code": fingerprint.code(*TRAINING_CODE),
            },
        )
        found = tuner.outputs
        nodes.append(tuner)
    trainer = tfx_components.Trainer(
        run_fn="trainer.run.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        base_model=base_model,
        hyperparameters=found["best_hyperparameters"] if found else None,
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["validation"]),
        custom_config={
            "model": settings.model.model_dump(),
            "training": settings.training.model_dump(),
            "background": settings.data.background,
            "fit": settings.preprocessing.fit,
            "checkpoint_root": places.checkpoints,
            "code": fingerprint.code(*TRAINING_CODE),
        },
    )
    baseline = history.baseline(trainer.outputs["model"])
    evaluator = Evaluator(
        examples=examples.outputs["examples"],
        splits=["test"],
        kept_splits=["validation"],
        model=trainer.outputs["model"],
        baseline_model=baseline.outputs["model"],
        eval_config=evaluation.eval_config(settings.gates, settings.evaluation),
        plan=robustness.Plan.of(settings),
        code=fingerprint.code(*EVALUATION_CODE),
    )
    serving = ServingCheck(
        model=trainer.outputs["model"],
        examples=examples.outputs["examples"],
        images=settings.serving.images,
        max_latency_ms=settings.serving.max_latency_ms,
        code=fingerprint.code(*SERVING_CODE),
    )
    before = history.report(evaluator.outputs["evaluation"])
    report = EvaluationReport(
        settings,
        fingerprint.code(*REPORT_CODE),
        previous_report=before.outputs["report"],
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        infra_blessing=serving.outputs["blessing"],
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        model_run=trainer.outputs["model_run"],
        tuner_results=found["tuner_results"] if found else None,
        anomalies=validator.outputs["anomalies"],
        distribution=check.outputs["distribution"],
    )
    push = Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=serving.outputs["blessing"],
        report=report.outputs["report"],
        keep_versions=places.keep,
        approval=settings.push.approval,
        decided=places.decided,
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=os.fspath(places.push))
        ),
    )
    return tfx_pipeline.Pipeline(
        pipeline_name=f"alexnet-{settings.name}",
        pipeline_root=places.root,
        components=[
            *(*nodes, trainer, baseline, evaluator, serving, before, report),
            *history.keep(report.outputs["report"], after=report),
            push,
            *history.keep(push.outputs["pushed_model"], after=push),
        ],
        **options,
    )
