"""A soak: everything that runs guests, mixed at random in one process, which must end with what it began with.

    python -m fuzz.soak SECONDS [--seed N]          # or: just soak SECONDS

Calls under asyncio with host functions that wait, cancelled in every state; busy guests in time slices; runs in
threads, interrupted; traps, exceptions, timeouts, fuel; suspended runs, resumed elsewhere or forgotten; Func.map;
views and arrays of memory; sandboxes. Every result is checked. Now and then all is let finish: then no slot of a
region, no byte of a budget and no descriptor is in use that was not before, and memory has not grown since the first
such moment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import os
import random
import sys
import threading
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

import lucet

GUEST = """(module
  (import "host" "fetch" (func $fetch (param i32) (result i32)))
  (import "host" "plain" (func $plain (param i32) (result i32)))
  (import "host" "keep" (func $keep (param externref) (result externref)))
  (import "host" "refused" (tag $refused (param i32)))
  (memory (export "memory") 2 20)
  (func (export "fetch") (param i32) (result i32) (call $fetch (local.get 0)))
  (func (export "total") (param i32) (result i32) (local i32)
    (loop $again
      (local.set 1 (i32.add (local.get 1) (call $fetch (local.get 0))))
      (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func (export "plain") (param i32) (result i32) (call $plain (local.get 0)))
  (func (export "careful") (param i32) (result i32)
    (block $reason (result i32)
      (try_table (catch $refused $reason) (return (call $fetch (local.get 0))))
      (unreachable)))
  (func (export "throw") (param i32) (throw $refused (local.get 0)))
  (func (export "keep") (param externref) (result externref) (call $keep (local.get 0)))
  (func (export "work") (param i32) (result i32) (local i32 f64)
    (loop $again
      (local.set 2 (f64.add (local.get 2) (f64.sqrt (f64.convert_i32_u (local.get 1)))))
      (br_if $again (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (local.get 0))))
    (i32.trunc_sat_f64_s (local.get 2)))
  (func (export "inverse") (param i32) (result i32) (i32.div_s (i32.const 1000) (local.get 0)))
  (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func $deep (export "deep") (result i32) (i32.add (call $deep) (i32.const 1)))
  (func (export "forever") (loop $again (br $again))))"""

PROGRAM = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\64\\00\\00\\00\\10\\00\\00\\00")
  (func (export "_start") (local i32)
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
    (local.set 0 (i32.load8_u (i32.const 100)))
    (if (i32.eq (local.get 0) (i32.const 102)) (then (loop $again (br $again)))) ;; f: for ever
    (if (i32.eq (local.get 0) (i32.const 116)) (then (unreachable))) ;; t
    (if (i32.eq (local.get 0) (i32.const 119)) ;; w: writes without end
      (then (loop $again (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $again))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const 3))))"""

TASKS = 40
THREADS = 3
PERIOD = 10.0
"""Seconds between two moments at which all is let finish."""


class Refusal(Exception):
    """What host functions raise."""


@dataclass(frozen=True)
class Held:
    """What the process has."""

    slots: int
    descriptors: int
    threads: int
    traced: int
    resident: int


class Soak:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.budget = lucet.Budget(4000 * 65536)
        self.regions = [
            lucet.Region(64, budget=self.budget),
            lucet.Region(64, track_writes=False, stacks=80),
            lucet.Region(64, random_slots=True, stack_size=128 << 10),
        ]
        self.refused = lucet.Tag(["i32"])
        compiled = lucet.compile(GUEST, opt_level="fast", workers=1)
        counting = lucet.compile(GUEST, opt_level="none", count_instructions=True, bounds="explicit", workers=1)
        self.module = lucet.Module.from_bytes(compiled)
        self.counting = lucet.Module.from_bytes(counting)
        self.sandbox = lucet.Sandbox(PROGRAM.encode(), time=0.2, output=1000)
        self.executor = ThreadPoolExecutor(THREADS)
        self.done: Counter[str] = Counter()
        self.held: list[Any] = []
        self.reports: list[Any] = []
        self.expected = {n: int(float(numpy.sqrt(numpy.arange(n)).cumsum()[-1])) for n in (1, 10, 1000, 300_000)}

    # ---- what guests are given

    async def _fetch(self, caller: lucet.Instance, key: lucet.i32) -> lucet.i32:
        if key % 16 == 13:
            raise Refusal(key)
        if key % 16 == 14:
            raise lucet.WasmException(self.refused, [key])
        await asyncio.sleep(self.random.choice([0, 0, 0.0005, 0.002]))
        if key % 16 == 12:  # the caller's memory, in between
            with caller.memory.view(0, 100) as seen:
                assert len(bytes(seen)) == 100
        return key * 2

    def _plain(self, caller: lucet.Instance, key: lucet.i32) -> Any:
        if key % 8 == 7:
            raise Refusal(key)
        if key % 8 == 6:
            return lucet.Suspend(key)
        if key % 8 == 5:
            return int(caller.run("work", 10)) + key
        return key

    def _keep(self, value: Any) -> Any:
        return value

    def instance(self, **options: Any) -> lucet.Instance:
        host = {
            "fetch": lucet.host_function(self._fetch),
            "plain": lucet.runtime.HostFunction(self._plain, ("i32",), ("i32",), wants_caller=True),
            "keep": lucet.runtime.HostFunction(self._keep, ("externref",), ("externref",), wants_caller=False),
            "refused": self.refused,
        }
        counting = self.random.random() < 0.3 or "fuel" in options
        module = self.counting if counting else self.module
        return self.random.choice(self.regions).new_instance(module, {"host": host}, **options)

    # ---- under asyncio: each leaves nothing

    async def waits(self) -> None:
        with self.instance() as guest:
            count = self.random.randrange(1, 12)
            assert await guest.call("total", count) == count * (count + 1)
            assert await guest.call("careful", 30) == 30

    async def raises(self) -> None:
        with self.instance() as guest:
            for key, kind in ((13, Refusal), (14, lucet.WasmException)):
                try:
                    await guest.call("fetch", key)
                except kind:
                    continue
                raise AssertionError(f"{kind} expected")
            assert await guest.call("fetch", 5) == 10

    async def computes(self) -> None:
        with self.instance() as guest:
            n = self.random.choice([10, 1000, 300_000])
            assert await guest.call("work", n, time_slice=0.001) == self.expected[n]

    async def is_cancelled(self) -> None:
        with self.instance() as guest:
            executor = self.executor if self.random.random() < 0.3 else None
            calls: list[tuple[str, list[int]]]
            calls = [("forever", []), ("total", [1000]), ("total", [3]), ("work", [300_000])]
            name, arguments = self.random.choice(calls)
            task = asyncio.ensure_future(guest.call(name, *arguments, time_slice=0.001, executor=executor))
            for _ in range(self.random.randrange(3)):
                await asyncio.sleep(self.random.choice([0, 0.001, 0.004]))
            for _ in range(self.random.choice([1, 1, 2, 3])):
                task.cancel()
                await asyncio.sleep(0)
            try:
                await task
            except (asyncio.CancelledError, Refusal, lucet.WasmException):
                pass
            except lucet.Trap as trap:
                assert trap.code == "INTERRUPTED", trap
            else:
                assert name != "forever"
            assert guest.run("work", 10) == self.expected[10]

    async def runs_out_of_time(self) -> None:
        with self.instance() as guest:
            guest.timeout = 0.01
            try:
                await guest.call("forever")
            except lucet.TimedOut:
                guest.timeout = None
                assert await guest.call("work", 1) == 0
                return
            raise AssertionError("a guest ran for ever")

    async def runs_out_of_fuel(self) -> None:
        with self.instance(fuel=1000) as guest:
            with contextlib.suppress(lucet.OutOfFuel):
                await guest.call("forever")
            guest.fuel = 300
            guest.suspend_out_of_fuel = True
            run = guest.run("work", 1000)
            while isinstance(run, lucet.Suspended):
                if self.random.random() < 0.02:
                    return  # closing ends it
                guest.fuel = 300
                run = run.resume()
            assert run == self.expected[1000]

    async def in_a_sandbox(self) -> None:
        what = self.random.choice([b"hello", b"for ever", b"trap", b"write"])
        task = asyncio.ensure_future(self.sandbox.run_async(stdin=what))
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.choice([0, 0.001, 0.05]))
            task.cancel()
            await asyncio.wait([task])
            return
        result = await task
        if what == b"for ever":
            assert result.limit == "time", result
        elif result.usage.wall_time > 0.2:
            return  # the machine is busy
        elif what == b"hello":
            assert (result.exit_code, result.stdout) == (3, b"hello"), result
        elif what == b"trap":
            assert result.trap is not None, result
            assert result.limit is None, result
        else:
            assert result.limit == "output", result
            assert result.usage.host_calls > 100, result

    # ---- in a thread, or on the loop

    def traps(self) -> None:
        with self.instance() as guest:
            for name, *arguments in (("inverse", 0), ("deep",), ("poke", 2**31, 0), ("throw", 3)):
                try:
                    guest.run(name, *arguments)
                except (lucet.Trap, lucet.WasmException) as error:
                    assert "\n" in "".join(error.__notes__) or name in ("poke", "throw", "inverse", "deep")
                    continue
                raise AssertionError(f"{name} did not trap")
            guest.reset()
            assert guest.run("inverse", 10) == 100

    def maps(self) -> None:
        with self.instance() as guest:
            count = self.random.choice([0, 1, 300, 5000, 50_000])
            column = numpy.arange(1, count + 1, dtype=numpy.int32)
            inverse: Any = guest.exports.inverse
            assert numpy.array_equal(inverse.map(column), 1000 // column)
            if count > 1:
                at = self.random.randrange(count)
                column[at] = 0
                out = numpy.full(count, -1, numpy.int32)
                try:
                    inverse.map(column, out=out)
                except lucet.Trap as trap:
                    assert trap.element == at
                    assert (out[at:] == -1).all()
                    assert numpy.array_equal(out[:at], 1000 // column[:at])
                else:
                    raise AssertionError("no trap")
            guest.timeout = 0.005
            try:
                guest.exports.work.map(numpy.full(1000, 300_000, numpy.int32))  # type: ignore[union-attr]
            except lucet.TimedOut as late:
                assert late.element is not None
            guest.timeout = None
            try:
                guest.exports.plain.map(b"\1\2\6")  # type: ignore[union-attr]
            except lucet.InstanceError as error:
                assert error.element == 2
            memory = guest.memory
            cells = memory.array("u1", 0, 60_000, writable=True)
            poke: Any = guest.exports.poke
            poke.map(numpy.arange(60_000, dtype=numpy.int32), numpy.arange(60_000, dtype=numpy.int32))
            assert numpy.array_equal(cells, numpy.arange(60_000, dtype=numpy.int64).astype(numpy.uint8))
            del cells, memory

    def suspends(self) -> None:
        with self.instance() as guest:
            run = guest.run("plain", 6)
            assert isinstance(run, lucet.Suspended)
            match self.random.randrange(4):
                case 0:
                    assert run.resume(77) == 77
                case 1:
                    results: list[Any] = []
                    thread = threading.Thread(target=lambda: results.append(run.resume(78)))
                    thread.start()
                    thread.join()
                    assert results == [78]
                case 2:
                    run.close()
                case 3:
                    del run  # forgotten
                    gc.collect(0)
            assert guest.run("plain", 5) == self.expected[10] + 5
            with contextlib.suppress(Refusal):
                guest.run("plain", 7)

    def references(self) -> None:
        with self.instance() as guest:
            cycle: list[Any] = [guest]
            cycle.append(cycle)
            assert guest.run("keep", cycle) is cycle

    def is_interrupted(self) -> None:
        with self.instance() as guest:
            done = threading.Event()

            def interrupt() -> None:
                while not done.wait(0.002):
                    guest.interrupt()

            other = threading.Thread(target=interrupt)
            other.start()
            try:
                guest.run("forever")
            except lucet.Trap as trap:
                assert trap.code == "INTERRUPTED"
            finally:
                done.set()
                other.join()

    def holds_memory(self) -> None:
        """What is seen of a memory outlives everything else that knows it; some of it for a while."""
        guest = self.instance()
        guest.memory.write(10, b"kept")
        guest.run("grow", 1)
        show: Any = self.random.choice(
            [numpy.from_dlpack, memoryview, lambda m: m.array("u1"), lambda m: m.view(0, 100)]
        )
        seen = show(guest.memory)
        assert bytes(seen[10:14]) == b"kept"
        for refused in (guest.close, guest.reset):
            try:
                refused()
            except BufferError:
                continue
            raise AssertionError("the memory went away under a view")
        self.held.append(seen)
        while len(self.held) > 8:
            self.held.pop(self.random.randrange(len(self.held)))

    # ---- the mix

    ASYNC: tuple[Callable[[Soak], Awaitable[None]], ...] = (
        waits, raises, computes, is_cancelled, is_cancelled, is_cancelled, runs_out_of_time, runs_out_of_fuel,
        in_a_sandbox,
    )  # fmt: skip
    PLAIN: tuple[Callable[[Soak], None], ...] = (
        traps, maps, suspends, references, is_interrupted, holds_memory,
    )  # fmt: skip

    async def one(self) -> None:
        if self.random.random() < 0.6:
            action = self.random.choice(self.ASYNC)
            self.done[action.__name__] += 1
            await action(self)
            return
        plain = self.random.choice(self.PLAIN)
        self.done[plain.__name__] += 1
        if plain.__name__ == "is_interrupted" or self.random.random() < 0.5:
            await asyncio.get_running_loop().run_in_executor(self.executor, plain, self)
        else:
            plain(self)

    async def worker(self, end: float) -> None:
        while time.monotonic() < end:
            await self.one()
            await asyncio.sleep(0)

    async def period(self, seconds: float) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.reports.append(context))
        end = time.monotonic() + seconds
        await asyncio.gather(*(self.worker(end) for _ in range(TASKS)))

    def look(self) -> Held:
        self.held.clear()
        for _ in range(3):
            gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return Held(
            slots=sum(region.used for region in self.regions)
            + sum(region.used for region in self.sandbox._regions)
            + self.budget.used,
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=len(os.listdir("/proc/self/task")),
            traced=tracemalloc.get_traced_memory()[0],
            resident=pages * 4096,
        )


def soak(seconds: float, seed: int) -> None:
    """AssertionError if something is left."""
    this = Soak(seed)
    tracemalloc.start()
    end = time.monotonic() + seconds
    begun = this.look()
    assert begun.slots == 0
    first: Held | None = None
    while first is None or time.monotonic() < end:
        faulthandler.dump_traceback_later(PERIOD * 12, exit=True)
        asyncio.run(this.period(min(PERIOD, max(seconds / 4, 0.5))))
        now = this.look()
        assert not this.reports, this.reports
        print(f"{sum(this.done.values()):8} done, {now}", flush=True)
        first = first or now
        assert now.slots == 0, "slots, or bytes of the budget, are in use"
        assert now.descriptors <= first.descriptors, "descriptors are left open"
        assert now.threads <= first.threads, "threads are left"
        # Caches fill up in the first period: code objects' specialisations, free lists, interned strings.
        assert now.traced < first.traced + 400_000, "Python's memory grows"
        assert now.resident < first.resident + (64 << 20), "the process grows"
    faulthandler.cancel_dump_traceback_later()
    this.executor.shutdown()
    print(dict(this.done))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("seconds", type=float, nargs="?", default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    faulthandler.enable()
    warnings.simplefilter("ignore", RuntimeWarning)  # coroutines that a cancelled call never awaited
    unraisable: list[Any] = []
    sys.unraisablehook = unraisable.append
    soak(given.seconds, given.seed)
    assert not unraisable, unraisable
    return 0


if __name__ == "__main__":
    sys.exit(main())
