"""The form of `results.json`, as far as every reader relies on it; `review.report.schema` has all of an evaluation.

Further keys are welcome, and what later versions added may be missing.
"""

from __future__ import annotations

import pydantic


class Form(pydantic.BaseModel):
    """A part of the results, in which other keys may be as well."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)


class Node(Form):
    """How a node fared."""

    state: str
    seconds: float


class ClassRow(Form):
    """A class of the evaluation."""

    class_name: str
    count: int
    recall: float


class Gate(Form):
    """A limit of the evaluation."""

    words: str
    passed: bool


class Evaluation(Form):
    """What Evaluator found."""

    count: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    classes: list[ClassRow]
    class_names: list[str]
    gates: list[Gate]
    blessed: bool
    path: str


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
    tuning: list[dict] | None = None
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
