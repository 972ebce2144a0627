"""What each instruction counts when instructions are counted: docs/fuel.md explains the figures."""

from __future__ import annotations

from typing import Final

from lucet.wasm.opcodes import OPS

_COSTS: Final[dict[str, int]] = {
    # Structure and the ways out of it: no work is done, or the caller has paid for it.
    "block": 0,
    "loop": 0,
    "else": 0,
    "end": 0,
    "nop": 0,
    "drop": 0,
    "unreachable": 0,
    "return": 0,
}
"""By name; every other instruction counts 1."""

COSTS: Final[dict[int, int]] = {op.code: _COSTS.get(op.name, 1) for op in OPS.values()}
"""By opcode."""

BULK: Final[dict[str, int]] = {
    "memory.copy": 8,
    "memory.fill": 8,
    "memory.init": 8,
    "table.copy": 1,
    "table.fill": 1,
    "table.init": 1,
    "table.grow": 1,
}
"""Instructions that count 1 more for every so many bytes, or table elements, of their size operand."""
