"""The evaluation on harmed examples: TFMA's numbers are those of the model asked directly, and the gate is TFMA's."""

import collections
import zlib

import apache_beam as beam
import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from image_data import encoded, picture

from components import corruptions, ingest, robustness
from core import settings
from core.errors import UserError
from review import gates
from review.report import schema
from trainer import export
from trainer.summary import DataSummary

NAMES = ("dark", "mid", "light")
COUNT, SIZE = 60, 8
KINDS = ("noise", "brightness", "contrast")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Tells classes by their brightness, which is what some of the harm changes."""
    network = keras.Sequential(
        [
            keras.Input([SIZE, SIZE, 3], dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    steep = np.array([-20.0, 0.0, 20.0]) / 3
    network.layers[-1].set_weights([np.tile(steep, (3, 1)), np.array([8.0, 3.0, -12.0])])
    folder = tmp_path_factory.mktemp("model") / "1"
    export.export(network, DataSummary(NAMES, (1, 1, 1), (0.0,) * 3, (1.0,) * 3, SIZE), folder)
    return str(folder)


@pytest.fixture(scope="module")
def examples():
    """Serialized examples of three classes; some are stored larger than the network sees them."""
    made = []
    for number in range(COUNT):
        label = number % 3
        pixels = picture(number, (20, 20) if number % 2 else (SIZE, SIZE)) // 4 + 80 * label
        made.append(ingest.make_example(encoded(pixels.astype(np.uint8)), label, NAMES[label], f"{number:03d}"))
    return made


def run(examples, plan, model, folder):
    with beam.Pipeline(argv=["--direct_running_mode=in_memory"]) as pipeline:
        _ = pipeline | beam.Create(examples) | robustness.Evaluate(plan, len(examples), model, str(folder))
    return robustness.load(str(folder))


@pytest.fixture(scope="module")
def measured(examples, model, tmp_path_factory):
    return run(examples, robustness.Plan(KINDS, 0, SIZE), model, tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def asked(examples, model):
    """Right or wrong by (kind, strength, class), by the model's own signature on each harmed picture."""
    serve = tf.saved_model.load(model).signatures["serving_default"]
    found = collections.defaultdict(list)
    for serialized in examples:
        for one in robustness.harmed(robustness.Plan(KINDS, 0, SIZE), 1.0, serialized):
            values = tf.train.Example.FromString(one).features.feature
            kind, strength, name = (
                values[key].bytes_list.value[0].decode() for key in ("corruption", "strength", "class_name")
            )
            answer = serve(images=tf.constant([values["image"].bytes_list.value[0]]))
            right = int(answer["class_id"].numpy()[0]) == values["label"].int64_list.value[0]
            found[kind, int(strength), name].append(right)
    return found


def share(asked, *wanted):
    """The share that is right where every part of the key is as wanted; None takes any."""
    chosen = [
        right
        for key, rights in asked.items()
        if all(part in (None, *([whole] if part == whole else [])) for part, whole in zip(wanted, key, strict=True))
        for right in rights
    ]
    return np.mean(chosen)


def test_every_number_is_that_of_the_model_asked_directly(measured, asked):
    schema.Corruptions(**measured)
    assert (measured["examples"], measured["copies"]) == (COUNT, COUNT * len(KINDS) * 5)
    assert measured["unharmed_accuracy"] == pytest.approx(share(asked, "none", None, None))
    kinds = {row["kind"]: row for row in measured["kinds"]}
    assert list(kinds) == list(KINDS)
    for kind, row in kinds.items():
        assert row["accuracies"] == pytest.approx([share(asked, kind, strength, None) for strength in range(1, 6)])
        assert row["accuracy"] == pytest.approx(share(asked, kind, None, None))
    assert measured["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in kinds.values()]))
    assert [row["class_name"] for row in measured["classes"]] == sorted(NAMES)
    for row in measured["classes"]:
        name = row["class_name"]
        assert row["unharmed_recall"] == pytest.approx(share(asked, "none", None, name))
        assert row["recalls"] == pytest.approx([share(asked, kind, None, name) for kind in KINDS])
    assert len({row["accuracy"] for row in kinds.values()}) > 1  # the harm differs


def test_pictures_are_harmed_as_the_network_sees_them(examples):
    plan = robustness.Plan(("contrast",), 0, SIZE)
    made = [tf.train.Example.FromString(one).features.feature for one in robustness.harmed(plan, 1.0, examples[1])]
    shown = [tf.io.decode_png(values["image"].bytes_list.value[0]).numpy() for values in made]
    assert {one.shape for one in shown} == {(SIZE, SIZE, 3)}
    np.testing.assert_array_equal(shown[5], corruptions.corrupt(shown[0], "contrast", 5, "001"))


def test_a_part_of_the_examples_is_the_same_part_each_time(examples):
    plan = robustness.Plan(("blur",), COUNT // 2, SIZE)
    taken = [one for one in examples if list(robustness.harmed(plan, 0.5, one))]
    assert 0.25 * COUNT < len(taken) < 0.75 * COUNT
    ids = [tf.train.Example.FromString(one).features.feature["id"].bytes_list.value[0] for one in taken]
    assert all(zlib.crc32(b"corrupted " + id) < 2**31 for id in ids)


@pytest.mark.parametrize(("above", "passed"), [(-1e-3, True), (1e-3, False)])
def test_the_floor_is_judged_by_tfma(measured, examples, model, tmp_path, above, passed):
    floor = measured["accuracy"] + above
    run(examples, robustness.Plan(KINDS, 0, SIZE, floor), model, tmp_path / "evaluation")
    assert tfma.load_validation_result(str(tmp_path / "evaluation")).validation_ok is passed
    limits = settings.Gates(min_accuracy=0, min_corrupted_accuracy=floor)
    (gate,) = [
        gate
        for gate in gates.judge(limits, 1.0, COUNT, {}, {}, corruptions=measured)
        if gate.what == "accuracy on harmed pictures"
    ]
    assert (gate.passed, gate.count) == (passed, measured["copies"])


def test_where_nothing_was_harmed_nothing_is_told(tmp_path):
    assert robustness.load(str(tmp_path / "none")) is None
    assert robustness.Plan.of(settings.Settings()) is None


def test_a_plan_survives_its_way_through_a_node():
    changes = ["evaluation.corruptions=[jpeg, blur]", "evaluation.corrupted_examples=7"]
    chosen = settings.load(overrides=[*changes, "gates.min_corrupted_accuracy=0.4"])
    plan = robustness.Plan.of(chosen)
    assert plan == robustness.Plan(("jpeg", "blur"), 7, 32, 0.4)
    assert robustness.Plan.read(plan.written()) == plan
    assert robustness.Plan.read("") is None


def test_a_floor_without_harm_is_refused():
    with pytest.raises(UserError, match=r"gates\.min_corrupted_accuracy needs evaluation\.corruptions"):
        settings.load(overrides=["gates.min_corrupted_accuracy=0.4"])


def test_the_picture_shows_every_kind_and_strength(examples):
    import io

    with PIL.Image.open(io.BytesIO(robustness.picture(examples[1], robustness.Plan(KINDS, 0, SIZE)))) as sheet:
        assert sheet.size == (6 * robustness.SIDE, 3 * robustness.SIDE)
