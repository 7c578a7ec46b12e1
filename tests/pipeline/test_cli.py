"""The command line, as a user calls it: real processes."""

import csv
import fcntl
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import PIL.Image
import psutil
import pytest
from image_data import encoded, picture, write_folder
from run_data import LEVELS, examples, predict, write_run

from core import settings
from core.repeated import Member, Repeated
from core.workdir import Workdir
from review import duplicates, predictions
from review.report import build, schema

ALEXNET = str(pathlib.Path(sys.executable).with_name("alexnet"))
# Slow enough to be caught in the middle, quick enough for a test.
SLOW = ["training.epochs=10", "training.batch_size=32", "model.width=0.5", "data.validation_share=0.1"]
CLASSES = ("Käse, <b>", "[red]cat")  # names that a terminal, CSV or HTML could trip over
LENIENT = ["gates.min_accuracy=0", "gates.min_class_recall=0", "serving.images=2", "serving.max_latency_ms=60000"]


def command(*arguments):
    return [ALEXNET, *map(str, arguments)]


def alexnet(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, **options)


def sets(changes):
    return [part for change in changes for part in ("--set", change)]


def loaded_modules(*arguments):
    """What importing and running a command has loaded."""
    script = (
        "import sys; sys.argv = ['alexnet', *sys.argv[1:]]\n"
        "from pipeline.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    return set(done.stderr.split())


COMMANDS = (
    "run runs slices suspects compare history figures trials report predict presets config robustness clean doctor "
    "models rollback approve reject push"
)


@pytest.mark.parametrize("name", ["", *COMMANDS.split()])
def test_help_is_there_and_loads_nothing_heavy(name):
    arguments = [name, "--help"] if name else ["--help"]
    assert "Usage: alexnet" in alexnet(*arguments).stdout
    assert not {"tensorflow", "tfx", "apache_beam", "numpy", "pandas"} & loaded_modules(*arguments)


def test_the_exit_codes_are_documented():
    for arguments in (["--help"], ["run", "--help"]):
        text = " ".join(alexnet(*arguments).stdout.split())
        for code in (
            "0 the model was pushed",
            "2 a mistake",
            "3 it ran to the end",
            "4 it passed them",
            "130 interrupted",
        ):
            assert code in text


def test_presets_and_config():
    listed = alexnet("presets").stdout
    assert all(name in listed for name in settings.presets())
    shown = alexnet("config", "--preset", "cifar10", "--set", "training.epochs=3").stdout
    assert "epochs: 3" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--preset", "cifar"], "did you mean cifar10"),
        (["run", "--set", "training.epoch=1"], "did you mean training.epochs"),
        (["run", "--data", "/nowhere/at/all"], "/nowhere/at/all does not exist"),
        (["run", "--data", "."], "is within the data, /"),
        (["run", "--data", ".", "--workdir", "/tmp/none", "--set", "push.destination=x"], "another push.destination"),
        (["run", "--from", "Trainr"], "did you mean Trainer? The nodes are ImageExampleGen"),
        (["run", "--to", "WarmStart"], "there is no such node"),
        (["run", "--set", "tuner.trials=0"], "tuner.trials=0: input should be greater than or equal to 1"),
        (["run", "--to", "Tuner"], "there is no such node"),
        (["slices"], "holds no finished run yet"),
        (["trials"], "holds no search yet: start one with `alexnet run --set tuner.trials=8`"),
        (["predict", "image.png"], "No model has been pushed"),
        (["config", "--set", "x"], "--set group.key=value"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, said, tmp_path):
    done = alexnet(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("alexnet: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stdout + done.stderr


def test_runs_of_an_empty_working_directory(tmp_path):
    done = alexnet("runs", "--workdir", tmp_path)
    assert done.returncode == 0
    assert "alexnet run" in done.stdout


def test_bad_data_fail_with_one_sentence_and_earlier_results_stay(image_folder, tmp_path):
    (image_folder / "train" / "dog" / "001.jpeg").write_bytes(b"nonsense")
    done = alexnet("run", "--data", image_folder, "--workdir", tmp_path / "work")
    assert done.returncode == 2
    assert "train/dog/001.jpeg: not an image" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "failed" in alexnet("runs", "--workdir", tmp_path / "work").stdout


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """One working directory through a kill -9 in mid-training, a second run meanwhile, a resume, and a Ctrl-C."""
    base = tmp_path_factory.mktemp("story")
    root = write_folder(base / "pets", CLASSES, train=160, test=20)
    first, second = (root / "train" / name for name in CLASSES)
    shutil.copy(first / "000.png", root / "test" / CLASSES[0] / "000.png")
    shutil.copy(first / "002.png", second / "002.png")
    work = base / "work"
    arguments = ["run", "--data", root, "--workdir", work, *sets(SLOW + LENIENT)]
    told = {}

    def start(*more):
        return subprocess.Popen(command(*arguments, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def read_until(process, text):
        for line in process.stdout:
            if text in line:
                return
        raise AssertionError(f"it ended without saying {text}: {process.stderr.read()}")

    with start() as killed:
        read_until(killed, "Trainer: epoch 1/10")
        worker = pause_worker(killed.pid)  # or it might be done before the second run has started
        told["second"] = alexnet(*arguments)
        told["killed pid"] = killed.pid
        killed.send_signal(signal.SIGKILL)
        worker.resume()
    wait_for_worker(work)
    told["resumed"] = alexnet(*arguments)
    with start("--set", "training.seed=2") as interrupted:
        read_until(interrupted, "Trainer: running")
        interrupted.send_signal(signal.SIGINT)
        told["interrupted output"] = interrupted.stdout.read()
    told["interrupted code"] = interrupted.returncode
    return {"workdir": Workdir(work), "images": root, **told}


def pause_worker(parent):
    """Stops the one child of a process; returns it."""
    (worker,) = psutil.Process(parent).children()
    worker.suspend()
    return worker


def wait_for_worker(work):
    """Returns when the worker, which notices that its parent is gone, has let go of the lock."""
    descriptor = os.open(work / ".lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.close(descriptor)


def events(story, run):
    lines = (story["workdir"].run(run) / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_second_run_is_refused_at_once_and_told_who_is_at_it(story):
    assert story["second"].returncode == 2
    assert f"in use by process {story['killed pid']} (alexnet run" in story["second"].stderr


def test_after_kill_9_finished_nodes_are_reused_and_training_continues(story):
    done = story["resumed"]
    assert done.returncode == 0, done.stderr
    for node in ("ImageExampleGen", "StatisticsGen", "Transform"):
        assert f"{node}: reused from cache" in done.stdout
    epochs = [
        event["epoch"] for event in events(story, story["workdir"].results()[0]["run"]) if event["kind"] == "epoch"
    ]
    assert epochs[0] > 1
    assert epochs == list(range(epochs[0], 11))
    history = story["workdir"].results()[0]["history"]["epochs"]
    assert [record["epoch"] for record in history] == list(range(1, 11))


def test_the_end_of_a_run_says_what_came_out(story):
    output = story["resumed"].stdout
    assert "Test accuracy" in output
    assert "taken for" in output
    assert "gates passed" in output
    assert str(story["workdir"].serving("pets")) in output
    result = story["workdir"].results()[0]
    assert result["state"] == "pushed"
    assert set(result["data"]["counts"]) == {"train", "validation", "test"}
    stored = story["workdir"].run(result["run"]) / "settings.yaml"
    assert settings.load(str(stored)).training.epochs == 10


def test_ctrl_c_ends_in_order(story):
    assert story["interrupted code"] == 130
    assert "the next run continues" in story["interrupted output"]
    assert story["workdir"].results()[-1]["state"] == "interrupted"
    with story["workdir"].lock("test"):
        pass


def test_no_temporary_files_are_left(story):
    assert not story["workdir"].temporary.exists()


def test_runs_lists_them(story):
    output = alexnet("runs", "--workdir", story["workdir"].path, env=os.environ | {"COLUMNS": "200"}).stdout
    assert "interrupted" in output
    assert "pushed: all 3 gates passed" in output


def test_the_report_of_a_run_is_complete(story):
    """What EvaluationReport wrote, and what only the end of the run could add."""
    result = story["workdir"].results()[0]
    folder = story["workdir"].run(result["run"])
    assert f"Report: {folder / 'report.html'}" in story["resumed"].stdout
    page = (folder / "report.html").read_text()
    assert "K\u00e4se, &lt;b&gt;" in page
    assert "<b>" not in page.split("<body")[1].split("Käse", 1)[1][:20]
    made = json.loads((folder / "report.json").read_text())
    assert made["verdict"]["state"] == "pushed"
    assert made["run"]["pushed"] == f"serving/pets/{result['pushed']['version']}"
    assert {node["name"]: node["state"] for node in made["run"]["nodes"]}["Transform"] == "cached"
    assert made["run"]["seconds"] > 0
    assert {artifact["name"] for artifact in made["lineage"]} >= {"examples", "model", "evaluation", "pushed_model"}
    card = pathlib.Path(result["pushed"]["path"], "assets.extra", "model_card.md").read_text()
    assert card.startswith("# ")
    recorded = json.loads((folder / "results.json").read_text())
    assert recorded["pushed"]["path"] == made["run"]["pushed"]
    assert recorded["number"] == 2  # the first was killed
    for name in ("results.json", "report.json", "report.html", "model_card.md"):
        assert str(story["workdir"].path) not in (folder / name).read_text()


def test_duplicates_are_told_and_shown_to_the_end(story):
    result = story["workdir"].results()[0]
    found, without = result["data"]["duplicates"], result["evaluation"]["without_leaked"]
    assert found["leaked"] == {"validation": 0, "test": 1}
    assert found["contradicting"] == {"pictures": 1, "examples": 2}
    assert (without["leaked"], without["count"]) == (1, 39)
    table = predictions.read(result["evaluation"]["path"])
    rest = table[table.id != f"test/{CLASSES[0]}/000.png"]
    assert without["accuracy"] == (rest.label == rest.predicted).mean()
    assert "1 of 40 test examples (2.5%) is a duplicate: its picture is in" in story["resumed"].stdout
    folder = story["workdir"].run(result["run"])
    report = schema.Report.model_validate_json((folder / "report.json").read_bytes())
    files = build.unzipped((folder / "images.zip").read_bytes())
    leaked, contradicting = report.data.duplicates.shown
    assert leaked.places[0][0] == "test"
    assert {name for _, name, _ in contradicting.places} == set(CLASSES)
    for shown, name in ((leaked, "000.png"), (contradicting, "002.png")):
        assert {pathlib.Path(id).name for _, _, id in shown.places} == {name}
        original = PIL.Image.open(story["images"] / "train" / CLASSES[0] / name)
        assert PIL.Image.open(io.BytesIO(files[shown.file])).tobytes() == original.tobytes()
    assert 'id="duplicates"' in (folder / "report.html").read_text()


def test_report_finds_copies_and_remakes_it(story, tmp_path):
    work = ["--workdir", story["workdir"].path]
    run = story["workdir"].results()[0]["run"]
    path = pathlib.Path(alexnet("report", *work).stdout.strip())
    assert path == story["workdir"].run(run) / "report.html"
    page = path.read_text()
    path.unlink()
    assert alexnet("report", *work, "--output", tmp_path / "copy.html").returncode == 0
    assert (tmp_path / "copy.html").read_text() == page == path.read_text()
    alexnet("report", *work, "--output", tmp_path / "data.json")
    assert json.loads((tmp_path / "data.json").read_text())["run"]["id"] == run
    refused = alexnet("report", *work, "--output", tmp_path / "no" / "such.html")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    refused = alexnet("report", *work, "--run", story["workdir"].results()[-1]["run"])  # the interrupted one
    assert refused.returncode == 2
    assert "was not evaluated" in refused.stderr


def test_the_form_of_the_report_is_documented(story):
    form = json.loads(alexnet("report", "--schema").stdout)
    folder = story["workdir"].run(story["workdir"].results()[0]["run"])
    assert set(json.loads((folder / "report.json").read_text())) == set(form["properties"])
    parts = [form, *form["$defs"].values()]
    assert all(part.get("description") for part in parts)


def test_slices_in_three_forms(story):
    work = ["--workdir", story["workdir"].path]
    table = alexnet("slices", *work).stdout
    rows = json.loads(alexnet("slices", *work, "--format", "json").stdout)["classes"]
    lines = list(csv.DictReader(alexnet("slices", *work, "--format", "csv").stdout.splitlines()))
    assert [row["class_name"] for row in rows] == [line["class_name"] for line in lines]
    assert {row["class_name"] for row in rows} == set(CLASSES)
    assert rows[0]["recall"] <= rows[1]["recall"]
    assert all(name in table for name in (*CLASSES, "precision"))
    assert all(float(line["recall"]) == row["recall"] for line, row in zip(lines, rows, strict=True))


def test_harmed_pictures_of_a_finished_run_come_into_its_report(story, tmp_path):
    work = Workdir(shutil.copytree(story["workdir"].path, tmp_path / "work"))
    run = work.results()[0]["run"]
    asked = ["robustness", "--workdir", work.path, "--kind", "jpeg", "--kind", "blur", "--examples", "0"]
    done = alexnet(*asked, "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["run"], found["examples"], found["copies"]) == (run, 40, 400)
    assert [row["kind"] for row in found["kinds"]] == ["blur", "jpeg"]
    assert found["unharmed_accuracy"] == pytest.approx(work.results()[0]["evaluation"]["accuracy"], abs=1e-6)
    report = schema.Report.model_validate_json((work.run(run) / "report.json").read_bytes())
    assert report.evaluation.corruptions.model_dump() == {key: found[key] for key in found if key != "run"}
    page = (work.run(run) / "report.html").read_text()
    assert 'id="robustness"' in page
    assert page == pathlib.Path(alexnet("report", "--workdir", work.path).stdout.strip()).read_text()
    shutil.rmtree(work.artifacts("pets") / "ImageExampleGen")
    refused = alexnet(*asked)
    assert refused.returncode == 2
    assert "is no longer there: run the pipeline again" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (work.run(run) / "report.html").read_text() == page


@pytest.fixture
def reviewed(tmp_path):
    """--workdir and a working directory with two evaluated runs."""
    split = examples(CLASSES, 120)
    for number, skill in enumerate((0.6, 0.9), 1):
        write_run(Workdir(tmp_path), f"2026010{number}-000000", predict(split, skill, number))
    return ["--workdir", tmp_path]


@pytest.mark.parametrize("content", [b"", b"<!doctype html><p>cut", b'{"name": '])
def test_a_damaged_report_is_made_anew(reviewed, tmp_path, content):
    folder = pathlib.Path(alexnet("report", *reviewed).stdout.strip()).parent
    for file in ("report.html", "report.json", "images.zip"):
        (folder / file).write_bytes(content)
    for output in ("copy.html", "copy.json"):
        assert alexnet("report", *reviewed, "--output", tmp_path / output).returncode == 0
    assert (tmp_path / "copy.html").read_text().rstrip().endswith("</html>")
    assert json.loads((tmp_path / "copy.json").read_text())["run"]["id"] == folder.name


def test_runs_tells_of_results_that_cannot_be_read(reviewed):
    """The newest by its name, and with nothing in it: a power cut."""
    work = Workdir(reviewed[1])
    work.run("20990101-000000").mkdir()
    (work.run("20990101-000000") / "results.json").write_text("")
    done = alexnet("runs", *reviewed, env=os.environ | {"COLUMNS": "200"})
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines[:2] == ["20990101-000000  unreadable", "  results.json is empty"]
    assert [line[:15] for line in lines[2::2]] == ["20260102-000000", "20260101-000000"]

    named = alexnet("slices", *reviewed, "--run", "2099")
    assert named.returncode == 2
    said = (
        "alexnet: Run 20990101-000000 cannot be read: results.json is empty. Name another run, or remove this one's"
    )
    assert named.stderr == f"{said} folder.\n"


@pytest.mark.parametrize(
    "arguments", ["slices", "report", "history", "compare 20260101 20260102", "trials", "predict x"]
)
def test_one_bad_record_stops_no_command(reviewed, arguments):
    """What has nothing to show without it - a search, a pushed model - says so as ever."""
    whole = alexnet(*arguments.split(), *reviewed)
    folder = Workdir(reviewed[1]).run("20990101-000000")
    folder.mkdir()
    (folder / "results.json").write_text('{"run": "20990101-000000", "tuning": [{')
    done = alexnet(*arguments.split(), *reviewed)
    assert (done.returncode, done.stdout) == (whole.returncode, whole.stdout)
    told = [line for line in done.stderr.splitlines() if "20990101-000000 was passed over" in line]
    assert len(told) == (arguments in ("slices", "report", "history"))
    assert [line for line in done.stderr.splitlines() if line not in told] == whole.stderr.splitlines()


def test_reading_commands_stay_within_a_copy(tmp_path):
    """Of a directory that an earlier version filled, with absolute paths in its results; the original is changed."""
    work, copy, split = Workdir(tmp_path / "work"), tmp_path / "copy", examples(CLASSES, 120)
    for number, skill in enumerate((0.6, 0.9), 1):
        run = f"2026010{number}-000000"
        write_run(work, run, predict(split, skill, number))
        (work.run(run) / "request.json").write_text(json.dumps({"workdir": str(work.path)}))
    asked = [["compare", "20260101", "20260102", "--json"], ["slices", "--compare", "20260101", "--json"]]
    before = [alexnet(*arguments, "--workdir", work.path).stdout for arguments in asked]
    assert all("McNemar" in text for text in before)
    shutil.copytree(work.path, copy)
    shutil.rmtree(work.artifacts())
    assert [alexnet(*arguments, "--workdir", copy).stdout for arguments in asked] == before
    assert alexnet("report", "--workdir", copy).stdout.strip() == str(copy / "runs/20260102-000000/report.html")
    assert str(work.path) not in (copy / "runs/20260102-000000/report.html").read_text()
    drawn = alexnet("figures", "--workdir", copy, "--output", tmp_path / "figures")
    assert drawn.returncode == 0, drawn.stderr


def test_slices_beside_another_run(reviewed):
    beside = ["slices", *reviewed, "--compare", "20260101"]
    told = json.loads(alexnet(*beside, "--format", "json").stdout)
    assert (told["run"], told["compared_with"]) == ("20260102-000000", "20260101-000000")
    assert "McNemar" in told["how"][0]
    for row in told["classes"]:
        compared = row["compared"]
        assert compared["change"] == pytest.approx(row["recall"] - compared["first_share"])
        assert compared["verdict"] == "better"
    lines = list(csv.DictReader(alexnet(*beside, "--format", "csv").stdout.splitlines()))
    assert [float(line["compared_p"]) for line in lines] == [row["compared"]["p"] for row in told["classes"]]
    assert alexnet(*beside).stdout.count("▲ better") == 2


@pytest.mark.parametrize("names", ["class_name,brightness", "brightness, class_name"])
def test_other_slices_in_three_forms(reviewed, names):
    asked = ["slices", *reviewed, "--slice", names]
    told = json.loads(alexnet(*asked, "--format", "json").stdout)
    assert told["features"] == ["class_name", "brightness"]
    assert {tuple(row["values"]) for row in told["slices"]} == {(name, level) for name in CLASSES for level in LEVELS}
    lines = list(csv.DictReader(alexnet(*asked, "--format", "csv").stdout.splitlines()))
    assert [[line["class_name"], line["brightness"]] for line in lines] == [row["values"] for row in told["slices"]]
    assert {"count", "accuracy", "accuracy_low", "accuracy_high", "too_small"} <= set(lines[0])
    table = alexnet(*asked, "--compare", "20260101").stdout
    assert all(name in table for name in (*CLASSES, *LEVELS, "verdict"))


def test_slices_tell_recall_without_leaked_examples_where_there_are_any(tmp_path):
    table = predict(examples(CLASSES, 40), 0.8)
    found = write_run(Workdir(tmp_path), "20260101-000000", table)
    assert "leaked" not in alexnet("slices", "--workdir", tmp_path, "--format", "csv").stdout
    assert "without_leaked" not in alexnet("slices", "--workdir", tmp_path, "--json").stdout
    # All of one class, and half of the other.
    rows = [row for row in range(80) if row >= 40 or row % 2]
    places = (Member("train", CLASSES[0], "1"), Member("test", CLASSES[0], "2"))
    pictures = [Repeated(table.digest[row], places) for row in rows]
    remaining = duplicates.kept(table, pictures)
    part = found["evaluation"]
    part["classes"] = [{**row, **duplicates.of_class(remaining[row["class_name"]])} for row in part["classes"]]
    part["without_leaked"] = duplicates.overall(remaining)
    (Workdir(tmp_path).run(found["run"]) / "results.json").write_text(json.dumps(found))
    told = json.loads(alexnet("slices", "--workdir", tmp_path, "--json").stdout)
    assert told["overall"]["without_leaked"] == part["without_leaked"]
    assert told["classes"] == part["classes"]
    lines = csv.DictReader(alexnet("slices", "--workdir", tmp_path, "--format", "csv").stdout.splitlines())
    by_class = {line["class_name"]: line for line in lines}
    half, gone = by_class[CLASSES[0]], by_class[CLASSES[1]]
    low, high = part["without_leaked"]["accuracy_interval"]
    assert (half["leaked"], gone["leaked"]) == ("20", "40")
    assert float(half["recall_without_leaked"]) == part["without_leaked"]["accuracy"]
    assert float(half["recall_without_leaked_low"]) == low
    assert float(half["recall_without_leaked_high"]) == high
    assert gone["recall_without_leaked"] == gone["recall_without_leaked_low"] == ""


def test_slices_that_were_not_evaluated_are_a_users_mistake(reviewed):
    done = alexnet("slices", *reviewed, "--slice", "size")
    assert done.returncode == 2
    said = "alexnet: --slice size: it was evaluated on class_name, brightness, class_name,brightness"
    assert done.stderr.startswith(said)
    assert "evaluation.slices" in done.stderr
    assert alexnet("slices", *reviewed, "--slice", "class_name").stdout == alexnet("slices", *reviewed).stdout


def test_reading_results_loads_nothing_heavy(story):
    for arguments in (["runs"], ["slices"], ["history"]):
        loaded = loaded_modules(*arguments, "--workdir", str(story["workdir"].path))
        assert not {"tensorflow", "tfx", "apache_beam", "numpy"} & loaded


def test_predict(story, tmp_path):
    image = tmp_path / "image.jpg"
    image.write_bytes(encoded(picture(5, (100, 80)), "JPEG"))
    done = alexnet("predict", image, "--workdir", story["workdir"].path)
    assert done.returncode == 0, done.stderr
    assert all(f"  {name}  " in done.stdout for name in CLASSES)
    assert done.stderr == ""


def test_predict_a_folder_of_labelled_images(story, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_text("nonsense")
    page = tmp_path / "page.html"
    asked = ["predict", story["images"] / "test", bad, "--top", 1, "--html", page, "--format", "json"]
    done = alexnet(*asked, "--workdir", story["workdir"].path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"Pictures: {page}",
        f"alexnet: {bad} is no image that can be read: not an image.",
    ]
    rows = json.loads(done.stdout)
    assert [row["true_class_name"] for row in rows] == [name for name in sorted(CLASSES) for _ in range(20)]
    assert page.read_text().count("<figure") == 40


def test_predict_names_what_is_no_image(story, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_text("nonsense")
    work = ["--workdir", story["workdir"].path]
    for arguments, said in (
        ([bad], f"{bad} is no image"),
        ([tmp_path / "missing.jpg"], "does not exist"),
        ([bad, "--html", tmp_path / "nowhere" / "x.html"], "there is no such folder"),
        ([bad, "--model", tmp_path], "is not a model that this pipeline exported"),
    ):
        done = alexnet("predict", *arguments, *work)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_trials_are_shown_and_the_best_recipe_becomes_a_preset(tmp_path):
    work = Workdir(tmp_path)
    found = write_run(work, "20260131-120000", predict(examples(), 0.8))
    values = [{"model.dropout": 0.123456, "training.flip": False}, {"model.dropout": 0.4, "training.flip": True}]
    found["tuning"] = [
        {"trial": number, "accuracy": accuracy, "epochs": None, "values": one}
        for number, accuracy, one in zip((2, 1), (0.75, 0.5), values, strict=True)
    ]
    folder = work.run(found["run"])
    (folder / "results.json").write_text(json.dumps(found))
    (folder / "settings.yaml").write_text(settings.dump(settings.load("cifar10", ["tuner.trials=2"])))
    write_run(work, "20260201-120000", predict(examples(), 0.8))
    preset = tmp_path / "found.yaml"
    shown = alexnet("trials", "--workdir", tmp_path, "--output", preset)
    assert re.search(r"2 +75\.00% +0\.1235 +false\n +1 +50\.00% +0\.4 +true", shown.stdout), shown.stderr
    loaded = settings.load(str(preset))
    assert (loaded.model.dropout, loaded.training.flip, loaded.tuner.trials) == (0.123456, False, None)
    assert loaded.training.learning_rate == settings.load("cifar10").training.learning_rate
    assert preset.read_text().startswith("# Validation accuracy 75.00% in the search of run 20260131-120000\n")
    assert json.loads(alexnet("trials", "--workdir", tmp_path, "--json").stdout)["trials"] == found["tuning"]
    rows = list(csv.DictReader(alexnet("trials", "--workdir", tmp_path, "--format", "csv").stdout.splitlines()))
    assert [row["training.flip"] for row in rows] == ["False", "True"]
    refused = alexnet("trials", "--workdir", tmp_path, "--run", "20260201")
    assert (refused.returncode, "made no search" in refused.stderr) == (2, True)
