"""Our pipeline as on Kubeflow with an object store behind S3's API for everything that can lie in one."""

import os

import image_data
import pytest

from core import settings
from kubeflow.harness import S3, Cluster
from pipeline import kubeflow_runner
from storage import versions

SECRET = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_ENDPOINT_URL": "endpoint"}
SMALL = [
    *image_data.SMALL,
    "training.epochs=1",
    "training.batch_size=20",
    "data.max_label_skew=1",
    "data.max_label_drift=1",
    "data.validation_share=0.3",
    "kubeflow.retries=0",
    # With these in the cache the second run starts at Evaluator, which finds a baseline then.
    "kubeflow.nodes={ImageExampleGen: {cache: true}, ImageSchemaGen: {cache: true}, Trainer: {retries: 0}}",
    "data.source=s3://bucket/data/pets",
    "push.destination=s3://bucket/serving/pets",
    "kubeflow.history=s3://bucket/history",
]


@pytest.mark.slow
def test_data_artifacts_histories_and_pushes_in_an_object_store(s3, s3_server, tmp_path, monkeypatch):
    folder = image_data.write_folder(tmp_path / "pets")
    for file in folder.rglob("*.*"):
        s3.upload_file(str(file), "bucket", f"data/pets/{file.relative_to(folder).as_posix()}")
    changes = [*SMALL, f"kubeflow.volume_path={tmp_path}", f"kubeflow.secret_env={{store: {SECRET}}}"]
    text = kubeflow_runner.compile(settings.load(overrides=changes))
    store = S3(s3_server, "key", "secret", tmp_path / "fetched")
    secrets = {"store": {"id": "key", "key": "secret", "endpoint": s3_server}}
    cluster = Cluster(tmp_path / "cluster", "minio://bucket/v2/artifacts", secrets=secrets, store=store)
    with monkeypatch.context() as containers:  # which have no credentials but those of the secret
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            containers.delenv(name)
        containers.setenv("AWS_EC2_METADATA_DISABLED", "true")
        first, again = (cluster.run(text) for _ in range(2))
    for run in (first, again):
        assert run.state == "succeeded", {name: task.log[-3000:] for name, task in run.tasks.items() if task.error}
    pushed = [run.tasks["Pusher"].outputs["pushed_model"]["metadata"] for run in (first, again)]
    assert [one["pushed"] for one in pushed] == [1, 1]
    found = versions.versions("s3://bucket/serving/pets")
    assert {int(one["pushed_version"]) for one in pushed} == set(found)
    assert pushed[0]["pushed_destination"] == f"s3://bucket/serving/pets/{found[0]}"
    assert "baseline_model" not in first.tasks["Evaluator"].outputs["blessing"]["metadata"]
    assert "baseline_model" in again.tasks["Evaluator"].outputs["blessing"]["metadata"]
    for kept in ("statistics", "report"):
        assert versions.versions(f"s3://bucket/history/pets/{kept}")
    assert not (tmp_path / "serving").exists()
    assert not (tmp_path / "history").exists()
