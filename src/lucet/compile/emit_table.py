"""Table instructions. All tables here are dynamic, but for table.size: the plan sees to that."""

from __future__ import annotations

from typing import Final

from lucet.abi.tables import STRUCTS
from lucet.compile.handler import Handler
from lucet.compile.ir import FunctionWriter

_ENTRIES: Final = STRUCTS["table_head"].fields["entries"].offset
_LENGTH: Final = STRUCTS["table_head"].fields["length"].offset


def table_length(f: FunctionWriter, table: int) -> str:
    """The table's current length, an i64."""
    pointer = f.emit(f"getelementptr i8, ptr {_head(f, table)}, i64 {_LENGTH}")
    return f.emit(f"load i64, ptr {pointer}")


def table_entry(f: FunctionWriter, table: int, operand: str, trap: str, offset: int) -> str:
    """A pointer to the entry at an operand of the table's index type, or the trap."""
    index = f.extend(operand)
    f.trap_unless(f.emit(f"icmp ult {index}, {table_length(f, table)}"), trap, offset)
    pointer = f.emit(f"getelementptr i8, ptr {_head(f, table)}, i64 {_ENTRIES}")
    entries = f.emit(f"load ptr, ptr {pointer}")
    return f.emit(f"getelementptr ptr, ptr {entries}, {index}")


def _head(f: FunctionWriter, table: int) -> str:
    return f.entry_word(f"%table{table}", f.plan.tables[table].offset)


def _table_get(f: FunctionWriter, offset: int, table: int) -> None:
    entry = table_entry(f, table, f.stack.pop(), "OUT_OF_BOUNDS_TABLE_ACCESS", offset)
    f.stack.append(f"ptr {f.emit(f'load ptr, ptr {entry}')}")


def _table_set(f: FunctionWriter, offset: int, table: int) -> None:
    value = f.stack.pop()
    entry = table_entry(f, table, f.stack.pop(), "OUT_OF_BOUNDS_TABLE_ACCESS", offset)
    # Volatile: the table may belong to others, who see it after a trap.
    f.out.append(f"  store volatile {value}, ptr {entry}")


def _table_size(f: FunctionWriter, _: int, table: int) -> None:
    one = f.plan.tables[table]
    if one.entries is not None:
        f.stack.append(f"{'i64' if one.is_64 else 'i32'} {one.minimum}")
    else:
        f.push_index(table_length(f, table), one.is_64)


def _table_grow(f: FunctionWriter, offset: int, table: int) -> None:
    delta = f.extend(f.stack.pop())
    value = f.stack.pop()
    length = f.builtin("table_grow", (f"i32 {table}", delta, value), offset)
    f.charge("table.grow", delta, offset, length)
    f.push_index(length, f.plan.tables[table].is_64)


def _table_fill(f: FunctionWriter, offset: int, table: int) -> None:
    count = f.extend(f.stack.pop())
    value = f.stack.pop()
    f.charge("table.fill", count, offset)
    f.builtin("table_fill", (f"i32 {table}", f.extend(f.stack.pop()), value, count), offset)


def _table_copy(f: FunctionWriter, offset: int, tables: tuple[int, int]) -> None:
    target, source = tables
    operands = f.pop_extended(3)
    f.charge("table.copy", operands[2], offset)
    f.builtin("table_copy", (f"i32 {target}", f"i32 {source}", *operands), offset)


def _table_init(f: FunctionWriter, offset: int, immediate: tuple[int, int]) -> None:
    elem, table = immediate
    operands = f.pop_extended(3)
    f.charge("table.init", operands[2], offset)
    f.builtin("table_init", (f"i32 {table}", f"i32 {elem}", *operands), offset)


def _elem_drop(f: FunctionWriter, _: int, elem: int) -> None:
    f.out.append(f"  store i64 0, ptr {f.address(f.plan.elems[elem].offset)}")


HANDLERS: Final[dict[str, Handler]] = {
    "table.get": _table_get,
    "table.set": _table_set,
    "table.size": _table_size,
    "table.grow": _table_grow,
    "table.fill": _table_fill,
    "table.copy": _table_copy,
    "table.init": _table_init,
    "elem.drop": _elem_drop,
}
