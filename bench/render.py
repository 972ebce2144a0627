"""A report from stored results: Markdown with SVG files beside it, and one HTML page that needs nothing else.

`render(report, folder)` is all; it measures nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from bench import common, svg
from bench.measure import percentile, quartiles, ratios
from bench.results import Chart, Point, Report, Section, Series
from bench.svg import show

_STYLE: Final = """
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:#222;background:#fff;
max-width:960px;margin:2em auto;padding:0 1em}
h1{font-size:1.7em}h2{margin-top:2.2em;border-bottom:1px solid #ccc}h3{margin-top:1.8em}
table{border-collapse:collapse;font-size:14px;margin:.6em 0}
td,th{border:1px solid #ddd;padding:.25em .6em;text-align:left;vertical-align:top}th{background:#f4f4f4}
svg{max-width:100%;height:auto}code{background:#f4f4f4;padding:.1em .3em}.absent{background:#fff6e5;padding:.4em .8em}
details{margin:.4em 0 1.4em}nav li{display:inline-block;margin-right:1em}nav ul{padding:0}
"""
_HOW: Final = """\
A figure is the median of interleaved repetitions, with its quartiles: in every round each engine does the same thing
once, in changing order. In plots the mark is the median and the thick line goes from one quartile to the other; a
table's ratio is that of Lucet to the engine named, median and quartiles of the rounds' ratios. Lucet and wasmtime (its
C API, pooling allocator, warm pages kept) are measured in one C program; "Lucet, Python" and wasmtime-py are those two
through Python; node runs the same modules in V8. Grey and dashed is what was published for the original Lucet in 2019,
measured on an i7-7567U at 3.5 GHz without Turbo and Hyper-Threading: a memory of it, not a measurement here.\
"""


def render(report: Report, folder: Path, *, page: bool = True) -> None:
    """Writes report.md, a .svg for each chart, and report.html unless `page` is false."""
    folder.mkdir(parents=True, exist_ok=True)
    for section in report.sections:
        for chart in section.charts:
            (folder / f"{chart.name}.svg").write_text(svg.draw(chart), encoding="utf-8")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    if page:
        (folder / "report.html").write_text(html(report), encoding="utf-8")


def markdown(report: Report) -> str:
    parts = [f"# {title(report)}", *(about(report)), _HOW]
    parts += [f"* {name}: {value}" for name, value in facts(report)]
    text = "\n\n".join(parts[: -len(facts(report))]) + "\n\n" + "\n".join(parts[-len(facts(report)) :])
    return text + "\n" + "".join(_section_markdown(section) for section in report.sections)


def _section_markdown(section: Section) -> str:
    parts = [f"\n## {section.title}", section.words, *(f"*Not here: {why}.*" for why in section.absent)]
    for chart in section.charts:
        parts += [f"### {chart.title}", f"![{chart.title}]({chart.name}.svg)", chart.words]
        parts.append(common.table(*table(chart)))
    parts.append(f"Measured in {section.seconds:.0f} s by `{section.command}`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def html(report: Report) -> str:
    links = "".join(f'<li><a href="#{one.name}">{escape(one.title)}</a></li>' for one in report.sections)
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{_words(value)}</td></tr>" for name, value in facts(report))
    head = [_paragraph(one) for one in [*about(report), _HOW]]
    body = "".join(_section_html(section) for section in report.sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title(report))}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # Nothing of other hosts, even if a text in the results asked for it.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head><body><h1>{escape(title(report))}</h1>{''.join(head)}"
        f"<table>{rows}</table><nav><ul>{links}</ul></nav>{body}</body></html>\n"
    )


def _section_html(section: Section) -> str:
    parts = [f'<h2 id="{section.name}">{escape(section.title)}</h2>', _paragraph(section.words)]
    parts += [f'<p class="absent">Not here: {_words(why)}.</p>' for why in section.absent]
    for chart in section.charts:
        header, rows = table(chart)
        cells = "".join("<tr>" + "".join(f"<td>{_words(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        heads = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        parts += [
            f'<h3 id="{chart.name}">{escape(chart.title)}</h3>',
            svg.draw(chart),
            _paragraph(chart.words),
            f"<details><summary>The figures</summary><table><tr>{heads}</tr>{cells}</table></details>",
        ]
    parts.append(_paragraph(f"Measured in {section.seconds:.0f} s by `{section.command}`."))
    return "\n".join(part for part in parts if part)


def _paragraph(text: str) -> str:
    return f"<p>{_words(text)}</p>" if text else ""


def _words(text: str) -> str:
    """Of Markdown there is only `code` and **bold** in these texts."""
    parts = escape(text).split("`")
    coded = "".join(part if i % 2 == 0 else f"<code>{part}</code>" for i, part in enumerate(parts))
    bold = coded.split("**")
    return "".join(part if i % 2 == 0 else f"<b>{part}</b>" for i, part in enumerate(bold))


# ---- what both forms say ----


def title(report: Report) -> str:
    return f"Measurements of {report.date}"


def about(report: Report) -> list[str]:
    words = [f"Written by `{report.command}`."]
    if report.quick:
        words.append("**A quick run: few rounds. It shows that everything runs; its figures are not to be quoted.**")
    return words


def facts(report: Report) -> list[tuple[str, str]]:
    before, after = report.load
    timer = (
        f"reading the clock takes {common.time(report.timer)}; a block is so long that its two readings do not count, "
        "and where single events are timed by the processor's counter the counter's own cost is subtracted"
    )
    return [
        *report.machine,
        ("Load of the machine", f"{before:.2f} before, {after:.2f} after"),
        ("Versions", ", ".join(f"{name} {value}" for name, value in report.versions)),
        ("Timer", timer),
    ]


def table(chart: Chart) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the figures of a chart in words."""
    if chart.kind == "density":
        return _percentiles(chart)
    peers = [one for one in chart.series if not one.name.startswith("Lucet")]
    ours = next((one for one in chart.series if one.name.startswith("Lucet")), None)
    against = peers[:1] if ours is not None and chart.kind != "strip" else []
    header = [chart.x_label, *(one.name for one in chart.series), *(f"Lucet / {one.name}" for one in against)]
    if chart.historical:
        header.append("2019")
    rows = []
    for x in dict.fromkeys(point.x for one in chart.series for point in one.points):
        found = {one.name: _point(one, x) for one in chart.series}
        row = [x, *("" if point is None else _spread(chart, point) for point in found.values())]
        for peer in against:
            assert ours is not None
            row.append(_ratio(found[ours.name], found[peer.name]))
        if chart.historical:
            row.append("; ".join(f"{one.label}" for one in chart.historical if x in dict(one.values)))
        rows.append(row)
    if chart.kind == "strip":
        means = [statistics.geometric_mean([statistics.median(p.samples) for p in one.points]) for one in chart.series]
        rows.append(["geometric mean", *(f"**{show(mean, chart.unit)}**" for mean in means)])
        rows[-1] += [""] * (len(header) - len(rows[-1]))
    return header, rows


def _point(series: Series, x: str) -> Point | None:
    return next((point for point in series.points if point.x == x), None)


def _spread(chart: Chart, point: Point) -> str:
    median = show(statistics.median(point.samples), chart.unit)
    if len(point.samples) == 1:
        return median
    low, high = quartiles(point.samples)
    return f"{median} ({show(low, chart.unit)} .. {show(high, chart.unit)})"


def _ratio(ours: Point | None, theirs: Point | None) -> str:
    if ours is None or theirs is None or not all(theirs.samples):
        return ""
    if len(ours.samples) != len(theirs.samples) or len(ours.samples) == 1:
        return f"**{common.number(statistics.median(ours.samples) / statistics.median(theirs.samples))}**"
    each = ratios(ours.samples, theirs.samples)
    low, high = quartiles(each)
    return f"**{common.number(statistics.median(each))}** ({common.number(low)} .. {common.number(high)})"


def _percentiles(chart: Chart) -> tuple[list[str], list[list[str]]]:
    shares = (0.01, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
    header = ["", "samples", *(f"{100 * share:g} %" for share in shares)]
    rows: list[list[str]] = []
    for one in chart.series:
        samples: Sequence[float] = [value for point in one.points for value in point.samples]
        shown = [show(percentile(samples, share), chart.unit) for share in shares]
        rows.append([one.name, f"{len(samples):,}", *shown])
    return header, rows
