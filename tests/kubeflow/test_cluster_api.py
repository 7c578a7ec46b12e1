"""What is read from Kubernetes, over real HTTP with its own client."""

import base64
import gzip
import json

import kubernetes.client
import pytest
import yaml
from kube_server import KubeServer, failure, kubeconfig
from ports import closed_port

from kubeflow.cluster_api import Api, Forbidden, NotFound, waiting
from kubeflow.connection import ClientError, Unreachable

RUN = "0f0a3a6e-7a7b-4a52-9d6c-3c1f6e0d2b11"
PODS = "/api/v1/namespaces/kubeflow/pods"
WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows"
LABEL = {"labelSelector": f"pipeline/runid={RUN}"}
WORKFLOW = "alexnet-shapes10-x7k2p"


def pod(task, status, started="2026-11-26T03:00:00Z", number=1):
    """A pod as Argo makes it; its status has to be one of Kubernetes' own."""
    name = f"{WORKFLOW}-system-container-impl-{number}"
    meta = {
        "name": name,
        "creationTimestamp": started,
        "labels": {"pipeline/runid": RUN, "workflows.argoproj.io/workflow": WORKFLOW},
        "annotations": {"workflows.argoproj.io/node-name": f"{WORKFLOW}.{task}"},
    }
    made = {"metadata": meta, "status": status}
    data = type("Response", (), {"data": json.dumps(made)})
    kubernetes.client.ApiClient().deserialize(data, "V1Pod")  # raises ValueError where a field is missing
    return made


def container(name="main", **state):
    return {"name": name, "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}


def unscheduled(message):
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


@pytest.fixture
def server():
    with KubeServer() as running:
        running.say(PODS, {"items": []}, LABEL)
        running.say(WORKFLOWS, {"items": []}, LABEL)
        yield running


@pytest.fixture
def api(server, tmp_path):
    return Api(environ=kubeconfig(tmp_path / "config", server.url))


def seen(server, api, *pods):
    server.say(PODS, {"items": list(pods)}, LABEL)
    found, unknown = waiting(RUN, "kubeflow", api)
    assert unknown == ""
    return found


def test_a_pod_that_no_node_takes_says_why(server, api):
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    (one,) = seen(server, api, pod("root.Trainer.executor", unscheduled(message)))
    assert (one.node, one.driver, one.reason) == ("Trainer", False, f"Unschedulable: {message}")
    assert one.pod.startswith(WORKFLOW)
    assert one.since.isoformat() == "2026-11-26T03:00:00+00:00"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {
                "phase": "Pending",
                "containerStatuses": [
                    container("wait", running={"startedAt": "2026-11-26T03:00:00Z"}),
                    container(waiting={"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x:1"'}),
                ],
            },
            'ImagePullBackOff: Back-off pulling image "x:1"',
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [container("init", waiting={"reason": "ErrImagePull", "message": "no"})],
                "containerStatuses": [container(waiting={"reason": "PodInitializing"})],
            },
            "ErrImagePull: no",
        ),
        (
            {
                "phase": "Pending",
                "containerStatuses": [
                    container(waiting={"reason": "CreateContainerConfigError", "message": 'secret "s" not found'})
                ],
            },
            'CreateContainerConfigError: secret "s" not found',
        ),
        ({"phase": "Pending", "containerStatuses": [container(waiting={"reason": "InvalidImageName"})]},
         "InvalidImageName: the container main"),
        ({"phase": "Pending"}, "Pending: no scheduler and no node has taken it up yet"),
        ({"phase": "Pending", "reason": "NodeLost", "message": "gone"}, "NodeLost: gone"),
    ],
)  # fmt: skip
def test_a_container_that_does_not_start_says_why(server, api, status, reason):
    assert [one.reason for one in seen(server, api, pod("root.Pusher.executor", status))] == [reason]


def test_what_runs_or_has_ended_does_not_wait(server, api):
    running = {"phase": "Running", "containerStatuses": [container(running={"startedAt": "2026-11-26T03:00:00Z"})]}
    ended = [{"phase": "Succeeded"}, {"phase": "Failed", "reason": "Evicted"}]
    assert seen(server, api, *(pod("root.Pusher.executor", status) for status in [running, *ended])) == []


def test_what_keeps_a_volume_from_being_mounted_is_told_by_events(server, api):
    held = {"phase": "Pending", "containerStatuses": [container(waiting={"reason": "ContainerCreating"})]}
    stuck = pod("root.Trainer.executor", held)
    selector = f"involvedObject.kind=Pod,involvedObject.name={stuck['metadata']['name']},type=Warning"
    events = [
        {"lastTimestamp": "2026-11-26T03:05:00Z", "reason": "FailedAttachVolume", "message": "Multi-Attach error"},
        {"lastTimestamp": "2026-11-26T03:01:00Z", "reason": "Older", "message": "older"},
    ]
    server.say("/api/v1/namespaces/kubeflow/events", {"items": events}, {"fieldSelector": selector})
    assert [one.reason for one in seen(server, api, stuck)] == ["FailedAttachVolume: Multi-Attach error"]


def test_without_the_right_to_read_events_what_the_pod_says_is_told(server, api):
    held = {"phase": "Pending", "containerStatuses": [container(waiting={"reason": "ContainerCreating"})]}
    (one,) = seen(server, api, pod("root.Trainer.executor", held))
    assert one.reason.startswith("ContainerCreating: ")


@pytest.mark.parametrize("packed", [False, True])
def test_what_a_quota_refuses_has_no_pod_and_is_told_by_argo(server, api, packed):
    refusal = (
        'pods "x" is forbidden: exceeded quota: alexnet, requested: requests.memory=16Gi, used: 40Gi, limited: 48Gi'
    )
    nodes = {
        "1": {"type": "Pod", "phase": "Pending", "name": f"{WORKFLOW}.root.Trainer.executor(1)", "message": refusal},
        "2": {"type": "Pod", "phase": "Pending", "name": f"{WORKFLOW}.root.Pusher.executor"},
        "3": {"type": "Pod", "phase": "Succeeded", "name": f"{WORKFLOW}.root.Ingest.executor"},
    }
    if packed:
        status = {"compressedNodes": base64.b64encode(gzip.compress(json.dumps(nodes).encode())).decode()}
    else:
        status = {"nodes": nodes}
    server.say(WORKFLOWS, {"items": [{"metadata": {"name": WORKFLOW}, "status": status}]}, LABEL)
    (one,) = seen(server, api)
    assert (one.node, one.pod, one.reason) == ("Trainer", "", refusal)


def test_the_longest_waiting_comes_first(server, api):
    pods = [
        pod("root.Pusher.executor", unscheduled("a"), "2026-11-26T03:10:00Z"),
        pod("root.Trainer-driver", unscheduled("b"), "2026-11-26T03:00:00Z"),
    ]
    assert [one.node for one in seen(server, api, *pods)] == ["Trainer", "Pusher"]


def test_a_terminal_obeys_nothing_of_what_is_told(server, api):
    (one,) = seen(server, api, pod("root.Trainer.executor", unscheduled("0/3\x1b[2J nodes\nare available")))
    assert one.reason == "Unschedulable: 0/3\N{REPLACEMENT CHARACTER}[2J nodes are available"


def test_lists_come_in_pages(server, api):
    first, second = (pod(f"root.{task}.executor", unscheduled("m")) for task in ("A", "B"))
    server.say(PODS, {"items": [first], "metadata": {"continue": "more"}}, LABEL)
    server.say(PODS, {"items": [second]}, LABEL | {"continue": "more"})
    assert [one.node for one in waiting(RUN, "kubeflow", api)[0]] == ["A", "B"]


def test_who_may_not_look_learns_that(server, api):
    server.say(PODS, failure(403, "Forbidden", 'pods is forbidden: User "me" cannot list'), LABEL, status=403)
    assert waiting(RUN, "kubeflow", api) == (
        [],
        'Kubernetes does not allow it: pods is forbidden: User "me" cannot list.',
    )


def test_without_a_kubeconfig_there_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert waiting(RUN) == ([], "There is no kubeconfig: set KUBECONFIG, or make ~/.kube/config.")


def test_a_server_that_is_not_there_is_told_as_such(tmp_path):
    with closed_port() as port:
        api = Api(environ=kubeconfig(tmp_path / "config", f"http://127.0.0.1:{port}"))
        with pytest.raises(Unreachable, match="nothing listens there"):
            api.read("/version")


def test_refused_credentials_are_told(server, api):
    server.allowed = {"another"}
    with pytest.raises(Forbidden, match="log in anew"):
        api.read("/version")


def test_what_is_not_kubernetes_is_told(server, api):
    server.say("/version", "a page")
    with pytest.raises(ClientError, match="answers what Kubernetes would not"):
        api.read("/version")


def test_what_is_not_there_is_told_apart(api):
    with pytest.raises(NotFound):
        api.listed("/apis/serving.kserve.io/v1beta1")


def test_another_context_can_be_named(server, tmp_path):
    environ = kubeconfig(tmp_path / "config", server.url, "mine", contexts=("here", "there"))
    assert [Api(context, environ).context for context in (None, "there")] == ["here", "there"]
    assert Api(environ=environ).namespace == "mine"
    with pytest.raises(ClientError, match="no context elsewhere: it has here, there"):
        Api("elsewhere", environ)


def test_a_kubeconfig_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "config"
    path.write_text("{")
    with pytest.raises(ClientError, match=rf"kubeconfig {path}: .*[^.]\.$"):
        Api(environ={"KUBECONFIG": str(path)})


def test_why_a_program_that_gives_the_token_failed_is_told(server, tmp_path, capfd):
    environ = kubeconfig(tmp_path / "config", server.url)
    config = yaml.safe_load((tmp_path / "config").read_text())
    script = {"command": "sh", "args": ["-c", "echo log in first >&2; exit 3"], "interactiveMode": "Never"}
    config["users"][0]["user"] = {"exec": {"apiVersion": "client.authentication.k8s.io/v1"} | script}
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    with pytest.raises(ClientError, match=r"exec: process returned 3\. log in first"):
        Api(environ=environ)
    assert capfd.readouterr().err == ""


def test_nothing_is_written_into_the_kubeconfig(server, tmp_path):
    environ = kubeconfig(tmp_path / "config", server.url)
    before = (tmp_path / "config").read_bytes()
    Api(environ=environ)
    assert (tmp_path / "config").read_bytes() == before
