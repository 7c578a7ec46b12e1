"""Reviewing a run in a notebook: the tables, what is shown inline, and the teaching notebook itself."""

import io
import json
import pathlib
import shutil
import subprocess
import sys

import nbclient
import nbformat
import numpy as np
import PIL.Image
import pytest
import report_data
import run_data
import tensorflow_model_analysis as tfma
from browser import browser  # noqa: F401  a fixture

from components import evaluation
from core import corrections, settings
from core.errors import UserError
from core.workdir import Workdir
from review import run_report
from review.notebook import ROWS, Review
from review.report import build, schema

NOTEBOOK = pathlib.Path(__file__).resolve().parents[2] / "docs" / "review.ipynb"
FIRST, SECOND = "20261121-100000", "20261122-100000"
HOSTILE = "<script>alert(1)</script>"
NAMES = ("cat", "dog", HOSTILE, "owl")
SKILLS = ({"cat": 0.6, "dog": 0.6, HOSTILE: 0.7, "owl": 0.9}, {"cat": 0.4, "dog": 0.7, HOSTILE: 0.7, "owl": 0.9})


def add_report(review, others=()):
    """Writes the report and pictures of a run as its EvaluationReport would have, with a history."""
    table = review.predictions
    names = review.data.evaluation.class_names
    chosen = build.choose(table, list(review.classes.index))
    images = {build.key(table.iloc[row]): drawing(row, names.index(table.class_name[row])) for row, _ in chosen}
    pictures, files = build.pictures(table, chosen, images, names)
    history = [past for other in (*others, review) for past in other.data.history]
    made = review.data.model_copy(update={"pictures": pictures, "history": history})
    folder = review._workdir.run(review.run)
    (folder / build.REPORT).write_text(build.to_json(made))
    (folder / build.PAGE).write_text(run_report.render(made, files))
    (folder / build.PICTURES).write_bytes(build.zipped(files))


def add_tfma(review):
    """Has TFMA evaluate the run's predictions, with the metrics and slices of the pipeline."""
    table = review.predictions
    scores = np.full([len(table), len(NAMES)], 0.01)
    scores[np.arange(len(table)), table.predicted] = 1
    frame = table[["label", "class_name", "brightness"]].assign(
        prediction=list(scores / scores.sum(1, keepdims=True))
    )
    config = evaluation.eval_config(settings.Gates(), settings.Evaluation())
    config = tfma.utils.update_eval_config_with_defaults(config, has_baseline=False, rubber_stamp=True)
    config.model_specs[0].prediction_key = "prediction"
    config.model_specs[0].signature_name = ""
    folder = pathlib.Path(review.data.evaluation.path)
    tfma.analyze_raw_data(frame, config, output_path=str(folder))


def drawing(seed, label):
    """A PNG whose green says which class it is of."""
    pixels = np.random.default_rng(seed).integers(0, 60, (16, 16, 3)).astype(np.uint8)
    pixels[4:12, 4:12, 1] = 60 * (label + 1)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Two runs that were evaluated on the same examples; the second lost cats. Both have reports."""
    made = Workdir(tmp_path_factory.mktemp("workdir"))
    split = run_data.examples(NAMES, count=150)
    first = run_data.predict(split, SKILLS[0], seed=1)
    second = run_data.predict(split, SKILLS[1], seed=2)
    before = run_data.write_run(made, FIRST, first)["evaluation"]
    recalls = {row["class_name"]: row["recall"] for row in before["classes"]}
    run_data.write_run(made, SECOND, second, baseline={"accuracy": before["accuracy"], "recalls": recalls})
    earlier = Review.load(FIRST, made.path)
    add_report(earlier)
    latest = Review.load(SECOND, made.path)
    add_report(latest, [earlier])
    add_tfma(latest)
    return made


@pytest.fixture
def review(workdir):
    return Review.load(workdir=workdir.path)


def test_the_latest_evaluated_run_is_loaded_or_the_one_that_is_named(workdir, review):
    assert review.run == SECOND
    assert Review.load(FIRST, workdir.path).run == FIRST
    assert repr(review).startswith(f"<Review of run {SECOND}: accuracy {review.data.evaluation.accuracy:.2%}")


def test_without_a_run_it_says_what_to_do(tmp_path, workdir):
    with pytest.raises(UserError, match="start one with `alexnet run`"):
        Review.load(workdir=tmp_path)
    with pytest.raises(UserError, match="there is no such finished run"):
        Review.load("2025", workdir.path)


def test_a_report_of_another_form_is_made_anew(workdir, review, tmp_path):
    copy = tmp_path / "workdir"
    shutil.copytree(workdir.path, copy)
    file = copy / "runs" / SECOND / build.REPORT
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "verdict": {"state": "splendid", "sentence": ""}}))
    assert Review.load(workdir=copy).data.verdict.state == review.data.verdict.state


def test_a_run_without_a_report_is_read_from_its_results(workdir, review, tmp_path):
    copy = tmp_path / "workdir"
    shutil.copytree(workdir.path, copy)
    for name in (build.REPORT, build.PICTURES):
        (copy / "runs" / SECOND / name).unlink()
    older = Review.load(workdir=copy)
    assert older.classes.equals(review.classes)
    assert older.data.verdict == review.data.verdict
    assert "No such pictures" in older.pictures().html
    assert len(older.training) == 6


def test_the_classes_are_those_of_the_predictions(review):
    classes = review.classes
    right = review.predictions.groupby("class_name").right
    assert dict(classes["count"]) == right.size().to_dict()
    assert dict(classes.recall) == pytest.approx(right.mean().to_dict())
    assert list(classes.recall) == sorted(classes.recall)
    assert (classes.recall_low < classes.recall).all()
    assert (classes.recall_high > classes.recall).all()
    assert dict(classes.change) == pytest.approx((classes.recall - classes.baseline_recall).to_dict())


def test_the_confusion_matrix_counts_the_predictions(review):
    matrix = review.confusion_matrix
    assert (matrix.index.name, matrix.columns.name) == ("true", "predicted")
    counted = review.predictions.groupby(["class_name", "predicted_class_name"]).size()
    for (true, predicted), count in counted.items():
        assert matrix.loc[true, predicted] == count
    assert matrix.to_numpy().sum() == len(review.predictions)


def test_a_class_that_never_occurs_is_in_the_confusion_matrix(review):
    part = review.data.evaluation
    longer = part.model_copy(update={"class_names": [*part.class_names, "yak"]})
    review.data = review.data.model_copy(update={"evaluation": longer})
    assert review.confusion_matrix.loc["yak"].tolist() == [0] * 5
    assert review.confusion_matrix.loc["cat", "yak"] == 0


def test_slices_can_be_asked_for_in_any_order(review):
    slices = review.slices("brightness", "class_name")
    assert list(slices.columns[:3]) == ["brightness", "class_name", "count"]
    measured = slices.set_index(["brightness", "class_name"]).accuracy.to_dict()
    assert measured == pytest.approx(review.predictions.groupby(["brightness", "class_name"]).right.mean().to_dict())
    assert list(slices.accuracy) == sorted(slices.accuracy)
    alone = review.slices("class_name")
    assert list(alone.accuracy) == list(review.classes.recall)
    assert list(alone.columns) == [column for column in slices.columns if column != "brightness"]


def test_slices_that_were_not_evaluated_are_refused_with_those_that_were(review):
    with pytest.raises(UserError, match="on: class_name; brightness; class_name, brightness") as mistake:
        review.slices("contrast")
    assert "evaluation.slices" in str(mistake.value)


def test_the_history_ends_with_this_run(review):
    history = review.history
    assert list(history.index) == [FIRST, SECOND]
    assert history.made.is_monotonic_increasing
    assert history.loc[SECOND, "recall of cat"] == review.classes.recall["cat"]
    assert history.loc[SECOND, "accuracy"] == review.data.evaluation.accuracy


def test_predictions_that_are_gone_are_a_mistake_in_words(review):
    moved = review.data.evaluation.model_copy(update={"path": "/does/not/exist"})
    review.data = review.data.model_copy(update={"evaluation": moved})
    with pytest.raises(UserError, match="/does/not/exist"):
        _ = review.predictions
    with pytest.raises(UserError, match="/does/not/exist"):
        review.tfma()


def test_suspected_labels_are_a_table(review):
    with pytest.raises(UserError, match="has not looked for wrong labels"):
        _ = review.suspects
    made, _ = report_data.make_report(4, suspects=9)
    review.data = review.data.model_copy(update={"suspects": made.suspects})
    table = review.suspects
    assert table["id"].tolist() == [row.id for row in made.suspects.rows]
    assert [*table.columns] == [*corrections.COLUMNS[:6], "digest"]
    review.data = review.data.model_copy(update={"suspects": made.suspects.model_copy(update={"rows": []})})
    del review.suspects
    assert [*review.suspects.columns] == [*table.columns]


def test_pictures_are_chosen_by_class_and_kind(review):
    fitting = [p for p in review.data.pictures if p.true == "cat" and p.kind == "mistake"]
    shown = review.pictures("cat", kind="mistake", most=3).html
    assert shown.count("<img") == 3 < len(fitting)
    assert f"3 of {len(fitting)} pictures" in shown
    for picture in fitting[:3]:
        assert f'title="{picture.id}"' in shown
    assert HOSTILE not in review.pictures(taken_for=HOSTILE).html
    with pytest.raises(UserError, match="no class 'cta'"):
        review.pictures("cta")


def test_a_comparison_finds_what_changed(review):
    found = review.compare(FIRST)
    assert found.classes.index[0] == "cat"
    assert found.classes.verdict["cat"] == "worse"
    assert found.overall.change == pytest.approx(
        review.data.evaluation.accuracy - Review.load(FIRST, review._workdir.path).data.evaluation.accuracy
    )
    text = found._repr_html_()
    assert "worse" in text
    assert HOSTILE not in text
    assert review.compare(Review.load(FIRST, review._workdir.path)).classes.equals(found.classes)


def test_many_classes_are_folded(tmp_path):
    made = Workdir(tmp_path)
    split = run_data.examples([f"class {n}" for n in range(ROWS + 7)], count=5)
    run_data.write_run(made, FIRST, run_data.predict(split, 0.7), kept=False)
    text = Review.load(workdir=tmp_path)._repr_html_()
    assert text.count("<tr>") == 1 + ROWS
    assert "7 more classes" in text


def test_reading_a_run_imports_no_tensorflow(workdir):
    code = (
        "import sys; from review.notebook import Review; review = Review.load(workdir=sys.argv[1]);"
        "review._repr_html_(), review.predictions, review.report(), review.compare(review.history.index[0]);"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, workdir.path], check=True)


@pytest.fixture(scope="module")
def executed(workdir, tmp_path_factory):
    """The teaching notebook after it ran on the two runs, in a kernel of this Python.

    Its last cell reads TFMA's own result, which these simulated runs lack; it is left out.
    """
    home = tmp_path_factory.mktemp("jupyter")
    kernel = home / "kernels" / "this"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "this", "language": "python"}))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=120,
        kernel_name="this",
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALEXNET_WORKDIR", str(workdir.path))
        patch.setenv("JUPYTER_PATH", str(home))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(home / "runtime"))
        patch.setenv("IPYTHONDIR", str(home / "ipython"))
        return {cell.id: cell.outputs for cell in client.execute().cells if cell.cell_type == "code"}


def shown(outputs, form="text/html"):
    """What a cell shows; nothing went to standard output or error."""
    (output,) = outputs
    assert output.output_type == "execute_result"
    return output.data[form]


def test_the_notebook_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


def test_the_notebook_runs(executed, review):
    assert all(executed.values())
    classes = shown(executed["load-code"])
    places = [classes.index(f"<td>{name}</td>") for name in review.classes.index if name != HOSTILE]
    assert places == sorted(places)
    assert HOSTILE not in classes
    assert "<img" in shown(executed["pictures-code"])
    assert "worse" in shown(executed["compare-code"])
    assert "srcdoc=" in shown(executed["report-code"])
    assert "accuracy_low" in shown(executed["crossed-code"])
    worst = review.classes.recall.iloc[0]
    assert f"'accuracy': {worst:.4f}"[:-1] in shown(executed["tfma-code"], "text/plain")


BODIES = {"light": ("#ffffff", "#000000"), "dark": ("#111111", "#dedede"), "vs code": ("#1f1f1f", "#cccccc")}
CONTRASTS = """
() => {
  const number = (text) => text.match(/[\\d.]+/g).map(Number);
  const back = number(getComputedStyle(document.body).backgroundColor);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (rgb) => {
    const [a, b] = [light(rgb), light(back)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  let text = 21, symbol = 21;
  for (const element of document.querySelectorAll(".alexnet-review :is(p, td, th, b, span, figcaption)")) {
    let opacity = 1;
    for (let e = element; e; e = e.parentElement) opacity *= Number(getComputedStyle(e).opacity);
    const blend = (color) => number(color).slice(0, 3).map((v, k) => v * opacity + back[k] * (1 - opacity));
    if (element.textContent.trim()) text = Math.min(text, contrast(blend(getComputedStyle(element).color)));
    const before = getComputedStyle(element, "::before");
    if (before.content !== "none") symbol = Math.min(symbol, contrast(blend(before.color)));
  }
  return [text, symbol];
}
"""


@pytest.mark.parametrize("body", BODIES)
def test_a_browser_shows_it_in_light_and_dark(browser, review, body):  # noqa: F811
    back, front = BODIES[body]
    parts = (review, review.pictures(), review.compare(FIRST))
    page = browser.new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.set_content(
        f"<style>body {{ background: {back}; color: {front} }} table {{ background: #ff0000 }}"
        " .jp tbody tr:nth-child(odd) { background: #ff0000 } .jp td { text-align: right; color: #ff0000 }</style>"
        f"<div class=jp>{''.join(part._repr_html_() for part in parts)}</div><table id=other><tr><td>1</table>"
    )
    rows = page.locator(".alexnet-review").first.locator("tbody tr")
    assert [row.locator("td").first.inner_text() for row in rows.all()] == list(review.classes.index)
    assert rows.first.is_visible()
    filled, whole = (rows.first.locator(part).bounding_box()["width"] for part in (".ar-fill", ".ar-track"))
    assert filled / whole == pytest.approx(review.classes.recall.iloc[0], abs=0.01)
    text, symbol = page.evaluate(CONTRASTS)
    assert text >= 4.5  # WCAG 2.2, 1.4.3
    assert symbol >= 3  # 1.4.11
    assert page.locator("#other").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 0, 0)"
    assert not said
    assert all(url.startswith("data:") for url in asked)
    page.close()


def test_the_report_is_shown_in_a_frame_that_reaches_nothing_outside(browser, review):  # noqa: F811
    page = browser.new_page()
    said, errors = [], []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: errors.append(error))
    body = f"<title>notebook</title>{review.report(height=500)._repr_html_()}"
    page.route("**", lambda route: route.fulfill(body=body, content_type="text/html; charset=utf-8"))
    page.goto("http://notebook.test/lab?token=secret#here")
    (frame,) = page.main_frame.child_frames
    frame.wait_for_load_state()
    assert page.locator("iframe").bounding_box()["height"] == pytest.approx(500, abs=2)
    assert HOSTILE in frame.locator("body").inner_text()
    reach = "() => { try { return parent.document.title } catch (e) { return e.name } }"
    assert frame.evaluate(reach) == "SecurityError"
    link = frame.locator("nav a").last
    target = link.get_attribute("href")
    link.click()
    frame.wait_for_url(f"about:srcdoc{target}")
    assert frame.locator(target).is_visible()
    assert not said + errors
    page.close()


def test_schema_and_table_name_the_same_measures(review):
    """Nothing of a class is left out of the table."""
    named = {name for name in schema.ClassRow.model_fields if not name.endswith("_interval")}
    assert named <= {review.classes.index.name, *review.classes.columns}
