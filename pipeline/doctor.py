"""What `alexnet doctor` looks at: this machine, what is installed, and what a run with some settings would need.

It is for where something is broken, so nothing is imported at the top that may be: what loads TensorFlow does so in
a process of its own, which is this module as a program.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from core import errors, files, processes
from core.errors import UserError
from core.workdir import Workdir
from kubeflow.findings import FINE, MISSING, NOTE, UNKNOWN, Finding

if TYPE_CHECKING:
    from core.settings import Settings

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCK = ROOT / "environment" / "requirements.txt"
PYTHON = (3, 11)  # for which alone TFX 1.21 is complete
GLIBC = (2, 39)  # of the wheels of ML Metadata and TensorFlow Data Validation; environment.host has the same
MACHINES = {"Linux": "x86_64", "Darwin": "arm64"}
COMPILED = ("tensorflow", "ml_metadata", "tensorflow_data_validation")  # whose libraries a system may refuse
SECONDS = 180  # that importing them may take
GIB = 1 << 30
# Bytes below which a run would fail, and below which one with much data may.
MEMORY, DISK = (int(1.5 * GIB), 4 * GIB), (GIB, 5 * GIB)
SHARED = GIB  # of shared memory, which several GPUs talk through
SETUP = "make setup"


def examine(chosen: Settings | None, workdir: Workdir) -> Iterator[Finding]:
    """Looks at everything, and yields what it finds as it finds it; nothing is changed.

    Args:
        chosen: the settings that a run would have; None if they cannot be read for want of a package.
        workdir: where it would run.
    """
    yield python()
    yield from c_library()
    yield packages(LOCK)
    found = loaded()
    for name in COMPILED:
        yield imported(name, found.get(name))
    yield gpu(found.get("tensorflow"))
    yield memory()
    yield from shared_memory()
    yield disk(workdir.path)
    yield from working_directory(workdir)
    if chosen is not None:
        for look in (data, push, webhook, engine):
            try:
                if one := look(chosen, workdir):
                    yield one
            except Exception as problem:  # what it needs may be missing or broken, which was told above
                yield Finding(look.__name__, UNKNOWN, f"It could not be looked at ({errors.reason(problem, 200)}).")


def python() -> Finding:
    """The Python, and the machine."""
    version, system, machine = platform.python_version(), platform.system(), platform.machine()
    if sys.version_info[:2] != PYTHON:
        text = f"This is {version}; TFX 1.21 is complete for 3.11 alone."
        return Finding("Python", MISSING, text, "make setup PYTHON=/path/to/python3.11")
    if MACHINES.get(system) != machine:
        text = f"TFX 1.21 has no packages for {system} on {machine}."
        return Finding("Python", MISSING, text, "use Linux on x86_64 or macOS on arm64")
    return Finding("Python", FINE, f"{version} on {system} {machine}, in {shown(sys.prefix)}.")


def c_library() -> Iterator[Finding]:
    """glibc, on Linux."""
    if platform.system() != "Linux":
        return
    name, version = platform.libc_ver()
    wanted = ".".join(map(str, GLIBC))
    mend = f"{SETUP}   # on Debian 12 and Ubuntu 22.04 it brings one of its own"
    if name != "glibc":
        yield Finding("C library", MISSING, f"It is not glibc; TensorFlow's packages need {wanted} of it.", mend)
        return
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers < GLIBC:
        yield Finding("C library", MISSING, f"glibc {version} is too old: ML Metadata needs {wanted}.", mend)
        return
    yield Finding("C library", FINE, f"glibc {version}.")


def packages(lock: pathlib.Path) -> Finding:
    """What is installed, against the lock."""
    try:
        text = lock.read_text()
    except OSError:
        return Finding("packages", UNKNOWN, f"There is no {lock.name} here to compare with: this is no checkout.")
    wanted: dict[str, set[str]] = {}
    always = set()
    for name, version, condition in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)( ;)?", text, re.MULTILINE):
        wanted.setdefault(name, set()).add(version)
        if not condition:  # the others are for some systems and Pythons, each for its own
            always.add(name)
    absent, others = [], []
    for name, versions in wanted.items():
        try:
            there = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name in always:
                absent.append(name)
            continue
        if there not in versions:
            others.append(f"{name} {there} instead of {' or '.join(sorted(versions))}")
    if not absent and not others:
        return Finding("packages", FINE, f"All are there, in the versions of {lock.name}.")
    told = [*(f"{name} is not there" for name in absent), *others]
    more = f" and {len(told) - 5} more" if len(told) > 5 else ""
    state = MISSING if absent else NOTE
    return Finding("packages", state, f"Not as in {lock.name}: {', '.join(told[:5])}{more}.", SETUP)


def loaded(names: tuple[str, ...] = COMPILED) -> dict[str, dict]:
    """What importing the packages gave, in another process: {"version", "gpus"} or {"problem"}."""
    command = processes.module("pipeline.doctor", *names)
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUTF8": "1"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, env=environment
        )
        said, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        said, code = os.fsdecode(late.stdout or b""), None
    found = {}
    for line in said.splitlines():
        with contextlib.suppress(ValueError, TypeError):
            one = json.loads(line)
            found[one.pop("name")] = one
    for name in names:
        if name not in found:  # it and those after it were not reached
            how = f"signal {-code}" if code is not None and code < 0 else f"code {code}"
            why = f"it takes more than {SECONDS} s" if code is None else f"Python ended with {how} while it loaded"
            found[name] = {"problem": why}
            break
    return found


def imported(name: str, found: Mapping | None) -> Finding:
    """Whether a package can be imported."""
    if found is None:
        return Finding(name, UNKNOWN, "Not tried after what came before it.")
    if "problem" in found:
        return Finding(name, MISSING, f"It cannot be imported: {found['problem']}.", SETUP)
    return Finding(name, FINE, f"{found['version']} can be imported.")


def gpu(tensorflow: Mapping | None) -> Finding:
    """GPUs, and whether TensorFlow sees them."""
    seen = (tensorflow or {}).get("gpus")
    program = shutil.which("nvidia-smi")
    if not program:
        if seen:
            return Finding("GPU", FINE, f"TensorFlow sees {seen}.")
        device = next(pathlib.Path("/dev").glob("nvidia[0-9]*"), None)
        if device:
            text = f"{device} is there, but no nvidia-smi: NVIDIA's driver is not whole."
            return Finding("GPU", NOTE, text, "install NVIDIA's driver anew")
        return Finding("GPU", FINE, "There is none that could be found; trainings run on the CPU.")
    try:
        query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=30)
        said = (done.stdout if not done.returncode else done.stdout + done.stderr).strip().splitlines()
    except (OSError, subprocess.TimeoutExpired) as problem:
        return Finding(
            "GPU", NOTE, f"nvidia-smi does not answer ({errors.reason(problem, 200)}).", "restart the driver"
        )
    if done.returncode or not said:
        why = said[-1] if said else f"code {done.returncode}"
        return Finding("GPU", NOTE, f"nvidia-smi fails: {why.rstrip('.')}.", "install NVIDIA's driver anew")
    what = f"{len(said)} with driver {said[0].rpartition(',')[2].strip()} ({said[0].rpartition(',')[0]})"
    if seen is None:
        return Finding("GPU", UNKNOWN, f"{what}; whether TensorFlow sees it cannot be said.", SETUP)
    if seen < len(said):
        text = f"{what}, of which TensorFlow sees {seen or 'none'}: trainings run on the CPU."
        return Finding("GPU", NOTE, text if not seen else text.partition(":")[0] + ".", f"{SETUP} GPU=1")
    return Finding("GPU", FINE, f"{what}, and TensorFlow sees {seen}.")


def memory() -> Finding:
    """What is free of it, within the limits of a container."""
    free, total = available()
    text = f"{free / GIB:.1f} of {total / GIB:.1f} GiB are free"
    least, better = MEMORY
    mend = "end other programs, or give the container more"
    if free < least:
        return Finding("memory", MISSING, f"{text}; a run of 12,000 small pictures takes 1.5.", mend)
    if free < better:
        return Finding("memory", NOTE, f"{text}; 600,000 small pictures take 4.", mend)
    return Finding("memory", FINE, f"{text}.")


def available() -> tuple[int, int]:
    """Bytes of memory that are free, and all; those of the control group where it has fewer."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    free = total  # of macOS the standard library tells no more
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = pathlib.Path("/proc/meminfo").read_text()
        free = int(re.findall(r"MemAvailable:\s+(\d+) kB", lines)[0]) << 10
    for most, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            limit = int(pathlib.Path(most).read_text())
            if limit < total:
                total = limit
                free = min(free, limit - int(pathlib.Path(used).read_text()))
    return max(free, 0), total


def shared_memory(path: str = "/dev/shm") -> Iterator[Finding]:
    """/dev/shm, on Linux."""
    if platform.system() != "Linux":
        return
    mend = "docker run --shm-size=2g ...   # or kubeflow.nodes.Trainer.shared_memory"
    try:
        total = shutil.disk_usage(path).total
    except OSError:
        text = f"{path} is not there: Beam's processes and several GPUs need it."
        yield Finding("shared memory", NOTE, text, mend)
        return
    if total < SHARED:
        text = f"{path} has {total >> 20:,} MiB; several GPUs may need {SHARED >> 20:,}."
        yield Finding("shared memory", NOTE, text, mend)
        return
    yield Finding("shared memory", FINE, f"{path} has {total / GIB:.1f} GiB.")


def disk(path: pathlib.Path) -> Finding:
    """What is free where runs lie; their temporary files lie there, too."""
    place = next(one for one in (path, *path.parents) if one.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / GIB:.1f} GiB are free for {shown(path)}"
    least, better = DISK
    mend = "alexnet clean --dry-run   # what earlier runs could give back"
    if free < least:
        return Finding("disk", MISSING, f"{text}.", mend)
    if free < better:
        return Finding("disk", NOTE, f"{text}; a run takes some 0.1 GiB for 12,000 small pictures.", mend)
    status = os.statvfs(place)
    if status.f_files and status.f_favail < 10_000:
        text += f", but room for {status.f_favail:,} more files alone"
        return Finding("disk", NOTE, f"{text}.", mend)
    return Finding("disk", FINE, f"{text}.")


def working_directory(workdir: Workdir) -> Iterator[Finding]:
    """Whether runs can use it, and whether one does."""
    subject = "working directory"
    try:
        from pipeline import inventory, run

        run.check_path(workdir.path)
        files.folder(workdir.path, "--workdir", written=True)
        if holder := held(workdir.path / ".lock"):
            text = f"{shown(workdir.path)} is in use by {holder}."
            yield Finding(subject, NOTE, text, "wait until it ends, or name another --workdir")
            return
        inventory.check(workdir.metadata, workdir.artifacts())
    except ImportError as problem:
        yield Finding(subject, UNKNOWN, f"It could not be looked at ({errors.reason(problem, 200)}).")
    except UserError as problem:
        yield Finding(subject, MISSING, str(problem))
    else:
        there = "can be used" if workdir.path.is_dir() else "can be made"
        yield Finding(subject, FINE, f"{shown(workdir.path)} {there}.")


def held(lock: pathlib.Path) -> str:
    """Who holds the lock; "" if nobody does."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip() or "another process"
    except OSError:  # some file systems cannot lock
        return ""
    finally:
        os.close(descriptor)
    return ""


def data(chosen: Settings, workdir: Workdir) -> Finding:
    """Whether the data source is there and can be read."""
    from components.sources import fingerprint, names
    from core import settings
    from pipeline import run

    source = chosen.data.source
    subject = f"data {source}"
    try:
        local, _ = run.localised(chosen.model_copy(update={"push": settings.Push(), "notify": settings.Notify()}))
        run.check_apart(local, workdir.path)
        fingerprint.data(local.data)
        path = local.data.source
        if settings.is_remote(path):
            return Finding(subject, FINE, "It can be listed with the credentials of this shell.")
        if settings.looks_like_path(path):
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    file.read(1)
            return Finding(subject, FINE, f"{shown(path)} can be read.")
    except UserError as problem:
        return Finding(subject, MISSING, str(problem))
    except OSError as problem:
        return Finding(subject, MISSING, errors.sentence(problem, problem.filename, "read"))
    name = settings.builder_name(source)
    if name == names.EMBEDDED:
        return Finding(subject, FINE, "It is drawn by the run itself.")
    place = local.data.data_dir or os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")
    if any(found for form in ("*", "*/*") for found in pathlib.Path(place, name).glob(f"{form}/dataset_info.json")):
        return Finding(subject, FINE, f"It is prepared in {shown(place)}.")
    import tensorflow_datasets as tfds

    if name.lower() not in tfds.list_builders(with_community_datasets=False):
        text = "TensorFlow Datasets has none of that name, and here is no such file or folder."
        return Finding(subject, MISSING, text, "correct data.source, or write ./NAME for a folder")
    text = f"It is not prepared in {shown(place)}: the run downloads it, which needs the network."
    return Finding(subject, NOTE, text, "--data-dir DIR, where it is prepared elsewhere")


def push(chosen: Settings, workdir: Workdir) -> Finding:
    """Whether models can be pushed; an object store is tried with small objects, which are removed again."""
    from core import settings
    from pipeline import run

    place = chosen.push.destination or str(workdir.serving(chosen.name))
    subject = f"pushes to {shown(place)}"
    if settings.is_remote(place):
        from kubeflow import doctor as store

        found = store.probe(store.Place(place, True, ()))
        return Finding(subject, found.state, found.text, found.mend)
    try:
        plain = chosen.model_copy(update={"data": settings.Data(), "notify": settings.Notify()})
        local, _ = run.localised(plain.model_copy(update={"push": settings.Push(destination=place)}))
        run.check_apart(chosen.model_copy(update={"push": local.push}), workdir.path)
    except UserError as problem:
        return Finding(subject, MISSING, str(problem))
    return Finding(subject, FINE, "A model can be pushed there.")


def webhook(chosen: Settings, workdir: Workdir) -> Finding | None:
    """Whether there is a URL; it is not called, and not shown."""
    from pipeline import notice

    if not chosen.notify.webhook:
        return None
    if why := notice.problem(chosen.notify):
        return Finding("webhook", MISSING, why, "put the URL into the file that notify.webhook names")
    return Finding("webhook", FINE, f"{shown(chosen.notify.webhook)} holds a URL; it was not called.")


def engine(chosen: Settings, workdir: Workdir) -> Finding | None:
    """Flink or Spark, where the settings name one."""
    from engines import check

    if not chosen.beam.engine:
        return None
    try:
        check.check(chosen.beam, waits=True)
    except UserError as problem:
        return Finding(f"Beam on {chosen.beam.engine}", MISSING, str(problem))
    return Finding(f"Beam on {chosen.beam.engine}", FINE, "It is there.")


def shown(path: str | os.PathLike) -> str:
    """A path, the home folder in it shortened."""
    text, home = os.fspath(path), os.path.expanduser("~")
    return f"~{text.removeprefix(home)}" if home != "/" and (text == home or text.startswith(f"{home}/")) else text


def main(names: list[str], say: Callable[[str], object] = print) -> int:
    """For `loaded`: imports packages, and says a line of JSON of each."""
    for name in names:
        found: dict[str, object] = {"name": name}
        try:
            module = importlib.import_module(name)
            found["version"] = str(getattr(module, "__version__", "a version that it does not tell"))
            if name == "tensorflow":
                found["gpus"] = len(module.config.list_physical_devices("GPU"))
        except BaseException as problem:
            found = {"name": name, "problem": errors.reason(problem, 300).rstrip(".")}
        say(json.dumps(found))
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
