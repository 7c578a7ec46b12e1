"""ImageExampleGen: real Beam, real files."""

import collections
import dataclasses
import datetime
import json
import pathlib
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from image_data import CLASSES, batches, encoded, picture, write_binary, write_folder, write_python
from sklearn.datasets import load_sample_image
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, standard_artifacts

from components import ingest_report, records
from components.example_gen import DUPLICATES, INGEST_SETTINGS, REPORT, Executor, ImageExampleGen
from components.sources import fingerprint
from core.errors import UserError
from core.settings import Beam, Data


def run(path, out, beam=(), version="auto", due="", **options):
    """Runs the executor as TFX does; returns the artifact."""
    examples = standard_artifacts.Examples()
    examples.uri = str(out)
    (out / "tmp").mkdir(parents=True)
    context = BaseBeamExecutor.Context(
        beam_pipeline_args=Beam(pipeline_args=beam).arguments, tmp_dir=str(out / "tmp")
    )
    data = Data(source=str(path), **options).model_dump(include=INGEST_SETTINGS)
    properties = {"data": json.dumps(data), "version": version, "due": due}
    Executor(context).Do({}, {"examples": [examples]}, properties)
    return examples


def read(examples, split, further=()):
    """The split's examples as dicts of plain values; they have the usual features and these `further` ones."""
    files = tf.io.gfile.glob(artifact_utils.get_split_uri([examples], split) + "/*")
    found = []
    for record in tf.data.TFRecordDataset(files).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        plain = {
            "image": feature.pop("image").bytes_list.value[0],
            "label": feature.pop("label").int64_list.value[0],
        }
        found.append(plain | {key: value.bytes_list.value[0].decode() for key, value in feature.items()})
        assert set(found[-1]) == {"image", "label", "class_name", "id", *further}
    return found


def report(examples):
    return ingest_report.Report.from_json(pathlib.Path(examples.uri, REPORT).read_text())


def test_a_folder_becomes_three_splits(image_folder, tmp_path):
    examples = run(image_folder, tmp_path / "out", validation_share=0.3)
    assert artifact_utils.decode_split_names(examples.split_names) == ["train", "validation", "test"]
    splits = {split: read(examples, split) for split in ingest_report.SPLITS}
    assert len(splits["train"]) + len(splits["validation"]) == 40
    assert len(splits["test"]) == 12
    assert 4 <= len(splits["validation"]) <= 20
    ids = [example["id"] for split in splits.values() for example in split]
    assert len(set(ids)) == 52
    for split, found in splits.items():
        for example in found:
            assert example["image"] == (image_folder / example["id"]).read_bytes()
            assert example["class_name"] == ("cat", "dog")[example["label"]]
            assert example["id"].split("/")[0] == ("test" if split == "test" else "train")
        counts = collections.Counter(example["class_name"] for example in found)
        assert {name: n for name, n in report(examples).counts[split].items() if n} == dict(counts)


def test_the_report_says_which_data_were_read_and_when(image_folder, tmp_path):
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    found = report(run(image_folder, tmp_path / "found", due="2026-11-26T03:00:00Z"))
    assert found.fingerprint == fingerprint.data(Data(source=str(image_folder)))
    assert before <= datetime.datetime.fromisoformat(found.read) <= datetime.datetime.now(datetime.UTC)
    assert found.due == "2026-11-26T03:00:00Z"
    given = report(run(image_folder, tmp_path / "given", version="7"))
    assert (given.fingerprint, given.due) == ("7", "")


def test_the_same_pictures_fall_into_the_same_split_whatever_they_are_read_from(tmp_path):
    made = batches()
    by_python = run(write_python(tmp_path / "py", made), tmp_path / "a", validation_share=0.2)
    by_binary = run(write_binary(tmp_path / "bin", made), tmp_path / "b", validation_share=0.2)
    for split in ingest_report.SPLITS:
        images = [
            sorted(example["image"] for example in read(examples, split)) for examples in (by_python, by_binary)
        ]
        assert images[0] == images[1]
        assert images[0]


def test_more_data_moves_no_example_to_another_split(tmp_path):
    root = write_folder(tmp_path / "pets", train=10)
    before = {e["id"] for e in read(run(root, tmp_path / "a", validation_share=0.5), "validation")}
    for number in range(20):
        (root / "train" / "cat" / f"more{number}.png").write_bytes(encoded(picture(9000 + number)))
    after = {e["id"] for e in read(run(root, tmp_path / "b", validation_share=0.5), "validation")}
    assert before == {name for name in after if "more" not in name}


def test_bad_images_are_dropped_counted_and_named(image_folder, tmp_path):
    (image_folder / "train" / "cat" / "000.png").write_bytes(b"nonsense")
    broken = image_folder / "test" / "dog" / "001.jpeg"
    broken.write_bytes(broken.read_bytes()[:200])
    examples = run(image_folder, tmp_path / "out", max_bad_share=0.1, validation_share=0.3)
    found = report(examples)
    assert (found.bad, found.total) == (2, 50)
    assert [name for name, _, _ in found.bad_records] == ["test/dog/001.jpeg", "train/cat/000.png"]
    kept = {example["id"] for split in ingest_report.SPLITS for example in read(examples, split)}
    assert not kept & {"test/dog/001.jpeg", "train/cat/000.png"}


def test_too_many_bad_images_stop_the_run(image_folder, tmp_path):
    (image_folder / "train" / "cat" / "000.png").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"1 of 52 examples are bad \(1\.92%\).*train/cat/000\.png: not an image"):
        run(image_folder, tmp_path / "out", max_bad_share=0.01)


def test_a_label_that_is_no_class_is_bad(tmp_path):
    made = batches()
    made["data_batch_2"][0][7] = 11
    folder = write_binary(tmp_path / "bin", made)
    examples = run(folder, tmp_path / "out", max_bad_share=0.1, validation_share=0.2)
    assert report(examples).bad_records == [["data_batch_2_00007", "label 11 is none of the 10 classes", 1]]


def test_an_empty_class_is_named(image_folder, tmp_path):
    for file in (image_folder / "test" / "dog").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="class dog has no test examples"):
        run(image_folder, tmp_path / "out", validation_share=0.3)


def test_a_single_class_is_refused(tmp_path):
    with pytest.raises(UserError, match="only the class cat"):
        run(write_folder(tmp_path / "cats", classes=("cat",)), tmp_path / "out")


def test_a_class_without_examples_says_what_was_there_instead(image_folder, tmp_path):
    for file in (image_folder / "train" / "dog").iterdir():
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(UserError, match=r"class dog has no train examples.*20 files: not an image file \(\.heic\)"):
        run(image_folder, tmp_path / "out", validation_share=0.3)


@pytest.mark.parametrize("share", [1e-9, 0.9999])
def test_no_split_is_emptied_by_chance_and_each_class_keeps_a_training_picture(share, image_folder, tmp_path):
    """A class of one picture, of which there is a copy, too: both stay together in train."""
    yak = image_folder / "train" / "yak"
    yak.mkdir()
    for number in range(2):
        (yak / f"{number}.png").write_bytes(encoded(picture(4000)))
    shutil.copytree(yak, image_folder / "test" / "yak")
    found = report(run(image_folder, tmp_path / "out", validation_share=share))
    assert found.counts["train"]["yak"] == 2
    assert sum(found.counts["validation"].values()) == (1 if share < 0.5 else 38)
    assert all(found.counts["train"].values())
    assert found.total == 56


def test_pictures_that_occur_more_than_once_are_counted_and_named(image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_EVENTS", str(tmp_path / "events.jsonl"))
    cats, dogs = image_folder / "train" / "cat", image_folder / "train" / "dog"
    before = report(run(image_folder, tmp_path / "before")).duplicates
    assert before["pictures"] == before["examples"] == sum(before["leaked"].values()) == 0
    for number in range(3):
        shutil.copy(cats / f"00{2 * number}.png", image_folder / "test" / "cat" / f"leaked{number}.png")
    pixels = np.asarray(PIL.Image.open(cats / "006.png"))
    PIL.Image.fromarray(pixels).save(dogs / "same.bmp")  # another file, the same picture
    shutil.copy(dogs / "001.jpeg", dogs / "twin.jpeg")
    examples = run(image_folder, tmp_path / "out")
    found = report(examples).duplicates
    assert (found["pictures"], found["examples"]) == (5, 10)
    assert found["leaked"] == {"validation": 0, "test": 3}
    assert found["contradicting"] == {"pictures": 1, "examples": 2}
    assert sum(found["copies"].values()) == 2
    pictures = json.loads(pathlib.Path(examples.uri, DUPLICATES).read_text())["pictures"]
    named = [[id for _, _, id in each["examples"]] for each in pictures]
    assert sorted(named[:3]) == [[f"train/cat/00{2 * n}.png", f"test/cat/leaked{n}.png"] for n in range(3)]
    assert named[3:] == [["train/cat/006.png", "train/dog/same.bmp"], ["train/dog/001.jpeg", "train/dog/twin.jpeg"]]
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    leaked, contradicting, copies = [e["text"] for e in map(json.loads, lines) if e["kind"] == "warning"]
    assert leaked.startswith(
        "test examples that are duplicates of training pictures: 3 of 15, such as test/cat/leaked"
    )
    pair = "train/cat/006.png (cat) and train/dog/same.bmp (dog)"
    assert contradicting == f"pictures under more than one class: 1, such as {pair}"
    assert copies.startswith("examples that are duplicates of another one in their split: ")


@pytest.mark.parametrize("suffix", ["webp", "bmp", "gif", "tif"])
def test_folders_of_other_formats_are_converted(suffix, tmp_path):
    root = write_folder(tmp_path / "pets", train=6, test=2)
    for file in [*root.glob("*/*/*")]:
        with PIL.Image.open(file) as image:
            image.save(file.with_suffix(f".{suffix}"))
        file.unlink()
    examples = run(root, tmp_path / "out", validation_share=0.3)
    assert (report(examples).total, report(examples).ignored) == (16, {})
    assert all(example["image"].startswith(b"\x89PNG") for example in read(examples, "train"))


def test_a_hostile_pickle_stops_the_run_with_one_sentence(python_folder, tmp_path):
    (python_folder / "data_batch_1").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match=r"data_batch_1 was refused.*os\.system\.$"):
        run(python_folder, tmp_path / "out")


@pytest.mark.slow
def test_workers_in_processes_of_their_own_read_the_same(image_folder, tmp_path):
    options = {"validation_share": 0.3}
    here = run(image_folder, tmp_path / "here", **options)
    workers = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    apart = run(image_folder, tmp_path / "apart", workers, **options)
    assert dataclasses.replace(report(apart), read=report(here).read) == report(here)  # read at another time
    for split in ingest_report.SPLITS:
        found = [sorted(read(examples, split), key=lambda example: example["id"]) for examples in (here, apart)]
        assert found[0] == found[1] != []


def test_the_embedded_data_set(tmp_path):
    examples = run("shapes10/small", tmp_path / "out")
    assert sum(report(examples).counts["test"].values()) == len(read(examples, "test")) > 0


def test_a_prepared_builder_is_read_offline_and_a_damaged_one_is_not_silently_lost(tmp_path):
    import tensorflow_datasets as tfds

    from components import shapes10  # noqa: F401

    builder = tfds.builder("shapes10/small", data_dir=tmp_path / "data")
    builder.download_and_prepare()
    examples = run("shapes10/small", tmp_path / "out", data_dir=str(tmp_path / "data"))
    total = report(examples).total
    assert total == sum(split.num_examples for split in builder.info.splits.values())
    (record,) = pathlib.Path(builder.data_path).glob("*-test.tfrecord-*")
    content = bytearray(record.read_bytes())
    content[len(content) // 2] ^= 0xFF
    record.write_bytes(content)
    with pytest.raises(UserError, match=r"shapes10 test, from about example \d+: DataLossError: corrupted record"):
        run("shapes10/small", tmp_path / "bad", data_dir=str(tmp_path / "data"))


def test_any_builder_with_images_and_classes_will_do(tmp_path):
    """Grey, another size, three classes, no ids of its own, and "validation" for "test"."""
    import numpy as np
    import tensorflow_datasets as tfds

    class GreyThree(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "label": tfds.features.ClassLabel(names=["one", "two", "three"]),
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "other": tfds.features.Text(),
                "parity": tfds.features.ClassLabel(names=["even", "odd"]),
                "pair": tfds.features.Tensor(shape=(2,), dtype=np.int64),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(40), "validation": self._generate_examples(9)}

        def _generate_examples(self, count):
            for number in range(count):
                image = np.full((28, 28, 1), (number * 7 + count) % 256, np.uint8)
                further = {"other": "x", "parity": number % 2, "pair": [1, 2]}
                yield number, {"image": image, "label": number % 3, **further}

    options = {"data_dir": str(tmp_path / "data"), "validation_share": 0.3}
    examples = run("grey_three", tmp_path / "out", features=["other", "parity"], **options)
    found = report(examples)
    assert found.class_names == ["one", "two", "three"]
    assert found.counts["test"] == {"one": 3, "two": 3, "three": 3}
    assert sum(found.counts["train"].values()) + sum(found.counts["validation"].values()) == 40
    everything = [example for split in ingest_report.SPLITS for example in read(examples, split, ["other", "parity"])]
    assert len({example["id"] for example in everything}) == 49
    assert {example["other"] for example in everything} == {"x"}
    assert sorted({example["parity"] for example in everything}) == ["even", "odd"]
    with pytest.raises(UserError, match=r"data.features names pair, but grey_three has label, other, parity"):
        run("grey_three", tmp_path / "out2", features=["pair"], **options)


def test_the_span_of_a_folder_can_be_kept(tmp_path):
    for number in (1, 2):
        write_folder(tmp_path / "rolling" / f"span-{number}", seed=1000 * number)
    examples = run(tmp_path / "rolling", tmp_path / "out", features=["span"])
    for example in read(examples, "train", ["span"]):
        assert example["id"].startswith(example["span"] + "/train/")
    with pytest.raises(UserError, match=r"data.features names colour, but .*rolling has span"):
        run(tmp_path / "rolling", tmp_path / "out2", features=["colour"])
    with pytest.raises(UserError, match="has no further ones"):
        run(tmp_path / "rolling" / "span-1", tmp_path / "out3", features=["span"])


def test_a_builder_downloads_with_progress(tmp_path, monkeypatch):
    """From a real web server on this machine."""
    import functools
    import http.server
    import threading

    import numpy as np
    import tensorflow_datasets as tfds

    (tmp_path / "web").mkdir()
    np.save(tmp_path / "web" / "pictures.npy", np.stack([picture(seed) for seed in range(1000)]))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "web")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/pictures.npy"

    class FromTheWeb(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(names=["even", "odd"]),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            path = dl_manager.download(url)
            return {"train": self._generate_examples(path, 0, 40), "test": self._generate_examples(path, 40, 50)}

        def _generate_examples(self, path, start, stop):
            for number, image in enumerate(np.load(path)[start:stop]):
                yield number, {"image": image, "label": number % 2}

    monkeypatch.setenv("ALEXNET_EVENTS", str(tmp_path / "events.jsonl"))
    examples = run("from_the_web", tmp_path / "out", data_dir=str(tmp_path / "data"), validation_share=0.3)
    server.shutdown()
    server.server_close()
    assert report(examples).total == 50
    told = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    downloads = [event for event in told if event["kind"] == "download"]
    assert downloads[-1]["name"] == "from_the_web"
    assert downloads[-1]["megabytes"] == 2  # 3,072,128 bytes


@pytest.mark.parametrize("changed", [{"max_label_skew": 0.5}, {"name": "other"}, {"update_schema": True}])
def test_settings_of_later_nodes_do_not_change_what_is_cached(changed):
    def parameters(data):
        return ImageExampleGen(data, "v1").exec_properties

    assert parameters(Data()) == parameters(Data(**changed))
    assert parameters(Data()) != parameters(Data(validation_share=0.2))


def test_class_names_are_those_of_the_source(python_folder, tmp_path):
    assert tuple(report(run(python_folder, tmp_path / "out", validation_share=0.2)).class_names) == CLASSES


# Near-duplicates


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Cuttings of a photograph; of four of train's, test has a JPEG, a smaller one, a mirrored one, and a copy."""
    root = tmp_path_factory.mktemp("pets") / "pictures"
    flower = PIL.Image.fromarray(load_sample_image("flower.jpg"))
    blocks = [flower.crop((x, y, x + 64, y + 64)) for y in range(128, 384, 64) for x in range(128, 512, 64)]
    for split, names in (("train", ("cat", "dog")), ("test", ("cat", "dog"))):
        for name in names:
            (root / split / name).mkdir(parents=True)
    for number, block in enumerate(blocks):
        split = "train" if number < 18 else "test"
        block.save(root / split / ("cat", "dog")[number % 2] / f"{number:02d}.png")
    blocks[0].save(root / "test" / "cat" / "compressed.jpg", quality=60)
    blocks[1].resize((40, 40)).save(root / "test" / "cat" / "smaller.png")
    blocks[2].transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT).save(root / "test" / "cat" / "mirrored.png")
    blocks[4].save(root / "test" / "cat" / "copy.png")
    return root


def test_near_duplicates_are_counted_named_and_kept(photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_EVENTS", str(tmp_path / "events.jsonl"))
    examples = run(photographs, tmp_path / "out", validation_share=0.2)
    found = records.near_duplicates(examples.uri)
    test = {each.example.id: each for each in found if each.example.split == "test"}
    assert {id: (each.known.id, each.mirrored, each.contradicting) for id, each in test.items()} == {
        "test/cat/compressed.jpg": ("train/cat/00.png", False, False),
        "test/cat/smaller.png": ("train/dog/01.png", False, True),
        "test/cat/mirrored.png": ("train/cat/02.png", True, False),
    }
    counted = report(examples).near_duplicates
    assert counted == {"examples": {"validation": 0, "test": 3}, "contradicting": 1}
    assert report(examples).duplicates["leaked"]["test"] == 1
    assert not [path for path in pathlib.Path(examples.uri).iterdir() if path.name in ("thumbnails", "notes")]
    told = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (sentence,) = [each["text"] for each in told if "nearly" in each.get("text", "")]
    assert sentence.startswith("test examples that are nearly training pictures: 3 of 10, such as test/cat/")
    digests = {example["id"]: example["image"] for split in ingest_report.SPLITS for example in read(examples, split)}
    assert test["test/cat/smaller.png"].example.id in digests


def test_they_are_not_looked_for_where_that_is_switched_off(photographs, tmp_path):
    examples = run(photographs, tmp_path / "out", near_duplicates=False)
    assert report(examples).near_duplicates == {}
    assert not pathlib.Path(examples.uri, records.NEAR_DUPLICATES).exists()
    assert records.near_duplicates(examples.uri) == []
