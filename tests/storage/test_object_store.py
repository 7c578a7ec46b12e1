"""Object stores, against a real server of S3's API."""

import concurrent.futures
import os

import pytest
from ports import closed_port
from s3_objects import put

from storage import object_store
from storage.object_store import ObjectStoreError


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
    monkeypatch.setattr(object_store, "ATTEMPTS", 1)
    object_store.client.cache_clear()
    with closed_port() as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        said = rf"cannot be reached: .*127\.0\.0\.1:{port}.*AWS_ENDPOINT_URL"
        with pytest.raises(ObjectStoreError, match=said):
            object_store.find("s3://bucket/pets")


def test_only_one_of_many_creates_an_object(s3):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: object_store.create("s3://bucket/one", b"%d" % number), range(8)))
    assert sum(won) == 1
    assert s3.get_object(Bucket="bucket", Key="one")["Body"].read() == b"%d" % won.index(True)
