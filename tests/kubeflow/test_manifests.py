"""The manifests for Kubernetes, against the models of its Python client, and against what the code expects."""

import json
import pathlib
import re
import shutil
import subprocess
import types

import pytest
import yaml
from kubernetes import client

import engines.workers
import environment.job_server
from core.settings import Kubeflow
from engines import session
from engines.flink import FAST, MIN_BUFFERS, NEEDED, OFF_HEAP
from kubeflow.doctor import cluster

ROOT = pathlib.Path(__file__).resolve().parents[2] / "kubeflow" / "manifests"
TEMPLATE = ROOT / "inference-service.template.yaml"
FILES = sorted(ROOT.rglob("*.yaml"))
KUSTOMIZATIONS = [file for file in FILES if file.name == "kustomization.yaml"]
FLINK = ROOT / "flink" / "flink.yaml"
NATIVE = [file for file in FILES if file not in KUSTOMIZATIONS and file not in (TEMPLATE, FLINK)]
OVERLAYS = ["standalone", "own-namespace", "prepare-volume", "flink"]


def objects(file):
    return [found for found in yaml.safe_load_all(file.read_text()) if found]


def every(kind):
    return [found for file in NATIVE for found in objects(file) if found["kind"] == kind]


def round_trip(found):
    """What is left of an object that went through the client's model of its kind; the model drops unknown fields."""
    api = client.ApiClient()
    group, _, version = found["apiVersion"].rpartition("/")
    model = f"{version.capitalize()}{found['kind']}"
    assert group in ("", "batch", "networking.k8s.io", "rbac.authorization.k8s.io")
    answer = types.SimpleNamespace(data=json.dumps(found))
    return api.sanitize_for_serialization(api.deserialize(answer, model))


@pytest.mark.parametrize("file", NATIVE, ids=lambda file: str(file.relative_to(ROOT)))
def test_kubernetes_knows_every_field(file):
    assert objects(file)
    for found in objects(file):
        assert round_trip(found) == found


def test_a_field_that_kubernetes_does_not_know_is_found():
    (claim,) = every("PersistentVolumeClaim")
    claim["spec"]["accessMode"] = ["ReadWriteMany"]
    assert round_trip(claim) != claim


def test_each_file_belongs_to_a_kustomization():
    named = {(file.parent / name).resolve() for file in KUSTOMIZATIONS for name in objects(file)[0]["resources"]}
    folders = {path for path in named if path.is_dir()}
    assert {file.resolve() for file in (*NATIVE, FLINK)} - named == {(ROOT / "secrets.template.yaml").resolve()}
    assert folders == {ROOT / "base"}
    assert all(path.exists() for path in named)


@pytest.mark.parametrize("file", KUSTOMIZATIONS, ids=lambda file: file.parent.name)
def test_kustomizations_have_only_fields_that_kustomize_has(file):
    (found,) = objects(file)
    assert (found.pop("apiVersion"), found.pop("kind")) == ("kustomize.config.k8s.io/v1beta1", "Kustomization")
    assert found.keys() <= {"namespace", "resources", "labels", "images"}
    # An overlay that an object's namespace does not come from would put it into whatever is the current one.
    assert ("namespace" in found) == (file.parent.name != "base")


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl, which has kustomize in it, is not here")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_builds_them(overlay):
    done = subprocess.run(["kubectl", "kustomize", str(ROOT / overlay)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    built = list(yaml.safe_load_all(done.stdout))
    namespace = objects(ROOT / overlay / "kustomization.yaml")[0]["namespace"]
    for found in built:
        assert found["kind"] == "FlinkDeployment" or round_trip(found) == found
        if found["kind"] != "Namespace":
            assert found["metadata"]["namespace"] == namespace
        for subject in found.get("subjects", []):
            assert subject["namespace"] == namespace
    assert "alexnet-pipeline" not in re.findall(r"image: (\S+)", done.stdout)  # a placeholder


def test_the_names_are_those_of_the_settings():
    settings = Kubeflow()
    (claim,) = every("PersistentVolumeClaim")
    (job,) = every("Job")
    pod = job["spec"]["template"]["spec"]
    assert claim["metadata"]["name"] == settings.volume
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == settings.volume
    (container,) = pod["containers"]
    assert container["volumeMounts"][0] == {"name": "volume", "mountPath": settings.volume_path}
    assert f"mkdir -p {settings.volume_path}/" in container["args"][0]


def test_the_account_may_do_no_more_than_it_needs():
    (role,), (binding,) = every("Role"), every("RoleBinding")
    account = next(one for one in every("ServiceAccount") if one["metadata"]["name"] != "alexnet-flink")
    for rule in role["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert not {"delete", "deletecollection", "update", "escalate", "bind", "impersonate"} & set(rule["verbs"])
        assert not [name for name in rule["resources"] if "/" in name]  # pods/exec
        if "secrets" in rule["resources"]:
            assert rule["verbs"] == ["get"]
            assert rule["resourceNames"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [subject["name"] for subject in binding["subjects"]] == [account["metadata"]["name"]]


def test_the_account_may_do_what_its_pods_do():
    (role,) = every("Role")
    for verbs, group, resource, name in (*cluster.RIGHTS, cluster.SERVES):
        fitting = [
            rule
            for rule in role["rules"]
            if group in rule["apiGroups"] and resource in rule["resources"] and set(verbs) <= set(rule["verbs"])
        ]
        assert any(not rule.get("resourceNames") or name in rule["resourceNames"] for rule in fitting), resource


def test_the_job_runs_where_pods_are_restricted():
    """The points of Kubernetes' Pod Security Standard "restricted", and a root file system that stays as it is."""
    (job,) = every("Job")
    pod = job["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"] == 0
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/alexnet", "/tmp"}
    assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} == {
        "persistentVolumeClaim",
        "emptyDir",
    }


def test_the_quota_leaves_room_for_the_nodes_of_the_settings():
    (quota,) = every("ResourceQuota")
    (limits,) = every("LimitRange")
    hard = quota["spec"]["hard"]
    settings = Kubeflow()
    trainer = settings.nodes["Trainer"]
    assert int(hard["requests.cpu"]) >= int(trainer.cpu) + 3 * int(settings.cpu)
    gibibytes = {key: int(hard[key].removesuffix("Gi")) for key in ("requests.memory", "limits.memory")}
    assert min(gibibytes.values()) >= int(trainer.memory.removesuffix("Gi")) + 3 * int(
        settings.memory.removesuffix("Gi")
    )
    assert int(hard[f"requests.{trainer.gpu_type}"]) >= trainer.gpus
    # What the quota counts, a pod without it gets from the limit range, or it would be refused.
    (container,) = limits["spec"]["limits"]
    counted = {key for key in hard if key.partition(".")[0] in ("requests", "limits") and "/" not in key}
    given = {f"requests.{key}" for key in container["defaultRequest"]} | {
        f"limits.{key}" for key in container["default"]
    }
    assert counted == given


def test_no_file_holds_a_secret():
    for file in FILES:
        for found in objects(file):
            if found["kind"] == "Secret":
                assert file.name == "secrets.template.yaml"
                assert set(found["stringData"].values()) == {"REPLACE"}
                assert "data" not in found
        for word in re.findall(r"[A-Za-z0-9+/_-]{32,}={0,2}", file.read_text()):
            assert not re.search(r"\d", word), f"{file}: is {word} a secret?"


def test_the_inference_service_is_one_of_kserve():
    (service,) = objects(TEMPLATE)
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = service["spec"]["predictor"]
    assert predictor.keys() <= {"annotations", "minReplicas", "maxReplicas", "model", "serviceAccountName"}
    model = predictor["model"]
    assert model.keys() == {"modelFormat", "protocolVersion", "storageUri", "resources"}
    assert model["modelFormat"]["name"] == "tensorflow"
    # KServe's predictor has the fields of a container, too; these Kubernetes' client knows.
    resources = {"resources": model["resources"]}
    answer = types.SimpleNamespace(data=json.dumps(resources | {"name": "x"}))
    api = client.ApiClient()
    assert api.sanitize_for_serialization(api.deserialize(answer, "V1Container")) == resources | {"name": "x"}


@pytest.fixture
def flink():
    (found,) = objects(FLINK)
    return found


def test_flink_is_one_that_the_operator_knows(flink):
    """The fields are those of the operator's own definition, with which it was compared once (docs/kubeflow.md)."""
    assert (flink["apiVersion"], flink["kind"]) == ("flink.apache.org/v1beta1", "FlinkDeployment")
    spec = flink["spec"]
    assert spec.keys() == {
        "image", "flinkVersion", "mode", "serviceAccount", "flinkConfiguration", "podTemplate", "jobManager",
        "taskManager",
    }  # fmt: skip
    assert spec["jobManager"].keys() == {"resource"}
    assert spec["taskManager"].keys() == {"replicas", "resource", "podTemplate"}
    assert all(isinstance(value, str) for value in spec["flinkConfiguration"].values())
    for template in (spec["podTemplate"], spec["taskManager"]["podTemplate"]):
        whole = {"apiVersion": "v1", "kind": "PodTemplate", "template": template}
        assert round_trip(whole) == whole


def test_flink_has_what_the_jobs_need(flink):
    given = flink["spec"]["flinkConfiguration"]
    slots = int(given["taskmanager.numberOfTaskSlots"])
    assert given[MIN_BUFFERS] == NEEDED[MIN_BUFFERS]
    assert given.items() >= FAST.items()
    assert given[OFF_HEAP] == f"{slots * int(NEEDED[OFF_HEAP].removesuffix('m'))}m"


def test_flink_is_one_that_beam_has_a_job_server_for(flink):
    version = flink["spec"]["flinkVersion"].removeprefix("v").replace("_", ".")
    assert flink["spec"]["image"] == f"flink:{version}-java17"
    assert environment.job_server.ENGINES["flink"].runner == f"flink-{version}"


def test_flinks_workers_see_what_the_nodes_put_onto_the_volume(flink):
    settings = Kubeflow()
    pod = flink["spec"]["taskManager"]["podTemplate"]["spec"]
    _, workers = pod["containers"]
    assert workers["volumeMounts"][0] == {"name": "volume", "mountPath": settings.volume_path}
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == settings.volume
    program, option, port = workers["command"][2:]
    assert f"localhost:{port}" == session.SIDECAR
    assert program == engines.workers.__name__
    assert option == "--port"  # and no --host: the loopback
    (job,) = every("Job")
    user = job["spec"]["template"]["spec"]["securityContext"]
    assert {key: workers["securityContext"][key] for key in ("runAsUser", "runAsGroup")} == {
        "runAsUser": user["runAsUser"],
        "runAsGroup": user["runAsGroup"],
    }


def test_flink_runs_where_pods_are_restricted(flink):
    common = flink["spec"]["podTemplate"]["spec"]
    assert common["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert common["automountServiceAccountToken"] is False
    main, workers = flink["spec"]["taskManager"]["podTemplate"]["spec"]["containers"]
    # The operator merges containers of both templates by their position, unless it is told to by their names.
    assert main == {"name": common["containers"][0]["name"]}
    assert workers["securityContext"]["readOnlyRootFilesystem"] is True
    for container in (*common["containers"], workers):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["runAsUser"] > 0


def test_flink_may_do_nothing_in_kubernetes(flink):
    account = flink["spec"]["serviceAccount"]
    assert account in [one["metadata"]["name"] for one in every("ServiceAccount")]
    assert all(subject["name"] != account for one in every("RoleBinding") for subject in one["subjects"])


def test_who_reaches_flink_is_a_pipeline_or_flink_or_the_operator(flink):
    (policy,) = every("NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"] == {"app": flink["metadata"]["name"]}
    inside, outside = policy["spec"]["ingress"]
    assert inside["from"] == [{"podSelector": policy["spec"]["podSelector"]}]
    assert [one["port"] for one in outside["ports"]] == [8081]
    assert all(one["podSelector"]["matchLabels"] for one in outside["from"])
