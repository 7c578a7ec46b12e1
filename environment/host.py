"""What this machine is, and the way to a working environment on it.

`decide` sees the machine only through `Host`, so that tests can fake one.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pathlib
import platform
import shlex
import shutil
import sys
import sysconfig

from environment import old_glibc
from environment.commands import CONTAINER, SetupError

# The Linux wheels of ml-metadata 1.21 and tensorflow-data-validation 1.21 are manylinux_2_39.
NEEDED_GLIBC = (2, 39)
# Where ml-metadata 1.21 has wheels; it cannot be built from what its index holds.
MACHINES = {"Linux": "x86_64", "Darwin": "arm64"}


@dataclasses.dataclass(frozen=True)
class Host:
    """What the decision looks at."""

    system: str  # platform.system(): Linux, Darwin, Windows
    machine: str  # platform.machine(): x86_64, aarch64, arm64
    python: tuple[int, int]
    glibc: tuple[int, ...] | None  # None: another C library
    distribution: str  # "debian" and "ubuntu" also where a derivative names the release it is made from
    codename: str  # of that release
    has_apt: bool  # apt-get and dpkg-deb are there
    has_pip: bool
    has_uv: bool
    has_compiler: bool  # for C and C++, as this Python's builds would call them
    has_headers: bool  # Python.h

    @classmethod
    def here(cls) -> Host:
        """This machine."""
        name, version = platform.libc_ver()
        distribution, codename = old_glibc.base_release(old_glibc.os_release())
        return cls(
            system=platform.system(),
            machine=platform.machine(),
            python=sys.version_info[:2],
            glibc=tuple(int(part) for part in version.split(".")[:2]) if name == "glibc" else None,
            distribution=distribution,
            codename=codename,
            has_apt=bool(shutil.which("apt-get") and shutil.which("dpkg-deb")),
            has_pip=importlib.util.find_spec("pip") is not None,
            has_uv=shutil.which("uv") is not None,
            has_compiler=all(map(_has_compiler, ("CC", "CXX"))),
            has_headers=pathlib.Path(sysconfig.get_path("include"), "Python.h").exists(),
        )


def _has_compiler(variable: str) -> bool:
    """Whether the program is there that a build would take from `variable` (CC, CXX)."""
    words = shlex.split(os.environ.get(variable) or sysconfig.get_config_var(variable) or "")
    return bool(words and shutil.which(words[0]))


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to set up: who fetches uv, and which newer release lends its C library, if any."""

    installer: str  # "pip" or "uv"
    libraries_from: str | None  # codename of the Debian or Ubuntu release, None on a new enough glibc


def decide(host: Host) -> Plan:
    """The way to a working environment on `host`.

    Raises:
        SetupError: there is none; the text says what to do instead.
    """
    if host.python != (3, 11):
        raise SetupError(
            f"Python 3.11 is needed and this is {host.python[0]}.{host.python[1]}: install it "
            "and name it with make PYTHON=/path/to/python3.11."
        )
    if host.system not in MACHINES:
        raise SetupError(f"{host.system} is not supported: use Linux (WSL2 on Windows), macOS, or a container.")
    if host.machine != MACHINES[host.system]:
        raise SetupError(
            f"TFX 1.21 has no packages for {host.system} on {host.machine}: use Linux on x86_64 or macOS on arm64."
        )
    libraries_from = _donor(host) if host.system == "Linux" else None
    if not host.has_pip and not host.has_uv:
        raise SetupError(
            "Neither pip for this Python nor uv was found: install one of them "
            "(Debian and Ubuntu: the package python3-pip)."
        )
    missing = [
        name for name, there in (("A C++ compiler", host.has_compiler), ("Python.h", host.has_headers)) if not there
    ]
    if missing:
        raise SetupError(
            f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing, and the package "
            "pyfarmhash has to be built: install a C++ compiler and Python's headers (Debian and Ubuntu: g++ "
            "and python3.11-dev; Fedora: gcc-c++ and python3.11-devel; macOS: xcode-select --install)."
        )
    return Plan(installer="pip" if host.has_pip else "uv", libraries_from=libraries_from)


def _donor(host: Host) -> str | None:
    """The release that lends a C library to this Linux host; None where its own is new enough."""
    if host.glibc is None:
        raise SetupError(
            "TensorFlow's packages need the GNU C library, which this system does not use: run in the "
            f"container image {CONTAINER}."
        )
    if host.glibc >= NEEDED_GLIBC:
        return None
    donor = old_glibc.DONORS.get((host.distribution, host.codename))
    if donor is None or not host.has_apt:
        raise SetupError(
            f"glibc {host.glibc[0]}.{host.glibc[1]} is too old for TFX 1.21, which needs "
            f"{NEEDED_GLIBC[0]}.{NEEDED_GLIBC[1]}, and only Debian and Ubuntu with apt can be helped: use "
            f"Debian 13, Ubuntu 24.04, Fedora 40 or newer, or run in the container image {CONTAINER}."
        )
    return donor
