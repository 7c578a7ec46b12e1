"""Folders as people have them: classes without splits, splits by other names, folders within folders, spans."""

import collections
import os
import pathlib
import shutil

import pytest
from archive_data import FORMS, files, write
from image_data import encoded, picture, write_folder

from components.sources import Record, folders, open_source, splits
from core import events
from core.errors import UserError
from core.settings import Data


def read(path, scratch, **options):
    """The source, and split -> ids."""
    source = open_source(Data(source=str(path), **options), scratch)
    found = collections.defaultdict(set)
    for shard in source.shards():
        for record in source.read(shard):
            assert isinstance(record, Record)
            assert source.class_names[record.label] == shard.class_name
            assert record.id not in found[shard.split]
            found[shard.split].add(record.id)
    return source, dict(found)


def classes(root, counts, seed=0):
    """A folder of class folders with so many PNG files each."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            seed += 1
            (root / name / f"{number:03d}.png").write_bytes(encoded(picture(seed, (8, 8))))
    return root


@pytest.fixture
def told(tmp_path, monkeypatch):
    """What was told of by events, as (kind, text)."""
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    return lambda: [(one["kind"], one.get("text", "")) for one in events.Reader(tmp_path / "events").new()]


def test_classes_without_splits_are_split_by_their_ids(tmp_path, scratch):
    root = classes(tmp_path / "pets", {"cat": 200, "dog": 100})
    source, found = read(root, scratch, test_share=0.3)
    assert source.class_names == ("cat", "dog")
    assert not source.own_validation
    assert set(found) == {"train", "test"}
    assert found["train"].isdisjoint(found["test"])
    assert found["train"] | found["test"] == {path.relative_to(root).as_posix() for path in root.rglob("*.png")}
    for name, count in (("cat", 200), ("dog", 100)):
        share = sum(id.startswith(name) for id in found["test"]) / count
        assert 0.15 < share < 0.45  # by the hash of these very names
    assert found["test"] == {id for ids in found.values() for id in ids if splits.share_of(id) < 0.3}


def test_a_picture_stays_in_its_split_when_others_come_and_go(tmp_path, scratch):
    root = classes(tmp_path / "pets", {"cat": 60, "dog": 60})
    _, before = read(root, scratch)
    classes(root, {"cat": 90, "emu": 20})
    for number in range(0, 60, 3):
        (root / "dog" / f"{number:03d}.png").unlink()
    _, after = read(root, scratch)
    left = after["train"] | after["test"]
    for split in ("train", "test"):
        assert {id for id in before[split] if id in left} == {id for id in after[split] if id in before[split]}


@pytest.mark.parametrize("share", [1e-9, 0.2, 1 - 1e-9])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_each_class_has_a_test_picture_and_one_that_is_none(share, count):
    ids = {name: [f"{name}/{number}.png" for number in range(count)] for name in ("a", "b", "c", "d")}
    held = splits.HeldOut.of(ids, share)
    for of_class in ids.values():
        assert {held.split(id) for id in of_class} == {"train", "test"}


def test_a_single_picture_is_for_training():
    for number in range(20):
        held = splits.HeldOut.of({"a": [f"{number}"]}, 0.9)
        assert held.split(f"{number}") == "train"


def test_what_is_in_no_class_is_counted(tmp_path, scratch):
    root = classes(tmp_path / "pets", {"cat": 10, "dog": 10, "cat/more/deep": 3})
    for name in (
        "loose.png",
        "LICENSE",
        "cat/notes.txt",
        ".DS_Store",
        "cat/.x.png",
        "__MACOSX/cat/1.png",
        "@eaDir/1",
    ):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(root / "cat" / "000.png", root / name)
    source, found = read(root, scratch)
    assert source.class_names == ("cat", "dog")
    assert sum(map(len, found.values())) == 23
    assert source.ignored() == {
        "in no class folder": 2,
        "hidden": 2,
        "not an image file (.txt)": 1,
        "made by macOS (__MACOSX)": 1,
        "made by Synology (@eaDir)": 1,
    }


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("training", "validation", "testing"), ("Train", "VALID", "Test")]
)
def test_the_validation_split_is_the_datas_own(names, tmp_path, scratch):
    root = tmp_path / "pets"
    for name in names:
        classes(root / name, {"cat": 4, "dog": 4})
    classes(root / "extra", {"cat": 2})
    source, found = read(root, scratch)
    assert source.own_validation
    for split, name in zip(("train", "validation", "test"), names, strict=True):
        assert found[split] == {path.relative_to(root).as_posix() for path in (root / name).rglob("*.png")}
    assert source.ignored() == {f"outside {names[0]}/, {names[1]}/ and {names[2]}/": 2}


def test_without_a_test_split_validation_is_that(tmp_path, scratch, told):
    for name in ("train", "val"):
        classes(tmp_path / "pets" / name, {"cat": 4, "dog": 4})
    source, found = read(tmp_path / "pets", scratch)
    assert not source.own_validation
    assert {split: len(ids) for split, ids in found.items()} == {"train": 8, "test": 8}
    assert told() == [("note", "There is no test/: val/ is the test split, and validation is held out of train")]


def test_two_folders_of_one_split_are_refused(tmp_path, scratch):
    for name in ("train", "val", "validation", "test"):
        classes(tmp_path / "pets" / name, {"cat": 1, "dog": 1})
    with pytest.raises(UserError, match=r"pets holds val/ and validation/, which both mean the split validation: "):
        read(tmp_path / "pets", scratch)


def test_a_class_may_be_called_train(tmp_path, scratch):
    source, found = read(classes(tmp_path / "traffic", {"bus": 5, "train": 5, "tram": 5}), scratch)
    assert source.class_names == ("bus", "train", "tram")
    assert sum(map(len, found.values())) == 15


def test_only_train_says_what_else_to_give(tmp_path, scratch):
    classes(tmp_path / "pets" / "train", {"cat": 1, "dog": 1})
    with pytest.raises(
        UserError, match=r"no class folder in .*pets/test: .*give .*pets/train itself, see data.test_s"
    ):
        read(tmp_path / "pets", scratch)


def test_a_folder_around_the_classes_is_named(tmp_path, scratch):
    classes(tmp_path / "download" / "flowers", {"daisy": 1, "rose": 1})
    with pytest.raises(UserError, match=r"only the class folder flowers.* give .*download/flowers\.$"):
        read(tmp_path / "download", scratch)


def test_a_folder_without_folders_is_refused(tmp_path, scratch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no class folder in .*empty: expected are <class>/, or train/<class>/"):
        read(tmp_path / "empty", scratch)


def test_classes_that_differ_in_capital_letters_are_told(tmp_path, scratch, told):
    source, _ = read(classes(tmp_path / "pets", {"Cat": 3, "cat": 3, "dog": 3}), scratch)
    assert source.class_names == ("Cat", "cat", "dog")
    held = "The data have no splits: 20% of each class are held out for test (data.test_share)"
    assert told() == [("warning", "classes that differ in capital letters alone: Cat, cat"), ("note", held)]


def test_spans_of_classes(tmp_path, scratch):
    for number in (1, 2, 3):
        classes(tmp_path / "rolling" / f"span-{number}", {"cat": 20, "dog": 20}, seed=100 * number)
    source, found = read(tmp_path / "rolling", scratch, newest_spans=2, features=("span",))
    assert {pathlib.PurePath(id).parts[0] for ids in found.values() for id in ids} == {"span-2", "span-3"}
    assert sum(map(len, found.values())) == 80
    assert source.ignored() == {"outside the span folders that were asked for": 40}


@pytest.mark.parametrize("top", ["", "flowers/", "data/flowers/"])
@pytest.mark.parametrize("form", [*FORMS])
def test_an_archive_of_classes_holds_the_same(form, top, tmp_path, scratch):
    root = classes(tmp_path / "flowers", {"daisy": 20, "rose": 20, "rose/red": 5})
    _, expected = read(root, scratch)
    archive = write(tmp_path / f"flowers.{form}", files(root, top) | {f"{top}LICENSE.txt": b"x"}, form)
    source, found = read(archive, scratch)
    assert found == expected
    assert source.ignored() == {"in no class folder": 1}


def test_an_archive_of_all_three_splits(tmp_path, scratch):
    for name in ("training", "validation", "testing"):
        classes(tmp_path / "pets" / name, {"cat": 2, "dog": 2})
    source, found = read(write(tmp_path / "pets.zip", files(tmp_path / "pets", "pets/")), scratch)
    assert source.own_validation
    assert found == read(tmp_path / "pets", scratch)[1]


def test_what_lies_beside_the_folder_of_classes_in_an_archive(tmp_path, scratch):
    root = classes(tmp_path / "flowers", {"daisy": 3, "rose": 3})
    members = files(root, "flowers/") | {"docs/a.txt": b"x", "README": b"x"}
    source, found = read(write(tmp_path / "flowers.zip", members), scratch)
    assert sum(map(len, found.values())) == 6
    assert source.ignored() == {"outside of the folder flowers": 2}


def test_links_are_followed_and_lead_nowhere_twice(tmp_path, scratch):
    root = classes(tmp_path / "pets", {"cat": 5, "dog": 5})
    os.rename(root / "dog", tmp_path / "dogs")
    (root / "dog").symlink_to(tmp_path / "dogs")
    (root / "cat" / "back").symlink_to(root)
    (root / "again").symlink_to(root)
    source, found = read(root, scratch)
    assert source.class_names == ("cat", "dog")
    assert sum(map(len, found.values())) == 10


def test_what_has_splits_is_told_apart(tmp_path):
    assert folders.has_splits(write_folder(tmp_path / "a", train=1, test=1))
    assert folders.has_splits(write_folder(tmp_path / "b" / "span-1", train=1, test=1).parent)
    assert not folders.has_splits(classes(tmp_path / "c", {"train": 1, "bus": 1}))
    assert not folders.has_splits(tmp_path)
