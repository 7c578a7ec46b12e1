"""The whole pipeline, with the real LocalDagRunner, on a small embedded data set, several times over."""

import pathlib

import keras
import numpy as np
import pytest
from pipeline_runs import execute

from core import settings
from core.errors import UserError
from core.workdir import Workdir
from pipeline import local_runner
from review import predictions, weak_slices
from review.report import build, schema

# Neither trial has the rate of the settings, so that it shows which one Trainer used, whichever won.
RATES = (0.02, 0.04)
SEARCH = [
    "tuner.trials=2", "tuner.epochs=1", "tuner.share=0.5",
    f"tuner.space={{training.learning_rate: [{RATES[0]}, {RATES[1]}, choice]}}",
]  # fmt: skip
HARM = ["evaluation.corruptions=[blur, jpeg]", "evaluation.corrupted_examples=30"]
UNTRAINED = ["training.learning_rate=1e-9", "training.muon=0", "training.epochs=1"]
BEFORE_TRAINER = ["ImageExampleGen", "StatisticsGen", "ImageSchemaGen", "ExampleValidator", "DataCheck", "Transform"]
AFTER_TRAINER = ["Trainer", "Evaluator", "ServingCheck", "EvaluationReport", "Pusher"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return Workdir(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def ran(workdir):
    """The runs in their order; each test looks at one of them."""
    return {
        "first": execute(workdir),
        "again": execute(workdir),
        "below the floor": execute(workdir, "training.learning_rate=0.03", "gates.min_accuracy=1"),
        "lower gates": execute(workdir, "training.learning_rate=0.03", *HARM),
        "from EvaluationReport": execute(
            workdir,
            "training.learning_rate=0.03",
            "evaluation.smallest_slice=1",
            "evaluation.saliency_maps=false",
            first="EvaluationReport",
        ),
        "warm start": execute(workdir, *UNTRAINED, "training.warm_start=true", last="Trainer"),
        "worse than the baseline": execute(workdir, *UNTRAINED, "gates.max_accuracy_drop=0"),
        "search": execute(workdir, *SEARCH, "training.epochs=1", last="Tuner"),
        "after a search, too slow to serve": execute(
            workdir, *SEARCH, "training.epochs=2", "serving.max_latency_ms=0.000001"
        ),
    }


def test_the_first_run_executes_every_node_and_pushes(ran):
    first = ran["first"]
    assert {first.states[node] for node in [*BEFORE_TRAINER, *AFTER_TRAINER]} == {"COMPLETE"}
    assert first.summary["blessed"]
    assert [first.summary["pushed"]["version"]] == first.served
    assert pathlib.Path(first.summary["pushed"]["path"], "saved_model.pb").is_file()
    assert first.evaluation["baseline_accuracy"] is None


def test_an_unchanged_run_comes_from_the_cache(ran):
    again = ran["again"]
    assert {again.states[node] for node in [*BEFORE_TRAINER, *AFTER_TRAINER]} == {"CACHED"}
    assert again.summary["pushed"] == ran["first"].summary["pushed"]
    assert again.evaluation == ran["first"].evaluation


def test_a_changed_recipe_runs_trainer_and_what_follows_alone(ran):
    changed = ran["below the floor"]
    assert {changed.states[node] for node in BEFORE_TRAINER} == {"CACHED"}
    assert {changed.states[node] for node in AFTER_TRAINER} == {"COMPLETE"}


@pytest.mark.parametrize("name", ["below the floor", "lower gates"])
def test_the_next_model_is_compared_with_the_last_blessed_one(ran, name):
    changed = ran[name]
    assert changed.evaluation["baseline_accuracy"] == pytest.approx(ran["first"].evaluation["accuracy"])
    assert {gate["what"] for gate in changed.evaluation["gates"] if "baseline" in gate["reason"]} == {
        "accuracy",
        *(f"recall of {row['class_name']}" for row in changed.evaluation["classes"]),
    }


def test_a_model_below_the_floor_is_not_pushed(ran):
    below = ran["below the floor"]
    assert not below.summary["blessed"]
    assert below.summary["pushed"] is None
    assert below.served == ran["first"].served
    (failed,) = [gate for gate in below.evaluation["gates"] if not gate["passed"]]
    assert failed["what"] == "accuracy"
    assert failed["limit"] == 1


def test_changed_gates_judge_anew_what_was_trained_before(ran):
    lower = ran["lower gates"]
    assert (lower.states["Trainer"], lower.states["Evaluator"]) == ("CACHED", "COMPLETE")
    assert lower.evaluation["accuracy"] == pytest.approx(ran["below the floor"].evaluation["accuracy"])
    assert lower.summary["blessed"]
    assert lower.served == [*ran["first"].served, lower.summary["pushed"]["version"]]


def test_harmed_pictures_are_judged_and_shown(ran):
    found = report_of(ran["lower gates"]).evaluation.corruptions
    assert found == schema.Corruptions(**ran["lower gates"].evaluation["corruptions"], picture=found.picture)
    assert [row.kind for row in found.kinds] == ["blur", "jpeg"]
    assert found.copies == 10 * found.examples > 0
    assert found.picture in build.unzipped(
        pathlib.Path(ran["lower gates"].summary["report"], "images.zip").read_bytes()
    )
    assert ran["first"].evaluation["corruptions"] is None


def test_a_model_worse_than_the_baseline_is_not_pushed(ran):
    worse = ran["worse than the baseline"]
    assert worse.evaluation["baseline_accuracy"] == pytest.approx(ran["lower gates"].evaluation["accuracy"])
    # A network that has learned nothing takes all for one class of ten; three epochs bring it far above that.
    assert worse.evaluation["accuracy"] < 0.2 < worse.evaluation["baseline_accuracy"]
    assert worse.summary["pushed"] is None
    assert worse.served == ran["lower gates"].served


def test_a_model_that_does_not_serve_is_not_pushed(ran):
    slow = ran["after a search, too slow to serve"]
    assert slow.summary["blessed"]
    assert "serving.max_latency_ms" in slow.summary["serving_check"]["problems"][0]
    assert slow.summary["pushed"] is None
    assert slow.served == ran["lower gates"].served


def test_a_part_runs_on_what_the_last_run_left(ran):
    part, whole = ran["from EvaluationReport"], ran["lower gates"]
    assert {node for node, state in part.states.items() if state == "COMPLETE"} >= {"EvaluationReport", "Pusher"}
    assert report_of(part).evaluation.accuracy == pytest.approx(whole.evaluation["accuracy"])
    assert report_of(part).evaluation.smallest_slice == 1
    assert part.served == whole.served  # the newest version is that model already
    assert part.summary["pushed"]["version"] == whole.summary["pushed"]["version"]


def test_a_part_needs_the_nodes_before_it(tmp_path):
    with pytest.raises(UserError, match=r"--from Evaluator .*, but there is none of this data: run without --from"):
        execute(Workdir(tmp_path), first="Evaluator")
    execute(Workdir(tmp_path), last="StatisticsGen")
    said = "that was without ImageSchemaGen: write --from ImageSchemaGen"
    with pytest.raises(UserError, match=f"--from ExampleValidator goes on from the last run, but {said}"):
        execute(Workdir(tmp_path), first="ExampleValidator", last="ExampleValidator")
    execute(Workdir(tmp_path), first="ImageSchemaGen", last="ExampleValidator")


def kernels(run):
    """The kernels of the network that a run trained."""
    network = keras.models.load_model(pathlib.Path(run.summary["model"], "assets.extra", "model.keras"))
    return [weight.numpy() for weight in network.trainable_weights if weight.name == "kernel"]


def test_a_warm_start_begins_where_the_blessed_model_ended(ran):
    # Their rate is so small that both still have the kernels they began with.
    blessed, warm, cold = (kernels(ran[name]) for name in ("lower gates", "warm start", "worse than the baseline"))
    for before, after, drawn in zip(blessed, warm, cold, strict=True):
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)
        assert np.abs(drawn - before).max() > 1e-3
    assert ran["warm start"].evaluation is None


def test_trainer_uses_what_a_search_found_and_says_so(ran):
    search, more = ran["search"], ran["after a search, too slow to serve"]
    assert search.states["Tuner"] == "COMPLETE"
    assert (more.states["Tuner"], more.states["Trainer"]) == ("CACHED", "COMPLETE")
    assert more.summary["tuning"] == search.summary["tuning"]
    assert sorted(trial["trial"] for trial in more.summary["tuning"]) == [1, 2]
    best, other = more.summary["tuning"]
    assert best["accuracy"] >= other["accuracy"]
    best = best["values"]
    assert {best["training.learning_rate"], other["values"]["training.learning_rate"]} == set(RATES)
    used = more.summary["recipe"]
    assert used["training"]["learning_rate"] == best["training.learning_rate"]
    assert used["training"]["epochs"] == len(more.summary["history"]["epochs"]) == 2
    report = report_of(more)
    assert report.settings["training"]["learning_rate"] == best["training.learning_rate"]
    assert report.tuning[0].values == best
    assert "tuning" not in ran["first"].summary


@pytest.mark.parametrize("name", ["first", "below the floor", "lower gates", "worse than the baseline"])
def test_our_words_agree_with_the_blessing_of_tfma(ran, name):
    assert ran[name].summary["blessed"] == all(gate["passed"] for gate in ran[name].evaluation["gates"])


def test_per_class_numbers_are_those_of_the_confusion_matrix(ran):
    part = ran["first"].evaluation
    matrix = part["confusion_matrix"]
    for row in part["classes"]:
        label = part["class_names"].index(row["class_name"])
        assert row["count"] == sum(matrix[label])
        assert row["recall"] == pytest.approx(matrix[label][label] / sum(matrix[label]), abs=1e-6)
    assert part["accuracy"] == pytest.approx(sum(matrix[k][k] for k in range(10)) / part["count"], abs=1e-6)


def report_of(run):
    return schema.Report.model_validate_json(pathlib.Path(run.summary["report"], build.REPORT).read_bytes())


def test_the_report_tells_what_the_run_found(ran, workdir):
    report = report_of(ran["first"])
    found = workdir.with_relative_paths({"evaluation": ran["first"].evaluation})["evaluation"]
    assert report.evaluation.model_dump(mode="json") == schema.Evaluation(**found).model_dump(mode="json")
    assert report.verdict.state == "cleared"
    assert report.data.counts["test"] == {row.class_name: row.count for row in report.evaluation.classes}
    assert [measured.what for measured in report.data.distributions] == ["skew"]
    assert [epoch.epoch for epoch in report.training] == [1, 2, 3]
    assert report.settings["training"]["learning_rate"] == 0.05
    assert [group.features for group in report.evaluation.slices] == [["brightness"], ["class_name", "brightness"]]
    assert "10" not in report.model.split(" parameters")[1]
    assert report.serving.problems == []


def test_the_report_shows_the_images_that_the_model_saw(ran):
    report = report_of(ran["first"])
    files = build.unzipped(pathlib.Path(ran["first"].summary["report"], build.PICTURES).read_bytes())
    suspects = {row.file for row in report.suspects.rows if row.file}
    maps = {map for picture in report.pictures for map in (picture.map, picture.true_map) if map}
    assert {picture.file for picture in report.pictures} | suspects | maps == files.keys()
    assert {picture.true for picture in report.pictures} == set(report.evaluation.class_names)
    table = predictions.read(ran["first"].evaluation["path"]).set_index("id")
    assert len(table) == ran["first"].evaluation["count"]
    for picture in report.pictures:
        row = table.loc[picture.id]
        assert (picture.true, picture.width) == (row["class_name"], row["width"])
        assert picture.top[0][1] == pytest.approx(row["probability"], abs=1e-4)


def test_weak_slices_are_those_of_the_kept_predictions(ran):
    part = ran["first"].evaluation
    table = predictions.read(part["path"])
    assert {"sharpness", "hue"} < set(table.columns)
    found = weak_slices.search(table, part["smallest_slice"]).record()
    for row in part["weak_slices"]["rows"]:
        assert len(row["pictures"]) == len(row["examples"]) > 0
    assert [{**row, "pictures": []} for row in part["weak_slices"]["rows"]] == found["rows"]
    assert (part["weak_slices"]["looked_at"], part["weak_slices"]["features"]) == (
        found["looked_at"],
        found["features"],
    )


def test_the_labels_of_test_and_validation_are_judged(ran):
    report, path = report_of(ran["first"]), ran["first"].evaluation["path"]
    counts = report.data.counts
    assert report.suspects.judged == {split: sum(counts[split].values()) for split in ("test", "validation")}
    assert report.evaluation.count == report.suspects.judged["test"]  # no metric counts the others
    tables = {split: predictions.read(path, split).set_index("id") for split in report.suspects.judged}
    assert {split: len(table) for split, table in tables.items()} == report.suspects.judged
    for row in report.suspects.rows:
        told = tables[row.split].loc[row.id]
        assert (row.label, row.digest) == (told["class_name"], told["digest"])
        assert row.suggested_label == report.evaluation.class_names[told["predicted"]] != row.label
        assert row.suggested_probability == pytest.approx(told["probability"], abs=1e-3)  # kept in 16 bits
    listed = pathlib.Path(ran["first"].summary["report"], "suspects.csv").read_text().splitlines()
    assert len(listed) == 1 + report.suspects.count


def test_the_report_shows_where_the_model_looked_unless_it_shall_not(ran):
    report, without = report_of(ran["first"]), report_of(ran["from EvaluationReport"])
    assert all(picture.map for picture in report.pictures)
    assert {picture.kind for picture in report.pictures if picture.true_map} <= {"mistake"}
    assert report.maps.cells == (8, 8)
    assert without.maps is None
    assert not any(picture.map or picture.true_map for picture in without.pictures)


def test_a_refused_model_has_a_report_that_says_why(ran):
    report = report_of(ran["below the floor"])
    assert report.verdict.state == "not pushed"
    assert "gates.min_accuracy" in report.verdict.sentence
    assert "serving.max_latency_ms" in report_of(ran["after a search, too slow to serve"]).verdict.sentence


def test_every_report_hands_on_the_history(ran):
    names = ["first", "below the floor", "lower gates", "worse than the baseline"]
    reports = [report_of(ran[name]) for name in names]
    assert [len(report.history) for report in reports] == [1, 2, 3, 4]
    assert [past.accuracy for past in reports[-1].history] == [report.evaluation.accuracy for report in reports]
    assert [past.blessed for past in reports[-1].history] == [True, False, True, False]
    assert len({past.run for past in reports[-1].history}) == 4
    assert ran["again"].summary["report"] == ran["first"].summary["report"]


def test_the_model_card_goes_with_the_model(ran):
    card = pathlib.Path(ran["first"].summary["pushed"]["path"], "assets.extra", build.CARD).read_text()
    assert f"{ran['first'].evaluation['count']:,}" in card
    assert all(name in card for name in ran["first"].evaluation["class_names"])


def test_the_lineage_leads_from_the_data_to_the_pushed_model(ran):
    artifacts = {artifact["name"]: artifact for artifact in ran["lower gates"].summary["lineage"]}
    assert {*artifacts["evaluation"]["made_from"]} == {"examples", "model", "baseline model"}
    assert "transformed_examples" in artifacts["model"]["made_from"]
    assert artifacts["baseline model"]["uri"] != artifacts["model"]["uri"]
    assert {"evaluation", "examples", "previous report"} <= {*artifacts["report"]["made_from"]}
    assert "report" in artifacts["pushed_model"]["made_from"]
    assert artifacts["examples"]["made_from"] == []
    assert pathlib.Path(artifacts["examples"]["uri"]).is_dir()


def test_trainer_never_sees_the_test_split(workdir):
    (transformed,) = (workdir.artifacts("shapes10") / "Transform" / "transformed_examples").glob("*")
    assert sorted(path.name for path in transformed.glob("Split-*")) == ["Split-train", "Split-validation"]


def test_the_serving_check_asked_in_every_form(ran):
    check = ran["first"].summary["serving_check"]
    assert check["problems"] == []
    assert check["requests"] == 3 + 6 + 3  # images, other forms of one, examples


def test_nothing_temporary_is_left(workdir, ran):
    left = [
        path
        for path in workdir.artifacts("shapes10").rglob("*")
        if "temp" in path.name and "template" not in path.name
    ]
    assert [path for path in left if path.is_dir()] == []
    assert list(workdir.checkpoints.glob("*")) == []


def test_the_pushed_model_predicts(ran, tmp_path):
    from image_data import encoded, picture

    from review.predict import Classifier

    image = tmp_path / "image.png"
    image.write_bytes(encoded(picture(1, (50, 60))))
    (answer,) = Classifier(pathlib.Path(ran["first"].summary["pushed"]["path"])).predict([str(image)], top=10)
    assert {name for name, _ in answer.top} == set(ran["first"].evaluation["class_names"])
    assert sum(probability for _, probability in answer.top) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("changes", [[], ["training.warm_start=true", "tuner.trials=2"]])
def test_the_nodes_are_those_that_the_command_line_knows(changes):
    from pipeline import nodes
    from pipeline.pipeline import Places, create_pipeline

    chosen = settings.load(overrides=changes)
    pipeline = create_pipeline(chosen, Places("root", "schema", "", "push"), local_runner.LocalHistory("push"), "v1")
    assert {node.id for node in pipeline.components} == set(nodes.planned(chosen))
    before = {node.id: {other.id for other in node.upstream_nodes} for node in pipeline.components}
    assert before == {node: set(nodes.DAG[node]) & before.keys() for node in nodes.planned(chosen)}
