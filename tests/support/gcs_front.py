"""What fake-gcs-server lacks of Google Cloud Storage: the XML API for writing, which obstore uses, and credentials.

A server in front of it that asks for a service account's token and makes of each request one of the JSON API, which
the emulator has in full. What it stores, lists, refuses and who of several writers wins is the emulator's doing.
"""

import base64
import http.server
import json
import secrets
import threading
import urllib.parse
from xml.sax.saxutils import escape

import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

EMAIL = "tests@project.iam.gserviceaccount.com"


def new_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_file(path, key, token_uri):
    """Writes what GOOGLE_APPLICATION_CREDENTIALS names."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "client_email": EMAIL,
                "private_key_id": "1",
                "private_key": pem.decode(),
                "token_uri": token_uri,
            }
        )
    )
    return str(path)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Front:
    """The server; `url` is what GOOGLE_BASE_URL names."""

    def __init__(self, backend, key):
        """Args:
        backend: URL of fake-gcs-server.
        key: the private key of the one service account that there is.
        """
        self.backend, self.key = backend, key
        self.tokens, self.uploads = set(), {}
        self._server = _Server(("127.0.0.1", 0), type("Of", (_Handler,), {"front": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: Front

    def log_message(self, *arguments):
        pass

    def handle_any(self):
        path, _, query = self.path.partition("?")
        self.bucket, _, self.key = path.removeprefix("/").partition("/")
        self.bucket, self.key = urllib.parse.unquote(self.bucket), urllib.parse.unquote(self.key)
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if path == "/token":
                self.grant()
            elif self.headers.get("Authorization", "").removeprefix("Bearer ") not in self.front.tokens:
                self.refuse(401, "AuthenticationRequired", "Authentication required.")
            else:
                getattr(self, f"on_{self.command}")()
        except requests.ConnectionError:  # the emulator is gone, and with it what stands in front of it
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def grant(self):
        """OAuth's answer to a signed claim (RFC 7523)."""
        assertion = dict(urllib.parse.parse_qsl(self.body.decode()))["assertion"]
        signed, _, signature = assertion.rpartition(".")
        try:
            given = base64.urlsafe_b64decode(signature + "==")
            public = self.front.key.public_key()
            public.verify(given, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except Exception:
            said = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
            return self.answer(400, json.dumps(said).encode(), {"Content-Type": "application/json"})
        token = secrets.token_hex()
        self.front.tokens.add(token)
        said = {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}
        return self.answer(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def on_GET(self):
        if not self.key:
            return self.list()
        status = self.ask("HEAD", self.object())
        asked = self.headers.get("If-Match")
        if status.ok and asked and asked != status.headers["ETag"]:
            return self.refuse(412, "PreconditionFailed", "The object is another.")
        passed = {name: self.headers[name] for name in ("Range",) if name in self.headers}
        return self.pass_on(self.ask(self.command, self.object(), headers=passed))

    on_HEAD = on_GET

    def on_DELETE(self):
        if self.front.uploads.pop(self.query.get("uploadId"), None) is not None:
            return self.answer(204)
        return self.pass_on(self.ask("DELETE", self.object()))

    def on_PUT(self):
        if upload := self.query.get("uploadId"):
            etag = f'"{secrets.token_hex(8)}"'
            self.front.uploads[upload][int(self.query["partNumber"])] = self.body
            return self.answer(200, b"", {"ETag": etag})
        if source := self.headers.get("x-goog-copy-source"):
            bucket, _, key = urllib.parse.unquote(source).removeprefix("/").partition("/")
            names = [urllib.parse.quote(name, safe="") for name in (bucket, key, self.bucket, self.key)]
            done = self.ask("POST", "/storage/v1/b/{}/o/{}/rewriteTo/b/{}/o/{}".format(*names))
            return self.pass_on(done) if done.ok else self.refuse(404, "NoSuchKey", "No such object.")
        return self.write(self.body, self.headers.get("x-goog-if-generation-match"))

    def on_POST(self):
        if "uploads" in self.query:
            upload = secrets.token_hex()
            self.front.uploads[upload] = {}
            names = f"<Bucket>{self.bucket}</Bucket><Key>{escape(self.key)}</Key><UploadId>{upload}</UploadId>"
            said = f"<InitiateMultipartUploadResult>{names}</InitiateMultipartUploadResult>"
            return self.answer(200, said.encode())
        parts = self.front.uploads.pop(self.query["uploadId"])
        return self.write(b"".join(parts[number] for number in sorted(parts)), None, completing=True)

    def write(self, body, generation, completing=False):
        query = {"uploadType": "media", "name": self.key}
        if generation is not None:
            query["ifGenerationMatch"] = generation
        done = self.ask("POST", f"/upload/storage/v1/b/{self.bucket}/o", params=query, data=body)
        if done.status_code == 412:
            return self.refuse(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
        if not done.ok:
            return self.missing()
        etag = f'"{done.json()["etag"]}"'
        headers = {"ETag": etag, "x-goog-generation": done.json()["generation"]}
        said = f"<CompleteMultipartUploadResult><ETag>{escape(etag)}</ETag></CompleteMultipartUploadResult>"
        return self.answer(200, said.encode() if completing else b"", headers)

    def list(self):
        asked = {"prefix": self.query.get("prefix", ""), "delimiter": self.query.get("delimiter", "")}
        if after := self.query.get("continuation-token"):
            asked["pageToken"] = after
        found = self.ask("GET", f"/storage/v1/b/{self.bucket}/o", params={**asked, "maxResults": 1000})
        if not found.ok:
            return self.missing()
        page = found.json()
        said = "".join(
            f"<Contents><Key>{escape(one['name'])}</Key><LastModified>{one['updated']}</LastModified>"
            f'<ETag>"{one["etag"]}"</ETag><Size>{one["size"]}</Size></Contents>'
            for one in page.get("items", [])
        )
        said += "".join(
            f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in page.get("prefixes", [])
        )
        if more := page.get("nextPageToken"):
            said += f"<NextContinuationToken>{escape(more)}</NextContinuationToken>"
        return self.answer(200, f"<ListBucketResult>{said}</ListBucketResult>".encode())

    def object(self):
        return f"/{self.bucket}/{urllib.parse.quote(self.key, safe='')}"

    def ask(self, method, path, **options):
        return requests.request(method, self.front.backend + path, timeout=60, **options)

    def pass_on(self, got):
        names = ("ETag", "Last-Modified", "Content-Range", "x-goog-generation")
        headers = {name: got.headers[name] for name in names if name in got.headers}
        if self.command == "HEAD":
            headers["Content-Length"] = got.headers["Content-Length"]
        return self.answer(got.status_code, got.content, headers)

    def missing(self):
        return self.refuse(404, "NoSuchBucket", "The specified bucket does not exist.")

    def refuse(self, status, code, message):
        return self.answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
