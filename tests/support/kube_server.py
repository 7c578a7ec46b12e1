"""Answers of Kubernetes' API server, replayed over HTTP or passed on from a real one; kubeconfigs."""

import contextlib
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml


def request(method, path, query=(), body=None):
    """What tells requests apart: the order of a query and of keys does not."""
    query = sorted(pair for pair in dict(query).items() if pair[0] != "limit")
    return json.dumps([method, path, query, body], sort_keys=True)


def failure(status, reason, message):
    """An error in the form of Kubernetes."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason} | {
        "code": status
    }


class KubeServer:
    """Starts when entered.

    Attributes:
        answers: what `request` makes of a request -> status and JSON; all else is a 404.
        requests: "METHOD /path" of all requests, in order.
        allowed: the tokens that are let in; all, if None.
        upstream: what answers instead, and with which SSL context; its answers are kept.
    """

    def __init__(self, answers=(), allowed=None, upstream=None):
        self.answers = dict(answers)
        self.upstream = upstream
        self.requests = []
        self.allowed = allowed

    def say(self, path, answer, query=(), method="GET", body=None, status=200):
        """Answers a request so."""
        self.answers[request(method, path, query, body)] = status, answer

    def __enter__(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16

            def log_message(self, *_):
                pass

            def handle_one_request(self):
                with contextlib.suppress(ConnectionError):
                    super().handle_one_request()

            def do_GET(self):
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                parts = urllib.parse.urlsplit(self.path)
                query = urllib.parse.parse_qsl(parts.query)
                server.requests.append(f"{self.command} {parts.path}")
                token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                unknown = 404, failure(404, "NotFound", "the server could not find the requested resource")
                asked = request(self.command, parts.path, query, body)
                if server.upstream:
                    server.answers[asked] = server.pass_on(self.command, self.path, body, token)
                status, answer = server.answers.get(asked, unknown)
                if server.allowed is not None and token not in server.allowed:
                    status, answer = 401, failure(401, "Unauthorized", "Unauthorized")
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def pass_on(self, method, path, body, token):
        url, trusted = self.upstream
        content = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            asked = urllib.request.Request(url + path, content, headers, method=method)
            with urllib.request.urlopen(asked, context=trusted) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as problem:
            told = problem.read().decode()
            return problem.code, json.loads(told) if told.startswith("{") else {"message": told.strip()}

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


def kubeconfig(path, url, namespace=None, token="a-token", contexts=("here",)):
    """Writes a kubeconfig; returns the environment that names it."""
    context = {"cluster": "cluster", "user": "user"} | ({"namespace": namespace} if namespace else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": {"server": url}}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": name, "context": context} for name in contexts],
        "current-context": contexts[0],
    }
    path.write_text(yaml.safe_dump(config))
    return {"KUBECONFIG": str(path)}
