"""The jobs of a working directory on an engine: how they are found again, and ended."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib

from core import files
from core.settings import Beam
from engines import flink

MARK = "engine.json"  # in the working directory, while a job may run


def name(folder: pathlib.Path) -> str:
    """With what the names of a working directory's jobs begin."""
    return f"alexnet-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"


def mark(beam: Beam, folder: pathlib.Path) -> None:
    """Puts down in the working directory that jobs may run on the engine from now on."""
    if beam.cluster:
        files.replace(folder / MARK, json.dumps({"master": beam.cluster, "jobs": name(folder)}))


def failure(beam: Beam, folder: pathlib.Path, run: str) -> str:
    """Why a job of this run failed, in the words of the engine or in `flink.SILENT`; "" where it does not say."""
    if not beam.cluster:
        return ""
    try:
        return flink.Rest(beam.cluster).failure(f"{name(folder)}-{run}-")
    except flink.NoAnswer as problem:
        return f"{flink.SILENT}: {problem}"


def end_all(folder: pathlib.Path) -> list[str]:
    """Cancels what runs on the engine for this working directory, also of an earlier run that was killed.

    Jobs of Spark end with their job server.

    Returns:
        Sentences on what could not be done; then the mark stays.
    """
    mark = folder / MARK
    try:
        found = json.loads(mark.read_text())
        master, prefix = str(found["master"]), str(found["jobs"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{mark} cannot be read: remove it once no job of an earlier run is left on the engine."]
    try:
        left = flink.Rest(master).cancel(prefix)
    except flink.NoAnswer as problem:
        return [
            f"A job of an earlier run may still write into {folder}, and Flink at {master} does not answer "
            f"({problem}): start it, or remove {mark} if it is gone for good."
        ]
    if left:
        return [f"The job {left[0]} of Flink at {master} does not end: cancel it there."]
    mark.unlink(missing_ok=True)
    return []
