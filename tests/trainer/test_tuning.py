"""The search for a recipe: what it tries, that it is reproducible, and what becomes of it when a trial fails."""

import json
import re
import shutil
import types

import keras_tuner
import pytest
import toy_training
from tfx.components.tuner import executor

from core import events
from core.errors import UserError
from core.settings import Tuner
from pipeline import progress
from trainer import run, summary, training, tuning

SPACE = {"training.learning_rate": [0.01, 0.3, "log"], "model.dropout": [0, 0.4], "training.flip": [True, False]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return toy_training.write_examples(folder / "train.gz", 64), toy_training.write_examples(folder / "eval.gz", 20)


@pytest.fixture
def ask(data, tmp_path, monkeypatch):
    """Makes what TFX hands to tuner_fn, for settings of the search."""
    monkeypatch.setattr(summary, "read_summary", lambda graph: toy_training.SUMMARY)
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    monkeypatch.setattr("trainer.callbacks.SECONDS_BETWEEN_EVENTS", 0)

    def make(**changes):
        settings = Tuner(**{"trials": 2, "epochs": 1, "space": SPACE, **changes})
        return types.SimpleNamespace(
            train_files=data[0],
            eval_files=data[1],
            transform_graph_path="graph",
            base_model=None,
            hyperparameters=None,
            custom_config={
                "model": toy_training.MODEL.model_dump(mode="json"),
                "training": toy_training.recipe().model_dump(mode="json"),
                "tuner": settings.model_dump(mode="json"),
                "checkpoint_root": str(tmp_path / "checkpoints"),
                "code": "abc",
            },
        )

    return make


def searched(fn_args):
    tuner = tuning.tuner_fn(fn_args).tuner
    tuner.search()
    return tuner


def told(tmp_path, state):
    found = [event for event in events.Reader(tmp_path / "events").new() if event["kind"] == "trial"]
    return [event for event in found if event["state"] == state]


def stub(accuracies, monkeypatch):
    """Puts known accuracies in the place of trainings; an exception is raised. Returns what was asked for."""
    asked, left = [], list(accuracies)

    def train(model, recipe, *rest):
        asked.append((model, recipe))
        outcome = left.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return None, [{"val_accuracy": 0.99}, {"val_accuracy": outcome}]

    monkeypatch.setattr(training, "train", train)
    return asked


def test_trials_train_and_are_told_of(ask, tmp_path):
    tuner = searched(ask())
    ended = told(tmp_path, "completed")
    assert [(event["trial"], event["trials"]) for event in ended] == [(1, 2), (2, 2)]
    assert ended[-1]["best"] == max(event["accuracy"] for event in ended)
    assert all(0 <= event["accuracy"] <= 1 for event in ended)
    assert all(event["values"].keys() == SPACE.keys() for event in ended)
    assert tuner.get_best_hyperparameters()[0].values in [event["values"] for event in ended]
    assert list((tmp_path / "checkpoints").iterdir()) == []
    shown = progress.Run({"Tuner": progress.Node(progress.RUNNING)})
    lines = [line for event in events.Reader(tmp_path / "events").new() if (line := shown.apply(event))]
    assert len(lines) == 2  # and none for their epochs
    values = r"learning_rate [\d.]+  dropout [\d.]+  flip (true|false)"
    assert re.fullmatch(rf"Tuner: trial 2/2  validation accuracy [\d.]+%  best [\d.]+%  {values}", lines[1])
    assert re.match(r"trial 2/2  best [\d.]+%  epoch 1/1  ", shown.nodes["Tuner"].detail)


def test_what_tfx_writes_is_what_trainer_and_the_results_read(ask, tmp_path, monkeypatch):
    from tfx.types import standard_artifacts

    from review import results

    stub([0.3, 0.7, 0.5], monkeypatch)
    outputs = {"best_hyperparameters": standard_artifacts.HyperParameters(), "tuner_results": None}
    outputs["tuner_results"] = standard_artifacts.TunerResults()
    for name, artifact in outputs.items():
        artifact.uri = str(tmp_path / name)
    fn_args = ask(trials=3)
    executor.write_best_hyperparameters(searched(fn_args), {name: [one] for name, one in outputs.items()})
    config = json.loads((tmp_path / "best_hyperparameters/best_hyperparameters.txt").read_text())
    trials = results.trials(json.loads((tmp_path / "tuner_results/tuner_results.json").read_text()))
    assert [(trial["trial"], trial["accuracy"]) for trial in trials] == [(2, 0.7), (3, 0.5), (1, 0.3)]
    assert trials[0]["values"] == config["values"]
    model, recipe = run.recipe(fn_args.custom_config, config["values"])
    assert (model.dropout, recipe.learning_rate) == tuple(
        config["values"][key] for key in ("model.dropout", "training.learning_rate")
    )
    assert recipe.epochs == toy_training.recipe().epochs


def test_the_same_seed_tries_the_same_and_keeps_to_the_space(ask, monkeypatch):
    found = []
    for code in ("a", "b"):
        asked = stub([0.1] * 6, monkeypatch)
        fn_args = ask(trials=6)
        fn_args.custom_config["code"] = code
        searched(fn_args)
        found.append(asked)
    assert found[0] == found[1]
    assert len({recipe.learning_rate for _, recipe in found[0]}) == 6
    for model, recipe in found[0]:
        assert 0.01 <= recipe.learning_rate <= 0.3
        assert 0 <= model.dropout <= 0.4
        assert (recipe.epochs, recipe.momentum) == (1, toy_training.recipe().momentum)


@pytest.mark.parametrize("algorithm", ["random", "bayesian", "hyperband"])
def test_the_recipe_of_the_settings_is_tried_first(ask, algorithm, monkeypatch):
    asked = stub([0.1] * 3, monkeypatch)
    searched(ask(algorithm=algorithm, trials=3, space={**SPACE, "training.learning_rate": [0.01, 0.9, "log"]}))
    set_values = (toy_training.MODEL.dropout, toy_training.recipe().learning_rate, toy_training.recipe().flip)
    tried = [(model.dropout, recipe.learning_rate, recipe.flip) for model, recipe in asked]
    assert tried[0] == set_values
    assert set_values not in tried[1:]


def test_a_recipe_outside_of_the_space_is_not_tried(ask, monkeypatch):
    asked = stub([0.1] * 2, monkeypatch)
    searched(ask(space={"training.shift": [3, 4]}, trials=2))
    assert {recipe.shift for _, recipe in asked} == {3, 4}


def test_several_workers_are_refused(ask, monkeypatch):
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(UserError, match="names 2 workers"):
        tuning.tuner_fn(ask())


@pytest.mark.parametrize(("algorithm", "trials"), [("bayesian", 6), ("hyperband", 14)])
def test_the_other_algorithms_find_the_better_half(ask, algorithm, trials, monkeypatch):
    asked = []

    def train(model, recipe, *rest):
        asked.append(recipe)
        return None, [{"val_accuracy": recipe.learning_rate}]

    monkeypatch.setattr(training, "train", train)
    tuner = searched(ask(algorithm=algorithm, trials=trials, epochs=9, space={"training.learning_rate": [0.1, 0.3]}))
    assert tuner.get_best_hyperparameters()[0].values["training.learning_rate"] > 0.25
    assert max(recipe.epochs for recipe in asked) == 9
    assert len(asked) == trials
    if algorithm == "hyperband":
        assert {recipe.epochs for recipe in asked} > {1, 9}


def test_an_interrupted_search_continues(ask, tmp_path, monkeypatch):
    asked = stub([0.4, KeyboardInterrupt()], monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        searched(ask(trials=3))
    again = stub([0.6, 0.5], monkeypatch)
    tuner = searched(ask(trials=3))
    assert again[0] == asked[1]
    assert tuner.oracle.get_best_trials(1)[0].score == 0.6
    assert [event["trial"] for event in told(tmp_path, "completed")] == [1, 2, 3]


def test_a_state_that_was_cut_short_is_no_obstacle(ask, tmp_path, monkeypatch):
    stub([0.4, KeyboardInterrupt()], monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        searched(ask())
    (file,) = tmp_path.glob("checkpoints/*/search/oracle.json")
    file.write_text(file.read_text()[:100])
    assert len(stub([0.4, 0.5], monkeypatch)) == 0
    assert searched(ask()).oracle.get_best_trials(1)[0].score == 0.5


def test_a_trial_that_diverges_is_left_out(ask, tmp_path, monkeypatch):
    stub([tuning.Diverged("NaN"), 0.4], monkeypatch)
    assert searched(ask()).oracle.get_best_trials(1)[0].score == 0.4
    assert [event["accuracy"] for event in told(tmp_path, "failed")] == [None]
    stub([tuning.Diverged("NaN")] * 5, monkeypatch)
    with pytest.raises(UserError, match="All 5 trainings of the search diverged"):
        searched(ask(trials=5))


@pytest.mark.parametrize("problem", [UserError("The validation split is empty."), ZeroDivisionError("a bug")])
def test_another_failure_ends_the_search_as_it_is(ask, problem, monkeypatch):
    asked = stub([problem], monkeypatch)
    with pytest.raises(type(problem), match=str(problem)):
        searched(ask(trials=4))
    assert len(asked) == 1


def test_a_share_of_the_examples_keeps_the_classes_apart(data, tmp_path):
    files, thin = tuning.thin_out(data[0], 0.25, toy_training.SUMMARY, tmp_path / "thin.gz")
    assert thin.class_counts == (8, 8) or sum(thin.class_counts) == 16
    assert sum(1 for _ in tuning.input.records(files)) == 16
    with pytest.raises(UserError, match=r"tuner\.share=0\.001 of 64 training examples is not even one"):
        tuning.thin_out(data[0], 0.001, toy_training.SUMMARY, tmp_path / "thin.gz")


def test_the_space_has_the_types_of_the_settings():
    space = {"training.batch_size": [32, 64], "training.shift": [0, 2, 4], "model.normalization": ["batch", "none"]}
    made = tuning.space(Tuner(trials=1, space={**SPACE, **space}))
    kinds = {dimension.name: type(dimension).__name__ for dimension in made.space}
    assert kinds == {
        "training.learning_rate": "Float", "model.dropout": "Float", "training.flip": "Boolean",
        "training.batch_size": "Int", "training.shift": "Choice", "model.normalization": "Choice",
    }  # fmt: skip
    assert isinstance(made, keras_tuner.HyperParameters)


@pytest.mark.parametrize("name", ["oracle.json", "tuner0.json", "trial_*/trial.json", "trial_*", "."])
def test_a_search_of_which_something_was_deleted_goes_on_or_begins_anew(ask, tmp_path, monkeypatch, name):
    stub([0.4, KeyboardInterrupt()], monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        searched(ask())
    for path in tmp_path.glob(f"checkpoints/*/search/{name}"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    stub([0.5, 0.5], monkeypatch)
    assert searched(ask()).oracle.get_best_trials(1)[0].score == 0.5
