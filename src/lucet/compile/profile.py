"""Profiles: how often a module's functions and loops run, counted by the module itself.

`instrument` adds to a module a memory of its own with one counter, a u64, for each function and each loop, and code
that counts there; the memory is exported as "lucet:profile". The result is an ordinary module: run it on work that is
typical, wherever multiple memories are known, and give the memory's bytes to `Profile.of`. A compilation that is given
`Profile.hot()` optimises those functions hard and the others quickly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from lucet.errors import LimitExceeded
from lucet.limits import MAX_MEMORIES, WASM_PAGE_SIZE
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.leb128 import read_unsigned_leb128, signed_leb128, unsigned_leb128
from lucet.wasm.module import Module
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.valid import validate_module
from lucet.wasm.valid_code import validate_code

EXPORT: Final = "lucet:profile"
HOT_SHARE: Final = 0.995
_FORMAT: Final = "lucet profile 1"

_HEADER_SIZE: Final = 8
_MEMORY_SECTION, _EXPORT_SECTION, _CODE_SECTION = 5, 7, 10
_SECTION_ORDER: Final = (1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11)
_COUNTER_SIZE: Final = 8
_LOOP, _END = BY_NAME["loop"].code, BY_NAME["end"].code
_BLOCKS: Final = frozenset(BY_NAME[name].code for name in ("block", "if", "try_table"))


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one run, or several, of a module did."""

    module: str
    """SHA-256 of the module, hexadecimal."""
    weights: Mapping[int, int]
    """Function index -> instructions that it executed, about."""

    @classmethod
    def of(cls, wasm: bytes, counters: bytes) -> Profile:
        """The profile of a run of instrument(wasm): counters is what its exported memory holds."""
        module = decode_module(wasm)
        weights: dict[int, int] = {}
        for number, (function, _, size) in enumerate(_sites(module)):
            count = int.from_bytes(counters[number * _COUNTER_SIZE : (number + 1) * _COUNTER_SIZE], "little")
            if count:
                weights[function] = weights.get(function, 0) + count * size
        return cls(module=hashlib.sha256(wasm).hexdigest(), weights=weights)

    def hot(self, wasm: bytes, share: float = HOT_SHARE) -> tuple[int, ...]:
        """The fewest functions that together executed that share of all instructions, ascending.

        ValueError: the profile is that of another module.
        """
        if hashlib.sha256(wasm).hexdigest() != self.module:
            raise ValueError("the profile is that of another module")
        wanted = share * sum(self.weights.values())
        found = []
        for function, weight in sorted(self.weights.items(), key=lambda item: (-item[1], item[0])):
            if wanted <= 0:
                break
            found.append(function)
            wanted -= weight
        return tuple(sorted(found))

    def to_bytes(self) -> bytes:
        weights = {str(function): weight for function, weight in sorted(self.weights.items())}
        return json.dumps({"format": _FORMAT, "module": self.module, "weights": weights}, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        """ValueError: that is no profile."""
        try:
            read = json.loads(data)
            if read["format"] != _FORMAT:
                raise ValueError(f"format {read['format']!r}")
            weights = {int(function): int(weight) for function, weight in read["weights"].items()}
            return cls(module=str(read["module"]), weights=weights)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a profile: {error}") from error


def _sites(module: Module) -> Iterator[tuple[int, int, int]]:
    """Each counter's function, the file offset where it counts, and the instructions that one count stands for."""
    for position in range(len(module.bodies)):
        function = module.imported_func_count + position
        instrs = decode_code(module, function).instrs
        found = [instrs[0][1]]
        sizes = [0]
        nested: list[int] = []
        for index, (opcode, _, _) in enumerate(instrs):
            sizes[nested[-1] if nested else 0] += 1
            if opcode == _LOOP:
                nested.append(len(found))
                found.append(instrs[index + 1][1])
                sizes.append(0)
            elif opcode in _BLOCKS:
                nested.append(nested[-1] if nested else 0)
            elif opcode == _END and nested:
                nested.pop()
        for offset, size in zip(found, sizes, strict=True):
            yield function, offset, size


def instrument(wasm: bytes) -> bytes:
    """The module that counts. Raises a CompileError if the module is not valid, LimitExceeded if it is too large."""
    module = decode_module(wasm)
    validate_module(module)
    for function in range(module.imported_func_count, len(module.all_funcs)):
        validate_code(module, function, decode_code(module, function))
    memory = len(module.all_memories)
    if memory >= MAX_MEMORIES:
        raise LimitExceeded("there is no room for another memory")
    if any(export.name == EXPORT for export in module.exports):
        raise LimitExceeded(f"the module exports {EXPORT} already")
    counting: dict[int, list[tuple[int, bytes]]] = {}
    number = 0
    for number, (function, offset, _) in enumerate(_sites(module), start=1):
        counting.setdefault(function, []).append((offset, _count(memory, (number - 1) * _COUNTER_SIZE)))
    pages = -(-number * _COUNTER_SIZE // WASM_PAGE_SIZE)
    limits = b"\x01" + unsigned_leb128(pages) + unsigned_leb128(pages)
    name = EXPORT.encode()
    added = {
        _MEMORY_SECTION: limits,
        _EXPORT_SECTION: unsigned_leb128(len(name)) + name + b"\x02" + unsigned_leb128(memory),
    }
    out = bytearray(wasm[:_HEADER_SIZE])
    for section, contents in _sections(wasm, set(added)):
        if section == _CODE_SECTION:
            contents = _counting_bodies(module, counting)  # noqa: PLW2901
        elif section in added:
            contents = _appended(contents, added[section])  # noqa: PLW2901
        out += bytes([section]) + unsigned_leb128(len(contents)) + contents
    return bytes(out)


def _sections(wasm: bytes, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """All sections of a valid module, with empty ones of the wanted ones that it lacks, in order."""
    missing = set(wanted)
    position = _HEADER_SIZE
    while position < len(wasm):
        section = wasm[position]
        size, start = read_unsigned_leb128(wasm, position + 1)
        position = start + size
        if section:
            for one in _SECTION_ORDER[: _SECTION_ORDER.index(section)]:
                if one in missing:
                    yield one, b"\0"
                    missing.discard(one)
        missing.discard(section)
        yield section, wasm[start:position]
    for one in _SECTION_ORDER:
        if one in missing:
            yield one, b"\0"


def _appended(contents: bytes, entry: bytes) -> bytes:
    count, start = read_unsigned_leb128(contents, 0)
    return unsigned_leb128(count + 1) + contents[start:] + entry


def _counting_bodies(module: Module, counting: Mapping[int, list[tuple[int, bytes]]]) -> bytes:
    out = bytearray(unsigned_leb128(len(module.bodies)))
    for function, body in enumerate(module.bodies, start=module.imported_func_count):
        new = bytearray()
        done = 0
        for offset, code in counting[function]:
            new += body.body[done : offset - body.offset] + code
            done = offset - body.offset
        new += body.body[done:]
        out += unsigned_leb128(len(new)) + new
    return bytes(out)


def _count(memory: int, address: int) -> bytes:
    """Code that adds 1 to the u64 at an address."""

    def op(name: str) -> bytes:
        return bytes([BY_NAME[name].code])

    place = op("i32.const") + signed_leb128(address)
    memarg = (b"\x43" + unsigned_leb128(memory) if memory else b"\x03") + b"\0"
    added = op("i64.load") + memarg + op("i64.const") + b"\x01" + op("i64.add")
    return place + place + added + op("i64.store") + memarg
