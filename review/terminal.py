"""What the terminal shows of finished runs: classes, slices, comparisons, history, trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from core.text import plain, setting
from core.workdir import Unreadable
from review import compare, duplicates, near_duplicates, results, suspects, weak_words
from review import history as past
from review.tables import (
    NAME,
    SPARKS,
    Bars,
    Column,
    counts,
    fraction,
    intervals,
    lines,
    names,
    numbers,
    p_value,
    p_words,
    percent,
    points,
    sparkline,
    table,
)

FOLD = 20  # classes or runs; more are folded, but where they are asked for
PASSED, FAILED = Text("✓ pass", "green"), Text("✗ fail", "bold red")
STATES = {"pushed": "green", "waiting": "cyan", "not pushed": "yellow", "failed": "red"}
VERDICTS = {
    "better": Text("▲ better", "green"),
    "worse": Text("▼ worse", "bold red"),
    "chance": Text("· chance", "dim"),
}


def class_table(
    part: Mapping,
    width: int,
    most: int | None = None,
    compared: Mapping[tuple[str, ...], compare.Change] | None = None,
) -> Table:
    """The classes of an evaluation, in its order.

    Args:
        part: the evaluation of a run's results.
        width: of the terminal.
        most: show no more than so many.
        compared: changes against another run, by class.
    """
    rows = part["classes"][:most]
    few = [row["count"] < (part.get("smallest_slice") or 0) for row in rows]
    taken_for = [
        f"{plain(row['mostly_taken_for'])} ({row['mostly_taken_for_count']})" if row["mostly_taken_for"] else ""
        for row in rows
    ]
    columns = [
        names([row["class_name"] for row in rows]),
        counts([row["count"] for row in rows], few),
        numbers("recall", [percent(row["recall"]) for row in rows], style="bold"),
        Bars(
            "",
            [],
            shares=[(row["recall"], *row["recall_interval"]) for row in rows],
            styles=["green" if row["passed"] else "red" for row in rows],
            few=few,
        ),
        intervals([row["recall_interval"] for row in rows], rank=4),
    ]
    if compared is not None:
        columns += changes([compared.get((row["class_name"],)) for row in rows])
    elif part["baseline_accuracy"] is not None:
        columns.append(baseline([row["recall"] for row in rows], [row["baseline_recall"] for row in rows]))
    areas = [row.get("auc") for row in rows]
    if any(area is not None for area in areas):
        columns.append(numbers("AUC", [fraction(area) for area in areas], rank=6))
    return table(
        [
            *columns,
            numbers("precision", [percent(row["precision"]) for row in rows], rank=2),
            numbers("F1", [percent(row["f1"]) for row in rows], rank=5),
            Column("taken for", [Text(text) for text in taken_for], rank=3, widest=NAME),
            Column("gates", [PASSED if row["passed"] else FAILED for row in rows]),
        ],
        width,
    )


def slice_table(
    found: Mapping, width: int, compared: Mapping[tuple[str, ...], compare.Change] | None = None
) -> Table:
    """Slices as in schema.Slices, in their order; `compared` by values in the order of their features."""
    rows = found["rows"]
    few = [row["too_small"] for row in rows]
    columns = [
        *(names([row["values"][k] for row in rows], plain(name)) for k, name in enumerate(found["features"])),
        counts([row["count"] for row in rows], few),
        numbers("accuracy", [percent(row["accuracy"]) for row in rows], style="bold"),
        Bars(
            "",
            [],
            shares=[(row["accuracy"], *row["accuracy_interval"]) for row in rows],
            styles=["bright_black" if small else "cyan" for small in few],
            few=few,
        ),
        intervals([row["accuracy_interval"] for row in rows], rank=2),
    ]
    if compared is not None:
        columns += changes([compared.get(tuple(row["values"])) for row in rows])
    elif any(row["baseline_accuracy"] is not None for row in rows):
        columns.append(baseline([row["accuracy"] for row in rows], [row["baseline_accuracy"] for row in rows]))
    return table([*columns, numbers("loss", [fraction(row["loss"]) for row in rows], rank=3)], width)


def baseline(values: Sequence[float], before: Sequence[float | None]) -> Column:
    """Changes against the baseline."""
    texts = ["" if old is None else points(new - old) for new, old in zip(values, before, strict=True)]
    return numbers("change", texts, rank=1)


def change_text(found: compare.Change) -> Text:
    """In percentage points, in the colour of the verdict."""
    return Text(points(found.change), VERDICTS[found.verdict].style)


def changes(found: Sequence[compare.Change | None], other: str = "other") -> list[Column]:
    """The other run's share, the change, the corrected p-value, and what to make of it."""

    def texts(show: Callable[[compare.Change], str]) -> list[str]:
        return ["" if change is None else show(change) for change in found]

    return [
        numbers(other, texts(lambda c: percent(c.first))),
        Column("change", [Text("") if c is None else change_text(c) for c in found], right=True),
        numbers("p", texts(lambda c: p_value(c.corrected)), rank=1),
        Column("verdict", [Text("") if c is None else VERDICTS[c.verdict] for c in found]),
    ]


def slices(
    console: Console,
    found: Mapping,
    chosen: Mapping | None = None,
    other: Mapping | None = None,
    how: Sequence[str] = (),
    changed: Mapping[tuple[str, ...], compare.Change] | None = None,
) -> None:
    """The classes of a run, or other slices, worst first.

    Args:
        found: results of the run.
        chosen: as schema.Slices; None for the classes.
        other: results of the run to compare with, if any.
        how: sentences on the comparison.
        changed: by class or slice.
    """
    part = found["evaluation"]
    low, high = part["accuracy_interval"]
    console.print(
        Text.assemble(
            (plain(f"Run {found['run']} ({found['preset']})"), "bold"),
            f": test accuracy {part['accuracy']:.2%} (95 % interval {low:.1%} to {high:.1%}), n={part['count']:,}",
        )
    )
    duplicate_lines(console, found)
    if other:
        accuracy = other["evaluation"]["accuracy"]
        lines(console, [f"Other: run {other['run']} ({other['preset']}), test accuracy {accuracy:.2%}", *how])
    smallest = part.get("smallest_slice") or 0
    if chosen:
        shown, small = slice_table(chosen, console.width, changed), any(row["too_small"] for row in chosen["rows"])
    else:
        shown = class_table(part, console.width, compared=changed)
        small = any(row["count"] < smallest for row in part["classes"])
    if not chosen:
        weak_words.show(console, part.get("weak_slices"))
    console.print(Padding(shown, (1, 0)))
    if small:
        what = f"few: fewer than {smallest} examples (evaluation.smallest_slice), not to be judged by."
        lines(console, [what], "yellow")
    if changed is not None:
        lines(console, [compare.correction(len(changed), "slices" if chosen else "classes")], "dim")
    if not chosen:
        gate_lines(console, part["gates"])


def comparison(console: Console, found: Sequence[compare.Comparison]) -> None:
    """Runs against the first one: overall, then the classes; many classes are folded."""
    for part in found:
        console.print(Text(f"Run {part.run} against {part.first}", "bold"))
        lines(console, part.how)
        whole = part.overall
        low, high = whole.interval
        examples = ""
        if whole.lost is not None:
            examples = f"; {whole.lost:,} examples right only in the first, {whole.gained:,} only in this one"
        console.print(
            Text.assemble(
                VERDICTS[whole.verdict],
                f": accuracy {whole.first:.2%} → {whole.share:.2%}, {points(whole.change)} points "
                f"(95 % interval {points(low)} to {points(high)}), p\u00a0{p_words(whole.corrected)}{examples}",
            )
        )
        shown = part.classes[:FOLD]
        console.print(Padding(change_table(shown, console.width), (1, 0)))
        if len(part.classes) > FOLD:
            telling = sum(change.verdict != "chance" for change in part.classes[FOLD:])
            more = f", {telling} of them beyond chance" if telling else ""
            left = len(part.classes) - FOLD
            lines(console, [f"… and {left:,} more classes{more}: --format csv or --html shows all", ""])
    lines(console, [compare.correction(len(found[0].classes), "classes", len(found))], "dim")


def change_table(classes: Sequence[compare.Change], width: int) -> Table:
    """Classes and how their recall changed, in the order given."""
    paired = all(change.lost is not None for change in classes)
    columns = [
        names([change.values[0] for change in classes]),
        numbers("n", [f"{change.count:,}" for change in classes]),
        numbers("first", [percent(change.first) for change in classes]),
        numbers("this", [percent(change.share) for change in classes], style="bold"),
        Column("change", [change_text(change) for change in classes], right=True),
        numbers(
            "interval", [f"{points(c.interval[0])} to {points(c.interval[1])}" for c in classes], rank=1, style="dim"
        ),
    ]
    if paired:
        columns.append(numbers("lost/gained", [f"{change.lost:,}/{change.gained:,}" for change in classes], rank=2))
    columns += [
        numbers("p", [p_value(change.corrected) for change in classes]),
        Column("verdict", [VERDICTS[change.verdict] for change in classes]),
    ]
    return table(columns, width)


def history(console: Console, name: str, pasts: Sequence[past.Past]) -> None:
    """The evaluations of the same data, oldest first, and the course of the classes."""
    times = sum(len(one.runs) for one in pasts)
    shown = pasts[-FOLD:]
    console.print(
        Text.assemble(
            (plain(name), "bold"),
            f": {len(pasts):,} evaluation{'s' * (len(pasts) > 1)} in {times:,} run{'s' * (times > 1)}, oldest first",
        )
    )
    if len(shown) < len(pasts):
        lines(console, [f"… {len(pasts) - len(shown):,} earlier ones: --format csv shows all"], "dim")
    states = [
        Text.assemble(
            ("✓ blessed", "green") if one.blessed else ("✗ not blessed", "yellow"),
            (" ↑ pushed", "bold green") if one.pushed else "",
        )
        for one in shown
    ]
    before = [None, *pasts][-len(shown) - 1 : -1]
    moved = [
        "" if old is None else points(one.accuracy - old.accuracy) for one, old in zip(shown, before, strict=True)
    ]
    columns = [
        Column("run", [Text(one.run + (f" ×{len(one.runs)}" if len(one.runs) > 1 else "")) for one in shown]),
        Column("preset", [Text(plain(one.preset)) for one in shown], rank=3, widest=NAME),
        numbers("n", [f"{one.count:,}{' ' if one.same_data else '*'}" for one in shown]),
        numbers("accuracy", [f"{one.accuracy:.2%}" for one in shown], style="bold"),
        Bars(
            "",
            [],
            shares=[(one.accuracy, *one.accuracy_interval) for one in shown],
            styles=["green" if one.blessed else "yellow" for one in shown],
        ),
        intervals([one.accuracy_interval for one in shown], rank=2),
        numbers("change", moved, rank=1),
        Column("gates", states),
    ]
    console.print(Padding(table(columns, console.width), (1, 0, 0, 0)))
    if any(len(one.runs) > 1 for one in shown):
        lines(console, ["×: so many runs show this evaluation; the later ones took it from the cache"], "dim")
    if not all(one.same_data for one in shown):
        lines(console, ["*: the data are not those of the evaluation before"], "dim")
    courses = past.courses(pasts)
    told = past.telling(courses, FOLD)
    lowest = min(min(course.known) for course in told)
    console.print(Padding(course_table(told, lowest, console.width), (1, 0)))
    if len(told) < len(courses):
        lines(console, [f"The worst and the most changed of {len(courses):,} classes; --format csv shows all."])
    lines(console, [f"{SPARKS[0]} {lowest:.0%} … {SPARKS[-1]} 100%"], "dim")


def course_table(shown: Sequence[past.Course], lowest: float, width: int) -> Table:
    """The recall of classes over the evaluations, drawn from `lowest` to 1."""
    columns = [
        names([course.class_name for course in shown]),
        Column("recall", [Text(sparkline(course.recalls, lowest)) for course in shown]),
        numbers("first", [percent(course.known[0]) for course in shown]),
        numbers("latest", [percent(course.recalls[-1]) for course in shown], style="bold"),
        numbers("change", [points(course.change) for course in shown]),
        numbers("lowest", [percent(min(course.known)) for course in shown], rank=1),
        numbers("highest", [percent(max(course.known)) for course in shown], rank=1),
    ]
    return table(columns, width)


def gate_lines(console: Console, gates: Sequence[Mapping]) -> None:
    """The failed gates one by one, also those that only chance may have let pass, the others as a number."""
    failed = [gate for gate in gates if not gate["passed"]]
    for gate in failed[:FOLD]:
        console.print(Text("✗ gate failed: ", "bold red") + Text(plain(gate["words"])))
    passed = len(gates) - len(failed)
    if passed:
        which = f"{passed} other" if failed else f"all {passed}"
        console.print(Text("✓ ", "green") + Text(f"{which} gate{'s' if passed > 1 else ''} passed"))
    for gate in [gate for gate in gates if gate.get("within")][:FOLD]:
        console.print(Text("! too few examples to fail: ", "yellow") + Text(plain(gate["words"])))


def corruptions(console: Console, found: Mapping) -> None:
    """How the model bears a worse camera, in the form of `schema.Corruptions`: the kinds, and the classes."""
    lines(console, [harm_sentence(found)], "bold")
    rows = found["kinds"]
    strengths = range(len(rows[0]["accuracies"]))
    columns = [names([row["kind"] for row in rows], "kind")]
    columns += [numbers(str(n + 1), [percent(row["accuracies"][n]) for row in rows]) for n in strengths]
    columns.append(numbers("mean", [percent(row["accuracy"]) for row in rows], style="bold"))
    console.print(Padding(table(columns, console.width), (1, 0)))
    classes = sorted(found["classes"], key=lambda row: 1 if row["recall"] is None else row["recall"])[:FOLD]
    columns = [
        names([row["class_name"] for row in classes]),
        numbers("as they are", [percent(row["unharmed_recall"]) for row in classes]),
    ]
    for place, kind in enumerate(row["kind"] for row in rows):
        columns.append(numbers(kind, [percent(row["recalls"][place]) for row in classes], rank=1))
    columns.append(numbers("mean", [percent(row["recall"]) for row in classes], style="bold"))
    console.print(Padding(table(columns, console.width), (0, 0, 1, 0)))
    if len(classes) < len(found["classes"]):
        lines(console, [f"The worst of {len(found['classes']):,} classes; --format json shows all."], "dim")


def harm_sentence(found: Mapping) -> str:
    """What there is to say of harmed examples, in the form of `schema.Corruptions`."""
    worst = min(found["kinds"], key=lambda row: row["accuracy"])
    return (
        f"Harmed pictures: accuracy {percent(found['accuracy'])}, of the same {found['examples']:,} test examples as "
        f"they are {percent(found['unharmed_accuracy'])}; the worst is {worst['kind']}, {percent(worst['accuracy'])}"
    )


def duplicate_lines(console: Console, found: Mapping) -> None:
    """What there is to say of pictures that several examples have, or nearly have, and of corrected labels."""
    lines(console, [*duplicates.of_results(found), *near_duplicates.of_results(found)], "yellow")
    lines(console, suspects.corrections_of(found))


def runs(console: Console, found: Sequence[Mapping | Unreadable]) -> None:
    """Two lines a run, in the order given: the second is the verdict, which may be long, or why it cannot be read."""

    def preset_of(result: Mapping) -> str:
        preset, name = result["preset"], result["name"]
        return preset if preset == name else f"{preset} ({name})"

    width = max((len(preset_of(result)) for result in found if not isinstance(result, Unreadable)), default=0)
    for result in found:
        if isinstance(result, Unreadable):
            console.print(Text(f"{result.run}  unreadable", "bold"))
            console.print(Padding(Text(result.why, "red"), (0, 0, 0, 2)))
            continue
        preset, verdict = preset_of(result), results.verdict(result)
        part = result.get("evaluation")
        accuracy = f"{part['accuracy']:.2%}" if part else "–"
        date = result["started"].replace("T", " ")[:16]
        console.print(Text(f"{result['run']}  {date}  {preset:<{width}}  {accuracy:>7}", "bold"))
        style = STATES.get(result["state"], "dim")
        console.print(Padding(Text(verdict, style), (0, 0, 0, 2)))


def models(console: Console, base: str, found: Sequence[Mapping]) -> None:
    """What was pushed and what waits: a line a model, in the order given, and what was decided about it below.

    Args:
        base: the folder that servers watch.
        found: `components.decisions.Model` as dicts.
    """
    console.print(Text(base, "bold"), soft_wrap=True)
    marks = {
        "serves": Text("● serves", "bold green"),
        "waiting": Text("? waits", "bold cyan"),
        "earlier": Text("earlier"),
        "removed": Text("removed", "dim"),
    }
    worst = [
        f"{plain(one['worst_class'])} {percent(one['worst_recall'])}" if one["worst_class"] else "" for one in found
    ]
    columns = [
        Column("version", [Text(one["version"]) for one in found], right=True),
        Column("", [marks[one["state"]] for one in found]),
        Column("run", [Text(plain(one["run"])) for one in found]),
        numbers("accuracy", ["" if one["accuracy"] is None else f"{one['accuracy']:.2%}" for one in found]),
        Column("worst class", [Text(text) for text in worst], rank=1, widest=NAME),
        Column("when", [Text(one["at"].replace("T", " ")[:16]) for one in found], rank=2),
        Column("by", [Text(plain(one["by"])) for one in found], rank=3, widest=NAME),
    ]
    console.print(Padding(table(columns, console.width), (1, 0)))
    for one in found:
        if said := model_words(one):
            console.print(Text.assemble((f"{one['version']}: ", "bold"), plain(said)), soft_wrap=True)


def model_words(one: Mapping) -> str:
    """What is to be said of a pushed or waiting model beside its numbers; "" for one that a run pushed."""
    parts = []
    if one["kind"] == "rolled back":
        parts.append(f"rolled back to {one['of']}")
    elif one["kind"] not in ("pushed", "waiting"):
        parts.append(one["kind"])
    if one["against"]:
        parts.append(f"against {', '.join(one['against'])}")
    if one["reason"]:
        parts.append(f"by {one['by']}: {one['reason']}")
    if one["kind"] == "waiting":
        parts.append(f"alexnet approve {one['run']} --note WHY, or alexnet reject {one['run']} --note WHY")
    words = " ".join(parts)
    if one["whole"] is False:
        words = f"files are missing or cut off{'; ' if words else ''}{words}"
    return words


def decisions(console: Console, found: Sequence[Mapping]) -> None:
    """The log of pushes and decisions, a line an entry, in the order given."""
    for one in found:
        what = one.get("kind", "?")
        if one.get("against"):
            what += f" against {', '.join(one['against'])}"
        if one.get("of"):
            what += f" from {one.get('served', '?')} to {one['of']}"
        version = f" as {one['version']}" if one.get("version") else ""
        reason = f": {one['reason']}" if one.get("reason") else ""
        moment = str(one.get("at", "")).replace("T", " ")[:16]
        words = plain(f"  run {one.get('run') or '?'} {what}{version} by {one.get('by') or '?'}{reason}")
        console.print(Text.assemble((moment, "bold"), words), soft_wrap=True)


def trials(console: Console, found: Mapping) -> None:
    """The trials of a run's search, the best first."""
    rows = found["tuning"]
    columns = [
        numbers("trial", [str(row["trial"]) for row in rows]),
        numbers("validation accuracy", [f"{row['accuracy']:.2%}" for row in rows], style="bold"),
    ]
    if any(row["epochs"] for row in rows):
        columns.append(numbers("epochs", [str(row["epochs"]) for row in rows], rank=1))
    for rank, key in enumerate(rows[0]["values"], 2):
        values = [setting(row["values"].get(key, "")) for row in rows]
        columns.append(numbers(key.partition(".")[2], values, rank))
    console.print(f"Search of run {found['run']}, the best first:")
    console.print(table(columns, console.width))
