"""Object stores with S3's API (AWS, MinIO, Ceph and others): `s3://BUCKET/KEY` where TFX takes a path.

Importing this module makes `tfx.dsl.io.fileio`, and with it TFX's components, read and write `s3://` as they do
`gs://`. Credentials, endpoint and region come from where all AWS tools take them: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_REGION and so on, ~/.aws, or the service account.

An object store cannot rename, so a version of a history (`kubeflow.baseline`) cannot appear at once, as on a volume.
`publish` makes up for it with two small objects that are written only if they are not there (If-None-Match):

    FOLDER/.claims/1767225600         says whose content this version gets, before anything else is written
    FOLDER/1767225600/...             the files
    FOLDER/1767225600.json            says that all of them are there; `versions` counts no version without it
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import functools
import io
import json
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tfx.dsl.io import filesystem, filesystem_registry

SCHEME = "s3://"
CONNECT_SECONDS, READ_SECONDS = 10, 60
ATTEMPTS = 4
THREADS = 16
DAY = 86_400  # seconds after which a push that has not ended counts as dead
LAST = "saved_model.pb"  # servers take a folder with this file for a model, so it comes after all others


class ObjectStoreError(OSError):
    """What the user can mend, in one sentence."""


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


def is_uri(path: object) -> bool:
    """Whether a path names something in an object store."""
    return str(path).startswith(SCHEME)


def split(uri: str) -> tuple[str, str]:
    """Bucket and key ("" for the bucket itself). Raises ObjectStoreError."""
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if not is_uri(uri) or not bucket:
        raise ObjectStoreError(f"{uri} names no bucket: write s3://BUCKET/FOLDER.")
    return bucket, key


def _prefix(uri: str) -> tuple[str, str]:
    """Bucket, and what the keys in a folder begin with."""
    bucket, key = split(uri)
    return bucket, f"{key.rstrip('/')}/" if key else ""


@functools.cache
def client() -> Any:
    """The one boto3 client of this process."""
    import boto3
    from botocore.config import Config

    return boto3.Session().client(
        "s3",
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=THREADS,
            # As KFP's launcher does, because other stores than Amazon's may refuse the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextlib.contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turns what boto3 raises while it works on `uri` into an ObjectStoreError, or a NotFoundError of TFX."""
    from botocore import exceptions
    from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

    try:
        yield
    except S3DownloadFailedError:  # the ETag is not the one that was listed
        raise ObjectStoreError(f"{uri} was changed while it was read: start again.") from None
    except exceptions.ClientError as problem:
        raise _refused(uri, problem) from None
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
    ) as problem:
        raise ObjectStoreError(
            f"There are no credentials for {uri} ({_plain(problem)}): set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        ) from None
    except (exceptions.ConnectionError, exceptions.HTTPClientError, RetriesExceededError) as problem:
        raise ObjectStoreError(
            f"The object store of {uri} cannot be reached: {_plain(problem)}. Check the network and AWS_ENDPOINT_URL."
        ) from None
    except (exceptions.BotoCoreError, ValueError) as problem:
        raise ObjectStoreError(f"{uri} cannot be used: {_plain(problem)}.") from None


def _refused(uri: str, problem: Any) -> OSError:
    """What to say of an error that the store answered."""
    code = problem.response.get("Error", {}).get("Code", "")
    status = problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = problem.response.get("Error", {}).get("Message") or code
    if code == "NoSuchBucket":
        return ObjectStoreError(f"{uri}: there is no bucket {split(uri)[0]} at {client().meta.endpoint_url}.")
    if code in ("NoSuchKey", "404") or status == 404:
        return filesystem.NotFoundError(f"{uri} does not exist.")
    if status in (401, 403):
        return ObjectStoreError(
            f"The object store refused {problem.operation_name} on {uri} with these credentials: {said.rstrip('.')}. "
            "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they may do."
        )
    if status == 501:
        return ObjectStoreError(f"The object store lacks what {problem.operation_name} on {uri} needs: {said}")
    return ObjectStoreError(f"The object store failed {problem.operation_name} on {uri}: {code}, {said}")


def _plain(problem: Exception) -> str:
    return " ".join(str(problem).split()).rstrip(".")


# Listing and copying


def find(uri: str) -> list[Object]:
    """The object that `uri` names, or all objects below it as a folder, sorted; empty if there is neither.

    Raises:
        ObjectStoreError: no such bucket, refused, or unreachable.
    """
    found = list(_listed(uri))
    if not found and split(uri)[1] and not uri.endswith("/"):
        head = _head(uri)
        if head:
            name = uri.rsplit("/", 1)[1]
            modified = head["LastModified"].timestamp()
            found = [Object(uri, name, head["ContentLength"], head["ETag"], modified)]
    return found


def download(objects: Iterable[Object], folder: pathlib.Path, progress: Callable[[int], None] | None = None) -> None:
    """Copies objects into a folder, many at a time.

    Args:
        objects: as `find` gives them; their names become paths below `folder`.
        folder: made when needed.
        progress: called, in any thread, with the number of bytes each time some have come.

    Raises:
        ObjectStoreError: also for a name that is no path below the folder, before anything is copied.
    """
    from s3transfer.manager import TransferConfig, TransferManager

    wanted = [(one, place) for one in objects if (place := _place(one, folder))]
    if not wanted:
        return
    with explained(wanted[0][0].uri):
        manager = TransferManager(client(), TransferConfig(max_request_concurrency=THREADS))
    with manager:
        futures = []
        for one, place in wanted:
            with _written(one, place):
                place.parent.mkdir(parents=True, exist_ok=True)
            futures.append(manager.download(*split(one.uri), str(place), subscribers=[_subscriber(one, progress)]))
        for (one, place), future in zip(wanted, futures, strict=True):
            with explained(one.uri), _written(one, place):
                future.result()


@contextlib.contextmanager
def _written(one: Object, place: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise ObjectStoreError(f"{one.uri} cannot be written to {place}: {problem.strerror or problem}.") from None


def _place(one: Object, folder: pathlib.Path) -> pathlib.Path | None:
    """Where an object goes; None for the empty objects that some tools make in the place of a folder."""
    if one.name.endswith("/") and not one.size:
        return None
    parts = one.name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ObjectStoreError(f"{one.uri!r} cannot be a file, because of its name: rename or remove it.")
    return folder.joinpath(*parts)


def _subscriber(one: Object, progress: Callable[[int], None] | None) -> Any:
    from s3transfer.subscribers import BaseSubscriber

    class Subscriber(BaseSubscriber):
        def on_queued(self, future: Any, **others: object) -> None:  # saves a request for each object
            future.meta.provide_transfer_size(one.size)
            future.meta.provide_object_etag(one.etag)

        def on_progress(self, future: Any, bytes_transferred: int, **others: object) -> None:
            if progress:
                progress(bytes_transferred)

    return Subscriber()


def upload(file: str | os.PathLike, uri: str) -> None:
    """Copies a local file. Raises ObjectStoreError."""
    with open(file, "rb") as opened:
        _upload(opened, uri)


def create(uri: str, body: bytes) -> bool:
    """Writes a small object unless there is one of that name; says whether it did, among any number of writers."""
    from botocore.exceptions import ClientError

    bucket, key = split(uri)
    with explained(uri):
        for attempt in range(ATTEMPTS):
            try:
                client().put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
            except ClientError as problem:
                status = problem.response["ResponseMetadata"]["HTTPStatusCode"]
                if status == 412:
                    return False
                # 409: somebody else is at it this moment, and how that ends is not known yet.
                if status != 409 or attempt + 1 == ATTEMPTS:
                    raise
                time.sleep(2**attempt / 10)
            else:
                break
    return True


def _upload(file: Any, uri: str) -> None:
    from boto3.s3.transfer import TransferConfig

    bucket, key = split(uri)
    with explained(uri):
        client().upload_fileobj(file, bucket, key, Config=TransferConfig(use_threads=False))


def _read(uri: str) -> bytes:
    bucket, key = split(uri)
    with explained(uri):
        return client().get_object(Bucket=bucket, Key=key)["Body"].read()


def _remove(uri: str) -> None:
    bucket, key = split(uri)
    with explained(uri):
        client().delete_object(Bucket=bucket, Key=key)


def _remove_below(folder: str) -> None:
    for one in list(_listed(folder)):
        _remove(one.uri)
    _remove(f"{folder.rstrip('/')}/")  # what some tools make in the place of a folder


def _head(uri: str) -> dict | None:
    bucket, key = split(uri)
    try:
        with explained(uri):
            return client().head_object(Bucket=bucket, Key=key) if key else None
    except filesystem.NotFoundError:
        return None


def _pages(uri: str, **options: object) -> Iterator[dict]:
    """The pages of a listing of what is below a folder."""
    bucket, prefix = _prefix(uri)
    with explained(uri):
        yield from client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **options)


def _listed(uri: str) -> Iterator[Object]:
    bucket, prefix = _prefix(uri)
    for page in _pages(uri):
        for one in page.get("Contents", ()):
            if name := one["Key"].removeprefix(prefix):
                where = f"{SCHEME}{bucket}/{one['Key']}"
                yield Object(where, name, one["Size"], one["ETag"], one["LastModified"].timestamp())


def _children(uri: str) -> tuple[list[str], list[str]]:
    """The names of the folders and of the objects in a folder."""
    _, prefix = _prefix(uri)
    folders, files = [], []
    for page in _pages(uri, Delimiter="/"):
        folders += [name for one in page.get("CommonPrefixes", ()) if (name := one["Prefix"][len(prefix) : -1])]
        files += [name for one in page.get("Contents", ()) if (name := one["Key"].removeprefix(prefix))]
    return sorted(folders), sorted(files)


# Versions that appear complete or not at all


def versions(folder: str) -> list[int]:
    """The numbers of the complete versions in a history, ascending. Raises ObjectStoreError."""
    return _versions(folder)[0]


def _versions(folder: str) -> tuple[list[int], set[int]]:
    """The complete versions, and all that were complete once, also those whose files somebody has removed since."""
    folders, files = _children(folder)
    names = (name.removesuffix(".json") for name in files if name.endswith(".json"))
    marked = {int(name) for name in names if name.isdigit()}
    return sorted(int(name) for name in folders if name.isdigit() and int(name) in marked), marked


def publish(
    source: str,
    folder: str,
    digest: str,
    extra: Mapping[str, bytes] | None = None,
    properties: Mapping[str, object] | None = None,
) -> int:
    """Makes the files of `source` the newest version in a history, unless they are that already.

    Any number of callers may do so at once: of each content there is one version. A caller that dies leaves what
    readers do not count; one that brings the same content within a day completes it, a later one removes it.

    Args:
        source: a local folder.
        folder: of the history, s3://BUCKET/FOLDER.
        digest: identifies the content of `source`.
        extra: further files, by their names in the version.
        properties: for the version's JSON file.

    Returns:
        The version's number.

    Raises:
        ObjectStoreError: missing bucket, refused, unreachable.
    """
    folder = folder.rstrip("/")
    _clear(folder)
    number = _claim(folder, digest)
    if number in versions(folder):
        return number
    files = {}
    for inner, _, names in os.walk(source):
        for name in names:
            path = os.path.join(inner, name)
            files[os.path.relpath(path, source)] = path
    others = sorted(files.keys() - {LAST})
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda name: upload(files[name], f"{folder}/{number}/{name}"), others))
    for name, body in (extra or {}).items():
        _upload(io.BytesIO(body), f"{folder}/{number}/{name}")
    if LAST in files:
        upload(files[LAST], f"{folder}/{number}/{LAST}")
    create(f"{folder}/{number}.json", json.dumps(dict(properties or {})).encode())
    return number


def remove(folder: str, number: int) -> None:
    """Removes a version; it stops counting before anything of it is gone. Raises ObjectStoreError."""
    folder = folder.rstrip("/")
    _remove(f"{folder}/{number}.json")
    _remove_below(f"{folder}/{number}")
    _remove(f"{folder}/.claims/{number}")


def _claim(folder: str, digest: str) -> int:
    """The number of the version that has, or shall get, the content `digest`, above all others."""
    while True:
        complete, marked = _versions(folder)
        newest = max(complete, default=0)
        claims = {int(one.name): one for one in _listed(f"{folder}/.claims") if one.name.isdigit()}
        for number, one in sorted(claims.items()):
            under_way = number > newest and number not in marked and time.time() - one.modified < DAY
            if (number == newest or under_way) and _content(one.uri) == digest.encode():
                return number
        # Seconds since 1970 as everywhere in TFX, but always above what is there.
        number = max([int(time.time()), *(other + 1 for other in marked | claims.keys())])
        if create(f"{folder}/.claims/{number}", digest.encode()):
            return number


def _content(uri: str) -> bytes:
    try:
        return _read(uri)
    except filesystem.NotFoundError:
        return b""


def _clear(folder: str) -> None:
    """Removes what pushes have left that died long ago. Within a day they may be under way, or be taken up again."""
    _, marked = _versions(folder)
    for one in list(_listed(f"{folder}/.claims")):
        if one.name.isdigit() and int(one.name) not in marked and time.time() - one.modified > 2 * DAY:
            remove(folder, int(one.name))


# TFX's file system


class _Writer(io.BufferedRandom):
    """A temporary file that becomes an object when it is closed."""

    def __init__(self, uri: str) -> None:
        super().__init__(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115  closed with this one
        self._uri = uri
        self.wanted = True

    def __exit__(self, kind: type | None, *others: object) -> None:
        self.wanted = kind is None
        super().__exit__(kind, *others)

    def close(self) -> None:
        if self.closed:
            return
        try:
            if self.wanted:
                self.seek(0)
                _upload(_Kept(self), self._uri)
        finally:
            super().close()


class _Kept:
    """Lets boto3 read a file, and not close it."""

    def __init__(self, file: _Writer) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell

    def close(self) -> None:
        pass


class _TextWriter(io.TextIOWrapper):
    def __exit__(self, kind: type | None, *others: object) -> None:
        self.buffer.wanted = kind is None
        super().__exit__(kind, *others)


class S3Filesystem(filesystem.Filesystem):
    """`s3://` for `tfx.dsl.io.fileio`. As with all object stores, folders exist only through what is in them."""

    SUPPORTED_SCHEMES = [SCHEME]

    @staticmethod
    def open(name: str, mode: str = "r") -> Any:
        kind = mode.replace("b", "").replace("t", "")
        if kind == "w":
            return _Writer(name) if "b" in mode else _TextWriter(_Writer(name), encoding="utf-8")
        if kind != "r":
            raise ObjectStoreError(f"{name} cannot be opened with {mode!r}: objects are read or written whole.")
        bucket, key = split(name)
        file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
        with explained(name):
            client().download_fileobj(bucket, key, file)
        file.seek(0)
        return file if "b" in mode else io.TextIOWrapper(file, encoding="utf-8")

    @staticmethod
    def copy(src: str, dst: str, overwrite: bool = False) -> None:
        if not overwrite and _head(dst):
            raise ObjectStoreError(f"{dst} already exists.")
        bucket, key = split(src)
        with explained(src):
            client().copy({"Bucket": bucket, "Key": key}, *split(dst))

    @staticmethod
    def exists(path: str) -> bool:
        return S3Filesystem.isdir(path) or _head(path) is not None

    @staticmethod
    def glob(pattern: str) -> list[str]:
        bucket, key = split(pattern)
        parts = key.split("/")
        fixed = next((place for place, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts))
        if fixed == len(parts):
            return [pattern] if S3Filesystem.exists(pattern) else []
        base = "/".join([f"{SCHEME}{bucket}", *parts[:fixed]])
        rest = parts[fixed:]
        found = set()
        for one in _listed(base):
            names = one.name.split("/")[: len(rest)]
            if len(names) == len(rest) and all(map(fnmatch.fnmatchcase, names, rest)):
                found.add("/".join([base, *names]))
        return sorted(found)

    @staticmethod
    def isdir(path: str) -> bool:
        return any(page.get("KeyCount") for page in _pages(path, PaginationConfig={"MaxItems": 1}))

    @staticmethod
    def listdir(path: str) -> list[str]:
        folders, files = _children(path)
        if not folders and not files:
            raise filesystem.NotFoundError(f"{path} does not exist.")
        return folders + files

    @staticmethod
    def makedirs(path: str) -> None:
        split(path)

    @staticmethod
    def mkdir(path: str) -> None:
        split(path)

    @staticmethod
    def remove(path: str) -> None:
        if not _head(path):
            raise filesystem.NotFoundError(f"{path} does not exist.")
        _remove(path)

    @staticmethod
    def rename(src: str, dst: str, overwrite: bool = False) -> None:
        """Copies and then removes, one object after the other: not atomic."""
        objects = find(src)
        if not objects:
            raise filesystem.NotFoundError(f"{src} does not exist.")
        if not overwrite and S3Filesystem.exists(dst):
            raise ObjectStoreError(f"{dst} already exists.")
        source, target = src.rstrip("/"), dst.rstrip("/")
        for one in objects:
            S3Filesystem.copy(one.uri, target + one.uri.removeprefix(source), overwrite=True)
        for one in objects:
            _remove(one.uri)

    @staticmethod
    def rmtree(path: str) -> None:
        if not S3Filesystem.isdir(path):
            raise filesystem.NotFoundError(f"{path} does not exist.")
        _remove_below(path)

    @staticmethod
    def stat(path: str) -> os.stat_result:
        """Size and time; of a folder nothing but that it exists."""
        head = _head(path)
        if head:
            modified = head["LastModified"].timestamp()
            return os.stat_result((0o100644, 0, 0, 1, 0, 0, head["ContentLength"], modified, modified, modified))
        if S3Filesystem.isdir(path):
            return os.stat_result((0o040755, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        raise filesystem.NotFoundError(f"{path} does not exist.")

    @staticmethod
    def walk(
        top: str, topdown: bool = True, onerror: Callable[..., None] | None = None
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        del onerror
        folders, files = _children(top)
        if topdown and (folders or files):
            yield top, folders, files
        for name in folders:
            yield from S3Filesystem.walk(f"{top.rstrip('/')}/{name}", topdown)
        if not topdown and (folders or files):
            yield top, folders, files


# Lower numbers go first; TensorFlow's own file system claims s3:// with 10, but cannot open it.
filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.register(S3Filesystem, priority=0)
