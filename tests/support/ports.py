"""Ports of this machine that nobody else has meanwhile."""

import contextlib
import socket

from benchmarks.clusters import free_ports as kept_ports

__all__ = ["closed_port", "kept_ports"]


@contextlib.contextmanager
def closed_port():
    """A port of 127.0.0.1 that refuses: it is taken, so nobody can come to listen there, and does not listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
