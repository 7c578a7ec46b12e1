"""What Argo says in the Workflow of a run, and Kubeflow Pipelines does not hand on: why a node waits, or failed."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import gzip
import json
import math
import re
from collections.abc import Mapping

from .connection import clean

# Parts of the names of Argo's nodes that are no tasks of KFP.
BETWEEN = ("", "root", "executor", "onExit", "iteration", "iteration-iterations", "iteration-item")
REASON = 500  # characters of a reason that are shown
ROOT = "the pipeline's start"


@dataclasses.dataclass(frozen=True)
class Trouble:
    """Why a node does not start, or failed.

    Attributes:
        node: as KFP calls the task; ROOT for what comes before all of them.
        driver: whether it concerns not the task's own pod but the one in which KFP prepares it.
        state: "pending" or "failed".
        since: when it began to wait or had failed, aware; None if it is not known.
        reason: one line, in Argo's or Kubernetes' words.
        pod: its name where Kubernetes was asked; "" if it, or Argo, did not even make it.
    """

    node: str
    driver: bool
    state: str
    since: datetime.datetime | None
    reason: str
    pod: str = ""

    @property
    def where(self) -> str:
        """The node, or what precedes it."""
        return f"{self.node} (KFP's driver)" if self.driver and self.node != ROOT else self.node

    def words(self, now: datetime.datetime) -> str:
        """In one line: "Trainer is pending for 12 min: Unschedulable: 0/3 nodes are available"."""
        if self.state == "failed":
            return f"{self.where} failed: {self.reason}"
        seconds = (now - self.since).total_seconds() if self.since else 0
        time = f" for {seconds // 60:.0f} min" if seconds >= 60 else ""
        return f"{self.where} is pending{time}: {self.reason}"


def troubles(workflow: Mapping) -> list[Trouble]:
    """What holds up or broke a run, the oldest first; of a task that was tried again, what its last attempt says.

    Args:
        workflow: Argo's object as JSON.
    """
    name = (workflow.get("metadata") or {}).get("name", "")
    last: dict[tuple[str, bool], tuple[float, Trouble | None]] = {}
    for node in nodes(workflow):
        if node.get("type") != "Pod":
            continue
        task, driver = task_of(node.get("name", ""), name)
        began = time_of(node.get("startedAt"))
        order = began.timestamp() if began else math.inf
        if (task, driver) not in last or last[task, driver][0] <= order:
            last[task, driver] = order, _trouble(node, task, driver)
    found = [one for _, one in sorted(last.values(), key=lambda pair: pair[0]) if one]
    status = workflow.get("status") or {}
    if not found and status.get("phase") in ("Failed", "Error") and status.get("message"):
        found = [Trouble(ROOT, False, "failed", time_of(status.get("finishedAt")), clean(status["message"], REASON))]
    return found


def _trouble(node: Mapping, task: str, driver: bool) -> Trouble | None:
    phase, message = node.get("phase"), node.get("message")
    if phase in ("Failed", "Error"):
        return Trouble(
            task, driver, "failed", time_of(node.get("finishedAt")), clean(message or "it does not say why", REASON)
        )
    if phase == "Pending" and message:
        return Trouble(task, driver, "pending", time_of(node.get("startedAt")), clean(message, REASON))
    return None


def nodes(workflow: Mapping) -> list[dict]:
    """The nodes in the status of an Argo Workflow, which packs them where they are many."""
    status = workflow.get("status") or {}
    found = status.get("nodes") or {}
    if not found and (packed := status.get("compressedNodes")):
        try:
            found = json.loads(gzip.decompress(base64.b64decode(packed)))
        except (binascii.Error, OSError, EOFError, ValueError):
            return []
    return list(found.values())


def task_of(name: str, workflow: str) -> tuple[str, bool]:
    """Which task a node of an Argo Workflow belongs to, and whether it is its driver.

    KFP compiles a task to a DAG with one node, called WORKFLOW.root.Trainer.executor, with (1) at the end where it is
    tried again, and the driver before it WORKFLOW.root.Trainer-driver. That of the whole pipeline is
    WORKFLOW.root-driver.
    """
    parts = [
        re.sub(r"\(.*", "", part)
        for part in name.removeprefix(workflow or name.partition(".")[0]).strip(".").split(".")
    ]
    driver = parts[-1].endswith("-driver")
    parts[-1] = parts[-1].removesuffix("-driver")
    tasks = [part for part in parts if part not in BETWEEN]
    return clean(tasks[-1]) if tasks else ROOT, driver


def time_of(text: object) -> datetime.datetime | None:
    """A time as Kubernetes writes it."""
    try:
        return datetime.datetime.fromisoformat(str(text)).astimezone(datetime.UTC)
    except ValueError:
        return None
