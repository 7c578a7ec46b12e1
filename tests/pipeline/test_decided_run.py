"""A small year of operation: real runs, an approval, a rollback, a push by hand; who is the baseline of whom."""

import json
import pathlib

import image_data
import pytest
from command_line import alexnet, sets

from core.workdir import Workdir
from review.report import build, schema

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Each step by its name: exit code, what was said, results."""
    work = tmp_path_factory.mktemp("year") / "work"
    steps = {"workdir": Workdir(work)}

    def run(name, seed, *changes):
        changes = [*image_data.SMALL, "training.epochs=1", f"training.seed={seed}", *changes]
        done = alexnet("run", "--data", "shapes10/small", "--workdir", work, *sets(changes))
        steps[name] = done, Workdir(work).find()
        assert done.returncode in (0, 3, 4), done.stdout[-2000:] + done.stderr

    def decide(name, *arguments):
        steps[name] = (
            alexnet(*arguments, "--workdir", work),
            json.loads(alexnet("models", "--json", "--workdir", work).stdout)["models"],
        )

    run("first", 1)
    run("waits", 2, "push.approval=manual")
    run("waits again", 2, "push.approval=manual")
    run("meanwhile", 3)
    decide("approved", "approve", steps["waits again"][1]["run"], "--note", "looks fine")
    run("approved, again", 2, "push.approval=manual")
    decide("rolled back", "rollback", "--reason", "worse with dogs")
    run("rolled back, again", 2)
    run("after the rollback", 4)
    run("fails", 5, "gates.min_accuracy=1")
    decide("not by accident", "push", steps["fails"][1]["run"], "--reason", "demo")
    decide("by hand", "push", steps["fails"][1]["run"], "--reason", "demo", "--against", "accuracy")
    return steps


def baseline(result):
    """The folder of the baseline's model; None without one."""
    uris = [one["uri"] for one in result["lineage"] if one["name"] == "baseline model"]
    return str(pathlib.Path(uris[0], "Format-Serving")) if uris else None


def test_a_model_that_waits_is_neither_pushed_nor_anybodys_baseline(story):
    assert baseline(story["first"][1]) is None
    for name in ("waits", "waits again"):
        done, result = story[name]
        assert (done.returncode, result["state"], result["pushed"]) == (4, "waiting", None)
        assert "Waiting for approval: all" in done.stdout
        assert f"Decide: alexnet approve {result['run']} --note WHY" in done.stdout
        assert baseline(result) == story["first"][1]["model"]
    assert story["waits again"][1]["nodes"]["Pusher"]["state"] == "cached"
    assert story["meanwhile"][0].returncode == 0
    assert baseline(story["meanwhile"][1]) == story["first"][1]["model"]


def test_an_approved_model_serves_and_its_run_ends_well_from_then_on(story):
    done, models = story["approved"]
    assert done.returncode == 0, done.stderr
    states = {story["workdir"].find(story[name][1]["run"])["state"] for name in ("waits", "waits again")}
    assert states == {"pushed"}
    assert [(one["state"], one["kind"]) for one in models[:2]] == [("serves", "approved"), ("earlier", "pushed")]
    done, result = story["approved, again"]
    assert (done.returncode, result["state"]) == (0, "pushed")
    assert result["pushed"]["version"] == models[0]["version"]
    assert "Warning" not in done.stdout
    assert baseline(result) == story["first"][1]["model"]  # as before, so Evaluator ran no second time
    assert result["nodes"]["Evaluator"]["state"] == "cached"


def test_after_a_rollback_the_model_that_serves_is_the_baseline(story):
    done, models = story["rolled back"]
    assert done.returncode == 0, done.stderr
    assert (models[0]["kind"], models[0]["run"]) == ("rolled back", story["meanwhile"][1]["run"])
    again, result = story["rolled back, again"]
    assert (again.returncode, result["state"]) == (3, "not pushed")
    assert "it was rolled back by" in again.stdout
    assert "worse with dogs" in again.stdout
    done, result = story["after the rollback"]
    assert (done.returncode, result["state"]) == (0, "pushed")
    assert baseline(result) == story["meanwhile"][1]["model"]


def test_a_model_that_failed_can_be_pushed_by_name(story):
    assert story["fails"][0].returncode == 3
    refused, _ = story["not by accident"]
    assert refused.returncode == 2
    assert "--against 'accuracy'" in refused.stderr
    done, models = story["by hand"]
    assert done.returncode == 0, done.stderr
    assert (models[0]["state"], models[0]["against"]) == ("serves", ["accuracy"])
    found = story["workdir"].find(story["fails"][1]["run"])
    report = schema.Report.model_validate_json((story["workdir"].run(found["run"]) / build.REPORT).read_bytes())
    assert report.decisions[-1].against == ["accuracy"]
    assert (
        "**Pushed by hand against accuracy by"
        in pathlib.Path(models[0]["path"], "assets.extra", build.CARD).read_text()
    )
