"""Files that are data of some kind but not of ours: what they are by their first bytes, and what to do with them."""

from __future__ import annotations

HEAD = 32_774  # bytes that `describe` looks at; the mark of a disc image lies so far inside
READ = "a .zip, or a .tar as it is or compressed with gzip, bzip2 or xz"
LAYOUT = "folders train/<class>/ and test/<class>/"


def _unpack(command: str) -> str:
    return f"unpack it (`{command}`) and give the folder"


_WRITE = f"write its pictures as files into {LAYOUT} and give the folder that holds them"
_SORT = f"give a folder of such files, sorted into {LAYOUT}"
NPZ = f"a NumPy file (.npz), not an archive of pictures: {_WRITE}"
_KINDS = (
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _unpack("7z x")),
    (0, b"Rar!\x1a\x07", "a RAR archive", _unpack("unrar x")),
    (0, b"\x28\xb5\x2f\xfd", "compressed with Zstandard", _unpack("tar --zstd -xf")),
    (0, b"\x04\x22\x4d\x18", "compressed with LZ4", _unpack("lz4 -d")),
    (0, b"LZIP", "compressed with lzip", _unpack("tar --lzip -xf")),
    (0, b"\x5d\x00\x00", "compressed with the old LZMA", _unpack("tar --lzma -xf")),
    (0, b"\x1f\x9d", "compressed with compress", _unpack("tar -Zxf")),
    (0, b"MSCF", "a cabinet archive", _unpack("7z x")),
    (32_769, b"CD001", "a disc image", _unpack("7z x")),
    (0, b"PAR1", "a Parquet table", _WRITE),
    (0, b"ARROW1", "an Arrow table", _WRITE),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _WRITE),
    (0, b"\x93NUMPY", "a NumPy array", _WRITE),
    (0, b"MATLAB", "a MATLAB file", f"if it is CIFAR-10, get cifar-10-python.tar.gz, or {_WRITE}"),
    (0, b"SQLite format 3\0", "a database", _WRITE),
    (0, b"%PDF", "a PDF file", _WRITE),
    (0, b"\x89PNG\r\n\x1a\n", "a single picture", _SORT),
    (0, b"\xff\xd8\xff", "a single picture", _SORT),
    (0, b"GIF8", "a single picture", _SORT),
    (8, b"WEBP", "a single picture", _SORT),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "get that with `git lfs pull`"),
)  # fmt: skip
_WEB = (b"<!doctype", b"<html", b"<?xml")


def describe(head: bytes) -> str:
    """What a file is that begins with `head`, and what to do, as "a 7z archive: unpack it ..."; "" if unknown."""
    for at, magic, what, advice in _KINDS:
        if head[at : at + len(magic)] == magic:
            return f"{what}: {advice}"
    if head.lstrip().lower().startswith(_WEB):
        return "a web page, so the download went wrong: get the file again"
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "a single pickle: give the folder with all of data_batch_1..5, test_batch and batches.meta"
    if not head.strip(b"\0"):
        return f"{'full of zeros' if head else 'empty'}: get it again"
    return ""
