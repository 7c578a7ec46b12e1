"""What the benchmark of wrong labels changes, counts and writes; not what it measures."""

import json

import numpy as np
import pytest

from benchmarks import arrays, labels


def split(count, classes):
    return arrays.Split(np.zeros((count, 2, 2, 3), np.uint8), np.arange(count) % classes)


def test_so_many_labels_of_every_split_become_another_class():
    data = arrays.Arrays(split(300, 4), split(100, 4), split(200, 4), 4)
    changed, wrong = labels.change(data, 0.1, seed=1)
    for before, after, count in (
        (data.train, changed.train, 30),
        (data.validation, changed.validation, 10),
        (data.test, changed.test, 20),
    ):
        assert (before.labels != after.labels).sum() == count
        assert after.labels.max() < 4
        assert after.images is before.images
    judged = [np.concatenate([part.validation.labels, part.test.labels]) for part in (data, changed)]
    assert (wrong == (judged[0] != judged[1])).all()
    again, _ = labels.change(data, 0.1, seed=1)
    assert (again.test.labels == changed.test.labels).all()


@pytest.mark.parametrize(
    ("found", "named", "met"), [(0.9, 1, ["met", "met"]), (0.89, 1, ["not met", "met"]), (1.0, 2, ["met", "not met"])]
)
def test_the_goals_are_those_of_the_worst_seed(found, named, met):
    def run(seed, found, named):
        used = f"{labels.OURS}, {labels.suspects.RANKING}"
        return {"seed": seed, "judged": 1000, "found": {used: found}, "named": {labels.OURS: named}}

    result = {"preset": "p", "data": "d", "share": 0.02, "runs": [run(1, 1.0, 0), run(2, found, named)]}
    made = labels.goals(result)
    assert [row[-1] for row in made["rows"]] == met
    assert made["title"] == "Goals; p on d, seeds 1, 2"


def test_it_trains_with_and_without_changes_and_writes_what_it_found(tmp_path, capsys):
    target = tmp_path / "labels.json"
    asked = ["--images", "300", "--epochs", "1", "--set", "model.width=0.1", "--seeds", "1", "--share", "0.1"]
    labels.main([*asked, "--json", str(target)])
    written = json.loads(target.read_text())
    (run,) = written["runs"]
    held_out = run["judged"] - 300  # of the test split so many are taken, and of the others a part is validation
    assert 0 < held_out < 100
    assert run["changed"] == round(0.1 * held_out) + 30
    rows = written["tables"][1]["rows"]
    assert [row[0] for row in rows] == [labels.OURS, *labels.FILTERS]
    assert "Goals; shapes10 on shapes10, seed 1" in capsys.readouterr().out
