"""A working directory that was moved, thinned out or damaged between runs, with the real pipeline."""

import json
import os
import pathlib
import shutil

import pytest
from ml_metadata.proto import metadata_store_pb2
from pipeline_runs import execute
from tfx.orchestration import metadata

from core import walk
from core.errors import UserError
from core.workdir import Workdir
from pipeline import inventory
from review import predictions

RESOLVERS = {"PreviousStatistics", "Baseline", "PreviousReport"}
QUICK = ["training.epochs=1"]


def only(folder):
    """The one thing in a folder."""
    (found,) = folder.iterdir()
    return found


def newest(folder):
    """The output of the latest execution in a folder."""
    return max(folder.iterdir(), key=lambda made: int(made.name))


def flip(folder):
    """Changes one byte of one file below a folder, without a change of its size; returns the folder."""
    file = next(file for file in sorted(folder.rglob("*")) if file.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    return folder


def store_of(workdir):
    return metadata.Metadata(metadata.sqlite_metadata_connection_config(str(workdir.metadata)))


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """The runs in their order, with what happens to the directory before each; tests look at one of them."""
    base, told = tmp_path_factory.mktemp("changed"), {}
    told["first"] = execute(Workdir(base / "work"), *QUICK)

    (base / "work").rename(base / "elsewhere")
    workdir = told["workdir"] = Workdir(base / "elsewhere")
    told["moved"] = execute(workdir, *QUICK)

    made = workdir.artifacts("shapes10")
    next(made.glob("Evaluator/evaluation/*/predictions/*.parquet")).unlink()
    shutil.rmtree(workdir.serving("shapes10") / told["first"].served[0])
    told["thinned out"] = execute(workdir, *QUICK)

    pb = only(made / "Trainer/model") / "Format-Serving/saved_model.pb"
    pb.write_bytes(pb.read_bytes()[:-1])
    with pytest.raises(UserError) as told["from"]:
        execute(workdir, *QUICK, first="Evaluator")
    told["without a baseline"] = execute(workdir, *QUICK)

    shutil.rmtree(told["without a baseline"].summary["evaluation"])
    with pytest.raises(UserError) as told["from Pusher"]:
        execute(workdir, *QUICK, first="Pusher")

    told["before"] = walk.contents(workdir.artifacts())
    workdir.metadata.unlink()
    told["without metadata"] = execute(workdir, last="StatisticsGen")
    told["after"] = walk.contents(workdir.artifacts())

    with store_of(workdir) as handle:  # as an earlier version left it: absolute paths, and no list of files
        inventory.settle(handle.store, workdir, absolute=True)
        artifacts = handle.store.get_artifacts()
        for artifact in artifacts:
            for key in (inventory.FILES, inventory.CHECKSUMS[inventory.FILES]):
                del artifact.custom_properties[key]
        handle.store.put_artifacts(artifacts)
        told["absolute"] = [artifact.uri for artifact in artifacts]
    workdir.path.rename(base / "third")
    told["third"] = Workdir(base / "third")
    told["from an earlier version"] = execute(told["third"], last="StatisticsGen")

    told["flipped"] = flip(newest(told["third"].artifacts("shapes10") / "StatisticsGen/statistics"))
    with pytest.raises(UserError) as told["from damaged statistics"]:
        execute(told["third"], first="ImageSchemaGen", last="ImageSchemaGen")
    told["damaged"] = execute(told["third"], last="StatisticsGen")
    told["mended"] = execute(told["third"], last="StatisticsGen")
    return told


def test_nothing_recorded_says_where_the_directory_was(story):
    run = story["first"].id
    for name in ("summary.json", "events.jsonl"):
        assert "/changed" not in (story["third"].run(run) / name).read_text()
    reports = [*(story["third"].artifacts("shapes10") / "EvaluationReport").rglob("report.json")]
    assert len(reports) == 3
    for report in reports:
        assert "/changed" not in report.read_text()


def test_a_directory_that_was_moved_keeps_its_cache(story):
    moved = story["moved"]
    assert moved.executed == RESOLVERS
    assert moved.told == []
    assert moved.summary["pushed"]["path"] == str(story["workdir"].serving("shapes10") / story["first"].served[0])
    assert pathlib.Path(moved.summary["report"]).is_relative_to(story["workdir"].path)


def test_what_was_deleted_is_made_anew_and_told_of(story):
    run = story["thinned out"]
    assert run.executed == {"Evaluator", "EvaluationReport", "Pusher"} | RESOLVERS
    (told,) = run.told
    assert told.startswith("earlier results of Evaluator, Pusher cannot be used (")
    assert ".parquet is gone, and 1 more" in told
    assert run.summary["pushed"]["version"] not in story["first"].served
    assert run.served == [run.summary["pushed"]["version"]]
    assert run.evaluation["accuracy"] == story["first"].evaluation["accuracy"]


def test_a_part_that_needs_what_is_gone_is_refused(story):
    said = str(story["from"].value)
    assert said.startswith("Evaluator needs the output model of Trainer, but that is gone from /")
    assert said.endswith("or damaged: run without --from to have it made anew.")


def test_a_part_that_does_not_need_it_is_refused_where_the_results_do(story):
    said = str(story["from Pusher"].value)
    assert said.startswith("The end of the run needs the output evaluation of Evaluator, but that is gone from /")


def test_a_model_of_another_size_is_no_baseline_any_more(story):
    run = story["without a baseline"]
    assert run.executed == {"Trainer", "Evaluator", "ServingCheck", "EvaluationReport", "Pusher"} | RESOLVERS
    assert run.evaluation["baseline_accuracy"] is None
    assert any("baseline model in /" in text and text.endswith("there is no earlier one") for text in run.told)


def test_the_loss_of_the_metadata_mixes_nothing_and_loses_nothing(story):
    run, before, after = story["without metadata"], story["before"], story["after"]
    assert {"ImageExampleGen", "StatisticsGen"} <= run.executed
    assert "metadata.sqlite knows nothing of the artifacts that are there" in run.told[0]
    assert {name: after.get(name) for name in before} == before
    known = {pathlib.PurePath(name).parts[3] for name in before}
    new = {pathlib.PurePath(name).parts[3] for name in after.keys() - before.keys()}
    assert new
    assert not new & known
    assert min(map(int, new)) > max(int(name) for name in known if name.isdigit())
    found = json.loads((story["third"].run(story["thinned out"].id) / "summary.json").read_text())
    assert len(predictions.read(story["third"].absolute(found["evaluation"]))) > 0


def test_a_directory_of_an_earlier_version_may_have_been_moved(story):
    run = story["from an earlier version"]
    assert all(uri.startswith(f"{story['workdir'].path}/artifacts/") for uri in story["absolute"])
    assert run.told == []
    assert run.states["ImageExampleGen"] == "CACHED"  # what has no input is found again
    assert run.states["StatisticsGen"] == "COMPLETE"
    with store_of(story["third"]) as handle:
        assert not [artifact.uri for artifact in handle.store.get_artifacts() if os.path.isabs(artifact.uri)]
        states = {artifact.uri: artifact.state for artifact in handle.store.get_artifacts()}
        assert states.pop(story["third"].relative(str(story["flipped"]))) == metadata_store_pb2.Artifact.DELETED
        assert set(states.values()) == {metadata_store_pb2.Artifact.LIVE}


def test_a_result_with_other_content_is_not_reused(story):
    run, again = story["damaged"], story["mended"]
    assert run.states["ImageExampleGen"] == "CACHED"
    assert run.states["StatisticsGen"] == "COMPLETE"
    (told,) = run.told
    assert told.startswith(f"{story['flipped']} is damaged (")
    assert told.endswith(" has other content) and not reused; what is needed is made anew")
    assert again.states["StatisticsGen"] == "CACHED"
    assert again.told == []


def test_a_part_that_needs_what_is_damaged_is_refused(story):
    said = str(story["from damaged statistics"].value)
    assert said.startswith("ImageSchemaGen needs the output statistics of StatisticsGen, but that is gone from /")
