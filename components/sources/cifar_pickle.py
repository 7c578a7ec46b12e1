"""Reads the pickles of the `cifar-10-python` archive without trusting them.

A pickle may name any function to be called while it is read. This unpickler knows only what such a file contains:
plain containers, strings, numbers and one uint8 array. Every name in the file that would be looked up is refused,
but for the few that build an array, and those stand for harmless code of our own.
"""

from __future__ import annotations

import dataclasses
import pathlib
import pickle

import numpy as np

from core.errors import UserError

LARGEST = 512 * 2**20  # bytes; a batch of the original has 31 MB


@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch: pixels uint8 [n, 3072], n labels, n names ("" where the file has none)."""

    pixels: np.ndarray
    labels: tuple[int, ...]
    names: tuple[str, ...]


class _DType:
    """Stands for numpy.dtype; its only legal argument is an unsigned byte."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in ("u1", b"u1", "|u1", b"|u1"):
            raise pickle.UnpicklingError(f"an array of type {code!r}")

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands for numpy.ndarray; takes shape and bytes, never objects."""

    pixels: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):
            data = data.encode("latin1")
        if not (isinstance(dtype, _DType) and isinstance(data, bytes) and isinstance(shape, tuple)):
            raise pickle.UnpicklingError("an array of objects")
        pixels = np.frombuffer(data, np.uint8)
        self.pixels = pixels.reshape(tuple(map(int, shape)), order="F" if fortran else "C")


def _reconstruct(*_: object) -> _Array:
    """Stands for numpy's function of this name."""
    return _Array()


def _frombuffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    """Stands for numpy's function of this name, by which arrays are written into pickles of protocol 5."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", bytes(data) if isinstance(data, bytearray) else data))
    return array


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Stands for _codecs.encode, by which Python 3 writes bytes into pickles of protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("an unexpected encoding")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        known = _KNOWN.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError("it asks for an outside object")


def load(path: pathlib.Path) -> dict[str, object]:
    """The dict in a pickle file, its keys as text.

    Raises:
        UserError: the file holds anything that a CIFAR-10 file does not, or is damaged.
    """
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path.name} is larger than {LARGEST >> 20} MB, so it is no CIFAR-10 file.")
    try:
        with open(path, "rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
    except pickle.UnpicklingError as problem:
        if "truncated" in str(problem):
            raise UserError(f"{path.name} is damaged ({problem}): get the archive again.") from None
        raise UserError(f"{path.name} was refused, it is not what a CIFAR-10 file holds: {problem}.") from None
    except Exception as problem:  # a damaged pickle raises almost anything
        raise UserError(f"{path.name} is damaged ({type(problem).__name__}): get the archive again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path.name} holds no dict, so it is no CIFAR-10 file.")
    return {_text(key): value for key, value in content.items()}


def load_batch(path: pathlib.Path) -> Batch:
    """A batch file. Raises UserError."""
    content = load(path)
    array, labels = content.get("data"), content.get("labels")
    pixels = array.pixels if isinstance(array, _Array) else None
    if pixels is None or pixels.ndim != 2 or not isinstance(labels, list):
        raise UserError(f"{path.name} lacks data or labels, so it is no CIFAR-10 batch.")
    if len(labels) != len(pixels) or not all(type(label) is int for label in labels):
        raise UserError(f"{path.name} has {len(pixels)} images and {len(labels)} labels: get the archive again.")
    names = content.get("filenames")
    if not isinstance(names, list) or len(names) != len(labels):
        names = [""] * len(labels)
    return Batch(pixels=pixels, labels=tuple(labels), names=tuple(map(_text, names)))


def load_label_names(path: pathlib.Path) -> tuple[str, ...]:
    """The names of the classes in batches.meta. Raises UserError."""
    names = load(path).get("label_names")
    if not isinstance(names, list) or not names:
        raise UserError(f"{path.name} holds no label_names.")
    return tuple(map(_text, names))


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
