"""Beam's job server: the Java program that turns a pipeline into a job of Flink or Spark."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
from typing import IO

from core.errors import UserError
from core.settings import Beam

FOLDER = "ALEXNET_JOB_SERVERS"  # in the environment; the image has them there
SPARK = "3"  # the only version that Beam has one for
# For Java, jobs of minutes as ours are: to compile their code at length, and to collect garbage beside it, costs as
# much processor time as all else that Java does in them.
BRIEF = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
# Spark needs these of Java 17, and Beam's own launcher passes them, too.
OPENS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in ("sun.nio.ch", "java.nio", "java.util", "java.lang.invoke")
]


def folders() -> list[pathlib.Path]:
    """Where job servers are looked for: what the environment names, and where environment.job_server puts them."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    given = os.environ.get(FOLDER)
    return [*([pathlib.Path(given)] if given else ()), cache / "alexnet-pipeline" / "beam"]


def known(engine: str) -> dict[str, pathlib.Path]:
    """The job servers that are here, by the engine's version, such as "1.19"; of several the newest of Beam's."""
    found: dict[str, pathlib.Path] = {}
    for folder in reversed(folders()):
        for path in sorted(folder.glob(f"{engine.lower()}-*-job-server-*.jar"), key=_release):
            found[path.name.split("-")[1]] = path
    return found


def _release(path: pathlib.Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.stem.rpartition("-")[2])]


def check(beam: Beam, version: str) -> None:
    """Raises UserError if Java or a job server for this version of the engine is missing.

    Args:
        beam: the settings.
        version: of the engine, major and minor; "" if it is not known.
    """
    if not shutil.which("java"):
        raise UserError(
            f"Java is missing, in which Beam's job server for {beam.engine} runs: install a Java runtime (17, such "
            "as the package openjdk-17-jre-headless) on this machine, or use the image that has one."
        )
    if beam.job_server and not re.match(r"https?://", beam.job_server) and not os.path.isfile(beam.job_server):
        raise UserError(f"beam.job_server={beam.job_server}: there is no such file; correct the path.")
    if beam.job_server or not version or version in (here := known(beam.engine)):
        return
    if beam.engine == "Flink" and version not in (published := _published()):
        choice = ", ".join(sorted({*published, *here}, key=lambda text: [int(part) for part in text.split(".")]))
        raise UserError(
            f"beam.master={beam.master} is Flink {version}, for which Beam has no job server: use Flink {choice}, or "
            "name one in beam.job_server."
        )


def _published() -> list[str]:
    """The versions of Flink that Beam's own releases have a job server for."""
    from apache_beam.options import pipeline_options

    return list(pipeline_options.FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS)


def path(beam: Beam, version: str) -> str:
    """The jar, which Beam fetches from its own releases if it is not here.

    Raises:
        UserError: it cannot be had.
    """
    if beam.job_server and not re.match(r"https?://", beam.job_server):
        return beam.job_server
    here = known(beam.engine)
    if not beam.job_server and (found := here.get(version) or (not version and here and here[max(here)])):
        return str(found)
    from apache_beam.runners.portability import job_server

    target = f":runners:flink:{version}" if beam.engine == "Flink" else f":runners:spark:{SPARK}"
    url = beam.job_server or job_server.JavaJarJobServer.path_to_beam_jar(f"{target}:job-server:shadowJar")
    try:
        return job_server.JavaJarJobServer.local_jar(url)
    except Exception as problem:  # of whichever library Beam fetches it with
        why = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise UserError(
            f"Beam's job server for {beam.engine} {version} cannot be fetched from {url} ({why}): fetch the jar "
            f"yourself and name it in beam.job_server, or run `make job-server ENGINE={beam.engine.lower()}`."
        ) from None


def start(beam: Beam, jar: str, artifacts: pathlib.Path, log: IO) -> tuple[subprocess.Popen, int]:
    """Starts it; returns the process, and the port of its job service, which may not listen yet.

    Job and artifact service listen on every interface, whatever host Beam's driver is told, and ask nobody who he is.
    """
    port = _free_port()
    options = ["--job-host=127.0.0.1", f"--job-port={port}", "--artifact-port=0"]
    options += ["--expansion-port=-1", f"--artifacts-dir={artifacts}", "--clean-artifacts-per-job"]
    local = (beam.master or "local").strip("[").startswith("local")  # its jobs run in the job server
    java = ["java"] if local else ["java", *BRIEF]
    if beam.engine == "Flink":
        command = [*java, "-jar", jar, *options, f"--flink-master={beam.master or '[auto]'}"]
    else:
        java += [*OPENS, "-Dspark.ui.enabled=false"]  # the page would listen on every interface
        java.append(f"-Dspark.executor.extraJavaOptions={' '.join(BRIEF)}")  # Spark's settings are the driver's
        if re.match(
            r"(spark://)?(localhost|127\.|\[::1\]|local\b)", beam.master or ""
        ):  # else others have to reach it
            java += ["-Dspark.driver.host=127.0.0.1", "-Dspark.driver.bindAddress=127.0.0.1"]
        command = [*java, "-jar", jar, *options, f"--spark-master-url={beam.master}"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log), port


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
