"""What the plan must know about all function bodies before any of them is decoded.

The parent process plans the module but leaves decoding and validating bodies to the workers. A few facts are needed
first: which tables and segments instructions touch, which functions ref.func names, whether there are tail calls. One
regular expression, built from the instruction table, steps over runs of all other instructions at the speed of the
`re` module.

A malformed body ends its own scan early; the worker that decodes it reports the error.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from lucet.wasm.leb128 import read_unsigned_leb128, unsigned_leb128
from lucet.wasm.module import Module
from lucet.wasm.opcodes import BY_NAME, OPS, Op, prefixed_code, split_code

_LEB: Final = rb"[\x80-\xff]*+[\x00-\x7f]"

_REFS: Final = b"cd"
"""First bytes of `(ref null ht)` and `(ref ht)`, which a heap type follows."""

# Bit 6 of the first number says that the index of a memory comes next.
_WITH_MEMORY: Final = rb"(?:[\x40-\x7f]|[\xc0-\xff]" + _LEB + rb")" + _LEB
_WITHOUT_MEMORY: Final = rb"(?:[\x00-\x3f]|[\x80-\xbf]" + _LEB + rb")"
_MEMARG: Final = rb"(?:" + _WITHOUT_MEMORY + rb"|" + _WITH_MEMORY + rb")" + _LEB

_IMMEDIATES: Final = {
    "": b"",
    "blocktype": b"(?:[" + _REFS + b"]" + _LEB + b"|" + _LEB + b")",
    "label": _LEB,
    "func": _LEB,
    "type": _LEB,
    "type_table": _LEB + _LEB,
    "local": _LEB,
    "global": _LEB,
    "table": _LEB,
    "memarg": _MEMARG,
    "memory": _LEB,
    "zero": rb"\x00",
    "memory_memory": _LEB + _LEB,
    "i32": _LEB,
    "i64": _LEB,
    "f32": rb".{4}",
    "f64": rb".{8}",
    "v128": rb".{16}",
    "lane": rb".",
    "lanes": rb".{16}",
    "memarg_lane": _MEMARG + rb".",
    "reftype": _LEB,
    "tag": _LEB,
}
"""Kind of immediate -> the bytes it takes. Kinds that are not here stop the run: they need a look."""

_WANTED: Final = frozenset(
    "throw throw_ref try catch catch_all rethrow delegate return_call return_call_indirect return_call_ref "
    "ref.func table.get table.set table.grow table.size table.fill".split()
)
"""Of those that could be stepped over, the ones that must not be."""


def _run_pattern() -> re.Pattern[bytes]:
    # What differs in one byte only is one alternative: few, because they are tried one after the other.
    groups: dict[tuple[bytes, bytes], list[bytes]] = defaultdict(list)
    for op in OPS.values():
        if op.immediates in _IMMEDIATES and op.name not in _WANTED:
            *prefix, byte = (opcode := _encode(op))[:2]
            groups[bytes(prefix), re.escape(opcode[2:]) + _IMMEDIATES[op.immediates]].append(re.escape(bytes([byte])))
    alternatives = [
        re.escape(prefix) + b"[" + b"".join(bytes_) + b"]" + tail for (prefix, tail), bytes_ in groups.items()
    ]
    # CPython before 3.11.5 may leave a round that fails in its immediates half consumed (python/cpython#106052); only a
    # malformed body has such a round. A plain * would remember every round.
    return re.compile(b"(?:" + b"|".join(alternatives) + b")*+", re.DOTALL)


def _encode(op: Op) -> bytes:
    """The shortest encoding; a longer one of a prefixed number just stops the run."""
    if op.code < 0x100:
        return bytes([op.code])
    prefix, number = split_code(op.code)
    return bytes([prefix]) + unsigned_leb128(number)


_RUN: Final = _run_pattern()
_TAILS: Final = {kind: re.compile(tail, re.DOTALL) for kind, tail in _IMMEDIATES.items()}
_BR_TABLE: Final = BY_NAME["br_table"].code
_SELECT_T: Final = BY_NAME["select_t"].code
_TRY_TABLE: Final = BY_NAME["try_table"].code
_CATCH_ALL: Final = 2


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What instructions in function bodies refer to, beyond what can be seen from the outside."""

    tail_calls: bool
    exceptions: bool = False
    """Some instruction throws or catches."""
    ref_funcs: frozenset[int] = frozenset()
    dynamic_tables: frozenset[int] = frozenset()
    """Tables that an instruction other than call_indirect and table.size touches."""
    elems: frozenset[int] = frozenset()
    datas: frozenset[int] = frozenset()


@dataclass
class _Seen:
    tail_calls: bool = False
    exceptions: bool = False
    sets: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))


_RECORD: Final[dict[str, tuple[str | None, ...]]] = {
    "ref.func": ("funcs",),
    "table.get": ("tables",),
    "table.set": ("tables",),
    "table.grow": ("tables",),
    "table.fill": ("tables",),
    "table.size": (None,),
    "table.copy": ("tables", "tables"),
    "table.init": ("elems", "tables"),
    "elem.drop": ("elems",),
    "memory.init": ("datas", None),
    "data.drop": ("datas",),
    "return_call": (None,),
    "return_call_indirect": (None, None),
    "return_call_ref": (None,),
}
"""Instruction -> where each of its immediates is recorded."""


def scan(module: Module) -> Facts:
    seen = _Seen()
    for body in module.bodies:
        try:
            _scan_body(body.body, seen)
        except IndexError:
            continue  # cut off inside an immediate
    return Facts(
        tail_calls=seen.tail_calls,
        exceptions=seen.exceptions,
        ref_funcs=frozenset(seen.sets["funcs"]),
        dynamic_tables=frozenset(seen.sets["tables"]),
        elems=frozenset(seen.sets["elems"]),
        datas=frozenset(seen.sets["datas"]),
    )


def _scan_body(body: bytes, seen: _Seen) -> None:
    groups, position = read_unsigned_leb128(body, 0)
    for _ in range(groups):
        position = _skip_valtype(body, read_unsigned_leb128(body, position)[1])
    match = _RUN.match(body, position)
    while match is not None and match.end() < len(body):
        position = _look(body, match.end(), seen)
        if position == 0:
            return
        match = _RUN.match(body, position)


def _look(body: bytes, position: int, seen: _Seen) -> int:
    """Record the instruction at position; returns where the next one begins, 0 if nobody knows."""
    code = body[position]
    position += 1
    if code not in OPS:
        number, position = read_unsigned_leb128(body, position)
        code = prefixed_code(code, number)
    if code in (_BR_TABLE, _SELECT_T):
        count, position = read_unsigned_leb128(body, position)
        for _ in range(min(count, len(body)) + (code == _BR_TABLE)):
            position = read_unsigned_leb128(body, position)[1] if code == _BR_TABLE else _skip_valtype(body, position)
        return position
    if code == _TRY_TABLE:
        seen.exceptions = True
        return _skip_catches(body, position)
    op = OPS.get(code)
    if op is None:
        return 0
    seen.tail_calls |= op.name.startswith("return_call")
    seen.exceptions |= op.feature in ("exceptions", "legacy_exceptions")
    if op.name not in _RECORD:
        skipped = _TAILS[op.immediates].match(body, position) if op.immediates in _TAILS else None
        return skipped.end() if skipped else 0
    for name in _RECORD[op.name]:
        value, position = read_unsigned_leb128(body, position)
        if name:
            seen.sets[name].add(value)
    return position


def _skip_valtype(body: bytes, position: int) -> int:
    return read_unsigned_leb128(body, position + 1)[1] if body[position] in _REFS else position + 1


def _skip_catches(body: bytes, position: int) -> int:
    """From the block type of a try_table to behind its clauses."""
    if body[position] in _REFS:
        position += 1
    position = read_unsigned_leb128(body, position)[1]
    count, position = read_unsigned_leb128(body, position)
    for _ in range(min(count, len(body))):
        kind = body[position]
        position += 1
        for _ in range(1 if kind & _CATCH_ALL else 2):
            position = read_unsigned_leb128(body, position)[1]
    return position
