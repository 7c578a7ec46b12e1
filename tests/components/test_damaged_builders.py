"""A prepared directory of TensorFlow Datasets that is damaged: one sentence that names it, or bad records."""

import pathlib
import shutil
import struct

import pytest

from components.sources import BadRecord, open_source
from core.errors import UserError
from core.settings import Data

INFO, FEATURES, LABELS = "dataset_info.json", "features.json", "label.labels.txt"
TEST = "shapes10-test.tfrecord-00000-of-00001"
NAME = "shapes10/small"
UNKNOWN = "zoo"  # as TensorFlow Datasets sees what somebody else has prepared


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    import tensorflow_datasets as tfds

    from components import shapes10  # noqa: F401

    builder = tfds.builder(NAME, data_dir=tmp_path_factory.mktemp("prepared"))
    builder.download_and_prepare()
    return pathlib.Path(builder.data_path)


@pytest.fixture
def folder(prepared, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(prepared, tmp_path / "data" / NAME / "1.0.0")


@pytest.fixture
def unknown(prepared, tmp_path):
    """A copy under a name of which there is no code; what there is to know stands in its files."""
    folder = shutil.copytree(prepared, tmp_path / "data" / UNKNOWN / "1.0.0")
    for file in folder.glob("shapes10-*"):
        file.rename(file.with_name(file.name.replace("shapes10", UNKNOWN)))
    (folder / INFO).write_text((folder / INFO).read_text().replace('"shapes10"', f'"{UNKNOWN}"'))
    return folder


def opened(folder, tmp_path, name=NAME):
    return open_source(Data(source=name, data_dir=str(folder.parents[2 if "/" in name else 1])), tmp_path)


def refused(folder, tmp_path, match, name=NAME):
    with pytest.raises(UserError, match=match) as caught:
        opened(folder, tmp_path, name).shards()
    assert str(tmp_path / "data") in str(caught.value)
    assert "\n" not in str(caught.value)


def border(content, count):
    """Where so many records of a TFRecord file end."""
    at = 0
    for _ in range(count):
        at += 16 + struct.unpack_from("<Q", content, at)[0]
    return at


@pytest.mark.parametrize("beyond", [0, 5, 100])
def test_a_file_that_is_cut_is_refused(beyond, folder, tmp_path):
    content = (folder / TEST).read_bytes()
    (folder / TEST).write_bytes(content[: border(content, 123) + beyond])
    refused(folder, tmp_path, rf"{TEST} has 123 complete records, but dataset_info.json beside it tells of 500")


def test_a_file_that_is_missing_is_named(folder, tmp_path):
    (folder / TEST).unlink()
    refused(folder, tmp_path, f"{TEST} is missing")


@pytest.mark.parametrize("told", ['"400"', '"600"', '"0"', '"-5"'])
def test_another_number_of_records_is_refused(told, folder, tmp_path):
    (folder / INFO).write_text((folder / INFO).read_text().replace('"500"', told))
    refused(folder, tmp_path, rf"{TEST} has 500 complete records, but .* tells of {told[1:-1]}:")


def test_a_file_is_not_refused_for_the_size_that_another_program_told(folder, tmp_path):
    (folder / INFO).write_text((folder / INFO).read_text().replace('"numBytes": "', '"numBytes": "1'))
    assert len(opened(folder, tmp_path).shards()) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"\xff\xfe", None])
@pytest.mark.parametrize("file", [INFO, FEATURES])
def test_what_tells_of_the_data_is_damaged(file, content, folder, tmp_path):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    refused(folder, tmp_path, "prepare the data set again")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (INFO, '"fileFormat": "tfrecord"', '"fileFormat": "tfrecore"'),
        (INFO, '"fileFormat": "tfrecord"', '"fileFormat": "riegeli"'),
        (INFO, '"version": "1.0.0"', '"version": "1.0.1"'),
        (INFO, "{FILEFORMAT}", "{FILEFORMAU}"),
        (FEATURES, '"image": {', '"imagf": {'),
        (FEATURES, "image_feature.Image", "image_feature.Imagf"),
    ],
)
def test_a_letter_that_is_another(file, old, new, folder, tmp_path):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))

    def read():
        source = opened(folder, tmp_path)
        return next(iter(source.read(source.shards()[0])))

    with pytest.raises(UserError, match="prepare the data set again"):
        read()


def test_what_somebody_else_has_prepared_is_read(unknown, tmp_path):
    source = opened(unknown, tmp_path, UNKNOWN)
    assert "star" in source.class_names
    (test,) = [shard for shard in source.shards() if shard.split == "test"]
    records = list(source.read(test))
    assert len(records) == 500
    assert not any(isinstance(record, BadRecord) for record in records)


@pytest.mark.parametrize("content", [b"", b"circle\nstar\n", b"\xff\xfe\n", b"star\n" * 10])
def test_names_of_classes_that_are_damaged(content, unknown, tmp_path):
    (unknown / LABELS).write_bytes(content)
    refused(unknown, tmp_path, f"{LABELS} does not have the names of 10 classes, each once", UNKNOWN)


def test_classes_without_names_are_numbered(unknown, tmp_path):
    (unknown / LABELS).unlink()
    assert opened(unknown, tmp_path, UNKNOWN).class_names == tuple(map(str, range(10)))
