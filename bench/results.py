"""What a run of the suite leaves: samples, with what a figure means nothing without. Reports are made of this alone.

The file is JSON, one object per dataclass with the same names; numbers are rounded to four digits.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

Kind = Literal["bars", "lines", "density", "strip"]
Unit = Literal["ns", "bytes", "ratio", "per second"]

FORMAT: Final = 1
"""Of the file; another number is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """Samples of one thing, one for each round."""

    x: str
    """A category, or for lines a step of the axis: "64 KiB"."""
    samples: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """What one engine did."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Historical:
    """A figure that was published for the original in 2019, on other hardware."""

    label: str
    """With the figure in words: what it includes and what not."""
    values: tuple[tuple[str, float], ...]
    """(x, value), x as in the points."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One plot and its table.

    bars: x are categories. lines: x are steps, in order. density: of each series the distribution of all its samples.
    strip: of each series the medians of all points as dots in one row, with their geometric mean; x are their names.
    """

    name: str
    """Of the file; unique in a report."""
    title: str
    kind: Kind
    series: tuple[Series, ...]
    unit: Unit = "ns"
    x_label: str = ""
    log: bool = True
    """The axis of values."""
    historical: tuple[Historical, ...] = ()
    words: str = ""
    """What is measured, how, and what a reader must know of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    name: str
    title: str
    words: str
    command: str
    """Measures this again."""
    charts: tuple[Chart, ...]
    absent: tuple[str, ...] = ()
    """What is not here, and why: a peer that is not installed, a program that is not there."""
    seconds: float = 0
    failed: bool = False
    """It ended in another way than measuring or saying what it lacks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    date: str
    command: str
    quick: bool
    """Few rounds: the figures show that everything runs, and nothing else."""
    machine: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    load: tuple[float, float]
    """Of the machine, before and after."""
    timer: float
    """Nanoseconds that reading the clock takes."""
    sections: tuple[Section, ...]


def write(report: Report, path: Path) -> None:
    text = json.dumps({"format": FORMAT, **_rounded(asdict(report))}, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> Report:
    """ValueError: it is no such file."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(stored, dict) or stored.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: no results of this version of the suite")
    stored["sections"] = tuple(section(one) for one in stored["sections"])
    for name in ("machine", "versions"):
        stored[name] = tuple((key, value) for key, value in stored[name])
    before, after = stored["load"]
    return Report(**{**stored, "load": (before, after)})


def section(stored: dict[str, Any]) -> Section:
    """From what JSON makes of it."""
    charts = tuple(_chart(one) for one in stored["charts"])
    return Section(**{**stored, "charts": charts, "absent": tuple(stored["absent"])})


def section_to_json(one: Section) -> dict[str, Any]:
    rounded: dict[str, Any] = _rounded(asdict(one))
    return rounded


def _chart(stored: dict[str, Any]) -> Chart:
    series = tuple(
        Series(name=one["name"], points=tuple(Point(x=p["x"], samples=tuple(p["samples"])) for p in one["points"]))
        for one in stored["series"]
    )
    historical = tuple(
        Historical(label=one["label"], values=tuple((x, value) for x, value in one["values"]))
        for one in stored["historical"]
    )
    return Chart(**{**stored, "series": series, "historical": historical})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return _four_digits(value)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def _four_digits(value: float) -> float:
    if not value or not math.isfinite(value):
        return value
    rounded = round(value, 3 - math.floor(math.log10(abs(value))))
    return int(rounded) if rounded == int(rounded) else rounded
