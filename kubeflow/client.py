"""Runs and schedules on a server of Kubeflow Pipelines v2 (2.5 and later): idempotent, errors in one sentence."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping

import kfp_server_api

from .connection import ClientError, Connection, Unreachable, clean
from .package import Package
from .session import PAGE, Conflict, Missing, Session, is_page, quote

SCHEDULED_TIME = "[[ScheduledTime]]"  # in a parameter of a schedule: when the run was due
EXPANDS_TIME = (2, 16)  # the first version that replaces it in v2 pipelines

MARK = re.compile(r"\[content ([0-9a-f]{16})\]$")
ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")


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


class Client(Session):
    """Everything that is done on a server. Every method raises ClientError with one sentence."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._pipelines = kfp_server_api.PipelineServiceApi(self._api)
        self._uploads = kfp_server_api.PipelineUploadServiceApi(self._api)
        self._experiments = kfp_server_api.ExperimentServiceApi(self._api)
        self._runs = kfp_server_api.RunServiceApi(self._api)
        self._recurring = kfp_server_api.RecurringRunServiceApi(self._api)
        self._specs: dict[tuple[str, str], Mapping | None] = {}
        self._asks_metadata = True

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
        except Missing:
            raise ClientError(f"There is no run {clean(run_id)} on {self.connection.host}.") from None
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
            there = f"there are {', '.join(map(clean, names))}" if names else "there are none"
            raise ClientError(f"There is no schedule {clean(name)}: {there}.")
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
        except Missing:
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
        except Conflict as conflict:
            found = find()
            if found is None:
                raise ClientError(str(conflict)) from None
            return found

    def _guess(self, wanted: str, experiment: str) -> str:
        runs = self.runs(experiment)
        if not runs:
            raise ClientError(f"There are no runs in the experiment {clean(experiment)} yet.")
        if wanted == "latest":
            return runs[0].id
        found = [run.id for run in runs if run.id.startswith(wanted) or run.name == wanted]
        if not found:
            raise ClientError(f"There is no run {clean(wanted)}: the latest is {runs[0].id}.")
        if len(found) > 1:
            raise ClientError(f"{clean(wanted)} means several runs: {', '.join(found[:3])}; name one by its id.")
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
            clean(run.error.message) if run.error and run.error.message else "",
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
            except Missing:  # deleted since
                self._specs[key] = None
        return self._specs[key]


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


def _utc(moment: datetime.datetime | None) -> str | None:
    return moment and moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(moment: datetime.datetime | None) -> datetime.datetime | None:
    """The server writes 1970 or the year 1 where there is no time."""
    return moment if moment and moment.year > 1970 else None
