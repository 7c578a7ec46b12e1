"""Our pipeline as on Kubeflow with object stores for everything that can lie in one."""

import image_data
import pytest
import store_servers

from core import settings
from kubeflow.harness import S3, Cluster
from pipeline import kubeflow_runner
from storage import object_store, versions

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
]


@pytest.fixture
def stores(running_stores):
    """What holds KFP's artifacts, the data, the pushes and the histories: SeaweedFS as KFP has it, or moto."""
    return 4 * [running_stores("seaweedfs" if store_servers.found("seaweedfs") else "moto")]


@pytest.fixture
def three_stores(stores, running_stores):
    """Google's with the data and Azure's with the pushes, beside what holds the rest."""
    return [stores[0], running_stores("google"), running_stores("azure"), stores[0]]


@pytest.mark.slow
@pytest.mark.parametrize("places", ["stores", "three_stores"])
def test_data_artifacts_histories_and_pushes_in_object_stores(places, request, tmp_path, monkeypatch):
    artifacts, data, pushes, histories = servers = request.getfixturevalue(places)
    environment = {name: value for server in servers for name, value in server.environment.items()}
    source, serving, history = (
        f"{server.scheme}://{server.bucket}/{tmp_path.name}-{name}"
        for server, name in ((data, "data/pets"), (pushes, "serving/pets"), (histories, "history"))
    )
    folder = image_data.write_folder(tmp_path / "pets")
    store_servers.lead_to(monkeypatch, environment)
    for file in folder.rglob("*.*"):
        object_store.upload(file, f"{source}/{file.relative_to(folder).as_posix()}")
    secret = {name: name for name in environment}
    changes = [
        *SMALL,
        f"data.source={source}",
        f"push.destination={serving}",
        f"kubeflow.history={history}",
        f"kubeflow.volume_path={tmp_path}",
        f"kubeflow.secret_env={{store: {secret}}}",
    ]
    text = kubeflow_runner.compile(settings.load(overrides=changes))
    store = S3(artifacts.url, store_servers.KEY, store_servers.SECRET, tmp_path / "fetched")
    root = f"minio://{artifacts.bucket}/{tmp_path.name}/v2/artifacts"
    cluster = Cluster(tmp_path / "cluster", root, secrets={"store": environment}, store=store)
    with monkeypatch.context() as containers:  # which have no credentials but those of the secret
        store_servers.lead_to(containers, {"AWS_EC2_METADATA_DISABLED": "true"})
        first, again = (cluster.run(text) for _ in range(2))
    store_servers.forget()
    for run in (first, again):
        assert run.state == "succeeded", {name: task.log[-3000:] for name, task in run.tasks.items() if task.error}
    pushed = [run.tasks["Pusher"].outputs["pushed_model"]["metadata"] for run in (first, again)]
    assert [one["pushed"] for one in pushed] == [1, 1]
    found = versions.versions(serving)
    assert {int(one["pushed_version"]) for one in pushed} == set(found)
    assert pushed[0]["pushed_destination"] == f"{serving}/{found[0]}"
    assert "baseline_model" not in first.tasks["Evaluator"].outputs["blessing"]["metadata"]
    assert "baseline_model" in again.tasks["Evaluator"].outputs["blessing"]["metadata"]
    for kept in ("statistics", "report"):
        assert versions.versions(f"{history}/pets/{kept}")
    assert not (tmp_path / "serving").exists()
    assert not (tmp_path / "history").exists()
