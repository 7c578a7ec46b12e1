"""Looks at all that a pipeline needs before it runs, and at what holds it up. Nothing is changed."""

from __future__ import annotations

import datetime
import functools
import shlex
from collections.abc import Callable, Iterator

from ..client import Client
from ..cluster_api import RUN, STARTING, Api, Forbidden, waiting
from ..connection import HOST, INSTALLED_IN, ClientError, Unreachable, clean
from ..findings import FINE, MISSING, NOTE, UNKNOWN, Finding
from ..schedules import TELLS_TIME
from ..session import Server
from ..workflow import Trouble
from .cluster import ACCOUNT, USERS_ACCOUNT, Cluster, asking
from .needs import Needs, Place, Task, read_needs
from .probe import probe

__all__ = [
    "FINE",
    "MISSING",
    "NOTE",
    "UNKNOWN",
    "Finding",
    "Needs",
    "Place",
    "Task",
    "Unasked",
    "examine",
    "read_needs",
]

FORWARD = f"kubectl -n {INSTALLED_IN} port-forward svc/ml-pipeline-ui 8080:80 &\nexport {HOST}=http://localhost:8080"
EXIT_TASKS, ANNOTATIONS, SUB_PATHS = (2, 14), (2, 14), (2, 16)  # since when KFP knows them, of single tasks


class Unasked(ClientError):
    """Neither KFP nor Kubernetes answered, so nothing is known."""


def examine(
    needs: Needs,
    connect: Callable[[], Client],
    account: str | None = None,
    context: str | None = None,
    experiment: str = "",
) -> Iterator[Finding]:
    """Looks at the server, at Kubernetes and at the object stores; yields what it finds as it finds it.

    Args:
        needs: of the pipeline.
        connect: to KFP; the namespace that it names is looked at, else that of KFP itself.
        account: Kubernetes service account of the runs; KFP's own if not given.
        context: of the kubeconfig.
        experiment: whose latest run is looked at, if it has not ended.

    Raises:
        Unasked: at the end, if neither KFP nor Kubernetes could be asked.
    """
    client: Client | None = None
    server: Server | None = None
    namespace: str | None = None
    try:
        client = connect()
        namespace = client.connection.namespace
        server = client.server()
        yield from about_server(client.connection.host, server, needs)
        namespace = client.namespace or namespace
    except ClientError as problem:
        mend = FORWARD if _far(problem) else ""
        yield Finding("server", MISSING, str(problem), mend)
    multi_user = server is not None and server.multi_user
    account = account or (USERS_ACCOUNT if multi_user else ACCOUNT)
    api: Api | None = None
    place = namespace or INSTALLED_IN
    try:
        found = Api(context)
        yield about_kubernetes(found)
        api = found
        place = namespace or (api.namespace if multi_user else "") or INSTALLED_IN
        yield from Cluster(api, place, account, multi_user).examine(needs)
    except ClientError as problem:
        mend = "kubectl cluster-info" if isinstance(problem, Unreachable) else ""
        yield Finding("Kubernetes", UNKNOWN, f"{problem} So nothing in the cluster was looked at.", mend)
    if client and server:
        yield from asking("latest run", functools.partial(latest, client, api, place, experiment))
    for folder in needs.places:
        yield probe(folder)
    if not server and not api:
        raise Unasked("Neither Kubeflow Pipelines nor Kubernetes could be asked.")


def about_server(host: str, server: Server, needs: Needs) -> Iterator[Finding]:
    """Its version, against what the pipeline uses."""
    users = "several users" if server.multi_user else "one user"
    if server.version is None:
        yield Finding("server", NOTE, f"{clean(host)} has {users} and does not say its version.")
        return
    version = ".".join(map(str, server.version))
    yield Finding("server", FINE, f"Kubeflow Pipelines {version} at {clean(host)}, with {users}.")
    wants = [
        (needs.exit_task, EXIT_TASKS, "The pipeline has an exit task, which tells of failures"),
        (any(task.beam for task in needs.tasks), ANNOTATIONS, "A task is told Beam's options in an annotation"),
        (any(task.sub_paths for task in needs.tasks), SUB_PATHS, "A task mounts a part of a volume (sub_path)"),
    ]
    for wanted, since, what in wants:
        if wanted and server.version < since:
            text = f"{what}: {version} does not know that, {since[0]}.{since[1]} does."
            yield Finding("server's version", MISSING, text, "update Kubeflow Pipelines, or compile without it")
    if needs.due and server.version < TELLS_TIME:
        text = f"{version} does not tell a scheduled run when it was due; {TELLS_TIME[0]}.{TELLS_TIME[1]} does."
        yield Finding("server's version", NOTE, text)


def about_kubernetes(api: Api) -> Finding:
    """Which cluster this is: the kubeconfig may be of another than KFP's server. Raises ClientError."""
    place = f"{clean(api.host)} ({clean(f'context {api.context}' if api.context else 'from within')})"
    try:
        return Finding("Kubernetes", FINE, f"{clean(api.read('/version').get('gitVersion'))} at {place}.")
    except Forbidden as problem:
        return Finding("Kubernetes", UNKNOWN, f"{place} does not tell its version. {problem}")


def latest(client: Client, api: Api | None, namespace: str, experiment: str) -> Iterator[Finding]:
    """What holds up the latest run, or why it failed: by Kubernetes, else as far as KFP's server tells."""
    runs = client.runs(experiment, 1)
    if not runs:
        yield Finding("latest run", FINE, "There is none yet.")
        return
    run = client.find_run(runs[0].id)
    subject = f"run {run.id}"
    held, unknown = waiting(run.id, namespace, api) if api and not run.ended else ([], "")
    for one in held:
        yield about_waiting(subject, one, namespace)
    if held:
        return
    now = datetime.datetime.now(datetime.UTC)
    told = client.troubles(run)
    look = f"kubectl -n {shlex.quote(clean(namespace))} describe pods -l {RUN}={run.id}"
    for trouble in told:
        state = NOTE if run.ended else MISSING
        yield Finding(subject, state, f"{clean(trouble.words(now), 500).rstrip('.')}.", "" if run.ended else look)
    if told:
        return
    if run.ended:
        yield Finding(subject, NOTE if run.state == "failed" else FINE, f"It has ended: {clean(run.state)}.")
    elif unknown:
        yield Finding(subject, UNKNOWN, unknown)
    else:
        yield Finding(subject, FINE, f"It is {clean(run.state)}, and nothing is said to hold it up.")


def about_waiting(subject: str, one: Trouble, namespace: str) -> Finding:
    """What a task waits for."""
    what = f"{'The driver of ' if one.driver else ''}{one.node} waits{_lasting(one.since)}"
    starting = one.reason.partition(":")[0] in (*STARTING, "Pending")
    kubectl = f"kubectl -n {shlex.quote(clean(namespace))}"
    look = f"{kubectl} describe pod {shlex.quote(clean(one.pod))}" if one.pod else f"{kubectl} describe resourcequota"
    return Finding(subject, NOTE if starting else MISSING, f"{what}: {one.reason.rstrip('.')}.", look)


def _lasting(since: datetime.datetime | None) -> str:
    """How long, in whole minutes or hours; "" where it is less or not known."""
    minutes = int((datetime.datetime.now(datetime.UTC) - since).total_seconds() // 60) if since else 0
    if minutes < 120:
        return f" for {minutes} min" if minutes > 0 else ""
    return f" for {minutes // 60} h"


def _far(problem: ClientError) -> bool:
    return isinstance(problem, Unreachable) or "No server is named" in str(problem)
