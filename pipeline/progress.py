"""The state of a run, built up from its events, and the plain lines that tell of it. Draws nothing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

from core.text import setting

WAITING, RUNNING, DONE, CACHED, FAILED, SKIPPED = "waiting", "running", "done", "cached", "failed", "skipped"
WORDS = {CACHED: "reused from cache"}


@dataclasses.dataclass
class Node:
    """One node of the pipeline: its state, when it started, how long it took (seconds), what it is doing."""

    state: str = WAITING
    started: float = 0.0
    seconds: float = 0.0
    detail: str = ""

    def elapsed(self) -> float:
        """Seconds so far."""
        return time.time() - self.started if self.state == RUNNING else self.seconds


@dataclasses.dataclass
class Run:
    """What is known of a run so far."""

    nodes: dict[str, Node] = dataclasses.field(default_factory=dict)
    status: str = "starting"
    notes: list[str] = dataclasses.field(default_factory=list)
    epochs: list[dict] = dataclasses.field(default_factory=list)
    trial: str = ""  # of the search for a recipe, while one runs
    error: str = ""
    error_is_users: bool = False

    @property
    def current(self) -> str | None:
        """The id of the node that is running."""
        return next((name for name, node in self.nodes.items() if node.state == RUNNING), None)

    def apply(self, event: Mapping) -> str | None:
        """Takes in an event; returns the line that tells of it, or None for what only a live display shows."""
        kind = event["kind"]
        method = getattr(self, f"_on_{kind}", None)
        return method(event) if method else None

    def end(self) -> None:
        """The worker is gone: what still waits was not reached."""
        self.status = ""
        for node in self.nodes.values():
            if node.state == WAITING:
                node.state = SKIPPED
            elif node.state == RUNNING:
                node.state, node.seconds = FAILED, node.elapsed()

    def _on_status(self, event: Mapping) -> str:
        self.status = event["text"]
        return self.status

    def _on_node(self, event: Mapping) -> str:
        node = self.nodes.setdefault(event["node"], Node())
        node.state = event["state"]
        self.status = ""
        if node.state == RUNNING:
            node.started = event["time"]
            return f"{event['node']}: running"
        node.seconds, node.detail = event["seconds"], ""
        return f"{event['node']}: {WORDS.get(node.state, node.state)} ({node.seconds:.1f} s)"

    def _detail(self, text: str) -> None:
        if self.current:
            self.nodes[self.current].detail = text

    def _on_download(self, event: Mapping) -> None:
        of = f" of {event['of']}" if event["of"] else ""
        self._detail(f"downloading {event['name']}: {event['megabytes']}{of} MB")

    def _on_unpack(self, event: Mapping) -> None:
        self._detail(f"unpacking {event['name']}: {event['megabytes']} of {event['of']} MB")

    def _on_ingest(self, event: Mapping) -> None:
        self._detail(f"{event['images']:,} images")

    def _on_training(self, event: Mapping) -> None:
        self._detail(
            f"{self.trial}epoch {event['epoch']}/{event['epochs']}  step {event['step']}/{event['steps']}  "
            f"{event['images_per_second']:,.0f} images/s  loss {event['loss']:.3f}  accuracy {event['accuracy']:.1%}"
            + self._best()
        )

    def _on_epoch(self, event: Mapping) -> str | None:
        self.epochs.append(dict(event))
        if self.trial:
            return None
        return (
            f"Trainer: epoch {event['epoch']}/{event['epochs']}  {event['images_per_second']:,.0f} images/s  "
            f"loss {event['loss']:.3f}  accuracy {event['accuracy']:.1%}  "
            f"validation loss {event['val_loss']:.3f}  accuracy {event['val_accuracy']:.1%}"
        )

    def _on_trial(self, event: Mapping) -> str | None:
        self.epochs.clear()
        count = f"trial {event['trial']}/{event['trials']}"
        best = "" if event["best"] is None else f"  best {event['best']:.1%}"
        if event["state"] == "running":
            self.trial = f"{count}{best}  "
            self._detail(self.trial)
            return None
        self.trial = ""
        accuracy = "diverged" if event["accuracy"] is None else f"validation accuracy {event['accuracy']:.1%}"
        values = "  ".join(f"{key.partition('.')[2]} {setting(value)}" for key, value in event["values"].items())
        return f"Tuner: {count}  {accuracy}{best}  {values}"

    def _best(self) -> str:
        return f"  validation {self.epochs[-1]['val_accuracy']:.1%}" if self.epochs else ""

    def _on_warning(self, event: Mapping) -> str:
        self.notes.append(f"Warning: {event['text']}.")
        return self.notes[-1]

    def _on_note(self, event: Mapping) -> str:
        self.notes.append(f"{event['text'][0].upper()}{event['text'][1:]}.")
        return self.notes[-1]

    def _on_error(self, event: Mapping) -> None:
        self.error, self.error_is_users = event["text"], event["user"]
