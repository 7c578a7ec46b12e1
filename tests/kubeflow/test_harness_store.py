"""The harness copies artifacts as KFP's launcher does, from and to folders as well as a real object store."""

import os

import pytest
from harness_pipelines import WRITE, pipeline

from kubeflow.harness import S3, Cluster
from kubeflow.harness.store import Folders

ROOT = "minio://bucket/v2/artifacts"


@pytest.fixture(params=["folders", "s3"])
def store(request, tmp_path):
    if request.param == "folders":
        return Folders(tmp_path / "store")
    request.getfixturevalue("s3")
    return S3(request.getfixturevalue("s3_server"), "key", "secret", tmp_path / "fetched")


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def test_what_one_task_writes_the_next_reads(store, tmp_path):
    run = Cluster(tmp_path / "cluster", root=ROOT, store=store).run(pipeline())
    assert run.state == "succeeded", run.tasks
    assert "read {'n': 1}" in run.tasks["Read"].log
    assert store.path(run.tasks["Write"].outputs["thing"]["uri"]).read_text() == "{'n': 1}"


def test_an_output_that_is_not_written_is_registered_and_empty(store, tmp_path):
    text = pipeline(container={"command": ["python", "-c", "pass"]})
    run = Cluster(tmp_path / "cluster", root=ROOT, store=store).run(text)
    assert run.tasks["Write"].state == "succeeded"
    assert not store.path(run.tasks["Write"].outputs["thing"]["uri"]).exists()
    assert run.tasks["Read"].state == "failed"


def test_folders_exist_through_their_files_alone(store, tmp_path):
    made = write(tmp_path / "made", "a/1", "a/b/2", "3")
    (made / "empty" / "more").mkdir(parents=True)
    store.upload(made, f"{ROOT}/thing")
    store.download(f"{ROOT}/thing", tmp_path / "got")
    assert files(tmp_path / "got") == ["3", "a", "a/1", "a/b", "a/b/2"]


def test_a_neighbour_with_a_longer_name_stays_where_it_is(store, tmp_path):
    store.upload(write(tmp_path / "made", "1"), f"{ROOT}/thing")
    store.upload(write(tmp_path / "other", "2"), f"{ROOT}/thing2")
    store.download(f"{ROOT}/thing", tmp_path / "got" / "thing")
    assert files(tmp_path / "got") == ["thing", "thing/1"]


def test_a_link_to_a_folder_is_an_error_and_one_to_a_file_is_the_file(store, tmp_path):
    made = write(tmp_path / "made", "1")
    (made / "link").symlink_to(made / "1")
    store.upload(made, f"{ROOT}/thing")
    store.download(f"{ROOT}/thing", tmp_path / "got")
    assert (tmp_path / "got/link").read_text() == "1"
    (made / "folder").symlink_to(tmp_path)
    with pytest.raises(IsADirectoryError):
        store.upload(made, f"{ROOT}/thing")


def test_after_a_link_that_leads_nowhere_the_rest_is_silently_missing(store, tmp_path):
    made = write(tmp_path / "made", "a", "c")
    (made / "b").symlink_to(tmp_path / "nowhere")
    store.upload(made, f"{ROOT}/thing")
    store.download(f"{ROOT}/thing", tmp_path / "got")
    assert files(tmp_path / "got") == ["a"]


def test_a_key_that_leads_elsewhere_fails_the_task_that_reads_it(s3, s3_server, tmp_path):
    store = S3(s3_server, "key", "secret", tmp_path / "fetched")
    s3.put_object(Bucket="bucket", Key="v2/artifacts/thing/../../x", Body=b"hostile")
    with pytest.raises(OSError, match="path traversal detected"):
        store.download(f"{ROOT}/thing", tmp_path / "got" / "thing")
    assert not list(tmp_path.rglob("x"))


def test_an_object_beside_a_folder_of_its_name_fails_as_on_a_disk(s3, s3_server, tmp_path):
    store = S3(s3_server, "key", "secret", tmp_path / "fetched")
    for key in ("v2/artifacts/thing", "v2/artifacts/thing/1"):
        s3.put_object(Bucket="bucket", Key=key, Body=b"1")
    with pytest.raises(OSError, match="thing"):
        store.download(f"{ROOT}/thing", tmp_path / "got" / "thing")


def test_a_bucket_that_is_missing_fails_the_task(s3, s3_server, tmp_path):
    store = S3(s3_server, "key", "secret", tmp_path / "fetched")
    run = Cluster(tmp_path / "cluster", root="minio://elsewhere/v2", store=store).run(pipeline())
    assert run.tasks["Write"].state == "failed"
    assert "failed to upload output artifact minio://elsewhere/v2/" in run.tasks["Write"].error


def test_containers_do_not_get_the_launchers_credentials(s3, s3_server, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    store = S3(s3_server, "key", "secret", tmp_path / "fetched")
    code = WRITE + "\nprint([name for name in os.environ if name.startswith('AWS_')])"
    run = Cluster(tmp_path / "cluster", root=ROOT, store=store).run(
        pipeline(container={"command": ["python", "-c", code]})
    )
    assert run.state == "succeeded", run.tasks
    assert "[]" in run.tasks["Write"].log
