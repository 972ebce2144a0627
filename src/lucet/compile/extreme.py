"""Functions that LLVM would take too long for: its passes take time that grows with the square of one thing or another.

No compiler's output comes near these limits, which are several times what the largest functions of CPython, SQLite,
QuickJS and a JavaScript engine's interpreter loop have. A function beyond one is compiled as it is written, at any
level: slower code, in time that grows with its size.
"""

from __future__ import annotations

from typing import Final

from lucet.wasm.module import Code
from lucet.wasm.opcodes import BY_NAME, OPS

MAX_INSTRS: Final = 200_000
MAX_LOCALS_BY_LABELS: Final = 4_000_000
"""Locals times the places where branches meet: where a value may need a phi."""
MAX_RUN: Final = 20_000
"""Instructions without a branch: each block is one graph to select instructions in, ..."""
MAX_ACCESSES: Final = 5_000
"""... in which the accesses of memory are one chain."""
MAX_TABLE_LABELS: Final = 20_000
"""Of all br_tables together: edges between blocks."""
MAX_LOOP_DEPTH: Final = 100

_LABELS: Final = frozenset(BY_NAME[name].code for name in ("loop", "if", "else", "end", "br_if"))
_BRANCHES: Final = _LABELS | {BY_NAME[name].code for name in ("br", "br_table", "return", "block")}
_OPENING: Final = frozenset(BY_NAME[name].code for name in ("block", "loop", "if"))
_LOOP: Final = BY_NAME["loop"].code
_END: Final = BY_NAME["end"].code
_BR_TABLE: Final = BY_NAME["br_table"].code
_ACCESSES: Final = frozenset(op.code for op in OPS.values() if op.immediates == "memarg")


def is_extreme(code: Code) -> bool:
    """Whether the function is beyond a limit."""
    if len(code.instrs) > MAX_INSTRS:
        return True
    labels = run = accesses = table_labels = loop_depth = 0
    opened: list[bool] = []
    for opcode, _, immediate in code.instrs:
        if opcode not in _BRANCHES:
            run += 1
            accesses += opcode in _ACCESSES
            if run > MAX_RUN or accesses > MAX_ACCESSES:
                return True
            continue
        run = accesses = 0
        labels += opcode in _LABELS
        if opcode in _OPENING:
            opened.append(opcode == _LOOP)
            loop_depth += opcode == _LOOP
            if loop_depth > MAX_LOOP_DEPTH:
                return True
        elif opcode == _END and opened:
            loop_depth -= opened.pop()
        elif opcode == _BR_TABLE:
            table_labels += len(immediate[0])
    return table_labels > MAX_TABLE_LABELS or labels * len(code.locals) > MAX_LOCALS_BY_LABELS
