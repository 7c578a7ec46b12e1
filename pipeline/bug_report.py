"""What `alexnet doctor --bug-report` prints: Markdown with what a maintainer asks first, and no secrets.

Of environment variables the names alone are told. Home folders are shortened, and what looks like a secret is masked
wherever it stands: users and passwords in addresses, what comes after "?", and values of variables named as secrets.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from core.workdir import Unreadable, Workdir
from kubeflow.findings import Finding
from pipeline import doctor

if TYPE_CHECKING:
    from core.settings import Settings

PACKAGES = (
    "tfx",
    "tensorflow",
    "keras",
    "apache-beam",
    "ml-metadata",
    "tensorflow-model-analysis",
    "numpy",
    "protobuf",
)
# Variables that change what a run does.
TELLING = (
    r"^(ALEXNET|AWS|AZURE|BEAM|CUDA|GOOGLE|KERAS|KF_|KUBE|LD_|NVIDIA|OMP|PYTHON|TF|XLA|https?_proxy|no_proxy|TMPDIR)"
)
SECRET = r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|WEBHOOK|AUTH|SIGNATURE"
SHORTEST = 6  # letters of a value that is masked: shorter ones stand in every text
LINES = 30  # of a log
MASK = "***"


def text(findings: Sequence[Finding], chosen: Settings | None, workdir: Workdir) -> str:
    """The report; to be completed by who sends it."""
    parts = [
        "### What happened\n\n(What you did, what you expected, and what came instead.)",
        f"### What `alexnet doctor` says\n\n{fenced(line for one in findings for line in lines(one))}",
        f"### Versions\n\n{fenced(versions())}",
        f"### Environment variables that are set\n\n{', '.join(variables(os.environ)) or 'none that count'}",
    ]
    if chosen is not None:
        parts.append(f"### Settings that are not the default\n\n{fenced(changed(chosen))}")
    parts.append(f"### The last run\n\n{last_run(workdir)}")
    return without_secrets("\n\n".join(parts), os.environ) + "\n"


def lines(found: Finding) -> list[str]:
    """A finding as the command shows it."""
    return [
        f"{found.state:<7}  {found.subject}: {found.text}",
        *(f"         -> {one}" for one in found.mend.splitlines()),
    ]


def versions() -> list[str]:
    """Of this project, of Python, of the system and of the packages that matter most."""
    made = [f"alexnet-pipeline {_version('alexnet-pipeline')}{_commit()}", f"Python {platform.python_version()}"]
    made.append(
        f"{platform.system()} {platform.release()} {platform.machine()}, {' '.join(platform.libc_ver())}".strip()
    )
    with contextlib.suppress(OSError, AttributeError):
        made.append(platform.freedesktop_os_release().get("PRETTY_NAME", ""))
    made.append(f"{os.cpu_count()} processors")
    return [*filter(None, made), *(f"{name} {_version(name)}" for name in PACKAGES)]


def variables(environ: Mapping[str, str]) -> list[str]:
    """The names of those that are set and may change what a run does."""
    return sorted(name for name in environ if re.match(TELLING, name, re.IGNORECASE))


def changed(chosen: Settings) -> list[str]:
    """Settings that have another value than the default."""
    found, default = chosen.model_dump(mode="json"), type(chosen)().model_dump(mode="json")
    return [
        f"{group}.{name}={value}"
        for group, values in found.items()
        for name, value in values.items()
        if value != default[group][name]
    ] or ["none"]


def last_run(workdir: Workdir) -> str:
    """How it ended, and the end of its log."""
    records = workdir.records()
    if not records:
        return f"There is none in {workdir.path}."
    run, _, found = records[-1]
    if isinstance(found, Unreadable):
        told = [found.sentence]
    elif found is None:
        told = [f"Run {run} has not ended: it is under way, or was killed."]
    else:
        nodes = ", ".join(f"{name} {node['state']}" for name, node in found["nodes"].items())
        told = [f"Run {run}: {found['state']}", *filter(None, [found.get("error")]), f"Nodes: {nodes or 'none'}"]
        told += found.get("notes", [])
    with contextlib.suppress(OSError):
        log = (workdir.run(run) / "log.txt").read_text(errors="replace").splitlines()
        told += ["", f"The end of its log, {min(len(log), LINES)} of {len(log)} lines:", *log[-LINES:]]
    return fenced(told)


def fenced(text: Iterable[str]) -> str:
    """Lines as a block of code."""
    return "\n".join(["```", *(line.replace("```", "'''") for line in text), "```"])


def without_secrets(text: str, environ: Mapping[str, str]) -> str:
    """The same with home folders shortened, and what looks like a secret masked."""
    secrets = [value for name, value in environ.items() if re.search(SECRET, name, re.IGNORECASE)]
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= SHORTEST:
            text = text.replace(value, MASK)
    text = re.sub(r"(\w://)[^/\s@]+@", rf"\1{MASK}@", text)
    text = re.sub(r"(\w://[^\s?\"'<>)]+)\?[^\s\"'<>)]+", rf"\1?{MASK}", text)
    text = re.sub(r"(hooks\.slack\.com|/services|/webhooks|/hooks)/[^\s\"'<>)]+", rf"\1/{MASK}", text)
    for home in sorted({os.path.expanduser("~"), os.path.realpath(os.path.expanduser("~"))}, key=len, reverse=True):
        if home.strip("/"):
            text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    return re.sub(r"(?<![\w.])/(home|Users)/[^/\s\"']+", "~", text)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "is not there"


def _commit() -> str:
    """Of the checkout, and whether it was changed; "" for an installed package."""
    if not pathlib.Path(doctor.ROOT, ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(doctor.ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f", commit {done.stdout.strip()}" if not done.returncode else ""
