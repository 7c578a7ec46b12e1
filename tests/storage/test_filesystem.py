"""TFX reads and writes object stores, each of those that are there: see `store_servers`."""

import pytest
from s3_objects import keys, put
from tfx.dsl.io import fileio, filesystem
from tfx.utils import io_utils

import storage.filesystem  # noqa: F401  what is tested
from storage import object_store, versions
from storage.object_store import ObjectStoreError


def names(uri):
    return sorted(one.name for one in object_store.listed(uri))


def test_tfx_reads_and_writes_objects_as_files(bucket, tmp_path):
    base = f"{bucket}/folder"
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
    assert fileio.glob(f"{bucket}/f*/in/*.bin") == [f"{base}/in/b.bin"]
    assert fileio.stat(f"{base}/in/b.bin").st_size == 2
    fileio.makedirs(f"{base}/new")
    fileio.copy(f"{base}/a.txt", f"{base}/new/a.txt")
    with pytest.raises(OSError, match="already exists"):
        fileio.copy(f"{base}/a.txt", f"{base}/new/a.txt")
    io_utils.copy_dir(base, str(tmp_path / "local"))
    assert (tmp_path / "local/in/b.bin").read_bytes() == b"12"
    io_utils.copy_dir(str(tmp_path / "local"), f"{bucket}/again")
    assert (
        versions.fingerprint(f"{bucket}/again")
        == versions.fingerprint(base)
        == versions.fingerprint(str(tmp_path / "local"))
    )
    fileio.rename(f"{bucket}/again/in", f"{bucket}/moved")
    assert names(f"{bucket}/moved") == ["b.bin"]
    fileio.remove(f"{base}/a.txt")
    fileio.rmtree(f"{base}/new")
    assert names(base) == ["in/b.bin"]


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
def test_what_is_not_there_is_not_found_as_tfx_expects(bucket, use):
    with pytest.raises(filesystem.NotFoundError, match=f"{bucket}/nothing does not exist"):
        use(f"{bucket}/nothing")


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_a_file_that_fails_while_it_is_written_does_not_appear(bucket, mode):
    file = fileio.open(f"{bucket}/half", mode)
    file.write("half" if mode == "w" else b"half")
    file.__exit__(OSError, OSError(), None)
    assert file.closed
    assert names(bucket) == []


def test_objects_are_copied_from_one_store_to_another(s3, running_stores, monkeypatch):
    other = running_stores("google")
    for name, value in other.environment.items():
        monkeypatch.setenv(name, value)
    put(s3, **{"folder/a": b"1"})
    target = f"gs://{other.bucket}/from-s3"
    io_utils.copy_dir("s3://bucket/folder", target)
    assert object_store.read(f"{target}/a") == b"1"
    fileio.rename(f"{target}/a", "s3://bucket/back")
    assert keys(s3) == ["back", "folder/a"]
    assert names(target) == []


def test_odd_keys_do_not_lead_in_circles(s3):
    put(s3, **{"folder/": b"", "folder/in/": b"", "folder/in/x": b"1"})
    base = "s3://bucket/folder"
    assert list(fileio.walk(base)) == [(base, ["in"], []), (f"{base}/in", [], ["x"])]
    put(s3, **{"folder//y": b"2"})
    with pytest.raises(ObjectStoreError, match="'s3://bucket/folder//y' cannot be a file"):
        fileio.rmtree("s3://bucket/folder/")
