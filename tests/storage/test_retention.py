"""What stays of a history, on a volume and in object stores, each of those that are there: see `store_servers`."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
import store_servers
import unprivileged
from tfx.dsl.io import fileio

from storage import retention, versions

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(params=["volume", *store_servers.NAMES])
def history(request, tmp_path, running_stores, monkeypatch):
    """A folder for versions, on a volume and in each kind of object store that is there."""
    if request.param == "volume":
        yield str(tmp_path / "history")
        return
    with store_servers.new_folder(running_stores(request.param), monkeypatch) as folder:
        yield folder


def fill(history, model, count):
    """Publishes `count` versions; returns their numbers."""
    made = []
    for number in range(count):
        (model / "saved_model.pb").write_text(str(number))
        made.append(versions.publish(str(model), history, f"digest {number}", properties={"number": number}))
    return made


def write(path, text):
    with fileio.open(path, "w") as file:
        file.write(text)


def test_the_newest_stay(history, model):
    made = fill(history, model, 5)
    assert retention.prune(history, 3) == made[:2]
    assert versions.versions(history) == made[2:]
    assert retention.prune(history, 3) == []
    assert retention.prune(history, 0) == []
    # Of the files: SeaweedFS removes empty folders two minutes later.
    # In a store, what says whose turn was after a version stays for two days.
    left = [os.path.join(place, name) for place, _, names in fileio.walk(history) for name in names]
    assert left
    assert not any(str(number) in path for number in made[:2] for path in left if f".claims/{number}-" not in path)


def test_what_is_named_in_the_file_stays_too(history, model):
    made = fill(history, model, 5)
    write(os.path.join(history, retention.PINNED), f"# served by hand\n{made[1]}  # until May\n\n99\n")
    assert retention.prune(history, 2) == [made[0], made[2]]
    assert versions.versions(history) == [made[1], *made[3:]]


def test_a_file_that_cannot_be_understood_keeps_all(history, model):
    made = fill(history, model, 4)
    write(os.path.join(history, retention.PINNED), f"{made[0]}\nthe second\n")
    with pytest.raises(retention.RetentionError, match=r"\.keep, line 2: 'the second' is no version"):
        retention.prune(history, 2)
    retention.tidy(history, 2)
    assert versions.versions(history) == made


def test_what_is_being_pushed_is_not_touched(history, model):
    """A copy that is under way, on a volume and in an object store, while another push tidies up."""
    made = fill(history, model, 3)
    place = f"{history}/.incoming-x" if os.path.isabs(history) else f"{history}/1767225600"
    fileio.makedirs(place)
    write(f"{place}/saved_model.pb", "half")
    retention.prune(history, 2)
    assert fileio.exists(f"{place}/saved_model.pb")
    assert versions.versions(history) == made[1:]


def test_what_a_dead_push_left_on_a_volume_goes_in_the_end(tmp_path, model):
    history = str(tmp_path / "history")
    fill(history, model, 2)
    old, new = (os.path.join(history, f"{versions.INCOMING}{name}") for name in ("old", "new"))
    for place in (old, new):
        os.mkdir(place)
    long_ago = time.time() - retention.DEAD - 1
    os.utime(old, (long_ago, long_ago))
    retention.prune(history, 2)
    assert (os.path.exists(old), os.path.exists(new)) == (False, True)


def test_several_may_tidy_and_push_at_once(history, model):
    made = fill(history, model, 8)
    (model / "saved_model.pb").write_text("newest")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        tidied = [pool.submit(retention.prune, history, 2) for _ in range(5)]
        newest = pool.submit(versions.publish, str(model), history, "digest of the newest").result()
        for one in tidied:
            one.result()
    left = versions.versions(history)
    assert newest in left
    assert set(left) <= {*made[-2:], newest}
    assert len(left) >= 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1 # f\xfcr Mai\n".encode("latin-1"), "is no text in UTF-8"),
        ("1\n".encode("utf-16"), "is no text in UTF-8"),
        (b"9" * 5000, "line 1: '9{40}' is no version"),
    ],
)
def test_a_file_that_is_no_list_of_numbers_keeps_all(history, model, content, words):
    """A push goes on, and says why old versions stay."""
    made = fill(history, model, 3)
    with fileio.open(os.path.join(history, retention.PINNED), "wb") as file:
        file.write(content)
    with pytest.raises(retention.RetentionError, match=words):
        retention.prune(history, 2)
    retention.tidy(history, 2)
    assert versions.versions(history) == made


def test_a_folder_in_the_place_of_the_file_keeps_all(tmp_path, model):
    made = fill(str(tmp_path), model, 3)
    (tmp_path / retention.PINNED).mkdir()
    with pytest.raises(retention.RetentionError, match="is a folder"):
        retention.prune(str(tmp_path), 2)
    retention.tidy(str(tmp_path), 2)
    assert versions.versions(str(tmp_path)) == made


def test_the_file_of_a_windows_editor_is_understood(history, model):
    made = fill(history, model, 4)
    with fileio.open(os.path.join(history, retention.PINNED), "wb") as file:
        file.write(f"{made[0]}\r\n\r\n".encode("utf-8-sig"))
    assert retention.prune(f"{history}//", 2) == [made[1]]


def test_a_volume_that_cannot_be_written_to_is_no_reason_to_fail(model):
    """By a user who is not root, and with the errors of TensorFlow's file system."""
    place = unprivileged.folder()
    try:
        made = fill(str(place / "history"), model, 3)
        asked = unprivileged.options(place)
        (place / "history").chmod(0o555)
        code = "import sys\nfrom storage import retention\nretention.tidy(sys.argv[1], 2)"
        run = subprocess.run(
            [sys.executable, "-c", code, str(place / "history")], cwd=ROOT, capture_output=True, text=True, **asked
        )
        assert run.returncode == 0, run.stderr
        assert "Old versions stay in" in run.stderr
        assert versions.versions(str(place / "history")) == made
    finally:
        shutil.rmtree(place)


def test_of_a_link_only_the_link_goes(tmp_path, model):
    """A version that is a link, and one that has a link in it."""
    history, elsewhere = tmp_path / "history", tmp_path / "elsewhere"
    made = fill(str(history), model, 3)
    (elsewhere / "below").mkdir(parents=True)
    for place in (elsewhere, elsewhere / "below"):
        (place / "precious").write_text("still here")
    (history / "1").symlink_to(elsewhere)
    (history / str(made[0]) / "link").symlink_to(elsewhere)
    assert retention.prune(str(history), 2) == [1, made[0]]
    assert versions.versions(str(history)) == made[1:]
    assert sorted(path.name for path in elsewhere.rglob("*")) == ["below", "precious", "precious"]
    assert not list(history.glob(".going-*"))


def test_only_a_folder_is_a_version(tmp_path, model):
    """Else a file with the highest number would be the newest, and the models go."""
    made = fill(str(tmp_path), model, 2)
    (tmp_path / "9999999999").write_text("notes")
    (tmp_path / "0007").mkdir()
    (tmp_path / "9999999998").symlink_to("nowhere")
    assert versions.versions(str(tmp_path)) == made
    assert retention.prune(str(tmp_path), 1) == made[:1]
    assert versions.versions(str(tmp_path)) == made[1:]
