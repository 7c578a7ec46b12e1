"""The report's part on labels that are suspected to be wrong: which pictures it shows, and how they are kept."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from core import corrections, settings
from review import suspects
from review.report import build, schema

SHOWN = 24  # pictures
MOST = 10_000  # rows
LIST = "suspects.csv"


def find(
    evaluation: str, class_names: Sequence[str], ingested: Mapping[str, Any], temperature: float = 1.0
) -> suspects.Found | None:
    """The suspects of an evaluation; None where it did not keep what is needed.

    Args:
        evaluation: path of Evaluator's result.
        class_names: by label.
        ingested: the ingest's report.
        temperature: of the model.
    """
    try:
        return suspects.find(evaluation, class_names, suspects.checked({"data": ingested}), temperature)
    except (FileNotFoundError, suspects.NotKept):
        return None


def with_wanted(wanted: Mapping[str, set[build.Key]], found: suspects.Found | None) -> dict[str, set[build.Key]]:
    """The images that a report needs, from `build.wanted`, and those of the suspects that it shows."""
    made = {split: set(keys) for split, keys in wanted.items()}
    for row in found.rows[:SHOWN] if found else ():
        made.setdefault(row["split"], set()).add((row["id"], row["digest"]))
    return made


def pictures(
    found: suspects.Found | None, images: Mapping[build.Key, bytes]
) -> tuple[schema.Suspects | None, dict[str, bytes]]:
    """The part of the report, and the files for images.zip.

    Args:
        found: what was found, if it was looked for.
        images: the encoded image of each suspect that is shown.
    """
    if found is None:
        return None, {}
    rows, files = [], {}
    for number, row in enumerate(found.rows[:MOST]):
        made = schema.Suspect(**row)
        if number < SHOWN:
            content, width, height, form = build.reduced(images[row["id"], row["digest"]])
            file = f"suspect-{number:02d}.{form}"
            files[file] = content
            made = made.model_copy(update={"file": file, "width": width, "height": height})
        rows.append(made)
    return schema.Suspects(judged=found.judged, total=found.total, count=len(found.rows), rows=rows), files


def listed(report: schema.Report) -> str:
    """The suspects as the CSV file that `data.corrections` reads once its column `action` is filled in."""
    return corrections.text(row.model_dump() for row in report.suspects.rows) if report.suspects else ""


def commands(report: schema.Report, again: str | None) -> str:
    """How to go on from the suspects of a report, as lines for a shell.

    Args:
        report: with the suspects.
        again: the command that makes the same run again, if it is known.
    """
    run = f" --run {report.run.id}" if report.run else ""
    before = report.settings.get("data", {}).get("corrections")
    again = again or "alexnet run"
    if before and not settings.is_remote(before):  # which `again` names
        return f"alexnet suspects{run} --output {shlex.quote(before)}\n{again}"
    return f"alexnet suspects{run} --output corrections.csv\n{again} --set data.corrections=corrections.csv"
