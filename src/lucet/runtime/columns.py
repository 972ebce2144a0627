"""Arrays: Func.map, a guest's function for each element in one run; Memory.array, guest memory as elements."""

from __future__ import annotations

import math
import struct
import sys
from array import array
from typing import TYPE_CHECKING, Any, Final

from lucet.wasm.types import F32, F64, I32, I64, ValType

if TYPE_CHECKING:
    from lucet.runtime._core import Func, Memory, SharedMemory

_CODES: Final = {I32: "i", I64: "q", F32: "f", F64: "d"}
"""Of the struct and array modules, and of numpy."""


def map_function(func: Func, /, *columns: Any, out: Any = None) -> Any:
    """Call func for each element of the columns, one for each parameter: what it returned, as one array per result.

    A column is anything with the buffer protocol (or with __array__) whose elements are numbers that the parameter can
    hold without loss: for i32 and i64 integers of at most that width, for f32 float32, for f64 float64 or float32. All
    have one shape; single numbers stand for as many. Strides may be anything.

    The result is an array of int32, int64, float32 or float64: of numpy in the columns' shape if one of them is numpy's
    (or became so with __array__), else an array.array. Several results are a tuple of arrays; for none, None. out: an
    array, or a tuple of them, to write to instead, which is returned; it may be one of the columns.

    When a call ends with an exception, so does the map: its note says in which element, LucetError.element too, and the
    results of the elements before that have been written to out. A timeout, interrupts and fuel are for the map as a
    whole. Host functions may be called, but not suspend the guest (InstanceError). Other threads run meanwhile.
    """
    arguments = tuple(_column(column) for column in columns)
    outs = _outs(arguments, func.type.results) if out is None else out if isinstance(out, tuple) else (out,)
    func._map(arguments, outs)
    if out is not None:
        return out
    return outs[0] if len(outs) == 1 else outs or None


def _column(value: Any) -> Any:
    """A buffer with dimensions, or a number."""
    try:
        view = memoryview(value)
    except TypeError:
        if not hasattr(value, "__array__"):
            return value
        import numpy

        value = numpy.asarray(value)
        return value if value.ndim else value.item()
    return value if view.ndim else view[()]


def _outs(arguments: tuple[Any, ...], results: tuple[str, ...]) -> tuple[Any, ...]:
    """A new array for each result."""
    shape = next((memoryview(argument).shape for argument in arguments if not _is_number(argument)), None)
    if shape is None:
        raise TypeError("at least one argument must be an array")
    codes = [_code(result) for result in results]
    numpy = sys.modules.get("numpy")
    if numpy is not None and any(isinstance(argument, numpy.ndarray) for argument in arguments):
        return tuple(numpy.empty(shape, code) for code in codes)
    return tuple(array(code, bytes(8))[:1] * math.prod(shape) for code in codes)


def _is_number(argument: Any) -> bool:
    try:
        memoryview(argument)
    except TypeError:
        return True
    return False


def _code(result: str) -> str:
    code = _CODES.get(ValType(result))
    if code is None:
        raise TypeError(f"Func.map is for functions of numbers, not of {result}")
    return code


def memory_array(
    memory: Memory | SharedMemory,
    /,
    dtype: Any,
    offset: int = 0,
    count: int | None = None,
    *,
    writable: bool = False,
) -> Any:
    """count elements (default: all that follow) from a byte offset of the memory: the bytes themselves, not a copy.

    A numpy array, of whatever numpy.dtype makes a type of; where numpy is not installed, a memoryview, and dtype a
    format of the struct module for one number. While it exists, the instance cannot be reset or closed.
    """
    try:
        import numpy
    except ImportError:
        itemsize = struct.calcsize(dtype)
        return _view(memory, itemsize, offset, count, writable=writable).cast("B").cast(dtype)
    kind = numpy.dtype(dtype)
    if kind.hasobject or not kind.itemsize:
        raise TypeError(f"guest memory has no elements of type {kind}")
    view = _view(memory, kind.itemsize, offset, count, writable=writable)
    return numpy.ndarray((len(view) // kind.itemsize,), kind, view)


def _view(
    memory: Memory | SharedMemory, itemsize: int, offset: int, count: int | None, *, writable: bool
) -> memoryview:
    if count is None:
        count = max(memory.size - offset, 0) // itemsize
    return memory.view(offset, count * itemsize, writable)
