"""ML Metadata against what is on the disk, before a run trusts it: what was moved, deleted or damaged meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING

from core import walk
from core.errors import UserError
from core.workdir import FILED, Workdir

if TYPE_CHECKING:
    import ml_metadata
    from ml_metadata.proto import metadata_store_pb2

# Custom properties of an artifact, as JSON of `core.walk.contents`: its files, and those of what it says was pushed.
FILES, PUSHED_FILES = "files", "pushed_files"
CHECKSUMS = {FILES: "checksums", PUSHED_FILES: "pushed_checksums"}  # the same, of `core.walk.checksums`
PUSHED = "PushedModel"
WAITS_IN = "waits_in"  # custom property of a model that waits for approval: where, see components.pusher


def check(metadata: pathlib.Path, artifacts: pathlib.Path) -> None:
    """Makes sure that the file of ML Metadata can be used, if it is there.

    Raises:
        UserError: it is damaged, no database, or not for us to write.
    """
    if not os.path.lexists(metadata):
        return
    try:
        if not metadata.stat().st_size and artifacts.exists():  # which SQLite would take for a new one
            raise sqlite3.DatabaseError("file is empty")
        with contextlib.closing(sqlite3.connect(f"{metadata.as_uri()}?mode=rw", uri=True)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            database.execute("BEGIN IMMEDIATE")  # can it be written?
            database.rollback()
    except (OSError, sqlite3.Error) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        if "locked" in reason:
            raise UserError(f"{metadata} is in use by another program: end that, then run it again.") from None
        raise unusable(metadata, reason) from None


def unusable(metadata: pathlib.Path, reason: str) -> UserError:
    """What to tell if ML Metadata's file cannot be used."""
    why = reason.partition("\n")[0]
    return UserError(
        f"{metadata}, where ML Metadata keeps what it knows of the artifacts, cannot be used ({why}): put back a "
        "copy, or move it away to begin anew; earlier runs stay readable."
    )


def number(workdir: Workdir) -> bool:
    """Lets ML Metadata, once it has made or opened its file, count its executions on from all that there ever were.

    It may know nothing of them: the file was deleted, or is an older copy. It would count from where it is, and new
    outputs would get into folders of old ones, or take the place of those that results of earlier runs tell of.

    Returns:
        Whether it knows of no execution though there are outputs on the disk.
    """
    folders = [*workdir.artifacts().glob("*/*/*/*"), *workdir.artifacts().glob("*/*/.system/executor_execution/*")]
    there = max((int(folder.name) for folder in folders if folder.name.isdecimal()), default=0)
    told = (FILED.match(path) for result in workdir.results() for path in workdir.paths(result))
    highest = max([there, *(int(filed["execution"]) for filed in told if filed)])
    with contextlib.closing(sqlite3.connect(workdir.metadata)) as database, database:
        (known,) = database.execute("SELECT COALESCE(MAX(id), 0) FROM Execution").fetchone()
        if known < highest:  # SQLite counts on from the highest id that there ever was
            database.execute("INSERT INTO Execution (id, type_id) VALUES (?, 0)", [highest])
            database.execute("DELETE FROM Execution WHERE id = ?", [highest])
    return not known and there > 0


def settle(store: ml_metadata.MetadataStore, workdir: Workdir, absolute: bool) -> None:
    """Lets the artifacts' paths lead into this working directory, if it was elsewhere when they were recorded.

    Args:
        store: whose relative paths are below `workdir`.
        workdir: where the artifacts are now.
        absolute: whether paths have to be absolute; otherwise those stay as they are that are right.
    """
    changed = []
    for artifact in store.get_artifacts():
        filed = FILED.match(artifact.uri)
        origin = filed["place"] if filed else None
        moved = origin is not None and origin != str(workdir.path)
        if not moved and not (absolute and _is_relative(artifact.uri)):
            continue
        texts = [(artifact, "uri")]
        for values in (artifact.properties, artifact.custom_properties):
            texts += [(values[key], "string_value") for key in values if values[key].HasField("string_value")]
        for holder, name in texts:
            path = getattr(holder, name)
            ours = origin and pathlib.PurePath(path).is_relative_to(origin)
            if ours or (holder is artifact and _is_relative(path)):
                place = workdir.absolute(path, origin)
                setattr(holder, name, place if absolute else workdir.relative(place))
        changed.append(artifact)
    if changed:
        store.put_artifacts(changed)


def _is_relative(uri: str) -> bool:
    return bool(uri) and "://" not in uri and not os.path.isabs(uri)


def record(artifact: metadata_store_pb2.Artifact) -> None:
    """Puts down in a new artifact its files and their checksums; relative paths are below the current folder.

    Before it is published: whatever changes in it later, every result made from it would count as another.
    """
    for place, key in places(artifact).items():
        path = pathlib.Path(place)
        artifact.custom_properties[key].string_value = json.dumps(walk.contents(path))
        artifact.custom_properties[CHECKSUMS[key]].string_value = json.dumps(walk.checksums(path))


def places(artifact: metadata_store_pb2.Artifact) -> dict[str, str]:
    """Where the files of an artifact are, outside of object stores, and which property lists them."""
    found = {artifact.uri: FILES}
    properties = artifact.custom_properties
    if "pushed" in properties and properties["pushed"].int_value:
        found[properties["pushed_destination"].string_value] = PUSHED_FILES
    elif WAITS_IN in properties:  # to ask for one that is not there would make it
        found[properties[WAITS_IN].string_value] = PUSHED_FILES
    return {place: key for place, key in found.items() if place and "://" not in place}


@dataclasses.dataclass(frozen=True)
class Loss:
    """An artifact that can no longer be used.

    Attributes:
        artifact: its id.
        what: in words: which file is gone, or has another size.
    """

    artifact: int
    what: str


def look(store: ml_metadata.MetadataStore, workdir: Workdir) -> list[Loss]:
    """Marks the artifacts whose files are gone, or have other sizes, as deleted: no cache and no resolver takes them.

    Artifacts from before their files were recorded have to be there, with any file.
    """
    from ml_metadata.proto import metadata_store_pb2

    lost, losses = [], []
    for artifact in store.get_artifacts():
        if artifact.state != metadata_store_pb2.Artifact.LIVE:
            continue
        for place, key in places(artifact).items():
            if what := walk.missing(pathlib.Path(workdir.absolute(place)), _recorded(artifact, key)):
                lost.append(artifact)
                if key == FILES or WAITS_IN not in artifact.custom_properties:  # that waits no longer is no loss
                    losses.append(Loss(artifact.id, what))
                break
    for artifact in lost:
        artifact.state = metadata_store_pb2.Artifact.DELETED
    if lost:
        store.put_artifacts(lost)
    return losses


def damage(artifact: metadata_store_pb2.Artifact) -> str | None:
    """Which file of an artifact has other content than when it was made, in words; relative paths as for `record`.

    It reads all of them, so it is for what is about to be used. Artifacts from before checksums were recorded pass.
    """
    for place, key in places(artifact).items():
        name = CHECKSUMS[key]
        if name in artifact.custom_properties:  # to ask for one that is not there would make it
            path = pathlib.Path(os.path.abspath(place))
            if what := walk.altered(path, json.loads(artifact.custom_properties[name].string_value)):
                return what
    return None


def discard(store: ml_metadata.MetadataStore, *artifacts: int) -> None:
    """Marks artifacts as deleted, all or none: no cache and no resolver takes them any more."""
    from ml_metadata.proto import metadata_store_pb2

    found = store.get_artifacts_by_id(artifacts) if artifacts else []
    for artifact in found:
        artifact.state = metadata_store_pb2.Artifact.DELETED
    if found:
        store.put_artifacts(found)


def _recorded(artifact: metadata_store_pb2.Artifact, key: str) -> Mapping[str, int] | None:
    """The files that an artifact had when it was made; None if nobody wrote them down."""
    if key in artifact.custom_properties:  # to ask for one that is not there would make it
        return json.loads(artifact.custom_properties[key].string_value)
    return {} if key == FILES and artifact.type == PUSHED else None
