"""Recall, precision and F1 by class: the numbers of scikit-learn, of the validation alone."""

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from trainer import metrics, tensorboard
from trainer.summary import DataSummary


def counted(labels, predicted, classes, batch=7):
    """The counts of answers that come in batches."""
    metric = metrics.ClassCounts(classes)
    logits = np.random.default_rng(1).normal(size=(len(labels), classes)).astype(np.float32)
    logits[np.arange(len(labels)), predicted] = 9
    for start in range(0, len(labels), batch):
        metric.update_state(labels[start : start + batch], logits[start : start + batch])
    return metric


def random_answers(classes, examples, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, examples)
    return labels, np.where(random.random(examples) < 0.6, labels, random.integers(0, classes, examples))


def test_the_counts_are_the_diagonal_and_the_margins_of_the_confusion_matrix():
    labels, predicted = random_answers(5, 100)
    matrix = sklearn.metrics.confusion_matrix(labels, predicted)
    metric = counted(labels, predicted, 5)
    np.testing.assert_array_equal(metric.counts(), [matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)])
    metric.reset_state()
    np.testing.assert_array_equal(metric.counts(), np.zeros([3, 5]))


@pytest.mark.parametrize("seed", range(5))
def test_recall_precision_and_f1_are_those_of_scikit_learn(seed):
    labels, predicted = random_answers(9, 40, seed)
    found = metrics.by_class(counted(labels, predicted, 9).counts())
    known = sorted({*labels, *predicted})
    expected = sklearn.metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(9), zero_division=np.nan
    )
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        np.testing.assert_allclose(np.array(found[name], float)[known], values[known], atol=1e-6)
    macro = sklearn.metrics.f1_score(labels, predicted, average="macro")
    assert metrics.macro_f1(found["f1"]) == pytest.approx(macro, abs=1e-6)


def test_what_does_not_exist_is_none():
    # Class 0 is never predicted, 1 has no example, 2 neither; 3 is always wrong, 4 always right.
    found = metrics.by_class(np.array([[0, 0, 0, 0, 5], [2, 0, 0, 3, 5], [0, 1, 0, 4, 5]]))
    assert found == {
        "recall": [0.0, None, None, 0.0, 1.0],
        "precision": [None, 0.0, None, 0.0, 1.0],
        "f1": [0.0, 0.0, None, 0.0, 1.0],
    }
    assert metrics.macro_f1(found["f1"]) == 0.25
    assert metrics.macro_f1([None]) == 0


def test_only_the_validation_is_counted():
    keras.utils.set_random_seed(1)
    learner = metrics.Learner([keras.Input([4]), keras.layers.Dense(3)], classes=3)
    learner.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    random = np.random.default_rng(0)
    values, labels = random.normal(size=(50, 4)).astype(np.float32), random.integers(0, 3, 50)
    learner.fit(values, labels, batch_size=16, verbose=0)
    assert learner.class_counts.counts().sum() == 0

    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            answers = learner.predict(values[:21], verbose=0).argmax(axis=1)
            matrix = sklearn.metrics.confusion_matrix(labels[:21], answers, labels=range(3))
            seen.append((learner.class_counts.counts(), matrix, logs))

    held_out = values[:21], labels[:21]
    learner.fit(values, labels, batch_size=8, epochs=3, verbose=0, validation_data=held_out, callbacks=[Look()])
    assert len(seen) == 3
    for counts, matrix, logs in seen:
        np.testing.assert_array_equal(counts, [matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)])
        assert counts[0].sum() / 21 == pytest.approx(logs["val_accuracy"])
        assert set(logs) == {"loss", "accuracy", "val_loss", "val_accuracy"}


def test_tags_are_clean_and_differ():
    names = ["cat", "a b", "a_b", "a/b", "<script>", "Käse", "a_b_3", "../../x"]
    tags = tensorboard.class_tags(names)
    assert tags == ["cat", "a_b", "a_b_2", "a_b_3", "_script_", "Käse", "a_b_3_6", ".._.._x"]


def values_of(folder):
    """(tag, step) -> value of the validation run."""
    return {
        (value.tag, event.step): value.simple_value
        for file in sorted((folder / "validation").iterdir())
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }


def record(epoch, **lists):
    numbers = dict.fromkeys(("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "images_per_second"), 1)
    return {"epoch": epoch, **numbers, "val_macro_f1": 0.25, **{f"val_{name}": part for name, part in lists.items()}}


def test_of_many_classes_the_rarest_get_curves(tmp_path):
    classes = 60
    counts = [100] * 5 + [10] * 5 + [50] * 50
    summary = DataSummary(tuple(map(str, range(classes))), tuple(counts), (0.0,) * 3, (1.0,) * 3, 8)
    shares = [label / 100 for label in range(classes)]
    tensorboard.Scalars(tmp_path, [record(1, recall=shares, precision=shares, f1=shares)], summary)
    values = values_of(tmp_path)
    shown = {int(tag.removeprefix("recall/")) for tag, _ in values if tag.startswith("recall/")}
    assert shown == set(range(5, 55))
    assert values["f1/7", 1] == pytest.approx(0.07)
    assert values["epoch/macro_f1", 1] == 0.25
    assert values["epoch/lowest_class_recall", 1] == 0


def test_what_does_not_exist_is_a_gap_in_the_curve(tmp_path):
    summary = DataSummary(("a", "b"), (1, 1), (0.0,) * 3, (1.0,) * 3, 8)
    first = record(1, recall=[None, 0.5], precision=[0.0, None], f1=[0.0, 0.0])
    second = record(2, recall=[None, 0.75], precision=[0.0, 1.0], f1=[0.0, 0.5])
    tensorboard.Scalars(tmp_path, [first, second], summary)
    values = values_of(tmp_path)
    assert [values["epoch/lowest_class_recall", step] for step in (1, 2)] == [0.5, 0.75]
    assert ("precision/b", 1) not in values
    assert values["precision/b", 2] == 1
    assert not any(tag == "recall/a" for tag, _ in values)
