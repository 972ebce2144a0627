"""Drawings as SVG, of facts that stand in the sources: the slot of an instance, and its states."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass
from html import escape
from typing import Final

from docs.extension import api, tables
from lucet.abi.tables import VMCTX
from lucet.limits import HOST_PAGE_SIZE
from lucet.runtime import Region

COLOURS: Final = {"guard": "#d6336c", "memory": "#1c7ed6", "area": "#2b8a3e", "stack": "#e8590c", "other": "#868e96"}


@dataclass(frozen=True, kw_only=True)
class Box:
    """A part of the address space. Widths are not to scale: 4 GiB would leave nothing to see of the rest."""

    label: str
    size: str
    width: int
    kind: str


def size(count: int) -> str:
    """Bytes as people write them: 33554432 -> "32 MiB"."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << shift and count % (1 << shift) == 0:
            return f"{count >> shift} {unit}"
    return f"{count} bytes"


def defaults() -> dict[str, int]:
    """The options of a Region that are numbers, from the stub."""
    return {name: int(value) for name, value in re.findall(r"(\w+): int ?= ?(\d+)", api.constructor(Region))}


def stack_guard() -> int:
    """Bytes below each guest stack that fault, from the core's header."""
    (shift,) = re.findall(r"STACK_GUARD = 1 << (\d+)", (tables.ROOT / "native" / "internal.h").read_text())
    return 1 << int(shift)


def slot() -> str:
    """A slot with its neighbours, the words below vmctx, and a guest stack, which belongs to no slot."""
    region = defaults()
    row = [
        Box(label="guard", size="of the slot before", width=120, kind="guard"),
        Box(label="instance area", size=size(region["instance_area"]), width=150, kind="area"),
        Box(label="memory 0", size=f"reserved: {size(region['memory_reserved'])}", width=290, kind="memory"),
        Box(label="guard", size=size(region["memory_guard"]), width=100, kind="guard"),
        Box(label="next slot", size="", width=80, kind="area"),
    ]
    below = [Box(label="globals, imports, references", size="as the compiler planned", width=220, kind="area")]
    below += [Box(label=name, size=str(offset), width=68, kind="area") for name, offset in reversed(VMCTX.items())]
    stack = [
        Box(label="guard", size=size(stack_guard()), width=100, kind="guard"),
        Box(label="stack, grows down", size=size(region["stack_size"]), width=290, kind="stack"),
        Box(label="activation", size=size(HOST_PAGE_SIZE), width=100, kind="other"),
    ]
    drawn = [
        *caption(0, "a slot in its region, lower addresses on the left (widths are not to scale)"),
        *bar(20, 24, row),
        *pointer(20 + 120 + 150, 24, "vmctx"),
        *caption(148, "the end of the instance area: offsets from vmctx, in bytes; generated code reads these words"),
        *bar(20, 172, below, small=True),
        *pointer(20 + sum(box.width for box in below), 172, "vmctx"),
        *caption(296, "a guest stack: taken while a run lasts, so an idle instance has none"),
        *bar(20, 320, stack),
    ]
    return svg(820, 400, inspect.getdoc(slot) or "", drawn)


def words(x: float, y: int, text: str, attributes: str = "") -> str:
    return f'<text x="{x}" y="{y}" fill="currentColor" {attributes}>{escape(text)}</text>'


STATES: Final = {
    "FREE": (90, 60),
    "NOT_STARTED": (90, 300),
    "READY": (410, 60),
    "RUNNING": (410, 300),
    "SUSPENDED": (730, 180),
    "FAULTED": (730, 420),
}
"""Where the middle of each state is drawn."""


def states() -> str:
    """What leads from state to state but the instance's end: an arrow for each pair, with the events that are it."""
    texts = {name: text for (name, text), _ in tables.macros("states.def", "STATE")}
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event, to), _ in tables.macros("transitions.def", "TRANSITION"):
        # A module that is not started has something to start, which makes "initial" the same state again.
        initial = ("NOT_STARTED",) if state == "NOT_STARTED" else ("NOT_STARTED", "READY")
        for target in initial if to == "INITIAL" else (to,):
            if target not in ("ERROR", "FREE", state):
                arrows.setdefault((state, target), []).append(event.lower().replace("_", " "))
    drawn = [arrow(STATES[start], STATES[end], events) for (start, end), events in arrows.items()]
    for name, (x, y) in STATES.items():
        colour = f'fill="{COLOURS["memory"]}" fill-opacity="0.18" stroke="{COLOURS["memory"]}"'
        drawn.append(f'<rect x="{x - 55}" y="{y - 20}" width="110" height="40" rx="8" {colour}/>')
        drawn.append(words(x, y + 5, texts[name], 'text-anchor="middle" font-weight="600"'))
    return svg(820, 470, inspect.getdoc(states) or "", drawn)


def arrow(start: tuple[int, int], end: tuple[int, int], events: list[str]) -> str:
    """From border to border, a little to the left of the line between the middles, so that two do not meet."""
    x, y = start
    length = math.dist(start, end)
    along = (end[0] - x) / length, (end[1] - y) / length
    aside = (along[1] * 13, -along[0] * 13)
    inner = min(62 / abs(along[0]) if along[0] else 1e9, 26 / abs(along[1]) if along[1] else 1e9)  # to the border
    from_x, from_y = x + along[0] * inner + aside[0], y + along[1] * inner + aside[1]
    to_x, to_y = end[0] - along[0] * inner + aside[0], end[1] - along[1] * inner + aside[1]
    line = f'<path d="M{from_x:.0f} {from_y:.0f}L{to_x:.0f} {to_y:.0f}" stroke="currentColor" marker-end="url(#tip)"/>'
    # Nearer to where it begins: there arrows of different states are furthest apart.
    at_x, at_y = from_x * 0.62 + to_x * 0.38 + aside[0] * 0.4, from_y * 0.62 + to_y * 0.38 + aside[1] * 0.4
    attributes = 'text-anchor="middle" font-size="11" class="on-line"'
    above = 13 * (len(events) - 1) / 2 - 4
    labels = [words(round(at_x), round(at_y + 13 * i - above), event, attributes) for i, event in enumerate(events)]
    return line + "".join(labels)


def svg(width: int, height: int, title: str, parts: list[str]) -> str:
    """A drawing that fits the page, in the colour of its text."""
    style = "font-family:system-ui,sans-serif;font-size:12px;max-width:100%;height:auto"
    tip = '<defs><marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
    tip += '<path d="M0 0L9 4L0 8z" fill="currentColor"/></marker></defs>'
    box = f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} style="{style}">{tip}{"".join(parts)}</svg>'


def caption(y: int, text: str) -> list[str]:
    return [words(20, y + 14, text, 'font-weight="600"')]


def bar(x: int, y: int, boxes: list[Box], *, small: bool = False) -> list[str]:
    parts = []
    for box in boxes:
        fill, font = COLOURS[box.kind], 8 if small and box.width < 100 else 12
        colour = f'fill="{fill}" fill-opacity="0.18" stroke="{fill}"'
        parts.append(f'<rect x="{x}" y="{y}" width="{box.width}" height="56" {colour}/>')
        for line, text in enumerate([box.label, box.size]):
            attributes = f'text-anchor="middle" font-size="{font}"'
            parts.append(words(x + box.width / 2, y + 24 + 18 * line, text, attributes))
        x += box.width
    return parts


def pointer(x: int, y: int, text: str) -> list[str]:
    head = f"M{x - 4} {y + 66}L{x} {y + 59}L{x + 4} {y + 66}"
    arrow = f'<path d="M{x} {y + 80}V{y + 60}{head}" stroke="currentColor" fill="none"/>'
    return [arrow, words(x, y + 94, text, 'text-anchor="middle" font-family="monospace"')]
