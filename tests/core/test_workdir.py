"""The working directory: one run at a time, and finding earlier ones."""

import json
import subprocess
import sys

import pytest

from core.errors import UserError
from core.workdir import Workdir

HOLD = """
import sys
from core.workdir import Workdir
with Workdir(sys.argv[1]).lock("alexnet run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_and_told_who_holds_it(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        said = rf"in use by process {holder.pid} \(alexnet run, since \d\d:\d\d:\d\d\)"
        with pytest.raises(UserError, match=said), Workdir(tmp_path).lock("alexnet run"):
            pass
        holder.kill()
        holder.wait()
        with Workdir(tmp_path).lock("alexnet run"):
            pass


def test_runs_started_in_the_same_second_are_told_apart(tmp_path):
    workdir = Workdir(tmp_path)
    assert len({workdir.new_run() for _ in range(5)}) == 5


def put(workdir, run_id, **fields):
    folder = workdir.run(run_id)
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"run": run_id, **fields}))


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path):
    workdir = Workdir(tmp_path)
    put(workdir, "20260101-000000", evaluation={"accuracy": 0.5})
    put(workdir, "20260202-000000")
    assert workdir.find()["run"] == "20260202-000000"
    assert workdir.find(evaluated=True)["run"] == "20260101-000000"
    assert workdir.find("202601")["run"] == "20260101-000000"
    with pytest.raises(UserError, match="several runs match"):
        workdir.find("2026")
    with pytest.raises(UserError, match=r"no such finished run.*20260202-000000"):
        workdir.find("2025")


def test_without_runs_it_says_how_to_start_one(tmp_path):
    with pytest.raises(UserError, match="alexnet run"):
        Workdir(tmp_path / "none").find()


def test_a_working_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    blocked = Workdir(tmp_path / "file" / "work")
    with pytest.raises(UserError, match="cannot be used as working directory"), blocked.lock("x"):
        pass


def test_a_model_in_an_object_store_is_copied_once(s3, tmp_path):
    workdir = Workdir(tmp_path)
    for key in ("serving/1/saved_model.pb", "serving/1/variables/x", "serving/12/saved_model.pb"):
        s3.put_object(Bucket="bucket", Key=key, Body=key.encode())
    folder = workdir.model("s3://bucket/serving/1")
    assert (folder / "variables/x").read_text() == "serving/1/variables/x"
    s3.delete_object(Bucket="bucket", Key="serving/1/variables/x")
    assert workdir.model("s3://bucket/serving/1") == folder
    run = workdir.run(workdir.new_run())
    (run / "results.json").write_text(json.dumps({"run": run.name, "pushed": {"path": "s3://bucket/serving/1"}}))
    assert workdir.latest_push() == folder


def test_a_model_that_is_not_in_the_object_store_is_named(s3, tmp_path):
    with pytest.raises(UserError, match="no model at s3://bucket/serving/2"):
        Workdir(tmp_path).model("s3://bucket/serving/2")
    with pytest.raises(UserError, match="no bucket elsewhere"):
        Workdir(tmp_path).model("s3://elsewhere/serving/2")
    assert list(tmp_path.glob("models/*")) == []
