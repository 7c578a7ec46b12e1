"""The working directory: one run at a time, and finding earlier ones."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest
from run_data import class_row, ended, evaluated

from core.errors import UserError
from core.workdir import Unreadable, Workdir

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


def test_a_folder_of_runs_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="runs is no folder"):
        Workdir(tmp_path).new_run()


def put(workdir, run_id, number=None, origin=None, **fields):
    """A run that ended; with a number as since 0.2, with `origin` as in a directory that was there."""
    folder = workdir.run(run_id)
    folder.mkdir(parents=True)
    counted = {} if number is None else {"number": number}
    (folder / "request.json").write_text(json.dumps({"workdir": str(origin or workdir.path), **counted}))
    (folder / "results.json").write_text(json.dumps(ended(run_id, **counted, **fields)))
    return folder


def names(workdir):
    return [result["run"] for result in workdir.results()]


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path):
    workdir = Workdir(tmp_path)
    put(workdir, "20260101-000000", evaluation=evaluated())
    put(workdir, "20260202-000000")
    assert workdir.find()["run"] == "20260202-000000"
    assert workdir.find(evaluated=True)["run"] == "20260101-000000"
    assert workdir.find("202601")["run"] == "20260101-000000"
    with pytest.raises(UserError, match="several runs match"):
        workdir.find("2026")
    with pytest.raises(UserError, match=r"no such finished run.*20260202-000000"):
        workdir.find("2025")


def test_the_latest_run_is_the_one_that_was_started_last_whatever_the_clock_said(tmp_path):
    """The first in Tokyo, the second in Lisbon, the third after the end of summer time."""
    workdir = Workdir(tmp_path)
    put(workdir, "20261025-090000", number=1)
    put(workdir, "20261025-010500", number=2, evaluation=evaluated())
    put(workdir, "20261025-010200", number=3)
    assert names(workdir) == ["20261025-090000", "20261025-010500", "20261025-010200"]
    assert workdir.find()["run"] == "20261025-010200"
    assert workdir.find(evaluated=True)["run"] == "20261025-010500"
    assert workdir.next_number() == 4


def test_runs_from_before_they_were_numbered_come_first_by_name(tmp_path):
    workdir = Workdir(tmp_path)
    put(workdir, "20260101-000000", number=1)
    put(workdir, "20270101-000000")
    put(workdir, "20250101-000000")
    assert names(workdir) == ["20250101-000000", "20270101-000000", "20260101-000000"]


def test_a_run_that_has_not_ended_has_its_number_too(tmp_path):
    workdir = Workdir(tmp_path)
    (put(workdir, "20260101-000000", number=7) / "results.json").unlink()
    assert workdir.ended() == []
    assert workdir.next_number() == 8


def test_a_copy_of_a_run_is_a_run_of_its_own(tmp_path):
    workdir = Workdir(tmp_path)
    shutil.copytree(put(workdir, "20260101-000000", number=1), workdir.run("20260101-000000-kept"))
    put(workdir, "20260102-000000", number=2)
    assert names(workdir) == ["20260101-000000", "20260101-000000-kept", "20260102-000000"]
    assert workdir.find("20260101-000000")["run"] == "20260101-000000"


def cut(file):
    file.write_bytes(file.read_bytes()[:-20])


def as_folder(file):
    file.unlink()
    file.mkdir()


def write(content):
    return lambda file: file.write_bytes(content)


def change(**fields):
    return lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


DAMAGE = {
    "empty": (write(b""), "results.json is empty"),
    "cut": (cut, "results.json is cut off, or no JSON"),
    "zeroed": (write(bytes(500)), "is cut off, or no JSON"),
    "binary": (write(bytes(range(256))), "is cut off, or no JSON"),
    "deep": (write(b"[" * 100_000), "is cut off, or no JSON"),
    "list": (write(b"[]"), "holds no results"),
    "text": (write(b'"text"'), "holds no results"),
    "null": (write(b"null"), "holds no results"),
    "object": (write(b"{}"), "has another form (run: field required)"),
    "number": (change(name=5), "has another form (name:"),
    "nodes": (change(nodes=[]), "has another form (nodes:"),
    "evaluation": (change(evaluation={"accuracy": 1}), "has another form (evaluation.count: field required)"),
    "no class": (change(evaluation=evaluated(classes=[])), "has another form (evaluation.classes: list should have"),
    "NaN": (
        change(evaluation=evaluated(classes=[class_row(recall=float("nan"))])),
        "has another form (evaluation.classes.0.recall: input should be a finite number)",
    ),
    "class": (
        change(evaluation=evaluated(classes=[{"class_name": "cat", "count": 1, "recall": 1}])),
        "has another form (evaluation.classes.0.recall_interval: field required)",
    ),
    "infinite": (change(seconds=float("inf")), "has another form (seconds: input should be a finite number)"),
    "slices": (change(evaluation=evaluated(slices=[{"features": []}])), "has another form (evaluation.slices.0.rows"),
    "search": (change(tuning=[{"trial": 1}]), "has another form (tuning.0.accuracy: field required)"),
    "pushed": (change(pushed="serving/1"), "has another form (pushed:"),
    "folder": (as_folder, "cannot be read (Is a directory)"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_results_that_cannot_be_read_spoil_no_others(tmp_path, damage):
    workdir = Workdir(tmp_path)
    put(workdir, "20260101-000000", number=1)
    put(workdir, "20260102-000000", number=2)
    do, why = DAMAGE[damage]
    do(put(workdir, "20260103-000000", number=3) / "results.json")
    assert names(workdir) == ["20260101-000000", "20260102-000000"]
    assert workdir.find()["run"] == "20260102-000000"
    unreadable = workdir.ended()[-1]
    assert unreadable.run == "20260103-000000"
    assert why in unreadable.why
    with pytest.raises(
        UserError, match=r"^Run 20260103-000000 cannot be read: results.json .*remove this one's folder.$"
    ):
        workdir.find("20260103")
    assert workdir.next_number() == 4


def test_results_of_a_network_that_diverged_can_be_read(tmp_path):
    put(Workdir(tmp_path), "20260101-000000", evaluation=evaluated(loss=float("nan")))
    assert Workdir(tmp_path).find(evaluated=True)["run"] == "20260101-000000"


def test_results_that_may_not_be_read_are_told_apart_from_none(tmp_path, monkeypatch):
    workdir = Workdir(tmp_path)
    put(workdir, "20260101-000000")
    read = pathlib.Path.read_bytes

    def refuse(path):  # root may read everything
        if path.name == "results.json":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    file = workdir.run("20260101-000000") / "results.json"
    assert [one.why for one in workdir.ended()] == [f"{file} cannot be read (Permission denied)"]
    with pytest.raises(UserError, match="no finished run that can be read"):
        workdir.find()
    with pytest.raises(UserError, match="or correct its owner and permissions"):
        workdir.find("20260101")


def test_a_later_run_that_cannot_be_read_is_told_of(tmp_path):
    workdir, told = Workdir(tmp_path), []
    for number in (1, 3):
        put(workdir, f"2026010{number}-000000", number=number, pushed={"path": str(version(workdir, number))})
    write(b"")(put(workdir, "20260102-000000", number=2) / "results.json")
    workdir.find(tell=told.append)
    workdir.latest_push(told.append)
    assert told == []
    write(b"")(workdir.run("20260103-000000") / "results.json")
    write(b"")(workdir.run("20260103-000000") / "request.json")
    workdir.find(tell=told.append)
    workdir.latest_push(told.append)
    said = "Run 20260103-000000 and 1 more were passed over: results.json is empty; this is run 20260101-000000."
    assert told == [said, said]


def test_a_run_that_was_not_evaluated_is_not_said_to_be_missing(tmp_path):
    workdir = Workdir(tmp_path)
    put(workdir, "20260101-000000", evaluation=evaluated())
    put(workdir, "20260102-000000")
    with pytest.raises(UserError, match=r"20260102-000000 was not evaluated.*the latest are 20260101-000000"):
        workdir.find("20260102", evaluated=True)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"workdir": 5, "number": "x"}', b"\xff"])
def test_a_broken_request_takes_nothing_from_the_results(tmp_path, content):
    workdir = Workdir(tmp_path)
    folder = put(workdir, "20260101-000000", number=5)
    (folder / "request.json").write_bytes(content)
    assert names(workdir) == ["20260101-000000"]
    assert workdir.next_number() == 6
    (folder / "results.json").write_text("")
    assert isinstance(workdir.ended()[0], Unreadable)


def test_what_is_no_run_is_passed_over(tmp_path):
    workdir = Workdir(tmp_path)
    put(workdir, "20260101-000000")
    (workdir.runs / "notes.txt").write_text("")
    (workdir.runs / ".hidden").mkdir()
    (workdir.runs / ".hidden/results.json").write_text("")
    (workdir.runs / "gone").symlink_to(tmp_path / "nowhere")
    assert len(workdir.ended()) == 1


PATHS = {
    "model": "artifacts/pets/Trainer/model/7/Format-Serving",
    "tensorboard": "artifacts/pets/Trainer/model_run/7",
    "report": "artifacts/pets/EvaluationReport/report/9",
    "evaluation": evaluated(path="artifacts/pets/Evaluator/evaluation/8"),
    "pushed": {"path": "serving/pets/1", "version": "1"},
    "lineage": [{"name": "model", "uri": "artifacts/pets/Trainer/model/7"}],
}


def test_recorded_paths_are_relative_and_read_ones_absolute(tmp_path):
    workdir = Workdir(tmp_path / "work")
    put(workdir, "20260101-000000", **PATHS)
    found = workdir.find()
    for part, key in ((found, "model"), (found, "tensorboard"), (found, "report"), (found["evaluation"], "path")):
        assert part[key].startswith(f"{workdir.path}/artifacts/pets/")
    assert found["pushed"] == {"path": f"{workdir.path}/serving/pets/1", "version": "1"}
    assert found["lineage"][0]["uri"] == f"{workdir.path}/artifacts/pets/Trainer/model/7"
    recorded = workdir.with_relative_paths(found)
    assert {key: recorded[key] for key in PATHS} == PATHS


@pytest.mark.parametrize("path", ["/elsewhere/serving/1", "s3://bucket/serving/1", "/work-2/serving/1"])
def test_paths_outside_stay_as_they_are(tmp_path, path):
    workdir = Workdir(tmp_path / "work")
    put(workdir, "20260101-000000", origin="/work", pushed={"path": path})
    assert workdir.find()["pushed"]["path"] == path
    assert workdir.with_relative_paths({"pushed": {"path": path}}) == {"pushed": {"path": path}}


@pytest.mark.parametrize("request_is_there", [True, False])
def test_results_of_a_directory_that_was_elsewhere_lead_into_this_one(tmp_path, request_is_there):
    """As earlier versions wrote them: absolute, and the original is still there when a copy is read."""
    original, copy = Workdir(tmp_path / "original"), Workdir(tmp_path / "copy")
    pushed = original.path / "serving/pets/1"
    pushed.mkdir(parents=True)
    (pushed / "saved_model.pb").write_text("first")
    path = "artifacts/pets/Evaluator/evaluation/8"
    part = evaluated(path=f"{original.path}/{path}")
    folder = put(original, "20260101-000000", pushed={"path": str(pushed)}, evaluation=part)
    if not request_is_there:
        (folder / "request.json").unlink()
    shutil.copytree(original.path, copy.path)
    (pushed / "saved_model.pb").write_text("changed")
    assert (copy.latest_push() / "saved_model.pb").read_text() == "first"
    assert copy.find()["evaluation"]["path"] == f"{copy.path}/{path}"
    shutil.rmtree(original.path)
    assert copy.latest_push() == copy.path / "serving/pets/1"


def version(workdir, number, name="pets"):
    folder = workdir.serving(name) / str(number)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text("")
    return folder


def test_the_model_of_the_latest_push_that_is_still_there_is_taken_and_told_of(tmp_path):
    workdir, told = Workdir(tmp_path), []
    for number in (1, 2, 3):
        put(workdir, f"2026010{number}-000000", number=number, pushed={"path": str(version(workdir, number))})
    put(workdir, "20260104-000000", number=4, pushed=None)
    assert workdir.latest_push(told.append) == workdir.serving("pets") / "3"
    assert told == []
    shutil.rmtree(workdir.serving("pets") / "3")
    (workdir.serving("pets") / "2/saved_model.pb").unlink()
    assert workdir.latest_push(told.append) == workdir.serving("pets") / "1"
    assert told == [
        f"The model pushed last is no longer in {tmp_path}/serving/pets/3; this is {tmp_path}/serving/pets/1."
    ]
    shutil.rmtree(workdir.serving("pets"))
    with pytest.raises(UserError, match=r"pushed last is no longer in .*/serving/pets/3"):
        workdir.latest_push()


def test_without_results_the_newest_version_in_serving_is_taken_and_told_of(tmp_path):
    workdir, told = Workdir(tmp_path), []
    for number, name in ((9, "pets"), (10, "birds"), (8, "pets")):
        version(workdir, number, name)
    (workdir.serving("pets") / ".incoming-11").mkdir()
    shutil.copytree(workdir.serving("pets") / "9", workdir.serving("pets") / "²")  # a digit, but no number
    assert workdir.latest_push(told.append) == workdir.serving("birds") / "10"
    assert told == [f"No run tells of a pushed model that is still there; this is {tmp_path}/serving/birds/10."]


def test_without_runs_it_says_how_to_start_one(tmp_path):
    with pytest.raises(UserError, match="alexnet run"):
        Workdir(tmp_path / "none").find()


def test_a_working_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file is a file; name a folder"):
        Workdir(tmp_path / "file" / "work")


def test_a_model_in_an_object_store_is_copied_once(s3, tmp_path):
    workdir = Workdir(tmp_path)
    for key in ("serving/1/saved_model.pb", "serving/1/variables/x", "serving/12/saved_model.pb"):
        s3.put_object(Bucket="bucket", Key=key, Body=key.encode())
    folder = workdir.model("s3://bucket/serving/1")
    assert (folder / "variables/x").read_text() == "serving/1/variables/x"
    s3.delete_object(Bucket="bucket", Key="serving/1/variables/x")
    assert workdir.model("s3://bucket/serving/1") == folder
    put(workdir, "20260101-000000", pushed={"path": "s3://bucket/serving/1"})
    assert workdir.latest_push() == folder


def test_a_model_that_is_not_in_the_object_store_is_named(s3, tmp_path):
    with pytest.raises(UserError, match="no model at s3://bucket/serving/2"):
        Workdir(tmp_path).model("s3://bucket/serving/2")
    with pytest.raises(UserError, match="no bucket elsewhere"):
        Workdir(tmp_path).model("s3://elsewhere/serving/2")
    s3.put_object(Bucket="bucket", Key="serving/17/saved_model.pb", Body=b"graph")
    with pytest.raises(UserError, match=r"no model at s3://bucket/serving/; s3://bucket/serving/17 is one\."):
        Workdir(tmp_path).model("s3://bucket/serving/")
    assert list(tmp_path.glob("models/*")) == []
