"""Compiles the one DAG for Kubeflow Pipelines: what `kubeflow/` needs to know of this project."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping

from tfx import types
from tfx.dsl.components.base import base_beam_component, base_node
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.types import standard_artifacts
from tfx.types.channel import OutputChannel

from components.evaluation_report import Report
from core import settings as settings_module
from core.errors import UserError
from core.settings import Settings
from engines import address, node
from kubeflow import compiler, inference, notify
from kubeflow.baseline import Latest, Record
from kubeflow.serve import InferenceService
from kubeflow.show import Show
from pipeline.pipeline import Places, create_pipeline
from review.report import build
from storage import schemes, stores

IMAGE = "alexnet-pipeline"
INGEST = "ImageExampleGen"
# Which nodes read or write what outlives a run. The others can run where the volume cannot be mounted.
ON_VOLUME = {
    "ImageExampleGen", "ImageSchemaGen", "PreviousStatistics", "KeepStatistics", "Tuner", "Trainer", "WarmStart",
    "Baseline", "PreviousReport", "KeepReport", "Pusher",
}  # fmt: skip
# What these do depends on more than their inputs.
UNCACHED = {
    "ImageExampleGen", "ImageSchemaGen", "PreviousStatistics", "KeepStatistics", "WarmStart", "Baseline",
    "PreviousReport", "KeepReport", "Pusher", "InferenceService",
}  # fmt: skip
LIKE = {"Tuner": "Trainer"}  # needs the same, if nothing else is said
# Which nodes may read from or write to an object store, and get its credentials.
IN_STORE = {
    "ImageExampleGen", "PreviousStatistics", "KeepStatistics", "WarmStart", "Baseline", "PreviousReport",
    "KeepReport", "Pusher",
}  # fmt: skip
SHOWN = ("accuracy", "macro_f1", "loss", "top_3_accuracy", "baseline_accuracy")  # numbers in KFP's UI
KEPT = 3600  # seconds for clocks that differ, after which a killed node's files on the volume are removed
FORMAT = "Format-Serving"  # the folder of the SavedModel in TFX's Model


class FolderHistory:
    """What earlier runs left in folders that outlive them: see kubeflow.baseline and pipeline.pipeline.History."""

    def __init__(self, folder: str, push: str, keep: int, served: tuple[str, str] | None = None) -> None:
        """Args:
        folder: for statistics and reports.
        push: where Pusher puts models; the newest there is the baseline.
        keep: how many statistics and reports stay; 0: all.
        served: name and storage URI of KServe's InferenceService, if it shall serve what is pushed.
        """
        self._served = served
        self._folder = folder
        self._push = push
        self._keep = keep

    def statistics(self, current: types.BaseChannel) -> base_node.BaseNode:
        """See pipeline.pipeline.History."""
        del current  # this run's own are recorded after DataCheck has compared them
        return Latest(standard_artifacts.ExampleStatistics, "statistics", self._history("statistics")).with_id(
            "PreviousStatistics"
        )

    def baseline(self, current: types.BaseChannel) -> base_node.BaseNode:
        """See pipeline.pipeline.History."""
        del current  # Pusher comes later
        return self._model("Baseline")

    def report(self, current: types.BaseChannel) -> base_node.BaseNode:
        """See pipeline.pipeline.History."""
        del current
        return Latest(Report, "report", self._history("report")).with_id("PreviousReport")

    def latest(self) -> base_node.BaseNode:
        """See pipeline.pipeline.History."""
        return self._model("WarmStart")

    def keep(self, produced: OutputChannel, after: base_node.BaseNode) -> list[base_node.BaseNode]:
        """See pipeline.pipeline.History."""
        name = produced.output_key or ""
        if name == "pushed_model":
            return [InferenceService(produced, *self._served)] if self._served else []
        node = Record(produced, self._history(name), self._keep).with_id(f"Keep{name.capitalize()}")
        node.add_upstream_node(after)
        if name != "report":
            return [node]
        shown = Show(
            produced,
            html=build.PAGE,
            data=build.REPORT,
            numbers={name: f"evaluation.{name}" for name in SHOWN},
            labels="evaluation.class_names",
            matrix="evaluation.confusion_matrix",
        )
        return [node, shown.with_id("ShowReport")]

    def _model(self, id: str) -> base_node.BaseNode:
        return Latest(standard_artifacts.Model, "model", self._push, under=FORMAT).with_id(id)

    def _history(self, name: str) -> str:
        return os.path.join(self._folder, name)


def compile(settings: Settings, image: str = IMAGE) -> str:
    """The pipeline as YAML for Kubeflow Pipelines 2.5 and newer; the same settings and image give the same text.

    Args:
        settings: of the run; `settings.kubeflow` says what the nodes need.
        image: of the containers, best as NAME@DIGEST.

    Raises:
        UserError: a setting that does not fit Kubeflow.
    """
    options = settings.kubeflow
    places, history = _places(settings)
    data = settings.data
    if data.corrections:
        _check_place("data.corrections", data.corrections, options.volume_path)
    if data.data_dir is None and not settings_module.looks_like_path(data.source):
        data = data.model_copy(update={"data_dir": os.path.join(options.volume_path, "tensorflow_datasets")})
        settings = settings.model_copy(update={"data": data})
    # "auto" is found out in the cluster, where the files are. Beam's options come with the pods: see _beam.
    pipeline = create_pipeline(settings, places, history, data.version, enable_cache=True)
    names = {node.id for node in pipeline.components}
    on_beam = {node.id for node in pipeline.components if isinstance(node, base_beam_component.BaseBeamComponent)}
    beam = _beam(settings.kubeflow)
    if unknown := options.nodes.keys() - names:
        raise UserError(f"kubeflow.nodes has {', '.join(sorted(unknown))}: the nodes are {', '.join(sorted(names))}.")
    tasks = {name: _task(settings, name) for name in sorted(names)}
    for name in on_beam if beam else ():
        tasks[name] = dataclasses.replace(tasks[name], beam=beam)
        if options.beam_runner:  # its workers are elsewhere: what they read and write lies on the volume
            volume = compiler.Volume(options.volume, options.volume_path)
            tasks[name] = dataclasses.replace(tasks[name], volumes=(volume,))
    parameters = _parameters(pipeline, settings)
    try:
        return compiler.compile(
            pipeline,
            compiler.Options(
                image=image,
                tasks=tasks,
                parameters=parameters,
                image_pull_policy=options.image_pull_policy,
                image_pull_secrets=options.image_pull_secrets,
                told=_told(tasks),
                exit_task=_notify(options, pipeline.pipeline_info.pipeline_name),
            ),
        )
    except compiler.CompileError as problem:
        raise UserError(str(problem)) from None


def _told(tasks: Mapping[str, compiler.Task]) -> dict[str, str]:
    """What nodes learn of the run. As that is another in each, no node that is cached can be told it."""
    wanted = {INGEST: (f"{INGEST}.due", compiler.DUE), "Pusher": ("Pusher.run", compiler.RUN_UUID)}
    return dict(told for name, told in wanted.items() if not tasks[name].cache)


def _places(settings: Settings) -> tuple[Places, FolderHistory]:
    volume, name = settings.kubeflow.volume_path, settings.name
    push = settings.push.destination or os.path.join(volume, "serving", name)
    history = settings.kubeflow.history or os.path.join(volume, "history")
    _check_place("push.destination", push, volume)
    _check_place("kubeflow.history", history, volume)
    places = Places(
        root="",  # KFP's own, given with each run
        schema=os.path.join(volume, "schemas", f"{name}.pbtxt"),
        checkpoints=os.path.join(volume, "checkpoints") if settings.training.checkpoint else "",
        push=push,
        keep=settings.kubeflow.keep_versions,
    )
    kept = settings.kubeflow.keep_history
    return places, FolderHistory(os.path.join(history, name), push, kept, _served(settings, push))


def _check_place(setting: str, path: str, volume: str) -> None:
    """Raises UserError for a folder that would be gone with the pod, or that no node could open."""
    if schemes.is_uri(path):
        try:
            stores.split(path)
        except stores.ObjectStoreError as problem:
            raise UserError(f"{setting}={path}: {problem}") from None
    elif path.startswith("minio://"):
        raise UserError(f"{setting}={path}: write s3:// and name the store with AWS_ENDPOINT_URL (docs/kubeflow.md).")
    elif os.path.relpath(path, volume).startswith("..") or not path.startswith("/"):
        raise UserError(f"{setting}={path} must be {schemes.FORMS}, or lie in {volume}, the volume.")


def _served(settings: Settings, push: str) -> tuple[str, str] | None:
    """The name of the InferenceService and the folder it serves, as KServe calls it."""
    group = settings.kubeflow
    if not group.inference_service:
        return None
    if schemes.is_uri(push):
        try:
            return group.inference_service, inference.as_kserve_calls_it(push)
        except inference.InferenceError as problem:
            raise UserError(str(problem)) from None
    return group.inference_service, f"pvc://{group.volume}/{os.path.relpath(push, group.volume_path)}"


def _task(settings: Settings, name: str) -> compiler.Task:
    """What a node needs, from the group `kubeflow` and from its own entry there."""
    group = settings.kubeflow
    node = group.nodes.get(name) or group.nodes.get(LIKE.get(name, name)) or settings_module.KubeflowNode()
    memory = node.memory or group.memory
    retries = group.retries if node.retries is None else node.retries
    task = compiler.Task(
        cpu=node.cpu or group.cpu,
        memory=memory,
        memory_limit=memory,
        accelerator=node.gpu_type if node.gpus else None,
        accelerators=node.gpus,
        shared_memory=node.shared_memory,
        node_selector=node.node_selector,
        tolerations=tuple(compiler.Toleration(**one.model_dump()) for one in node.tolerations),
        deadline=node.deadline or group.deadline,
        retry=compiler.Retry(count=retries) if retries else None,
        cache=name not in UNCACHED if node.cache is None else node.cache,
    )
    if name in ON_VOLUME:
        task = dataclasses.replace(task, volumes=(compiler.Volume(group.volume, group.volume_path),))
    if name in IN_STORE:
        task = dataclasses.replace(
            task,
            secret_env=tuple(compiler.SecretEnv(secret, keys) for secret, keys in sorted(group.secret_env.items())),
            secret_files=tuple(compiler.SecretFiles(*pair) for pair in sorted(group.secret_files.items())),
        )
    return task


def _beam(options: settings_module.Kubeflow) -> compiler.Beam | None:
    """How nodes on Beam run; None: each in its own pod, with Beam's own options. Raises UserError."""
    if not options.beam_runner and not options.beam_args:
        return None
    if options.beam_master and address.here(options.beam_master):
        raise UserError(
            f"kubeflow.beam_master={options.beam_master} would be the pod of each node itself: name the service of "
            "Flink's REST interface, such as alexnet-flink-rest:8081."
        )
    told: dict[str, object] = {
        "runner": options.beam_runner,
        "master": options.beam_master,
        "workers": options.beam_workers,
        "arguments": list(options.beam_args),
    }
    service = (options.beam_master or "").rpartition("//")[2].rstrip("/")
    if options.beam_runner:
        told |= {"folder": os.path.join(options.volume_path, "beam"), "kept": _longest(options) + KEPT}
    return compiler.Beam(f"{node.__name__}:{node.options.__name__}", told, flink=service)


def _longest(options: settings_module.Kubeflow) -> int:
    """Seconds after which no node can be running any more."""
    return max([options.deadline, *(one.deadline or 0 for one in options.nodes.values())])


def _notify(options: settings_module.Kubeflow, name: str) -> compiler.ExitTask | None:
    if not options.webhook_secret:
        return None
    url = compiler.SecretEnv(options.webhook_secret, {notify.VARIABLE: "url"})
    task = compiler.Task(cpu="100m", memory="128Mi", memory_limit="128Mi", secret_env=(url,), cache=False)
    command = ("python", "-m", notify.__name__, "--status", compiler.STATUS)
    told: tuple[str, ...] = ("--run-name", compiler.RUN_NAME, "--run-id", compiler.RUN_ID, "--pipeline", name)
    told += ("--ui", options.ui) if options.ui else ()
    return compiler.ExitTask("Notify", command + told, task)


def _parameters(
    pipeline: tfx_pipeline.Pipeline, settings: settings_module.Settings
) -> tuple[compiler.Parameter, ...]:
    """What can be given with each run: but for what a search decides, and floors that are no numbers."""
    tuner, gates = settings.tuner, settings.gates
    nodes = {node.id: node for node in pipeline.components}
    config = json.loads(nodes["Evaluator"].exec_properties["eval_config"])
    floors: dict[str, list[str]] = {"overall": [], "class": []}
    for number, metric in enumerate(config["metrics_specs"][0]["metrics"]):
        for place, threshold in enumerate(metric.get("per_slice_thresholds", [])):
            if "lower_bound" not in threshold["threshold"].get("value_threshold", {}):
                continue
            kind = "class" if threshold["slicing_specs"][0].get("feature_keys") else "overall"
            path = f"metrics_specs.0.metrics.{number}.per_slice_thresholds.{place}"
            floors[kind].append(f"Evaluator.eval_config.{path}.threshold.value_threshold.lower_bound")
    models = [f"{name}.history" for name in ("Baseline", "WarmStart") if name in nodes]
    learners = [name for name in ("Tuner", "Trainer") if name in nodes]
    searched = {f"EvaluationReport.settings.{key}" for key in tuner.space} if tuner.trials else set()

    def parameter(name: str, description: str, setting: str, *targets: str) -> compiler.Parameter:
        return compiler.Parameter(name, (*targets, f"EvaluationReport.{setting}"), description)

    made = [
        parameter("data_source", "a name, archive or folder", "settings.data.source", "ImageExampleGen.data.source"),
        parameter(
            "data_version",
            "identifies the data; auto: by what is found when it is read",
            "settings.data.version",
            "ImageExampleGen.version",
        ),
        parameter(
            "newest_spans",
            "take the newest N span folders; 0: all",
            "settings.data.newest_spans",
            "ImageExampleGen.data.newest_spans",
        ),
        parameter("epochs", "of the training", "settings.training.epochs", "Trainer.custom_config.training.epochs"),
        parameter(
            "learning_rate",
            "the peak of the one-cycle schedule",
            "settings.training.learning_rate",
            *(f"{name}.custom_config.training.learning_rate" for name in learners),
        ),
        compiler.Parameter(
            "push_destination",
            ("Pusher.push_destination.filesystem.base_directory", *models),
            "the folder that servers watch",
        ),
    ]
    floor = "floor of the test accuracy", "settings.gates.min_accuracy", *floors["overall"]
    class_floor = "floor of every class's recall", "settings.gates.min_class_recall", *floors["class"]
    made += [parameter("min_accuracy", *floor)] if gates.min_accuracy is not None else []
    made += [parameter("min_class_recall", *class_floor)] if gates.min_class_recall is not None else []
    if tuner.trials:
        made.append(
            parameter("trials", "recipes to try", "settings.tuner.trials", "Tuner.custom_config.tuner.trials")
        )
    return tuple(one for one in made if searched.isdisjoint(one.targets))
