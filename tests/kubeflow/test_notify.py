"""The exit task that tells a webhook, against a real HTTP server on this machine."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from ports import closed_port
from webhook_server import SECRET, running

from kubeflow import notify
from kubeflow.harness import Cluster

FAILED = json.dumps(
    {"state": "FAILED", "pipelineJobResourceName": "alexnet-x7k2p", "pipelineTaskName": "tfx-dag", "error": {}}
)
SUCCEEDED = FAILED.replace("FAILED", "COMPLETE")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with running() as server:
        yield server


def tell(url, *arguments, status=FAILED):
    """The exit code, and the pauses that were made."""
    pauses = []
    code = notify.main(["--status", status, *arguments], {notify.VARIABLE: url}, pauses.append)
    return code, pauses


def test_tells_of_a_failed_run(server, capfd):
    assert tell(server.url(), "--pipeline", "alexnet-shapes10", "--run-id", "ab-1", "--ui", "https://kfp.test/") == (
        0,
        [],
    )
    ((path, kind, content),) = server.got
    assert path == f"/services/{SECRET}"
    assert kind == "application/json; charset=utf-8"
    assert content == {
        "text": ":x: *alexnet-x7k2p* of alexnet-shapes10 did not succeed (state FAILED).\n"
        "<https://kfp.test/#/runs/details/ab-1|Open the run>"
    }
    assert capfd.readouterr() == ("Told that the run ended with FAILED.\n", "")


def test_a_run_that_succeeded_is_told_of_only_when_asked_for(server, capfd):
    assert tell(server.url(), status=SUCCEEDED) == (0, [])
    assert server.got == []
    assert "nobody is told" in capfd.readouterr().out
    assert tell(server.url(), "--always", "--run-name", "Nightly", status=SUCCEEDED) == (0, [])
    assert server.got[0][2] == {"text": ":white_check_mark: *Nightly* succeeded."}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("", "UNKNOWN"),
        ("no JSON", "UNKNOWN"),
        ("[1]", "UNKNOWN"),
        ('{"state": null, "error": "text"}', "UNKNOWN"),
        # What ML Metadata has of a DAG in which a task failed.
        ('{"state": "RUNNING"}', "RUNNING"),
        ('{"state": "CANCELED"}', "CANCELED"),
    ],
)
def test_a_state_that_is_no_success_is_told_of(server, status, said):
    assert tell(server.url(), status=status) == (0, [])
    assert server.got[0][2]["text"] == f":x: *a run* did not succeed (state {said})."


def test_what_was_said_cannot_mention_or_link(server):
    status = {"state": "FAILED", "error": {"message": "<!channel> & <https://evil.test|click>\nmore " + "x" * 5000}}
    arguments = ["--pipeline", "<script>alert(1)</script>", "--run-name", "<@U1>\n:x:"]
    tell(server.url(), *arguments, "--run-id", "a|b>c", "--ui", "https://kfp.test/a b|<x>", status=json.dumps(status))
    first, second, link = server.got[0][2]["text"].splitlines()
    assert first == (":x: *&lt;@U1&gt; :x:* of &lt;script&gt;alert(1)&lt;/script&gt; did not succeed (state FAILED).")
    assert second.startswith("&lt;!channel&gt; &amp; &lt;https://evil.test|click&gt; more xxx")
    assert len(second) < 1100
    assert link == "<https://kfp.test/a%20b%7C%3Cx%3E/#/runs/details/a%7Cb%3Ec|Open the run>"


def test_no_link_without_an_address_of_the_web(server):
    tell(server.url(), "--run-id", "1", "--ui", "javascript:alert(1)")
    tell(server.url(), "--ui", "https://kfp.test")
    assert not [text for *_, content in server.got if "|" in (text := content["text"])]


def test_tries_again_with_longer_and_longer_pauses(server, capfd):
    server.answers = [(500, {}), (503, {}), (429, {}), (200, {})]
    assert tell(server.url(), "--required") == (0, [1, 2, 4])
    assert len(server.got) == 4
    out, err = capfd.readouterr()
    assert out == "Told that the run ended with FAILED.\n"
    assert err.splitlines()[0] == "The webhook answered 500; trying again in 1 s."


@pytest.mark.parametrize(
    ("asked", "waited"), [("7", 7), ("0", 1), ("86400", 60), ("Sun, 22 Nov 2026 03:00:00 GMT", 1)]
)
def test_waits_as_long_as_the_server_asks_but_not_for_ever(server, asked, waited):
    server.answers = [(429, {"Retry-After": asked}), (200, {})]
    assert tell(server.url()) == (0, [waited])


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_does_not_repeat_what_is_refused_for_good(server, status, capfd):
    server.answers = [(status, {})]
    assert tell(server.url()) == (0, [])
    assert len(server.got) == 1
    assert capfd.readouterr().err == f"Nobody was told how the run ended: the webhook answered {status}.\n"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_follows_no_redirect(server, status, capfd):
    server.answers = [(status, {"Location": server.url("/elsewhere")}), (200, {})]
    assert tell(server.url(), "--required") == (1, [])
    assert [path for path, *_ in server.got] == [f"/services/{SECRET}"]
    assert "redirect" in capfd.readouterr().err


def test_gives_up_but_fails_only_when_required(server, capfd):
    server.answers = [(500, {})]
    assert tell(server.url(), "--attempts", "3") == (0, [1, 2])
    assert tell(server.url(), "--attempts", "1", "--required") == (1, [])
    assert len(server.got) == 4
    err = capfd.readouterr().err.splitlines()
    assert "Nobody was told how the run ended: the webhook answered 500, 3 times." in err
    assert err[-1] == "Nobody was told how the run ended: the webhook answered 500."


def test_does_not_wait_for_a_server_that_hangs(server, capfd):
    server.answers = [("hang", {})]
    assert tell(server.url(), "--timeout", "0.1", "--attempts", "2") == (0, [1])
    assert "no answer in time" in capfd.readouterr().err
    server.wait_for(2)
    assert len(server.got) == 2


def test_a_server_that_talks_nonsense_is_an_error_in_words(server, capfd):
    server.answers = [("garbage", {})]
    assert tell(server.url(), "--attempts", "1") == (0, [])
    assert "the webhook cannot be reached (BadStatusLine)" in capfd.readouterr().err


def test_nobody_listens(server, capfd):
    with closed_port() as port:
        assert tell(f"http://127.0.0.1:{port}/", "--attempts", "2") == (0, [1])
    assert "Connection refused" in capfd.readouterr().err


def test_the_url_comes_from_a_file(server, tmp_path, capfd):
    file = tmp_path / "webhook"
    file.write_text(server.url() + "\n")
    assert tell("http://127.0.0.1:1/", "--url-file", str(file)) == (0, [])
    assert len(server.got) == 1
    file.write_text("")
    assert tell("", "--url-file", str(file), "--required") == (1, [])
    assert tell("", "--url-file", str(tmp_path / "none"), "--required") == (1, [])
    err = capfd.readouterr().err
    assert f"the file {file} is empty" in err
    assert "No such file or directory" in err


@pytest.mark.parametrize(
    "url",
    [
        "",
        SECRET,
        f"file:///{SECRET}",
        f"ftp://host/{SECRET}",
        f"https:///{SECRET}",
        f"https://host:port/{SECRET}",
        f"https://host:99999/{SECRET}",
        f"https://user:pass@host/{SECRET}",
        f"https://[host/{SECRET}",
        f"https://host/{SECRET} x",
        f"https://host/{SECRET}\tx",
        f"https://höst/{SECRET}",
        f"https://{'x' * 70}.test/{SECRET}",  # too long for a host's name
    ],
)
def test_a_bad_url_is_refused_without_showing_it(url, capfd):
    assert tell(url, "--required", "--attempts", "1")[0] == 1
    out, err = capfd.readouterr()
    assert err.startswith("Nobody was told how the run ended: ")
    assert "Traceback" not in err
    assert SECRET not in out + err
    assert "pass" not in out + err


@pytest.mark.parametrize("answer", [200, 302, 404, 500, "hang", "garbage"])
def test_the_secret_is_in_no_output_of_the_program(server, answer):
    server.answers = [(answer, {"Location": server.url(f"/{SECRET}")})]
    command = [sys.executable, "-m", "kubeflow.notify", "--status", FAILED, "--attempts", "1", "--timeout", "0.2"]
    environment = os.environ | {notify.VARIABLE: server.url()}
    root = pathlib.Path(notify.__file__).parents[1]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0
    server.wait_for(1)
    assert len(server.got) == 1
    assert done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "127.0.0.1" not in done.stdout + done.stderr


def test_needs_nothing_but_the_standard_library():
    listing = "import sys, kubeflow.notify; print(*{name.partition('.')[0] for name in sys.modules})"
    root = pathlib.Path(notify.__file__).parents[1]
    done = subprocess.run([sys.executable, "-S", "-c", listing], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= set(sys.stdlib_module_names) | {"kubeflow", "__main__"}


@pytest.mark.parametrize("wrong", [["--attempts", "0"], ["--timeout", "0"], ["--timeout", "x"]])
def test_bad_arguments(wrong):
    with pytest.raises(SystemExit) as ended:
        notify.main(wrong)
    assert ended.value.code == 2


# In the compiled pipeline


@pytest.fixture(scope="module")
def compiled():
    """Our own pipeline as it is compiled, but its nodes do nothing, and the one that $FAILING names fails."""
    from core import settings
    from pipeline import kubeflow_runner

    cached = "kubeflow.nodes={ImageExampleGen: {cache: true}, ImageSchemaGen: {cache: true}}"
    chosen = settings.load(overrides=[cached, "kubeflow.webhook_secret=hook", "kubeflow.ui=https://kfp.test"])
    first, second = yaml.safe_load_all(kubeflow_runner.compile(chosen))
    for name, executor in first["deploymentSpec"]["executors"].items():
        if name != "Notify_executor":
            executor["container"] |= {"command": ["sh", "-c", 'test "$0" != "$FAILING"'], "args": [name]}
    return yaml.safe_dump_all([first, second])


@pytest.mark.parametrize("failing", ["ImageExampleGen", "Transform", "ShowReport"])
def test_a_failed_run_of_the_pipeline_tells_the_webhook_once(compiled, server, tmp_path, failing):
    cluster = Cluster(
        tmp_path, secrets={"hook": {"url": server.url()}}, environment={"FAILING": f"{failing}_executor"}
    )
    run = cluster.run(compiled)
    assert run.state == "failed"
    assert run.tasks[f"tfx-dag/{failing}"].state == "failed"
    assert run.tasks["Notify"].state == "succeeded", run.tasks["Notify"].log
    ((path, _, content),) = server.got
    assert path == f"/services/{SECRET}"
    assert content["text"] == (
        f":x: *run {run.id}* of alexnet-shapes10 did not succeed (state FAILED).\n"
        f"<https://kfp.test/#/runs/details/{run.id}|Open the run>"
    )
    assert SECRET not in run.tasks["Notify"].log


def test_a_run_of_the_pipeline_that_succeeds_is_silent_also_out_of_the_cache(compiled, server, tmp_path):
    cluster = Cluster(tmp_path, secrets={"hook": {"url": server.url()}})
    for _ in range(2):
        run = cluster.run(compiled)
        assert run.state == "succeeded"
        assert run.tasks["Notify"].log == "The run ended with COMPLETE: nobody is told.\n"
    assert "cached" in {task.state for task in run.tasks.values()}
    assert server.got == []
