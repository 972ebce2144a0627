"""Wide arithmetic: i64 pairs as one i128, for which LLVM adds with carry and multiplies in one instruction."""

from __future__ import annotations

from typing import Final

from lucet.compile.handler import Handler
from lucet.compile.ir import FunctionWriter


def _sum(instruction: str) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        right = _pop_pair(f)
        left = _pop_pair(f)
        _push_pair(f, f.emit(f"{instruction} i128 {left}, {right}"))

    return emit


def _product(extension: str) -> Handler:
    def emit(f: FunctionWriter, _: int, __: None) -> None:
        right = f.emit(f"{extension} {f.stack.pop()} to i128")
        left = f.emit(f"{extension} {f.stack.pop()} to i128")
        _push_pair(f, f.emit(f"mul i128 {left}, {right}"))

    return emit


def _pop_pair(f: FunctionWriter) -> str:
    """The low half is below the high one."""
    high = f.emit(f"zext {f.stack.pop()} to i128")
    low = f.emit(f"zext {f.stack.pop()} to i128")
    shifted = f.emit(f"shl i128 {high}, 64")
    return f.emit(f"or i128 {shifted}, {low}")


def _push_pair(f: FunctionWriter, value: str) -> None:
    f.stack.append(f"i64 {f.emit(f'trunc i128 {value} to i64')}")
    high = f.emit(f"lshr i128 {value}, 64")
    f.stack.append(f"i64 {f.emit(f'trunc i128 {high} to i64')}")


HANDLERS: Final[dict[str, Handler]] = {
    "i64.add128": _sum("add"),
    "i64.sub128": _sum("sub"),
    "i64.mul_wide_s": _product("sext"),
    "i64.mul_wide_u": _product("zext"),
}
