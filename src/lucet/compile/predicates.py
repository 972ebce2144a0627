"""What LLVM calls the comparisons, of scalars and of lanes."""

from __future__ import annotations

from typing import Final

INT_PREDICATES: Final = {
    "eq": "eq",
    "ne": "ne",
    "lt_s": "slt",
    "lt_u": "ult",
    "gt_s": "sgt",
    "gt_u": "ugt",
    "le_s": "sle",
    "le_u": "ule",
    "ge_s": "sge",
    "ge_u": "uge",
}
FLOAT_PREDICATES: Final = {"eq": "oeq", "ne": "une", "lt": "olt", "gt": "ogt", "le": "ole", "ge": "oge"}
"""False for a NaN, but for ne."""
