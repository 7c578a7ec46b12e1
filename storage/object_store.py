"""Object stores with S3's API (AWS, MinIO, Ceph and others): listing, copying, and writing what is not there yet.

Credentials, endpoint and region come from where all AWS tools take them: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_ENDPOINT_URL, AWS_REGION and so on, ~/.aws, or the service account.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tfx.dsl.io import filesystem

SCHEME = "s3://"
CONNECT_SECONDS, READ_SECONDS = 10, 60
ATTEMPTS = 4
THREADS = 16


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


def find(uri: str) -> list[Object]:
    """The object that `uri` names, or all objects below it as a folder, sorted; empty if there is neither.

    Raises:
        ObjectStoreError: no such bucket, refused, or unreachable.
    """
    found = list(listed(uri))
    if not found and split(uri)[1] and not uri.endswith("/") and (about := head(uri)):
        name = uri.rsplit("/", 1)[1]
        modified = about["LastModified"].timestamp()
        found = [Object(uri, name, about["ContentLength"], about["ETag"], modified)]
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
        upload_file(opened, uri)


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


def upload_file(file: Any, uri: str) -> None:
    from boto3.s3.transfer import TransferConfig

    bucket, key = split(uri)
    with explained(uri):
        client().upload_fileobj(file, bucket, key, Config=TransferConfig(use_threads=False))


def read(uri: str) -> bytes:
    bucket, key = split(uri)
    with explained(uri):
        return client().get_object(Bucket=bucket, Key=key)["Body"].read()


def remove(uri: str) -> None:
    bucket, key = split(uri)
    with explained(uri):
        client().delete_object(Bucket=bucket, Key=key)


def remove_below(folder: str) -> None:
    for one in list(listed(folder)):
        remove(one.uri)
    remove(f"{folder.rstrip('/')}/")  # what some tools make in the place of a folder


def head(uri: str) -> dict | None:
    bucket, key = split(uri)
    try:
        with explained(uri):
            return client().head_object(Bucket=bucket, Key=key) if key else None
    except filesystem.NotFoundError:
        return None


def pages(uri: str, **options: object) -> Iterator[dict]:
    """The pages of a listing of what is below a folder."""
    bucket, prefix = _prefix(uri)
    with explained(uri):
        yield from client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **options)


def listed(uri: str) -> Iterator[Object]:
    bucket, prefix = _prefix(uri)
    for page in pages(uri):
        for one in page.get("Contents", ()):
            if name := one["Key"].removeprefix(prefix):
                where = f"{SCHEME}{bucket}/{one['Key']}"
                yield Object(where, name, one["Size"], one["ETag"], one["LastModified"].timestamp())


def children(uri: str) -> tuple[list[str], list[str]]:
    """The names of the folders and of the objects in a folder."""
    _, prefix = _prefix(uri)
    folders, files = [], []
    for page in pages(uri, Delimiter="/"):
        folders += [name for one in page.get("CommonPrefixes", ()) if (name := one["Prefix"][len(prefix) : -1])]
        files += [name for one in page.get("Contents", ()) if (name := one["Key"].removeprefix(prefix))]
    return sorted(folders), sorted(files)
