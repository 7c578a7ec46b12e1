"""kubeflow/Dockerfile and .dockerignore, read as a builder reads them; building takes minutes and a registry."""

import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest

import engines.job_server

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = (ROOT / "kubeflow" / "Dockerfile").read_text()


def instructions(text):
    """[(instruction, arguments)], without comments and with continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


ALL = instructions(TEXT)


def stages():
    """Name of a stage (the last one's is "") -> its instructions after FROM."""
    found = {}
    for word, rest in ALL:
        if word == "FROM":
            name = rest.partition(" AS ")[2]
            found[name] = []
        elif found:
            found[name].append((word, rest))
    return found


def of(word, within):
    return [rest for found, rest in within if found == word]


def variables(within):
    """What ENV sets."""
    return dict(pair.split("=", 1) for rest in of("ENV", within) for pair in shlex.split(rest))


def copies(within):
    """[(stage or "" for the context, sources, target)] of COPY."""
    found = []
    for rest in of("COPY", within):
        words = rest.split()
        stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
        assert not words[0].startswith("--")
        found.append((stage, words[:-1], words[-1]))
    return found


def rules(text):
    """.dockerignore as [(regular expression, whether it ignores)]; the last that matches counts."""
    found = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pattern = re.escape(line.strip().removeprefix("!").strip("/"))
        for mark, meaning in ((r"\*\*/", "(.*/)?"), (r"\*\*", ".*"), (r"\*", "[^/]*"), (r"\?", "[^/]")):
            pattern = pattern.replace(mark, meaning)
        found.append((re.compile(pattern + "(/.*)?"), not line.startswith("!")))
    return found


def is_ignored(path, rules):
    ignored = False
    for pattern, ignores in rules:
        if pattern.fullmatch(path):
            ignored = ignores
    return ignored


RULES = rules((ROOT / ".dockerignore").read_text())


def test_reads_a_dockerignore_as_docker_does():
    some = rules("# comment\n*\n!a/\n!b/*.txt\n**/*.pyc\na/x?\n")
    files = ["a/1", "a/b/1", "b/1.txt", "b/1.py", "b/c/1.txt", "c", "a/1.pyc", "a/b/c/1.pyc", "a/x1", "a/x12"]
    assert [file for file in files if not is_ignored(file, some)] == ["a/1", "a/b/1", "b/1.txt", "a/x12"]


def test_what_is_copied_exists_and_is_not_ignored():
    sources = {
        source for _, found in stages().items() for stage, names, _ in copies(found) if not stage for source in names
    }
    assert {"pyproject.toml", "kubeflow"} <= sources
    for source in sources:
        path = ROOT / source
        assert path.exists(), source
        files = [path] if path.is_file() else [file for file in path.rglob("*.*") if "__pycache__" not in file.parts]
        assert files
        for file in files:
            assert not is_ignored(str(file.relative_to(ROOT)), RULES), file


def test_the_context_holds_what_is_copied_and_little_else():
    copied = {
        source for found in stages().values() for stage, names, _ in copies(found) if not stage for source in names
    }
    # Not from git, which refuses a checkout of another user and is not there in an unpacked archive.
    sent = [path for path in ROOT.rglob("*") if not is_ignored(str(path.relative_to(ROOT)), RULES) and path.is_file()]
    size = sum(path.stat().st_size for path in sent)
    assert 0 < size < 3e6
    for path in sent:
        name = str(path.relative_to(ROOT))
        assert any(name == source or name.startswith(f"{source}/") for source in copied) or name.startswith(
            "environment/"
        )


@pytest.mark.parametrize(
    "name",
    [".git/config", ".venv/bin/python", ".env", "workdir/metadata.sqlite", "tests/conftest.py", "docs/kubeflow.md",
     "components/__pycache__/x.pyc", ".python/uv", "kubeflow/.secret.pyc"],
)  # fmt: skip
def test_is_not_sent_to_the_builder(name):
    assert is_ignored(name, RULES)


def test_every_package_that_is_copied_gets_into_the_wheel():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {source for stage, names, _ in copies(stages()["project"]) if not stage for source in names}
    folders = {name for name in folders if (ROOT / name).is_dir()}
    assert folders == {pattern.removesuffix("*") for pattern in setuptools["packages"]["find"]["include"]}
    assert "manifests/inference-service.template.yaml" in setuptools["package-data"]["kubeflow"]


def test_the_bases_are_arguments_with_defaults_of_one_python_and_a_new_glibc():
    first = ALL.index(next(found for found in ALL if found[0] == "FROM"))
    defaults = dict(rest.split("=", 1) for rest in of("ARG", ALL[:first]))
    assert defaults.pop("ENGINE") == "none"
    bases = [rest.partition(" AS ")[0] for rest in of("FROM", ALL)]
    outside = [base for base in bases if base not in stages() and base != "engine-${ENGINE}"]
    assert outside == [f"${{{name}}}" for name in ("BUILD_IMAGE", "MAVEN_IMAGE", "JAVA_IMAGE", *2 * ["BASE_IMAGE"])]
    assert {f"${{{name}}}" for name in defaults} == set(outside)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.12"
    # Debian 13 has glibc 2.41; bookworm's 2.36 is too old for ml-metadata's wheel.
    assert {name: value.rpartition("/")[2] for name, value in defaults.items()} == {
        "BUILD_IMAGE": "python:3.11-trixie",
        "BASE_IMAGE": "python:3.11-slim-trixie",
        "MAVEN_IMAGE": "maven:3.9-eclipse-temurin-17",
        "JAVA_IMAGE": "eclipse-temurin:17-jre",
    }


def test_the_image_without_an_engine_has_nothing_of_one():
    """Stages that the last one does not need are left out by BuildKit, and by nobody's image taken in."""
    assert ALL[[word for word, _ in ALL].index("FROM") - 1] == ("ARG", "ENGINE=none")
    assert stages()["engine-none"] == []
    assert {stage for stage, _, _ in copies(stages()[""])} == {"packages", "project"}


def test_the_image_for_flink_has_java_and_its_job_server():
    copied = {(stage, target) for stage, _, target in copies(stages()["engine-flink"])}
    found = variables(stages()["engine-flink"])
    assert ("java", found["PATH"].removesuffix("/bin:${PATH}")) in copied
    assert ("job-server", found[engines.job_server.FOLDER]) in copied
    assert f"{found['PATH'].partition(':')[0]}:" not in variables(stages()[""])["PATH"]
    assert variables(stages()[""])["PATH"].endswith(":${PATH}")  # which keeps it
    # The versions of Java are one: what Flink's image in the manifest has.
    flink = (ROOT / "kubeflow" / "manifests" / "flink" / "flink.yaml").read_text()
    (java,) = set(re.findall(r"-java(\d+)", flink))
    assert re.findall(r"temurin[-:](\d+)", TEXT) == [java, java]


def test_the_job_server_is_built_with_what_is_copied(tmp_path):
    """And lies where the last stage takes it from. Maven takes a minute and the network, so it is not started."""
    for stage, sources, target in copies(stages()["job-server"]):
        for source in () if stage else sources:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, tmp_path / target)
            else:
                (tmp_path / target).mkdir(exist_ok=True)
                shutil.copy(path, tmp_path / target)
    cache = variables(stages()["job-server"])["XDG_CACHE_HOME"]
    show = "from environment import job_server as s; print(s.CACHE); assert (s.HERE / 'beam/pom.xml').exists()"
    done = subprocess.run(
        [sys.executable, "-c", show], cwd=tmp_path, env={"XDG_CACHE_HOME": cache}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in [source for _, sources, _ in copies(stages()["engine-flink"]) for source in sources]
    (command,) = (rest for rest in of("RUN", stages()["job-server"]))
    assert command.endswith("python -m environment.job_server flink")


def test_every_argument_is_declared_before_it_is_used():
    for name, found in stages().items():
        base = next(rest for word, rest in ALL if word == "FROM" and rest.partition(" AS ")[2] == name)
        known = {"PATH"} | ({"SOURCE_DATE_EPOCH"} if base.startswith("tools") else set())
        for word, rest in found:
            if word == "ARG":
                known.add(rest.partition("=")[0])
                continue
            for used in re.findall(r"\$\{(\w+)\}", rest) if word != "RUN" else re.findall(r"\$([A-Z]\w+)", rest):
                assert used in known, f"{name}: {used}"
            if word == "ENV":
                known |= variables([(word, rest)]).keys()
    assert "ARG ALEXNET_COMMIT=" in TEXT


def test_everything_installed_is_pinned_by_hash():
    runs = of("RUN", ALL)
    installs = [
        part.strip() for run in runs for part in re.split(r"&&|;", run) if re.search(r"\b(pip install|build)\b", part)
    ]
    assert len(installs) == 4
    for command in installs:
        assert "--require-hashes" in command or "--no-index --no-deps" in command, command
    locked = next(command for command in installs if "--constraints" in command)
    assert "--require-build-hashes" in locked
    for lock in re.findall(r"[\w./-]+\.txt", " ".join(runs)):
        path = ROOT / "environment" / pathlib.PurePath(lock).name
        assert "--hash=sha256:" in path.read_text()


def test_fetches_nothing_but_locked_packages():
    for word, rest in ALL:
        assert word != "ADD"
        assert not re.search(r"\b(curl|wget|git|apt|apt-get|npm)\b", rest) or word == "LABEL", rest
        assert "://" not in rest  # an index of someone's own comes in as a secret
        assert ":latest" not in rest


def test_runs_without_root():
    last = stages()[""]
    words = [word for word, _ in last]
    (user,) = of("USER", last)
    number, group = user.split(":")
    assert int(number) > 0
    assert group == "0"  # the group of an arbitrary user id on OpenShift
    assert not {"RUN", "COPY", "USER"} & set(words[words.index("USER") + 1 :])


def test_writes_only_below_tmp():
    found = variables(stages()[""])
    places = {"HOME", "TMPDIR", "MPLCONFIGDIR", "KERAS_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    assert places <= found.keys()
    for name in places:
        assert pathlib.PurePath(found[name]).is_relative_to("/tmp")
    # Bytecode is made at build time and depends on no time stamps; nothing tries to write any later.
    assert found["PYTHONDONTWRITEBYTECODE"] == "1"
    assert variables(stages()["tools"])["PYC_INVALIDATION_MODE"] == "UNCHECKED_HASH"
    assert TEXT.count("--compile-bytecode") == 2
    # getpass.getuser() and the like ask for a name, and an arbitrary user id has none.
    assert found["LOGNAME"]


def test_gpus_are_those_that_the_pod_asked_for():
    assert "NVIDIA_VISIBLE_DEVICES" not in variables(stages()[""])


def test_the_commit_is_in_the_environment_and_the_label_and_spoils_no_cache():
    last = stages()[""]
    words = [word for word, rest in last if rest.startswith("ALEXNET_COMMIT") or word in ("COPY", "RUN")]
    assert words[-2:] == ["ARG", "ENV"]
    assert variables(last)["ALEXNET_COMMIT"] == "${ALEXNET_COMMIT}"
    (label,) = of("LABEL", last)
    labels = dict(pair.split("=", 1) for pair in shlex.split(label))
    assert labels["org.opencontainers.image.revision"] == "${ALEXNET_COMMIT}"
    assert labels["org.opencontainers.image.base.name"] == "${BASE_IMAGE}"
    assert {"title", "description", "licenses"} <= {key.rpartition(".")[2] for key in labels}
    assert "ALEXNET_COMMIT" in (ROOT / "review" / "report" / "build.py").read_text()
