"""Tells a webhook how a run ended, with the message and the care of `kubeflow.notify`. Imports nothing heavy."""

from __future__ import annotations

import os
import pathlib
import platform
from collections.abc import Mapping

from core import errors, settings
from core.exit_codes import FAILURE, USER_ERROR
from kubeflow import notify
from review import results
from review.report import build

GOOD = ("pushed", "partial")  # states that are no problem
SIGNS = {"pushed": ":white_check_mark:", "partial": ":white_check_mark:", "not pushed": ":warning:"}
SIGNS |= {"waiting": ":hourglass_flowing_sand:"}
BAD = ":x:"


def problem(options: settings.Notify) -> str:
    """Why nobody will be told, in a sentence; "" if somebody will be, or nobody was asked for."""
    if not options.webhook:
        return ""
    try:
        _url(options)
    except notify.NotifyError as why:
        return f"Nobody will be told how the run ends: {why}."
    return ""


def ended(options: settings.Notify, found: Mapping, code: int, folder: pathlib.Path) -> str:
    """Tells of a run that began.

    Args:
        options: whom, and when.
        found: its results.
        code: with which the command ends.
        folder: of the run.

    Returns:
        A sentence if that failed, or "".
    """
    if found["state"] in GOOD and options.when == "problem":
        return ""
    sign = SIGNS.get(found["state"], BAD)
    lines = [
        f"{sign} *{notify.escape(found['run'])}* of {notify.escape(found['name'])}: {_said(results.verdict(found))}"
    ]
    if part := found.get("evaluation"):
        before = "" if part["baseline_accuracy"] is None else f"; the baseline has {part['baseline_accuracy']:.2%}"
        lines.append(f"Test accuracy {part['accuracy']:.2%} of {part['count']:,} examples{before}.")
    place = folder / build.PAGE if (folder / build.PAGE).is_file() else folder
    lines.append(_said(f"On {platform.node()}, exit code {code}: {place}"))
    return _post(options, lines)


def failed(chosen: settings.Settings, why: Exception) -> str:
    """Tells of a run that could not begin, or broke in a way that nobody foresaw; returns as `ended`."""
    words = errors.words(why)
    code = USER_ERROR if words else FAILURE
    lines = [f"{BAD} A run of {notify.escape(chosen.name)}: {_said(words or errors.reason(why))}"]
    lines.append(_said(f"On {platform.node()}, exit code {code}"))
    return _post(chosen.notify, lines)


def _said(text: str) -> str:
    text = notify.escape(text[: notify.LONGEST_TEXT])
    return text if text.endswith(".") or "/" in text.rpartition(" ")[2] else f"{text}."


def _url(options: settings.Notify) -> str:
    return notify.read_url(None if options.variable else options.webhook, options.variable, os.environ)


def _post(options: settings.Notify, lines: list[str]) -> str:
    if not options.webhook:
        return ""
    try:
        notify.post(_url(options), {"text": "\n".join(lines)})
    except notify.NotifyError as why:
        return f"Nobody was told how the run ended: {why}."
    return ""
