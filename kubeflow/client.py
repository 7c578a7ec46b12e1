"""Runs and schedules on a server of Kubeflow Pipelines v2 (2.5 and later): idempotent, errors in one sentence.

It speaks the v2beta1 API through kfp-server-api, kfp's own client of it. What that API does not tell, it asks where
KFP's user interface does: which files a run made, and in which pods, from ML Metadata as gRPC-web, the files from
`/artifacts`, the logs from `/k8s/pod/logs`. That works alike from 2.5 to 2.17. The API's own
`/runs/RUN/nodes/NODE/artifacts/NAME:read` exists in all of these versions too, but finds only what Argo stored, which
the outputs of v2 pipelines are not; none of these versions hands out signed URLs.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import re
import ssl
import struct
import tempfile
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Mapping

import kfp_server_api
import urllib3
import yaml

HOST = "KF_PIPELINES_ENDPOINT"  # as kfp's own client
UI = "KF_PIPELINES_UI_ENDPOINT"
TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"
TOKEN = "KFP_EXISTING_TOKEN"  # as kfp's own command line
NAMESPACE = "KFP_NAMESPACE"
POD_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"
POD_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
INSTALLED_IN = "kubeflow"

OLDEST = (2, 5)
SCHEDULED_TIME = "[[ScheduledTime]]"  # in a parameter of a schedule: when the run was due
EXPANDS_TIME = (2, 16)  # the first version that replaces it in v2 pipelines

TIMEOUT = (10, 120)  # seconds to connect, to read
PAGE = 100
MARK = re.compile(r"\[content ([0-9a-f]{16})\]$")
ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
KINDS = {
    "STRING": (str, "text"),
    "NUMBER_INTEGER": (int, "a whole number"),
    "NUMBER_DOUBLE": ((int, float), "a number"),
    "BOOLEAN": (bool, "true or false"),
    "LIST": (list, "a list"),
    "STRUCT": (dict, "a mapping"),
}


class ClientError(Exception):
    """What the user can mend, in one sentence."""


class Unreachable(ClientError):
    """The server did not answer, or not now."""


@dataclasses.dataclass(frozen=True)
class Connection:
    """Where the server is and how to be let in. Shows no secret: the token is read when it is needed.

    Attributes:
        host: base URL of the API server or of the user interface, which passes API calls on.
        ui: base URL of the user interface, for links, files and logs.
        namespace: of the user's runs, where the server has several users; None for that of this pod.
        token: gives the bearer token, or None for none.
        ca_file: certificates to trust instead of the public ones.
        verify: whether certificates are checked.
        settings: further fields of kfp_server_api.Configuration, from a kubeconfig.
    """

    host: str
    ui: str
    namespace: str | None = None
    token: Callable[[], str] | None = dataclasses.field(default=None, repr=False)
    ca_file: str | None = None
    verify: bool = True
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict, repr=False)


@dataclasses.dataclass(frozen=True)
class Server:
    """What the server tells of itself: its version (major, minor; None if unknown), whether it has several users."""

    version: tuple[int, int] | None
    multi_user: bool


@dataclasses.dataclass(frozen=True)
class Package:
    """A compiled pipeline, as `kubeflow.compiler.compile` writes it."""

    text: str
    name: str
    digest: str
    parameters: Mapping[str, Mapping]

    @property
    def version(self) -> str:
        """What its version is called: by its content, and unlike those of other pipelines."""
        return f"{self.name}-{self.digest[:12]}"


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of a pipeline on the server, and whether it was uploaded just now."""

    pipeline_id: str
    version_id: str
    name: str
    uploaded: bool


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of a run: its state in lower case, start and end (aware, or None).

    The state is that of KFP's API, and "waiting" before there is one, "cached" if the result was there already,
    "skipped" if a condition was false or the run ended before the node's turn.
    """

    name: str
    state: str = "waiting"
    start: datetime.datetime | None = None
    end: datetime.datetime | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took; None before it has ended."""
        return (self.end - self.start).total_seconds() if self.start and self.end else None


@dataclasses.dataclass(frozen=True)
class Run:
    """A run: state in lower case, times (aware, or None), nodes in the order in which they started."""

    id: str
    name: str
    state: str
    created: datetime.datetime | None
    finished: datetime.datetime | None
    error: str
    url: str
    scheduled: bool
    nodes: tuple[Node, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state.upper() in ENDED


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When a pipeline runs again. start and end are aware; parameters are all but those with defaults."""

    name: str
    cron: str
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    max_concurrency: int = 1
    start: datetime.datetime | None = None
    end: datetime.datetime | None = None
    pipeline_root: str | None = None
    service_account: str | None = None


@dataclasses.dataclass(frozen=True)
class Scheduled:
    """A schedule on the server. `ours`: made by `Client.schedule`."""

    id: str
    name: str
    cron: str
    enabled: bool
    ours: bool
    max_concurrency: int
    start: datetime.datetime | None
    end: datetime.datetime | None
    parameters: Mapping[str, object]
    description: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What `Client.schedule` did: "created", "updated", "enabled" or "unchanged"; how many others it removed."""

    id: str
    action: str
    removed: int


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


def connect(
    host: str | None = None,
    ui: str | None = None,
    namespace: str | None = None,
    token_file: str | None = None,
    ca_file: str | None = None,
    verify: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Connection:
    """Finds the server: as told, else by environment variables, else from within the cluster, else by kubeconfig.

    A token comes from `token_file`, the file that KF_PIPELINES_SA_TOKEN_PATH names, the variable KFP_EXISTING_TOKEN,
    or, if no server is named, the one that a pod gets for Kubeflow Pipelines. It is never an argument: others could
    see it.

    Raises:
        ClientError: no server is named, or a file is not there.
    """
    if ca_file:
        try:
            ssl.create_default_context(cafile=ca_file)
        except OSError:
            raise ClientError(f"{ca_file} is not a file of certificates.") from None
    namespace = namespace or environ.get(NAMESPACE) or None
    host = host or environ.get(HOST)
    token = _token(token_file or environ.get(TOKEN_FILE), environ.get(TOKEN), bool(host))
    settings: Mapping[str, object] = {}
    if host:
        host = _url(host)
    elif environ.get("KUBERNETES_SERVICE_HOST"):
        host = f"http://ml-pipeline.{INSTALLED_IN}.svc.cluster.local:8888"
        ui = ui or environ.get(UI) or f"http://ml-pipeline-ui.{INSTALLED_IN}.svc.cluster.local"
    else:
        cluster, settings = _kubeconfig(environ)
        service = f"{cluster}/api/v1/namespaces/{INSTALLED_IN}/services/"
        host, ui = f"{service}ml-pipeline:http/proxy", ui or environ.get(UI) or f"{service}ml-pipeline-ui:http/proxy"
    return Connection(host, _url(ui or environ.get(UI) or host), namespace, token, ca_file, verify, settings)


def read_package(text: str) -> Package:
    """Reads a compiled pipeline. Raises ClientError if it is none."""
    try:
        documents = list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        spec = documents[0]
        name = spec["pipelineInfo"]["name"]
        parameters = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError):
        raise ClientError("This is not a pipeline that was compiled for Kubeflow Pipelines v2.") from None
    return Package(text, name, hashlib.sha256(text.encode()).hexdigest(), parameters)


def check_parameters(package: Package, values: Mapping[str, object]) -> None:
    """Refuses what the server would: unknown names, missing values, wrong types. Raises ClientError."""
    known = package.parameters
    for name, value in values.items():
        if name not in known:
            takes = ", ".join(sorted(known)) or "none"
            raise ClientError(f"{package.name} has no parameter {name}: it takes {takes}.")
        kind, words = KINDS.get(known[name].get("parameterType", "STRING"), (object, ""))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ClientError(f"The parameter {name} must be {words}, not {value!r}.")
    for name, about in known.items():
        if name not in values and "defaultValue" not in about and not about.get("isOptional"):
            raise ClientError(f"The parameter {name} of {package.name} has no default: give it a value.")


class Client:
    """Everything that is done on a server. Every method raises ClientError with one sentence."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._api = _api_client(connection)
        self._pipelines = kfp_server_api.PipelineServiceApi(self._api)
        self._uploads = kfp_server_api.PipelineUploadServiceApi(self._api)
        self._experiments = kfp_server_api.ExperimentServiceApi(self._api)
        self._runs = kfp_server_api.RunServiceApi(self._api)
        self._recurring = kfp_server_api.RecurringRunServiceApi(self._api)
        self._known: Server | None = None
        self._specs: dict[tuple[str, str], Mapping | None] = {}
        self._asks_metadata = True

    def server(self) -> Server:
        """Asks the server who it is, once. Raises ClientError if it is none, or too old."""
        if self._known is None:
            host = self.connection.host
            status, body = self._open("GET", host, "/apis/v2beta1/healthz")
            if status == 404:
                raise ClientError(
                    f"{host} answers, but not as Kubeflow Pipelines 2.5 does: name another host, or update it."
                )
            if status != 200:
                raise self._refused(status, body)
            try:
                told = dict(json.loads(body))
            except ValueError:
                raise ClientError(
                    f"{host} answers with a web page, probably to log in: give a token, or name the API server."
                ) from None
            if told.get("apiServerReady") is False:
                raise Unreachable(f"{host} answers, but the API server behind it does not: try again later.")
            tag = re.match(r"v?(\d+)\.(\d+)", str(told.get("tag_name") or told.get("apiServerTagName") or ""))
            version = (int(tag[1]), int(tag[2])) if tag else None
            if version and version < OLDEST:
                raise ClientError(
                    f"{host} runs Kubeflow Pipelines {version[0]}.{version[1]}, which is too old: 2.5 is the oldest "
                    "that works."
                )
            self._known = Server(version, bool(told.get("multi_user")))
        return self._known

    @property
    def namespace(self) -> str | None:
        """Of the user's runs; None where the server has a single user. Raises ClientError if it is not known."""
        if not self.server().multi_user:
            return None
        if self.connection.namespace:
            return self.connection.namespace
        try:
            return pathlib.Path(POD_NAMESPACE).read_text().strip()
        except OSError:
            raise ClientError(
                f"{self.connection.host} has several users: name your namespace with --namespace or {NAMESPACE}."
            ) from None

    def upload(self, package: Package) -> Version:
        """Makes sure that the server has this version of the pipeline. Does nothing if it has."""
        found = self._find_pipeline(package.name)
        if found is None:
            body = kfp_server_api.V2beta1Pipeline(display_name=package.name, namespace=self.namespace)
            found = self._create(
                lambda: self._call(self._pipelines.pipeline_service_create_pipeline, body),
                lambda: self._find_pipeline(package.name),
            )
        version = self._find_version(found.pipeline_id, package.version)
        if version is not None:
            return Version(found.pipeline_id, version.pipeline_version_id, package.version, False)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "pipeline.yaml")
            path.write_text(package.text, encoding="utf-8")
            version = self._create(
                lambda: self._call(
                    self._uploads.upload_pipeline_version,
                    str(path),
                    name=package.version,
                    pipelineid=found.pipeline_id,
                ),
                lambda: self._find_version(found.pipeline_id, package.version),
            )
        return Version(found.pipeline_id, version.pipeline_version_id, package.version, True)

    def run(
        self,
        version: Version,
        experiment: str,
        name: str,
        parameters: Mapping[str, object],
        pipeline_root: str | None = None,
        service_account: str | None = None,
    ) -> str:
        """Starts a run. Returns its id."""
        body = kfp_server_api.V2beta1Run(
            experiment_id=self._experiment(experiment),
            display_name=name,
            pipeline_version_reference=_reference(version),
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(
                parameters=dict(parameters), pipeline_root=pipeline_root
            ),
            service_account=service_account,
        )
        return self._call(self._runs.run_service_create_run, body).run_id

    def wait(self, run_id: str, tell: Callable[[Run, Node], None], interval: float = 10.0, patience: int = 30) -> Run:
        """Follows a run to its end.

        Args:
            run_id: of the run.
            tell: is called with the run and a node whenever the node's state has changed.
            interval: seconds between two looks.
            patience: how many looks in a row may fail because the server does not answer.
        """
        states: dict[str, str] = {}
        failed = 0
        while True:
            try:
                run, failed = self.find_run(run_id), 0
            except Unreachable:
                failed += 1
                if failed > patience:
                    raise
                time.sleep(interval)
                continue
            for node in run.nodes:
                if states.get(node.name, "waiting") != node.state:
                    states[node.name] = node.state
                    tell(run, node)
            if run.ended:
                return run
            time.sleep(interval)

    def url(self, run_id: str) -> str:
        """Where people look at a run."""
        return f"{self.connection.ui}/#/runs/details/{run_id}"

    def runs(self, experiment: str, count: int = PAGE) -> list[Run]:
        """The latest runs of an experiment, without their nodes, newest first."""
        found = self._find_experiment(experiment)
        if found is None:
            return []
        listed = self._list(
            self._runs.run_service_list_runs,
            "runs",
            count,
            namespace=self.namespace,
            experiment_id=found.experiment_id,
            sort_by="created_at desc",
        )
        return [self._run(run) for run in listed]

    def find_run(self, run_id: str, experiment: str | None = None) -> Run:
        """A run with its nodes. With an experiment, run_id may be "latest", a name, or the beginning of an id."""
        if experiment is not None and not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", run_id):
            run_id = self._guess(run_id, experiment)
        try:
            found = self._call(self._runs.run_service_get_run, run_id)
        except _Missing:
            raise ClientError(f"There is no run {_clean(run_id)} on {self.connection.host}.") from None
        return self._run(found, self._planned(found))

    def schedule(self, version: Version, experiment: str, wanted: Schedule) -> Outcome:
        """Creates or updates a schedule; calling it again changes nothing.

        KFP cannot change a schedule. So the new one is created, known by a digest of its content in its description,
        and then those before it are deleted. If that is interrupted, the next call tidies up; a moment without a
        schedule there is never, and push has to bear that for a moment there may be two.
        """
        experiment_id = self._experiment(experiment)
        body = self._recurring_run(version, experiment_id, wanted)
        digest = MARK.search(body.description)[1]
        before = self._recurring_runs(experiment, wanted.name)
        for one in before:
            if not _mark(one):
                raise ClientError(
                    f"A schedule {wanted.name} that was made otherwise is there: delete it, or choose another name."
                )
        same = [one for one in before if _mark(one) == digest]
        action = "unchanged" if same else "updated" if before else "created"
        if not same:
            self._call(self._recurring.recurring_run_service_create_recurring_run, body)
            # Somebody may have done the same meanwhile: both keep the same one then.
            before = self._recurring_runs(experiment, wanted.name)
            same = [one for one in before if _mark(one) == digest]
            if not same:
                raise Unreachable(f"{self.connection.host} took the schedule {wanted.name}, but does not list it.")
        kept = min(same, key=lambda one: (one.created_at, one.recurring_run_id))
        if kept.status == "DISABLED" or kept.mode == "DISABLE":
            self._call(self._recurring.recurring_run_service_enable_recurring_run, kept.recurring_run_id)
            action = "enabled"
        removed = 0
        for one in before:
            if one is not kept and _mark(one):
                removed += self._delete(one.recurring_run_id)
        return Outcome(kept.recurring_run_id, action, removed)

    def schedules(self, experiment: str) -> list[Scheduled]:
        """The schedules of an experiment, by name."""
        return sorted((_scheduled(one) for one in self._recurring_runs(experiment)), key=lambda one: one.name)

    def unschedule(self, experiment: str, name: str) -> int:
        """Deletes the schedules of this name. Returns how many there were."""
        found = self._recurring_runs(experiment, name)
        if not found:
            names = sorted({one.display_name for one in self._recurring_runs(experiment)})
            there = f"there are {', '.join(map(_clean, names))}" if names else "there are none"
            raise ClientError(f"There is no schedule {_clean(name)}: {there}.")
        return sum(self._delete(one.recurring_run_id) for one in found)

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
        if status != 200 or _is_page(body):  # not the user interface, then perhaps the API server
            path = f"/apis/v1alpha1/runs/{_quote(run_id)}/nodes/{_quote(pod.pod)}/log"
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
            raise ClientError(f"{_clean(artifact.uri)} does not lie in an object store that can be read from here.")
        bucket, _, key = rest.partition("/")
        # The server wants the namespace also where it has a single user, if it is to use that one's credentials.
        asked = {"namespace": self.namespace} if self.server().multi_user else {}
        path = f"/artifacts/{source}/{_quote(bucket)}/{_quote(key, '/')}"
        status, body = self._open("GET", self.connection.ui, path, asked)
        if status in (401, 403):
            raise self._refused(status, body)
        return body if status == 200 else None

    def _recurring_run(
        self, version: Version, experiment_id: str, wanted: Schedule
    ) -> kfp_server_api.V2beta1RecurringRun:
        body = kfp_server_api.V2beta1RecurringRun(
            display_name=wanted.name,
            experiment_id=experiment_id,
            pipeline_version_reference=_reference(version),
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(
                parameters=dict(wanted.parameters), pipeline_root=wanted.pipeline_root
            ),
            trigger=kfp_server_api.V2beta1Trigger(
                cron_schedule=kfp_server_api.V2beta1CronSchedule(
                    cron=wanted.cron, start_time=_utc(wanted.start), end_time=_utc(wanted.end)
                )
            ),
            mode="ENABLE",
            max_concurrency=str(wanted.max_concurrency),
            no_catchup=True,
            service_account=wanted.service_account,
        )
        content = json.dumps(self._api.sanitize_for_serialization(body), sort_keys=True)
        body.description = f"Cron {wanted.cron} [content {hashlib.sha256(content.encode()).hexdigest()[:16]}]"
        return body

    def _recurring_runs(self, experiment: str, name: str | None = None) -> list[kfp_server_api.V2beta1RecurringRun]:
        found = self._find_experiment(experiment)
        if found is None:
            return []
        return self._list(
            self._recurring.recurring_run_service_list_recurring_runs,
            "recurring_runs",
            namespace=self.namespace,
            experiment_id=found.experiment_id,
            filter=_named(name) if name else None,
        )

    def _delete(self, recurring_run_id: str) -> bool:
        try:
            self._call(self._recurring.recurring_run_service_delete_recurring_run, recurring_run_id)
        except _Missing:
            return False  # somebody was faster
        return True

    def _find_pipeline(self, name: str) -> kfp_server_api.V2beta1Pipeline | None:
        call = self._pipelines.pipeline_service_list_pipelines
        return _first(self._list(call, "pipelines", 1, namespace=self.namespace, filter=_named(name)))

    def _find_version(self, pipeline_id: str, name: str) -> kfp_server_api.V2beta1PipelineVersion | None:
        call = self._pipelines.pipeline_service_list_pipeline_versions
        return _first(self._list(call, "pipeline_versions", 1, pipeline_id=pipeline_id, filter=_named(name)))

    def _find_experiment(self, name: str) -> kfp_server_api.V2beta1Experiment | None:
        call = self._experiments.experiment_service_list_experiments
        return _first(self._list(call, "experiments", 1, namespace=self.namespace, filter=_named(name)))

    def _experiment(self, name: str) -> str:
        found = self._find_experiment(name)
        if found is None:
            body = kfp_server_api.V2beta1Experiment(display_name=name, namespace=self.namespace)
            found = self._create(
                lambda: self._call(self._experiments.experiment_service_create_experiment, body),
                lambda: self._find_experiment(name),
            )
        return found.experiment_id

    def _create(self, create: Callable[[], object], find: Callable[[], object]) -> object:
        """Creates something, or finds it if somebody else has created it meanwhile."""
        try:
            return create()
        except _Conflict as conflict:
            found = find()
            if found is None:
                raise ClientError(str(conflict)) from None
            return found

    def _guess(self, wanted: str, experiment: str) -> str:
        runs = self.runs(experiment)
        if not runs:
            raise ClientError(f"There are no runs in the experiment {_clean(experiment)} yet.")
        if wanted == "latest":
            return runs[0].id
        found = [run.id for run in runs if run.id.startswith(wanted) or run.name == wanted]
        if not found:
            raise ClientError(f"There is no run {_clean(wanted)}: the latest is {runs[0].id}.")
        if len(found) > 1:
            raise ClientError(f"{_clean(wanted)} means several runs: {', '.join(found[:3])}; name one by its id.")
        return found[0]

    def _run(self, run: kfp_server_api.V2beta1Run, planned: Iterable[str] = ()) -> Run:
        planned = list(planned)
        idle = "skipped" if (run.state or "") in ENDED else "waiting"
        details = (run.run_details and run.run_details.task_details) or ()
        details = [task for task in details if task.display_name in planned]
        cached = self._cached(run.run_id) if any(task.state == "SUCCEEDED" for task in details) else ()
        nodes = {}
        for task in details:
            start, end = _time(task.start_time), _time(task.end_time)
            state = (task.state or idle).lower().replace("runtime_state_unspecified", idle)
            if state == "succeeded" and task.display_name in cached:
                state = "cached"
            nodes[task.display_name] = Node(task.display_name, state, start, end)
        later = [Node(name, idle) for name in planned if name not in nodes]
        started = sorted(nodes.values(), key=lambda node: (node.start is None, node.start and node.start.timestamp()))
        return Run(
            run.run_id,
            run.display_name or "",
            (run.state or "pending").lower(),
            _time(run.created_at),
            _time(run.finished_at),
            _clean(run.error.message) if run.error and run.error.message else "",
            self.url(run.run_id),
            bool(run.recurring_run_id),
            (*started, *later),
        )

    def _cached(self, run_id: str) -> set[str]:
        """The nodes of a run whose results come from the cache: to the API, these have just succeeded.

        Empty if ML Metadata, which knows, cannot be asked; it is not asked again then.
        """
        if self._asks_metadata:
            try:
                return {pod.node for pod in self.pods(run_id) if pod.state == "cached"}
            except ClientError:
                self._asks_metadata = False
        return set()

    def _planned(self, run: kfp_server_api.V2beta1Run) -> list[str]:
        """The names of the nodes of a run, in the order of its pipeline."""
        spec, place = run.pipeline_spec, run.pipeline_version_reference
        if not spec and place and place.pipeline_version_id:
            spec = self._spec(place.pipeline_id, place.pipeline_version_id)
        spec = (spec or {}).get("pipeline_spec", spec) or {}
        return list(_tasks(spec, spec.get("root", {})))

    def _spec(self, pipeline_id: str, version_id: str) -> Mapping | None:
        key = (pipeline_id, version_id)
        if key not in self._specs:
            try:
                call = self._pipelines.pipeline_service_get_pipeline_version
                self._specs[key] = self._call(call, pipeline_id, version_id).pipeline_spec
            except _Missing:  # deleted since
                self._specs[key] = None
        return self._specs[key]

    def _list(self, call: Callable, field: str, count: int = 10**9, **options: object) -> list:
        """The first `count` of a list that comes in pages."""
        found, token = [], ""
        while True:
            size = min(PAGE, count)
            answer = self._call(call, page_size=size, page_token=token, **_given(options))
            found += getattr(answer, field) or []
            if answer.next_page_token in (None, "", token) or len(found) >= count:
                return found[:count]
            token = answer.next_page_token

    def _call(self, call: Callable, *arguments: object, **options: object) -> object:
        """A call of kfp-server-api, its errors told as ours."""
        self.server()
        try:
            return call(*arguments, _request_timeout=TIMEOUT, **options)
        except kfp_server_api.ApiException as problem:
            if not problem.status and "SSL" in str(problem.reason):
                raise self._unreachable(problem.reason) from None
            if not problem.status:
                raise self._odd() from None
            raise self._refused(problem.status, problem.body) from None
        except urllib3.exceptions.HTTPError as problem:
            raise self._unreachable(problem) from None
        except (ValueError, TypeError):
            raise self._odd() from None

    def _open(
        self,
        method: str,
        base: str,
        path: str,
        fields: Mapping | None = None,
        body: bytes | None = None,
        kind: str = "",
    ) -> tuple[int, bytes]:
        """A request that kfp-server-api does not know. Returns status and body."""
        headers = {"Content-Type": kind, "Accept": kind, "X-Grpc-Web": "1"} if kind else {}
        token = self._api.configuration.get_api_key_with_prefix("authorization")
        if token:
            headers["authorization"] = token
        query = f"?{urllib.parse.urlencode(fields)}" if fields else ""
        try:
            answer = self._api.rest_client.pool_manager.request(
                method, base + path + query, headers=headers, body=body, timeout=urllib3.Timeout(*TIMEOUT)
            )
        except urllib3.exceptions.HTTPError as problem:
            raise self._unreachable(problem, base) from None
        return answer.status, answer.data

    def _metadata(self, run_id: str, method: str) -> object:
        """Asks ML Metadata about a run: the answer to one of its Get...ByContext methods."""
        from ml_metadata.proto import metadata_store_service_pb2 as messages

        asked = messages.GetContextByTypeAndNameRequest(type_name="system.PipelineRun", context_name=run_id)
        answer = self._grpc("GetContextByTypeAndName", asked, messages.GetContextByTypeAndNameResponse())
        if not answer.HasField("context"):
            raise ClientError(f"The run {run_id} has not run any node yet.")
        request = getattr(messages, f"{method}Request")(context_id=answer.context.id)
        return self._grpc(method, request, getattr(messages, f"{method}Response")())

    def _grpc(self, method: str, request: object, answer: object) -> object:
        sent = request.SerializeToString()
        status, body = self._open(
            "POST",
            self.connection.ui,
            f"/ml_metadata.MetadataStoreService/{method}",
            body=struct.pack(">BI", 0, len(sent)) + sent,
            kind="application/grpc-web+proto",
        )
        if status in (401, 403):
            raise self._refused(status, body)
        try:
            told = _frames(body) if status == 200 else None
        except (struct.error, ValueError):
            told = None
        if told is None:
            raise ClientError(
                f"{self.connection.ui} does not know what runs have made: name the user interface of Kubeflow "
                f"Pipelines with --ui or {UI}."
            )
        answer.ParseFromString(told)
        return answer

    def _odd(self) -> ClientError:
        return ClientError(f"{self.connection.host} answers what Kubeflow Pipelines would not.")

    def _unreachable(self, problem: object, base: str = "") -> ClientError:
        base = base or self.connection.host
        reason = getattr(problem, "reason", None) or problem
        text = str(reason)
        if isinstance(reason, urllib3.exceptions.SSLError) or "CERTIFICATE" in text or "SSLError" in text:
            if "CERTIFICATE_VERIFY_FAILED" in text:
                return ClientError(f"The certificate of {base} is not trusted: name its authority's with --ca-file.")
            return ClientError(f"{base} does not speak TLS as expected: check whether it is http or https.")
        if isinstance(reason, urllib3.exceptions.NameResolutionError):
            why = "there is no such name"
        elif "refused" in text:
            why = "nothing listens there"
        elif isinstance(reason, urllib3.exceptions.TimeoutError):
            why = "it does not answer in time"
        else:
            why = "the connection broke"
        return Unreachable(f"{base} cannot be reached, {why}: check --host, or whether the port is still forwarded.")

    def _refused(self, status: int, body: object) -> ClientError:
        """The sentence for an answer that is an error."""
        host, token = self.connection.host, self.connection.token
        said = self._said(body)
        if status == 401:
            if token is None:
                return ClientError(f"{host} wants a token: name a file of one with --token-file or {TOKEN_FILE}.")
            return ClientError(f"{host} refuses the token: it may have expired, or be meant for another server.")
        if status == 403:
            where = f" in the namespace {_clean(self.connection.namespace)}" if self.connection.namespace else ""
            return ClientError(f"{host} does not allow this{where}: is the namespace right, and may you use it?")
        if status == 404:
            return _Missing(f"{host} does not know it: {said}.")
        if status == 409 or "already exist" in said:
            return _Conflict(f"{host} refuses ({status}): {said}.")
        if status in (429, 502, 503, 504):
            return Unreachable(f"{host} is not ready ({status}): try again later.")
        return ClientError(f"{host} refuses ({status}): {said}.")

    def _said(self, body: object) -> str:
        """What the server says in an error, as one short line and without the token, should it repeat that."""
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
        try:
            told = json.loads(text)
            text = told.get("message") or told.get("error_message") or told.get("error") or text
        except (ValueError, AttributeError):
            text = "a web page" if _is_page(text.encode()) else text
        token = (self._api.configuration.get_api_key_with_prefix("authorization") or "").removeprefix("Bearer ")
        return _clean(text.replace(token, "***") if token else text).rstrip(".") or "it does not say why"


class _Missing(ClientError):
    """404."""


class _Conflict(ClientError):
    """409."""


def _token(path: str | None, given: str | None, named: bool) -> Callable[[], str] | None:
    """What gives the token, tried once: a file, else a given one, else the pod's, which only its own server gets."""
    if path:
        given = None
    elif not given:
        if named or not pathlib.Path(POD_TOKEN).is_file():
            return None
        path = POD_TOKEN

    def read() -> str:  # each time, as Kubernetes replaces the file before the token expires
        try:
            token = (given or pathlib.Path(path).read_text(encoding="utf-8")).strip()
        except (OSError, UnicodeDecodeError):
            raise ClientError(f"The token file {path} cannot be read.") from None
        if not re.fullmatch(r"[!-~]+", token):
            where = f"The variable {TOKEN}" if given else f"The token file {path}"
            raise ClientError(f"{where} does not hold a token.")
        return token

    read()
    return read


def _kubeconfig(environ: Mapping[str, str]) -> tuple[str, Mapping[str, object]]:
    """The API server of Kubernetes, and how to log in, of the current context."""
    missing = f"No server is named: give --host, set {HOST}, or have a kubeconfig for the cluster."
    files = environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    if not any(os.path.isfile(file) for file in files.split(os.pathsep)):  # the import below takes seconds
        raise ClientError(missing)
    import kubernetes.client
    import kubernetes.config

    found = kubernetes.client.Configuration()
    try:
        kubernetes.config.load_kube_config(config_file=files, client_configuration=found)
    except Exception:  # it raises many kinds
        raise ClientError(missing) from None
    names = [
        "api_key",
        "api_key_prefix",
        "refresh_api_key_hook",
        "ssl_ca_cert",
        "cert_file",
        "key_file",
        "verify_ssl",
    ]
    return found.host.rstrip("/"), {name: getattr(found, name) for name in names}


def _api_client(connection: Connection) -> kfp_server_api.ApiClient:
    found = kfp_server_api.Configuration()
    found.host = connection.host
    # Redirects, but no second try: urllib3 would log each, and the commands can be called again.
    found.retries = urllib3.Retry(total=None, connect=0, read=0, redirect=5, status=0, other=0)
    for name, value in connection.settings.items():
        setattr(found, name, value)
    if connection.ca_file:
        found.ssl_ca_cert = connection.ca_file
    if not connection.verify:
        found.verify_ssl = False
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)  # it was asked for
    if connection.token:

        def refresh(configuration: kfp_server_api.Configuration) -> None:
            configuration.api_key["authorization"] = connection.token()

        found.api_key_prefix["authorization"] = "Bearer"
        found.refresh_api_key_hook = refresh
        refresh(found)
    return kfp_server_api.ApiClient(found)


def _url(text: str) -> str:
    text = text if re.match(r"https?://", text) else f"https://{text}"
    try:
        parts = urllib.parse.urlsplit(text)
        parts.port  # noqa: B018 - raises
    except ValueError:
        raise ClientError(f"{_clean(text)} is not the address of a server.") from None
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ClientError("The host must be an address such as https://kubeflow.example.org/pipeline, with no more.")
    return text.rstrip("/")


def _tasks(spec: Mapping, component: Mapping) -> Iterable[str]:
    """The names of the tasks of a component that run containers, those within DAGs such as exit handlers included."""
    tasks = component.get("dag", {}).get("tasks", {})
    after: dict[str, set] = {name: set(task.get("dependentTasks", ())) for name, task in tasks.items()}
    done: set[str] = set()
    while after:
        ready = sorted(name for name, before in after.items() if not before & after.keys()) or sorted(after)
        for name in ready:
            del after[name]
            done.add(name)
            inner = spec.get("components", {}).get(tasks[name].get("componentRef", {}).get("name"), {})
            if "dag" in inner:
                yield from _tasks(spec, inner)
            else:
                yield name


def _frames(body: bytes) -> bytes:
    """The message in a gRPC-web response. Raises ValueError on an error of the server's."""
    message, place = b"", 0
    while place < len(body):
        kind, size = struct.unpack_from(">BI", body, place)
        part = body[place + 5 : place + 5 + size]
        if len(part) < size:
            raise ValueError
        if kind == 0:
            message += part
        elif kind == 0x80:
            status = re.search(rb"grpc-status:\s*(\d+)", part)
            if status and int(status[1]) not in (0, 5):  # 5: not found, an empty message
                raise ValueError
        else:
            raise ValueError
        place += 5 + size
    return message


def _scheduled(one: kfp_server_api.V2beta1RecurringRun) -> Scheduled:
    cron = (one.trigger and one.trigger.cron_schedule) or kfp_server_api.V2beta1CronSchedule()
    return Scheduled(
        one.recurring_run_id,
        one.display_name,
        cron.cron or "",
        one.status == "ENABLED" if one.status else one.mode == "ENABLE",
        bool(_mark(one)),
        int(one.max_concurrency or 1),
        _time(cron.start_time),
        _time(cron.end_time),
        dict((one.runtime_config and one.runtime_config.parameters) or {}),
        one.description or "",
    )


def _mark(one: kfp_server_api.V2beta1RecurringRun) -> str | None:
    found = MARK.search(one.description or "")
    return found and found[1]


def _reference(version: Version) -> kfp_server_api.V2beta1PipelineVersionReference:
    return kfp_server_api.V2beta1PipelineVersionReference(
        pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
    )


def _first(found: list) -> object | None:
    return found[0] if found else None


def _named(name: str) -> str:
    """A filter of the API for an exact name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]})


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _utc(moment: datetime.datetime | None) -> str | None:
    return moment and moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(moment: datetime.datetime | None) -> datetime.datetime | None:
    """The server writes 1970 or the year 1 where there is no time."""
    return moment if moment and moment.year > 1970 else None


def _quote(text: str, safe: str = "") -> str:
    return urllib.parse.quote(text, safe=safe)


def _is_page(body: bytes) -> bool:
    return body[:200].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _clean(text: object, most: int = 300) -> str:
    """On one line, without what a terminal would obey, and not endless."""
    line = " ".join(str(text).split())
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    return line if len(line) <= most else line[: most - 1] + "…"
