"""Whether tasks fit, as findings: nodes, quotas, limits, images."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..connection import clean
from ..findings import FINE, MISSING, NOTE, Finding
from . import fit
from .needs import Task


def about_images(tasks: Iterable[Task]) -> Iterator[Finding]:
    """Whether images are named by what does not change."""
    for image in sorted({task.image for task in tasks}):
        if "/" not in image:
            text = "It names no registry, so nodes look for it on Docker Hub unless they have it."
        elif "@sha256:" not in image:
            text = "It is named without a digest: what it is may change, and KFP's cache does not see that."
        else:
            continue
        yield Finding(f"image {clean(image)}", NOTE, text)


def about_nodes(tasks: Iterable[Task], nodes: Sequence[Mapping]) -> Iterator[Finding]:
    """Whether there are nodes that take the tasks, for each kind of them."""
    for group in fit.groups(tasks):
        task = group.tasks[0]
        subject = f"nodes for {clean(group.names)}"
        places = fit.taking(group.tasks[:1], nodes)
        asked = clean(fit.asks(task))
        if places:
            number = f"{len(places)} of {len(nodes)} nodes" if len(nodes) > 1 else "The one node"
            yield Finding(subject, FINE, f"{number} would do: {asked}.")
            continue
        if not nodes:
            yield Finding(subject, MISSING, f"There are no nodes; asked for: {asked}.", "kubectl get nodes")
            continue
        text = f"None of {len(nodes)} nodes would do ({fit.explain(task, nodes)}); asked for: {asked}."
        yield Finding(subject, MISSING, text, _mend_nodes(task, nodes))


def about_quota(quota: Mapping, tasks: Iterable[Task], kubectl: str) -> Iterator[Finding]:
    """Whether the biggest of the tasks fit into a ResourceQuota, at all and now."""
    name = clean((quota.get("metadata") or {}).get("name"))
    subject, look = f"quota {name}", f"{kubectl} describe resourcequota {shlex.quote(name)}"
    if scoped(quota):
        yield Finding(subject, NOTE, "It is for certain pods only (scopes), and was not compared.", look)
        return
    nothing = True
    for state, kind, begin in ((MISSING, 0, "never fits"), (NOTE, 1, "does not fit at the moment, and would wait")):
        for group in fit.groups(tasks):
            if found := fit.quota_limits(quota, group.tasks[0])[kind]:
                nothing = False
                yield Finding(subject, state, f"{clean(group.names)} {begin}: {clean('; '.join(found))}.", look)
                break  # the biggest tells enough
    if nothing:
        yield Finding(subject, FINE, "Each task fits into what is free of it.")


def about_limits(limit_range: Mapping, tasks: Iterable[Task]) -> Iterator[Finding]:
    """Whether the tasks keep to a LimitRange."""
    name = clean((limit_range.get("metadata") or {}).get("name"))
    found = [(group, over) for group in fit.groups(tasks) if (over := fit.over_limits(limit_range, group.tasks[0]))]
    for group, over in found:
        text = f"{clean(group.names)} is refused: {clean('; '.join(over))}."
        yield Finding(f"limits {name}", MISSING, text, "compile with other resources, or change the limits")
    if not found:
        yield Finding(f"limits {name}", FINE, "Each task keeps to them.")


def _mend_nodes(task: Task, nodes: Sequence[Mapping]) -> str:
    """What to do for the node that is nearest to taking a task."""
    nearest = min(nodes, key=lambda node: len(fit.refusals(task, node)))
    name = shlex.quote(clean(nearest["metadata"]["name"]))
    found = fit.refusals(task, nearest)
    if found[0] == "cordoned":
        return f"kubectl uncordon {name}"
    if found[0] == "not ready":
        return f"kubectl describe node {name}"
    if all(reason.startswith("not labelled") for reason in found):
        labels = " ".join(shlex.quote(reason.removeprefix("not labelled ")) for reason in found)
        return f"kubectl label node {name} {clean(labels)}"
    if all(reason.startswith("tainted") for reason in found):
        return "compile with a toleration of the taint"
    return "compile with other resources, or add a node (an autoscaler that adds one by itself is not seen here)"


def scoped(quota: Mapping) -> bool:
    """Whether a quota is for certain pods only."""
    spec = quota.get("spec") or {}
    return bool(spec.get("scopes") or spec.get("scopeSelector"))
