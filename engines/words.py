"""What went wrong on an engine, in a sentence for its user. The texts are those of Flink 1.19 and Spark 3.5."""

from __future__ import annotations

import re

from core import errors
from core.settings import Beam
from engines import flink

BUFFERS = "Insufficient number of network buffers"
DIRECT_MEMORY = "OutOfMemoryError: Direct buffer memory"
HEAP = "OutOfMemoryError: Java heap space"
CHANNEL = "Channel closed prematurely"
SLOTS = re.compile(r"NoResourceAvailableException|Could not acquire the minimum required resources")
NO_POOL = re.compile(r"Connection refused: (\S*:\d+)|UnknownHostException: ([^\s:]+)(?:: Name|$)")
NO_FOLDER = re.compile(r"The worker pool on \S+ has no folder .*?: mount the working directory there, too\.")
LOST = re.compile(
    r"TaskManager with id \S+ (?:is no longer reachable|timed out)|ExecutorLostFailure|RemoteTransportException"
    r"|PartitionConnectionException|PartitionNotFoundException"
)
GONE = re.compile(r"All masters are unresponsive|Master removed our application|" + flink.SILENT)
SLOW = "AskTimeoutException"
CANCELLED = re.compile(r"failed in state CANCELL?ED")
OTHER_VERSION = re.compile(r"InvalidClassException|serialVersionUID|NoSuchMethodError")
NO_JOB_SERVER = re.compile(r"of RPC that terminated with:\s+status = StatusCode.(?:UNAVAILABLE|CANCELLED)")
FAILED = re.compile(r"Pipeline \S+ failed in state [A-Z]+: ")
JAVA = re.compile(r"^(?:[a-z]\w*\.)+([A-Z]\w*): (?=(?:[a-z]\w*\.)+[A-Z]\w*: )")  # an exception around another


def of_job(problem: BaseException, beam: Beam, told: str = "") -> str | None:
    """What the user can mend about a job that failed; None if it is something else, such as a bug.

    Args:
        problem: what Beam raised.
        beam: the settings.
        told: what the engine itself says, see `jobs.failure`.
    """
    if not beam.engine:
        return None
    text = f"{problem}\n{told}"
    who = f"{beam.engine} at beam.master={beam.master}"
    parts = "TaskManagers" if beam.engine == "Flink" else "executors"
    if found := NO_FOLDER.search(text):
        return found[0]
    if BUFFERS in text:
        return (
            f"{who} has too few network buffers: write `{flink.MIN_BUFFERS}: {flink.NEEDED[flink.MIN_BUFFERS]}` into "
            "the configuration of its TaskManagers, or give them more taskmanager.memory.network.max."
        )
    if DIRECT_MEMORY in text:
        return (
            f"{who} has too little direct memory: write a larger `{flink.OFF_HEAP}`, such as 1024m, "
            "into the configuration of its TaskManagers."
        )
    if HEAP in text:
        more = "a larger `taskmanager.memory.process.size`" if beam.engine == "Flink" else "more executor memory"
        return f"{who} has too little memory for Java: give its {parts} {more}, and run this again to go on."
    if CHANNEL in text:
        return (
            f"{who} closed the connection to a Python worker: the logs of its {parts} say why, such as too little "
            "direct memory; run this again to go on."
        )
    if SLOTS.search(text):
        return f"{who} had no free slot for as long as it waits: start a further TaskManager, or try again later."
    if GONE.search(text):
        other = "" if beam.engine == "Flink" else ", or of another version than 3.5"
        return f"{who} is no longer there{other}: see its log for why, start it, and run this again to go on."
    if NO_JOB_SERVER.search(text):
        return (
            f"Beam's job server for {beam.engine} has ended: see the run's log for why, and run this again to go on."
        )
    if LOST.search(text):
        return f"{who} has lost one of its {parts}: see its log for why, and run this again to go on."
    if SLOW in text:
        return (
            f"{who} was too slow to answer itself: give it more processors, or write a longer `pekko.ask.timeout`, "
            "such as 60 s, into its configuration; run this again to go on."
        )
    if OTHER_VERSION.search(text):
        return f"{who} is of another version than Beam's job server (beam.job_server): use the same for both."
    if CANCELLED.search(text):
        return f"The job was cancelled on {who}: run this again to go on."
    if found := NO_POOL.search(text):
        return (
            f"{who} reaches no worker pool at {beam.workers or found[1] or found[2]}: start `python -m "
            f"engines.workers` beside each of its {parts}, or set beam.workers to where they find one."
        )
    return None


def reason(problem: BaseException) -> str:
    """As `errors.reason`, without what Beam puts around the cause."""
    if not FAILED.search(text := str(problem)):
        return errors.reason(problem)
    text = FAILED.sub("", text, count=1)
    while JAVA.match(text):
        text = JAVA.sub("", text)
    return errors.reason(RuntimeError(text)).removeprefix("RuntimeError: ")


def of_job_server(beam: Beam, code: int | None) -> str:
    """Of a job server that did not start."""
    how = "did not start in time" if code is None else f"ended with code {code}"
    return (
        f"Beam's job server for {beam.engine} {how}: see the run's log for why; it needs Java 11 or 17 and the job "
        "server of the engine's version (beam.job_server)."
    )
