"""Runs and schedules on a server of Kubeflow Pipelines v2 (2.5 and later): idempotent, errors in one sentence."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping

import kfp_server_api

from .connection import ClientError, Connection, Unreachable, clean
from .outputs import Outputs
from .package import Package
from .schedules import Schedules, Version, first, named, reference, time_of
from .session import PAGE, Missing, quote
from .workflow import Trouble, troubles

ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")


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


class Client(Schedules, Outputs):
    """Everything that is done on a server. Every method raises ClientError with one sentence."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._pipelines = kfp_server_api.PipelineServiceApi(self._api)
        self._uploads = kfp_server_api.PipelineUploadServiceApi(self._api)
        self._runs = kfp_server_api.RunServiceApi(self._api)
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
            pipeline_version_reference=reference(version),
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(
                parameters=dict(parameters), pipeline_root=pipeline_root
            ),
            service_account=service_account,
        )
        return self._call(self._runs.run_service_create_run, body).run_id

    def wait(
        self,
        run_id: str,
        tell: Callable[[Run, Node], None],
        interval: float = 10.0,
        patience: int = 30,
        warn: Callable[[Trouble], None] = lambda _: None,
        remind: float = 600.0,
    ) -> Run:
        """Follows a run to its end.

        Args:
            run_id: of the run.
            tell: is called with the run and a node whenever the node's state has changed.
            interval: seconds between two looks.
            patience: how many looks in a row may fail because the server does not answer.
            warn: is called with what keeps a node from starting, or made it fail.
            remind: seconds after which it is called again with what still waits.
        """
        states: dict[str, str] = {}
        warned: dict[tuple[str, bool, str], float] = {}
        failed = 0
        while True:
            try:
                run, failed = self.find_run(run_id), 0
                found = self.troubles(run)
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
            for trouble in found:
                # Of a reason that counts, such as the nodes that do not fit, one is enough.
                key = trouble.where, trouble.state == "failed", trouble.reason.split(":")[0]
                now = time.monotonic()
                if key not in warned or (trouble.state == "pending" and now - warned[key] >= remind):
                    warned[key] = now
                    warn(trouble)
            if run.ended:
                return run
            time.sleep(interval)

    def troubles(self, run: Run) -> list[Trouble]:
        """Why nodes of a run do not start, or failed; empty if all is well, or the server does not tell.

        The API of today has states alone. That of KFP v1, which all versions up to 2.17 still serve, has the
        Workflow, with what Argo and Kubernetes say.
        """
        states = {node.state for node in run.nodes}
        if run.state == "succeeded" or (not run.ended and "running" in states and "pending" not in states):
            return []  # the answer is long, so it is not asked for in vain
        status, body = self._open("GET", self.connection.host, f"/apis/v1beta1/runs/{quote(run.id)}")
        try:
            manifest = json.loads(body)["pipeline_runtime"]["workflow_manifest"] if status == 200 else "{}"
            return troubles(json.loads(manifest))
        except (ValueError, LookupError, TypeError, AttributeError):
            return []

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

    def _find_pipeline(self, name: str) -> kfp_server_api.V2beta1Pipeline | None:
        call = self._pipelines.pipeline_service_list_pipelines
        return first(self._list(call, "pipelines", 1, namespace=self.namespace, filter=named(name)))

    def _find_version(self, pipeline_id: str, name: str) -> kfp_server_api.V2beta1PipelineVersion | None:
        call = self._pipelines.pipeline_service_list_pipeline_versions
        return first(self._list(call, "pipeline_versions", 1, pipeline_id=pipeline_id, filter=named(name)))

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
            start, end = time_of(task.start_time), time_of(task.end_time)
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
            time_of(run.created_at),
            time_of(run.finished_at),
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
