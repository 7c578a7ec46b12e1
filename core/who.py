"""Who decides, for what is recorded of decisions."""

from __future__ import annotations

import getpass
import os
import socket

VARIABLE = "ALEXNET_USER"


def name(given: str | None = None) -> str:
    """What was given, what ALEXNET_USER says, or USER@HOST; the number of a user without a name."""
    if found := (given or os.environ.get(VARIABLE, "")).strip():
        return found
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
