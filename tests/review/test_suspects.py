"""Which labels are suspected: of simulated models whose answers are known exactly."""

import pathlib

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from core.errors import UserError
from review import predictions, suspects

NAMES = ["cat", "dog", "owl", "yak"]


def confident(labels, classes, sure=0.97):
    """float32 [n, classes]: nearly all for the true class, less of it in every tenth example."""
    many = len(labels)
    made = np.full((many, classes), 1.0)
    made[np.arange(many), labels] = 0
    made /= made.sum(1, keepdims=True)
    certain = np.where(np.arange(many) % 10 == 9, sure - 0.2, sure)
    made *= (1 - certain)[:, None]
    made[np.arange(many), labels] = certain
    return made.astype(np.float32)


def write(folder, labels, probabilities, split="test", digests=None):
    """Predictions as Evaluator keeps them; every id names its split and place."""
    derived = {"width": 8, "height": 8, "brightness": "dim", "contrast": "low", "size": "small"}
    rows = [
        predictions.row(
            f"{split}-{at:04d}",
            int(label),
            f"class {label}",
            answer,
            {**derived, "digest": digests[at] if digests else f"{split}{at:04x}"},
        )
        for at, (label, answer) in enumerate(zip(labels, probabilities, strict=True))
    ]
    place = pathlib.Path(predictions.folder(str(folder), split))
    place.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, predictions.SCHEMA), place / "part.parquet")
    return str(folder)


@pytest.fixture
def truth():
    """True labels of 400 examples of four classes, and what a good model says of them."""
    labels = np.arange(400) % len(NAMES)
    return labels, confident(labels, len(NAMES))


def test_the_labels_that_were_changed_are_the_suspects(truth):
    labels, probabilities = truth
    changed = np.array([3, 50, 101, 222, 398])
    noisy = labels.copy()
    noisy[changed] = (labels[changed] + [1, 2, 3, 1, 2]) % len(NAMES)
    assert sorted(suspects.judge(noisy, probabilities)) == changed.tolist()
    assert len(suspects.judge(labels, probabilities)) == 0


def test_the_least_plausible_label_comes_first(truth):
    labels, probabilities = truth
    noisy = labels.copy()
    noisy[[7, 8]] = (labels[[7, 8]] + 1) % len(NAMES)
    probabilities[7] = confident(labels[7:8], len(NAMES), 0.96)
    probabilities[8] = confident(labels[8:9], len(NAMES), 0.999)
    assert suspects.judge(noisy, probabilities).tolist() == [8, 7]


def test_of_one_class_nothing_is_suspected():
    assert len(suspects.judge(np.zeros(5, int), np.full((5, 2), 0.5, np.float32))) == 0


def test_test_and_validation_are_judged_together(tmp_path, truth):
    labels, probabilities = truth
    noisy = labels.copy()
    noisy[10], noisy[300] = (labels[[10, 300]] + 1) % len(NAMES)
    folder = write(tmp_path, noisy[:200], probabilities[:200])
    write(tmp_path, noisy[200:], probabilities[200:], "validation")
    assert predictions.PROBABILITIES not in predictions.read(folder)  # many; only this asks for them
    found = suspects.find(folder, NAMES)
    assert found.judged == {"test": 200, "validation": 200}
    assert found.total == 400
    rows = {row["id"]: row for row in found.rows}
    assert rows.keys() == {"test-0010", "validation-0100"}
    row = rows["validation-0100"]
    assert (row["split"], row["label"], row["suggested_label"]) == ("validation", "dog", "cat")
    assert row["digest"] == "validation0064"
    assert row["suggested_probability"] == pytest.approx(probabilities[300, 0], abs=1e-3)  # kept in 16 bits
    assert row["label_probability"] == pytest.approx(probabilities[300, 1], abs=1e-4)
    assert suspects.words(row).startswith("labelled dog, looks like cat, 9")


def test_what_somebody_has_checked_is_not_named_again(tmp_path, truth):
    labels, probabilities = truth
    noisy = labels.copy()
    noisy[[10, 20, 30]] = (labels[[10, 20, 30]] + 1) % len(NAMES)
    folder = write(tmp_path, noisy, probabilities)
    checked = [["test-0010", ""], ["test-0020", "test0014"], ["test-0030", "another picture"]]
    assert [row["id"] for row in suspects.find(folder, NAMES, checked).rows] == ["test-0030"]
    assert suspects.checked({"data": {"corrections": {"checked": checked}}}) == checked
    assert suspects.checked({}) == suspects.checked({"data": {"corrections": {}}}) == []


def test_of_very_many_the_same_part_is_judged_every_time(tmp_path, truth, monkeypatch):
    labels, probabilities = truth
    random = np.random.default_rng(0)
    digests = [random.bytes(16).hex() for _ in labels]
    folder = write(tmp_path / "a", labels, probabilities, digests=digests)
    other = random.permutation(len(labels))
    turned = write(tmp_path / "b", labels[other], probabilities[other], digests=[digests[at] for at in other])
    monkeypatch.setattr(suspects, "MOST_CELLS", 100 * len(NAMES))
    seen = []
    monkeypatch.setattr(suspects, "judge", lambda labels, answers: seen.append(sorted(answers.max(1))) or [])
    found = suspects.find(folder, NAMES)
    assert (found.judged, found.total) == ({"test": 100}, 400)
    suspects.find(turned, NAMES)
    assert len(seen[0]) == 100
    assert seen[0] == seen[1]
    assert "among the 100 test examples (of 400 in all)." in suspects.tell(0, found.judged, found.total)


def test_a_model_that_diverged_says_nothing(tmp_path, truth):
    labels, probabilities = truth
    folder = write(tmp_path, labels, np.full_like(probabilities, np.nan))
    found = suspects.find(folder, NAMES)
    assert (found.judged, found.rows) == ({}, [])
    assert suspects.tell(0, found.judged, found.total) == "No label could be judged."


def test_predictions_of_before_they_were_kept_are_told(tmp_path, truth):
    labels, probabilities = truth
    folder = write(tmp_path, labels, probabilities)
    (file,) = (tmp_path / predictions.FOLDER).iterdir()
    older = pyarrow.parquet.read_table(file).drop_columns([predictions.PROBABILITIES])
    pyarrow.parquet.write_table(older, file)
    assert len(predictions.read(folder)) == len(labels)
    with pytest.raises(suspects.NotKept, match="are without the probabilities of all classes"):
        suspects.find(folder, NAMES)
    with pytest.raises(FileNotFoundError):
        suspects.find(str(tmp_path / "nowhere"), NAMES)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="cut off or damaged"):
        suspects.find(folder, NAMES)


def test_of_more_than_so_many_classes_nothing_is_kept(tmp_path):
    classes = predictions.MOST_CLASSES + 1
    labels = np.arange(4)
    folder = write(tmp_path, labels, confident(labels, classes))
    assert len(predictions.read(folder)) == 4
    with pytest.raises(suspects.NotKept, match="more than 1,000 classes"):
        suspects.find(folder, [str(at) for at in range(classes)])


@pytest.mark.parametrize(
    ("count", "judged", "total", "said"),
    [
        (
            14,
            {"test": 2000, "validation": 1200},
            3200,
            "14 labels are suspected to be wrong among the 3,200 test and validation examples, 0.4%.",
        ),
        (1, {"test": 10}, 10, "1 label is suspected to be wrong among the 10 test examples, 10.0%."),
        (0, {"test": 10}, 10, "No label is suspected to be wrong among the 10 test examples."),
    ],
)
def test_what_is_said(count, judged, total, said):
    assert suspects.tell(count, judged, total) == said


def test_what_is_said_of_corrections():
    found = {"file": "list.csv", "relabelled": 1200, "left_out": 3}
    assert suspects.tell_corrections(found) == "Corrections: 1,200 relabelled, 3 left out by list.csv."
    assert suspects.corrections_of({"data": {"corrections": found}}) == [suspects.tell_corrections(found)]
    assert suspects.corrections_of({"data": {"corrections": {}}}) == suspects.corrections_of({}) == []
