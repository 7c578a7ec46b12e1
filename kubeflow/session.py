"""Requests to a server of Kubeflow Pipelines: errors in one sentence.

It speaks the v2beta1 API through kfp-server-api, kfp's own client of it. What that API does not tell, it asks where
KFP's user interface does: which files a run made, and in which pods, from ML Metadata as gRPC-web, the files from
`/artifacts`, the logs from `/k8s/pod/logs`. That works alike from 2.5 to 2.17. The API's own
`/runs/RUN/nodes/NODE/artifacts/NAME:read` exists in all of these versions too, but finds only what Argo stored, which
the outputs of v2 pipelines are not; none of these versions hands out signed URLs.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import struct
import urllib.parse
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import kfp_server_api
import urllib3

from .connection import (
    NAMESPACE,
    POD_NAMESPACE,
    TOKEN_FILE,
    UI,
    ClientError,
    Connection,
    Unreachable,
    clean,
    no_answer,
)

OLDEST = (2, 5)
TIMEOUT = (10, 120)  # seconds to connect, to read
PAGE = 100


class Missing(ClientError):
    """404."""


class Conflict(ClientError):
    """409."""


@dataclasses.dataclass(frozen=True)
class Server:
    """What the server tells of itself: its version (major, minor; None if unknown), whether it has several users."""

    version: tuple[int, int] | None
    multi_user: bool


class Session:
    """Requests to a server. Every method raises ClientError with one sentence."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._api = _api_client(connection)
        self._known: Server | None = None

    def server(self) -> Server:
        """Asks the server who it is, once. Raises ClientError if it is none, or too old."""
        if self._known is None:
            host = self.connection.host
            status, body = self._open("GET", host, "/apis/v2beta1/healthz")
            if status == 404:
                raise ClientError(
                    f"{host} answers, but not as Kubeflow Pipelines 2.5 does: name another host, or update it."
                )
            if status != 200:
                raise self._refused(status, body)
            try:
                told = dict(json.loads(body))
            except ValueError:
                raise ClientError(
                    f"{host} answers with a web page, probably to log in: give a token, or name the API server."
                ) from None
            if told.get("apiServerReady") is False:
                raise Unreachable(f"{host} answers, but the API server behind it does not: try again later.")
            tag = re.match(r"v?(\d+)\.(\d+)", str(told.get("tag_name") or told.get("apiServerTagName") or ""))
            version = (int(tag[1]), int(tag[2])) if tag else None
            if version and version < OLDEST:
                raise ClientError(
                    f"{host} runs Kubeflow Pipelines {version[0]}.{version[1]}, which is too old: 2.5 is the oldest "
                    "that works."
                )
            self._known = Server(version, bool(told.get("multi_user")))
        return self._known

    @property
    def namespace(self) -> str | None:
        """Of the user's runs; None where the server has a single user. Raises ClientError if it is not known."""
        if not self.server().multi_user:
            return None
        if self.connection.namespace:
            return self.connection.namespace
        try:
            return pathlib.Path(POD_NAMESPACE).read_text().strip()
        except OSError:
            raise ClientError(
                f"{self.connection.host} has several users: name your namespace with --namespace or {NAMESPACE}."
            ) from None

    def _list(self, call: Callable, field: str, count: int = 10**9, **options: object) -> list:
        """The first `count` of a list that comes in pages."""
        found: list = []
        token = ""
        while True:
            size = min(PAGE, count)
            answer = self._call(call, page_size=size, page_token=token, **_given(options))
            found += getattr(answer, field) or []
            if answer.next_page_token in (None, "", token) or len(found) >= count:
                return found[:count]
            token = answer.next_page_token

    def _call(self, call: Callable, *arguments: object, **options: object) -> Any:
        """A call of kfp-server-api, its errors told as ours."""
        self.server()
        try:
            return call(*arguments, _request_timeout=TIMEOUT, **options)
        except kfp_server_api.ApiException as problem:
            if not problem.status and "SSL" in str(problem.reason):
                raise self._unreachable(problem.reason) from None
            if not problem.status:
                raise self._odd() from None
            raise self._refused(problem.status, problem.body) from None
        except urllib3.exceptions.HTTPError as problem:
            raise self._unreachable(problem) from None
        except (ValueError, TypeError):
            raise self._odd() from None

    def _open(
        self,
        method: str,
        base: str,
        path: str,
        fields: Mapping | None = None,
        body: bytes | None = None,
        kind: str = "",
    ) -> tuple[int, bytes]:
        """A request that kfp-server-api does not know. Returns status and body."""
        headers = {"Content-Type": kind, "Accept": kind, "X-Grpc-Web": "1"} if kind else {}
        token = self._api.configuration.get_api_key_with_prefix("authorization")
        if token:
            headers["authorization"] = token
        query = f"?{urllib.parse.urlencode(fields)}" if fields else ""
        try:
            answer = self._api.rest_client.pool_manager.request(
                method, base + path + query, headers=headers, body=body, timeout=urllib3.Timeout(*TIMEOUT)
            )
        except urllib3.exceptions.HTTPError as problem:
            raise self._unreachable(problem, base) from None
        return answer.status, answer.data

    def _metadata(self, run_id: str, method: str) -> Any:
        """Asks ML Metadata about a run: the answer to one of its Get...ByContext methods."""
        from ml_metadata.proto import metadata_store_service_pb2 as messages

        asked = messages.GetContextByTypeAndNameRequest(type_name="system.PipelineRun", context_name=run_id)
        answer = self._grpc("GetContextByTypeAndName", asked, messages.GetContextByTypeAndNameResponse())
        if not answer.HasField("context"):
            raise ClientError(f"The run {run_id} has not run any node yet.")
        request = getattr(messages, f"{method}Request")(context_id=answer.context.id)
        return self._grpc(method, request, getattr(messages, f"{method}Response")())

    def _grpc(self, method: str, request: Any, answer: Any) -> Any:
        sent = request.SerializeToString()
        status, body = self._open(
            "POST",
            self.connection.ui,
            f"/ml_metadata.MetadataStoreService/{method}",
            body=struct.pack(">BI", 0, len(sent)) + sent,
            kind="application/grpc-web+proto",
        )
        if status in (401, 403):
            raise self._refused(status, body)
        try:
            told = _frames(body) if status == 200 else None
        except (struct.error, ValueError):
            told = None
        if told is None:
            raise ClientError(
                f"{self.connection.ui} does not know what runs have made: name the user interface of Kubeflow "
                f"Pipelines with --ui or {UI}."
            )
        answer.ParseFromString(told)
        return answer

    def _odd(self) -> ClientError:
        return ClientError(f"{self.connection.host} answers what Kubeflow Pipelines would not.")

    def _unreachable(self, problem: object, base: str = "") -> ClientError:
        base = base or self.connection.host
        reason = getattr(problem, "reason", None) or problem
        text = str(reason)
        if isinstance(reason, urllib3.exceptions.SSLError) or "CERTIFICATE" in text or "SSLError" in text:
            if "CERTIFICATE_VERIFY_FAILED" in text:
                return ClientError(f"The certificate of {base} is not trusted: name its authority's with --ca-file.")
            return ClientError(f"{base} does not speak TLS as expected: check whether it is http or https.")
        why = no_answer(reason)
        return Unreachable(f"{base} cannot be reached, {why}: check --host, or whether the port is still forwarded.")

    def _refused(self, status: int, body: object) -> ClientError:
        """The sentence for an answer that is an error."""
        host, token = self.connection.host, self.connection.token
        said = self._said(body)
        if status == 401:
            if token is None:
                return ClientError(f"{host} wants a token: name a file of one with --token-file or {TOKEN_FILE}.")
            return ClientError(f"{host} refuses the token: it may have expired, or be meant for another server.")
        if status == 403:
            where = f" in the namespace {clean(self.connection.namespace)}" if self.connection.namespace else ""
            return ClientError(f"{host} does not allow this{where}: is the namespace right, and may you use it?")
        if status == 404:
            return Missing(f"{host} does not know it: {said}.")
        if status == 409 or "already exist" in said:
            return Conflict(f"{host} refuses ({status}): {said}.")
        if status in (429, 502, 503, 504):
            return Unreachable(f"{host} is not ready ({status}): try again later.")
        return ClientError(f"{host} refuses ({status}): {said}.")

    def _said(self, body: object) -> str:
        """What the server says in an error, as one short line and without the token, should it repeat that."""
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
        try:
            told = json.loads(text)
            text = told.get("message") or told.get("error_message") or told.get("error") or text
        except (ValueError, AttributeError):
            text = "a web page" if is_page(text.encode()) else text
        token = (self._api.configuration.get_api_key_with_prefix("authorization") or "").removeprefix("Bearer ")
        return clean(text.replace(token, "***") if token else text).rstrip(".") or "it does not say why"


def _api_client(connection: Connection) -> kfp_server_api.ApiClient:
    found = kfp_server_api.Configuration()
    found.host = connection.host
    # Redirects, but no second try: urllib3 would log each, and the commands can be called again.
    found.retries = urllib3.Retry(total=None, connect=0, read=0, redirect=5, status=0, other=0)
    for name, value in connection.settings.items():
        setattr(found, name, value)
    if connection.ca_file:
        found.ssl_ca_cert = connection.ca_file
    if not connection.verify:
        found.verify_ssl = False
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)  # it was asked for
    if token := connection.token:

        def refresh(configuration: kfp_server_api.Configuration) -> None:
            configuration.api_key["authorization"] = token()

        found.api_key_prefix["authorization"] = "Bearer"
        found.refresh_api_key_hook = refresh
        refresh(found)
    return kfp_server_api.ApiClient(found)


def _frames(body: bytes) -> bytes:
    """The message in a gRPC-web response. Raises ValueError on an error of the server's."""
    message, place = b"", 0
    while place < len(body):
        kind, size = struct.unpack_from(">BI", body, place)
        part = body[place + 5 : place + 5 + size]
        if len(part) < size:
            raise ValueError
        if kind == 0:
            message += part
        elif kind == 0x80:
            status = re.search(rb"grpc-status:\s*(\d+)", part)
            if status and int(status[1]) not in (0, 5):  # 5: not found, an empty message
                raise ValueError
        else:
            raise ValueError
        place += 5 + size
    return message


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def quote(text: str, safe: str = "") -> str:
    """For a part of a URL."""
    return urllib.parse.quote(text, safe=safe)


def is_page(body: bytes) -> bool:
    """Whether an answer is a web page."""
    return body[:200].lstrip().lower().startswith((b"<!doctype html", b"<html"))
