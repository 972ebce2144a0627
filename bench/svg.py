"""Plots as SVG, written by hand: the same input gives the same bytes, and nobody needs a plotting library.

Colours are those of Okabe and Ito, which people tell apart who see red and green alike; each series has a shape of its
own, too. Medians are marks, quartiles the lines through them. What was published in 2019 is grey and dashed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final

from bench import common
from bench.measure import percentile, quartiles
from bench.results import Chart, Series, Unit

WIDTH: Final = 900
_ROW: Final = 19
_MARGIN: Final = 14
_HISTORY: Final = "#666666"
_INK: Final = "#222222"
_GRID: Final = "#dddddd"
_PALETTE: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a6d00")
_KNOWN: Final = {
    # The same engine has the same look in every plot.
    "Lucet": 0,
    "wasmtime": 1,
    "node": 2,
    "wasmtime-py": 4,
    "Lucet, Python": 5,
    "native": 6,
}
_STYLE: Final = (
    "text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#222}"
    ".t{font-size:15px;font-weight:600}.s,.h{font-size:12px;fill:#444;paint-order:stroke;stroke:#fff;stroke-width:3px}.r{text-anchor:end}"
    ".m{text-anchor:middle}"
)


def draw(chart: Chart) -> str:
    return {"bars": _bars, "lines": _lines, "density": _density, "strip": _strip}[chart.kind](chart)


def show(value: float, unit: Unit) -> str:
    """A figure with its unit, in three digits."""
    if unit == "ns":
        return common.time(value)
    if unit == "ratio":
        return common.number(value)
    if unit == "per second":
        return f"{value:,.0f}/s"
    for name, size in (("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)):
        if abs(value) < 1000 * size:
            return f"{common.number(value / size)} {name}" if size > 1 else f"{value:.0f} B"
    return f"{common.number(value / (1 << 30))} GiB"


# ---- parts ----


class _Scale:
    """Values to pixels, with the ticks that a reader can use."""

    def __init__(self, low: float, high: float, *, log: bool, start: float, end: float, unit: Unit = "ratio") -> None:
        self.unit = unit
        self.log = log and low > 0
        if self.log:
            self.low, self.high = low / 1.12, high * 1.12
        else:
            self.low, self.high = min(low, 0.0), (high or 1.0) * 1.08
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        if self.log:
            share = (math.log(max(value, self.low)) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        if not self.log:
            about = (self.high - self.low) / 5
            size = 1024 if self.unit == "bytes" and about > 1024 else 1
            step = _nice_step(about / size) * size
            first = math.ceil(self.low / step)
            return [i * step for i in range(first, math.floor(self.high / step) + 1)]
        decades = math.log10(self.high / self.low)
        fine = (1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)
        usual = ((0.5, fine), (1, (1, 1.5, 2, 3, 5, 7)), (2.5, (1, 2, 5)), (4, (1, 3)), (math.inf, (1,)))
        steps = next(steps for until, steps in usual if decades < until)
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        return [m * 10.0**e for e in exponents for m in steps if self.low <= m * 10.0**e <= self.high]


def _nice_step(about: float) -> float:
    size = 10.0 ** math.floor(math.log10(about))
    return next(size * m for m in (1, 2, 5, 10) if size * m >= 0.8 * about)


def _tick(value: float, unit: Unit) -> str:
    text = show(value, unit)
    number, space, rest = text.partition(" ")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + space + rest


def _text(x: float, y: float, text: str, classes: str = "") -> str:
    attribute = f' class="{classes}"' if classes else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attribute}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: float = 1, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{dashed}/>'
    )


def _polyline(points: Sequence[tuple[float, float]], colour: str, *, width: float = 2, dash: str = "") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}/>'


def _mark(x: float, y: float, look: _Look) -> str:
    if look.dash:
        paint = f'fill="#fff" stroke="{look.colour}" stroke-width="1.8"'
    else:
        paint = f'fill="{look.colour}" stroke="#fff" stroke-width="0.8"'
    corners: tuple[tuple[float, float], ...]
    match look.shape:
        case 0:
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {paint}/>'
        case 1:
            return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" {paint}/>'
        case 2:
            corners = ((x, y - 6), (x + 5.5, y + 4.5), (x - 5.5, y + 4.5))
        case _:
            corners = ((x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y))
    return f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in corners)}" {paint}/>'


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    colour: str
    shape: int
    dash: str = ""
    """Of what an engine does in another way than in its first series, which has the same colour."""


def _looks(series: Sequence[Series]) -> list[_Look]:
    """The engine's own ("Lucet, shared slots" is Lucet's), or one that is free."""
    engines = [one.name if one.name in _KNOWN else one.name.partition(", ")[0] for one in series]
    free = iter([*({*range(len(_PALETTE))} - {_KNOWN[name] for name in engines if name in _KNOWN}), *range(100)])
    numbers: dict[str, int] = {}
    looks: list[_Look] = []
    for engine in engines:
        ways = engines[: len(looks)].count(engine)
        dash = ("", "7 4", "2 3", "9 3 2 3")[min(ways, 3)]
        number = numbers.setdefault(engine, _KNOWN[engine] if engine in _KNOWN else next(free))
        looks.append(_Look(colour=_PALETTE[number % len(_PALETTE)], shape=(number + max(ways - 1, 0)) % 4, dash=dash))
    return looks


def _wide(text: str) -> float:
    """About how many pixels it takes."""
    return sum(4.2 if letter in " ,.:;ilfrtj1" else 7.9 for letter in text)


def _legend(series: Sequence[Series], looks: Sequence[_Look], y: float) -> tuple[list[str], float]:
    parts, x = [], float(_MARGIN) + 6
    for one, look in zip(series, looks, strict=True):
        if x + _wide(one.name) + 22 > WIDTH - _MARGIN:
            x, y = float(_MARGIN) + 6, y + 20
        parts += [_mark(x, y - 4, look), _text(x + 11, y, one.name)]
        x += _wide(one.name) + 34
    return parts, y + 14


def _document(chart: Chart, height: float, parts: Sequence[str]) -> str:
    medians = "; ".join(
        f"{one.name}: {point.x}: {show(statistics.median(point.samples), chart.unit)}"
        for one in chart.series
        for point in one.points
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-labelledby="{chart.name}-t {chart.name}-d">'
        f'<title id="{chart.name}-t">{escape(chart.title)}</title>'
        f'<desc id="{chart.name}-d">{escape(medians)}</desc>'
        f"<style>{_STYLE}</style>"
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
        f"{_text(_MARGIN, 22, chart.title, 't')}{''.join(parts)}</svg>\n"
    )


def _values(chart: Chart) -> list[float]:
    """Everything that must be inside the axis."""
    values = [value for one in chart.historical for _, value in one.values]
    for one in chart.series:
        for point in one.points:
            values += [statistics.median(point.samples), *quartiles(point.samples)]
    return values


# ---- bars: a band for each category, in it a row for each engine ----


def _bars(chart: Chart) -> str:
    looks = _looks(chart.series)
    parts, top = _legend(chart.series, looks, 46)
    categories = list(dict.fromkeys(point.x for one in chart.series for point in one.points))
    left = min(max(_wide(one) for one in categories) + 30, 380.0)
    values = _values(chart)
    scale = _Scale(min(values), max(values), log=chart.log, start=left, end=WIDTH - 130, unit=chart.unit)
    rows: list[str] = []
    y = top + 8
    for number, category in enumerate(categories):
        begin = y
        for one, look in zip(chart.series, looks, strict=True):
            for point in one.points:
                if point.x == category:
                    rows += _bar(scale, y + _ROW / 2, point.samples, look, chart.unit)
                    y += _ROW
        for historical in chart.historical:
            for x, value in historical.values:
                if x == category:
                    rows += _historical_bar(scale, begin, y, value, historical.label)
                    y += _ROW
        rows.append(_text(left - 12, (begin + y) / 2 + 4, category, "r"))
        if number + 1 < len(categories):
            rows.append(_line(_MARGIN, y + 5, WIDTH - _MARGIN, y + 5, _GRID))
        y += 10
    for tick in scale.ticks():
        parts.append(_line(scale(tick), top, scale(tick), y, _GRID))
        parts.append(_text(scale(tick), y + 16, _tick(tick, chart.unit), "s m"))
    return _document(chart, y + 28, [*parts, *rows])


def _bar(scale: _Scale, y: float, samples: Sequence[float], look: _Look, unit: Unit) -> list[str]:
    median, (low, high) = statistics.median(samples), quartiles(samples)
    return [
        f'<line x1="{scale.start:.1f}" y1="{y:.1f}" x2="{scale(median):.1f}" y2="{y:.1f}" stroke="{look.colour}" '
        'stroke-width="2" stroke-opacity="0.3"/>',
        _line(scale(low), y, scale(high), y, look.colour, width=4),
        _mark(scale(median), y, look),
        _text(max(scale(high), scale(median) + 5) + 6, y + 4, show(median, unit), "s"),
    ]


def _historical_bar(scale: _Scale, begin: float, y: float, value: float, label: str) -> list[str]:
    x = scale(value)
    near_end = x + _wide(label) > WIDTH - _MARGIN
    at = (x - 8, "h r") if near_end else (x + 8, "h")
    return [
        _line(x, begin, x, y + _ROW, _HISTORY, width=1.5, dash="4 3"),
        _text(at[0], y + _ROW / 2 + 4, label, at[1]),
    ]


# ---- strip: a row for each engine, in it a dot for each point ----


def _strip(chart: Chart) -> str:
    parts: list[str] = []
    left = max(_wide(one.name) for one in chart.series) + 40
    medians = [[statistics.median(point.samples) for point in one.points] for one in chart.series]
    top, row = 44.0, 44.0
    bottom = top + row * len(chart.series)
    values = [value for one in medians for value in one]
    scale = _Scale(min(values), max(values), log=chart.log, start=left, end=WIDTH - 30)
    for tick in scale.ticks():
        parts.append(_line(scale(tick), top, scale(tick), bottom, _GRID))
        parts.append(_text(scale(tick), bottom + 16, _tick(tick, chart.unit), "s m"))
    if chart.unit == "ratio" and scale.low < 1 < scale.high:
        parts.append(_line(scale(1), top, scale(1), bottom, _INK, width=1.5))
    for number, (one, look, values) in enumerate(zip(chart.series, _looks(chart.series), medians, strict=True)):
        y = top + row * (number + 0.5)
        for i, (point, value) in enumerate(zip(one.points, values, strict=True)):
            at = f'cx="{scale(value):.1f}" cy="{y - 8 + i * 5 % 13:.1f}" r="3.5"'
            name = f"<title>{escape(point.x)}: {show(value, chart.unit)}</title>"
            parts.append(f'<circle {at} fill="{look.colour}" fill-opacity="0.4">{name}</circle>')
        mean = statistics.geometric_mean(values)
        parts.append(_line(scale(mean), y - 14, scale(mean), y + 14, look.colour, width=3))
        parts += [_mark(scale(mean), y - 2, look), _text(scale(mean) + 8, y + 18, show(mean, chart.unit), "s")]
        parts.append(_text(left - 14, y + 3, one.name, "r"))
    parts.append(_text((left + WIDTH) / 2, bottom + 36, chart.x_label, "m"))
    return _document(chart, bottom + 48, parts)


# ---- lines ----


def _lines(chart: Chart) -> str:
    looks = _looks(chart.series)
    parts, top = _legend(chart.series, looks, 46)
    steps = list(dict.fromkeys(point.x for one in chart.series for point in one.points))
    values = _values(chart)
    left, right, bottom = 84.0, WIDTH - 24.0, top + 330
    scale = _Scale(min(values), max(values), log=chart.log, start=bottom, end=top + 6, unit=chart.unit)
    at = {step: left + 44 + (right - left - 88) * i / max(len(steps) - 1, 1) for i, step in enumerate(steps)}
    for tick in scale.ticks():
        parts.append(_line(left, scale(tick), right, scale(tick), _GRID))
        parts.append(_text(left - 8, scale(tick) + 4, _tick(tick, chart.unit), "s r"))
    for step in steps:
        parts.append(_line(at[step], bottom, at[step], bottom + 5, _INK))
        parts.append(_text(at[step], bottom + 20, step, "s m"))
    parts.append(_line(left, bottom, right, bottom, _INK))
    parts.append(_text((left + right) / 2, bottom + 40, chart.x_label, "m"))
    for historical in chart.historical:
        points = [(at[x], scale(value)) for x, value in historical.values if x in at]
        parts += _historical_line(points, historical.label, right)
    for one, look in zip(chart.series, looks, strict=True):
        medians = [(at[point.x], scale(statistics.median(point.samples))) for point in one.points]
        parts.append(_polyline(medians, look.colour, dash=look.dash))
        for point, (x, y) in zip(one.points, medians, strict=True):
            low, high = quartiles(point.samples)
            parts += [_line(x, scale(low), x, scale(high), look.colour, width=3), _mark(x, y, look)]
    return _document(chart, bottom + 52, parts)


def _historical_line(points: Sequence[tuple[float, float]], label: str, right: float) -> Iterator[str]:
    if not points:
        return
    yield _polyline(points, _HISTORY, width=1.5, dash="6 4")
    x, y = points[-1]
    yield _text(min(x, right), y - 8, label, "h r")


# ---- density: how often which time came ----

_BINS: Final = 90


def _density(chart: Chart) -> str:
    looks = _looks(chart.series)
    parts, top = _legend(chart.series, looks, 46)
    samples = [[value for point in one.points for value in point.samples] for one in chart.series]
    low = min(percentile(one, 0.002) for one in samples)
    high = max(percentile(one, 0.99) for one in samples)
    values = [value for historical in chart.historical for _, value in historical.values]
    left, right, bottom = 84.0, WIDTH - 24.0, top + 300
    scale = _Scale(min([low, *values]), max([high, *values]), log=chart.log, start=left, end=right)
    shares = [_shares(one, scale) for one in samples]
    height = _Scale(0, max(max(one) for one in shares), log=False, start=bottom, end=top + 10)
    for tick in height.ticks():
        parts.append(_line(left, height(tick), right, height(tick), _GRID))
        parts.append(_text(left - 8, height(tick) + 4, f"{100 * tick:.0f} %", "s r"))
    for tick in scale.ticks():
        parts.append(_line(scale(tick), bottom, scale(tick), bottom + 5, _INK))
        parts.append(_text(scale(tick), bottom + 20, _tick(tick, chart.unit), "s m"))
    parts.append(_line(left, bottom, right, bottom, _INK))
    parts.append(_text((left + right) / 2, bottom + 40, chart.x_label, "m"))
    for historical in chart.historical:
        for _, value in historical.values:
            parts += _historical_bar(scale, top, bottom - _ROW, value, historical.label)
    for one, look, share in zip(samples, looks, shares, strict=True):
        corners: list[tuple[float, float]] = []
        width = (right - left) / _BINS
        for i, (before, this) in enumerate(pairwise([0.0, *share, 0.0])):
            corners += [(left + i * width, height(before)), (left + i * width, height(this))]
        parts.append(_polyline(corners, look.colour, width=1.8, dash=look.dash))
        middle = statistics.median(one)
        parts.append(_mark(scale(middle), height(share[_bin(middle, scale)]), look))
    return _document(chart, bottom + 52, parts)


def _bin(value: float, scale: Callable[[float], float]) -> int:
    share = (scale(value) - 84.0) / (WIDTH - 24.0 - 84.0)
    return min(max(int(share * _BINS), 0), _BINS - 1)


def _shares(samples: Sequence[float], scale: Callable[[float], float]) -> list[float]:
    counts = [0] * _BINS
    for value in samples:
        counts[_bin(value, scale)] += 1
    return [count / len(samples) for count in counts]
