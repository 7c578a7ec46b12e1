"""The exported SavedModel, as a stranger sees it: in a fresh process, with TensorFlow alone."""

import io
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from image_data import encoded, picture

from core.settings import Model
from trainer import export, images, model, views
from trainer.summary import DataSummary

SIZE = 16
SUMMARY = DataSummary(("cat", "dog", "ibis"), (1, 1, 1), (120.0, 110.0, 100.0), (3000.0, 2000.0, 1000.0), SIZE)


def grey_jpeg():
    file = io.BytesIO()
    PIL.Image.fromarray(picture(4, (20, 30))).convert("L").save(file, "JPEG")
    return file.getvalue()


REQUESTS = {
    "png": encoded(picture(1, (SIZE, SIZE))),
    "jpeg": encoded(picture(2, (SIZE, SIZE)), "JPEG"),
    "larger png": encoded(picture(3, (100, 60))),
    "small grey jpeg": grey_jpeg(),
}

STRANGER = """
import json, sys
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
requests = tf.constant([bytes.fromhex(line) for line in sys.stdin.read().split()])
examples = tf.constant([
    tf.train.Example(features=tf.train.Features(feature={
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[request])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
    })).SerializeToString()
    for request in requests.numpy()
])
answers = loaded.signatures["serving_default"](images=requests)
judged = loaded.signatures["serving_examples"](examples=examples)
json.dump({
    "signatures": sorted(loaded.signatures),
    "dtypes": {name: value.dtype.name for name, value in answers.items()},
    "probabilities": answers["probabilities"].numpy().tolist(),
    "class_id": answers["class_id"].numpy().tolist(),
    "class_name": [name.decode() for name in answers["class_name"].numpy()],
    "judged": {name: value.numpy().tolist() for name, value in judged.items()},
    "modules": sorted(sys.modules),
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The network and the folder of its SavedModel."""
    keras.utils.set_random_seed(1)
    settings = Model(variant="cifar", input_size=24, width=0.1, normalization="lrn")
    network = model.build(settings, 3, SIZE, SUMMARY.mean, SUMMARY.variance)
    folder = tmp_path_factory.mktemp("export") / "Format-Serving"
    export.export(network, SUMMARY, folder)
    return network, folder


@pytest.fixture(scope="module")
def answers(exported):
    """What a process that knows nothing of this code gets from the model."""
    process = subprocess.run(
        [sys.executable, "-c", STRANGER, exported[1]],
        input="\n".join(request.hex() for request in REQUESTS.values()),
        capture_output=True,
        text=True,
        cwd="/",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def expected(exported):
    """The probabilities as the network itself gives them, for the pixels that training would see."""
    pixels = tf.stack([images.decode(request, SIZE) for request in REQUESTS.values()])
    return keras.ops.convert_to_numpy(keras.ops.softmax(exported[0](pixels)))


def test_the_signatures_are_the_two_that_are_promised(answers):
    assert answers["signatures"] == ["serving_default", "serving_examples"]
    assert answers["dtypes"] == {"probabilities": "float32", "class_id": "int64", "class_name": "string"}
    assert list(answers["judged"]) == ["probabilities"]


def test_users_get_what_the_network_says(answers, expected):
    np.testing.assert_allclose(answers["probabilities"], expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(expected[:, 0]) > 1e-3  # or else any answer would do
    assert answers["class_id"] == expected.argmax(axis=1).tolist()
    assert answers["class_name"] == [SUMMARY.class_names[label] for label in answers["class_id"]]


def test_evaluation_gets_the_same_from_examples(answers):
    # Two graphs, which TensorFlow may each compute in an order of its own.
    np.testing.assert_allclose(answers["judged"]["probabilities"], answers["probabilities"], rtol=1e-4, atol=1e-6)


def test_none_of_our_code_is_needed(answers):
    assert "trainer" not in answers["modules"]


def test_stored_pixels_are_the_served_pixels(exported):
    """No skew: what preprocessing stores, decoded again, is what the signature feeds to the network."""
    requests = list(REQUESTS.values())
    stored = tf.stack([images.to_bytes(images.decode(request, SIZE)) for request in requests])
    served = images.decode_batch(tf.constant(requests), SIZE)
    np.testing.assert_array_equal(images.from_bytes(stored, SIZE), served)


BLUE = (10, 128, 255)


def drawing(mode="RGBA"):
    """A PNG in which every alpha occurs."""
    rgb, alpha = picture(5, (SIZE, SIZE)), np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE)
    file = io.BytesIO()
    PIL.Image.fromarray(np.dstack([rgb, alpha])).convert(mode).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("request_", [*REQUESTS.values(), drawing(), drawing("LA")], ids=[*REQUESTS, "RGBA", "LA"])
def test_what_is_transparent_is_served_as_ingest_stored_it(request_):
    stored = encoded(images.see(request_, BLUE).pixels)
    np.testing.assert_array_equal(images.decode(request_, SIZE, BLUE), images.decode(stored, SIZE))


def test_the_served_model_has_its_background(exported, tmp_path):
    export.export(exported[0], SUMMARY, tmp_path / "model", background=BLUE)
    serve = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    stored = encoded(images.see(drawing(), BLUE).pixels)
    answers = serve(images=tf.constant([drawing(), stored, REQUESTS["jpeg"]]))["probabilities"].numpy()
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5)


def test_the_keras_file_lies_in_the_saved_model(exported):
    network, folder = exported
    loaded = keras.models.load_model(folder / export.KERAS_FILE)
    for one, other in zip(loaded.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.to_json() == network.to_json()


def test_the_class_names_lie_in_the_saved_model_by_label(exported):
    assert json.loads((exported[1] / "assets.extra/classes.json").read_text()) == ["cat", "dog", "ibis"]


@pytest.mark.parametrize("count", [2, 6])
def test_a_model_of_several_views_answers_with_the_mean_of_their_logits(exported, expected, tmp_path, count):
    network, _ = exported
    export.export(network, SUMMARY, tmp_path / "views", view_count=count)
    serve = tf.saved_model.load(tmp_path / "views").signatures["serving_default"]
    picture_ = images.decode(REQUESTS["png"], SIZE)[None]
    pair = [picture_, tf.reverse(picture_, [2])]
    answers = serve(images=tf.stack([tf.io.encode_png(image[0]) for image in pair]))["probabilities"].numpy()
    logits = [keras.ops.convert_to_numpy(network(view)) for view in views.seen(picture_, count)]
    np.testing.assert_allclose(answers[0], keras.ops.softmax(np.mean(logits, axis=0)[0]), rtol=1e-4, atol=1e-6)
    assert np.abs(answers[0] - expected[0]).max() > 1e-4  # the image alone gets another answer
    if count == 2:
        np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5)  # both are the same pair


def test_a_new_model_replaces_the_old_one_as_a_whole(exported, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "left over").touch()
    export.export(exported[0], SUMMARY, folder)
    assert not (folder / "left over").exists()
    assert (folder / "saved_model.pb").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failed_export_leaves_the_old_model(exported, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()

    def fail(self, path):
        pathlib.Path(path).write_text("half a model")
        raise OSError("disk full")

    monkeypatch.setattr(keras.Model, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        export.export(exported[0], SUMMARY, folder)
    assert [file.name for file in folder.iterdir()] == ["old"]
