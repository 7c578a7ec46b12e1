"""The whole pipeline on a real Flink of two TaskManagers, one of which dies in between."""

import engine_runs
import pytest

from benchmarks import clusters
from core import exit_codes
from engines.flink import FAST, NEEDED

pytestmark = pytest.mark.slow


def kill_one_that_works(flink):
    """Kills a TaskManager that works on a job of which a third is done; false if there is none yet."""
    for job in flink.ask("jobs/overview")["jobs"]:
        if job["state"] != "RUNNING" or 3 * job["tasks"]["finished"] < job["tasks"]["total"]:
            continue
        for vertex in flink.ask(f"jobs/{job['jid']}")["vertices"]:
            places = flink.ask(f"jobs/{job['jid']}/vertices/{vertex['id']}/taskmanagers")["taskmanagers"]
            for place in places:
                if place["status"] == "RUNNING":
                    flink.kill(int(place["taskmanager-id"].rpartition("-")[2]))
                    return True
    return False


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What a run on Flink made that was repeated after it had lost a TaskManager, beside what this process makes."""
    engine_runs.need("flink")
    folder = tmp_path_factory.mktemp("flink")
    with clusters.Flink(folder / "flink", options=NEEDED | FAST) as flink:
        changes = ["beam.runner=FlinkRunner", f"beam.master={flink.master}"]
        code, said = engine_runs.run_and_disturb(
            folder / "work", changes, "Transform", lambda: kill_one_that_works(flink)
        )
        flink.start_task_manager()
        flink.wait(2)
        made = engine_runs.make(folder, changes)
    return made, code, said


def test_a_lost_task_manager_is_told_in_a_sentence(made):
    _, code, said = made
    assert code == exit_codes.USER_ERROR
    assert "has lost one of its TaskManagers" in said
    assert "Traceback" not in said


def test_the_run_that_follows_goes_on(made):
    states = {name: node["state"] for name, node in made[0].engine["nodes"].items()}
    assert states["ImageExampleGen"] == states["StatisticsGen"] == "cached"
    assert states["Transform"] == states["Evaluator"] == "done"


@pytest.mark.parametrize("compare", engine_runs.COMPARISONS)
def test_what_flink_makes_is_what_this_process_makes(made, compare):
    compare(made[0])
