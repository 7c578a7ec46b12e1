"""Builds the job server through which Beam runs on Flink or Spark, once, and prints its path.

    python3.11 -m environment.job_server flink|spark

Beam's releases have ready-made job servers, of the version of its Python packages alone; this one has been tried.
Maven puts them together here, in a cache folder, and compares every file that it fetches with the checksum beside it;
what comes out is then compared with the sum below. Needs Maven, Java 11 or newer, and a minute.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile
import zipfile

from environment.commands import SetupError, run

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "alexnet-pipeline/beam")
BEAM = "2.62.0"  # the newest whose runners for Flink 1.19 and Spark 3 Maven has with all that they need
SPARK = "3.5.9"  # which its runner takes for granted; the cluster has to be of the same version
# What Maven writes anew wherever it builds: versions of itself and of Java.
OWN = ("META-INF/MANIFEST.MF", "META-INF/maven/alexnet-pipeline/")


@dataclasses.dataclass(frozen=True)
class Engine:
    """A cluster that Beam runs on.

    Attributes:
        runner: as Maven names Beam's runner for it, with the cluster's version.
        main_class: of its job server.
        contents: what `contents` gives of the jar.
        options: of Maven, further ones.
    """

    runner: str
    main_class: str
    contents: str
    options: tuple[str, ...] = ()

    @property
    def jar(self) -> pathlib.Path:
        """Where the job server lies once it is built."""
        return CACHE / f"{self.runner}-job-server-{BEAM}.jar"


ENGINES = {
    "flink": Engine(
        runner="flink-1.19",
        main_class="org.apache.beam.runners.flink.FlinkJobServerDriver",
        contents="2acd6d9d828c0650145bfa05cc3b32a21b70173ef909b4db9b72af48bf0a61b4",
    ),
    "spark": Engine(
        runner="spark-3",
        main_class="org.apache.beam.runners.spark.SparkJobServerDriver",
        contents="8b2c1df09af60d7b5868f88da4a2cd363179c7b6ecb2e388ad4b6795ea44d1ec",
        options=("--activate-profiles=spark", f"-Dspark.version={SPARK}"),
    ),
}


def build(engine: Engine) -> pathlib.Path:
    """The path of a job server, which is built unless it is there.

    Raises:
        SetupError: Maven or Java is missing, or fails, or what it builds is not what it should be.
    """
    if engine.jar.exists():
        return engine.jar
    for program, package in (("mvn", "maven"), ("java", "default-jre-headless")):
        if not shutil.which(program):
            raise SetupError(
                f"{program} is not on the PATH, and builds Beam's job server: install it (Debian and Ubuntu: the "
                f"package {package})."
            )
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"job_server: building {engine.jar.name}, once, which takes a minute", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        properties = {
            "runner": engine.runner,
            "main.class": engine.main_class,
            "beam.version": BEAM,
            "folder": folder,
        }
        options = ["--batch-mode", "--strict-checksums", "--no-transfer-progress", f"--file={HERE / 'beam/pom.xml'}"]
        settings = [f"-D{name}={value}" for name, value in properties.items()]
        command = ["mvn", *options, *engine.options, *settings, "jar:jar", "shade:shade"]
        run(command, f"Building {engine.jar.name} with Maven")
        made = pathlib.Path(folder, "job-server.jar")
        if (found := contents(made)) != engine.contents:
            raise SetupError(
                f"Maven made another {engine.jar.name} than the one that was tried (the sum of its contents is "
                f"{found} and not {engine.contents}), so it was deleted: see which repository Maven is set to."
            )
        os.replace(made, engine.jar)
    return engine.jar


def contents(jar: pathlib.Path) -> str:
    """SHA-256 of all files of a jar, by name, without how they are packed and without `OWN`."""
    total = hashlib.sha256()
    with zipfile.ZipFile(jar) as archive:
        for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
            if not entry.filename.startswith(OWN):
                total.update(f"{hashlib.sha256(archive.read(entry)).hexdigest()}  {entry.filename}\n".encode())
    return total.hexdigest()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m environment.job_server", description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=ENGINES)
    try:
        print(build(ENGINES[parser.parse_args(arguments).engine]))
    except SetupError as problem:
        print(f"job_server: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
