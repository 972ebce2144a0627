"""How many idle instances one process holds, and what memory each costs.

usage: python -m bench.density [--instances N] [--guarded N] [--native FOLDER] [CASE]...

Each case is a process of its own, from C (bench/native/density.c, built on first use) or from Python. Every instance
runs one export once, which writes to a page, and stays. Memory is what /proc/self/smaps_rollup and /proc/self/status
say, all instances' less none's, divided by the instances. Where the number is not reached, the table says where it
ended, and the text of the error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import lucet
from bench import common, guests

KIB: Final = 1 << 10
GOAL_KIB: Final = 8.0
ROLLUP: Final = ("Rss", "Private_Clean", "Private_Dirty", "Shared_Clean", "Shared_Dirty")

Figures = dict[str, int]
"""Of a process, in KiB, by the names of /proc."""


@dataclass(frozen=True, kw_only=True)
class Case:
    what: str
    wasm: bytes
    bounds: str
    memory_reserved: int
    memory_guard: int
    from_python: bool = False

    @property
    def compact(self) -> bool:
        return self.bounds == "explicit"

    @property
    def instance_area(self) -> int:
        """Packed slots need not begin on a page: the area then shares one with the beginning of the memory."""
        return 512 if self.compact else 4 * KIB


CASES: Final = {
    "compact": Case(
        what="compact, from C",
        wasm=guests.usual(table="private", memory_pages=1, writes=True),
        bounds="explicit",
        memory_reserved=64 * KIB,
        memory_guard=0,
    ),
    "growable": Case(
        what="compact, room to grow to 1 MiB, from C",
        wasm=guests.usual(table="private", memory_pages=1, writes=True),
        bounds="explicit",
        memory_reserved=1024 * KIB,
        memory_guard=0,
    ),
    "tables": Case(
        what="compact, each with a table of its own, from C",
        wasm=guests.usual(memory_pages=1, writes=True),
        bounds="explicit",
        memory_reserved=64 * KIB,
        memory_guard=0,
    ),
    "python": Case(
        what="compact, from Python",
        wasm=guests.usual(table="private", memory_pages=1, writes=True),
        bounds="explicit",
        memory_reserved=64 * KIB,
        memory_guard=0,
        from_python=True,
    ),
    "guarded": Case(
        what="4 GiB + 32 MiB reserved for each, from C",
        wasm=guests.usual(table="private", memory_pages=1, writes=True),
        bounds="guard",
        memory_reserved=4 << 30,
        memory_guard=32 << 20,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures how many idle instances fit into one process.")
    parser.add_argument("--instances", type=int, default=100_000, help="with compact reservations")
    parser.add_argument("--guarded", type=int, default=20_000, help="with full reservations")
    parser.add_argument("--native", type=Path, default=common.NATIVE, help="the core's sources, if not this tree's")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default: all")
    given = parser.parse_args()
    if given.child:
        return child(given.child)
    if unknown := set(given.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    program = common.build("density", [common.ROOT / "bench" / "native" / "density.c"], native=given.native.resolve())
    print(common.conditions())
    header = [
        "",
        "live",
        "Rss each",
        "private",
        "shared",
        "page tables",
        "address space",
        f"goal (Rss ≤ {GOAL_KIB:.0f} KiB)",
    ]
    rows, errors = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.cases or CASES:
            case = CASES[name]
            wanted = given.instances if case.compact else given.guarded
            live, error, before, after = measure(case, wanted, program, Path(folder))
            rows.append(row(case, wanted, live, before, after))
            if error:
                errors.append(f"{case.what}: ended at {live:,} of {wanted:,}: {error}")
    print("\n" + common.table(header, rows))
    print("".join(f"\n{error}" for error in errors), end="\n" if errors else "")
    return 0


def measure(case: Case, wanted: int, program: Path, folder: Path) -> tuple[int, str, Figures, Figures]:
    """Instances that are live in the end, why there are no more, and the process's figures before and after."""
    artifact = folder / "guest.so"
    artifact.write_bytes(lucet.compile(case.wasm, bounds=case.bounds))
    config = [str(number) for number in (wanted, case.memory_reserved, case.memory_guard, case.instance_area)]
    command = [str(program), str(artifact), *config]
    if case.from_python:
        command = [sys.executable, "-m", "bench.density", "--child", json.dumps([str(artifact), *map(int, config)])]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return 0, done.stderr.strip() or f"exit status {done.returncode}", {}, {}
    live, error = 0, ""
    figures: dict[str, Figures] = {"before": {}, "after": {}}
    for line in done.stdout.splitlines():
        first, second, rest = [*line.split(" ", 2), ""][:3]
        if first == "reached":
            live, error = int(second), rest
        else:
            figures[first][second] = int(rest)
    return live, error, figures["before"], figures["after"]


def row(case: Case, wanted: int, live: int, before: Figures, after: Figures) -> list[str]:
    def each(*names: str) -> float:
        return sum(after.get(name, 0) - before.get(name, 0) for name in names) / max(live, 1)

    resident = each("Rss")
    met = live == wanted and (resident <= GOAL_KIB or not case.compact)
    return [
        case.what,
        f"{live:,}",
        f"{resident:.2f} KiB",
        f"{each('Private_Clean', 'Private_Dirty'):.2f} KiB",
        f"{each('Shared_Clean', 'Shared_Dirty'):.2f} KiB",
        f"{each('VmPTE'):.2f} KiB",
        f"{each('VmSize'):.0f} KiB",
        common.verdict(f"{wanted:,}", met),
    ]


# ---- from Python: what density.c does, in a process of its own ----


def child(job: str) -> int:
    artifact, wanted, reserved, guard, area = json.loads(job)
    module = lucet.Module.load(artifact)
    instances: list[lucet.Instance] = []
    error = ""
    print_figures("before")
    region = lucet.Region(
        slots=wanted,
        memory_reserved=reserved,
        memory_guard=guard,
        memory_limit=reserved,
        instance_area=area,
        track_writes=False,
    )
    try:
        while len(instances) < wanted:
            instance = region.new_instance(module)
            instance.run("run", 1, 2)
            instances.append(instance)
    except lucet.LucetError as stopped:
        error = str(stopped)
    print_figures("after")
    print(f"reached {len(instances)} {error}", flush=True)
    os._exit(0)  # a hundred thousand instances need not be taken apart one by one


def print_figures(when: str) -> None:
    for file, names in (("smaps_rollup", ROLLUP), ("status", ("VmPTE", "VmSize"))):
        for line in Path("/proc/self", file).read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in names:
                print(when, name, rest.split()[0])


if __name__ == "__main__":
    sys.exit(main())
