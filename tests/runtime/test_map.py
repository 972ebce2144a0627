"""Func.map: a function called for each element of arrays, in one run."""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy
import pytest

import lucet
from tests.runtime.conftest import Load

TEXT = """(module
  (memory (export "memory") 1 20)
  (table (export "table") 1 funcref) (elem (i32.const 0) $add)
  (global (export "n") (mut i32) (i32.const 0))
  (func $add (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "add64") (param i64 i64) (result i64) (i64.add (local.get 0) (local.get 1)))
  (func (export "addf") (param f32 f32) (result f32) (f32.add (local.get 0) (local.get 1)))
  (func (export "addd") (param f64 f64) (result f64) (f64.add (local.get 0) (local.get 1)))
  (func (export "mixed") (param i32 i64 f32 f64) (result f64 i32 i64 f32)
    (local.get 3) (local.get 0) (local.get 1) (local.get 2))
  (func (export "count") (param i32) (global.set 0 (i32.add (global.get 0) (local.get 0))))
  (func (export "ticks") (result i32)
    (global.set 0 (i32.add (global.get 0) (i32.const 1))) (global.get 0))
  (func (export "inverse") (param i32) (result i32) (i32.div_s (i32.const 100) (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "spin") (param i32) (loop (br_if 0 (local.get 0))))
  (func (export "work") (param i32) (result i32) (local i32)
    (loop (br_if 0 (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (local.get 0)))) (local.get 1))
  (func (export "vector") (param v128)) (func (export "reference") (result externref) (ref.null extern)))"""

HOSTED = """(module (import "h" "f" (func $f (param i32) (result i32)))
  (func (export "call") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "plain") (param i32) (result i32) (local.get 0)))"""

I4 = numpy.int32


@pytest.fixture
def instance(load: Load, region: lucet.Region) -> Iterator[lucet.Instance]:
    with region.new_instance(load(TEXT)) as made:
        yield made


def func(instance: lucet.Instance, name: str) -> lucet.Func:
    found = instance.exports[name]
    assert isinstance(found, lucet.Func)
    return found


# ---- values ----


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 2047, 2048, 2049, 10_000])
def test_every_element_in_its_place(instance: lucet.Instance, count: int) -> None:
    a, b = numpy.arange(count, dtype=I4), numpy.arange(count, dtype=I4)[::-1] * 3
    result = func(instance, "add").map(a, b)
    assert result.dtype == I4
    assert numpy.array_equal(result, a + b)


@pytest.mark.parametrize(
    ("name", "dtype"), [("add", "i4"), ("add64", "i8"), ("addf", "f4"), ("addd", "f8"), ("add", "u4"), ("add64", "u8")]
)
def test_types_of_numbers(instance: lucet.Instance, name: str, dtype: str) -> None:
    a = numpy.array([0, 1, 5, 100], dtype=dtype)
    result = func(instance, name).map(a, a)
    assert result.dtype == numpy.dtype(dtype.replace("u", "i"))
    assert numpy.array_equal(result, (a + a).astype(result.dtype))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "?", "i4", "u4"])
def test_narrower_integers_are_widened(instance: lucet.Instance, dtype: str) -> None:
    extremes = [0, 1] if dtype == "?" else [numpy.iinfo(dtype).min, 7, numpy.iinfo(dtype).max]
    a = numpy.array(extremes, dtype=dtype)
    assert numpy.array_equal(func(instance, "add64").map(a, 0), a.astype("i8"))
    assert numpy.array_equal(func(instance, "add").map(a, 0), a.astype("i8").astype("i4"))


def test_bits_of_floats_are_kept(instance: lucet.Instance) -> None:
    bits = numpy.array([0x7FF8_0000_0000_1234, 0x8000_0000_0000_0000, 1], dtype="u8")
    given = (numpy.array([1, 2, 3], "i4"), numpy.array([1, -2, 2**62], "i8"), numpy.array([0.5, -0.0, 3], "f4"))
    fourth, first, second, third = func(instance, "mixed").map(*given, bits.view("f8"))
    assert numpy.array_equal(fourth.view("u8"), bits)
    assert [first.tolist(), second.tolist(), third.tolist()] == [column.tolist() for column in given]


def test_float32_for_f64(instance: lucet.Instance) -> None:
    a = numpy.array([0.1, 1e30, float("inf")], "f4")
    assert numpy.array_equal(func(instance, "addd").map(a, 0.0), a.astype("f8"))


def test_numbers_stand_for_as_many(instance: lucet.Instance) -> None:
    a = numpy.arange(5000, dtype=I4)
    add = func(instance, "add")
    assert numpy.array_equal(add.map(a, 3), a + 3)
    assert numpy.array_equal(add.map(3, a), a + 3)
    assert numpy.array_equal(add.map(a, numpy.int32(3)), a + 3)
    assert numpy.array_equal(add.map(a, numpy.array(3, I4)), a + 3)
    with pytest.raises(OverflowError):
        add.map(a, 2**33)
    with pytest.raises(TypeError, match="i32 expected, got str"):
        add.map(a, "x")


def test_strides_and_shapes(instance: lucet.Instance) -> None:
    add, r = func(instance, "add"), numpy.random.default_rng(1)
    whole = r.integers(0, 1000, (30, 40, 20), dtype=I4)
    for a in (
        whole,
        whole[::2, ::-3, 5:],
        whole.T,
        whole[:, :0],
        whole[3:4],
        numpy.broadcast_to(whole[0], (3, 40, 20)),
    ):
        assert numpy.array_equal(add.map(a, a), a + a)
        out = numpy.zeros(a.shape[::-1], I4).T
        assert add.map(a, 1, out=out) is out
        assert numpy.array_equal(out, a + 1)
    with pytest.raises(ValueError, match="another shape"):
        add.map(whole, whole[0])
    with pytest.raises(ValueError, match="another shape"):
        add.map(whole[0], 1, out=whole[1:2])
    wide = numpy.ones((1,) * 64, I4)
    assert add.map(wide, wide).shape == wide.shape


def test_without_numpy(instance: lucet.Instance) -> None:
    add = func(instance, "add")
    result = add.map(array.array("i", [1, 2, 3]), b"\x01\x02\xff")
    assert isinstance(result, array.array)
    assert (result.typecode, list(result)) == ("i", [2, 4, 258])
    out = bytearray(12)
    assert add.map(b"abc", 1, out=memoryview(out).cast("i")).tolist() == [98, 99, 100]
    assert list(func(instance, "addd").map((ctypes.c_double * 3)(1, 2, 3), 0.5)) == [1.5, 2.5, 3.5]


def test_objects_with_array(instance: lucet.Instance) -> None:
    class Column:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return numpy.arange(4, dtype=I4)

    result = func(instance, "add").map(Column(), 1)
    assert isinstance(result, numpy.ndarray)
    assert result.tolist() == [1, 2, 3, 4]


def test_functions_without_results_and_without_parameters(instance: lucet.Instance) -> None:
    assert func(instance, "count").map(numpy.arange(101, dtype=I4)) is None
    assert instance.globals["n"].value == 5050
    out = numpy.zeros(5, I4)
    assert func(instance, "ticks").map(out=out) is out
    assert out.tolist() == [5051, 5052, 5053, 5054, 5055]
    with pytest.raises(TypeError, match="at least one argument must be an array"):
        func(instance, "ticks").map()
    with pytest.raises(TypeError, match="at least one argument must be an array"):
        func(instance, "add").map(1, 2)


def test_out_may_be_a_column(instance: lucet.Instance) -> None:
    a = numpy.arange(10_000, dtype=I4)
    func(instance, "add").map(a, a, out=a)
    assert numpy.array_equal(a, numpy.arange(10_000) * 2)


def test_functions_from_tables(instance: lucet.Instance) -> None:
    table = instance.exports["table"]
    assert isinstance(table, lucet.runtime.Table)
    assert table.get(0).map(b"\x01", 2).tolist() == [3]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("add", (numpy.arange(3, dtype="i8"), 1), "argument 0 is an array of format l, and the function's parameter"),
        ("add", (1, numpy.arange(3, dtype="f4")), "argument 1 is an array of format f"),
        ("add", (numpy.arange(3, dtype=">i4"), 1), "format >i"),
        ("addf", (numpy.arange(3, dtype="f8"), 1.0), "parameter is an f32"),
        ("addd", (numpy.arange(3, dtype="i4"), 1.0), "parameter is an f64"),
        ("addd", (numpy.arange(3, dtype="f2"), 1.0), "format e"),
        ("addd", (numpy.arange(3, dtype="c8"), 1.0), "format Zf"),
        ("add", (numpy.zeros(3, dtype="i4,i4"), 1), "format T"),
        ("add", (numpy.zeros(3, dtype=object), 1), "format O"),
        ("add", (b"abc",), "takes 2 arguments, 1 were given"),
        ("add", (b"abc", 1, 2), "takes 2 arguments, 3 were given"),
        ("vector", (b"abc",), "functions of numbers, not of v128"),
        ("reference", (b"abc",), "takes 0 arguments|not of externref"),
    ],
)
def test_columns_of_another_type(instance: lucet.Instance, name: str, columns: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        func(instance, name).map(*columns)


def test_outs_of_another_type(instance: lucet.Instance) -> None:
    add, a = func(instance, "add"), numpy.arange(3, dtype=I4)
    for out in (numpy.zeros(3, "i8"), numpy.zeros(3, "i2"), numpy.zeros(3, "f4"), bytearray(12)):
        with pytest.raises(TypeError, match="out 0 is an array of format"):
            add.map(a, a, out=out)
    with pytest.raises((BufferError, ValueError)):
        add.map(a, a, out=bytes(12))
    with pytest.raises(TypeError):
        add.map(a, a, out=7)
    with pytest.raises(TypeError, match="1 results, 2 arrays"):
        add.map(a, a, out=(a, a))
    read_only = a.copy()
    read_only.flags.writeable = False
    with pytest.raises((BufferError, ValueError)):
        add.map(a, a, out=read_only)


# ---- ends before the end ----


def test_the_exception_says_which_element(instance: lucet.Instance) -> None:
    for at in (0, 1, 2047, 2048, 4095, 4096, 9999):
        a = numpy.full(10_000, 5, dtype=I4)
        a[at] = 0
        out = numpy.full(10_000, -1, dtype=I4)
        with pytest.raises(lucet.Trap) as caught:
            func(instance, "inverse").map(a, out=out)
        assert caught.value.code == "INTEGER_DIVIDE_BY_ZERO"
        assert caught.value.element == at
        assert caught.value.__notes__[-1] == f"in element {at} of Func.map"
        assert (out[:at] == 20).all()
        assert (out[at:] == -1).all()
    with pytest.raises(lucet.Trap) as caught:
        instance.run("inverse", 0)
    assert caught.value.element is None


def test_a_timeout_is_for_the_whole_map(instance: lucet.Instance) -> None:
    instance.timeout = 0.05
    start = time.perf_counter()
    with pytest.raises(lucet.TimedOut) as caught:
        func(instance, "work").map(numpy.full(1_000_000, 10_000, I4))
    assert time.perf_counter() - start < 5
    assert caught.value.element is not None
    assert caught.value.element > 0
    instance.timeout = None
    assert func(instance, "add").map(b"a", 1).tolist() == [98]


def test_interrupt_and_other_threads(instance: lucet.Instance) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            func(instance, "spin").map(numpy.ones(3, I4))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while instance.state != "running":
        time.sleep(0.001)  # comes back: the GIL is free
    for refused in (instance.close, instance.reset):
        with pytest.raises(lucet.InstanceError):
            refused()
    with pytest.raises(lucet.InstanceError, match="another thread"):
        func(instance, "add").map(b"a", 1)
    while not instance.interrupt():
        pass
    thread.join()
    (error,) = failures
    assert isinstance(error, lucet.Trap)
    assert (error.code, error.element) == ("INTERRUPTED", 0)


def test_other_threads_run_between_short_elements(instance: lucet.Instance) -> None:
    done = threading.Event()

    def run() -> None:
        func(instance, "work").map(numpy.full(200_000, 1000, I4))
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    steps = 0
    while not done.is_set():
        time.sleep(0.001)
        steps += 1
    thread.join()
    assert steps > 5


def test_ctrl_c(instance: lucet.Instance) -> None:
    threading.Timer(0.05, lambda: signal.raise_signal(signal.SIGINT)).start()
    threading.Timer(0.05, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        func(instance, "spin").map(numpy.ones(1000, I4))
        time.sleep(5)
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(0.2)  # the other one


def test_fuel(region: lucet.Region) -> None:
    counting = lucet.Module.from_bytes(lucet.compile(TEXT, opt_level="none", count_instructions=True))
    for suspend in (False, True):
        with region.new_instance(counting, fuel=10_000) as instance:
            instance.suspend_out_of_fuel = suspend
            with pytest.raises(lucet.OutOfFuel) as caught:
                func(instance, "work").map(numpy.full(100, 100, I4))
            assert 5 < (caught.value.element or 0) < 50
            assert instance.state == "ready"
            instance.fuel = None
            assert func(instance, "work").map(numpy.full(100, 100, I4)).tolist() == [100] * 100


def test_time_slices_do_not_end_it(instance: lucet.Instance) -> None:
    instance.time_slice = 0.002
    assert (func(instance, "work").map(numpy.full(20_000, 5000, I4)) == 5000).all()
    assert instance.time_slice == pytest.approx(0.002)


# ---- host functions ----


def hosted(load: Load, region: lucet.Region, function: Any) -> lucet.Instance:
    return region.new_instance(load(HOSTED), {"h": {"f": lucet.host_function(function)}})


def test_host_functions(load: Load, region: lucet.Region) -> None:
    def f(caller: lucet.Instance, n: lucet.i32) -> lucet.i32:
        if n == 1000:
            raise ValueError("no")
        with pytest.raises(lucet.InstanceError):
            caller.close()
        inner: int = func(caller, "plain").map(bytes([n % 100]))[0]
        return inner + int(caller.run("plain", 1))

    with hosted(load, region, f) as instance:
        call = func(instance, "call")
        assert call.map(numpy.arange(600, dtype=I4)).tolist() == [n % 100 + 1 for n in range(600)]
        with pytest.raises(ValueError, match="no") as caught:
            call.map(numpy.arange(2000, dtype=I4))
        assert caught.value.__notes__ == ["in element 1000 of Func.map"]
        assert instance.state == "ready"


def test_a_host_function_cannot_suspend(load: Load, region: lucet.Region) -> None:
    class Value:
        pass

    alive: list[Any] = []

    def f(n: lucet.i32) -> lucet.i32 | lucet.Suspend:
        import weakref

        value = Value()
        alive.append(weakref.ref(value))
        return lucet.Suspend(value) if n == 3 else n

    with hosted(load, region, f) as instance:
        with pytest.raises(lucet.InstanceError, match=r"Func\.map cannot wait") as caught:
            func(instance, "call").map(bytes(range(10)))
        assert caught.value.element == 3
        assert instance.state == "ready"
        del caught
        gc.collect()
        assert [one() for one in alive] == [None] * 4
        assert func(instance, "call").map(b"\1\2").tolist() == [1, 2]


def test_a_wasm_exception(region: lucet.Region) -> None:
    thrower = lucet.Module.from_bytes(
        lucet.compile("""(module (tag $t (export "t") (param i32))
          (func (export "f") (param i32) (result i32)
            (if (i32.eq (local.get 0) (i32.const 7)) (then (throw $t (local.get 0)))) (local.get 0)))""")
    )
    with region.new_instance(thrower) as instance:
        with pytest.raises(lucet.WasmException) as caught:
            func(instance, "f").map(bytes(range(20)))
        assert (caught.value.values, caught.value.element) == ((7,), 7)


# ---- hostile arrays ----


def test_guest_memory_as_columns(instance: lucet.Instance) -> None:
    """Also while the guest writes to it, and grows it."""
    memory = instance.memory
    whole = numpy.frombuffer(memoryview(memory), dtype=I4)
    whole[:] = numpy.arange(len(whole))
    func(instance, "add").map(whole, 1, out=whole)
    assert numpy.array_equal(whole, numpy.arange(len(whole)) + 1)
    func(instance, "add").map(whole[:-1], whole[1:], out=whole[1:])
    cells = numpy.frombuffer(memoryview(memory), dtype=numpy.uint8)
    func(instance, "poke").map(numpy.arange(60_000, dtype=I4), cells[:60_000])
    grown = func(instance, "grow").map(cells[:10] & 0)
    assert grown.tolist() == [1] * 10
    assert func(instance, "grow").map(numpy.full(30, 1, numpy.uint8)).tolist()[-1] == -1
    assert len(cells) == 65536
    with pytest.raises(BufferError):
        instance.reset()


def test_overlapping_arrays_stay_inside(instance: lucet.Instance) -> None:
    base = numpy.zeros(20_002, I4)
    func(instance, "add").map(base[1:-1], 1, out=base[2:])
    func(instance, "add").map(base[2:], 1, out=base[1:-1])
    assert base[0] == 0
    zero_stride = numpy.lib.stride_tricks.as_strided(base, (10_000,), (0,))
    func(instance, "add").map(numpy.arange(10_000, dtype=I4), 0, out=zero_stride)
    assert base[0] == 9999
    unaligned = numpy.frombuffer(bytearray(40_001), numpy.uint8)[1:].view("<i4")
    func(instance, "add").map(unaligned, 5, out=unaligned)
    assert (unaligned == 5).all()


def test_pinned_while_it_runs(load: Load, region: lucet.Region) -> None:
    data = bytearray(b"\1" * 1000)
    out = array.array("i", bytes(4000))
    refused = []

    def f(n: lucet.i32) -> lucet.i32:
        for change in (data.clear, lambda: out.append(1)):
            try:
                change()
            except BufferError:
                refused.append(n)
        return n

    with hosted(load, region, f) as instance:
        func(instance, "call").map(data, out=out)
    assert len(refused) == 2000
    data.clear()  # and free afterwards
    out.append(1)


def test_closing_while_arguments_are_converted(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(TEXT))
    add = func(instance, "add")

    class Closes:
        def __index__(self) -> int:
            instance.close()
            return 1

    with pytest.raises(lucet.InstanceError, match="closed"):
        add.map(numpy.ones(10, I4), Closes())
    with pytest.raises(lucet.InstanceError, match="closed"):
        add.map(numpy.ones(10, I4), 1)
    assert region.used == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="buffers of classes in Python: PEP 688")
def test_buffers_that_python_code_gives_and_takes_back(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(TEXT))

    class Odd:
        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(array.array("i", [1, 2, 3]))

        def __release_buffer__(self, view: memoryview) -> None:
            instance.close()

    with contextlib.suppress(lucet.InstanceError):
        func(instance, "add").map(Odd(), 1)
    assert instance.state == "closed"


def test_huge_counts_are_only_slow(instance: lucet.Instance) -> None:
    endless = numpy.lib.stride_tricks.as_strided(numpy.ones(1, I4), (2**60,), (0,))
    instance.timeout = 0.05
    with pytest.raises(lucet.TimedOut):
        func(instance, "count").map(endless)
    with pytest.raises((MemoryError, ValueError)):
        func(instance, "add").map(endless, 1)


def test_nothing_is_left(instance: lucet.Instance) -> None:
    a = numpy.ones(3000, I4)
    a[2500] = 0

    def once() -> None:
        func(instance, "add").map(a, a)
        for name, columns in (("inverse", [a]), ("add", [a, b""])):
            with pytest.raises((lucet.Trap, ValueError)):
                func(instance, name).map(*columns)

    for _ in range(10):
        once()
    gc.collect()
    before = sys.getrefcount(a)
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    for _ in range(1000):
        once()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.stop()
    assert sys.getrefcount(a) == before
    assert grown < 50_000
