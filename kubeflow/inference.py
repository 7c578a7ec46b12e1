"""Serves a pushed model with KServe: `python -m kubeflow.inference` writes an InferenceService, or applies it.

    python -m kubeflow.inference --name alexnet --storage-uri pvc://alexnet/serving/shapes10 | kubectl apply -f -

In a pod, `--apply` does the same without kubectl, as the pod's service account. Applying twice changes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import ssl
import string
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

import yaml

TEMPLATE = pathlib.Path(__file__).resolve().parent / "manifests" / "inference-service.template.yaml"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # where Kubernetes mounts token, namespace and certificate
API = "/apis/serving.kserve.io/v1beta1/namespaces/{namespace}/inferenceservices/{name}"
MANAGER = "kubeflow-inference"
NAME = re.compile(r"[a-z]([a-z0-9-]{0,51}[a-z0-9])?")  # KServe makes longer names and host names of it
SCHEMES = ("pvc", "s3", "gs", "http", "https", "hdfs", "webhdfs", "oci", "hf")


class InferenceError(Exception):
    """What the user can mend, in one sentence."""


def render(
    name: str, storage_uri: str, version: str = "", template: pathlib.Path = TEMPLATE, namespace: str = ""
) -> dict:
    """An InferenceService from a template in YAML, with `$name`, `$storage_uri` and `$version` filled in.

    They are filled into the values, not into the text, so that none of them can change the form.

    Raises:
        InferenceError: an illegal name or URI, or a template that is none.
    """
    if not NAME.fullmatch(name):
        raise InferenceError(
            f"The name {name!r} is illegal: use up to 53 of a-z, 0-9 and -, beginning with a letter."
        )
    storage_uri = as_kserve_calls_it(storage_uri)
    scheme, mark, rest = storage_uri.partition("://")
    if scheme not in SCHEMES or not mark or not rest or re.search(r"\s", storage_uri):
        raise InferenceError(
            f"{storage_uri!r} is no URI that KServe reads, such as pvc://CLAIM/FOLDER or s3://BUCKET/FOLDER."
        )
    values = {"name": name, "storage_uri": storage_uri, "version": version}
    try:
        tree = yaml.safe_load(template.read_text())
        service = _fill(tree, values)
        if (service["apiVersion"].partition("/")[0], service["kind"]) != ("serving.kserve.io", "InferenceService"):
            raise InferenceError(f"{template} is no InferenceService of serving.kserve.io.")
        if service["metadata"]["name"] != name:
            raise InferenceError(f"{template} must have $name as its metadata.name.")
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as problem:
        raise InferenceError(
            f"{template} cannot be used as a template: {type(problem).__name__}: {problem}."
        ) from None
    if namespace:
        service["metadata"]["namespace"] = namespace
    return service


def as_kserve_calls_it(uri: str, environ: Mapping[str, str] = os.environ) -> str:
    """A folder's URI as KServe reads it: az://CONTAINER/FOLDER becomes https://ACCOUNT.blob.core.windows.net/...

    The account is that of AZURE_STORAGE_ACCOUNT_NAME, as everywhere. Raises InferenceError where there is none.
    """
    if not uri.startswith("az://"):
        return uri
    account = environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise InferenceError(
            f"KServe reads {uri} as https://ACCOUNT.blob.core.windows.net/...: set AZURE_STORAGE_ACCOUNT_NAME."
        )
    return f"https://{account}.blob.core.windows.net/{uri.removeprefix('az://')}"


def apply(
    service: Mapping, account: pathlib.Path = pathlib.Path(ACCOUNT), environ: Mapping[str, str] = os.environ
) -> None:
    """Creates or updates the InferenceService, from within a pod, by Kubernetes' server-side apply.

    Raises:
        InferenceError: not in a pod, no KServe, no right to do it, or refused.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        token = (account / "token").read_text().strip()
        namespace = service["metadata"].get("namespace") or (account / "namespace").read_text().strip()
        trusted = ssl.create_default_context(cafile=str(account / "ca.crt"))
    except (OSError, ssl.SSLError):
        token = ""
    if not (host and token):
        raise InferenceError("This is no pod with a service account: write the manifest and use kubectl apply -f.")
    host = f"[{host}]" if ":" in host else host
    path = API.format(namespace=urllib.parse.quote(namespace, safe=""), name=service["metadata"]["name"])
    request = urllib.request.Request(
        f"https://{host}:{port}{path}?fieldManager={MANAGER}&force=true",
        json.dumps(service).encode(),
        # JSON is YAML; of this content type every server knows YAML.
        {
            "Content-Type": "application/apply-patch+yaml",
            "Accept": "application/json",
            "Authorization": f"Bearer {token}",
        },
        method="PATCH",
    )
    # No proxy: the server is that of the cluster.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
    )
    try:
        opener.open(request, timeout=30).close()
    except urllib.error.HTTPError as answer:
        raise InferenceError(_refused(answer, namespace)) from None
    except OSError as problem:
        reason = getattr(problem, "reason", problem)
        raise InferenceError(f"The Kubernetes API cannot be reached: {reason}.") from None


def main(argv: list[str]) -> int:
    """Returns an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m kubeflow.inference", description="Serve a pushed model with KServe."
    )
    parser.add_argument("--name", required=True, help="of the InferenceService, and of the model in its URL")
    parser.add_argument(
        "--storage-uri",
        required=True,
        help="folder of the numbered versions: pvc://CLAIM/FOLDER, s3://..., gs://..., az://...",
    )
    parser.add_argument("--version", default="", help="of the model; a new one starts the server anew")
    parser.add_argument("--namespace", default="", help="default: that of the pod, or of kubectl")
    parser.add_argument("--template", type=pathlib.Path, default=TEMPLATE, help="default: %(default)s")
    parser.add_argument("--apply", action="store_true", help="apply it, in a pod; otherwise it is printed")
    options = parser.parse_args(argv)
    try:
        service = render(options.name, options.storage_uri, options.version, options.template, options.namespace)
        if options.apply:
            apply(service)
            print(f"Applied the InferenceService {options.name}.")
        else:
            print(yaml.safe_dump(service, sort_keys=False), end="")
    except InferenceError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


def _fill(tree: Any, values: Mapping[str, str]) -> Any:
    """`tree` with the placeholders in its texts replaced. Raises KeyError or ValueError for an unknown one."""
    if isinstance(tree, dict):
        return {key: _fill(value, values) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_fill(value, values) for value in tree]
    return string.Template(tree).substitute(values) if isinstance(tree, str) else tree


def _refused(answer: urllib.error.HTTPError, namespace: str) -> str:
    with answer:
        body = answer.read(1 << 16)
    try:
        said = str(json.loads(body)["message"])[:500].rstrip(".")
    except (ValueError, KeyError, TypeError):
        said = ""
    # Of a group of resources that it does not have, kube-apiserver 1.35 says so as plain text.
    if answer.code == 404 and (not said or "not find the requested resource" in said):
        return "This cluster has no KServe: install it, or leave out --apply."
    if answer.code in (401, 403):
        return f"The pod's service account may not apply an InferenceService in {namespace}: {said}."
    return f"Kubernetes refused the InferenceService: {said or f'HTTP status {answer.code}'}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
