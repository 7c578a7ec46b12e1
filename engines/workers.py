"""The Python workers of an engine: `python -m engines.workers --port 50000` beside each TaskManager or executor.

A pool like Beam's own (apache_beam.runners.worker.worker_pool_main), but for four things. Workers are forked from a
process that has imported TensorFlow and TFX once: that takes milliseconds instead of some eight seconds of processor
time for each. They end with their connection to the engine, not when somebody names their id: ids are unique within a
job only, and the id of one job's worker is that of another's. They work in the run's working directory, so that paths
may be relative. And the pool listens on the loopback, for it asks nobody who he is.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent import futures

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.worker import sdk_worker

# What the stages of the Beam nodes import. By name: this room knows nothing of those above it.
PRELOADED = (
    "tensorflow",
    "tensorflow_data_validation",
    "tensorflow_transform.beam",
    "tensorflow_model_analysis",
    "tfx_bsl.public.tfxio",
    "components.example_gen",
    "components.evaluator",
    "trainer.preprocessing",
)
FOLDER = "folder"  # the parameter of a request that names the working directory
CACHE = 100 << 20  # bytes of side inputs that a worker keeps; Beam's own default
LONGEST = 60  # characters of the folder of a Unix socket whose own name takes 30 more: Linux allows 107, macOS 103


class Pool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts a worker for each request."""

    def __init__(self, preloaded: Sequence[str]) -> None:
        """`preloaded`: names of modules that the workers find imported."""
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preloaded))

    def warm(self) -> None:
        """Has the process that workers are forked from import what they need."""
        with contextlib.suppress(OSError):  # at the end of this process
            process = self._context.Process(target=_nothing)
            process.start()
            process.join()

    def StartWorker(
        self, request: beam_fn_api_pb2.StartWorkerRequest, context: grpc.ServicerContext
    ) -> beam_fn_api_pb2.StartWorkerResponse:
        """Forks a worker that serves the engine at the request's control endpoint."""
        folder = dict(request.params).get(FOLDER, "")
        if folder and not os.path.isdir(folder):
            where = f"The worker pool on {os.uname().nodename} has no folder {folder}"
            return beam_fn_api_pb2.StartWorkerResponse(error=f"{where}: mount the working directory there, too.")
        process = self._context.Process(
            target=_work, args=(request.control_endpoint.url, request.worker_id, folder), daemon=True
        )
        process.start()
        threading.Thread(target=process.join, daemon=True).start()
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(
        self, request: beam_fn_api_pb2.StopWorkerRequest, context: grpc.ServicerContext
    ) -> beam_fn_api_pb2.StopWorkerResponse:
        """Does nothing: the worker ends when the engine closes the connection."""
        return beam_fn_api_pb2.StopWorkerResponse()


def _nothing() -> None:
    pass


def _work(endpoint: str, worker_id: str, folder: str) -> None:
    if folder:
        os.chdir(folder)
    with contextlib.suppress(grpc.RpcError):  # the engine is gone
        sdk_worker.SdkHarness(endpoint, worker_id=worker_id, state_cache_size=CACHE).run()


def serve(address: str, preloaded: Sequence[str] = PRELOADED) -> tuple[grpc.Server, str]:
    """Starts a pool at HOST:PORT, of which port 0 is any that is free; returns its server and its address.

    Args:
        address: where to listen.
        preloaded: names of modules that the workers find imported.

    Raises:
        OSError: the address cannot be listened at.
    """
    server = grpc.server(futures.ThreadPoolExecutor(), options=[("grpc.so_reuseport", 0)])
    pool = Pool(preloaded)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise OSError(
            f"{address} cannot be listened at: another program may do so, or the host is not this one."
        ) from None
    server.start()
    threading.Thread(target=pool.warm, daemon=True).start()
    return server, f"{address.rpartition(':')[0]}:{port}"


def main(arguments: list[str] | None = None) -> None:
    """Serves until it is ended, and prints where."""
    parser = argparse.ArgumentParser(prog="python -m engines.workers", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=50000, help="0: any that is free (default: %(default)s)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="where to listen; whoever reaches it runs programs as this user, so leave it at the loopback, which the "
        "containers of a pod share (default: %(default)s)",
    )
    asked = parser.parse_args(arguments)
    if len(tempfile.gettempdir()) > LONGEST:  # a run's lies in its working directory; its workers keep that one
        tempfile.tempdir = "/tmp"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # the socket's folder goes, too
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whoever reads where this listens does not read on; what workers print must not wait for that
    try:
        server, address = serve(f"{asked.host}:{asked.port}")
    except OSError as problem:
        sys.exit(f"engines.workers: {problem}")
    print(address, file=said, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.wait_for_termination()


if __name__ == "__main__":
    main()
