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


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for name in (pipe, link):
        files.replace(files.absolute(name), "ä")
        assert os.read(reader, 9) == "ä".encode()
    os.close(reader)
    assert stat.S_ISFIFO(os.lstat(pipe).st_mode)
    assert sorted(tmp_path.iterdir()) == [link, pipe]


def test_what_stands_for_an_open_pipe_is_written_into():
    """As /dev/stdout does in `alexnet ... | less`: what it leads to has no path."""
    reader, writer = os.pipe()
    files.replace(files.absolute(f"/dev/fd/{writer}"), b"page")
    assert os.read(reader, 9) == b"page"
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        files.replace(files.absolute(f"/dev/fd/{writer}"), b"page")
    os.close(writer)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_device_is_told_and_stays(tmp_path):
    with pytest.raises(OSError, match=r"No space left.*/dev/full"):
        files.replace(files.absolute("/dev/full"), "x")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
