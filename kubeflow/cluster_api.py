"""What Kubernetes itself tells: reading its API with the client that kfp brings. Nothing is ever changed there."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import pathlib
import urllib.parse
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3

from .connection import INSTALLED_IN, POD_NAMESPACE, ClientError, Unreachable, clean, no_answer
from .workflow import REASON, Trouble, nodes, task_of, time_of

RUN = "pipeline/runid"  # the label of the Workflow and of the pods of a run
WORKFLOW, NODE_NAME = "workflows.argoproj.io/workflow", "workflows.argoproj.io/node-name"
TIMEOUT = (5, 20)  # seconds to connect, to read
PAGE = 500
# What a container waits for while nothing is wrong with it; what holds it up is then told by events alone.
STARTING = ("", "ContainerCreating", "PodInitializing")
NOTHING = "it is being started, and nothing has been said against it"


class Forbidden(ClientError):
    """401 or 403: who asks may not."""


class NotFound(ClientError):
    """404."""


class Api:
    """Reads the API of Kubernetes: as told by a kubeconfig, or from within the cluster.

    Every method raises ClientError with one sentence: Forbidden, NotFound, Unreachable, or itself for all else.

    Attributes:
        host: of the API server.
        context: of the kubeconfig; "" within the cluster.
        namespace: that of the context or of this pod; "" if there is none.
    """

    def __init__(self, context: str | None = None, environ: Mapping[str, str] = os.environ) -> None:
        """Finds the cluster and how to log in, but does not ask it yet.

        Args:
            context: of the kubeconfig, instead of its current one or of the cluster that this is a pod of.
            environ: KUBECONFIG and, in a pod, KUBERNETES_SERVICE_HOST.

        Raises:
            ClientError: there is no such context, or no kubeconfig at all.
        """
        files = environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
        inside = not context and "KUBERNETES_SERVICE_HOST" in environ
        if not inside and not any(os.path.isfile(file) for file in files.split(os.pathsep)):
            raise ClientError("There is no kubeconfig: set KUBECONFIG, or make ~/.kube/config.")
        import kubernetes.client  # takes seconds
        import kubernetes.config
        from kubernetes.config import kube_config

        found = kubernetes.client.Configuration()
        self.context = self.namespace = ""
        try:
            if inside:
                kubernetes.config.load_incluster_config(found)
                self.namespace = pathlib.Path(POD_NAMESPACE).read_text(encoding="utf-8").strip()
            else:
                contexts, current = kube_config.list_kube_config_contexts(files)
                chosen = next((one for one in contexts if one["name"] == context), None) if context else current
                if chosen is None:
                    names = ", ".join(clean(one["name"], 40) for one in contexts[:5])
                    raise ClientError(f"The kubeconfig has no context {clean(context)}: it has {names}.")
                self.context = chosen["name"]
                self.namespace = chosen["context"].get("namespace") or ""
                with _told_by_plugin() as said:
                    kubernetes.config.load_kube_config(
                        config_file=files, context=self.context, client_configuration=found, persist_config=False
                    )
                if said:
                    raise ValueError(said[0])
        except ClientError:
            raise
        except Exception as problem:  # they raise many kinds
            where = "the service account of this pod" if inside else f"the kubeconfig {files}"
            raise ClientError(f"Kubernetes cannot be asked with {where}: {clean(problem).rstrip('.')}.") from None
        found.retries = urllib3.Retry(total=None, connect=0, read=0, redirect=0, status=0, other=0)
        if not found.verify_ssl:  # the kubeconfig says so
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        self.host = found.host
        self._client = kubernetes.client.ApiClient(found)
        self._refusal = kubernetes.client.ApiException

    def read(self, path: str, **query: str) -> dict:
        """The JSON answer to GET, such as of "/version"."""
        return self._ask("GET", path, query, None)

    def listed(self, path: str, **query: str) -> list[dict]:
        """All items of a list that comes in pages."""
        items: list[dict] = []
        query = {"limit": str(PAGE)} | query
        while True:
            answer = self.read(path, **query)
            items += answer.get("items") or []
            if not (token := (answer.get("metadata") or {}).get("continue")):
                return items
            query["continue"] = token

    def review(self, kind: str, spec: Mapping) -> dict:
        """The status of an access review, which is asked by POST but stored nowhere."""
        group = "authorization.k8s.io/v1"
        body = {"apiVersion": group, "kind": kind, "spec": dict(spec)}
        return self._ask("POST", f"/apis/{group}/{kind.lower()}s", {}, body).get("status") or {}

    def _ask(self, method: str, path: str, query: Mapping[str, str], body: object) -> dict:
        try:
            answer = self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=TIMEOUT,
            )
            told = json.loads(answer.data)
        except self._refusal as problem:
            raise self._refused(problem, path) from None
        except urllib3.exceptions.HTTPError as problem:
            raise self._unreachable(problem) from None
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise ClientError(f"{clean(self.host)} answers what Kubernetes would not: check the kubeconfig.")
        return told

    def _refused(self, problem: Any, path: str) -> ClientError:
        status = problem.status
        try:
            said = json.loads(problem.body)["message"]
        except (ValueError, TypeError, LookupError):
            said = problem.reason or "it does not say why"
        said = clean(said).rstrip(".")
        if status == 401:
            return Forbidden("Kubernetes does not know who asks: log in anew.")
        if status == 403:
            return Forbidden(f"Kubernetes does not allow it: {said}.")
        if status == 404:
            return NotFound(f"Kubernetes does not have it: {said}.")
        if status in (429, 500, 502, 503, 504):
            return Unreachable(f"Kubernetes is not ready ({status}): {said}.")
        if not status:
            return self._unreachable(said)
        return ClientError(f"Kubernetes refuses {clean(path)} ({status}): {said}.")

    def _unreachable(self, problem: object) -> Unreachable:
        reason = getattr(problem, "reason", None) or problem
        why = no_answer(reason)
        if "CERTIFICATE_VERIFY_FAILED" in str(reason):
            why = "its certificate is not the one that the kubeconfig trusts"
        return Unreachable(f"The API server of Kubernetes at {clean(self.host)} cannot be reached, {why}.")


@contextlib.contextmanager
def _told_by_plugin() -> Iterator[list[str]]:
    """What the client only logs, so that nobody is logged in: why the program that gives a token failed."""
    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    others, root.handlers = root.handlers, [handler]
    try:
        yield said
    finally:
        root.handlers = others


def waiting(
    run_id: str, namespace: str | None = None, api: Api | None = None, context: str | None = None
) -> tuple[list[Trouble], str]:
    """What holds up a run: pods that do not start, and those that Kubernetes did not let Argo make.

    Args:
        run_id: of Kubeflow Pipelines.
        namespace: where it runs; that of KFP itself if not given.
        api: to ask; that of the context, or of this pod's cluster, if not given.
        context: of the kubeconfig, its current one if not given.

    Returns:
        Those that wait, the longest first, and "", or none and the sentence that says why Kubernetes cannot be asked.
    """
    place = f"/namespaces/{urllib.parse.quote(namespace or INSTALLED_IN, safe='')}"
    label = f"{RUN}={run_id}"
    try:
        api = api or Api(context)
        pods = api.listed(f"/api/v1{place}/pods", labelSelector=label)
    except ClientError as problem:
        return [], str(problem)
    found: list[Trouble] = []
    for pod in pods:
        if reason := pod_reason(pod):
            if reason.partition(":")[0] in STARTING:
                reason = _event(api, place, pod["metadata"]["name"]) or reason
            name = (pod["metadata"].get("annotations") or {}).get(NODE_NAME, "")
            node, driver = task_of(name, (pod["metadata"].get("labels") or {}).get(WORKFLOW, ""))
            since = time_of(pod["metadata"].get("creationTimestamp"))
            found.append(Trouble(node, driver, "pending", since, clean(reason, REASON), pod["metadata"]["name"]))
    try:
        workflows = api.listed(f"/apis/argoproj.io/v1alpha1{place}/workflows", labelSelector=label)
    except ClientError:  # who may look at pods need not be allowed to look at workflows
        workflows = []
    for workflow in workflows:
        for told in nodes(workflow):
            if told.get("type") == "Pod" and told.get("phase") == "Pending" and _unmade(told.get("message")):
                node, driver = task_of(told.get("name", ""), workflow["metadata"]["name"])
                since = time_of(told.get("startedAt"))
                found.append(Trouble(node, driver, "pending", since, clean(told["message"], REASON)))
    found.sort(key=lambda one: (one.since.timestamp() if one.since else math.inf, one.node))
    return found, ""


def pod_reason(pod: Mapping) -> str:
    """Why a pod does not run, as Kubernetes says it, the reason in one word first; "" if it does, or has ended."""
    status = pod.get("status") or {}
    phase = status.get("phase") or "Pending"
    if phase in ("Succeeded", "Failed"):
        return ""
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _sentence(condition.get("reason"), condition.get("message"))
    reasons = []
    for container in (*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])):
        held = (container.get("state") or {}).get("waiting") or {}
        if (reason := held.get("reason") or "") not in STARTING:
            return _sentence(reason, held.get("message") or f"the container {container.get('name')}")
        reasons += [reason] if reason else []
    if phase != "Pending":
        return ""
    if status.get("reason"):  # what the kubelet says of the pod as a whole
        return _sentence(status["reason"], status.get("message"))
    return f"{reasons[-1]}: {NOTHING}" if reasons else "Pending: no scheduler and no node has taken it up yet"


def _sentence(reason: str | None, message: str | None) -> str:
    return ": ".join(part for part in (reason, message) if part)


def _unmade(message: object) -> bool:
    """Whether a pending node of a Workflow has no pod: what Kubernetes refuses, Argo tries again."""
    return "is forbidden" in str(message or "")


def _event(api: Api, place: str, pod: str) -> str:
    """The last warning about a pod, "" if there is none or it may not be read."""
    selector = f"involvedObject.kind=Pod,involvedObject.name={pod},type=Warning"
    try:
        events = api.listed(f"/api/v1{place}/events", fieldSelector=selector)
    except ClientError:
        return ""
    events.sort(key=_last)
    return _sentence(events[-1].get("reason"), events[-1].get("message")) if events else ""


def _last(event: Mapping) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
