"""Reports are rendered from stored results, without measuring."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import render, results, svg
from bench.__main__ import DOCS, main
from bench.results import Chart, Historical, Point, Report, Section, Series


def chart(kind: results.Kind, name: str, *, unit: results.Unit = "ns", log: bool = True) -> Chart:
    xs = ("0", "64", "4096")
    return Chart(
        name=name,
        title=f"Of <{kind}> & more",
        kind=kind,
        unit=unit,
        log=log,
        x_label="KiB",
        series=(
            Series(name="Lucet", points=tuple(Point(x=x, samples=(90.0, 100.0, 130.0)) for x in xs)),
            Series(name="wasmtime", points=tuple(Point(x=x, samples=(2000.0, 2100.0, 1900.0)) for x in xs[:2])),
        ),
        historical=(Historical(label="2019: 30 µs", values=(("0", 30e3), ("64", 30e3))),),
        words="With `code`, **bold** and <markup>.",
    )


@pytest.fixture
def report() -> Report:
    charts = (
        chart("bars", "one"),
        chart("lines", "two", log=False),
        chart("density", "three"),
        chart("strip", "four", unit="ratio"),
        chart("bars", "five", unit="bytes", log=False),
    )
    sections = (
        Section(name="life", title="Life", words="Words.", command="python -m bench life", charts=charts, seconds=2.5),
        Section(
            name="gone", title="Gone", words="", command="python -m bench gone", charts=(), absent=("node is not here",)
        ),
    )
    return Report(
        date="2026-11-20",
        command="python -m bench --quick life gone",
        quick=True,
        machine=(("Processor", "a processor"),),
        versions=(("lucet", "0.1.0 at 0123456"),),
        load=(0.25, 1.5),
        timer=420.0,
        sections=sections,
    )


def test_what_is_stored_comes_back(report: Report, tmp_path: Path) -> None:
    results.write(report, tmp_path / "results.json")
    assert results.read(tmp_path / "results.json") == report


def test_numbers_keep_four_digits(report: Report, tmp_path: Path) -> None:
    long = replace(report, timer=123.456789, sections=())
    results.write(long, tmp_path / "results.json")
    assert results.read(tmp_path / "results.json").timer == 123.5


@pytest.mark.parametrize("text", ['{"format": 0}', "[]", "{"])
def test_other_files_are_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=r"no results|Expecting"):
        results.read(tmp_path / "other.json")
    with pytest.raises(SystemExit, match="2"):
        main(["--from", str(tmp_path / "other.json"), "--output", str(tmp_path)])
    assert "error" in capsys.readouterr().err


def test_from_renders_and_measures_nothing(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results.write(report, tmp_path / "results.json")
    monkeypatch.setattr("bench.__main__.run_section", lambda *_: pytest.fail("measured"))
    assert main(["--from", str(tmp_path / "results.json"), "--output", str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.md", "report.html", "one.svg", "two.svg", "three.svg", "four.svg", "five.svg"}


def test_the_markdown_says_what_was_measured_how_and_what_is_absent(report: Report) -> None:
    text = render.markdown(report)
    for part in (
        "# Measurements of 2026-11-20",
        "`python -m bench --quick life gone`",
        "its figures are not to be quoted",
        "* Processor: a processor",
        "* Versions: lucet 0.1.0 at 0123456",
        "* Load of the machine: 0.25 before, 1.50 after",
        "reading the clock takes 420 ns",
        "![Of <bars> & more](one.svg)",
        "100 ns (95.0 ns .. 115 ns)",
        "2019: 30 µs",
        "*Not here: node is not here.*",
        "Measured in 2 s by `python -m bench life`.",
    ):
        assert part in text, part
    # Of each round, the median and the quartiles: 90/2000, 100/2100, 130/1900.
    assert re.search(r"\| 64 +\| 100 ns .* \| 2\.00 µs .* \| \*\*0\.0476\*\* \(0\.0463 \.\. 0\.0580\)", text)


def test_the_page_has_every_plot_and_asks_nobody_for_anything(report: Report) -> None:
    page = render.html(report)
    assert page.count("<svg ") == 5
    assert "&lt;markup&gt;" in page and "<markup>" not in page
    assert "<code>code</code>" in page and "<b>bold</b>" in page
    outside = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"(?:https?:)?//\w|<script|<link|<img|@import|url\(", outside)


@pytest.mark.parametrize("kind", ["bars", "lines", "density", "strip"])
@pytest.mark.parametrize("log", [False, True])
def test_a_plot_is_well_formed_and_shows_all_inside(kind: results.Kind, log: bool) -> None:
    text = svg.draw(chart(kind, "plot", log=log))
    root = ElementTree.fromstring(text)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    space = "{http://www.w3.org/2000/svg}"
    words = [one.text or "" for one in root.iter(f"{space}text")]
    assert "Lucet" in words and "wasmtime" in words and "Of <" + kind + "> & more" in words
    if kind != "strip":
        assert any(word.startswith("2019: 30 µs") for word in words)
    for one in root.iter(f"{space}line"):
        assert all(0 <= float(one.attrib[name]) <= width for name in ("x1", "x2"))
        assert all(0 <= float(one.attrib[name]) <= height for name in ("y1", "y2"))
    marks = [*root.iter(f"{space}circle"), *root.iter(f"{space}rect"), *root.iter(f"{space}polygon")]
    assert len(marks) > 2
    assert svg.draw(chart(kind, "plot", log=log)) == text


def test_a_mark_stands_where_its_value_is() -> None:
    """Ten times as much is as far on a logarithmic axis everywhere."""
    points = tuple(Point(x=x, samples=(value,)) for x, value in (("a", 10.0), ("b", 100.0), ("c", 1000.0)))
    text = svg.draw(Chart(name="p", title="", kind="bars", series=(Series(name="Lucet", points=points),)))
    xs = [float(x) for x in re.findall(r'<circle cx="([\d.]+)" cy="[\d.]+" r="5"', text)][-3:]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert xs[0] < xs[1]


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (90.0, "ns", "90.0 ns"),
        (1234.0, "ns", "1.23 µs"),
        (2.5e9, "ns", "2.50 s"),
        (512.0, "bytes", "512 B"),
        (4608.0, "bytes", "4.50 KiB"),
        (3 << 30, "bytes", "3.00 GiB"),
        (0.987, "ratio", "0.99"),
        (12345.6, "per second", "12,346/s"),
    ],
)
def test_figures_have_three_digits_and_a_unit(value: float, unit: results.Unit, expected: str) -> None:
    assert svg.show(value, unit) == expected


@pytest.mark.skipif(not (DOCS / "results.json").exists(), reason="there is no report in docs")
def test_the_report_in_docs_is_rendered_from_the_results_beside_it(tmp_path: Path) -> None:
    """`python -m bench --from docs/report/results.json --docs` makes it so."""
    render.render(results.read(DOCS / "results.json"), tmp_path, page=False)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in DOCS.iterdir() if path.name != "results.json"}
    assert made == kept
