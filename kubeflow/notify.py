"""Tells a chat room how a run ended: `python -m kubeflow.notify`, the exit task of a pipeline.

It posts JSON as Slack's incoming webhooks take it, and those of Mattermost, Rocket.Chat and, below `/slack`, Discord.
The webhook's URL is a secret: it comes from an environment variable or a file and is never printed. If the message
cannot be delivered, the task fails only if --required is given.

The standard library is enough, so that the file also runs on a bare Python image.
"""

from __future__ import annotations

import argparse
import email.message
import http.client
import json
import os
import pathlib
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping

VARIABLE = "WEBHOOK_URL"
# KFP hands over the state that ML Metadata has of the tasks before: of a failed run it may still be RUNNING.
SUCCESSFUL = ("COMPLETE", "CACHED", "SUCCEEDED")
WORTH_A_RETRY = (408, 425, 429, 500, 502, 503, 504)
LONGEST_WAIT = 60.0  # seconds, also where a server asks for more
LONGEST_TEXT = 1000  # characters of an error; rooms cut longer messages


class NotifyError(Exception):
    """The message was not delivered; says why, without the URL."""


def main(
    argv: list[str], environ: Mapping[str, str] = os.environ, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Returns 0, or 1 if the message was --required and could not be delivered."""
    options = _parse(argv)
    status = read_status(options.status)
    if status["state"] in SUCCESSFUL and not options.always:
        print(f"The run ended with {status['state']}: nobody is told.")
        return 0
    try:
        url = read_url(options.url_file, options.url_variable, environ)
        post(url, message(status, options), options.timeout, options.attempts, sleep)
    except NotifyError as problem:
        print(f"Nobody was told how the run ended: {problem}.", file=sys.stderr)
        return 1 if options.required else 0
    print(f"Told that the run ended with {status['state']}.")
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kubeflow.notify", description="Tell a webhook how a run ended.")
    parser.add_argument("--status", default="", help="KFP's PipelineTaskFinalStatus as JSON")
    parser.add_argument("--pipeline", default="", help="name of the pipeline")
    parser.add_argument("--run-name", default="", help="default: the one in --status")
    parser.add_argument("--run-id", default="", help="for the link to the run")
    parser.add_argument("--ui", default="", help="address of KFP's user interface, for the link to the run")
    parser.add_argument("--url-variable", default=VARIABLE, help="environment variable with the webhook's URL")
    parser.add_argument("--url-file", help="file with the webhook's URL, instead of the variable")
    parser.add_argument("--always", action="store_true", help="also tell of runs that succeeded")
    parser.add_argument("--required", action="store_true", help="fail if the message cannot be delivered")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the server (%(default)s)")
    parser.add_argument("--attempts", type=int, default=5, help="how often to try (%(default)s)")
    options = parser.parse_args(argv)
    if options.attempts < 1 or not 0 < options.timeout <= 600:
        parser.error("--attempts must be at least 1, --timeout between 0 and 600 seconds")
    return options


def read_status(text: str) -> dict[str, str]:
    """KFP's PipelineTaskFinalStatus: `state`, `run` and `error`, each "" where unknown; state "UNKNOWN".

    A text that is none is no reason to be silent: something went wrong, then.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        found = {}
    error = found.get("error")
    said = error.get("message", "") if isinstance(error, dict) else ""
    return {
        "state": str(found.get("state") or "UNKNOWN"),
        "run": str(found.get("pipelineJobResourceName") or ""),
        "error": str(said or ""),
    }


def read_url(file: str | None, variable: str, environ: Mapping[str, str]) -> str:
    """The webhook's URL. Raises NotifyError if there is none, or it is not one of http or https."""
    if file:
        try:
            url = pathlib.Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise NotifyError(f"the file {file} with the webhook's URL cannot be read ({_kind(problem)})") from None
    else:
        url = environ.get(variable, "").strip()
    where = f"the file {file}" if file else f"the variable {variable}"
    if not url:
        raise NotifyError(f"{where} is empty; it should hold the webhook's URL")
    try:
        parts = urllib.parse.urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.username is not None or not url.isascii() or any(c <= " " for c in url):
        raise NotifyError(f"{where} holds no URL of http or https")
    return url


def message(status: Mapping[str, str], options: argparse.Namespace) -> dict[str, str]:
    """What is posted: {"text": ...}, in Slack's markup."""
    run = options.run_name or status["run"] or options.run_id or "a run"
    of = f" of {escape(options.pipeline)}" if options.pipeline else ""
    name = f"*{escape(run)}*{of}"
    if status["state"] in SUCCESSFUL:
        lines = [f":white_check_mark: {name} succeeded."]
    else:
        lines = [f":x: {name} did not succeed (state {escape(status['state'])})."]
    if status["error"]:
        lines.append(escape(status["error"][:LONGEST_TEXT]))
    if options.ui.startswith(("http://", "https://")) and options.run_id:
        page = f"{options.ui.rstrip('/')}/#/runs/details/{urllib.parse.quote(options.run_id, safe='')}"
        page = urllib.parse.quote(page, safe="%/:?#[]@!$'()*+,;=~&").replace("&", "&amp;")
        lines.append(f"<{page}|Open the run>")
    return {"text": "\n".join(lines)}


def post(
    url: str,
    content: Mapping[str, object],
    timeout: float = 10.0,
    attempts: int = 5,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Posts `content` as JSON; tries again, after 1, 2, 4, ... seconds or as the server asks.

    Redirects are refused: they would carry the message to who knows where.

    Raises:
        NotifyError: not delivered.
    """
    request = urllib.request.Request(
        url,
        json.dumps(content).encode(),
        {"Content-Type": "application/json; charset=utf-8", "User-Agent": "kubeflow-notify"},
        method="POST",
    )
    opener = urllib.request.build_opener(_NoRedirects)
    for attempt in range(1, attempts + 1):
        wait = min(2.0 ** (attempt - 1), LONGEST_WAIT)
        try:
            with opener.open(request, timeout=timeout):
                return
        except urllib.error.HTTPError as answer:
            problem = f"the webhook answered {answer.code}"
            wait = _asked_for(answer.headers, wait)
            answer.close()
            if 300 <= answer.code < 400:
                raise NotifyError(f"{problem}, a redirect, which is not followed") from None
            if answer.code not in WORTH_A_RETRY:
                raise NotifyError(problem) from None
        except (OSError, http.client.HTTPException) as error:
            problem = f"the webhook cannot be reached ({_kind(error)})"
        except Exception as error:  # its text may hold the URL, and a traceback would print it
            raise NotifyError(f"the webhook cannot be called ({type(error).__name__})") from None
        if attempt < attempts:
            print(f"{problem[0].upper()}{problem[1:]}; trying again in {wait:g} s.", file=sys.stderr)
            sleep(wait)
    raise NotifyError(f"{problem}, {attempts} times" if attempts > 1 else problem)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None  # urllib raises HTTPError then


def _asked_for(headers: email.message.Message, wait: float) -> float:
    """The seconds of the header Retry-After, else `wait`."""
    text = headers.get("Retry-After", "")
    return min(max(float(text), wait), LONGEST_WAIT) if text.isdecimal() else wait


def _kind(error: BaseException) -> str:
    """What went wrong, in words that cannot hold the URL."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        error = reason
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "its name is unknown"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return type(error).__name__


def escape(text: str) -> str:
    """Text for Slack: no mention, link or further line can come of it."""
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
