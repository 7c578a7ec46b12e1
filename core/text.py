"""Text that is data, made fit to be shown."""

from __future__ import annotations


def plain(value: object) -> str:
    """As text on one line; what a terminal would obey, or an SVG file must not hold, is shown as �."""
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"
        for letter in str(value)
    )


def setting(value: object) -> str:
    """The value of a setting: a number with up to four digits, true and false as in YAML."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).lower() if isinstance(value, bool) else plain(value)
