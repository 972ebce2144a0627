"""What loading an artifact takes, against wasmtime's Module.deserialize_file, in one interleaved run.

usage: python -m bench.load [--rounds N] [--shared FOLDER] [PROGRAM]...

"first" is the first load in a process, when Lucet reads the whole file once for its checksum; "again" is the median of
later ones of the same file. Each round has new processes, in random order; a cell is the median of the rounds. Prints a
Markdown table; exit status 1 if a goal is missed: again, at most what wasmtime takes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

from bench.common import table
from bench.measure import interleaved
from bench.workloads import WORKLOADS

_TIMED: Final = """
import statistics, sys, time
{prepare}
def load():
    start = time.perf_counter()
    module = {load}
    return time.perf_counter() - start
first = load()
print(first, statistics.median(load() for _ in range(20)))
"""
_CHILDREN: Final = {
    "lucet": _TIMED.format(prepare="from lucet.runtime import Module", load="Module.load(sys.argv[1])"),
    "wasmtime": _TIMED.format(
        prepare="import wasmtime; engine = wasmtime.Engine()",
        load="wasmtime.Module.deserialize_file(engine, sys.argv[1])",
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares how long loading takes.")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("LUCET_SHARED", "../shared")))
    parser.add_argument("--opt-level", default="default")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"of {', '.join(WORKLOADS)}")
    given = parser.parse_args()
    programs = given.programs or ["quickjs", "sqlite3"]
    rows, missed = [], False
    with tempfile.TemporaryDirectory() as folder:
        for program in programs:
            wasm = next((given.shared / "apps" / program).glob("*.wasm"))
            files = prepare(wasm, Path(folder), given.opt_level)
            samples = measure(files, given.rounds)
            cells = {
                engine: [statistics.median(column) * 1e3 for column in zip(*samples[engine], strict=True)]
                for engine in files
            }
            missed |= cells["lucet"][1] > cells["wasmtime"][1]
            sizes = [f"{path.stat().st_size / 1e6:.1f} MB" for path in (wasm, files["lucet"], files["wasmtime"])]
            times = [f"{cells[engine][column]:.3f} ms" for column in (0, 1) for engine in ("lucet", "wasmtime")]
            rows.append([program, *sizes, *times])
    header = ["program", ".wasm", "artifact", "wasmtime's", "first: lucet", "wasmtime", "again: lucet", "wasmtime"]
    print(table(header, rows))
    return 1 if missed else 0


def prepare(wasm: Path, folder: Path, opt_level: str) -> dict[str, Path]:
    """The compiled module of each engine."""
    import wasmtime

    files = {engine: folder / f"{wasm.stem}.{engine}" for engine in _CHILDREN}
    command = [sys.executable, "-m", "lucet", "compile", "--opt-level", opt_level, str(wasm), "-o", str(files["lucet"])]
    subprocess.run(command, check=True)
    files["wasmtime"].write_bytes(wasmtime.Module.from_file(wasmtime.Engine(), str(wasm)).serialize())
    time.sleep(2.1)  # a file that has only just been written is not remembered
    return files


def measure(files: dict[str, Path], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of the first load and of later ones, of each engine."""
    return interleaved({engine: partial(child, engine, file) for engine, file in files.items()}, rounds)


def child(engine: str, file: Path) -> tuple[float, float]:
    command = [sys.executable, "-c", _CHILDREN[engine], str(file)]
    first, again = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(first), float(again)


if __name__ == "__main__":
    sys.exit(main())
