"""The list of corrected labels: a CSV file that `alexnet suspects` writes and, filled in, `data.corrections` reads.

A row is an example; its column `action` says what becomes of it: `keep` (somebody has looked, the label is right),
`drop`, or the name of the class that it is of. Rows without an action are passed over. Imports nothing heavy.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import hashlib
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from core import errors
from core.errors import UserError
from core.text import plain
from storage import schemes

KEEP, DROP = "keep", "drop"
# Of what `alexnet suspects` writes; only the first and the last two are read.
COLUMNS = (
    "id", "split", "label", "suggested_label", "label_probability", "suggested_probability", "action", "digest",
)  # fmt: skip
NEEDED = ("id", "action")
DELIMITERS = ",;\t"  # that spreadsheets write; the header tells which
START = "start from what `alexnet suspects --output FILE` writes"


@dataclasses.dataclass(frozen=True)
class Correction:
    """What becomes of an example.

    Attributes:
        line: of the file, from 1.
        id: of the example.
        digest: of its pixels, hexadecimal; "": any, if no other example has the id.
        action: KEEP, DROP, or the class that it is of.
    """

    line: int
    id: str
    digest: str
    action: str


def read(place: str) -> bytes:
    """The content of a file, here or in an object store. Raises UserError if it cannot be read."""
    try:
        if schemes.is_uri(place):
            from storage import object_store

            return object_store.read(place)
        return pathlib.Path(place).expanduser().read_bytes()
    except OSError as problem:
        if schemes.is_uri(place):
            raise UserError(f"data.corrections: {problem}") from None
        raise UserError(errors.sentence(problem, place, "read")) from None


def fingerprint(content: bytes) -> str:
    """What identifies a list by its content."""
    return hashlib.sha256(content).hexdigest()[:16]


def rows(content: bytes, name: str) -> list[tuple[int, dict[str, str]]]:
    """The rows that have an action: (line of the file, column -> value), but for ids without spaces around.

    Args:
        content: of the file: CSV in UTF-8, its columns divided by commas, semicolons or tabs.
        name: of the file, for messages.

    Raises:
        UserError: it is no such file, or a row has no id or too many values.
    """
    name = errors.shortened(name)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{name} is no CSV file in UTF-8: {START}, and save it as CSV (UTF-8).") from None
    head = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=head.count)  # the first, where none is there
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [column.strip() for column in reader.fieldnames or ()]
        if missing := [column for column in NEEDED if column not in columns]:
            shown = plain(", ".join(columns))[:100] or "nothing"
            raise UserError(f"{name} has no column {' and no column '.join(missing)}, but {shown}: {START}.")
        reader.fieldnames = columns
        found = []
        for row in reader:
            if row.get(None):
                raise UserError(
                    f"{name}, line {reader.line_num}: the row has more values than the first line has columns; put "
                    "a value that holds a comma or a semicolon between double quotes."
                )
            # An id may begin with a space: it may be the name of a file.
            values = {key: value or "" if key == "id" else (value or "").strip() for key, value in row.items()}
            if not values["action"]:
                continue
            if not values["id"]:
                raise UserError(f"{name}, line {reader.line_num}: the row has an action and no id; give the id.")
            found.append((reader.line_num, values))
    except csv.Error as problem:
        raise UserError(f"{name}, line {reader.line_num}: this is no CSV ({problem}); {START}.") from None
    return found


def parse(content: bytes, name: str, class_names: Sequence[str]) -> list[Correction]:
    """The corrections in a file.

    Args:
        content, name: as for `rows`.
        class_names: of the data.

    Raises:
        UserError: as `rows`; or an action is none of the three kinds, or one example has two of them.
    """
    found: dict[tuple[str, str], Correction] = {}
    for line, values in rows(content, name):
        where = f"{errors.shortened(name)}, line {line}"
        made = Correction(
            line, values["id"], values.get("digest", "").lower(), _action(values["action"], class_names, where)
        )
        other = found.setdefault((made.id, made.digest), made)
        if other.action != made.action:
            raise UserError(
                f"{where}: {plain(made.id)} shall be {plain(made.action)} here, and {plain(other.action)} in line "
                f"{other.line}; leave one of the two rows."
            )
    return list(found.values())


def _action(text: str, class_names: Sequence[str], where: str) -> str:
    """An action as written: words in any case, classes exactly."""
    if text in class_names and text not in (KEEP, DROP):
        return text
    if text.lower() in (KEEP, DROP):
        return text.lower()
    close = difflib.get_close_matches(text, [KEEP, DROP, *class_names], n=1)
    some = ", ".join(map(plain, class_names[:12])) + (", ..." if len(class_names) > 12 else "")
    hint = f"did you mean {plain(close[0])}" if close else f"write {KEEP}, {DROP}, or one of {some}"
    shown = errors.shortened(plain(text), 100)
    raise UserError(f"{where}: the action {shown} is neither {KEEP} nor {DROP} nor a class of the data; {hint}.")


def text(found: Iterable[Mapping[str, object]]) -> str:
    """Rows of COLUMNS as the content of a CSV file; other keys are left out, missing ones are empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return buffer.getvalue()


def merged(before: bytes, name: str, found: Iterable[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """The rows of a list that have an action, then those of `found` that it does not have.

    Args:
        before: the content of the list.
        name: of its file, for messages.
        found: rows of COLUMNS.

    Raises:
        UserError: it is no such list.
    """
    kept = [values for _, values in rows(before, name)]
    known = {(row["id"], row.get("digest", "").lower()) for row in kept}
    return [
        *kept,
        *(row for row in found if not {(row["id"], row["digest"]), (row["id"], "")} & known),
    ]
