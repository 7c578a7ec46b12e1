"""How to use the hardware that is there."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from pipeline.settings import Training

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
        return f"{devices}, {self.precision}, jit {self.jit}, {self.steps} steps of {self.batch_size} images"


def plan(settings: Training, examples: int) -> Plan:
    """What to do on this machine with `examples` training examples."""
    strategy = _strategy()
    replicas = strategy.num_replicas_in_sync
    batch_size = max(min(settings.batch_size, examples) // replicas, 1) * replicas
    steps = max(examples // batch_size, 1)
    most = settings.steps_per_execution or (MOST_STEPS_PER_CALL if gpus() else 1)
    if replicas > 1:
        most = 1  # TensorFlow 2.21 fails to run Keras' loop of several steps on several devices
    calls = math.ceil(steps / most)
    per_call = steps // calls
    return Plan(
        strategy=strategy,
        precision=_fastest_precision() if settings.precision == "auto" else settings.precision,
        jit=bool(gpus()) if settings.jit == "auto" else settings.jit == "on",
        batch_size=batch_size,
        steps=calls * per_call,  # an epoch ends between two calls; this drops less than one batch for each call
        steps_per_call=per_call,
    )


def gpus() -> list[tf.config.PhysicalDevice]:
    """The GPUs that TensorFlow may use."""
    return tf.config.get_visible_devices("GPU")


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers made inside compute as the policy says; afterwards the global policy is what it was."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _strategy() -> tf.distribute.Strategy:
    """All visible GPUs, or the one device there is."""
    for gpu in gpus():
        with contextlib.suppress(RuntimeError):  # already in use: then it is set, or the user has decided
            tf.config.experimental.set_memory_growth(gpu, True)  # leave room for the components after this one
    return tf.distribute.MirroredStrategy() if len(gpus()) > 1 else tf.distribute.get_strategy()


def _fastest_precision() -> str:
    if gpus():
        details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus())
        able = all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    else:
        able = bool(CPU_FLAGS & _cpu_flags())
    return "mixed_bfloat16" if able else "float32"


def _cpu_flags() -> set[str]:
    """The instruction sets of the processor, as Linux calls them on x86; elsewhere none."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()
