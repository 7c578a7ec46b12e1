"""Flink's REST interface: what a cluster is and has, which jobs run, and how they are cancelled.

https://nightlies.apache.org/flink/flink-docs-release-1.19/docs/ops/rest_api/
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from engines import job_server

SECONDS = 5  # that an answer may take
DIRECT = urllib.request.build_opener(
    urllib.request.ProxyHandler({})
)  # clusters are not behind the proxies of the web
SILENT = "Flink does not answer"
ENDED = {"FINISHED", "FAILED", "CANCELED", "SUSPENDED"}
SEGMENT, BUFFERS = 32 << 10, 512  # Flink's defaults of the two settings below
SEGMENT_SIZE = "taskmanager.memory.segment-size"
MIN_BUFFERS = "taskmanager.network.sort-shuffle.min-buffers"
OFF_HEAP = "taskmanager.memory.task.off-heap.size"
# What a cluster's configuration needs beside Flink's defaults: our jobs have many small shuffles, and what Beam's
# workers process goes to them through direct memory. The second is for each slot, and the third Flink's own with it:
# 60,000 images failed without, and with half of it at times.
NEEDED = {
    MIN_BUFFERS: "16",
    OFF_HEAP: "512m",
    "taskmanager.memory.process.size": "2304m",
    "taskmanager.memory.managed.fraction": "0.2",  # else the tasks' heap is what is left, and too small
}
# What makes our jobs cheaper.
FAST = dict.fromkeys(("env.java.opts.jobmanager", "env.java.opts.taskmanager"), " ".join(job_server.BRIEF))


class NoAnswer(Exception):
    """There is none at the address; the text says why."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What Flink says of itself; `buffers` and `off_heap`: of the TaskManager that has the fewest for each slot."""

    version: str
    task_managers: int
    slots: int
    free_slots: int
    buffers: int
    min_buffers: int  # that one shuffle takes
    off_heap: int  # bytes of direct memory for tasks

    @property
    def release(self) -> str:
        """Major and minor version, such as "1.19"."""
        return ".".join(self.version.split(".")[:2])


class Rest:
    """The REST interface of one Flink cluster."""

    def __init__(self, master: str) -> None:
        """`master`: HOST:PORT, with http:// or https:// before it or not."""
        self.address = master if "://" in master else f"http://{master}"
        self.address = self.address.rstrip("/")

    def cluster(self) -> Cluster:
        """Raises NoAnswer if it does not answer, or is no Flink."""
        about, overview = self._ask("config"), self._ask("overview")
        try:
            managers = self._ask("taskmanagers")["taskmanagers"]
            settings = {each["key"]: each["value"] for each in self._ask("jobmanager/config")}
            buffers = [
                each["memoryConfiguration"]["networkMemory"] // each["slotsNumber"] // SEGMENT
                for each in managers
                if each["slotsNumber"] and SEGMENT_SIZE not in settings  # else nobody knows how many it makes
            ]
            return Cluster(
                about["flink-version"],
                overview["taskmanagers"],
                overview["slots-total"],
                overview["slots-available"],
                min(buffers, default=1 << 30),
                int(settings.get(MIN_BUFFERS, BUFFERS)),
                min(
                    (each["memoryConfiguration"]["taskOffHeap"] // max(1, each["slotsNumber"]) for each in managers),
                    default=0,
                ),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise NoAnswer(f"it answers, but not as Flink does ({type(problem).__name__}: {problem})") from None

    def running(self, prefix: str) -> dict[str, str]:
        """Name by id of the jobs that have not ended and whose name begins so."""
        jobs = self._ask("jobs/overview")["jobs"]
        return {
            job["jid"]: job["name"] for job in jobs if job["name"].startswith(prefix) and job["state"] not in ENDED
        }

    def cancel(self, prefix: str, seconds: float = 30) -> list[str]:
        """Cancels the jobs whose name begins so, and waits until they have ended.

        Returns:
            Names of those that have not ended in that time.

        Raises:
            NoAnswer: Flink does not answer.
        """
        until = time.monotonic() + seconds
        asked: set[str] = set()
        while running := self.running(prefix):
            for job in running.keys() - asked:
                self._ask(f"jobs/{urllib.parse.quote(job)}?mode=cancel", "PATCH")
                asked.add(job)
            if time.monotonic() > until:
                return sorted(running.values())
            time.sleep(0.2)
        return []

    def failure(self, prefix: str) -> str:
        """Why the last job failed whose name begins so: a stack trace; "" if none failed. Raises NoAnswer."""
        jobs = self._ask("jobs/overview")["jobs"]
        failed = [job for job in jobs if job["name"].startswith(prefix) and job["state"] == "FAILED"]
        if not failed:
            return ""
        last = max(failed, key=lambda job: job["start-time"])
        return str(self._ask(f"jobs/{urllib.parse.quote(last['jid'])}/exceptions").get("root-exception") or "")

    def _ask(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"{self.address}/v1/{path}", method=method)
        try:
            with DIRECT.open(request, timeout=SECONDS) as answer:
                return json.loads(answer.read() or "{}")
        except urllib.error.HTTPError as problem:
            if method == "PATCH" and problem.code in (404, 409):  # it has ended meanwhile
                return {}
            raise NoAnswer(f"it answers with {problem.code} {problem.reason}") from None
        except urllib.error.URLError as problem:
            why = problem.reason
            raise NoAnswer((getattr(why, "strerror", None) or str(why)).lower()) from None
        except TimeoutError:
            raise NoAnswer(f"it says nothing for {SECONDS} seconds") from None
        except (OSError, ValueError, http.client.HTTPException) as problem:  # no HTTP at all, or no JSON
            raise NoAnswer(f"it answers, but not as Flink does ({problem})") from None
