"""Archives of class folders and of batches: every form, every odd one, and what is not read."""

import bz2
import gzip
import io
import lzma
import os
import pathlib
import pickle
import shutil
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from archive_data import FORMS, class_folders, files, tar_member, write
from image_data import batches, encoded, picture, write_binary, write_python

from components.sources import open_source
from core import events
from core.errors import UserError
from core.settings import Data

COMPRESS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def read(path, scratch, **options):
    source = open_source(Data(source=str(path), **options), scratch)
    return source, [record for shard in source.shards() for record in source.read(shard)]


def refused(path, scratch, match, **options):
    """That an archive is refused with one sentence that names it, and not the place where it was unpacked."""
    with pytest.raises(UserError, match=match) as caught:
        read(path, scratch, **options)
    text = str(caught.value)
    assert pathlib.Path(path).name in text
    assert "unpacked-" not in text
    assert "\n" not in text
    return text


def contents(records):
    return {record.id: record.image for record in records}


def unpacked(members, folder):
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


PICTURES = class_folders(top="")


@pytest.mark.parametrize("form", FORMS)
def test_class_folders_in_an_archive_hold_the_same(form, tmp_path, scratch):
    source, records = read(write(tmp_path / f"pets.{form}", PICTURES, form), scratch)
    assert source.class_names == ("cat", "dog")
    assert {record.id: record.image for record in records} == PICTURES
    assert source.ignored() == {}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("writer", [write_python, write_binary])
def test_batches_in_an_archive_hold_the_same(writer, form, tmp_path, scratch):
    folder = writer(tmp_path / "cifar", batches(3))
    path = write(tmp_path / f"cifar.{form}", files(folder, "cifar-10/") | {"cifar-10/readme.html": b"x"}, form)
    source, records = read(path, scratch)
    _, expected = read(folder, scratch)
    assert [record.id for record in records] == [record.id for record in expected]
    assert all((one.image == other.image).all() for one, other in zip(records, expected, strict=True))
    assert source.ignored() == {}


@pytest.mark.parametrize("top", ["pets/", "./", "data/photos/pets/"])
def test_what_lies_around_the_data_is_counted(top, tmp_path, scratch):
    around = {
        "__MACOSX/pets/._1.png": b"x",
        f"{top}.DS_Store": b"x",
        f"{top}train/cat/._0.png": b"x",
        f"{top}train/cat/notes.txt": b"x",
    }
    if top == "pets/":
        around |= {"README.md": b"x", "docs/a.txt": b"x"}
    members = class_folders(top=top) | around
    source, records = read(write(tmp_path / "pets.zip", members), scratch)
    assert {record.id: record.image for record in records} == PICTURES
    assert len(records) + sum(source.ignored().values()) == len(members)
    assert source.ignored()["hidden"] == 2
    assert source.ignored()["made by macOS (__MACOSX)"] == 1
    assert source.ignored().get("outside of the folder pets", 0) == (2 if top == "pets/" else 0)


def test_spans_in_an_archive(tmp_path, scratch):
    members = {f"span-{number}/{name}": content for number in (1, 2) for name, content in PICTURES.items()}
    path = write(tmp_path / "rolling.tar.gz", members)
    _, records = read(path, scratch, newest_spans=1, features=("span",))
    assert {record.id for record in records} == {f"span-2/{name}" for name in PICTURES}
    assert records[0].features == {"span": "span-2"}


def test_an_archive_in_an_archive_is_read(tmp_path, scratch):
    folder = write_python(tmp_path / "cifar-10-batches-py", batches(3))
    inner = write(tmp_path / "cifar-10-python.tar.gz", files(folder, "cifar-10-batches-py/"))
    path = write(tmp_path / "download.zip", {inner.name: inner.read_bytes(), "LICENSE": b"x"})
    source, records = read(path, scratch)
    assert len(records) == 18
    assert source.ignored() == {"beside the archive cifar-10-python.tar.gz": 1}
    path = write(tmp_path / "download.zip", {inner.name: inner.read_bytes()[:-9]})
    refused(path, tmp_path / "again", r"cifar-10-python\.tar\.gz in .*download\.zip is damaged .*: get it again")


def test_archives_within_archives_have_an_end(tmp_path, scratch):
    path = write(tmp_path / "0.zip", PICTURES)
    for number in range(1, 5):
        path = write(tmp_path / f"{number}.zip", {path.name: path.read_bytes()})
    refused(path, scratch, r"holds no data that can be read.*unpack it and the archives in it")


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"train.zip": b"PK\3\4", "test.zip": b"PK\3\4"}, "it has test.zip, train.zip; unpack it and the archives"),
        ({"train.7z": b"7z\xbc\xaf\x27\x1c", "labels.csv": b"x"}, r"train\.7z is a 7z archive: unpack it \(`7z x`\)"),
        ({"data-0.parquet": b"PAR1", "README.md": b"x"}, r"data-0\.parquet is a Parquet table: write its pictures"),
        ({"data_batch_1.mat": b"MATLAB 5.0 MAT-file"}, r"data_batch_1\.mat is a MATLAB file: .*cifar-10-python"),
        ({f"cat/{number}.png": b"\x89PNG\r\n\x1a\n" for number in range(7)}, r"it has cat/0\.png, .* and 2 more\.$"),
        ({"a/train/cat/1.png": b"x", "b/train/cat/1.png": b"x"}, r"holds several sets of data \(a, b\)"),
        ({"pets/train/cat/1.png": b"x"}, r"There is no class folder in .*data\.zip/pets/test"),
        ({"x.npy": b"x", "y.npy": b"x"}, r"data\.zip is a NumPy file \(\.npz\)"),
        ({}, "holds no files"),
    ],
)
def test_an_archive_without_data_says_what_it_holds(members, match, tmp_path, scratch):
    refused(write(tmp_path / "data.zip", members), scratch, match)


FOREIGN = {
    "a 7z archive: unpack it (`7z x`) and give the folder": b"7z\xbc\xaf\x27\x1c\0\4",
    "a RAR archive": b"Rar!\x1a\7\1\0",
    "compressed with Zstandard": b"\x28\xb5\x2f\xfd\4\0",
    "compressed with LZ4": b"\x04\x22\x4d\x18",
    "compressed with lzip": b"LZIP\1",
    "compressed with the old LZMA": lzma.compress(b"x", lzma.FORMAT_ALONE),
    "a Parquet table": b"PAR1\x15\0",
    "an HDF5 file": b"\x89HDF\r\n\x1a\n",
    "a NumPy array": b"\x93NUMPY\1\0",
    "a MATLAB file": b"MATLAB 5.0 MAT-file",
    "a single pickle: give the folder with all of data_batch_1..5": pickle.dumps({}, 2),
    "a single picture: give a folder": encoded(picture(1), "JPEG"),
    "a web page, so the download went wrong": b"\n<!DOCTYPE html><html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
    "a disc image": b"\0" * 32_769 + b"CD001",
    "empty: get it again": b"",
    "full of zeros: get it again": b"\0" * 5000,
    "a single file, compressed with gzip; unpacked it is a NumPy array": gzip.compress(b"\x93NUMPY\1\0" * 200),
    "a single file, compressed with xz: give a .zip": lzma.compress(b"image,label\n"),
    "no archive that is read here: give a .zip, or a .tar": b"image,label\n",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_no_archive_is_named(what, tmp_path, scratch):
    (tmp_path / "data.tar.gz").write_bytes(FOREIGN[what])
    assert f"data.tar.gz is {what}" in refused(tmp_path / "data.tar.gz", scratch, "data")


def test_one_batch_alone_is_named(tmp_path, scratch):
    folder = write_binary(tmp_path / "bin", batches(3))
    refused(folder / "data_batch_1.bin", scratch, "is a single batch: give the folder with all of them")


# Names


ELSEWHERE = ["/etc/pwned", "../pwned", "train/../../pwned", "//host/pwned", "C:\\pwned", "./../pwned"]


@pytest.mark.parametrize(
    ("form", "name"), [(form, name) for form in ("tar", "zip") for name in ELSEWHERE] + [("zip", "..\\..\\pwned")]
)
def test_a_member_that_would_lie_elsewhere_is_refused(form, name, tmp_path, scratch):
    path = write(tmp_path / f"data.{form}", PICTURES | {name: b"hostile"})
    refused(path, scratch, "was refused: its member .*pwned would be written outside")
    assert not list(tmp_path.rglob("*pwned*"))


def test_names_in_the_manner_of_windows(tmp_path, scratch):
    path = write(tmp_path / "pets.zip", {f"pets\\{name}".replace("/", "\\"): body for name, body in PICTURES.items()})
    assert contents(read(path, scratch)[1]) == PICTURES


def test_names_that_are_no_utf_8(tmp_path, scratch):
    members = PICTURES | {"train/cat/\udcb1\udced.png": b"x"}
    path = tmp_path / "pets.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as archive:
        for name, content in members.items():
            archive.addfile(*tar_member(name, content))
    assert r"train/cat/\xb1\xed.png" in contents(read(path, scratch)[1])
    path = write(tmp_path / "pets.zip", PICTURES | {"train/cat/xy.png": b"x"})
    path.write_bytes(path.read_bytes().replace(b"xy.png", b"\xb1\xed.png"))
    assert "train/cat/▒φ.png" in contents(read(path, tmp_path / "again")[1])  # code page 437


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_names_that_cannot_be_files_are_counted(form, tmp_path, scratch):
    odd = {f"train/cat/{'x' * 300}.png": b"x", "train/" + "d/" * 1500 + "1.png": b"x", f"{'y' * 300}/1.png": b"x"}
    source, records = read(write(tmp_path / f"pets.{form}", PICTURES | odd), scratch)
    assert contents(records) == PICTURES
    assert source.ignored() == {"the name cannot be one of a file here": 3}


@pytest.mark.parametrize("form", ["tar", "zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_with_one_name_the_last_is_kept_and_counted(form, tmp_path, scratch):
    first = "train/cat/0.png"
    source, records = read(write(tmp_path / f"pets.{form}", [(first, b"old"), *PICTURES.items()]), scratch)
    assert contents(records) == PICTURES
    assert source.ignored() == {"replaced by a later one of the same name": 1}


@pytest.mark.parametrize("form", ["tar", "zip"])
@pytest.mark.parametrize("first", [True, False])
def test_a_file_and_a_folder_of_one_name(first, form, tmp_path, scratch):
    file, others = [("train/cat", b"x")], list(PICTURES.items())
    path = write(tmp_path / f"pets.{form}", file + others if first else others + file)
    refused(path, scratch, "it has train/cat.* as a file and as a folder")


def test_an_empty_class_folder_is_a_class(tmp_path, scratch):
    for form in ("tar", "zip"):
        path = tmp_path / f"pets.{form}"
        shutil.make_archive(str(path.with_suffix("")), form, unpacked(PICTURES, tmp_path / "made"))
    (tmp_path / "made/train/emu").mkdir()
    for form in ("tar", "zip"):
        path = shutil.make_archive(str(tmp_path / "emus"), form, tmp_path / "made")
        assert read(path, scratch / form)[0].class_names == ("cat", "dog", "emu")


# Links and devices


def test_a_hard_link_is_the_file_and_other_links_and_devices_are_counted(tmp_path, scratch):
    path = write(tmp_path / "pets.tar", PICTURES)
    with tarfile.open(path, "a") as archive:
        archive.addfile(*tar_member("train/cat/again.png", b"", tarfile.LNKTYPE, "train/cat/0.png"))
        archive.addfile(*tar_member("train/cat/lost.png", b"", tarfile.LNKTYPE, "train/cat/nowhere.png"))
        archive.addfile(*tar_member("train/cat/link.png", b"", tarfile.SYMTYPE, "/etc/passwd"))
        archive.addfile(*tar_member("train/cat/null.png", b"", tarfile.CHRTYPE))
        archive.addfile(*tar_member("train/cat/pipe.png", b"", tarfile.FIFOTYPE))
    source, records = read(path, scratch)
    assert contents(records) == PICTURES | {"train/cat/again.png": PICTURES["train/cat/0.png"]}
    assert source.ignored() == {"a link": 2, "neither a file nor a folder": 2}


def test_a_link_in_a_tar_leads_nowhere(tmp_path, scratch):
    """A link to a folder elsewhere, and then a file in it: the link is not made."""
    path, outside = tmp_path / "pets.tar", tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(path, "w") as archive:
        archive.addfile(*tar_member("train/cat", b"", tarfile.SYMTYPE, str(outside)))
        for name, content in PICTURES.items():
            archive.addfile(*tar_member(name, content))
    assert contents(read(path, scratch)[1]) == PICTURES
    assert not list(outside.iterdir())
    with tarfile.open(path, "w") as archive:
        archive.addfile(*tar_member("train/cat/0.png", b"", tarfile.LNKTYPE, "../../../../etc/passwd"))
    refused(path, tmp_path / "again", "passwd would be written outside")


def test_a_link_in_a_zip_is_counted(tmp_path, scratch):
    path = write(tmp_path / "pets.zip", PICTURES)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("train/cat/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    source, records = read(path, scratch)
    assert contents(records) == PICTURES
    assert source.ignored() == {"a link": 1}


# Sizes


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_an_archive_without_room_is_refused(form, tmp_path, scratch, monkeypatch):
    path = write(tmp_path / f"pets.{form}", PICTURES | {"train/cat/big.png": b"\0" * 2_000_000})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**7, 9 * 10**6, 10**6))
    text = refused(path, scratch, r"needs 0\.0 GB unpacked, but the scratch folder .* set TMPDIR to a larger one")
    assert str(scratch) in text
    assert sum(file.stat().st_size for file in scratch.rglob("*") if file.is_file()) < 10**6


def test_a_zip_that_holds_more_than_it_tells_is_refused(tmp_path, scratch):
    path = write(tmp_path / "bomb.zip", {"train/cat/1.png": b"\0" * 10_000_000})
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 10_000_000), struct.pack("<L", 1000)))
    refused(path, scratch, "is damaged")
    assert sum(file.stat().st_size for file in scratch.rglob("*") if file.is_file()) <= 1000


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_gigabytes_is_not_read(kind, tmp_path, scratch):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 10**10
    (tmp_path / "pets.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 10_000)
    refused(tmp_path / "pets.tar", scratch, "impossible size")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_header_of_negative_size_is_refused(form, tmp_path, scratch):
    info = tarfile.TarInfo("x")
    if form == tarfile.GNU_FORMAT:
        info.size = -1024
    else:
        info.pax_headers = {"size": "-1024"}
    (tmp_path / "pets.tar").write_bytes(info.tobuf(form) * 2)
    refused(tmp_path / "pets.tar", scratch, "is damaged")


def test_thousands_of_members_and_zip64(tmp_path, scratch, monkeypatch):
    members = PICTURES | {f"train/dog/{number:05d}.png": b"x" for number in range(2000)}
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 100)
    path = write(tmp_path / "pets.zip", members)
    monkeypatch.undo()
    assert b"PK\6\6" in path.read_bytes()[-200:]
    assert len(read(path, scratch)[1]) == len(members)
    told = path.read_bytes().replace(struct.pack("<2Q", 2010, 2010), struct.pack("<2Q", 2009, 2009))
    path.write_bytes(told)
    refused(path, tmp_path / "again", "lists 2010 members and tells of 2009")


def test_a_zip_of_many_members_without_zip64(tmp_path, scratch):
    """macOS writes such: their number modulo 65,536."""
    path = write(tmp_path / "pets.zip", PICTURES | {f".{number}": b"" for number in range(2**16)}, "stored.zip")
    content = path.read_bytes()
    end = bytearray(content[-22:])
    struct.pack_into("<2H", end, 8, len(PICTURES), len(PICTURES))
    path.write_bytes(content[: -22 - 76] + end)
    source, records = read(path, scratch)
    assert contents(records) == PICTURES
    assert source.ignored() == {"hidden": 2**16}


# Ends and checksums


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_that_is_cut_anywhere_is_refused(form, tmp_path, scratch):
    path = write(tmp_path / f"pets.{form}", {"train/a/1.png": b"1" * 600, "test/a/1.png": b"2" * 600}, form)
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512 if form == "tar" else len(whole)  # the padding may be missing
    for length in {*range(1, end, 11), *range(512, end, 512), *range(end - 30, end)}:
        path.write_bytes(whole[:length])
        refused(path, scratch / str(length), "is damaged|is no archive|is a single file")


@pytest.mark.parametrize("form", FORMS)
def test_something_behind_an_archive_is_refused(form, tmp_path, scratch):
    path = write(tmp_path / f"pets.{form}", PICTURES, form)
    path.write_bytes(path.read_bytes() + b"x" * 600)
    refused(path, scratch, "is damaged")


def test_a_zip_with_a_comment_and_behind_a_program(tmp_path, scratch):
    path = write(tmp_path / "pets.zip", PICTURES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"from a camera"
    path.write_bytes(b"MZ" + b"x" * 3000 + path.read_bytes())
    assert contents(read(path, scratch)[1]) == PICTURES


def test_a_zip_written_to_a_pipe(tmp_path, scratch):
    """Sizes and checksums stand behind the members then, also of an empty one."""

    class Pipe(io.RawIOBase):
        written = b""

        def writable(self):
            return True

        def write(self, data):
            self.written += bytes(data)
            return len(data)

    pipe, members = Pipe(), PICTURES | {"train/cat/empty.png": b""}
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    (tmp_path / "pets.zip").write_bytes(pipe.written)
    assert contents(read(tmp_path / "pets.zip", scratch)[1]) == members


def test_an_entry_of_a_zips_list_that_is_overwritten_is_not_an_empty_file(tmp_path, scratch):
    path = write(tmp_path / "pets.zip", PICTURES, "stored.zip")
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\1\2")
    content[at + 16 : at + 28] = bytes(12)  # checksum and sizes
    path.write_bytes(content)
    refused(path, scratch, "is not what the list of members says")


def test_a_name_of_a_zips_list_that_is_overwritten_is_not_a_folder(tmp_path, scratch):
    path = write(tmp_path / "pets.zip", PICTURES)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"0.png")
    content[at : at + 5] = bytes(5)
    path.write_bytes(content)
    refused(path, scratch, "is damaged")


@pytest.mark.parametrize("compression", COMPRESS)
def test_every_stream_of_a_compressed_file_is_read(compression, tmp_path, scratch):
    """As pigz, pbzip2 and concatenation write them; Python's readers take a damaged second one for the end."""
    compress = COMPRESS[compression]
    whole = write(tmp_path / "pets.tar", PICTURES).read_bytes()
    first, second = compress(whole[:3000]), compress(whole[3000:])
    path = tmp_path / f"pets.tar.{compression}"
    path.write_bytes(first + second + b"\0" * 512)
    assert contents(read(path, scratch)[1]) == PICTURES
    path.write_bytes(first + bytes([second[0] ^ 1]) + second[1:])
    refused(path, tmp_path / "again", "is damaged")


def test_a_damaged_header_in_the_middle_of_a_tar_is_not_its_end(tmp_path, scratch):
    path = write(tmp_path / "pets.tar", PICTURES)
    whole = path.read_bytes()
    at = whole.index(b"test/cat/0.png")
    for new in (bytes([whole[at] ^ 1]) + whole[at + 1 : at + 512], bytes(512)):
        path.write_bytes(whole[:at] + new + whole[at + 512 :])
        refused(path, tmp_path / f"again-{new[0]}", "is damaged")


@pytest.mark.parametrize(
    ("at", "value", "match"),
    [
        ((6, 8), 1, "is encrypted: unpack it with its password"),
        ((8, 10), 9, "is compressed with Deflate64, which is not read here: unpack it"),
        ((8, 10), 93, "is compressed with Zstandard"),
        ((8, 10), 77, "is compressed with method 77"),
    ],
)
def test_a_zip_that_cannot_be_read_says_why(at, value, match, tmp_path, scratch):
    path = write(tmp_path / "pets.zip", PICTURES)
    content = bytearray(path.read_bytes())
    for sign, place in zip((b"PK\3\4", b"PK\1\2"), at, strict=True):
        struct.pack_into("<H", content, content.index(sign) + place, value)
    path.write_bytes(content)
    refused(path, scratch, match)


def test_an_archive_is_called_as_the_user_calls_it(tmp_path, scratch, monkeypatch):
    write(tmp_path / "pets.zip", PICTURES).write_bytes(b"PK\3\4")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"^~/pets\.zip is damaged"):
        read("~/pets.zip", scratch)


def test_unpacking_tells_of_its_progress(tmp_path, scratch, monkeypatch):
    path = write(tmp_path / "pets.tar.gz", PICTURES | {"train/cat/big.png": os.urandom(2**21)})
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    read(path, scratch)
    first = next(events.Reader(tmp_path / "events").new())
    assert (first["kind"], first["name"], first["of"]) == ("unpack", str(path), 2)


# Batches


def counted(tmp_path, kind, **counts):
    """A folder of batches with 4 records each, but for some."""
    made = batches(4)
    for name, count in counts.items():
        labels, pixels = made[name]
        made[name] = labels[:count], np.asarray(pixels[:count])
    return {"python": write_python, "binary": write_binary}[kind](tmp_path / kind, made)


@pytest.mark.parametrize("kind", ["python", "binary"])
@pytest.mark.parametrize("name", ["data_batch_2", "data_batch_5", "test_batch"])
def test_an_empty_batch_is_refused(name, kind, tmp_path, scratch):
    with pytest.raises(UserError, match=rf"{name}(\.bin)? is empty: get the archive again"):
        read(counted(tmp_path, kind, **{name: 0}), scratch)


@pytest.mark.parametrize("kind", ["python", "binary"])
def test_a_batch_with_other_records_than_its_like_is_refused(kind, tmp_path, scratch):
    with pytest.raises(UserError, match=r"data_batch_3(\.bin)? has 2 records, but other training batches have 4"):
        read(counted(tmp_path, kind, data_batch_3=2), scratch)


def test_a_shorter_last_batch_and_another_test_batch_are_told(tmp_path, scratch, monkeypatch):
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    _, records = read(counted(tmp_path, "binary", data_batch_5=1, test_batch=3), scratch)
    assert len(records) == 4 * 4 + 1 + 3
    told = [event["text"] for event in events.Reader(tmp_path / "events").new() if event["kind"] == "warning"]
    assert told == [
        "data_batch_5.bin has 1 records where the training batches have 4",
        "test_batch.bin has 3 records where the training batches have 4",
    ]


def test_a_class_that_is_named_twice_is_refused(binary_folder, scratch):
    (binary_folder / "batches.meta.txt").write_text("cat\ncat\n")
    with pytest.raises(UserError, match=r"batches\.meta\.txt holds the name of a class twice"):
        read(binary_folder, scratch)


def test_other_files_in_an_archive_of_batches_are_counted(tmp_path, scratch):
    folder = write_binary(tmp_path / "bin", batches(3))
    members = files(folder, "bin/") | {"bin/notes.txt": b"x", "elsewhere/notes.txt": b"x"}
    source, _ = read(write(tmp_path / "cifar.zip", members), scratch)
    assert source.ignored() == {"not one of the batches": 1, "outside of the folder bin": 1}


@pytest.mark.parametrize("rest", [b"x", b"."])
def test_something_behind_a_pickle_is_refused(rest, python_folder, scratch):
    path = python_folder / "data_batch_3"
    path.write_bytes(path.read_bytes() + rest)
    with pytest.raises(UserError, match="data_batch_3 is damaged"):
        read(python_folder, scratch)


def test_a_pickle_that_would_fill_the_memory_is_refused(python_folder, scratch):
    """The unpickler's table is as large as the largest number of a part; here it would be 256 MiB."""
    path = python_folder / "data_batch_3"
    path.write_bytes(b"\x80\x02}r\x00\x00\x00\x01.")
    with pytest.raises(UserError, match=r"data_batch_3 is damaged \(ValueError\)"):
        read(python_folder, scratch)
