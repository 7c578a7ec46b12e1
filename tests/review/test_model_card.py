"""The model card: valid Markdown, the same in HTML, nothing that the report does not say, code that runs."""

import base64
import html.parser
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from image_data import encoded, picture
from markdown_it import MarkdownIt
from report_data import make_report

from components import evaluation_report
from core import settings
from core.settings import Model
from review.report import blocks, card, schema, web
from trainer import export, model
from trainer.summary import DataSummary

HOSTILE = (
    "<script>alert(1)</script>",
    "a|b \\| `c` ``d`` \\",
    "_u_ *s* ~~t~~ [l](http://x) ![i](y)",
    "# h\n- one\n\n1. two",
    "&lt; &amp;",
    "<!-- --> $x$",
    "12. dozen",
    "---",
)


class Page(html.parser.HTMLParser):
    """The elements of a piece of HTML, its text, and its tables as lists of rows of cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.tables, self.in_cell = set(), [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.words.append(" ")
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, text):
        self.words.append(text)
        if self.in_cell:
            self.tables[-1][-1][-1] += text

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def read(markdown):
    """What a reader of Markdown makes of the card; HTML in it counts, as it does on GitHub."""
    return Page(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))


def listings(markdown):
    """Language -> code, of the fenced blocks."""
    found = {}
    for token in MarkdownIt("commonmark").parse(markdown):
        if token.type == "fence":
            found.setdefault(token.info, []).append(token.content)
    return found


def table(read_page, first):
    """The rows below the header of the table whose header begins with these cells."""
    (found,) = [rows for rows in read_page.tables if rows[0][: len(first)] == list(first)]
    return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


def words(report):
    """What the card says against the model, as text."""
    return [" ".join(blocks.markdown_words(item).split()) for item in card.limits(report)]


def change(report, **values):
    """The report with another evaluation."""
    return report.model_copy(update={"evaluation": report.evaluation.model_copy(update=values)})


@pytest.fixture(scope="module")
def report():
    return make_report()[0]


def test_it_has_the_sections_of_mitchell_et_al(report):
    titles = re.findall(r"^## (.*)$", card.markdown(report), re.M)
    assert titles == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
        "How to call it",
    ]


def test_the_table_of_classes_is_the_reports(report):
    rows = table(read(card.markdown(report)), ["class", "n", "recall", "interval"])
    assert [row["class"] for row in rows] == [row.class_name for row in report.evaluation.classes]
    for row, expected in zip(rows, report.evaluation.classes, strict=True):
        low, high = expected.recall_interval
        assert row["n"] == str(expected.count)
        assert row["recall"] == web.percent(expected.recall)
        assert row["interval"] == f"{web.percent(low)} to {web.percent(high)}"
        assert row["precision"] == web.percent(expected.precision)
        assert row["change"].strip("()") == web.points(expected.change)
        assert row["change"].startswith("(") == expected.change_is_small
        assert row["trained on"] == str(report.data.counts["train"][expected.class_name])
        assert row["taken for"] == f"{expected.mostly_taken_for} ({expected.mostly_taken_for_count})"
        assert row["gates"] == ("passed" if expected.passed else "failed")


def test_of_many_classes_the_worst_are_shown_and_the_rest_counted():
    report = make_report(classes=1000, count=20, pictures=0)[0]
    text = card.markdown(report)
    rows = table(read(text), ["class", "n", "recall"])
    assert [row["class"] for row in rows] == [row.class_name for row in report.evaluation.classes[: card.ROWS]]
    assert f"{1000 - card.ROWS} more classes" in text
    assert len(text) < 40_000


@pytest.mark.parametrize("options", [{}, {"passing": True}, {"names": HOSTILE}, {"classes": 60, "count": 20}])
def test_both_forms_say_the_same(options):
    report = make_report(**options)[0]
    as_markdown, as_html = read(card.markdown(report)), Page(card.html(report))
    title = f"Model card: {report.name}"
    assert as_markdown.text.startswith(title)
    assert as_html.text == as_markdown.text.removeprefix(f"{title} ")
    assert as_html.tables == as_markdown.tables


def test_no_name_is_taken_for_markup():
    report = make_report(names=HOSTILE)[0]
    harmless = make_report(classes=len(HOSTILE))[0]
    shown = read(card.markdown(report))
    assert shown.tags == read(card.markdown(harmless)).tags
    assert not shown.tags & {"script", "a", "img", "em", "s"}
    assert Page(card.html(report)).tags == Page(card.html(harmless)).tags
    rows = table(shown, ["class", "n"])
    assert {row["class"] for row in rows} == {" ".join(name.split()) for name in HOSTILE}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", ["{}", "- {}", "# {}", "a\n\n{}"])
def test_a_name_is_itself_wherever_a_line_holds_it(name, form):
    expected = " ".join(name.split())
    for said in (name, blocks.Code(name)):
        found = read(form.format(blocks.markdown_words(said)))
        assert found.text.removeprefix("a ") == expected
        assert found.tags <= {"p", "ul", "li", "h1", "code"}


def test_slices_too_small_to_judge_are_counted_and_not_shown(report):
    slices = report.evaluation.slices[1]
    rows = table(read(card.markdown(report)), ["class_name", "brightness"])
    judged = [row for row in slices.rows if not row.too_small]
    assert 0 < len(judged) < len(slices.rows)
    shown = [[row["class_name"], row["brightness"]] for row in rows]
    assert shown == [row.values for row in judged[: card.SLICES]]
    assert f"{len(slices.rows) - len(judged)} slices with fewer than 30 examples" in card.markdown(report)


def test_a_report_of_an_evaluation_alone_gives_a_card():
    report = make_report(baseline=False, slices=False, training=False, data=False, serving=False, run=False)[0]
    bare = change(report, calibration=[], gates=[], macro_f1=None, calibration_error=None).model_copy(
        update={"settings": {}, "versions": {}, "lineage": [], "history": []}
    )
    text = card.markdown(bare)
    assert "None" not in text
    assert "change" not in read(text).tables[1][0]
    assert json.dumps(card.PLACEHOLDER) in listings(text)["python"][0]


def test_the_weakest_class_and_the_most_frequent_mistake_are_named(report):
    worst = report.evaluation.classes[0]
    said = " ".join(words(report))
    assert f"Its weakest class is {worst.class_name}: recall {' '.join(web.percent(worst.recall).split())}" in said
    assert f"most often taken for {worst.mostly_taken_for} ({worst.mostly_taken_for_count} of {worst.count})" in said
    changed = change(report, confusion_matrix=[[90, 10], [31, 69]], class_names=["cat", "dog"])
    assert "Its most frequent mistake is dog taken for cat: 31 of 100." in words(changed)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(0.95, "It is overconfident"), (0.70, "It is underconfident"), (0.81, "neither over- nor underconfident")],
)
def test_calibration_is_judged_by_the_interval_of_the_accuracy(report, confidence, expected):
    bins = [
        schema.CalibrationBin(low=0.5, high=0.75, count=0, confidence=None, accuracy=None),
        schema.CalibrationBin(low=0.75, high=1, count=500, confidence=confidence, accuracy=0.8),
    ]
    changed = change(report, calibration=bins, accuracy=0.8, accuracy_interval=(0.76, 0.83))
    (said,) = [item for item in words(changed) if "confident" in item]
    assert expected in said


def test_what_is_known_too_little_about_is_said(report):
    part = report.evaluation
    few = part.classes[3].model_copy(update={"count": 4, "recall_interval": (0.3, 0.9)})
    tested = [*part.classes[:3], few, *part.classes[4:-1]]
    untested = part.classes[-1].class_name
    counts = {**report.data.counts, "train": {"cat": 20, "dog": 500}}
    changed = change(report, classes=tested).model_copy(
        update={"data": report.data.model_copy(update={"counts": counts})}
    )
    said = words(changed)
    assert f"No test example: nothing is known about {untested}." in said
    (wide,) = [item for item in said if item.startswith("Few test examples")]
    assert f"{few.class_name} (n = 4)" in wide
    assert "Uneven training data: 20 examples of cat, 500 of dog." in said
    assert not [item for item in words(report) if item.startswith(("Uneven", "No test example"))]


def test_a_loss_against_the_baseline_is_said_only_beyond_the_interval(report):
    first, second, *others = report.evaluation.classes
    rows = [
        first.model_copy(update={"baseline_recall": first.recall_interval[1] + 0.01}),
        second.model_copy(update={"baseline_recall": second.recall_interval[1] - 0.001}),
        *(row.model_copy(update={"baseline_recall": row.recall}) for row in others),
    ]
    (said,) = [item for item in words(change(report, classes=rows)) if item.startswith("Against the baseline")]
    assert first.class_name in said
    assert second.class_name not in said
    assert not any("Against" in item for item in words(change(report, classes=rows[1:])))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of an exported model of the report's classes."""
    keras.utils.set_random_seed(1)
    summary = DataSummary(("cat", "dog", "ibis"), (1, 1, 1), (120.0, 110.0, 100.0), (3000.0, 2000.0, 1000.0), 16)
    network = model.build(Model(variant="cifar", input_size=16, width=0.1), 3, 16, summary.mean, summary.variance)
    folder = tmp_path_factory.mktemp('serving "quoted" ü\'s') / "pets" / "1"
    export.export(network, summary, folder)
    return folder


@pytest.mark.parametrize(
    ("views", "end"), [(1, "parameters"), (6, "parameters, answers averaged over 6 views of an image")]
)
def test_the_network_is_described_as_it_was_exported(exported, views, end):
    chosen = settings.load(overrides=["model.width=0.1", "model.input_size=16", f"model.views={views}"])
    described = evaluation_report.describe(chosen, evaluation_report.load(str(exported)))
    assert described.startswith(
        "AlexNet with a stem for small images, width 0.1, batch normalization, input 16 × 16 "
    )
    assert described.endswith(end)


def pushed(report, path):
    return report.model_copy(update={"run": report.run.model_copy(update={"pushed": str(path)})})


def test_the_python_code_of_the_card_runs(exported, tmp_path):
    report = pushed(make_report(names=["cat", "dog", "ibis"])[0], exported)
    text = card.markdown(report)
    (code,) = listings(text)["python"]
    (tmp_path / "picture.png").write_bytes(encoded(picture(1, (40, 50))))
    (file,) = re.findall(r"`([^`]*model\.keras)`", text)
    check = f"\nimport keras\nprint(keras.models.load_model({str(exported / file)!r}).output_shape)\n"
    process = subprocess.run(
        [sys.executable, "-c", code + check],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert process.returncode == 0, process.stderr[-3000:]
    answer, shape = process.stdout.splitlines()
    assert re.fullmatch(r"(cat|dog|ibis) 0\.\d+", answer)
    assert shape == "(None, 3)"


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_the_request_of_the_card_is_what_tensorflow_serving_takes(tmp_path):
    report = pushed(make_report(passing=True)[0].model_copy(update={"name": "my pets"}), "serving/my pets/7")
    server_command, request = listings(card.markdown(report))["sh"]
    assert "--model_base_path='serving/my pets'\n" in server_command
    image = encoded(np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8))
    assert len(image) > 200_000  # more than an argument of a command may have
    (tmp_path / "picture.png").write_bytes(image)
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"predictions": []}')

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        local = request.replace("http://localhost:8501", f"http://127.0.0.1:{server.server_port}")
        process = subprocess.run(["sh", "-c", local], cwd=tmp_path, capture_output=True, text=True)
        server.shutdown()
    assert process.stdout == '{"predictions": []}', process.stderr
    ((path, body),) = asked
    assert path == "/v1/models/my%20pets:predict"
    (instance,) = body["instances"]  # a single named input: the list of its values (TensorFlow Serving, RESTful API)
    assert list(instance) == ["b64"]
    assert base64.b64decode(instance["b64"], validate=True) == image


def test_a_network_with_own_layers_names_the_import(report):
    lrn = report.model_copy(update={"settings": {"model": {"normalization": "lrn"}}})
    assert "`trainer.model`" in card.markdown(lrn)
    assert "trainer.model" not in card.markdown(report)


def test_a_report_hands_on_the_newest_evaluations_and_not_all_for_ever():
    def past(number):
        return schema.Past(run=f"{number}", made="2026", count=1, accuracy=1, recalls={}, blessed=True)

    assert [one.run for one in evaluation_report.course(None, past(1))] == ["1"]
    earlier = [past(number) for number in range(evaluation_report.PASTS)]
    before = make_report()[0].model_copy(update={"history": earlier})
    course = evaluation_report.course(before, past("new"))
    assert len(course) == evaluation_report.PASTS
    assert (course[0].run, course[-1].run) == ("1", "new")
