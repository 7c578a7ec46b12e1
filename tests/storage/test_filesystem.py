"""TFX reads and writes `s3://`, against a real server of S3's API."""

import pytest
from s3_objects import keys, put
from tfx.dsl.io import fileio, filesystem
from tfx.utils import io_utils

import storage.filesystem  # noqa: F401  what is tested
from storage import versions


def test_tfx_reads_and_writes_objects_as_files(s3, tmp_path):
    base = "s3://bucket/folder"
    with fileio.open(f"{base}/a.txt", "w") as file:
        file.write("grüße\n")
    with fileio.open(f"{base}/in/b.bin", "wb") as file:
        file.write(b"12")
    with fileio.open(f"{base}/a.txt", "r") as file:
        assert file.read() == "grüße\n"
    assert fileio.exists(f"{base}/in")
    assert fileio.isdir(f"{base}/in/")
    assert not fileio.isdir(f"{base}/a.txt")
    assert not fileio.exists(f"{base}/i")
    assert fileio.listdir(base) == ["in", "a.txt"]
    assert list(fileio.walk(base)) == [(base, ["in"], ["a.txt"]), (f"{base}/in", [], ["b.bin"])]
    assert fileio.glob(f"{base}/*") == [f"{base}/a.txt", f"{base}/in"]
    assert fileio.glob("s3://bucket/f*/in/*.bin") == [f"{base}/in/b.bin"]
    assert fileio.stat(f"{base}/in/b.bin").st_size == 2
    fileio.makedirs(f"{base}/new")
    fileio.copy(f"{base}/a.txt", f"{base}/new/a.txt")
    with pytest.raises(OSError, match="already exists"):
        fileio.copy(f"{base}/a.txt", f"{base}/new/a.txt")
    io_utils.copy_dir(base, str(tmp_path / "local"))
    assert (tmp_path / "local/in/b.bin").read_bytes() == b"12"
    io_utils.copy_dir(str(tmp_path / "local"), "s3://bucket/again")
    assert (
        versions.fingerprint("s3://bucket/again")
        == versions.fingerprint(base)
        == versions.fingerprint(str(tmp_path / "local"))
    )
    fileio.rename("s3://bucket/again/in", "s3://bucket/moved")
    assert keys(s3, "moved") == ["moved/b.bin"]
    fileio.remove(f"{base}/a.txt")
    fileio.rmtree(f"{base}/new")
    assert keys(s3, "folder") == ["folder/in/b.bin"]


@pytest.mark.parametrize(
    "use",
    [
        lambda uri: fileio.open(uri, "r"),
        fileio.remove,
        fileio.rmtree,
        fileio.listdir,
        fileio.stat,
        lambda uri: fileio.rename(uri, f"{uri}2"),
        lambda uri: fileio.copy(uri, f"{uri}2"),
    ],
)
def test_what_is_not_there_is_not_found_as_tfx_expects(s3, use):
    with pytest.raises(filesystem.NotFoundError, match="s3://bucket/nothing does not exist"):
        use("s3://bucket/nothing")


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_file_that_fails_while_it_is_written_does_not_appear(s3, mode):
    file = fileio.open("s3://bucket/half", mode)
    file.write("half" if mode == "w" else b"half")
    file.__exit__(OSError, OSError(), None)
    assert file.closed
    assert keys(s3) == []


def test_odd_keys_do_not_lead_in_circles(s3):
    put(s3, **{"folder//x": b"1", "/y": b"2", "folder/": b""})
    assert [names for _, _, names in fileio.walk("s3://bucket")] == [[]]
    fileio.rmtree("s3://bucket/folder/")
    assert keys(s3) == ["/y"]
