"""What one run starts for its Beam nodes on an engine: a job server and, on this machine, a pool of workers.

Both begin with the first node that really runs, and end with the process. Jobs are told by their names: whoever ends
a run, or starts the next one, finds those of an earlier one that still run.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import time
from typing import IO

import grpc

from core import processes
from core.errors import UserError
from core.settings import Beam
from engines import address, check, flink, job_server, jobs, words

SIDECAR = "localhost:50000"  # where a worker pool listens beside each TaskManager or executor
CACHED = 600_000  # milliseconds that an idle worker stays: without, each stage would start another one
SECONDS = 60  # that the job server may take to listen


class Session:
    """The engine as one run uses it."""

    def __init__(
        self, beam: Beam, folder: pathlib.Path, run: str, temporary: pathlib.Path, log: IO, waits: bool = False
    ) -> None:
        """
        Args:
            beam: the settings.
            folder: the working directory, in which the workers work.
            run: its id.
            temporary: for the job server's files.
            log: of what the two programs say.
            waits: whether a job waits where no slot is free.
        """
        self._beam, self._folder, self._run, self._temporary, self._log = beam, folder, run, temporary, log
        self._waits = waits
        self._common: list[str] | None = None
        self._children: list[subprocess.Popen] = []

    def arguments(self, node: str) -> list[str]:
        """Beam's options for a node; starts what is needed at the first call.

        Raises:
            UserError: the engine, Java, the job server or the pool cannot be had.
        """
        if not self._beam.engine:
            return self._beam.arguments
        cluster = check.check(self._beam, self._waits)  # anew: hours of training may lie between two nodes
        if self._common is None:
            self._common = self._start(cluster)
        name = f"{jobs.name(self._folder)}-{self._run}-{node}"
        slots = [f"--parallelism={cluster.slots}"] if cluster else []
        return [*self._common, *slots, f"--job_name={name}", *self._beam.pipeline_args]

    def explain(self, problem: BaseException) -> str | None:
        """What the user can mend about a node of Beam that failed; None if it is something else, such as a bug."""
        return words.of_job(problem, self._beam, jobs.failure(self._beam, self._folder, self._run))

    def close(self) -> None:
        """Ends what was started."""
        for child in self._children:
            child.terminate()
        for child in self._children:
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()

    def _start(self, cluster: flink.Cluster | None) -> list[str]:
        beam = self._beam
        options = [f"--runner={beam.runner}", "--sdk_container_image=unused"]
        version = cluster.release if cluster else job_server.SPARK if beam.engine == "Spark" else ""
        if cluster:
            options.append(f"--flink_master={beam.master}")
            options.append("--object_reuse")  # else Flink copies every element between two operators
        given = "".join(beam.pipeline_args)
        pool = None
        if beam.own_workers and not beam.workers and address.here(beam.master or "[local]"):
            pool = self._pool()
        server, port = None, 0
        if "--job_endpoint" not in given and "_submit_uber_jar" not in given:
            jar = job_server.path(beam, version)
            server, port = job_server.start(beam, jar, self._temporary / "job-server", self._log)
            self._children.append(server)
            options.append(f"--job_endpoint=127.0.0.1:{port}")
        elif "_submit_uber_jar" in given:
            options.append(f"--{beam.engine.lower()}_job_server_jar={job_server.path(beam, version)}")
        if beam.own_workers:
            at = beam.workers or (self._address(pool) if pool else SIDECAR)
            place = json.dumps({"url": at, "params": {"folder": str(self._folder)}})
            options += ["--environment_type=EXTERNAL", f"--environment_config={place}"]
            options.append(f"--environment_cache_millis={CACHED}")
        if server:
            self._await(server, port)
        return options

    def _pool(self) -> subprocess.Popen:
        """Of one's own, on the loopback: worker ids are unique within a job only, and so are Beam's pools."""
        pool = subprocess.Popen(
            processes.module("engines.workers", "--port", "0"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._children.append(pool)
        return pool

    def _address(self, pool: subprocess.Popen) -> str:
        assert pool.stdout
        address = pool.stdout.readline().strip()
        if not address:
            raise RuntimeError("The pool of Python workers did not start")
        return address

    def _await(self, server: subprocess.Popen, port: int) -> None:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        ready = grpc.channel_ready_future(channel)
        until = time.monotonic() + SECONDS
        try:
            while True:
                try:
                    ready.result(0.2)
                    return
                except grpc.FutureTimeoutError:
                    if server.poll() is not None or time.monotonic() > until:
                        raise UserError(words.of_job_server(self._beam, server.poll())) from None
        finally:
            channel.close()
