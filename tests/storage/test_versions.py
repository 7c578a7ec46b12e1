"""Folders of versions on a volume and, against a real server of S3's API, in an object store."""

import collections
import concurrent.futures
import os
import time

import pytest
from s3_objects import keys, put
from tfx.dsl.io import fileio

from storage import (
    filesystem,  # noqa: F401  s3:// for fileio
    object_store,
    object_versions,
    versions,
)

SERVING = "s3://bucket/serving/pets"


def test_the_same_is_not_recorded_twice(tmp_path, made):
    history = str(tmp_path / "history")
    for _ in range(2):
        versions.record(str(made), history)
    assert len(versions.versions(history)) == 1
    (made / "Split-train/stats.pb").write_text("two")
    versions.record(str(made), history)
    assert len(versions.versions(history)) == 2


def test_old_versions_go_with_what_lies_beside_them(tmp_path, made):
    history = tmp_path / "history"
    for number in range(5):
        (made / "Split-train/stats.pb").write_text(str(number))
        versions.record(str(made), str(history), {"span": number}, kept=2)
    numbers = versions.versions(str(history))
    assert len(numbers) == 2
    assert sorted(path.name for path in history.iterdir()) == sorted(
        [".lock"] + [str(n) for n in numbers] + [f"{n}.json" for n in numbers]
    )


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path, made, monkeypatch):
    def fail(source, target):
        os.makedirs(target)
        raise OSError("no space left on device")

    monkeypatch.setattr(versions.io_utils, "copy_dir", fail)
    with pytest.raises(OSError, match="no space"):
        versions.record(str(made), str(tmp_path / "history"))
    assert [path.name for path in (tmp_path / "history").iterdir()] == [".lock"]


# In an object store


def test_a_version_is_a_complete_copy_and_says_so_last(s3, model):
    seen = []
    s3.meta.events.register("before-call.s3.PutObject", lambda params, **_: seen.append(params["url_path"]))
    version = versions.publish(str(model), SERVING, "digest", {"assets.extra/pushed.json": b"{}"})
    base = f"serving/pets/{version}"
    assert set(keys(s3)) == {
        f"serving/pets/.claims/{version}",
        f"{base}.json",
        f"{base}/assets.extra/pushed.json",
        f"{base}/saved_model.pb",
        f"{base}/variables/variables.index",
    }
    assert [path.removeprefix("/") for path in seen][-2:] == [f"{base}/saved_model.pb", f"{base}.json"]
    assert versions.versions(SERVING) == [version]


def test_the_same_is_published_once_and_another_is_a_higher_version(s3, model):
    first = versions.publish(str(model), SERVING, "one")
    assert versions.publish(str(model), SERVING, "one") == first
    second = versions.publish(str(model), SERVING, "two")
    third = versions.publish(str(model), SERVING, "one")
    assert versions.versions(SERVING) == [first, second, third]


@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.index", ".json"])
def test_a_push_that_dies_leaves_nothing_that_counts_and_is_taken_up_again(s3, model, monkeypatch, file):
    class Killed(BaseException):
        pass

    def die(params, **_):
        if params["url_path"].endswith(file) and "serving" in params["url_path"]:
            raise Killed

    versions.publish(str(model), SERVING, "before")
    before = versions.versions(SERVING)
    s3.meta.events.register("before-call.s3.PutObject", die)
    with pytest.raises(Killed):
        versions.publish(str(model), SERVING, "digest")
    s3.meta.events.unregister("before-call.s3.PutObject", die)
    assert versions.versions(SERVING) == before
    (abandoned,) = [int(key.rsplit("/", 1)[1]) for key in keys(s3, "serving/pets/.claims/")[1:]]
    (model / "saved_model.pb").write_bytes(b"graph")
    assert versions.publish(str(model), SERVING, "digest") == abandoned
    assert versions.versions(SERVING) == [*before, abandoned]


def test_another_content_does_not_take_up_what_is_under_way(s3, model):
    later = int(time.time()) + 100
    put(s3, **{f"serving/pets/.claims/{later}": b"another", f"serving/pets/{later}/saved_model.pb": b"half"})
    version = versions.publish(str(model), SERVING, "digest")
    assert version > later
    assert versions.versions(SERVING) == [version]
    assert f"serving/pets/{later}/saved_model.pb" in keys(s3)


def test_what_died_long_ago_is_removed_by_the_next_push(s3, model, monkeypatch):
    put(s3, **{"serving/pets/.claims/7": b"digest", "serving/pets/7/saved_model.pb": b"half"})
    now = time.time()
    monkeypatch.setattr(object_versions.time, "time", lambda: now + 3 * object_versions.DAY)
    version = versions.publish(str(model), SERVING, "digest")
    assert version != 7
    assert not [key for key in keys(s3) if "/7" in key]


def test_a_version_that_somebody_removed_does_not_count(s3, model):
    version = versions.publish(str(model), SERVING, "digest")
    for key in keys(s3, f"serving/pets/{version}/"):
        s3.delete_object(Bucket="bucket", Key=key)
    assert versions.versions(SERVING) == []
    assert versions.publish(str(model), SERVING, "digest") > version


@pytest.mark.parametrize("same", [True, False])
def test_pushes_at_once(s3, tmp_path, same):
    models = []
    for number in range(6):
        folder = tmp_path / str(number)
        (folder / "variables").mkdir(parents=True)
        content = b"same" if same else b"%d" % number
        (folder / "saved_model.pb").write_bytes(content)
        (folder / "variables" / "variables.index").write_bytes(content)
        models.append(str(folder))
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda one: versions.publish(one, SERVING, versions.fingerprint(one)), models))
    assert versions.versions(SERVING) == sorted(set(made))
    if not same:
        assert len(set(made)) == 6
    contents = collections.defaultdict(set)
    for number in made:
        for one in object_store.find(f"{SERVING}/{number}"):
            with fileio.open(one.uri, "rb") as file:
                contents[number].add(file.read())
    assert all(len(found) == 1 for found in contents.values())


def test_records_keep_their_properties_and_old_ones_go(s3, tmp_path):
    folder = tmp_path / "made" / "Split-train"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / "stats.pb").write_text(str(number))
        properties = {"split_names": '["train"]', "span": number}
        versions.record(str(folder.parent), "s3://bucket/history", properties, kept=2)
    numbers = versions.versions("s3://bucket/history")
    assert len(numbers) == 2
    assert {name.split("/")[1].removesuffix(".json") for name in keys(s3, "history/") if ".claims" not in name} == {
        str(number) for number in numbers
    }
