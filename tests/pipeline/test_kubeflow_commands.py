"""The commands `alexnet kubeflow`, as a user calls them: real processes, against a real HTTP server."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
import yaml
from kfp_server import KfpServer
from ports import closed_port

ALEXNET = str(pathlib.Path(sys.executable).with_name("alexnet"))
TOKEN = "s3cr3t-t0ken-of-the-test"
COMMANDS = ["compile", "doctor", "submit", "schedule", "schedules", "unschedule", "status", "logs", "report"]
NODES = {"ImageExampleGen": [], "Trainer": ["ImageExampleGen"], "EvaluationReport": ["Trainer"]}
NODES["ShowReport"] = ["EvaluationReport"]
HTML = "<html>Käse".encode()


def alexnet(*arguments, server=None, token=None, **options):
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("KF_", "KFP_", "KUBE"))}
    env = clean | {"KUBECONFIG": "/nonexistent", "TZ": "UTC"}
    env |= {"KF_PIPELINES_ENDPOINT": server.url} if server else {}
    env |= {"KFP_EXISTING_TOKEN": token} if token else {}
    return subprocess.run(
        [ALEXNET, "kubeflow", *map(str, arguments)], capture_output=True, text=True, env=env, **options
    )


def done(*arguments, **options):
    """The output of a command that succeeds."""
    found = alexnet(*arguments, **options)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


def refused(*arguments, code=2, **options):
    """The one sentence of a command that is refused."""
    found = alexnet(*arguments, **options)
    assert found.returncode == code, found
    assert found.stderr.startswith("alexnet: ")
    assert found.stderr.count("\n") == 1
    assert "Traceback" not in found.stderr
    return found.stderr.removeprefix("alexnet: ").strip()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A pipeline in the form that is compiled, with two of AlexNet's parameters and four of its nodes."""
    executor = {"container": {"image": "image", "command": ["python"], "args": ["-m", "x"]}}
    parameters = {
        "data_version": {"parameterType": "STRING", "defaultValue": "auto"},
        "epochs": {"parameterType": "NUMBER_INTEGER", "defaultValue": 8},
    }
    tasks = {
        name: {"taskInfo": {"name": name}, "componentRef": {"name": f"comp-{name}"}, "dependentTasks": before}
        for name, before in NODES.items()
    }
    due = "{{$.pipeline_job_schedule_time_utc}}"
    tasks["ImageExampleGen"]["inputs"] = {"parameters": {"due": {"runtimeValue": {"constant": due}}}}
    spec = {
        "pipelineInfo": {"name": "alexnet-shapes10"},
        "schemaVersion": "2.1.0",
        "deploymentSpec": {"executors": {f"exec-{name}": executor for name in NODES}},
        "components": {f"comp-{name}": {"executorLabel": f"exec-{name}"} for name in NODES},
        "root": {"inputDefinitions": {"parameters": parameters}, "dag": {"tasks": tasks}},
    }
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.fixture
def server():
    with KfpServer() as running:
        page, folder = ("system.HTML", HTML), ("EvaluationReport", {"report.html": HTML, "report.json": b"{}"})
        running.outputs = {"EvaluationReport": {"report": folder}, "ShowReport": {"page": page}}
        yield running


def submit(compiled, server, *arguments):
    return done("submit", "--pipeline", compiled, "--wait", "--poll", 0, *arguments, server=server)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_is_there_and_loads_nothing_heavy(name):
    script = (
        "import sys; sys.argv = ['alexnet', 'kubeflow', *sys.argv[1:]]\n"
        "from pipeline.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    arguments = [name, "--help"] if name else ["--help"]
    found = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert f"Usage: alexnet kubeflow {name}".strip() in found.stdout
    heavy = {"tensorflow", "tfx", "kfp", "kfp_server_api", "kubernetes", "numpy", "requests", "urllib3", "yaml"}
    assert not heavy & set(found.stderr.split())


def test_the_commands_belong_to_alexnet():
    shown = subprocess.run([ALEXNET, "--help"], capture_output=True, text=True).stdout
    assert "  kubeflow " in shown
    assert all(f"  {name} " in done("--help") for name in COMMANDS)


def test_submit_uploads_once_runs_and_waits(compiled, server):
    first = submit(compiled, server, "--param", "epochs=3").splitlines()
    (run,) = server.runs.values()
    version = next(iter(server.versions.values()))["display_name"]
    assert first == [
        f"Uploaded {version}",
        f"Started run {run['run_id']}: {server.url}/#/runs/details/{run['run_id']}",
        "[0/4] ImageExampleGen: running",
        first[3],
        "[1/4] Trainer: running",
        first[5],
        "[2/4] EvaluationReport: running",
        first[7],
        "[3/4] ShowReport: running",
        first[9],
        f"Run {run['run_id']}: succeeded.",
    ]
    assert re.fullmatch(r"\[1/4\] ImageExampleGen: succeeded \(\d+ s\)", first[3])
    assert run["runtime_config"] == {"parameters": {"epochs": 3}}
    assert run["display_name"].startswith("alexnet-shapes10 20")
    second = done("submit", "--pipeline", compiled, "--name", "again", "--pipeline-root", "s3://mine", server=server)
    assert second.startswith(f"There already: {version}\nStarted run ")
    assert len(server.versions) == 1
    again = list(server.runs.values())[1]
    assert (again["display_name"], again["runtime_config"]["pipeline_root"]) == ("again", "s3://mine")


def test_a_run_that_fails_is_exit_code_1_and_names_the_log(compiled, server):
    server.failing = {"Trainer"}
    arguments = ["submit", "--pipeline", compiled, "--wait", "--poll", 0]
    said = refused(*arguments, code=1, server=server)
    run_id = next(iter(server.runs))
    assert said == f"Trainer failed: Error (exit code 1) (log: alexnet kubeflow logs {run_id})"
    shown = done("status", "latest", server=server)
    assert "failed" in shown
    assert re.search(r"EvaluationReport +skipped\n", shown)


def test_waiting_can_be_ended_and_the_run_goes_on(compiled, server):
    command = [ALEXNET, "kubeflow", "submit", "--pipeline", compiled, "--wait", "--poll", "60"]
    env = os.environ | {"KF_PIPELINES_ENDPOINT": server.url, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=env, text=True, stdout=-1, stderr=-1) as process:
        for line in process.stdout:
            if "running" in line:
                process.send_signal(signal.SIGINT)
                break
        said = process.stderr.read()
    assert (process.returncode, said) == (130, "No longer waiting; the run goes on.\n")
    assert next(iter(server.runs.values()))["state"] == "RUNNING"


def test_the_server_takes_what_compile_writes(server, tmp_path):
    path = tmp_path / "pipeline.yaml"
    image = f"example.org/alexnet@sha256:{'0' * 64}"
    found = alexnet("compile", "--set", "training.epochs=2", "--image", image, "--output", path)
    assert (found.returncode, found.stdout) == (0, f"{path}\n")
    assert image in path.read_text()
    parameters = ["--param", "epochs=3", "--param", "learning_rate=5e-2", "--param", "data_source=/data/flowers"]
    done("submit", "--pipeline", path, *parameters, server=server)
    assert next(iter(server.runs.values()))["runtime_config"]["parameters"]["learning_rate"] == 0.05
    done("schedule", "--pipeline", path, "--cron", "0 0 3 * * *", server=server)
    assert next(iter(server.recurring.values()))["runtime_config"]["parameters"] == {}
    shown = done("status", "latest", server=server)
    assert all(f"  {name} " in shown for name in ("ImageExampleGen", "Trainer", "Evaluator", "Pusher"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--param", "epoch=3"], "alexnet-shapes10 has no parameter epoch: it takes data_version, epochs."),
        (["--param", "epochs=many"], "The parameter epochs must be a whole number, not 'many'."),
        (["--param", "epochs"], "write it as --param name=value"),
        (["--param", "epochs=[3"], "The parameter epochs must be a whole number, not '[3'."),
        (["--param", "epochs=2.5"], "The parameter epochs must be a whole number, not 2.5."),
        (["--preset", "cifar10"], "--pipeline is compiled already"),
    ],
)
def test_what_is_wrong_is_said_before_the_server_is_asked(compiled, server, arguments, said):
    assert said in refused("submit", "--pipeline", compiled, *arguments, server=server)
    assert not server.requests


def test_a_file_that_is_no_pipeline(tmp_path, server):
    other = tmp_path / "other.yaml"
    other.write_text("a: 1")
    assert "it is not what `alexnet kubeflow compile` writes" in refused("submit", "--pipeline", other, server=server)
    assert "No such file" in refused("submit", "--pipeline", tmp_path / "none.yaml", server=server)
    assert "the name must end in .yaml" in refused("compile", "--output", "pipeline.json")
    assert "did you mean training.epochs" in refused("compile", "--set", "training.epoch=3")


def test_schedule_shows_the_times_creates_and_then_does_nothing(compiled, server):
    arguments = ["schedule", "--pipeline", compiled, "--cron", "0 0 3 * * sun"]
    first = done(*arguments, server=server).splitlines()
    assert first[0] == "Schedule alexnet-shapes10 (0 0 3 * * sun) runs next on"
    assert all(re.fullmatch(r"  Sunday \d+ \w+ 20\d\d, 03:00 UTC", line) for line in first[1:6])
    assert len(set(first[1:6])) == 5
    assert first[-1] == "The schedule alexnet-shapes10 is created."
    (one,) = server.recurring.values()
    assert one["runtime_config"] == {"parameters": {}}
    assert (one["no_catchup"], one["max_concurrency"]) == (True, "1")
    assert done(*arguments, server=server).endswith("The schedule alexnet-shapes10 was there already.\n")
    more = ["--max-concurrency", 2, "--param", "data_version=7", "--end", "2099-01-01"]
    assert done(*arguments, *more, server=server).endswith("is updated, and 1 older removed.\n")
    (one,) = server.recurring.values()
    assert one["runtime_config"] == {"parameters": {"data_version": "7"}}
    assert one["trigger"]["cron_schedule"] == {"cron": "0 0 3 * * sun", "end_time": "2099-01-01T00:00:00Z"}
    listed = done("schedules", server=server)
    assert re.match(r"alexnet-shapes10  0 0 3 \* \* sun  next Sunday \d+ \w+ 20\d\d, 03:00 UTC\n", listed)
    assert "  data_version=7\n" in listed
    assert done("unschedule", "alexnet-shapes10", server=server) == "The schedule alexnet-shapes10 is deleted.\n"
    assert not server.recurring
    assert "There are no schedules" in done("schedules", server=server)
    assert "There is no schedule alexnet-shapes10" in refused("unschedule", "alexnet-shapes10", server=server)


def test_a_dry_run_asks_no_server(compiled, server):
    arguments = ["schedule", "--pipeline", compiled, "--cron", "0 30 3 * * *", "--dry-run"]
    shown = done(*arguments, "--timezone", "Asia/Kolkata", "--start", "2099-05-01", server=server).splitlines()
    assert shown[1] == "  Friday 1 May 2099, 03:30 IST"
    assert shown[6].startswith("This holds if the server's scheduler has CRON_SCHEDULE_TIMEZONE=Asia/Kolkata")
    assert shown[7] == "Nothing was done: this was a dry run."
    assert not server.requests


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cron", "0 3 * * 0"], "five fields, but Kubeflow Pipelines puts the seconds first"),
        (["--cron", "0 0 3 * * 0", "--timezone", "Berlin"], "There is no time zone 'Berlin'"),
        (["--cron", "0 0 3 * * 0", "--end", "2020-01-01"], "names no time before its end"),
        (["--cron", "0 0 3 * * 0", "--start", "soon"], "'soon' is not a time"),
        (["--cron", "0 0 3 * * 0", "--param", "epochs=x"], "epochs must be a whole number"),
    ],
)
def test_a_wrong_schedule_is_a_sentence_and_no_schedule(compiled, server, arguments, said):
    assert said in refused("schedule", "--pipeline", compiled, *arguments, server=server)
    assert not server.requests


@pytest.mark.parametrize(("version", "told"), [("2.16.1", False), ("2.17.0", True)])
def test_what_an_older_server_does_not_tell_its_runs_is_said(compiled, version, told):
    with KfpServer(version=version) as server:
        found = alexnet("schedule", "--pipeline", compiled, "--cron", "0 0 3 * * *", server=server)
        assert found.returncode == 0
        assert ("Kubeflow Pipelines 2.16 does not tell a run when it was due" in found.stderr) is not told
        assert len(server.recurring) == 1


def test_status_and_waiting_say_why_a_node_does_not_start(compiled, server):
    reason = "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    server.waits = {"ImageExampleGen": [reason] * 3}
    done("submit", "--pipeline", compiled, server=server)
    assert "\nImageExampleGen is pending for " in done("status", "latest", server=server)
    assert f"min: {reason}\n" in done("status", "latest", server=server)
    server.waits, server.failing = {"ImageExampleGen": [reason] * 2}, {"Trainer"}
    server.reasons = {"Trainer": "OOMKilled (exit code 137)"}
    found = alexnet("submit", "--pipeline", compiled, "--wait", "--poll", 0, server=server)
    assert found.returncode == 1
    assert found.stdout.count(reason) == 1
    assert found.stderr.startswith("alexnet: Trainer failed: OOMKilled (exit code 137) (log: ")
    assert "Trainer failed: OOMKilled (exit code 137)" in done("status", "latest", server=server)


def test_a_schedule_that_would_take_old_data_from_the_cache_is_refused(compiled, server, tmp_path):
    spec = yaml.safe_load(compiled.read_text())
    spec["root"]["dag"]["tasks"]["ImageExampleGen"]["cachingOptions"] = {"enableCache": True}
    cached = tmp_path / "pipeline.yaml"
    cached.write_text(yaml.safe_dump(spec))
    said = refused("schedule", "--pipeline", cached, "--cron", "0 0 3 * * *", server=server)
    assert "leave out kubeflow.nodes.ImageExampleGen.cache" in said
    assert not server.requests


def test_status_logs_and_report(compiled, server, tmp_path):
    assert "There are no runs yet" in done("status", server=server)
    assert "no runs in the experiment alexnet" in refused("report", "latest", server=server)
    submit(compiled, server)
    run_id = next(iter(server.runs))
    assert re.match(rf"{run_id}  2026-01-01 00:00  succeeded  alexnet-shapes10 ", done("status", server=server))
    shown = done("status", run_id[:8], server=server)
    assert re.search(r"Trainer +succeeded +\d+ s\n", shown)
    assert shown.splitlines()[1].endswith(f"/#/runs/details/{run_id}")
    assert done("logs", "latest", "trainer", server=server) == "Trainer wrote this\n"
    assert done("logs", "latest", server=server).splitlines()[:2] == [
        "=== ImageExampleGen",
        "ImageExampleGen wrote this",
    ]
    assert "has no node Train: the nodes are ImageExampleGen, Trainer" in refused(
        "logs", "latest", "Train", server=server
    )
    for name, content in (("page.html", HTML), ("data.json", b"{}")):
        path = tmp_path / name
        assert done("report", "latest", "--output", path, server=server) == f"{path}\n"
        assert path.read_bytes() == content
    assert "nowhere/r.html cannot be written" in refused(
        "report", "latest", "--output", "/nowhere/r.html", server=server
    )
    for key in [key for key in server.objects if key.endswith("/page")]:
        del server.objects[key]  # then from the folder
    done("report", "latest", "--output", tmp_path / "folder.html", server=server)
    assert (tmp_path / "folder.html").read_bytes() == HTML
    server.objects.clear()
    gone = refused("report", "latest", "--output", tmp_path / "gone.html", server=server)
    assert gone == f"The run {run_id} has no report: its report.html cannot be read from the object store."
    assert not (tmp_path / "gone.html").exists()


def test_names_of_others_cannot_command_the_terminal(compiled, server):
    submit(compiled, server)
    next(iter(server.runs.values()))["display_name"] = "\x1b[31m[red]x[/]"
    assert "\N{REPLACEMENT CHARACTER}[31m[red]x[/]" in done("status", server=server)
    assert "\x1b" not in done("status", "latest", server=server)


@pytest.mark.parametrize("command", [["status"], ["schedules"], ["logs", "x"], ["report", "x"], ["unschedule", "x"]])
def test_a_server_that_is_not_there_or_not_named_is_a_sentence(command):
    with closed_port() as port:
        address = f"http://127.0.0.1:{port}"
        assert f"{address} cannot be reached" in refused(*command, "--host", address)
    assert "No server is named: give --host, set KF_PIPELINES_ENDPOINT" in refused(*command)


def test_tokens_namespaces_and_old_servers(compiled, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    outputs = []
    with KfpServer(multi_user=True, tokens={TOKEN: {"mine"}}) as server:
        mine = ["--namespace", "mine", "--token-file", file]
        assert "wants a token" in refused("status", "--namespace", "mine", server=server)
        assert "refuses the token" in refused("status", "--namespace", "mine", server=server, token="wrong")
        assert "name your namespace" in refused("status", server=server, token=TOKEN)
        assert "in the namespace theirs" in refused("status", "--namespace", "theirs", server=server, token=TOKEN)
        outputs += [
            done("status", *mine, server=server),
            done("submit", "--pipeline", compiled, *mine, server=server),
        ]
        server.say("GET .*/experiments", 500, f"Bearer {TOKEN} is odd".encode())
        outputs += [refused("status", *mine, server=server)]
        assert "***" in outputs[-1]
        assert TOKEN not in "".join(outputs) + repr(server.runs)
    with KfpServer(version="2.3.0") as server:
        assert "runs Kubeflow Pipelines 2.3, which is too old" in refused("status", server=server)
