"""Calls that are killed (SIGKILL) at each of their steps in turn, in processes of their own.

    python killed.py FOLDER WORK {"NAME": "MODULE:FUNCTION", ...}

Calls each FUNCTION(COPY) with fresh copies of FOLDER in WORK: first killed before its first step, and so on until one
ends by itself; prints a line of JSON for each. A step is a call that changes or opens files. Of what is written and
copied, half is done before the kill in a second try.
"""

import importlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import traceback

STEPS = ("fileio.makedirs", "fileio.open", "fileio.rename", "fileio.remove", "io_utils.copy_dir")
SYSTEM = ("write", "fsync", "ftruncate", "replace", "rmdir", "unlink")
HALVED = ("write", "copy_dir")


def everywhere(calls, folder, work):
    """Name -> [{"folder": path, "killed": whether it was, "step": which}] of all tries."""
    command = [sys.executable, __file__, str(folder), str(work), json.dumps(calls)]
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert done.returncode == 0, done.stderr
    found = {name: [] for name in calls}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            one = json.loads(line)
            found[one.pop("name")].append(one)
    return found


def _watch(at, half, note):
    """Lets this process be killed at the step `at`, whose name is written to `note` then."""
    from storage import versions

    count = itertools.count(1)
    write_text = note.write_text

    def watched(place, name):
        original = getattr(place, name)

        def step(*given, **options):
            if next(count) != at:
                return original(*given, **options)
            if half and name == "write":
                original(given[0], bytes(given[1])[: len(given[1]) // 2])
            if half and name == "copy_dir":
                os.makedirs(given[1])
                shutil.copy(pathlib.Path(given[0], "saved_model.pb"), given[1])
            write_text(name)
            return os.kill(os.getpid(), signal.SIGKILL)

        setattr(place, name, step)

    for path in STEPS:
        module, name = path.split(".")
        watched(getattr(versions, module), name)
    for name in SYSTEM:
        watched(os, name)


def _try(call, copy, at, half):
    """Calls it in a process of its own; returns the step at which that was killed, or ""."""
    note = copy.with_name(f"{copy.name}.step")
    child = os.fork()
    if not child:
        _watch(at, half, note)
        code = 0
        try:
            call(str(copy))
        except BaseException:
            traceback.print_exc()
            code = 1
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        sys.exit(f"{copy}: it failed")
    return note.read_text() if os.WIFSIGNALED(status) else ""


def _main(folder, work, calls):
    for name, path in json.loads(calls).items():
        module, _, function = path.partition(":")
        call = getattr(importlib.import_module(module), function)
        step = "first"
        for at in itertools.count(1):
            for half in (False, True):
                if not step or (half and step not in HALVED):
                    continue
                copy = pathlib.Path(work, f"{name}-{at}{'-half' if half else ''}")
                shutil.copytree(folder, copy)
                step = _try(call, copy, at, half)
                told = {"name": name, "folder": str(copy), "killed": bool(step), "step": step}
                print(json.dumps(told), flush=True)
            if not step:
                break


if __name__ == "__main__":
    _main(*sys.argv[1:])
