"""The model card, as GitHub Markdown and as a section of the HTML report.

Its sections are those of Mitchell et al., *Model Cards for Model Reporting* (FAT* 2019, arXiv:1810.03993), and one on
how to call the model. It says only what follows from the report. Both forms are made from the same sections, so they
cannot differ.
"""

from __future__ import annotations

import json
import shlex
import urllib.parse
from collections.abc import Mapping, Sequence

import markupsafe

from review import duplicates, near_duplicates, notes, suspects, weak_words
from review.report import schema, web
from review.report.blocks import (
    Block,
    Code,
    Facts,
    Listing,
    Paragraph,
    Points,
    Section,
    Table,
    Words,
    fence,
    html_words,
    markdown_words,
)

ROWS = 50  # of the table of classes; the worst ones
SLICES = 20  # rows of each table of slices; the worst ones
NAMES = 50  # classes that are listed by name
SOME = 10  # classes, or confusions, where a few will do
WIDE = 0.2  # an interval of this width or more says little about a class
FITS = {
    "stretch": "aspect ratio not kept",
    "crop": "the central square of each",
    "pad": "with margins where it is no square",
}
SOURCE = "The form is that of Mitchell et al., Model Cards for Model Reporting (2019), arXiv:1810.03993."
PLACEHOLDER = "path/to/the/model"


def markdown(report: schema.Report) -> str:
    """The card as a file of GitHub Markdown."""
    template = web.environment().get_template("model_card.md.j2")
    title = f"Model card: {report.name}"
    return template.render(title=title, sections=sections(report), source=SOURCE, words=markdown_words, fence=fence)


def html(report: schema.Report) -> markupsafe.Markup:
    """The card for the HTML report, below a heading of its level 2: the same sections in the same words."""
    template = web.environment().get_template("model_card.html.j2")
    return markupsafe.Markup(template.render(sections=sections(report), source=SOURCE, words=html_words))


def sections(report: schema.Report) -> list[Section]:
    """The content of the card."""
    return [
        Section("Model details", _details(report)),
        Section("Intended use", _use(report)),
        Section("Factors", _factors(report)),
        Section("Metrics", _metrics(report)),
        Section("Evaluation data", _evaluation_data(report)),
        Section("Training data", _training_data(report)),
        Section("Quantitative analyses", _analyses(report)),
        Section("Ethical considerations", _ethics()),
        Section("Caveats and recommendations", [Points(limits(report))]),
        Section("How to call it", _calling(report)),
    ]


def stamped(markdown: str, sentence: str) -> str:
    """A card with a sentence right below its title: what was decided when the card lay there already."""
    title, _, rest = markdown.partition("\n")
    return f"{title}\n\n**{markdown_words(sentence)}**\n{rest}"


def _details(report: schema.Report) -> list[Block]:
    rows: list[tuple[str, Words]] = [("What it is", report.model), ("State", report.verdict.sentence)]
    rows += [("Decision", notes.decision(made)) for made in report.decisions]
    rows += [("Not to be missed", line) for line in notes.of_report(report, web.percent)]
    if report.run:
        preset = (", preset ", Code(report.run.preset)) if report.run.preset else ()
        rows.append(("Run", (Code(report.run.id), *preset)))
    rows.append(("Evaluated", web.moment(report.made)))
    if report.run and report.run.pushed:
        rows.append(("Pushed as", Code(report.run.pushed)))
    if report.serving and report.serving.latency_ms is not None:
        rows.append(("Latency in the serving check", f"{report.serving.latency_ms:.1f} ms for one image (median)"))
    for group, name in (("preprocessing", "Preprocessing"), ("model", "Network"), ("training", "Training")):
        if values := report.settings.get(group):
            rows.append((f"{name} settings", Code(" ".join(f"{key}={_yaml(values[key])}" for key in values))))
    if report.training:
        last = report.training[-1]
        words = (
            f"{web.plural(len(report.training), 'epoch')}; in the last one accuracy {web.percent(last.accuracy)} "
            f"and loss {last.loss:.3f} in training, {web.percent(last.val_accuracy)} and {last.val_loss:.3f} on the "
            "validation split"
        )
        rows.append(("Training", words))
    if report.versions:
        rows.append(("Versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())))
    return [Facts(rows)]


def _use(report: schema.Report) -> list[Block]:
    names = report.evaluation.class_names
    return [
        Paragraph(
            f"It takes an image and gives the probability of each of {web.plural(len(names), 'class', 'classes')}, "
            f"and the most probable one as its answer: {_some(names, NAMES)}."
        ),
        Paragraph(
            "Out of its scope are images of anything else, and images unlike those that it was tested on. Who is to "
            "use it, and for what, is not recorded in the report."
        ),
    ]


def _factors(report: schema.Report) -> list[Block]:
    slices = _some([_crossed(part.features) for part in report.evaluation.slices])
    return [
        Paragraph(
            f"Its results are given for each true class{f' and for slices by {slices}' if slices else ''}. No other "
            "property of the images, of what they show, or of how they were taken was examined."
        )
    ]


def _metrics(report: schema.Report) -> list[Block]:
    part = report.evaluation
    rows = [
        ("Accuracy", "the share of the test examples whose most probable class is the true one"),
        ("Top-3 accuracy", "the share whose true class is among the three most probable ones"),
        ("Recall", "of the examples of a class, the share that was recognised"),
        ("Precision", "of the examples that were given a class, the share that is of it"),
        ("F1", "the harmonic mean of precision and recall; macro F1 is its mean over the classes"),
    ]
    if any(row.auc is not None for row in part.classes):
        rows.append(("AUC", "the area under the ROC curve of a class against the rest"))
    if part.calibration_error is not None:
        words = (
            "how far the probability of the answer is from the share of right answers, on average over "
            f"{web.plural(len(part.calibration), 'bin')} of that probability"
        )
        rows.append(("Expected calibration error", words))
    rows += [
        ("Interval", "what the value may be, given so few examples: Wilson's score interval, 95 %"),
        ("Decision", "the most probable class is the answer, however small its probability: there is no threshold"),
    ]
    return [Facts(rows)]


def _evaluation_data(report: schema.Report) -> list[Block]:
    part = report.evaluation
    counts = {row.class_name: row.count for row in part.classes}
    rows: list[tuple[str, Words]] = [
        ("Examples", f"{part.count:,}, the test split"),
        ("Examples of a class", _range(counts)),
    ]
    if part.without_leaked:
        rows.append(("Of them duplicates of training or validation pictures", f"{part.without_leaked.leaked:,}"))
    if near := sum(row.near for row in part.classes):
        rows.append(("Of them near-duplicates of training or validation pictures", f"{near:,}"))
    if found := report.suspects:
        rows.append(("Suspected labels", suspects.tell(found.count, found.judged, found.total, web.percent)))
    if report.data:
        rows.insert(0, ("Source", Code(report.data.source)))
    chosen = report.settings.get("preprocessing", {})
    if size := chosen.get("image_size"):
        fit = FITS[chosen.get("fit", "stretch")]
        words = f"decoded to RGB and resized to {size} × {size} pixels, {fit}, as in training and serving"
        rows.append(("Preprocessing", words))
    return [Facts(rows)]


def _training_data(report: schema.Report) -> list[Block]:
    data = report.data
    if data is None:
        return [Paragraph("The report has no data about it.")]
    rows: list[tuple[str, Words]] = [("Source", Code(data.source))]
    for split, what in (("train", "Examples to learn from"), ("validation", "Examples to watch it by")):
        if counts := data.counts.get(split):
            rows.append((what, f"{sum(counts.values()):,}, the {split} split; of a class {_range(counts)}"))
    if data.read:
        due = f", for the run due {web.moment(data.due)} UTC" if data.due else ""
        rows.append(("Read", f"{web.moment(data.read)} UTC{due}"))
    if data.fingerprint:
        rows.append(("Fingerprint of the source", Code(data.fingerprint)))
    if found := data.corrections:
        words = f"{found.relabelled:,} relabelled, {found.left_out:,} left out, in all splits, by "
        rows.append(("Corrections", (words, Code(found.file), ", fingerprint ", Code(found.fingerprint))))
    rows.append(("Dropped as damaged or mislabelled", web.plural(data.bad, "record")))
    if data.ignored:
        words = ", ".join(f"{reason}: {count:,}" for reason, count in data.ignored.items())
        rows.append(("Ignored files", words))
    between = {"skew": "train and test", "drift": "this training split and the last run's"}
    for moved in data.distributions:
        words = f"{100 * moved.value:.1f} points between {between[moved.what]}, limit {100 * moved.limit:.1f}"
        rows.append((f"Largest {moved.what} of a class's share", words))
    rows.append(("Anomalies against the schema", "; ".join(data.anomalies) or "none"))
    return [Facts(rows)]


def _analyses(report: schema.Report) -> list[Block]:
    part = report.evaluation
    blocks: list[Block] = [
        _overall(part),
        _classes(report),
        *_weak(part.weak_slices),
        *(_slices(one, part.smallest_slice) for one in part.slices),
    ]
    if confusions := _confusions(part):
        share = [(true, taken, f"{n:,}", f"{of:,}", web.percent(n / of)) for n, true, taken, of in confusions]
        columns: tuple[str, ...] = ("true class", "taken for", "examples", "of", "share")
        blocks.append(Table("Most frequent mistakes", columns, share[:SOME], texts=(0, 1)))
    if bins := [bin for bin in part.calibration if bin.count]:
        rows = [
            (
                f"{bin.low:.2f} to {bin.high:.2f}",
                f"{bin.count:,}",
                web.percent(bin.confidence),
                web.percent(bin.accuracy),
            )
            for bin in bins
        ]
        columns = ("probability of the answer", "n", "mean probability", "right answers")
        blocks.append(Table("Calibration", columns, rows, note=_temperature(part)))
    if part.corruptions:
        blocks.append(_harmed(part.corruptions))
    if part.gates:
        blocks.append(_gates(part.gates))
    return blocks


def _by_chance(part: schema.Evaluation) -> str:
    found = part.calibration_error_by_chance
    return "" if found is None else f"{web.percent(found, 2)} if perfect, by chance"


def _overall(part: schema.Evaluation) -> Table:
    rows = [
        ("accuracy", web.percent(part.accuracy, 2), _interval(part.accuracy_interval)),
        *_without_leaked(part),
        ("top-3 accuracy", web.percent(part.top_3_accuracy, 2), ""),
        ("macro F1", web.percent(part.macro_f1, 2), ""),
        ("cross-entropy, nats", f"{part.loss:.3f}", ""),
        ("expected calibration error", web.percent(part.calibration_error, 2), _by_chance(part)),
    ]
    note = ""
    if part.baseline_accuracy is not None:
        loss = "" if part.baseline_loss is None else f", cross-entropy {part.baseline_loss:.3f}"
        accuracy = web.percent(part.baseline_accuracy, 2)
        note = f"The baseline, which is the latest blessed model before it: accuracy {accuracy}{loss}."
    return Table(f"Overall, n = {part.count:,}", ("metric", "value", "interval"), rows, note=note)


def _without_leaked(part: schema.Evaluation) -> list[tuple[str, str, str]]:
    """The rows of the accuracy without duplicates, and without near ones, if there are any."""
    rows = []
    for found, what in ((part.without_leaked, "duplicates"), (part.without_near, "duplicates and near-duplicates")):
        if found is not None:
            interval = _interval(found.accuracy_interval) if found.accuracy_interval else ""
            name = f"accuracy without {what} of training pictures, n = {found.count:,}"
            rows.append((name, web.percent(found.accuracy, 2), interval))
    return rows


def _classes(report: schema.Report) -> Table:
    part = report.evaluation
    trained = report.data.counts.get("train") if report.data else None
    change = any(row.baseline_recall is not None for row in part.classes)
    auc = any(row.auc is not None for row in part.classes)
    columns = ["class", "n", "recall", "interval", "precision", "F1"]
    columns += ["AUC"] * auc + ["change"] * change + ["trained on"] * bool(trained) + ["taken for", "gates"]
    rows = []
    for row in part.classes[:ROWS]:
        taken = f"{row.mostly_taken_for} ({row.mostly_taken_for_count:,})" if row.mostly_taken_for else ""
        cells = [row.class_name, f"{row.count:,}", web.percent(row.recall), _interval(row.recall_interval)]
        cells += [web.percent(row.precision), web.percent(row.f1)]
        cells += [web.number(row.auc, 3)] * auc
        cells += [f"({web.points(row.change)})" if row.change_is_small else web.points(row.change)] * change
        cells += [f"{trained.get(row.class_name, 0):,}"] if trained else []
        rows.append((*cells, taken, "passed" if row.passed else "failed"))
    notes = []
    if left := part.classes[ROWS:]:
        least = web.percent(left[0].recall)
        notes.append(f"{web.plural(len(left), 'more class', 'more classes')}, with a recall of {least} or more.")
    if change:
        notes.append(
            "Change is that of recall against the baseline, in percentage points; in brackets where the baseline "
            "lies in the interval, so that it may be chance."
        )
    return Table("Classes, worst recall first", columns, rows, texts=(0, -2, -1), note=" ".join(notes))


def _weak(found: schema.WeakSlices | None) -> list[Block]:
    """The slices that are worse than the rest, if somebody looked for them."""
    if found is None:
        return []
    words = weak_words.heading(found.model_dump())
    if not found.rows:
        return [Paragraph(words)]
    rows = [
        (
            weak_words.name(row.features, row.values),
            f"{row.count:,}",
            web.percent(row.accuracy),
            _interval(row.accuracy_interval),
            web.percent(row.rest_accuracy),
            "<0.001" if row.p < 0.001 else f"{row.p:.3f}",
        )
        for row in found.rows
    ]
    columns = ("slice", "n", "accuracy", "interval", "rest", "p")
    note = f"{words} The rest are {weak_words.REST}; p is corrected for all that were looked at (Holm)."
    return [Table("Weak slices, looked for among all features and their crosses", columns, rows, note=note)]


def _slices(slices: schema.Slices, smallest: int) -> Table:
    judged = [row for row in slices.rows if not row.too_small]
    rows = [
        (*row.values, f"{row.count:,}", web.percent(row.accuracy), _interval(row.accuracy_interval))
        for row in judged[:SLICES]
    ]
    notes = []
    if left := judged[SLICES:]:
        least = web.percent(left[0].accuracy)
        notes.append(f"{web.plural(len(left), 'more slice')}, with an accuracy of {least} or more.")
    if small := len(slices.rows) - len(judged):
        notes.append(f"{web.plural(small, 'slice')} with fewer than {smallest:,} examples left out.")
    title = f"Slices by {_crossed(slices.features)}, worst accuracy first"
    columns = (*slices.features, "n", "accuracy", "interval")
    return Table(title, columns, rows, texts=range(len(slices.features)), note=" ".join(notes))


def _harmed(found: schema.Corruptions) -> Table:
    strengths = range(len(found.kinds[0].accuracies))
    rows = [
        (row.kind, *(web.percent(value) for value in row.accuracies), web.percent(row.accuracy))
        for row in found.kinds
    ]
    title = "Accuracy on harmed pictures, by kind and strength"
    note = (
        f"{web.plural(found.examples, 'test example')}, of which {web.percent(found.unharmed_accuracy)} are right as "
        f"they are, and {web.percent(found.accuracy)} of their harmed copies. Kinds and strengths: Hendrycks and "
        "Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (2019), "
        "arXiv:1903.12261."
    )
    return Table(title, ("kind", *(str(n + 1) for n in strengths), "mean"), rows, note=note)


def _gates(gates: Sequence[schema.Gate]) -> Table:
    failed = [gate for gate in gates if not gate.passed]
    shown = failed[:ROWS] or gates[:ROWS]
    rows = [
        (
            gate.what,
            "passed" if gate.passed else "failed",
            Code(gate.reason),
            web.number(gate.value, 3),
            f"{'at most ' if gate.at_most else 'over ' if gate.strict else ''}{gate.limit:.3f}",
            f"{gate.count:,}",
        )
        for gate in shown
    ]
    columns = ("gate", "result", "limit from", "value", "limit", "n")
    left = f" {len(gates) - len(shown):,} are not shown." if len(shown) < len(gates) else ""
    note = f"{len(gates) - len(failed):,} of {web.plural(len(gates), 'gate')} passed.{left}"
    return Table("Gates, the limits that it must keep to be pushed", columns, rows, texts=(0, 1, 2), note=note)


def _ethics() -> list[Block]:
    return [
        Paragraph(
            "The report records nothing about people in the images, about consent or personal data, or about what a "
            "wrong answer may do to whom, and no group of people was examined. This is left to those who use it."
        )
    ]


def limits(report: schema.Report) -> list[Words]:
    """What is known against the model, in sentences: what its numbers say, and what they cannot say."""
    part = report.evaluation
    names = web.plural(len(part.class_names), "class", "classes")
    found: list[Words] = [
        f"It always answers with one of its {names}, also for an image of none of them.",
        f"It was tested on {web.plural(part.count, 'example')} of one test split alone. How it does on other images "
        "is not known; test it on a labelled sample of yours before you rely on it.",
    ]
    found += duplicates.of_report(report, web.percent)
    found += near_duplicates.of_report(report, web.percent)
    if report.suspects and (many := report.suspects.count):
        said = suspects.tell(many, report.suspects.judged, report.suspects.total, web.percent)
        found.append(f"{said} Until somebody has looked at them, its numbers may be better or worse than they seem.")
    if failed := sum(not gate.passed for gate in part.gates):
        found.append(f"It failed {failed:,} of its {web.plural(len(part.gates), 'gate')}; see the table of gates.")
    if part.classes:
        found += _weakest(part)
    found += _too_few(report)
    if part.weak_slices:
        found += weak_words.sentences(part.weak_slices.model_dump(), web.percent)
    for slices in part.slices:
        if worst := next((row for row in slices.rows if not row.too_small), None):
            found.append(
                f"Its weakest slice by {_crossed(slices.features)} is {_crossed(worst.values)}: accuracy "
                f"{web.percent(worst.accuracy)} ({_interval(worst.accuracy_interval)}, n = {worst.count:,})."
            )
    if sentence := _calibration(part):
        found.append(sentence)
    lost = [row for row in part.classes if row.change is not None and row.change < 0 and not row.change_is_small]
    if lost:
        words = [f"{row.class_name} ({web.points(row.change)} points)" for row in lost]
        found.append(f"Against the baseline, recall fell beyond the interval for {_some(words, SOME)}.")
    if report.data and report.data.bad:
        records = web.plural(report.data.bad, "record")
        found.append(f"Dropped as damaged or mislabelled: {records}. The numbers say nothing about such images.")
    if report.serving:
        found += [f"The serving check found: {problem}." for problem in report.serving.problems]
    found.append("Its owner, its licence and that of the data are not recorded in the report.")
    return found


def _weakest(part: schema.Evaluation) -> list[Words]:
    worst, *others = part.classes
    taken = ""
    if worst.mostly_taken_for:
        share = f"{worst.mostly_taken_for_count:,} of {worst.count:,}"
        taken = f", most often taken for {worst.mostly_taken_for} ({share})"
    close = sum(row.recall_interval[0] <= worst.recall_interval[1] for row in others)
    which = f"that of {close} other class" if close == 1 else f"those of {close:,} other classes"
    overlap = f" Its interval overlaps with {which}."
    found: list[Words] = [
        f"Its weakest class is {worst.class_name}: recall {web.percent(worst.recall)} "
        f"({_interval(worst.recall_interval)}, n = {worst.count:,}){taken}.{overlap if close else ''}"
    ]
    confusions = _confusions(part)
    if confusions and confusions[0][1:3] != (worst.class_name, worst.mostly_taken_for):
        count, true, predicted, of = confusions[0]
        found.append(f"Its most frequent mistake is {true} taken for {predicted}: {count:,} of {of:,}.")
    return found


def _too_few(report: schema.Report) -> list[Words]:
    """Classes of which too little is known, or was learned."""
    part = report.evaluation
    found: list[Words] = []
    counts = {row.class_name: row.count for row in part.classes if row.count}
    if untested := [name for name in part.class_names if name not in counts]:
        found.append(f"No test example: nothing is known about {_some(untested, SOME)}.")
    wide = [row for row in part.classes if row.count and row.recall_interval[1] - row.recall_interval[0] >= WIDE]
    if wide:
        words = [f"{row.class_name} (n = {row.count:,})" for row in sorted(wide, key=lambda row: row.count)]
        found.append(
            f"Few test examples: the interval of recall is {100 * WIDE:.0f} points wide or wider for "
            f"{_some(words, SOME)}."
        )
    trained = (report.data.counts.get("train") if report.data else None) or {}
    if trained:
        few, many = min(trained, key=trained.__getitem__), max(trained, key=trained.__getitem__)
        if trained[many] >= 2 * trained[few]:
            found.append(f"Uneven training data: {trained[few]:,} examples of {few}, {trained[many]:,} of {many}.")
    return found


def _temperature(part: schema.Evaluation) -> str:
    """What the temperature did to the probabilities."""
    if (before := part.uncalibrated) is None:
        return ""
    return (
        f"The logits are divided by a temperature of {before.temperature:.2f}, fitted on the validation split (Guo "
        "et al. 2017, On Calibration of Modern Neural Networks). Without it the expected calibration error would be "
        f"{web.percent(before.calibration_error, 2)}, the cross-entropy {before.loss:.3f}."
    )


def _calibration(part: schema.Evaluation) -> str | None:
    """Whether its probabilities can be taken at their word."""
    bins = [(bin.count, bin.confidence) for bin in part.calibration if bin.count and bin.confidence is not None]
    if not bins:
        return None
    confidence = sum(count * mean for count, mean in bins) / sum(count for count, _ in bins)
    low, high = part.accuracy_interval
    numbers = (
        f"its answers have a mean probability of {web.percent(confidence)}, and {web.percent(part.accuracy)} "
        f"({_interval(part.accuracy_interval)}) are right"
    )
    if confidence > high:
        return f"It is overconfident: {numbers}."
    if confidence < low:
        return f"It is underconfident: {numbers}."
    return f"On the whole it is neither over- nor underconfident: {numbers}."


def _calling(report: schema.Report) -> list[Block]:
    pushed = report.run.pushed if report.run else None
    made = next((artifact.uri for artifact in report.lineage if artifact.name == "model"), None)
    path = pushed or (f"{made}/Format-Serving" if made else PLACEHOLDER)
    base = path.rstrip("/").rpartition("/")[0] or "."
    name = report.name
    python = f"""\
import pathlib

import tensorflow as tf

model = tf.saved_model.load({json.dumps(path, ensure_ascii=False)})
images = tf.constant([pathlib.Path("picture.png").read_bytes()])
answer = model.signatures["serving_default"](images=images)
for class_name, probabilities in zip(answer["class_name"].numpy(), answer["probabilities"].numpy()):
    print(class_name.decode(), probabilities.max())
"""
    server = f"""\
tensorflow_model_server --rest_api_port=8501 \\
  --model_name={shlex.quote(name)} --model_base_path={shlex.quote(base)}
"""
    curl = f"""\
printf '{{"instances": [{{"b64": "%s"}}]}}' "$(base64 < picture.png | tr -d '\\n')" |
  curl --data @- {shlex.quote(f"http://localhost:8501/v1/models/{urllib.parse.quote(name, safe='')}:predict")}
"""
    blocks: list[Block] = [
        Paragraph(
            (
                "Signature ",
                Code("serving_default"),
                ": argument ",
                Code("images"),
                ", string [batch], encoded PNG or JPEG images of any size, grey or colour. It gives ",
                Code("probabilities"),
                f", float32 [batch, {len(report.evaluation.class_names)}], ",
                Code("class_id"),
                ", int64 [batch], and ",
                Code("class_name"),
                ", string [batch].",
            )
        ),
        Listing("python", python),
    ]
    if path != PLACEHOLDER and "://" not in path and not path.startswith("/"):
        blocks.insert(1, Paragraph("The path is relative to the working directory of the pipeline, which may move."))
    if pushed:
        blocks += [Paragraph("With TensorFlow Serving:"), Listing("sh", server)]
        ask = "and ask it over REST; the answer has one object for each image in "
        blocks += [Paragraph((ask, Code("predictions"), ":")), Listing("sh", curl)]
    keras: list[str | Code] = [
        "The Keras model, from uint8 [batch, height, width, 3] to logits, lies in ",
        Code("assets.extra/model.keras"),
        " of the same folder",
    ]
    if report.settings.get("model", {}).get("normalization") == "lrn":
        keras += ["; import ", Code("trainer.model"), " before you load it"]
    return [*blocks, Paragraph((*keras, "."))]


def _confusions(part: schema.Evaluation) -> list[tuple[int, str, str, int]]:
    """(examples, true class, predicted class, examples of the true class), the most frequent first."""
    names, matrix = part.class_names, part.confusion_matrix
    found = [
        (count, names[true], names[predicted], sum(row))
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return sorted(found, key=lambda confusion: -confusion[0])


def _interval(interval: schema.Interval) -> str:
    return " to ".join(map(web.percent, interval))


def _crossed(names: Sequence[str]) -> str:
    return " × ".join(names)


def _range(counts: Mapping[str, int]) -> str:
    """E.g. "20 (ibis) to 500 (cat)"."""
    if not counts:
        return web.NONE
    few, many = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[few] == counts[many]:
        return f"{counts[few]:,}"
    return f"{counts[few]:,} ({few}) to {counts[many]:,} ({many})"


def _some(names: Sequence[str], most: int | None = None) -> str:
    """E.g. "cat, dog and ibis", or "cat, dog and 98 more"."""
    if most and len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
