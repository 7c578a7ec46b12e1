"""What Argo's Workflow says of nodes that wait or failed becomes a sentence; its form is that of Argo 4.0.5."""

import datetime

import pytest

from kubeflow.workflow import ROOT, task_of, troubles

NOW = datetime.datetime(2026, 11, 26, 3, 12, 30, tzinfo=datetime.UTC)
NO_GPU = "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def pod(name, phase, message="", started="2026-11-26T03:00:00Z", kind="Pod"):
    return {"name": name, "type": kind, "phase": phase, "message": message, "startedAt": started} | (
        {"finishedAt": started} if phase in ("Failed", "Error", "Succeeded") else {}
    )


def workflow(*nodes, **status):
    return {"metadata": {"name": "w-1"}, "status": {"nodes": {str(n): one for n, one in enumerate(nodes)}} | status}


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([pod("w-1.root.Trainer.executor", "Pending", NO_GPU)], [f"Trainer is pending for 12 min: {NO_GPU}"]),
        ([pod("w-1.root.Trainer.executor", "Pending")], []),
        ([pod("w-1.root.Trainer.executor", "Running", "x")], []),
        ([pod("w-1.root.Trainer", "Failed", "No more retries left", kind="Retry")], []),
        (
            [pod("w-1.root.Trainer.executor(0)", "Failed", "OOMKilled (exit code 137)")],
            ["Trainer failed: OOMKilled (exit code 137)"],
        ),
        ([pod("w-1.root.Trainer.executor(0)", "Error")], ["Trainer failed: it does not say why"]),
        (
            [
                pod("w-1.root.Trainer.executor(1)", "Running", started="2026-11-26T03:05:00Z"),
                pod("w-1.root.Trainer.executor(0)", "Failed", "Evicted"),
            ],
            [],
        ),
        (
            [pod("w-1.root.Trainer-driver", "Failed", "Error (exit code 1)")],
            ["Trainer (KFP's driver) failed: Error (exit code 1)"],
        ),
        (
            [pod("w-1.root-driver", "Pending", "ImagePullBackOff: no such image", "2026-11-26T03:12:00Z")],
            ["the pipeline's start is pending: ImagePullBackOff: no such image"],
        ),
    ],
)
def test_what_argo_says_of_nodes(nodes, said):
    assert [one.words(NOW) for one in troubles(workflow(*nodes))] == said


def test_the_oldest_comes_first_and_what_a_terminal_would_obey_is_gone():
    found = troubles(
        workflow(
            pod("w-1.root.B.executor", "Pending", "\x1b[2Jx", "2026-11-26T03:02:00Z"),
            pod("w-1.root.A.executor", "Pending", "y", "2026-11-26T03:01:00Z"),
        )
    )
    assert [one.node for one in found] == ["A", "B"]
    assert "\x1b" not in found[1].reason


def test_a_workflow_that_never_got_to_a_node():
    (found,) = troubles(
        workflow(phase="Error", message="invalid spec: templates.x", finishedAt="2026-11-26T03:01:00Z")
    )
    assert found.words(NOW) == "the pipeline's start failed: invalid spec: templates.x"
    assert troubles({}) == []


@pytest.mark.parametrize(
    ("name", "task", "driver"),
    [
        ("root-driver", ROOT, True),
        ("root.Trainer-driver", "Trainer", True),
        ("root.Trainer.executor", "Trainer", False),
        ("root.Trainer.executor(2)", "Trainer", False),
        ("root.tfx-dag-driver", "tfx-dag", True),
        ("root.tfx-dag.Trainer.executor(0)", "Trainer", False),
        ("root.tfx-dag.onExit.Notify.executor", "Notify", False),
        ("root.Importer", "Importer", False),
        ("root.for-loop-1.iteration-driver", "for-loop-1", True),
        ("root.for-loop-1.iteration-iterations(3:3).iteration-item.train.executor", "train", False),
        ("root", ROOT, False),
    ],
)
def test_the_task_is_read_off_the_name_of_argos_node(name, task, driver):
    assert task_of(f"w-1.{name}", "w-1") == (task, driver)
