"""docs/kubeflow.md names only what exists."""

import pathlib
import re
import shlex

import click
import pytest
import yaml

from core import settings
from pipeline import cli

kubeflow = cli.main.get_command(None, "kubeflow")
ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "kubeflow.md").read_text()
BLOCKS = re.findall(r"^ *```(\w*)\n(.*?)^ *```", TEXT, re.DOTALL | re.MULTILINE)
SHELL = [
    line.split("   #")[0]
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.replace("\\\n", " ").splitlines()
]
COMMANDS = [line for line in SHELL if line.startswith("alexnet kubeflow")]


def test_every_test_that_is_named_exists():
    table = TEXT[TEXT.index("## What stock TFX") :]
    names, file = [], ""
    for here, name in re.findall(r"`([\w/]*test_\w+\.py)?::(test_\w+)`", table):
        file = here or file
        names.append((file, name))
    assert len(names) >= 16
    for file, name in names:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"
    assert len(re.findall(r"^\| \d+ \|", table, re.MULTILINE)) == 26


def test_every_file_that_is_named_exists():
    named = set(re.findall(r"`((?:kubeflow|pipeline|tests|environment|docs)/[\w./-]+)`", TEXT))
    named |= {path for line in SHELL for path in re.findall(r"\b(?:kubeflow/manifests|docs)/[\w./-]+", line)}
    named |= {"kubeflow/Dockerfile"}
    assert len(named) > 5
    for name in named:
        assert (ROOT / name).exists(), name


def test_every_module_that_is_named_exists():
    named = set(re.findall(r"(?:python -m |`)(kubeflow(?:\.[a-z_]+)+)", TEXT))
    for name in named - {f"kubeflow.{setting}" for setting in settings.Kubeflow.model_fields}:
        path = ROOT.joinpath(*name.split("."))
        assert path.with_suffix(".py").exists() or path.is_dir() or path.parent.with_suffix(".py").exists(), name


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line):
    """The arguments are parsed as the command would; nothing is run."""
    _, _, name, *arguments = shlex.split(line)
    command = kubeflow.commands[name]
    context = command.make_context(name, [argument for argument in arguments if argument != "..."])
    assert isinstance(context, click.Context)


def test_the_commands_are_all_there():
    assert {shlex.split(line)[2] for line in COMMANDS} == set(kubeflow.commands)


def test_the_presets_are_some():
    presets = [settings.parse(yaml.safe_load(block)) for kind, block in BLOCKS if kind == "yaml"]
    assert presets[0].push.destination == "s3://models/my-images"
    assert presets[-1].kubeflow.nodes["Trainer"].gpus == 1


def test_build_arguments_are_those_of_the_dockerfile():
    stated = dict(re.findall(r"^\| `([A-Z_]+)` \| (?:`([^`]+)`|[^|]+) \|", TEXT, re.MULTILINE))
    real = dict(re.findall(r"^ARG (\w+)=(.*)$", (ROOT / "kubeflow" / "Dockerfile").read_text(), re.MULTILINE))
    assert stated.keys() == real.keys()
    for name, default in stated.items():
        assert real[name].endswith(default)
