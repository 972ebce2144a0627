"""What idle instances cost: each has run once and stays. Memory is by how much the process's has grown, for each.

Instances have 64 KiB of memory of which they have written to one page; slots have as much address space and no guard,
in both engines, since 100,000 guards do not fit into 47 bits. Each case is a process of its own. The kernel's limit for
one process, 65,530 mappings by default, is what ends wasmtime's case of 100,000: each of its slots is a mapping.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from bench import common, density, guests
from bench.lifecycle import Bench, ExperimentFailed, build
from bench.measure import interleaved
from bench.results import Chart
from bench.suite import Measured, Settings, has_peer, series, why_absent

CASES: Final = {"Lucet": "compact", "Lucet, Python": "python", "Lucet, growable to 1 MiB": "growable"}
"""Of bench/density.py."""

_FEW: Final = 64

Figures = tuple[float, float] | str
"""Resident bytes and bytes of page tables for each instance; or why not."""


def measure(settings: Settings) -> Measured:
    counts = settings.some((1000, 10_000, 30_000, 100_000), (1000,))
    absent = [] if has_peer("wasmtime", settings) else [why_absent("wasmtime", settings)]
    resident: dict[str, dict[str, list[float]]] = {}
    tables: dict[str, dict[str, list[float]]] = {}
    program = common.build("density", [common.ROOT / "bench" / "native" / "density.c"])
    with tempfile.TemporaryDirectory() as temporary:
        peer = common.peer_library() if has_peer("wasmtime", settings) else None
        bench = Bench(program=build(), folder=Path(temporary), rounds=1, peer=peer)
        jobs: dict[tuple[str, int], Callable[[], Figures]] = {}
        for count in counts:
            for name, case in CASES.items():
                jobs[name, count] = partial(_ours, case, count, program, bench.folder)
            if peer is not None:
                jobs["wasmtime", count] = partial(_peers, bench, count)
        for (name, count), rounds in interleaved(jobs, settings.few(3)).items():
            absent += [f"{count:,} instances of {name}: {one}" for one in rounds if isinstance(one, str)][:1]
            found = [one for one in rounds if not isinstance(one, str)]
            resident.setdefault(name, {})[f"{count:,} instances"] = [one[0] for one in found]
            tables.setdefault(name, {})[f"{count:,} instances"] = [one[1] for one in found]
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


def _ours(case: str, count: int, program: Path, folder: Path) -> Figures:
    live, error, before, after = density.measure(density.CASES[case], count, program, folder)
    if live != count:
        return f"ended at {live:,}: {error}"
    resident, tables = (1024.0 * (after[name] - before[name]) / count for name in ("Rss", "VmPTE"))
    return resident, tables


def _peers(bench: Bench, count: int) -> Figures:
    """Less what a few take, so that the engine itself is not counted; its pool's own tables are."""
    wasm = guests.usual(table="private", memory_pages=1, writes=True)
    try:
        held, few = (bench.run("held", some, 0, wasm, bounds="explicit") for some in (count, _FEW))
    except ExperimentFailed as error:
        return str(error)
    resident, tables = (
        (held[name]["wasmtime"][0] - few[name]["wasmtime"][0]) / (count - _FEW) for name in ("resident", "tables")
    )
    return resident, tables
