"""Guests under asyncio: how many can wait, how long others wait for them, what it costs; beside wasmtime-py in threads.

usage: python -m bench.asyncio_guests [--guests N] [--suspended N] [--rounds N]

1. So many guests, each waiting once for a slow host function: the time of all against that of one. The peer has no way
   but a thread for each guest that waits.
2. So many guests suspended at once in one thread: time to start and to finish them, memory for each.
3. A heartbeat on a loop with busy guests: how late it is, at the 99th percentile, in time slices. The goal is two.
Prints Markdown. Times are wall-clock times: keep the machine quiet.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import wasmtime

import lucet
from bench import common
from bench.measure import percentile
from lucet.wasm.text import text_to_binary

SLOW: Final = 0.1
"""Seconds that the host function takes."""
SLICE: Final = 0.005
GUEST: Final = """(module
  (import "host" "wait" (func $wait (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "ask") (param i32) (result i32) (call $wait (local.get 0)))
  (func (export "forever") (loop $again (br $again))))"""


@lucet.host_function
async def wait(key: lucet.i32) -> lucet.i32:
    await asyncio.sleep(SLOW)
    return key


def guests(count: int) -> list[lucet.Instance]:
    region = lucet.Region(count, stack_size=16384, memory_reserved=65536, memory_guard=0)
    module = lucet.Module.from_bytes(lucet.compile(GUEST, bounds="explicit"))
    linkage = region.link(module, {"host": {"wait": wait}})
    return [region.new_instance(linkage) for _ in range(count)]


async def served(instances: list[lucet.Instance]) -> float:
    start = time.perf_counter()
    answers = await asyncio.gather(*(instance.call("ask", key) for key, instance in enumerate(instances)))
    assert answers == list(range(len(instances)))
    return time.perf_counter() - start


def served_by_peer(count: int) -> float:
    """wasmtime-py: a store and a thread for each guest; the host function blocks its thread."""
    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, text_to_binary(GUEST))
    i32 = wasmtime.ValType.i32()

    def slow(key: int) -> int:
        time.sleep(SLOW)
        return key

    def guest() -> tuple[Any, Any]:
        store = wasmtime.Store(engine)
        imported = wasmtime.Func(store, wasmtime.FuncType([i32], [i32]), slow)
        return store, wasmtime.Instance(store, module, [imported]).exports(store)["ask"]

    made = [guest() for _ in range(count)]
    with ThreadPoolExecutor(count) as pool:
        start = time.perf_counter()
        futures = [pool.submit(ask, store, key) for key, (store, ask) in enumerate(made)]
        assert [future.result() for future in futures] == list(range(count))
        return time.perf_counter() - start


async def suspended(instances: list[lucet.Instance]) -> tuple[float, float, float]:
    """Seconds to suspend all, to finish all; bytes for each of them meanwhile."""
    event = asyncio.Event()
    global_wait[0] = event
    before = resident()
    start = time.perf_counter()
    tasks = [asyncio.create_task(instance.call("ask", 1)) for instance in instances]
    await asyncio.sleep(0)
    while any(instance.state != "suspended" for instance in instances):
        await asyncio.sleep(0)
    begun = time.perf_counter() - start
    held = (resident() - before) / len(instances)
    start = time.perf_counter()
    event.set()
    await asyncio.gather(*tasks)
    return begun, time.perf_counter() - start, held


global_wait: list[asyncio.Event] = []


@lucet.host_function
async def wait_for_all(key: lucet.i32) -> lucet.i32:
    await global_wait[0].wait()
    return key


def many(count: int) -> list[lucet.Instance]:
    region = lucet.Region(count, stack_size=16384, memory_reserved=65536, memory_guard=0)
    module = lucet.Module.from_bytes(lucet.compile(GUEST, bounds="explicit"))
    linkage = region.link(module, {"host": {"wait": wait_for_all}})
    return [region.new_instance(linkage) for _ in range(count)]


async def lateness(busy: list[lucet.Instance], seconds: float) -> list[float]:
    """How late a task is that sleeps for a millisecond, time and again, in slices."""
    tasks = [asyncio.create_task(guest.call("forever", time_slice=SLICE)) for guest in busy]
    late: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - start - 0.001) / SLICE)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return late


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> int:
    parser = argparse.ArgumentParser(description="Guests under asyncio, against wasmtime-py in threads.")
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--suspended", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each heartbeat")
    given = parser.parse_args()
    print(common.conditions(given.rounds))
    instances = guests(given.guests)
    ours, theirs = [], []
    asyncio.run(served(instances[:10]))
    for _ in range(given.rounds):
        ours.append(asyncio.run(served(instances)))
        theirs.append(served_by_peer(given.guests))
    print(f"\n## {given.guests} guests, a host function that takes {SLOW} s\n")
    print("| | seconds | of the slowest |\n|---|---|---|")
    for name, seconds in (("Lucet, one thread", ours), (f"wasmtime-py, {given.guests} threads", theirs)):
        print(f"| {name} | {statistics.median(seconds):.3f} | {statistics.median(seconds) / SLOW:.2f} |")
    del instances
    global_wait.append(asyncio.Event())
    waiting = many(given.suspended)
    asyncio.run(suspended(waiting[:10]))
    begun, finished, held = asyncio.run(suspended(waiting))
    print(f"\n## {given.suspended} suspended at once\n")
    print(f"suspended in {begun:.3f} s, finished in {finished:.3f} s, {held / 1024:.1f} KiB each, with their tasks")
    print(f"\n## A heartbeat beside busy guests, slices of {SLICE * 1e3:.0f} ms\n")
    print("| busy guests | median delay | 99th percentile | goal |\n|---|---|---|---|")
    for count in (0, 1, 2, 8, 32):
        late = asyncio.run(lateness(guests(count) if count else [], given.seconds))
        ninety_nine = percentile(late, 0.99)
        met = "met" if ninety_nine <= 2 else "NOT MET"
        print(f"| {count} | {percentile(late, 0.5):.2f} slices | {ninety_nine:.2f} slices | ≤ 2: {met} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
