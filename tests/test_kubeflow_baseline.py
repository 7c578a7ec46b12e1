"""What runs on Kubeflow hand on to later ones."""

import os

import pytest
from tfx.types.standard_artifacts import ExampleStatistics, Model

from kubeflow import baseline


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


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "made" / "Split-train"
    folder.mkdir(parents=True)
    (folder / "stats.pb").write_text("one")
    return folder.parent


def test_there_is_nothing_at_first(tmp_path):
    latest(Model, tmp_path / "history", tmp_path / "out", "Format-Serving")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_recorded_is_found_with_its_properties(tmp_path, made):
    given = artifact(ExampleStatistics, made, split_names='["train"]', span=3)
    baseline.RecordExecutor().Do({"artifact": [given]}, {}, {"history": str(tmp_path / "history")})
    found = latest(ExampleStatistics, tmp_path / "history", tmp_path / "out")
    assert (tmp_path / "out/Split-train/stats.pb").read_text() == "one"
    assert (found.split_names, found.span) == ('["train"]', 3)


def test_a_folder_of_pushes_is_a_history_of_models(tmp_path):
    for number in (9, 100):
        (tmp_path / f"serving/{number}").mkdir(parents=True)
        (tmp_path / f"serving/{number}/saved_model.pb").write_text(str(number))
    (tmp_path / "serving/.incoming-1").mkdir()
    latest(Model, tmp_path / "serving", tmp_path / "out", "Format-Serving")
    assert (tmp_path / "out/Format-Serving/saved_model.pb").read_text() == "100"


def test_the_same_is_not_recorded_twice(tmp_path, made):
    history = str(tmp_path / "history")
    for _ in range(2):
        baseline.record(str(made), history)
    assert len(baseline.versions(history)) == 1
    (made / "Split-train/stats.pb").write_text("two")
    baseline.record(str(made), history)
    assert len(baseline.versions(history)) == 2


def test_old_versions_go_with_what_lies_beside_them(tmp_path, made):
    history = tmp_path / "history"
    for number in range(5):
        (made / "Split-train/stats.pb").write_text(str(number))
        baseline.record(str(made), str(history), {"span": number}, kept=2)
    numbers = baseline.versions(str(history))
    assert len(numbers) == 2
    assert sorted(path.name for path in history.iterdir()) == sorted(
        [".lock"] + [str(n) for n in numbers] + [f"{n}.json" for n in numbers]
    )


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path, made, monkeypatch):
    def fail(source, target):
        os.makedirs(target)
        raise OSError("no space left on device")

    monkeypatch.setattr(baseline.io_utils, "copy_dir", fail)
    with pytest.raises(OSError, match="no space"):
        baseline.record(str(made), str(tmp_path / "history"))
    assert [path.name for path in (tmp_path / "history").iterdir()] == [".lock"]
