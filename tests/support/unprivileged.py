"""Programs without the rights of root, from whom no folder can be kept."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest


def options(*places):
    """For `subprocess.run`: a user without rights, who gets `places`; the same as before, where that is not root."""
    if os.geteuid():
        return {}
    chosen = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    try:
        reached = subprocess.run([sys.executable, "-c", ""], cwd="/", capture_output=True, **chosen).returncode == 0
    except (OSError, LookupError, subprocess.SubprocessError):
        reached = False
    if not reached:
        pytest.skip("the user nobody cannot run this project's Python, and root may do everything")
    for place in places:
        for path in (place, *place.rglob("*")):
            shutil.chown(path, "nobody", "nogroup")
    return {**chosen, "env": os.environ | {"HOME": str(places[0])}}


def folder():
    """A new folder in which everybody may look; pytest's own are root's alone. The caller removes it."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="alexnet-"))
    made.chmod(0o755)
    return made
