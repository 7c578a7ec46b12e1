"""Decisions on the command line: what serves, whose run it was, what report and results say."""

import csv
import io
import json
import pathlib

import pytest
from run_data import examples, predict, write_run

from components import decisions, pushing
from core.workdir import Workdir
from pipeline import cli, decided
from review.report import build, schema

BASELINE = {"accuracy": 0.99, "recalls": {}}


@pytest.fixture(autouse=True)
def without_probe(monkeypatch):
    """These models are no real ones; `test_decided_run` has real ones."""
    monkeypatch.setattr(decided, "ensure_serves", lambda model: None)
    monkeypatch.setenv("ALEXNET_USER", "ann@here")


@pytest.fixture
def workdir(tmp_path):
    """Two runs that pushed, one that waits, one that failed its gates; the models are files without meaning."""
    place = Workdir(tmp_path / "work")
    table = predict(examples(), 0.9)
    base = str(place.serving("pets"))
    for number, state in enumerate(("pushed", "pushed", "waiting", "not pushed"), 1):
        run = f"2026010{number}-000000"
        options = {"baseline": BASELINE} if state == "not pushed" else {}
        found = write_run(place, run, table, state=state, **options)
        model = place.artifacts("pets") / "Trainer" / "model" / str(number) / "Format-Serving"
        model.mkdir(parents=True)
        (model / "saved_model.pb").write_text(run)
        place.run(run).joinpath("settings.yaml").write_text("{}")
        found |= {"number": number, "model": str(model), "pushed": None}
        record = pushing.record_of(str(model), pushing.Facts.of(run, "pets", found["evaluation"]))
        with decisions.turn(base):
            if state == "pushed":
                entry = {"kind": decisions.PUSHED, "by": "nightly", "reason": ""}
                path, version = decisions.decide(str(model), base, record, None, entry)
                found["pushed"] = {"path": path, "version": version}
            if state == "waiting":
                found["waiting"] = {"path": decisions.wait(str(model), base, record, None)}
        (place.run(run) / "results.json").write_text(json.dumps(place.with_relative_paths(found)))
    return place


def alexnet(capsys, workdir, *arguments, code=0):
    """What a command said."""
    try:
        cli.main([*arguments, "--workdir", str(workdir.path)], standalone_mode=False)
        ended = 0
    except SystemExit as end:
        ended = end.code
    said = capsys.readouterr()
    assert ended == code, said.err
    return said.out if not code else said.err


def report_of(workdir, run):
    return schema.Report.model_validate_json((workdir.run(run) / build.REPORT).read_bytes())


def models(capsys, workdir, *arguments):
    return json.loads(alexnet(capsys, workdir, "models", "--json", *arguments))["models"]


def test_models_lists_what_serves_and_what_waits(workdir, capsys):
    told = models(capsys, workdir)
    assert [(one["state"], one["run"], one["by"]) for one in told] == [
        ("waiting", "20260103-000000", ""),
        ("serves", "20260102-000000", "nightly"),
        ("earlier", "20260101-000000", "nightly"),
    ]
    part = workdir.find("20260102")["evaluation"]
    assert {told[1]["accuracy"]} == {part["accuracy"]}
    assert told[1]["worst_class"] == part["classes"][0]["class_name"]
    shown = alexnet(capsys, workdir, "models")
    assert "● serves" in shown
    assert "alexnet approve 20260103-000000 --note WHY" in shown
    rows = list(csv.DictReader(io.StringIO(alexnet(capsys, workdir, "models", "--format", "csv"))))
    assert [row["version"] for row in rows] == [one["version"] for one in told]
    assert "pushed as" in alexnet(capsys, workdir, "models", "--log")


def test_models_of_an_empty_working_directory(tmp_path, capsys):
    said = alexnet(capsys, Workdir(tmp_path), "models", code=2)
    assert "holds no finished run yet" in said
    assert "--name birds: no run in" in alexnet(capsys, Workdir(tmp_path), "models", "--name", "birds", code=2)


def test_an_approval_is_told_everywhere(workdir, capsys):
    said = alexnet(capsys, workdir, "approve", "20260103", "--note", "looks  fine")
    version = models(capsys, workdir)[0]["version"]
    assert said.splitlines() == [
        "Run 20260103-000000 approved by ann@here: looks fine",
        f"Its model serves as version {version} in {workdir.serving('pets')}.",
    ]
    found = workdir.find("20260103")
    assert (found["state"], found["pushed"]["version"]) == ("pushed", version)
    assert workdir.latest_push() == workdir.serving("pets") / version
    report = report_of(workdir, "20260103-000000")
    assert report.verdict == schema.Verdict(state="pushed", sentence="pushed: approved by ann@here: looks fine")
    (made,) = report.decisions
    assert (made.kind, made.by, made.reason, made.version) == ("approved", "ann@here", "looks fine", version)
    for name in (build.CARD, build.PAGE):
        assert "Approved by ann@here" in (workdir.run("20260103-000000") / name).read_text()
    assert "approved by ann@here: looks fine" in alexnet(capsys, workdir, "runs")
    assert "Run 20260103-000000 was already approved by ann@here" in (
        alexnet(capsys, workdir, "approve", "20260103", "--note", "x")
    )


def test_a_rejection_is_told_everywhere(workdir, capsys):
    alexnet(capsys, workdir, "reject", "20260103", "--note", "cats look odd", "--by", "bob")
    assert [one["state"] for one in models(capsys, workdir)] == ["serves", "earlier"]
    found = workdir.find("20260103")
    assert (found["state"], found["pushed"]) == ("not pushed", None)
    assert report_of(workdir, "20260103-000000").verdict.sentence == "not pushed: rejected by bob: cats look odd"
    said = alexnet(capsys, workdir, "approve", "20260103", "--note", "x", code=2)
    assert "does not wait: it was rejected by bob" in said


def test_a_rollback_is_told_and_taken_by_predict(workdir, capsys):
    first = models(capsys, workdir)[2]["version"]
    alexnet(capsys, workdir, "rollback", "--reason", "too many dogs")
    newest = models(capsys, workdir)[1]
    assert (newest["state"], newest["run"], newest["of"]) == ("serves", "20260101-000000", first)
    assert workdir.latest_push() == workdir.serving("pets") / newest["version"]
    sentences = [report_of(workdir, f"2026010{number}-000000").verdict.sentence for number in (1, 2)]
    assert sentences == [
        "pushed, and taken up again by a rollback by ann@here: too many dogs",
        "pushed, and rolled back by ann@here: too many dogs",
    ]
    told = alexnet(capsys, workdir, "models", "--log").splitlines()[0]
    assert "rolled back from" in told
    assert "too many dogs" in told


def test_a_model_that_failed_its_gates_is_marked_in_report_and_card(workdir, capsys):
    said = alexnet(capsys, workdir, "push", "20260104", "--reason", "the demo", code=2)
    assert "Against run 20260104-000000 stands: accuracy" in said
    assert said.rstrip().endswith("--against 'accuracy'")
    alexnet(capsys, workdir, "push", "20260104", "--reason", "the demo", "--against", "accuracy")
    (_, newest, *_) = models(capsys, workdir)
    assert (newest["state"], newest["kind"], newest["against"]) == ("serves", "pushed by hand", ["accuracy"])
    folder = workdir.run("20260104-000000")
    for name in (build.CARD, build.PAGE):
        assert "Pushed by hand against accuracy by ann@here" in (folder / name).read_text()
    assert "pushed by hand against accuracy by ann@here: the demo" in alexnet(capsys, workdir, "runs")
    assert pushing.read(newest["path"])["against"] == ["accuracy"]
    assert json.loads(pathlib.Path(newest["path"], pushing.RECORD).read_text())["decision"]["by"] == "ann@here"


def test_the_model_of_a_run_may_be_gone(workdir, capsys):
    model = pathlib.Path(workdir.find("20260104")["model"])
    (model / "saved_model.pb").unlink()
    said = alexnet(capsys, workdir, "push", "20260104", "--reason", "x", "--against", "accuracy", code=2)
    assert f"is no longer in {model}: run it again" in said


def test_a_reason_is_needed(workdir, capsys):
    assert "--reason is empty: say why" in alexnet(capsys, workdir, "rollback", "--reason", "  ", code=2)
    assert "Missing option '--note'" in alexnet(capsys, workdir, "approve", "20260103", code=2)
    assert "there is no such finished run" in alexnet(capsys, workdir, "reject", "x", "--note", "y", code=2)


def test_a_folder_can_be_named_without_a_run(workdir, tmp_path, capsys):
    elsewhere, base = Workdir(tmp_path / "elsewhere"), workdir.serving("pets")
    assert [one["state"] for one in models(capsys, elsewhere, "--destination", str(base))][:2] == [
        "waiting",
        "serves",
    ]
    alexnet(capsys, elsewhere, "approve", "20260103", "--note", "x", "--destination", str(base))
    alexnet(capsys, elsewhere, "rollback", "--reason", "x", "--destination", str(base))
    said = alexnet(capsys, elsewhere, "rollback", "--reason", "x", "--destination", str(base / "none"), code=2)
    assert "there is no such folder" in said
    # The next look from here puts it into the reports.
    assert workdir.find("20260103")["state"] == "waiting"
    models(capsys, workdir)
    assert workdir.find("20260103")["state"] == "pushed"
    assert report_of(workdir, "20260103-000000").verdict.sentence.startswith("pushed, and rolled back by ann@here")


def test_what_a_killed_command_did_not_tell_the_next_one_tells(workdir, capsys, monkeypatch):
    def killed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr("review.run_report._write", killed)
        alexnet(capsys, workdir, "approve", "20260103", "--note", "x", code=130)
    assert not (workdir.run("20260103-000000") / build.REPORT).exists()
    models(capsys, workdir)
    assert report_of(workdir, "20260103-000000").decisions[0].kind == "approved"
    assert workdir.find("20260103")["state"] == "pushed"


def test_a_damaged_report_does_not_hinder_a_decision(workdir, capsys):
    folder = workdir.run("20260103-000000")
    (folder / build.REPORT).write_text("{}")
    (folder / build.PICTURES).write_bytes(b"no zip")
    alexnet(capsys, workdir, "approve", "20260103", "--note", "x")
    assert workdir.find("20260103")["state"] == "pushed"
