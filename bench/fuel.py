"""What counting instructions costs: the time of counting code over that of code that does not, Lucet's and wasmtime's.

usage: python -m bench.fuel [--rounds N] [--opt-level LEVEL] [--shared FOLDER] [KERNEL...]

Each round runs every kernel in its four forms (two engines, with and without counting) in random order, so whatever
else the machine does hits all alike. Measured is CPU time of the thread, of the part that the program itself marks.
wasmtime counts with Config.consume_fuel. Kernels are small loops of our own, and programs of the shared folder.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import wasmtime

import lucet
from bench.common import conditions, number, spread, table
from bench.measure import interleaved, quartiles
from bench.measure import ratios as each
from lucet.compile.cache import cached_compile
from lucet.compile.options import Options
from lucet.runtime import Func
from lucet.wasi import WasiContext, run_command
from lucet.wasm.text import text_to_binary

PROGRAMS: Final = (
    "blake3-scalar/benchmark",
    "bz2/benchmark",
    "hashset/benchmark",
    "pulldown-cmark/benchmark",
    "quicksort/benchmark",
    "regex/benchmark",
    "richards/benchmark",
    "rust-json/benchmark",
    "shootout/shootout-base64",
    "shootout/shootout-ctype",
    "shootout/shootout-matrix",
    "shootout/shootout-random",
    "shootout/shootout-sieve",
    "shootout/shootout-switch",
)

OWN: Final = {
    # name: (text, argument)
    "fib": (
        """(func $run (export "run") (param $n i32) (result i32)
             (if (result i32) (i32.lt_s (local.get $n) (i32.const 2))
               (then (local.get $n))
               (else (i32.add (call $run (i32.sub (local.get $n) (i32.const 1)))
                              (call $run (i32.sub (local.get $n) (i32.const 2)))))))""",
        28,
    ),
    "sum": (
        """(func (export "run") (param $n i32) (result i32) (local $sum i32)
             (loop $next
               (local.set $sum (i32.add (local.get $sum) (i32.load (i32.and (local.get $n) (i32.const 0xfffc)))))
               (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
             (local.get $sum))""",
        10_000_000,
    ),
    "collatz": (
        """(func (export "run") (param $n i32) (result i32) (local $k i32) (local $steps i32)
             (loop $next
               (local.set $k (local.get $n))
               (block $one
                 (loop $step
                   (br_if $one (i32.le_u (local.get $k) (i32.const 1)))
                   (if (i32.and (local.get $k) (i32.const 1))
                     (then (local.set $k (i32.add (i32.mul (local.get $k) (i32.const 3)) (i32.const 1))))
                     (else (local.set $k (i32.shr_u (local.get $k) (i32.const 1)))))
                   (local.set $steps (i32.add (local.get $steps) (i32.const 1)))
                   (br $step)))
               (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
             (local.get $steps))""",
        50_000,
    ),
    "indirect": (
        """(type $unary (func (param i32) (result i32)))
           (table 4 4 funcref)
           (elem (i32.const 0) $a $b $c $d)
           (func $a (type $unary) (i32.add (local.get 0) (i32.const 7)))
           (func $b (type $unary) (i32.xor (local.get 0) (i32.const 0x55)))
           (func $c (type $unary) (i32.rotl (local.get 0) (i32.const 3)))
           (func $d (type $unary) (i32.mul (local.get 0) (i32.const 31)))
           (func (export "run") (param $n i32) (result i32) (local $x i32)
             (loop $next
               (local.set $x (call_indirect (type $unary) (local.get $x) (i32.and (local.get $n) (i32.const 3))))
               (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
             (local.get $x))""",
        5_000_000,
    ),
}

TELLS_TIME: Final = frozenset({"hashset/benchmark"})
"""Programs whose output is another every time."""

ENGINES: Final = ("lucet", "wasmtime")
FUEL: Final = 1 << 60

Form = tuple[str, bool]
"""Engine, and whether it counts."""
Run = Callable[[], tuple[float, bytes]]
"""Runs a kernel once: nanoseconds, and what it gave or printed."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures what counting instructions costs.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--opt-level", default="default", help="Lucet's; wasmtime has its own default, speed")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("LUCET_SHARED", "../shared")))
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="of our own, or programs of the shared folder")
    given = parser.parse_args()
    programs = [name for name in PROGRAMS if (given.shared / "bench" / f"{name}.wasm").exists()]
    kernels = [name for name in (*OWN, *programs) if not given.kernels or any(one in name for one in given.kernels)]
    if not kernels:
        parser.error(f"no such kernel; those of the shared folder are sought in {given.shared}")
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: prepare(name, given.shared / "bench", given.opt_level, Path(folder)) for name in kernels}
        samples = measure(runs, given.rounds)
    print(report(samples))
    print(f"\n{conditions(given.rounds)}")
    return 0


def measure(runs: dict[str, dict[Form, Run]], rounds: int) -> dict[str, dict[Form, list[float]]]:
    expected: dict[str, bytes] = {}

    def job(name: str, form: Form) -> Callable[[], float]:
        def once() -> float:
            ns, output = runs[name][form]()
            if name not in TELLS_TIME and expected.setdefault(name, output) != output:
                raise SystemExit(f"{name}: what {form[0]} gave is different")
            return ns

        return once

    jobs = {(name, form): job(name, form) for name, forms in runs.items() for form in forms}
    samples = interleaved(jobs, rounds, progress=True)
    return {name: {form: samples[name, form] for form in forms} for name, forms in runs.items()}


def report(samples: dict[str, dict[Form, list[float]]]) -> str:
    rows, ratios = [], {engine: list[float]() for engine in ENGINES}
    for name, forms in samples.items():
        row = [name.removesuffix("/benchmark").removeprefix("shootout/")]
        for engine in ENGINES:
            plain, counting = forms[engine, False], forms[engine, True]
            ratio = statistics.median(counting) / statistics.median(plain)
            low, high = quartiles(each(counting, plain))
            ratios[engine].append(ratio)
            row += [spread(plain), f"**{number(ratio)}** ({number(low)} .. {number(high)})"]
        rows.append(row)
    means = [f"**{number(statistics.geometric_mean(ratios[engine]))}**" for engine in ENGINES]
    rows.append(["geometric mean", "", means[0], "", means[1]])
    header = [""]
    for engine in ENGINES:
        header += [f"{engine}: median (quartiles), min", "counting, of that"]
    return table(header, rows)


def prepare(name: str, folder: Path, opt_level: str, scratch: Path) -> dict[Form, Run]:
    """All four forms, compiled."""
    text, argument = OWN.get(name, ("", 0))
    path = folder / f"{name}.wasm"
    wasm = text_to_binary(f"(module (memory 1) {text})") if text else path.read_bytes()
    forms: dict[Form, Run] = {}
    for counts in (False, True):
        module = lucet.Module.load(cached_compile(wasm, Options(opt_level=opt_level, count_instructions=counts)))
        config = wasmtime.Config()
        config.consume_fuel = counts
        engine = wasmtime.Engine(config)
        peer = wasmtime.Module(engine, wasm)
        if text:
            forms["lucet", counts] = _own(module, argument)
            forms["wasmtime", counts] = _own_peer(engine, peer, argument, counts)
        else:
            forms["lucet", counts] = _program(module, path, scratch)
            forms["wasmtime", counts] = _program_peer(engine, peer, path, scratch, counts)
    return forms


def _own(module: lucet.Module, argument: int) -> Run:
    function = lucet.Region(slots=1).new_instance(module).exports["run"]
    assert isinstance(function, Func)

    def run() -> tuple[float, bytes]:
        start = time.thread_time_ns()
        result = function(argument)
        return time.thread_time_ns() - start, str(result).encode()

    return run


def _own_peer(engine: wasmtime.Engine, module: wasmtime.Module, argument: int, counts: bool) -> Run:
    store = wasmtime.Store(engine)
    if counts:
        store.set_fuel(FUEL)
    function = wasmtime.Instance(store, module, []).exports(store)["run"]
    assert isinstance(function, wasmtime.Func)

    def run() -> tuple[float, bytes]:
        start = time.thread_time_ns()
        result = function(store, argument)
        return time.thread_time_ns() - start, str(result).encode()

    return run


class _Marks:
    """What a program calls around the part to be measured."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def mark(self) -> None:
        self.times.append(time.thread_time_ns())

    def elapsed(self) -> float:
        start, end = self.times
        return end - start


def _program(module: lucet.Module, path: Path, scratch: Path) -> Run:
    region = lucet.Region(slots=1)

    def run() -> tuple[float, bytes]:
        marks = _Marks()

        @lucet.host_function
        def mark() -> None:
            marks.mark()

        with (scratch / "out").open("w+b") as out, Path("/dev/null").open("r+b") as null:
            context = WasiContext(
                args=[path.name],
                preopens=[(str(path.parent), ".")],
                stdin=null.fileno(),
                stdout=out.fileno(),
                stderr=null.fileno(),
            )
            imports = {**context.imports(), "bench": {"start": mark, "end": mark}}
            with context, region.new_instance(module, imports) as instance:
                run_command(instance)
            return marks.elapsed(), (scratch / "out").read_bytes()

    return run


def _program_peer(engine: wasmtime.Engine, module: wasmtime.Module, path: Path, scratch: Path, counts: bool) -> Run:
    def run() -> tuple[float, bytes]:
        marks = _Marks()
        store = wasmtime.Store(engine)
        if counts:
            store.set_fuel(FUEL)
        wasi = wasmtime.WasiConfig()
        wasi.argv = [path.name]
        wasi.preopen_dir(str(path.parent), ".")
        wasi.stdout_file = str(scratch / "out")
        store.set_wasi(wasi)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        for name in ("start", "end"):
            linker.define_func("bench", name, wasmtime.FuncType([], []), marks.mark)
        try:
            start = linker.instantiate(store, module).exports(store)["_start"]
            assert isinstance(start, wasmtime.Func)
            start(store)
        except wasmtime.ExitTrap as end:
            if end.code:
                raise
        return marks.elapsed(), (scratch / "out").read_bytes()

    return run


if __name__ == "__main__":
    sys.exit(main())
