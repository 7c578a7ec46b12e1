"""What runs on a server have written: pods, logs, artifacts."""

from __future__ import annotations

import dataclasses

from .connection import ClientError, clean
from .session import Session, is_page, quote


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A file or folder that a node of a run wrote."""

    node: str
    name: str
    type: str
    uri: str


@dataclasses.dataclass(frozen=True)
class Pod:
    """Where a node ran: its last attempt. pod is "" if it did not run, because its result was in the cache."""

    node: str
    pod: str
    namespace: str
    state: str


class Outputs(Session):
    """What is asked of a run's outputs. Every method raises ClientError with one sentence."""

    def pods(self, run_id: str) -> list[Pod]:
        """Where the nodes of a run ran, in the order in which they started; the last attempt of each."""
        found: dict[str, Pod] = {}
        listed = self._metadata(run_id, "GetExecutionsByContext").executions
        for execution in sorted(listed, key=lambda one: one.create_time_since_epoch or one.id):
            told = {key: value.string_value for key, value in execution.custom_properties.items()}
            if execution.type == "system.DAGExecution" or not told.get("task_name"):
                continue
            state = type(execution).State.Name(execution.last_known_state).lower()
            node = told["task_name"]
            found[node] = Pod(node, told.get("pod_name", ""), told.get("namespace", ""), state)
        return list(found.values())

    def logs(self, run_id: str, pod: Pod) -> str:
        """What a node wrote, while the pod is there, or from the archive where the cluster keeps one."""
        if not pod.pod:
            why = "came from the cache" if pod.state == "cached" else "has not run yet"
            raise ClientError(f"{pod.node} {why}: it has no log.")
        asked = {"podname": pod.pod, "runid": run_id}
        if pod.namespace:
            asked["podnamespace"] = pod.namespace
        status, body = self._open("GET", self.connection.ui, "/k8s/pod/logs", asked)
        if status in (401, 403):
            raise self._refused(status, body)
        if status != 200 or is_page(body):  # not the user interface, then perhaps the API server
            path = f"/apis/v1alpha1/runs/{quote(run_id)}/nodes/{quote(pod.pod)}/log"
            status, body = self._open("GET", self.connection.host, path)
            # It answers 200 before it has looked, and then appends its error.
            if status != 200 or b'"error_message"' in body[:200]:
                raise ClientError(f"The log of {pod.node} is gone: its pod {pod.pod} was deleted, and none was kept.")
        return body.decode("utf-8", "replace")

    def artifacts(self, run_id: str) -> list[Artifact]:
        """The files and folders that a run wrote, oldest first."""
        found = []
        for artifact in sorted(self._metadata(run_id, "GetArtifactsByContext").artifacts, key=lambda one: one.id):
            # .../PIPELINE/RUN/NODE/SALT/NAME; those of a cached node lie in the folder of an earlier run.
            parts = artifact.uri.rsplit("/", 3)
            name = artifact.custom_properties["display_name"].string_value or artifact.name or parts[-1]
            node = parts[-3] if len(parts) == 4 else ""
            found.append(Artifact(node, name, artifact.type, artifact.uri))
        return found

    def download(self, artifact: Artifact, file: str = "") -> bytes | None:
        """The content of an artifact, or of a file in one that is a folder; None if it is not there."""
        scheme, _, rest = (artifact.uri.rstrip("/") + (f"/{file}" if file else "")).partition("://")
        source = {"gs": "gcs"}.get(scheme, scheme)
        if source not in ("minio", "s3", "gcs"):
            raise ClientError(f"{clean(artifact.uri)} does not lie in an object store that can be read from here.")
        bucket, _, key = rest.partition("/")
        # The server wants the namespace also where it has a single user, if it is to use that one's credentials.
        asked = {"namespace": self.namespace} if self.server().multi_user else {}
        path = f"/artifacts/{source}/{quote(bucket)}/{quote(key, '/')}"
        status, body = self._open("GET", self.connection.ui, path, asked)
        if status in (401, 403):
            raise self._refused(status, body)
        return body if status == 200 else None
