"""A server that answers as the REST interface of Flink 1.19.3 did, for states that a real cluster is rarely in.

The real one is in tests/engines/test_flink_run.py.
"""

import contextlib
import http.server
import json
import threading
import urllib.parse

ANSWERS = {
    "config": {"flink-version": "1.19.3", "flink-revision": "4105f8d @ 2025-06-12T18:34:28+02:00"},
    "overview": {"taskmanagers": 2, "slots-total": 2, "slots-available": 2, "flink-version": "1.19.3"},
    "taskmanagers": {
        "taskmanagers": [
            {
                "id": f"localhost:4367{number}",
                "slotsNumber": 1,
                "memoryConfiguration": {"networkMemory": 134217730, "taskOffHeap": 512 << 20},
            }
            for number in range(2)
        ]
    },
    "jobmanager/config": [{"key": "taskmanager.network.sort-shuffle.min-buffers", "value": "16"}],
    "jobs/overview": {"jobs": []},
}


def job(number, name, state="RUNNING"):
    return {"jid": f"{number:032x}", "name": name, "state": state, "start-time": number}


@contextlib.contextmanager
def flink(*jobs, unending=False, **changes):
    """Yields the address, and the requests that changed something.

    Args:
        *jobs: those that there are.
        unending: whether they go on although they are cancelled.
        **changes: values of the answer `overview`, and "answers", whole other answers by their path.
    """
    answers = ANSWERS | changes.pop("answers", {})
    answers["overview"] = answers["overview"] | changes
    answers["jobs/overview"] = {"jobs": list(jobs)}
    changed = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = urllib.parse.urlsplit(self.path).path.removeprefix("/v1/")
            for each in jobs:  # asked for again, a job that is being cancelled has ended
                if each["state"] == "CANCELLING" and path == "jobs/overview" and each.pop("seen", False):
                    each["state"] = "CANCELED"
                elif each["state"] == "CANCELLING":
                    each["seen"] = True
            self.answer(200, answers[path]) if path in answers else self.answer(404, {"errors": ["Not found."]})

        def do_PATCH(self):
            changed.append(self.path)
            for each in jobs:
                if each["jid"] in self.path and not unending:
                    each["state"] = "CANCELLING"
            self.answer(202, {})

        def answer(self, code, content):
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", changed
    finally:
        server.shutdown()
        server.server_close()
