"""Jobs of a working directory: found by their names, cancelled, waited for."""

import pytest
from flink_rest import flink, job

from core.settings import Beam
from engines import jobs
from engines.flink import Rest


def test_the_jobs_of_one_directory_are_cancelled_and_no_others(tmp_path):
    ours = job(1, f"{jobs.name(tmp_path)}-20260131-235959-Transform")
    done = job(2, f"{jobs.name(tmp_path)}-20260131-235959-StatisticsGen", "FINISHED")
    other = job(3, f"{jobs.name(tmp_path / 'other')}-20260131-235959-Transform")
    with flink(ours, done, other) as (master, changed):
        jobs.mark(Beam(runner="FlinkRunner", master=master), tmp_path)
        assert jobs.end_all(tmp_path) == []
    assert changed == [f"/v1/jobs/{ours['jid']}?mode=cancel"]
    assert [each["state"] for each in (ours, done, other)] == ["CANCELED", "FINISHED", "RUNNING"]
    assert not (tmp_path / jobs.MARK).exists()


def test_a_cluster_that_does_not_answer_may_still_run_one(tmp_path):
    with flink() as (master, _):
        pass
    jobs.mark(Beam(runner="FlinkRunner", master=master), tmp_path)
    (sentence,) = jobs.end_all(tmp_path)
    assert sentence.startswith(
        f"A job of an earlier run may still write into {tmp_path}, and Flink at {master} does not"
    )
    assert f"or remove {tmp_path / jobs.MARK} if it is gone for good." in sentence
    assert (tmp_path / jobs.MARK).exists()


def test_a_job_that_does_not_end_is_named(tmp_path):
    with flink(job(1, "alexnet-a"), unending=True) as (master, changed):
        assert Rest(master).cancel("alexnet-", seconds=0) == ["alexnet-a"]
    assert len(changed) == 1


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"master": '])
def test_a_mark_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / jobs.MARK).write_text(content)
    assert jobs.end_all(tmp_path) == [
        f"{tmp_path / jobs.MARK} cannot be read: remove it once no job of an earlier run is left on the engine."
    ]


def test_nothing_is_marked_where_jobs_end_with_their_job_server(tmp_path):
    for beam in (Beam(), Beam(runner="SparkRunner", master="spark://spark:7077")):
        jobs.mark(beam, tmp_path)
    jobs.mark(Beam(runner="FlinkRunner", master="[local]"), tmp_path)
    assert not list(tmp_path.iterdir())
    assert jobs.end_all(tmp_path) == []


def test_the_cause_is_that_of_the_last_failure(tmp_path):
    beam = Beam(runner="FlinkRunner", master="flink:8081")
    failed = [job(number, f"{jobs.name(tmp_path)}-run-Node{number}", "FAILED") for number in (1, 2)]
    causes = {f"jobs/{each['jid']}/exceptions": {"root-exception": each["name"]} for each in failed}
    with flink(*failed, job(3, "another", "FAILED"), answers=causes) as (master, _):
        beam = beam.model_copy(update={"master": master})
        assert jobs.failure(beam, tmp_path, "run") == failed[1]["name"]
        assert jobs.failure(beam, tmp_path, "no-run") == ""
    assert jobs.failure(beam, tmp_path, "run").startswith("Flink does not answer: ")
