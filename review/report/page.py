"""The report as one HTML file that needs nothing else: no server, no network, no JavaScript."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

import markupsafe
import yaml

from core import settings, yaml_text
from core.errors import UserError
from core.text import setting
from review import duplicates, near_duplicates, notes, statistics, weak_words
from review import suspects as doubts
from review.report import charts, schema, suspects, web

MOST_BYTES = 15_000_000  # of a page; beyond it pictures are left out
FULL_MATRIX = 25  # classes; with more, the confusion matrix shows the worst
WORST = 20
PAIRS = 15  # most confused ones
LEVELS = 10  # colours of heat maps
ENLARGED = 128  # pixels; smaller pictures are enlarged up to this, by a whole factor


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a heat map.

    Attributes:
        count: examples.
        share: what the cell is coloured by; None where there are no examples.
        level: of the colour, 0 (none) to LEVELS.
        faint: too few examples to judge by.
    """

    count: int
    share: float | None
    level: int
    faint: bool = False


@dataclasses.dataclass(frozen=True)
class Pair:
    """Examples of one class that were taken for one class. `share`: of the true class; `href`: to their pictures."""

    true: str
    predicted: str
    count: int
    share: float
    href: str


@dataclasses.dataclass(frozen=True)
class Group:
    """Pictures of one class and kind. `count`: how many test examples are of this kind, None where not known."""

    id: str
    title: str
    count: int | None
    pictures: list[schema.Picture]


@dataclasses.dataclass(frozen=True)
class Heat:
    """Accuracy by two features. `low`: the accuracy of the lightest colour; the darkest is 100 %."""

    features: tuple[str, str]
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    left_out: int
    low: float


def render(report: schema.Report, pictures: Mapping[str, bytes], card: markupsafe.Markup | None = None) -> str:
    """The report as the text of an HTML file of at most MOST_BYTES.

    Args:
        report: what to show; parts that it lacks are left out.
        pictures: file name in images.zip -> PNG or JPEG. Where the page would become too large, those of the
            classes with the best recall are left out, maps before pictures, and the page says so.
        card: the model card as HTML; a plain string is escaped.
    """
    order = {row.class_name: place for place, row in enumerate(report.evaluation.classes)}  # worst first
    known = [picture for picture in report.pictures if picture.true in order and picture.file in pictures]
    kept = sorted(known, key=lambda picture: order[picture.true])
    maps = [{file for file in (picture.map, picture.true_map) if file and file in pictures} for picture in kept]
    with_maps = sum(map(bool, maps))
    spare = MOST_BYTES - sum(
        _size(pictures, {picture.file, *files}) for picture, files in zip(kept, maps, strict=True)
    )
    while True:
        while kept and spare < 0:
            spare += _size(pictures, maps.pop() if maps else {kept.pop().file})
        text = (
            web.environment()
            .get_template("report.html.j2")
            .render(
                _context(report, kept, pictures),
                card=card,
                left_out=len(known) - len(kept),
                mapped=set().union(*maps),
                maps_left_out=with_maps - sum(map(bool, maps)),
            )
        )
        spare = MOST_BYTES - len(text.encode())
        if spare >= 0 or not kept:
            return text


def _context(
    report: schema.Report, kept: Sequence[schema.Picture], pictures: Mapping[str, bytes]
) -> dict[str, object]:
    """What the template shows, and the functions that it calls."""
    part = report.evaluation
    labels = {name: label for label, name in enumerate(part.class_names)}
    rows = {row.class_name: row for row in part.classes}
    pairs = _pairs(part, labels, kept)
    by_class: dict[str, list[schema.Picture]] = {}
    for picture in kept:
        by_class.setdefault(picture.true, []).append(picture)
    gates: dict[str, list[schema.Gate]] = {}
    for gate in part.gates:
        gates.setdefault(gate.what, []).append(gate)
    wrong = {
        name: sorted(
            (pair for pair in pairs.get(name, {}).values() if pair.predicted != name), key=lambda p: -p.count
        )
        for name in rows
    }
    shown = part.class_names
    if len(shown) > FULL_MATRIX:
        shown = [row.class_name for row in part.classes[:WORST]]
    answers = sum(b.count for b in part.calibration) or 1
    gap = sum(b.count * ((b.confidence or 0.0) - (b.accuracy or 0.0)) for b in part.calibration)  # no count: 0
    nodes = [
        (
            node.name,
            node.seconds,
            f"{web.duration(node.seconds)}{'' if node.state == 'done' else f' ({node.state})'}",
        )
        for node in (report.run.nodes if report.run else [])
        if node.state != "skipped"
    ]
    found = report.data.duplicates if report.data else None
    return {
        "report": report,
        "part": part,
        "notes": notes.of_report(report, web.percent),
        "decided": [notes.decision(made) for made in report.decisions],
        "overruled": any(made.against for made in report.decisions),
        "said": duplicates.of_report(report, web.percent),
        "twins": _twins(found, pictures) if found else [],
        "near_said": near_duplicates.of_report(report, web.percent),
        "near_pairs": _near_pairs(report, pictures),
        "labels": labels,
        "rows": rows,
        "gates": gates,
        "wrong": wrong,
        "pairs": sorted((p for found in wrong.values() for p in found), key=lambda p: -p.count)[:PAIRS],
        "groups": {name: _groups(labels, found, wrong[name]) for name, found in by_class.items()},
        "matrix": _matrix(part, shown, pairs),
        "matrix_classes": shown,
        "picture_count": len(kept),
        "source": lambda picture: _data_uri(pictures[picture.file]),
        "pictures": pictures,
        "uri": _data_uri,
        "map_source": lambda file: _data_uri(pictures[file]),
        "factor": lambda picture: max(1, ENLARGED // max(picture.width, picture.height)),
        "heat": lambda slices: _heat(slices, [row.class_name for row in part.classes]),
        "epochs": _epochs(report.training),
        "search": _search(report.tuning),
        "history": _history(report.history),
        "recalls": lambda name: [past.recalls.get(name) for past in report.history],
        "weak": weak_words.with_pictures(part.weak_slices, kept),
        "weak_heading": weak_words.heading(part.weak_slices.model_dump()) if part.weak_slices else "",
        "weak_name": weak_words.name,
        "command": _command(report),
        "yaml": _yaml,
        "setting": setting,
        "calibration_gap": gap / answers,
        "percent_0": lambda share: web.percent(share, 0),
        "nodes": nodes,
        "node_words": [f"{name} {note}" for name, _, note in nodes],
        "most": lambda counts: max(counts.values(), default=0) or 1,
        **_suspects(report, pictures),
        "artifacts": {artifact.name: place for place, artifact in enumerate(report.lineage, 1)},
        "charts": charts,
    }


def _twins(
    found: schema.Duplicates, pictures: Mapping[str, bytes]
) -> list[tuple[str, int, list[schema.DuplicatePicture]]]:
    """Title, number of pictures and some of them, for each kind of duplicates that has any."""
    titles = {"leaked": "In an earlier split, too", "contradicting": "Under two or more classes"}
    shown = {
        kind: [picture for picture in found.shown if picture.kind == kind and picture.file in pictures]
        for kind in titles
    }
    return [
        (title, max(found.kinds.get(kind, 0), len(shown[kind])), shown[kind])
        for kind, title in titles.items()
        if shown[kind]
    ]


def _suspects(report: schema.Report, pictures: Mapping[str, bytes]) -> dict[str, object]:
    """What `suspects.html.j2` and the part on the data show of labels that may be wrong, or were corrected."""
    found, corrected = report.suspects, report.data.corrections if report.data else None
    return {
        "suspects_said": doubts.tell(found.count, found.judged, found.total, web.percent) if found else "",
        "suspects_shown": [row for row in found.rows if row.file in pictures] if found else [],
        "suspects_commands": suspects.commands(report, _command(report)),
        "corrections_said": doubts.tell_corrections(corrected.model_dump() if corrected else None),
    }


def _near_pairs(report: schema.Report, pictures: Mapping[str, bytes]) -> list[schema.NearPair]:
    """The pairs of near-duplicates of which both pictures are there."""
    found = report.data.near_duplicates if report.data else None
    return [pair for pair in found.shown if {pair.example.file, pair.known.file} <= pictures.keys()] if found else []


def _pairs(
    part: schema.Evaluation, labels: Mapping[str, int], kept: Sequence[schema.Picture]
) -> dict[str, dict[str, Pair]]:
    """True class -> predicted class -> the pair, where there are such examples."""
    places: dict[tuple[str, str], str] = {}
    for picture in kept:
        places.setdefault((picture.true, picture.predicted), _group_id(picture, labels))
    found: dict[str, dict[str, Pair]] = {}
    for row in part.classes:
        true = row.class_name
        counts = part.confusion_matrix[labels[true]]
        total = sum(counts)
        found[true] = {}
        for predicted, count in zip(part.class_names, counts, strict=False):  # it may end before
            if count:
                href = places.get((true, predicted), f"c{labels[true]}")
                found[true][predicted] = Pair(true, predicted, count, count / total, f"#{href}")
    return found


def _group_id(picture: schema.Picture, labels: Mapping[str, int]) -> str:
    kind = f"as-{labels[picture.predicted]}" if picture.kind == "mistake" else picture.kind
    return f"c{labels[picture.true]}-{kind}"


def _groups(labels: Mapping[str, int], pictures: Sequence[schema.Picture], wrong: Sequence[Pair]) -> list[Group]:
    """The mistakes by what the class was taken for, the most frequent first; then borderline and right ones."""
    counts = {pair.predicted: pair.count for pair in wrong}
    titles: dict[str, tuple[str, int | None]] = {}
    by_id: dict[str, list[schema.Picture]] = {}
    for picture in pictures:
        key = _group_id(picture, labels)
        by_id.setdefault(key, []).append(picture)
        if picture.kind == "mistake":
            titles[key] = (f"Taken for {picture.predicted}", counts.get(picture.predicted))
        elif picture.kind == "borderline":
            titles[key] = ("Borderline, the least certain first", None)
        else:
            titles[key] = ("Right", None)
    made = [Group(key, *titles[key], found) for key, found in by_id.items()]
    kinds = ("mistake", "borderline", "right")
    return sorted(made, key=lambda group: (kinds.index(group.pictures[0].kind), -(group.count or 0)))


def _matrix(
    part: schema.Evaluation, shown: Sequence[str], pairs: Mapping[str, Mapping[str, Pair]]
) -> list[list[tuple[Cell, str | None, str]]]:
    """The rows of the confusion matrix: (cell, predicted class, href); a last column for all others."""
    made = []
    for true in shown:
        found = pairs.get(true, {})
        total = sum(pair.count for pair in found.values())
        cells: list[tuple[Cell, str | None, str]] = []
        for predicted in shown:
            pair = found.get(predicted)
            cells.append((_root_cell(pair.count if pair else 0, total), predicted, pair.href if pair else ""))
        if len(shown) < len(part.class_names):
            cells.append((_root_cell(total - sum(cell.count for cell, _, _ in cells), total), None, ""))
        made.append(cells)
    return made


def _root_cell(count: int, total: int) -> Cell:
    """Coloured by the square root of the share, or most mistakes would look like none."""
    share = count / total if total else None
    return Cell(count, share, math.ceil(LEVELS * math.sqrt(share) - 1e-9) if share else 0)


def _heat(slices: schema.Slices, classes: Sequence[str]) -> Heat | None:
    """The heat map of two crossed features; None for fewer or more of them."""
    if len(slices.features) != 2:
        return None
    turned = slices.features[1] == "class_name"
    first, second = (1, 0) if turned else (0, 1)
    found = {(row.values[first], row.values[second]): row for row in slices.rows}
    order = {name: place for place, name in enumerate(classes)}
    names = list(dict.fromkeys(key[0] for key in found))
    if slices.features[first] == "class_name":
        names.sort(key=lambda name: order.get(name, len(order)))
    columns = sorted({key[1] for key in found}, key=_by_number)
    judged = [row.accuracy for row in slices.rows if not row.too_small] or [row.accuracy for row in slices.rows]
    low = min(0.9, math.floor(10 * min(judged)) / 10)
    rows = []
    for name in names[:FULL_MATRIX]:
        cells = []
        for column in columns:
            row = found.get((name, column))
            if row is None:
                cells.append(Cell(0, None, 0))
            else:
                level = 1 + round((LEVELS - 1) * max(0.0, row.accuracy - low) / (1 - low))
                cells.append(Cell(row.count, row.accuracy, 0 if row.too_small else level, row.too_small))
        rows.append((name, cells))
    features = (slices.features[first], slices.features[second])
    return Heat(features, columns, rows, max(0, len(names) - FULL_MATRIX), low)


def _by_number(value: str) -> tuple[float, bool, str]:
    """Sorts "dark (<64)", "dim (64-127)", "light (>=128)" as they are here, and words by the alphabet."""
    number = re.search(r"-?\d+(\.\d+)?", value)
    return (float(number[0]) if number else math.inf, "<" not in value, value)


def _epochs(training: Sequence[schema.Epoch]) -> list[tuple[str, markupsafe.Markup]]:
    """The training curves: title, chart."""
    if not training:
        return []
    x = [str(epoch.epoch) for epoch in training]

    def draw(what: str, form: charts.Format, most: float | None = None, **keys: str) -> tuple[str, markupsafe.Markup]:
        drawn = [charts.Line(name, [getattr(epoch, key) for epoch in training]) for name, key in keys.items()]
        last = " and ".join(f"{form(getattr(training[-1], key))} ({name})" for name, key in keys.items())
        label = f"{what} over {web.plural(len(x), 'epoch')}, at last {last}."
        return what, charts.lines(label, x, drawn, "epoch", form, (0, most))

    return [
        draw("Loss", lambda value: f"{value:.4g}", training="loss", validation="val_loss"),
        draw("Accuracy", lambda value: web.percent(value, 0), 1, training="accuracy", validation="val_accuracy"),
        draw("Learning rate", lambda value: f"{value:.3g}", rate="learning_rate"),
        draw("Images per second", web.number, images="images_per_second"),
    ]


def _search(trials: Sequence[schema.Trial]) -> markupsafe.Markup | None:
    """The accuracy of every trial and the best so far, in the order in which they were made."""
    if not trials:
        return None
    accuracies = {trial.trial: trial.accuracy for trial in trials}
    places = range(1, max(accuracies) + 1)
    found = [accuracies.get(place) for place in places]
    best = [max((a for a in found[:place] if a is not None), default=None) for place in places]
    label = (
        f"Validation accuracy of {web.plural(len(trials), 'trial')}, from {web.percent(trials[-1].accuracy)} to "
        f"{web.percent(trials[0].accuracy)}; the best is trial {trials[0].trial}."
    )
    lines = [charts.Line("best so far", best), charts.Line("trial", found, filled=[True] * len(found))]
    return charts.lines(label, [str(place) for place in places], lines, "trial", lambda a: web.percent(a, 0), (0, 1))


def _history(past: Sequence[schema.Past]) -> markupsafe.Markup | None:
    """Accuracy over the runs; None for fewer than two."""
    if len(past) < 2:
        return None
    line = charts.Line(
        "accuracy",
        [run.accuracy for run in past],
        [statistics.wilson(run.accuracy, run.count) for run in past],
        [run.blessed for run in past],
    )
    blessed = sum(run.blessed for run in past)
    label = (
        f"Accuracy over {len(past)} runs, from {web.percent(past[0].accuracy)} to {web.percent(past[-1].accuracy)}; "
        f"{blessed} of them blessed."
    )
    one_day = past[0].made[:10] == past[-1].made[:10]
    x = [run.made[11:16] if one_day else run.made[5:10] for run in past]
    return charts.lines(label, x, [line], "run", web.percent, (0, 1))


def _command(report: schema.Report) -> str | None:
    """The command that asks for the same settings; None where the preset is not known."""
    if not (report.run and report.run.preset):
        return None
    words = ["alexnet", "run", "--preset", report.run.preset]
    try:
        preset = settings.load(report.run.preset).model_dump(mode="json")
    except UserError:  # it is not there any more
        return shlex.join(words)
    for group, values in report.settings.items():
        for key, value in values.items():
            if value != preset.get(group, {}).get(key):
                words += ["--set", f"{group}.{key}={_yaml(value)}"]
    return shlex.join(words)


def _yaml(value: object) -> str:
    """The value in one line of YAML: as it is where that reads back, otherwise as JSON, which is YAML, too."""
    with contextlib.suppress(yaml.YAMLError):
        if isinstance(value, str) and yaml_text.load(value) == value:
            return value
    return json.dumps(value, ensure_ascii=False)


def _size(pictures: Mapping[str, bytes], files: Iterable[str]) -> int:
    """Bytes of some files as they are in the page."""
    return sum(4 * math.ceil(len(pictures[file]) / 3) for file in files)


def _data_uri(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
