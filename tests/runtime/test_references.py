"""Typed references across the Python boundary: which objects pass, which are refused with what words, and linking."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import pytest

import lucet
from lucet.runtime import HostFunction
from lucet.wasm.types import I32, GlobalType, ValType

Load = Callable[[str], lucet.Module]

UNARY = lucet.FuncType((I32,), (I32,))
MAYBE = UNARY.ref(nullable=True)
SURE = UNARY.ref()

GUEST = """(module
  (type $unary (func (param i32) (result i32)))
  (type $itself (func (param (ref null $itself)) (result i32)))
  (func $inc (export "inc") (type $unary) (i32.add (local.get 0) (i32.const 1)))
  (func $dec (export "dec") (type $unary) (i32.sub (local.get 0) (i32.const 1)))
  (func (export "nothing"))
  (func (export "itself") (type $itself) (ref.is_null (local.get 0)))
  (func (export "maybe") (param (ref null $unary)) (result (ref null $unary)) (local.get 0))
  (func (export "sure") (param (ref $unary)) (result (ref $unary)) (local.get 0))
  (func (export "any") (param (ref func)) (result funcref) (local.get 0))
  (func (export "extern") (param (ref extern)) (result externref) (local.get 0))
  (func (export "none") (param nullfuncref nullexternref) (result nullfuncref) (local.get 0))
  (func (export "call") (param (ref $unary) i32) (result i32) (call_ref $unary (local.get 1) (local.get 0)))
  (global (export "maybe_global") (mut (ref null $unary)) (ref.null $unary))
  (global (export "sure_global") (mut (ref $unary)) (ref.func $inc))
  (global (export "constant") (ref $unary) (ref.func $inc))
  (table (export "sure_table") 2 4 (ref $unary) (ref.func $inc))
  (table (export "maybe_table") 1 4 (ref null $unary)))"""


def items(instance: lucet.Instance) -> Any:
    """Its exports, of whatever kinds."""
    return instance.exports


@pytest.fixture
def guest(load: Load, region: lucet.Region) -> lucet.Instance:
    return region.new_instance(load(GUEST))


def test_types(guest: lucet.Instance) -> None:
    exports = items(guest)
    assert exports["call"].type == lucet.FuncType((SURE, I32), (I32,))
    assert exports["itself"].type.params == ("(ref null #rec.0)",)
    nullfuncref, nullexternref = ValType("nullfuncref"), ValType("nullexternref")
    assert exports["none"].type == lucet.FuncType((nullfuncref, nullexternref), (nullfuncref,))
    assert exports["any"].type.params == ("(ref func)",)
    assert guest.globals["sure_global"].type == GlobalType(valtype=SURE, mutable=True)
    module: Any = guest.module
    described = {one.name: one.type for one in module.exports}
    assert described["sure_table"].reftype == SURE
    assert described["constant"] == GlobalType(valtype=SURE, mutable=False)


def test_functions_pass(guest: lucet.Instance) -> None:
    inc, dec = items(guest)["inc"], items(guest)["dec"]
    assert guest.run("maybe", None) is None
    assert guest.run("maybe", inc) == inc
    assert guest.run("sure", dec)(10) == 9
    assert guest.run("call", dec, 5) == 4
    assert guest.run("call", guest.run("any", inc), 5) == 6
    assert guest.run("none", None, None) is None
    marker = object()
    assert guest.run("extern", marker) is marker
    assert guest.run("itself", items(guest)["itself"]) == 0


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("maybe", [5], f"{MAYBE} expected, got int"),
        ("sure", [None], f"{SURE} expected, got NoneType"),
        ("any", [None], "(ref func) expected, got NoneType"),
        ("extern", [None], "(ref extern) expected, got NoneType"),
        ("none", [None, 5], "nullexternref expected, got int"),
        ("none", ["inc", None], "nullfuncref expected, got Func"),
        ("maybe", ["nothing"], f"{MAYBE} expected, got {lucet.FuncType().ref()}, a function of type [] -> []"),
        ("call", ["maybe", 1], f"{SURE} expected, got (ref #"),
        ("itself", ["inc"], f"expected, got {SURE}, a function of type [i32] -> [i32]"),
    ],
)
def test_what_does_not_fit_is_refused(guest: lucet.Instance, name: str, arguments: list[object], message: str) -> None:
    values = [items(guest)[one] if isinstance(one, str) else one for one in arguments]
    with pytest.raises(TypeError, match=re.escape(message)):
        guest.run(name, *values)
    with pytest.raises(TypeError, match="references cannot be passed as raw slots"):
        items(guest)[name].call_raw([0] * len(values))


def test_globals(guest: lucet.Instance) -> None:
    maybe, sure = guest.globals["maybe_global"], guest.globals["sure_global"]
    assert maybe.value is None
    maybe.value = items(guest)["dec"]
    assert maybe.value(1) == 0
    maybe.value = None
    with pytest.raises(TypeError, match="expected, got NoneType"):
        sure.value = None
    with pytest.raises(TypeError, match="a function of type"):
        sure.value = items(guest)["nothing"]
    assert sure.value(1) == 2
    assert guest.globals["constant"].value(1) == 2


def test_tables(guest: lucet.Instance) -> None:
    sure, maybe = items(guest)["sure_table"], items(guest)["maybe_table"]
    dec = items(guest)["dec"]
    with pytest.raises(TypeError, match="expected, got NoneType"):
        sure.set(0, None)
    with pytest.raises(TypeError, match="expected, got NoneType"):
        sure.grow(1, None)
    with pytest.raises(TypeError, match="a function of type"):
        maybe.grow(1, items(guest)["nothing"])
    assert (len(sure), len(maybe)) == (2, 1)
    assert sure.grow(2, dec) == 2
    assert maybe.grow(2, None) == 1
    assert [sure.get(i)(10) for i in range(4)] == [11, 11, 9, 9]
    sure.set(0, dec)
    assert sure.get(0)(10) == 9
    assert maybe.get(2) is None


HOST = """(module
  (type $unary (func (param i32) (result i32)))
  (import "host" "choose" (func $choose (param (ref null $unary)) (result (ref $unary))))
  (func $inc (export "inc") (type $unary) (i32.add (local.get 0) (i32.const 1)))
  (func (export "nothing"))
  (func (export "go") (param i32) (result i32) (call_ref $unary (local.get 0) (call $choose (ref.null $unary)))))"""


def test_host_functions(load: Load, region: lucet.Region) -> None:
    chosen: list[lucet.Func | None] = []

    @lucet.host_function
    def choose(one: Annotated[lucet.Func | None, MAYBE]) -> Annotated[lucet.Func, SURE]:
        assert one is None
        return chosen[0]  # type: ignore[return-value]  # whether it is one is what the test is about

    instance = region.new_instance(load(HOST), {"host": {"choose": choose}})
    chosen.append(items(instance)["inc"])
    assert instance.run("go", 5) == 6
    chosen[0] = None
    with pytest.raises(TypeError, match=re.escape(f"{SURE} expected, got NoneType")):
        instance.run("go", 5)
    chosen[0] = items(instance)["nothing"]
    with pytest.raises(TypeError, match="a function of type"):
        instance.run("go", 5)


def test_host_functions_of_another_type_are_refused(load: Load, region: lucet.Region) -> None:
    for params, results in (((MAYBE,), (MAYBE,)), (("funcref",), (SURE,)), ((lucet.FuncType().ref(),), (SURE,))):
        host = HostFunction(lambda one: one, params, results, wants_caller=False)
        with pytest.raises(lucet.LinkError, match=r"incompatible import type.*'host' 'choose'"):
            region.new_instance(load(HOST), {"host": {"choose": host}})

    with pytest.raises(TypeError, match="no WebAssembly type"):

        @lucet.host_function
        def bottom(one: Annotated[lucet.Func, "(ref bot)"]) -> None: ...


IMPORTS = """(module
  (type $unary (func (param i32) (result i32)))
  (type $maker (func (result (ref $unary))))
  (import "m" "x" {}))"""

EXPORTS = """(module
  (type $unary (func (param i32) (result i32)))
  (type $maker (func (result (ref $unary))))
  (func $inc (export "inc") (type $unary) (local.get 0))
  (func (export "maker") (type $maker) (ref.func $inc))
  (func (export "loose") (result (ref null $unary)) (ref.func $inc))
  (global (export "sure") (ref $unary) (ref.func $inc))
  (global (export "maybe") (ref null $unary) (ref.func $inc))
  (global (export "sure_mut") (mut (ref $unary)) (ref.func $inc))
  (table (export "table") 1 (ref null $unary)))"""


@pytest.mark.parametrize(
    ("wanted", "fitting"),
    [
        ("(func (type $unary))", {"inc"}),
        ("(func (type $maker))", {"maker"}),
        ("(global (ref $unary))", {"sure"}),
        ("(global (ref null $unary))", {"sure", "maybe"}),
        ("(global (ref func))", {"sure"}),
        ("(global funcref)", {"sure", "maybe"}),
        ("(global (ref null $maker))", set()),
        ("(global externref)", set()),
        ("(global (mut (ref $unary)))", {"sure_mut"}),
        ("(global (mut (ref null $unary)))", set()),
        ("(table 1 (ref null $unary))", {"table"}),
        ("(table 1 funcref)", set()),
        ("(table 1 (ref null $maker))", set()),
    ],
)
def test_linking(load: Load, region: lucet.Region, wanted: str, fitting: set[str]) -> None:
    importing, exporting = load(IMPORTS.format(wanted)), region.new_instance(load(EXPORTS))
    for name, item in exporting.exports.items():
        if name in fitting:
            region.new_instance(importing, {"m": {"x": item}}).close()
        else:
            with pytest.raises(lucet.LinkError, match=r'"m" "x"|\'m\' \'x\''):
                region.new_instance(importing, {"m": {"x": item}})


def test_values_for_imported_globals(load: Load, region: lucet.Region) -> None:
    for wanted in ("(ref null $unary)", "funcref", "externref", "nullexternref"):
        region.new_instance(load(IMPORTS.format(f"(global {wanted})")), {"m": {"x": None}}).close()
        with pytest.raises(lucet.LinkError, match="incompatible import type"):
            region.new_instance(load(IMPORTS.format(f"(global {wanted})")), {"m": {"x": 5}})
    for wanted in ("(ref $unary)", "(ref extern)", "i32", "(mut externref)"):
        with pytest.raises(lucet.LinkError, match="incompatible import type"):
            region.new_instance(load(IMPORTS.format(f"(global {wanted})")), {"m": {"x": None}})


def test_reset_fills_tables_and_globals_again(guest: lucet.Instance) -> None:
    items(guest)["sure_table"].set(0, items(guest)["dec"])
    guest.globals["sure_global"].value = items(guest)["dec"]
    guest.reset()
    assert items(guest)["sure_table"].get(0)(10) == 11
    assert guest.globals["sure_global"].value(10) == 11
