"""Real clusters to try Beam on, each a set of processes of its own on this machine's loopback.

    Flink  a standalone session cluster: a JobManager and TaskManagers, with Flink's own configuration
    Spark  a standalone cluster: a master and workers, with Spark's own configuration

`.ci/engines` puts them into a cache folder. What they write lies in the folder that they are given.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import psutil
import requests
import yaml

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "alexnet-pipeline/engines")
START = 180  # seconds until a cluster answers, at any load
LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %-60c %x - %m%n
"""


class ClusterError(Exception):
    """A cluster is not here, or does not start; the text says which and why."""


def missing(name: str) -> str | None:
    """A sentence on what "flink" or "spark" lacks on this machine; None if it can be started."""
    if not (CACHE / name).is_dir():
        return f"{name} was not found in {CACHE}: .ci/engines {name} puts it there"
    if not shutil.which("java"):
        return f"{name} needs Java, which is not on the PATH: install it (Debian and Ubuntu: default-jre-headless)"
    return None


@contextlib.contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Ports of 127.0.0.1 for servers of other processes.

    A socket that is bound and does not listen keeps the system from giving the port to somebody else. On Linux a
    server that allows the address to be reused, as those of Java and gRPC do, can listen there all the same;
    elsewhere the ports are merely free at first.
    """
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in held]
        if sys.platform != "linux":
            stack.close()
        yield ports


def _end_with_parent() -> None:
    """Has Linux end this process with the one that started it, should that be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class _Cluster:
    """Processes that end together; what they say goes to files of the folder.

    Attributes:
        folder: where all that they write lies.
        home: where the engine lies.
    """

    name: str

    def __init__(self, folder: os.PathLike | str) -> None:
        if reason := missing(self.name):
            raise ClusterError(f"{reason}.")
        self.folder = pathlib.Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home = (CACHE / self.name).resolve()
        self._stack = contextlib.ExitStack()
        self._running: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> Self:
        with self._stack:  # ends all that was started, should the rest fail
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        raise NotImplementedError

    @property
    def processes(self) -> list[psutil.Process]:
        """The processes of the cluster that run now, those that they have started themselves with them."""
        found = []
        for process in self._running.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                first = psutil.Process(process.pid)
                found += [first, *first.children(recursive=True)]
        return found

    @property
    def processor_seconds(self) -> float:
        """User and system time of its processes until now, and of those that these have started and seen end."""
        total = 0.0
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total

    def _spawn(self, name: str, command: Sequence[str | os.PathLike], **environment: str) -> None:
        """Starts a process whose output goes to `name`.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | environment,
                start_new_session=True,  # Ctrl-C is for us, who end it
                preexec_fn=_end_with_parent,
            )
        self._running[name] = process
        self._stack.callback(self._end, name)

    def _end(self, name: str) -> None:
        """Ends a process and what it started, at once."""
        process = self._running.pop(name, None)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        """Returns once `ready` does not fail and is true.

        Raises:
            ClusterError: a process has ended, or it takes too long.
        """
        until = time.monotonic() + START
        while True:
            with contextlib.suppress(requests.RequestException, LookupError, ValueError):
                if ready():
                    return
            ended = [name for name, process in self._running.items() if process.poll() is not None]
            if ended or time.monotonic() > until:
                logs = [self.folder / f"{name}.log" for name in ended or self._running]
                said = "\n".join(f"{log}: {log.read_text(errors='replace')[-2000:]}" for log in logs)
                raise ClusterError(f"{what}:\n{said}")
            time.sleep(0.05)


class Flink(_Cluster):
    """A session cluster as Flink's start-cluster.sh starts it: its own config.yaml and its own sums for the memory.

    Args:
        folder: for its configuration, logs and temporary files.
        task_managers: how many.
        slots: of each of them.
        options: what differs from its config.yaml, by dotted name.

    Attributes:
        master: "127.0.0.1:PORT" of its REST interface, as Beam's `flink_master`.
        url: of the same.
    """

    name = "flink"

    def __init__(
        self,
        folder: os.PathLike | str,
        task_managers: int = 2,
        slots: int = 1,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(folder)
        self._wanted = task_managers
        self._number = 0
        self._slots = slots
        self._options = options or {}
        self.master = self.url = ""

    def _start(self) -> None:
        rest, rpc, blobs = self._stack.enter_context(free_ports(3))
        self.master = f"127.0.0.1:{rest}"
        self.url = f"http://{self.master}"
        self._configure(
            {
                "rest.address": "127.0.0.1",
                "rest.port": rest,
                "jobmanager.rpc.port": rpc,
                "blob.server.port": blobs,
                "taskmanager.numberOfTaskSlots": self._slots,
                "io.tmp.dirs": str(self.folder / "tmp"),
                "pekko.ask.timeout": "120 s",  # 10 s are too few where a machine of two cores does all this at once
                **self._options,
            }
        )
        self._run(
            "jobmanager",
            "GET_JM_RESOURCE_PARAMS",
            "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
        )
        for _ in range(self._wanted):
            self._add()
        self.wait(self._wanted)

    def wait(self, task_managers: int) -> None:
        """Returns once exactly so many TaskManagers are there, with slots; a killed one is missed after a minute."""

        def ready() -> bool:
            found = self.ask("overview")
            return (found["taskmanagers"], found["slots-total"]) == (task_managers, task_managers * self._slots)

        self._wait(f"Flink does not come to {task_managers} TaskManagers", ready)

    def ask(self, path: str) -> Any:
        """What its REST interface answers."""
        answer = requests.get(f"{self.url}/{path}", timeout=30)
        answer.raise_for_status()
        return answer.json()

    def kill(self, number: int) -> None:
        """Ends a TaskManager at once, as a power cut does; the first is number 1, its id "taskmanager-1"."""
        self._end(f"taskmanager-{number}")

    def start_task_manager(self) -> int:
        """Starts one more, waits until it answers, and returns its number."""
        before = self._resources()
        self._add()
        self._wait("The TaskManager does not start", lambda: bool(self._resources() - before))
        return self._number

    def _resources(self) -> set[str]:
        return {one["id"] for one in self.ask("taskmanagers")["taskmanagers"] if one["slotsNumber"]}

    def _add(self) -> None:
        self._number += 1
        name = f"taskmanager-{self._number}"
        self._run(
            name,
            "GET_TM_RESOURCE_PARAMS",
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            f"-Dtaskmanager.resource-id={name}",
        )

    def _configure(self, changes: dict[str, Any]) -> None:
        """Writes its own configuration, which lies in its jar, with changes."""
        with zipfile.ZipFile(next(self.home.glob("lib/flink-dist-*.jar"))) as jar:
            stock = yaml.safe_load(jar.read("config.yaml"))
        flat = _flat(stock) | changes
        self._java = {
            name: shlex.split(f"{flat['env.java.opts.all']} {flat.get(f'env.java.opts.{name}', '')}")
            for name in ("jobmanager", "taskmanager")
        }
        for folder in ("conf", "tmp"):
            (self.folder / folder).mkdir(exist_ok=True)
        (self.folder / "conf/config.yaml").write_text(yaml.safe_dump(flat))
        (self.folder / "conf/log4j.properties").write_text(LOG4J)

    def _run(self, name: str, resources: str, main_class: str, *options: str) -> None:
        """Starts a process with the memory that Flink's own scripts would give it."""
        conf = ["--configDir", str(self.folder / "conf")]
        utils = [next(self.home.glob("bin/bash-java-utils.jar")), *self.home.glob("lib/flink-dist-*.jar")]
        asked = [
            "java",
            "-cp",
            ":".join(map(str, utils)),
            "org.apache.flink.runtime.util.bash.BashJavaUtils",
            resources,
        ]
        said = subprocess.run([*asked, *conf], cwd=self.folder, capture_output=True, text=True)
        marker = "BASH_JAVA_UTILS_EXEC_RESULT:"
        lines = [line.removeprefix(marker).split() for line in said.stdout.splitlines() if line.startswith(marker)]
        if said.returncode or len(lines) != 2:
            raise ClusterError(f"Flink's memory cannot be worked out:\n{said.stdout[-2000:]}{said.stderr[-2000:]}")
        memory, dynamic = lines
        self._spawn(
            name,
            [
                "java",
                *memory,
                *self._java[name.partition("-")[0]],
                f"-Dlog4j.configurationFile={self.folder / 'conf/log4j.properties'}",
                "-cp",
                f"{self.home / 'lib'}/*",
                main_class,
                *conf,
                *dynamic,
                *options,
            ],
            FLINK_LIB_DIR=str(self.home / "lib"),
            FLINK_PLUGINS_DIR=str(self.home / "plugins"),
            FLINK_CONF_DIR=str(self.folder / "conf"),
        )


class Spark(_Cluster):
    """A standalone cluster as Spark's start-all.sh starts it.

    Args:
        folder: for its logs and temporary files.
        workers: how many.
        cores: of each of them.

    Attributes:
        master: "spark://127.0.0.1:PORT".
        url: of the master's page.
        ports: of the workers.
    """

    name = "spark"

    def __init__(self, folder: os.PathLike | str, workers: int = 2, cores: int = 1) -> None:
        super().__init__(folder)
        self._wanted = workers
        self._cores = cores
        self.master = self.url = ""
        self.ports: list[int] = []

    def _start(self) -> None:
        port, page, *others = self._stack.enter_context(free_ports(2 + 2 * self._wanted))
        self.ports, pages = others[: self._wanted], others[self._wanted :]
        self.master = f"spark://127.0.0.1:{port}"
        self.url = f"http://127.0.0.1:{page}"
        self._run("master", "master.Master", port, page)
        self._wait("Spark's master does not start", lambda: self.ask()["status"] == "ALIVE")
        for number in range(self._wanted):
            options = ["--cores", str(self._cores), "--work-dir", str(self.folder / "work"), self.master]
            self._run(f"worker-{number + 1}", "worker.Worker", self.ports[number], pages[number], *options)
        self._wait("Spark's workers do not start", lambda: self.ask()["aliveworkers"] == self._wanted)

    def ask(self) -> Any:
        """What the master says of itself, its workers and applications."""
        answer = requests.get(f"{self.url}/json/", timeout=30)
        answer.raise_for_status()
        return answer.json()

    def kill(self, number: int) -> None:
        """Ends a worker and its executors at once, as a power cut does; the first is number 1."""
        self._end(f"worker-{number}")

    def _run(self, name: str, program: str, port: int, page: int, *options: str) -> None:
        local = self.folder / "tmp"
        local.mkdir(exist_ok=True)
        (self.folder / "conf").mkdir(exist_ok=True)
        places = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page)]
        self._spawn(
            name,
            [self.home / "bin/spark-class", f"org.apache.spark.deploy.{program}", *places, *options],
            SPARK_HOME=str(self.home),
            SPARK_CONF_DIR=str(self.folder / "conf"),
            SPARK_LOCAL_DIRS=str(local),
            SPARK_LOCAL_IP="127.0.0.1",
        )


def _flat(nested: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested names as dotted ones."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{above}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
