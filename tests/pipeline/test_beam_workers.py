"""The nodes on Beam with a job server and a pool of workers in processes of their own, as Flink and Spark have them.

Both are Beam's own here, on the loopback; what is sent over the wire is the same.
"""

import os
import pathlib
import subprocess
import sys

import beam_jobs
import image_data
import pytest
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.worker import worker_pool_main

from core.workdir import Workdir

BEAM_NODES = 4


@pytest.fixture
def jobs(tmp_path):
    with beam_jobs.job_server(tmp_path / "staging") as server:
        yield server


@pytest.fixture
def workers(monkeypatch):
    """The pool's address. It starts `python` from the PATH."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]))
    address, server = worker_pool_main.BeamFnExternalWorkerPoolServicer.start(use_process=True)
    yield address
    server.stop(grace=None)


@pytest.mark.slow
def test_a_run_whose_beam_nodes_have_workers_elsewhere(jobs, workers, tmp_path):
    options = [
        f"--job_endpoint=localhost:{jobs.port}",
        "--environment_type=EXTERNAL",
        f"--environment_config={workers}",
        "--sdk_container_image=unused",
    ]
    changes = [*image_data.SMALL, "training.epochs=1", "beam.runner=PortableRunner", f"beam.pipeline_args={options}"]
    command = [str(pathlib.Path(sys.executable).with_name("alexnet")), "run", "--data", "shapes10/small"]
    command += ["--workdir", str(tmp_path / "work"), *(word for change in changes for word in ("--set", change))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Workdir(tmp_path / "work").latest_push().is_dir()
    found = jobs.GetJobs(beam_job_api_pb2.GetJobsRequest()).job_info
    assert [job.state for job in found] == [beam_job_api_pb2.JobState.DONE] * BEAM_NODES
