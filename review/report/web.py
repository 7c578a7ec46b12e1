"""What all pages are made with: the templates, and numbers, times and shares as people read them."""

from __future__ import annotations

import base64
import functools
import hashlib
import pathlib

import jinja2
import markupsafe

TEMPLATES = pathlib.Path(__file__).parent / "templates"
NONE = "–"  # what stands where a number does not exist


@functools.cache
def environment() -> jinja2.Environment:
    """Where templates come from: everything is escaped, and a name that is not defined is an error.

    Filters: `percent`, `number`, `points`, `moment`, `duration`, `plural`; `sha256` for the content security policy.
    Global: `asset(name)`, the text of a style sheet or script of `templates/`, as it is.
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (percent, number, points, moment, duration, plural, sha256)
    made.filters.update({function.__name__: function for function in filters})
    made.globals["asset"] = asset
    return made


def asset(name: str) -> markupsafe.Markup:
    """The text of a file in `templates/`, as it is."""
    return markupsafe.Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def sha256(text: str) -> str:
    """The hash by which a content security policy allows an inline script."""
    return base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()


def percent(share: float | None, digits: int = 1) -> str:
    """0.5 -> "50.0 %", with a thin no-break space; "<0.1 %" for what rounds to none; a dash for None."""
    if share is None:
        return NONE
    text = f"{100 * share:.{digits}f}"
    if share > 0 and float(text) == 0:
        text = f"<{10**-digits:.{digits}f}"
    return f"{text}\u202f%"


def number(value: float | None, digits: int = 0) -> str:
    """1234.5 -> "1,234" or, with two digits, "1,234.50"; a dash for None."""
    return NONE if value is None else f"{value:,.{digits}f}".replace("-", "−")


def points(difference: float | None, digits: int = 1) -> str:
    """A difference of shares in percentage points with its sign: 0.012 -> "+1.2"; a dash for None."""
    if difference is None:
        return NONE
    text = f"{100 * difference:+.{digits}f}"
    return f"±{text[1:]}" if float(text) == 0 else text.replace("-", "−")


def moment(text: str | None) -> str:
    """An ISO 8601 time to the minute: "2026-01-31 23:59"; a dash for None."""
    return NONE if text is None else text.replace("T", " ")[:16]


def duration(seconds: float | None) -> str:
    """Seconds for people: "0.4 s", "12 s", "3 min 05 s", "2 h 07 min"; a dash for None."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def plural(count: int, one: str, many: str | None = None) -> str:
    """(1, "class", "classes") -> "1 class"; (2000, ...) -> "2,000 classes"; `many` defaults to one + s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
