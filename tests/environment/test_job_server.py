"""Beam's job servers: what is built, when, and what is said where it cannot be."""

import os
import re
import subprocess
import sys
import zipfile

import pytest

from environment import bootstrap, job_server


def call(engine, **environment):
    command = [sys.executable, "-m", "environment.job_server", engine]
    return subprocess.run(command, cwd=bootstrap.ROOT, env=os.environ | environment, capture_output=True, text=True)


@pytest.mark.parametrize("engine", job_server.ENGINES)
def test_a_job_server_that_is_there_is_not_built_again(engine, tmp_path):
    there = tmp_path / "alexnet-pipeline/beam" / job_server.ENGINES[engine].jar.name
    there.parent.mkdir(parents=True)
    there.write_bytes(b"")
    done = call(engine, XDG_CACHE_HOME=str(tmp_path), PATH="")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{there}\n", "")


def test_a_missing_maven_is_told_in_a_sentence(tmp_path):
    done = call("flink", XDG_CACHE_HOME=str(tmp_path), PATH="")
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith("job_server: mvn is not on the PATH, and builds Beam's job server: install it ")


def write(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as jar:
        for name, content in files.items():
            jar.writestr(name, content)
    return path


def test_the_sum_is_of_what_is_in_a_jar_however_it_is_packed(tmp_path):
    files = {"a.class": "one", "b.class": "two", "META-INF/MANIFEST.MF": "Build-Jdk-Spec: 17"}
    turned = dict(reversed(files.items())) | {"META-INF/MANIFEST.MF": "Build-Jdk-Spec: 21"}
    sums = {
        job_server.contents(write(tmp_path / "one.jar", files)),
        job_server.contents(write(tmp_path / "other.jar", turned, zipfile.ZIP_STORED)),
    }
    assert len(sums) == 1
    changed = [files | {"a.class": "1"}, files | {"c.class": ""}, {"a.class": "two", "b.class": "one"}]
    sums |= {job_server.contents(write(tmp_path / "changed.jar", each)) for each in changed}
    assert len(sums) == 4


def test_what_is_built_otherwise_is_not_kept(tmp_path):
    """With a Maven that makes a jar of its own."""
    made = write(tmp_path / "made.jar", {"a.class": "another"})
    maven = tmp_path / "bin/mvn"
    maven.parent.mkdir()
    find = 'for word; do case "$word" in -Dfolder=*) folder="${word#-Dfolder=}";; esac; done'
    maven.write_text(f'#!/bin/sh\n{find}\ncp {made} "$folder/job-server.jar"\n')
    (tmp_path / "bin/java").write_text("#!/bin/sh\n")
    for program in maven.parent.iterdir():
        program.chmod(0o755)
    path = os.pathsep.join([str(maven.parent), os.environ["PATH"]])
    done = call("flink", XDG_CACHE_HOME=str(tmp_path / "cache"), PATH=path)
    assert done.returncode == 2
    assert "Maven made another flink-1.19-job-server-2.62.0.jar than the one that was tried" in done.stderr
    assert not list((tmp_path / "cache/alexnet-pipeline/beam").iterdir())


def test_spark_has_one_version():
    """The job server's is that of the cluster which `.ci/engines` fetches."""
    fetched = re.search(r"fetch spark pyspark (\S+)", (bootstrap.ROOT / ".ci/engines").read_text())[1]
    assert fetched == job_server.SPARK
