"""Records what a real API server of Kubernetes answers to doctor: tests/kubeflow/recordings/kube-apiserver-*.json.

    python tests/support/kube_recording.py --etcd ETCD --apiserver KUBE-APISERVER --scheduler KUBE-SCHEDULER

Starts them on this machine with an empty store and fills it: objects as in kubeflow/manifests, nodes, and the status
that controllers and kubelets would write, for none of them runs. Where the scheduler puts pods is recorded, too.
"""

import argparse
import base64
import contextlib
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import kubernetes.client
import kubernetes.utils
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import doctor_pipeline  # noqa: E402
from kube_server import KubeServer, kubeconfig  # noqa: E402

from kubeflow import doctor  # noqa: E402
from kubeflow.cluster_api import Api, waiting  # noqa: E402
from kubeflow.doctor.cluster import Cluster  # noqa: E402

FOLDER = ROOT / "tests" / "kubeflow" / "recordings"
NAMESPACE, RUN = "kubeflow", "0f0a3a6e-7a7b-4a52-9d6c-3c1f6e0d2b11"
WORKFLOW = "alexnet-my-images-x7k2p"
ADMIN, USER = "admin-token", "user-token"
READY = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": None}]
SPOT = {"cloud.google.com/gke-spot": "true"}
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
CONTROL = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
NODES = {  # name: labels, taints, cordoned, allocatable
    "control-1": ({}, [CONTROL], False, {"cpu": "4", "memory": "16Gi"}),
    "cpu-1": ({}, [], False, {"cpu": "7910m", "memory": "29Gi"}),
    "cpu-2": ({}, [], True, {"cpu": "7910m", "memory": "29Gi"}),
    "gpu-1": (SPOT, [GPU_TAINT], False, {"cpu": "15890m", "memory": "57Gi", "nvidia.com/gpu": "1"}),
}
DROPPED = ("managedFields", "uid", "resourceVersion", "selfLink")


@contextlib.contextmanager
def api_server(etcd, apiserver, folder):
    """A running API server: its URL and the SSL context that trusts it."""
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    store = f"http://127.0.0.1:{ports[0]}"
    key = folder / "key.pem"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    (folder / "tokens").write_text(f'{ADMIN},admin,1,"system:masters"\n{USER},user,2\n')
    started = [
        [etcd, "--data-dir", folder / "etcd", "--listen-client-urls", store, "--advertise-client-urls", store,
         "--listen-peer-urls", f"http://127.0.0.1:{ports[1]}"],
        [apiserver, "--etcd-servers", store, "--secure-port", str(ports[2]), "--bind-address", "127.0.0.1",
         "--cert-dir", folder / "certs", "--token-auth-file", folder / "tokens", "--authorization-mode", "RBAC",
         "--service-account-key-file", key, "--service-account-signing-key-file", key,
         "--service-account-issuer", "https://kubernetes.default.svc", "--watch-cache=false",
         "--endpoint-reconciler-type", "none"],
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        for command in started:
            log = stack.enter_context(open(folder / f"{pathlib.Path(command[0]).name}.log", "w"))
            process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield f"https://127.0.0.1:{ports[2]}", folder / "certs" / "apiserver.crt"


@contextlib.contextmanager
def running_scheduler(path, folder, config):
    with open(folder / "scheduler.log", "w") as log:
        command = [path, "--kubeconfig", config, "--leader-elect=false", "--secure-port=0"]
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def until(what, seconds=120):
    """What a function returns, once that is true."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(Exception):
            if found := what():
                return found
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.2)


class Filler:
    """Makes objects with the rights of an administrator."""

    def __init__(self, url, certificate):
        config = kubernetes.client.Configuration()
        config.host, config.ssl_ca_cert = url, str(certificate)
        config.api_key, config.api_key_prefix = {"authorization": ADMIN}, {"authorization": "Bearer"}
        self.client = kubernetes.client.ApiClient(config)

    def call(self, method, path, body=None, kind="application/json"):
        answer = self.client.call_api(
            path, method, body=body, header_params={"Content-Type": kind, "Accept": "application/json"},
            auth_settings=["BearerToken"], _preload_content=False, _return_http_data_only=True,
        )  # fmt: skip
        return json.loads(answer.data)

    def make(self, path, body, status=None):
        self.call("POST", path, body)
        if status:
            self.status(f"{path}/{body['metadata']['name']}", status)

    def status(self, path, status):
        self.call("PATCH", f"{path}/status", {"status": status}, "application/merge-patch+json")

    def manifest(self, file, namespace=NAMESPACE):
        for document in yaml.safe_load_all((ROOT / "kubeflow" / "manifests" / file).read_text()):
            kubernetes.utils.create_from_dict(self.client, document, namespace=namespace)


def nodes(filler):
    for name, (labels, taints, cordoned, allocatable) in NODES.items():
        meta = {"name": name, "labels": labels | {"kubernetes.io/hostname": name}}
        filler.make("/api/v1/nodes", {"metadata": meta, "spec": {"unschedulable": cordoned}})
        spec = {"taints": taints + ([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}] * cordoned)}
        filler.call("PATCH", f"/api/v1/nodes/{name}", {"spec": spec}, "application/merge-patch+json")
        have = allocatable | {"pods": "110"}
        filler.status(f"/api/v1/nodes/{name}", {"capacity": have, "allocatable": have, "conditions": READY})


def definition(group, kind, plural, version):
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    versions = [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]
    return {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": versions},
    }


def secret(name, kind="Opaque", **values):
    data = {key.replace("__", "."): base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {"name": name}, "type": kind, "data": data}


def complete(filler):
    """All that the pipeline needs."""
    place = f"/api/v1/namespaces/{NAMESPACE}"
    filler.manifest("base/service-account.yaml")
    filler.manifest("base/volume-claim.yaml")
    bound = {"accessModes": ["ReadWriteMany"], "capacity": {"storage": "50Gi"}}
    volume = {"metadata": {"name": "nfs-1"}, "spec": bound | {"nfs": {"server": "nfs.example.com", "path": "/"}}}
    volume["spec"]["claimRef"] = {"namespace": NAMESPACE, "name": "alexnet"}
    filler.make("/api/v1/persistentvolumes", volume)
    annotation = {"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}}
    claim = f"{place}/persistentvolumeclaims/alexnet"
    filler.call("PATCH", claim, annotation | {"spec": {"volumeName": "nfs-1"}}, "application/merge-patch+json")
    filler.status(claim, bound | {"phase": "Bound"})
    keys = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-secret-value"}
    secrets = f"{place}/secrets"
    filler.make(secrets, secret("alexnet-data", **keys, AWS_ENDPOINT_URL="http://seaweedfs.kubeflow:9000"))
    filler.make(secrets, secret("alexnet-webhook", url="https://chat.example.com/a-secret-path"))
    filler.make(secrets, secret("mlpipeline-minio-artifact", accesskey="an-id", secretkey="a-secret-value"))
    login = json.dumps({"auths": {"registry.example.com": {"auth": "YTpi"}}})
    filler.make(secrets, secret("registry", "kubernetes.io/dockerconfigjson", __dockerconfigjson=login))
    filler.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                definition("serving.kserve.io", "InferenceService", "inferenceservices", "v1beta1"))  # fmt: skip
    until(lambda: filler.call("GET", "/apis/serving.kserve.io/v1beta1")["resources"])
    filler.manifest("own-namespace/quota.yaml")
    hard = filler.call("GET", f"{place}/resourcequotas/alexnet")["spec"]["hard"]
    used = dict.fromkeys(hard, "0") | {"requests.cpu": "6", "requests.memory": "20Gi", "limits.memory": "20Gi"}
    used |= {"requests.nvidia.com/gpu": "0", "pods": "9", "persistentvolumeclaims": "1"}
    filler.status(f"{place}/resourcequotas/alexnet", {"hard": hard, "used": used})


def pod(number, node, spec, labels=None):
    meta = {
        "name": f"{WORKFLOW}-system-container-impl-{number}",
        "labels": {"pipeline/runid": RUN, "workflows.argoproj.io/workflow": WORKFLOW} | (labels or {}),
        "annotations": {"workflows.argoproj.io/node-name": f"{WORKFLOW}.root.{node}"},
    }
    made = {"name": "main", "image": "registry.example.com/alexnet-pipeline"} | spec.pop("main", {})
    return {"metadata": meta, "spec": {"serviceAccountName": "alexnet", "containers": [made]} | spec}


def asking(task):
    """A pod's spec that asks for what a task does."""
    requests = {name: format(amount, "f") for name, amount in task.requests.items()}
    limits = {name: format(amount, "f") for name, amount in task.limits.items()}
    return {
        "nodeSelector": dict(task.selector),
        "tolerations": [dict(one) for one in task.tolerations],
        "main": {"resources": {"requests": requests, "limits": limits}},
    }


def hang(filler, needs):
    """A run in which nothing goes on."""
    place = f"/api/v1/namespaces/{NAMESPACE}"
    quota = f"{place}/resourcequotas/alexnet"
    tasks = {task.name: task for task in needs.tasks}
    filler.call("PATCH", "/api/v1/nodes/gpu-1", {"spec": {"unschedulable": True}}, "application/merge-patch+json")
    trainer = pod(1, "tfx-dag.Trainer.executor(0)", asking(tasks["Trainer"]))
    filler.make(f"{place}/pods", trainer)
    path = f"{place}/pods/{trainer['metadata']['name']}"
    until(lambda: filler.call("GET", path)["status"].get("conditions"))
    image = pod(2, "tfx-dag.StatisticsGen.executor(0)", asking(tasks["StatisticsGen"]) | {"nodeName": "cpu-1"})
    back_off = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "registry.example.com/alexnet"'}
    about = {"image": "", "imageID": "", "ready": False, "restartCount": 0}
    filler.make(f"{place}/pods", image, {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "main", "state": {"waiting": back_off}} | about],
    })  # fmt: skip
    mounting = pod(3, "tfx-dag.Pusher-driver", asking(tasks["Pusher"]) | {"nodeName": "cpu-1"})
    filler.make(f"{place}/pods", mounting, {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ContainerCreating"}}} | about],
    })  # fmt: skip
    target = {"kind": "Pod", "namespace": NAMESPACE, "name": mounting["metadata"]["name"]}
    filler.make(f"{place}/events", {
        "metadata": {"name": "mount-1"}, "involvedObject": target, "type": "Warning", "reason": "FailedMount",
        "message": 'MountVolume.SetUp failed for volume "alexnet" : mount failed: exit status 32',
        "lastTimestamp": "2026-11-26T03:05:00Z",
    })  # fmt: skip
    # What Kubernetes says where the quota is used up is what Argo then keeps.
    used = filler.call("GET", quota)["status"]["hard"]
    filler.status(quota, {"used": used})
    try:
        filler.make(f"{place}/pods", pod(4, "tfx-dag.Transform.executor(0)", asking(tasks["Transform"])))
    except kubernetes.client.ApiException as problem:
        refusal = json.loads(problem.body)["message"]
    filler.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                definition("argoproj.io", "Workflow", "workflows", "v1alpha1"))  # fmt: skip
    workflows = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows"
    until(lambda: "items" in filler.call("GET", workflows))
    node = {"type": "Pod", "phase": "Pending", "name": f"{WORKFLOW}.root.tfx-dag.Transform.executor(0)"}
    node |= {"message": refusal, "startedAt": "2026-11-26T03:04:00Z"}
    meta = {"name": WORKFLOW, "labels": {"pipeline/runid": RUN}}
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": meta}
    filler.make(workflows, body | {"status": {"nodes": {"1": node}}})


def trimmed(value):
    if isinstance(value, dict):
        return {key: trimmed(one) for key, one in value.items() if key not in DROPPED}
    return [trimmed(one) for one in value] if isinstance(value, list) else value


def variations():
    """Specs of pods that ask nodes for this and that."""
    exists = {"key": "nvidia.com/gpu", "operator": "Exists"}
    equal = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    gpu, spot = {"nvidia.com/gpu": "1"}, dict(SPOT)
    for requests, selector, tolerations in [
        ({}, {}, []),
        ({"cpu": "7910m", "memory": "29Gi"}, {}, []),
        ({"cpu": "7911m"}, {}, []),
        ({"memory": "29.5Gi"}, {}, []),
        ({"memory": "31138512896"}, {}, []),
        ({"memory": "31.138512897G"}, {}, []),
        ({"cpu": "8"}, {}, [exists]),
        (gpu, spot, []),
        (gpu, spot, [exists]),
        (gpu, {}, [exists | {"effect": "NoSchedule"}]),
        (gpu, {}, [exists | {"effect": "NoExecute"}]),
        (gpu, {}, [equal]),
        (gpu, {}, [equal | {"value": "absent"}]),
        (gpu, {}, [equal | {"operator": "Equal"}]),
        (gpu, {}, [{"operator": "Exists"}]),
        ({"nvidia.com/gpu": "2"}, {}, [exists]),
        ({"amd.com/gpu": "1"}, {}, [exists]),
        (gpu | {"memory": "57Gi"}, spot, [exists]),
        (gpu | {"memory": "58Gi"}, spot, [exists]),
        ({}, spot, []),
        ({}, {"cloud.google.com/gke-spot": "false"}, [exists]),
        ({"cpu": "4", "memory": "16Gi"}, {"kubernetes.io/hostname": "control-1"}, []),
        ({"cpu": "4", "memory": "16Gi"}, {"kubernetes.io/hostname": "control-1"}, [{"operator": "Exists"}]),
        ({"cpu": "1"}, {"kubernetes.io/hostname": "cpu-2"}, []),
        ({"cpu": "1"}, {"kubernetes.io/hostname": "cpu-2"}, [{"operator": "Exists"}]),
    ]:
        limits = {name: number for name, number in requests.items() if "/" in name}
        main = {"resources": {"requests": requests, "limits": limits}}
        yield {"nodeSelector": selector, "tolerations": tolerations, "main": main}


def scheduled(filler):
    """Where the scheduler puts pods, and what it says where it does not."""
    place = f"/api/v1/namespaces/{NAMESPACE}/pods"
    for number, spec in enumerate(variations()):
        made = pod(f"try-{number}", "x", dict(spec))
        made["metadata"]["labels"] = {}
        made["spec"]["serviceAccountName"] = "default"
        filler.make(place, made)
        path = f"{place}/{made['metadata']['name']}"
        condition = until(lambda path=path: filler.call("GET", path)["status"].get("conditions"))[0]
        found = filler.call("GET", path)["spec"]
        filler.call("DELETE", path, {"gracePeriodSeconds": 0})
        asked = {key: found.get(key) for key in ("nodeSelector", "tolerations")}
        asked |= found["containers"][0]["resources"]
        yield asked | {"node": found.get("nodeName", ""), "message": condition.get("message", "")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--etcd", required=True)
    parser.add_argument("--apiserver", required=True)
    parser.add_argument("--scheduler", required=True)
    options = parser.parse_args()
    needs = doctor_pipeline.needs()
    recorded, verdicts = {}, []
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, certificate = stack.enter_context(api_server(options.etcd, options.apiserver, folder))
        until(certificate.exists)
        filler = Filler(url, certificate)
        version = until(lambda: filler.call("GET", "/version"))["gitVersion"]
        until(lambda: filler.call("GET", "/api/v1/namespaces/default"))
        trusted = ssl.create_default_context(cafile=str(certificate))

        def record(name, token=ADMIN, account="alexnet", run=False):
            with KubeServer(upstream=(url, trusted)) as server:
                config = folder / f"{name}.yaml"
                api = Api(environ=kubeconfig(config, server.url, NAMESPACE, token))
                said = [doctor.about_kubernetes(api)]
                said += Cluster(api, NAMESPACE, account).examine(needs)
                if run:
                    said += [doctor.about_waiting("run", one, NAMESPACE) for one in waiting(RUN, NAMESPACE, api)[0]]
            print(f"=== {name}")
            for one in said:
                print(f"{one.state:<7}  {one.subject}: {one.text}")
                for line in one.mend.splitlines():
                    print(f"         -> {line}")
            recorded[name] = {key: [status, trimmed(answer)] for key, (status, answer) in server.answers.items()}

        record("empty")
        filler.make("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        filler.make(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", {"metadata": {"name": "default"}})
        nodes(filler)
        record("namespace")
        # What a controller would put into the role `view`.
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:aggregate-to-view"}
        subject = {"kind": "User", "name": "user", "apiGroup": "rbac.authorization.k8s.io"}
        binding = {"metadata": {"name": "user"}, "roleRef": role, "subjects": [subject]}
        filler.make(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings", binding)
        config = folder / "scheduler.yaml"
        kubeconfig(config, url, token=ADMIN)
        told = yaml.safe_load(config.read_text())
        told["clusters"][0]["cluster"]["certificate-authority"] = str(certificate)
        config.write_text(yaml.safe_dump(told))
        stack.enter_context(running_scheduler(options.scheduler, folder, config))
        verdicts = list(scheduled(filler))
        complete(filler)
        record("complete")
        record("user", USER)
        hang(filler, needs)
        record("hanging", run=True)
        for log in folder.glob("*.log"):
            shutil.copy(log, os.environ.get("TMPDIR", "/tmp"))
    FOLDER.mkdir(exist_ok=True)
    target = FOLDER / f"kube-apiserver-{version.removeprefix('v')}.json"
    lines = [f'{{"version": {json.dumps(version)}, "answers": {{']
    for name, answers in recorded.items():
        lines += [f"{json.dumps(name)}: {{"]
        lines += [f"{json.dumps(key)}: {json.dumps(told, sort_keys=True)}," for key, told in sorted(answers.items())]
        lines[-1] = lines[-1].removesuffix(",") + "\n},"
    lines[-1] = lines[-1].removesuffix(",") + "\n},"
    lines += ['"scheduler": [', ",\n".join(json.dumps(one, sort_keys=True) for one in verdicts), "]}"]
    target.write_text("\n".join(lines) + "\n")
    json.loads(target.read_text())
    print(target, target.stat().st_size)


if __name__ == "__main__":
    main()
