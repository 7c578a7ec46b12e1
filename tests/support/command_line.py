"""The command line, as a user calls it."""

import pathlib
import subprocess
import sys

ALEXNET = str(pathlib.Path(sys.executable).with_name("alexnet"))


def alexnet(*arguments, **options):
    """What a command said, and its exit code."""
    return subprocess.run([ALEXNET, *map(str, arguments)], **{"capture_output": True, "text": True, **options})


def sets(changes):
    """Settings as arguments."""
    return [part for change in changes for part in ("--set", change)]
