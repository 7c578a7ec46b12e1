"""KFP's driver and the part of Argo that starts it: which task runs when, with which inputs."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from . import cel
from . import spec as specs

SUCCEEDED, FAILED, CACHED, SKIPPED = "succeeded", "failed", "cached", "skipped"


class TaskFailed(Exception):
    """An attempt of a task failed, or the task could not start."""


@dataclasses.dataclass
class TaskRun:
    """What became of a task.

    Attributes:
        state: "succeeded", "failed", "cached" or "skipped" (a condition was false, or something before it failed).
        attempts: how often its process was started.
        log: what the last attempt wrote.
        error: why it failed, in the launcher's words.
        outputs: its artifacts as the metadata store keeps them: output -> {name, uri, type, metadata}.
        given: the ExecutorInput of the last attempt.
        pod: what Kubernetes was asked for, as a patch of the pod.
        metadata: labels and annotations of the pod that the pipeline asked for.
    """

    state: str
    attempts: int = 0
    log: str = ""
    error: str = ""
    outputs: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    parameters: dict[str, object] = dataclasses.field(default_factory=dict)
    given: dict[str, Any] = dataclasses.field(default_factory=dict)
    pod: dict[str, Any] = dataclasses.field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Made:
    """A task of a DAG that was there to be run.

    Attributes:
        run: what became of it.
        canceled: its condition was false, which the metadata store knows; of what was never reached it has nothing.
        inner: if its component is a DAG or it is a loop, the executions of that.
        loop: whether these are the iterations of a loop.
    """

    run: TaskRun
    canceled: bool = False
    inner: list[Scope] = dataclasses.field(default_factory=list)
    loop: bool = False


@dataclasses.dataclass
class Scope:
    """An execution of a DAG: what its tasks can refer to.

    Attributes:
        dag: its DagSpec.
        values, artifacts: its inputs.
        path: what the names of its tasks begin with.
        parent: the execution that it is part of.
        made: its tasks.
        status: its state in the metadata store: RUNNING until a launcher finds that all, or any, have ended.
    """

    dag: Mapping[str, Any]
    values: dict[str, Any]
    artifacts: dict[str, Any] = dataclasses.field(default_factory=dict)
    path: str = ""
    parent: Scope | None = None
    made: dict[str, Made] = dataclasses.field(default_factory=dict)
    status: str = "RUNNING"


class Driver:
    """Walks over the tasks of one run."""

    def __init__(
        self,
        pipeline: specs.Pipeline,
        run_id: str,
        launch: Callable[[str, dict, dict, dict], TaskRun],
        chosen: set[str] | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Args:
        pipeline: what is run.
        run_id: of the run.
        launch: executes a task that is no DAG, given its path, its task and component specs and its inputs; it is
            called in several threads at once.
        chosen: names of the only tasks to launch.
        facts: what the driver puts in the place of a constant.
        """
        self._pipeline = pipeline
        self._id = run_id
        self._launch = launch
        self._chosen = chosen
        self._facts = facts or {}
        self._workflow = f"{pipeline.name}-{run_id[:5]}"  # Argo's object, whose name is not the run's id
        self._lock = threading.Lock()

    def run(self, values: Mapping[str, object]) -> dict[str, TaskRun]:
        """Runs the pipeline with these parameters. Returns its tasks by path, each after those that it needs."""
        root = Scope(self._pipeline.spec["root"]["dag"], dict(values))
        self._dag(root)
        return dict(_tasks(root))

    def _dag(self, scope: Scope) -> str:
        """Runs the tasks of a DAG, each as soon as those that it needs have ended. Returns its state.

        On a cluster nothing new is started in a DAG once a task of it has failed. Here what does not need that task
        still runs, so that the outcome does not depend on who is faster.
        """
        tasks = scope.dag["tasks"]
        ended: dict[str, concurrent.futures.Future] = {}

        def when_ready(name: str) -> None:
            for producer in specs.producers(tasks[name]):
                ended[producer].result()
            self._task(scope, name)

        with concurrent.futures.ThreadPoolExecutor(len(tasks)) as pool:
            for name in specs.order(scope.dag):
                ended[name] = pool.submit(when_ready, name)
        for future in ended.values():
            future.result()
        return FAILED if any(made.run.state == FAILED for made in scope.made.values()) else SUCCEEDED

    def _task(self, scope: Scope, name: str) -> None:
        """Runs a task whose producers have ended."""
        task = scope.dag["tasks"][name]
        component = self._pipeline.component(task)
        if "dag" not in component and self._chosen is not None and name not in self._chosen:
            return
        made = Made(TaskRun(SKIPPED))
        with self._lock:
            scope.made[name] = made
        if blocked := self._blocked(scope, task):
            made.run.error = f"{blocked} did not succeed"
            return
        try:
            inputs = self._inputs(scope, name, task, component)
            condition = task.get("triggerPolicy", {}).get("condition")
            if condition and not self._holds(condition, inputs):
                made.canceled, made.run.error = True, f"the condition is false: {condition}"
            elif "parameterIterator" in task:
                self._loop(made, scope, name, task, component, inputs)
            elif "dag" in component:
                self._nested(made, [self._scope(scope, f"{name}/", component, inputs)])
            else:
                made.run = self._launch(f"{scope.path}{name}", task, component, inputs)
        except TaskFailed as problem:
            made.run = TaskRun(FAILED, error=str(problem))
        if made.run.attempts:
            with self._lock:
                _update(scope)

    def _blocked(self, scope: Scope, task: Mapping[str, Any]) -> str:
        """The name of a task that keeps another from running, or ""."""
        for name in specs.producers(task):
            made = scope.made.get(name)
            if made is None or made.run.state in (SUCCEEDED, CACHED):
                continue
            if not (specs.is_exit(task) and (made.run.attempts or made.inner)):  # the hook of what has run
                return name
        return ""

    def _scope(self, parent: Scope, inside: str, component: Mapping[str, Any], inputs: Mapping[str, Any]) -> Scope:
        """The execution of a DAG as a task of another."""
        values = dict(inputs["parameterValues"])
        for key, definition in component.get("inputDefinitions", {}).get("parameters", {}).items():
            if key not in values and definition.get("isOptional"):
                values[key] = definition.get("defaultValue")
        return Scope(component["dag"], values, inputs["artifacts"], f"{parent.path}{inside}", parent)

    def _nested(self, made: Made, scopes: list[Scope], limit: int = 0) -> None:
        """Runs executions of DAGs, at most `limit` at the same time; 0: all."""
        made.inner = scopes
        if not scopes:
            made.run.state = SUCCEEDED
            return
        with concurrent.futures.ThreadPoolExecutor(limit or len(scopes)) as pool:
            states = list(pool.map(self._dag, scopes))
        made.run.state = FAILED if FAILED in states else SUCCEEDED

    def _loop(
        self, made: Made, scope: Scope, name: str, task: dict, component: dict, inputs: Mapping[str, Any]
    ) -> None:
        iterator = task["parameterIterator"]
        item, items = iterator["itemInput"], iterator["items"]
        values = dict(inputs["parameterValues"])
        over = json.loads(items["raw"]) if "raw" in items else values.pop(items["inputParameter"])
        if isinstance(over, str):
            over = json.loads(over)
        if not isinstance(over, list):
            raise TaskFailed(f"iterating on item input {item!r} failed: {over!r} cannot be iterated")
        made.loop = True
        scopes = []
        for number, value in enumerate(over):
            one = {"parameterValues": values | {item: value}, "artifacts": inputs["artifacts"]}
            self._check(one["parameterValues"], component, {items.get("inputParameter")})
            scopes.append(self._scope(scope, f"{name}[{number}]/", component, one))
        self._nested(made, scopes, task.get("iteratorPolicy", {}).get("parallelismLimit", 0))

    def _holds(self, condition: str, inputs: Mapping[str, Any]) -> bool:
        names = {"parameter_values": inputs["parameterValues"], "artifacts": inputs["artifacts"]}
        found = _cel(condition, {"inputs": names})
        if not isinstance(found, bool):
            raise TaskFailed(f"evaluation error: return type is not bool, got {found!r}")
        return found

    def _inputs(self, scope: Scope, name: str, task: Mapping[str, Any], component: Mapping[str, Any]) -> dict:
        """The inputs of a task's ExecutorInput, as KFP's driver resolves them."""
        values: dict[str, Any] = {}
        wanted = task.get("inputs", {})
        defined = component.get("inputDefinitions", {}).get("parameters", {})
        for key, source in wanted.get("parameters", {}).items():
            value = self._parameter(scope, name, task, source)
            if value is None:
                if not defined.get(key, {}).get("isOptional"):
                    raise TaskFailed(f"the resolved input parameter is null: {key}")
                continue
            if selector := source.get("parameterExpressionSelector"):
                value = _cel(selector, {"string_value": _text(value)})
            values[key] = value
        iterator = task.get("parameterIterator", {})
        self._check(values, component, {iterator.get("itemInput")})
        artifacts = {}
        for key, source in wanted.get("artifacts", {}).items():
            if "componentInputArtifact" in source:
                outer = source["componentInputArtifact"]
                if outer not in scope.artifacts:
                    raise TaskFailed(f"parent DAG does not have input artifact {outer}")
                artifacts[key] = scope.artifacts[outer]
                continue
            place = source["taskOutputArtifact"]
            found, _ = _outputs(scope, place["producerTask"], place["outputArtifactKey"], "artifact")
            # The store knows the type, but the driver does not hand it on.
            kept = ({field: one[field] for field in ("name", "uri", "metadata")} for one in found)
            artifacts[key] = {"artifacts": [one | {"type": {"instanceSchema": ""}} for one in kept]}
        return {"parameterValues": values, "artifacts": artifacts}

    def _parameter(self, scope: Scope, name: str, task: Mapping[str, Any], source: Mapping[str, Any]) -> Any:
        if "componentInputParameter" in source:
            key = source["componentInputParameter"]
            if key not in scope.values:
                raise TaskFailed(f"parent DAG does not have input parameter {key}")
            return scope.values[key]
        if "taskOutputParameter" in source:
            place = source["taskOutputParameter"]
            found, looped = _outputs(scope, place["producerTask"], place["outputParameterKey"], "parameter")
            return found if looped else found[0]
        if "taskFinalStatus" in source:
            producer = task["dependentTasks"][0]
            return {
                "state": _status(scope.made[producer]),
                "pipelineTaskName": producer,
                "pipelineJobResourceName": self._workflow,
                "error": {},
            }
        constant = source["runtimeValue"]["constant"]
        words = {
            "{{$.pipeline_job_uuid}}": self._id,
            "{{$.pipeline_job_name}}": f"run {self._id}",
            "{{$.pipeline_job_resource_name}}": self._workflow,
            "{{$.pipeline_task_name}}": name,
            **self._facts,
        }
        return words.get(constant, constant) if isinstance(constant, str) else constant

    def _check(self, values: dict[str, Any], component: Mapping[str, Any], without: set[str | None]) -> None:
        """Compares values with the inputs that a component declares, in place: what is to be text is made text."""
        for key, definition in component.get("inputDefinitions", {}).get("parameters", {}).items():
            if key in without:
                continue
            if key not in values:
                if not definition.get("isOptional") and "defaultValue" not in definition:
                    raise TaskFailed(f"neither value nor default value provided for non-optional parameter {key!r}")
                continue
            kind = definition["parameterType"]
            if kind == "STRING":
                values[key] = _text(values[key])
            elif not specs.fits(values[key], kind):
                raise TaskFailed(f"input parameter {key!r} type mismatch: expect {kind}, got {values[key]!r}")


def _tasks(scope: Scope) -> Iterator[tuple[str, TaskRun]]:
    """The tasks of an execution and of those inside, by path."""
    for name in specs.order(scope.dag):
        if name in scope.made:
            yield f"{scope.path}{name}", scope.made[name].run
            for inner in scope.made[name].inner:
                yield from _tasks(inner)


def _outputs(scope: Scope, task: str, key: str, kind: str) -> tuple[list, bool]:
    """The values of an output, and whether they are of a loop's iterations: of all loops inside, in one flat list.

    Args:
        scope: where the task is.
        task, key: what is wanted of whom.
        kind: "artifact" or "parameter".
    """
    made = scope.made.get(task)
    if made is None:
        raise TaskFailed(f"producer task, {task}, not in tasks")
    if not made.inner:
        found = made.run.outputs if kind == "artifact" else made.run.parameters
        if key not in found:
            raise TaskFailed(f"cannot find output {kind} key {key!r} in producer task {task!r}")
        return [found[key]], False
    values, looped = [], made.loop
    for inner in made.inner:
        more, deeper = _outputs(inner, *_producer(inner, key, kind), kind)
        values += more
        looped |= deeper
    return values, looped


def _producer(scope: Scope, key: str, kind: str) -> tuple[str, str]:
    """Which task of a DAG makes an output of it, and what that is called there; of alternatives, the one that ran."""
    outputs = scope.dag.get("outputs", {}).get(f"{kind}s", {})
    if key not in outputs:
        raise TaskFailed(f"{kind} output key {key!r} not found in parent task")
    if kind == "artifact":
        found = outputs[key]["artifactSelectors"]
    elif "valueFromOneof" in outputs[key]:
        found = outputs[key]["valueFromOneof"]["parameterSelectors"]
    else:
        found = [outputs[key]["valueFromParameter"]]
    if len(found) > 1:
        done = [scope.made.get(one["producerSubtask"]) for one in found]
        found = [one for one, made in zip(found, done, strict=True) if made and made.run.state in (SUCCEEDED, CACHED)]
        if not found:
            raise TaskFailed(f"processing OneOf: No successful task found for output key {key!r}")
    name = "outputArtifactKey" if kind == "artifact" else "outputParameterKey"
    return found[0]["producerSubtask"], found[0][name]


def _status(made: Made) -> str:
    """The state of a task in the metadata store."""
    if made.canceled:
        return "CANCELED"
    if made.inner:
        inner = {scope.status for scope in made.inner}
        return "FAILED" if "FAILED" in inner else inner.pop() if len(inner) == 1 else "RUNNING"
    known = {SUCCEEDED: "COMPLETE", CACHED: "CACHED", FAILED: "FAILED" if made.run.attempts else ""}
    return known.get(made.run.state, "") if not made.loop else "RUNNING"


def _update(scope: Scope | None) -> None:
    """Updates the state of a DAG in the metadata store, as a launcher does at its end, and of those above it.

    Nobody does it for a task that came from the cache, nor for one that did not start.
    """
    while scope is not None:
        states = [_status(made) for made in scope.made.values()]
        if sum(state in ("COMPLETE", "CACHED", "CANCELED") for state in states) == len(scope.dag["tasks"]):
            scope.status = "COMPLETE"
        elif "FAILED" in states:
            scope.status = "FAILED"
        else:
            return
        scope = scope.parent


def _cel(expression: str, names: Mapping[str, Any]) -> Any:
    try:
        return cel.evaluate(expression, names)
    except cel.CelError as problem:
        raise TaskFailed(f"evaluation error: {problem}") from None


def _text(value: Any) -> str:
    """A value as KFP puts it where text is wanted."""
    return value if isinstance(value, str) else json.dumps(specs.plain_numbers(value))
