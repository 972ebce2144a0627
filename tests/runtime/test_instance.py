"""Instances: calling, values, traps, memory, globals, tables, reset and close."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy
import pytest

import lucet
from lucet.runtime import Func, Global, Memory, SharedMemory, Table

Load = Callable[[str], lucet.Module]

ARITHMETIC = """(module
  (func (export "add32") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)
  (func (export "add64") (param i64 i64) (result i64) local.get 0 local.get 1 i64.add)
  (func (export "half32") (param f32) (result f32) local.get 0 f32.const 0.5 f32.mul)
  (func (export "half64") (param f64) (result f64) local.get 0 f64.const 0.5 f64.mul)
  (func (export "swap") (param i32 i64) (result i64 i32) local.get 1 local.get 0)
  (func (export "nothing"))
  (func (export "many") (param i32 i64 f32 f64 i32 i64 f32 f64 i32 i64 f32 f64 i32 i64 f32 f64 i32 i64) (result f64)
    local.get 0 f64.convert_i32_s local.get 17 f64.convert_i64_s f64.add local.get 15 f64.add)
  (func (export "identity") (param externref) (result externref) local.get 0))"""

STATE = """(module
  (memory (export "memory") 1 4)
  (global (export "counter") (mut i32) (i32.const 10))
  (global (export "answer") i64 (i64.const 42))
  (table (export "table") 3 8 funcref)
  (elem (i32.const 1) $load)
  (data (i32.const 8) "hello")
  (func $load (export "load") (param i32) (result i32) local.get 0 i32.load)
  (func (export "store") (param i32 i32) local.get 0 local.get 1 i32.store)
  (func (export "grow") (param i32) (result i32) local.get 0 memory.grow)
  (func (export "count") (result i32) global.get 0 i32.const 1 i32.add global.set 0 global.get 0)
  (func (export "divide") (param i32 i32) (result i32) local.get 0 local.get 1 i32.div_s)
  (func $deep (export "deep") (result i32) call $deep i32.const 1 i32.add)
  (func (export "spin") (loop br 0))
  (func (export "unreachable") unreachable))"""


@pytest.fixture
def state(load: Load, region: lucet.Region) -> lucet.Instance:
    return region.new_instance(load(STATE))


@pytest.fixture
def arithmetic(load: Load, region: lucet.Region) -> lucet.Instance:
    return region.new_instance(load(ARITHMETIC))


# ---- values


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("add32", (2, 3), 5),
        ("add32", (2**31 - 1, 1), -(2**31)),
        ("add32", (2**32 - 1, 0), -1),
        ("add32", (-(2**31), 0), -(2**31)),
        ("add64", (2**63 - 1, 1), -(2**63)),
        ("add64", (2**64 - 1, 0), -1),
        ("half32", (3,), 1.5),
        ("half32", (1e300,), math.inf),
        ("half64", (3.0,), 1.5),
        ("half64", (5e-324,), 0.0),
        ("swap", (1, 2), (2, 1)),
        ("nothing", (), None),
        ("many", (1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.25, 0, 2), 3.25),
        ("identity", (None,), None),
    ],
)
def test_values_go_in_and_come_out(
    arithmetic: lucet.Instance, name: str, arguments: tuple[Any, ...], result: Any
) -> None:
    assert arithmetic.run(name, *arguments) == result
    function = arithmetic.exports[name]
    assert isinstance(function, Func)
    assert function(*arguments) == result


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("add32", (2**32, 0), OverflowError),
        ("add32", (-(2**31) - 1, 0), OverflowError),
        ("add64", (2**64, 0), OverflowError),
        ("add64", (-(2**63) - 1, 0), OverflowError),
        ("add32", (1.5, 0), TypeError),
        ("add32", ("1", 0), TypeError),
        ("add32", (None, 0), TypeError),
        ("half64", ("1",), TypeError),
        ("half64", (None,), TypeError),
        ("half64", (10**400,), OverflowError),
        ("add32", (1,), TypeError),
        ("add32", (1, 2, 3), TypeError),
        ("no such function", (), KeyError),
    ],
)
def test_wrong_arguments_are_refused(
    arithmetic: lucet.Instance, name: str, arguments: tuple[Any, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        arithmetic.run(name, *arguments)
    assert arithmetic.run("add32", 1, 2) == 3


def test_objects_with_index_and_float_are_accepted(arithmetic: lucet.Instance) -> None:
    assert arithmetic.run("add32", numpy.int64(2), True) == 3
    assert arithmetic.run("half64", numpy.float32(3)) == 1.5


def test_external_references_keep_their_object(arithmetic: lucet.Instance) -> None:
    class Thing:
        pass

    thing = Thing()
    assert arithmetic.run("identity", thing) is thing
    alive = weakref.ref(thing)
    del thing
    assert alive() is not None  # the guest may still hold it
    arithmetic.close()
    assert alive() is None


def test_raw_calls_keep_every_bit(arithmetic: lucet.Instance) -> None:
    function = arithmetic.exports["half64"]
    assert isinstance(function, Func)
    signalling = 0x7FF0_0000_0000_0001
    assert function.call_raw([signalling]) == [signalling | 1 << 51]
    assert str(function.type) == "[f64] -> [f64]"


# ---- traps


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("divide", (1, 0), "INTEGER_DIVIDE_BY_ZERO"),
        ("divide", (-(2**31), -1), "INTEGER_OVERFLOW"),
        ("load", (65536,), "OUT_OF_BOUNDS_MEMORY_ACCESS"),
        ("load", (65533,), "OUT_OF_BOUNDS_MEMORY_ACCESS"),
        ("load", (-1,), "OUT_OF_BOUNDS_MEMORY_ACCESS"),
        ("store", (-4, 1), "OUT_OF_BOUNDS_MEMORY_ACCESS"),
        ("unreachable", (), "UNREACHABLE"),
        ("deep", (), "CALL_STACK_EXHAUSTED"),
    ],
)
def test_a_trap_says_what_and_where(state: lucet.Instance, name: str, arguments: tuple[int, ...], code: str) -> None:
    with pytest.raises(lucet.Trap) as caught:
        state.run(name, *arguments)
    assert caught.value.code == code
    assert caught.value.function == name
    assert caught.value.offset is not None
    assert name in str(caught.value)
    assert state.state == "ready"
    assert state.run("load", 65532) == 0


def test_a_loop_is_interrupted_from_another_thread(state: lucet.Instance) -> None:
    timer = threading.Timer(0.05, state.interrupt)
    timer.start()
    with pytest.raises(lucet.Trap) as caught:
        state.run("spin")
    assert caught.value.code == "INTERRUPTED"
    timer.join()
    assert state.run("count") == 11
    assert state.interrupt() is False


# ---- memory


def test_memory_is_read_and_written(state: lucet.Instance) -> None:
    memory = state.memory
    assert (memory.size, memory.pages, len(memory)) == (65536, 1, 65536)
    assert memory.read(8, 5) == b"hello"
    memory.write(8, b"HE")
    assert memory.read(7, 7) == b"\0HEllo\0"
    memory.write_u32(100, -2)
    assert state.run("load", 100) == -2
    assert memory.read_u32(100) == 2**32 - 2
    memory.write_u64(65528, 2**64 - 1)
    assert memory.read_u16(65534) == 65535
    assert memory.read(65536, 0) == b""


@pytest.mark.parametrize(
    "access",
    [
        lambda memory: memory.read(65536, 1),
        lambda memory: memory.read(0, 65537),
        lambda memory: memory.read(2**64 - 1, 2),
        lambda memory: memory.read(2**64, 1),
        lambda memory: memory.read(-1, 1),
        lambda memory: memory.write(65535, b"ab"),
        lambda memory: memory.read_u32(65533),
        lambda memory: memory.write_u64(65529, 0),
        lambda memory: memory.view(1, 65536),
    ],
)
def test_ranges_outside_the_memory_are_refused(
    state: lucet.Instance, access: Callable[[Memory | SharedMemory], object]
) -> None:
    with pytest.raises(lucet.MemoryAccessError):
        access(state.memory)


def test_growing(state: lucet.Instance) -> None:
    assert state.run("grow", 1) == 1
    assert state.memory.grow(1) == 2
    assert state.memory.size == 3 * 65536
    state.memory.write(3 * 65536 - 1, b"x")
    assert state.run("grow", 2) == -1
    with pytest.raises(lucet.LimitsExceeded):
        state.memory.grow(2)


def test_a_view_is_the_memory_and_pins_it(state: lucet.Instance) -> None:
    with state.memory.view(8, 5) as view:
        assert view.readonly
        assert bytes(view) == b"hello"
        state.memory.write(8, b"J")
        assert bytes(view) == b"Jello"
        for change in (state.close, state.reset):
            with pytest.raises(BufferError):
                change()
        assert state.run("grow", 1) == 1  # the memory does not move
    state.reset()
    with state.memory.view(8, 5, writable=True) as view:
        view[0] = ord("C")
    assert state.memory.read(8, 5) == b"Cello"


def test_a_view_outlives_every_other_reference(load: Load) -> None:
    view = lucet.Region(slots=1).new_instance(load(STATE)).memory.view(8, 5)
    gc.collect()
    assert bytes(view) == b"hello"


def test_numpy_sees_the_memory(state: lucet.Instance) -> None:
    array = numpy.frombuffer(state.memory, dtype=numpy.int32)  # type: ignore[call-overload]
    array[25] = 7
    assert state.run("load", 100) == 7
    with pytest.raises(BufferError):
        state.close()
    del array
    state.close()


def test_the_kernel_may_write_into_a_writable_view(state: lucet.Instance, tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"from the file")
    for _ in range(3):
        with file.open("rb", buffering=0) as stream, state.memory.view(4096, 13, writable=True) as view:
            assert stream.readinto(view) == 13
        assert state.memory.read(4096, 13) == b"from the file"
        state.reset()
        assert state.memory.read(4096, 13) == bytes(13)


# ---- globals and tables


def test_globals(state: lucet.Instance) -> None:
    assert {name: item.value for name, item in state.globals.items()} == {"counter": 10, "answer": 42}
    state.globals["counter"].value = 20
    assert state.run("count") == 21
    assert state.globals["counter"].value == 21
    with pytest.raises(AttributeError):
        state.globals["answer"].value = 1
    with pytest.raises(OverflowError):
        state.globals["counter"].value = 2**32
    with pytest.raises(KeyError):
        state.globals["memory"]
    assert state.globals["counter"].type.mutable


def test_tables(state: lucet.Instance) -> None:
    table = state.exports["table"]
    assert isinstance(table, Table)
    assert len(table) == 3
    assert table.get(0) is None
    load = table.get(1)
    assert load == state.exports["load"]
    assert load(8) == int.from_bytes(b"hell", "little")
    table.set(2, state.exports["divide"])
    assert table.get(2)(6, 3) == 2
    assert table.grow(2, load) == 3
    assert table.get(4) == load
    with pytest.raises(IndexError):
        table.get(5)
    with pytest.raises(lucet.LimitsExceeded):
        table.grow(4, None)
    with pytest.raises(TypeError):
        table.set(0, print)


def test_a_function_of_an_unlinked_instance_is_refused(load: Load, region: lucet.Region, state: lucet.Instance) -> None:
    other = region.new_instance(load(STATE))
    table = state.exports["table"]
    assert isinstance(table, Table)
    with pytest.raises(lucet.InstanceError, match="not linked"):
        table.set(0, other.exports["load"])


# ---- lifecycle


def test_reset_restores_everything(state: lucet.Instance) -> None:
    for _ in range(3):
        state.run("store", 8, 0)
        state.run("store", 60000, 99)
        state.run("count")
        state.run("grow", 2)
        table = state.exports["table"]
        assert isinstance(table, Table)
        table.set(1, None)
        state.reset()
        assert state.memory.pages == 1
        assert state.memory.read(8, 5) == b"hello"
        assert state.run("load", 60000) == 0
        assert state.globals["counter"].value == 10
        assert table.get(1) is not None


def test_a_closed_instance_refuses_everything(state: lucet.Instance) -> None:
    load, memory, counter, table = (state.exports[name] for name in ("load", "memory", "counter", "table"))
    assert isinstance(load, Func)
    assert isinstance(memory, Memory)
    assert isinstance(counter, Global)
    assert isinstance(table, Table)
    state.close()
    state.close()
    assert state.state == "closed"
    for use in (
        lambda: load(0),
        lambda: memory.read(0, 1),
        lambda: memory.size,
        lambda: counter.value,
        lambda: len(table),
        lambda: state.run("load", 0),
        lambda: state.memory,
        state.reset,
        lambda: state.exports["load"],
        lambda: memoryview(memory),
    ):
        with pytest.raises(lucet.InstanceError, match="closed"):
            use()


def test_slots_are_used_again(load: Load) -> None:
    region = lucet.Region(slots=2)
    first, second = region.new_instance(load(STATE)), region.new_instance(load(STATE))
    assert (region.capacity, region.used) == (2, 2)
    with pytest.raises(lucet.RegionFull):
        region.new_instance(load(STATE))
    first.run("store", 1000, 1)
    first.close()
    third = region.new_instance(load(STATE))
    assert third.run("load", 1000) == 0
    del second
    assert region.used == 1


def test_limits_are_checked_before_a_slot_is_taken(load: Load) -> None:
    region = lucet.Region(slots=1, memory_limit=2 * 65536)
    with pytest.raises(lucet.LimitsExceeded):
        region.new_instance(load("(module (memory 3))"))
    with pytest.raises(lucet.LimitsExceeded):
        region.new_instance(load(STATE), memory_limit=3 * 65536)
    assert region.used == 0
    instance = region.new_instance(load(STATE), memory_limit=65536)
    assert instance.run("grow", 1) == -1
    with pytest.raises(ValueError, match="slots"):
        lucet.Region(slots=0)


def test_a_trapping_start_function_leaves_no_instance(load: Load, region: lucet.Region) -> None:
    module = load("(module (func $start unreachable) (start $start))")
    for _ in range(20):
        with pytest.raises(lucet.Trap):
            region.new_instance(module)
    assert region.used == 0


def test_threads_run_different_instances_at_once(load: Load, region: lucet.Region) -> None:
    instances = [region.new_instance(load(STATE)) for _ in range(4)]
    results: list[int] = []

    def work(instance: lucet.Instance) -> None:
        results.extend(instance.run("count") for _ in range(2000))

    threads = [threading.Thread(target=work, args=(instance,)) for instance in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(list(range(11, 2011)) * 4)


def test_two_threads_cannot_run_one_instance(state: lucet.Instance) -> None:
    def spin() -> None:
        with pytest.raises(lucet.Trap):
            state.run("spin")

    thread = threading.Thread(target=spin)
    thread.start()
    while state.state != "running":
        pass
    for use in (lambda: state.run("count"), state.reset, state.close):
        with pytest.raises(lucet.InstanceError, match="running"):
            use()
    assert state.interrupt()
    thread.join()
    assert state.run("count") == 11


# ---- ending a run from outside


def test_a_timeout_ends_a_loop(state: lucet.Instance) -> None:
    assert state.timeout is None
    state.timeout = 0.05
    assert state.timeout == pytest.approx(0.05)
    for _ in range(3):
        with pytest.raises(lucet.TimedOut) as caught:
            state.run("spin")
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.function == "spin"
        assert state.run("load", 0) == 0
    state.timeout = None
    for wrong in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="timeout"):
            state.timeout = wrong
    state.timeout = 1000
    for _ in range(1000):
        state.run("count")


def test_ctrl_c_ends_a_loop(state: lucet.Instance) -> None:
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        state.run("spin")
    timer.join()
    assert state.run("load", 0) == 0
