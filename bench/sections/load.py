"""From a file with compiled code to a module: the first load in a process, and later ones of the same file.

The first load of Lucet reads the whole artifact for its checksum; wasmtime maps its file and trusts it. New processes
in every round, in random order.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench import guests, load
from bench.results import Chart, Historical
from bench.suite import Absent, Measured, Settings, has_peer, need, series, why_absent

SHOWN = {"lucet": "Lucet, Python", "wasmtime": "wasmtime-py"}


def measure(settings: Settings) -> Measured:
    need("wasmtime", settings)
    samples: dict[str, dict[str, list[float]]] = {name: {} for name in SHOWN.values()}
    absent: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wasms = _modules(settings, folder, absent)
        if not wasms:
            raise Absent("; ".join(absent))
        for wasm in wasms:
            files = load.prepare(wasm, folder, "fast")
            for engine, pairs in load.measure(files, settings.rounds).items():
                size = wasm.stat().st_size / 1e3
                for number, what in enumerate(("first", "again")):
                    times = [pair[number] * 1e9 for pair in pairs]
                    samples[SHOWN[engine]][f"{wasm.stem} ({size:.0f} kB), {what}"] = times
    chart = Chart(
        name="load",
        title="Loading a compiled module",
        kind="bars",
        series=series(samples),
        historical=tuple(
            Historical(label="2019: 52 µs, with a region and an instance", values=((x, 52e3),))
            for x in samples["Lucet, Python"]
            if x.startswith("hello") and x.endswith("again")
        ),
        words="Wall-clock time in the process, import not counted. Artifacts of the fast level.",
    )
    return Measured(charts=(chart,), absent=tuple(absent))


def _modules(settings: Settings, folder: Path, absent: list[str]) -> list[Path]:
    wasms = []
    if has_peer("ziglang", settings):
        (folder / "hello.wasm").write_bytes(guests.hello())
        wasms.append(folder / "hello.wasm")
    else:
        absent.append(why_absent("ziglang", settings))
    for program in settings.some_names(("cmark", "quickjs", "sqlite3"), ()):
        wasm = settings.shared / "apps" / program / f"{program}.wasm"
        if wasm.exists():
            wasms.append(wasm)
        else:
            absent.append(f"{program}: no {wasm}")
    return wasms
