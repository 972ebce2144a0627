"""A user-defined function over a column of a million rows: Func.map, against one call for each row.

    python examples/udf.py [rows]

The function came from somebody else, as WebAssembly. It gets a price and a quantity of each row, and gives what is to
be paid. The same rows go through numpy, and the first of them, one call each, through plain Python, Lucet, and
wasmtime-py if that is installed. With pyarrow, the columns are Arrow's, which are not copied either.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy
from numpy.typing import NDArray

import lucet
from lucet.wasm.text import text_to_binary

UDF = """(module
  (func (export "due") (param $price f64) (param $quantity i32) (result f64) (local $sum f64)
    (local.set $sum (f64.mul (local.get $price) (f64.convert_i32_s (local.get $quantity))))
    (if (i32.ge_s (local.get $quantity) (i32.const 10)) ;; from ten on: 5 % less, at least 20
      (then (local.set $sum (f64.max (f64.const 20) (f64.mul (local.get $sum) (f64.const 0.95))))))
    (local.get $sum)))"""

SOME = 50_000
"""Rows for the ways that are slow."""

Column = Any
"""Of numpy, or of Arrow."""


def due(price: float, quantity: int) -> float:
    """The same in Python."""
    total = price * quantity
    return max(20.0, total * 0.95) if quantity >= 10 else total


def lucet_map(wasm: bytes) -> Callable[[Column, Column], Column]:
    """Goes into the guest once for all rows."""
    instance = lucet.Region(slots=1).new_instance(lucet.Module.from_bytes(lucet.compile(wasm)))
    function = instance.exports["due"]
    assert isinstance(function, lucet.Func)
    return function.map


def lucet_calls(wasm: bytes) -> Callable[[Column, Column], Column]:
    """Goes into the guest for each row."""
    instance = lucet.Region(slots=1).new_instance(lucet.Module.from_bytes(lucet.compile(wasm)))
    function: Any = instance.exports["due"]
    return lambda prices, quantities: [
        function(price, quantity) for price, quantity in zip(prices.tolist(), quantities.tolist(), strict=True)
    ]


def wasmtime_calls(wasm: bytes) -> Callable[[Column, Column], Column]:
    """wasmtime-py has no other way than this."""
    import wasmtime

    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, wasm), [])
    function: Any = instance.exports(store)["due"]
    return lambda prices, quantities: [
        function(store, price, quantity) for price, quantity in zip(prices.tolist(), quantities.tolist(), strict=True)
    ]


def python_calls(prices: Column, quantities: Column) -> Column:
    return [due(price, quantity) for price, quantity in zip(prices.tolist(), quantities.tolist(), strict=True)]


def numpy_vectors(prices: NDArray[Any], quantities: NDArray[Any]) -> NDArray[Any]:
    """What somebody would write who may change the function."""
    total: NDArray[Any] = prices * quantities
    return numpy.where(quantities >= 10, numpy.maximum(20.0, total * 0.95), total)


def timed(function: Callable[[Column, Column], Column], prices: Column, quantities: Column) -> tuple[float, Column]:
    """Nanoseconds for each row, the best of three, and the result."""
    best, result = float("inf"), None
    for _ in range(3):
        start = time.perf_counter()
        result = function(prices, quantities)
        best = min(best, time.perf_counter() - start)
    return best / len(prices) * 1e9, result


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    generator = numpy.random.default_rng(1)
    prices = generator.random(rows) * 10
    quantities = generator.integers(1, 20, rows, dtype=numpy.int32)
    wasm = text_to_binary(UDF)
    due_of_all = lucet_map(wasm)
    slow = {"plain Python": python_calls, "Lucet, a call for each row": lucet_calls(wasm)}
    try:
        slow["wasmtime-py, a call for each row"] = wasmtime_calls(wasm)
    except ImportError:
        print("wasmtime is not installed: left out")
    expected = numpy_vectors(prices, quantities)
    taken: dict[str, float] = {}
    for way, function in {"Lucet, Func.map": due_of_all, "numpy, by hand": numpy_vectors, **slow}.items():
        count = SOME if way in slow else rows
        taken[way], result = timed(function, prices[:count], quantities[:count])
        assert numpy.array_equal(result, expected[:count]), way
    for way, nanoseconds in taken.items():
        ratio = nanoseconds / taken["Lucet, Func.map"]
        print(f"{way:34}{nanoseconds:10.1f} ns a row{ratio:10.1f} times Func.map")
    try:
        pyarrow: Any = importlib.import_module("pyarrow")  # which states no types
    except ImportError:
        print("pyarrow is not installed: no Arrow columns")
        return
    table = pyarrow.table({"price": prices, "quantity": quantities})
    total = pyarrow.array(due_of_all(table["price"].chunk(0), table["quantity"].chunk(0)))
    assert total.to_numpy().sum() == expected.sum()
    print(f"Arrow: a new column of {len(total)} rows, {total.type}")


if __name__ == "__main__":
    main()
