"""Starting programs of this project."""

from __future__ import annotations

import sys

SAFE_PATH = "PYTHONSAFEPATH"  # what Python's -P is called in the environment, which children of children inherit


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module with this Python.

    Without -P, Python would look for every module in the current folder first: a `queue.py` of the user's, or a
    `trainer.py`, would be taken for Python's or ours.
    """
    return [sys.executable, "-P", "-m", name, *arguments]
