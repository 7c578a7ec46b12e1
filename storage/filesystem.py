"""Object stores for `tfx.dsl.io.fileio`: importing this module lets TFX's components read and write in them."""

from __future__ import annotations

import fnmatch
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from tfx.dsl.io import filesystem, filesystem_registry

from . import object_store, schemes


class _Writer(io.BufferedRandom):
    """A temporary file that becomes an object when it is closed."""

    def __init__(self, uri: str) -> None:
        super().__init__(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115  closed with this one
        self._uri = uri
        self.wanted = True

    def __exit__(self, kind: type[BaseException] | None, *others: Any) -> None:
        self.wanted = kind is None
        super().__exit__(kind, *others)

    def close(self) -> None:
        if self.closed:
            return
        try:
            if self.wanted:
                self.seek(0)
                object_store.write(self, self._uri)
        finally:
            super().close()


class _TextWriter(io.TextIOWrapper):
    def __init__(self, writer: _Writer) -> None:
        super().__init__(writer, encoding="utf-8")
        self._writer = writer

    def __exit__(self, kind: type[BaseException] | None, *others: Any) -> None:
        self._writer.wanted = kind is None
        super().__exit__(kind, *others)


class ObjectFilesystem(filesystem.Filesystem):
    """Object stores for `tfx.dsl.io.fileio`. Folders exist only through what is in them."""

    SUPPORTED_SCHEMES = list(schemes.SCHEMES)

    @staticmethod
    def open(name: str, mode: str = "r") -> Any:
        kind = mode.replace("b", "").replace("t", "")
        if kind == "w":
            return _Writer(name) if "b" in mode else _TextWriter(_Writer(name))
        if kind != "r":
            raise object_store.ObjectStoreError(
                f"{name} cannot be opened with {mode!r}: objects are read or written whole."
            )
        file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
        object_store.fetch(name, file)
        file.seek(0)
        return file if "b" in mode else io.TextIOWrapper(file, encoding="utf-8")

    @staticmethod
    def copy(src: str, dst: str, overwrite: bool = False) -> None:
        if not overwrite and object_store.head(dst):
            raise object_store.ObjectStoreError(f"{dst} already exists.")
        object_store.copy(src, dst)

    @staticmethod
    def exists(path: str) -> bool:
        return ObjectFilesystem.isdir(path) or object_store.head(path) is not None

    @staticmethod
    def glob(pattern: str) -> list[str]:
        bucket, key = object_store.split(pattern)
        parts = key.split("/")
        fixed = next((place for place, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts))
        if fixed == len(parts):
            return [pattern] if ObjectFilesystem.exists(pattern) else []
        base = "/".join([f"{pattern.partition('://')[0]}://{bucket}", *parts[:fixed]])
        rest = parts[fixed:]
        found = set()
        for one in object_store.listed(base):
            names = one.name.split("/")[: len(rest)]
            if len(names) == len(rest) and all(map(fnmatch.fnmatchcase, names, rest)):
                found.add("/".join([base, *names]))
        return sorted(found)

    @staticmethod
    def isdir(path: str) -> bool:
        return object_store.is_folder(path)

    @staticmethod
    def listdir(path: str) -> list[str]:
        folders, files = object_store.children(path)
        if not folders and not files:
            raise filesystem.NotFoundError(f"{path} does not exist.")
        return folders + files

    @staticmethod
    def makedirs(path: str) -> None:
        object_store.split(path)

    @staticmethod
    def mkdir(path: str) -> None:
        object_store.split(path)

    @staticmethod
    def remove(path: str) -> None:
        if not object_store.head(path):
            raise filesystem.NotFoundError(f"{path} does not exist.")
        object_store.remove(path)

    @staticmethod
    def rename(src: str, dst: str, overwrite: bool = False) -> None:
        """Copies and then removes, one object after the other: not atomic."""
        objects = object_store.find(src)
        if not objects:
            raise filesystem.NotFoundError(f"{src} does not exist.")
        if not overwrite and ObjectFilesystem.exists(dst):
            raise object_store.ObjectStoreError(f"{dst} already exists.")
        source, target = src.rstrip("/"), dst.rstrip("/")
        for one in objects:
            ObjectFilesystem.copy(one.uri, target + one.uri.removeprefix(source), overwrite=True)
        for one in objects:
            object_store.remove(one.uri)

    @staticmethod
    def rmtree(path: str) -> None:
        if not ObjectFilesystem.isdir(path):
            raise filesystem.NotFoundError(f"{path} does not exist.")
        object_store.remove_below(path)

    @staticmethod
    def stat(path: str) -> os.stat_result:
        """Size and time; of a folder nothing but that it exists."""
        head = object_store.head(path)
        if head:
            return os.stat_result((0o100644, 0, 0, 1, 0, 0, head.size, *(3 * [head.modified])))
        if ObjectFilesystem.isdir(path):
            return os.stat_result((0o040755, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        raise filesystem.NotFoundError(f"{path} does not exist.")

    @staticmethod
    def walk(
        top: str, topdown: bool = True, onerror: Callable[..., None] | None = None
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        del onerror
        folders, files = object_store.children(top)
        if topdown and (folders or files):
            yield top, folders, files
        for name in folders:
            yield from ObjectFilesystem.walk(f"{top.rstrip('/')}/{name}", topdown)
        if not topdown and (folders or files):
            yield top, folders, files


# Lower numbers go first. TensorFlow's own file system claims all schemes with 10, but of these it opens gs:// alone,
# with credentials, retries and errors of its own.
filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.register(ObjectFilesystem, priority=0)
