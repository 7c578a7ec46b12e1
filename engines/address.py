"""Where an engine or a pool of workers is."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket


def here(master: str) -> bool:
    """Whether an address such as HOST:8081 or spark://HOST:7077 is one of this machine's loopback, or [local]."""
    if re.match(r"\[?local\b", master) and "://" not in master and not re.search(r":\d", master):
        return True
    host = re.sub(r"^\w+://", "", master).rpartition(":")[0].strip("[]")
    if host in ("localhost", socket.gethostname()):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
