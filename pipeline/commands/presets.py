"""`alexnet presets`."""

from __future__ import annotations

import click


@click.command("presets")
def command() -> None:
    """List the presets."""
    from core import settings

    found = settings.presets()
    width = max(map(len, found))
    for name, text in found.items():
        click.echo(f"{name:<{width}}  {text}")
