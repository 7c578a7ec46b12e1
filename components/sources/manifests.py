"""A manifest: a CSV or Parquet table whose rows name a picture, its class, maybe its split, and more about it.

What a column is follows from its name, in any case; of several that would do, the first of the list is taken. Paths
are below the manifest's folder. One that a user names by itself may also lead elsewhere; in an archive, an object
store or a folder that somebody else filled it may not.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import dataclasses
import functools
import io
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from components.sources import foreign, splits
from components.sources.base import BadRecord, Record, Shard, Source
from components.sources.folders import content, suffixes, warn_of_case
from core import settings
from core.corrections import DELIMITERS
from core.errors import UserError, shortened
from core.events import emit
from core.text import plain
from core.walk import printable, walk

if TYPE_CHECKING:
    import pyarrow.parquet

SUFFIXES = settings.MANIFESTS
PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path")
LABELS = ("class_name", "class", "label", "category")
SPLIT = ("split", "subset", "partition", "set")
NEEDED = "a manifest has the columns path and label, and may have split and others"
NOTHING = "(none)"  # of a further feature where a row has no value
ROWS = 1000  # in a shard
SHOWN = 5
HEAD = 1 << 16  # bytes in which the first line of a CSV file ends


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A picture of a manifest.

    Attributes:
        where: of the row, for messages, as "line 7 of labels.csv".
        path: of the file, absolute; "" if the row names none.
        id: its path below the manifest's folder, or whole where it lies elsewhere.
        label: the name of the class; "" if the row has none.
        split: as it is written.
        further: column -> value.
    """

    where: str
    path: str
    id: str
    label: str
    split: str
    further: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Columns:
    """What the columns of a manifest are; split is "" if there is none."""

    path: str
    label: str
    split: str
    further: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> Columns | None:
        """By their names; None if these are not those of a manifest."""
        lower = {name.lower(): name for name in reversed(names)}
        path, label, split = (
            next((lower[known] for known in wanted if known in lower), "") for wanted in (PATHS, LABELS, SPLIT)
        )
        if not (path and label):
            return None
        return cls(path, label, split, tuple(name for name in names if name not in (path, label, split)))


@dataclasses.dataclass(frozen=True)
class ManifestSource(Source):
    """The pictures that a manifest names; ids are paths below its folder."""

    file: str
    name: str  # of the file, for messages
    confined: bool
    class_names: tuple[str, ...]
    rows: int
    own_splits: tuple[tuple[str, str], ...]  # what the manifest calls them, and ours
    held_out: splits.HeldOut | None
    features: tuple[str, ...] = ()
    whole: bool = False  # whether what else is in its folder counts as ignored

    @classmethod
    def open(
        cls, file: pathlib.Path, data: settings.Data, confined: bool = False, whole: bool = False
    ) -> ManifestSource:
        """Reads the manifest, and looks at none of its pictures.

        Args:
            file: the manifest.
            data: the settings of the data.
            confined: whether it may name nothing outside of its folder.
            whole: whether the other files of its folder belong to the data.

        Raises:
            UserError: it cannot be read, is no manifest, or a row of it cannot be meant; or `data.features` names a
                column that it does not have.
        """
        name = plain(file.name)
        columns = _check(file)
        for key in data.features:
            if key not in columns.further:
                has = _shown(columns.further) if columns.further else "no further ones"
                raise UserError(f"data.features names {key}, but {name} has {has}.")
        found = load(file, confined, data.features)
        if not found:
            raise UserError(f"{file} has no rows: {NEEDED}.")
        names = {row.label for row in found if row.label}
        if not names:
            raise UserError(f"{file}: the column {columns.label} is empty in all rows.")
        warn_of_case(names)
        others = [key for key in columns.further if key not in data.features and settings.may_be_feature(key)]
        if others:
            emit("note", text=f"{name} also has {_shown(others)}: data.features keeps such columns, to slice by")
        own_splits: dict[str, str] = {}
        held_out = None
        if columns.split:
            own_splits = _splits(found, file, columns.split)
        else:
            ids = collections.defaultdict(list)
            for row in found:
                if row.label and row.path:
                    ids[row.label].append(row.id)
            splits.tell_held_out(data.test_share)
            held_out = splits.HeldOut.of(ids, data.test_share)
        return cls(
            file=str(file),
            name=name,
            confined=confined,
            class_names=tuple(_ordered(names)),
            rows=len(found),
            own_splits=tuple(own_splits.items()),
            held_out=held_out,
            features=data.features,
            whole=whole,
        )

    @property
    def own_validation(self) -> bool:
        return "validation" in dict(self.own_splits).values()

    @property
    def own_test(self) -> bool:
        return self.held_out is None

    def shards(self) -> list[Shard]:
        wanted = dict.fromkeys(split for split in splits.ORDER if self.held_out or split in self._splits.values())
        if self.held_out:
            del wanted["validation"]
        return [
            Shard(split, self.name, start, min(start + ROWS, self.rows))
            for split in wanted
            for start in range(0, self.rows, ROWS)
        ]

    def read(self, shard: Shard) -> Iterator[Record | BadRecord]:
        labels = {name: label for label, name in enumerate(self.class_names)}
        file = pathlib.Path(self.file)
        for row in load(file, self.confined, self.features)[shard.start : shard.stop]:
            where = row.id or row.where
            split = self.held_out.split(row.id) if self.held_out else self._splits[row.split]
            if split != shard.split:
                continue
            if not row.path:
                yield BadRecord(where, "the row names no file")
            elif not row.label:
                yield BadRecord(where, f"no class ({row.where})")
            elif isinstance(data := content(_spelled(row.path)), str):
                yield BadRecord(where, f"{data} ({row.where})")
            else:
                yield Record(data, labels[row.label], where, row.further)

    def ignored(self) -> dict[str, int]:
        if not self.whole:
            return {}
        root = pathlib.Path(self.file).parent
        named = {row.id for row in load(pathlib.Path(self.file), self.confined, self.features)}
        found: collections.Counter[str] = collections.Counter()
        for entry in walk(root):
            if root / entry.path == pathlib.Path(self.file) or printable(entry.path) in named:
                continue
            suffix = os.path.splitext(entry.path)[1].lower()
            if any(part.startswith(".") for part in pathlib.PurePath(entry.path).parts):
                found["hidden"] += 1
            elif suffix in suffixes():
                found[f"not named in {self.name}"] += 1
            else:
                found[f"not an image file ({suffix or 'no suffix'})"] += 1
        return dict(found)

    @functools.cached_property
    def _splits(self) -> dict[str, str]:
        return dict(self.own_splits)


def is_manifest(path: pathlib.PurePath) -> bool:
    """Whether a file is taken for one, by its name."""
    return path.suffix.lower() in SUFFIXES


def find(folder: pathlib.Path) -> pathlib.Path | None:
    """The manifest directly in a folder, None if there is none. Raises UserError if there are several."""
    found = []
    for file in sorted(folder.iterdir()):
        if is_manifest(file) and file.is_file() and not file.name.startswith("."):
            with contextlib.suppress(UserError):
                if _columns(file):
                    found.append(file)
    if len(found) > 1:
        names = _shown([file.name for file in found])
        raise UserError(
            f"{folder} holds several manifests ({names}): give one of them, or move the others elsewhere."
        )
    return found[0] if found else None


def named(file: pathlib.Path) -> set[str]:
    """The paths of the pictures of a manifest, below its folder, composed (NFC). Raises UserError."""
    _check(file)
    return {row.id for row in load(file, confined=True) if row.id}


def listed(file: pathlib.Path) -> Iterator[pathlib.Path]:
    """The pictures of a manifest that may name any. Raises UserError."""
    _check(file)
    return (_spelled(row.path) for row in load(file, confined=False) if row.path)


def load(file: pathlib.Path, confined: bool, features: tuple[str, ...] = ()) -> tuple[Row, ...]:
    """The rows of a manifest, which are kept for the next call.

    Args:
        file: the manifest.
        confined: whether it may name nothing outside of its folder.
        features: further columns that are wanted.

    Raises:
        UserError: it cannot be read, or a row of it cannot be meant.
    """
    status = file.stat()
    return _load(file, confined, features, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _load(file: pathlib.Path, confined: bool, features: tuple[str, ...], *version: int) -> tuple[Row, ...]:
    columns = _check(file)
    unit, table = _table(file, [name for name in (columns.path, columns.label, columns.split, *features) if name])
    root = os.path.abspath(file.parent)
    rows = []
    seen: dict[str, int] = {}
    for number, values in table:
        where = f"{unit} {number} of {plain(file.name)}"
        path, label = values[columns.path], printable(values[columns.label].strip())
        place = _place(root, path, confined, where) if path.strip() else ""
        id = printable(os.path.relpath(place, root) if _within(place, root) else place) if place else ""
        if id and seen.setdefault(id, number) != number:
            raise UserError(
                f"{where}: {plain(path)} has a row already, {unit} {seen[id]}; each picture has one class, so leave "
                "one of its rows."
            )
        split = values[columns.split].strip() if columns.split else ""
        further = {key: values[key].strip() or NOTHING for key in features}
        rows.append(Row(where, place, id, label, split, further))
    return tuple(rows)


def _place(root: str, text: str, confined: bool, where: str) -> str:
    """The absolute path that a row names, as Windows writes it, too. Raises UserError."""
    place = os.path.normpath(os.path.join(root, text.replace("\\", "/")))
    if confined and not _within(place, root):
        raise UserError(
            f"{where} was refused: {plain(text)[:200]} lies outside of the folder of the manifest; correct the path, "
            "or, if you trust it, give the manifest itself instead of the folder or archive that it is in."
        )
    return place


def _within(place: str, root: str) -> bool:
    return place.startswith(os.path.join(root, ""))


def _spelled(path: str) -> pathlib.Path:
    """The file of that name; macOS writes "ä" as two letters, and a manifest from elsewhere as one."""
    for form in ("NFC", "NFD"):
        if not os.path.lexists(path) and os.path.lexists(other := unicodedata.normalize(form, path)):
            return pathlib.Path(other)
    return pathlib.Path(path)


def _splits(rows: Sequence[Row], file: pathlib.Path, column: str) -> dict[str, str]:
    """What a manifest calls its splits, and ours. Raises UserError."""
    found: dict[str, str] = {}
    for row in rows:
        if row.split not in found:
            if not (split := splits.named(row.split)):
                value = f"is {shortened(plain(row.split), 100)}" if row.split else "has no value"
                raise UserError(f"{row.where}: {column} {value}; write train, validation or test.")
            found[row.split] = split
    if instead := splits.stands_in(found.values()):
        emit("note", text=f"{plain(file.name)} has no test rows: validation is the test split")
        found = {name: instead.get(split, split) for name, split in found.items()}
    for split in ("train", "test"):
        if split not in found.values():
            raise UserError(
                f"{file} has no row whose {column} is {split}: add some, or leave the column out, so that a share of "
                "the pictures is held out for test (data.test_share)."
            )
    return found


def _ordered(names: set[str]) -> list[str]:
    """By the alphabet, or by number where all are numbers."""
    if all(re.fullmatch(r"\d{1,9}", name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _columns(file: pathlib.Path) -> Columns | None:
    return Columns.of(_names(file))


def _check(file: pathlib.Path) -> Columns:
    """The columns of a manifest. Raises UserError if it is none."""
    if columns := _columns(file):
        return columns
    raise UserError(f"{file} is no manifest: {NEEDED}; it has {_shown(_names(file))}.")


def _names(file: pathlib.Path) -> list[str]:
    """The names of the columns. Raises UserError if it is no table."""
    if file.suffix.lower() == ".parquet":
        return _parquet(file).schema_arrow.names
    with open(file, "rb") as opened:
        head = opened.read(HEAD)
    line = head.split(b"\n", 1)[0]
    try:
        first = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _no_csv(file, "it is not in UTF-8") from None
    if first.lstrip().lower().startswith(("<!doctype", "<html")):
        raise UserError(f"{file} is {foreign.describe(head)}.")
    return [name.strip() for name in next(csv.reader([first], delimiter=_delimiter(first)), [])]


def _table(file: pathlib.Path, wanted: Sequence[str]) -> tuple[str, Iterator[tuple[int, dict[str, str]]]]:
    """What a row is called, and the rows: number from 1, as an editor counts them, and column -> text."""
    return ("row", _parquet_rows(file, wanted)) if file.suffix.lower() == ".parquet" else ("line", _csv_rows(file))


def _csv_rows(file: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        number = problem.object[: problem.start].count(b"\n") + 1
        raise _no_csv(file, f"line {number} is not in UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text.partition("\n")[0]), strict=True)
    try:
        names = [name.strip() for name in next(reader)]
        if double := [name for name, count in collections.Counter(names).items() if count > 1]:
            raise UserError(f"{file} has two columns {plain(double[0])}: rename one.")
        for values in reader:
            if not any(values):
                continue
            if len(values) != len(names):
                raise UserError(
                    f"{file}, line {reader.line_num}: the row has {len(values)} values, and the first line "
                    f"{len(names)} columns; put a value that holds a comma or a semicolon between double quotes."
                )
            yield reader.line_num, dict(zip(names, values, strict=True))
    except csv.Error as problem:
        raise _no_csv(file, f"line {reader.line_num}: {problem}") from None


def _delimiter(head: str) -> str:
    """The first, where none is there."""
    return max(DELIMITERS, key=head.count)


def _no_csv(file: pathlib.Path, why: str) -> UserError:
    return UserError(f"{file} is no CSV file that can be read ({why}): save it as CSV (UTF-8).")


def _parquet_rows(file: pathlib.Path, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    table = _parquet(file)
    number = 0
    try:
        for batch in table.iter_batches(columns=list(dict.fromkeys(wanted))):
            columns = {name: _texts(file, name, batch.column(name)) for name in batch.schema.names}
            for values in zip(*columns.values(), strict=True):
                number += 1
                yield number, dict(zip(columns, values, strict=True))
    except (OSError, ValueError) as problem:  # as Arrow's own are
        raise UserError(f"{file} is damaged ({plain(problem)[:200].rstrip('. ')}): get it again.") from None


def _texts(file: pathlib.Path, name: str, values: pyarrow.Array) -> list[str]:
    """The values of a column as text; "" where there is none. Raises UserError."""
    import pyarrow

    if pyarrow.types.is_nested(values.type) or pyarrow.types.is_binary(values.type):
        raise UserError(
            f"{file}: the column {plain(name)} holds no text but {plain(values.type)}: write its pictures as files, "
            "and their paths into the table."
        )
    if pyarrow.types.is_floating(values.type):  # of whole numbers pandas makes them where a value is missing
        whole = all(value is None or value != value or value == int(value) for value in values.to_pylist())
        numbers = (None if value is None or value != value else value for value in values.to_pylist())
        return ["" if value is None else str(int(value) if whole else value) for value in numbers]
    return [value or "" for value in values.cast(pyarrow.string()).to_pylist()]


def _parquet(file: pathlib.Path) -> pyarrow.parquet.ParquetFile:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, ValueError) as problem:
        why = plain(problem).strip().rstrip(".")[:200]
        raise UserError(f"{file} is no Parquet table, or damaged ({why}): get it again.") from None


def _shown(names: Sequence[str]) -> str:
    return ", ".join(plain(name)[:50] for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "") or "none"
