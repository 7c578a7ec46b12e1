"""From raw examples to batches: Transform with real Beam, the summary, the input pipeline."""

import functools
import io

import apache_beam as beam
import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from image_data import encoded, picture
from tensorflow_transform.coders.example_proto_coder import ExampleProtoCoder
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from core.errors import UserError
from trainer import export, features, images, input, summary
from trainer.preprocessing import preprocessing_fn

SIZE = 32
RAW = dataset_metadata.DatasetMetadata(
    schema_utils.schema_from_feature_spec(
        {
            "image": tf.io.FixedLenFeature([], tf.string),
            "label": tf.io.FixedLenFeature([], tf.int64),
            "class_name": tf.io.FixedLenFeature([], tf.string),
            "id": tf.io.FixedLenFeature([], tf.string),
        }
    )
)
CONFIG = {"preprocessing": {"image_size": SIZE, "fit": "stretch"}, "background": "white"}
NAMES = ("cat", "polar bear", "ibis")


def raw(pixels, label):
    return {"image": encoded(pixels), "label": label, "class_name": NAMES[label].encode(), "id": b"x"}


TRAIN_PIXELS = np.stack([picture(seed, (SIZE, SIZE)) for seed in range(40)])
TRAIN_LABELS = [0] * 20 + [1] * 15 + [2] * 5
TRAIN = [raw(pixels, label) for pixels, label in zip(TRAIN_PIXELS, TRAIN_LABELS, strict=True)]
EVAL = [raw(np.full([SIZE, SIZE, 3], 255, np.uint8), 1)] * 3


def write(file, examples):
    """Transformed examples as Transform stores them."""
    with tf.io.TFRecordWriter(str(file), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for example in examples:
            values = {
                "image_raw": tf.train.Feature(bytes_list=tf.train.BytesList(value=[example["image_raw"]])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[example["label"]])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString())


def transform(folder, analyzed, others):
    """Runs Transform over `analyzed`, whose statistics count, and `others`; writes folder/{analyzed,others,graph}."""

    def preprocess(inputs):
        return preprocessing_fn(inputs, custom_config=CONFIG)

    options = PipelineOptions(["--runner=DirectRunner", "--direct_running_mode=in_memory"])
    with beam.Pipeline(options=options) as pipeline, tft_beam.Context(temp_dir=str(folder / "temp")):
        first = pipeline | "analyzed" >> beam.Create(analyzed), RAW
        second = pipeline | "others" >> beam.Create(others), RAW
        done, graph = first | tft_beam.AnalyzeAndTransformDataset(preprocess)
        for name, (examples, metadata) in {
            "analyzed": done,
            "others": (second, graph) | tft_beam.TransformDataset(),
        }.items():
            (
                examples
                | f"encode {name}" >> beam.Map(ExampleProtoCoder(metadata.schema).encode)
                | f"write {name}" >> beam.io.WriteToTFRecord(str(folder / name), file_name_suffix=".gz")
            )
        graph | tft_beam.WriteTransformFn(str(folder / "graph"))


def stored(pattern):
    """The serialized examples in the files."""
    return list(tf.data.TFRecordDataset(tf.io.gfile.glob(str(pattern)), "GZIP").as_numpy_iterator())


@pytest.fixture(scope="module")
def transformed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transform")
    transform(folder, TRAIN, EVAL)
    return folder


def test_stored_bytes_are_the_decoded_pixels(transformed):
    dataset = input.evaluation_dataset([str(transformed / "analyzed*")], SIZE, batch_size=40)
    ((pixels, labels),) = dataset
    order = sorted(range(40), key=lambda at: pixels[at].numpy().tobytes())  # Beam promises none
    expected = sorted(range(40), key=lambda at: TRAIN_PIXELS[at].tobytes())
    np.testing.assert_array_equal(pixels.numpy()[order], TRAIN_PIXELS[expected])
    np.testing.assert_array_equal(labels.numpy()[order], np.array(TRAIN_LABELS)[expected])
    ((others, _),) = input.evaluation_dataset([str(transformed / "others*")], SIZE, batch_size=40)
    np.testing.assert_array_equal(others, np.full([3, SIZE, SIZE, 3], 255))


def test_stored_examples_are_hardly_larger_than_the_pixels(transformed):
    records = stored(transformed / "analyzed*")
    assert max(len(record) for record in records) < 1.15 * SIZE * SIZE * 3
    assert set(tf.train.Example.FromString(records[0]).features.feature) == {features.PIXELS, features.LABEL}


def test_statistics_are_those_of_the_training_split_alone(transformed):
    found = summary.read_summary(transformed / "graph")
    np.testing.assert_allclose(found.mean, TRAIN_PIXELS.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.variance, TRAIN_PIXELS.var(axis=(0, 1, 2)), rtol=1e-6)
    assert found.class_names == NAMES
    assert found.class_counts == (20, 15, 5)
    assert found.examples == 40
    assert found.image_size == SIZE


@pytest.mark.parametrize(
    ("classes", "complaint"),
    [
        ("5 000000 cat\n3 000002 ibis\n", "label 1 has no example"),
        ("5 000000 cat\n3 000001 ibis\n2 000001 emu\n", "label 1 is also 'ibis'"),
    ],
)
def test_labels_with_gaps_or_two_names_are_refused(tmp_path, classes, complaint):
    assets = tmp_path / "transform_fn" / "assets"
    assets.mkdir(parents=True)
    (assets / "classes").write_text(classes)
    with pytest.raises(UserError, match=complaint):
        summary.read_summary(tmp_path)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16"])
def test_every_kind_of_png_becomes_colour(mode):
    grey = PIL.Image.fromarray(picture(1)).convert("L")
    image = grey if mode == "I;16" else PIL.Image.fromarray(picture(1))
    file = io.BytesIO()
    if mode == "I;16":
        PIL.Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(file, "PNG")
        expected = grey.convert("RGB")
    else:
        image = image.convert(mode)
        image.save(file, "PNG")
        expected = image.convert("RGB")
    np.testing.assert_array_equal(images.decode(file.getvalue(), 32), np.asarray(expected))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_is_decoded_too(mode):
    image = PIL.Image.fromarray(picture(1)).convert(mode)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    decoded = images.decode(file.getvalue(), 32).numpy().astype(int)
    assert np.abs(decoded - np.asarray(image.convert("RGB"))).mean() < 4


def test_another_size_is_resized_with_antialiasing():
    stripes = np.zeros([64, 96, 3], np.uint8)
    stripes[:, ::2] = 255  # without antialiasing some columns would stay black and some white
    inner = images.decode(encoded(stripes), 16).numpy()[:, 1:-1]
    assert inner.shape == (16, 14, 3)
    assert inner.min() > 100
    assert inner.max() < 155


def test_bytes_round_trip():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), np.uint8)
    raw_bytes = tf.stack([images.to_bytes(tf.constant(image)) for image in pixels])
    assert list(raw_bytes.numpy()) == [image.tobytes() for image in pixels]
    np.testing.assert_array_equal(images.from_bytes(raw_bytes, 5), pixels)


@pytest.fixture
def numbered(tmp_path):
    """Two files with 23 images of size 4; image and label i are filled with i."""
    examples = [{"image_raw": bytes([i]) * 48, "label": i} for i in range(23)]
    write(tmp_path / "part-0.gz", examples[:12])
    write(tmp_path / "part-1.gz", examples[12:])
    return [str(tmp_path / "part-*")]


def labels_of(files, epochs, seed=1, cache=True):
    """The labels of each epoch, after checking the images."""
    dataset = input.training_dataset(
        files, image_size=4, examples=23, batch_size=5, steps=4, epochs=epochs, seed=seed, cache=cache
    )
    found = []
    for pixels, labels in dataset:
        assert pixels.shape == (5, 4, 4, 3)
        assert pixels.dtype == tf.uint8
        np.testing.assert_array_equal(pixels, np.broadcast_to(labels[:, None, None, None], pixels.shape))
        found += labels.numpy().tolist()
    return [found[start : start + 20] for start in range(0, len(found), 20)]


@pytest.mark.parametrize("cache", [True, False])
def test_each_epoch_sees_other_examples_in_another_order(numbered, cache):
    epochs = labels_of(numbered, range(6), cache=cache)
    assert len(epochs) == 6
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert set().union(*epochs) == set(range(23))
    assert epochs[0] != sorted(epochs[0])


def test_the_order_depends_on_seed_and_epoch_alone(numbered):
    epochs = labels_of(numbered, range(4))
    assert labels_of(numbered, range(4)) == epochs
    assert labels_of(numbered, range(2, 4)) == epochs[2:]
    assert labels_of(numbered, range(4), seed=2) != epochs


def test_cached_examples_are_read_once(numbered, monkeypatch):
    calls = []
    monkeypatch.setattr(input, "PARSE_BATCH", 23)
    original = images.from_bytes

    def spy(raw_bytes, size):
        tf.py_function(lambda: calls.append(1), [], [])
        return original(raw_bytes, size)

    monkeypatch.setattr(images, "from_bytes", spy)
    labels_of(numbered, range(3), cache=True)
    assert len(calls) == 1
    labels_of(numbered, range(3), cache=False)
    assert len(calls) == 1 + 3


def test_what_does_not_fit_into_memory_is_read_in_every_epoch(numbered, monkeypatch):
    cached = labels_of(numbered, range(3))
    parsed = []
    original = images.from_bytes

    def spy(raw_bytes, size):
        tf.py_function(lambda: parsed.append(1), [], [])
        return original(raw_bytes, size)

    monkeypatch.setattr(images, "from_bytes", spy)
    monkeypatch.setattr(input, "free_memory", lambda: 2 * 23 * 48 - 1)
    assert labels_of(numbered, range(3)) == cached
    assert len(parsed) == 3


def test_a_containers_limit_counts_less_what_the_kernel_can_give_back(tmp_path):
    for name, text in {
        "proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n",
        "sys/fs/cgroup/memory.max": "5000000\n",
        "sys/fs/cgroup/memory.current": "3000000\n",
        "sys/fs/cgroup/memory.stat": "anon 2000000\ninactive_file 900000\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert input.free_memory(tmp_path) == 2_900_000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert input.free_memory(tmp_path) == 8000 * 1024


def test_evaluation_sees_every_example_once_in_order(numbered):
    dataset = input.evaluation_dataset(numbered, image_size=4, batch_size=5)
    labels = [labels.numpy().tolist() for _, labels in dataset]
    assert [label for batch in labels for label in batch] == list(range(23))
    assert [len(batch) for batch in labels] == [4, 4, 4, 4, 4, 3]
    assert dataset.cardinality() == 6


@pytest.mark.parametrize("examples", [1, 3, 21, 257, 5000, 5016])
def test_no_batch_of_the_evaluation_is_nearly_empty(examples):
    size = input.even_batch(examples, 256)
    assert 128 <= size <= 256
    assert examples < 128 or (examples % size or size) >= 0.95 * size


def test_an_empty_validation_split_is_refused(tmp_path):
    write(tmp_path / "none.gz", [])
    with pytest.raises(UserError, match="validation"):
        input.evaluation_dataset([str(tmp_path / "none.gz")], 4, 5)


FITS = ("stretch", "crop", "pad")
ODD = [(20, 90), (75, 31), (3, 50), (1, 40), (200, 199), (SIZE, 2 * SIZE), (SIZE, SIZE)]  # height, width


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Pictures of odd shapes as Transform stores them, in a file for each way to fit them; one Beam pipeline."""
    folder = tmp_path_factory.mktemp("fitted")
    odd = [raw(picture(seed, size), seed % 3) for seed, size in enumerate(ODD)]
    options = PipelineOptions(["--runner=DirectRunner", "--direct_running_mode=in_memory"])
    with beam.Pipeline(options=options) as pipeline, tft_beam.Context(temp_dir=str(folder / "temp")):
        examples = pipeline | beam.Create(odd)
        for fit in FITS:
            config = {"preprocessing": {"image_size": SIZE, "fit": fit}, "background": "#0a80ff"}
            preprocess = functools.partial(preprocessing_fn, custom_config=config)
            (done, metadata), _ = (examples, RAW) | fit >> tft_beam.AnalyzeAndTransformDataset(preprocess)
            (
                done
                | f"encode {fit}" >> beam.Map(ExampleProtoCoder(metadata.schema).encode)
                | f"write {fit}" >> beam.io.WriteToTFRecord(str(folder / fit), file_name_suffix=".gz")
            )
    return folder, [example["image"] for example in odd]


@pytest.mark.parametrize("fit", FITS)
def test_a_model_serves_what_transform_stored_of_pictures_of_odd_shapes(fit, fitted, tmp_path):
    """Of a network whose answer is its pixels: no two pixels can be mixed up, moved or rounded apart unseen."""
    background = (10, 128, 255)
    folder, odd = fitted
    how = images.Fit(fit, background)
    expected = np.stack([images.decode(encoded_, SIZE, fit=how) for encoded_ in odd])
    ((others, _),) = input.evaluation_dataset([str(folder / f"{fit}*")], SIZE, batch_size=len(odd))
    assert sorted(image.tobytes() for image in others.numpy()) == sorted(image.tobytes() for image in expected)
    shown = keras.Input([SIZE, SIZE, 3], dtype="uint8")
    network = keras.Model(shown, keras.layers.Flatten()(keras.layers.Rescaling(1 / 64)(shown)))
    names = tuple(map(str, range(SIZE * SIZE * 3)))
    data = summary.DataSummary(names, (1,) * len(names), (0.0,) * 3, (1.0,) * 3, SIZE)
    export.export(network, data, tmp_path / "model", background=background, fit=how)
    serve = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
    answers = serve(images=tf.constant(odd))["probabilities"].numpy()
    probabilities = keras.ops.softmax(expected.reshape(len(odd), -1) / np.float32(64)).numpy()
    np.testing.assert_allclose(answers, probabilities, rtol=1e-4)
    np.testing.assert_array_equal(expected[-1], picture(len(ODD) - 1, ODD[-1]))  # what is square keeps its values
    assert not np.allclose(probabilities[0], probabilities[1], rtol=0.1)  # or else any would do


@pytest.mark.parametrize("side", [1, 7, 16, 33, 100])
def test_of_a_square_picture_every_fit_makes_the_same(side):
    one, *others = (images.decode(encoded(picture(side, (side, side))), 16, fit=images.Fit(fit)) for fit in FITS)
    for other in others:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", ODD)
def test_crop_is_the_central_square(size):
    pixels = picture(3, size)
    left, top, right, bottom = images.Fit("crop").seen(size[1], size[0])
    inner = pixels[top:bottom, left:right]
    assert inner.shape[0] == inner.shape[1] == min(size)
    assert abs(left - (size[1] - right)) <= 1
    assert abs(top - (size[0] - bottom)) <= 1
    np.testing.assert_array_equal(
        images.decode(encoded(pixels), 16, fit=images.Fit("crop")), images.decode(encoded(inner), 16)
    )


@pytest.mark.parametrize("size", ODD)
def test_pad_keeps_the_whole_picture_and_its_shape(size):
    margin = (10, 128, 255)
    found = images.decode(encoded(np.zeros([*size, 3], np.uint8)), 16, fit=images.Fit("pad", margin)).numpy()
    rows, columns = (max(1, round(16 * length / max(size))) for length in size)
    inside = (found == 0).all(axis=2)
    assert inside.sum() == rows * columns
    assert inside.any(axis=1).sum() == rows
    assert inside.any(axis=0).sum() == columns
    assert ((found == margin).all(axis=2) | inside).all()
    top, left = inside.any(axis=1).argmax(), inside.any(axis=0).argmax()
    assert (top, left) == ((16 - rows) // 2, (16 - columns) // 2)
