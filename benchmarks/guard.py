"""Says whether something has become slower: compares ratios of a fresh run, not seconds, with those kept.

    python -m benchmarks.guard [--measured FILE] [--store]

Runs `benchmarks.peers` on a small scale, or takes the JSON that it wrote. Ends with 1 if a ratio is worse than in
baseline.json by more than its tolerance (a share of the ratio), or is missing. `--store` makes the measured ratios
the new baseline; the tolerances stay.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Mapping

from benchmarks import report

BASELINE = pathlib.Path(__file__).with_name("baseline.json")
SMALL = {"images": 12_000, "trained": 1_536, "stored": 200, "repeats": 3}


def main(arguments: list[str] | None = None) -> int:
    """Prints a table; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measured", type=pathlib.Path, help="what peers --json wrote")
    parser.add_argument("--store", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.measured:
        measured = json.loads(asked.measured.read_text())
    else:
        from benchmarks import peers
        from core import settings

        measured = peers.measure(settings.load(), "shapes10", **SMALL)
    baseline = json.loads(BASELINE.read_text())
    if asked.store:
        baseline |= {"ratios": measured["ratios"], "machine": measured["machine"]}
        BASELINE.write_text(json.dumps(baseline, indent=1) + "\n")
        return 0
    rows = compare(baseline["ratios"], measured["ratios"], baseline["tolerance"])
    columns = ["ratio", "kept", "measured", "least", ""]
    report.show({"tables": [{"title": "More is better", "columns": columns, "rows": rows}]})
    return int(any(row[-1] for row in rows))


def compare(
    kept: Mapping[str, float], measured: Mapping[str, float], tolerance: Mapping[str, float]
) -> list[list[str]]:
    """For each ratio kept: its name, kept, measured, the least that is allowed, and "worse", "missing" or "".

    Args:
        kept: ratios of which more is better.
        measured: likewise.
        tolerance: by name, the share of the kept ratio that may be lost; "" for names that are not there.
    """
    rows = []
    for name, before in kept.items():
        least = before * (1 - tolerance.get(name, tolerance[""]))
        now = measured.get(name)
        verdict = "missing" if now is None else "worse" if not now >= least else ""  # NaN is worse
        rows.append([name, f"{before:.2f}", "" if now is None else f"{now:.2f}", f"{least:.2f}", verdict])
    return rows


if __name__ == "__main__":
    sys.exit(main())
