"""What the tests of several folders need."""

import os
import pathlib
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts what it puts in the background so, and every child would inherit that Ctrl-C does nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from image_data import batches, write_binary, write_folder, write_python

HERE = pathlib.Path(__file__).parent
MOST = 4  # workers; more would wait for the longest file
GIBIBYTES = 3  # that a worker may come to need; TensorFlow alone takes one
# Where most of the time goes, the slowest first: begun at once, none keeps one worker busy when the other is done.
LONGEST = (
    "engines/test_flink_run.py",
    "engines/test_flink_interrupted.py",
    "pipeline/test_kubeflow_flink.py",
    "pipeline/test_kubeflow_run.py",
    "pipeline/test_object_store_run.py",
    "kubeflow/test_run.py",
    "pipeline/test_beam_workers.py",
    "pipeline/test_pipeline.py",
    "pipeline/test_cli.py",
    "pipeline/test_changed_workdir.py",
    "storage/test_object_store.py",
    "storage/test_versions.py",
    "components/test_data_check.py",
    "trainer/test_backends.py",
    "trainer/test_training.py",
    "trainer/test_multiworker.py",
    "trainer/test_tuning.py",
    "benchmarks/test_benchmarks.py",
)


def pytest_xdist_auto_num_workers(config):
    """As many workers as there are processors and memory for; none for a part of the tests: it starts at once."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS or config.option.keyword:
        return 0
    config.option.dist = "loadfile"  # what a file makes once is made once
    config.option.loadscopereorder = False  # the order below
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    return max(1, min(os.cpu_count() or 1, memory // GIBIBYTES, MOST))


def pytest_collection_modifyitems(items):
    """Files as they are, the longest first."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.relative_to(HERE).as_posix(), len(ranks)))


@pytest.fixture
def model(tmp_path):
    """A folder with the files of a SavedModel, as far as pushing them goes."""
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"weights")
    return folder


@pytest.fixture
def made(tmp_path):
    """A folder with the files of statistics, as far as keeping them goes."""
    folder = tmp_path / "made" / "Split-train"
    folder.mkdir(parents=True)
    (folder / "stats.pb").write_text("one")
    return folder.parent


@pytest.fixture
def image_folder(tmp_path):
    return write_folder(tmp_path / "pets")


@pytest.fixture
def python_folder(tmp_path):
    return write_python(tmp_path / "cifar-10-batches-py", batches())


@pytest.fixture
def binary_folder(tmp_path):
    return write_binary(tmp_path / "cifar-10-batches-bin", batches())


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return pathlib.Path(folder)


@pytest.fixture(scope="session")
def s3_server():
    """The address of a server with S3's API."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A boto3 client, and an environment that leads to the server, with the empty bucket "bucket"."""
    import boto3
    import requests
    import store_servers

    requests.post(f"{s3_server}/moto-api/reset", timeout=30)
    store_servers.lead_to(
        monkeypatch,
        {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": s3_server,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        },
    )
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="bucket")
    yield client
    store_servers.forget()


@pytest.fixture(scope="session")
def running_stores(tmp_path_factory):
    """Gives a server of `store_servers` by its name; each is started once."""
    import store_servers

    running = {}

    def get(name):
        if name not in running:
            running[name] = store_servers.start(name, tmp_path_factory.mktemp(name))
        return running[name]

    yield get
    for server in running.values():
        server.close()


@pytest.fixture(params=["moto", "seaweedfs", "minio", "google", "azure"])
def server(request, running_stores, monkeypatch):
    """Each object store that is there, with an environment that leads to it."""
    import store_servers

    found = running_stores(request.param)
    store_servers.lead_to(monkeypatch, found.environment)
    store_servers.try_briefly(monkeypatch)
    yield found
    store_servers.forget()


@pytest.fixture
def bucket(server):
    """The URI of a new folder in the bucket of `server`."""
    import uuid

    return f"{server.scheme}://{server.bucket}/{uuid.uuid4().hex}"
