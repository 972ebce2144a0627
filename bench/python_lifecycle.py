"""The life of an instance, from Python: Lucet, wasmtime-py and plain Python calls in one interleaved run.

usage: python -m bench.python_lifecycle [--rounds N]

The peer is given its best: pooling allocation with 1 MiB of memory and table kept resident (set through its ctypes
bindings: wasmtime-py's own Config has no such option), InstancePre, functions looked up once. A call's time is that of
a loop of calls less that of an empty loop, of the same round. Prints Markdown tables; time is the thread's CPU time.
"""

from __future__ import annotations

import argparse
import math
import operator
import statistics
import sys
from itertools import repeat
from typing import Any, Final

import lucet
from bench import common, guests
from bench.common import Compared
from bench.measure import Body, blocks, clocked, empty_loop, less, repeated

LOOPS: Final = 20_000
"""Calls of a host function by one run of the guest."""
KEPT_RESIDENT: Final = 1 << 20


def host(value: lucet.i32) -> lucet.i32:
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares the lifecycle of instances from Python with wasmtime-py.")
    parser.add_argument("--rounds", type=int, default=21)
    given = parser.parse_args()
    # The peer first: then its signal handlers are behind Lucet's and cost it nothing.
    bodies = {**wasmtime_bodies(), **lucet_bodies(), **python_bodies()}
    samples = measure(bodies, given.rounds)
    print(common.conditions(given.rounds))
    print(f"\n## wasmtime-py\n\n{against_peer(samples)}\n\n## plain Python\n\n{against_python(samples)}")
    return 0


def measure(bodies: dict[str, Body], rounds: int) -> dict[str, list[float]]:
    """Nanoseconds of each, once in every round."""
    return blocks({name: clocked(body) for name, body in bodies.items()}, rounds)


# ---- what is measured ----


def lucet_bodies() -> dict[str, Body]:
    region = lucet.Region(slots=16)
    module = lucet.Module.from_bytes(lucet.compile(guests.usual()))
    caller = lucet.Module.from_bytes(lucet.compile(guests.caller()))

    def cycle(count: int) -> None:
        for _ in repeat(None, count):
            instance = region.new_instance(module)
            instance.run("run", 1, 2)
            instance.close()

    def run(count: int) -> None:
        instance = region.new_instance(module)
        for _ in repeat(None, count):
            instance.run("run", 1, 2)

    call = region.new_instance(module).exports["run"]
    loops = region.new_instance(caller, {"env": {"host": lucet.host_function(host)}})
    assert isinstance(call, lucet.runtime.Func)
    return {
        "lucet cycle": cycle,
        "lucet run": run,
        "lucet call": repeated(call, 1, 2),
        "lucet host": lambda count: [loops.run("host_loop", LOOPS, 1) for _ in repeat(None, count)],
        "lucet no host": lambda count: [loops.run("empty_loop", LOOPS, 1) for _ in repeat(None, count)],
    }


def wasmtime_bodies() -> dict[str, Body]:
    import wasmtime

    engine = pooling_engine()
    module = wasmtime.Module(engine, guests.usual())
    pre = wasmtime.Linker(engine).instantiate_pre(module)

    def cycle(count: int) -> None:
        for _ in repeat(None, count):
            store = wasmtime.Store(engine)
            function: Any = pre.instantiate(store).exports(store)["run"]
            function(store, 1, 2)
            store.close()

    store = wasmtime.Store(engine)
    call: Any = pre.instantiate(store).exports(store)["run"]
    linker = wasmtime.Linker(engine)
    i32 = wasmtime.ValType.i32()
    linker.define_func("env", "host", wasmtime.FuncType([i32], [i32]), host)
    caller = wasmtime.Module(engine, guests.caller())
    exports = linker.instantiate_pre(caller).instantiate(store).exports(store)
    host_loop: Any = exports["host_loop"]
    empty_loop: Any = exports["empty_loop"]

    def calls(count: int) -> None:
        for _ in repeat(None, count):
            call(store, 1, 2)

    return {
        "wasmtime cycle": cycle,
        "wasmtime call": calls,
        "wasmtime host": lambda count: [host_loop(store, LOOPS, 1) for _ in repeat(None, count)],
        "wasmtime no host": lambda count: [empty_loop(store, LOOPS, 1) for _ in repeat(None, count)],
    }


def pooling_engine() -> Any:
    import wasmtime
    from wasmtime import _ffi as ffi

    config = wasmtime.Config()
    pool = ffi.wasmtime_pooling_allocation_config_new()
    ffi.wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, KEPT_RESIDENT)
    ffi.wasmtime_pooling_allocation_config_table_keep_resident_set(pool, KEPT_RESIDENT)
    ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    ffi.wasmtime_pooling_allocation_config_delete(pool)
    ffi.wasmtime_config_concurrency_support_set(config.ptr(), False)
    return wasmtime.Engine(config)


def python_bodies() -> dict[str, Body]:
    return {
        "empty loop": empty_loop,
        "operator.add": repeated(operator.add, 1, 2),
        "math.gcd": repeated(math.gcd, 1, 2),
        "min": repeated(min, 1, 2),
        "plain call": repeated(host, 1),
    }


# ---- tables ----


def against_peer(samples: dict[str, list[float]]) -> str:
    def of(what: str) -> tuple[list[float], list[float]]:
        return samples[f"lucet {what}"], samples[f"wasmtime {what}"]

    def host_calls(engine: str) -> list[float]:
        """One call by the guest, less a plain Python call of the same function."""
        plain = less(samples["plain call"], samples["empty loop"])
        loops = less(samples[f"{engine} host"], samples[f"{engine} no host"])
        return less([loop / LOOPS for loop in loops], plain)

    rows = []
    ours, theirs = of("cycle")
    goal = "≤ 0.05"
    rows.append(
        Compared(what="create, run, destroy", lucet=ours, peer=theirs, goal=goal, met=lambda row: row.ratio <= 1 / 20)
    )
    ours, theirs = (less(calls, samples["empty loop"]) for calls in of("call"))
    rows.append(Compared(what="call with two i32", lucet=ours, peer=theirs))
    ours, theirs = host_calls("lucet"), host_calls("wasmtime")
    goal = "≤ 300 ns"
    rows.append(
        Compared(
            what="host function, less the Python call",
            lucet=ours,
            peer=theirs,
            goal=goal,
            met=lambda row: statistics.median(row.lucet) <= 300,
        )
    )
    return common.compared_table(rows, peer="wasmtime-py")


def against_python(samples: dict[str, list[float]]) -> str:
    rows = []
    for what, name in (("Func(1, 2)", "lucet call"), ('Instance.run("run", 1, 2)', "lucet run")):
        for builtin in ("operator.add", "math.gcd", "min"):
            ours, theirs = less(samples[name], samples["empty loop"]), less(samples[builtin], samples["empty loop"])
            bound = "≤ 2" if name == "lucet call" else ""
            rows.append(
                Compared(
                    what=f"{what} against {builtin}(1, 2)",
                    lucet=ours,
                    peer=theirs,
                    goal=bound,
                    met=(lambda row: row.ratio <= 2) if bound else None,
                )
            )
    return common.compared_table(rows, peer="built-in function")


if __name__ == "__main__":
    sys.exit(main())
