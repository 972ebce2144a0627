"""How much work a function is worth, as far as its code tells.

Without a profile nobody knows where a program spends its time, but large functions that mostly decide and call, with
little of them in loops, are where it does not. Sampled over SQLite, QuickJS, zstd, cmark and Lua, `is_control` holds
of 13 to 42 % of the code, and of 0 to 12 % of the time.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from lucet.wasm.module import Code
from lucet.wasm.opcodes import BY_NAME, OPS


class Effort(IntEnum):
    """What is to be done with a function."""

    NONE = 0
    """No pass may look at it: see extreme.py."""
    LITTLE = 1
    """It is hardly where the time goes."""
    USUAL = 2
    HARD = 3
    """It has loops that may be vectorised, or a profile names it."""


_LARGE: Final = 400
"""Instructions: a smaller function costs little to optimise, and may be called often."""
_LARGE_CALLING: Final = 200
_VERY_LARGE: Final = 1000
_PER_TRANSFER: Final = 20
"""Instructions for each branch or call at most. Unrolled arithmetic has fewer."""
_PER_CALL: Final = 30
_DISPATCH: Final = 16
"""Labels of a br_table in a loop from which on it may be an interpreter's."""

_OPENING: Final = frozenset(BY_NAME[name].code for name in ("block", "if", "try", "try_table"))
_LOOP: Final = BY_NAME["loop"].code
_ENDING: Final = frozenset(BY_NAME[name].code for name in ("end", "delegate"))
_BRANCHES: Final = frozenset(BY_NAME[name].code for name in ("if", "br", "br_if"))
_BR_TABLE: Final = BY_NAME["br_table"].code
_CALLS: Final = frozenset(BY_NAME[name].code for name in ("call", "call_indirect", "call_ref"))
_VECTORS: Final = frozenset(op.code for op in OPS.values() if op.feature in {"simd", "relaxed_simd"})
_COUNTED: Final = _OPENING | _ENDING | _BRANCHES | _CALLS | _VECTORS | {_LOOP, _BR_TABLE}


def has_vectors(code: Code) -> bool:
    """Then it gets no LITTLE work: in functions that passes leave alone, LLVM 22 fails an assertion on some blends."""
    return any(opcode in _VECTORS for opcode, _, _ in code.instrs)


def is_control(code: Code) -> bool:
    """Whether a function is large, has a branch or call every few instructions, little in loops, and no vectors."""
    size = len(code.instrs)
    if size <= _LARGE_CALLING:
        return False
    in_loops = in_tight_loops = branches = calls = 0
    dispatches = False
    loops: list[tuple[int, int]] = []
    """Where those that are open begin, and in_tight_loops there."""
    opened: list[bool] = []
    last_call = -1
    for position, (opcode, _, immediate) in enumerate(code.instrs):
        if opcode not in _COUNTED:
            continue
        if opcode in _CALLS:
            calls += 1
            last_call = position
        elif opcode == _LOOP:
            opened.append(True)
            loops.append((position, in_tight_loops))
        elif opcode in _ENDING:
            if opened and opened.pop():
                start, before = loops.pop()
                if not loops:
                    in_loops += position - start
                if last_call < start:
                    in_tight_loops = before + position - start
        elif opcode in _VECTORS:
            return False  # it computes
        else:
            branches += opcode in _BRANCHES or opcode == _BR_TABLE
            dispatches |= opcode == _BR_TABLE and bool(loops) and len(immediate[0]) >= _DISPATCH
            if opcode in _OPENING:
                opened.append(False)
    if calls * _PER_CALL > size and 10 * in_loops < 7 * size:
        return True
    if size <= _LARGE or (branches + calls) * _PER_TRANSFER <= size:
        return False
    return 2 * in_loops < size or (size > _VERY_LARGE and 5 * in_tight_loops < size and not dispatches)
