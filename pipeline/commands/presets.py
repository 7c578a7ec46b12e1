"""`alexnet presets`."""

from __future__ import annotations

import click


@click.command("presets")
def command() -> None:
    """List the presets."""
    from core import settings

    for name, text in settings.presets().items():
        click.echo(f"{name:<12} {text}")
