"""All benchmarks, one after the other, and their page.

    python -m benchmarks [--output FOLDER] [--preset NAME|FILE] [--data SOURCE] [--seeds 1 2 3] [--workdir FOLDER]

Works offline: the data is shapes10 unless told otherwise. The benchmark of the evaluation takes a finished run, and
is left out where the workdir holds none; Flink and Spark are, where `.ci/engines` has not fetched them.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys

from benchmarks import report
from core import settings
from core.errors import UserError
from core.workdir import Workdir


def main(arguments: list[str] | None = None) -> None:
    """Runs each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("workdir/benchmarks"))
    parser.add_argument("--preset", default=settings.DEFAULT_PRESET)
    parser.add_argument("--data", default="shapes10", help="shapes10, a CIFAR-10 archive, a folder or an .npz file")
    parser.add_argument("--seeds", nargs="+", default=["1", "2", "3"])
    parser.add_argument("--workdir", default="workdir")
    asked = parser.parse_args(arguments)
    asked.output.mkdir(parents=True, exist_ok=True)
    what = ["--preset", asked.preset, "--data", asked.data]
    scripts = {
        "training": [*what, "--seeds", *asked.seeds],
        "ablation": [*what, "--epochs", "2", "--seeds", *asked.seeds],
        "peers": what,
        "pipeline": ["--images", "15000", "60000"],
        "engines": ["--images", "15000"],
    }
    try:
        Workdir(asked.workdir).find(None, evaluated=True)
        scripts["evaluation"] = ["--workdir", asked.workdir]
    except UserError as problem:
        print(f"The benchmark of the evaluation is left out: {problem}", file=sys.stderr)
    for name, further in scripts.items():
        file = asked.output / f"{name}.json"
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *further, "--json", str(file)], check=True)
    report.main([str(asked.output), "--output", str(asked.output)])


if __name__ == "__main__":
    main()
