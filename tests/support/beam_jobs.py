"""Beam's own job server, which asks for workers as those of Flink and Spark do."""

import contextlib

from apache_beam.runners.portability import local_job_service


@contextlib.contextmanager
def job_server(folder):
    """Yields it; its attribute `port` is that of 127.0.0.1."""
    servicer = local_job_service.LocalJobServicer(str(folder))
    servicer.port = servicer.start_grpc_server()
    yield servicer
    servicer.stop()
