"""The evaluation: TFMA's numbers are scikit-learn's on the same predictions; slices and predictions are kept."""

import apache_beam as beam
import keras
import numpy as np
import pytest
import sklearn.metrics as sk
import tensorflow as tf
import tensorflow_model_analysis as tfma
from image_data import encoded, picture
from tfx_bsl.tfxio import tf_example_record

from components import derived_features, evaluation, evaluator, ingest
from core import settings
from review import predictions, results
from trainer import export
from trainer.summary import DataSummary

NAMES = ("ant", "bee", "<cat>", "dog | cow", "eel")
COUNT = 203
GATES = settings.Gates(min_accuracy=0, min_class_recall=0)
SLICES = settings.Evaluation(slices=["brightness", "class_name,contrast", "size"], smallest_slice=12)


def write_model(folder, seed):
    """A network that sees colours and has random opinions, sure of many of them."""
    keras.utils.set_random_seed(seed)
    network = keras.Sequential(
        [
            keras.Input([8, 8, 3], dtype="uint8"),
            keras.layers.Rescaling(1 / 64),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(len(NAMES), kernel_initializer=keras.initializers.RandomNormal(0, 2)),
        ]
    )
    summary = DataSummary(NAMES, (1,) * len(NAMES), (0.0,) * 3, (1.0,) * 3, 8)
    export.export(network, summary, folder)
    return folder


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """(file, labels, serialized examples): classes of different sizes, images of two."""
    random = np.random.default_rng(0)
    labels = random.choice(len(NAMES), COUNT, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    written = []
    for number, label in enumerate(labels):
        pixels = picture(number, (40, 50) if number % 3 else (20, 20)) // (1 + number % 2)
        written.append(ingest.make_example(encoded(pixels), int(label), NAMES[label], f"test-{number:04d}"))
    file = tmp_path_factory.mktemp("examples") / "data.tfrecord"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for example in written:
            writer.write(example)
    return str(file), labels, written


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(write_model(folder / str(seed), seed)) for seed in (1, 2)]


@pytest.fixture(scope="module")
def probabilities(models, examples):
    """float32 [examples, classes] of each model, by its own signature."""
    found = []
    for model in models:
        signature = tf.saved_model.load(model).signatures["serving_examples"]
        found.append(signature(examples=tf.constant(examples[2]))["probabilities"].numpy())
    return found


@pytest.fixture(scope="module")
def evaluated(models, examples, tmp_path_factory):
    output = str(tmp_path_factory.mktemp("evaluation"))
    with beam.Pipeline(argv=["--direct_running_mode=in_memory"]) as pipeline:
        records = tf_example_record.TFExampleRecord(
            [examples[0]], raw_record_column_name=tfma.constants.ARROW_INPUT_COLUMN
        )
        config = evaluation.eval_config(GATES, SLICES)
        _ = pipeline | records.BeamSource() | evaluator.evaluate(config, models[0], models[1], output)
    return output


@pytest.fixture(scope="module")
def part(evaluated):
    """The evaluation as the results have it."""
    summary = {"data": {"class_names": list(NAMES)}, "blessed": True, **evaluation.measured(evaluated)}
    return results.evaluate(summary, settings.Settings(gates=GATES, evaluation=SLICES))


def test_overall_numbers_are_scikit_learns(part, examples, probabilities):
    labels, (candidate, baseline) = examples[1], probabilities
    guesses = candidate.argmax(axis=1)
    assert part["count"] == COUNT
    assert part["accuracy"] == pytest.approx(sk.accuracy_score(labels, guesses), abs=1e-6)
    assert part["baseline_accuracy"] == pytest.approx(sk.accuracy_score(labels, baseline.argmax(axis=1)), abs=1e-6)
    assert part["loss"] == pytest.approx(sk.log_loss(labels, candidate.astype(float), labels=range(5)), rel=1e-5)
    clipped = baseline.astype(float).clip(1e-7, 1)  # as Keras does; this model is very sure of itself
    assert part["baseline_loss"] == pytest.approx(-np.log(clipped[np.arange(COUNT), labels]).mean(), rel=1e-5)
    top = sk.top_k_accuracy_score(labels, candidate, k=3, labels=range(5))
    assert part["top_3_accuracy"] == pytest.approx(top, abs=1e-6)
    assert part["macro_f1"] == pytest.approx(sk.f1_score(labels, guesses, average="macro", zero_division=0))
    assert part["confusion_matrix"] == sk.confusion_matrix(labels, guesses, labels=range(5)).tolist()


@pytest.mark.parametrize("label", range(len(NAMES)))
def test_each_classs_numbers_are_scikit_learns(part, examples, probabilities, label):
    labels, (candidate, baseline) = examples[1], probabilities
    precision, recall, f1, count = sk.precision_recall_fscore_support(
        labels, candidate.argmax(axis=1), labels=[label], zero_division=0
    )
    (row,) = [row for row in part["classes"] if row["class_name"] == NAMES[label]]
    assert row["count"] == count[0]
    assert row["recall"] == pytest.approx(recall[0], abs=1e-6)
    assert (row["precision"] or 0) == pytest.approx(precision[0])
    assert row["f1"] == pytest.approx(f1[0])
    assert row["auc"] == pytest.approx(sk.roc_auc_score(labels == label, candidate[:, label]), abs=1e-3)
    before = sk.recall_score(labels, baseline.argmax(axis=1), labels=[label], average=None, zero_division=0)
    assert row["baseline_recall"] == pytest.approx(before[0], abs=1e-6)


def test_calibration_is_that_of_the_most_probable_class(part, examples, probabilities):
    labels, (candidate, _) = examples[1], probabilities
    confidence, right = candidate.max(axis=1), candidate.argmax(axis=1) == labels
    error = 0
    for found in part["calibration"]:
        inside = (confidence > found["low"]) & (confidence <= found["high"])
        assert found["count"] == inside.sum()
        if found["count"]:
            assert found["confidence"] == pytest.approx(confidence[inside].mean(), abs=1e-5)
            assert found["accuracy"] == pytest.approx(right[inside].mean(), abs=1e-6)
            error += inside.sum() * abs(right[inside].mean() - confidence[inside].mean())
    assert part["calibration_error"] == pytest.approx(error / COUNT, abs=1e-5)


def test_predictions_are_kept_for_every_example(evaluated, examples, probabilities):
    table = predictions.read(evaluated)
    labels, (candidate, _) = examples[1], probabilities
    assert table["id"].tolist() == [f"test-{number:04d}" for number in range(COUNT)]
    assert table["label"].tolist() == labels.tolist()
    assert table["class_name"].tolist() == [NAMES[label] for label in labels]
    assert table["predicted"].tolist() == candidate.argmax(axis=1).tolist()
    np.testing.assert_allclose(table["probability"], candidate.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(table["true_probability"], candidate[np.arange(COUNT), labels], atol=1e-5)
    np.testing.assert_allclose(np.stack(table["top_probabilities"]), -np.sort(-candidate)[:, :3], atol=1e-5)
    assert table["width"].tolist() == [50 if number % 3 else 20 for number in range(COUNT)]


@pytest.mark.parametrize("names", [["brightness"], ["class_name", "contrast"], ["size"]])
def test_slices_are_those_of_the_kept_predictions(part, evaluated, names):
    table = predictions.read(evaluated)
    table["right"] = table["label"] == table["predicted"]
    expected = table.groupby(names)["right"].agg(["size", "mean"])
    (found,) = [group["rows"] for group in part["slices"] if group["features"] == names]
    assert len(found) == len(expected) > 1
    for row in found:
        count, accuracy = expected.loc[tuple(row["values"]) if len(names) > 1 else row["values"][0]]
        assert (row["count"], row["accuracy"]) == (count, pytest.approx(accuracy, abs=1e-6))
        assert row["too_small"] == (count < 12)
        assert row["baseline_accuracy"] is not None
    judged = [row["accuracy"] for row in found if not row["too_small"]]
    assert judged == sorted(judged)


def test_the_result_is_tfmas_own(evaluated):
    result = tfma.load_eval_result(evaluated, model_name="candidate")
    measured = {
        key: {name.removesuffix("_diff") for name in outputs[""][""]} for key, outputs in result.slicing_metrics
    }
    assert measured.pop(()) == {"accuracy", "example_count", "loss", "top_3_accuracy", "auc", "calibration"}
    assert all(names == {"accuracy", "example_count", "loss"} for names in measured.values())
    assert tfma.load_validation_result(evaluated).validation_ok is False  # the baseline is better somewhere


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.zeros((8, 8, 3)), ("dark (<64)", "low (<32)", "to 32 px", 8, 8)),
        (np.full((40, 100, 3), 128), ("bright (128-191)", "low (<32)", "33-64 px", 100, 40)),
        (np.full((600, 601, 3), 255), ("light (>=192)", "low (<32)", "over 512 px", 601, 600)),
        (
            np.indices((16, 16)).sum(0)[..., None] % 2 * np.full(3, 255),
            ("dim (64-127)", "high (>=64)", "to 32 px", 16, 16),
        ),
    ],
)
def test_features_are_derived_from_the_image(pixels, expected):
    names = ("brightness", "contrast", "size", "width", "height")
    derived = derived_features.derive(encoded(pixels.astype(np.uint8)))
    assert [derived[name] for name in names] == list(expected)


@pytest.mark.parametrize(
    "given",
    [
        *(encoded(picture(1, (20, 30)), form) for form in ("PNG", "JPEG", "BMP", "WEBP")),
        encoded(picture(2)[..., 0]),
        picture(3),
    ],
)
def test_a_picture_has_the_digest_that_the_ingest_gave_it(given):
    kept, digest = ingest.check(given, "white")
    assert derived_features.digest(kept) == derived_features.derive(kept)["digest"] == digest.hex()


def test_every_prediction_has_the_digest_of_its_picture(evaluated, examples):
    table = predictions.read(evaluated).set_index("id")
    for serialized in examples[2]:
        feature = tf.train.Example.FromString(serialized).features.feature
        found = table.digest[feature["id"].bytes_list.value[0].decode()]
        assert found == ingest.check(feature["image"].bytes_list.value[0], "white")[1].hex()


def test_auc_does_not_depend_on_how_the_examples_come_together():
    from components import tfma_metrics

    random = np.random.default_rng(1)
    labels = random.integers(0, 4, 3000)
    scores = random.normal(size=(3000, 4)) * 5 + 3 * np.eye(4)[labels]
    chances = (np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)).astype(np.float32)
    key = tfma.metrics.MetricKey("auc")
    for metric, exact in (
        (tfma_metrics._AUC(key), [sk.roc_auc_score(labels == label, chances[:, label]) for label in range(4)]),
        (tfma_metrics._Calibration(key), None),
    ):
        values = []
        for parts in (1, 7, 40):
            accumulators = []
            for chunk in np.array_split(np.arange(3000), parts):
                accumulator = metric.create_accumulator()
                for n in chunk:
                    element = tfma.metrics.StandardMetricInputs(
                        {"labels": np.array([labels[n]]), "predictions": chances[n]}
                    )
                    accumulator = metric.add_input(accumulator, element)
                accumulators.append(accumulator)
            values.append(metric.extract_output(metric.merge_accumulators(accumulators))[key])
        np.testing.assert_allclose(values[1], values[0])
        np.testing.assert_allclose(values[2], values[0])
        if exact:
            np.testing.assert_allclose(values[0], exact, atol=1e-4)


def test_a_slice_of_one_class_has_no_auc():
    from components import tfma_metrics

    metric = tfma_metrics._AUC(tfma.metrics.MetricKey("auc"))
    for count in (5, 3000):
        accumulator = metric.create_accumulator()
        for _ in range(count):
            element = {"labels": np.array([1]), "predictions": np.array([0.2, 0.3, 0.5])}
            accumulator = metric.add_input(accumulator, tfma.metrics.StandardMetricInputs(element))
        (value,) = metric.extract_output(accumulator).values()
        assert value.size == 0
