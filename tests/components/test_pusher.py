"""Pushing: atomic, and only once."""

import pathlib

import pytest
from tfx.dsl.io import fileio

from components import pushing
from core.errors import UserError
from storage import versions


def test_a_version_is_a_complete_copy(model, tmp_path):
    path, version = pushing.push(str(model), str(tmp_path / "serving"))
    assert path == str(tmp_path / "serving" / version)
    assert version.isdigit()
    for file in ("saved_model.pb", "variables/variables.index"):
        assert pathlib.Path(path, file).read_bytes() == (model / file).read_bytes()


def test_an_object_store_gets_a_version_once(model, s3, tmp_path):
    (tmp_path / "card.md").write_text("# Card")
    path, version = pushing.push(str(model), "s3://bucket/serving/pets", str(tmp_path / "card.md"))
    assert path == f"s3://bucket/serving/pets/{version}"
    with fileio.open(f"{path}/{pushing.CARD}") as file:
        assert file.read() == "# Card"
    assert pushing.pushed_fingerprint(path) == versions.fingerprint(str(model))
    assert pushing.push(str(model), "s3://bucket/serving/pets") == (path, version)
    assert versions.versions("s3://bucket/serving/pets") == [int(version)]


def test_a_missing_bucket_is_the_users_mistake(model, s3):
    with pytest.raises(UserError, match="no bucket elsewhere"):
        pushing.push(str(model), "s3://elsewhere/serving")


def test_the_same_model_is_pushed_once(model, tmp_path):
    assert pushing.push(str(model), str(tmp_path / "serving")) == pushing.push(str(model), str(tmp_path / "serving"))
    assert len(versions.versions(str(tmp_path / "serving"))) == 1


def test_another_model_becomes_a_higher_version(model, tmp_path):
    _, first = pushing.push(str(model), str(tmp_path / "serving"))
    (model / "saved_model.pb").write_bytes(b"another graph")
    _, second = pushing.push(str(model), str(tmp_path / "serving"))
    assert int(second) > int(first)
    assert versions.versions(str(tmp_path / "serving")) == [int(first), int(second)]


def test_an_older_model_can_be_pushed_again(model, tmp_path):
    serving = str(tmp_path / "serving")
    pushing.push(str(model), serving)
    (model / "saved_model.pb").write_bytes(b"another graph")
    pushing.push(str(model), serving)
    (model / "saved_model.pb").write_bytes(b"graph")
    pushing.push(str(model), serving)
    assert len(versions.versions(serving)) == 3


def test_a_push_that_fails_leaves_nothing_to_serve(model, tmp_path, monkeypatch):
    def fail(source, destination):
        pathlib.Path(destination).mkdir()
        pathlib.Path(destination, "saved_model.pb").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(versions.io_utils, "copy_dir", fail)
    with pytest.raises(OSError, match="disk full"):
        pushing.push(str(model), str(tmp_path / "serving"))
    assert [path.name for path in (tmp_path / "serving").iterdir()] == [".lock"]


def test_what_is_no_version_is_not_counted(tmp_path):
    for name in ("7", "12", ".incoming-8", "notes"):
        (tmp_path / name).mkdir()
    assert versions.versions(str(tmp_path)) == [7, 12]
    assert versions.versions(str(tmp_path / "missing")) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda version: (version / "variables/variables.index").unlink(),
        lambda version: (version / "saved_model.pb").write_bytes(b"gra"),
        lambda version: (version / pushing.RECORD).unlink(),
        lambda version: (version / pushing.RECORD).write_text("{"),
        lambda version: (version / pushing.RECORD).write_text("[]"),
    ],
)
def test_a_version_that_was_damaged_does_not_count_as_pushed(model, tmp_path, damage):
    path, first = pushing.push(str(model), str(tmp_path / "serving"))
    damage(pathlib.Path(path))
    whole, second = pushing.push(str(model), str(tmp_path / "serving"))
    assert int(second) > int(first)
    assert pathlib.Path(whole, "saved_model.pb").read_bytes() == b"graph"


def test_what_others_put_into_a_version_does_not_count(model, tmp_path):
    path, first = pushing.push(str(model), str(tmp_path / "serving"))
    pathlib.Path(path, "assets.extra", "tf_serving_warmup_requests").write_bytes(b"")
    assert pushing.push(str(model), str(tmp_path / "serving")) == (path, first)
