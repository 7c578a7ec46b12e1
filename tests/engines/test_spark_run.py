"""The whole pipeline on a real Spark of two workers, one of which dies in between; CI leaves it out."""

import engine_runs
import pytest

from benchmarks import clusters

pytestmark = pytest.mark.slow


def kill_one_that_works(spark):
    """Kills a worker that has an executor; false if none has."""
    places = {f"127.0.0.1:{port}": number for number, port in enumerate(spark.ports, 1)}
    for worker in spark.ask()["workers"]:
        if worker["coresused"]:
            spark.kill(places[f"{worker['host']}:{worker['port']}"])
            return True
    return False


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What a run on Spark made that lost a worker, beside what this process makes."""
    engine_runs.need("spark")
    folder = tmp_path_factory.mktemp("spark")
    with clusters.Spark(folder / "spark") as spark:
        changes = ["beam.runner=SparkRunner", f"beam.master={spark.master}"]
        code, said = engine_runs.run_and_disturb(
            folder / "work", changes, "Transform", lambda: kill_one_that_works(spark)
        )
        return engine_runs.make(folder, changes), code, said


def test_nothing_is_said_of_a_lost_worker(made):
    """Spark does its work again on the other one."""
    _, code, said = made
    assert code == 0, said


@pytest.mark.parametrize("compare", engine_runs.COMPARISONS)
def test_what_spark_makes_is_what_this_process_makes(made, compare):
    compare(made[0])
