"""wasmtime as an engine: a check of the runner itself, with `--engine wasmtime`."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, Final

import wasmtime
from wasmtime import _bindings as bindings

from lucet.errors import Invalid, LinkError, Trap
from tests.spec.engines import Imports
from tests.spec.values import WIDTHS, ExternRef, Value

_KINDS: Final = {"i32": 0, "i64": 1, "f32": 2, "f64": 3, "v128": 4, "funcref": 5, "externref": 6}
_VALTYPES: Final = {kind: valtype for valtype, kind in _KINDS.items()}
_NO_FINALIZER: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(0)


class Wasmtime:
    exact = False

    def __init__(self, *, opt_level: str, slots: int) -> None:
        del opt_level, slots  # it has its own
        config = wasmtime.Config()
        config.parallel_compilation = False
        config.shared_memory = True  # the host module has one
        config.wasm_wide_arithmetic = True
        self.engine = wasmtime.Engine(config)
        self.store = wasmtime.Store(self.engine)
        self.context = self.store._context()

    def compile(self, wasm: bytes) -> wasmtime.Module:
        try:
            return wasmtime.Module(self.engine, wasm)
        except wasmtime.WasmtimeError as error:
            raise Invalid(str(error)) from error

    def instantiate(self, module: wasmtime.Module, imports: Imports) -> wasmtime.Instance:
        linker = wasmtime.Linker(self.engine)
        needed = {(one.module, one.name) for one in module.imports}
        for name, exports in imports.items():
            for field, item in exports.items():
                if (name, field) in needed:  # it cannot define shared memories
                    linker.define(self.store, name, field, item)
        try:
            return linker.instantiate(self.store, module)
        except wasmtime.Trap as error:
            raise _trap(error) from error
        except wasmtime.WasmtimeError as error:
            raise LinkError(str(error)) from error

    def exports(self, instance: wasmtime.Instance) -> Mapping[str, Any]:
        return dict(instance.exports(self.store).items())

    def call(self, func: wasmtime.Func, arguments: Sequence[Value]) -> list[Value]:
        # Not wasmtime.Func's own call: its floats lose the payload of NaNs.
        parameters = (bindings.wasmtime_val_t * max(1, len(arguments)))()
        for parameter, argument in zip(parameters, arguments, strict=False):
            self.store_value(parameter, argument)
        count = len(func.type(self.store).results)
        results = (bindings.wasmtime_val_t * max(1, count))()
        trap = ctypes.POINTER(bindings.wasm_trap_t)()
        error = bindings.wasmtime_func_call(
            self.context,
            ctypes.byref(func._func),
            parameters,
            len(arguments),
            results,
            count,
            ctypes.byref(trap),
        )
        if _address(error):
            raise TypeError(str(wasmtime.WasmtimeError._from_ptr(error)))
        if _address(trap):
            raise _trap(wasmtime.Trap._from_ptr(trap))
        return [self.load_value(result) for result in results[:count]]

    def read_global(self, item: wasmtime.Global) -> Value:
        value = bindings.wasmtime_val_t()
        bindings.wasmtime_global_get(self.context, ctypes.byref(item._global), ctypes.byref(value))
        return self.load_value(value)

    def store_value(self, target: Any, value: Value) -> None:
        target.kind = _KINDS[value.valtype]
        if value.valtype in WIDTHS:
            ctypes.memmove(ctypes.byref(target.of), value.bits.to_bytes(16, "little"), WIDTHS[value.valtype] // 8)
        elif isinstance(value.ref, ExternRef):
            data = ctypes.c_void_p(value.ref.number + 1)
            bindings.wasmtime_externref_new(self.context, data, _NO_FINALIZER, ctypes.byref(target.of.externref))

    def load_value(self, source: Any) -> Value:
        raw = int.from_bytes(ctypes.string_at(ctypes.byref(source.of), 16), "little")
        valtype = _VALTYPES[source.kind]
        if valtype in WIDTHS:
            return Value(valtype=valtype, bits=raw & ((1 << WIDTHS[valtype]) - 1))
        raw &= (1 << 64) - 1
        if raw == 0:
            return Value(valtype=valtype)
        if valtype == "funcref":
            return Value(valtype=valtype, ref=raw)
        data = bindings.wasmtime_externref_data(self.context, ctypes.byref(source.of.externref))
        return Value(valtype=valtype, ref=ExternRef(_address(data) - 1))


def _address(pointer: Any) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def _trap(error: wasmtime.Trap) -> Trap:
    """The last line says "wasm trap: " and one or two of the suite's texts."""
    text = str(error).splitlines()[-1].strip()
    return Trap(text.replace("wasm `unreachable` instruction executed", "unreachable"), code="")
