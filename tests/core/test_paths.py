"""Paths that users name: what none can be is said in a sentence, and so is a folder that is none."""

import os

import pytest

from core import files
from core.errors import UserError


def test_a_path_is_made_absolute_with_the_home_and_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert files.absolute("~/x") == files.absolute("x") == files.absolute("./a/../x") == tmp_path / "x"


def test_what_can_be_no_path_is_told(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, said in (
        ("", "--output is empty: name a file or folder"),
        ("~no-such-user/x", "--output ~no-such-user/x: Could not determine home directory"),
        ("a\0b", r"--output a\0b: no path can hold a NUL character"),
        ("x" * 5000, "the name is too long"),
        (f"/{'x' * 300}/y", "the name is too long"),
        (tmp_path / "loop" / "x", "Symlink loop"),
    ):
        with pytest.raises(UserError) as told:
            files.absolute(path, "--output")
        assert said in str(told.value)
        assert len(str(told.value)) < 500


def test_a_current_folder_that_is_gone_is_told(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UserError, match="the current folder no longer exists; cd to another one"):
        files.absolute("x", "--workdir")


def test_a_file_is_no_folder_and_none_can_be_made_below_one(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "not yet")
    for path in ("file", "file/x/y"):
        with pytest.raises(UserError, match=f"--workdir .*{path}: {tmp_path}/file is a file; name a folder"):
            files.folder(tmp_path / path, "--workdir")
    for path in ("new", "new/deeper", "link/x", "."):
        assert files.folder(tmp_path / path, "--workdir", written=True) == (tmp_path / path).resolve()


def test_a_folder_that_cannot_be_written_is_told_before_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UserError, match=f"--to .*/a/b: {tmp_path} cannot be written: permission denied"):
        files.folder(tmp_path / "a" / "b", "--to", written=True)
    assert files.folder(tmp_path / "a" / "b", "--to") == tmp_path / "a" / "b"
