"""A webhook: a real HTTP server on this machine."""

import contextlib
import http.server
import json
import threading

SECRET = "T000/B000/s3cr3tt0ken"


class Server(http.server.ThreadingHTTPServer):
    """Answers POSTs with what is in `answers`, the last one for ever; keeps what it got in `got`."""

    daemon_threads = True

    def __init__(self):
        self.answers, self.got, self.hung = [(200, {})], [], threading.Event()
        self.came = threading.Condition()
        super().__init__(("127.0.0.1", 0), Handler)

    def wait_for(self, count):
        """Returns when so many requests are there: a client that gives up may be faster than this server."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.got) >= count, timeout=60)

    def url(self, path=f"/services/{SECRET}"):
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.came:
            self.server.got.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.server.came.notify_all()
        status, headers = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        if status == "hang":
            self.server.hung.wait(30)
            return
        if status == "garbage":
            self.wfile.write(b"\x00\x01 no HTTP\r\n\r\n")
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def running():
    """A server that answers until the block ends."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.hung.set()
        server.shutdown()
        thread.join()
