"""The command that measures: sections, peers that are absent, and a quick run of everything."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import results, suite
from bench.__main__ import main
from bench.results import Section
from bench.suite import SECTIONS, Absent, Measured, Settings

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=1200)


def test_an_unknown_section_is_named_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["lifecycle", "nonsense"])
    assert "no such section: nonsense; there are lifecycle, calls, memory" in capsys.readouterr().err


def test_every_section_is_a_module_whose_words_are_the_reports() -> None:
    modules = {path.stem for path in (ROOT / "bench" / "sections").glob("*.py")}
    assert modules == set(SECTIONS)
    for name in SECTIONS:
        module = importlib.import_module(f"bench.sections.{name}")
        assert callable(module.measure)


def test_only_the_sections_that_are_named_are_measured_in_the_usual_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(name: str, settings: Settings) -> Section:
        assert settings.rounds == 5 and settings.without == ("node",)
        return Section(name=name, title=SECTIONS[name], words="", command="", charts=(), absent=("pretended",))

    monkeypatch.setattr("bench.__main__.run_section", pretend)
    status = main(["wasi", "calls", "--rounds=5", "--without=node", "--output", str(tmp_path)])
    report = results.read(tmp_path / "results.json")
    assert [section.name for section in report.sections] == ["calls", "wasi"]
    assert report.command == "python -m bench --rounds=5 --without=node wasi calls"
    assert status == 0


def test_sections_that_are_added_replace_those_of_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(name: str, settings: Settings) -> Section:
        return Section(name=name, title=f"with {settings.rounds}", words="", command="", charts=())

    monkeypatch.setattr("bench.__main__.run_section", pretend)
    for arguments in (["calls", "wasi", "--rounds=5"], ["memory", "calls", "--rounds=7", "--add"]):
        assert main([*arguments, "--output", str(tmp_path)]) == 0
    report = results.read(tmp_path / "results.json")
    assert [(one.name, one.title) for one in report.sections] == [
        *(("calls", "with 7"), ("memory", "with 7"), ("wasi", "with 5"))
    ]
    assert report.command == "python -m bench --rounds=5 calls wasi; python -m bench --rounds=7 memory calls"


def test_a_section_that_cannot_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(settings: Settings) -> Measured:
        raise Absent("there is no compiler")

    monkeypatch.setattr("bench.sections.calls.measure", refuse)
    settings = Settings(rounds=1, quick=True, shared=Path())
    section = suite.measure("calls", settings)
    assert section.absent == ("there is no compiler",) and section.charts == ()


def test_a_section_that_fails_is_stated_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    done = bench("--quick", "--output", str(tmp_path), "memory", "data")
    assert done.returncode == 1
    failed, _ = results.read(tmp_path / "results.json").sections
    assert failed.failed and failed.charts == ()
    assert "failed with exit status 1" in failed.absent[0] and "no-such-compiler" in failed.absent[0]
    assert "no-such-compiler" in (tmp_path / "report.md").read_text()


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: cc")
def test_peers_that_are_absent_are_stated(tmp_path: Path) -> None:
    without = [f"--without={peer}" for peer in ("wasmtime", "node")]
    done = bench("--quick", "--output", str(tmp_path), *without, "calls", "wasi")
    assert done.returncode == 0, done.stderr
    calls, wasi = results.read(tmp_path / "results.json").sections
    assert {one.name for one in calls.charts[0].series} == {"Lucet", "Lucet, Python", "Python alone"}
    assert [why.partition(":")[0] for why in calls.absent] == ["wasmtime", "node"]
    assert wasi.charts == () and wasi.absent == ("wasmtime: left out by `--without`",)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: cc")
def test_a_quick_run_of_everything_makes_a_whole_report(tmp_path: Path) -> None:
    done = bench("--quick", "--output", str(tmp_path), "--shared", str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = results.read(tmp_path / "results.json")
    assert [section.name for section in report.sections] == list(SECTIONS)
    charts = {chart.name: chart for section in report.sections for chart in section.charts}
    for section in report.sections:
        assert not any("exit status" in why for why in section.absent), section.absent
    assert {
        *("lifecycle-steps", "lifecycle-dense", "lifecycle-sparse", "lifecycle-destroy-dense", "lifecycle-slots"),
        *("lifecycle-destroy-sparse", "lifecycle-dirty", "lifecycle-threads", "lifecycle-distribution"),
        *("calls", "memory-resident", "memory-tables", "compile"),
    } <= set(charts)
    steps = {one.name: {point.x for point in one.points} for one in charts["lifecycle-steps"].series}
    assert len(steps["Lucet"]) == 7
    assert {one.label.partition(",")[0] for one in charts["lifecycle-steps"].historical} == {
        *("2019: 52 µs", "2019: 30 µs", "2019: 4.9 µs", "2019: 0.5 µs", "2019: 23 µs", "2019: less than 60 µs")
    }
    for chart in charts.values():
        assert (tmp_path / f"{chart.name}.svg").exists()
        for one in chart.series:
            for point in one.points:
                assert point.samples and all(sample > -1e3 for sample in point.samples), (chart.name, one.name, point)
    assert "not to be quoted" in (tmp_path / "report.html").read_text()
