"""Runs one module here and on wasmtime, and compares what came of it."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import wasmtime

import lucet
from lucet.errors import LimitsExceeded, LinkError, Trap
from lucet.runtime import Func, Global, HostFunction, Memory, SharedMemory
from lucet.wasm.decode import decode_module
from lucet.wasm.types import NUMTYPES, FuncType, ValType, is_ref
from tests.spec.engines import Lucet
from tests.spec.peer import Wasmtime
from tests.spec.values import WIDTHS, Value

MEMORY_LIMIT: Final = 16 << 20
TABLE_LIMIT: Final = 100_000
SECONDS: Final = 20.0
"""A run that takes longer here, when it ended on wasmtime, is a finding."""
FUEL: Final = 3_000_000
STACK: Final = 2 << 20

Results = tuple[Value, ...]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How the module is compiled here."""

    opt_level: str
    target_cpu: str
    bounds: str
    count_instructions: bool
    hot: tuple[int, ...] | None = None

    def artifact(self, wasm: bytes) -> bytes:
        return lucet.compile(wasm, **asdict(self), workers=1)


@dataclass(frozen=True, kw_only=True)
class Call:
    """Of an export. The arguments are bits, None for a null reference."""

    name: str
    arguments: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What can be seen of a module after its calls."""

    start: str
    """"" if it could be instantiated, else the trap."""
    calls: tuple[Results | str, ...]
    """Results, or the trap. It ends where an engine's own limit was met: see INCONCLUSIVE."""
    memories: Mapping[str, bytes]
    globals: Mapping[str, Value]


INCONCLUSIVE: Final = ("call stack exhausted", "all fuel consumed", "not comparable")
"""What comes of limits that the language leaves to engines: nothing after it is compared."""

_TRAPS: Final = (
    *("unreachable", "integer divide by zero", "integer overflow", "invalid conversion to integer"),
    *("out of bounds memory access", "out of bounds table access", "undefined element", "uninitialized element"),
    *("indirect call type mismatch", "call stack exhausted", "null function reference", "null exception reference"),
    *("unaligned atomic", "null reference", "expected shared memory", "all fuel consumed", "uncaught exception"),
)


_EITHER: Final = {"unaligned atomic", "out of bounds memory access"}
"""An address may be both; which is looked at first is not the same here and there."""


def _kind(message: str) -> str:
    """A trap's kind, in the suite's words, some of which wasmtime has one for."""
    if "thrown Wasm exception" in message:  # wasmtime's words where nobody catches it
        return "uncaught exception"
    kind = next((kind for kind in _TRAPS if kind in message), message)
    if kind.startswith("null"):
        return "null reference"
    return "out of bounds table access" if kind == "undefined element" else kind


def mix(first: int, second: int) -> int:
    """The host function that random modules may import."""
    value = (first * 0x9E3779B1 ^ second) & (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


# Here


def run_here(wasm: bytes, setting: Setting, calls: Sequence[Call], region: lucet.Region) -> Outcome:
    module = lucet.Module.from_bytes(setting.artifact(wasm))
    try:
        instance = region.new_instance(
            module, _imports(module), memory_limit=MEMORY_LIMIT, table_limit=TABLE_LIMIT, timeout=SECONDS
        )
    except Trap as trap:
        return Outcome(start=_kind(trap.message), calls=(), memories={}, globals={})
    except lucet.WasmException:
        return Outcome(start="uncaught exception", calls=(), memories={}, globals={})
    except LimitsExceeded:
        return Outcome(start="not comparable", calls=(), memories={}, globals={})
    with instance:
        instance.timeout = SECONDS
        done: list[Results | str] = []
        for call in calls:
            done.append(_call_here(instance, call))
            if done[-1] in INCONCLUSIVE:
                break
        exports = instance.exports
        return Outcome(
            start="",
            calls=tuple(done),
            memories={
                name: bytes(item.read(0, item.size))
                for name, item in exports.items()
                if isinstance(item, Memory | SharedMemory)
            },
            globals={
                name: _READER.read_global(item)
                for name, item in exports.items()
                if isinstance(item, Global) and item.type.valtype in WIDTHS
            },
        )


class _Reader(Lucet):
    """Only its conversions."""

    def __init__(self) -> None:
        pass


_READER: Final = _Reader()


def _call_here(instance: lucet.Instance, call: Call) -> Results | str:
    function = instance.exports[call.name]
    assert isinstance(function, Func)
    arguments = [
        Value(valtype=valtype) if bits is None else Value(valtype=valtype, bits=bits)
        for valtype, bits in zip(function.type.params, call.arguments, strict=True)
    ]
    try:
        return tuple(_READER.call(function, arguments))
    except Trap as trap:
        return _kind(trap.message)
    except lucet.WasmException:
        return "uncaught exception"


def _imports(module: lucet.Module) -> dict[str, dict[str, object]]:
    imports: dict[str, dict[str, object]] = {}
    for one in module.imports:
        if isinstance(one.type, lucet.FuncType):
            imports.setdefault(one.module, {})[one.name] = _host_function(one.name, one.type)
        else:
            raise LinkError(f"{one.module}.{one.name} is no function")
    return imports


def _host_function(name: str, functype: lucet.FuncType) -> HostFunction[..., object]:
    def zeros(*arguments: object) -> object:
        del arguments
        values = [_zero(valtype) for valtype in functype.results]
        return tuple(values) if len(values) > 1 else values[0] if values else None

    return HostFunction(mix if name == "mix" else zeros, functype.params, functype.results, False)


def _zero(valtype: str) -> object:
    if valtype == "v128":
        return bytes(16)
    if is_ref(ValType(valtype)):
        return None
    return 0.0 if valtype[0] == "f" else 0


# On wasmtime


class Peer:
    """Engines that make canonical NaNs, or not: results that depend on it depend on the bits of NaNs."""

    def __init__(self) -> None:
        self.engines = [self._engine(canonical) for canonical in (False, True)]

    @staticmethod
    def _engine(canonical: bool) -> wasmtime.Engine:
        config = wasmtime.Config()
        for feature in ("threads", "tail_call", "multi_memory", "memory64", "function_references", "gc", "exceptions"):
            setattr(config, f"wasm_{feature}", True)
        config.wasm_relaxed_simd = True
        config.wasm_wide_arithmetic = True
        config.wasm_custom_page_sizes = True
        config.shared_memory = True
        config.parallel_compilation = False
        config.consume_fuel = True
        config.max_wasm_stack = STACK
        config.cranelift_nan_canonicalization = canonical
        config.memory_reservation = MEMORY_LIMIT
        return wasmtime.Engine(config)

    def is_valid(self, wasm: bytes) -> bool:
        try:
            wasmtime.Module.validate(self.engines[0], wasm)
        except wasmtime.WasmtimeError:
            return False
        return True

    def run(self, wasm: bytes, calls: Sequence[Call], *, canonical: bool = False) -> Outcome:
        engine = self.engines[canonical]
        types = _types(wasm)
        module = wasmtime.Module(engine, wasm)
        peer = _Store(engine)
        store = peer.store
        store.set_limits(memory_size=MEMORY_LIMIT, table_elements=TABLE_LIMIT)
        store.set_fuel(FUEL)
        try:
            exports = peer.exports(_linker(engine, store, module).instantiate(store, module))
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            text = str(error)
            if "memory minimum" in text or "table minimum" in text:
                text = "not comparable"
            return Outcome(start=_kind(text), calls=(), memories={}, globals={})
        done: list[Results | str] = []
        for call in calls:
            store.set_fuel(FUEL)
            done.append(self._call(peer, exports[call.name], types[call.name], call))
            if done[-1] in INCONCLUSIVE:
                break
        memories = {}
        for name, item in exports.items():
            if isinstance(item, wasmtime.Memory):
                memories[name] = bytes(item.read(store, 0, item.data_len(store)))
            elif isinstance(item, wasmtime.SharedMemory):
                memories[name] = ctypes.string_at(item.data_ptr(), item.data_len())
        globals_ = {
            name: peer.read_global(item)
            for name, item in exports.items()
            if isinstance(item, wasmtime.Global) and types[name] in NUMTYPES
        }
        return Outcome(start="", calls=tuple(done), memories=memories, globals=globals_)

    @staticmethod
    def _call(peer: _Store, function: wasmtime.Func, functype: object, call: Call) -> Results | str:
        assert isinstance(functype, FuncType)
        arguments = [
            Value(valtype=valtype) if bits is None else Value(valtype=valtype, bits=bits)
            for valtype, bits in zip(functype.params, call.arguments, strict=True)
        ]
        try:
            return tuple(peer.call(function, arguments))
        except Trap as trap:
            return _kind(trap.message)


class _Store(Wasmtime):
    """The suite's runner on wasmtime, with a given engine."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self.engine = engine
        self.store = wasmtime.Store(engine)
        self.context = self.store._context()


def _types(wasm: bytes) -> dict[str, object]:
    """Of the exported functions and globals. Not from wasmtime, which ends the process when asked for a v128."""
    module = decode_module(wasm)
    types: dict[str, object] = {}
    for one in module.exports:
        if one.kind == "func":
            types[one.name] = module.func_type(one.index)
        elif one.kind == "global":
            types[one.name] = module.all_globals[one.index].valtype
    return types


def _linker(engine: wasmtime.Engine, store: wasmtime.Store, module: wasmtime.Module) -> wasmtime.Linker:
    linker = wasmtime.Linker(engine)
    linker.allow_shadowing = True
    for one in module.imports:
        if isinstance(one.type, wasmtime.FuncType):
            linker.define(store, one.module, one.name or "", _peer_function(store, one.name or "", one.type))
    return linker


def _peer_function(store: wasmtime.Store, name: str, functype: wasmtime.FuncType) -> wasmtime.Func:
    def zeros(*arguments: Any) -> Any:
        del arguments
        values = [_zero(str(valtype)) for valtype in functype.results]
        return tuple(values) if len(values) > 1 else values[0] if values else None

    return wasmtime.Func(store, functype, mix if name == "mix" else zeros)


# What differs


def differences(here: Outcome, there: Outcome, *, lanes: bool = False) -> list[str]:
    """Descriptions. NaNs equal each other in results and globals of floats; in lanes of vectors, too, with lanes."""
    return list(_differences(here, there, lanes))


def is_inconclusive(outcome: Outcome) -> bool:
    return outcome.start in INCONCLUSIVE or any(one in INCONCLUSIVE for one in outcome.calls)


def _differences(here: Outcome, there: Outcome, lanes: bool) -> Iterator[str]:
    if here.start != there.start and not {here.start, there.start} & set(INCONCLUSIVE):
        yield f"instantiation: {here.start or 'done'}, wasmtime: {there.start or 'done'}"
        return
    for number, (ours, theirs) in enumerate(zip(here.calls, there.calls, strict=False)):
        if ours in INCONCLUSIVE or theirs in INCONCLUSIVE:
            return
        if not _same(ours, theirs, lanes):
            yield f"call {number}: {_described(ours)}, wasmtime: {_described(theirs)}"
    if is_inconclusive(here) or is_inconclusive(there):
        return
    for name, contents in here.memories.items():
        other = there.memories[name]
        if contents == other:
            continue
        if len(contents) != len(other):
            yield f"memory {name}: {len(contents)} bytes, wasmtime {len(other)}"
            continue
        at = next(at for at, pair in enumerate(zip(contents, other, strict=True)) if pair[0] != pair[1])
        yield f"memory {name} at {at:#x}: {contents[at : at + 16].hex()}, wasmtime {other[at : at + 16].hex()}"
    for name, value in here.globals.items():
        if not _equal(value, there.globals[name], lanes):
            yield f"global {name}: {value}, wasmtime {there.globals[name]}"


def _described(result: Results | str) -> str:
    return result if isinstance(result, str) else f"({' '.join(map(str, result))})"


def _same(ours: Results | str, theirs: Results | str, lanes: bool) -> bool:
    if isinstance(ours, str) or isinstance(theirs, str):
        return ours == theirs or {ours, theirs} == _EITHER
    return all(_equal(*pair, lanes) for pair in zip(ours, theirs, strict=True))


def _equal(ours: Value, theirs: Value, lanes: bool) -> bool:
    if ours.valtype not in WIDTHS:
        return (ours.ref is None) == (theirs.ref is None)
    if ours.bits == theirs.bits:
        return True
    if ours.valtype == "v128":
        return lanes and any(_equal_lanes(ours.bits, theirs.bits, width) for width in (32, 64))
    return ours.valtype[0] == "f" and _equal_lanes(ours.bits, theirs.bits, WIDTHS[ours.valtype])


def _equal_lanes(ours: int, theirs: int, width: int) -> bool:
    mask = (1 << width) - 1
    pairs = [(ours >> shift & mask, theirs >> shift & mask) for shift in range(0, 128, width)]
    return all(a == b or (_is_nan(a, width) and _is_nan(b, width)) for a, b in pairs)


def _is_nan(bits: int, width: int) -> bool:
    exponent = 0x7F800000 if width == 32 else 0x7FF << 52
    return bits & exponent == exponent and bits & (exponent & -exponent) - 1 != 0


@contextlib.contextmanager
def own_region() -> Iterator[lucet.Region]:
    yield lucet.Region(slots=2, stack_size=8 << 20)
