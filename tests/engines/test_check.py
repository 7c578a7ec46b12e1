"""What is said of an engine that is not there or not fit."""

import os
import socket
import threading

import pytest
from flink_rest import ANSWERS, flink
from ports import closed_port

from core.errors import UserError
from core.settings import Beam
from engines import address, check, job_server
from engines.flink import NEEDED


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder with job servers for Flink 1.19, and one for the PATH, with a java: nothing here starts it."""
    for name in ("flink-1.19-job-server-2.61.0.jar", "flink-1.19-job-server-2.62.0.jar"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "java").write_text("#!/bin/sh\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv(job_server.FOLDER, str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    return tmp_path


def beam(master, **changes):
    return Beam(runner="FlinkRunner", master=master, **changes)


def said(settings):
    with pytest.raises(UserError) as problem:
        check.check(settings)
    return str(problem.value)


@pytest.fixture
def nobody():
    """A port at which nobody listens, while the test lasts."""
    with closed_port() as port:
        yield port


def test_beam_in_this_process_needs_nothing():
    check.check(Beam())
    check.check(Beam(pipeline_args=["--direct_num_workers=2"]))


def test_a_flink_that_is_fit(tools):
    with flink() as (master, _):
        check.check(beam(master))
        check.check(beam(f"http://{master}/"))


def test_nobody_answers(tools, nobody):
    sentence = said(beam(f"127.0.0.1:{nobody}"))
    assert sentence.startswith(f"Flink does not answer at beam.master=127.0.0.1:{nobody} (connection refused)")


def test_the_proxy_of_the_web_is_not_asked(tools, nobody, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{nobody}")
    with flink() as (master, _):
        check.check(beam(master))


def test_somebody_else_answers(tools):
    with flink(answers={"config": {}}) as (master, _):
        assert "it answers, but not as Flink does" in said(beam(master))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        assert "it answers, but not as Flink does" in said(beam(f"127.0.0.1:{listening.getsockname()[1]}"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"taskmanagers": 0, "slots-total": 0, "slots-available": 0}, "has no TaskManager: start one."),
        ({"slots-available": 0}, "has no free slot, all 2 are in use: wait until"),
        (
            {"answers": {"jobmanager/config": []}},
            "has too few network buffers, 4,096 for a slot: write `taskmanager.network.sort-shuffle.min-buffers: 16` "
            "into the configuration",
        ),
    ],
)
def test_a_flink_that_is_not_fit(tools, changes, words):
    with flink(**changes) as (master, _):
        assert f"Flink at beam.master={master} {words}" in said(beam(master))


def test_direct_memory_is_missing(tools):
    managers = [{"slotsNumber": 2, "memoryConfiguration": {"networkMemory": 1 << 30, "taskOffHeap": 512 << 20}}]
    with flink(answers={"taskmanagers": {"taskmanagers": managers}}) as (master, _):
        sentence = said(beam(master))
    assert "has 256 MB of direct memory for the tasks of a slot" in sentence
    assert "`taskmanager.memory.task.off-heap.size: 512m`" in sentence
    assert all(f"`{name}: {value}`" in sentence for name, value in NEEDED.items())  # alone it would take the heap


def test_more_memory_does_as_well(tools):
    managers = [{"slotsNumber": 1, "memoryConfiguration": {"networkMemory": 1 << 30, "taskOffHeap": 1 << 30}}]
    with flink(answers={"jobmanager/config": [], "taskmanagers": {"taskmanagers": managers}}) as (master, _):
        check.check(beam(master))


def test_a_version_without_a_job_server(tools):
    with flink(answers={"config": ANSWERS["config"] | {"flink-version": "1.17.2"}}) as (master, _):
        sentence = said(beam(master))
    assert f"beam.master={master} is Flink 1.17, for which Beam has no job server: use Flink 1.19, 1.20" in sentence


def test_java_is_missing(tools):
    os.remove(tools / "java")
    with flink() as (master, _):
        assert said(beam(master)).startswith("Java is missing, in which Beam's job server for Flink runs: install")


def test_a_job_server_that_is_not_there(tools):
    with flink() as (master, _):
        settings = beam(master, job_server=str(tools / "none.jar"))
        assert said(settings) == f"beam.job_server={tools / 'none.jar'}: there is no such file; correct the path."


def test_the_newest_job_server_of_a_version_is_taken(tools):
    assert job_server.path(beam("flink:8081"), "1.19") == str(tools / "flink-1.19-job-server-2.62.0.jar")
    mine = beam("flink:8081", job_server=str(tools / "flink-1.19-job-server-2.61.0.jar"))
    assert job_server.path(mine, "1.19") == str(tools / "flink-1.19-job-server-2.61.0.jar")


def test_no_pool_where_the_settings_say_one_is(tools, nobody):
    with flink() as (master, _):
        sentence = said(beam(master, workers=f"localhost:{nobody}"))
    assert sentence.startswith(f"No worker pool answers at beam.workers=localhost:{nobody} (connection refused)")


def test_a_spark_that_is_not_there(tools, nobody):
    master = f"spark://127.0.0.1:{nobody}"
    sentence = said(Beam(runner="SparkRunner", master=master))
    assert sentence.startswith(f"Spark does not answer at beam.master={master} (connection refused)")


@pytest.mark.parametrize(
    ("master", "here"),
    [
        ("localhost:8081", True),
        ("http://127.0.0.1:8081", True),
        ("spark://localhost:7077", True),
        ("spark://[::1]:7077", True),
        ("[local]", True),
        ("local[2]", True),
        (f"{socket.gethostname()}:8081", True),
        ("flink:8081", False),
        ("localhost.example.com:8081", False),
        ("10.0.0.7:8081", False),
        ("spark://spark:7077", False),
    ],
)
def test_which_masters_are_on_this_machine(master, here):
    assert address.here(master) == here


def test_the_job_servers_of_setup_are_found(monkeypatch, tmp_path):
    """environment.job_server makes them; two modules of different rooms agree on folder and names."""
    from environment import job_server as maker

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(job_server.FOLDER, raising=False)
    for name, engine in maker.ENGINES.items():
        made = tmp_path / "alexnet-pipeline" / "beam" / engine.jar.name
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(b"")
        assert list(job_server.known(name).values()) == [made]
        assert engine.jar.parent.parts[-2:] == made.parent.parts[-2:]
