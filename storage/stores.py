"""How each kind of object store is reached with obstore, and what its errors mean.

Credentials, endpoint and region come from where the tools of each come by them:

    s3://  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_REGION and so on, ~/.aws, or the service
           account (IRSA): whatever boto3 finds
    gs://  GOOGLE_APPLICATION_CREDENTIALS, gcloud's own, or the service account (workload identity): what google-auth
           finds
    az://  AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, a service principal, or
           the service account (workload identity): what obstore finds
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tfx.dsl.io import filesystem

from . import schemes

if TYPE_CHECKING:
    from obstore.store import AzureConfig, AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

ATTEMPTS = 4
GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


class ObjectStoreError(OSError):
    """What the user can mend, in one sentence."""


class UnreachableError(ObjectStoreError):
    """There is no answer, so it is not known what became of what was asked for."""


class _NoCredentialsError(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of object store.

    Attributes:
        open: makes the store of a bucket; raises what its libraries raise.
        bucket: what it calls a bucket.
        credentials: what to set or to check, for sentences.
        endpoint: the variable that says where the store is.
        variables: those whose values are sent, or lead to what is.
    """

    open: Callable[[str], S3Store | GCSStore | AzureStore]
    bucket: str
    credentials: str
    endpoint: str
    variables: tuple[str, ...]


def _s3(bucket: str) -> S3Store:
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    session = boto3.Session()
    about = session.client("s3").meta
    signed = not _set("AWS_SKIP_SIGNATURE")
    if signed and session.get_credentials() is None:
        raise _NoCredentialsError("neither in the environment nor in ~/.aws, and no role")
    return S3Store(
        bucket,
        config={"aws_endpoint_url_s3": about.endpoint_url, "region": about.region_name, "disable_bulk_delete": True},
        credential_provider=Boto3CredentialProvider(session) if signed else None,
        client_options=_client(about.endpoint_url, os.environ.get("AWS_CA_BUNDLE")),
        retry_config=_retries(),
    )


def _gs(bucket: str) -> GCSStore:
    import google.auth
    from obstore.auth.google import GoogleCredentialProvider
    from obstore.store import GCSStore

    provider = None
    if not _set("GOOGLE_SKIP_SIGNATURE"):
        provider = GoogleCredentialProvider(google.auth.default(scopes=[GOOGLE_SCOPE])[0])
    endpoint = os.environ.get("GOOGLE_BASE_URL", "")
    return GCSStore(bucket, credential_provider=provider, client_options=_client(endpoint), retry_config=_retries())


def _az(container: str) -> AzureStore:
    from obstore.store import AzureStore

    endpoint = os.environ.get("AZURE_STORAGE_ENDPOINT", "").rstrip("/")  # Azure's portal shows it with one
    config: AzureConfig = {"endpoint": endpoint} if endpoint else {}
    return AzureStore(container, config=config, client_options=_client(endpoint), retry_config=_retries())


def _set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")


def _client(endpoint: str, trusted: str | None = None) -> ClientConfig:
    """Args:
    endpoint: URL of the store; without encryption only if it says so.
    trusted: file of certificates that count beside the system's.
    """
    # The whole request may take as long as a large object does; that nothing comes for a minute is an error.
    options: ClientConfig = {"connect_timeout": "10s", "read_timeout": "60s", "timeout": "1d"}
    if endpoint.startswith("http://"):
        options["allow_http"] = True
    if trusted:
        with open(trusted, "rb") as file:
            options["root_certificate"] = file.read()
    return options


def _retries() -> RetryConfig:
    return {"max_retries": ATTEMPTS - 1}


KINDS = {
    "s3": Kind(
        _s3,
        "bucket",
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        "AWS_ENDPOINT_URL",
        ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"),
    ),
    "gs": Kind(
        _gs,
        "bucket",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_BASE_URL",
        ("GOOGLE_BASE_URL", "GOOGLE_APPLICATION_CREDENTIALS"),
    ),
    "az": Kind(
        _az,
        "container",
        "AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_ENDPOINT",
        (
            "AZURE_STORAGE_ENDPOINT", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID",
        ),
    ),
}  # fmt: skip


def kind(uri: str) -> Kind:
    """Of the store that a URI is of."""
    return KINDS[uri.partition("://")[0]]


def split(uri: str) -> tuple[str, str]:
    """Bucket and key ("" for the bucket itself). Raises ObjectStoreError."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not schemes.is_uri(uri) or not bucket:
        raise ObjectStoreError(f"{uri} names no bucket: write {schemes.FORMS}.")
    if not re.fullmatch(r"[\w.$-]+", bucket, re.ASCII):
        raise ObjectStoreError(f"{uri} cannot be used: {bucket!r} is no name of a {kind(uri).bucket}.")
    return bucket, key


@functools.cache
def _opened(scheme: str, bucket: str) -> S3Store | GCSStore | AzureStore:
    return KINDS[scheme].open(bucket)


forget = _opened.cache_clear  # for tests, whose environment changes


def store(uri: str) -> S3Store | GCSStore | AzureStore:
    """The store of a URI's bucket, one in this process. Raises ObjectStoreError."""
    bucket, _ = split(uri)
    for name in kind(uri).variables:
        if (value := os.environ.get(name, "")) != value.strip():  # in a header, obstore panics
            raise ObjectStoreError(
                f"{uri} cannot be used: the variable {name} begins or ends with a blank or a line break. Remove it "
                "where it comes from, such as a secret that was made of a file."
            )
    try:
        return _opened(uri.partition("://")[0], bucket)
    except Exception as problem:
        said = _first_line(str(problem))
        absent = re.search("credential|account|access key", repr(problem), re.IGNORECASE)
        if absent and not isinstance(problem, OSError):
            said = said.partition(" error: ")[2] or said  # of obstore
            raise ObjectStoreError(
                f"There are no credentials for {uri} ({said}): set {kind(uri).credentials}."
            ) from None
        raise ObjectStoreError(f"{uri} cannot be used: {said}.") from None


@contextlib.contextmanager
def explained(uri: str, doing: str) -> Iterator[None]:
    """Turns what obstore raises while it works on `uri` into an ObjectStoreError, or a NotFoundError of TFX.

    Args:
        uri: of an object or a folder.
        doing: what is tried, such as "read".
    """
    from obstore.exceptions import BaseError, PreconditionError

    try:
        yield
    except PreconditionError:  # the ETag is not the one that was listed
        raise ObjectStoreError(f"{uri} was changed while it was read: start again.") from None
    except (BaseError, FileNotFoundError, ValueError) as problem:
        raise _explanation(uri, doing, problem) from None


def _explanation(uri: str, doing: str, problem: Exception) -> OSError:
    from obstore.exceptions import UnauthenticatedError

    about, text = kind(uri), str(problem).split("\n\nDebug source")[0]
    status = int(found[1]) if (found := re.search(r"status code: (\d{3})", text)) else 0
    code = found[1] if (found := re.search(r"<Code>(.*?)</Code>", text)) else ""
    said = re.search(r"<Message>([^<]*)", text) or re.search(r'"message": ?"([^"]*)', text)
    words = _first_line(said[1] if said else text) or code
    if status == 404 and (code in ("NoSuchBucket", "ContainerNotFound") or "list request" in text):
        return ObjectStoreError(f"{uri}: there is no {about.bucket} {split(uri)[0]} at {_endpoint(uri, text)}.")
    if isinstance(problem, FileNotFoundError):
        return filesystem.NotFoundError(f"{uri} does not exist.")
    if (isinstance(problem, UnauthenticatedError) and not status) or "token request" in text:
        words = words.rpartition("provider: ")[2]
        return ObjectStoreError(f"There are no credentials for {uri} ({words}): set {about.credentials}.")
    if status in (401, 403):
        return ObjectStoreError(
            f"The object store refused to {doing} {uri} with these credentials: {words}. "
            f"Check {about.credentials}, and what they may do."
        )
    if found := re.search(r'arsing Path "(.*?)"|Path "(.*?)" contained', text, re.DOTALL):
        name = f"{uri.partition('://')[0]}://{split(uri)[0]}/{found[1] or found[2]}"
        return ObjectStoreError(f"{name!r} cannot be a file, because of its name: rename or remove it.")
    if "HTTP error" in text or "request or response body error" in text:
        return UnreachableError(
            f"The object store of {uri} cannot be reached: {_endpoint(uri, text)}, {_reason(str(problem))}. "
            f"Check the network and {about.endpoint}."
        )
    if status == 301 or "without LOCATION" in text:
        return ObjectStoreError(
            f"{uri} is in another region: set AWS_REGION to that of the {about.bucket} {split(uri)[0]}."
        )
    if status in (400, 501) and re.search("NotImplemented|not implemented", text):
        return ObjectStoreError(f"The object store lacks what it takes to {doing} {uri}: {words}.")
    told = f"{status}, {words}" if status else words
    return ObjectStoreError(f"The object store failed to {doing} {uri}: {told}.")


def _reason(text: str) -> str:
    """Why a connection came to nothing, from what obstore tells for developers."""
    if found := re.search(r"InvalidCertificate\(\s*(\w+)", text):
        return f"its certificate is not trusted here ({found[1]})"
    if re.search(r"kind: Timeout|source: TimedOut", text):
        return "it does not answer in time"
    reasons = re.findall(r'(?:message|error): "([^"]+)"', text)
    return reasons[-1] if reasons else "the connection broke"


def _first_line(text: str) -> str:
    """Without what follows ? in URLs, where a signature may be, and without a user's name and password in them."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    return " ".join(re.sub(r"\?\S*|(?<=://)[^/\s@]*@", "", line).split()).rstrip(".")


def _endpoint(uri: str, text: str) -> str:
    """Scheme and host of the URL in an error of obstore's."""
    found = re.search(r"(https?://)(?:[^/\s?@]*@)?([^/\s?]+)", text)
    return found[1] + found[2] if found else uri.partition("://")[0]
