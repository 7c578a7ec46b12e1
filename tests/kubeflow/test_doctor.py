"""What doctor says, against recorded answers of a real kube-apiserver: see tests/support/kube_recording.py."""

import base64
import collections
import copy
import dataclasses
import http.server
import json
import pathlib
import re
import threading
import uuid

import doctor_pipeline
import pytest
import store_servers
import yaml
from kfp_server import KfpServer
from kube_recording import RUN
from kube_server import KubeServer, failure, kubeconfig, request
from ports import closed_port
from s3_objects import keys

from kubeflow import client, connection, doctor, package
from kubeflow.cluster_api import Api
from kubeflow.connection import ClientError
from kubeflow.doctor import FINE, MISSING, NOTE, UNKNOWN, fit, needs
from kubeflow.doctor.cluster import Cluster
from kubeflow.doctor.probe import probe
from kubeflow.session import Server
from storage import object_store

(RECORDING,) = pathlib.Path(__file__).with_name("recordings").glob("kube-apiserver-*.json")
RECORDED = json.loads(RECORDING.read_text())
NAMESPACE = "/api/v1/namespaces/kubeflow"
CLAIM, SECRETS = f"{NAMESPACE}/persistentvolumeclaims/alexnet", f"{NAMESPACE}/secrets"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
READS = re.compile(r"GET .*|POST /apis/authorization.k8s.io/v1/(self)?subjectaccessreviews")


class Recorded(KubeServer):
    """The answers of a scenario, which a test may change."""

    def __init__(self, scenario):
        super().__init__(copy.deepcopy(RECORDED["answers"][scenario]))

    def change(self, path, change):
        """Changes a recorded answer in place."""
        status, answer = self.answers[request("GET", path)]
        assert status == 200
        change(answer)

    def lose(self, path):
        self.say(path, failure(404, "NotFound", "not found"), status=404)

    def forbid(self, path):
        self.say(path, failure(403, "Forbidden", "not for you"), status=403)


@pytest.fixture
def recorded(request, tmp_path):
    with Recorded(getattr(request, "param", "complete")) as server:
        server.environ = kubeconfig(tmp_path / "config", server.url, "kubeflow")
        yield server
        assert all(READS.fullmatch(one) for one in server.requests), "something was changed"


def said(server, wanted=None, account="alexnet", multi_user=False):
    """What is found: subject -> findings."""
    cluster = Cluster(Api(environ=server.environ), "kubeflow", account, multi_user)
    found = {}
    for one in cluster.examine(wanted or doctor_pipeline.needs()):
        assert one.text.endswith(".")
        assert "\n" not in one.text
        found.setdefault(one.subject, []).append(one)
    return found


def states(found):
    return {subject: [one.state for one in same] for subject, same in found.items()}


def one(found, subject):
    (only,) = found[subject]
    return only


def test_where_nothing_is_missing_all_is_fine(recorded):
    found = said(recorded)
    assert {state for same in states(found).values() for state in same} == {FINE}
    assert list(found) == [
        "namespace kubeflow",
        "service account alexnet",
        "rights of alexnet",
        "store of Kubeflow Pipelines",
        "volume claim alexnet",
        "secret alexnet-data",
        "secret alexnet-webhook",
        "pull secret registry",
        "nodes for Trainer",
        "nodes for ImageExampleGen",
        "nodes for Baseline and 15 others",
        "nodes for Notify",
        "quota alexnet",
        "limits alexnet",
        "KServe",
    ]


def test_no_value_of_a_secret_is_told(recorded):
    text = repr(said(recorded))
    for answer in recorded.answers.values():
        for value in (answer[1].get("data") or {}).values():
            assert value not in text
            assert base64.b64decode(value).decode() not in text


@pytest.mark.parametrize("recorded", ["namespace"], indirect=True)
def test_in_an_empty_namespace_each_thing_is_missing_with_what_mends_it(recorded):
    found = said(recorded)
    mended = {
        "service account alexnet": "kubectl -n kubeflow apply -f kubeflow/manifests/base/service-account.yaml",
        "rights of alexnet": "kubectl -n kubeflow apply -f kubeflow/manifests/base/service-account.yaml",
        "volume claim alexnet": "kubectl -n kubeflow apply -f kubeflow/manifests/base/volume-claim.yaml",
        "secret alexnet-webhook": "kubectl -n kubeflow create secret generic alexnet-webhook "
        "--from-env-file=FILE  # with lines url=...",
    }
    for subject, mend in mended.items():
        assert (one(found, subject).state, one(found, subject).mend) == (MISSING, mend)
    assert {subject for subject, same in states(found).items() if same != [FINE]} == {
        *mended,
        "store of Kubeflow Pipelines",
        "secret alexnet-data",
        "pull secret registry",
        "KServe",
    }


@pytest.mark.parametrize("recorded", ["empty"], indirect=True)
def test_without_a_namespace_there_is_nothing_more_to_say(recorded):
    assert states(said(recorded)) == {"namespace kubeflow": [MISSING]}
    assert "--namespace" in one(said(recorded), "namespace kubeflow").mend
    assert one(said(recorded, multi_user=True), "namespace kubeflow").mend == "kubectl create namespace kubeflow"


@pytest.mark.parametrize("recorded", ["user"], indirect=True)
def test_what_a_user_may_not_see_is_unknown_and_the_rest_is_looked_at(recorded):
    found = said(recorded)
    unknown = {subject for subject, same in states(found).items() if UNKNOWN in same}
    assert unknown == {
        "rights of alexnet",
        "store of Kubeflow Pipelines",
        "secret alexnet-data",
        "secret alexnet-webhook",
        "pull secret registry",
        "nodes",
    }
    assert all(one.state in (FINE, UNKNOWN) for same in found.values() for one in same)
    assert "auth can-i create inferenceservices.serving.kserve.io --as" in one(found, "rights of alexnet").mend


@pytest.mark.parametrize("verdict", RECORDED["scheduler"], ids=str)
def test_nodes_take_what_the_real_scheduler_put_there(verdict):
    """Nothing else ran on the nodes when it decided."""
    _, nodes = RECORDED["answers"]["namespace"][request("GET", "/api/v1/nodes")]
    amounts = {key: {name: needs.quantity(text) for name, text in (verdict.get(key) or {}).items()}
               for key in ("requests", "limits")}  # fmt: skip
    tolerations = tuple(verdict["tolerations"] or ())
    task = doctor.Task("x", "image", **amounts, selector=verdict["nodeSelector"] or {}, tolerations=tolerations)
    taking = fit.taking([task], nodes["items"])
    assert bool(taking) == bool(verdict["node"]), verdict["message"]
    assert not taking or verdict["node"] in taking
    if not taking:
        counted = re.findall(r"(\d+) node\(s\) were unschedulable", verdict["message"])
        assert counted == re.findall(r"(\d+) cordoned", fit.explain(task, nodes["items"]))


@pytest.mark.parametrize("recorded", ["hanging"], indirect=True)
def test_a_cordoned_gpu_and_a_used_up_quota_are_told(recorded):
    found = said(recorded)
    trainer = one(found, "nodes for Trainer")
    assert trainer.state == MISSING
    assert "2 cordoned" in trainer.text
    assert trainer.mend == "kubectl uncordon gpu-1"
    quota = one(found, "quota alexnet")
    assert quota.state == NOTE
    assert "requests.memory is 48Gi, none of it free" in quota.text


def nodes_as(recorded, change):
    recorded.change("/api/v1/nodes", lambda answer: [change(node) for node in answer["items"]])


@pytest.mark.parametrize(
    ("change", "mend"),
    [
        (lambda node: node["metadata"]["labels"].pop("cloud.google.com/gke-spot", None),
         "kubectl label node gpu-1 cloud.google.com/gke-spot=true"),
        (lambda node: node["spec"].setdefault("taints", []).append({"key": "night", "effect": "NoExecute"}),
         "compile with a toleration of the taint"),
        (lambda node: node["status"]["allocatable"].update({"memory": "15Gi"}),
         "compile with other resources, or add a node (an autoscaler that adds one by itself is not seen here)"),
        (lambda node: node["status"]["conditions"][0].update({"status": "Unknown"}),
         "kubectl describe node gpu-1"),
    ],
)  # fmt: skip
def test_what_would_mend_the_nearest_node_is_told(recorded, change, mend):
    nodes_as(recorded, change)
    trainer = one(said(recorded), "nodes for Trainer")
    assert (trainer.state, trainer.mend) == (MISSING, mend)


def test_a_node_that_is_too_small_by_a_hair_is_told_in_bytes(recorded):
    nodes_as(recorded, lambda node: node["status"]["allocatable"].update({"memory": "16777215Ki"}))
    assert "17179868160 of 17179869184 memory" in one(said(recorded), "nodes for Trainer").text


def test_a_namespace_that_goes_away_or_takes_few_pods_is_told(recorded):
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    recorded.change(NAMESPACE, lambda answer: answer["metadata"]["labels"].update(label))
    assert states(said(recorded))["namespace kubeflow"] == [NOTE]
    recorded.change(NAMESPACE, lambda answer: answer["status"].update(phase="Terminating"))
    assert states(said(recorded)) == {"namespace kubeflow": [MISSING]}


@pytest.mark.parametrize("recorded", ["namespace"], indirect=True)
def test_another_account_gets_roles_of_its_own_and_kfps_stays_as_it_is(recorded):
    answers = dict(recorded.answers)
    for key, answer in answers.items():  # asked about another account, the server says the same
        recorded.answers[key.replace("kubeflow:alexnet", "kubeflow:pipeline-runner")] = answer
    found = said(recorded, account="pipeline-runner")
    mend = one(found, "rights of pipeline-runner").mend.splitlines()
    assert (
        "kubectl -n kubeflow create role pipeline-runner-workflowtaskresults --verb=create,patch "
        "--resource=workflowtaskresults.argoproj.io"
    ) in mend
    assert (
        "kubectl -n kubeflow create rolebinding pipeline-runner-workflowtaskresults "
        "--role=pipeline-runner-workflowtaskresults --serviceaccount=kubeflow:pipeline-runner"
    ) in mend
    assert "service-account.yaml" not in "".join(mend)
    assert "--service-account" in one(found, "service account pipeline-runner").mend


def claim_is(recorded, modes=("ReadWriteMany",), phase="Bound", storage_class=None):
    def change(answer):
        answer["spec"] |= {"accessModes": list(modes), "storageClassName": storage_class}
        answer["status"] |= {"accessModes": list(modes), "phase": phase}
        if phase == "Pending":
            answer["status"] = {"phase": phase}

    recorded.change(CLAIM, change)


def claim(recorded):
    return one(said(recorded), "volume claim alexnet")


def test_a_volume_for_one_node_is_enough_where_its_tasks_fit_on_one_only(recorded):
    claim_is(recorded, ["ReadWriteOnce"])
    found = claim(recorded)  # Trainer fits on gpu-1, the others on cpu-1
    assert found.state == MISSING
    assert found.text == (
        "Bound, 50Gi, ReadWriteOnce. Its 9 tasks fit on 2 nodes, and one of these at a time can mount it."
    )
    nodes_as(recorded, lambda node: node["spec"].update(unschedulable=node["metadata"]["name"] != "cpu-1"))
    assert claim(recorded).state == FINE
    recorded.forbid("/api/v1/nodes")
    assert claim(recorded).state == NOTE


@pytest.mark.parametrize("mode", ["ReadOnlyMany", "ReadWriteOncePod"])
def test_a_volume_that_several_pods_cannot_write_to_is_no_good(recorded, mode):
    claim_is(recorded, [mode])
    assert claim(recorded).state == MISSING


@pytest.mark.parametrize("named", [True, False])
def test_a_claim_may_wait_for_its_first_pod_if_its_class_says_so(recorded, named):
    claim_is(recorded, phase="Pending", storage_class="local" if named else None)
    assert claim(recorded).state == MISSING
    assert claim(recorded).mend == "kubectl -n kubeflow describe persistentvolumeclaim alexnet"
    default = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    made = {"metadata": {"name": "local"} | default, "volumeBindingMode": "WaitForFirstConsumer"}
    recorded.say(f"{CLASSES}/local", made)
    recorded.say(CLASSES, {"items": [{"metadata": {"name": "other"}}, made]})
    assert (claim(recorded).state, claim(recorded).text) == (
        FINE,
        "Bound as soon as the first pod wants it, ReadWriteMany.",
    )


def test_a_lost_claim_is_told(recorded):
    claim_is(recorded, phase="Lost")
    assert "It is Lost" in claim(recorded).text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "no key AWS_ENDPOINT_URL"),
        (b"", "nothing in AWS_ENDPOINT_URL"),
        (b"REPLACE\n", "the template's AWS_ENDPOINT_URL"),
    ],
)
def test_a_secret_has_to_have_the_keys_with_something_in_them(recorded, value, words):
    def change(answer):
        answer["data"].pop("AWS_ENDPOINT_URL")
        if value is not None:
            answer["data"]["AWS_ENDPOINT_URL"] = base64.b64encode(value).decode()

    recorded.change(f"{SECRETS}/alexnet-data", change)
    found = one(said(recorded), "secret alexnet-data")
    assert (found.state, found.text) == (MISSING, f"It has {words}.")
    assert found.mend == (
        "kubectl -n kubeflow create secret generic alexnet-data --from-env-file=FILE --dry-run=client -o yaml "
        "| kubectl -n kubeflow apply -f -  "
        "# with lines AWS_ACCESS_KEY_ID=..., AWS_ENDPOINT_URL=..., AWS_SECRET_ACCESS_KEY=..."
    )


def test_a_line_break_at_the_end_of_a_value_is_a_note(recorded):
    value = base64.b64encode(b"http://s3\n").decode()
    recorded.change(f"{SECRETS}/alexnet-data", lambda answer: answer["data"].update(AWS_ENDPOINT_URL=value))
    found = one(said(recorded), "secret alexnet-data")
    assert found.state == NOTE
    assert "line break or blank is around what is in AWS_ENDPOINT_URL" in found.text


def test_a_secret_of_files_that_need_not_be_there_is_a_note(recorded):
    wanted = dataclasses.replace(
        doctor_pipeline.needs(),
        tasks=(doctor.Task("A", "a/b@sha256:0", secrets={"files": frozenset()}, optional=frozenset({"files"})),),
    )
    recorded.lose(f"{SECRETS}/files")
    assert states(said(recorded, wanted))["secret files"] == [NOTE]
    recorded.say(f"{SECRETS}/files", {"data": {}})
    assert states(said(recorded, wanted))["secret files"] == [FINE]


def test_a_pull_secret_has_to_be_one_and_for_the_registry(recorded):
    recorded.change(f"{SECRETS}/registry", lambda answer: answer.update(type="Opaque"))
    assert "It is of the type Opaque" in one(said(recorded), "pull secret registry").text
    login = base64.b64encode(json.dumps({"auths": {"https://other.example.com/v1/": {}}}).encode()).decode()
    made = {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": login}}
    recorded.say(f"{SECRETS}/registry", made)
    found = one(said(recorded), "pull secret registry")
    assert (found.state, found.text) == (MISSING, "It is not for registry.example.com, where the image is.")


def quota_is(recorded, **hard):
    hard = {name.replace("__", "."): text for name, text in hard.items()}
    quota = {"metadata": {"name": "small"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": {}}}
    recorded.say(f"{NAMESPACE}/resourcequotas", {"items": [quota]})
    return quota


def test_a_quota_that_a_task_never_fits_into_is_told(recorded):
    quota_is(recorded, requests__memory="8Gi", pods="10")
    found = one(said(recorded), "quota small")
    assert (found.state, found.text) == (
        MISSING,
        "Trainer never fits: requests.memory is 8Gi, 16Gi memory asked for.",
    )


def test_a_quota_demands_limits_that_nobody_sets(recorded):
    quota_is(recorded, limits__cpu="40")
    recorded.say(f"{NAMESPACE}/limitranges", {"items": []})
    found = said(recorded)
    assert one(found, "quota").text == (
        "The quota demands of each container what tasks leave out: limits.cpu (Notify and 18 more)."
    )
    assert one(found, "quota").mend == "kubectl -n kubeflow apply -f kubeflow/manifests/own-namespace/quota.yaml"
    default = {"type": "Container", "default": {"cpu": "2"}}
    recorded.say(f"{NAMESPACE}/limitranges", {"items": [{"metadata": {"name": "l"}, "spec": {"limits": [default]}}]})
    assert "quota" not in said(recorded)


def test_a_quota_for_certain_pods_is_not_compared(recorded):
    quota = quota_is(recorded, requests__memory="1Gi")
    quota["spec"]["scopes"] = ["BestEffort"]
    assert states(said(recorded))["quota small"] == [NOTE]


def test_limits_of_single_containers_are_compared(recorded):
    limit = {"type": "Container", "max": {"memory": "8Gi"}, "min": {"cpu": "200m"}}
    made = {"metadata": {"name": "tight"}, "spec": {"limits": [limit]}}
    recorded.say(f"{NAMESPACE}/limitranges", {"items": [made]})
    found = said(recorded)["limits tight"]
    assert [one.text for one in found] == [
        "Trainer is refused: at most 8Gi memory, and it asks for 16Gi memory.",
        "Notify is refused: at least 200m cpu, and it asks for 0.1 cpu.",
    ]


def test_the_store_may_be_configured_otherwise(recorded):
    recorded.lose(f"{SECRETS}/mlpipeline-minio-artifact")
    assert states(said(recorded))["store of Kubeflow Pipelines"] == [MISSING]
    found = one(said(recorded, multi_user=True), "store of Kubeflow Pipelines")
    assert found.mend == "kubectl label namespace kubeflow pipelines.kubeflow.org/enabled=true"
    recorded.say(f"{NAMESPACE}/configmaps/kfp-launcher", {"data": {"providers": "s3: ..."}})
    assert states(said(recorded))["store of Kubeflow Pipelines"] == [NOTE]


def test_names_from_a_pipeline_are_quoted_in_commands(recorded):
    name = "a b;rm -rf x\x1b[2J"
    wanted = dataclasses.replace(doctor_pipeline.needs(), tasks=(doctor.Task("A", "a/b", claims=(name,)),))
    (found,) = [one for same in said(recorded, wanted).values() for one in same if "claim" in one.subject]
    assert "\x1b" not in repr(found.mend)
    assert "'s/alexnet/a b;rm -rf x\N{REPLACEMENT CHARACTER}[2J/'" in found.mend


@pytest.mark.parametrize(
    ("image", "words"),
    [("alexnet-pipeline", "names no registry"), ("registry.example.com/alexnet:latest", "without a digest")],
)
def test_an_image_that_may_change_is_a_note(recorded, image, words):
    wanted = dataclasses.replace(doctor_pipeline.needs(), tasks=(doctor.Task("A", image),))
    found = one(said(recorded, wanted), f"image {image}")
    assert found.state == NOTE
    assert words in found.text


# What the pipeline asks for.


def test_what_the_compiled_pipeline_asks_for_is_read_from_both_documents():
    found = doctor_pipeline.needs()
    tasks = {task.name: task for task in found.tasks}
    assert len(tasks) == 19
    trainer = tasks["Trainer"]
    assert trainer.requests == {"cpu": 4, "memory": 16 * 2**30, "nvidia.com/gpu": 1}
    assert trainer.limits == {"memory": 16 * 2**30, "nvidia.com/gpu": 1}
    assert trainer.selector == {"cloud.google.com/gke-spot": "true"}
    assert trainer.claims == ("alexnet",)
    assert tasks["Pusher"].secrets == {"alexnet-data": frozenset(doctor_pipeline.CREDENTIALS)}
    assert tasks["Notify"].secrets == {"alexnet-webhook": frozenset({"url"})}
    assert found.exit_task
    assert found.serves
    assert {(place.uri, place.written) for place in found.places} == {
        ("s3://data/my-images", False),
        ("s3://models/history/my-images/report", True),
        ("s3://models/history/my-images/statistics", True),
        ("s3://models/my-images", True),
    }
    assert {place.secrets for place in found.places} == {("alexnet-data",)}


def test_a_parameter_leads_to_another_store():
    found = needs.read_needs(doctor_pipeline.text(), {"push_destination": "s3://other/x", "data_source": "shapes10"})
    assert [place.uri for place in found.places if "history" not in place.uri] == ["s3://other/x"]
    local = doctor_pipeline.text().replace("s3://models/my-images", "/alexnet/serving")
    found = needs.read_needs(local, {"push_destination": "s3://other/x"})
    assert [(place.uri, place.written) for place in found.places if "history" not in place.uri] == [
        ("s3://data/my-images", False),
        ("s3://other/x", True),
    ]


def test_newer_fields_of_kfps_compiler_are_read_too():
    """Quantities as text, in the place of numbers."""
    resources = {"resourceCpuRequest": "500m", "resourceMemoryLimit": "2Gi", "resourceMemoryRequest": "{{$.x}}"}
    resources["accelerator"] = {"resourceType": "amd.com/gpu", "resourceCount": "2"}
    spec = yaml.safe_load(doctor_pipeline.text().split("\n---\n")[0])
    spec["deploymentSpec"]["executors"]["Trainer_executor"]["container"]["resources"] = resources
    (trainer,) = [task for task in needs.read_needs(yaml.safe_dump(spec)).tasks if task.name == "Trainer"]
    assert dict(trainer.requests) == {"cpu": needs.quantity("0.5"), "memory": 2 * 2**30, "amd.com/gpu": 2}
    assert (trainer.claims, trainer.secrets) == ((), {})


@pytest.mark.parametrize("text", ["", "[", "a: b", "root: 5\ndeploymentSpec: {executors: {}}"])
def test_what_is_no_pipeline_is_refused(text):
    with pytest.raises(ClientError, match="not a pipeline"):
        needs.read_needs(text)


# The stores.


def place(written, uri="s3://bucket/models"):
    return doctor.Place(uri, written, ("alexnet-data",))


def test_a_store_that_does_it_all_is_fine_and_nothing_stays(s3):
    assert probe(place(True)).state == FINE
    assert "not overwritten" in probe(place(True)).text
    assert probe(place(False)).state == FINE
    assert keys(s3) == []


def test_a_bucket_that_is_not_there_is_missing(s3):
    found = probe(place(True, f"s3://bucket-{uuid.uuid4().hex}/models"))
    assert found.state == MISSING
    assert "alexnet-data" in found.text


def test_a_store_that_the_first_push_would_refuse_is_missing(s3, monkeypatch):
    """One that keeps writers apart one after the other, but lets two win that write at once."""
    create, lock, winners = object_store.create, threading.Lock(), collections.Counter()

    def hasty(uri, body):
        with lock:
            winners[uri] += 1
            second = winners[uri] == 2 and "/probe-" in uri
        return create(uri, body) or second

    monkeypatch.setattr(object_store, "create", hasty)
    found = probe(place(True))
    assert (found.state, "two pushes at once can mix" in found.text) == (MISSING, True)
    assert keys(s3) == []


def test_what_answers_everything_is_no_store(monkeypatch):
    """As the console of one does, with a page."""

    class Console(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Console) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        keys = {"AWS_ACCESS_KEY_ID": "some", "AWS_SECRET_ACCESS_KEY": "some"}
        store_servers.lead_to(monkeypatch, {"AWS_ENDPOINT_URL": url, **keys})
        found = probe(place(False))
        server.shutdown()
    store_servers.forget()
    assert (found.state, "no object store" in found.text) == (MISSING, True)
    assert "AWS_ENDPOINT_URL" in found.mend


# All together.


@pytest.fixture
def kfp():
    with KfpServer(version="2.17.0") as running:
        yield running


def examined(kfp, recorded, monkeypatch, wanted=None, **options):
    monkeypatch.setenv("KUBECONFIG", recorded.environ["KUBECONFIG"])
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    wanted = wanted or dataclasses.replace(doctor_pipeline.needs(), places=())
    return list(
        doctor.examine(
            wanted, lambda: client.Client(connection.connect(kfp.url, environ={})), account="alexnet", **options
        )
    )


def test_the_server_comes_first_then_the_cluster_then_the_latest_run(kfp, recorded, monkeypatch):
    found = examined(kfp, recorded, monkeypatch, experiment="alexnet")
    assert [one.state for one in found] == [FINE] * len(found)
    assert found[0].text == f"Kubeflow Pipelines 2.17 at {kfp.url}, with one user."
    assert found[1].text == f"{RECORDED['version']} at {recorded.url} (context here)."
    assert (found[-1].subject, found[-1].text) == ("latest run", "There is none yet.")


def started(kfp):
    """The id of a run of the pipeline that has not ended."""
    found = client.Client(connection.connect(kfp.url, environ={}))
    version = found.upload(package.read_package(doctor_pipeline.text()))
    return found.run(version, "alexnet", "nightly", {})


def about_run(found, run):
    return [one for one in found if one.subject == f"run {run}"]


@pytest.mark.parametrize("recorded", ["hanging"], indirect=True)
def test_what_the_latest_run_waits_for_is_told_by_kubernetes(kfp, recorded, monkeypatch):
    run = started(kfp)
    recorded.answers |= {key.replace(RUN, run): answer for key, answer in recorded.answers.items()}
    found = about_run(examined(kfp, recorded, monkeypatch, experiment="alexnet"), run)
    told = {re.match(r"(.*?) waits", one.text)[1]: one for one in found}
    assert set(told) == {"Trainer", "The driver of Pusher", "StatisticsGen", "Transform"}
    assert all(one.state == MISSING for one in found)
    assert "Unschedulable: 0/4 nodes are available" in told["Trainer"].text
    assert "FailedMount: MountVolume.SetUp failed" in told["The driver of Pusher"].text
    assert "ImagePullBackOff: Back-off pulling image" in told["StatisticsGen"].text
    assert "exceeded quota: alexnet" in told["Transform"].text
    assert told["Trainer"].mend.startswith("kubectl -n kubeflow describe pod alexnet-my-images-")


def test_without_kubernetes_the_server_says_what_the_latest_run_waits_for(kfp, recorded, monkeypatch):
    run = started(kfp)
    kfp.waits = {"root-driver": ["ImagePullBackOff: x"] * 9}
    recorded.environ = {"KUBECONFIG": "/nonexistent"}
    (found,) = about_run(examined(kfp, recorded, monkeypatch, experiment="alexnet"), run)
    assert found.state == MISSING
    assert re.fullmatch(r"the pipeline's start is pending.*: ImagePullBackOff: x\.", found.text)
    assert found.mend == f"kubectl -n kubeflow describe pods -l pipeline/runid={run}"


def test_a_run_that_goes_on_is_fine_and_one_that_failed_a_note(kfp, recorded, monkeypatch):
    run = started(kfp)
    recorded.say(f"{NAMESPACE}/pods", {"items": []}, {"labelSelector": f"pipeline/runid={run}"})
    (found,) = about_run(examined(kfp, recorded, monkeypatch, experiment="alexnet"), run)
    assert (found.state, found.text) == (FINE, "It is running, and nothing is said to hold it up.")
    kfp.failing = {"tfx-dag", "Notify"}  # what the stand-in runs are the tasks of the root
    (found,) = about_run(examined(kfp, recorded, monkeypatch, experiment="alexnet"), run)
    assert found.state == NOTE
    assert found.text.endswith(" failed: Error (exit code 1).")


@pytest.mark.parametrize(
    ("version", "said"), [("2.5.0", [MISSING, NOTE]), ("2.14.1", [NOTE]), ("2.17.0", []), ("nightly", None)]
)
def test_what_the_servers_version_lacks_is_told(recorded, monkeypatch, version, said):
    with KfpServer(version=version) as kfp:
        found = examined(kfp, recorded, monkeypatch)
    assert [one.state for one in found if one.subject == "server"] == [FINE if said is not None else NOTE]
    assert [one.state for one in found if one.subject == "server's version"] == (said or [])


def test_without_a_server_the_cluster_is_looked_at(recorded, monkeypatch):
    with closed_port() as port:
        kfp = type("Closed", (), {"url": f"http://127.0.0.1:{port}"})
        found = examined(kfp, recorded, monkeypatch)
    assert (found[0].subject, found[0].state) == ("server", MISSING)
    assert found[0].mend.splitlines() == [
        "kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80 &",
        "export KF_PIPELINES_ENDPOINT=http://localhost:8080",
    ]
    assert {one.state for one in found[1:]} == {FINE}


def test_without_kubernetes_the_server_is_looked_at(kfp, recorded, monkeypatch):
    recorded.environ = {"KUBECONFIG": "/nonexistent"}
    found = examined(kfp, recorded, monkeypatch)
    assert [(one.subject, one.state) for one in found] == [
        ("server", FINE),
        ("Kubernetes", UNKNOWN),
        ("latest run", FINE),
    ]
    assert found[1].text == (
        "There is no kubeconfig: set KUBECONFIG, or make ~/.kube/config. So nothing in the cluster was looked at."
    )


def test_with_neither_nothing_is_known(recorded, monkeypatch):
    recorded.environ = {"KUBECONFIG": "/nonexistent"}
    with closed_port() as port, pytest.raises(doctor.Unasked):
        examined(type("Closed", (), {"url": f"http://127.0.0.1:{port}"}), recorded, monkeypatch)


def test_a_version_that_may_not_be_read_ends_nothing(kfp, recorded, monkeypatch):
    recorded.forbid("/version")
    found = examined(kfp, recorded, monkeypatch)
    assert [one.state for one in found[:3]] == [FINE, UNKNOWN, FINE]


def test_several_users_have_a_namespace_and_an_account_of_their_own(recorded, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", recorded.environ["KUBECONFIG"])
    with KfpServer(version="2.17.0", multi_user=True) as kfp:
        where = connection.connect(kfp.url, namespace="kubeflow", environ={})
        wanted = dataclasses.replace(doctor_pipeline.needs(), places=())
        found = [one.subject for one in doctor.examine(wanted, lambda: client.Client(where))]
    assert "service account default-editor" in found


SERVICE = "/api/v1/namespaces/kubeflow/services/alexnet-flink-rest"
OVERVIEW = {"taskmanagers": 2, "slots-total": 4, "slots-available": 4, "jobs-running": 0, "flink-version": "1.19.3"}


@pytest.fixture(scope="module")
def on_flink():
    """What the pipeline needs with its Beam nodes on Flink."""
    group = {"beam_runner": "FlinkRunner", "beam_master": "alexnet-flink-rest:8081"}
    return doctor.read_needs(doctor_pipeline.text(**group))


@pytest.mark.parametrize(
    ("there", "status", "answer", "state", "words"),
    [
        (False, 404, {}, MISSING, "There is no service alexnet-flink-rest in kubeflow."),
        (True, 200, OVERVIEW, FINE, "Flink 1.19.3 with 2 TaskManagers and 4 slots."),
        (True, 200, OVERVIEW | {"taskmanagers": 0, "slots-total": 0}, MISSING, "It has no TaskManager."),
        (True, 200, {"something": "else"}, MISSING, "What answers is not Flink."),
        (True, 403, failure(403, "Forbidden", "not for you"), UNKNOWN, "the right to get services/proxy"),
        (True, 503, failure(503, "ServiceUnavailable", "no endpoints"), UNKNOWN, "does not answer. "),
    ],
)
def test_flink_is_asked_through_kubernetes(recorded, on_flink, there, status, answer, state, words):
    if there:
        recorded.say(SERVICE, {"kind": "Service", "metadata": {"name": "alexnet-flink-rest"}})
        recorded.say(f"{SERVICE}:8081/proxy/overview", answer, status=status)
    found = one(said(recorded, on_flink), "Flink alexnet-flink-rest:8081")
    assert found.state == state
    assert words in found.text


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("flink.other:8081", "/api/v1/namespaces/other/services/flink"),
        ("flink.other.svc.cluster.local:80", "/api/v1/namespaces/other/services/flink"),
        ("flink.example.com:8081", None),
        ("10.0.0.1:8081", None),
    ],
)
def test_flink_may_be_in_another_namespace_or_elsewhere(recorded, address, path):
    (found,) = Cluster(Api(environ=recorded.environ), "kubeflow", "alexnet").flink(address)
    assert found.state == (MISSING if path else UNKNOWN)
    assert recorded.requests == ([f"GET {path}"] if path else [])


def test_options_of_beam_take_a_server_that_tells_them(on_flink):
    for version, expected in (((2, 13), [MISSING, MISSING]), ((2, 14), [])):
        found = doctor.about_server("http://kfp", Server(version, False), on_flink)
        assert [one.state for one in found if one.subject == "server's version" and one.state == MISSING] == expected


def test_a_volume_of_one_node_is_enough_for_flink_on_that_node(recorded, on_flink):
    recorded.change(CLAIM, lambda claim: claim["status"].update(accessModes=["ReadWriteOnce"]))
    found = one(said(recorded, on_flink), "volume claim alexnet")
    assert (found.state, "Flink's workers mount it, too" in found.text) == (NOTE, True)
