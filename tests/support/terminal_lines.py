"""What a function writes into a terminal."""

import io

from rich.console import Console

# Names of classes that a terminal, Rich or HTML could obey, or that are wide.
AWKWARD = ("[red]cat[/]", "<script>alert(1)</script>", "a\x1b[31mb\nc", "猫" * 30, "owl")


def shown(show, *arguments, width=80, colour=False, **options):
    """The lines that `show` writes into a terminal of this width."""
    file = io.StringIO()
    console = Console(
        file=file, width=width, highlight=False, force_terminal=colour, color_system="truecolor" if colour else None
    )
    show(console, *arguments, **options)
    return file.getvalue().splitlines()
