"""What counting instructions costs: the time of code that counts relative to code that does not, of the same engine.

CPU time of the part that the program itself marks. wasmtime counts with Config.consume_fuel, Lucet with
`count_instructions`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.measure import ratios
from bench.results import Chart
from bench.suite import Measured, Settings, need, series

SHOWN = {"lucet": "Lucet", "wasmtime": "wasmtime"}


def measure(settings: Settings) -> Measured:
    need("wasmtime", settings)
    from bench import fuel

    folder = settings.shared / "bench"
    programs = [name for name in fuel.PROGRAMS if not settings.quick and (folder / f"{name}.wasm").exists()]
    absent = () if programs or settings.quick else (f"programs of the shared folder: there is no {folder}",)
    with tempfile.TemporaryDirectory() as scratch:
        runs = {name: fuel.prepare(name, folder, "default", Path(scratch)) for name in (*fuel.OWN, *programs)}
        samples = fuel.measure(runs, settings.few(5))
    chart = Chart(
        name="fuel",
        title="Time with counting relative to without",
        kind="strip",
        unit="ratio",
        log=True,
        x_label="time relative to the same engine without counting",
        series=series(
            {
                shown: {
                    name.removesuffix("/benchmark").removeprefix("shootout/"): ratios(
                        forms[engine, True], forms[engine, False]
                    )
                    for name, forms in samples.items()
                }
                for engine, shown in SHOWN.items()
            }
        ),
        words="A dot is one program. The original counted, too, from 2021 on, and published no cost.",
    )
    return Measured(charts=(chart,), absent=absent)
