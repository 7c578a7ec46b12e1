"""The harness hands to our nodes what the real Kubeflow Pipelines handed to them, and asks for the same pods.

`recordings/kfp-2.17.0` is what the driver of KFP 2.17.0 gave to the nodes of three runs of this pipeline
(`executor-inputs.json`), and what it made of `full-settings.yaml` for Kubernetes (`pod-patches.json`).
"""

import json
import pathlib
import re

import pytest
import yaml

from core import settings
from kubeflow import compiler
from kubeflow.harness import Cluster, Refused, pod, spec
from pipeline import kubeflow_runner

RECORDINGS = pathlib.Path(__file__).parent / "recordings/kfp-2.17.0"
INPUTS = json.loads((RECORDINGS / "executor-inputs.json").read_text())
PATCHES = json.loads((RECORDINGS / "pod-patches.json").read_text())
FULL = RECORDINGS / "full-settings.yaml"
IMAGE = f"registry.example.com/alexnet-pipeline@sha256:{'0' * 64}"
BY_KFP = ("display_name", "store_session_info")
# Stands for every node: writes its outputs with the metadata that the recording has of them.
NODE = """
import json, os, sys
given, metadata = json.loads(sys.argv[1]), json.loads(sys.argv[2])
written = {}
for key, group in given["outputs"]["artifacts"].items():
    (one,) = group["artifacts"]
    root = os.environ["KUBEFLOW_STAGING_ROOT"]
    path = os.path.join(root, one["uri"].replace("://", "/"))
    os.makedirs(path, exist_ok=True)
    open(os.path.join(path, "file"), "w").close()
    written[key] = {"artifacts": [{"metadata": metadata.get(key, {})}]}
os.makedirs(os.path.dirname(given["outputs"]["outputFile"]), exist_ok=True)
json.dump({"artifacts": written}, open(given["outputs"]["outputFile"], "w"))
"""


def written(recorded):
    """The metadata of every output that another node was given: node -> output -> metadata."""
    found = {}
    for node in recorded.values():
        for group in node["inputs"].get("artifacts", {}).values():
            for one in group["artifacts"]:
                *_, producer, _, output = one["uri"].split("/")
                metadata = {key: unwrapped(value) for key, value in one["metadata"].items() if key not in BY_KFP}
                found.setdefault(producer, {})[output] = metadata
    return found


def unwrapped(value):
    """A list or a dict as a node writes it, before KFP's metadata store wraps it."""
    return next(iter(value.values())) if isinstance(value, dict) and value.keys() <= {"list", "struct"} else value


def replayed(recorded, folder):
    """A run of our pipeline in the harness whose nodes write what they wrote on the real KFP."""
    text = kubeflow_runner.compile(
        settings.load(overrides=["kubeflow.webhook_secret=hook"], **{"data.source": "shapes10/small"})
    )
    documents = list(yaml.safe_load_all(text))
    metadata = written(recorded)
    for label, executor in documents[0]["deploymentSpec"]["executors"].items():
        node = label.removesuffix("_executor")
        arguments = ["{{$}}", json.dumps(metadata.get(node, {}))]
        executor["container"] |= {"command": ["python", "-c", NODE], "args": arguments}
    cluster = Cluster(folder, secrets={"hook": {"url": "http://localhost"}})
    run = cluster.run(yaml.safe_dump_all(documents))
    assert run.state == "succeeded", {name: task.error for name, task in run.tasks.items()}
    return {name.rpartition("/")[2]: task.given for name, task in run.tasks.items() if task.given}


def shape(value):
    """A value of an ExecutorInput without what is another in every run: ids, numbers of artifacts, values."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items() if key != "store_session_info"}
    if isinstance(value, list):
        return [shape(part) for part in value]
    if not isinstance(value, str):
        return "number"
    for pattern, name in (
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
        (r"(?<=alexnet-shapes10/)[^/]+", "RUN"),
        (r".*(?=/minio/mlpipeline/)", ""),  # the harness has no root to write to
        (r"(?<=executor-logs)-\d+$", ""),  # which the launcher adds to what the driver says
        (r"^\d+$", "NUMBER"),
    ):
        value = re.sub(pattern, name, value)
    return value


@pytest.fixture(scope="module", params=[name for name in INPUTS if name != "with a baseline"])
def both(request, tmp_path_factory):
    recorded = INPUTS[request.param]
    return recorded, replayed(recorded, tmp_path_factory.mktemp("cluster"))


def test_nodes_get_the_artifacts_that_the_real_driver_gave_them(both):
    recorded, ours = both
    compared = set()
    for node in recorded.keys() & ours.keys():
        found, expected = (shape(given[node]["inputs"].get("artifacts", {})) for given in (ours, recorded))
        for key in expected.keys() & found.keys():  # the pipeline has gained inputs since
            assert found[key] == expected[key], (node, key)
            compared.add((node, key))
    assert {("Evaluator", "baseline_model"), ("Pusher", "model_blessing"), ("ShowReport", "artifact")} <= compared


def test_nodes_are_asked_for_outputs_as_the_real_driver_asked(both):
    recorded, ours = both
    for node in recorded.keys() & ours.keys():
        found, expected = (shape(given[node]["outputs"]) for given in (ours, recorded))
        kept = expected["artifacts"].keys() & found["artifacts"].keys()
        assert "executor-logs" in kept
        for key in kept:
            assert found["artifacts"][key] == expected["artifacts"][key], (node, key)
        assert found["outputFile"] == expected["outputFile"]
        for side in ("inputs", "outputs"):  # what is empty is not there
            assert ours[node][side].keys() == recorded[node][side].keys(), node


def test_parameters_have_the_types_that_the_real_driver_gave_them(both):
    recorded, ours = both
    for node in recorded.keys() & ours.keys():
        found, expected = (given[node]["inputs"].get("parameterValues", {}) for given in (ours, recorded))
        for key in expected.keys() & found.keys():
            assert type(spec.plain_numbers(found[key])) is type(expected[key]) or (
                {type(found[key]), type(expected[key])} == {int, float}
            ), (node, key)


@pytest.mark.parametrize("both", ["third run, partly cached"], indirect=True)
def test_an_exit_task_is_told_what_the_real_driver_told_it(both):
    recorded, ours = both
    found, expected = (given["Notify"]["inputs"]["parameterValues"] for given in (ours, recorded))
    assert found.keys() == expected.keys()
    assert found["status"].keys() == expected["status"].keys()
    for key in ("state", "pipelineTaskName", "error"):
        assert found["status"][key] == expected["status"][key]
    for one in (found, expected):  # the name of Argo's Workflow, and not the run's id
        assert one["run_id"] not in one["status"]["pipelineJobResourceName"]


def numbers(patch):
    """A patch with quantities as numbers, since 16Gi and 17.179869184G are the same."""
    (main,) = patch["containers"]
    resources = {
        kind: {name: compiler.quantity(text) for name, text in values.items()}
        for kind, values in main["resources"].items()
    }
    return {**patch, "containers": [{**main, "resources": resources}]}


@pytest.fixture(scope="module")
def full():
    return spec.load(kubeflow_runner.compile(settings.load(str(FULL)), IMAGE))


def patch_of(full, node):
    label = f"{node}_executor"
    container = full.spec["deploymentSpec"]["executors"][label]["container"]
    return numbers(pod.patch(container, full.platform[label]))


@pytest.mark.parametrize("node", PATCHES)
def test_pods_are_patched_as_by_the_real_driver(full, node):
    found, expected = patch_of(full, node), numbers(PATCHES[node])
    if node == "Trainer":  # its shared memory was asked for in a way that did nothing
        assert found["volumes"].pop() == {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}
        assert found["containers"][0]["volumeMounts"].pop() == {"name": "shm", "mountPath": "/dev/shm"}
    assert found == expected


def test_every_setting_reaches_a_pod(full):
    """Each field of the platform document changes the patch, so that none of them does nothing."""
    seen = set()
    for label, platform in full.platform.items():
        container = full.spec["deploymentSpec"]["executors"][label]["container"]
        whole = pod.patch(container, platform)
        for field in platform:
            rest = {key: value for key, value in platform.items() if key != field}
            assert pod.patch(container, rest) != whole, (label, field)
            seen.add(field)
    # The recorded settings do without these.
    assert seen == pod.KNOWN - {"secretAsVolume", "podMetadata", "fieldPathAsEnv"}


def test_a_field_that_kfp_reads_and_ignores_is_refused(full):
    ignored = {"enabledSharedMemory": {"volumeName": "shm", "size": "2Gi"}, "podAffinity": [{"topologyKey": "zone"}]}
    assert ignored.keys() == pod.IGNORED.keys()
    for field, value in ignored.items():
        executors = {"Trainer_executor": {field: value}}
        document = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}
        with pytest.raises(Refused, match=f"KFP reads {field} and does nothing"):
            spec.load(yaml.safe_dump_all([full.spec, document]))
    assert not any(pod.IGNORED.keys() & platform.keys() for platform in full.platform.values())
