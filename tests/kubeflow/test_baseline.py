"""What runs on Kubeflow hand on to later ones."""

import os

from tfx.types.standard_artifacts import ExampleStatistics, Model

from kubeflow import baseline
from storage import versions


def artifact(kind, path, **properties):
    one = kind()
    one.uri = str(path)
    for name, value in properties.items():
        setattr(one, name, value)
    return one


def latest(kind, history, path, under=""):
    """What a `Latest` finds."""
    found = artifact(kind, path)
    os.makedirs(path)
    baseline.LatestExecutor().Do({}, {"found": [found]}, {"history": str(history), "under": under})
    return found


def test_there_is_nothing_at_first(tmp_path):
    latest(Model, tmp_path / "history", tmp_path / "out", "Format-Serving")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_recorded_is_found_with_its_properties(tmp_path, made):
    given = artifact(ExampleStatistics, made, split_names='["train"]', span=3)
    baseline.RecordExecutor().Do({"artifact": [given]}, {}, {"history": str(tmp_path / "history"), "keep": 10})
    found = latest(ExampleStatistics, tmp_path / "history", tmp_path / "out")
    assert (tmp_path / "out/Split-train/stats.pb").read_text() == "one"
    assert (found.split_names, found.span) == ('["train"]', 3)


def test_a_history_grows_to_what_shall_stay(tmp_path, made):
    history = str(tmp_path / "history")
    for number in range(4):
        (made / "Split-train/stats.pb").write_text(str(number))
        given = artifact(ExampleStatistics, made, span=number)
        baseline.RecordExecutor().Do({"artifact": [given]}, {}, {"history": history, "keep": 2.0})  # KFP's numbers
    assert len(versions.versions(history)) == 2
    assert latest(ExampleStatistics, history, tmp_path / "out").span == 3


def test_a_folder_of_pushes_is_a_history_of_models(tmp_path):
    for number in (9, 100):
        (tmp_path / f"serving/{number}").mkdir(parents=True)
        (tmp_path / f"serving/{number}/saved_model.pb").write_text(str(number))
    (tmp_path / "serving/.incoming-1").mkdir()
    latest(Model, tmp_path / "serving", tmp_path / "out", "Format-Serving")
    assert (tmp_path / "out/Format-Serving/saved_model.pb").read_text() == "100"


def test_records_in_an_object_store_are_found_there(s3, tmp_path, made):
    given = artifact(ExampleStatistics, made, split_names='["train"]', span=3)
    baseline.RecordExecutor().Do({"artifact": [given]}, {}, {"history": "s3://bucket/history", "keep": 10})
    found = latest(ExampleStatistics, "s3://bucket/history", tmp_path / "out", "x")
    assert (tmp_path / "out/x/Split-train/stats.pb").read_text() == "one"
    assert sorted(os.listdir(tmp_path / "out/x")) == ["Split-train"]
    assert (found.span, found.split_names) == (3, '["train"]')
