"""Archives of files, zip and tar, unpacked into a scratch folder.

What they say of themselves is checked: every checksum, every size, and that nothing is missing at the end. Nothing in
an archive decides where something is written outside of that folder, or that more is written than there is room for.
"""

from __future__ import annotations

import bz2
import collections
import contextlib
import errno
import functools
import io
import lzma
import os
import pathlib
import re
import shutil
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Protocol, cast

from components.sources import foreign
from core.errors import UserError
from core.events import emit
from core.text import plain

CHUNK = 256 * 1024
DEEPEST = 64  # folders within folders
LONGEST_NAME = 2**20  # bytes that a tar may spend on the name and attributes of one member
XZ_MEMORY = 2**30  # bytes
BLOCK = 512  # of a tar

ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
SECRET = 0x41  # flags of an encrypted member of a zip
ZIP_NAMES = {6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "xz", 96: "JPEG", 98: "PPMd", 99: "AES"}
METADATA = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X")

HIDDEN = "hidden"
MACOS = "made by macOS (__MACOSX)"
LINK = "a link"
SPECIAL = "neither a file nor a folder"
NAMELESS = "the name cannot be one of a file here"
REPLACED = "replaced by a later one of the same name"


class Damaged(Exception):
    """The archive is not what it was made as; the text says why."""


def unpack(path: pathlib.Path, name: str, folder: pathlib.Path) -> dict[str, int]:
    """Unpacks an archive.

    Args:
        path: the file.
        name: what it is called, for messages.
        folder: where its files shall lie; it is made.

    Returns:
        The members that were passed over: reason and how many. Of members with one name the last is kept.

    Raises:
        UserError: no archive that is read here, damaged, encrypted, hostile, or too large for the scratch folder.
    """
    folder.mkdir(parents=True)
    try:
        with open(path, "rb") as file:
            kind = _kind(file)
            target = _Target(folder, name, file)
            if kind == "zip":
                _unzip(file, target)
            elif kind == "tar":
                _untar(file, target)
            elif kind:
                _decompress(file, kind, target)
            else:
                raise UserError(_refusal(file, name))
    except UserError:
        raise
    except OSError as problem:
        if problem.errno is None:  # bz2 says so that data are damaged
            raise _damaged(name, problem) from None
        raise UserError(f"{name} cannot be unpacked: {_reason(problem)}.") from None
    except Exception as problem:  # damaged archives make the readers raise almost anything
        raise _damaged(name, problem) from None
    if not target.files:
        raise UserError(f"{name} holds no files: get it again, or give another one.")
    return dict(target.passed_over)


def is_archive(path: pathlib.Path) -> bool:
    """Whether `unpack` would try."""
    with open(path, "rb") as file:
        return bool(_kind(file))


def _kind(file: IO[bytes]) -> str:
    """ "zip", "tar", the compression of what may be a tar, or ""; by content, since names say anything."""
    file.seek(0)
    head = file.read(BLOCK)
    file.seek(0)
    for kind, (magic, _) in _COMPRESSIONS.items():
        if head.startswith(magic):
            return kind
    if _is_tar(head):
        return "tar"
    found = head.startswith((b"PK\3\4", b"PK\5\6")) or zipfile.is_zipfile(file)  # the latter: behind a prefix
    file.seek(0)
    return "zip" if found else ""


def _is_tar(head: bytes) -> bool:
    if head[257:262] == b"ustar":
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return False
    return True


def _refusal(file: IO[bytes], name: str) -> str:
    file.seek(0)
    kind = foreign.describe(file.read(foreign.HEAD))
    if kind:
        return f"{name} is {kind}."
    if re.fullmatch(r"(data_batch_\d|test_batch)(\.bin)?", pathlib.PurePath(name).name):
        return f"{name} is a single batch: give the folder with all of them."
    return f"{name} is no archive that is read here: give {foreign.READ}, or a folder."


def _damaged(name: str, problem: Exception) -> UserError:
    why = plain(problem).strip().rstrip(".")[:200] or type(problem).__name__
    return UserError(f"{name} is damaged ({why}): get it again.")


def _reason(problem: OSError) -> str:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return "there is no room left: free some, or set TMPDIR to a larger folder"
    return problem.strerror or type(problem).__name__


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


_Opened = contextlib.AbstractContextManager[_Readable]


class _Target:
    """The folder that an archive is unpacked into; every member passes here."""

    def __init__(self, folder: pathlib.Path, name: str, file: IO[bytes]) -> None:
        self.name = name
        self.passed_over: collections.Counter[str] = collections.Counter()
        self.files: set[tuple[str, ...]] = set()
        self._folder = folder
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._told = 0.0

    def parts(self, member: str) -> tuple[str, ...]:
        """The path of a member, below the folder.

        Raises:
            UserError: it would lie elsewhere.
        """
        parts = tuple(part for part in member.split("/") if part not in ("", "."))
        if member.startswith("/") or ".." in parts or (parts and re.match(r"[A-Za-z]:($|\\)", parts[0])):
            raise UserError(
                f"{self.name} was refused: its member {plain(member)[:200]} would be written outside of the folder "
                "that it is unpacked into; if you trust it, unpack it yourself and give the folder."
            )
        return parts

    def reserve(self, size: int) -> None:
        """Raises UserError if there is no room for `size` bytes."""
        if size > (free := shutil.disk_usage(self._folder).free):
            raise UserError(
                f"{self.name} needs {size / 1e9:,.1f} GB unpacked, but the scratch folder {self._folder.parent} has "
                f"room for {free / 1e9:,.1f} GB: free some, or set TMPDIR to a larger one."
            )

    def skip(self, parts: tuple[str, ...]) -> bool:
        """Whether a member is none of the data; it is counted then."""
        if "__MACOSX" in parts:
            self.pass_over(MACOS)
        elif any(part.startswith(".") for part in parts):
            self.pass_over(HIDDEN)
        else:
            return False
        return True

    def pass_over(self, reason: str) -> None:
        """Counts a member that is not unpacked."""
        self.passed_over[reason] += 1

    def write(self, parts: tuple[str, ...], size: int, content: Callable[[], _Opened]) -> None:
        """Writes a member of `size` bytes.

        Raises:
            Damaged: `content` has another size.
            UserError: it is a file here and a folder there.
        """
        descriptor = self._make(parts, lambda path: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666))
        if descriptor is None:
            self.pass_over(NAMELESS)
            return
        with open(descriptor, "wb") as file, content() as source:
            self._copy(source, file, size, parts)
        if parts in self.files:
            self.pass_over(REPLACED)
        self.files.add(parts)

    def make_folder(self, parts: tuple[str, ...]) -> None:
        """Makes a folder, as far as there can be one of that name; it counts for nothing."""
        self._make((*parts, ""), lambda path: None)

    def _make(self, parts: tuple[str, ...], create: Callable[[str], int | None]) -> int | None:
        """What `create` returns for the path, whose folder is there; None where there cannot be one of that name."""
        if len(parts) > DEEPEST or any("\0" in part for part in parts):
            return None
        path = os.path.join(self._folder, *parts)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return create(path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise UserError(
                f"{self.name} was refused: it has {plain('/'.join(parts))[:200]}, or what lies above it, as a file "
                "and as a folder; unpack it yourself and give the folder."
            ) from None
        except OSError as problem:
            if problem.errno not in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
                raise
            return None

    def link(self, parts: tuple[str, ...], to: tuple[str, ...]) -> None:
        """Writes a second name of a member that has been written."""
        source = self._folder.joinpath(*to)
        if to not in self.files or to == parts:
            self.pass_over(LINK)
            return
        self.reserve(size := source.stat().st_size)
        self.write(parts, size, functools.partial(io.FileIO, source))

    def tell(self) -> None:
        """Tells, at most twice a second, how much of the archive has been read."""
        if (now := time.monotonic()) - self._told > 0.5:
            self._told = now
            emit("unpack", name=self.name, megabytes=self._file.tell() >> 20, of=self._size >> 20)

    def _copy(self, source: _Readable, file: IO[bytes], size: int, parts: tuple[str, ...]) -> None:
        done = 0
        while chunk := source.read(CHUNK):
            self.tell()
            done += len(chunk)
            if done > size:
                break
            file.write(chunk)
        if done != size:
            raise Damaged(f"{'/'.join(parts)} has another size than it should")


# Zip


def _unzip(file: IO[bytes], target: _Target) -> None:
    if not zipfile.is_zipfile(file):
        raise Damaged("the list of its members, at its end, is missing")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _check_end(file, len(members))
        if members and all(info.filename.endswith(".npy") for info in members):
            raise UserError(f"{target.name} is {foreign.NPZ}.")
        wanted = {info: parts for info in members if (parts := _wanted(info, target))}
        target.reserve(sum(info.file_size for info in wanted))
        for info in members:
            if "\0" in info.orig_filename or (info.is_dir() and info.file_size):
                raise Damaged(f"{info.filename} is no name")
            if not info.is_dir():
                _check_member(file, info)
            if info in wanted:
                target.write(wanted[info], info.file_size, functools.partial(archive.open, info))
            elif not info.flag_bits & SECRET and info.compress_type in ZIP_METHODS:
                archive.open(info).close()  # compares the two places that have its name


def _wanted(info: zipfile.ZipInfo, target: _Target) -> tuple[str, ...] | None:
    """Where the member is unpacked to; None for folders and what is passed over."""
    name = info.filename.replace("\\", "/")  # as some programs for Windows write it
    parts = target.parts(name)
    if name.endswith("/") or not parts:
        target.make_folder(parts)
        return None
    if target.skip(parts):
        return None
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0  # 3: Unix
    if kind not in (0, stat.S_IFREG):
        target.pass_over(LINK if kind == stat.S_IFLNK else SPECIAL)
        return None
    if info.flag_bits & SECRET:
        raise UserError(f"{target.name} is encrypted: unpack it with its password and give the folder.")
    if info.compress_type not in ZIP_METHODS:
        method = ZIP_NAMES.get(info.compress_type, f"method {info.compress_type}")
        raise UserError(
            f"{target.name} is compressed with {method}, which is not read here: unpack it (`7z x`) and give the "
            "folder."
        )
    return parts


def _check_member(file: IO[bytes], info: zipfile.ZipInfo) -> None:
    """Raises Damaged unless the header before the member says of its size and checksum what the list says.

    zipfile compares the names alone; an entry of the list that is overwritten with zeros would be an empty file.
    """
    header = struct.Struct("<4s2xHH4x3L2H")
    file.seek(info.header_offset)
    _, flags, method, crc, _, size, name, extra = header.unpack(file.read(header.size))
    if flags & 8 and not info.file_size:  # both follow the content
        file.seek(info.header_offset + header.size + name + extra + info.compress_size)
        crc, size = struct.unpack("<L", file.read(8).removeprefix(b"PK\7\x08")[:4])[0], 0
    elif flags & 8 or size == 0xFFFFFFFF:  # or stand elsewhere; what is read is compared with the list's
        crc, size = info.CRC, info.file_size
    if (method, crc, size) != (info.compress_type, info.CRC, info.file_size):
        raise Damaged(f"{info.filename} is not what the list of members says")


def _check_end(file: IO[bytes], count: int) -> None:
    """Raises Damaged unless the end of the zip tells of `count` members, and nothing follows it."""
    end, locator, wide = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - end.size - 0xFFFF - locator.size - wide.size)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    _, _, _, _, told, _, _, comment = end.unpack_from(tail, at)
    if at + end.size + comment != len(tail):
        raise Damaged("what follows its list of members is not what it should be")
    if tail[max(0, at - locator.size) : at].startswith(b"PK\6\7"):  # zip64
        told = wide.unpack_from(tail, at - locator.size - wide.size)[7]
    elif told == count % 2**16:  # all that fits there, and all that macOS writes
        told = count
    if told != count:
        raise Damaged(f"it lists {count} members and tells of {told}")


# Tar


class _Header(tarfile.TarInfo):
    """The header of a member. tarfile takes a damaged one for the end of the archive; this does not."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as problem:
            # Two of its kinds have no public names, but these are what it says of a proper end, and of none.
            if type(problem).__name__ == "EOFHeaderError":
                raise
            missing = type(problem).__name__ == "EmptyHeaderError"
            raise tarfile.ReadError("its end is missing" if missing else str(problem)) from None

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in METADATA and header.size > LONGEST_NAME):
            raise tarfile.ReadError("a header with an impossible size")
        return header


def _untar(stream: _Readable, target: _Target) -> None:
    with tarfile.open(
        fileobj=cast(IO[bytes], stream),
        mode="r|",
        bufsize=CHUNK,
        tarinfo=_Header,
        encoding="utf-8",
        errors="surrogateescape",
    ) as archive:
        while member := archive.next():
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            target.tell()
            if member.size < 0:
                raise Damaged("a header with an impossible size")
            parts = target.parts(member.name)
            if member.isdir() or not parts:
                target.make_folder(parts)
            elif target.skip(parts):
                continue
            elif member.islnk():
                target.link(parts, target.parts(member.linkname))
            elif not member.isreg():
                target.pass_over(LINK if member.issym() else SPECIAL)
            else:
                target.reserve(member.size)
                target.write(parts, member.size, functools.partial(_content, archive, member))
        rest = cast(IO[bytes], archive.fileobj)
        while chunk := rest.read(CHUNK):  # to its end, which is where a checksum is
            if chunk.strip(b"\0"):
                raise Damaged("something follows its end, or a header is full of zeros")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None  # for a regular member
    return content


# Compression


class _Decompressor(Protocol):
    """What bz2 and lzma have."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib in the same manner; it checks the checksum and the size at the end."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    eof = property(lambda self: self._inner.eof)
    needs_input = property(lambda self: not self._inner.unconsumed_tail)
    unused_data = property(lambda self: self._inner.unused_data)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


_COMPRESSIONS: dict[str, tuple[bytes, Callable[[], _Decompressor]]] = {
    "gzip": (b"\x1f\x8b", _Gzip),
    "bzip2": (b"BZh", bz2.BZ2Decompressor),
    "xz": (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)),
}


class _Decompressed:
    """The content of a compressed file, of one stream or several, read strictly.

    Python's own BZ2File and LZMAFile take a damaged second stream for the end.
    """

    def __init__(self, file: IO[bytes], kind: str) -> None:
        self._file = file
        self._make = _COMPRESSIONS[kind][1]
        self._stream: _Decompressor = self._make()
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, and none at the end only.

        Raises:
            EOFError: the file ends within a stream. What zlib, bz2 and lzma raise: it is damaged.
        """
        while True:
            if self._stream.eof:
                left = self._stream.unused_data.lstrip(b"\0")  # padding
                while not left and (chunk := self._file.read(CHUNK)):
                    left = chunk.lstrip(b"\0")
                if not left:
                    return b""
                self._stream, self._rest = self._make(), left
            ended = False
            if self._stream.needs_input and not self._rest:
                self._rest = self._file.read(CHUNK)
                ended = not self._rest
            data, self._rest = (self._rest, b"") if self._stream.needs_input else (b"", self._rest)
            if content := self._stream.decompress(data, size):
                return content
            if ended and not self._stream.eof:
                raise EOFError("it is cut")


def _decompress(file: IO[bytes], kind: str, target: _Target) -> None:
    """Unpacks a compressed tar. Raises UserError if it is something else."""
    head, stream = b"", _Decompressed(file, kind)
    while len(head) < BLOCK and (chunk := stream.read(BLOCK - len(head))):
        head += chunk
    if head.strip(b"\0") and not _is_tar(head):
        inside = foreign.describe(head)
        raise UserError(
            f"{target.name} is a single file, compressed with {kind}"
            + (f"; unpacked it is {inside}." if inside else f": give {foreign.READ}, or a folder.")
        )
    file.seek(0)
    _untar(_Decompressed(file, kind), target)
