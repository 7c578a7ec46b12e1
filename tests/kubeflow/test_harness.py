"""The harness does what KFP does; with containers that need no TFX, so that each takes a moment."""

import datetime
import json

import kubeflow_project
import pytest
from harness_pipelines import WRITE, pipeline

from kubeflow import compiler
from kubeflow.harness import Cluster, Refused


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path)


@pytest.mark.parametrize("version", [(2, 17), (2, 16), (2, 5)])
@pytest.mark.parametrize("root", ["minio://bucket/root", "s3://bucket/root"])
def test_what_one_task_writes_the_next_reads(tmp_path, version, root):
    cluster = Cluster(tmp_path, root=root, version=version)
    run = cluster.run(pipeline())
    assert run.state == "succeeded", run.tasks
    assert "read {'n': 1}" in run.tasks["Read"].log
    (read,) = run.tasks["Read"].given["inputs"]["artifacts"]["thing"]["artifacts"]
    assert read["type"] == {"instanceSchema": ""}
    thing = run.tasks["Write"].outputs["thing"]
    assert cluster.path(thing["uri"]).is_file()
    assert thing["metadata"] == {
        "whole": 3.0,
        "yes": 1.0,
        "list": {"list": [1]},
        "dict": {"struct": {"a": 1}},
        "text": "x",
        "display_name": "thing",
        "store_session_info": thing["metadata"]["store_session_info"],
    }


DUE, CREATED, ID = (f"{{{{$.pipeline_job_{name}}}}}" for name in ("schedule_time_utc", "create_time_utc", "uuid"))


def told(cluster, **options):
    """What a run is told of itself."""
    texts = {"due": DUE, "created": CREATED, "id": ID}
    run = cluster.run(
        pipeline(
            task={"inputs": {"parameters": {key: {"runtimeValue": {"constant": one}} for key, one in texts.items()}}},
            component={"inputDefinitions": {"parameters": {key: {"parameterType": "STRING"} for key in texts}}},
        ),
        tasks={"Write"},
        **options,
    )
    return run.tasks["Write"].given["inputs"]["parameterValues"] | {"run": run.id}


def test_a_scheduled_run_is_told_when_it_was_due(tmp_path):
    due = datetime.datetime(2026, 11, 26, 4, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
    scheduled, other = (told(Cluster(tmp_path), due=time) for time in (due, None))
    assert scheduled["due"] == "2026-11-26T03:00:00Z" != scheduled["created"]
    assert other["due"] == other["created"]
    assert datetime.datetime.fromisoformat(other["created"]).tzinfo is not None
    assert scheduled["id"] == scheduled["run"] != other["id"]


def test_older_versions_tell_less(tmp_path):
    due = datetime.datetime(2026, 11, 26, 3, tzinfo=datetime.UTC)
    empty = told(Cluster(tmp_path, version=(2, 16)), due=due)
    assert (empty["due"], empty["created"], empty["id"]) == ("", "", empty["run"])
    oldest = told(Cluster(tmp_path, version=(2, 5)), due=due)
    assert (oldest["due"], oldest["created"], oldest["id"]) == (DUE, CREATED, oldest["run"])


def test_logs_of_each_attempt_have_a_place_of_their_own(cluster):
    retry = {"maxRetryCount": 1, "backoffDuration": "1s", "backoffFactor": 2.0, "backoffMaxDuration": "9s"}
    run = cluster.run(pipeline(task={"retryPolicy": retry}, container={"command": ["false"]}))
    (logs,) = run.tasks["Write"].given["outputs"]["artifacts"]["executor-logs"]["artifacts"]
    assert logs["uri"].endswith("/executor-logs-1")


def test_a_task_is_ended_at_its_deadline(cluster):
    endless = {"command": ["python", "-c", "import signal; signal.pause()"]}
    task = cluster.run(
        pipeline(container=endless, more=[platform("kubernetes", w={"activeDeadlineSeconds": "1"})])
    ).tasks["Write"]
    assert task.state == "failed"
    assert "longer than the specified deadline" in task.error


def test_a_pod_does_not_start_without_its_secrets(tmp_path):
    files = {"secretAsVolume": [{"secretName": "gcs", "mountPath": "/secrets"}]}
    text = pipeline(more=[platform("kubernetes", w=files)])
    task = Cluster(tmp_path).run(text).tasks["Write"]
    assert (task.state, task.error) == ("failed", "there is no secret gcs")
    files["secretAsVolume"][0]["optional"] = True
    optional = pipeline(more=[platform("kubernetes", w=files)])
    for secrets, compiled in (({"gcs": {"key.json": "{}"}}, text), ({}, optional)):
        assert Cluster(tmp_path, secrets=secrets).run(compiled).tasks["Write"].state == "succeeded"


def test_an_exit_task_is_more_than_old_versions_take(tmp_path):
    compiled = compiler.compile(
        kubeflow_project.tiny(), compiler.Options("image", exit_task=compiler.ExitTask("Last", ("true", "x")))
    )
    with pytest.raises(Refused, match="task final status not supported yet"):
        Cluster(tmp_path, version=(2, 5)).run(compiled)


def test_the_cache_answers_for_the_same_inputs_alone(cluster):
    first = cluster.run(pipeline())
    again = cluster.run(pipeline())
    other = cluster.run(pipeline(), {"n": 2})
    assert [run.tasks["Write"].state for run in (first, again, other)] == ["succeeded", "cached", "succeeded"]
    assert again.tasks["Write"].outputs == first.tasks["Write"].outputs
    assert again.tasks["Read"].state == "succeeded"  # caching is off


@pytest.mark.parametrize(("version", "state"), [((2, 14), "cached"), ((2, 15), "succeeded")])
def test_newer_versions_count_the_volumes_of_a_task(tmp_path, version, state):
    cluster = Cluster(tmp_path, version=version)
    mount = platform("kubernetes", w={"pvcMount": [{"constant": "claim", "mountPath": "/claim"}]})
    texts = (pipeline(more=more) for more in ([], [mount]))
    assert [cluster.run(text).tasks["Write"].state for text in texts] == ["succeeded", state]


@pytest.mark.parametrize(("version", "text"), [((2, 14), "of the pod"), ((2, 13), "")])
def test_a_variable_comes_from_an_annotation_of_the_pod(tmp_path, version, text):
    asked = {
        "podMetadata": {"annotations": {"some/thing": "of the pod"}},
        "fieldPathAsEnv": [{"name": "FROM_POD", "fieldPath": "metadata.annotations['some/thing']"}],
    }
    show = {"command": ["python", "-c", "import os; print('annotation:', os.environ['FROM_POD'], end='.')"]}
    changed = pipeline(container=show, more=[platform("kubernetes", w=asked)])
    task = Cluster(tmp_path, version=version).run(changed, tasks={"Write"}).tasks["Write"]
    assert f"annotation: {text}." in task.log


def test_a_failed_task_is_tried_again_and_what_follows_is_skipped(cluster):
    retry = {"maxRetryCount": 2, "backoffDuration": "1s", "backoffFactor": 2.0, "backoffMaxDuration": "9s"}
    seen, paths = [], cluster.folder / "paths"
    mark = f'echo "$KUBEFLOW_STAGING_ROOT" >> {paths}; exit 3'
    run = cluster.run(
        pipeline(task={"retryPolicy": retry}, container={"command": ["sh", "-c", mark]}),
        started=lambda name, attempt, process: seen.append((name, attempt)),
    )
    assert run.state == "failed"
    assert run.tasks["Write"].error == "exit status 3"
    assert seen == [("Write", 1), ("Write", 2), ("Write", 3)]
    assert len(set(paths.read_text().split())) == 1  # as in a container: what is named after it is found again
    assert run.tasks["Read"].state == "skipped"


def test_what_waits_for_a_task_whose_condition_is_false_is_skipped_and_the_run_succeeds(cluster):
    run = cluster.run(pipeline(task={"triggerPolicy": {"condition": "inputs.parameter_values['n'] == 2"}}))
    assert run.state == "succeeded"
    assert run.tasks["Write"].error == "the condition is false: inputs.parameter_values['n'] == 2"
    assert (run.tasks["Read"].state, run.tasks["Read"].error) == ("skipped", "Write did not succeed")


def test_a_failed_task_is_not_cached(cluster):
    broken = pipeline(container={"command": ["python", "-c", "raise SystemExit(3)"]})
    assert [cluster.run(broken).tasks["Write"].state for _ in range(2)] == ["failed", "failed"]


def test_an_output_that_is_not_written_is_registered_and_empty(cluster):
    run = cluster.run(pipeline(container={"command": ["python", "-c", "pass"]}))
    assert run.tasks["Write"].state == "succeeded"
    assert not cluster.path(run.tasks["Write"].outputs["thing"]["uri"]).exists()
    assert run.tasks["Read"].state == "failed"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"container": {"command": []}}, "no command"),
        ({"container": {"command": ["no-such-program"]}}, "cannot be executed"),
        ({"component": {"outputDefinitions": {"artifacts": {"thing": {"artifactType": {}}}}}}, "no title"),
        ({"container": {"command": ["python", "-c", WRITE.replace('"x"', "None")]}}, "unsupported value type"),
        (
            {"component": {"outputDefinitions": {"parameters": {"p": {"parameterType": "STRING"}}}},
             "container": {"command": ["python", "-c", "pass"]}},
            "failed to read output parameter",
        ),
    ],
)  # fmt: skip
def test_a_task_fails_where_the_launcher_fails(cluster, changes, error):
    task = cluster.run(pipeline(**changes)).tasks["Write"]
    assert task.state == "failed"
    assert error in task.error


def platform(kind, **executors):
    return {"platforms": {kind: {"deploymentSpec": {"executors": executors}}}}


RESOLVER = {"resolver": {}}
RETRY = {"retryPolicy": {"maxRetryCount": 2}}
CONDITION = {"triggerPolicy": {"condition": "1 =="}}
EXIT = {"triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}}
ITERATOR = {"parameterIterator": {"itemInput": "n", "items": {"raw": "[1]"}}}
CONFIG = {"inputDefinitions": {"parameters": {"n": {"parameterType": "TASK_CONFIG"}}}}
WORKSPACE = {"inputs": {"parameters": {"n": {"runtimeValue": {"constant": "{{$.workspace_path}}/x"}}}}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spec": {"schemaVersion": "2.0.0"}}, "not 2.1.0"),
        ({"spec": {"somethingElse": 1}}, "not a PipelineSpec"),
        ({"spec": {"pipelineInfo": {}}}, "pipelineInfo.name is empty"),
        ({"spec": {"deploymentSpec": {"executors": {"w": RESOLVER, "r": RESOLVER}}}}, "non-container"),
        ({"spec": {"components": {}}}, "its component does not exist"),
        ({"task": RETRY}, "retryPolicy needs all of"),
        ({"task": CONDITION}, "cannot be read"),
        ({"task": EXIT | {"dependentTasks": ["Read"]}}, "Read: it waits for the exit task Write"),
        ({"task": {"artifactIterator": {"itemInput": "n"}}}, "artifact iterator not implemented"),
        ({"task": ITERATOR}, "loops over anything but a DAG"),
        ({"task": WORKSPACE}, "workspaces are not executed"),
        ({"component": CONFIG}, "TASK_CONFIG are not executed"),
        ({"container": {"image": "argostub/createpvc"}}, "volumes that the pipeline itself makes"),
        ({"task": {"dependentTasks": ["Read"]}}, "wait for each other"),
        ({"task": {"inputs": {"parameters": {"n": {"componentInputParameter": "m"}}}}}, "not have the parameter m"),
        ({"more": [platform("other")]}, "unknown platform"),
        ({"more": [platform("kubernetes", x={})]}, "do not exist"),
        ({"more": [platform("kubernetes", w={"gpu": 1})]}, 'no field named "gpu"'),
    ],
)  # fmt: skip
def test_what_the_server_refuses_is_refused(cluster, changes, words):
    with pytest.raises(Refused, match=words):
        cluster.run(pipeline(**changes))


@pytest.mark.parametrize(("given", "words"), [({"m": 1}, "does not have"), ({"n": "one"}, "not NUMBER_INTEGER")])
def test_parameters_must_fit(cluster, given, words):
    with pytest.raises(Refused, match=words):
        cluster.run(pipeline(), given)


@pytest.mark.parametrize(("code", "state"), [(0, "COMPLETE"), (1, "FAILED")])
def test_an_exit_task_runs_whatever_happened_and_is_told(cluster, code, state):
    told = "{{$.inputs.parameters['status']}}"
    tasks = {
        "inner": {"componentRef": {"name": "inner"}},
        "Last": {
            "componentRef": {"name": "Last"},
            "dependentTasks": ["inner"],
            "inputs": {"parameters": {"status": {"taskFinalStatus": {"producerTask": "inner"}}}},
            "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
        },
    }
    spec = {
        "root": {"dag": {"tasks": tasks}},
        "components": {
            "inner": {"dag": {"tasks": {"Work": {"componentRef": {"name": "Work"}}}}},
            "Work": {"executorLabel": "w"},
            "Last": {
                "executorLabel": "l",
                "inputDefinitions": {"parameters": {"status": {"parameterType": "TASK_FINAL_STATUS"}}},
            },
        },
        "deploymentSpec": {
            "executors": {
                "w": {"container": {"image": "i", "command": ["python", "-c", f"raise SystemExit({code})"]}},
                "l": {"container": {"image": "i", "command": ["echo"], "args": [told]}},
            }
        },
    }
    run = cluster.run(pipeline(spec=spec))
    assert run.tasks["Last"].state == "succeeded"
    assert json.loads(run.tasks["Last"].log)["state"] == state
    assert run.state == ("failed" if code else "succeeded")


def test_secrets_are_environment_variables(tmp_path):
    secret = {"secretName": "s", "keyToEnv": [{"secretKey": "k", "envVar": "SECRET"}]}
    text = pipeline(
        container={"command": ["python", "-c", "import os; print(os.environ['SECRET'])"]},
        more=[platform("kubernetes", w={"secretAsEnv": [secret]})],
    )
    assert "value" in Cluster(tmp_path, secrets={"s": {"k": "value"}}).run(text).tasks["Write"].log
    assert "the secret s has no k" in Cluster(tmp_path).run(text).tasks["Write"].error
