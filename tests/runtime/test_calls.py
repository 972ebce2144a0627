"""Calls: what is accepted as an argument, and what may happen to the instance meanwhile."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import lucet

Load = Callable[[str], lucet.Module]

ECHO = """(module
  (func (export "i32") (param i32) (result i32) local.get 0)
  (func (export "i64") (param i64) (result i64) local.get 0)
  (func (export "f64") (param f64) (result f64) local.get 0)
  (func (export "second") (param i32 i64 f64 i32) (result i64) local.get 1))"""

HOST = """(module
  (import "host" "f" (func $f (param i32) (result i32)))
  (func (export "call") (param i32) (result i32) (i32.add (call $f (local.get 0)) (local.get 0))))"""


@lucet.host_function
def same(value: lucet.i32) -> lucet.i32:
    return value


class Int(int):
    pass


class Float(float):
    pass


class Indexed:
    def __index__(self) -> int:
        return 9


@pytest.mark.parametrize(
    ("name", "argument", "result"),
    [
        ("i32", 2**31 - 1, 2**31 - 1),
        ("i32", 2**31, -(2**31)),
        ("i32", 2**32 - 1, -1),
        ("i32", -(2**31), -(2**31)),
        ("i32", True, 1),
        ("i32", Int(7), 7),
        ("i32", Indexed(), 9),
        ("i64", 2**63 - 1, 2**63 - 1),
        ("i64", 2**63, -(2**63)),
        ("i64", 2**64 - 1, -1),
        ("i64", -(2**63), -(2**63)),
        ("i64", False, 0),
        ("f64", 1.5, 1.5),
        ("f64", -(2**60), -float(2**60)),
        ("f64", Float(2.5), 2.5),
    ],
)
def test_arguments(load: Load, region: lucet.Region, name: str, argument: Any, result: object) -> None:
    with region.new_instance(load(ECHO)) as instance:
        function: Any = instance.exports[name]
        assert function(argument) == instance.run(name, argument) == result
        if name != "f64":
            assert instance.run("second", 1, 5, 2.0, 3) == 5


@pytest.mark.parametrize(
    ("name", "argument", "error"),
    [
        ("i32", 2**32, OverflowError),
        ("i32", -(2**31) - 1, OverflowError),
        ("i32", 2**70, OverflowError),
        ("i32", 1.0, TypeError),
        ("i32", None, TypeError),
        ("i64", 2**64, OverflowError),
        ("i64", -(2**63) - 1, OverflowError),
        ("i64", "1", TypeError),
        ("f64", 10**400, OverflowError),
        ("f64", "1", TypeError),
    ],
)
def test_refused_arguments(
    load: Load, region: lucet.Region, name: str, argument: object, error: type[Exception]
) -> None:
    with region.new_instance(load(ECHO)) as instance:
        function: Any = instance.exports[name]
        for _ in range(3):
            with pytest.raises(error):
                function(argument)
            with pytest.raises(TypeError):
                function()
            with pytest.raises(TypeError):
                function(1, 2)
            with pytest.raises(TypeError):
                function(value=1)
        assert function(4) == 4


def test_the_slot_behind_the_parentheses(load: Load, region: lucet.Region) -> None:
    """`type(f).__call__` is another way into C than `f()`."""
    with region.new_instance(load(ECHO)) as instance:
        function: Any = instance.exports["second"]
        call = type(function).__call__
        assert call(function, 1, 2**40, 3, 4) == 2**40
        for arguments, keywords in [((1, 2), {}), ((1, 2, 3, 4), {"value": 1}), ((), {})]:
            with pytest.raises(TypeError):
                call(function, *arguments, **keywords)


def test_an_argument_closes_the_instance(load: Load, region: lucet.Region) -> None:
    for text, name in ((ECHO, "i32"), (HOST, "call")):
        instance = region.new_instance(load(text), {"host": {"f": same}} if text == HOST else None)

        class Closing:
            def __index__(self, instance: lucet.Instance = instance) -> int:
                instance.close()
                return 1

        function: Any = instance.exports[name]
        with pytest.raises(lucet.InstanceError):
            function(Closing())
        with pytest.raises(lucet.InstanceError):
            function(1)


def test_the_caller_lets_go_of_the_instance_while_it_runs(load: Load, region: lucet.Region) -> None:
    held: list[Any] = []

    @lucet.host_function
    def drop(value: lucet.i32) -> lucet.i32:
        held.clear()
        gc.collect()
        return value * 10

    instance = region.new_instance(load(HOST), {"host": {"f": drop}})
    gone = weakref.ref(instance)
    held.append(instance.exports["call"])
    del instance
    assert held[0](3) == 33
    gc.collect()
    assert gone() is None


def test_runs_within_runs_have_their_own_slots(load: Load, region: lucet.Region) -> None:
    instances: list[lucet.Instance] = []

    @lucet.host_function
    def again(value: lucet.i32) -> lucet.i32:
        if value % 3 == 2:
            raise ArithmeticError
        result: Any = instances[0].run("call", value - 1) if value else 0
        return int(result)

    instances.append(region.new_instance(load(HOST), {"host": {"f": again}}))
    call: Any = instances[0].exports["call"]
    for _ in range(20):
        assert call(1) == 1
        assert call(0) == 0
        with pytest.raises(ArithmeticError):
            call(4)
    instances[0].close()
