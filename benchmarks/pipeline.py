"""What the nodes around Trainer cost, in seconds, processor time and memory, and how that grows with the images.

    python -m benchmarks.pipeline [--images N N ...] [--data-dir DIR] [--source NAME] [--repeats N] [--json FILE]

Every figure is of a command in a fresh process, from its start to its end, imports included: a whole run with a
training of one epoch of a tiny network, the same run again, from the cache, and every node alone. The images are
those of a prepared data set of TensorFlow Datasets, five of six to train with and one to test, as many times over as
it takes; without --data-dir, the embedded drawn shapes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import machine, report
from core import processes, settings
from core.workdir import Workdir

NODES = ("ImageExampleGen", "StatisticsGen", "Transform", "ServingCheck", "Evaluator", "EvaluationReport")
FLOOR = "PreviousReport"  # a node that does next to nothing: what every command costs
QUICK = ("--help", "runs", "slices")
SMALL = (
    "training.epochs=1",
    "model.width=0.06",
    "gates.min_accuracy=0",
    "gates.min_class_recall=0",
    "serving.max_latency_ms=60000",
)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of a command and all processes that it started.

    Attributes:
        seconds: from its start to its end.
        processor: seconds of processor time, user and system.
        peak_mb: memory of the largest process, in MiB.
        nodes: node -> seconds, of a whole run.
    """

    seconds: float
    processor: float
    peak_mb: int
    nodes: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def around_trainer(self) -> float:
        """Seconds of all but Trainer."""
        return self.seconds - self.nodes["Trainer"]


def main(arguments: list[str] | None = None) -> None:
    """Measures, and prints tables; `--json` also writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[15_000, 60_000, 240_000])
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--source", default=None)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", default=None)
    asked = parser.parse_args(arguments)
    about = machine.describe()
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        source = asked.source or ("cifar10" if asked.data_dir else "shapes10")
        prepared = prepare(source, asked.data_dir or folder)
        costs: dict[str, dict[int, list[Cost]]] = {}
        for repeat in range(asked.repeats):
            for images in sorted(asked.images):
                options = replicate(prepared, source, images, scratch / f"{images}")
                for what, cost in measure(options, str(scratch / f"{images} {repeat}")).items():
                    costs.setdefault(what, {}).setdefault(images, []).append(cost)
                    said = f"{cost.seconds:.1f} s, processor {cost.processor:.1f} s, {cost.peak_mb} MiB"
                    print(f"{images:,} images, {what}: {said}", file=sys.stderr, flush=True)
                result = summary(asked.repeats, source, about, costs)
                if asked.json:  # each time: the largest size takes longer than all others together
                    pathlib.Path(asked.json).write_text(json.dumps(result, indent=1))
    report.show(result)


def prepare(source: str, data_dir: str) -> pathlib.Path:
    """The folder of a data set's version, which is drawn if it is the embedded one."""
    import tensorflow_datasets as tfds

    from components import shapes10  # noqa: F401  importing it registers the builder

    builder = tfds.builder(source, data_dir=data_dir)
    if not builder.is_prepared() and settings.builder_name(source) != "shapes10":
        sys.exit(f"{source} is not prepared in {data_dir}.")
    builder.download_and_prepare()
    return pathlib.Path(builder.data_path)


def replicate(prepared: pathlib.Path, source: str, images: int, folder: pathlib.Path) -> list[str]:
    """The options of `alexnet run` for the data set with as many images, as links to the prepared files."""
    wanted = {"train": images - images // 6, "test": images // 6}
    version = folder / prepared.relative_to(prepared.parents[_depth(prepared, source)])
    version.mkdir(parents=True, exist_ok=True)
    info = json.loads((prepared / "dataset_info.json").read_text())
    for file in prepared.iterdir():
        if ".tfrecord" not in file.name:
            (version / file.name).write_bytes(file.read_bytes())
    for split in info["splits"]:
        lengths = split["shardLengths"]
        files = sorted(prepared.glob(f"*-{split['name']}.tfrecord-*"))
        times = -(-wanted[split["name"]] // sum(map(int, lengths)))
        split["shardLengths"] = lengths * times
        split["numBytes"] = str(int(split["numBytes"]) * times)
        for number, file in enumerate(files * times):
            name = file.name.rsplit("-", 3)[0]
            link = version / f"{name}-{number:05d}-of-{len(files) * times:05d}"
            link.unlink(missing_ok=True)
            link.symlink_to(file)
    (version / "dataset_info.json").write_text(json.dumps(info))
    splits = [f"data.{split}_split={split}[:{count}]" for split, count in wanted.items()]
    sets = [part for setting in (*SMALL, *splits) for part in ("--set", setting)]
    return ["--preset", "cifar10", "--data", source, "--data-dir", str(folder), *sets]


def _depth(prepared: pathlib.Path, source: str) -> int:
    """How far above the folder of the version the data directory lies."""
    name = settings.builder_name(source)
    return next(number for number, parent in enumerate(prepared.parents) if parent.name == name) + 1


def measure(options: list[str], workdir: str) -> dict[str, Cost]:
    """The cost of every command."""
    run = ["run", *options, "--workdir", workdir]
    found = {"whole run": alexnet(*run)}
    nodes = Workdir(workdir).results()[-1]["nodes"]
    found["whole run"] = dataclasses.replace(
        found["whole run"], nodes={name: node["seconds"] for name, node in nodes.items()}
    )
    found["unchanged run"] = alexnet(*run)
    # The last first: a part of a run builds on the run before, of which a part leaves only what it built on.
    for node in reversed((*NODES[:-1], FLOOR, NODES[-1])):
        found[node] = alexnet(*run, "--from", node, "--to", node, "--fresh")
    for command in QUICK:
        found[command] = alexnet(command, *(() if command == "--help" else ("--workdir", workdir)))
    return found


def alexnet(*arguments: str) -> Cost:
    """Runs a command to its end. Raises RuntimeError, with what it said, if it fails."""
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            processes.module("pipeline.cli", *arguments), stdout=said, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"alexnet {' '.join(arguments)}: exit code {process.returncode}\n{said.read()}")
    peak = usage.ru_maxrss >> (20 if sys.platform == "darwin" else 10)
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak)


def summary(repeats: int, source: str, about: dict, costs: dict[str, dict[int, list[Cost]]]) -> dict[str, object]:
    """The result, see `benchmarks.report`.

    Args:
        repeats: that were asked for.
        source: of the images.
        about: the machine.
        costs: command or node -> number of images -> costs.
    """
    medians = {
        what: {images: median(found) for images, found in by_images.items()} for what, by_images in costs.items()
    }
    whole = medians["whole run"]
    growth = growths(medians, min(whole), max(whole))
    return {
        "benchmark": "pipeline",
        "machine": about,
        "source": source,
        "repeats": repeats,
        "costs": {
            what: {images: [dataclasses.asdict(cost) for cost in found] for images, found in by_images.items()}
            for what, by_images in costs.items()
        },
        "around_trainer": {images: cost.around_trainer for images, cost in whole.items()},
        "growth": growth,
        "tables": tables(medians, growth, f"{source}, median of {repeats}"),
    }


def growths(medians: dict[str, dict[int, Cost]], smallest: int, largest: int) -> dict[str, float]:
    """Node -> its processor time for each image at the largest size, as a multiple of that at the smallest."""
    if largest == smallest:
        return {}
    growth = {}
    for what in NODES:  # what is above the cost of any command, for each image
        low, high = (
            (medians[what][images].processor - medians[FLOOR][images].processor) / images
            for images in (smallest, largest)
        )
        growth[what] = high / low
    return growth


def tables(medians: dict[str, dict[int, Cost]], growth: dict[str, float], title: str) -> list[dict]:
    """Commands, the nodes of a whole run, and growth, see `benchmarks.report`."""
    whole = medians["whole run"]
    columns = [f"{images:,} images" for images in whole]
    made = []
    for what, value, left_out in (
        ("seconds", lambda cost: f"{cost.seconds:.1f}", ()),
        ("seconds of processor time", lambda cost: f"{cost.processor:.1f}", ()),
        # A process begins with the memory of the one that starts it, which is more than the quick commands take.
        ("peak memory of the largest process, MiB", lambda cost: f"{cost.peak_mb:,}", QUICK),
    ):
        rows = [[name, *map(value, costs.values())] for name, costs in medians.items() if name not in left_out]
        made.append({"title": f"{what}; {title}", "columns": ["command or node alone", *columns], "rows": rows})
    rows = [
        [node, *(f"{cost.nodes[node]:.1f}" for cost in whole.values())] for node in next(iter(whole.values())).nodes
    ]
    rows.append(["all but Trainer", *(f"{cost.around_trainer:.1f}" for cost in whole.values())])
    made.append({"title": f"seconds within the whole run; {title}", "columns": ["node", *columns], "rows": rows})
    if growth:
        title = f"processor time for each image, {columns[-1]} against {columns[0]}"
        rows = [[node, f"{ratio:.2f}"] for node, ratio in growth.items()]
        made.append({"title": title, "columns": ["node", "ratio"], "rows": rows})
    return made


def median(costs: list[Cost]) -> Cost:
    """Of every figure alone."""
    return Cost(
        seconds=statistics.median(cost.seconds for cost in costs),
        processor=statistics.median(cost.processor for cost in costs),
        peak_mb=round(statistics.median(cost.peak_mb for cost in costs)),
        nodes={node: statistics.median(cost.nodes[node] for cost in costs) for node in costs[0].nodes},
    )


if __name__ == "__main__":
    main()
