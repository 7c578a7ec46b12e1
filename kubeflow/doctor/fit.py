"""Whether the tasks of a pipeline fit into a cluster: its nodes, quotas and limits, as plain JSON of Kubernetes."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from ..connection import clean
from .needs import Task, quantity

# What a ResourceQuota may call a resource of a pod: prefix -> whether it is what is requested.
PREFIXES = {"requests.": True, "": True, "limits.": False}
SCARCE = ("cpu", "memory")
REASONS = 5  # that are told
CORDONED = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@dataclasses.dataclass(frozen=True)
class Group:
    """Tasks that ask for the same."""

    tasks: tuple[Task, ...]

    @property
    def most(self) -> Mapping[str, Decimal]:
        """What they ask for."""
        return self.tasks[0].requests

    @property
    def names(self) -> str:
        """The first of them, and how many more."""
        first, more = self.tasks[0].name, len(self.tasks) - 1
        return f"{first} and {more} other{'s' if more > 1 else ''}" if more else first


def groups(tasks: Iterable[Task]) -> list[Group]:
    """Tasks by what they ask for, the biggest first."""
    found: dict[tuple, list[Task]] = {}
    for task in tasks:
        key = (
            tuple(sorted(task.requests.items())),
            tuple(sorted(task.limits.items())),
            tuple(sorted(task.selector.items())),
            tuple(sorted(str(sorted(one.items())) for one in task.tolerations)),
        )
        found.setdefault(key, []).append(task)
    made = [Group(tuple(same)) for same in found.values()]
    return sorted(
        made, key=lambda one: (-len(one.tasks[0].requests), -one.tasks[0].requests.get("memory", Decimal()))
    )


def refusals(task: Task, node: Mapping) -> list[str]:
    """Why a node does not take a task, in the scheduler's order; none if it does when nothing else runs there.

    Looked at are whether it is ready and not cordoned, taints, labels, and what it has for pods at all, not what
    other pods hold at the moment.
    """
    spec, status = node.get("spec") or {}, node.get("status") or {}
    labels = (node.get("metadata") or {}).get("labels") or {}
    found = []
    for taint in spec.get("taints") or []:
        if taint.get("effect") == "PreferNoSchedule" or taint.get("key") == CORDONED["key"]:
            continue
        if not any(_tolerates(one, taint) for one in task.tolerations):
            value = f"={taint['value']}" if taint.get("value") else ""
            found.append(f"tainted {taint.get('key')}{value}:{taint.get('effect')}, which is not tolerated")
    for key, value in sorted(task.selector.items()):
        if labels.get(key) != value:
            found.append(f"not labelled {key}={value}")
    for resource, asked in sorted(task.requests.items(), key=lambda pair: (pair[0] in SCARCE, pair[0])):
        there = quantity((status.get("allocatable") or {}).get(resource, 0))
        if there < asked:
            found.append(_of(resource, there, asked) if there else f"no {resource}")
    if spec.get("unschedulable") and not any(_tolerates(one, CORDONED) for one in task.tolerations):
        found.insert(0, "cordoned")
    conditions = {one.get("type"): one.get("status") for one in status.get("conditions") or []}
    if conditions.get("Ready") != "True":
        found.insert(0, "not ready")
    return found


def taking(tasks: Sequence[Task], nodes: Sequence[Mapping]) -> list[str]:
    """The names of the nodes that take at least one of the tasks."""
    return [node["metadata"]["name"] for node in nodes if any(not refusals(task, node) for task in tasks)]


def explain(task: Task, nodes: Sequence[Mapping]) -> str:
    """Why no node takes a task, as few words as tell it: the first reason of each node, counted."""
    reasons = collections.Counter(found[0] for node in nodes if (found := refusals(task, node)))
    return "; ".join(f"{count} {clean(reason)}" for reason, count in reasons.most_common(REASONS))


def quota_limits(quota: Mapping, task: Task) -> tuple[list[str], list[str]]:
    """What of a ResourceQuota a task alone exceeds, and what it would exceed beside what is used at the moment."""
    never, now = [], []
    status = quota.get("status") or {}
    hard = status.get("hard") or (quota.get("spec") or {}).get("hard") or {}
    for name, text in sorted(hard.items()):
        asked = _asked(name, task)
        if not asked:
            continue
        most, used = quantity(text), quantity((status.get("used") or {}).get(name, 0))
        resource = name.removeprefix("requests.").removeprefix("limits.")
        if asked > most:
            never.append(f"{name} is {text}, {amount(resource, asked)} asked for")
        elif asked > most - used:
            free = number(resource, max(most - used, Decimal()))
            now.append(f"{name} is {text}, {'none' if free == '0' else free} of it free")
    return never, now


def unlimited(quotas: Iterable[Mapping], ranges: Iterable[Mapping], tasks: Iterable[Task]) -> dict[str, list[str]]:
    """What a quota demands of every container, has no default, and tasks leave out: resource -> their names."""
    defaults: set[str] = set()
    for limit in (one for each in ranges for one in (each.get("spec") or {}).get("limits") or []):
        if limit.get("type") == "Container":
            defaults |= {f"limits.{name}" for name in limit.get("default") or {}}
            # What has a limit alone requests that much.
            defaults |= {
                f"requests.{name}" for part in ("default", "defaultRequest") for name in limit.get(part) or {}
            }
    demanded = {
        name if "." in name else f"requests.{name}"
        for quota in quotas
        for name in (quota.get("spec") or {}).get("hard") or {}
        if name.removeprefix("requests.").removeprefix("limits.") in SCARCE
    }
    tasks = list(tasks)
    found = {name: [task.name for task in tasks if not _asked(name, task)] for name in sorted(demanded - defaults)}
    return {name: without for name, without in found.items() if without}


def over_limits(limit_range: Mapping, task: Task) -> list[str]:
    """What of a LimitRange a task's container exceeds or falls short of."""
    found = []
    for limit in (limit_range.get("spec") or {}).get("limits") or []:
        if limit.get("type") not in ("Container", "Pod"):
            continue
        for resource, text in sorted((limit.get("max") or {}).items()):
            asked = task.limits.get(resource, task.requests.get(resource))
            if asked and asked > quantity(text):
                found.append(f"at most {text} {resource}, and it asks for {amount(resource, asked)}")
        for resource, text in sorted((limit.get("min") or {}).items()):
            asked = task.requests.get(resource)
            if asked and asked < quantity(text) and limit["type"] == "Container":
                found.append(f"at least {text} {resource}, and it asks for {amount(resource, asked)}")
    return found


def number(resource: str, value: Decimal) -> str:
    """For people: 16Gi, 0.5."""
    for unit, size in (("Gi", 2**30), ("Mi", 2**20)) if resource == "memory" else ():
        if value >= size:
            return f"{float(value / size):.4g}{unit}"
    return f"{float(value):.4g}"


def amount(resource: str, value: Decimal) -> str:
    """For people, and of what: 16Gi memory, 0.5 cpu, 1 nvidia.com/gpu."""
    return f"{number(resource, value)} {resource}"


def _of(resource: str, there: Decimal, asked: Decimal) -> str:
    pair = number(resource, there), number(resource, asked)
    if pair[0] == pair[1]:  # but for some bytes
        pair = str(int(there)), str(int(asked))
    return f"{pair[0]} of {pair[1]} {resource}"


def asks(task: Task) -> str:
    """What a task asks nodes for, for people."""
    parts = [amount(name, value) for name, value in sorted(task.requests.items())]
    parts += [f"{key}={value}" for key, value in sorted(task.selector.items())]
    return ", ".join(parts) or "nothing in particular"


def _asked(name: str, task: Task) -> Decimal:
    """What a task takes of a quota's resource."""
    if name in ("pods", "count/pods"):
        return Decimal(1)
    for prefix, requested in PREFIXES.items():
        amounts = task.requests if requested else task.limits
        if name.startswith(prefix) and (found := amounts.get(name.removeprefix(prefix))):
            return found
    return Decimal()


def _tolerates(toleration: Mapping, taint: Mapping) -> bool:
    """By Kubernetes' rules: no effect means each effect, no key with Exists each key."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("operator") == "Exists":
        return not toleration.get("key") or toleration["key"] == taint.get("key")
    return toleration.get("key") == taint.get("key") and toleration.get("value", "") == (taint.get("value") or "")
