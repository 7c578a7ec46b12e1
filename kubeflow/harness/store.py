"""The object store of a cluster, and how KFP's launcher copies to and from it (backend/src/v2/objectstore)."""

from __future__ import annotations

import abc
import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any


class Store(abc.ABC):
    """An object store; its objects are named by URIs with the scheme minio, s3 or gs."""

    @abc.abstractmethod
    def names(self, uri: str) -> Iterator[str]:
        """Of the object `uri` ("") and of all below it, relative to it."""

    @abc.abstractmethod
    def get(self, uri: str, file: pathlib.Path) -> None:
        """Copies an object into a file, whose folder exists."""

    @abc.abstractmethod
    def put(self, file: pathlib.Path, uri: str) -> None:
        """Copies a file into an object."""

    @abc.abstractmethod
    def path(self, uri: str) -> pathlib.Path:
        """Where the objects that `uri` names lie on this machine, or a copy of them; for tests to look at."""

    def download(self, uri: str, target: pathlib.Path) -> None:
        """The launcher's DownloadBlob; nothing to copy is no error. Raises OSError."""
        for name in self.names(uri):
            if ".." in name.split("/"):
                raise OSError(f"path traversal detected: blob key {name!r} contains '..' component")
            place = target / name if name else target
            place.parent.mkdir(parents=True, exist_ok=True)
            self.get(f"{uri}/{name}" if name else uri, place)

    def upload(self, source: pathlib.Path, uri: str) -> None:
        """The launcher's UploadBlob: folders exist through their files alone. Raises OSError.

        What does not exist is only warned of. That includes a link that leads nowhere, after which the files that
        come later in the alphabet are silently missing; a link to a folder is an error.
        """
        try:
            self._upload(source, uri)
        except FileNotFoundError:
            return

    def _upload(self, source: pathlib.Path, uri: str) -> None:
        if not source.is_dir():
            self.put(source, uri)  # raises FileNotFoundError if there is nothing
            return
        for one in sorted(source.iterdir()):
            if one.is_dir() and not one.is_symlink():
                self._upload(one, f"{uri}/{one.name}")
            else:
                self.put(one, f"{uri}/{one.name}")


class Folders(Store):
    """A store in a folder of this machine."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self._folder = pathlib.Path(folder)

    def names(self, uri: str) -> Iterator[str]:
        """See Store."""
        place = self.path(uri)
        if place.is_file():
            yield ""
        for file in sorted(place.rglob("*")):
            if file.is_file():
                yield file.relative_to(place).as_posix()

    def get(self, uri: str, file: pathlib.Path) -> None:
        """See Store."""
        shutil.copyfile(self.path(uri), file)

    def put(self, file: pathlib.Path, uri: str) -> None:
        """See Store."""
        self.path(uri).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, self.path(uri))

    def path(self, uri: str) -> pathlib.Path:
        """See Store."""
        scheme, _, key = uri.partition("://")
        return self._folder / scheme / key


class S3(Store):
    """A store behind S3's API, such as MinIO. Only the launcher has its credentials; containers need their own."""

    def __init__(
        self, endpoint: str, access_key: str, secret_key: str, folder: str | os.PathLike, region: str = "us-east-1"
    ) -> None:
        """Args:
        endpoint: URL of the store.
        access_key, secret_key: the launcher's.
        folder: for what `path` fetches.
        region: of the store.
        """
        import boto3
        from botocore.config import Config

        self._folder = pathlib.Path(folder)
        # As the launcher's newS3Client has it.
        config = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
        self._client: Any = boto3.Session(access_key, secret_key, region_name=region).client(
            "s3", endpoint_url=endpoint, config=config
        )

    def names(self, uri: str) -> Iterator[str]:
        """See Store."""
        bucket, key = _split(uri)
        with _told():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
                for one in page.get("Contents", ()):
                    if one["Key"] == key:
                        yield ""
                    elif one["Key"].startswith(f"{key}/"):
                        yield one["Key"].removeprefix(f"{key}/")

    def get(self, uri: str, file: pathlib.Path) -> None:
        """See Store."""
        with _told():
            self._client.download_file(*_split(uri), str(file))

    def put(self, file: pathlib.Path, uri: str) -> None:
        """See Store."""
        with _told(), open(file, "rb") as opened:
            self._client.upload_fileobj(opened, *_split(uri))

    def path(self, uri: str) -> pathlib.Path:
        """See Store."""
        place = self._folder / uri.replace("://", "/")
        if not place.exists():  # an artifact is written once
            self.download(uri, place)
        return place


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the SDK says, as an error of the operating system."""
    from botocore import exceptions

    try:
        yield
    except (exceptions.ClientError, exceptions.BotoCoreError) as problem:
        raise OSError(str(problem)) from None


def _split(uri: str) -> tuple[str, str]:
    """Bucket and key, whatever the scheme."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key
