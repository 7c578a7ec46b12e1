"""What a document such as the model card is made of, and its words as Markdown and as HTML."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import markupsafe


@dataclasses.dataclass(frozen=True)
class Code:
    """Words that are meant literally: a name, a path, a setting."""

    text: str


Words = str | Code | tuple[str | Code, ...]  # a line of text; a plain str is never markup


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Running text."""

    words: Words
    kind: str = "paragraph"


@dataclasses.dataclass(frozen=True)
class Facts:
    """Terms, each with what there is to say about it."""

    rows: Sequence[tuple[str, Words]]
    kind: str = "facts"


@dataclasses.dataclass(frozen=True)
class Points:
    """Sentences that stand one below the other."""

    items: Sequence[Words]
    kind: str = "points"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells below a title. The columns `texts` (-1 is the last) have text, the others numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Words]]
    texts: Sequence[int] = (0,)
    note: Words = ""
    kind: str = "table"

    def is_text(self, column: int) -> bool:
        """Whether a column is aligned to the left."""
        return column in self.texts or column - len(self.columns) in self.texts


@dataclasses.dataclass(frozen=True)
class Listing:
    """Code to copy."""

    language: str
    text: str
    kind: str = "listing"


Block = Paragraph | Facts | Points | Table | Listing


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the card."""

    title: str
    blocks: Sequence[Block]


def markdown_words(words: Words, cell: bool = False) -> str:
    """Words as one line of Markdown; `cell`: within a table."""
    line = "".join(_markdown_code(w.text, cell) if isinstance(w, Code) else _escaped(w) for w in _parts(words))
    # At its beginning a line may be a list, a heading or a rule.
    return re.sub(r"^(\s*\d*)([-+=.)#])(?=[\s\-+=#]|$)", r"\1\\\2", line)


def html_words(words: Words) -> markupsafe.Markup:
    """Words as HTML."""
    code = markupsafe.Markup("<code>{}</code>")
    parts = (code.format(_one_line(w.text)) if isinstance(w, Code) else _one_line(w) for w in _parts(words))
    return markupsafe.Markup("").join(parts)


def fence(text: str) -> str:
    """What a block of code is put between: more backticks than it has in a row."""
    return "`" * max(3, 1 + _longest_run(text))


def _parts(words: Words) -> tuple[str | Code, ...]:
    return words if isinstance(words, tuple) else (words,)


def _escaped(text: str) -> str:
    """Text that no reader of Markdown takes for markup, on one line."""
    return re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", _one_line(text))


def _markdown_code(text: str, cell: bool) -> str:
    text = _one_line(text).replace("|", r"\|" if cell else "|")
    ticks = "`" * (1 + _longest_run(text))
    space = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+", " ", text)


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
