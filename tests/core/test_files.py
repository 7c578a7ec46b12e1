"""Files that are complete or not there, and whether files are still what they were."""

import errno
import os
import stat

import pytest

from core import files


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "results.json"
    files.replace(path, "ä")
    files.replace(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    """Or an empty file has the name after a power cut; and the name before anything is said of it."""
    done = []
    sync, rename = os.fsync, os.replace

    def fsync(descriptor):
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(files.os, "replace", lambda *names: (done.append("rename"), rename(*names)))
    files.replace(tmp_path / "results.json", "x")
    assert done == ["file", "rename", "folder"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, step):
    path = tmp_path / "results.json"
    path.write_text("before")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, step, full)
    with pytest.raises(OSError, match="No space left"):
        files.replace(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "results.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.replace(tmp_path / "results.json", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
