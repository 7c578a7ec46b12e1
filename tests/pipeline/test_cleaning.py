"""`alexnet clean`: what goes, what stays, and what is true whatever ends it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
from command_line import ALEXNET, alexnet, sets
from ledger import Ledger, open_store

from core import settings
from core.errors import UserError
from core.workdir import Workdir
from pipeline import cleaning, inventory

EVERYTHING = {
    "ImageExampleGen.examples", "StatisticsGen.statistics", "DataCheck.distribution",
    "Transform.transformed_examples",
    "Trainer.model", "Trainer.model_run", "Evaluator.evaluation", "Evaluator.blessing", "EvaluationReport.report",
    "Pusher.pushed_model",
}  # fmt: skip
OF_A_PUSH = {"Trainer.model", "Evaluator.blessing", "Pusher.pushed_model"}
STEPS = pathlib.Path(__file__).parents[1] / "support" / "clean_steps.py"


@pytest.fixture
def ledger(tmp_path):
    return Ledger(Workdir(tmp_path / "work"))


def clean(ledger, keep=1, before=None):
    made = cleaning.plan(ledger.workdir, keep, before)
    cleaning.remove(ledger.workdir, made)
    return made


def withdraw(ledger, run):
    """Removes the version that a run pushed, as retention does."""
    shutil.rmtree(ledger.workdir.absolute(pushed(ledger, run)))


def pushed(ledger, run):
    return ledger.made[run]["Pusher", "pushed_model"].custom_properties["pushed_destination"].string_value


def folder(ledger, run, node, key):
    return ledger.workdir.path / ledger.made[run][node, key].uri


def test_artifacts_of_older_runs_go_and_results_reports_and_predictions_stay(ledger):
    for number in (1, 2, 3):
        ledger.run(f"2026010{number}-000000", blessed=number == 2, state="not pushed")
    size = sum(path.stat().st_blocks * 512 for path in ledger.workdir.artifacts().rglob("*"))
    made = clean(ledger)
    assert ledger.live("20260101-000000") == set()
    assert ledger.live("20260102-000000") == OF_A_PUSH  # it was blessed, and so pushed
    assert ledger.live("20260103-000000") == EVERYTHING
    left = sum(path.stat().st_blocks * 512 for path in ledger.workdir.artifacts().rglob("*"))
    assert size - left == sum(one.size for one in made.all)
    assert not folder(ledger, "20260101-000000", "ImageExampleGen", "examples").exists()
    evaluation = folder(ledger, "20260101-000000", "Evaluator", "evaluation")
    assert sorted(path.name for path in evaluation.iterdir()) == ["predictions", "predictions-validation"]
    assert len(ledger.workdir.results()) == 3
    assert (ledger.workdir.run("20260101-000000") / "report.html").is_file()
    again = clean(ledger)
    assert (again.all, again.artifacts) == ([], [])


def test_what_a_kept_run_took_from_the_cache_or_was_compared_with_stays(ledger):
    ledger.run("20260101-000000", blessed=True)
    withdraw(ledger, "20260101-000000")
    ledger.run("20260102-000000", blessed=False, state="not pushed")
    taken = ("ImageExampleGen", "StatisticsGen", "DataCheck", "Transform")
    ledger.run(
        "20260103-000000", cached=taken, of="20260102-000000", baseline="20260101-000000", blessed=False,
        state="not pushed",
    )  # fmt: skip
    clean(ledger)
    assert ledger.live("20260101-000000") == {"Trainer.model", "Evaluator.blessing"}
    kept = {name for name in EVERYTHING if name.startswith(taken)}
    assert ledger.live("20260102-000000") == kept
    assert ledger.live("20260103-000000") == EVERYTHING


def test_with_none_kept_what_the_next_run_is_compared_with_stays(ledger):
    ledger.run("20260101-000000")
    withdraw(ledger, "20260101-000000")
    ledger.run("20260102-000000", blessed=False, state="not pushed", accepted=True)
    ledger.run("20260103-000000", state="failed", accepted=False)
    clean(ledger, keep=0)
    assert ledger.live("20260101-000000") == {"Trainer.model", "Evaluator.blessing"}
    assert ledger.live("20260102-000000") == {"StatisticsGen.statistics", "EvaluationReport.report"}
    assert ledger.live("20260103-000000") == set()  # DataCheck refused these statistics


def test_the_model_of_a_pushed_version_stays_as_long_as_the_version(ledger):
    for number in (1, 2, 3, 4):
        ledger.run(f"2026010{number}-000000")
    withdraw(ledger, "20260101-000000")
    made = clean(ledger)
    assert made.pushed == 3
    assert ledger.live("20260101-000000") == set()
    assert ledger.live("20260102-000000") == OF_A_PUSH
    for name in ("20260102-000000", "20260103-000000", "20260104-000000"):
        assert (ledger.workdir.path / pushed(ledger, name) / "saved_model.pb").is_file()
    withdraw(ledger, "20260102-000000")
    clean(ledger)
    assert ledger.live("20260102-000000") == set()


def test_the_model_of_a_version_that_was_pushed_again_under_another_number_stays(ledger):
    """As when an earlier model becomes the newest version, and its first one is gone."""
    ledger.run("20260101-000000")
    first = pathlib.Path(ledger.workdir.absolute(pushed(ledger, "20260101-000000")))
    ledger.run("20260102-000000")
    first.rename(first.with_name("9999"))
    clean(ledger)
    assert ledger.live("20260101-000000") == {"Trainer.model", "Evaluator.blessing"}


def test_runs_that_failed_count_but_do_not_push_out_those_that_were_evaluated(ledger):
    ledger.run("20260101-000000", blessed=False, state="not pushed")
    ledger.run("20260102-000000", blessed=False, state="not pushed")
    for number in (3, 4, 5):
        ledger.run(f"2026010{number}-000000", until="Transform", state="failed" if number < 5 else None)
    clean(ledger, keep=2)
    live = {run: bool(ledger.live(run) & {"ImageExampleGen.examples"}) for run in ledger.made}
    assert live == {
        "20260101-000000": True,
        "20260102-000000": True,
        "20260103-000000": False,
        "20260104-000000": True,
        "20260105-000000": True,
    }


def test_each_data_has_its_own_newest_runs(ledger):
    ledger.run("20260101-000000", name="birds", blessed=False, state="not pushed")
    ledger.run("20260102-000000", name="pets", blessed=False, state="not pushed")
    ledger.run("20260103-000000", name="pets", blessed=False, state="not pushed")
    clean(ledger)
    assert ledger.live("20260101-000000") == EVERYTHING
    assert ledger.live("20260102-000000") == set()


def test_what_waits_for_somebodys_word_stays(ledger):
    ledger.run("20260101-000000", state="waiting")
    ledger.run("20260102-000000", blessed=False, state="not pushed")
    made = clean(ledger, keep=0)
    assert made.waiting == 1
    assert ledger.live("20260101-000000") == EVERYTHING


def test_only_what_is_old_enough_goes(ledger):
    for number in (1, 2, 3):
        ledger.run(f"2026010{number}-000000", blessed=False, state="not pushed")
    second = time.mktime((2026, 1, 2, 0, 0, 0, 0, 0, -1))
    clean(ledger, keep=0, before=second)
    assert ledger.live("20260101-000000") == set()
    assert ledger.live("20260102-000000") == EVERYTHING
    assert ledger.live("20260103-000000") == EVERYTHING


@pytest.mark.parametrize("text", ["30", "d", "30 days", "-3d", "1.5d", ""])
def test_an_age_has_a_unit(text):
    with pytest.raises(UserError, match="such as 30d"):
        cleaning.age(text)


def test_ages():
    assert [cleaning.age(text) for text in ("36h", "30d", "2w")] == [36 * 3600, 30 * 86_400, 14 * 86_400]


def test_left_over_checkpoints_and_temporary_files_go(ledger):
    work = ledger.workdir
    for number in (1, 2):
        ledger.run(f"2026010{number}-000000", blessed=False, state="not pushed")
    old, new = (time.mktime((2026, 1, day, 12, 0, 0, 0, 0, -1)) for day in (1, 2))
    for name, when in (("old", old), ("new", new)):
        (work.checkpoints / name / "search").mkdir(parents=True)
        (work.checkpoints / name / "search" / "state.npz").write_text(name)
        for path in (work.checkpoints / name / "search" / "state.npz", work.checkpoints / name):
            os.utime(path, (when, when))
    left = [
        work.temporary / "beam-temp" / "x",
        work.run("20260101-000000") / ".results.json.partial",
        work.path / "models" / ".incoming-999999999" / "x",
        work.artifacts("pets") / "Trainer" / ".system" / "stateful_working_dir" / "a" / "x",
        work.serving("pets") / ".incoming-1" / "x",
    ]
    stays = [
        work.path / "models" / f".incoming-{os.getpid()}" / "x",  # somebody is at it
        work.serving("pets") / ".incoming-2" / "x",
        work.artifacts("pets") / "notes" / "of" / "mine" / "x",
        work.artifacts("pets") / "Trainer" / "model" / "notes" / "x",
        work.path / "models" / "0123456789abcdef" / "saved_model.pb",
    ]
    for path in (*left, *stays):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    os.utime(work.serving("pets") / ".incoming-1", (old, old))
    made = clean(ledger)
    assert [one.path.name for one in made.checkpoints] == ["old"]
    assert not (work.checkpoints / "old").exists()
    assert (work.checkpoints / "new").exists()
    assert [path for path in left if path.exists()] == []
    assert [path for path in stays if not path.exists()] == []
    assert [one.path.name for one in clean(ledger, keep=0).checkpoints] == ["new"]


def test_links_are_removed_and_what_they_lead_to_is_not(ledger, tmp_path):
    ledger.run("20260101-000000", blessed=False, state="not pushed")
    ledger.run("20260102-000000", blessed=False, state="not pushed")
    examples, elsewhere = folder(ledger, "20260101-000000", "ImageExampleGen", "examples"), tmp_path / "elsewhere"
    examples.rename(elsewhere)
    examples.symlink_to(elsewhere)
    inner = folder(ledger, "20260101-000000", "Transform", "transformed_examples")
    (inner / "link").symlink_to(elsewhere)
    clean(ledger)
    assert not examples.is_symlink()
    assert not inner.exists()
    assert (elsewhere / "Split-train" / "data").is_file()


def test_artifacts_moved_to_another_disk_are_found_there(ledger, tmp_path):
    ledger.run("20260101-000000", blessed=False, state="not pushed")
    ledger.run("20260102-000000", blessed=False, state="not pushed")
    ledger.workdir.artifacts().rename(tmp_path / "disk")
    ledger.workdir.artifacts().parent.joinpath("artifacts").symlink_to(tmp_path / "disk")
    clean(ledger)
    assert not folder(ledger, "20260101-000000", "ImageExampleGen", "examples").exists()
    assert folder(ledger, "20260102-000000", "ImageExampleGen", "examples").exists()


def test_a_directory_that_was_copied_is_cleaned_and_not_the_one_it_was_copied_from(ledger, tmp_path):
    ledger.run("20260101-000000", blessed=False, state="not pushed")
    ledger.run("20260102-000000", blessed=False, state="not pushed")
    absolute = open_store(ledger.workdir)
    found = absolute.get_artifacts()
    for one in found:  # as workers elsewhere need them
        one.uri = str(ledger.workdir.path / one.uri)
    absolute.put_artifacts(found)
    del absolute
    shutil.copytree(ledger.workdir.path, tmp_path / "copy")
    before = sorted(ledger.workdir.path.rglob("*"))
    copy = Workdir(tmp_path / "copy")
    cleaning.remove(copy, cleaning.plan(copy, 1))
    assert sorted(ledger.workdir.path.rglob("*")) == before
    examples = ledger.made["20260101-000000"]["ImageExampleGen", "examples"].uri
    assert not (copy.path / examples).exists()


def test_without_ml_metadata_nothing_is_removed(ledger):
    ledger.run("20260101-000000", blessed=False, state="not pushed")
    ledger.workdir.metadata.rename(ledger.workdir.path / "away")
    with pytest.raises(UserError, match="put it back"):
        cleaning.plan(ledger.workdir, 0)


def test_a_report_that_was_never_written_is_written_before_what_it_is_made_of_goes(ledger, monkeypatch):
    """As after a disk that was full at the end of the run."""
    from review import run_report

    for number in (1, 2):
        ledger.run(f"2026010{number}-000000", blessed=False, state="not pushed")
    (ledger.workdir.run("20260101-000000") / "report.html").unlink()
    written = []

    def write(workdir, found):
        assert pathlib.Path(found["report"], "report.json").is_file()
        written.append(found["run"])

    monkeypatch.setattr(run_report, "write", write)  # the ledger's are no real ones
    clean(ledger)
    assert written == ["20260101-000000"]


def test_what_cannot_be_removed_is_named_and_the_rest_goes(ledger, monkeypatch):
    for number in (1, 2):
        ledger.run(f"2026010{number}-000000", blessed=False, state="not pushed")
    stuck = folder(ledger, "20260101-000000", "ImageExampleGen", "examples")
    stock = cleaning.delete

    def delete(path):  # root may remove anything
        if path == stuck:
            raise PermissionError(13, "Permission denied", str(path / "Split-train"))
        stock(path)

    monkeypatch.setattr(cleaning, "delete", delete)
    with pytest.raises(UserError, match="examples/1/Split-train cannot be removed: permission denied"):
        clean(ledger)
    assert ledger.live("20260101-000000") == set()
    assert not folder(ledger, "20260101-000000", "Trainer", "model").exists()
    monkeypatch.undo()
    clean(ledger)
    assert not stuck.exists()


def test_a_kill_at_any_step_leaves_what_the_next_call_finishes(ledger, tmp_path):
    ledger.run("20260101-000000", blessed=False, state="not pushed")
    ledger.run("20260102-000000")
    ledger.workdir.temporary.mkdir()
    (ledger.workdir.temporary / "x").write_text("x")
    (ledger.workdir.checkpoints / "a").mkdir(parents=True)
    (ledger.workdir.checkpoints / "a" / "state.npz").write_text("x")
    for path in (ledger.workdir.checkpoints / "a" / "state.npz", ledger.workdir.checkpoints / "a"):
        os.utime(path, (0, 0))
    del ledger.store
    ledger.store = None
    done = subprocess.run(
        [sys.executable, str(STEPS), str(ledger.workdir.path), str(tmp_path / "scratch")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] > 20


def test_beside_a_run_or_another_one_it_is_refused(ledger):
    ledger.run("20260101-000000")
    with ledger.workdir.lock("alexnet run"):
        done = alexnet("clean", "--workdir", ledger.workdir.path)
    assert done.returncode == 2
    assert f"is in use by process {os.getpid()} (alexnet run" in done.stderr
    assert ledger.live("20260101-000000") == EVERYTHING


def test_the_command_says_what_goes_and_a_dry_run_changes_nothing(ledger):
    work = ledger.workdir.path
    for number in (1, 2):
        ledger.run(f"2026010{number}-000000", blessed=False, state="not pushed")
    before = sorted(work.rglob("*"))
    tried = alexnet("clean", "--keep", "1", "--dry-run", "--workdir", work)
    assert tried.returncode == 0, tried.stderr
    first, last = tried.stdout.splitlines()[0], tried.stdout.splitlines()[-1]
    assert first.split()[:3] == ["run", "20260101-000000", "10"]
    assert last.startswith("Would free 0.")
    assert sorted(path for path in work.rglob("*") if path.name != ".lock") == before
    done = alexnet("clean", "--keep", "1", "--workdir", work)
    assert done.stdout == tried.stdout.replace("Would free", "Freed")
    assert alexnet("clean", "--keep", "1", "--workdir", work).stdout.startswith("Nothing to remove; artifacts of 0.")
    for name in ("runs", "history", "slices"):
        assert alexnet(name, "--workdir", work).returncode == 0


def test_a_working_directory_that_is_not_there_is_not_made(tmp_path):
    done = alexnet("clean", "--workdir", tmp_path / "none")
    assert done.returncode == 2
    assert "does not exist" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_run_cleans_up_at_its_end_where_the_settings_say_so(ledger, tmp_path):
    for number in (1, 2, 3, 4):
        ledger.run(f"2026010{number}-000000")
    log = tmp_path / "log.txt"

    def end(*changes):
        with ledger.workdir.lock("alexnet run") as lock:
            return cleaning.after_run(
                ledger.workdir, settings.load(overrides=[*changes, "data.name=pets"]), lock, log
            )

    assert end() == ""
    assert ledger.live("20260101-000000") == EVERYTHING
    assert end("retention.versions=2") == ""
    served = sorted(path.name for path in ledger.workdir.serving("pets").glob("[0-9]*"))
    assert served == [pathlib.Path(pushed(ledger, f"2026010{number}-000000")).name for number in (3, 4)]
    assert ledger.live("20260101-000000") == EVERYTHING - {"Pusher.pushed_model"}  # no loss that a run would tell of
    assert inventory.look(open_store(ledger.workdir), ledger.workdir) == []
    said = end("retention.runs=1")
    assert said.startswith("Earlier runs cleaned away: 0.")
    assert ledger.live("20260102-000000") == set()
    assert ledger.live("20260103-000000") == OF_A_PUSH
    ledger.workdir.metadata.write_text("no database")
    said = end("retention.runs=1")
    assert said.startswith("Warning: earlier runs were not cleaned away. ")
    assert "metadata.sqlite, where ML Metadata keeps what it knows of the artifacts, cannot be used" in said


def test_versions_that_are_removed_from_an_object_store_keep_no_model(tmp_path, s3):
    ledger = Ledger(Workdir(tmp_path / "work"), "s3://bucket/models")
    for number in (1, 2, 3):
        ledger.run(f"2026010{number}-000000")
    asked = {"workdir": str(ledger.workdir.path), "pushed": "s3://bucket/models", "runs": 1, "versions": 2}
    assert cleaning.main([json.dumps(asked)]) == 0
    assert ledger.live("20260101-000000") == set()
    assert ledger.live("20260102-000000") == OF_A_PUSH
    assert cleaning.plan(ledger.workdir, 1).pushed == 2


def test_a_report_that_cannot_be_written_is_kept_for_the_next_time(ledger, monkeypatch):
    """As on a disk that is full, which is when somebody calls this."""
    from review import run_report

    for number in (1, 2):
        ledger.run(f"2026010{number}-000000", blessed=False, state="not pushed")
    (ledger.workdir.run("20260101-000000") / "report.html").unlink()

    def write(workdir, found):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_report, "write", write)
    clean(ledger)
    report = folder(ledger, "20260101-000000", "EvaluationReport", "report")
    assert (report / "report.json").is_file()
    assert not folder(ledger, "20260101-000000", "ImageExampleGen", "examples").exists()
    monkeypatch.setattr(run_report, "write", lambda workdir, found: None)
    clean(ledger)
    assert not report.exists()


SMALL = [
    "model.width=0.06", "training.epochs=1", "gates.min_accuracy=0", "gates.min_class_recall=0",
    "gates.max_accuracy_drop=1", "gates.max_class_recall_drop=1", "serving.images=2", "serving.max_latency_ms=60000",
    "evaluation.saliency_maps=false",
]  # fmt: skip


@pytest.mark.slow
def test_real_runs_and_every_command_go_on_after_it(tmp_path):
    work = tmp_path / "work"

    def run(*changes):
        done = alexnet("run", "--data", "shapes10/small", "--workdir", work, *sets([*SMALL, *changes]))
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("training.seed=1")
    run("training.seed=2")
    run("training.seed=3", "retention.versions=2")
    first, _, last = [result["run"] for result in Workdir(work).results()]
    shutil.copytree(work, tmp_path / "before")
    cleaned = alexnet("clean", "--keep", "1", "--workdir", work)
    assert cleaned.returncode == 0, cleaned.stderr
    assert f"run {first}" in cleaned.stdout
    for arguments in (
        ["runs"], ["history"], ["slices", "--run", first], ["report", "--run", first], ["compare", first, last],
        ["suspects", "--run", first],
    ):  # fmt: skip
        before, after = (
            alexnet(*arguments, "--workdir", place, cwd=tmp_path) for place in (tmp_path / "before", work)
        )
        assert after.returncode == before.returncode == 0, after.stderr
        assert after.stdout.replace(str(work), "") == before.stdout.replace(str(tmp_path / "before"), "")
    again = run("training.seed=3", "retention.versions=2")
    assert "Warning" not in again
    for node in ("ImageExampleGen", "Transform", "Trainer", "Evaluator", "EvaluationReport", "Pusher"):
        assert f"{node}: reused from cache" in again
    anew = run("training.seed=1", "retention.runs=1", "retention.versions=2")
    assert "Transform: reused from cache" in anew
    assert "Trainer: done" in anew
    assert "Earlier runs cleaned away" in anew
    assert "Warning" not in anew
    assert len(Workdir(work).results()) == 5
    assert len(list(Workdir(work).serving("shapes10").glob("[0-9]*"))) == 2


@pytest.mark.slow
def test_of_a_run_and_a_cleaning_at_once_one_is_refused(tmp_path):
    work = tmp_path / "work"
    command = [ALEXNET, "run", "--data", "shapes10/small", "--workdir", str(work), *sets(SMALL)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            if line.startswith("Transform: running"):
                done = alexnet("clean", "--keep", "0", "--workdir", work)
    assert done.returncode == 2
    assert "is in use by process" in done.stderr
    assert run.returncode == 0
