"""The one Python reader of the *.def files beside it: traps, builtins, instance words and the artifact's structures.

The files are C macro calls so that the C core can include them; here they are read once, at import, and everything that
C would check with _Static_assert is checked too: a wrong offset is a ValueError that names it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HASH_SIZE: Final = 32

_FORMATS: Final = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i32": "i", "i64": "q", "hash": f"{HASH_SIZE}s"}
_SIZES: Final = {name: struct.calcsize("<" + code) for name, code in _FORMATS.items()}
_ALIGNMENTS: Final = {name: min(size, 8) for name, size in _SIZES.items()}
_MAX_TRAP_CODE: Final = 255


@dataclass(frozen=True, kw_only=True)
class TrapCode:
    name: str
    code: int
    """The immediate of the `ud1` instruction; never 0."""
    text: str
    """In the words of the WebAssembly test suite."""


@dataclass(frozen=True, kw_only=True)
class Builtin:
    index: int
    """In the pointer table at vmctx + VMCTX["BUILTINS"]."""
    name: str
    result: str
    """An LLVM type, as are the params; the first parameter is vmctx."""
    params: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Field:
    name: str
    type: str
    """u8, u16, u32, u64, i32, i64 or hash (32 bytes)."""
    offset: int

    @property
    def size(self) -> int:
        return _SIZES[self.type]


@dataclass(frozen=True, kw_only=True)
class Struct:
    """A structure whose fields tile it without gaps, little endian."""

    name: str
    size: int
    fields: Mapping[str, Field]
    codec: struct.Struct = field(repr=False)
    """For loops that pack or unpack many, by position: the fields in order."""

    def pack(self, **values: Any) -> bytes:
        """The structure's bytes. Every field must be given, by its name."""
        if values.keys() != self.fields.keys():
            raise TypeError(f"struct {self.name}: {_difference(self.fields, values)}")
        try:
            return self.codec.pack(*(_checked_hash(self, one, values[one.name]) for one in self.fields.values()))
        except struct.error as error:
            raise ValueError(f"struct {self.name}: {error} in {values}") from error

    def unpack(self, data: bytes | memoryview) -> dict[str, Any]:
        """The fields by name, from exactly `size` bytes."""
        if len(data) != self.size:
            raise ValueError(f"struct {self.name}: {len(data)} bytes given, it has {self.size}")
        return dict(zip(self.fields, self.codec.unpack(data), strict=True))


def _difference(fields: Mapping[str, Field], values: Mapping[str, Any]) -> str:
    missing = ", ".join(name for name in fields if name not in values)
    unknown = ", ".join(name for name in values if name not in fields)
    return "; ".join(part for part in (missing and f"missing {missing}", unknown and f"unknown {unknown}") if part)


def _checked_hash(owner: Struct, one: Field, value: Any) -> Any:
    # struct would cut or pad a byte string silently.
    if one.type == "hash" and len(value) != HASH_SIZE:
        raise ValueError(f"struct {owner.name}: {one.name} needs {HASH_SIZE} bytes, not {len(value)}")
    return value


@dataclass(frozen=True)
class Definitions:
    """What one set of .def texts says."""

    constants: dict[str, int] = field(default_factory=dict)
    traps: dict[str, TrapCode] = field(default_factory=dict)
    builtins: dict[str, Builtin] = field(default_factory=dict)
    vmctx: dict[str, int] = field(default_factory=dict)
    structs: dict[str, Struct] = field(default_factory=dict)


def read_definitions(text: str) -> Definitions:
    """Read and check .def text. Raises ValueError for anything that it does not understand."""
    result = Definitions()
    fields: dict[str, list[Field]] = {}
    sizes: dict[str, int] = {}
    for macro, arguments in _statements(text):
        match macro, arguments:
            case "#define", [name, value]:
                _add(result.constants, name, _integer(value))
            case "TRAP", [name, code, message]:
                _add(result.traps, name, TrapCode(name=name, code=_integer(code), text=_string(message)))
            case "BUILTIN", [index, name, returns, params]:
                parts = tuple(part.strip() for part in _string(params).split(","))
                builtin = Builtin(index=_integer(index), name=name, result=_string(returns), params=parts)
                _add(result.builtins, name, builtin)
            case "VMCTX", [name, offset]:
                _add(result.vmctx, name, _integer(offset))
            case "STRUCT", [name, size]:
                _add(sizes, name, _integer(size))
                fields[name] = []
            case "FIELD", [owner, kind, name, offset] if owner in fields and owner not in result.structs:
                fields[owner].append(Field(name=name, type=kind, offset=_integer(offset)))
            case "END", [name] if name in fields:
                _add(result.structs, name, _struct(name, sizes[name], fields[name]))
            case _:
                raise ValueError(f"cannot read {macro}({', '.join(arguments)})")
    if unfinished := sizes.keys() - result.structs.keys():
        raise ValueError(f"struct {min(unfinished)} has no END")
    _check_traps(result.traps)
    _check_builtins(result.builtins)
    _check_vmctx(result.vmctx, result.constants.get("VMCTX_FIXED_SIZE", 0))
    return result


_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_STATEMENT: Final = re.compile(
    r"""\s* (?: \#define [ \t]+ (?P<constant>\w+) [ \t]+ (?P<value>[^\s"]+) [ \t]* (?:\n|\Z)
              | (?P<macro>[A-Z]+) \( (?P<arguments> (?: "[^"\n]*" | [^()"\n] )* ) \) )""",
    re.VERBOSE,
)
_ARGUMENT: Final = re.compile(r'\s*("[^"]*"|[^\s,"]+)\s*(?:,|\Z)')
_INTEGER: Final = re.compile(r"(-?(?:0[xX][0-9a-fA-F]+|[0-9]+))U?L{0,2}")


def _statements(text: str) -> Iterator[tuple[str, list[str]]]:
    text = _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), text)
    position = 0
    while text[position:].strip():
        match = _STATEMENT.match(text, position)
        if match is None:
            raise ValueError(f"cannot read {text[position:].strip().splitlines()[0]!r}")
        position = match.end()
        if match["constant"]:
            yield "#define", [match["constant"], match["value"]]
        else:
            yield match["macro"], _arguments(match["arguments"])


def _arguments(text: str) -> list[str]:
    parts = list(_ARGUMENT.finditer(text))
    if "".join(part[0] for part in parts) != text:
        raise ValueError(f"cannot read the arguments {text!r}")
    return [part[1] for part in parts]


def _integer(text: str) -> int:
    match = _INTEGER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an integer")
    return int(match[1], 0)


def _string(text: str) -> str:
    if not text.startswith('"'):
        raise ValueError(f"{text!r} is not a string")
    return text.strip('"')


def _add(table: dict[str, Any], name: str, value: object) -> None:
    if name in table:
        raise ValueError(f"{name} is defined twice")
    table[name] = value


def _struct(name: str, size: int, fields: list[Field]) -> Struct:
    """Check that the fields tile the structure in order, each naturally aligned."""
    by_name: dict[str, Field] = {}
    end = 0
    for one in fields:
        if one.type not in _FORMATS:
            raise ValueError(f"struct {name}: {one.name} has the unknown type {one.type}")
        if one.offset != end:
            raise ValueError(f"struct {name}: {one.name} is at {one.offset}, the field before it ends at {end}")
        if one.offset % _ALIGNMENTS[one.type]:
            raise ValueError(f"struct {name}: {one.name} is not aligned")
        _add(by_name, one.name, one)
        end += one.size
    if end != size:
        raise ValueError(f"struct {name}: the fields end at {end}, the size is {size}")
    codec = struct.Struct("<" + "".join(_FORMATS[one.type] for one in fields))
    return Struct(name=name, size=size, fields=by_name, codec=codec)


def _check_traps(traps: Mapping[str, TrapCode]) -> None:
    taken: dict[int, str] = {}
    for trap in traps.values():
        if not 0 < trap.code <= _MAX_TRAP_CODE:
            raise ValueError(f"trap {trap.name}: code {trap.code} does not fit the instruction")
        if trap.code in taken:
            raise ValueError(f"trap {trap.name}: code {trap.code} is that of {taken[trap.code]}")
        taken[trap.code] = trap.name


def _check_builtins(builtins: Mapping[str, Builtin]) -> None:
    for index, builtin in enumerate(builtins.values()):
        if builtin.index != index:
            raise ValueError(f"builtin {builtin.name}: index {builtin.index}, expected {index}")
        if builtin.params[0] != "ptr":
            raise ValueError(f"builtin {builtin.name}: the first parameter is not vmctx")


def _check_vmctx(vmctx: Mapping[str, int], fixed_size: int) -> None:
    for position, (name, offset) in enumerate(vmctx.items(), start=1):
        if offset != -8 * position:
            raise ValueError(f"instance word {name}: offset {offset}, expected {-8 * position}")
    if len(vmctx) * 8 != fixed_size:
        raise ValueError(f"the instance words take {len(vmctx) * 8} bytes, VMCTX_FIXED_SIZE is {fixed_size}")


_FILES: Final = ("traps.def", "builtins.def", "instance.def", "artifact.def")
_DEFINITIONS: Final = read_definitions(
    "\n".join((Path(__file__).parent / name).read_text(encoding="ascii") for name in _FILES)
)

CONSTANTS: Final = _DEFINITIONS.constants
"""Every #define, by its whole name: LUCET_NONE, LUCET_KIND_FUNC, ..."""
TRAPS: Final = _DEFINITIONS.traps
TRAPS_BY_CODE: Final = {trap.code: trap for trap in TRAPS.values()}
BUILTINS: Final = _DEFINITIONS.builtins
VMCTX: Final = _DEFINITIONS.vmctx
"""Offsets of the fixed instance words from vmctx, all negative."""
VMCTX_FIXED_SIZE: Final = CONSTANTS["VMCTX_FIXED_SIZE"]
STRUCTS: Final = _DEFINITIONS.structs
