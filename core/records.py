"""The form of `results.json`, as far as every reader relies on it; `review.report.schema` has all of an evaluation.

Further keys are welcome, and what later versions added may be missing.
"""

from __future__ import annotations

from typing import Any

import pydantic

Interval = tuple[float, float]
# That of a network which diverged is no finite number.
Loss = Any


class Form(pydantic.BaseModel):
    """A part of the results, in which other keys may be as well."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class Node(Form):
    """How a node fared."""

    state: str
    seconds: float


class ClassRow(Form):
    """A class of the evaluation."""

    class_name: str
    count: int
    recall: float
    recall_interval: Interval
    precision: float | None
    f1: float | None
    baseline_recall: float | None
    mostly_taken_for: str | None
    mostly_taken_for_count: int
    passed: bool


class SliceRow(Form):
    """A slice of the evaluation."""

    values: list[str]
    count: int
    accuracy: float
    accuracy_interval: Interval
    loss: Loss
    baseline_accuracy: float | None
    too_small: bool


class Slices(Form):
    """The slices by some features."""

    features: list[str]
    rows: list[SliceRow]


class WithoutLeaked(Form):
    """The evaluation without the test examples that are in training or validation, too."""

    leaked: int
    count: int
    accuracy: float | None


class Gate(Form):
    """A limit of the evaluation."""

    words: str
    passed: bool


class Evaluation(Form):
    """What Evaluator found."""

    count: int
    accuracy: float
    accuracy_interval: Interval
    loss: Loss
    top_3_accuracy: float
    baseline_accuracy: float | None
    confusion_matrix: list[list[int]]
    classes: list[ClassRow] = pydantic.Field(min_length=1)
    class_names: list[str]
    slices: list[Slices] | None = None
    without_leaked: WithoutLeaked | None = None
    without_near: WithoutLeaked | None = None
    gates: list[Gate]
    blessed: bool
    path: str


class Trial(Form):
    """A trial of the search."""

    trial: int
    accuracy: float
    epochs: int | None
    values: dict[str, Any]


class Pushed(Form):
    """What Pusher left."""

    path: str


class Artifact(Form):
    """An artifact of the lineage."""

    uri: str


class Results(Form):
    """The results of a run that ended; `number` counts the runs of a working directory, 0: from before they did."""

    run: str
    number: int = 0
    name: str
    preset: str
    started: str
    seconds: float
    state: str
    nodes: dict[str, Node]
    notes: list[str] = []
    error: str | None = None
    evaluation: Evaluation | None = None
    pushed: Pushed | None = None
    data: dict | None = None
    serving_check: dict | None = None
    history: dict | None = None
    tuning: list[Trial] | None = None
    recipe: dict | None = None
    lineage: list[Artifact] | None = None
    model: str | None = None
    tensorboard: str | None = None
    report: str | None = None


def problem(found: object) -> str | None:
    """What is wrong with what was read from a `results.json`, in a phrase; None if it has the form."""
    try:
        Results.model_validate(found)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}" if where else "it holds no results"
    return None
