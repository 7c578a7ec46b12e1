"""A run that nobody watches: the lines of docs/scheduling.md, and a real webhook that is told how it ended."""

import configparser
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml
from command_line import ALEXNET, alexnet
from image_data import write_folder
from run_data import ended, evaluated
from webhook_server import SECRET, running

from core import settings
from core.errors import UserError
from core.workdir import Workdir
from pipeline import notice

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "scheduling.md"
TINY = {
    "data": {"validation_share": 0.2},
    "model": {"width": 0.06},
    "training": {"epochs": 1, "batch_size": 16},
    "gates": {"min_accuracy": 0, "min_class_recall": 0},
    "serving": {"images": 2, "max_latency_ms": 60000},
}


def block(kind):
    """The one of this kind on the page."""
    (found,) = re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return found


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with running() as server:
        yield server


@pytest.fixture
def home(tmp_path, server):
    """A home folder with a checkout, as far as the page needs one, its preset, and the webhook's file."""
    place = tmp_path / "alexnet-pipeline"
    (place / ".venv" / "bin").mkdir(parents=True)
    (place / ".venv" / "bin" / "alexnet").symlink_to(ALEXNET)
    preset = yaml.safe_load(block("yaml"))
    preset["data"]["source"] = str(tmp_path / "photos")
    preset["push"]["destination"] = str(tmp_path / "models")
    for group, values in TINY.items():
        preset.setdefault(group, {}).update(values)
    (place / "nightly.yaml").write_text(yaml.safe_dump(preset))
    (place / "webhook-url.txt").write_text(server.url() + "\n")
    return tmp_path


def as_cron(home, line):
    """Runs a line of a crontab as cron does: sh, in the home folder, with next to no environment."""
    times = r"(?:\S+\s+){5}"
    command = re.match(rf"{times}(.*)", line.strip())[1]
    assert "%" not in command  # which is a line break there
    environment = {"HOME": str(home), "LOGNAME": "ann", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "no_proxy": "*"}
    return subprocess.run(["/bin/sh", "-c", command], cwd=home, env=environment, capture_output=True, text=True)


def texts(server):
    return [content["text"] for _, _, content in server.got]


def test_the_presets_of_the_page_can_be_read(tmp_path):
    (tmp_path / "nightly.yaml").write_text(block("yaml"))
    chosen = settings.load(str(tmp_path / "nightly.yaml"))
    assert (chosen.retention.runs, chosen.retention.versions) == (5, 10)
    assert chosen.notify.webhook == "webhook-url.txt"


def test_a_night_without_data_is_told_and_has_its_code(home, server):
    done = as_cron(home, block("crontab"))
    assert done.stdout + done.stderr == ""
    log = (home / "alexnet-pipeline" / "nightly.log").read_text()
    assert log.splitlines() == [f"alexnet: The data source {home}/photos does not exist.", "exit code 2"]
    (text,) = texts(server)
    first, second = text.splitlines()
    assert first == f":x: A run of photos: The data source {home}/photos does not exist."
    assert second.endswith(", exit code 2.")


@pytest.mark.slow
def test_nights_with_data(home, server):
    write_folder(home / "photos", train=40, test=10)
    log = home / "alexnet-pipeline" / "nightly.log"
    for _ in range(2):
        as_cron(home, block("crontab"))
        assert log.read_text().splitlines()[-1] == "exit code 0", log.read_text()
    assert "Transform: reused from cache" in log.read_text()
    work = Workdir(home / "alexnet-pipeline" / "workdir")
    first, second = work.results()
    for text, found, again in zip(texts(server), (first, second), ("", " (from an earlier run)"), strict=True):
        head, accuracy, where = text.splitlines()
        gates = len(found["evaluation"]["gates"])
        assert head == f":white_check_mark: *{found['run']}* of photos: pushed{again}: all {gates} gates passed."
        assert accuracy.startswith(f"Test accuracy {found['evaluation']['accuracy']:.2%} of 20 examples")
        assert where.endswith(f"exit code 0: {work.run(found['run'])}/report.html")
    everything = [path for path in work.runs.rglob("*") if path.is_file()] + [log]
    assert not [path for path in everything if SECRET.encode() in path.read_bytes()]


def test_the_units_of_systemd_are_accepted(tmp_path):
    units = re.findall(r"`~/.config/systemd/user/(alexnet\.\w+)`\n\n```ini\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in units] == ["alexnet.service", "alexnet.timer"]
    for name, text in units:
        parser = configparser.ConfigParser(interpolation=None)
        parser.optionxform = str
        parser.read_string(text)
        (tmp_path / name).write_text(text.replace("%h/alexnet-pipeline/.venv/bin/alexnet", ALEXNET))
    assert "SuccessExitStatus=3 4\n" in dict(units)["alexnet.service"]
    if not (program := shutil.which("systemd-analyze")):
        pytest.skip("there is no systemd here to ask")
    command = [program, "verify", "--user", *(str(tmp_path / name) for name, _ in units)]
    environment = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode and "alexnet" not in done.stderr:
        pytest.skip(f"systemd cannot be asked here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


def told(server, tmp_path, found, code, **options):
    """What the webhook got, and what was said here."""
    file = tmp_path / "url"
    file.write_text(server.url())
    said = notice.ended(settings.Notify(webhook=str(file), **options), found, code, tmp_path / "runs" / "r")
    return texts(server), said


FAILED = ended("20260101-000000", state="failed", error="ids repeat in <images> & labels; correct them")
UNPUSHED = ended(
    "20260101-000000",
    state="not pushed",
    evaluation=evaluated(
        0.5, baseline_accuracy=0.75, blessed=False, gates=[{"words": "accuracy 0.5 < 0.9", "passed": False}]
    ),
)


def test_each_outcome_has_its_sign_and_words(server, tmp_path):
    found = [
        (ended("20260101-000000", state="partial"), 0),
        (UNPUSHED, 3),
        (FAILED, 2),
        (ended("20260101-000000", state="interrupted"), 130),
        (ended("20260101-000000", state="waiting", evaluation=evaluated()), 4),
    ]
    for one, code in found:
        told(server, tmp_path, one, code)
    signs = [text.split()[0] for text in texts(server)]
    assert signs == [":white_check_mark:", ":warning:", ":x:", ":x:", ":hourglass_flowing_sand:"]
    assert texts(server)[1].splitlines()[:2] == [
        ":warning: *20260101-000000* of pets: not pushed: accuracy 0.5 &lt; 0.9.",
        "Test accuracy 50.00% of 100 examples; the baseline has 75.00%.",
    ]
    assert "failed: ids repeat in &lt;images&gt; &amp; labels; correct them." in texts(server)[2]
    for text, (_, code) in zip(texts(server), found, strict=True):
        assert f"exit code {code}: {tmp_path}/runs/r" in text


@pytest.mark.parametrize(("found", "count"), [(ended("20260101-000000"), 0), (UNPUSHED, 1), (FAILED, 1)])
def test_of_problems_alone(server, tmp_path, found, count):
    assert told(server, tmp_path, found, 0, when="problem") == (texts(server), "")
    assert len(server.got) == count


def test_nobody_is_told_unless_asked_for():
    assert notice.ended(settings.Notify(), FAILED, 2, pathlib.Path("runs/r")) == ""
    assert notice.problem(settings.Notify()) == ""


def test_a_variable_can_hold_the_url(server, monkeypatch):
    options = settings.Notify(webhook="env:NIGHTLY_HOOK")
    monkeypatch.delenv("NIGHTLY_HOOK", raising=False)
    assert "the variable NIGHTLY_HOOK is empty" in notice.problem(options)
    monkeypatch.setenv("NIGHTLY_HOOK", server.url())
    assert notice.problem(options) == notice.ended(options, FAILED, 2, pathlib.Path("runs/r")) == ""
    assert len(server.got) == 1


@pytest.mark.parametrize("url", [f"https://hooks.example.com/{SECRET}", f"http://h/{SECRET}"])
def test_the_url_itself_is_no_setting_and_is_not_shown(url, tmp_path):
    with pytest.raises(UserError, match="takes a file that holds the URL") as refused:
        settings.load(overrides=[f"notify.webhook={url}"])
    assert SECRET not in str(refused.value)
    done = alexnet("run", "--set", f"notify.webhook={url}", cwd=tmp_path)
    assert done.returncode == 2
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("trouble", ["refused", "no file", "no URL"])
def test_a_post_that_fails_is_a_warning_and_the_code_is_the_runs(home, server, trouble):
    file = home / "alexnet-pipeline" / "webhook-url.txt"
    server.answers = [(404, {})]
    said = {
        "refused": "Nobody was told how the run ended: the webhook answered 404.",
        "no file": "Nobody will be told how the run ends: the file webhook-url.txt with the webhook's URL cannot be",
        "no URL": "Nobody will be told how the run ends: the file webhook-url.txt holds no URL of http or https.",
    }[trouble]
    if trouble == "no file":
        file.unlink()
    if trouble == "no URL":
        file.write_text(SECRET)
    done = as_cron(home, block("crontab").replace("> nightly.log 2>&1; echo", "; exit $?; echo"))
    assert done.returncode == 2
    assert said in done.stderr
    assert f"The data source {home}/photos does not exist." in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == (2 if trouble == "refused" else 3)
