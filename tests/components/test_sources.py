"""Every kind of source, and every kind of damage."""

import os
import pathlib
import pickle
import shutil

import numpy as np
import pytest
from image_data import CLASSES, batches, encoded, pack, picture, write_folder, write_python
from ports import closed_port

from components.sources import BadRecord, Record, cifar_pickle, open_source
from components.sources.archives import to_image
from core import events
from core.errors import UserError
from core.settings import Data


def read(path, scratch, **options):
    source = open_source(Data(source=str(path), **options), scratch)
    return source, [record for shard in source.shards() for record in source.read(shard)]


@pytest.mark.parametrize("kind", ["python", "binary"])
@pytest.mark.parametrize("packed", [False, True])
def test_both_archives_packed_and_unpacked_hold_the_same(kind, packed, request, tmp_path, scratch):
    folder = request.getfixturevalue(f"{kind}_folder")
    source, records = read(pack(folder, tmp_path / "archive.tar.gz") if packed else folder, scratch)
    assert source.class_names == CLASSES
    expected = [
        (label, row) for labels, pixels in batches().values() for label, row in zip(labels, pixels, strict=True)
    ]
    assert [record.label for record in records] == [label for label, _ in expected]
    assert all((record.image == to_image(row)).all() for record, (_, row) in zip(records, expected, strict=True))
    assert len({record.id for record in records}) == len(records)


def test_an_image_of_an_archive_is_what_was_drawn(python_folder, scratch):
    _, records = read(python_folder, scratch)
    assert (records[3].image == picture(3)).all()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_pickle_protocol_is_read(protocol, tmp_path, scratch):
    _, records = read(write_python(tmp_path / "py", batches(10), protocol), scratch)
    assert len(records) == 60


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_hostile_pickle_is_refused_and_not_run(protocol, python_folder, tmp_path, scratch):
    marker = tmp_path / "pwned"
    path = python_folder / "data_batch_2"
    path.write_bytes(pickle.dumps({b"labels": [], b"data": Hostile(marker)}, protocol))
    # Proof that the file is dangerous: the stock unpickler runs it.
    pickle.loads(path.read_bytes())
    assert marker.exists()
    marker.unlink()
    with pytest.raises(UserError, match=r"data_batch_2 was refused.*system"):
        read(python_folder, scratch)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
        b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.",
        b"cnumpy\ndtype\n(S'O8'\ntR.",
        b"Pid\n.",
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": np.zeros((2, 3072), object)}, 2),
        pickle.dumps({b"data": np.zeros((2, 3072), np.float32)}, 2),
        b"",
        b"\x80",
    ],
)
def test_anything_else_in_a_pickle_is_refused(content, tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(UserError, match="data_batch_1"):
        cifar_pickle.load_batch(path)


def test_a_truncated_batch_of_the_python_archive_is_named(python_folder, scratch):
    path = python_folder / "data_batch_4"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="data_batch_4 is damaged"):
        read(python_folder, scratch)


def test_a_truncated_record_of_the_binary_archive_is_named(binary_folder, scratch):
    path = binary_folder / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"data_batch_4\.bin ends within a record .*60,460 bytes.*get the archive"):
        read(binary_folder, scratch)


def test_a_missing_batch_is_named(binary_folder, scratch):
    (binary_folder / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match=r"lacks the file data_batch_3\.bin"):
        read(binary_folder, scratch)


def test_missing_class_names_are_named(binary_folder, scratch):
    (binary_folder / "batches.meta.txt").unlink()
    with pytest.raises(UserError, match=r"lacks the file batches\.meta\.txt"):
        read(binary_folder, scratch)


def test_a_truncated_archive_is_named(python_folder, tmp_path, scratch):
    archive = pack(python_folder, tmp_path / "cifar-10-python.tar.gz")
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz is damaged .*: get it again"):
        read(archive, scratch)


def test_a_folder_of_images(image_folder, scratch):
    source, records = read(image_folder, scratch)
    assert source.class_names == ("cat", "dog")
    assert len(records) == 2 * (20 + 6)
    first = records[0]
    assert first == Record((image_folder / first.id).read_bytes(), 0, os.path.join("train", "cat", "000.png"))


def test_other_files_are_counted_not_silently_lost(image_folder, scratch):
    (image_folder / "train" / "cat" / "notes.txt").write_text("")
    (image_folder / "train" / "cat" / ".DS_Store").write_text("")
    source, records = read(image_folder, scratch)
    assert source.ignored() == {"hidden": 1, "not an image file (.txt)": 1}
    assert len(records) == 52


def test_everything_below_a_folder_is_used_bad_or_ignored(image_folder, tmp_path, scratch):
    picture_file = image_folder / "train" / "cat" / "000.png"
    for name in (
        "train/cat/more/deep/1.png", "train/cat/more/.2.png", "train/.cache/3.png", "train/loose.png", "top.png",
        "extra/cat/4.png", "train/cat/5.heic", "train/dog/6.WEBP", "__MACOSX/train/cat/7.png",
    ):  # fmt: skip
        (image_folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture_file, image_folder / name)
    (image_folder / "train" / "cat" / "gone.png").symlink_to("/nowhere/gone.png")
    (image_folder / "train" / "cat" / "circle.png").symlink_to("circle.png")
    (image_folder / "train" / "cat" / "back").symlink_to(image_folder)
    os.mkfifo(image_folder / "train" / "cat" / "pipe.png")
    source, records = read(image_folder, scratch)
    used = {record.id for record in records if isinstance(record, Record)}
    bad = {record.where: record.why for record in records if isinstance(record, BadRecord)}
    assert {"train/cat/more/deep/1.png", "train/dog/6.WEBP"} < used
    assert len(used) == 54
    assert bad == {
        "train/cat/circle.png": "a link to circle.png, which is not there",
        "train/cat/gone.png": "a link to /nowhere/gone.png, which is not there",
        "train/cat/pipe.png": "no regular file",
    }
    assert source.ignored() == {
        "hidden": 2,
        "directly in train/, in no class folder": 1,
        "outside train/ and test/": 3,
        "not an image file (.heic)": 1,
        "not an image file (no suffix)": 1,  # the link back
    }
    there = sum(len(files) for _, _, files in os.walk(image_folder)) + 1
    assert len(used) + len(bad) + sum(source.ignored().values()) == there


def test_names_that_are_no_utf_8_and_names_that_look_alike(image_folder, scratch):
    foreign = os.fsencode(image_folder) + b"/train/cat/\xb1\xed.png"
    os.rename(image_folder / "train" / "cat" / "000.png", foreign)
    os.rename(image_folder / "train" / "dog", image_folder / "train" / "Ka\u0308se")
    os.rename(image_folder / "test" / "dog", image_folder / "test" / "K\u00e4se")
    source, records = read(image_folder, scratch)
    assert source.class_names == ("K\u00e4se", "cat")
    assert "train/cat/\\xb1\\xed.png" in {record.id for record in records}
    assert len({record.id for record in records}) == len(records) == 52


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_split_is_named(missing, image_folder, scratch):
    (image_folder / missing).rename(image_folder / "elsewhere")
    with pytest.raises(UserError, match=rf"no class folder in .*{missing}"):
        read(image_folder, scratch)


def test_the_newest_spans_are_taken(tmp_path, scratch):
    for number in (1, 2, 10):
        write_folder(tmp_path / "rolling" / f"span-{number:06d}", train=2, test=1, seed=100 * number)
    _, records = read(tmp_path / "rolling", scratch, newest_spans=2)
    assert {pathlib.PurePath(record.id).parts[0] for record in records} == {"span-000002", "span-000010"}
    _, records = read(tmp_path / "rolling", scratch)
    assert len(records) == 3 * 2 * 3


def test_a_path_that_is_not_there(tmp_path, scratch):
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "nowhere", scratch)


def upload(s3, folder, prefix):
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            s3.upload_file(str(file), "bucket", f"{prefix}/{file.relative_to(folder).as_posix()}")


def test_a_folder_in_an_object_store_holds_the_same(image_folder, scratch, s3):
    upload(s3, image_folder, "data/pets")
    s3.put_object(Bucket="bucket", Key="data/pets/train/bird/", Body=b"")  # what a console makes for a folder
    s3.put_object(Bucket="bucket", Key="data/pets2/train/fish/1.png", Body=b"")
    source, records = read("s3://bucket/data/pets", scratch)
    assert source.class_names == ("cat", "dog")
    assert records == read(image_folder, scratch)[1]


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_in_an_object_store_holds_the_same(packed, binary_folder, tmp_path, scratch, s3):
    if packed:
        s3.upload_file(str(pack(binary_folder, tmp_path / "a.tar.gz")), "bucket", "cifar-10-binary.tar.gz")
    else:
        upload(s3, binary_folder, "unpacked")
    _, records = read(f"s3://bucket/{'cifar-10-binary.tar.gz' if packed else 'unpacked'}", scratch)
    assert [record.id for record in records] == [record.id for record in read(binary_folder, scratch)[1]]


def test_of_an_object_store_the_newest_spans_alone_are_downloaded(tmp_path, scratch, s3):
    for number in (1, 2, 10):
        write_folder(tmp_path / "rolling" / f"span-{number:06d}", train=2, test=1, seed=100 * number)
    upload(s3, tmp_path / "rolling", "rolling")
    _, records = read("s3://bucket/rolling", scratch, newest_spans=2)
    assert {pathlib.PurePath(record.id).parts[0] for record in records} == {"span-000002", "span-000010"}
    assert not list(scratch.rglob("span-000001"))


def test_the_sentences_name_the_object_store(image_folder, scratch, s3):
    with pytest.raises(UserError, match=r"s3://bucket/nothing does not exist"):
        read("s3://bucket/nothing", scratch)
    upload(s3, image_folder / "train", "pets/train")
    with pytest.raises(UserError, match=r"no class folder in s3://bucket/pets/test") as caught:
        read("s3://bucket/pets", scratch)
    assert str(scratch) not in str(caught.value)


def test_a_hostile_key_is_refused(image_folder, tmp_path, scratch, s3):
    upload(s3, image_folder, "pets")
    s3.put_object(Bucket="bucket", Key="pets/train/../../../../pwned", Body=b"hostile")
    with pytest.raises(UserError, match=r"pwned.* cannot be a file"):
        read("s3://bucket/pets", scratch)
    assert not list(tmp_path.rglob("pwned"))


def test_a_download_without_room_is_refused(image_folder, scratch, s3, monkeypatch):
    upload(s3, image_folder, "pets")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(UserError, match=r"has room for 0\.0 GB"):
        read("s3://bucket/pets", scratch)


def test_a_download_tells_of_its_progress(image_folder, tmp_path, scratch, s3, monkeypatch):
    upload(s3, image_folder, "pets")
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    read("s3://bucket/pets", scratch)
    first = next(events.Reader(tmp_path / "events").new())
    assert first["kind"] == "download"
    assert first["name"] == "s3://bucket/pets"
    assert 0 <= first["megabytes"] <= first["of"]


def test_a_file_that_is_no_archive(tmp_path, scratch):
    path = tmp_path / "cifar.png"
    path.write_bytes(encoded(picture(1)))
    with pytest.raises(UserError, match=r"cifar\.png is a single picture: give a folder"):
        read(path, scratch)


@pytest.mark.parametrize("name", ["cifar_10", "cifar-10", "cifar 10"])
def test_an_unknown_builder_names_the_nearest(scratch, name):
    with pytest.raises(UserError, match=f"{name} is neither a file or folder nor .*: did you mean cifar10"):
        open_source(Data(source=name), scratch)


def test_cifar10_without_data_and_network_names_the_three_ways_on(tmp_path, scratch, monkeypatch):
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with closed_port() as port:
        for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
        with pytest.raises(UserError, match=r"network.*--data-dir.*--data") as caught:
            open_source(Data(source="cifar10", data_dir=str(tmp_path / "none")), scratch)
    assert "\n" not in str(caught.value)
