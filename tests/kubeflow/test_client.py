"""The client, against a real HTTP server that is as strict as Kubeflow Pipelines' own."""

import dataclasses
import datetime
import json
import pathlib
import socket
import subprocess
import sys
import traceback

import kfp_server_api
import pytest
import yaml
from kfp_server import KfpServer
from ports import closed_port

from kubeflow import client, connection, session
from kubeflow.client import Client
from kubeflow.connection import ClientError, Unreachable, connect
from kubeflow.package import check_parameters, read_package
from kubeflow.schedules import Schedule

TOKEN = "s3cr3t-t0ken-of-the-test"
TASKS = {"Ingest": [], "Train": ["Ingest"], "Report": ["Train"]}
EXPERIMENT = "penguin"


def package(epochs=3, name="penguin-flowers", platform=False):
    """A small pipeline as a compiler writes it."""
    kinds = {"data-version": "STRING", "epochs": "NUMBER_INTEGER", "rate": "NUMBER_DOUBLE", "push": "STRING"}
    defaults = {"data-version": "1", "epochs": epochs, "rate": 0.1}
    executor = {"container": {"image": "example.org/image@sha256:0", "command": ["python"], "args": ["-m", "x"]}}
    spec = {
        "pipelineInfo": {"name": name},
        "schemaVersion": "2.1.0",
        "sdkVersion": "tfx-1.21.0",
        "deploymentSpec": {"executors": {f"exec-{task}": executor for task in TASKS}},
        "components": {f"comp-{task}": {"executorLabel": f"exec-{task}"} for task in TASKS},
        "root": {
            "inputDefinitions": {
                "parameters": {
                    key: {"parameterType": kind} | ({"defaultValue": defaults[key]} if key in defaults else {})
                    for key, kind in kinds.items()
                }
            },
            "dag": {
                "tasks": {
                    task: {"taskInfo": {"name": task}, "componentRef": {"name": f"comp-{task}"}}
                    | ({"dependentTasks": before} if before else {})
                    for task, before in TASKS.items()
                }
            },
        },
    }
    text = yaml.safe_dump(spec, sort_keys=False)
    if platform:
        parts = {f"exec-{task}": {"nodeSelector": {"labels": {"kind": "cpu"}}} for task in TASKS}
        extra = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": parts}}}}
        text += "---\n" + yaml.safe_dump(extra, sort_keys=False)
    return read_package(text)


def open_client(server, **options):
    return Client(connect(server.url, environ={}, **options))


def started(found, parameters=None, **options):
    version = found.upload(package(**options))
    return found.run(version, EXPERIMENT, "a run", {"push": "/models"} if parameters is None else parameters)


@pytest.fixture
def server():
    with KfpServer() as running:
        yield running


@pytest.fixture(params=["2.5.0", "2.17.0"])
def versions(request):
    with KfpServer(version=request.param) as running:
        yield running


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return str(path)


# Uploads.


def test_uploads_only_what_has_changed(versions):
    found = open_client(versions)
    first, again, other = found.upload(package(3)), found.upload(package(3)), found.upload(package(4))
    assert (first.uploaded, again.uploaded, other.uploaded) == (True, False, True)
    assert first.pipeline_id == again.pipeline_id == other.pipeline_id
    assert first.version_id == again.version_id != other.version_id
    assert first.name == package(3).version
    assert first.name.startswith("penguin-flowers-")
    assert len(versions.pipelines) == 1
    assert len(versions.versions) == 2


def test_uploads_both_documents(server):
    version = open_client(server).upload(package(platform=True))
    assert "platform_spec" in server.versions[version.version_id]["pipeline_spec"]


def test_what_another_has_made_meanwhile_is_used(server):
    found, late = open_client(server), open_client(server)
    for look in ("_find_pipeline", "_find_version", "_find_experiment"):

        def outpaced(*arguments, look=look, calls=[]):  # noqa: B006 - remembers that it was called
            """What there is, but at the first look the other client makes it only just after."""
            answer = getattr(Client, look)(late, *arguments)
            if not calls:
                calls.append(started(found))
            return answer

        setattr(late, look, outpaced)
    started(late)
    assert len(server.pipelines) == len(server.versions) == len(server.experiments) == 1
    for created in ("pipelines", "pipelines/upload_version", "experiments"):
        assert server.count(f"POST .*/{created}") >= 1


def test_a_pipeline_that_the_server_refuses_is_a_sentence(server):
    spec = yaml.safe_load(package().text)
    spec["somethingNew"] = 1
    with pytest.raises(ClientError, match=r"refuses \(400\): .*somethingNew"):
        open_client(server).upload(read_package(yaml.safe_dump(spec)))


@pytest.mark.parametrize("text", ["", "a: [", "- 1", "a: 1", "pipelineInfo: {name: x}", "pipelineInfo: 3"])
def test_what_is_no_pipeline_is_refused(text):
    with pytest.raises(ClientError, match="not a pipeline that was compiled"):
        read_package(text)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"push": "/m", "epoch": 3}, "has no parameter epoch: it takes data-version, epochs, push, rate"),
        ({"push": "/m", "epochs": "3"}, "epochs must be a whole number, not '3'"),
        ({"push": "/m", "epochs": True}, "epochs must be a whole number"),
        ({"push": 3}, "push must be text"),
        ({"push": "/m", "rate": "x"}, "rate must be a number"),
        ({}, "The parameter push of penguin-flowers has no default: give it a value."),
    ],
)
def test_parameters_are_checked_as_the_server_checks_them(server, values, said):
    with pytest.raises(ClientError, match=said):
        check_parameters(package(), values)
    with pytest.raises(ClientError, match="refuses"):  # the server agrees
        started(open_client(server), values)


def test_parameters_that_are_right_pass():
    check_parameters(package(), {"push": "/m", "rate": 1, "epochs": 2})


# Runs.


@pytest.mark.parametrize("platform", [False, True])
def test_waits_and_tells_of_every_node(server, platform):
    found = open_client(server)
    told = []
    run = found.wait(started(found, platform=platform), lambda run, node: told.append((node.name, node.state)), 0)
    states = ("running", "succeeded")
    assert told == [(task, state) for task in TASKS for state in states]
    assert (run.state, run.error, run.ended) == ("succeeded", "", True)
    assert [node.name for node in run.nodes] == list(TASKS)
    assert all(node.seconds > 0 for node in run.nodes)
    assert run.url == f"{server.url}/#/runs/details/{run.id}"


def test_the_nodes_of_a_pipeline_with_an_exit_handler():
    spec = yaml.safe_load(package().text)
    inner = spec["root"]["dag"]
    spec["components"]["comp-all"] = {"dag": inner}
    spec["root"]["dag"] = {
        "tasks": {
            "exit-handler-1": {"componentRef": {"name": "comp-all"}},
            "Notify": {"componentRef": {"name": "comp-Train"}, "dependentTasks": ["exit-handler-1"]},
        }
    }
    assert list(client._tasks(spec, spec["root"])) == [*TASKS, "Notify"]


@pytest.mark.parametrize("failing", ["Ingest", "Train"])
def test_what_comes_after_a_failed_node_is_skipped(server, failing):
    server.failing = {failing}
    found = open_client(server)
    run = found.wait(started(found), lambda *_: None, 0)
    states = [node.state for node in sorted(run.nodes, key=lambda node: list(TASKS).index(node.name))]
    assert states == (["failed", "skipped", "skipped"] if failing == "Ingest" else ["succeeded", "failed", "skipped"])
    assert (run.state, run.error) == ("failed", "")  # which of the API's fields never says why
    (why,) = found.troubles(run)
    assert (why.node, why.state, why.reason) == (failing, "failed", "Error (exit code 1)")


def test_what_keeps_a_pod_from_starting_is_told_once_for_each_reason(server):
    few, fewer = (f"Unschedulable: 0/{count} nodes are available" for count in (3, 2))
    server.waits = {"root-driver": ["ImagePullBackOff: x"], "Ingest": [few, fewer, "ContainerCreating: y"]}
    found = open_client(server)
    told = []
    run = found.wait(started(found), lambda *_: None, 0, warn=lambda one: told.append((one.node, one.reason)))
    assert run.state == "succeeded"
    assert told == [
        ("the pipeline's start", "ImagePullBackOff: x"),
        ("Ingest", few),
        ("Ingest", "ContainerCreating: y"),
    ]
    assert found.troubles(run) == []
    server.waits, told[:] = {"Ingest": [few, few]}, []
    found.wait(started(found), lambda *_: None, 0, warn=lambda one: told.append(one.reason), remind=0)
    assert told == [few, few]


def test_a_server_without_the_old_api_or_with_odd_answers_tells_nothing(server):
    found = open_client(server)
    server.waits = {"Ingest": ["x"] * 9}
    run = found.find_run(started(found))
    path = f"GET /apis/v1beta1/runs/{run.id}"
    for status, body in ((404, {}), (200, {}), (200, {"pipeline_runtime": {"workflow_manifest": "{"}}), (200, [])):
        server.say(path, status, body)
        assert found.troubles(run) == []
    assert [one.reason for one in found.troubles(run)] == ["x"]


@pytest.mark.parametrize("ui", [True, False])
def test_a_node_whose_result_was_there_is_cached_if_ml_metadata_can_be_asked(server, ui):
    server.cached, server.ui = {"Train"}, ui
    found = open_client(server)
    told = []
    found.wait(started(found), lambda run, node: told.append((node.name, node.state)), 0)
    assert ("Train", "cached" if ui else "succeeded") in told
    assert ("Ingest", "succeeded") in told
    asked = server.count("POST /ml_metadata.*")
    assert asked > 1 if ui else asked == 1  # not again and again where it is in vain


def test_waiting_bears_a_server_that_is_away_for_a_while(server):
    found = open_client(server)
    run_id = started(found)
    server.break_before("GET .*/runs/.*")
    server.say("GET .*/runs/.*", 503, b"upstream is not ready")
    assert found.wait(run_id, lambda *_: None, 0, patience=2).state == "succeeded"
    with pytest.raises(ClientError, match="There is no run"):
        found.wait("00000000-0000-0000-0000-000000000000", lambda *_: None, 0)
    for _ in range(3):
        server.say("GET .*/runs/.*", 503, b"upstream is not ready")
    with pytest.raises(Unreachable, match=r"is not ready \(503\)"):
        found.wait(run_id, lambda *_: None, 0, patience=2)


def test_finds_runs_by_id_beginning_name_and_latest(server):
    found = open_client(server)
    with pytest.raises(ClientError, match="no runs in the experiment penguin yet"):
        found.find_run("latest", EXPERIMENT)
    first, second = started(found), started(found)
    assert [run.id for run in found.runs(EXPERIMENT)] == [second, first]
    assert found.find_run("latest", EXPERIMENT).id == second
    assert found.find_run(first[:8], EXPERIMENT).id == first
    assert found.find_run(first, EXPERIMENT).id == first
    with pytest.raises(ClientError, match="a run means several runs"):
        found.find_run("a run", EXPERIMENT)
    with pytest.raises(ClientError, match=f"There is no run nothing: the latest is {second}"):
        found.find_run("nothing", EXPERIMENT)


def test_reads_lists_that_come_in_pages(server):
    server.fewest = 2
    found = open_client(server)
    made = [started(found) for _ in range(5)]
    assert [run.id for run in found.runs(EXPERIMENT)] == made[::-1]
    assert [run.id for run in found.runs(EXPERIMENT, 3)] == made[:1:-1]
    version = found.upload(package())
    for number in range(5):
        found.schedule(version, EXPERIMENT, wanted(name=f"schedule {number}"))
    assert [one.name for one in found.schedules(EXPERIMENT)] == [f"schedule {number}" for number in range(5)]


# What runs made.


def test_the_files_of_a_run(server):
    server.outputs = {
        "Report": {"report": ("EvaluationReport", {"report.html": b"<html>\xc3\xa4", "report.json": b"{}"})},
        "Train": {"page": ("system.HTML", b"<p>")},
    }
    found = open_client(server)
    run_id = started(found)
    with pytest.raises(ClientError, match="has not run any node yet"):
        found.artifacts(run_id)
    found.wait(run_id, lambda *_: None, 0)
    page, report = found.artifacts(run_id)
    assert (page.node, page.name, page.type) == ("Train", "page", "system.HTML")
    assert (report.node, report.name, report.type) == ("Report", "report", "EvaluationReport")
    assert found.download(page) == b"<p>"
    assert found.download(report, "report.html") == b"<html>\xc3\xa4"
    assert found.download(report, "nothing") is None
    with pytest.raises(ClientError, match="does not lie in an object store"):
        found.download(dataclasses.replace(page, uri="file:///etc/passwd"))


def test_the_logs_of_a_run(server):
    server.cached = {"Ingest"}
    found = open_client(server)
    run_id = started(found)
    found.wait(run_id, lambda *_: None, 0)
    ingest, train, report = found.pods(run_id)
    assert [one.node for one in (ingest, train, report)] == list(TASKS)
    assert found.logs(run_id, train) == "Train wrote this\n"
    with pytest.raises(ClientError, match="Ingest came from the cache: it has no log"):
        found.logs(run_id, ingest)
    server.logs.clear()
    with pytest.raises(ClientError, match="log of Report is gone: its pod"):
        found.logs(run_id, report)


def test_logs_come_from_the_api_server_where_there_is_no_user_interface(server):
    found = open_client(server)
    run_id = started(found)
    found.wait(run_id, lambda *_: None, 0)
    pod = found.pods(run_id)[1]
    server.ui = False
    assert found.logs(run_id, pod) == "Train wrote this\n"
    server.logs.clear()
    with pytest.raises(ClientError, match="log of Train is gone"):
        found.logs(run_id, pod)
    with pytest.raises(ClientError, match="name the user interface of Kubeflow Pipelines with --ui"):
        found.artifacts(run_id)


# Schedules.


def wanted(**changes):
    about = {
        "name": "nightly",
        "cron": "0 0 3 * * *",
        "parameters": {"push": "/m", "data-version": "7"},
    }
    return Schedule(**(about | changes))


def schedule(found, epochs=3, **changes):
    return found.schedule(found.upload(package(epochs)), EXPERIMENT, wanted(**changes))


def test_a_schedule_is_created_once(versions):
    found = open_client(versions)
    first, again = schedule(found), schedule(found)
    assert (first.action, again.action, first.id) == ("created", "unchanged", again.id)
    (one,) = versions.recurring.values()
    assert one["no_catchup"] is True
    assert one["max_concurrency"] == "1"
    assert one["pipeline_version_reference"]["pipeline_version_id"] == next(iter(versions.versions))
    assert one["runtime_config"]["parameters"] == {"push": "/m", "data-version": "7"}
    assert versions.count("POST .*/recurringruns") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"cron": "0 0 4 * * *"},
        {"parameters": {"push": "/elsewhere"}},
        {"max_concurrency": 2},
        {"start": datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)},
        {"end": datetime.datetime(2027, 5, 1, tzinfo=datetime.UTC)},
        {"pipeline_root": "minio://elsewhere"},
        {"service_account": "trainer"},
        {"epochs": 4},  # another version of the pipeline
    ],
)
def test_a_changed_schedule_replaces_the_old_one_without_a_gap(server, changes):
    found = open_client(server)
    old = schedule(found).id
    changed = schedule(found, **changes)
    assert (changed.action, changed.removed) == ("updated", 1)
    assert list(server.recurring) == [changed.id] != [old]
    assert schedule(found, **changes).action == "unchanged"
    last = [one for one in server.requests if "recurringruns" in one and not one.startswith("GET")]
    assert [one.split()[0] for one in last] == ["POST", "POST", "DELETE"]  # the new one comes first


@pytest.mark.parametrize(
    ("when", "which"),
    [
        ("before", "POST .*/recurringruns"),  # nothing came through
        ("after", "POST .*/recurringruns"),  # created, but the answer got lost
        ("before", "DELETE .*"),  # broken between create and delete
        ("after", "DELETE .*"),  # deleted, but the answer got lost
    ],
)
def test_what_was_interrupted_is_completed_by_the_next_call(server, when, which):
    found = open_client(server)
    schedule(found)
    getattr(server, f"break_{when}")(which)
    with pytest.raises(Unreachable, match="the connection broke"):
        schedule(found, cron="0 0 4 * * *")
    assert server.recurring  # never without a schedule
    schedule(found, cron="0 0 4 * * *")
    (one,) = server.recurring.values()
    assert one["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert schedule(found, cron="0 0 4 * * *").action == "unchanged"


def test_a_process_killed_between_create_and_delete_leaves_no_duplicate(server):
    found = open_client(server)
    schedule(found)
    found.upload(package())
    script = (
        "import os, sys\n"
        f"sys.path[:0] = {[str(pathlib.Path(__file__).parent), *sys.path]!r}\n"
        "import test_client as tests\n"
        "found = tests.Client(tests.connect(sys.argv[1], environ={}))\n"
        "found._delete = lambda key: os.kill(os.getpid(), 9)\n"
        "tests.schedule(found, cron='0 0 4 * * *')\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, server.url], cwd=pathlib.Path(client.__file__).parents[1])
    assert killed.returncode == -9
    assert len(server.recurring) == 2
    outcome = schedule(found, cron="0 0 4 * * *")
    assert (outcome.action, outcome.removed) == ("unchanged", 1)
    (one,) = server.recurring.values()
    assert one["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"


def test_two_that_schedule_at_once_keep_the_same_one(server):
    found, other = open_client(server), open_client(server)
    version = found.upload(package())
    body = found._recurring_run(version, found._experiment(EXPERIMENT), wanted())
    listed = other._recurring_runs
    calls = []

    def late(*arguments):
        answer = listed(*arguments)
        if not calls:  # between the look of one and its creation, the other creates
            calls.append(found._call(found._recurring.recurring_run_service_create_recurring_run, body))
        return answer

    other._recurring_runs = late
    assert other.schedule(version, EXPERIMENT, wanted()).id == calls[0].recurring_run_id
    assert found.schedule(version, EXPERIMENT, wanted()).id == calls[0].recurring_run_id
    assert list(server.recurring) == [calls[0].recurring_run_id]


def test_a_schedule_that_was_switched_off_is_switched_on(server):
    found = open_client(server)
    made = schedule(found)
    server.recurring[made.id].update(status="DISABLED", mode="DISABLE")
    assert [one.enabled for one in found.schedules(EXPERIMENT)] == [False]
    assert schedule(found).action == "enabled"
    assert [one.enabled for one in found.schedules(EXPERIMENT)] == [True]


def test_a_schedule_of_others_is_left_alone(server):
    found = open_client(server)
    made = schedule(found)
    server.recurring[made.id]["description"] = "made by hand"
    with pytest.raises(ClientError, match="A schedule nightly that was made otherwise is there"):
        schedule(found, cron="0 0 4 * * *")
    assert list(server.recurring) == [made.id]


def test_schedules_are_listed_and_deleted(server):
    found = open_client(server)
    assert found.schedules(EXPERIMENT) == []
    with pytest.raises(ClientError, match="There is no schedule nightly: there are none"):
        found.unschedule(EXPERIMENT, "nightly")
    end = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
    schedule(found, end=end, max_concurrency=3)
    (one,) = found.schedules(EXPERIMENT)
    assert (one.name, one.cron, one.end, one.max_concurrency, one.ours) == ("nightly", "0 0 3 * * *", end, 3, True)
    assert one.parameters["push"] == "/m"
    with pytest.raises(ClientError, match="There is no schedule daily: there are nightly"):
        found.unschedule(EXPERIMENT, "daily")
    assert found.unschedule(EXPERIMENT, "nightly") == 1
    assert not server.recurring


@pytest.mark.parametrize(
    ("changes", "said"), [({"max_concurrency": 11}, "at most 10"), ({"cron": "0 0 25 * * *"}, "hour")]
)
def test_what_the_server_refuses_of_a_schedule_is_a_sentence(server, changes, said):
    with pytest.raises(ClientError, match=said):
        schedule(open_client(server), **changes)
    assert not server.recurring


# The server of these tests.


def test_kfps_own_client_and_ours_agree_on_the_server(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # kfp keeps its context there
    import kfp

    path = tmp_path / "pipeline.yaml"
    path.write_text(package().text)
    theirs, ours = kfp.Client(host=server.url), open_client(server)
    pipeline = theirs.upload_pipeline(str(path), "penguin-flowers")
    version = ours.upload(package())
    assert version.pipeline_id == pipeline.pipeline_id == theirs.get_pipeline_id("penguin-flowers")
    listed = theirs.list_pipeline_versions(pipeline.pipeline_id, page_size=1)
    assert listed.total_size == 2
    assert listed.next_page_token
    experiment = theirs.create_experiment(EXPERIMENT)
    about = {"pipeline_id": version.pipeline_id, "version_id": version.version_id, "params": {"push": "/m"}}
    run = theirs.run_pipeline(experiment.experiment_id, "theirs", **about)
    assert [one.id for one in ours.runs(EXPERIMENT)] == [run.run_id]
    made = theirs.create_recurring_run(
        experiment.experiment_id, "theirs", cron_expression="0 0 3 * * 0", no_catchup=True, **about
    )
    assert [(one.id, one.ours) for one in ours.schedules(EXPERIMENT)] == [(made.recurring_run_id, False)]
    schedule(ours)
    listed = theirs.list_recurring_runs(experiment_id=experiment.experiment_id)
    assert {one.display_name for one in listed.recurring_runs} == {"theirs", "nightly"}
    with pytest.raises(kfp_server_api.ApiException, match="not required by pipeline"):
        theirs.run_pipeline(experiment.experiment_id, "wrong", **about | {"params": {"push": "/m", "more": 1}})


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("experiments", {"display_name": "x", "colour": 1}, "unknown field"),
        ("experiments", {"display_name": 3}, "invalid value for str"),
        ("recurringruns", {"display_name": "x", "mode": "ON"}, "invalid value for enum"),
        ("recurringruns", {"display_name": "x", "trigger": {"cron": "0 0 3 * * *"}}, "unknown field"),
        ("recurringruns", {"display_name": "x"}, "not found"),
        ("runs", {"display_name": "x", "run_details": {"task_details": [{"label": "x"}]}}, "unknown field"),
    ],
)
def test_the_server_refuses_what_kfp_refuses(server, path, body, said):
    found = open_client(server)
    status, answer = found._open("POST", server.url, f"/apis/v2beta1/{path}", body=json.dumps(body).encode())
    assert status in (400, 404)
    assert said in json.loads(answer)["message"]


def test_the_server_refuses_a_schedule_without_version(server):
    found = open_client(server)
    version = found.upload(package())
    body = found._recurring_run(version, found._experiment(EXPERIMENT), wanted())
    body.pipeline_version_reference = None
    with pytest.raises(ClientError, match="empty pipeline ID"):
        found._call(found._recurring.recurring_run_service_create_recurring_run, body)


# Namespaces, tokens, certificates.


def test_a_namespace_of_its_own(token_file):
    with KfpServer(multi_user=True, tokens={TOKEN: {"mine"}}) as server:
        server.outputs = {"Train": {"page": ("system.HTML", b"<p>")}}
        found = open_client(server, namespace="mine", token_file=token_file)
        run_id = started(found)
        found.wait(run_id, lambda *_: None, 0)
        assert found.download(found.artifacts(run_id)[0]) == b"<p>"
        assert schedule(found).action == "created"
        assert {one["namespace"] for one in server.experiments.values()} == {"mine"}
        assert {one["namespace"] for one in server.pipelines.values()} == {"mine"}
        for namespace in ("theirs", "nowhere"):
            other = open_client(server, namespace=namespace, token_file=token_file)
            with pytest.raises(
                ClientError, match=f"does not allow this in the namespace {namespace}: is the namespace"
            ):
                started(other)
        with pytest.raises(ClientError, match="has several users: name your namespace with --namespace"):
            started(open_client(server, token_file=token_file))


def test_a_namespace_means_nothing_to_a_server_with_one_user(server):
    assert started(open_client(server, namespace="kubeflow"))


def test_tokens_are_wanted_and_refused_in_a_sentence(tmp_path, token_file):
    with KfpServer(tokens={TOKEN: set()}) as server:
        with pytest.raises(ClientError, match="wants a token: name a file of one with --token-file"):
            started(open_client(server))
        wrong = tmp_path / "wrong"
        wrong.write_text("something-else")
        with pytest.raises(ClientError, match="refuses the token: it may have expired"):
            started(open_client(server, token_file=str(wrong)))
        assert started(open_client(server, token_file=token_file))
        by_variable = connect(server.url, environ={"KFP_EXISTING_TOKEN": TOKEN})
        assert Client(by_variable).server().version == (2, 17)
        by_path = connect(environ={"KF_PIPELINES_ENDPOINT": server.url, "KF_PIPELINES_SA_TOKEN_PATH": token_file})
        assert Client(by_path).server().version == (2, 17)


def test_a_token_that_is_replaced_is_read_again(tmp_path):
    path = tmp_path / "token"
    path.write_text("old")
    with KfpServer(tokens={"old": set()}) as server:
        found = open_client(server, token_file=str(path))
        started(found)
        server.tokens = {"new": set()}
        path.write_text("new")
        assert found.runs(EXPERIMENT)


@pytest.mark.parametrize("content", ["", "two words", "line\nline", "ümlaut", "\x00"])
def test_what_is_no_token_is_not_sent(tmp_path, content):
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ClientError, match="does not hold a token") as caught:
        connect("localhost", token_file=str(path), environ={})
    assert not content or content not in str(caught.value)
    if content and "\x00" not in content:
        with pytest.raises(ClientError, match="The variable KFP_EXISTING_TOKEN does not hold a token"):
            connect("localhost", environ={"KFP_EXISTING_TOKEN": content})
    with pytest.raises(ClientError, match="nowhere cannot be read"):
        connect("localhost", token_file="nowhere", environ={})


def test_the_token_appears_nowhere(tmp_path, token_file, caplog, capfd):
    caplog.set_level(0)
    with KfpServer(tokens={TOKEN: set()}) as server:
        connection = connect(server.url, token_file=token_file, environ={})
        found = Client(connection)
        started(found)
        texts = [repr(connection), str(connection), repr(vars(connection)), repr(dataclasses.asdict(connection))]
        echo = f'{{"message": "bad header Bearer {TOKEN}"}}'.encode()
        for status in (400, 401, 403, 404, 409, 500, 503):
            for request in ("GET .*/runs.*", "GET .*/experiments.*", "POST /ml_metadata.*"):
                server.say(request, status, echo)
            for call in (lambda: found.runs(EXPERIMENT), lambda: found.artifacts("x")):
                with pytest.raises(ClientError) as caught:
                    call()
                texts += [str(caught.value), "".join(traceback.format_exception(caught.value))]
            server.answers.clear()
        server.tokens = {}
        with pytest.raises(ClientError) as caught:
            Client(connect("http://localhost:1", token_file=token_file, environ={})).server()
        texts += ["".join(traceback.format_exception(caught.value))]
        stored = [one for table in (server.runs, server.versions, server.pipelines) for one in table.values()]
        texts += [repr(stored), repr(server.requests), caplog.text, *capfd.readouterr()]
    assert not [text for text in texts if TOKEN in text]
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_the_token_does_not_follow_to_another_host(server, token_file):
    with KfpServer(tokens={TOKEN: set()}) as first:
        found = open_client(first, token_file=token_file)
        first.say("GET .*/healthz", 302, b"", Location=f"{server.url.replace('localhost', '127.0.0.1')}/login")
        with pytest.raises(ClientError):
            found.server()
        assert first.tokens_seen == {f"Bearer {TOKEN}"}
    assert server.requests == ["GET /login"]
    assert server.tokens_seen == {None}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost that nobody knows, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    )
    return folder / "ca.pem", folder / "key.pem"


def test_certificates_are_checked_unless_told_otherwise(certificate, tmp_path, token_file):
    with KfpServer(tls=certificate, tokens={TOKEN: set()}) as server:
        with pytest.raises(ClientError, match=r"The certificate of https://localhost:.* is not trusted: .*--ca-file"):
            open_client(server, token_file=token_file).server()
        assert not server.requests  # and so no token was sent
        assert started(open_client(server, token_file=token_file, ca_file=str(certificate[0])))
        assert started(open_client(server, token_file=token_file, verify=False))
        plain = connect(server.url.replace("https", "http"), environ={})
        with pytest.raises(ClientError):
            Client(plain).server()
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for path in (str(empty), str(tmp_path / "nowhere.pem"), str(tmp_path)):
        with pytest.raises(ClientError, match="is not a file of certificates"):
            connect("localhost", ca_file=path, environ={})


def test_https_to_a_server_of_http_is_a_sentence(server):
    with pytest.raises(ClientError, match="check whether it is http or https"):
        Client(connect(server.url.replace("http", "https"), environ={})).server()


# Where the server is, and whether it is one.


def test_a_host_without_scheme_is_https_and_paths_stay():
    assert connect("kubeflow.example.org/pipeline/", environ={}).host == "https://kubeflow.example.org/pipeline"
    found = connect(environ={"KF_PIPELINES_ENDPOINT": "http://a:1/", "KF_PIPELINES_UI_ENDPOINT": "http://b:2"})
    assert (found.host, found.ui) == ("http://a:1", "http://b:2")


@pytest.mark.parametrize(
    "host", ["http://", "http://a:b", "http://user:password@host", "http://a?b=c", "https://a:99999"]
)
def test_what_is_no_address_is_refused_without_repeating_secrets(host):
    with pytest.raises(ClientError) as caught:
        connect(host, environ={})
    assert "password" not in str(caught.value)


def test_a_server_below_a_path(tmp_path):
    with KfpServer(prefix="/pipeline") as server:
        assert started(open_client(server))


def test_in_the_cluster_the_service_is_found_by_its_name():
    found = connect(environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert found.host == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
    assert found.ui == "http://ml-pipeline-ui.kubeflow.svc.cluster.local"


def test_the_token_of_a_pod_is_for_its_own_server_alone(token_file, monkeypatch):
    monkeypatch.setattr(connection, "POD_TOKEN", token_file)
    assert connect("https://elsewhere.example.org", environ={}).token is None
    assert connect(environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).token() == TOKEN


def test_with_a_kubeconfig_it_goes_through_the_api_server_of_kubernetes(tmp_path):
    prefix = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"
    with KfpServer(tokens={TOKEN: set()}, prefix=prefix) as server:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "clusters": [{"name": "here", "cluster": {"server": server.url.removesuffix(prefix)}}],
            "users": [{"name": "me", "user": {"token": TOKEN}}],
        }
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(config))
        found = connect(environ={"KUBECONFIG": str(path)})
        assert TOKEN not in repr(found)
        assert started(Client(found))
        config["current-context"] = "elsewhere"
        config["contexts"].append({"name": "elsewhere", "context": {"cluster": "elsewhere", "user": "me"}})
        config["clusters"].append({"name": "elsewhere", "cluster": {"server": "http://elsewhere.invalid"}})
        path.write_text(yaml.safe_dump(config))
        assert connect(environ={"KUBECONFIG": str(path)}).host.startswith("http://elsewhere.invalid/")
        assert connect(environ={"KUBECONFIG": str(path)}, context="here").host == found.host
        with pytest.raises(ClientError, match="has no context nowhere, or cannot be read"):
            connect(environ={"KUBECONFIG": str(path)}, context="nowhere")
    with pytest.raises(ClientError, match="No server is named: give --host, set KF_PIPELINES_ENDPOINT"):
        connect(environ={"KUBECONFIG": str(tmp_path / "nothing")})


def test_what_cannot_be_reached_is_a_sentence(monkeypatch):
    with (
        closed_port() as port,
        pytest.raises(Unreachable, match=f"http://127.0.0.1:{port} cannot be reached, nothing listens there"),
    ):
        Client(connect(f"http://127.0.0.1:{port}", environ={})).server()

    def unknown(*_, **__):  # some networks have an answer for every name
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unreachable, match="there is no such name"):
        Client(connect("http://kubeflow.invalid", environ={})).server()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"404 page not found", "answers, but not as Kubeflow Pipelines 2.5 does"),
        (200, b'{"tag_name": "2.4.1", "multi_user": false}', "runs Kubeflow Pipelines 2.4, which is too old: 2.5"),
        (200, b'{"tag_name": "1.8.22"}', "Kubeflow Pipelines 1.8, which is too old"),
        (200, b"<!DOCTYPE html><title>Log in</title>", "answers with a web page, probably to log in"),
        (200, b'{"apiServerReady": false}', "the API server behind it does not"),
        (500, b'{"message": "no database"}', r"refuses \(500\): no database"),
        (500, b"<html>oops", r"refuses \(500\): a web page"),
        (500, b"", r"refuses \(500\): it does not say why"),
        (500, b"\x1b[31mred\x1b[0m", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_what_is_no_such_server_is_a_sentence(server, status, body, said):
    server.say("GET .*/healthz", status, body)
    with pytest.raises(ClientError, match=said) as caught:
        open_client(server).runs(EXPERIMENT)
    assert "\x1b" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("version", "ui", "known"), [("2.5.0", False, (2, 5)), ("v2.17.0", True, (2, 17)), ("unknown", True, None)]
)
def test_servers_from_2_5_on_are_taken(version, ui, known):
    with KfpServer(version=version, ui=ui) as server:
        assert open_client(server).server() == session.Server(known, False)
        assert started(open_client(server))


def test_an_answer_of_another_form_is_a_sentence(server):
    found = open_client(server)
    started(found)
    server.say("GET .*/experiments", 200, b'{"experiments": [{"created_at": "yesterday"}]}')
    with pytest.raises(ClientError, match="answers what Kubeflow Pipelines would not"):
        found.runs(EXPERIMENT)


def test_knows_nothing_of_the_project_and_nothing_slow():
    script = "import sys; import kubeflow.client, kubeflow.cron; print(' '.join(sys.modules))"
    root = pathlib.Path(client.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    loaded = set(done.stdout.split())
    assert "kubeflow.client" in loaded
    assert not {"pipeline", "components", "trainer", "click", "tfx", "tensorflow", "kfp", "kubernetes"} & loaded
