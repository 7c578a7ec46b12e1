"""`alexnet doctor`: what it sees of a machine, and that it works where much is broken."""

import json
import os
import pathlib
import re

import pytest
from command_line import alexnet
from image_data import write_folder
from run_data import ended

from core import settings
from core.workdir import Workdir
from environment import host
from kubeflow.findings import FINE, MISSING, NOTE, UNKNOWN, Finding
from pipeline import bug_report, doctor

SUBJECTS = {
    "Python", "packages", "tensorflow", "ml_metadata", "tensorflow_data_validation", "GPU", "memory", "disk",
    "working directory",
}  # fmt: skip


def states(text):
    """Subject -> state, of the lines of the command."""
    found = re.findall(r"^(fine|missing|unknown|note)\s+([^:]+): ", text, re.MULTILINE)
    return {subject: state for state, subject in found}


def test_everything_is_looked_at(tmp_path):
    done = alexnet("doctor", "--workdir", tmp_path / "work", cwd=tmp_path)
    found = states(done.stdout)
    assert SUBJECTS | {"data shapes10", f"pushes to {tmp_path}/work/serving/shapes10"} <= found.keys(), done.stderr
    for subject in ("Python", "tensorflow", "ml_metadata", "working directory", "data shapes10"):
        assert found[subject] == FINE
    assert done.returncode == (1 if MISSING in found.values() else 0)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("raise ImportError('libdevice.so: cannot open')", "ImportError: libdevice.so: cannot open."),
        ("import os; os.kill(os.getpid(), 4)", "Python ended with signal 4 while it loaded."),
    ],
)
def test_it_works_where_tensorflow_cannot_be_imported(tmp_path, content, said):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tensorflow.py").write_text(content)
    write_folder(tmp_path / "pets")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "broken")}
    done = alexnet("doctor", "--data", tmp_path / "pets", "--workdir", tmp_path / "work", env=environment)
    found = states(done.stdout)
    assert done.returncode == 1
    assert f"missing  tensorflow: It cannot be imported: {said}" in done.stdout
    assert "         -> make setup\n" in done.stdout
    assert found[f"data {tmp_path}/pets"] == found[f"pushes to {tmp_path}/work/serving/pets"] == FINE
    assert "Traceback" not in done.stdout + done.stderr


def test_a_mistake_is_exit_code_2(tmp_path):
    done = alexnet("doctor", "--set", "training.epoch=1", "--workdir", tmp_path)
    assert done.returncode == 2
    assert "did you mean training.epochs" in done.stderr


def test_another_python_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "PYTHON", (3, 99))
    assert doctor.python().state == MISSING
    monkeypatch.undo()
    monkeypatch.setattr(doctor.platform, "machine", lambda: "riscv64")
    assert "no packages for" in doctor.python().text


@pytest.mark.parametrize(
    ("library", "state"), [(("glibc", "2.39"), FINE), (("glibc", "2.36"), MISSING), (("", ""), MISSING)]
)
def test_the_c_library_has_to_be_new_enough(monkeypatch, library, state):
    monkeypatch.setattr(doctor.platform, "system", lambda: "Linux")
    monkeypatch.setattr(doctor.platform, "libc_ver", lambda: library)
    (found,) = doctor.c_library()
    assert found.state == state
    assert host.NEEDED_GLIBC == doctor.GLIBC
    assert host.MACHINES == doctor.MACHINES


def test_packages_are_compared_with_the_lock(tmp_path):
    lock = tmp_path / "requirements.txt"
    assert doctor.packages(lock).state == UNKNOWN
    click, rich = (doctor.importlib.metadata.version(name) for name in ("click", "rich"))
    lock.write_text(f"click=={click} \\\n    --hash=sha256:00\nnone-such==1 ; sys_platform == 'win32' \\\n")
    assert doctor.packages(lock).state == FINE
    lock.write_text(f"rich==1.0 ; python_version < '3' \\\nrich=={rich} ; python_version >= '3' \\\n")
    assert doctor.packages(lock).state == FINE
    lock.write_text("click==0.1 \\\n")
    assert doctor.packages(lock) == Finding(
        "packages", NOTE, f"Not as in requirements.txt: click {click} instead of 0.1.", "make setup"
    )
    lock.write_text("click==0.1 \\\nnone-such==1 \\\n")
    assert doctor.packages(lock).state == MISSING
    assert "none-such is not there, click" in doctor.packages(lock).text


@pytest.mark.parametrize(
    ("says", "seen", "state", "text"),
    [
        (None, 0, FINE, "none that could be found"),
        ("echo 'NVIDIA H100 80GB HBM3, 550.54'", 1, FINE, "NVIDIA H100 80GB HBM3), and TensorFlow sees 1"),
        ("echo 'NVIDIA H100, 550.54'", 0, NOTE, "of which TensorFlow sees none: trainings run on the CPU"),
        ("printf 'NVIDIA H100, 550.54\\nNVIDIA H100, 550.54\\n'", 1, NOTE, "of which TensorFlow sees 1."),
        ("echo 'NVIDIA H100, 550.54'", None, UNKNOWN, "cannot be said"),
        ("echo 'NVIDIA-SMI has failed.'; exit 9", 0, NOTE, "nvidia-smi fails: NVIDIA-SMI has failed."),
    ],
)
def test_gpus_and_whether_tensorflow_sees_them(tmp_path, monkeypatch, says, seen, state, text):
    if says:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    elif list(pathlib.Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("there is a GPU")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if says else str(tmp_path))
    found = doctor.gpu({"gpus": seen} if seen is not None else {"problem": "x"})
    assert found.state == state
    assert text in found.text
    assert bool(found.mend) == (state != FINE)


@pytest.mark.parametrize(("bounds", "state"), [((0, 0), FINE), ((0, 1 << 60), NOTE), ((1 << 60, 1 << 60), MISSING)])
def test_too_little_memory_or_disk_is_said(tmp_path, monkeypatch, bounds, state):
    monkeypatch.setattr(doctor, "MEMORY", bounds)
    monkeypatch.setattr(doctor, "DISK", bounds)
    assert doctor.memory().state == doctor.disk(tmp_path / "not" / "yet").state == state
    free, total = doctor.available()
    assert 0 < free <= total


def test_shared_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.platform, "system", lambda: "Linux")
    monkeypatch.setattr(doctor, "SHARED", 0)
    assert [one.state for one in doctor.shared_memory(str(tmp_path))] == [FINE]
    monkeypatch.setattr(doctor, "SHARED", 1 << 60)
    assert [one.state for one in doctor.shared_memory(str(tmp_path))] == [NOTE]
    assert [one.state for one in doctor.shared_memory(str(tmp_path / "none"))] == [NOTE]


def test_a_working_directory_in_use_or_damaged_is_named(tmp_path):
    workdir = Workdir(tmp_path / "work")
    with workdir.lock("alexnet run"):
        (found,) = doctor.working_directory(workdir)
    assert found.state == NOTE
    assert f"in use by process {os.getpid()}" in found.text
    workdir.metadata.write_text("no database")
    (found,) = doctor.working_directory(workdir)
    assert found.state == MISSING
    assert "metadata.sqlite" in found.text
    (tmp_path / "file").write_text("")
    (found,) = doctor.working_directory(Workdir(tmp_path / "odd[1]"))
    assert found.state == MISSING


def looked(look, tmp_path, *changes, **values):
    return look(settings.load(overrides=changes, **values), Workdir(tmp_path / "work"))


def test_the_data_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def state(source, **values):
        return looked(doctor.data, tmp_path, **{"data.source": source, **values})

    write_folder(tmp_path / "pets")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"x")
    assert state("shapes10/small").state == state("./pets").state == state("pets").state == FINE
    assert state("cifar-10-python.tar.gz").state == FINE
    assert state("/nowhere/at/all") == Finding(
        "data /nowhere/at/all", MISSING, "The data source /nowhere/at/all does not exist."
    )
    assert state("none_such").state == MISSING
    assert state("cifar10").state == NOTE
    (tmp_path / "tensorflow_datasets" / "cifar10" / "3.0.2").mkdir(parents=True)
    (tmp_path / "tensorflow_datasets" / "cifar10" / "3.0.2" / "dataset_info.json").write_text("{}")
    assert state("cifar10").text == "It is prepared in ~/tensorflow_datasets."


def test_the_push_destination(tmp_path, s3):
    (tmp_path / "file").write_text("")
    assert looked(doctor.push, tmp_path, f"push.destination={tmp_path}/models").state == FINE
    assert not (tmp_path / "models").exists()
    found = looked(doctor.push, tmp_path, f"push.destination={tmp_path}/file/models")
    assert found.state == MISSING
    assert f"{tmp_path}/file is a file" in found.text
    assert looked(doctor.push, tmp_path, "push.destination=s3://bucket/models").state == FINE
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket")
    assert looked(doctor.push, tmp_path, "push.destination=s3://none-such/models").state == MISSING


def test_the_webhook_is_looked_at_and_never_shown(tmp_path):
    file = tmp_path / "url"
    assert looked(doctor.webhook, tmp_path) is None
    assert looked(doctor.webhook, tmp_path, f"notify.webhook={file}").state == MISSING
    file.write_text("https://hooks.example.com/s3cr3t")
    found = looked(doctor.webhook, tmp_path, f"notify.webhook={file}")
    assert found.state == FINE
    assert "s3cr3t" not in found.text


def test_what_a_bug_report_tells_and_what_it_does_not(tmp_path, monkeypatch):
    home = tmp_path / "home" / "ann"
    (home / "images").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("MY_OWN", "of nobody's business")
    workdir = Workdir(home / "work")
    folder = workdir.run("20260101-000000")
    folder.mkdir(parents=True)
    nodes = {"Trainer": {"state": "failed", "seconds": 1.0}}
    error = f"{home}/images/a.png cannot be read with wJalrXUtnFEMI"
    found = ended("20260101-000000", state="failed", error=error, nodes=nodes)
    (folder / "results.json").write_text(json.dumps(found))
    log = [f"line {number}" for number in range(40)]
    log += ["GET https://ann:pa55word@proxy.example.com/x?sig=abcdef", "see /home/bob/notes", "``` end"]
    (folder / "log.txt").write_text("\n".join(log))
    chosen = settings.load(overrides=["training.epochs=3"], **{"data.source": f"{home}/images"})
    text = bug_report.text([Finding("GPU", NOTE, "None.", "buy one")], chosen, workdir)
    for told in (
        "note     GPU: None.\n         -> buy one", "AWS_SECRET_ACCESS_KEY", "KERAS_BACKEND", "data.source=~/images",
        "training.epochs=3", "Run 20260101-000000: failed", "~/images/a.png cannot be read with ***",
        "Nodes: Trainer failed", "https://***@proxy.example.com/x?***", "see ~/notes", "line 39", "''' end",
        f"tensorflow {doctor.importlib.metadata.version('tensorflow')}", "Python 3.11",
    ):  # fmt: skip
        assert told in text
    for secret in ("wJalrXUtnFEMI", "pa55word", "abcdef", "of nobody's", str(home), "bob", "line 9\n"):
        assert secret not in text
    assert text.count("```") % 2 == 0


def test_a_bug_report_of_a_directory_without_runs(tmp_path):
    assert "There is none in" in bug_report.text([], None, Workdir(tmp_path / "none"))
