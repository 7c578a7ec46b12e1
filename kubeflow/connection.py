"""Where a server of Kubeflow Pipelines is, and how to be let in."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import ssl
import urllib.parse
from collections.abc import Callable, Mapping

HOST = "KF_PIPELINES_ENDPOINT"  # as kfp's own client
UI = "KF_PIPELINES_UI_ENDPOINT"
TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"
TOKEN = "KFP_EXISTING_TOKEN"  # as kfp's own command line
NAMESPACE = "KFP_NAMESPACE"
POD_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
POD_TOKEN = "/var/run/secrets/kubeflow/pipelines/token"
INSTALLED_IN = "kubeflow"


class ClientError(Exception):
    """What the user can mend, in one sentence."""


class Unreachable(ClientError):
    """The server did not answer, or not now."""


@dataclasses.dataclass(frozen=True)
class Connection:
    """Where the server is and how to be let in. Shows no secret: the token is read when it is needed.

    Attributes:
        host: base URL of the API server or of the user interface, which passes API calls on.
        ui: base URL of the user interface, for links, files and logs.
        namespace: of the user's runs, where the server has several users; None for that of this pod.
        token: gives the bearer token, or None for none.
        ca_file: certificates to trust instead of the public ones.
        verify: whether certificates are checked.
        settings: further fields of kfp_server_api.Configuration, from a kubeconfig.
    """

    host: str
    ui: str
    namespace: str | None = None
    token: Callable[[], str] | None = dataclasses.field(default=None, repr=False)
    ca_file: str | None = None
    verify: bool = True
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict, repr=False)


def connect(
    host: str | None = None,
    ui: str | None = None,
    namespace: str | None = None,
    token_file: str | None = None,
    ca_file: str | None = None,
    verify: bool = True,
    environ: Mapping[str, str] = os.environ,
    context: str | None = None,
) -> Connection:
    """Finds the server: as told, else by environment variables, else from within the cluster, else by kubeconfig.

    A token comes from `token_file`, the file that KF_PIPELINES_SA_TOKEN_PATH names, the variable KFP_EXISTING_TOKEN,
    or, if no server is named, the one that a pod gets for Kubeflow Pipelines. It is never an argument: others could
    see it. `context` is of the kubeconfig, its current one if not given.

    Raises:
        ClientError: no server is named, or a file is not there.
    """
    if ca_file:
        try:
            ssl.create_default_context(cafile=ca_file)
        except OSError:
            raise ClientError(f"{ca_file} is not a file of certificates.") from None
    namespace = namespace or environ.get(NAMESPACE) or None
    host = host or environ.get(HOST)
    token = _token(token_file or environ.get(TOKEN_FILE), environ.get(TOKEN), bool(host))
    settings: Mapping[str, object] = {}
    if host:
        host = _url(host)
    elif environ.get("KUBERNETES_SERVICE_HOST") and not context:
        host = f"http://ml-pipeline.{INSTALLED_IN}.svc.cluster.local:8888"
        ui = ui or environ.get(UI) or f"http://ml-pipeline-ui.{INSTALLED_IN}.svc.cluster.local"
    else:
        cluster, settings = _kubeconfig(environ, context)
        service = f"{cluster}/api/v1/namespaces/{INSTALLED_IN}/services/"
        host, ui = f"{service}ml-pipeline:http/proxy", ui or environ.get(UI) or f"{service}ml-pipeline-ui:http/proxy"
    return Connection(host, _url(ui or environ.get(UI) or host), namespace, token, ca_file, verify, settings)


def _token(path: str | None, given: str | None, named: bool) -> Callable[[], str] | None:
    """What gives the token, tried once: a file, else a given one, else the pod's, which only its own server gets."""
    place = path or POD_TOKEN
    if path:
        given = None
    elif not given and (named or not pathlib.Path(POD_TOKEN).is_file()):
        return None

    def read() -> str:  # each time, as Kubernetes replaces the file before the token expires
        try:
            token = (given or pathlib.Path(place).read_text(encoding="utf-8")).strip()
        except (OSError, UnicodeDecodeError):
            raise ClientError(f"The token file {place} cannot be read.") from None
        if not re.fullmatch(r"[!-~]+", token):
            where = f"The variable {TOKEN}" if given else f"The token file {place}"
            raise ClientError(f"{where} does not hold a token.")
        return token

    read()
    return read


def _kubeconfig(environ: Mapping[str, str], context: str | None) -> tuple[str, Mapping[str, object]]:
    """The API server of Kubernetes, and how to log in, of a context."""
    missing = f"No server is named: give --host, set {HOST}, or have a kubeconfig for the cluster."
    files = environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    if not any(os.path.isfile(file) for file in files.split(os.pathsep)):  # the import below takes seconds
        raise ClientError(missing)
    import kubernetes.client
    import kubernetes.config

    found = kubernetes.client.Configuration()
    try:
        kubernetes.config.load_kube_config(config_file=files, context=context, client_configuration=found)
    except Exception:  # it raises many kinds
        raise ClientError(
            f"The kubeconfig {files} has no context {clean(context)}, or cannot be read." if context else missing
        ) from None
    names = [
        "api_key",
        "api_key_prefix",
        "refresh_api_key_hook",
        "ssl_ca_cert",
        "cert_file",
        "key_file",
        "verify_ssl",
    ]
    return found.host.rstrip("/"), {name: getattr(found, name) for name in names}


def _url(text: str) -> str:
    text = text if re.match(r"https?://", text) else f"https://{text}"
    try:
        parts = urllib.parse.urlsplit(text)
        parts.port  # noqa: B018 - raises
    except ValueError:
        raise ClientError(f"{clean(text)} is not the address of a server.") from None
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ClientError("The host must be an address such as https://kubeflow.example.org/pipeline, with no more.")
    return text.rstrip("/")


def no_answer(reason: object) -> str:
    """Why urllib3 got no answer, for a sentence."""
    import urllib3

    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return "there is no such name"
    if "refused" in str(reason):
        return "nothing listens there"
    if isinstance(reason, urllib3.exceptions.TimeoutError):
        return "it does not answer in time"
    return "the connection broke"


def clean(text: object, most: int = 300) -> str:
    """On one line, without what a terminal would obey, and not endless."""
    line = " ".join(str(text).split())
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    return line if len(line) <= most else line[: most - 1] + "…"
