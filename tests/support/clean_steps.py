"""As a program: kills `alexnet clean` at its every step, and looks what is true afterwards.

    python clean_steps.py WORKDIR SCRATCH

WORKDIR is copied each time; in a child process, the n-th file operation or write into ML Metadata is its end. The
process that forks has loaded no TensorFlow and has no threads.
"""

import json
import os
import pathlib
import shutil
import signal
import sys

from ledger import open_store
from ml_metadata import MetadataStore

from core.workdir import Workdir
from pipeline import cleaning, inventory

STEPS = {"shutil.rmtree", "os.remove", "os.rmdir", "os.rename"}


def clean(workdir):
    cleaning.remove(workdir, cleaning.plan(workdir, 1))


def killed_at(step, workdir):
    """Whether that step was reached."""
    child = os.fork()
    if not child:
        left = [step]

        def count(*_):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        stock = MetadataStore.put_artifacts

        def put(*arguments):
            count()
            made = stock(*arguments)
            count()
            return made

        MetadataStore.put_artifacts = put
        sys.addaudithook(lambda event, _: count() if event in STEPS else None)
        clean(workdir)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


def state(workdir):
    """What is on the disk, and what ML Metadata says."""
    files = {str(path.relative_to(workdir.path)) for path in workdir.path.rglob("*") if path.is_file()}
    return files - {".lock"}, {one.uri: one.state for one in open_store(workdir).get_artifacts()}


def main(template, scratch):
    def fresh(name):
        shutil.rmtree(scratch / name, ignore_errors=True)
        shutil.copytree(template, scratch / name, symlinks=True)
        return Workdir(scratch / name)

    whole = fresh("whole")
    clean(whole)
    wanted = state(whole)
    runs = len(Workdir(template).ended())
    step = 1
    while killed_at(step, workdir := fresh("killed")):
        assert inventory.look(open_store(workdir), workdir) == [], step  # what counts as there is whole
        assert len(workdir.results()) == runs, step
        clean(workdir)
        assert state(workdir) == wanted, (step, state(workdir)[0] ^ wanted[0])
        step += 1
    assert state(workdir) == wanted
    print(json.dumps({"steps": step - 1}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
