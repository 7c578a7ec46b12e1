"""The form of `report.json`. `alexnet report --schema` prints it as JSON Schema. Imports nothing heavy.

Shares lie in 0 to 1; a number that does not exist (the precision of a class that is never predicted) is null.
"""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

VERSION = 2  # changes when a reader of the form before could go wrong

Interval = tuple[float, float]
Predicted = tuple[str, float]  # class name, probability


class Part(pydantic.BaseModel):
    """A part of the report: unknown keys are refused, values cannot change."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Verdict(Part):
    """Whether the model may serve."""

    state: Literal["pushed", "not pushed", "cleared", "waiting"] = Field(
        description="cleared: may be pushed, and is not yet; waiting: for approval"
    )
    sentence: str = Field(description="the state and why, for people")


class Decision(Part):
    """What somebody decided about the model."""

    kind: Literal["approved", "rejected", "rolled back", "pushed by hand", "taken out of service"] = Field(
        description="rolled back: to this model; taken out of service: by a rollback to an earlier one"
    )
    at: str = Field(description="local time with offset, ISO 8601")
    by: str
    reason: str
    version: str | None = Field(None, description="that serves since; null for what was rejected")
    against: list[str] = Field([], description="what spoke against the model and was overruled")


class Node(Part):
    """A node of the pipeline in this run."""

    name: str
    state: str = Field(description="done, cached, failed or skipped")
    seconds: float


class Run(Part):
    """The run that shows this report; the evaluation may come from an earlier one through the cache."""

    id: str
    preset: str | None = None
    started: str | None = Field(None, description="local time, ISO 8601")
    seconds: float | None = None
    pushed: str | None = Field(None, description="path of the pushed version, as in `lineage`")
    nodes: list[Node] = []


class Gate(Part):
    """A limit that the model had to keep."""

    what: str = Field(description='"accuracy", "recall of CLASS", ...')
    value: float | None
    limit: float = Field(description="the smallest value that passes, or the largest")
    reason: str = Field(description="the setting, or the baseline and the setting, that the limit comes from")
    count: int = Field(description="test examples behind the value")
    passed: bool
    at_most: bool = Field(False, description="whether a larger value fails, not a smaller one")
    strict: bool = Field(False, description="whether the value must be larger than the limit")
    within: bool = Field(False, description="whether it is smaller and passed, since chance alone may be why")
    words: str = Field(description="all of this in one line")


class ClassRow(Part):
    """One class on the test split."""

    class_name: str
    count: int = Field(description="test examples of the class")
    recall: float
    recall_interval: Interval = Field(description="Wilson, 95 %")
    precision: float | None
    f1: float | None
    auc: float | None = Field(None, description="area under the ROC curve of this class against the rest")
    baseline_recall: float | None
    mostly_taken_for: str | None = Field(description="the most frequent wrong answer")
    mostly_taken_for_count: int
    passed: bool = Field(description="whether it passed all of its gates")
    leaked: int = Field(0, description="test examples whose picture is in train or validation, too")
    recall_without_leaked: float | None = None
    recall_without_leaked_interval: Interval | None = None
    near: int = Field(0, description="test examples whose picture is nearly one of train or validation")
    recall_without_near: float | None = Field(None, description="without these and those that leaked")
    recall_without_near_interval: Interval | None = None

    @property
    def change(self) -> float | None:
        """Recall minus the baseline's."""
        return None if self.baseline_recall is None else self.recall - self.baseline_recall

    @property
    def change_is_small(self) -> bool:
        """Whether the baseline's recall lies in this recall's interval, so that the change may be chance."""
        low, high = self.recall_interval
        return self.baseline_recall is not None and low <= self.baseline_recall <= high


class SliceRow(Part):
    """One slice of the test split."""

    values: list[str] = Field(description="one for each feature of the slices")
    count: int
    accuracy: float
    accuracy_interval: Interval = Field(description="Wilson, 95 %")
    loss: float | None
    baseline_accuracy: float | None
    too_small: bool = Field(description="fewer examples than evaluation.smallest_slice: not to be judged by")


class Slices(Part):
    """The test split divided by some features, worst accuracy first."""

    features: list[str] = Field(description='e.g. ["class_name", "brightness"]')
    rows: list[SliceRow]


class WeakSlice(Part):
    """A slice that is worse than the rest beyond chance."""

    features: list[str] = Field(description='e.g. ["class_name", "brightness"]; up to three')
    values: list[str] = Field(description="one for each feature")
    count: int = Field(description="examples, copies of a picture counted once")
    accuracy: float
    accuracy_interval: Interval = Field(description="Wilson, 95 %")
    rest_accuracy: float = Field(description="of the other examples of the same classes, weighted as in the slice")
    p: float = Field(description="that it is no worse, corrected for all that were looked at (Holm)")
    examples: list[str] = Field([], description="ids of its most confident mistakes")
    pictures: list[str] = Field([], description="their names in images.zip, where they are there")


class WeakSlices(Part):
    """The slices that were found to be worse than the rest, looked for among all features and their crosses."""

    features: list[str] = Field(description="that were looked at, besides the class")
    looked_at: int = Field(description="different slices of at least evaluation.smallest_slice examples")
    rows: list[WeakSlice] = Field(description="the clearest first, ten at most")


class CalibrationBin(Part):
    """The examples whose most probable class got a probability in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float | None = Field(description="their mean probability")
    accuracy: float | None = Field(description="the share of them that is right")


class Uncalibrated(Part):
    """How the model did on the test split without its temperature (Guo et al. 2017): the answers are the same."""

    temperature: float = Field(description="fitted on the validation split; what is served has it")
    loss: float = Field(description="cross-entropy, nats")
    calibration_error: float
    calibration: list[CalibrationBin]


class HarmedKind(Part):
    """The accuracy on test examples that were harmed in one way (Hendrycks and Dietterich 2019)."""

    kind: str
    accuracy: float = Field(description="mean over the strengths")
    accuracies: list[float] = Field(description="by strength, the weakest first")


class HarmedClass(Part):
    """One class under harm."""

    class_name: str
    unharmed_recall: float | None = Field(description="of the same examples as they are")
    recall: float | None = Field(description="mean over all kinds and strengths")
    recalls: list[float | None] = Field(description="by kind, mean over the strengths")


class Corruptions(Part):
    """How the model bears a worse camera: some test examples, each harmed in every way."""

    examples: int = Field(description="test examples that were harmed")
    copies: int = Field(description="harmed copies of them")
    accuracy: float = Field(description="mean over all kinds and strengths")
    unharmed_accuracy: float = Field(description="of the same examples as they are")
    kinds: list[HarmedKind]
    classes: list[HarmedClass] = Field(description="by name")
    picture: str | None = Field(None, description="an example, harmed: a file in images.zip; kinds below each other")


class WithoutLeaked(Part):
    """The test split without the examples whose picture is in train or validation, too: from the predictions."""

    leaked: int = Field(description="test examples that are left out")
    count: int = Field(description="those that remain")
    accuracy: float | None = Field(description="of these; null if none remains")
    accuracy_interval: Interval | None = Field(description="Wilson, 95 %")


class Evaluation(Part):
    """How the model did on the test split. All numbers come from TFMA or are derived from TFMA's, but for those
    without leaked examples, which are counted in the predictions that Evaluator kept.
    """

    count: int
    accuracy: float
    accuracy_interval: Interval = Field(description="Wilson, 95 %")
    without_leaked: WithoutLeaked | None = Field(None, description="null if no test example leaked")
    without_near: WithoutLeaked | None = Field(
        None, description="the same without near-duplicates, too; null if no test example is one"
    )
    loss: float = Field(description="cross-entropy, nats")
    top_3_accuracy: float
    macro_f1: float | None = Field(None, description="mean of the classes' F1; a class never predicted counts as 0")
    calibration_error: float | None = Field(None, description="expected calibration error over `calibration`")
    calibration_error_by_chance: float | None = Field(
        None, description="the mean of it for a perfectly calibrated model with as many examples in the bins"
    )
    baseline_accuracy: float | None = Field(description="of the latest blessed model before this one")
    baseline_loss: float | None = None
    classes: list[ClassRow] = Field(description="worst recall first")
    class_names: list[str] = Field(description="by label")
    confusion_matrix: list[list[int]] = Field(description="[true label][predicted label] counts")
    calibration: list[CalibrationBin] = []
    uncalibrated: Uncalibrated | None = Field(None, description="null for a model without a temperature")
    corruptions: Corruptions | None = Field(None, description="of evaluation.corruptions")
    slices: list[Slices] = Field([], description="of evaluation.slices")
    weak_slices: WeakSlices | None = Field(None, description="null if nobody looked, see evaluation.find_weak_slices")
    smallest_slice: int = 0
    gates: list[Gate] = Field(description="the failed ones first")
    blessed: bool = Field(description="Evaluator's word")
    path: str = Field(description="TFMA's own result, for tfma.load_eval_result; a path as in `lineage`")


class Picture(Part):
    """A test image and what the model took it for."""

    file: str = Field(description="its name in images.zip beside report.json")
    id: str = Field(description="of the example")
    width: int = Field(description="of the file, pixels")
    height: int
    true: str
    top: list[Predicted] = Field(description="the most probable classes, up to three, the most probable first")
    kind: Literal["mistake", "borderline", "right"]
    map: str | None = Field(None, description="in images.zip: what spoke for the answer, to be laid over the picture")
    true_map: str | None = Field(None, description="of a mistake, likewise for the true class")

    @property
    def predicted(self) -> str:
        """The most probable class."""
        return self.top[0][0]


class Suspect(Part):
    """An example whose label is suspected to be wrong."""

    id: str
    split: Literal["test", "validation"]
    label: str = Field(description="its class as the data have it")
    suggested_label: str = Field(description="the most probable class")
    label_probability: float
    suggested_probability: float
    digest: str = Field(description="of its pixels, hexadecimal")
    file: str | None = Field(None, description="its name in images.zip beside report.json, of the first ones")
    width: int = Field(0, description="of the file, pixels")
    height: int = 0


class Suspects(Part):
    """Labels that are suspected to be wrong, by confident learning (Northcutt et al. 2021)."""

    judged: dict[str, int] = Field(description="split -> examples whose label was judged")
    total: int = Field(description="examples of these splits; more than were judged where there are very many")
    count: int = Field(description="suspects")
    rows: list[Suspect] = Field([], description="the least plausible label first; no more than the first 10,000")


class Corrections(Part):
    """What data.corrections did."""

    file: str
    fingerprint: str = Field(description="identifies its content")
    relabelled: int = Field(description="examples that got another class")
    left_out: int = Field(description="examples that were dropped")
    changes: list[tuple[str, str | None, int]] = Field(
        description="class in the source, class here or null, examples"
    )
    checked: list[tuple[str, str]] = Field([], description="id and digest of the examples that are no suspects again")


class Maps(Part):
    """How the maps of the pictures were made: where the network saw what spoke for a class."""

    method: str
    layer: str = Field(description="of the network, whose activations were looked at")
    cells: tuple[int, int] = Field(description="its height and width: no map is finer")


class Distribution(Part):
    """How far the labels' distribution moved: the largest change of a class's share."""

    what: Literal["skew", "drift"] = Field(description="train against test; train against the last run's train")
    value: float
    limit: float


class DuplicatePicture(Part):
    """A picture that several examples have."""

    file: str = Field(description="its name in images.zip beside report.json")
    width: int = Field(description="of the file, pixels")
    height: int
    kind: Literal["leaked", "contradicting"]
    places: list[tuple[str, str, str]] = Field(description="split, class name and id of some of the examples")
    count: int = Field(description="examples that have it")


class Contradicting(Part):
    """Pictures that stand under two or more classes."""

    pictures: int
    examples: int


class Duplicates(Part):
    """Pictures that several examples have, pixel for pixel."""

    pictures: int
    examples: int = Field(description="that have one of them")
    leaked: dict[str, int] = Field(description="split -> its examples whose picture is in an earlier split, too")
    contradicting: Contradicting
    copies: dict[str, int] = Field(description="split -> further copies within it")
    kinds: dict[str, int] = Field({}, description="leaked, contradicting -> pictures")
    shown: list[DuplicatePicture] = Field([], description="some of each kind")


class NearPicture(Part):
    """One of two pictures that are nearly the same."""

    file: str = Field(description="its name in images.zip beside report.json")
    width: int = Field(description="of the file, pixels")
    height: int
    place: tuple[str, str, str] = Field(description="split, class name and id of its example")


class NearPair(Part):
    """An example whose picture is nearly one of an earlier split, and the one that is most alike."""

    example: NearPicture
    known: NearPicture = Field(description="of the earlier split")
    likeness: float = Field(description="1: they differ in brightness and contrast alone")
    mirrored: bool = Field(False, description="whether they are alike only where one is mirrored")


class NearDuplicates(Part):
    """Examples whose pictures are nearly, and not in every pixel, those of an earlier split."""

    examples: dict[str, int] = Field(description="split -> how many")
    contradicting: int = Field(description="those that stand under another class than the one that is most alike")
    shown: list[NearPair] = Field([], description="some of them, the least alike first")


class Data(Part):
    """What went in."""

    source: str
    class_names: list[str]
    counts: dict[str, dict[str, int]] = Field(description="split -> class name -> examples")
    bad: int = Field(description="records that were dropped")
    bad_records: list[tuple[str, str, int]] = Field(description="where, why, how many; the first hundred")
    ignored: dict[str, int] = Field(description="files that are no examples: reason -> count")
    anomalies: list[str] = []
    distributions: list[Distribution] = []
    fingerprint: str | None = Field(None, description="identifies the content of the source as it was read")
    read: str | None = Field(None, description="when that was, in UTC by ISO 8601")
    due: str | None = Field(None, description="when a schedule wanted the run, likewise")
    duplicates: Duplicates | None = Field(None, description="null for a run of before they were looked for")
    corrections: Corrections | None = Field(None, description="null without data.corrections")
    near_duplicates: NearDuplicates | None = Field(None, description="null for a run that did not look for them")

    @pydantic.field_validator("duplicates", "near_duplicates", "corrections", mode="before")
    @classmethod
    def _may_be_empty(cls, found: object) -> object:
        return found or None


class Epoch(Part):
    """One epoch of the training."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    images_per_second: float
    seconds: float


class Trial(Part):
    """One training of the search for a recipe."""

    trial: int = Field(description="from 1; those that are missing diverged")
    accuracy: float = Field(description="on the validation split, after the last epoch")
    epochs: int | None = Field(None, description="of this trial, where they differ")
    values: dict[str, bool | int | float | str] = Field(description="setting -> value")


class Past(Part):
    """An earlier run on the same data, or this one, in the history."""

    run: str
    made: str = Field(description="when it was evaluated, ISO 8601")
    count: int
    accuracy: float
    recalls: dict[str, float] = Field(description="class name -> recall")
    blessed: bool


class Artifact(Part):
    """An artifact that led to this report."""

    name: str = Field(description="what it is here, e.g. model")
    type: str
    id: int = Field(description="in ML Metadata; 0 where there is none")
    uri: str = Field(description="a relative one is below the working directory of the run")
    producer: str = Field(description="the node that made it")
    made_from: list[str] = Field(description="names of other artifacts of this list")


class Serving(Part):
    """What ServingCheck found."""

    load_seconds: float | None = None
    latency_ms: float | None = Field(None, description="median of requests with one image")
    requests: int
    problems: list[str]


class Report(Part):
    """Everything that the report shows."""

    version: int = VERSION
    name: str = Field(description="of the data, as results are filed")
    made: str = Field(description="when the evaluation was made, local time, ISO 8601")
    verdict: Verdict
    decisions: list[Decision] = Field([], description="of people about this model, the oldest first")
    run: Run | None = None
    model: str = Field(description="the network in a sentence")
    evaluation: Evaluation
    pictures: list[Picture] = Field([], description="by class; the most confident mistakes first")
    maps: Maps | None = Field(None, description="null if the pictures have none")
    data: Data | None = None
    suspects: Suspects | None = Field(None, description="null where the probabilities of all classes were not kept")
    tuning: list[Trial] = Field([], description="the best first; the model was trained with its values")
    training: list[Epoch] = []
    serving: Serving | None = None
    history: list[Past] = Field([], description="oldest first, this one last; the newest 100")
    settings: dict[str, dict] = {}
    versions: dict[str, str] = Field({}, description="of Python, libraries and the code (git)")
    lineage: list[Artifact] = []
