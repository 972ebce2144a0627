"""Shared memories: instances on several threads in one memory, waiting, and who ends a guest that waits."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pytest

import lucet
from lucet.wasm.types import I64, Limits, MemoryType

PAGE = 65536
SECONDS = 60
"""More than anything here takes, on any machine."""
OK, NOT_EQUAL, TIMED_OUT = 0, 1, 2

WAITER = """(module (import "m" "m" (memory 1 4 shared))
  (func (export "wait32") (param i32 i32 i64) (result i32)
    (memory.atomic.wait32 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "wait64") (param i32 i64 i64) (result i32)
    (memory.atomic.wait64 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "notify") (param i32 i32) (result i32) (memory.atomic.notify (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "size") (result i32) (memory.size))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "add") (param i32 i32)
    (loop (drop (i32.atomic.rmw.add (local.get 0) (i32.const 1)))
      (br_if 0 (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))))"""


@cache
def compiled(text: str, level: str = "fast") -> lucet.Module:
    return lucet.Module.from_bytes(lucet.compile(text, opt_level=level))


def waiters(memory: lucet.SharedMemory, count: int) -> list[lucet.Instance]:
    region = lucet.Region(count)
    return [region.new_instance(compiled(WAITER), {"m": {"m": memory}}) for _ in range(count)]


@contextmanager
def running(*calls: Callable[[], object]) -> Iterator[list[object]]:
    """Each call on a thread of its own; the results, or exceptions, as they come. At the end all have ended."""
    results: list[object] = []

    def run(call: Callable[[], object]) -> None:
        try:
            results.append(call())
        except lucet.Trap as error:
            results.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        for thread in threads:
            thread.join(SECONDS)
        assert not any(thread.is_alive() for thread in threads)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def call(instance: lucet.Instance, name: str, *arguments: int) -> Callable[[], object]:
    return lambda: instance.run(name, *arguments)


# ---- the memory


def test_what_a_host_makes() -> None:
    memory = lucet.SharedMemory(1, 3)
    assert (memory.size, len(memory), memory.pages) == (PAGE, PAGE, 1)
    memory.write(5, b"abc")
    assert (memory.read(4, 5), memory.read_u8(5)) == (b"\0abc\0", ord("a"))
    with memory.view(5, 3, writable=True) as view:
        view[:] = b"xyz"
    assert bytes(memory)[5:8] == b"xyz"
    assert memory.grow(2) == 1
    with pytest.raises(lucet.LimitsExceeded):
        memory.grow(1)
    with pytest.raises(lucet.MemoryAccessError):
        memory.read(3 * PAGE - 1, 2)
    small = lucet.SharedMemory(3, 5, index_type="i64", page_size=1)
    assert (small.size, small.grow(2), small.size) == (3, 3, 5)
    assert memory != small


@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [
        ((2, 1), {}, ValueError),
        ((0, 65537), {}, ValueError),
        ((0, (1 << 48) + 1), {"index_type": "i64"}, ValueError),
        ((0, 1 << 32), {"page_size": 1}, ValueError),
        ((0, 1), {"page_size": 4096}, ValueError),
        ((0, 1), {"index_type": "f32"}, ValueError),
        ((0, 1 << 48), {"index_type": "i64"}, lucet.LimitsExceeded),
        ((1 << 47, 1 << 48), {"index_type": "i64"}, lucet.LimitsExceeded),
        ((0, (1 << 64) - 1), {"index_type": "i64", "page_size": 1}, lucet.LimitsExceeded),
        ((-1, 1), {}, (OverflowError, ValueError)),
        ((1,), {}, TypeError),
        ((0, 1), {"budget": 7}, TypeError),
    ],
)
def test_what_it_cannot_make(arguments: tuple[int, ...], keywords: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        lucet.SharedMemory(*arguments, **keywords)  # type: ignore[arg-type]


def test_a_view_keeps_the_bytes() -> None:
    memory = lucet.SharedMemory(1, 1)
    view = memory.view(0, 10, writable=True)
    whole = memoryview(memory)
    del memory
    gc.collect()
    view[3] = 9
    assert whole[3] == 9


def test_it_is_imported_as_what_it_is() -> None:
    region = lucet.Region(1)
    memory = lucet.SharedMemory(1, 3)
    for limits in ("1 3", "2 3 shared", "1 2 shared", "i64 1 3 shared", "1 3 shared (pagesize 1)"):
        with pytest.raises(lucet.LinkError, match="incompatible import type"):
            region.new_instance(compiled(f'(module (import "m" "m" (memory {limits})))'), {"m": {"m": memory}})
    ordinary = compiled('(module (memory (export "m") 1 3))')
    wanted = compiled('(module (import "m" "m" (memory 1 3 shared)))')
    with pytest.raises(lucet.LinkError, match="incompatible import type"):
        region.new_instance(wanted, {"m": {"m": lucet.Region(1).new_instance(ordinary).exports["m"]}})
    with pytest.raises(lucet.LinkError, match="incompatible import type"):
        region.new_instance(compiled('(module (import "m" "m" (func)))'), {"m": {"m": memory}})
    assert wanted.imports[0].type == MemoryType(limits=Limits(minimum=1, maximum=3), shared=True)
    instance = region.new_instance(
        compiled('(module (import "m" "m" (memory 1 4 shared)) (export "e" (memory 0)))'), {"m": {"m": memory}}
    )
    assert instance.memory == instance.exports["e"] == memory
    assert hash(instance.memory) == hash(memory)


def test_what_a_module_defines_outlives_its_instance() -> None:
    text = """(module (memory (export "m") 1 3 shared) (memory (export "n") i64 1 2 shared) (data (i32.const 3) "abc")
      (func (export "write") (i32.store8 (i32.const 3) (i32.const 100))))"""
    region = lucet.Region(1)
    instance = region.new_instance(compiled(text))
    memory, other = instance.exports["m"], instance.exports["n"]
    assert isinstance(memory, lucet.SharedMemory)
    assert memory != other
    instance.run("write")
    assert memory.read(3, 3) == b"dbc"
    instance.reset()
    fresh = instance.memory
    assert fresh != memory
    assert (fresh.read(3, 3), memory.read(3, 3)) == (b"abc", b"dbc")
    with memory.view(0, 1):
        instance.close()  # pins nothing
    importer = lucet.Region(1).new_instance(compiled(WAITER), {"m": {"m": memory}})
    assert importer.run("load", 3) == int.from_bytes(b"dbc\0", "little")
    again = region.new_instance(compiled(text)).memory
    assert again.read(3, 3) == b"abc"


def test_it_links_no_instances() -> None:
    """One can be reset and closed while another one runs."""
    memory = lucet.SharedMemory(1, 4)
    one, other = waiters(memory, 2)
    with running(call(one, "wait32", 0, 0, -1)) as results:
        until(lambda: one.state == "running")
        assert other.run("size") == 1
        other.reset()
        other.close()
        until(lambda: memory.notify(0))
    assert results == [OK]


def test_limits_and_budgets() -> None:
    budget = lucet.Budget(10 * PAGE)
    memory = lucet.SharedMemory(2, 100, budget=budget)
    assert budget.used == 2 * PAGE
    memory.grow(8)
    with pytest.raises(lucet.LimitsExceeded):
        memory.grow(1)
    with pytest.raises(lucet.LimitsExceeded):
        lucet.SharedMemory(1, 1, budget=budget)
    del memory
    assert budget.used == 0
    region = lucet.Region(2, memory_limit=6 * PAGE, budget=budget)
    text = """(module (memory 1 2) (memory (export "a") 1 3 shared) (memory (export "b") 1 9 shared))"""
    instance = region.new_instance(compiled(text))
    assert budget.used == 3 * PAGE
    a, b = instance.exports["a"], instance.exports["b"]
    assert isinstance(a, lucet.SharedMemory)
    assert isinstance(b, lucet.SharedMemory)
    a.grow(2)
    assert b.grow(1) == 1  # six pages in all, of which the first shared memory has as many as it can want
    for full in (a, b, instance.memory):
        with pytest.raises(lucet.LimitsExceeded):
            full.grow(1)
    instance.close()
    assert budget.used == 5 * PAGE  # which somebody still has
    del a, b, full, instance
    gc.collect()
    assert budget.used == 0
    with pytest.raises(lucet.LimitsExceeded):
        region.new_instance(compiled("(module (memory 4 9 shared) (memory 3 9 shared))"))


def test_a_free_slot_keeps_no_memory() -> None:
    budget = lucet.Budget(PAGE)
    region = lucet.Region(1)
    for _ in range(3):
        memory = lucet.SharedMemory(1, 4, budget=budget)
        region.new_instance(compiled(WAITER), {"m": {"m": memory}}).close()
        del memory
        gc.collect()
        assert budget.used == 0


def test_hundred_memories_of_the_largest_kind() -> None:
    text = f"(module {'(memory i64 0 0x1000000000000 shared)' * 100})"
    region = lucet.Region(2)
    for _ in range(3):
        region.new_instance(compiled(text)).close()
    assert region.used == 0


# ---- several threads


@pytest.mark.parametrize("level", ["fast", "default", "best"])
def test_atomic_additions_of_all_widths(level: str) -> None:
    memory = lucet.SharedMemory(1, 1)
    widths = [("i32", "", 4), ("i32", "16", 2), ("i64", "8", 1), ("i64", "32", 4), ("i64", "", 8)]
    functions = []
    for number, (valtype, bits, _) in enumerate(widths):
        name = f"{valtype}.atomic.rmw{bits}.add{'_u' * bool(bits)}"
        functions.append(f"(drop ({name} (i32.const {number * 8}) ({valtype}.const 3)))")
    text = f"""(module (import "m" "m" (memory 1 1 shared)) (func (export "f") (param i32)
      (loop {"".join(functions)} (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"""
    region = lucet.Region(4)
    instances = [region.new_instance(compiled(text, level), {"m": {"m": memory}}) for _ in range(4)]
    rounds = 20_000
    with running(*(call(instance, "f", rounds) for instance in instances)):
        pass
    for number, (*_, width) in enumerate(widths):
        found = int.from_bytes(memory.read(number * 8, width), "little")
        assert found == 4 * rounds * 3 % (1 << 8 * width), widths[number]


@pytest.mark.parametrize("level", ["none", "fast", "default", "best"])
def test_plain_accesses_are_seen_by_the_other_thread(level: str) -> None:
    """A loop that waits for a plain store ends: nobody keeps the value in a register."""
    text = """(module (import "m" "m" (memory 1 1 shared))
      (func (export "spin") (result i32) (local i32)
        (loop (br_if 0 (i32.eqz (local.tee 0 (i32.load (i32.const 0))))))
        (local.get 0))
      (func (export "set") (i32.store (i32.const 0) (i32.const 7))))"""
    memory = lucet.SharedMemory(1, 1)
    region = lucet.Region(2)
    one, other = (region.new_instance(compiled(text, level), {"m": {"m": memory}}) for _ in range(2))
    one.timeout = SECONDS
    with running(call(one, "spin")) as results:
        until(lambda: one.state == "running")
        other.run("set")
    assert results == [7]


def test_everybody_grows() -> None:
    memory = lucet.SharedMemory(0, 400)
    text = """(module (import "m" "m" (memory 0 400 shared))
      (func (export "f") (result i32) (local $last i32) (local $sum i32)
        (loop
          (local.set $last (memory.grow (i32.const 1)))
          (if (i32.ge_s (local.get $last) (i32.const 0))
            (then
              ;; the page is there at once, and nobody else's
              (if (i32.atomic.rmw.add (i32.shl (local.get $last) (i32.const 16)) (i32.const 1)) (then unreachable))
              (local.set $sum (i32.add (local.get $sum) (i32.const 1)))
              (br 1))))
        (local.get $sum)))"""
    region = lucet.Region(4)
    instances = [region.new_instance(compiled(text), {"m": {"m": memory}}) for _ in range(4)]
    with running(*(call(instance, "f") for instance in instances)) as results:
        pass
    assert sum(int(str(result)) for result in results) == 400
    assert memory.pages == 400


# ---- waiting


def test_results_of_waiting() -> None:
    memory = lucet.SharedMemory(1, 4)
    (instance,) = waiters(memory, 1)
    memory.write_u64(8, 0xFFFFFFFF_00000005)
    assert instance.run("wait32", 8, 4, -1) == NOT_EQUAL
    assert instance.run("wait64", 8, 5, -1) == NOT_EQUAL
    assert instance.run("wait32", 8, 5, 0) == TIMED_OUT
    assert instance.run("wait64", 8, -(1 << 32) + 5, 0) == TIMED_OUT
    begin = time.monotonic()
    assert instance.run("wait32", 8, 5, 30_000_000) == TIMED_OUT
    assert time.monotonic() - begin >= 0.03
    assert (instance.run("notify", 8, -1), memory.notify(8), memory.notify(8, 0)) == (0, 0, 0)


def test_traps_of_waiting() -> None:
    (instance,) = waiters(lucet.SharedMemory(1, 4), 1)
    for name, arguments, message in [
        ("wait32", (2, 0, 0), "unaligned atomic"),
        ("wait64", (4, 0, 0), "unaligned atomic"),
        ("notify", (PAGE + 1, 0), "unaligned atomic"),
        ("wait32", (PAGE, 0, 0), "out of bounds memory access"),
        ("wait64", (-8, 0, 0), "out of bounds memory access"),
        ("notify", (PAGE, 0), "out of bounds memory access"),
    ]:
        with pytest.raises(lucet.Trap, match=message) as caught:
            instance.run(name, *arguments)
        assert caught.value.offset is not None
    text = """(module (memory 1)
      (func (export "wait") (result i32) (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0)))
      (func (export "notify") (result i32) (memory.atomic.notify (i32.const 0) (i32.const -1))))"""
    unshared = lucet.Region(1).new_instance(compiled(text))
    with pytest.raises(lucet.Trap, match="expected shared memory") as caught:
        unshared.run("wait")
    assert caught.value.code == "EXPECTED_SHARED_MEMORY"
    assert unshared.run("notify") == 0


@pytest.mark.parametrize("offset", [(1 << 64) - 4, (1 << 64) - 65536, 1 << 63, 1 << 48])
def test_offsets_that_go_round(offset: int) -> None:
    text = f"""(module (memory i64 1 1 shared)
      (func (export "wait") (param i64) (result i32)
        (memory.atomic.wait32 offset={offset} (local.get 0) (i32.const 0) (i64.const 0)))
      (func (export "notify") (param i64) (result i32)
        (memory.atomic.notify offset={offset} (local.get 0) (i32.const 0))))"""
    instance = lucet.Region(1).new_instance(compiled(text))
    for address in (0, 4, 65536, -offset & (1 << 64) - 1, (1 << 64) - 4, 1 << 63):
        for name in ("wait", "notify"):
            with pytest.raises(lucet.Trap, match="out of bounds memory access"):
                instance.run(name, address)


def test_notify_wakes_who_waits_there_and_no_more_than_asked() -> None:
    memory = lucet.SharedMemory(1, 4)
    instances = waiters(memory, 5)
    calls = [call(one, "wait32", 8, 0, -1) for one in instances[:3]] + [call(instances[3], "wait64", 16, 0, -1)]
    with running(*calls) as results:
        woken = 0
        while woken < 2:
            woken += instances[4].run("notify", 8, 2 - woken)
        until(lambda: len(results) == 2)
        assert memory.notify(12) == 0
        while woken < 3:
            woken += memory.notify(8)
        until(lambda: memory.notify(16))
    assert results == [OK] * 4
    assert memory.notify(8) == memory.notify(16) == 0


def test_first_come_first_woken() -> None:
    memory = lucet.SharedMemory(1, 4)
    instances = waiters(memory, 3)
    order: list[int] = []

    def wait(number: int) -> None:
        instances[number].run("wait32", 0, 0, -1)
        order.append(number)

    threads = []
    for number, instance in enumerate(instances):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        until(lambda one=instance: one.state == "running")  # type: ignore[misc]
        time.sleep(0.1)  # until it sleeps, which nothing shows
    for _ in instances:
        before = len(order)
        until(lambda: memory.notify(0, 1))
        until(lambda known=before: len(order) > known)  # type: ignore[misc]
    for thread in threads:
        thread.join(SECONDS)
    assert order == [0, 1, 2]


def test_a_mutex_of_guests() -> None:
    """Lock and unlock as compilers make them: 0 free, 1 taken, 2 taken and others wait."""
    text = """(module (import "m" "m" (memory 1 1 shared))
      (func $lock (local i32)
        (local.set 0 (i32.atomic.rmw.cmpxchg (i32.const 0) (i32.const 0) (i32.const 1)))
        (if (local.get 0) (then
          (loop
            (if (i32.or (i32.eq (local.get 0) (i32.const 2))
                        (i32.ne (i32.atomic.rmw.cmpxchg (i32.const 0) (i32.const 1) (i32.const 2)) (i32.const 0)))
              (then (drop (memory.atomic.wait32 (i32.const 0) (i32.const 2) (i64.const -1)))))
            (br_if 0 (local.tee 0 (i32.atomic.rmw.cmpxchg (i32.const 0) (i32.const 0) (i32.const 2))))))))
      (func $unlock
        (if (i32.ne (i32.atomic.rmw.sub (i32.const 0) (i32.const 1)) (i32.const 1)) (then
          (i32.atomic.store (i32.const 0) (i32.const 0))
          (drop (memory.atomic.notify (i32.const 0) (i32.const 1))))))
      (func (export "f") (param i32)
        (loop
          (call $lock)
          (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
          (call $unlock)
          (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"""
    memory = lucet.SharedMemory(1, 1)
    region = lucet.Region(4)
    instances = [region.new_instance(compiled(text, "default"), {"m": {"m": memory}}) for _ in range(4)]
    with running(*(call(instance, "f", 5000) for instance in instances)):
        pass
    assert memory.read_u32(8) == 20_000


# ---- ending a guest that waits


def test_a_timeout_ends_it() -> None:
    (instance,) = waiters(lucet.SharedMemory(1, 4), 1)
    instance.timeout = 0.05
    with pytest.raises(lucet.TimedOut) as caught:
        instance.run("wait32", 0, 0, -1)
    assert caught.value.function == "wait32"
    instance.timeout = None
    assert instance.run("wait32", 0, 0, 0) == TIMED_OUT


def test_an_interrupt_ends_it_and_no_other() -> None:
    memory = lucet.SharedMemory(1, 4)
    one, other = waiters(memory, 2)
    with running(call(one, "wait32", 0, 0, -1), call(other, "wait32", 0, 0, -1)) as results:
        until(lambda: one.state == other.state == "running")
        time.sleep(random.random() / 50)
        assert one.interrupt()
        until(lambda: results)
        assert [getattr(result, "code", result) for result in results] == ["INTERRUPTED"]
        until(lambda: memory.notify(0, 5))
    assert results[1] == OK
    assert one.run("wait32", 0, 0, 0) == TIMED_OUT


def test_interrupts_and_notifies_at_once() -> None:
    """Every wait ends once, by one of both; and nobody is left in the list."""
    memory = lucet.SharedMemory(1, 4)
    (instance,) = waiters(memory, 1)
    for _ in range(150):
        with running(call(instance, "wait32", 0, 0, -1)) as results:
            until(lambda: instance.state == "running" or results)
            with running(instance.interrupt, lambda: memory.notify(0)):
                pass
            until(lambda: results or memory.notify(0))
        assert results[0] == OK or getattr(results[0], "code", "") == "INTERRUPTED"
    assert memory.notify(0) == 0


def test_ctrl_c_ends_it() -> None:
    program = f"""
import os, signal, threading, lucet
module = lucet.Module.from_bytes(lucet.compile({WAITER!r}, opt_level="none"))
instance = lucet.Region(1).new_instance(module, {{"m": {{"m": lucet.SharedMemory(1, 4)}}}})
def kill():
    while instance.state != "running":
        pass
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=kill).start()
try:
    instance.run("wait32", 0, 0, -1)
except KeyboardInterrupt:
    print("ended")
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.stdout, done.returncode) == ("ended\n", 0), done.stderr


def test_the_gil_is_free_while_a_guest_waits() -> None:
    (instance,) = waiters(lucet.SharedMemory(1, 4), 1)
    for _ in range(3):
        with running(call(instance, "wait32", 0, 0, 200_000_000)) as results:
            until(lambda: instance.state == "running" or results)
        assert results == [TIMED_OUT]


def test_a_forked_child_does_not_wait_for_those_of_its_parent() -> None:
    memory = lucet.SharedMemory(1, 4)
    one, other = waiters(memory, 2)
    with running(call(one, "wait32", 0, 0, -1)) as results:
        until(lambda: one.state == "running")
        time.sleep(0.02)
        child = os.fork()
        if not child:
            ok = memory.notify(0) == 0 and other.run("wait32", 4, 0, 1000) == TIMED_OUT and memory.grow(1) == 1
            os._exit(0 if ok else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not results
        until(lambda: memory.notify(0))
    assert results == [OK]


def test_wait64_in_a_64_bit_memory() -> None:
    text = """(module (memory (export "m") i64 1 1 shared)
      (func (export "wait") (param i64 i64) (result i32)
        (memory.atomic.wait64 offset=8 (local.get 0) (local.get 1) (i64.const -1))))"""
    instance = lucet.Region(1).new_instance(compiled(text))
    memory = instance.memory
    assert isinstance(memory, lucet.SharedMemory)
    memory.write_u64(PAGE - 8, 1 << 40)
    assert instance.run("wait", PAGE - 16, 0) == NOT_EQUAL
    with running(call(instance, "wait", PAGE - 16, 1 << 40)) as results:
        until(lambda: memory.notify(PAGE - 8))
    assert results == [OK]
    expected = MemoryType(limits=Limits(minimum=1, maximum=1, index_type=I64), shared=True)
    assert compiled(text).exports[0].type == expected


def test_a_signal_for_the_process_does_not_end_a_wait() -> None:
    memory = lucet.SharedMemory(1, 4)
    (instance,) = waiters(memory, 1)
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        with running(call(instance, "wait32", 0, 0, -1)) as results:
            until(lambda: instance.state == "running")
            for _ in range(5):
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.005)
            assert not results
            until(lambda: memory.notify(0))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert results == [OK]
    assert seen
