"""Whether the engine that the settings name is there and fit, before anything runs."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time

from core.errors import UserError
from core.settings import Beam
from engines import address, flink, job_server

SHUFFLES = 30  # that a TaskManager holds at once in the largest job, for each slot, and somewhat more
OFF_HEAP = int(flink.NEEDED[flink.OFF_HEAP].removesuffix("m")) << 20  # bytes for each slot
SECONDS = 5  # that an answer may take
TRIES = 3  # a second apart


def check(beam: Beam, waits: bool = False) -> flink.Cluster | None:
    """Whether a run can start on the engine; of Flink, what it says of itself.

    Takes a second, and half a minute at most if nobody answers.

    Args:
        beam: the settings; of a Beam in this process nothing is asked.
        waits: whether to go on if no slot is free.

    Raises:
        UserError: it cannot.
    """
    cluster = None
    if beam.cluster:
        cluster = _flink(beam, waits)
        job_server.check(beam, cluster.release)
    elif beam.engine:
        if beam.engine == "Spark" and (found := re.match(r"spark://(.+):(\d+)$", beam.master or "")):
            _spark(beam, found[1], int(found[2]))
        job_server.check(beam, "" if beam.engine == "Flink" else job_server.SPARK)
    if beam.engine and beam.workers and address.here(beam.workers) and address.here(beam.master or "[local]"):
        host, _, port = beam.workers.rpartition(":")
        if why := _refused(host, int(port)):
            raise UserError(
                f"No worker pool answers at beam.workers={beam.workers} ({why}): start it with `python -m "
                f"engines.workers --port {port}`, or leave beam.workers out, so that the run starts its own."
            )
    return cluster


def _flink(beam: Beam, waits: bool) -> flink.Cluster:
    rest = flink.Rest(beam.cluster)
    try:
        cluster = rest.cluster()
        for _ in range(0 if waits else TRIES):  # the slots of a job that has just ended are free a moment later
            if cluster.free_slots or not cluster.task_managers:
                break
            time.sleep(1)
            cluster = rest.cluster()
    except flink.NoAnswer as problem:
        raise UserError(
            f"Flink does not answer at beam.master={beam.master} ({problem}): start it, or correct the address, that "
            "of its REST interface and web page."
        ) from None
    who = f"Flink at beam.master={beam.master}"
    if not cluster.task_managers:
        raise UserError(f"{who} has no TaskManager: start one.")
    if not cluster.free_slots and not waits:
        raise UserError(
            f"{who} has no free slot, all {cluster.slots} are in use: wait until its jobs have ended, or start a "
            "further TaskManager."
        )
    if cluster.buffers < SHUFFLES * cluster.min_buffers:
        megabytes = SHUFFLES * cluster.min_buffers * flink.SEGMENT >> 20
        raise UserError(
            f"{who} has too few network buffers, {cluster.buffers:,} for a slot: write "
            f"`{flink.MIN_BUFFERS}: 16` into the configuration of its JobManager and TaskManagers, or give each "
            f"TaskManager {megabytes:,} MB of network memory for each of its slots (taskmanager.memory.network.max)."
        )
    if cluster.off_heap < OFF_HEAP:
        # All of them: direct memory alone would be taken from the heap of the tasks.
        lines = ", ".join(f"`{name}: {value}`" for name, value in flink.NEEDED.items())
        raise UserError(
            f"{who} has {cluster.off_heap >> 20} MB of direct memory for the tasks of a slot, too little for what "
            f"Beam's workers send: write {lines} into the configuration of TaskManagers of one slot."
        )
    return cluster


def _spark(beam: Beam, host: str, port: int) -> None:
    if why := _refused(host, port):
        raise UserError(
            f"Spark does not answer at beam.master={beam.master} ({why}): start its master, or correct the address."
        )
    state = _spark_state(host, beam.master or "")
    if state and not state.get("aliveworkers"):
        raise UserError(f"Spark at beam.master={beam.master} has no worker: start one.")
    if state and state.get("cores", 0) <= state.get("coresused", 0):
        raise UserError(
            f"Spark at beam.master={beam.master} has no free core, all {state.get('cores', 0)} are in use: wait "
            "until its applications have ended, or start a further worker."
        )


def _spark_state(host: str, master: str) -> dict:
    """What the master's web page tells, where it is in its usual place; {} elsewhere."""
    with contextlib.suppress(OSError, ValueError):
        with flink.DIRECT.open(f"http://{host}:8080/json/", timeout=SECONDS) as answer:
            found = json.load(answer)
        if isinstance(found, dict) and found.get("url") == master:
            return found
    return {}


def _refused(host: str, port: int) -> str:
    """Why nobody can be reached there; "" if somebody can."""
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except (OSError, ValueError) as problem:  # the second of a name that is none
        return (getattr(problem, "strerror", None) or str(problem)).lower()
    return ""
