"""A node in a process of its own: its folder beside the engine's workers, and what others have left there.

With a real cluster it is tried in tests/pipeline/test_kubeflow_flink.py.
"""

import contextlib
import re
import time

import pytest
from flink_rest import flink, job

from core.errors import UserError
from core.settings import Beam
from engines import jobs, node

TASK = "minio://mlpipeline/v2/artifacts/alexnet/run-1/Transform/an-id"


def left(place, name, age, master=None):
    """A folder as a task has it, with files of its own, that was in use until some seconds ago."""
    folder = place / name
    (folder / "tmp").mkdir(parents=True)
    if master:
        jobs.mark(Beam(runner="FlinkRunner", master=master), folder)
    (folder / node.UNTIL).write_text(str(time.time() - age))
    return folder


def test_without_a_runner_there_are_options_alone():
    told = {"runner": None, "master": None, "workers": None, "arguments": ["--direct_num_workers=2"]}
    with node.options(TASK, told) as found:
        assert found == ("", ["--direct_num_workers=2"])


def test_what_can_no_longer_be_in_use_is_removed_with_its_job(tmp_path):
    running = job(1, f"{jobs.name(tmp_path / 'old')}-run-1-Transform")
    with flink(running) as (master, _):
        left(tmp_path, "old", 1, master)
        used = left(tmp_path, "used", -1000, master)  # maybe by another pipeline, whose nodes may run for longer
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        node.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == [foreign, used]
    assert running["state"] == "CANCELED"


def test_what_a_job_may_still_write_into_stays_until_flink_answers(tmp_path, capsys):
    with flink() as (master, _):
        pass
    old = left(tmp_path, "old", 1, master)
    node.sweep(tmp_path)
    assert (old / "tmp").is_dir()
    assert "does not answer" in capsys.readouterr().err


def test_there_need_not_be_a_folder_yet(tmp_path):
    node.sweep(tmp_path / "beam")


def test_a_cluster_that_is_not_there_is_named_as_the_settings_do(tmp_path):
    told = {"runner": "FlinkRunner", "workers": None, "arguments": [], "folder": str(tmp_path), "kept": 4000}
    with flink() as (master, _):
        pass
    refused = pytest.raises(UserError, match=re.escape(f"does not answer at kubeflow.beam_master={master}"))
    with refused, node.options(TASK, told | {"master": master}):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("free", "waits"), [(0, True), (1, False)])
def test_a_node_waits_while_no_slot_is_free(monkeypatch, capsys, free, waits):
    class Waits(Exception):
        pass

    def sleep(seconds):
        raise Waits

    monkeypatch.setattr(node.time, "sleep", sleep)
    expected = pytest.raises(Waits) if waits else contextlib.nullcontext()
    with flink(**{"slots-available": free}) as (master, _), expected:
        node._await_slot(Beam(runner="FlinkRunner", master=master))
    assert ("waits for one of 2 slots of Flink" in capsys.readouterr().err) == waits
