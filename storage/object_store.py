"""Object stores: listing, copying, and writing what is not there yet. What there are is in `storage.schemes`.

Of names obstore takes all but those with empty parts, `.`, `..` and control characters.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, TypeVar

from tfx.dsl.io import filesystem

from .stores import ATTEMPTS, ObjectStoreError, UnreachableError, explained, split, store

if TYPE_CHECKING:
    from obstore import Bytes, GetOptions, ObjectMeta

T = TypeVar("T")
THREADS = 16
PATIENCE = 30  # seconds after which what does not answer is not asked again
WRITERS, ROUNDS = 8, 6  # of the trial of conditional writes
PART = 8 << 20  # bytes of an upload's parts, of which a store takes 10,000: an object has at most 80 GB
AT_ONCE = 4  # parts of one object
RANGE = 32 << 20  # bytes of a large object that one thread fetches
BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Object:
    """An object in a listing.

    Attributes:
        name: its key below the folder that was listed; the last part of the key where the object itself was named.
        size: in bytes.
        etag: changes with the content.
        modified: seconds since 1970, by the store's clock.
    """

    uri: str
    name: str
    size: int
    etag: str
    modified: float


def _object(uri: str, name: str, found: ObjectMeta) -> Object:
    etag = (found["e_tag"] or "").strip('"')  # Azure quotes it now and then
    return Object(uri, name, found["size"], f'"{etag}"', found["last_modified"].timestamp())


def find(uri: str) -> list[Object]:
    """The object that `uri` names, or all objects below it as a folder, sorted; empty if there is neither.

    Without the empty objects that some tools make in the place of a folder.

    Raises:
        ObjectStoreError: no such bucket, refused, or unreachable.
    """
    found = sorted(listed(uri), key=lambda one: one.name)
    if not found and split(uri)[1] and not uri.endswith("/") and (single := head(uri)):
        return [single]
    folders = {name[:at] for name in (one.name for one in found) for at, mark in enumerate(name) if mark == "/"}
    return [one for one in found if one.size or one.name not in folders]


def listed(uri: str) -> Iterator[Object]:
    """All objects below a folder."""
    import obstore

    bucket, key = _place(uri)
    start = f"{key}/" if key else ""
    root = uri.partition("://")[0]
    with explained(uri, "list"):
        for page in obstore.list(store(uri), key, chunk_size=1000):
            for one in page:
                if one["path"] != key:  # what stands for the folder itself
                    yield _object(f"{root}://{bucket}/{one['path']}", one["path"].removeprefix(start), one)


def children(uri: str) -> tuple[list[str], list[str]]:
    """The names of the folders and of the objects in a folder."""
    import obstore

    _, key = _place(uri)
    with explained(uri, "list"):
        found = obstore.list_with_delimiter(store(uri), key)
    folders = {path.rpartition("/")[2] for path in found["common_prefixes"]}
    files = {one["path"].rpartition("/")[2] for one in found["objects"] if one["path"] != key}
    return sorted(folders), sorted(files)


def is_folder(uri: str) -> bool:
    """Whether there is anything below a folder, be it what stands for it."""
    import obstore

    with explained(uri, "list"):
        return next(iter(obstore.list(store(uri), _place(uri)[1], chunk_size=1)), None) is not None


def head(uri: str) -> Object | None:
    """What `uri` itself names, if it is an object."""
    import obstore

    _, key = _place(uri)
    try:
        with explained(uri, "read"):
            return _object(uri, key.rpartition("/")[2], obstore.head(store(uri), key)) if key else None
    except filesystem.NotFoundError:
        return None


def _place(uri: str) -> tuple[str, str]:
    """Bucket, and key without the slash at its end."""
    bucket, key = split(uri)
    return bucket, key.rstrip("/")


def download(objects: Iterable[Object], folder: pathlib.Path, progress: Callable[[int], None] | None = None) -> None:
    """Copies objects into a folder, many at a time, large ones in ranges.

    Args:
        objects: as `find` gives them; their names become paths below `folder`.
        folder: made when needed.
        progress: called, in any thread, with the number of bytes each time some have come.

    Raises:
        ObjectStoreError: also for a name that is no path below the folder, before anything is copied.
    """
    wanted = [(one, _below(folder, one)) for one in objects]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool, contextlib.ExitStack() as undone:
        undone.callback(pool.shutdown, wait=False, cancel_futures=True)
        futures = []
        for one, place in wanted:
            with _written(one, place):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            for start in range(0, one.size, RANGE):
                futures.append(pool.submit(_fetch, one, place, start, min(start + RANGE, one.size), progress))
        for future in concurrent.futures.as_completed(futures):
            future.result()


def _fetch(one: Object, place: pathlib.Path, start: int, end: int, progress: Callable[[int], None] | None) -> None:
    """Copies the bytes from `start` to before `end` to where they belong in the file `place`."""
    with _written(one, place):
        file = open(place, "r+b")  # noqa: SIM115
    with file:
        file.seek(start)
        for block in _blocks(one.uri, one.etag, start, end):
            with _written(one, place):
                file.write(block)
            if progress:
                progress(len(block))
        with _written(one, place):
            file.flush()
        if file.tell() != end:
            raise ObjectStoreError(f"{one.uri} was changed while it was read: start again.")


def _blocks(uri: str, etag: str = "", start: int = 0, end: int | None = None) -> Iterator[Bytes]:
    """What an object has from `start` to before `end`, as long as it is the one with `etag`."""
    import obstore

    options: GetOptions = {}
    if etag.strip('"'):
        options["if_match"] = etag
    if end is not None:
        options["range"] = (start, end)
    with explained(uri, "read"):
        yield from obstore.get(store(uri), _place(uri)[1], options=options).stream(min_chunk_size=BLOCK)


@contextlib.contextmanager
def _written(one: Object, place: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise ObjectStoreError(f"{one.uri} cannot be written to {place}: {problem.strerror or problem}.") from None


def _below(folder: pathlib.Path, one: Object) -> pathlib.Path:
    """Where an object goes."""
    parts = one.name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ObjectStoreError(f"{one.uri!r} cannot be a file, because of its name: rename or remove it.")
    return folder.joinpath(*parts)


def upload(file: str | os.PathLike, uri: str) -> None:
    """Copies a local file. Raises ObjectStoreError."""
    with open(file, "rb") as opened:
        write(opened, uri)


def write(content: IO[bytes] | bytes, uri: str) -> None:
    """Writes an object, in parts if it is large. Raises ObjectStoreError; then there is no part of it."""
    import obstore

    with explained(uri, "write"):
        obstore.put(store(uri), _place(uri)[1], content, chunk_size=PART, max_concurrency=AT_ONCE)


def create(uri: str, body: bytes) -> bool:
    """Writes a small object unless there is one of that name; says whether it did, among any number of writers.

    It says so of one at most, and of none where the answer to the one that did was lost. A store may lack this: see
    `excludes`. Raises ObjectStoreError.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError

    def put() -> bool:
        with explained(uri, "write"):
            try:
                obstore.put(store(uri), _place(uri)[1], body, mode="create")
            except AlreadyExistsError:
                return False
        return True

    return _until_answered(put)


def _until_answered(ask: Callable[[], T]) -> T:
    """Asks again where a connection broke, which obstore does not if it is not known what the first time did.

    Not where it took long, because nothing answers.
    """
    began = time.monotonic()
    for attempt in range(ATTEMPTS - 1):
        try:
            return ask()
        except UnreachableError:
            if time.monotonic() - began > PATIENCE:
                raise
        time.sleep(2**attempt / 10)
    return ask()


def excludes(folder: str) -> bool:
    """Whether the store of a folder lets `create` win once; found out with objects that go again.

    One after the other is not enough: SeaweedFS before 4.18, which KFP 2.15 and 2.16 bring, looks and then writes, so
    that of eight writers at once two or more won in 39 of 60 rounds. Newer ones take a second for a round.
    """
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        for _ in range(ROUNDS):
            probe = f"{folder.rstrip('/')}/probe-{uuid.uuid4().hex}"
            try:
                won = sum(pool.map(lambda _, probe=probe: create(probe, b""), range(WRITERS)))
                if won > 1 or create(probe, b""):  # 0: the answer to the one that won was lost
                    return False
            finally:
                remove(probe)
    return True


def read(uri: str) -> bytes:
    """The content of an object. Raises ObjectStoreError, NotFoundError."""
    return b"".join(_blocks(uri))


def fetch(uri: str, file: IO[bytes]) -> None:
    """Copies an object into an open file. Raises ObjectStoreError, NotFoundError."""
    for block in _blocks(uri):
        file.write(block)


def copy(source: str, target: str) -> None:
    """Copies an object, within its store if both are in one bucket. Raises ObjectStoreError, NotFoundError."""
    import obstore

    if store(source) is store(target):
        with explained(source, "copy"):
            obstore.copy(store(source), _place(source)[1], _place(target)[1])
        return
    with tempfile.TemporaryFile() as file:
        fetch(source, file)
        file.seek(0)
        write(file, target)


def remove(uri: str) -> None:
    """Removes an object; that it is not there is no error. Raises ObjectStoreError."""
    import obstore

    def delete() -> None:
        with contextlib.suppress(filesystem.NotFoundError), explained(uri, "remove"):
            obstore.delete(store(uri), _place(uri)[1])

    _until_answered(delete)


def remove_below(folder: str) -> None:
    """Removes all objects below a folder. Raises ObjectStoreError."""
    uris = {one.uri for one in listed(folder)}
    files = {one.uri for one in find(f"{folder.rstrip('/')}/")}
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(remove, files))
    for uri in sorted(uris - files, reverse=True):  # what stands for folders, where it must be empty when it goes
        remove(uri)
