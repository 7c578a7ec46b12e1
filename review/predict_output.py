"""What `alexnet predict` shows: a table, JSON, CSV, a sheet of pictures.

What is slow to import is imported when the line that says so is on the screen.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from core import output
from core.text import plain
from review import statistics
from review.report import web

if TYPE_CHECKING:
    import PIL.Image

    from review import predict

WIDEST = 100  # columns of the table
EIGHTHS = "▏▎▍▌▋▊▉█"
THUMBNAIL = 160  # pixels
ENLARGED = 128  # smaller pictures are shown enlarged up to this, by a whole factor
LOSSLESS = 64  # pixels; larger thumbnails are JPEG
NAME = 26  # letters of a file's name on a sheet
MOST_BYTES = 15_000_000  # of the thumbnails on a sheet


@dataclasses.dataclass
class Tally:
    """How many predictions there were, and how many of those whose true class is known were right."""

    count: int = 0
    known: int = 0
    right: int = 0

    def add(self, prediction: predict.Prediction) -> None:
        """Counts it."""
        self.count += 1
        self.known += prediction.true is not None
        self.right += prediction.right is True

    def accuracy(self) -> tuple[float, float, float] | None:
        """The share of right ones and the ends of its 95 % interval; None if no true class is known."""

        if not self.known:
            return None
        return self.right / self.known, *statistics.wilson(self.right / self.known, self.known)


class Table:
    """Writes a line for each class of each image, in columns that fit the terminal."""

    def __init__(self, console: Console, paths: Sequence[str], classifier: predict.Classifier) -> None:
        self._console = console
        widest = max(cell_len(plain(name)) for name in classifier.class_names or ["as wide as any"])
        self._class = min(widest, 18, console.width // 4)
        rest = min(console.width, WIDEST) - self._class - len("  " + "  " + " 100.0%")
        rest -= self._class + 4 if any(map(classifier.true_class, paths)) else 0
        longest = max(cell_len(plain(path)) for path in paths)
        self._path = max(8, min(longest, rest - 12))
        self._bar = max(4, min(rest - self._path, 24))

    def write(self, prediction: predict.Prediction) -> None:
        """Prints the lines of one image."""
        text = Text()
        for rank, (name, probability) in enumerate(prediction.top):
            if rank:
                text.append("\n")
            text.append(pad(shorten(plain(prediction.path), self._path) if not rank else "", self._path) + "  ")
            text.append(pad(shorten(plain(name), self._class), self._class) + "  ", "" if rank else "bold")
            text.append(pad(bar(probability, self._bar), self._bar), "blue" if rank else "cyan")
            text.append(f" {probability:>6.1%}", "" if rank else "bold")
            if not rank and prediction.true is not None:
                true = shorten(plain(prediction.true), self._class)
                text.append("  ✓" if prediction.right else f"  ✗ {true}", "green" if prediction.right else "bold red")
        self._console.print(text, no_wrap=True, overflow="crop")

    def end(self, tally: Tally, ignored: int) -> None:
        """Prints what is to be said of all."""
        if tally.count > 1 or ignored:
            words = [plural(tally.count, "image")]
            if ignored:
                words.append(f"{plural(ignored, 'other file')} ignored")
            self._console.print(", ".join(words))
        if accuracy := tally.accuracy():
            share, low, high = accuracy
            of = f"{tally.right:,} of {tally.known:,} in class folders"
            self._console.print(f"Accuracy {share:.1%} ({of}, 95 % interval {low:.1%} to {high:.1%})", style="bold")


class Json:
    """Writes a list of `Prediction.record`, one a line."""

    def __init__(self) -> None:
        self._before = "[\n"

    def write(self, prediction: predict.Prediction) -> None:
        """Writes one element."""
        sys.stdout.write(self._before + json.dumps(prediction.record()))
        self._before = ",\n"

    def end(self, tally: Tally, ignored: int) -> None:
        """Closes the list."""
        sys.stdout.write("\n]\n" if tally.count else "[]\n")


class Csv:
    """Writes a row for each image, see `Prediction.row`."""

    def __init__(self) -> None:
        self._writer: csv.DictWriter | None = None

    def write(self, prediction: predict.Prediction) -> None:
        """Writes one row; before the first one, the names of the columns."""
        row = prediction.row()
        if self._writer is None:
            self._writer = csv.DictWriter(sys.stdout, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)

    def end(self, tally: Tally, ignored: int) -> None:
        """Nothing."""


class Sheet:
    """Collects what a page of pictures shows: thumbnails, not the pictures themselves."""

    def __init__(self) -> None:
        self._cards: list[dict[str, object]] = []
        self._room = MOST_BYTES

    def add(self, prediction: predict.Prediction) -> None:
        """Takes in a picture, if there is room."""
        if self._room <= 0:
            return
        small = prediction.image
        if max(small.size) > THUMBNAIL:
            small = small.copy()
            small.thumbnail((THUMBNAIL, THUMBNAIL))
        source = data_uri(small)
        self._room -= len(source)
        factor = max(1, ENLARGED // max(small.size))
        self._cards.append(
            {
                "source": source,
                "width": factor * small.width,
                "height": factor * small.height,
                "enlarged": factor > 1,
                "path": plain(prediction.path),
                "name": shorten(plain(os.path.join(*pathlib.Path(prediction.path).parts[-2:])), NAME),
                "top": prediction.top,
                "true": prediction.true,
                "right": prediction.right,
            }
        )

    def page(self, model: pathlib.Path, tally: Tally, unreadable: Sequence[predict.Unreadable]) -> str:
        """The page as the text of an HTML file that needs nothing else."""

        template = web.environment().get_template("predictions.html.j2")
        problems = [plain(item.sentence) for item in unreadable]
        return template.render(cards=self._cards, model=plain(str(model)), tally=tally, unreadable=problems)


def run(
    arguments: Sequence[str], model: pathlib.Path, top: int, form: str, with_sheet: bool
) -> tuple[list[predict.Unreadable], str | None]:
    """Predicts image files and shows the answers as they come.

    Args:
        arguments: files and folders, see `predict.find`.
        model: a pushed one.
        top: how many classes to name for each image.
        form: table, json or csv, on standard output.
        with_sheet: make a page as well.

    Returns:
        The files that could not be read, and the page.

    Raises:
        UserError: a path does not exist, there is no image, or the model is none of ours.
    """
    if form != "table":
        output.data()
    console = Console(highlight=False, markup=False, emoji=False)
    sheet, tally, unreadable = Sheet(), Tally(), []
    with progress(console) as advance:
        from review import predict

        classifier = predict.Classifier(model)
        paths, ignored = predict.find(arguments)
        writer = Table(console, paths, classifier) if form == "table" else Json() if form == "json" else Csv()
        for answer in classifier.predict(paths, top):
            advance(len(paths))
            if isinstance(answer, predict.Unreadable):
                unreadable.append(answer)
                continue
            tally.add(answer)
            writer.write(answer)
            if with_sheet:
                sheet.add(answer)
    writer.end(tally, ignored)
    return unreadable, sheet.page(model, tally, unreadable) if with_sheet else None


@contextlib.contextmanager
def progress(console: Console) -> Iterator[Callable[[int], None]]:
    """Shows how far it is, below what is printed; nothing without a terminal.

    Yields:
        what to call with the number of files when one of them is done.
    """
    with contextlib.ExitStack() as stack:
        if not console.is_terminal and sys.stderr.isatty():
            # Loading TensorFlow silences descriptor 2, so this takes one of its own.
            screen = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors=output.PLAINER)
            console = Console(file=stack.enter_context(screen))
        shown = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(20),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with shown:
            task = shown.add_task("loading TensorFlow and the model", total=None)

            def advance(total: int) -> None:
                words = f"{shown.tasks[0].completed + 1:,.0f} of {total:,} images"
                shown.update(task, advance=1, total=total, description=words)

            yield advance


def plural(count: int, one: str) -> str:
    """In words."""
    return f"{count:,} {one}{'s' if count != 1 else ''}"


def shorten(text: str, width: int) -> str:
    """At most `width` cells wide, with an ellipsis in the middle, where names differ least."""
    if cell_len(text) <= width:
        return text
    head = (width - 1) // 3
    return set_cell_size(text, head).rstrip() + "…" + set_cell_size(text[::-1], width - 1 - head)[::-1].lstrip()


def pad(text: str, width: int) -> str:
    """Exactly `width` cells wide; the text is not wider."""
    return text + " " * (width - cell_len(text))


def bar(share: float, width: int) -> str:
    """A bar of up to `width` cells, drawn to an eighth of one."""
    full, rest = divmod(round(share * width * 8), 8)
    return EIGHTHS[-1] * full + (EIGHTHS[rest - 1] if rest else "")


def data_uri(image: PIL.Image.Image) -> str:
    """The image, encoded anew and so without its metadata."""
    buffer = io.BytesIO()
    form = "PNG" if max(image.size) <= LOSSLESS else "JPEG"
    image.save(buffer, form, **({"optimize": True} if form == "PNG" else {"quality": 85}))
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
