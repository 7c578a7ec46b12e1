"""The settings: one typed, validated model for everything a run can be told.

A run's settings come from a preset (a file in `presets/`, or a path), then from `--set group.key=value`. What is
not set has the default below. Nothing here imports TensorFlow or TFX.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import pathlib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import pydantic
import yaml
from pydantic import Field

from core import errors, files, yaml_text
from core.errors import UserError
from core.harm import Harm
from storage import schemes

PRESETS = pathlib.Path(__file__).resolve().parent / "presets"
DEFAULT_PRESET = "shapes10"
MANIFESTS = (".csv", ".tsv", ".parquet")
PATH_ENDINGS = ("/", ".gz", ".tgz", ".tar", ".xz", ".bz2", ".zip", *MANIFESTS)
# Features that every example has, or its prediction.
GIVEN = {
    "image", "label", "class_name", "id", "brightness", "contrast", "size", "sharpness", "hue", "width", "height",
    "digest", "predicted", "probability", "true_probability", "top", "top_probabilities", "probabilities",
}  # fmt: skip
AROUND = {"retention", "notify"}  # groups that no node computes with, and no report shows

Share = typing.Annotated[float, Field(ge=0, le=1)]
Size = typing.Annotated[int, Field(ge=8, le=1024)]


class Group(pydantic.BaseModel):
    """A group of settings: unknown keys are refused, values cannot change."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @pydantic.field_validator("*", mode="wrap")
    @classmethod
    def _is_no_truth_for_a_number(cls, value: typing.Any, handler: typing.Any) -> typing.Any:
        """Refuses true and false where a number is wanted: pydantic takes them for 1 and 0."""
        made = handler(value)
        pairs = [(value, made), *(zip(value, made, strict=False) if isinstance(value, list | tuple) else ())]
        if any(isinstance(given, bool) and not isinstance(taken, bool) for given, taken in pairs):
            raise ValueError("input should be a number")
        return made


class Data(Group):
    """Where the examples come from (ImageExampleGen) and how they are split."""

    source: str = Field(
        "shapes10",
        min_length=1,
        description="a TensorFlow Datasets name, or a folder, an archive or a manifest (CSV, Parquet), also "
        f"{schemes.WORDS}",
    )
    data_dir: str | None = Field(None, description="where TensorFlow Datasets keeps prepared data")
    name: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9_-]*$", description="what results and pushes are filed under"
    )
    train_split: str = Field("train", min_length=1, description="TensorFlow Datasets split to train on")
    test_split: str = Field("test", min_length=1, description="TensorFlow Datasets split to evaluate on")
    validation_share: float = Field(
        0.1, gt=0, lt=1, description="held out of train, by a hash of the pixels, unless the data have that split"
    )
    test_share: float = Field(
        0.2, gt=0, lt=1, description="of each class of data without splits, held out by a hash of the examples' ids"
    )
    background: str = Field("white", description="colour behind transparent pixels: a CSS name or #rrggbb")
    max_bad_share: Share = Field(0.01, description="share of unreadable examples that is dropped with a warning")
    newest_spans: int = Field(0, ge=0, description="of a folder with span-N folders, take the newest N; 0: all")
    features: tuple[typing.Annotated[str, Field(pattern=r"^\w+$")], ...] = Field(
        (),
        description="further features to keep, for slices: of TensorFlow Datasets any single value, of manifests any "
        "column, of spans: span",
    )
    version: str = Field("auto", description="identifies the data for the cache; auto: look at the files")
    max_label_skew: Share = Field(0.1, description="largest change of a class's share between train and test")
    max_label_drift: Share = Field(0.1, description="largest change of a class's share since the last run")
    max_leaked_share: Share | None = Field(
        None, description="share of test examples whose picture is in train or validation, too; null: only warn"
    )
    near_duplicates: bool = Field(
        True, description="look for test and validation pictures that are nearly one of an earlier split"
    )
    update_schema: bool = Field(False, description="infer the stored schema anew from this run's data")
    corrections: str | None = Field(
        None,
        min_length=1,
        description=f"list of labels to change or leave out, by `alexnet suspects`: a CSV file, also {schemes.WORDS}",
    )

    @pydantic.field_validator("background", mode="after")
    @classmethod
    def _is_a_colour(cls, background: str) -> str:
        from PIL import ImageColor

        try:
            ImageColor.getrgb(background)
        except ValueError:
            raise ValueError("not a colour: give a CSS name, such as white, or #rrggbb") from None
        return background

    @pydantic.field_validator("features", mode="after")
    @classmethod
    def _are_further(cls, features: tuple[str, ...]) -> tuple[str, ...]:
        for name in features:
            if name in GIVEN or features.count(name) > 1:
                raise ValueError(f"{name} is there already")
        return features


class Preprocessing(Group):
    """What Transform does before training."""

    image_size: Size = Field(32, description="side in pixels of the stored uint8 images")
    fit: Literal["stretch", "crop", "pad"] = Field(
        "stretch",
        description="what is no square, here and in the served model: stretch: all of it, squeezed; crop: the "
        "middle; pad: all of it, with margins of data.background",
    )


class Model(Group):
    """The network (trainer/model.py)."""

    variant: Literal["cifar", "paper"] = Field("cifar", description="paper: 11x11/4 stem for 227; cifar: 3x3/1 stem")
    input_size: Size = Field(32, description="side in pixels that the network sees; resized on the device")
    width: float = Field(0.25, gt=0, le=4, description="multiplies the number of filters and of dense units")
    pools: tuple[typing.Annotated[int, Field(ge=1, le=5)], ...] = Field(
        (1, 2, 5), max_length=3, description="the convolutions that are followed by a pooling"
    )
    normalization: Literal["batch", "lrn", "none"] = Field("batch", description="lrn: as published in 2012")
    groups: Literal[1, 2] = Field(1, description="2: the paper's split over two GPUs")
    dropout: float = Field(0.5, ge=0, lt=1, description="of each of the two hidden dense layers")
    views: Literal[1, 2, 6] = Field(
        1, description="serve the mean over so many views of an image; 2: and mirrored, 6: and moved by a pixel"
    )
    calibration: Literal["temperature", "none"] = Field(
        "temperature", description="make served probabilities honest by one number, fitted on the validation split"
    )


class Training(Group):
    """The recipe (trainer/training.py)."""

    epochs: int = Field(8, ge=1, le=10_000)
    batch_size: int = Field(128, ge=1, le=65_536, description="over all devices")
    learning_rate: float = Field(0.1, gt=0, le=10, description="the peak of the one-cycle schedule")
    muon: float = Field(0.0, ge=0, le=1, description="peak rate of Muon for the hidden kernels; 0: SGD for them, too")
    warmup_share: Share = Field(0.25, description="share of the steps in which the learning rate rises")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum")
    weight_decay: float = Field(5e-4, ge=0, le=1, description="L2 penalty on kernels, none on biases and gains")
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    flip: bool = Field(
        True, description="mirror half of the training images; not for digits, letters, and what has a side"
    )
    shift: int = Field(2, ge=0, le=64, description="move training images by up to this many stored pixels")
    smallest_crop: float = Field(
        1.0, gt=0, le=1, description="train on parts of images, of at least this share of the area; 1: whole ones"
    )
    cutout: int = Field(0, ge=0, le=512, description="cover a square of so many stored pixels in training images")
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="of the examples in the loss; balanced: all classes count the same, however large they are",
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "auto", description="auto: mixed_bfloat16 where the hardware has it"
    )
    jit: Literal["auto", "on", "off"] = Field(
        "auto", description="XLA; auto: on one GPU, off on several, and off on CPU, where it is slower"
    )
    steps_per_execution: int = Field(0, ge=0, description="training steps in one call; 0: chosen by the device")
    seed: int = Field(1, ge=0, lt=2**31)
    cache: bool = Field(True, description="keep the decoded training images in memory if they fit")
    warm_start: bool = Field(False, description="start from the weights of the latest blessed model")
    checkpoint: bool = Field(True, description="save after every epoch, so that a killed run continues")


NOT_SEARCHED = {
    "model.variant", "model.pools", "model.views", "model.calibration", "training.epochs", "training.seed",
    "training.warm_start", "training.checkpoint", "training.cache", "training.jit", "training.steps_per_execution",
}  # fmt: skip


class Tuner(Group):
    """The search for a better recipe before the training (trainer/tuning.py)."""

    trials: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="recipes to try, first the one that is set if the space has it; null: none",
    )
    algorithm: Literal["random", "bayesian", "hyperband"] = Field("random", description="how Keras Tuner searches")
    epochs: int = Field(3, ge=1, le=10_000, description="of each trial; with hyperband, of the longest ones")
    share: float = Field(1.0, gt=0, le=1, description="of the training examples, for the trials alone")
    space: dict[str, tuple[bool | int | float | str, ...]] = Field(
        {
            "training.learning_rate": (0.02, 0.5, "log"),
            "training.weight_decay": (5e-5, 2e-3, "log"),
            "model.dropout": (0, 0.5),
        },
        description="setting: [low, high], [low, high, log], or the values to choose from",
    )

    @pydantic.field_validator("space", mode="after")
    @classmethod
    def _can_be_searched(cls, space: dict[str, tuple]) -> dict[str, tuple]:
        if not space:
            raise ValueError("name a setting to search")
        return {key: cls._dimension(key, values) for key, values in space.items()}

    @staticmethod
    def _dimension(key: str, given: tuple) -> tuple:
        """The values as the setting has them and, last, how they are meant: "linear", "log" or "choice"."""
        groups: dict[str, type[Group]] = {"model": Model, "training": Training}
        known = [f"{group}.{name}" for group, kind in groups.items() for name in kind.model_fields]
        if key not in known:
            raise ValueError(f"{key} is no setting of the recipe, {_nearest(key, known)}")
        if key in NOT_SEARCHED:
            raise ValueError(f"{key} cannot be searched")
        group, _, name = key.partition(".")
        kind = given[-1] if given and given[-1] in ("linear", "log", "choice") else None
        try:
            values = [getattr(groups[group](**{name: value}), name) for value in (given[:-1] if kind else given)]
        except pydantic.ValidationError as error:
            raise ValueError(_explain(error.errors()[0]).removesuffix(".")) from None
        numeric = groups[group].model_fields[name].annotation in (int, float)
        kind = kind or ("linear" if numeric and len(values) == 2 else "choice")
        if kind == "choice" and len(set(values)) < max(2, len(values)):
            raise ValueError(f"{key} needs two or more different values to choose from")
        if kind != "choice" and not (numeric and len(values) == 2 and values[0] < values[1]):
            raise ValueError(f"{key} needs a number and a larger one, such as [0.1, 0.5]")
        if kind == "log" and values[0] <= 0:
            raise ValueError(f"{key} needs a lower bound above 0 for log")
        return (*values, kind)


class Gates(Group):
    """What a model has to reach to be pushed (Evaluator)."""

    min_accuracy: Share | None = Field(
        None, description="floor of the test accuracy; null: more than always answering the largest class would have"
    )
    min_class_recall: Share | None = Field(
        None, description="floor of every class's recall; null: more than 0, so that no class is never recognised"
    )
    confidence: float = Field(
        0.95,
        ge=0,
        lt=1,
        description="a class fails gates.min_class_recall only if all of its recall's interval, of this confidence, "
        "is below; 0: if the recall itself is",
    )
    max_accuracy_drop: Share = Field(0.01, description="allowed loss of accuracy against the baseline")
    max_class_recall_drop: Share = Field(0.1, description="allowed loss of any class's recall against the baseline")
    max_calibration_error: Share | None = Field(
        None, description="ceiling of the expected calibration error on test; null: none"
    )
    min_corrupted_accuracy: Share | None = Field(
        None, description="floor of the mean accuracy over evaluation.corruptions; null: none"
    )


class Evaluation(Group):
    """How the test split is divided for the report (Evaluator, EvaluationReport)."""

    slices: tuple[typing.Annotated[str, Field(pattern=r"^\w+(,\w+)*$")], ...] = Field(
        ("brightness", "class_name,brightness"),
        description="besides the classes: a feature of the examples, brightness, contrast, size, sharpness or hue; "
        "comma: a cross",
    )
    corruptions: tuple[Harm, ...] = Field(
        (), description="also judge the model on test examples that were harmed so, each in five strengths"
    )
    corrupted_examples: int = Field(1000, ge=0, description="how many test examples are harmed, about; 0: all")
    smallest_slice: int = Field(30, ge=1, description="slices with fewer examples are marked: not to be judged by")
    find_weak_slices: bool = Field(
        True, description="look among all features and their crosses for slices worse than the rest; no gate"
    )
    saliency_maps: bool = Field(True, description="maps of where the network saw what spoke for its answers")

    @pydantic.field_validator("slices", mode="after")
    @classmethod
    def _are_slices(cls, slices: tuple[str, ...]) -> tuple[str, ...]:
        seen = [sorted(names.split(",")) for names in slices]
        for names, parts in zip(slices, seen, strict=True):
            if parts == ["class_name"]:
                raise ValueError("class_name alone is always evaluated; leave it out")
            if len(set(parts)) < len(parts) or seen.count(parts) > 1:
                raise ValueError(f"{names} is there twice")
            if {"id", "image"} & set(parts):
                raise ValueError(f"{names}: every example is a slice of its own then")
        return slices


class Serving(Group):
    """The check of the exported model in a fresh process, before the push (ServingCheck)."""

    images: int = Field(16, ge=1, le=1000, description="test images that are sent through serving_default")
    max_latency_ms: float = Field(1000, gt=0, description="median time of a request with one image")


class Push(Group):
    """Where a blessed model goes (Pusher)."""

    destination: str | None = Field(
        None, description=f"a folder for TF Serving, also {schemes.WORDS}; default: WORKDIR/serving/NAME"
    )
    approval: Literal["none", "manual"] = Field(
        "none", description="manual: a blessed model waits until `alexnet approve` or `alexnet reject` decides"
    )


class Retention(Group):
    """What `alexnet run` leaves of earlier runs, beside all results and reports; on Kubeflow `kubeflow.keep_...`."""

    runs: int | None = Field(
        None, ge=1, description="after each run, do what `alexnet clean --keep` does with this number; null: nothing"
    )
    versions: int | None = Field(
        None, ge=2, description="newest pushed versions that stay, with those in the file .keep there; null: all"
    )


class Notify(Group):
    """Whom `alexnet run` tells how it ended; on Kubeflow `kubeflow.webhook_secret` does."""

    webhook: str | None = Field(
        None, min_length=1, description="a file that holds the URL of a webhook, or env:NAME for a variable that does"
    )
    when: Literal["always", "problem"] = Field(
        "always", description="problem: unless the model was pushed, or the part that was asked for ran"
    )

    @pydantic.model_validator(mode="after")
    def _is_no_secret(self) -> Notify:
        if self.webhook and "://" in self.webhook:
            raise ValueError(
                "notify.webhook takes a file that holds the URL, or env:NAME, and not the URL itself, which is a "
                "secret and would stand in settings and reports"
            )
        if self.webhook == "env:":
            raise ValueError("notify.webhook: name the variable, as in env:WEBHOOK_URL")
        return self

    @property
    def variable(self) -> str:
        """The environment variable that holds the URL; "" if a file does."""
        return self.webhook.removeprefix("env:") if self.webhook and self.webhook.startswith("env:") else ""


# Options of Beam that a run has to know, or sets itself.
OURS_INSTEAD = {
    "flink_master": "beam.master",
    "spark_master_url": "beam.master",
    "job_name": "no name, by which the run's jobs are known,",
}
OURS = f"--({'|'.join(OURS_INSTEAD)})\\b"
ENGINES = {"FlinkRunner": "Flink", "SparkRunner": "Spark"}  # Beam's runners that `engines` prepares


class Beam(Group):
    """How the Beam components of `alexnet run` run: ImageExampleGen, StatisticsGen, Transform and Evaluator.

    On Kubeflow they run as `kubeflow.beam_runner` and its like say, so that one file serves both.
    """

    runner: str | None = Field(
        None, pattern=r"^\w+$", description="FlinkRunner, SparkRunner, DataflowRunner; default: in this process"
    )
    master: str | None = Field(None, description="of Flink its address, HOST:8081; of Spark spark://HOST:7077")
    workers: str | None = Field(
        None,
        pattern=r"^[^\s:/]+:\d+$",
        description="HOST:PORT of `python -m engines.workers` as each TaskManager or executor sees it; default: a "
        "pool of this run's own where the master is on this machine, else localhost:50000",
    )
    job_server: str | None = Field(
        None, description="Beam's job server for the engine, a jar; default: the image's, or one fetched by Beam"
    )
    pipeline_args: tuple[str, ...] = Field((), description="further options of Beam, which win over ours")

    @pydantic.model_validator(mode="after")
    def _has_what_its_engine_needs(self) -> Beam:
        given = " ".join(self.pipeline_args)
        if self.engine and (ours := re.search(OURS, given)):
            raise ValueError(f"beam.pipeline_args: give {OURS_INSTEAD[ours[1]]} instead of --{ours[1]}")
        if self.engine and not self.master and "--job_endpoint" not in given:
            form = "spark://HOST:7077" if self.engine == "Spark" else "HOST:8081"
            raise ValueError(f"beam.runner={self.runner} needs beam.master={form}")
        alone = [name for name in ("master", "workers", "job_server") if getattr(self, name)]
        if not self.engine and alone:
            raise ValueError(f"beam.{alone[0]} is for beam.runner=FlinkRunner or SparkRunner")
        if self.engine == "Spark" and self.master and not re.match(r"spark://[^\s/:]+:\d+$|local\b", self.master):
            raise ValueError("beam.master of Spark is like spark://HOST:7077")
        if self.engine == "Flink" and not re.match(r"(https?://)?[^\s/:]+:\d+/?$|\[local\]$", self.master or "x:1"):
            raise ValueError("beam.master of Flink is like HOST:8081, the address of its REST interface")
        return self

    @property
    def engine(self) -> str:
        """ "Flink", "Spark", or "" for what Beam runs without our help."""
        return ENGINES.get(self.runner or "", "")

    @property
    def cluster(self) -> str:
        """The address of the Flink whose REST interface can be asked; "" if there is none."""
        return self.master if self.engine == "Flink" and self.master and self.master != "[local]" else ""

    @property
    def own_workers(self) -> bool:
        """Whether the workers are those of `engines.workers`, which work in the working directory."""
        return bool(self.engine) and not re.search("--environment_(type|config)", " ".join(self.pipeline_args))

    @property
    def arguments(self) -> list[str]:
        """For `beam.Pipeline`, as far as they are known without looking at the engine; none by default.

        Given any, TFX packs itself up for remote workers in every node.
        """
        return [*([f"--runner={self.runner}"] if self.runner else ()), *self.pipeline_args]

    @property
    def elsewhere(self) -> bool:
        """Whether workers may run in other folders than the process that starts them, so that paths are absolute."""
        return not self.own_workers and any(not argument.startswith("--direct_") for argument in self.arguments)


Quantity = typing.Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|[MGTP]|[KMGTP]i)?$")]


class Toleration(Group):
    """Of a taint, as in a Pod."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class KubeflowNode(Group):
    """What one node of the pipeline needs on Kubernetes; what is not set is as in the group `kubeflow`."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    gpus: int = Field(0, ge=0)
    gpu_type: str = "nvidia.com/gpu"
    shared_memory: Quantity | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    deadline: int | None = Field(None, ge=60)
    retries: int | None = Field(None, ge=0, le=100)
    cache: bool | None = None


TRAINER: dict[str, typing.Any] = {"cpu": "4", "memory": "16Gi", "gpus": 1, "shared_memory": "2Gi"}


class Kubeflow(Group):
    """How the nodes run on Kubeflow Pipelines (`alexnet kubeflow`); `alexnet run` does without."""

    volume: str = Field("alexnet", min_length=1, description="PersistentVolumeClaim for what outlives a run")
    volume_path: str = Field("/alexnet", pattern="^/", description="where it is mounted")
    history: str | None = Field(
        None,
        description=f"earlier runs' statistics and reports, also {schemes.WORDS}; default: VOLUME_PATH/history",
    )
    cpu: Quantity = Field("1", description="CPUs of a node; more in nodes")
    memory: Quantity = Field("4Gi", description="memory of a node, requested and limit")
    deadline: int = Field(86_400, ge=60, description="seconds after which a node is ended")
    retries: int = Field(2, ge=0, le=100, description="how often a failed or evicted node is started again")
    nodes: dict[str, KubeflowNode] = Field(
        {"Trainer": KubeflowNode(**TRAINER)},
        description="what single nodes need instead; Trainer keeps what is not said anew",
    )
    secret_env: dict[str, dict[str, str]] = Field(
        {}, description="secret: {variable: key}, for the nodes that use an object store"
    )
    secret_files: dict[str, str] = Field({}, description="secret: folder for its files, likewise")
    keep_versions: int = Field(
        10, ge=0, description="newest pushed versions that stay, with those in the file .keep there; 0: all"
    )

    @pydantic.field_validator("nodes", mode="before")
    @classmethod
    def _with_trainer(cls, given: object) -> object:
        """Naming a node, or one thing that Trainer needs, must not take the rest from Trainer."""
        if not isinstance(given, dict) or not isinstance(trainer := given.get("Trainer", {}), dict):
            return given
        return {**given, "Trainer": {**TRAINER, **trainer}}

    @pydantic.field_validator("keep_versions")
    @classmethod
    def _not_one(cls, number: int) -> int:
        if number == 1:  # the one before is served until the newest is loaded
            raise ValueError("input should be 0 or at least 2")
        return number

    keep_history: int = Field(10, ge=0, description="earlier runs' statistics and reports that stay; 0: all")
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = ""
    image_pull_secrets: tuple[str, ...] = ()
    ui: str | None = Field(None, pattern="^https?://", description="address of KFP's user interface, for links")
    beam_runner: Literal["FlinkRunner"] | None = Field(
        None,
        description="where the Beam components run; default: each in its own pod. The group beam is for alexnet run",
    )
    beam_master: str | None = Field(
        None,
        pattern=r"^(https?://)?[^\s/:\[\]]+:\d+/?$",
        description="of Flink the address of its REST interface in the cluster, such as alexnet-flink-rest:8081",
    )
    beam_workers: str | None = Field(
        None,
        pattern=r"^[^\s:/]+:\d+$",
        description="HOST:PORT of `python -m engines.workers` as each TaskManager sees it; default: localhost:50000",
    )
    beam_args: tuple[str, ...] = Field((), description="further options of Beam, which win over ours")
    inference_service: str | None = Field(
        None, pattern=r"^[a-z]([a-z0-9-]{0,51}[a-z0-9])?$", description="KServe's, to be applied after each push"
    )
    webhook_secret: str | None = Field(None, description="secret whose key url is called when a run fails; KFP 2.14")

    @pydantic.model_validator(mode="after")
    def _beam_is_whole(self) -> Kubeflow:
        if self.beam_runner and not self.beam_master:
            raise ValueError("kubeflow.beam_runner needs kubeflow.beam_master, such as alexnet-flink-rest:8081")
        if self.beam_runner and (ours := re.search(OURS, " ".join(self.beam_args))):
            raise ValueError(f"kubeflow.beam_args: --{ours[1]} is set by the node; leave it out")
        for name in ("beam_master", "beam_workers"):
            if getattr(self, name) and not self.beam_runner:
                raise ValueError(f"kubeflow.{name} is for kubeflow.beam_runner=FlinkRunner")
        return self


class Settings(Group):
    """All settings of one run."""

    data: Data = Data()
    preprocessing: Preprocessing = Preprocessing()
    model: Model = Model()
    training: Training = Training()
    tuner: Tuner = Tuner()
    gates: Gates = Gates()
    evaluation: Evaluation = Evaluation()
    serving: Serving = Serving()
    push: Push = Push()
    retention: Retention = Retention()
    notify: Notify = Notify()
    beam: Beam = Beam()
    kubeflow: Kubeflow = Kubeflow()

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> Settings:
        smallest = {"paper": 67, "cifar": 8}[self.model.variant]
        # Each value has the type of its setting by now, see _can_be_searched.
        space: Mapping[str, tuple[typing.Any, ...]] = self.tuner.space
        sizes = (self.model.input_size, *space.get("model.input_size", ())[:-1])
        if min(sizes) < smallest:
            raise ValueError(f"model.input_size must be at least {smallest} for model.variant={self.model.variant}")
        if self.gates.min_corrupted_accuracy is not None and not self.evaluation.corruptions:
            raise ValueError("gates.min_corrupted_accuracy needs evaluation.corruptions, such as [noise, blur, jpeg]")
        normalizations = {self.model.normalization, *space.get("model.normalization", ())[:-1]}
        muon = max(self.training.muon, *space.get("training.muon", (0,))[:-1], 0)
        if muon and (normalizations != {"batch"} or not self.training.momentum):
            raise ValueError(
                "training.muon needs model.normalization=batch and training.momentum above 0: set it to 0 otherwise"
            )
        return self

    @property
    def name(self) -> str:
        """What results, schema and pushes of this data are filed under, e.g. "cifar10"."""
        return self.data.name or source_name(self.data.source)


def source_name(source: str) -> str:
    """What data are called that have no other name."""
    if not looks_like_path(source):
        source = builder_name(source)
    elif re.match(r"cifar-10-(batches-py|batches-bin|python|binary)\b", pathlib.Path(source).name):
        return "cifar10"  # the same data as the builder's, so models compete with each other
    place = pathlib.Path(source)
    with contextlib.suppress(FileNotFoundError):  # the current folder is gone: whatever needs it says so
        place = place.resolve()
    slug = re.sub(r"[^a-z0-9_-]+", "-", place.name.lower()).strip("-_")
    return slug or "data"


def may_be_feature(name: str) -> bool:
    """Whether `data.features` can name it."""
    return bool(re.fullmatch(r"\w+", name)) and name not in GIVEN


def builder_name(source: str) -> str:
    """The builder in a TensorFlow Datasets name such as "shapes10/small" or "cifar10:3.0.2"."""
    return source.replace(":", "/").split("/")[0]


def is_remote(path: str) -> bool:
    """Whether a data source or a push destination lies in an object store."""
    return schemes.is_uri(path)


def looks_like_path(source: str) -> bool:
    """Whether a data source can only name files, here or in an object store, and no data set of TensorFlow Datasets.

    It goes by the text alone, so that the answer is the same on every machine of a cluster. A plain name may be
    that of a file as well: for the machine of the command line, `components.sources.names.local` looks.
    """
    return source.startswith((".", "/", "~")) or is_remote(source) or "\\" in source or source.endswith(PATH_ENDINGS)


def absolute(settings: Settings) -> Settings:
    """The same with absolute paths, for a process with another current folder. Relative ones are below this one's."""

    def path(text: str) -> str:
        return text if "://" in text else os.path.abspath(os.path.expanduser(text))

    data, push = settings.data, settings.push
    places: dict[str, object] = {"data_dir": path(data.data_dir)} if data.data_dir else {}
    if looks_like_path(data.source):
        places["source"] = path(data.source)
    if data.corrections:
        places["corrections"] = path(data.corrections)
    if push.destination:
        push = push.model_copy(update={"destination": path(push.destination)})
    return settings.model_copy(update={"data": data.model_copy(update=places), "push": push})


def presets() -> dict[str, str]:
    """Name and one-line description (the file's first comment) of every preset, by name."""
    firsts = {file.stem: file.read_text(encoding="utf-8").splitlines()[0] for file in PRESETS.glob("*.yaml")}
    return {name: firsts[name].lstrip("# ").strip() for name in sorted(firsts)}


def load(preset: str = DEFAULT_PRESET, overrides: Iterable[str] = (), **values: object) -> Settings:
    """The effective settings.

    The floors of a preset of ours were measured on its data, and hold for no others: with another source they count
    only where they are given.

    Args:
        preset: a name from `presets()`, or the path of a YAML file of the same form.
        overrides: "group.key=value", the value in YAML.
        **values: like overrides but already parsed, e.g. `**{"data.source": "cifar10"}`; None is skipped.

    Raises:
        UserError: an unknown preset or key, or a bad value, with the nearest valid name or range.
    """
    tree = _read_preset(preset)
    measured_on = _measured_on(preset, tree)
    overrides = list(overrides)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: write it as --set group.key=value, for example --set training.epochs=3.")
        try:
            read = yaml_text.load(value)
            if isinstance(read, int | float) and not isinstance(read, bool) and _wants_text(key.strip()):
                read = value.strip()  # 1.10 is not 1.1
            _put(tree, key.strip(), read)
        except yaml.YAMLError:
            raise UserError(f"--set {text}: the value is not valid YAML; put it in quotes.") from None
    for name, given in values.items():
        if given is not None:
            _put(tree, name, given)
    found = parse(tree)
    if measured_on and source_name(found.data.source) != measured_on:
        told = {text.partition("=")[0].strip() for text in overrides}
        told |= {name for name, given in values.items() if given is not None}
        floors = {key: None for key in ("min_accuracy", "min_class_recall") if f"gates.{key}" not in told}
        found = found.model_copy(update={"gates": found.gates.model_copy(update=floors)})
    return found


def _measured_on(preset: str, tree: Mapping) -> str:
    """The name of the data that a preset of ours is for; "" for a file of the user's."""
    return source_name(tree["data"]["source"]) if os.path.isfile(PRESETS / f"{preset}.yaml") else ""


def parse(tree: Mapping[str, object]) -> Settings:
    """Settings from nested dicts, e.g. from a run's stored settings. Raises UserError."""
    for key, text in _texts(tree):
        if "\0" in text:
            raise UserError(f"{key}={errors.shortened(text)}: no value can hold a NUL character.")
    try:
        return Settings.model_validate(tree)
    except pydantic.ValidationError as error:
        raise UserError(_explain(error.errors()[0])) from None


def dump(settings: Settings) -> str:
    """The settings as YAML, every value written out; `load` reads it back as a preset file."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def _read_preset(preset: str) -> dict:
    path = PRESETS / f"{preset}.yaml"
    if not os.path.isfile(path):
        path = files.absolute(preset, "--preset")
        if path.is_dir():
            raise UserError(f"--preset {preset} is a folder: name a preset, or a YAML file like one.")
        if not path.is_file():
            raise UserError(f"There is no preset {errors.shortened(preset)!r}: {_nearest(preset, presets())}.")
    try:
        tree = yaml_text.load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise UserError(f"{path} is not valid YAML: {str(problem).splitlines()[0]}.") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold groups of settings, like the files in {PRESETS}.")
    return tree


def _texts(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts in nested values, each with its key."""
    if isinstance(value, str):
        yield key, value
    for name, inner in value.items() if isinstance(value, Mapping) else ():
        yield from _texts(inner, f"{key}.{name}".lstrip("."))
    for inner in value if isinstance(value, list | tuple) else ():
        yield from _texts(inner, key)


def _put(tree: dict, key: str, value: object) -> None:
    group, _, name = key.partition(".")
    if not name:
        raise UserError(f"{key} is not a setting: {_nearest(key, _keys())}.")
    if group not in Settings.model_fields:
        raise UserError(f"{key} is not a setting: {_nearest(key, _keys())}.")
    inner = tree.setdefault(group, {})
    if not isinstance(inner, dict):
        raise UserError(f"The preset's {group} must hold settings, not a value.")
    inner[name] = value


def _wants_text(key: str) -> bool:
    """Whether a setting takes texts and no numbers."""
    group, _, name = key.partition(".")
    kind = Settings.model_fields[group].annotation if group in Settings.model_fields else None
    field = typing.cast(type[Group], kind).model_fields.get(name) if kind else None
    kinds = {field.annotation, *typing.get_args(field.annotation)} if field else set()
    kinds = {typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind for kind in kinds}
    return str in kinds and not kinds & {int, float}


def _keys() -> list[str]:
    return [
        f"{group}.{name}"
        for group, field in Settings.model_fields.items()
        for name in typing.cast(type[Group], field.annotation).model_fields
    ]


def _nearest(word: str, names: Iterable[str]) -> str:
    """Which of `names` was probably meant."""
    names = list(names)
    tails = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}  # "epochs" for "training.epochs"
    close = [tails[word]] if word in tails else difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not close:
        close = [tails[tail] for tail in difflib.get_close_matches(word.rsplit(".", 1)[-1], tails, n=1)]
    if close:
        return f"did you mean {close[0]}"
    return "valid are " + ", ".join(names if len(names) < 12 else sorted({name.split(".")[0] for name in names}))


def _explain(error: Mapping) -> str:
    """One sentence for the first thing pydantic found."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _keys() if "." in key else list(Settings.model_fields)
        return f"{key} is not a setting: {_nearest(key, known)}."
    if not key:
        return error["msg"].removeprefix("Value error, ") + "."
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_type" and isinstance(error["input"], int | float):
        message += ": put it in quotes"
    if error["type"] == "string_unicode":
        message = "it is not valid UTF-8; rename the file or folder, or make a link to it and name that"
    if message.startswith(f"{key}."):  # of several settings of a group
        return f"{message}."
    return f"{key}={errors.shortened(str(error['input']))}: {message[0].lower()}{message[1:]}."
