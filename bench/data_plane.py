"""The data plane against wasmtime-py: a function over a column, bytes in and out. One interleaved run.

usage: python -m bench.data_plane [--rows N] [--rounds N]

The peer's ways over a column: a call for each row; and, with a guest that was written for it, columns copied in, one
call of the guest's own loop, and the result copied out. Prints Markdown tables; time is the thread's CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any, Final

import numpy
import wasmtime

import lucet
from bench import common
from bench.common import Compared
from bench.measure import interleaved, timed
from lucet.wasm.text import text_to_binary

GUEST: Final = """(module
  (memory (export "memory") 1024)
  (func $due (export "due") (param f64 f64) (result f64)
    (f64.add (f64.mul (local.get 0) (f64.const 1.5)) (local.get 1)))
  (func (export "loop") (param $a i32) (param $b i32) (param $out i32) (param $n i32)
    (loop $next
      (f64.store (local.get $out) (call $due (f64.load (local.get $a)) (f64.load (local.get $b))))
      (local.set $a (i32.add (local.get $a) (i32.const 8)))
      (local.set $b (i32.add (local.get $b) (i32.const 8)))
      (local.set $out (i32.add (local.get $out) (i32.const 8)))
      (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"""
ROWS_OF_CALLS: Final = 20_000
COPIES: Final = {"4 KiB": 1 << 12, "1 MiB": 1 << 20, "32 MiB": 1 << 25}


def main() -> int:
    parser = argparse.ArgumentParser(description="Func.map and copies of memory, against wasmtime-py.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    wasm = text_to_binary(GUEST)
    ways = {**theirs(wasm, given.rows), **ours(wasm, given.rows)}
    samples = interleaved({name: timed(*way) for name, way in ways.items()}, given.rounds)
    print(common.conditions(given.rounds))
    rows = [
        Compared(
            what="a row: Func.map, against a call",
            lucet=samples["map"],
            peer=samples["peer calls"],
            goal="≤ 1/20",
            met=lambda row: row.ratio <= 1 / 20,
        ),
        Compared(what="a row: a call, against a call", lucet=samples["calls"], peer=samples["peer calls"]),
        Compared(
            what="a row: Func.map, against copies and a loop in the guest",
            lucet=samples["map"],
            peer=samples["peer loop"],
        ),
        Compared(
            what="a row: copies and a loop in the guest, in both", lucet=samples["loop"], peer=samples["peer loop"]
        ),
    ]
    for name in COPIES:
        for what in ("read", "write"):
            rows.append(
                Compared(what=f"{what} {name}", lucet=samples[f"{what} {name}"], peer=samples[f"peer {what} {name}"])
            )
    print(f"\n## {given.rows} rows, and bytes: ns\n\n{common.compared_table(rows, peer='wasmtime-py')}")
    print("\n| bytes | write, GB/s | memcpy, GB/s | read, GB/s | bytes(bytearray), GB/s |\n|---|---|---|---|---|")
    for name, size in COPIES.items():
        speeds = [size / statistics.median(samples[f"{way} {name}"]) for way in ("write", "copy", "read", "bytes")]
        print(f"| {name} | " + " | ".join(f"{speed:.1f}" for speed in speeds) + " |")
    return 0


Bodies = dict[str, tuple[Callable[[], object], int]]
"""Name: what is timed, and for how many things that is."""


def repeated(times: int, function: Callable[..., object], *arguments: Any) -> tuple[Callable[[], object], int]:
    """Each result goes before the next one comes: its pages are used again."""

    def body() -> None:
        for _ in range(times):
            function(*arguments)

    return body, times


def columns(rows: int) -> tuple[Any, Any]:
    generator = numpy.random.default_rng(1)
    return generator.random(rows), generator.random(rows)


def ours(wasm: bytes, rows: int) -> Bodies:
    instance = lucet.Region(1).new_instance(lucet.Module.from_bytes(lucet.compile(wasm)))
    due: Any = instance.exports["due"]
    memory = instance.memory
    a, b = columns(rows)
    some = list(zip(a[:ROWS_OF_CALLS].tolist(), b[:ROWS_OF_CALLS].tolist(), strict=True))
    out = numpy.empty(rows)

    def loop() -> object:
        memory.write(0, a)
        memory.write(rows * 8, b)
        instance.run("loop", 0, rows * 8, rows * 16, rows)
        return memory.array("f8", rows * 16, rows).copy()

    bodies: Bodies = {
        "map": (lambda: due.map(a, b, out=out), rows),
        "calls": (lambda: [due(x, y) for x, y in some], len(some)),
        "loop": (loop, rows),
    }
    for name, size in COPIES.items():
        times = max(1, (1 << 24) // size)
        target, source = numpy.zeros(size, numpy.uint8), numpy.ones(size, numpy.uint8)
        bodies[f"read {name}"] = repeated(times, memory.read, 0, size)
        bodies[f"write {name}"] = repeated(times, memory.write, 0, bytes(size))
        bodies[f"copy {name}"] = repeated(times, numpy.copyto, target, source)
        bodies[f"bytes {name}"] = repeated(times, bytes, bytearray(size))
    return bodies


def theirs(wasm: bytes, rows: int) -> Bodies:
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    exports = wasmtime.Instance(store, wasmtime.Module(engine, wasm), []).exports(store)
    due: Any = exports["due"]
    guest_loop: Any = exports["loop"]
    memory: Any = exports["memory"]
    a, b = columns(rows)
    some = list(zip(a[:ROWS_OF_CALLS].tolist(), b[:ROWS_OF_CALLS].tolist(), strict=True))

    def loop() -> object:
        memory.write(store, a.tobytes(), 0)
        memory.write(store, b.tobytes(), rows * 8)
        guest_loop(store, 0, rows * 8, rows * 16, rows)
        return numpy.frombuffer(memory.read(store, rows * 16, rows * 24), "f8")

    bodies: Bodies = {
        "peer calls": (lambda: [due(store, x, y) for x, y in some], len(some)),
        "peer loop": (loop, rows),
    }
    for name, size in COPIES.items():
        times = max(1, (1 << 22) // size)
        bodies[f"peer read {name}"] = repeated(times, memory.read, store, 0, size)
        bodies[f"peer write {name}"] = repeated(times, memory.write, store, bytes(size), 0)
    return bodies


if __name__ == "__main__":
    sys.exit(main())
