"""`alexnet run` that ends while its job runs on a real Flink: the job is cancelled, at once or by the next run."""

import contextlib
import os
import signal
import subprocess

import engine_runs
import psutil
import pytest

from benchmarks import clusters
from core import exit_codes
from engines import jobs
from engines.flink import FAST, NEEDED, Rest

pytestmark = pytest.mark.slow
FIRST = ("--to", "ImageExampleGen")


@pytest.fixture(scope="module")
def flink(tmp_path_factory):
    engine_runs.need("flink")
    with clusters.Flink(tmp_path_factory.mktemp("flink"), task_managers=1, options=NEEDED | FAST) as flink:
        yield flink


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_no_job_outlives_its_run(flink, tmp_path, number):
    changes = ["beam.runner=FlinkRunner", f"beam.master={flink.master}"]
    command = engine_runs.command(tmp_path / "work", changes, *FIRST)
    rest, prefix = Rest(flink.master), jobs.name(tmp_path / "work")
    with (tmp_path / "said").open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        while not rest.running(prefix):
            assert process.poll() is None, (tmp_path / "said").read_text()
        started = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, number)
        code = process.wait()
    psutil.wait_procs(started, 30)  # also of the process that was killed, which they watch
    assert not [each for each in started if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    if number == signal.SIGKILL:
        assert (tmp_path / "work" / jobs.MARK).exists()
    else:
        assert code == exit_codes.INTERRUPTED
        assert not rest.running(prefix)
        assert not (tmp_path / "work" / jobs.MARK).exists()
    engine_runs.run(tmp_path / "work", changes, *FIRST)  # has the only slot
    assert not rest.running(prefix)
    with contextlib.suppress(FileNotFoundError):
        assert not list((tmp_path / "work" / "tmp").iterdir())
