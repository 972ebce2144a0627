"""The life of an instance, in C: Lucet and wasmtime's pooling allocator in one interleaved run.

usage: python -m bench.lifecycle [--rounds N] [--native FOLDER] [--json FILE] [SECTION]...

Builds bench/native/lifecycle.c with the machine's C compiler on first use; the peer comes out of the wheel of wasmtime.
In each round every measurement is taken of both engines, one right after the other; a ratio's quartiles are those of
the rounds' ratios. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import lucet
from bench import common, guests
from bench.common import Compared

MIB: Final = 1 << 20
KIB: Final = 1 << 10

Series = dict[str, dict[str, list[float]]]
"""series -> engine -> nanoseconds, one for each round"""


class ExperimentFailed(Exception):
    """With what the process said."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Runs experiments of bench/native/lifecycle.c on guests, which are compiled when first needed."""

    program: Path
    folder: Path
    rounds: int
    peer: Path | None = None
    """wasmtime's library; None: Lucet alone."""
    samples: dict[str, Series] = field(default_factory=dict)

    def run(
        self,
        experiment: str,
        a: int,
        b: int,
        *wasms: bytes,
        wrapper: Sequence[str] = (),
        bounds: str = "guard",
    ) -> Series:
        files = [str(file) for wasm in wasms for file in self.files(wasm, bounds)]
        command = [str(self.program), str(self.peer or "-"), str(self.rounds), experiment, str(a), str(b), *files]
        done = subprocess.run([*wrapper, *command], check=False, capture_output=True, text=True)
        if done.returncode:
            raise ExperimentFailed(f"{experiment}: {done.stderr.strip() or f'exit status {done.returncode}'}")
        series: Series = {}
        for line in done.stdout.splitlines():
            name, engine, ns = line.split()
            series.setdefault(name, {}).setdefault(engine, []).append(float(ns))
        return series

    def compare(
        self, what: str, series: Series, name: str, *, goal: str = "", met: Callable[[Compared], bool] | None = None
    ) -> Compared:
        """One row, kept for --json."""
        engines = series[name]
        self.samples.setdefault(what, {})[name] = engines
        return Compared(what=what, lucet=engines["lucet"], peer=engines["wasmtime"], goal=goal, met=met)

    def files(self, wasm: bytes, bounds: str = "guard") -> tuple[Path, Path]:
        """The artifact, and what it was compiled from."""
        stem = self.folder / hashlib.sha256(bounds.encode() + wasm).hexdigest()
        files = stem.with_suffix(".so"), stem.with_suffix(".wasm")
        if not files[0].exists():
            files[1].write_bytes(wasm)
            files[0].write_bytes(lucet.compile(wasm, bounds=bounds))
        return files


def build(native: Path = common.NATIVE) -> Path:
    folder = common.ROOT / "bench" / "native"
    sources = [folder / f"{name}.c" for name in ("lifecycle", "engine_lucet", "engine_wasmtime")]
    return common.build("lifecycle", sources, native=native)


def third_and_a_microsecond(row: Compared) -> bool:
    return row.ratio <= 1 / 3 and statistics.median(row.lucet) < 1000


# ---- sections: each returns its table ----


def cycle(bench: Bench) -> str:
    """Create, run a trivial export, destroy: two pages of memory, some data, a table, a mutable global; a warm slot."""
    rows = []
    for table in ("exported", "private"):
        wasm = guests.usual(table=table)
        name = f"{table} table"
        rows.append(
            bench.compare(
                f"cycle, {name}",
                bench.run("cycle", 1, 2, wasm),
                "cycle",
                goal="≤ 0.33, < 1 µs",
                met=third_and_a_microsecond,
            )
        )
        parts = bench.run("parts", 1, 2, wasm)
        rows += [bench.compare(f"- {part}, {name}", parts, part) for part in ("create", "call", "destroy")]
    return common.compared_table(rows)


def calls(bench: Bench) -> str:
    """Into an instance that is there, and from it to a host function in C: the latter less a loop without the call."""
    series = bench.run("calls", 1, 2, guests.caller())
    series["host"] = {
        engine: [host - empty for host, empty in zip(hosts, series["empty_loop"][engine], strict=True)]
        for engine, hosts in series["host_loop"].items()
    }
    return common.compared_table(
        [
            bench.compare("call", series, "call"),
            bench.compare("call, the peer's checking its types", series, "checked_call"),
            bench.compare(
                "host function in C", series, "host", goal="≤ 10 ns", met=lambda row: statistics.median(row.lucet) <= 10
            ),
        ]
    )


def dirty(bench: Bench) -> str:
    """The guest writes one byte in each of k pages of its 5 MiB: the cycle."""
    wasm = guests.toucher()
    rows = []
    for pages in (0, *(1 << i for i in range(11))):
        rows.append(bench.compare(f"k = {pages}", bench.run("cycle", pages, guests.PAGE, wasm), "cycle"))
    for pages in (8, 64, 512):
        series = bench.run("cycle", pages, 2 * guests.PAGE, wasm)
        rows.append(bench.compare(f"k = {pages}, every other page", series, "cycle"))
    return common.compared_table(rows)


def heavy(bench: Bench) -> str:
    """Three guests write k pages, then 200 guests one page each in the same slot: one of these cycles, on average."""
    wasm = guests.toucher()
    rows = []
    for pages in (1, 64, 256, 1024):
        series = bench.run("heavy", pages, guests.PAGE, wasm)
        rows.append(bench.compare(f"after k = {pages}", series, "following"))
    return common.compared_table(rows)


def images(bench: Bench) -> str:
    """Initial data in the first bytes of 5 MiB, every page or every other; the guest writes no page, or every 8th."""
    rows = []
    for size in (0, 64 * KIB, 256 * KIB, MIB, 4 * MIB):
        for sparse in (False, True) if size else (False,):
            wasm = guests.image(size=size, sparse=sparse)
            for written in (0, size // guests.PAGE // 8) if size else (0,):
                what = f"{'sparse' if sparse else 'dense'} {size // KIB} KiB, {written} pages written"
                series = bench.run("cycle", written, 8 * guests.PAGE, wasm)
                rows.append(bench.compare(what, series, "cycle"))
    return common.compared_table(rows)


def cold(bench: Bench) -> str:
    """64 instances at once, each in a slot that was never used; then again; and two modules in turn in one slot."""
    wasm = guests.usual()
    series = bench.run("cold", 1, 2, wasm)
    rows = [
        bench.compare("create and call, first use", series, "first_create_and_call"),
        bench.compare("destroy, first use", series, "first_destroy"),
        bench.compare("create and call, second use", series, "second_create_and_call"),
    ]
    others = {
        "same size": guests.usual(table="private"),
        "17 pages": guests.usual(memory_pages=17),
        "1 MiB of data": guests.image(size=MIB, sparse=False),
    }
    for what, other in others.items():
        series = bench.run("alternate", 0, 0, wasm, other)
        rows.append(bench.compare(f"alternating, the other: {what}", series, "cycle"))
    return common.compared_table(rows)


def threads(bench: Bench) -> str:
    """The cycle on several threads at once, wall-clock: each with its own slots, and all with those of one region."""
    rows = []
    for count in (1, 2):
        series = bench.run("threads", count, 0, guests.usual())
        rows += [
            bench.compare(f"{count} thread{'s' * (count > 1)}, {name.replace('_', ' ')}", series, name)
            for name in ("own_slots", "shared_slots")
        ]
    return common.compared_table(rows)


def zero(bench: Bench) -> str:
    """What the kernel sees of 1,000,000 warm cycles."""
    thousands, rows = 1000, []
    for what, wasm in (("exported table", guests.usual()), ("private table", guests.usual(table="private"))):
        for name, number in (("Lucet", 1), ("wasmtime", 0)):
            figures = {
                series: round(engines[name.lower()][0])
                for series, engines in bench.run("zero", thousands, number, wasm).items()
            }
            traced = traced_calls(bench, thousands, number, wasm)
            steps = figures.get("steps_with_system_calls")
            blocks = "the kernel cannot tell" if steps is None else f"{steps}"
            if steps:
                blocks += f" (number {figures['first_system_call']})"
            proved = figures["page_faults"] == 0 and {steps, traced} in ({0}, {0, None})
            rows.append(
                [
                    f"{name}, {what}",
                    str(figures["page_faults"]),
                    blocks,
                    "not there, or may not trace" if traced is None else str(traced),
                    common.verdict("none", proved) if name == "Lucet" else "",
                ]
            )
    dispatch = f"of {thousands} blocks, those with system calls (user dispatch)"
    return common.table(["", "page faults (getrusage)", dispatch, "system calls (strace)", "goal"], rows)


def traced_calls(bench: Bench, thousands: int, engine: int, wasm: bytes) -> int | None:
    """What strace counts more in a process with all those cycles than in one with none; None without strace."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    totals = []
    for cycles in (0, thousands):
        log = bench.folder / "strace"
        try:
            bench.run("zero", cycles, engine, wasm, wrapper=[strace, "-f", "-o", str(log)])
        except ExperimentFailed:
            return None
        totals.append(calls_of_the_cycles(log.read_text()))
    return max(totals[1] - totals[0], 0)


def calls_of_the_cycles(log: str) -> int:
    """Those of the first thread once it has begun. A plain count would have the peer's other threads in it."""
    lines = log.splitlines()
    main = lines[0].split()[0]
    own = [line for line in lines if line.split()[0] == main]
    start = max(i for i, line in enumerate(own) if "PR_SET_SYSCALL_USER_DISPATCH" in line)
    return sum("+++" not in line for line in own[start:])


SECTIONS: Final[dict[str, Callable[[Bench], str]]] = {
    "cycle": cycle,
    "calls": calls,
    "dirty": dirty,
    "heavy": heavy,
    "images": images,
    "cold": cold,
    "threads": threads,
    "zero": zero,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares the lifecycle of instances in Lucet and wasmtime, from C.")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--native", type=Path, default=common.NATIVE, help="the core's sources, if not this tree's")
    parser.add_argument("--json", type=Path, help="write all samples there")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    given = parser.parse_args()
    if unknown := set(given.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    program = build(given.native.resolve())
    print(common.conditions(given.rounds))
    print("The peer: pooling allocation, 1 MiB of memory and table kept resident, InstancePre, unchecked calls.")
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(program=program, folder=Path(temporary), rounds=given.rounds, peer=common.peer_library())
        for name in given.sections or SECTIONS:
            section = SECTIONS[name]
            print(f"\n## {name}\n\n{section.__doc__}\n\n{section(bench)}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(bench.samples))
    return 0


if __name__ == "__main__":
    sys.exit(main())
