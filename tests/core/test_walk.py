"""The walk: links, loops, odd names, and what cannot be read."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from unprivileged import folder, options

from core.walk import contents, missing, printable, subfolders, walk


def found(root, inside=""):
    return {entry.path: entry.problem for entry in walk(root, inside)}


def test_files_come_in_the_order_of_their_names_with_size_and_time(tmp_path):
    for name in ("b/x", "a/2", "a/1", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, ns=(5, 7))
    entries = list(walk(tmp_path))
    assert [entry.path for entry in entries] == [".hidden", "a/1", "a/2", "b/x"]
    assert {(entry.size, entry.modified) for entry in entries} == {(7, 7), (3, 7)}
    assert found(tmp_path, "a") == {"a/1": "", "a/2": ""}


def test_links_are_followed_each_time_and_never_in_a_circle(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "1").write_text("")
    (tmp_path / "real" / "back").symlink_to(tmp_path)
    (tmp_path / "real" / "self").symlink_to(".")
    for name in ("one", "two"):
        (tmp_path / name).symlink_to("real")
    around = "a link to a folder that it is in"
    everything = found(tmp_path)
    for name in ("real", "one", "two"):
        assert everything.pop(f"{name}/1") == ""
        assert everything.pop(f"{name}/back") == everything.pop(f"{name}/self") == around
    assert not everything
    assert found(tmp_path, "one") == {"one/1": "", "one/back": around, "one/self": around}
    assert subfolders(tmp_path) == ["one", "real", "two"]
    assert subfolders(tmp_path, "one") == []


def test_what_is_no_file_says_why(tmp_path):
    (tmp_path / "gone").symlink_to("/nowhere/at/all")
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path) == {
        "circle": "a link to circle, which is not there",
        "gone": "a link to /nowhere/at/all, which is not there",
        "pipe": "no regular file",
    }
    assert subfolders(tmp_path) == []


def test_thousands_of_nested_folders_are_no_recursion(tmp_path):
    inner = str(tmp_path)
    for _ in range(1200):  # Python allows 1,000 calls in one another
        inner += "/d"
        os.mkdir(inner)
    pathlib.Path(inner, "file").write_text("")
    assert [len(entry.path.split("/")) for entry in walk(tmp_path)] == [1201]
    os.unlink(f"{inner}/file")
    while inner != str(tmp_path):  # pytest would remove them by calls in one another
        os.rmdir(inner)
        inner = os.path.dirname(inner)


def test_a_folder_without_permission_is_named():
    place = folder()
    (place / "locked").mkdir()
    chosen = options(place)
    (place / "locked").chmod(0)
    script = f"from core.walk import walk; print(list(walk({str(place)!r})))"
    done = subprocess.run([sys.executable, "-c", script], cwd="/", capture_output=True, text=True, **chosen)
    shutil.rmtree(place)
    assert f"UserError: The folder {place}/locked cannot be read: permission denied." in done.stderr


def test_names_are_composed_and_printable():
    assert printable("Ka\u0308se") == "Käse"
    assert printable(os.fsdecode(b"train/\xb1\xed.png")) == "train/\\xb1\\xed.png"
    assert printable("dog\r/a\nb\u2028c.png") == "dog\\r/a\\nb\\u2028c.png"


@pytest.fixture
def made_folder(tmp_path):
    made = tmp_path / "made"
    (made / "inner").mkdir(parents=True)
    (made / "one").write_text("1")
    (made / "inner/two").write_text("22")
    return made


def test_what_is_gone_or_has_another_size_is_named(made_folder):
    known = contents(made_folder)
    assert known == {"inner/two": 2, "one": 1}
    assert missing(made_folder, known) is None
    (made_folder / "inner/more").write_text("of somebody else")
    assert missing(made_folder, known) is None
    (made_folder / "one").write_text("11")
    assert missing(made_folder, known) == f"{made_folder / 'one'} has another size"
    (made_folder / "one").unlink()
    assert missing(made_folder, known) == f"{made_folder / 'one'} is gone"
    assert missing(made_folder.parent / "none", known) == f"{made_folder.parent / 'none'} is gone"


def test_of_what_nobody_wrote_down_any_file_will_do(made_folder):
    assert missing(made_folder, None) is None
    assert missing(made_folder, {}) is None
    for file in ("one", "inner/two"):
        (made_folder / file).unlink()
    assert missing(made_folder, None) == f"{made_folder} is empty"
    assert missing(made_folder, {}) is None


def test_a_single_file_counts_by_itself(made_folder):
    assert contents(made_folder / "one") == {"": 1}
    assert missing(made_folder / "one", {"": 1}) is None
    assert missing(made_folder / "one", {"": 7}) == f"{made_folder / 'one'} has another size"
