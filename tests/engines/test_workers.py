"""The pool of workers, asked by Beam's own job server for what Flink and Spark ask it for."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading

import apache_beam as beam
import beam_jobs
import psutil
import pytest

from engines import workers


@pytest.fixture
def jobs(tmp_path):
    with beam_jobs.job_server(tmp_path / "staging") as server:
        yield server


@pytest.fixture(scope="module")
def pool():
    server, address = workers.serve("127.0.0.1:0", preloaded=())
    yield address
    server.stop(grace=None)


def options(jobs, pool, folder):
    place = {"url": pool, "params": {workers.FOLDER: str(folder)}}
    return [
        "--runner=PortableRunner",
        f"--job_endpoint=127.0.0.1:{jobs.port}",
        "--environment_type=EXTERNAL",
        f"--environment_config={json.dumps(place)}",
        "--sdk_container_image=unused",
    ]


def test_workers_are_processes_of_their_own_in_the_folder_of_the_run(jobs, pool, tmp_path):
    with beam.Pipeline(argv=options(jobs, pool, tmp_path)) as pipeline:
        _ = (
            pipeline
            | beam.Create([0])
            | beam.Map(lambda _: f"{os.getpid()} {os.getcwd()}")
            | beam.io.WriteToText("said", shard_name_template="")
        )
    process, folder = (tmp_path / "said").read_text().split()
    assert folder == str(tmp_path)
    assert int(process) != os.getpid()


def test_a_job_that_ends_leaves_the_workers_of_another_alone(jobs, pool, tmp_path):
    """Both have workers of the same ids, as two jobs on Flink may."""
    begun, go_on = tmp_path / "begun", tmp_path / "go_on"
    os.mkfifo(begun)
    os.mkfifo(go_on)

    def wait(_):
        begun.write_text("x")  # both wait for the other side
        return go_on.read_text()

    def first():
        with beam.Pipeline(argv=options(jobs, pool, tmp_path)) as pipeline:
            written = pipeline | beam.Create([0]) | beam.Map(wait)
            _ = written | beam.io.WriteToText("first", shard_name_template="")

    waiting = threading.Thread(target=first)
    waiting.start()
    assert begun.read_text() == "x"
    with beam.Pipeline(argv=options(jobs, pool, tmp_path)) as pipeline:
        _ = pipeline | beam.Create(["done"]) | beam.io.WriteToText("second", shard_name_template="")
    assert (tmp_path / "second").read_text() == "done\n"
    go_on.write_text("went on")
    waiting.join()
    assert (tmp_path / "first").read_text() == "went on\n"


def test_a_folder_that_is_not_there_is_named(jobs, pool, tmp_path):
    with pytest.raises(Exception, match=rf"has no folder {tmp_path}/none: mount the working directory there, too\."):  # noqa: SIM117
        with beam.Pipeline(argv=options(jobs, pool, tmp_path / "none")) as pipeline:
            _ = pipeline | beam.Create([0])


def test_a_temporary_folder_too_deep_for_a_socket_does_no_harm(jobs, tmp_path):
    """The run's own, which lies in its working directory: a Unix socket's path holds some hundred bytes."""
    deep = tmp_path.joinpath(*["folder" * 5] * 3)
    deep.mkdir(parents=True)
    command = [sys.executable, "-m", "engines.workers", "--port", "0"]
    root = pathlib.Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ | {"TMPDIR": str(deep)}
    ) as pool:
        try:
            with beam.Pipeline(argv=options(jobs, pool.stdout.readline().strip(), tmp_path)) as pipeline:
                _ = (
                    pipeline
                    | beam.Create([0])
                    | beam.Map(lambda _: tempfile.gettempdir())
                    | beam.io.WriteToText(str(tmp_path / "said"), shard_name_template="")
                )
            sockets = {each.laddr for each in psutil.Process(pool.pid).net_connections("unix") if each.laddr}
        finally:
            pool.terminate()
    assert (tmp_path / "said").read_text().strip() == str(deep)
    assert not [place for place in sockets if os.path.exists(place)]


def test_a_port_in_use_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "engines.workers", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[2])
    assert done.returncode == 1
    assert f"engines.workers: 127.0.0.1:{port} cannot be listened at" in done.stderr
    assert "Traceback" not in done.stderr
