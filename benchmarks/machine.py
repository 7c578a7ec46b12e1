"""What a measurement ran on. Needs neither TensorFlow nor another backend, and names the one that is there."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import time
from typing import Any

PACKAGES = (
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "numpy",
    "tfx",
    "tensorflow-transform",
    "tensorflow-model-analysis",
)

# Dense peak of 16-bit matrix products in TFLOP/s, from NVIDIA's data sheets; the first name that fits counts.
PEAKS = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "A100": 312.0,
    "L4": 121.0,
    "T4": 65.0,
}


def describe() -> dict[str, Any]:
    """Processor, cores, memory in GiB, accelerator, system, versions, and the load before the measurement."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "accelerator": accelerator(),
        "system": " ".join([platform.system(), platform.machine(), *platform.libc_ver()]).strip(),
        "load": round(os.getloadavg()[0], 1),
        "date": time.strftime("%Y-%m-%d"),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def accelerator() -> str | None:
    """The name of the first GPU that Keras' backend computes on, None on a CPU."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        found = tf.config.get_visible_devices("GPU")
        return tf.config.experimental.get_device_details(found[0]).get("device_name", "GPU") if found else None
    if backend == "jax":
        import jax

        return None if jax.default_backend() == "cpu" else jax.devices()[0].device_kind
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return None


def peak_tflops(accelerator: str | None) -> float | None:
    """Peak of 16-bit matrix products, None for what is not in `PEAKS`."""
    words = set((accelerator or "").replace("-", " ").split())
    return next((peak for name, peak in PEAKS.items() if words >= set(name.split())), None)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
