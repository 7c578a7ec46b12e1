"""Whether an object store does what a pipeline asks of it: tried with small objects, which are removed again."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable

from ..connection import clean
from ..findings import FINE, MISSING, UNKNOWN, Finding
from .needs import Place

CONTENT = b"Written by doctor, which removes it again.\n"
MARK = ".doctor-"  # what the objects' names begin with
ABSENT, FAR = "There are no credentials", "cannot be reached"  # as storage.object_store says it


def probe(place: Place) -> Finding:
    """Tries a place with the credentials of this shell; what a pod has may be others.

    What is only read is asked for an object that is not there: nobody knows how large one is that is.
    """
    subject = f"store {clean(place.uri)}"
    try:
        from tfx.dsl.io import filesystem  # takes seconds

        from storage import object_store, stores
    except ImportError:  # a project that took this layer without it
        return Finding(subject, UNKNOWN, "Not asked: there is no package storage here.")
    name = f"{place.uri.rstrip('/')}/{MARK}{uuid.uuid4().hex}"
    try:
        if place.written:
            return _written(subject, name)
        try:
            object_store.read(name)
        except filesystem.NotFoundError:
            return Finding(subject, FINE, "With this shell's credentials it answers, and lets read.")
        text = "What answers is no object store: it has what was never written."
        return Finding(subject, MISSING, text, f"set {stores.kind(name).endpoint} to the address of the store")
    except object_store.ObjectStoreError as problem:
        return _failed(subject, str(problem).replace(name, place.uri), place.secrets)


def _written(subject: str, name: str) -> Finding:
    """Raises ObjectStoreError."""
    from tfx.dsl.io import filesystem

    from storage import object_store

    object_store.create(name, CONTENT)
    lacks = ""
    try:
        if object_store.read(name) != CONTENT:
            lacks = "does not give back what was written"
    except BaseException:
        with contextlib.suppress(object_store.ObjectStoreError):
            object_store.remove(name)
        raise
    try:
        object_store.remove(name)
    except object_store.ObjectStoreError as problem:
        text = f"{clean(name)} was written and is left there. {clean(problem)}"
        return Finding(subject, MISSING, text, "let these credentials delete below it: pushes and histories do")
    with contextlib.suppress(filesystem.NotFoundError):
        object_store.read(name)
        lacks = lacks or "still has what was deleted"
    if not lacks and not object_store.excludes(name.rpartition("/")[0]):  # as the first push finds it out
        lacks = "overwrites what is there, though asked not to (If-None-Match), so two pushes at once can mix"
    if lacks:
        return Finding(subject, MISSING, f"The store {lacks}.", "use a store that knows conditional writes")
    return Finding(subject, FINE, "With this shell's credentials: written, read, not overwritten, deleted.")


def _failed(subject: str, said: str, secrets: Iterable[str]) -> Finding:
    used = ", ".join(clean(secret) for secret in secrets)
    cluster = f" In the cluster the secret {used} is used." if used else ""
    if said.startswith(ABSENT):
        return Finding(subject, UNKNOWN, f"Not asked, this shell has no credentials for it.{cluster}")
    if FAR in said:
        return Finding(subject, UNKNOWN, f"From here, {clean(said[0].lower() + said[1:])}{cluster}")
    return Finding(subject, MISSING, f"With this shell's credentials: {clean(said)}{cluster}")
