"""Loops of WASI calls: the same guest here and on wasmtime-py, and the same calls of a native program.

Wall-clock time, since a call may wait for another process (a pipe's reader); each engine's loop is one call of an
export.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.results import Chart
from bench.suite import Measured, Settings, need, series


def measure(settings: Settings) -> Measured:
    need("wasmtime", settings)
    from bench import wasi

    samples: dict[str, dict[str, list[float]]] = {"Lucet": {}, "wasmtime-py": {}, "native": {}}
    calls, size = (5_000, 4) if settings.quick else (200_000, 64)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pieces = wasi.make_file(folder / "file", size)
        native = wasi.build_native(folder)
        for case in wasi.cases(calls, size, pieces):
            found = wasi.measure(case, folder, native, settings.few(7))
            for name, engine in (("Lucet", "lucet"), ("wasmtime-py", "wasmtime"), ("native", "native")):
                samples[name][case.what] = found[engine]
    chart = Chart(
        name="wasi",
        title="One WASI call",
        kind="bars",
        series=series(samples),
        words="No figure of 2019: the original's WASI was measured as a whole program only, and not published.",
    )
    return Measured(charts=(chart,))
