"""Runs that are hit by what machines do - full disks, kills, two at once - and what must be true afterwards.

Each time the same: earlier runs can be read, what is on offer for servers is whole, and the next run reaches its end.

Every node is hit and there are ten moments for each victim of a kill with FAULTS=all (half an hour on 2 cores);
otherwise some of them.
"""

import json
import os
import random
import shutil
import subprocess

import psutil
import pytest
from command_line import ALEXNET, alexnet, sets
from image_data import SMALL, encoded, picture, write_folder
from unprivileged import folder, options

from core.workdir import Workdir
from pipeline.nodes import NODES, OPTIONAL

pytestmark = pytest.mark.slow
ALL = os.environ.get("FAULTS") == "all"
CHANGES = [*SMALL, "training.epochs=1", "training.batch_size=16", "data.validation_share=0.2"]
RESOLVERS = ("PreviousStatistics", "Baseline", "PreviousReport")  # do nothing that a fault could hit
WORKING = [node for node in NODES if node not in OPTIONAL and node not in RESOLVERS]
NODES_HIT = WORKING if ALL else ["ImageExampleGen", "Trainer", "Pusher"]
MOMENTS = 10 if ALL else 2  # for each victim of a kill
LINES = 30  # that a run says


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "pets", train=40, test=10)


def arguments(images, work, *more):
    return [ALEXNET, "run", "--data", str(images), "--workdir", str(work), *sets(CHANGES), *more]


def start(*command, **options):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def check(work, images, before):
    """What must be true after any fault; `before`: how many runs were listed before it."""
    work = Workdir(work)
    assert len(work.results()) >= before
    for name in ("runs", "slices", "history"):
        assert alexnet(name, "--workdir", work.path).returncode == 0
    served = [version for version in work.serving("pets").iterdir() if version.name.isdigit()]
    newest = max(served, key=lambda version: int(version.name))
    told = alexnet("predict", "--model", newest, "--json", images / "test" / "cat" / "000.png")
    assert json.loads(told.stdout)[0]["class_name"] in ("cat", "dog"), told.stderr
    return len(work.results())


def finish(images, work, *more):
    done = subprocess.run(arguments(images, work, *more), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr
    return done


@pytest.fixture
def disk(tmp_path):
    """A file system that can be made full."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", place]).returncode:
        pytest.skip("only root can mount a file system that gets full")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def resize(place, free):
    """Leaves so many bytes free, or as few more as can be done while somebody writes."""
    while True:
        found = os.statvfs(place)
        used = (found.f_blocks - found.f_bfree) * found.f_bsize
        command = ["mount", "-o", f"remount,size={used + free}", place]
        if not subprocess.run(command, capture_output=True).returncode:
            return
        free += 1 << 16


def test_a_full_disk_at_every_node(images, disk):
    work = disk / "work"
    finish(images, work)
    (images / "test" / "cat" / "one more.png").write_bytes(encoded(picture(7)))  # from here on nothing is cached
    listed = check(work, images, 1)
    for node in NODES_HIT:
        with start(*arguments(images, work)) as run:
            for line in run.stdout:
                if line.startswith(f"{node}: running"):
                    resize(disk, 0)
            said = run.stderr.read()
        assert run.returncode in (0, 2), said
        if run.returncode:
            assert "o space is left on the device" in said
            assert len(said.splitlines()) == 1
        resize(disk, 1 << 30)
        listed = check(work, images, listed)
    finish(images, work)


def test_a_full_disk_before_the_run(images, disk):
    filler = disk / "filler"
    with open(filler, "wb") as file:
        file.write(bytes(1 << 20))
    resize(disk, 0)
    done = subprocess.run(arguments(images, disk / "work"), capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{disk}" in done.stderr
    assert "no space is left on the device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    resize(disk, 1 << 30)
    finish(images, disk / "work", "--to", "ImageExampleGen")


@pytest.fixture(scope="module")
def work(images, tmp_path_factory):
    """A working directory with a run that has pushed a model."""
    place = tmp_path_factory.mktemp("work")
    finish(images, place)
    return place


@pytest.mark.parametrize("victim", ["command line", "worker"])
def test_a_kill_at_any_moment(images, work, victim):
    listed = check(work, images, 1)
    for number in range(MOMENTS):
        chosen = random.Random(f"{victim} {number}")
        changed = chosen.choice(["training.seed=", "data.version=v"])  # Trainer computes anew, or all nodes
        with start(*arguments(images, work, "--set", f"{changed}{number}")) as run:
            for _ in zip(run.stdout, range(chosen.randrange(1, LINES)), strict=False):
                pass
            worker = psutil.Process(run.pid).children() if run.poll() is None else []
            for process in [psutil.Process(run.pid)] if victim == "command line" and worker else worker:
                process.kill()
            said = run.stdout.read() + run.stderr.read()
        assert "Traceback" not in said
        assert run.returncode != 2, said
        if victim == "worker" and run.returncode:
            assert run.returncode == 1
            assert "the worker was killed" in said
        for process in worker:
            psutil.wait_procs([process])  # which notices that its parent is gone, and lets go of the lock
        listed = check(work, images, listed)
    finish(images, work)


def test_of_two_at_once_one_is_refused(images, work):
    runs = [start(*arguments(images, work, "--set", f"training.seed={seed}")) for seed in (71, 72)]
    said = [run.communicate() for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 2]
    assert sum("is in use by process" in errors for _, errors in said) == 1
    check(work, images, 2)


def test_a_user_without_rights_or_home_whose_data_can_only_be_read(images):
    place = folder()
    try:
        shutil.copytree(images, place / "pets")
        as_them = options(place)
        for path in (place / "pets").rglob("*"):
            path.chmod(path.stat().st_mode & ~0o222)
        environment = {key: value for key, value in os.environ.items() if key != "HOME"}
        command = arguments(place / "pets", place / "work")
        done = subprocess.run(
            command, **{**as_them, "env": environment}, cwd="/", umask=0o077, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        check(place / "work", images, 1)
    finally:
        for path in place.rglob("*"):
            path.chmod(path.stat().st_mode | 0o700)
        shutil.rmtree(place)
