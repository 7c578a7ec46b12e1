"""Ports of this machine that nobody else has meanwhile."""

import contextlib
import socket
import sys


@contextlib.contextmanager
def closed_port():
    """A port of 127.0.0.1 that refuses: it is taken, so nobody can come to listen there, and does not listen."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextlib.contextmanager
def kept_ports(count):
    """Free ports for servers that other processes start.

    A socket that is bound and does not listen keeps the system from giving the port to somebody else. On Linux a
    server that allows the address to be reused, as gRPC's do, can listen there all the same; elsewhere it could not,
    and the ports are merely free at first.
    """
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in held]
        if sys.platform != "linux":
            stack.close()
        yield ports
