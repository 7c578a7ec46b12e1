"""What a push does, and what it leaves: a version for servers, with a record of where it comes from."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tfx.dsl.io import fileio

from core import walk
from core.errors import UserError
from review.report import build, schema
from storage import schemes, versions
from storage.stores import ObjectStoreError

RECORD = os.path.join("assets.extra", "pushed.json")
CARD = os.path.join("assets.extra", build.CARD)
OURS = (RECORD, CARD)  # what a push adds to the model


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is recorded of a model, for who decides about it later.

    Attributes:
        run: that pushed it, or asked for it; "" if that is not known.
        name: of the data.
        accuracy, count: of the test examples.
        worst_class, worst_recall: the class with the lowest recall.
        failed: the gates that it did not pass, by what they judge, and "serving check".
    """

    run: str = ""
    name: str = ""
    accuracy: float | None = None
    count: int | None = None
    worst_class: str | None = None
    worst_recall: float | None = None
    failed: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: str, name: str, evaluation: Mapping[str, Any], problems: Collection[str] = ()) -> Facts:
        """From an evaluation in the form of `review.report.schema`, and what the serving check found."""
        worst = evaluation["classes"][0]
        failed = list(dict.fromkeys(gate["what"] for gate in evaluation["gates"] if not gate["passed"]))
        if problems:
            failed.append("serving check")
        return cls(
            run,
            name,
            evaluation["accuracy"],
            evaluation["count"],
            worst["class_name"],
            worst["recall"],
            tuple(failed),
        )

    @classmethod
    def of_report(cls, run: str, folder: str) -> Facts:
        """From the folder of a report; what it lacks is left out."""
        path = os.path.join(folder, build.REPORT)
        if not fileio.exists(path):
            return cls(run)
        with fileio.open(path, "rb") as file:
            report = schema.Report.model_validate_json(file.read())
        problems = report.serving.problems if report.serving else ()
        run = run or (report.run.id if report.run else "")
        return cls.of(run, report.name, report.evaluation.model_dump(), problems)


def record_of(model: str, facts: Facts) -> dict[str, Any]:
    """The record of a model that is not pushed yet: its fingerprint, its files and their sizes, and the facts."""
    return {
        "fingerprint": versions.fingerprint(model),
        "model": model,
        "files": walk.contents(pathlib.Path(model)),
        **dataclasses.asdict(facts),
    }


def push(model: str, base: str, card: str | None = None) -> tuple[str, str]:
    """Makes the SavedModel `model` the newest version below `base`.

    A version appears complete or not at all. A model with the same content as the newest version is not pushed again.

    Args:
        model: a folder.
        base: the folder that servers watch, or a folder in an object store, such as s3://BUCKET/FOLDER.
        card: the model card, a Markdown file; it is put into `assets.extra/`.

    Returns:
        The path of the version, and its number as text.

    Raises:
        UserError: the object store is not there, or refuses.
    """
    content = pathlib.Path(card).read_bytes() if card else None
    return publish(model, base, record_of(model, Facts()), content)


def publish(model: str, base: str, record: Mapping[str, Any], card: bytes | None = None) -> tuple[str, str]:
    """As `push`, with a record from `record_of` and what a decision adds to it.

    Args:
        model: a folder, also that of a version, whose own record and card are replaced.
        base: as for `push`.
        record: what is written into the version.
        card: the content of the model card.
    """

    def known(version: str) -> str:
        """A version of this very model counts as pushed only while all its files are there."""
        whole = walk.missing(pathlib.Path(version), record["files"]) is None
        return pushed_fingerprint(version) if whole else ""

    extra = {RECORD: json.dumps(dict(record)).encode()}
    if card is not None:
        extra[CARD] = card
    with told():
        version = str(versions.publish(model, base, record["fingerprint"], extra, known=known))
    return os.path.join(base, version), version


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Makes a UserError of what an object store refuses."""
    try:
        yield
    except ObjectStoreError as problem:
        raise UserError(str(problem)) from None


def read(version: str) -> dict[str, Any] | None:
    """The record in the folder of a version that `push` made; None for any other, and where it is damaged."""
    path = os.path.join(version, RECORD)
    if schemes.is_uri(version):
        from storage import filesystem  # noqa: F401  lets fileio read it
    if not fileio.exists(path):
        return None
    try:
        with fileio.open(path, "r") as file:
            found = json.loads(file.read())
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("fingerprint"), str) else None


def pushed_fingerprint(version: str) -> str:
    """Of the model in the folder of a version that `push` made; "" for any other, and where that is damaged."""
    return (read(version) or {}).get("fingerprint", "")


@contextlib.contextmanager
def local(version: str) -> Iterator[str]:
    """The folder of a version on this machine; of one in an object store, a copy that goes afterwards."""
    if not schemes.is_uri(version):
        yield version
        return
    from storage import object_store

    with tempfile.TemporaryDirectory(prefix="alexnet-") as folder:
        object_store.download(object_store.find(f"{version.rstrip('/')}/"), pathlib.Path(folder))
        yield folder


def damage(folder: str, record: Mapping[str, Any]) -> str | None:
    """What is wrong with the model in a version, in words; None if it has the very content that was pushed.

    Args:
        folder: of the version, on this machine.
        record: of the version. Those of earlier releases do not list the files: then all count but ours.
    """
    files = record.get("files")
    if files is not None and (what := walk.missing(pathlib.Path(folder), files)):
        return what
    counted = versions.fingerprint(folder, lambda name: name in files if files is not None else name not in OURS)
    return None if counted == record["fingerprint"] else f"{folder} has other content than when it was pushed"
