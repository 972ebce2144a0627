"""The suite of benchmarks: `python -m bench` measures everything and writes a report.

usage: python -m bench [--quick] [--rounds N] [--output FOLDER] [--add] [--docs] [--from FILE]
                       [--without PEER]... [SECTION]...
       python -m bench compare REV1 REV2

Writes results.json, report.md with its plots, and report.html, which is one file, into the folder. --from renders the
results of an earlier run again, and measures nothing. --add puts sections in the place of those of an earlier run in
the same folder. --docs is for the report that is part of the documentation.

Exit status 1: a section failed, and the report says how; what is merely not there (a peer, a compiler) is stated in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

from bench import common, measure, render, results
from bench.suite import CHILD, SECTIONS, Settings, child, has_peer, run_section

_OUTPUT: Final = Path("bench-report")
DOCS: Final = common.ROOT / "docs" / "report"
_PEERS: Final = ("wasmtime", "node", "ziglang", "numpy")


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == [CHILD]:
        child(*arguments[1:])
        return 0
    if arguments[:1] == ["compare"]:
        from bench import compare

        return compare.main(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures everything, or some sections, and writes a report. "
        "`python -m bench compare REV1 REV2` compares two commits.",
    )
    parser.add_argument("--quick", action="store_true", help="few rounds and sizes: to see that everything runs")
    parser.add_argument("--rounds", type=int, help="default: 9, or 2 if it is to be quick")
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="FOLDER")
    parser.add_argument("--from", type=Path, dest="stored", metavar="FILE", help="render these results")
    parser.add_argument("--add", action="store_true", help="put the sections into the folder's results of before")
    parser.add_argument("--docs", action="store_true", help="put Markdown, plots and results into docs/report, too")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("LUCET_SHARED", "../shared")))
    parser.add_argument("--without", action="append", default=[], choices=_PEERS, help="do as if this was not there")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.sections if name not in SECTIONS]:
        parser.error(f"no such section: {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    earlier = given.stored or (given.output / "results.json" if given.add else None)
    try:
        before = None if earlier is None else results.read(earlier)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if given.stored is not None:
        assert before is not None
        report = before
    else:
        settings = Settings(
            rounds=given.rounds or (2 if given.quick else 9),
            quick=given.quick,
            shared=given.shared.resolve(),
            without=tuple(given.without),
        )
        report = measured(
            [name for name in SECTIONS if name in given.sections or not given.sections], settings, given, before
        )
    render.render(report, given.output)
    if given.docs:
        for old in DOCS.glob("*.svg"):
            old.unlink()
        render.render(report, DOCS, page=False)
        results.write(report, DOCS / "results.json")
    print(f"{given.output / 'report.html'}, {given.output / 'report.md'}")
    return 1 if given.stored is None and any(section.failed for section in report.sections) else 0


def measured(
    names: Sequence[str], settings: Settings, given: argparse.Namespace, earlier: results.Report | None
) -> results.Report:
    """Whatever was measured is in the folder's results.json as soon as its section is done."""
    options = [*(["--quick"] if given.quick else []), *([f"--rounds={given.rounds}"] if given.rounds else [])]
    options += [f"--without={name}" for name in given.without]
    before = os.getloadavg()[0]
    report = results.Report(
        date=str(date.today()),
        command=shlex.join(["python", "-m", "bench", *options, *given.sections]),
        quick=settings.quick,
        machine=machine(),
        versions=versions(settings),
        load=(before, before),
        timer=measure.clock_cost(),
        sections=(),
    )
    if earlier is not None:
        report = replace(report, sections=earlier.sections, command=f"{earlier.command}; {report.command}")
    given.output.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"{name} ...", end=" ", flush=True)
        section = run_section(name, settings)
        absent = f"; {'; '.join(section.absent)}" if section.absent else ""
        print(f"{section.seconds:.0f} s{absent}", flush=True)
        others = (one for one in report.sections if one.name != name)
        sections = sorted((*others, section), key=lambda one: list(SECTIONS).index(one.name))
        report = replace(report, sections=tuple(sections), load=(before, os.getloadavg()[0]))
        results.write(report, given.output / "results.json")
    return report


def machine() -> tuple[tuple[str, str], ...]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    flags = Path("/proc/cpuinfo").read_text()
    virtual = ", virtual" if " hypervisor" in flags else ""
    return (
        ("Processor", f"{common.cpu()}, {os.cpu_count()} CPUs{virtual}"),
        ("Memory", f"{memory / (1 << 30):.1f} GiB"),
        ("System", f"{platform.system()} {platform.release()}"),
    )


def versions(settings: Settings) -> tuple[tuple[str, str], ...]:
    found = [("lucet", f"{common.version_of('lucet')} at {_commit()}"), ("Python", platform.python_version())]
    found += [
        (name, common.version_of(name))
        for name in ("wasmtime", "llvmlite", "ziglang")
        if name == "llvmlite" or has_peer(name, settings)
    ]
    if has_peer("node", settings):
        found.append(
            ("node", subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip())
        )
    return tuple(found)


def _commit() -> str:
    try:
        command = ["git", "-C", str(common.ROOT), "describe", "--always", "--dirty"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
