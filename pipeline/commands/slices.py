"""`alexnet slices`."""

from __future__ import annotations

import json

import click

from core.workdir import Workdir
from pipeline.commands.common import format_option, tell, workdir_option, write_csv


@click.command("slices")
@workdir_option
@click.option("--run", "run_id", metavar="ID", help="A run's id or its beginning; the latest if not given.")
@click.option("--compare", "other_id", metavar="RUN", help="Show the change since that run beside it.")
@click.option("--slice", "names", metavar="NAME[,NAME]", help="Other slices than the classes, e.g. brightness.")
@format_option
def command(workdir: str, run_id: str | None, other_id: str | None, names: str | None, form: str) -> None:
    """Show the weak slices of a run and its per-class results, or those of other slices, worst first."""
    from review import compare

    found = Workdir(workdir).find(run_id, evaluated=True, tell=tell)
    part = found["evaluation"]
    asked = [name.strip() for name in names.split(",")] if names else ["class_name"]
    chosen = None if asked == ["class_name"] else compare.find_slices(part, asked)
    features = chosen["features"] if chosen else asked
    other: dict | None = None
    how: list[str] = []
    changes: dict[tuple[str, ...], compare.Change] | None = None
    if other_id:
        other = Workdir(workdir).find(other_id, evaluated=True)
        pairs, how = compare.meet(other, found)
        (corrected,) = compare.correct([compare.changes(other, found, pairs, features)])
        changes = {change.values: change for change in corrected}
    if form == "table":
        from rich.console import Console

        from review import terminal

        terminal.slices(Console(highlight=False), found, chosen, other, how, changes)
        return
    # Results of before AUC was measured shall have the same columns.
    rows = (
        [dict(row) for row in chosen["rows"]]
        if chosen
        else [{**row, "auc": row.get("auc")} for row in part["classes"]]
    )
    if changes is not None:
        for row in rows:
            change = changes.get(tuple(row["values"]) if chosen else (row["class_name"],))
            row["compared"] = change.record() if change else None
    keys = ("count", "accuracy", "accuracy_interval", "loss", "top_3_accuracy", "macro_f1", "calibration_error")
    record = {"run": found["run"], "overall": {key: part.get(key) for key in keys}}
    for without in ("without_leaked", "without_near"):
        if part.get(without):
            record["overall"][without] = part[without]
    if not chosen and part.get("weak_slices"):
        record["weak_slices"] = part["weak_slices"]
    if other:
        record |= {"compared_with": other["run"], "how": how}
    kind = {"features": features, "slices": rows} if chosen else {"classes": rows}
    if form == "json":
        click.echo(json.dumps(record | kind, indent=1))
    else:
        write_csv([_flat(row, features) for row in rows])


def _flat(row: dict, features: list[str]) -> dict:
    """The row of a class or slice for CSV: a column for each feature and for each end of an interval."""
    made = dict(zip(features, row["values"], strict=True)) if "values" in row else {}
    for key, value in row.items():
        if key.endswith("_interval"):
            stem = key.removesuffix("_interval")
            low, high = value or (None, None)
            made |= {f"{stem}_low": low, f"{stem}_high": high}
        elif key == "compared":
            made |= {f"compared_{name}": number for name, number in (value or {}).items()}
        elif key != "values":
            made[key] = value
    return made
