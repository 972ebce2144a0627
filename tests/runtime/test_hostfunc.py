"""Host functions: types from annotations, exceptions, nesting, cycles, linking."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import weakref
from collections.abc import Callable
from typing import Any, assert_type

import pytest

import lucet
from lucet.runtime import HostFunction

Load = Callable[[str], lucet.Module]

CALLER = """(module
  (import "host" "add" (func $add (param i32 i64) (result i64)))
  (memory (export "memory") 1)
  (func (export "call") (param i32 i64) (result i64) local.get 0 local.get 1 call $add)
  (func (export "store") (param i32) i32.const 0 local.get 0 i32.store))"""


@lucet.host_function
def add(a: lucet.i32, b: lucet.i64) -> lucet.i64:
    return a + b


def test_a_host_function_is_called(load: Load, region: lucet.Region) -> None:
    instance = region.new_instance(load(CALLER), {"host": {"add": add}})
    assert instance.run("call", -1, 2**40) == 2**40 - 1
    assert add(1, 2) == 3  # still the function that it was


def test_loose_annotations_take_the_imported_width(load: Load, region: lucet.Region) -> None:
    @lucet.host_function
    def loose(a: int, b: int) -> int:
        return a * b

    assert region.new_instance(load(CALLER), {"host": {"add": loose}}).run("call", 3, 2**40) == 3 * 2**40


def test_the_caller_is_passed_on_request(load: Load, region: lucet.Region) -> None:
    seen: list[object] = []

    @lucet.host_function
    def spy(caller: lucet.Instance, a: lucet.i32, b: lucet.i64) -> lucet.i64:
        seen.append(caller)
        caller.memory.write_u32(0, a)
        return b

    instance = region.new_instance(load(CALLER), {"host": {"add": spy}})
    assert instance.run("call", 77, 5) == 5
    assert seen == [instance]
    assert instance.memory.read_u32(0) == 77


def test_an_exception_ends_the_guest_and_reaches_the_caller(load: Load, region: lucet.Region) -> None:
    class Oops(Exception):
        pass

    @lucet.host_function
    def fails(a: lucet.i32, b: lucet.i64) -> lucet.i64:
        raise Oops(a)

    instance = region.new_instance(load(CALLER), {"host": {"add": fails}})
    for _ in range(100):
        with pytest.raises(Oops):
            instance.run("call", 1, 2)
    assert instance.state == "ready"
    instance.run("store", 5)


def test_rounding_that_a_host_function_changed_is_not_the_guests(load: Load, region: lucet.Region) -> None:
    libm = ctypes.CDLL("libm.so.6")
    nearest, upward = 0, 0x800

    @lucet.host_function
    def change() -> None:
        libm.fesetround(upward)

    module = load("""(module
      (import "host" "change" (func $change))
      (func (export "third") (param f64) (result f64) call $change f64.const 1 local.get 0 f64.div)
      (func (export "plain_third") (param f64) (result f64) f64.const 1 local.get 0 f64.div))""")
    instance = region.new_instance(module, {"host": {"change": change}})
    third = 1 / 3
    try:
        assert instance.run("third", 3.0) == third
        assert instance.run("plain_third", 3.0) == third
        # The same when the host has other modes to begin with, which are its own again afterwards.
        libm.fesetround(upward)
        assert 1 / float("3") > third
        assert instance.run("plain_third", 3.0) == third
        assert instance.run("third", 3.0) == third
        assert 1 / float("3") > third
    finally:
        libm.fesetround(nearest)
    assert 1 / float("3") == third


def test_nested_calls_and_their_traps(load: Load, region: lucet.Region) -> None:
    module = load("""(module
      (import "host" "down" (func $down (param i32) (result i32)))
      (func (export "f") (param i32) (result i32)
        local.get 0 i32.eqz if unreachable end
        local.get 0 call $down i32.const 1 i32.add))""")

    @lucet.host_function
    def down(caller: lucet.Instance, n: lucet.i32) -> lucet.i32:
        try:
            return int(caller.run("f", n - 1))
        except lucet.Trap:
            return 100

    assert region.new_instance(module, {"host": {"down": down}}).run("f", 30) == 130


def test_a_limit_of_calls(load: Load, region: lucet.Region) -> None:
    made = []

    @lucet.host_function
    def counted(a: lucet.i32, b: lucet.i64) -> lucet.i64:
        made.append(a)
        return b

    instance = region.new_instance(load(CALLER), {"host": {"add": counted}}, host_calls=2)
    for left in (1, 0):
        assert instance.run("call", 1, 2) == 2
        assert instance.host_calls == left
    with pytest.raises(lucet.Trap, match="host calls exhausted") as caught:
        instance.run("call", 1, 2)
    assert (caught.value.code, caught.value.function, len(made)) == ("HOST_CALLS_EXHAUSTED", "add", 2)
    instance.host_calls = None
    assert (instance.run("call", 1, 2), instance.host_calls) == (2, None)
    for wrong in (-1, 2**63 - 1):
        with pytest.raises(ValueError, match="host_calls must be a number from 0"):
            instance.host_calls = wrong
    with pytest.raises(TypeError):
        region.new_instance(load(CALLER), {"host": {"add": counted}}, host_calls="2")  # type: ignore[arg-type]
    starting = load('(module (import "host" "add" (func $add)) (start $add))')
    for calls, fits in ((0, False), (1, True)):
        with pytest.raises(lucet.Trap, match="host calls") if not fits else contextlib.nullcontext():
            region.new_instance(
                starting, {"host": {"add": HostFunction(lambda: None, (), (), False)}}, host_calls=calls
            )
    assert len(made) == 3


def test_an_instance_cannot_be_closed_or_reset_while_it_runs(load: Load, region: lucet.Region) -> None:
    errors: list[str] = []

    @lucet.host_function
    def meddle(caller: lucet.Instance, a: lucet.i32, b: lucet.i64) -> lucet.i64:
        for attempt in (caller.close, caller.reset):
            try:
                attempt()
            except lucet.InstanceError as error:
                errors.append(str(error))
        return b

    assert region.new_instance(load(CALLER), {"host": {"add": meddle}}).run("call", 1, 2) == 2
    assert len(errors) == 2


@pytest.mark.parametrize("result", [None, "x", 2**64, 1.5, (1,)])
def test_a_wrong_result_is_an_error_of_the_host(load: Load, region: lucet.Region, result: object) -> None:
    host = HostFunction(lambda *_: result, ("i32", "i64"), ("i64",), wants_caller=False)
    instance = region.new_instance(load(CALLER), {"host": {"add": host}})
    with pytest.raises((TypeError, OverflowError)):
        instance.run("call", 1, 2)


def test_several_results_come_as_a_tuple(load: Load, region: lucet.Region) -> None:
    module = load("""(module (import "h" "f" (func $f (result i32 f64 externref)))
      (func (export "f") (result i32 f64 externref) call $f))""")
    thing = object()

    @lucet.host_function
    def f() -> tuple[lucet.i32, lucet.f64, lucet.externref]:
        return 1, 2.5, thing

    assert region.new_instance(module, {"h": {"f": f}}).run("f") == (1, 2.5, thing)


@pytest.mark.parametrize(
    "imports",
    [
        None,
        {},
        {"host": {}},
        {"host": {"add": print}},
        {"host": {"add": 3}},
        {"host": {"add": HostFunction(print, ("i32",), ("i64",))}},
        {"host": {"add": HostFunction(print, ("i32", "i64"), ())}},
        {"host": {"add": HostFunction(print, ("i32", "f64"), ("i64",))}},
    ],
)
def test_imports_that_do_not_fit_are_named(load: Load, region: lucet.Region, imports: Any) -> None:
    with pytest.raises(lucet.LinkError, match=r"'host' 'add'"):
        region.new_instance(load(CALLER), imports)
    assert region.used == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: lucet.host_function(lambda a: a),
        lambda: lucet.host_function(len),
    ],
)
def test_functions_without_types_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        make()


def test_a_host_function_keeps_its_signature_for_type_checkers() -> None:
    assert_type(add(1, 2), int)
    with pytest.raises(TypeError):
        add("1", 2)  # type: ignore[arg-type]  # which mypy would call unused if it did not know the type
    assert (add.params, add.results, add.wants_caller) == (("i32", "i64"), ("i64",), False)


def test_suspend_is_no_result() -> None:
    @lucet.host_function
    def either(a: lucet.i32) -> lucet.f64 | lucet.Suspend:
        return lucet.Suspend(a)

    @lucet.host_function
    def nothing() -> lucet.Suspend | None:
        return None

    assert either.results == ("f64",)
    assert nothing.results == ()


def test_annotations_that_are_no_wasm_types_are_refused() -> None:
    def f(a: str) -> None: ...
    def g(*a: lucet.i32) -> None: ...
    def h(a: lucet.i32) -> str: ...  # type: ignore[empty-body]
    def i(a: lucet.i32) -> lucet.i32 | None: ...
    def j(a: lucet.i32) -> lucet.i32 | lucet.f32 | lucet.Suspend: ...  # type: ignore[empty-body]

    functions: list[Callable[..., object]] = [f, g, h, i, j]
    for function in functions:
        with pytest.raises(TypeError, match=function.__name__):
            lucet.host_function(function)


def test_a_closure_over_its_own_instance_does_not_leak(load: Load, region: lucet.Region) -> None:
    class Marker:
        instance: lucet.Instance

    def make() -> weakref.ref[Marker]:
        mark = Marker()

        @lucet.host_function
        def closes_over(a: lucet.i32, b: lucet.i64) -> lucet.i64:
            return b if mark.instance.state == "running" else a

        mark.instance = region.new_instance(load(CALLER), {"host": {"add": closes_over}})
        assert mark.instance.run("call", 1, 2) == 2
        return weakref.ref(mark)

    marks = [make() for _ in range(8)]
    gc.collect()
    marks += [make() for _ in range(8)]
    gc.collect()
    assert [mark() for mark in marks] == [None] * 16
    assert region.used == 0


# ---- linking instances


EXPORTER = """(module
  (memory (export "memory") 1 3)
  (table (export "table") 4 funcref)
  (global (export "g") (mut i32) (i32.const 5))
  (func (export "set") (param i32) i32.const 64 local.get 0 i32.store)
  (func (export "indirect") (param i32) (result i32) local.get 0 call_indirect (result i32)))"""
IMPORTER = """(module
  (import "e" "memory" (memory 1 3))
  (import "e" "table" (table 2 funcref))
  (import "e" "g" (global $g (mut i32)))
  (import "e" "set" (func $set (param i32)))
  (elem (i32.const 1) $mine)
  (func $mine (result i32) i32.const 64 i32.load)
  (func (export "set") (param i32) local.get 0 call $set)
  (func (export "bump") global.get $g i32.const 1 i32.add global.set $g)
  (func (export "grow") (result i32) i32.const 1 memory.grow))"""


def test_instances_share_what_they_export(load: Load, region: lucet.Region) -> None:
    exporter = region.new_instance(load(EXPORTER))
    importer = region.new_instance(load(IMPORTER), {"e": exporter.exports})
    importer.run("set", 123)
    assert exporter.memory.read_u32(64) == 123
    assert exporter.run("indirect", 1) == 123
    importer.run("bump")
    assert exporter.globals["g"].value == 6
    assert importer.run("grow") == 1
    assert exporter.memory.pages == importer.memory.pages == 2
    with pytest.raises(lucet.InstanceError, match="linked"):
        exporter.reset()


@pytest.mark.parametrize("first", ["exporter", "importer"])
def test_a_closed_instance_stays_while_others_use_it(load: Load, region: lucet.Region, first: str) -> None:
    exporter = region.new_instance(load(EXPORTER))
    importer = region.new_instance(load(IMPORTER), {"e": exporter.exports})
    both = {"exporter": exporter, "importer": importer}
    del exporter, importer
    both.pop(first).close()
    gc.collect()
    assert region.used == 2
    rest = next(iter(both.values()))
    if first == "exporter":
        rest.run("set", 9)
        assert rest.memory.read_u32(64) == 9
    else:
        rest.run("set", 9)
        assert rest.run("indirect", 1) == 9
    rest.close()
    both.clear()
    del rest
    gc.collect()
    assert region.used == 0


def test_imports_of_the_wrong_type_are_refused(load: Load, region: lucet.Region) -> None:
    exporter = region.new_instance(load(EXPORTER))
    for name, other in (("memory", "table"), ("table", "memory"), ("g", "set"), ("set", "indirect")):
        imports = {"e": {**exporter.exports, name: exporter.exports[other]}}
        with pytest.raises(lucet.LinkError, match=f"'?\"?{name}"):
            region.new_instance(load(IMPORTER), imports)
    assert region.used == 1
