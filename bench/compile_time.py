"""What compiling costs, against wasmtime-py's compilation of the same module, in one interleaved run.

usage: python -m bench.compile_time [--rounds N] [--level LEVEL]... [--shared FOLDER] [MODULE]...

A module is a file, or the name of one in the shared folder. Each round compiles every (module, engine) once, in random
order and each in a process of its own, which has compiled something small before: worker processes and wasmtime's
engine are started then. CPU time is that of all threads and processes; a ratio is that of the medians. Memory is the
parent's peak and that of its largest worker, as often as there are workers. The columns of 1 and 2 workers are wall
time, so they mean something on an idle machine only; --no-wall leaves them out. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.common import conditions, table
from bench.common import time as show_time
from bench.measure import interleaved

LEVELS: Final = ("fast", "default", "best")
GOALS: Final = {"fast": 3, "default": 8, "best": 15}
"""CPU time relative to wasmtime's, at most."""
PEER: Final = "wasmtime"
MODULES: Final = {
    "keccak": "bench/shootout/shootout-keccak.wasm",
    "richards": "bench/richards/benchmark.wasm",
    "blake3": "bench/blake3-scalar/benchmark.wasm",
    "cmark": "apps/cmark/cmark.wasm",
    "pulldown-cmark": "bench/pulldown-cmark/benchmark.wasm",
    "zstd": "apps/zstd/zstd.wasm",
    "quickjs": "apps/quickjs/quickjs.wasm",
    "sqlite3": "apps/sqlite3/sqlite3.wasm",
    "gofmt": "apps/gofmt/gofmt.wasm",
    "python": "apps/python/python-3.11.3.wasm",
}
LARGE: Final = 400_000
"""Bytes of a module from which on several workers have something to share."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One compilation."""

    cpu: float
    wall: float
    memory: int


Samples = dict[tuple[str, str, int], list[Sample]]
"""By module, engine (a level, or the peer) and number of workers, 0 for as many as there are CPUs."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares compile times with wasmtime-py's.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--level", action="append", choices=LEVELS, help="more than once for several; default: all")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("LUCET_SHARED", "../shared")))
    parser.add_argument("--no-wall", action="store_true", help="measure CPU time only")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"a file, or of {', '.join(MODULES)}")
    given = parser.parse_args()
    paths = {}
    for name in given.modules or MODULES:
        paths[Path(name).stem] = given.shared / MODULES[name] if name in MODULES else Path(name)
    for path in paths.values():
        if not path.exists():
            parser.error(f"no {path}: --shared or LUCET_SHARED names the folder")
    levels = given.level or list(LEVELS)
    samples = measure(paths, levels, given.rounds, wall=not given.no_wall)
    print(report(paths, levels, samples, given.rounds, wall=not given.no_wall))
    return 0


def measure(paths: dict[str, Path], levels: list[str], rounds: int, *, wall: bool) -> Samples:
    jobs = [(name, engine, 0) for name in paths for engine in (*levels, PEER)]
    if wall:
        large = [name for name, path in paths.items() if path.stat().st_size >= LARGE]
        jobs += [(name, level, workers) for name in large for level in levels for workers in (1, 2)]
    return interleaved({job: partial(child, paths[job[0]], *job[1:]) for job in jobs}, rounds, progress=True)


def child(path: Path, engine: str, workers: int) -> Sample:
    command = [sys.executable, "-m", "bench.compile_time", "--child", str(path), engine, str(workers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Sample(**json.loads(done.stdout))


def report(paths: dict[str, Path], levels: list[str], samples: Samples, rounds: int, *, wall: bool) -> str:
    header = ["module", "KB", "wasmtime"]
    for level in levels:
        header += [level, "ratio", *(["1 worker", "2 workers", "faster"] if wall else []), "MB"]
    rows = []
    ratios: dict[str, list[float]] = {level: [] for level in levels}
    for name, path in paths.items():
        peer = statistics.median(one.cpu for one in samples[name, PEER, 0])
        row = [name, f"{path.stat().st_size / 1000:.0f}", show_time(peer * 1e9)]
        for level in levels:
            ours = samples[name, level, 0]
            cpu = statistics.median(one.cpu for one in ours)
            ratios[level].append(cpu / peer)
            row += [show_time(cpu * 1e9), f"**{cpu / peer:.1f}**"]
            if wall:
                row += walls(samples, name, level)
            row.append(f"{max(one.memory for one in ours) / 1e6:.0f}")
        rows.append(row)
    lines = [f"CPU time; {conditions(rounds)}", "", table(header, rows), ""]
    for level in levels:
        mean = statistics.geometric_mean(ratios[level])
        lines.append(
            f"* {level}: geometric mean {mean:.2f}, worst {max(ratios[level]):.1f}; goal at most {GOALS[level]}"
        )
    return "\n".join(lines)


def walls(samples: Samples, name: str, level: str) -> list[str]:
    """Wall time with one and with two workers, and how much faster two are."""
    if (name, level, 1) not in samples:
        return ["", "", ""]
    one, two = (statistics.median(each.wall for each in samples[name, level, count]) for count in (1, 2))
    return [show_time(one * 1e9), show_time(two * 1e9), f"{one / two:.2f}"]


def run_child(path: str, engine: str, workers: int) -> Sample:
    wasm = Path(path).read_bytes()
    act = _wasmtime() if engine == PEER else _lucet(engine, workers)
    count = 0 if engine == PEER else workers or len(os.sched_getaffinity(0))
    act(_first(max(count, 1)))
    before, start = cpu_seconds(), time.perf_counter()
    act(wasm)
    wall, cpu = time.perf_counter() - start, cpu_seconds() - before
    peaks = [_peak(pid) for pid in _children()]
    return Sample(cpu=cpu, wall=wall, memory=_peak(os.getpid()) + count * max(peaks, default=0))


def _wasmtime() -> Callable[[bytes], object]:
    import wasmtime

    engine = wasmtime.Engine()
    return lambda wasm: wasmtime.Module(engine, wasm)


def _lucet(level: str, workers: int) -> Callable[[bytes], object]:
    from lucet.compile.driver import compile_module
    from lucet.compile.options import Options

    options = Options(opt_level=level, workers=workers or None)
    return lambda wasm: compile_module(wasm, options)


def _first(count: int) -> bytes:
    """A module of `count` functions, each nothing but 100,000 nop: so large that each occupies a worker process."""
    body = b"\0" + b"\x01" * 100_000 + b"\x0b"
    functions = count.to_bytes(1, "little") + bytes(count)
    code = count.to_bytes(1, "little") + (_u32(len(body)) + body) * count
    sections = ((1, b"\1\x60\0\0"), (3, functions), (10, code))
    return b"\0asm\1\0\0\0" + b"".join(bytes([number]) + _u32(len(data)) + data for number, data in sections)


def _u32(value: int) -> bytes:
    """In LEB128, always of five bytes."""
    return bytes([value >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)] + [value >> 28])


def cpu_seconds() -> float:
    """Seconds of this process and of the workers that it has now."""
    nanoseconds = [int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in _children()]
    return time.process_time() + sum(nanoseconds) / 1e9


def _children() -> list[str]:
    lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    return [pid for each in lists for pid in each.split()]


def _peak(pid: int | str) -> int:
    """The most memory that a process has had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(asdict(run_child(sys.argv[2], sys.argv[3], int(sys.argv[4])))))
        sys.exit(0)
    sys.exit(main())
