"""What idle instances cost: each has run once and stays. Memory is the growth of the process's, for each instance.

Instances have 64 KiB of memory of which they have touched one page; slots have as much address space and no guard, in
both engines, since 100,000 guards do not fit into 47 bits. Each case is a process of its own, measured once: what is
counted are pages, not times.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from bench import common, density, guests
from bench.lifecycle import Bench, ExperimentFailed, build
from bench.results import Chart
from bench.suite import Measured, Settings, has_peer, series, why_absent

CASES: Final = {"Lucet": "compact", "Lucet, Python": "python", "Lucet, growable to 1 MiB": "growable"}
"""Of bench/density.py."""


def measure(settings: Settings) -> Measured:
    counts = settings.some((1000, 10_000, 30_000, 100_000), (1000,))
    absent = [] if has_peer("wasmtime", settings) else [why_absent("wasmtime", settings)]
    resident: dict[str, dict[str, list[float]]] = {}
    tables: dict[str, dict[str, list[float]]] = {}

    def add(name: str, count: int, resident_bytes: float, table_bytes: float) -> None:
        resident.setdefault(name, {})[f"{count:,} instances"] = [resident_bytes / count]
        tables.setdefault(name, {})[f"{count:,} instances"] = [table_bytes / count]

    program = common.build("density", [common.ROOT / "bench" / "native" / "density.c"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for count in counts:
            for name, case in CASES.items():
                live, error, before, after = density.measure(density.CASES[case], count, program, folder)
                if live != count:
                    absent.append(f"{count:,} instances of {name}: ended at {live:,}: {error}")
                    continue
                add(name, count, 1024.0 * (after["Rss"] - before["Rss"]), 1024.0 * (after["VmPTE"] - before["VmPTE"]))
            if has_peer("wasmtime", settings):
                bench = Bench(program=build(), folder=folder, rounds=1, peer=common.peer_library())
                wasm = guests.usual(table="private", memory_pages=1)
                try:
                    held = bench.run("held", count, 0, wasm, bounds="explicit")
                except ExperimentFailed as error:
                    absent.append(f"{count:,} instances of wasmtime, in a process: {error}")
                    continue
                found = {name: one["wasmtime"][0] for name, one in held.items()}
                add(
                    "wasmtime",
                    count,
                    found["resident"] - found["resident_before"],
                    found["tables"] - found["tables_before"],
                )
    return Measured(
        charts=(
            Chart(
                name="memory-resident",
                title="Resident memory of each idle instance",
                kind="bars",
                unit="bytes",
                log=False,
                series=series(resident),
                words=(
                    "The touched page, the instance's own page and what the engine keeps. The original promised a few "
                    "kilobytes and published no figure; by its layout an instance had a page of its own, and as many "
                    "of heap, stack and globals as it touched. node is not here: each memory reserves 8 GiB of "
                    "address space or more there."
                ),
            ),
            Chart(
                name="memory-tables",
                title="The kernel's page tables for each idle instance",
                kind="bars",
                unit="bytes",
                log=False,
                series=series(tables),
                words="Not part of resident memory, but it is memory that somebody pays. No figure of 2019.",
            ),
        ),
        absent=tuple(absent),
    )
