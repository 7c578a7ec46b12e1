"""Charts as inline SVG. Colours come from the page's style sheet, so that both colour schemes work.

Every chart is role="img" with its numbers in words (`aria-label`), and its marks carry tooltips (`<title>`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from xml.etree import ElementTree

import markupsafe

from review.report.schema import CalibrationBin, Interval

WIDTH, HEIGHT = 420, 230  # in CSS pixels where the page is wide enough
LEFT, RIGHT, TOP, BOTTOM = 50, 20, 26, 36  # around the plot
Format = Callable[[float], str]


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: for the legend.
        values: one for each x; None, NaN and infinity leave a gap.
        bands: around each value, e.g. its interval.
        filled: whether each value's dot is filled; None draws no dots but a lone value's.
    """

    name: str
    values: Sequence[float | None]
    bands: Sequence[Interval] | None = None
    filled: Sequence[bool] | None = None

    def __post_init__(self) -> None:
        known = [None if value is None or not math.isfinite(value) else value for value in self.values]
        object.__setattr__(self, "values", known)


def lines(
    label: str,
    x: Sequence[str],
    drawn: Sequence[Line],
    x_name: str,
    form: Format,
    bounds: tuple[float | None, float | None] = (None, None),
) -> markupsafe.Markup:
    """A line chart over equally spaced x.

    Args:
        label: what it shows, in words, for those who cannot see it.
        x: the names of the places on the x-axis.
        drawn: up to four lines; the second is dashed, so that two can be told apart without colour.
        x_name: of the x-axis.
        form: writes a value of the y-axis.
        bounds: what the y-axis does not go below and above.
    """
    known = [value for line in drawn for value in line.values if value is not None]
    known += [end for line in drawn for band in line.bands or () for end in band]
    ticks = _ticks(min(known, default=0), max(known, default=1), *bounds)
    low, high = ticks[0], ticks[-1]
    svg = _svg(WIDTH, HEIGHT, label)
    right = WIDTH - RIGHT
    bottom = HEIGHT - BOTTOM

    def across(place: int) -> float:
        return LEFT + (right - LEFT) * (place / (len(x) - 1) if len(x) > 1 else 0.5)

    def up(value: float) -> float:
        return bottom - (bottom - TOP) * (value - low) / (high - low)

    _y_axis(svg, ticks, up, form, right)
    every = math.ceil((len(x) - 1) / max(1, min(10, 34 // max(map(len, x))))) or 1
    for place in range(0, len(x), every):
        _add(svg, "line", "axis", x1=across(place), x2=across(place), y1=bottom, y2=bottom + 4)
        _add(svg, "text", "", x[place], x=across(place), y=bottom + 16, text_anchor="middle")
    _add(svg, "line", "axis", x1=LEFT, x2=right, y1=bottom, y2=bottom)
    _add(svg, "text", "", x_name, x=(LEFT + right) / 2, y=HEIGHT - 5, text_anchor="middle")

    legend: float = LEFT
    for number, line in enumerate(drawn, 1):
        style = f"s{number}"
        dash = " dash" if number % 2 == 0 else ""
        if len(drawn) > 1:
            _add(svg, "line", f"line {style}{dash}", x1=legend, x2=legend + 22, y1=10, y2=10)
            _add(svg, "text", style, line.name, x=legend + 27, y=14)
            legend += 45 + 6.2 * len(line.name)
        if line.bands:
            upper = [f"{across(n):.1f},{up(band[1]):.1f}" for n, band in enumerate(line.bands)]
            lower = [f"{across(n):.1f},{up(band[0]):.1f}" for n, band in enumerate(line.bands)]
            _add(svg, "polygon", f"band {style}", points=" ".join(upper + lower[::-1]))
        for run in _runs(line.values):
            if len(run) > 1:
                points = " ".join(f"{across(n):.1f},{up(value):.1f}" for n, value in run)
                _add(svg, "polyline", f"line {style}{dash}", points=points)
        for n, value in enumerate(line.values):
            if value is None:
                continue
            if line.filled:
                mark = _add(svg, "circle", f"dot {style}{'' if line.filled[n] else ' hollow'}", r=3.5)
            else:  # only to carry the tooltip, and to show a lone value
                mark = _add(svg, "circle", f"dot {style}" if len(x) == 1 else "touch", r=3 if len(x) == 1 else 7)
            mark.set("cx", f"{across(n):.1f}")
            mark.set("cy", f"{up(value):.1f}")
            _add(mark, "title", "", f"{line.name}, {x_name} {x[n]}: {form(value)}")
    return _markup(svg)


def bars(label: str, rows: Sequence[tuple[str, float, str]]) -> markupsafe.Markup:
    """Horizontal bars.

    Args:
        label: what it shows, in words.
        rows: name, value and what is written at the end of the bar.
    """
    step, left, right = 20, 122, 82
    most = max((value for _, value, _ in rows), default=0) or 1
    svg = _svg(WIDTH, step * len(rows) + 4, label)
    for number, (name, value, note) in enumerate(rows):
        y = step * number + 2
        length = max(1.0, (WIDTH - left - right) * value / most)
        _add(svg, "text", "", name, x=left - 8, y=y + 13, text_anchor="end")
        _add(svg, "rect", "fill", x=left, y=y + 3, width=length, height=step - 7)
        _add(svg, "text", "", note, x=left + length + 6, y=y + 13)
    return _markup(svg)


def reliability(label: str, bins: Sequence[CalibrationBin], form: Format) -> markupsafe.Markup:
    """A reliability diagram: the share that is right against the stated probability, and below it how many there are.

    After Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks (2017), figure 1.
    """
    height, bottom = 330, 240
    svg = _svg(WIDTH, height, label)
    right = WIDTH - RIGHT
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]

    def across(value: float) -> float:
        return LEFT + (right - LEFT) * value

    def up(value: float) -> float:
        return bottom - (bottom - TOP) * value

    _y_axis(svg, ticks, up, form, right)
    most = max(part.count for part in bins) or 1
    for part in bins:
        if not part.count:
            continue
        x, width = across(part.low) + 1, across(part.high) - across(part.low) - 2
        words = f"{form(part.low)} to {form(part.high)}: {part.count:,} examples"
        if part.accuracy is not None and part.confidence is not None:
            words += f", mean probability {form(part.confidence)}, right {form(part.accuracy)}"
            bar = _add(svg, "rect", "fill", x=x, y=up(part.accuracy), width=width, height=bottom - up(part.accuracy))
            _add(bar, "title", "", words)
            gap = sorted((up(part.accuracy), up(part.confidence)))
            _add(svg, "rect", "gap", x=x, y=gap[0], width=width, height=gap[1] - gap[0])
        tall = max(1.0, 40 * part.count / most)
        count = _add(svg, "rect", "faint", x=x, y=height - BOTTOM - tall, width=width, height=tall)
        _add(count, "title", "", words)
    _add(svg, "line", "line s2 dash", x1=LEFT, x2=right, y1=bottom, y2=TOP)
    for y in (bottom, height - BOTTOM):
        _add(svg, "line", "axis", x1=LEFT, x2=right, y1=y, y2=y)
    _add(svg, "text", "", f"{most:,}", x=LEFT - 6, y=height - BOTTOM - 33, text_anchor="end")
    _add(svg, "text", "", "0", x=LEFT - 6, y=height - BOTTOM + 3, text_anchor="end")
    for value in ticks:
        _add(svg, "text", "", form(value), x=across(value), y=height - BOTTOM + 16, text_anchor="middle")
    _add(svg, "text", "", "probability of the answer", x=(LEFT + right) / 2, y=height - 5, text_anchor="middle")
    _add(svg, "text", "", "share that is right", x=LEFT, y=14)
    _add(svg, "text", "", "examples", x=LEFT, y=bottom + 15)
    return _markup(svg)


def share(value: float, interval: Interval, baseline: float | None = None) -> markupsafe.Markup:
    """A share as a bar with its interval as a whisker, and a tick for the baseline. The numbers stand beside it."""
    svg = ElementTree.Element("svg", {"class": "share", "viewBox": "0 0 102 14", "width": "102", "height": "14"})
    svg.set("aria-hidden", "true")
    low, high = interval
    _add(svg, "rect", "back", x=1, y=3, width=100, height=8)
    _add(svg, "rect", "fill", x=1, y=3, width=100 * value, height=8)
    if baseline is not None:
        _add(svg, "line", "before", x1=1 + 100 * baseline, x2=1 + 100 * baseline, y1=0, y2=14)
    whisker = f"M{1 + 100 * low:.1f} 4.5v5M{1 + 100 * low:.1f} 7H{1 + 100 * high:.1f}M{1 + 100 * high:.1f} 4.5v5"
    _add(svg, "path", "whisker", d=whisker)
    return _markup(svg)


def spark(label: str, values: Sequence[float | None], width: int = 84, height: int = 20) -> markupsafe.Markup:
    """A line without axes that ends in a dot."""
    svg = _svg(width, height, label)
    svg.set("class", "spark")
    known = [value for value in values if value is not None]
    middle = (min(known) + max(known)) / 2
    span = max(max(known) - min(known), 0.05)  # a wobble shall not look like news

    def across(place: int) -> float:
        return 4 + (width - 8) * (place / (len(values) - 1) if len(values) > 1 else 1)

    def up(value: float) -> float:
        return height / 2 - (height - 8) * (value - middle) / span

    for run in _runs(values):
        if len(run) > 1:
            points = " ".join(f"{across(n):.1f},{up(value):.1f}" for n, value in run)
            _add(svg, "polyline", "line s1", points=points)
    if values[-1] is not None:
        _add(svg, "circle", "dot s1", cx=across(len(values) - 1), cy=up(values[-1]), r=2.5)
    return _markup(svg)


def _svg(width: float, height: float, label: str) -> ElementTree.Element:
    return ElementTree.Element(
        "svg",
        {
            "viewBox": f"0 0 {width:g} {height:g}",
            "width": f"{width:g}",
            "height": f"{height:g}",
            "role": "img",
            "aria-label": label,
        },
    )


def _add(
    parent: ElementTree.Element, tag: str, style: str, text: str | None = None, **places: float | str
) -> ElementTree.Element:
    part = ElementTree.SubElement(parent, tag, {"class": style} if style else {})
    for name, value in places.items():
        part.set(name.replace("_", "-"), value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0"))
    part.text = text
    return part


def _y_axis(
    svg: ElementTree.Element, ticks: Sequence[float], up: Callable[[float], float], form: Format, right: float
) -> None:
    for value in ticks:
        _add(svg, "line", "grid", x1=LEFT, x2=right, y1=up(value), y2=up(value))
        _add(svg, "text", "", form(value), x=LEFT - 6, y=up(value) + 4, text_anchor="end")


def _markup(svg: ElementTree.Element) -> markupsafe.Markup:
    return markupsafe.Markup(ElementTree.tostring(svg, "unicode"))  # which escapes


def _ticks(low: float, high: float, least: float | None, most: float | None) -> list[float]:
    """Round values, about five, that enclose low to high."""
    if high - low < 1e-9:
        pad = abs(high) * 0.05 or 0.5
        low, high = low - pad, high + pad
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [step * n for n in range(first, last + 1)]
    if least is not None:
        ticks = [value for value in ticks if value >= least - 1e-9]
    if most is not None:
        ticks = [value for value in ticks if value <= most + 1e-9]
    return ticks


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The values, each with its place, that have no gap between them."""
    found: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values):
        if value is not None:
            found[-1].append((place, value))
        elif found[-1]:
            found.append([])
    return [run for run in found if run]
