"""Object stores, against a real server of S3's API."""

import collections
import concurrent.futures
import os
import pathlib
import time

import pytest
from tfx.dsl.io import fileio, filesystem
from tfx.utils import io_utils

from kubeflow import baseline, object_store
from kubeflow.object_store import ObjectStoreError

SERVING = "s3://bucket/serving/pets"


def put(s3, **objects):
    for key, body in objects.items():
        s3.put_object(Bucket="bucket", Key=key, Body=body)


def keys(s3, prefix=""):
    return [one["Key"] for one in s3.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])]


# Listing and copying


def test_a_folder_and_a_single_object_are_found(s3):
    put(s3, **{"pets/train/cat/1.png": b"1", "pets/test/": b"", "pets2/x": b"other", "one.tar": b"archive"})
    found = object_store.find("s3://bucket/pets")
    assert [(one.name, one.size) for one in found] == [("test/", 0), ("train/cat/1.png", 1)]
    assert [one.name for one in object_store.find("s3://bucket/one.tar")] == ["one.tar"]
    assert object_store.find("s3://bucket/nothing") == []
    assert len(object_store.find("s3://bucket")) == 4


def test_a_download_is_the_same_and_tells_of_its_progress(s3, tmp_path):
    large = os.urandom(20 << 20)  # comes in several parts
    put(s3, **{"pets/large": large, "pets/a/b/small": b"small", "pets/empty/": b"", "pets/none": b""})
    told = []
    object_store.download(object_store.find("s3://bucket/pets"), tmp_path / "out", told.append)
    assert (tmp_path / "out/large").read_bytes() == large
    assert (tmp_path / "out/a/b/small").read_bytes() == b"small"
    assert (tmp_path / "out/none").read_bytes() == b""
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "large", "none"]
    assert sum(told) == len(large) + 5


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a//b", "./x", "a/.."])
def test_no_name_leads_out_of_the_folder(s3, tmp_path, name):
    put(s3, **{"pets/good": b"1", f"pets/{name}": b"hostile"})
    with pytest.raises(ObjectStoreError, match="because of its name"):
        object_store.download(object_store.find("s3://bucket/pets"), tmp_path / "in" / "out")
    assert list(tmp_path.rglob("*")) == []


def test_objects_that_cannot_be_files_beside_each_other_are_named(s3, tmp_path):
    put(s3, **{"pets/cat": b"1", "pets/cat/1.png": b"1"})
    with pytest.raises(ObjectStoreError, match=r"s3://bucket/pets/cat.* cannot be written"):
        object_store.download(object_store.find("s3://bucket/pets"), tmp_path / "out")


def test_an_object_that_changes_meanwhile_is_named(s3, tmp_path):
    put(s3, **{"large": os.urandom(20 << 20)})
    found = object_store.find("s3://bucket/large")
    put(s3, **{"large": os.urandom(20 << 20)})
    with pytest.raises(ObjectStoreError, match=r"s3://bucket/large was changed while it was read"):
        object_store.download(found, tmp_path)


def test_a_missing_bucket_is_named(s3, s3_server):
    with pytest.raises(ObjectStoreError, match=rf"no bucket elsewhere at {s3_server}"):
        object_store.find("s3://elsewhere/pets")


def test_a_bucket_that_cannot_exist_is_named(s3):
    with pytest.raises(ObjectStoreError, match="s3://a b/pets cannot be used"):
        object_store.find("s3://a b/pets")
    with pytest.raises(ObjectStoreError, match="names no bucket"):
        object_store.find("s3:///pets")


def test_refused_credentials_are_named_and_not_shown(s3, s3_server):
    import requests

    requests.post(f"{s3_server}/moto-api/reset-auth", data=b"0", timeout=30)  # from now on as strict as AWS
    try:
        with pytest.raises(
            ObjectStoreError, match=r"refused ListObjectsV2 on s3://bucket.*AWS_ACCESS_KEY_ID"
        ) as caught:
            object_store.find("s3://bucket/pets")
    finally:
        requests.post(f"{s3_server}/moto-api/reset-auth", data=b"inf", timeout=30)
    assert "secret" not in str(caught.value).replace("SECRET", "")


def test_absent_credentials_are_named(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    object_store.client.cache_clear()
    with pytest.raises(ObjectStoreError, match="no credentials for s3://bucket"):
        object_store.find("s3://bucket/pets")


def test_an_unreachable_store_is_named(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(object_store, "ATTEMPTS", 1)
    object_store.client.cache_clear()
    with pytest.raises(ObjectStoreError, match=r"cannot be reached: .*127\.0\.0\.1:9.*AWS_ENDPOINT_URL"):
        object_store.find("s3://bucket/pets")


def test_only_one_of_many_creates_an_object(s3):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: object_store.create("s3://bucket/one", b"%d" % number), range(8)))
    assert sum(won) == 1
    assert s3.get_object(Bucket="bucket", Key="one")["Body"].read() == b"%d" % won.index(True)


# Versions


def test_a_version_is_a_complete_copy_and_says_so_last(s3, model):
    seen = []
    s3.meta.events.register("before-call.s3.PutObject", lambda params, **_: seen.append(params["url_path"]))
    version = baseline.publish(str(model), SERVING, "digest", {"assets.extra/pushed.json": b"{}"})
    base = f"serving/pets/{version}"
    assert set(keys(s3)) == {
        f"serving/pets/.claims/{version}",
        f"{base}.json",
        f"{base}/assets.extra/pushed.json",
        f"{base}/saved_model.pb",
        f"{base}/variables/variables.index",
    }
    assert [path.removeprefix("/") for path in seen][-2:] == [f"{base}/saved_model.pb", f"{base}.json"]
    assert baseline.versions(SERVING) == [version]


def test_the_same_is_published_once_and_another_is_a_higher_version(s3, model):
    first = baseline.publish(str(model), SERVING, "one")
    assert baseline.publish(str(model), SERVING, "one") == first
    second = baseline.publish(str(model), SERVING, "two")
    third = baseline.publish(str(model), SERVING, "one")
    assert baseline.versions(SERVING) == [first, second, third]


@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.index", ".json"])
def test_a_push_that_dies_leaves_nothing_that_counts_and_is_taken_up_again(s3, model, monkeypatch, file):
    class Killed(BaseException):
        pass

    def die(params, **_):
        if params["url_path"].endswith(file) and "serving" in params["url_path"]:
            raise Killed

    baseline.publish(str(model), SERVING, "before")
    before = baseline.versions(SERVING)
    s3.meta.events.register("before-call.s3.PutObject", die)
    with pytest.raises(Killed):
        baseline.publish(str(model), SERVING, "digest")
    s3.meta.events.unregister("before-call.s3.PutObject", die)
    assert baseline.versions(SERVING) == before
    (abandoned,) = [int(key.rsplit("/", 1)[1]) for key in keys(s3, "serving/pets/.claims/")[1:]]
    (model / "saved_model.pb").write_bytes(b"graph")
    assert baseline.publish(str(model), SERVING, "digest") == abandoned
    assert baseline.versions(SERVING) == [*before, abandoned]


def test_another_content_does_not_take_up_what_is_under_way(s3, model):
    later = int(time.time()) + 100
    put(s3, **{f"serving/pets/.claims/{later}": b"another", f"serving/pets/{later}/saved_model.pb": b"half"})
    version = baseline.publish(str(model), SERVING, "digest")
    assert version > later
    assert baseline.versions(SERVING) == [version]
    assert f"serving/pets/{later}/saved_model.pb" in keys(s3)


def test_what_died_long_ago_is_removed_by_the_next_push(s3, model, monkeypatch):
    put(s3, **{"serving/pets/.claims/7": b"digest", "serving/pets/7/saved_model.pb": b"half"})
    now = time.time()
    monkeypatch.setattr(object_store.time, "time", lambda: now + 3 * object_store.DAY)
    version = baseline.publish(str(model), SERVING, "digest")
    assert version != 7
    assert not [key for key in keys(s3) if "/7" in key]


def test_a_version_that_somebody_removed_does_not_count(s3, model):
    version = baseline.publish(str(model), SERVING, "digest")
    for key in keys(s3, f"serving/pets/{version}/"):
        s3.delete_object(Bucket="bucket", Key=key)
    assert baseline.versions(SERVING) == []
    assert baseline.publish(str(model), SERVING, "digest") > version


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
        made = list(pool.map(lambda one: baseline.publish(one, SERVING, baseline.fingerprint(one)), models))
    assert baseline.versions(SERVING) == sorted(set(made))
    if not same:
        assert len(set(made)) == 6
    contents = collections.defaultdict(set)
    for number in made:
        for one in object_store.find(f"{SERVING}/{number}"):
            with fileio.open(one.uri, "rb") as file:
                contents[number].add(file.read())
    assert all(len(found) == 1 for found in contents.values())


def test_records_keep_their_properties_and_old_ones_go(s3, tmp_path):
    from tfx.types.standard_artifacts import ExampleStatistics

    folder = tmp_path / "made" / "Split-train"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / "stats.pb").write_text(str(number))
        properties = {"split_names": '["train"]', "span": number}
        baseline.record(str(folder.parent), "s3://bucket/history", properties, kept=2)
    numbers = baseline.versions("s3://bucket/history")
    assert len(numbers) == 2
    assert {name.split("/")[1].removesuffix(".json") for name in keys(s3, "history/") if ".claims" not in name} == {
        str(number) for number in numbers
    }
    found = ExampleStatistics()
    found.uri = str(tmp_path / "out")
    baseline.LatestExecutor().Do({}, {"found": [found]}, {"history": "s3://bucket/history", "under": "x"})
    assert (tmp_path / "out/x/Split-train/stats.pb").read_text() == "3"
    assert sorted(os.listdir(tmp_path / "out/x")) == ["Split-train"]
    assert (found.span, found.split_names) == (3, '["train"]')


# TFX's file system


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
        baseline.fingerprint("s3://bucket/again")
        == baseline.fingerprint(base)
        == baseline.fingerprint(str(tmp_path / "local"))
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


def test_the_layer_knows_nothing_of_the_project():
    text = pathlib.Path(object_store.__file__).read_text()
    assert not [line for line in text.splitlines() if "from pipeline" in line or "from components" in line]
