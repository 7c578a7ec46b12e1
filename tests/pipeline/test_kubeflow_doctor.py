"""`alexnet kubeflow doctor`, as a user calls it: real processes, against recorded answers of a kube-apiserver."""

import contextlib
import http.client
import json
import os
import pathlib
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import doctor_pipeline
import pytest
from command_line import alexnet
from kfp_server import KfpServer
from kube_server import KubeServer, kubeconfig
from ports import closed_port
from s3_objects import put

(RECORDING,) = (pathlib.Path(__file__).parents[1] / "kubeflow" / "recordings").glob("kube-apiserver-*.json")
STORES = ["s3://data/my-images", "s3://models/history/my-images/report", "s3://models/history/my-images/statistics",
          "s3://models/my-images"]  # fmt: skip
BEFORE = ("AWS_", "KF_", "KFP_", "KUBE")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    path.write_text(doctor_pipeline.text())
    return path


@pytest.fixture
def environ(tmp_path):
    """Of a shell in which everything is named."""
    answers = json.loads(RECORDING.read_text())["answers"]["complete"]
    with KfpServer(version="2.17.0") as kfp, KubeServer(answers) as kubernetes:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(BEFORE)}
        nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "TZ": "UTC"}
        nothing |= {"AWS_EC2_METADATA_DISABLED": "true", "KF_PIPELINES_ENDPOINT": kfp.url}
        yield clean | nothing | kubeconfig(tmp_path / "config", kubernetes.url)


@pytest.fixture
def store(s3):
    """The variables that lead to a store with the buckets of the pipeline."""
    for name in ("data", "models"):
        s3.create_bucket(Bucket=name)
    yield {name: os.environ[name] for name in doctor_pipeline.CREDENTIALS}
    for name in ("data", "models"):
        assert "Contents" not in s3.list_objects_v2(Bucket=name), "something was left"


def doctor(environ, *arguments):
    return alexnet("kubeflow", "doctor", *arguments, env=environ)


def found(environ, *arguments, code=0):
    """What is found, by its subject."""
    done = doctor(environ, *arguments, "--service-account", "alexnet", "--output", "json")
    assert done.returncode == code, done
    return {one["subject"]: one for one in json.loads(done.stdout)}


def test_where_all_is_there_each_line_is_fine(environ, store, pipeline):
    done = doctor(environ | store, "--pipeline", pipeline, "--service-account", "alexnet")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 22
    assert all(line.startswith("fine     ") for line in lines)
    assert lines[0].startswith("fine     server: Kubeflow Pipelines 2.17 at http://localhost:")
    assert "fine     secret alexnet-webhook: It is there, with url." in lines
    written = "With this shell's credentials: written, read, not overwritten, deleted."
    assert lines[-1] == f"fine     store s3://models/my-images: {written}"


def test_what_is_missing_ends_with_1_and_the_command_that_mends_it(environ, store, pipeline):
    done = doctor(environ | store, "--pipeline", pipeline)  # KFP's own account, which the recorded cluster has not
    assert done.returncode == 1
    assert (
        "missing  service account pipeline-runner: There is none in kubeflow.\n         -> name another"
        in done.stdout
    )


def test_without_credentials_a_store_is_unknown(environ, pipeline):
    told = found(environ, "--pipeline", pipeline)
    words = "Not asked, this shell has no credentials for it. In the cluster the secret alexnet-data is used."
    assert [(told[f"store {uri}"]["state"], told[f"store {uri}"]["text"]) for uri in STORES] == [
        ("unknown", words)
    ] * 4


def test_a_store_that_is_not_reached_from_here_is_unknown(environ, pipeline):
    with closed_port() as port:
        keys = {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        }
        told = found(environ | keys, "--pipeline", pipeline)
    for uri in STORES:
        assert told[f"store {uri}"]["state"] == "unknown"
        assert told[f"store {uri}"]["text"].startswith("From here, the object store of s3://")


def test_parameters_lead_to_other_stores(environ, store, pipeline):
    told = found(
        environ | store, "--pipeline", pipeline, "--param", "push_destination=s3://absent/x", code=1
    )  # fmt: skip
    assert told["store s3://absent/x"]["state"] == "missing"
    assert "there is no bucket absent" in told["store s3://absent/x"]["text"]
    assert "store s3://models/my-images" not in told


@contextlib.contextmanager
def lesser(url, refused=()):
    """The store, but it takes If-None-Match for nothing, as MinIO did before it learned it, and refuses methods."""
    upstream = urllib.parse.urlsplit(url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.command in refused:
                self.send_response(403)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            headers = {key: value for key, value in self.headers.items() if key.lower() != "if-none-match"}
            connection = http.client.HTTPConnection(upstream)
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return self.wfile.write(content)

        do_PUT = do_DELETE = do_HEAD = do_POST = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_store_that_overwrites_is_no_good(environ, store, pipeline):
    with lesser(store["AWS_ENDPOINT_URL"]) as url:
        told = found(environ | store | {"AWS_ENDPOINT_URL": url}, "--pipeline", pipeline, code=1)
    assert [told[f"store {uri}"]["state"] for uri in STORES] == ["fine", "missing", "missing", "missing"]
    assert "two pushes at once can mix" in told["store s3://models/my-images"]["text"]


def test_what_cannot_be_deleted_is_named(environ, store, pipeline, s3):
    with lesser(store["AWS_ENDPOINT_URL"], ["DELETE"]) as url:
        told = found(environ | store | {"AWS_ENDPOINT_URL": url}, "--pipeline", pipeline, code=1)
    left = [one["Key"] for one in s3.list_objects_v2(Bucket="models")["Contents"]]
    assert len(left) == 3
    said = " ".join(one["text"] for one in told.values())
    for key in left:
        assert f"s3://models/{key} was written and is left there." in said
        s3.delete_object(Bucket="models", Key=key)


def test_what_lies_in_a_store_is_left_alone(environ, store, pipeline, s3):
    put(s3, **{"kept": b"as it is"})
    found(environ | store, "--pipeline", pipeline)
    assert s3.get_object(Bucket="bucket", Key="kept")["Body"].read() == b"as it is"


def test_with_neither_server_nor_cluster_it_ends_with_2(environ, pipeline):
    with closed_port() as port:
        nowhere = {"KF_PIPELINES_ENDPOINT": f"http://127.0.0.1:{port}", "KUBECONFIG": "/nonexistent"}
        done = doctor(environ | nowhere, "--pipeline", pipeline)
    assert done.returncode == 2
    assert done.stderr == "alexnet: Neither Kubeflow Pipelines nor Kubernetes could be asked.\n"
    assert done.stdout.startswith("missing  server: ")
    assert "unknown  Kubernetes: There is no kubeconfig" in done.stdout


def test_settings_do_instead_of_a_file(environ):
    told = found(environ, "--set", "kubeflow.memory=40Gi", "--image", doctor_pipeline.IMAGE, code=1)
    (big,) = [one for subject, one in told.items() if subject.startswith("nodes for Baseline")]
    assert big["text"].startswith("None of 4 nodes would do (")
    assert big["text"].endswith("asked for: 1 cpu, 40Gi memory.")


def test_another_context_is_refused_with_those_that_there_are(environ, pipeline):
    told = found(environ, "--pipeline", pipeline, "--context", "elsewhere")
    assert told["Kubernetes"]["text"].startswith("The kubeconfig has no context elsewhere: it has here.")
