"""`alexnet config`."""

from __future__ import annotations

import click

from pipeline.commands.common import settings_options


@click.command("config")
@settings_options
def command(preset: str, changes: tuple[str, ...]) -> None:
    """Print the full effective settings, as YAML that --preset reads back."""
    from core import settings

    click.echo(settings.dump(settings.load(preset, changes)), nl=False)
