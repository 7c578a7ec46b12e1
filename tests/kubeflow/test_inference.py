"""The InferenceService: rendered, and applied to an HTTPS server that answers as Kubernetes does."""

import datetime
import http.server
import ipaddress
import json
import ssl
import threading

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tfx import types
from tfx.types import standard_artifacts

from core import settings
from core.errors import UserError
from kubeflow import inference, serve
from pipeline import kubeflow_runner

URI = "pvc://alexnet/serving/shapes10"


def test_fills_in_the_template():
    service = inference.render("alexnet", URI, "1767225600", namespace="kubeflow")
    assert service["metadata"] == {"name": "alexnet", "namespace": "kubeflow"}
    predictor = service["spec"]["predictor"]
    assert predictor["model"]["storageUri"] == URI
    assert predictor["annotations"] == {"model-version": "1767225600"}  # text: Kubernetes refuses numbers there
    assert "$" not in json.dumps(service)


def test_values_cannot_change_the_form(tmp_path):
    template = tmp_path / "template.yaml"
    template.write_text(inference.TEMPLATE.read_text())
    evil = "1\n  hostNetwork: true\n# {}: $name"
    service = inference.render("a", URI, evil, template)
    assert service["spec"]["predictor"]["annotations"] == {"model-version": evil}
    assert "hostNetwork" not in service["spec"]["predictor"]


@pytest.mark.parametrize("name", ["", "Alexnet", "1a", "a-", "a.b", "a" * 54, "a/b", "a\n"])
def test_illegal_names(name):
    with pytest.raises(inference.InferenceError, match="is illegal"):
        inference.render(name, URI)


@pytest.mark.parametrize("uri", ["", "/alexnet/serving", "pvc://", "file:///x", "minio://x/y", "s3://a b"])
def test_illegal_uris(uri):
    with pytest.raises(inference.InferenceError, match="no URI that KServe reads"):
        inference.render("a", uri)


@pytest.mark.parametrize(
    "text",
    [
        "kind: [",
        "- a list",
        "",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: $name}\n",
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: other}\n",
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: $name}\nspec: $unknown\n",
    ],
)
def test_bad_templates(tmp_path, text):
    template = tmp_path / "template.yaml"
    template.write_text(text)
    with pytest.raises(inference.InferenceError, match=r"template\.yaml"):
        inference.render("a", URI, template=template)


def test_prints_yaml(capfd):
    assert inference.main(["--name", "a", "--storage-uri", URI, "--version", "7"]) == 0
    out, err = capfd.readouterr()
    assert yaml.safe_load(out) == inference.render("a", URI, "7")
    assert err == ""
    assert inference.main(["--name", "A", "--storage-uri", URI]) == 2
    assert capfd.readouterr().err.count("\n") == 1


# Applying it


class Api(http.server.BaseHTTPRequestHandler):
    """Server-side apply of one kind of object, as in Kubernetes' API reference."""

    def do_PATCH(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(self.path)
        path, _, query = self.path.partition("?")
        status, answer = self.server.refusal or (201 if path not in self.server.objects else 200, {})
        if self.headers["Authorization"] != "Bearer t0ken":
            status, answer = 401, {"message": "Unauthorized"}
        elif self.headers["Content-Type"] != "application/apply-patch+yaml" or "fieldManager=" not in query:
            status, answer = 415, {"message": "no apply"}
        if status < 300:
            self.server.objects[path] = yaml.safe_load(body)
        body = json.dumps(answer).encode() if isinstance(answer, dict) else answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def make_certificate(folder):
    """`ca.crt` and `key` of a server at 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
    start = datetime.datetime(2000, 1, 1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start.replace(year=2100))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(made.public_bytes(pem))
    (folder / "key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def cluster(certificate, tmp_path):
    """(server, folder of a service account, environment of a pod)"""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        server.got, server.objects, server.refusal = [], {}, None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "ca.crt", certificate / "key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        (tmp_path / "token").write_text("t0ken\n")
        (tmp_path / "namespace").write_text("kubeflow")
        (tmp_path / "ca.crt").write_bytes((certificate / "ca.crt").read_bytes())
        pod = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.server_port)}
        yield server, tmp_path, pod
        server.shutdown()
        thread.join()


def test_applies_again_and_again(cluster):
    server, account, pod = cluster
    for version in ("1", "2", "2"):
        inference.apply(inference.render("alexnet", URI, version), account, pod)
    ((path, found),) = server.objects.items()
    assert path == "/apis/serving.kserve.io/v1beta1/namespaces/kubeflow/inferenceservices/alexnet"
    assert found == inference.render("alexnet", URI, "2")
    assert len(server.got) == 3


def test_a_namespace_that_is_given_comes_first(cluster):
    server, account, pod = cluster
    inference.apply(inference.render("alexnet", URI, namespace="serving"), account, pod)
    assert [path.split("/")[5] for path in server.got] == ["serving"]


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((404, b"404 page not found\n"), "has no KServe"),
        ((404, {"message": 'namespaces "a" not found'}), 'refused the InferenceService: namespaces "a" not found.'),
        ((404, {"message": "the server could not find the requested resource"}), "has no KServe"),
        ((403, {"message": 'inferenceservices "a" is forbidden'}), "may not apply an InferenceService in kubeflow"),
        ((422, {"message": "spec.predictor is wrong"}), "refused the InferenceService: spec.predictor is wrong"),
        ((500, b"no JSON"), "HTTP status 500"),
    ],
)
def test_refusals_in_one_sentence(cluster, refusal, said):
    server, account, pod = cluster
    server.refusal = refusal
    with pytest.raises(inference.InferenceError) as problem:
        inference.apply(inference.render("a", URI), account, pod)
    assert said in str(problem.value)
    assert "t0ken" not in str(problem.value)
    assert "\n" not in str(problem.value)


def test_trusts_only_the_clusters_certificate(cluster):
    server, account, pod = cluster
    make_certificate(account)  # another one of the same name
    with pytest.raises(inference.InferenceError, match="cannot be reached"):
        inference.apply(inference.render("a", URI), account, pod)
    assert server.got == []


def test_outside_of_a_pod(tmp_path):
    with pytest.raises(inference.InferenceError, match="no pod"):
        inference.apply(inference.render("a", URI), tmp_path, {"KUBERNETES_SERVICE_HOST": "127.0.0.1"})
    with pytest.raises(inference.InferenceError, match="no pod"):
        inference.apply(inference.render("a", URI), tmp_path, {})


# The node after Pusher


@pytest.fixture
def in_pod(cluster, monkeypatch):
    server, account, pod = cluster
    for name, value in pod.items():
        monkeypatch.setenv(name, value)
    apply = inference.apply
    monkeypatch.setattr(inference, "apply", lambda service: apply(service, account))
    return server


def run_node(uri, **properties):
    pushed = standard_artifacts.PushedModel()
    for key, value in properties.items():
        pushed.set_string_custom_property(key, value) if isinstance(value, str) else (
            pushed.set_float_custom_property(key, value)  # KFP's metadata store makes floats of all numbers
        )
    wanted = {"name": "alexnet", "storage_uri": uri, "namespace": ""}
    serve.Executor().Do({"pushed_model": [pushed]}, {}, wanted)


@pytest.mark.parametrize(("uri", "version"), [(URI, ""), ("s3://models/shapes10", "1767225600")])
def test_the_node_serves_what_was_pushed(in_pod, uri, version):
    run_node(uri, pushed=1.0, pushed_version="1767225600")
    (found,) = in_pod.objects.values()
    assert found["spec"]["predictor"]["model"]["storageUri"] == uri
    assert found["spec"]["predictor"]["annotations"]["model-version"] == version


def test_the_node_leaves_alone_what_is_served_when_nothing_was_pushed(in_pod):
    run_node(URI, pushed=0.0)
    run_node(URI)
    assert in_pod.got == []


def test_a_setting_puts_the_node_into_our_pipeline():
    chosen = settings.load(overrides=["kubeflow.inference_service=shapes"])
    tasks = yaml.safe_load(kubeflow_runner.compile(chosen).split("\n---\n")[0])["root"]["dag"]["tasks"]
    given = tasks["InferenceService"]["inputs"]["parameters"]
    assert given["storage_uri"]["runtimeValue"]["constant"] == "pvc://alexnet/serving/shapes10"
    assert given["name"]["runtimeValue"]["constant"] == "shapes"
    assert tasks["InferenceService"]["dependentTasks"] == ["Pusher"]
    assert not tasks["InferenceService"].get("cachingOptions", {}).get("enableCache")
    elsewhere = settings.load(overrides=["kubeflow.inference_service=shapes", "push.destination=/mnt/models"])
    with pytest.raises(UserError, match=r"push.destination=/mnt/models must be .* or lie in /alexnet"):
        kubeflow_runner.compile(elsewhere)


def test_what_is_pushed_to_an_object_store_is_served_from_there():
    chosen = settings.load(overrides=["kubeflow.inference_service=shapes", "push.destination=s3://models/shapes"])
    tasks = yaml.safe_load(kubeflow_runner.compile(chosen).split("\n---\n")[0])["root"]["dag"]["tasks"]
    given = tasks["InferenceService"]["inputs"]["parameters"]
    assert given["storage_uri"]["runtimeValue"]["constant"] == "s3://models/shapes"


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_what_kserve_reads_stays_as_it_is(scheme):
    uri = f"{scheme}://models/shapes"
    assert inference.as_kserve_calls_it(uri, {}) == uri
    assert inference.render("a", uri)["spec"]["predictor"]["model"]["storageUri"] == uri


def test_azures_store_is_called_as_kserve_calls_it(monkeypatch):
    chosen = settings.load(overrides=["kubeflow.inference_service=shapes", "push.destination=az://models/shapes"])
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "mine")
    tasks = yaml.safe_load(kubeflow_runner.compile(chosen).split("\n---\n")[0])["root"]["dag"]["tasks"]
    given = tasks["InferenceService"]["inputs"]["parameters"]
    assert given["storage_uri"]["runtimeValue"]["constant"] == "https://mine.blob.core.windows.net/models/shapes"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(UserError, match=r"az://models/shapes as https://ACCOUNT.*set AZURE_STORAGE_ACCOUNT_NAME"):
        kubeflow_runner.compile(chosen)
    with pytest.raises(inference.InferenceError, match="set AZURE_STORAGE_ACCOUNT_NAME"):
        inference.render("a", "az://models/shapes")


def test_the_node_goes_after_pusher():
    node = serve.InferenceService(types.Channel(type=standard_artifacts.PushedModel), name="a", storage_uri=URI)
    assert node.exec_properties == {"name": "a", "storage_uri": URI, "namespace": ""}
    assert node.outputs == {}
