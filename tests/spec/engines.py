"""What a script needs of an engine, and Lucet as one."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Protocol

import lucet
from lucet.wasm.text import text_to_binary
from tests.spec.shared_folder import shared_folder
from tests.spec.values import WIDTHS, Value, is_reference

Imports = Mapping[str, Mapping[str, Any]]


class Engine(Protocol):
    """Raises lucet.errors' exceptions. Modules, instances and items (exported things) are its own objects."""

    exact: bool
    """Whether the errors of compile have the suite's words."""

    def compile(self, wasm: bytes) -> Any: ...

    def instantiate(self, module: Any, imports: Imports) -> Any: ...

    def exports(self, instance: Any) -> Mapping[str, Any]: ...

    def call(self, func: Any, arguments: Sequence[Value]) -> list[Value]: ...

    def read_global(self, item: Any) -> Value: ...


class Lucet:
    """The project itself. One object for each script: all its instances live in one region, until the script ends."""

    exact = True
    count_instructions = False

    def __init__(self, *, opt_level: str, slots: int, target_cpu: str = "x86-64-v3") -> None:
        self.opt_level = opt_level
        self.target_cpu = target_cpu
        self.region = lucet.Region(slots=slots)

    def compile(self, wasm: bytes) -> lucet.Module:
        # One worker: the modules are small, and several scripts run at once.
        counts = self.count_instructions
        artifact = lucet.compile(
            wasm, opt_level=self.opt_level, target_cpu=self.target_cpu, count_instructions=counts, workers=1
        )
        return lucet.Module.from_bytes(artifact)

    def instantiate(self, module: lucet.Module, imports: Imports) -> lucet.Instance:
        return self.region.new_instance(module, imports)

    def exports(self, instance: lucet.Instance) -> Mapping[str, Any]:
        return instance.exports

    def call(self, func: Any, arguments: Sequence[Value]) -> list[Value]:
        params, results = func.type.params, func.type.results
        # The types of references are checked by the call itself.
        if len(arguments) != len(params) or any(
            argument.valtype != param and not (is_reference(argument.valtype) and is_reference(param))
            for argument, param in zip(arguments, params, strict=True)
        ):
            raise TypeError(f"arguments {' '.join(map(str, arguments))} for a function of type {func.type}")
        if not any(map(is_reference, (*params, *results))):
            slots = func.call_raw([argument.bits for argument in arguments])
            return [
                Value(valtype=valtype, bits=slot & ((1 << WIDTHS[valtype]) - 1))
                for valtype, slot in zip(results, slots, strict=True)
            ]
        returned = func(*map(_to_object, arguments))
        objects = () if not results else (returned,) if len(results) == 1 else returned
        return [_from_object(valtype, one) for valtype, one in zip(results, objects, strict=True)]

    def read_global(self, item: Any) -> Value:
        valtype = item.type.valtype
        if is_reference(valtype):
            return Value(valtype=valtype, ref=item.value)
        return Value(valtype=valtype, bits=item.get_raw() & ((1 << WIDTHS[valtype]) - 1))


class CountingLucet(Lucet):
    """Counts instructions."""

    count_instructions = True


_FLOATS = {"f32": ("<f", "<I"), "f64": ("<d", "<Q")}


def _to_object(value: Value) -> object:
    """A Python argument. Only for signatures with references: a NaN may lose its payload here."""
    if value.valtype in _FLOATS:
        real, integer = _FLOATS[value.valtype]
        return struct.unpack(real, struct.pack(integer, value.bits))[0]
    return value.ref if is_reference(value.valtype) else value.bits


def _from_object(valtype: str, returned: Any) -> Value:
    if valtype in _FLOATS:
        real, integer = _FLOATS[valtype]
        return Value(valtype=valtype, bits=struct.unpack(integer, struct.pack(real, returned))[0])
    if is_reference(valtype):
        return Value(valtype=valtype, ref=returned)
    return Value(valtype=valtype, bits=returned & ((1 << WIDTHS[valtype]) - 1))


@cache
def spectest() -> bytes:
    """The suite's host module, which is itself a wasm module; with the shared memory that scripts of threads import."""
    text = (shared_folder() / "spec" / "tools" / "spectest.wat").read_text().rstrip()
    return text_to_binary(text.removesuffix(")") + '(memory (export "shared_memory") 1 2 shared))')
