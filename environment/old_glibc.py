"""A newer C library beside an old one, for this project's Python alone.

The Linux wheels of ml-metadata 1.21 and tensorflow-data-validation 1.21 need glibc 2.39 and the libstdc++ of
GCC 14. On Debian 12 or Ubuntu 22.04 the host's own apt fetches the libraries of a newer release and checks
their signatures; they are unpacked into a private folder, and a copy of the Python launcher is pointed at
them. Nothing outside that folder changes.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import sysconfig

from environment.commands import CONTAINER, SetupError, run

# Which release lends its libraries to which.
DONORS = {
    ("debian", "bullseye"): "trixie",
    ("debian", "bookworm"): "trixie",
    ("ubuntu", "focal"): "noble",
    ("ubuntu", "jammy"): "noble",
}
PACKAGES = ("libc6", "libstdc++6", "libgcc-s1")
# What the launcher loads before anything else. TensorFlow and others have a RUNPATH of their own, with which
# the loader does not look where the launcher says and would find the system's old ones.
FIRST = ("libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1")


def os_release(path: str = "/etc/os-release") -> dict[str, str]:
    """The fields of /etc/os-release; empty where there is none."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


def base_release(release: dict[str, str]) -> tuple[str, str]:
    """ID and codename of the distribution, or of the Debian or Ubuntu that a derivative is made from."""
    for field, base in (("UBUNTU_CODENAME", "ubuntu"), ("DEBIAN_CODENAME", "debian")):
        if release.get(field):
            return base, release[field]
    return release.get("ID", ""), release.get("VERSION_CODENAME", "")


def find_mirror(targets: str, codename: str) -> str:
    """The mirror this host uses for its own release.

    Args:
        targets: lines "RELEASE|REPO_URI|COMPONENT" as `apt-get indextargets --format` prints them.
        codename: the host's release.
    """
    for line in targets.splitlines():
        release, uri, component = [*line.split("|"), "", ""][:3]
        if release == codename and component == "main" and uri and not uri.startswith("cdrom:"):
            return uri
    raise SetupError(
        f"apt on this host has no source for {codename} main, so newer C libraries cannot be fetched: add "
        f"one, or run in the container image {CONTAINER}."
    )


def fetch_libraries(folder: pathlib.Path, donor: str) -> pathlib.Path:
    """Downloads PACKAGES of release `donor` with apt, as any user; returns the folder with their files."""
    distribution, codename = base_release(os_release())
    # Without release information this also answers on a host whose package lists are empty, as in an image.
    listing = run(
        ["apt-get", "indextargets", "--no-release-info", "--format", "$(RELEASE)|$(REPO_URI)|$(COMPONENT)"],
        "Asking apt for its mirror",
    )
    mirror = find_mirror(listing, codename)
    keyring = pathlib.Path(f"/usr/share/keyrings/{distribution}-archive-keyring.gpg")
    # A mirror that signs anew has its key among those that apt trusts for every source.
    signed_by = f"[signed-by={keyring}] " if keyring.exists() else ""
    apt, unpacked = folder / "apt", folder / "root"
    for part in ("lists/partial", "cache/archives/partial", "packages"):
        (apt / part).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb {signed_by}{mirror} {donor} main\n")
    settings = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Dir::Cache::archives": apt / "cache/archives",
        "Acquire::Languages": "none",
        # As root, apt would otherwise drop to a user that may not write here.
        "APT::Sandbox::User": "root",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    doing = f"Fetching the C library of {donor} with apt"
    run(["apt-get", "--quiet", *options, "update", "--error-on=any"], doing)
    run(["apt-get", "--quiet", *options, "download", *PACKAGES], doing, cwd=apt / "packages")
    for package in sorted((apt / "packages").glob("*.deb")):
        run(["dpkg-deb", "-x", package, unpacked], f"Unpacking {package.name}")
    shutil.rmtree(apt)
    return unpacked


def make_launcher(python: str, folder: pathlib.Path, donor: str, patchelf: os.PathLike) -> pathlib.Path:
    """A copy of the launcher `python`, in `folder`, that loads the newer libraries; returns its path.

    What was in `folder` before is gone, unless it was made of the same.
    """
    launcher = folder / "bin" / "python3.11"
    made_of = f"{folder}\n{donor}\n{python}\n{sys.version}\n{' '.join(PACKAGES + FIRST)}\n"
    done = folder / "made_of"  # written last
    if done.exists() and done.read_text() == made_of:
        return launcher
    print(f"  the C library of {donor}, with apt, into .python/: this system's is too old", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    unpacked = fetch_libraries(folder, donor)
    loader = next((path for path in unpacked.rglob("ld-linux-*.so.*") if path.is_file()), None)
    homes = [next((path.parent for path in unpacked.rglob(name)), None) for name in ("libc.so.6", "libstdc++.so.6")]
    if not (loader and all(homes)):
        raise SetupError(f"The packages of {donor} do not hold the expected libraries.")
    for place, base in (("lib", sysconfig.get_path("stdlib")), ("include", sysconfig.get_path("include"))):
        # Python finds its standard library, and builds find Python.h, from where the launcher lies.
        (folder / place).mkdir()
        (folder / place / "python3.11").symlink_to(base)
    launcher.parent.mkdir()
    shutil.copyfile(python, launcher)
    launcher.chmod(0o755)
    search = [*dict.fromkeys(map(str, homes)), sysconfig.get_config_var("LIBDIR") or "/usr/lib"]
    doing = "Pointing the launcher at the newer C library"
    run([patchelf, "--set-interpreter", loader, launcher], doing)
    run([patchelf, "--force-rpath", "--set-rpath", ":".join(search), launcher], doing)
    run([patchelf, *(word for name in FIRST for word in ("--add-needed", name)), launcher], doing)
    run([launcher, "-c", "import ctypes, ssl"], f"Starting Python on the C library of {donor}")
    done.write_text(made_of)
    return launcher
