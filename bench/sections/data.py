"""A guest's function over a column of numbers, and bytes copied into a guest and out of it, from Python.

CPU time of the thread.
"""

from __future__ import annotations

from bench.measure import interleaved, timed
from bench.results import Chart
from bench.suite import Measured, Settings, need, series

SHOWN = {
    "Lucet": {"a call for each row": "calls", "Func.map": "map", "copies, and a loop in the guest": "loop"},
    "wasmtime-py": {"a call for each row": "peer calls", "copies, and a loop in the guest": "peer loop"},
}


def measure(settings: Settings) -> Measured:
    need("wasmtime", settings)
    need("numpy", settings)
    from bench import data_plane
    from lucet.wasm.text import text_to_binary

    wasm = text_to_binary(data_plane.GUEST)
    rows = 50_000 if settings.quick else 1_000_000
    ways = {**data_plane.theirs(wasm, rows), **data_plane.ours(wasm, rows)}
    if settings.quick:
        ways = {name: way for name, way in ways.items() if "32 MiB" not in name}
    samples = interleaved({name: timed(*way) for name, way in ways.items()}, settings.few(7))
    columns = Chart(
        name="data-columns",
        title=f"A function of two doubles over {rows:,} rows: each row",
        kind="bars",
        series=series(
            {engine: {x: samples[name] for x, name in names.items()} for engine, names in SHOWN.items()},
        ),
        words="The original had nothing of the kind.",
    )
    copies = {
        engine: {
            f"{way} {size}": samples[f"{prefix}{way} {size}"]
            for way in ("write", "read")
            for size in data_plane.COPIES
            if f"{prefix}{way} {size}" in samples
        }
        for engine, prefix in (("Lucet", ""), ("wasmtime-py", "peer "))
    }
    bytes_ = Chart(
        name="data-copies",
        title="Bytes into a guest's memory and out of it",
        kind="bars",
        series=series(copies),
        words="One copy of so many bytes. No figure of 2019.",
    )
    return Measured(charts=(columns, bytes_))
