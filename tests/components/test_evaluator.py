"""The evaluation: TFMA's numbers are scikit-learn's on the same predictions; slices and predictions are kept."""

import json

import apache_beam as beam
import keras
import numpy as np
import pytest
import sklearn.metrics as sk
import tensorflow as tf
import tensorflow_model_analysis as tfma
from image_data import encoded, picture
from scipy import ndimage
from tensorflow_model_analysis.proto import config_pb2
from tfx_bsl.tfxio import tf_example_record

from components import by_slice, derived_features, evaluation, evaluator, ingest, tfma_metrics
from core import settings
from review import predictions, results
from trainer import export, features, images
from trainer.summary import DataSummary

NAMES = ("ant", "bee", "<cat>", "dog | cow", "eel")
COUNT = 203
GATES = settings.Gates(min_accuracy=0, min_class_recall=0, confidence=0)
OURS = ("confusion_matrix", "auc", "calibration", "calibration_error", "uncalibrated")
TEMPERATURE = 1.7  # of the candidate
SLICES = settings.Evaluation(slices=["brightness", "class_name,contrast", "size"], smallest_slice=12)


def write_model(folder, seed, temperature=1.0):
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
    export.export(network, summary, folder, temperature=temperature)
    return folder


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """(file, labels, serialized examples): classes of different sizes, images of two."""
    random = np.random.default_rng(0)
    labels = random.choice(len(NAMES), COUNT, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    written = []
    for number, label in enumerate(labels):
        pixels = picture(number, (40, 50) if number % 3 else (20, 20)) // (1 + number % 2)
        own = {"lens": f"<{number % 3}>"} if number else {"lens": ""}
        written.append(ingest.make_example(encoded(pixels), int(label), NAMES[label], f"test-{number:04d}", own))
    file = tmp_path_factory.mktemp("examples") / "data.tfrecord"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for example in written:
            writer.write(example)
    return str(file), labels, written


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(write_model(folder / str(seed), seed, warmth)) for seed, warmth in ((1, TEMPERATURE), (2, 1.0))]


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
        batches = pipeline | records.BeamSource()
        _ = batches | evaluator.evaluate(config, models[0], models[1], output, ["lens"])
        kept = predictions.folder(output, "validation")  # the same examples will do
        _ = batches | evaluator.Keep(config, models[0], kept)
    return output


@pytest.fixture(scope="module")
def part(evaluated):
    """The evaluation as the results have it."""
    summary = {"data": {"class_names": list(NAMES)}, "blessed": True, **evaluation.measured(evaluated)}
    return results.evaluate(summary, settings.Settings(gates=GATES, evaluation=SLICES))


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["cat", "dog"], ""),
        (["cat"], "which has other classes: without dog"),
        (["ant", "cat", "dog"], "which has other classes: with ant"),
        (["ant", "cat"], "which has other classes: without dog, and with ant"),
        (["dog", "cat"], "which has the classes in another order"),
        (None, ""),
    ],
)
def test_a_baseline_of_other_classes_is_none(tmp_path, classes, said):
    for name, known in (("model", ["cat", "dog"]), ("baseline", classes)):
        (tmp_path / name / "assets.extra").mkdir(parents=True)
        if known:
            (tmp_path / name / features.CLASSES_FILE).write_text(json.dumps(known))
    assert evaluator.incomparable(str(tmp_path / "model"), str(tmp_path / "baseline")) == said


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


STOCK = {  # metric -> TFMA's own class, its options
    "accuracy": ("SparseCategoricalAccuracy", '"name": "accuracy"'),
    "loss": ("SparseCategoricalCrossentropy", '"name": "loss"'),
    "example_count": ("ExampleCount", ""),
    "top_3_accuracy": ("SparseTopKCategoricalAccuracy", '"name": "top_3_accuracy", "k": 3'),
}


def test_every_number_of_every_slice_is_that_of_tfmas_own_metrics(evaluated, models, examples, tmp_path):
    config = evaluation.eval_config(GATES, SLICES)
    del config.slicing_specs[2:]  # of derived features, which TFMA does not know
    del config.metrics_specs[:]
    config.metrics_specs.add().metrics.extend(
        config_pb2.MetricConfig(class_name=name, config=options) for name, options in STOCK.values()
    )
    shared = [
        tfma.default_eval_shared_model(eval_saved_model_path=path, model_name=spec.name, eval_config=config)
        for spec, path in zip(config.model_specs, models, strict=True)
    ]
    with beam.Pipeline(argv=["--direct_running_mode=in_memory"]) as pipeline:
        records = tf_example_record.TFExampleRecord(
            [examples[0]], raw_record_column_name=tfma.constants.ARROW_INPUT_COLUMN
        )
        _ = (
            pipeline
            | records.BeamSource()
            | tfma.ExtractEvaluateAndWriteResults(
                eval_shared_model=shared, eval_config=config, output_path=str(tmp_path)
            )
        )
    for name in ("candidate", "baseline"):
        ours, stock = (
            {key: found[""][""] for key, found in tfma.load_eval_result(path, model_name=name).slicing_metrics}
            for path in (evaluated, str(tmp_path))
        )
        assert len(stock) == 1 + len(NAMES)
        for key, found in stock.items():
            for metric in STOCK if name == "candidate" and not key else list(STOCK)[:3]:
                assert tfma_metrics.number(ours[key][metric]) == pytest.approx(
                    tfma_metrics.number(found[metric]), rel=1e-5
                ), (
                    name,
                    key,
                    metric,
                )
            for metric in ("accuracy_diff", "loss_diff") if name == "candidate" else ():
                assert tfma_metrics.number(ours[key][metric]) == pytest.approx(
                    tfma_metrics.number(found[metric]), abs=1e-5
                ), (key, metric)


@pytest.mark.parametrize("size", [1, 7])
def test_it_does_not_matter_how_many_examples_are_put_together(monkeypatch, part, models, examples, tmp_path, size):
    monkeypatch.setattr(by_slice, "SIZE", size)
    _, found = judged_by(examples, models[0], tmp_path / "evaluation")
    values = {gate["what"]: gate["value"] for gate in found}
    assert len(values) == 1 + len(NAMES)
    assert values == pytest.approx({gate["what"]: gate["value"] for gate in part["gates"] if gate["what"] in values})


def test_what_the_temperature_did_is_measured(part, models, examples):
    labels, written = examples[1], examples[2]
    network = keras.models.load_model(f"{models[0]}/{export.KERAS_FILE}")
    encoded_ = [tf.train.Example.FromString(one).features.feature["image"].bytes_list.value[0] for one in written]
    before = keras.ops.softmax(network(images.decode_batch(tf.constant(encoded_), 8))).numpy().astype(float)
    found = part["uncalibrated"]
    assert found["temperature"] == TEMPERATURE
    assert found["loss"] == pytest.approx(sk.log_loss(labels, before, labels=range(5)), rel=1e-3)
    assert found["loss"] != pytest.approx(part["loss"], rel=1e-2)
    right = before.argmax(axis=1) == labels
    bins = np.ceil(before.max(axis=1) * len(found["calibration"])) - 1
    expected = [abs((right[bins == b] - before.max(axis=1)[bins == b]).sum()) for b in np.unique(bins)]
    assert found["calibration_error"] == pytest.approx(sum(expected) / COUNT, abs=1e-4)


def judged_by(examples, model, folder, **gates):
    """The word of TFMA, and the gates of the results, on a model without a baseline."""
    gates = settings.Gates(**{"min_accuracy": 0, "min_class_recall": 0} | gates)
    with beam.Pipeline(argv=["--direct_running_mode=in_memory"]) as pipeline:
        records = tf_example_record.TFExampleRecord(
            [examples[0]], raw_record_column_name=tfma.constants.ARROW_INPUT_COLUMN
        )
        config = evaluation.eval_config(gates, settings.Evaluation(slices=[]))
        _ = pipeline | records.BeamSource() | evaluator.evaluate(config, model, None, str(folder))
    summary = {"data": {"class_names": list(NAMES)}, "blessed": True, **evaluation.measured(str(folder))}
    found = results.evaluate(summary, settings.Settings(gates=gates))
    return tfma.load_validation_result(str(folder)).validation_ok, found["gates"]


@pytest.mark.parametrize(("above", "passed"), [(1e-3, True), (-1e-3, False)])
def test_a_model_whose_probabilities_are_dishonest_is_not_blessed(part, examples, models, tmp_path, above, passed):
    limit = part["calibration_error"] + above
    blessed, found = judged_by(examples, models[0], tmp_path / "evaluation", max_calibration_error=limit)
    (gate,) = [gate for gate in found if gate["what"] == "calibration error"]
    assert blessed == gate["passed"] == passed
    assert gate["words"].startswith(
        f"calibration error {part['calibration_error']:.3f} {'<=' if passed else '>'} {limit:.3f} "
        "(gates.max_calibration_error), n="
    )


def test_tfma_decides_as_the_words_of_the_default_gates_say(part, examples, models, tmp_path):
    blessed, found = judged_by(examples, models[0], tmp_path, min_accuracy=None, min_class_recall=None)
    passed = {gate["what"]: gate["passed"] for gate in found}
    largest = max(row["count"] for row in part["classes"]) / COUNT
    assert passed["accuracy"] == (part["accuracy"] > largest)
    assert {row["class_name"]: passed[f"recall of {row['class_name']}"] for row in part["classes"]} == {
        row["class_name"]: row["recall"] > 0 for row in part["classes"]
    }
    assert blessed == all(passed.values())


@pytest.mark.parametrize("above", [-1e-3, 1e-3])
def test_tfma_judges_the_floor_of_a_class_by_its_interval(above, part, examples, models, tmp_path):
    """Just below and above the lowest upper end of all, below which no class fails."""
    ends = {row["class_name"]: row["recall_interval"][1] for row in part["classes"]}
    limit = min(ends.values()) + above
    blessed, found = judged_by(examples, models[0], tmp_path, min_class_recall=limit)
    failed = {gate["what"] for gate in found if not gate["passed"]}
    assert failed == {f"recall of {name}" for name, end in ends.items() if end < limit}
    assert blessed == (not failed) == (above < 0)
    assert any(gate["within"] for gate in found)


def test_more_right_than_the_largest_class_has_is_a_gain():
    inputs = [([0], [0.9, 0.1]), ([0], [0.2, 0.8]), ([1], [0.3, 0.7]), ([1], [0.4, 0.6]), ([0], [0.6, 0.4])]
    key = tfma.metrics.MetricKey("gain")
    for combiner, expected in (
        (tfma_metrics._GainOverLargest(key), 4 / 5 - 3 / 5),
        (tfma_metrics._HighestAccuracy(key, 0.95), 0.9638),  # Wilson's of 4 of 5
    ):
        state = combiner.create_accumulator()
        for label, prediction in inputs:
            element = tfma.metrics.StandardMetricInputs(
                labels=np.array(label), predictions=np.array(prediction), example_weights=np.array([1.0])
            )
            state = combiner.add_input(state, element)
        assert combiner.extract_output(combiner.merge_accumulators([state])) == {
            key: pytest.approx(expected, abs=1e-4)
        }


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


def test_the_datas_own_features_are_kept_with_the_predictions(evaluated, examples):
    assert evaluator.own_features(examples[2][0]) == ["lens"]
    table = predictions.read(evaluated)
    assert table["lens"].tolist() == ["", *(f"<{number % 3}>" for number in range(1, COUNT))]
    derived = [*derived_features.NAMES, "width", "height", "digest"]
    for serialized, (_, row) in zip(examples[2], table.iterrows(), strict=True):
        image = tf.train.Example.FromString(serialized).features.feature["image"].bytes_list.value[0]
        assert row[derived].to_dict() == {key: derived_features.derive(image)[key] for key in derived}


@pytest.mark.parametrize("values", [None, np.array([]), np.array([None], object)])
def test_an_example_without_an_own_feature_has_no_value(values):
    assert evaluator._text(values) == ""


def test_predictions_of_another_split_are_kept_alike(evaluated, probabilities):
    test, other = (predictions.read(evaluated, split) for split in ("test", "validation"))
    assert test.drop(columns="lens").equals(other)
    frame, kept = predictions.read_probabilities(evaluated, "validation")
    assert frame["id"].tolist() == test["id"].tolist()
    assert kept.dtype == np.float16
    np.testing.assert_allclose(kept, probabilities[0], atol=2**-11)  # rounded to 11 bits


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
    assert measured.pop(()) == {"accuracy", "example_count", "loss", "top_3_accuracy", *OURS}
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


def test_sharpness_is_the_variance_of_the_laplacian():
    random = np.random.default_rng(0)
    luma = random.integers(0, 256, (30, 40)).astype(np.float32)
    expected = ndimage.laplace(luma.astype(float))[1:-1, 1:-1].var()
    assert derived_features.sharpness_of(luma) == pytest.approx(expected, rel=1e-9)
    for flat in (np.full((9, 9), 7), np.indices((9, 9)).sum(0), np.ones((2, 9)), np.ones((9, 1))):
        assert derived_features.sharpness_of(flat.astype(np.float32)) == 0


def test_blur_makes_less_sharp_whatever_the_size():
    random = np.random.default_rng(1)
    sharp = ndimage.gaussian_filter(random.integers(0, 256, (1200, 900)).astype(np.float32), 1)
    step = derived_features.step_of(900, 1200)
    assert step > 1
    blurred = ndimage.gaussian_filter(sharp, 2)
    whole, grid = ([derived_features.sharpness_of(luma, n) for luma in (sharp, blurred)] for n in (1, step))
    assert whole[0] > 10 * whole[1]
    assert grid == pytest.approx(whole, rel=0.05)  # the standard error of 16,875 pixels is above 1 %


@pytest.mark.parametrize(
    ("colour", "hue"),
    [
        ((128, 128, 128), "grey"),
        ((100, 110, 104), "grey"),
        ((200, 30, 40), "red"),
        ((200, 30, 90), "red"),
        ((220, 200, 20), "yellow"),
        ((10, 60, 10), "green"),
        ((0, 180, 190), "cyan"),
        ((20, 30, 250), "blue"),
        ((200, 10, 190), "magenta"),
        ((200, 100, 190), "magenta"),
    ],
)
def test_the_hue_is_that_of_the_mean_colour(colour, hue):
    random = np.random.default_rng(2)
    noisy = np.clip(np.array(colour) + random.integers(-9, 10, (20, 20, 3)), 0, 255)
    assert derived_features.hue_of(noisy.astype(np.uint8)) == hue
    assert derived_features.derive(encoded(np.full((5, 5, 3), colour, np.uint8)))["hue"] == hue


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
