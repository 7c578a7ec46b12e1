"""Schedules on a server, which KFP calls recurring runs."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import kfp_server_api

from .connection import ClientError, Connection, Unreachable, clean
from .session import Conflict, Missing, Session

# The first version whose runs can be told when they were due (options.DUE). The API's own [[ScheduledTime]] in a
# parameter is of no use: a schedule with a pinned version hands it on as that text (2.17.0).
TELLS_TIME = (2, 17)

MARK = re.compile(r"\[content ([0-9a-f]{16})\]$")


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of a pipeline on the server, and whether it was uploaded just now."""

    pipeline_id: str
    version_id: str
    name: str
    uploaded: bool


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


class Schedules(Session):
    """What is done with schedules. Every method raises ClientError with one sentence."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._experiments = kfp_server_api.ExperimentServiceApi(self._api)
        self._recurring = kfp_server_api.RecurringRunServiceApi(self._api)

    def schedule(self, version: Version, experiment: str, wanted: Schedule) -> Outcome:
        """Creates or updates a schedule; calling it again changes nothing.

        KFP cannot change a schedule. So the new one is created, known by a digest of its content in its description,
        and then those before it are deleted. If that is interrupted, the next call tidies up; a moment without a
        schedule there is never, and push has to bear that for a moment there may be two.
        """
        experiment_id = self._experiment(experiment)
        body = self._recurring_run(version, experiment_id, wanted)
        digest = _mark(body)
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

    def _recurring_run(
        self, version: Version, experiment_id: str, wanted: Schedule
    ) -> kfp_server_api.V2beta1RecurringRun:
        body = kfp_server_api.V2beta1RecurringRun(
            display_name=wanted.name,
            experiment_id=experiment_id,
            pipeline_version_reference=reference(version),
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
            filter=named(name) if name else None,
        )

    def _delete(self, recurring_run_id: str) -> bool:
        try:
            self._call(self._recurring.recurring_run_service_delete_recurring_run, recurring_run_id)
        except Missing:
            return False  # somebody was faster
        return True

    def _find_experiment(self, name: str) -> kfp_server_api.V2beta1Experiment | None:
        call = self._experiments.experiment_service_list_experiments
        return first(self._list(call, "experiments", 1, namespace=self.namespace, filter=named(name)))

    def _experiment(self, name: str) -> str:
        found = self._find_experiment(name)
        if found is None:
            body = kfp_server_api.V2beta1Experiment(display_name=name, namespace=self.namespace)
            found = self._create(
                lambda: self._call(self._experiments.experiment_service_create_experiment, body),
                lambda: self._find_experiment(name),
            )
        return found.experiment_id

    def _create(self, create: Callable[[], Any], find: Callable[[], Any]) -> Any:
        """Creates something, or finds it if somebody else has created it meanwhile."""
        try:
            return create()
        except Conflict as conflict:
            found = find()
            if found is None:
                raise ClientError(str(conflict)) from None
            return found


def _scheduled(one: kfp_server_api.V2beta1RecurringRun) -> Scheduled:
    cron = (one.trigger and one.trigger.cron_schedule) or kfp_server_api.V2beta1CronSchedule()
    return Scheduled(
        one.recurring_run_id,
        one.display_name,
        cron.cron or "",
        one.status == "ENABLED" if one.status else one.mode == "ENABLE",
        bool(_mark(one)),
        int(one.max_concurrency or 1),
        time_of(cron.start_time),
        time_of(cron.end_time),
        dict((one.runtime_config and one.runtime_config.parameters) or {}),
        one.description or "",
    )


def _mark(one: kfp_server_api.V2beta1RecurringRun) -> str | None:
    found = MARK.search(one.description or "")
    return found and found[1]


def reference(version: Version) -> kfp_server_api.V2beta1PipelineVersionReference:
    return kfp_server_api.V2beta1PipelineVersionReference(
        pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
    )


def first(found: list) -> Any:
    return found[0] if found else None


def named(name: str) -> str:
    """A filter of the API for an exact name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]})


def _utc(moment: datetime.datetime | None) -> str | None:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def time_of(moment: datetime.datetime | None) -> datetime.datetime | None:
    """The server writes 1970 or the year 1 where there is no time."""
    return moment if moment and moment.year > 1970 else None
