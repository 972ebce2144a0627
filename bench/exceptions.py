"""What exceptions cost: nothing on the path that does not throw, and how long a throw takes.

usage: python -m bench.exceptions [--rounds N] [--opt-level LEVEL]

Each round runs everything once, in random order. The first table compares a loop of calls with the same loop of which
each call is in a try_table; the second throws from functions at some depth below the handler, on both engines. A cell
is the median over the rounds of the time of a turn, with quartiles; ratios are of the same round.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Final

import wasmtime

import lucet
from bench.common import conditions, number, spread, table
from bench.measure import interleaved, quartiles, ratios, timed
from lucet.wasm.text import text_to_binary

CALLS: Final = 10_000_000
THROWS: Final = 100_000
DEPTHS: Final = (0, 1, 10, 50)

TEXT: Final = """(module
  (tag $e (param i32)) (tag $other (param i32))
  (table funcref (elem $work))
  (func $work (param i32 i32) (result i32)
    (if (i32.eq (local.get 1) (i32.const -1)) (then (throw $e (i32.const 1))))
    (i32.xor (i32.mul (local.get 0) (i32.const 5)) (local.get 1)))
  (func (export "plain") (param i32) (result i32) (local i32 i32)
    (loop $again
      (local.set 1 (call $work (local.get 1) (local.get 0)))
      (local.set 2 (i32.add (local.get 2) (local.get 1)))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 2))
  (func (export "try") (param i32) (result i32) (local i32 i32)
    (loop $again
      (block $done
        (block $h (result i32)
          (try_table (catch $e $h) (catch $other $h)
            (local.set 1 (call $work (local.get 1) (local.get 0))))
          (br $done))
        (drop))
      (local.set 2 (i32.add (local.get 2) (local.get 1)))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 2))
  (func $deep (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (throw $e (i32.const 1))))
    (i32.add (call $deep (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
  (func $return (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
    (i32.add (call $return (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
  (func (export "throw") (param i32 i32) (result i32) (local $sum i32)
    (loop $again
      (block $h (result i32)
        (try_table (catch $e $h) (drop (call $deep (local.get 0)))) (unreachable))
      (local.set $sum (i32.add (local.get $sum)))
      (br_if $again (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
    (local.get $sum))
  (func (export "keep") (param i32 i32) (result i32) (local $sum i32)
    (loop $again
      (block $h (result i32 exnref)
        (try_table (catch_ref $e $h) (drop (call $deep (local.get 0)))) (unreachable))
      (drop)
      (local.set $sum (i32.add (local.get $sum)))
      (br_if $again (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
    (local.get $sum))
  (func (export "return") (param i32 i32) (result i32) (local $sum i32)
    (loop $again
      (local.set $sum (i32.add (local.get $sum) (call $return (local.get 0))))
      (br_if $again (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
    (local.get $sum)))"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.exceptions", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--opt-level", default="default")
    options = parser.parse_args()
    bodies = things(options.opt_level)
    samples = interleaved({key: timed(*thing) for key, thing in bodies.items()}, options.rounds)
    print(f"Lucet at level {options.opt_level}. {conditions(options.rounds)}\n")
    _print_paths(samples)
    _print_throws(samples)


def things(
    opt_level: str, *, calls: int = CALLS, throws: int = THROWS
) -> dict[tuple[str, str, int], tuple[Callable[[], object], int]]:
    """(engine, function, depth) -> (what to run, how many turns that are)."""
    wasm = text_to_binary(TEXT)
    ours = lucet.Region(1).new_instance(lucet.Module.from_bytes(lucet.compile(wasm, opt_level=opt_level)))
    config = wasmtime.Config()
    config.wasm_exceptions = True
    store = wasmtime.Store(wasmtime.Engine(config))
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, wasm), []).exports(store)

    def engines(name: str, *arguments: int) -> dict[str, Callable[[], object]]:
        theirs = exports[name]
        assert isinstance(theirs, wasmtime.Func)
        return {
            "lucet": lambda: ours.run(name, *arguments),
            "wasmtime": lambda: theirs(store, *arguments),
        }

    made: dict[tuple[str, str, int], tuple[Callable[[], object], int]] = {}
    for name in ("plain", "try"):
        for engine, run in engines(name, calls).items():
            made[engine, name, 0] = run, calls
    for name in ("throw", "keep", "return"):
        for depth in DEPTHS:
            for engine, run in engines(name, depth, throws).items():
                if engine == "lucet" or name != "return":
                    made[engine, name, depth] = run, throws
    return made


def _print_paths(samples: dict[tuple[str, str, int], list[float]]) -> None:
    rows = []
    for engine in ("lucet", "wasmtime"):
        plain, tried = samples[engine, "plain", 0], samples[engine, "try", 0]
        rows.append([engine, spread(plain), spread(tried), _ratio(tried, plain)])
    print("A call that does not throw:\n")
    print(table(["", "without try_table", "in a try_table", "ratio"], rows), "\n")


def _print_throws(samples: dict[tuple[str, str, int], list[float]]) -> None:
    rows = []
    for name, what in (("throw", "caught by value"), ("keep", "caught with its reference")):
        for depth in DEPTHS:
            ours, theirs = samples["lucet", name, depth], samples["wasmtime", name, depth]
            calls = statistics.median(samples["lucet", "return", depth])
            rows.append([f"{what}, depth {depth}", spread(ours), spread(theirs), _ratio(ours, theirs), number(calls)])
    print("A throw, with the calls down to where it is made (of which the last column is the time when they return):\n")
    print(table(["", "Lucet", "wasmtime", "ratio", "calls alone, ns"], rows))


def _ratio(ours: list[float], theirs: list[float]) -> str:
    each = ratios(ours, theirs)
    low, high = quartiles(each)
    return f"**{number(statistics.median(each))}** ({number(low)} .. {number(high)})"


if __name__ == "__main__":
    main()
