"""Reads the pickles of the `cifar-10-python` archive without trusting them.

A pickle may name any function to be called while it is read. This unpickler knows only what such a file contains:
plain containers, strings, numbers and one uint8 array. Every name in the file that would be looked up is refused,
but for the few that build an array, and those stand for harmless code of our own. A pickle has no checksum; what can
be checked is that it is whole, that nothing follows it, and that its parts fit together.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import pickle
import pickletools
import reprlib

import numpy as np

from core.errors import UserError
from core.text import plain

PIXELS = 32 * 32 * 3
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
            raise pickle.UnpicklingError(f"an array of type {reprlib.repr(code)}")

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


def _no_bytes(*arguments: object) -> bytes:
    """Stands for bytes, by which Python 3 writes empty bytes into pickles of protocol 2."""
    if arguments:
        raise pickle.UnpicklingError("bytes of something")
    return b""


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
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
        raise UserError(f"{path} is larger than {LARGEST >> 20} MB, so it is no CIFAR-10 file.")
    try:
        content = path.read_bytes()
        _check_memory(content)
        file = io.BytesIO(content)
        found = _Unpickler(file, encoding="bytes").load()
        if file.read(1):
            raise EOFError("something follows its end")
    except pickle.UnpicklingError as problem:
        if "truncated" in str(problem):
            raise UserError(f"{path} is damaged ({problem}): get the archive again.") from None
        raise UserError(
            f"{path} was refused, it is not what a CIFAR-10 file holds: {plain(problem)[:200]}."
        ) from None
    except Exception as problem:  # a damaged pickle raises almost anything
        raise UserError(f"{path} is damaged ({type(problem).__name__}): get the archive again.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no dict, so it is no CIFAR-10 file.")
    return {_text(key): value for key, value in found.items()}


def _check_memory(content: bytes) -> None:
    """Raises ValueError if the pickle is cut, or numbers its parts so that a table of gigabytes would be made."""
    operations = numbered = 0
    for operation, argument, _ in pickletools.genops(content):
        operations += 1
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument is not None:
            numbered = max(numbered, int(argument))
    if numbered > operations:
        raise ValueError("its parts are numbered beyond their count")


def load_batch(path: pathlib.Path) -> Batch:
    """A batch file. Raises UserError."""
    content = load(path)
    array, labels = content.get("data"), content.get("labels")
    pixels = array.pixels if isinstance(array, _Array) else None
    if pixels is None or pixels.ndim != 2 or not isinstance(labels, list):
        raise UserError(f"{path} lacks data or labels, so it is no CIFAR-10 batch: get the archive again.")
    if pixels.shape[1] != PIXELS:
        raise UserError(f"{path} has images of {pixels.shape[1]} values instead of {PIXELS}: get the archive again.")
    if len(labels) != len(pixels):
        raise UserError(f"{path} has {len(pixels)} images and {len(labels)} labels: get the archive again.")
    if not all(type(label) is int for label in labels):
        raise UserError(f"{path} has labels that are no integers: get the archive again.")
    names = content.get("filenames")
    if not isinstance(names, list) or len(names) != len(labels):
        names = [""] * len(labels)
    return Batch(pixels=pixels, labels=tuple(labels), names=tuple(map(_text, names)))


def load_label_names(path: pathlib.Path) -> tuple[str, ...]:
    """The names of the classes in batches.meta. Raises UserError."""
    names = load(path).get("label_names")
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise UserError(f"{path} holds no label_names: get the archive again.")
    return tuple(map(_text, names))


def _text(value: object) -> str:
    """Text that may be stored as bytes; "" for anything else."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
