"""Real programs with about a second of work each, here and on wasmtime-py: SQLite, QuickJS, zstd and cmark.

Wall-clock time of a whole run in a process of its own, reading files and printing included, importing and loading not.
What they print is compared. Lucet's artifacts are those of the default level.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.results import Chart
from bench.suite import Absent, Measured, Settings, need, series


def measure(settings: Settings) -> Measured:
    need("wasmtime", settings)
    from bench import compare_wasmtime as bench
    from bench.workloads import WORKLOADS

    found = [name for name, one in WORKLOADS.items() if (settings.shared / "apps" / one.program).exists()]
    missing = tuple(f"{name}: it is not in {settings.shared}" for name in WORKLOADS if name not in found)
    programs = list(settings.some_names(found, found[-1:]))
    if not programs:
        raise Absent("; ".join(missing))
    given = argparse.Namespace(rounds=settings.few(7), opt_level="default", shared=settings.shared)
    with tempfile.TemporaryDirectory() as folder:
        samples = bench.measure(programs, given, Path(folder), steps=("run",))
    shown = {
        name: {program: [1e9 * value for value in samples[program, "run", engine]] for program in programs}
        for name, engine in (("Lucet, Python", "lucet"), ("wasmtime-py", "wasmtime"))
    }
    chart = Chart(
        name="programs",
        title="A run of a program",
        kind="bars",
        log=False,
        series=series(shown),
        words="The original published no times of programs.",
    )
    return Measured(charts=(chart,), absent=missing)
