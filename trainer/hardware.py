"""How to use the hardware that is there: CPU, GPUs, and several workers.

Several workers are those of the environment variable TF_CONFIG, as Kubeflow's training operator sets it. They train
in step, each on its part of every batch; the chief does what is done once. `training.batch_size` is that of all
devices together, so the same settings give the same training on one device and on many.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib

import keras
import tensorflow as tf

from core.errors import UserError
from core.settings import Training

MOST_STEPS_PER_CALL = 32  # on a GPU: still several progress events a second
CPU_FLAGS = {"avx512_bf16", "amx_bf16"}  # either multiplies bfloat16 faster than float32


@dataclasses.dataclass(frozen=True)
class Plan:
    """The answers to every "auto" of the settings."""

    strategy: tf.distribute.Strategy
    precision: str  # of the arithmetic; weights are float32 in any case
    jit: bool
    batch_size: int  # over all devices
    steps: int  # in an epoch
    steps_per_call: int  # a divisor of steps

    def __str__(self) -> str:
        devices = f"{self.strategy.num_replicas_in_sync} x {'GPU' if gpus() else 'CPU'}"
        if workers() > 1:
            devices += f" on {workers()} workers"
        return f"{devices}, {self.precision}, jit {self.jit}, {self.steps} steps of {self.batch_size} images"


def plan(settings: Training, examples: int) -> Plan:
    """What to do on this machine with `examples` training examples.

    Raises:
        UserError: training.jit is on where XLA does not work, or TF_CONFIG cannot be read.
    """
    strategy = _strategy()
    replicas = strategy.num_replicas_in_sync
    batch_size = max(min(settings.batch_size, examples) // replicas, 1) * replicas
    steps = max(examples // batch_size, 1)
    most = settings.steps_per_execution or (MOST_STEPS_PER_CALL if gpus() else 1)
    jit = bool(gpus()) if settings.jit == "auto" else settings.jit == "on"
    if replicas > 1:
        # With TensorFlow 2.21 neither Keras' loop of several steps nor XLA around its step reaches several devices.
        if settings.jit == "on":
            raise UserError(f"training.jit=on works on one device only, and here are {replicas}: leave it on auto.")
        most, jit = 1, False
    calls = math.ceil(steps / most)
    per_call = steps // calls
    return Plan(
        strategy=strategy,
        precision=_fastest_precision() if settings.precision == "auto" else settings.precision,
        jit=jit,
        batch_size=batch_size,
        steps=calls * per_call,  # an epoch ends between two calls; this drops less than one batch for each call
        steps_per_call=per_call,
    )


class Workers(tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's strategy for several workers, with a `reduce` that takes what Keras 3 gives it.

    Keras 3.15 asks for the mean of a tuple of images and labels, of which it only wants shapes and dtypes, and for
    the mean of scalars over their axis 0. TensorFlow 2.21 fails on both.
    """

    def reduce(self, reduce_op: tf.distribute.ReduceOp, value: object, axis: int | None = None) -> object:
        """See tf.distribute.Strategy."""
        if isinstance(value, tuple):
            return tuple(self.experimental_local_results(part)[0] for part in value)
        scalar = self.experimental_local_results(value)[0].shape.rank == 0
        return super().reduce(reduce_op, value, None if scalar else axis)


def workers() -> int:
    """How many processes train together."""
    return sum(len(addresses) for job, addresses in _config("cluster").items() if job in ("chief", "worker")) or 1


def is_chief() -> bool:
    """Whether this process writes what all of them made."""
    task = _config("task")
    return workers() == 1 or task["type"] == "chief" or ("chief" not in _config("cluster") and task["index"] == 0)


def wait_for_workers(number: int = 0) -> list[int]:
    """Waits until all workers have come here; the numbers that they bring, or this process' own if it is alone."""
    if workers() == 1:
        return [number]
    return _workers().gather(tf.constant([number]), axis=0).numpy().tolist()


def share_batches(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Lets each worker take its part of every batch, whatever files the examples are in."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def share_statistics(network: keras.Model) -> None:
    """Makes batch normalization use the whole batch, not the part of it that one device has."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def gpus() -> list[tf.config.PhysicalDevice]:
    """The GPUs that TensorFlow may use."""
    return tf.config.get_visible_devices("GPU")


def _strategy() -> tf.distribute.Strategy:
    """All visible GPUs, or the one device there is."""
    for gpu in gpus():
        with contextlib.suppress(RuntimeError):  # already in use: then it is set, or the user has decided
            tf.config.experimental.set_memory_growth(gpu, True)  # leave room for the components after this one
    if workers() > 1:
        return _workers()
    return tf.distribute.MirroredStrategy() if len(gpus()) > 1 else tf.distribute.get_strategy()


@functools.cache
def _workers() -> Workers:
    """The one connection of this process to the others."""
    return Workers()


def _config(part: str) -> dict:
    """The part "cluster" (job -> addresses) or "task" (type and index) of TF_CONFIG, {} without it."""
    try:
        return dict(json.loads(os.environ.get("TF_CONFIG") or "{}").get(part, {}))
    except (ValueError, AttributeError, TypeError):
        raise UserError("The environment variable TF_CONFIG is not the JSON that TensorFlow expects.") from None


def _fastest_precision() -> str:
    if gpus():
        details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus())
        able = all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    else:
        able = bool(CPU_FLAGS & _cpu_flags()) and onednn_may_use_bfloat16()
    return "mixed_bfloat16" if able else "float32"


def onednn_may_use_bfloat16() -> bool:
    """Whether ONEDNN_MAX_CPU_ISA leaves oneDNN, which does TensorFlow's convolutions, what the processor has for it.

    TensorFlow asks the processor alone, and with a limit below that fails, or crashes, on bfloat16. The names of the
    variable's values: https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    return limit in ("", "ALL", "DEFAULT") or any(word in limit for word in ("BF16", "FP16", "AMX", "AVX10"))


def _cpu_flags() -> set[str]:
    """The instruction sets of the processor, as Linux calls them on x86; elsewhere none."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()
