"""What the commands `alexnet kubeflow` have in common: which server, which pipeline, which values it gets."""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import sys
import typing
from collections.abc import Callable

import click

from core.errors import UserError
from pipeline.commands.common import settings_options

if typing.TYPE_CHECKING:
    from kubeflow import client as kfp

EXPERIMENT = "alexnet"
CONTEXT = "alexnet.kubeflow.context"  # where click keeps the context of the kubeconfig, for what asks Kubernetes


def connection_options(command: Callable) -> Callable:
    """Adds the options that name the server; the command gets an open client as its first argument."""
    options = [
        click.option("--host", metavar="URL", help="Kubeflow Pipelines: its user interface or its API server."),
        click.option("--ui", metavar="URL", help="Its user interface, if --host is the API server."),
        click.option("--context", metavar="NAME", help="Of the kubeconfig; its current one if not given."),
        click.option("--namespace", metavar="NAME", help="Yours, where the server has several users."),
        click.option("--token-file", metavar="FILE", help="A file with a bearer token."),
        click.option("--ca-file", metavar="FILE", help="Certificates (PEM) to trust instead of the public ones."),
        click.option("--insecure", is_flag=True, help="Do not check the server's certificate."),
        click.option("--experiment", default=EXPERIMENT, show_default=True, help="What runs are filed under."),
    ]

    @functools.wraps(command)
    def connected(**arguments: typing.Any) -> object:
        from kubeflow import client, connection

        names = ("host", "ui", "context", "namespace", "token_file", "ca_file")
        named = {key: arguments.pop(key) for key in names}
        insecure = arguments.pop("insecure")
        click.get_current_context().meta[CONTEXT] = named["context"]

        def connect() -> client.Client:
            return client.Client(connection.connect(**named, verify=not insecure))

        try:
            return command(connect, **arguments)
        except connection.ClientError as problem:
            raise UserError(str(problem)) from None

    for option in reversed(options):
        connected = option(connected)
    return connected


def package_options(command: Callable) -> Callable:
    """Adds what says which pipeline, and the values it gets."""
    options = [
        click.option("--image", metavar="IMAGE@DIGEST", help="The image of the containers."),
        click.option("--pipeline", "file", metavar="FILE", help="Take what `compile` wrote, instead of compiling."),
        click.option(
            "--param",
            "values",
            multiple=True,
            metavar="NAME=VALUE",
            help="A parameter of the pipeline, e.g. epochs=3.",
        ),
        click.option("--pipeline-root", metavar="URI", help="Where artifacts go; the server's default if not given."),
        click.option("--service-account", metavar="NAME", help="Kubernetes service account of the nodes."),
    ]
    for option in reversed(options):
        command = option(command)
    return settings_options(command)


def compiled(preset: str, changes: tuple[str, ...], image: str | None) -> str:
    """The pipeline with these settings as YAML. Raises UserError."""
    from core import settings

    chosen = settings.load(preset, changes)  # said at once, not when TensorFlow has loaded
    if sys.stderr.isatty():
        click.echo("Compiling the pipeline, which takes some seconds ...", err=True)
    from core.output import quiet

    with quiet():
        from pipeline import kubeflow_runner

    return kubeflow_runner.compile(chosen, **({"image": image} if image else {}))


def read_package(preset: str, changes: tuple[str, ...], image: str | None, file: str | None) -> kfp.Package:
    """The pipeline in a file that `compile` wrote, or compiled now. Raises UserError."""
    from kubeflow import connection, package

    if file is None:
        return package.read_package(compiled(preset, changes, image))
    context = click.get_current_context()
    for option in ("preset", "changes", "image"):
        if context.get_parameter_source(option) is not click.core.ParameterSource.DEFAULT:
            raise UserError("--pipeline is compiled already: leave out --preset, --set and --image.")
    try:
        return package.read_package(pathlib.Path(file).read_text(encoding="utf-8"))
    except OSError as problem:
        raise UserError(f"--pipeline {file}: {problem.strerror}.") from None
    except (UnicodeDecodeError, connection.ClientError):
        raise UserError(f"--pipeline {file}: it is not what `alexnet kubeflow compile` writes.") from None


def read_parameters(package: kfp.Package, values: tuple[str, ...]) -> dict[str, object]:
    """The values of `--param`: text as it is, numbers read as JSON (YAML takes 1e-3 for text), the rest as YAML."""
    import yaml

    found: dict[str, object] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--param {text}: write it as --param name=value, for example --param epochs=3.")
        kind = package.parameters.get(name, {}).get("parameterType", "STRING")
        found[name] = value
        try:
            if kind.startswith("NUMBER"):
                with contextlib.suppress(ValueError):  # the check of the parameters says it better
                    found[name] = json.loads(value)
            elif kind != "STRING":
                found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--param {text}: the value is not valid YAML; put it in quotes.") from None
    return found
