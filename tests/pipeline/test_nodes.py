"""Parts of the pipeline: what lies between two nodes, and what is nothing."""

import pytest

from core import settings
from core.errors import UserError
from pipeline import nodes

ALL = nodes.planned(settings.load())


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (None, None, ALL),
        (None, "StatisticsGen", ("ImageExampleGen", "StatisticsGen")),
        ("EvaluationReport", None, ("EvaluationReport", "Pusher")),
        ("Trainer", "Evaluator", ("Trainer", "Baseline", "Evaluator")),
        ("Pusher", "Pusher", ("Pusher",)),
        ("StatisticsGen", "ServingCheck", (*ALL[1:8], "ServingCheck")),
    ],
)
def test_a_part_is_what_lies_between(first, last, found):
    assert nodes.part(ALL, first, last) == found


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("Trainer", "Transform", "Trainer comes after Transform; for that part write --from Transform --to Trainer"),
        ("Pusher", "ImageExampleGen", "Pusher comes after ImageExampleGen"),
        ("ServingCheck", "Evaluator", "Evaluator takes nothing from ServingCheck; leave one of them out"),
        ("PreviousStatistics", "ExampleValidator", "ExampleValidator takes nothing from PreviousStatistics"),
    ],
)
def test_a_part_without_a_node_is_a_users_mistake(first, last, said):
    with pytest.raises(UserError, match=f"--from {first} --to {last}: nothing would run, for {said}"):
        nodes.part(ALL, first, last)


@pytest.mark.parametrize(
    ("ended", "first", "last", "missing", "earlier"),
    [
        ("Trainer", "Evaluator", "Evaluator", ["Baseline"], "Baseline"),
        ("Trainer", "Evaluator", None, ["Baseline", "ServingCheck"], "Trainer"),
        (
            "StatisticsGen",
            "Transform",
            "Trainer",
            ["ImageSchemaGen", "PreviousStatistics", "ExampleValidator", "DataCheck"],
            "StatisticsGen",
        ),
        (None, "StatisticsGen", "StatisticsGen", ["ImageExampleGen"], None),
    ],
)
def test_where_a_part_can_go_on_from_that_of_a_run(ended, first, last, missing, earlier):
    known = nodes.part(ALL, None, ended) if ended else ()
    assert nodes.lacking(ALL, known, first, last) == (missing, earlier)


def test_a_node_of_other_settings_is_told_with_its_setting():
    for node, setting in (("Tuner", "tuner.trials"), ("warmstart", "training.warm_start")):
        with pytest.raises(UserError, match=f"there is no such node in this run; it has one with --set {setting}"):
            nodes.find(node, ALL, "--to")
