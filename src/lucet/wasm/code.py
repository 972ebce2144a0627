"""Decodes function bodies and constant expressions to lists of instructions ("Binary Format / Instructions").

decode_instrs is the hot loop of the front end: one-byte immediates are read in place, all else goes through the Reader.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any, Final

from lucet.errors import Invalid, LimitExceeded
from lucet.limits import MAX_BR_TABLE_SIZE, MAX_LOCALS
from lucet.wasm.module import Catch, Code, Instr, Module
from lucet.wasm.opcodes import BY_NAME, OPS, PREFIXES, UNSUPPORTED_OPS, UNSUPPORTED_PREFIXED, Op, prefixed_code
from lucet.wasm.reader import Reader
from lucet.wasm.types import CODES_BY_VALTYPE, FuncType, ValType, defaultable

# How the hot loop treats an opcode byte, most frequent first.
_INDEX: Final = 0
_NONE: Final = 1
_SIGNED: Final = 2
_MEMARG: Final = 3
_BLOCK: Final = 4
_END: Final = 5
_ELSE: Final = 6
_OTHER: Final = 7
_PREFIX: Final = 8
_ILLEGAL: Final = 9
_TRY_TABLE: Final = 10
_CLAUSE: Final = 11

_END_CODE: Final = BY_NAME["end"].code
_IF_CODE: Final = BY_NAME["if"].code
_ELSE_CODE: Final = BY_NAME["else"].code
_TRY_CODE, _CATCH_CODE, _DELEGATE_CODE = (BY_NAME[name].code for name in ("try", "catch", "delegate"))
_CLAUSE_FOLLOWS: Final = {
    _CATCH_CODE: (_TRY_CODE, _CATCH_CODE),
    BY_NAME["catch_all"].code: (_TRY_CODE, _CATCH_CODE),
    _DELEGATE_CODE: (_TRY_CODE,),
}
"""The first proposal's clauses, and what is open before them."""
_LAST_BYTE_CODE: Final = 0xFF
_LAST_NUMBER: Final = 0xFFF

_INDEX_IMMEDIATES: Final = frozenset(
    {"label", "func", "type", "local", "global", "table", "memory", "data", "elem", "tag"}
)

_EMPTY_BLOCK: Final = 0x40
_BLOCK_TYPES: Final = {
    _EMPTY_BLOCK: FuncType(),
    **{code: FuncType(results=(valtype,)) for valtype, code in CODES_BY_VALTYPE.items()},
}
"""The block types of one byte that are not a type index."""

_CATCH_REF: Final = 1
_CATCH_ALL: Final = 2

_MEMARG_MEMORY: Final = 0x40
_MEMARG_END: Final = 0x80


def decode_code(module: Module, func_index: int) -> Code:
    """The body of a defined function; func_index counts the imported ones, as everywhere."""
    body = module.bodies[func_index - module.imported_func_count]
    reader = Reader(body.body, base=body.offset, function=func_index, types=module.types)
    # Nothing has been validated yet: the type may not exist.
    type_index = module.all_funcs[func_index]
    params = module.types[type_index].params if type_index < len(module.types) else ()
    code = decode_body(reader, module.types, len(params), data_count_missing=module.data_count is None)
    if reader.remaining:
        raise reader.malformed("section size mismatch: the body goes on after its end")
    return code


def decode_body(
    reader: Reader, types: tuple[FuncType, ...], param_count: int, *, data_count_missing: bool = False
) -> Code:
    """Locals and expression. The parameters count against the limit of locals."""
    locals_, all_defaultable = _decode_locals(reader, param_count)
    instrs = decode_instrs(reader, types, data_count_missing=data_count_missing)
    return Code(locals=locals_, all_defaultable=all_defaultable, instrs=instrs)


def decode_instrs(reader: Reader, types: tuple[FuncType, ...], *, data_count_missing: bool = False) -> list[Instr]:
    """The instructions up to and with the `end` of the expression. The reader is then after it.

    data_count_missing: refuse the instructions that need a data count section.
    """
    data, pos, base = reader.data, reader.pos, reader.base
    instrs: list[Instr] = []
    append = instrs.append
    kinds = _KINDS
    open_blocks: list[int] = []
    try:
        while True:
            at = base + pos
            code = data[pos]
            kind = kinds[code]
            pos += 1
            if kind == _INDEX:
                index = data[pos]
                if index < 0x80:
                    pos += 1
                else:
                    reader.pos = pos
                    index = reader.u32()
                    pos = reader.pos
                append((code, at, index))
            elif kind == _NONE:
                append((code, at, None))
            elif kind == _SIGNED:
                value = data[pos]
                if value < 0x80:
                    pos += 1
                    append((code, at, value - 0x80 if value & 0x40 else value))
                else:
                    reader.pos = pos
                    append((code, at, _DECODERS[code](reader)))
                    pos = reader.pos
            elif kind == _MEMARG:
                align, offset = data[pos], data[pos + 1]
                if align < _MEMARG_MEMORY and offset < 0x80:
                    pos += 2
                    append((code, at, (align, offset, 0)))
                else:
                    reader.pos = pos
                    append((code, at, _memarg(reader)))
                    pos = reader.pos
            elif kind == _END:
                append((code, at, None))
                if not open_blocks:
                    reader.pos = pos
                    return instrs
                open_blocks.pop()
            elif kind == _BLOCK:
                open_blocks.append(code)
                block_type = _BLOCK_TYPES.get(data[pos])
                if block_type is not None:
                    pos += 1
                else:
                    reader.pos = pos
                    block_type = _indexed_block_type(reader, types)
                    pos = reader.pos
                append((code, at, block_type))
            elif kind == _OTHER:
                reader.pos = pos
                append((code, at, _DECODERS[code](reader)))
                pos = reader.pos
            elif kind == _ELSE:
                if not open_blocks or open_blocks[-1] != _IF_CODE:
                    raise reader.malformed("END opcode expected, not else", pos - 1)
                open_blocks[-1] = code
                append((code, at, None))
            elif kind == _CLAUSE:
                if not open_blocks or open_blocks[-1] not in _CLAUSE_FOLLOWS[code]:
                    raise reader.malformed(f"END opcode expected, not {OPS[code].name}", pos - 1)
                open_blocks.pop()
                if code != _DELEGATE_CODE:
                    open_blocks.append(code)
                reader.pos = pos
                append((code, at, _DECODERS[code](reader)))
                pos = reader.pos
            elif kind == _TRY_TABLE:
                open_blocks.append(code)
                reader.pos = pos
                append((code, at, _try_table(reader, types)))
                pos = reader.pos
            else:
                reader.pos = pos - 1
                op = _prefixed_op(reader)
                if data_count_missing and op.immediates in ("data", "data_memory"):
                    raise reader.malformed(f"data count section required by {op.name}", pos - 1)
                append((op.code, at, _DECODERS[op.code](reader)))
                pos = reader.pos
    except IndexError:
        raise reader.unexpected_end() from None


def _decode_locals(reader: Reader, param_count: int) -> tuple[tuple[ValType, ...], bool]:
    """The locals, and whether all of them have a default value."""
    start = reader.pos
    runs = []
    total = param_count
    for _ in range(reader.length()):
        count = reader.u32()
        runs.append((count, reader.valtype()))
        total += count
    if total >= 1 << 32:
        raise reader.malformed("too many locals", start)
    if total > MAX_LOCALS:
        message = f"too many locals: {total} with the parameters, the limit is {MAX_LOCALS}"
        raise LimitExceeded(message, offset=reader.base + start, function=reader.function)
    all_defaultable = all(defaultable(valtype) for count, valtype in runs if count)
    # Few copies: seven bytes can ask for all the locals of the limit, in every function of a module.
    if len(runs) == 1:
        count, valtype = runs[0]
        return (valtype,) * count, all_defaultable
    expanded: list[ValType] = []
    for count, valtype in runs:
        expanded.extend(repeat(valtype, count))
    return tuple(expanded), all_defaultable


def _prefixed_op(reader: Reader) -> Op:
    """The instruction at the reader, which is neither in the language nor known if it has no prefix."""
    start = reader.pos
    code = reader.byte()
    if code not in PREFIXES:
        if code in UNSUPPORTED_OPS:
            raise reader.unsupported(UNSUPPORTED_OPS[code], start)
        raise reader.malformed(f"illegal opcode {code:02x}", start)
    number = reader.u32()
    op = OPS.get(prefixed_code(code, number)) if number <= _LAST_NUMBER else None
    if op is None:
        if (code, number) in UNSUPPORTED_PREFIXED:
            raise reader.unsupported(UNSUPPORTED_PREFIXED[code, number], start)
        raise reader.malformed(f"illegal opcode {code:02x} {number:02x}", start)
    return op


def _indexed_block_type(reader: Reader, types: tuple[FuncType, ...]) -> FuncType:
    start = reader.pos
    if 0x40 <= reader.data[start] < 0x80:
        return FuncType(results=(reader.valtype(),))
    index = reader.s33()
    if index < 0:
        raise reader.malformed("integer representation too long", start)
    if index >= len(types):
        # An error of validation, found here because the instruction carries the type itself.
        raise Invalid(f"unknown type {index}", offset=reader.base + start, function=reader.function)
    return types[index].unrolled


def _try_table(reader: Reader, types: tuple[FuncType, ...]) -> tuple[FuncType, tuple[Catch, ...]]:
    block_type = _BLOCK_TYPES.get(reader.data[reader.pos])
    if block_type is None:
        block_type = _indexed_block_type(reader, types)
    else:
        reader.byte()
    return block_type, tuple([_catch(reader) for _ in range(reader.count(MAX_BR_TABLE_SIZE, "catch clauses"))])


def _catch(reader: Reader) -> Catch:
    start = reader.pos
    kind = reader.byte()
    if kind > _CATCH_ALL | _CATCH_REF:
        raise reader.malformed("malformed catch clause", start)
    tag = None if kind & _CATCH_ALL else reader.u32()
    return Catch(tag, bool(kind & _CATCH_REF), reader.u32())


def _zero(reader: Reader) -> None:
    if reader.byte() != 0:
        raise reader.malformed("zero byte expected", reader.pos - 1)


def _memarg(reader: Reader) -> tuple[int, int, int]:
    start = reader.pos
    align = reader.u32()
    if align >= _MEMARG_END:
        raise reader.malformed("malformed memop flags", start)
    memory = reader.u32() if align & _MEMARG_MEMORY else 0
    return align & ~_MEMARG_MEMORY, reader.u64(), memory


def _br_table(reader: Reader) -> tuple[tuple[int, ...], int]:
    u32 = reader.u32
    labels = tuple([u32() for _ in range(reader.count(MAX_BR_TABLE_SIZE, "br_table labels"))])
    return labels, u32()


def _valtypes(reader: Reader) -> tuple[ValType, ...]:
    return tuple([reader.valtype() for _ in range(reader.length())])


def _index_pair(reader: Reader) -> tuple[int, int]:
    return reader.u32(), reader.u32()


_IMMEDIATES: Final[dict[str, Callable[[Reader], Any]]] = {
    "": lambda reader: None,
    "memarg": _memarg,
    "zero": _zero,
    "br_table": _br_table,
    "i32": Reader.s32,
    "i64": Reader.s64,
    "f32": lambda reader: int.from_bytes(reader.take(4), "little"),
    "f64": lambda reader: int.from_bytes(reader.take(8), "little"),
    "v128": lambda reader: int.from_bytes(reader.take(16), "little"),
    "lane": Reader.byte,
    "lanes": lambda reader: tuple(reader.take(16)),
    "memarg_lane": lambda reader: (*_memarg(reader), reader.byte()),
    "reftype": Reader.heaptype,
    "valtypes": _valtypes,
    **dict.fromkeys(("type_table", "elem_table", "table_table", "data_memory", "memory_memory"), _index_pair),
    **dict.fromkeys(_INDEX_IMMEDIATES, Reader.u32),
}
"""What reads each kind of immediate, block types apart, which need the module's types."""

_DECODERS: Final = {
    op.code: _IMMEDIATES[op.immediates] for op in OPS.values() if op.immediates not in ("blocktype", "try_table")
}


def _kind(code: int) -> int:
    op = OPS.get(code)
    if op is None:
        return _PREFIX if code in PREFIXES else _ILLEGAL
    if code in (_END_CODE, _ELSE_CODE):
        return _END if code == _END_CODE else _ELSE
    if code in _CLAUSE_FOLLOWS:
        return _CLAUSE
    if op.immediates in _INDEX_IMMEDIATES:
        return _INDEX
    special = {"": _NONE, "i32": _SIGNED, "i64": _SIGNED, "memarg": _MEMARG}
    special |= {"blocktype": _BLOCK, "try_table": _TRY_TABLE}
    return special.get(op.immediates, _OTHER)


_KINDS: Final = [_kind(code) for code in range(_LAST_BYTE_CODE + 1)]
