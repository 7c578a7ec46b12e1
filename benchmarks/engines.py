"""What the Beam nodes cost on Flink and Spark, and how that compares with Beam's runner in the process itself.

    python -m benchmarks.engines [--images N N ...] [--ways WAY ...] [--data-dir DIR] [--source NAME] [--repeats N]
                                 [--json FILE]

Whole runs of the pipeline with a training of one epoch of a tiny network, by turns, of everything on this machine:
Beam's DirectRunner in the process and in two of its own, a Flink of two TaskManagers with a slot each, a Spark of two
workers with a core each. A cluster is started before its run and has run nothing; starting it is not measured.
The images are those of `benchmarks.pipeline`. What is not in the cache of `.ci/engines` is left out.

Processor time is told apart: of Python, which is the command, the processes that it starts and the Python workers,
and of Java, which is the cluster and Beam's job server. It is read when a node begins and ends; a job server that
starts and a pool that loads TensorFlow count for the first node, as they do for who waits.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import psutil

from benchmarks import clusters, machine, pipeline, report
from core import processes
from core.events import Reader
from core.workdir import Workdir
from engines import flink as flink_rest
from environment import job_server

NODES = ("ImageExampleGen", "StatisticsGen", "Transform", "Evaluator")
DIRECT = "DirectRunner"


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of a node.

    Attributes:
        seconds: by the clock.
        python: seconds of processor time of Python.
        java: seconds of processor time of Java.
    """

    seconds: float
    python: float
    java: float

    @property
    def processor(self) -> float:
        """Seconds of processor time in all."""
        return self.python + self.java

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.python + other.python, self.java + other.java)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the Beam nodes of a run work: the settings that say so, and what reads the cluster's processor time."""

    changes: tuple[str, ...] = ()
    java: Callable[[], float] = lambda: 0.0


@contextlib.contextmanager
def _direct(folder: pathlib.Path) -> Iterator[Place]:
    yield Place()


@contextlib.contextmanager
def _processes(folder: pathlib.Path) -> Iterator[Place]:
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    yield Place((f"beam.pipeline_args={json.dumps(options)}",))


@contextlib.contextmanager
def _flink(folder: pathlib.Path) -> Iterator[Place]:
    options = flink_rest.NEEDED | flink_rest.FAST
    with clusters.Flink(folder, task_managers=2, slots=1, options=options) as flink:
        yield Place(("beam.runner=FlinkRunner", f"beam.master={flink.master}"), lambda: flink.processor_seconds)


@contextlib.contextmanager
def _spark(folder: pathlib.Path) -> Iterator[Place]:
    with clusters.Spark(folder, workers=2, cores=1) as spark:
        yield Place(("beam.runner=SparkRunner", f"beam.master={spark.master}"), lambda: spark.processor_seconds)


WAYS = {
    DIRECT: _direct,
    "two processes": _processes,
    "Flink": _flink,
    "Spark": _spark,
}


def main(arguments: list[str] | None = None) -> None:
    """Measures, and prints tables; `--json` also writes the numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[60_000])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--source", default=None)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path)
    asked = parser.parse_args(arguments)
    about = machine.describe()
    ways = [way for way in asked.ways if not left_out(way)]
    if DIRECT not in ways:
        parser.error(f"--ways needs {DIRECT}, with which all others are compared")
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        source = asked.source or ("cifar10" if asked.data_dir else "shapes10")
        prepared = pipeline.prepare(source, asked.data_dir or folder)
        found: dict[int, dict[str, list[dict[str, Cost]]]] = {}
        for images in sorted(asked.images):
            options = pipeline.replicate(prepared, source, images, scratch / f"{images}")
            for _ in range(asked.repeats):
                for way in ways:
                    costs = measure(way, options, scratch / "run")
                    found.setdefault(images, {}).setdefault(way, []).append(costs)
                    for node, cost in costs.items():
                        said = f"{cost.seconds:.1f} s, Python {cost.python:.1f} s, Java {cost.java:.1f} s"
                        print(f"{images:,} images, {way}, {node}: {said}", file=sys.stderr, flush=True)
                if asked.json:  # each time: the largest size takes longer than all others together
                    asked.json.write_text(json.dumps(summary(asked.repeats, source, about, found), indent=1))
    report.show(summary(asked.repeats, source, about, found))


def left_out(way: str) -> bool:
    """Whether a way is not possible here; says so."""
    engine = way.lower()
    if engine not in job_server.ENGINES:
        return False
    why = clusters.missing(engine)
    if not why and not job_server.ENGINES[engine].jar.exists():
        why = f"{job_server.ENGINES[engine].jar} is missing: .ci/engines {engine} builds it"
    if why:
        print(f"{way} is left out: {why}.", file=sys.stderr)
    return bool(why)


def measure(way: str, options: list[str], folder: pathlib.Path) -> dict[str, Cost]:
    """Runs the pipeline in a new folder, which is removed, and returns the cost of each of `NODES`.

    Raises:
        RuntimeError: the run failed; with what it said.
    """
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as made:
        work = Workdir(pathlib.Path(made, "work"))
        with WAYS[way](pathlib.Path(made, "cluster")) as place, tempfile.TemporaryFile("w+") as said:
            changes = [part for change in place.changes for part in ("--set", change)]
            command = processes.module("pipeline.cli", "run", *options, *changes, "--workdir", str(work.path))
            with subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as process:
                try:
                    costs = _follow(process, work, place.java)
                finally:
                    process.terminate()
            if process.returncode:
                said.seek(0)
                raise RuntimeError(f"{way}: exit code {process.returncode}\n{said.read()}")
    return costs


def _follow(process: subprocess.Popen, work: Workdir, java: Callable[[], float]) -> dict[str, Cost]:
    """The costs of the nodes of a run, read whenever one begins or ends; returns when the run has ended."""
    first: dict[str, tuple[float, float]] = {}
    costs: dict[str, Cost] = {}
    reader = None
    while process.poll() is None:
        if reader is None:
            reader = next((Reader(file) for file in work.runs.glob("*/events.jsonl")), None)
        for event in reader.new() if reader else ():
            if event["kind"] != "node" or event["node"] not in NODES:
                continue
            node, now = event["node"], _processor_seconds(process.pid, java())
            if event["state"] == "running":
                first[node] = now
            elif event["state"] == "done":
                python, jvm = (after - before for before, after in zip(first[node], now, strict=True))
                costs[node] = Cost(event["seconds"], python, jvm)
        time.sleep(0.1)
    return costs


def _processor_seconds(pid: int, java: float) -> tuple[float, float]:
    """Processor time of Python and of Java: of a process and all that it has started, and `java` beside."""
    python = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                seconds = sum(each.cpu_times()[:4])  # those that have ended and that it has waited for with it
                if each.name() == "java":
                    java += seconds
                else:
                    python += seconds
    return python, java


def summary(
    repeats: int, source: str, about: dict, found: dict[int, dict[str, list[dict[str, Cost]]]]
) -> dict[str, object]:
    """The result, see `benchmarks.report`.

    Args:
        repeats: that were asked for.
        source: of the images.
        about: the machine.
        found: number of images -> way -> for each repeat: node -> cost.
    """
    versions = {"Beam": importlib.metadata.version("apache-beam"), "its job server": job_server.BEAM}
    versions |= {engine.capitalize(): version for engine in job_server.ENGINES if (version := _version(engine))}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {
        "benchmark": "engines",
        "machine": about,
        "engines": versions,
        "source": source,
        "repeats": repeats,
        "costs": {
            images: {
                way: [{node: dataclasses.asdict(cost) for node, cost in run.items()} for run in runs]
                for way, runs in ways.items()
            }
            for images, ways in found.items()
        },
        "tables": [
            table(f"{images:,} images of {source}, median of {repeats}; {told}", ways)
            for images, ways in found.items()
        ],
    }


def _version(engine: str) -> str | None:
    """Of the cluster in the cache, None if there is none."""
    home = clusters.CACHE / engine
    return home.resolve().name.partition("-")[2] if home.exists() else None


def table(title: str, ways: dict[str, list[dict[str, Cost]]]) -> dict[str, object]:
    """A line for each node and way: seconds, and the ratios to the runner in the process."""
    medians = {way: {node: _median([run[node] for run in runs]) for node in NODES} for way, runs in ways.items()}
    for nodes in medians.values():
        first, *others = nodes.values()
        nodes["all four"] = sum(others, first)
    rows = []
    for node in (*NODES, "all four"):
        base = medians[DIRECT][node]
        for way, nodes in medians.items():
            cost = nodes[node]
            ratios = [cost.seconds / base.seconds, cost.processor / base.processor]
            numbers = [cost.seconds, cost.python, cost.java]
            rows.append([node, way, *(f"{number:,.1f}" for number in numbers), *(f"{ratio:.2f}" for ratio in ratios)])
    columns = ["node", "on", "seconds", "Python, CPU s", "Java, CPU s", "clock, ratio", "CPU time, ratio"]
    return {"title": title, "columns": columns, "rows": rows}


def _median(costs: list[Cost]) -> Cost:
    """Of every figure alone."""
    return Cost(
        *(statistics.median(getattr(cost, field.name) for cost in costs) for field in dataclasses.fields(Cost))
    )


if __name__ == "__main__":
    main()
