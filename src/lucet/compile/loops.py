"""Finds loops whose every access of memory can be checked once, before the loop is entered.

Such a loop is innermost, is left at its end alone, and has no instruction that can trap or leave it but loads and
stores at addresses that grow by a constant in each round. With the number of rounds known on entry, so is all that it
will touch: if that is inside of the memory, nothing can trap, and emit_loop.py emits a copy that LLVM may vectorise.

Addresses are followed as sums: a constant, and multiples of what locals and globals hold when a round begins, all
modulo 2**32. A local that ends a round as its own beginning plus a constant is an induction variable.

A group of accesses that stays where it is, and that every round writes before it reads, is scratch: only the last
round need write there. Products of 128 bits go through such places (multi3.py), and a call for one is two stores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from lucet.wasm.module import Code, Instr, Module
from lucet.wasm.opcodes import BY_NAME, OPS
from lucet.wasm.types import I32, FuncType, ValType

MAX_BODY: Final = 500
"""Instructions. A longer loop gains little, and its copy costs the same again."""
MAX_STRIDE: Final = 1 << 24
_MAX_TERMS: Final = 4
_MASK: Final = 0xFFFFFFFF

Place = tuple[str, int]
"""("local" or "global", index)"""


@dataclass(frozen=True)
class Sum:
    """A value of 32 bits: terms of (place, factor), sorted, and a constant; numbers are modulo 2**32."""

    terms: tuple[tuple[Place, int], ...]
    constant: int

    def plus(self, other: Sum, factor: int = 1) -> Sum | None:
        terms = dict(self.terms)
        for place, count in other.terms:
            terms[place] = (terms.get(place, 0) + factor * count) & _MASK
        return _sum(terms, self.constant + factor * other.constant)

    def times(self, factor: int) -> Sum | None:
        return _sum({place: count * factor & _MASK for place, count in self.terms}, self.constant * factor)


def _sum(terms: dict[Place, int], constant: int) -> Sum | None:
    kept = tuple(sorted((place, count) for place, count in terms.items() if count))
    return Sum(kept, constant & _MASK) if len(kept) <= _MAX_TERMS else None


@dataclass(frozen=True)
class Comparison:
    """An i32 that is 1 if the comparison holds, else 0."""

    name: str
    """ne, lt_u ..., without the type"""
    left: Sum
    right: Sum


Value = Sum | Comparison | None
"""None: nothing is known."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Accesses whose addresses differ by constants."""

    memory: int
    start: Sum
    """The lowest address in the first round, before static offsets."""
    stride: int
    """Signed: how far the addresses move in each round."""
    reach: int
    """Bytes from the lowest address to the end of the highest access in one round."""


@dataclass(frozen=True, kw_only=True)
class CheckedLoop:
    """A loop that a check on entry makes safe."""

    body: Sequence[Instr]
    """From behind `loop` to the br_if that repeats it."""
    counter: Sum
    """Compared at the end of each round: its value in the first."""
    step: int
    """Signed: how it changes in each round."""
    comparison: str
    """The loop is repeated while counter <comparison> bound: ne, lt_u, le_u, gt_u, ge_u or the same with _s."""
    bound: Sum
    groups: tuple[Group, ...]
    accesses: dict[int, tuple[int, int]]
    """File offset of each load and store -> its group, and bytes from the group's start, with the static offset."""
    scratch: frozenset[int]
    """Groups that are scratch: all of it i64, if no other group's accesses are there."""


_BLOCK, _LOOP, _IF, _ELSE, _END, _BR_IF = (
    BY_NAME[name].code for name in ("block", "loop", "if", "else", "end", "br_if")
)
_LOCAL_GET, _LOCAL_SET, _LOCAL_TEE = (BY_NAME[name].code for name in ("local.get", "local.set", "local.tee"))
_CALL: Final = BY_NAME["call"].code
_I64_LOAD, _I64_STORE = BY_NAME["i64.load"].code, BY_NAME["i64.store"].code
_GLOBAL_GET: Final = BY_NAME["global.get"].code
_I32_CONST, _ADD, _SUB, _MUL, _SHL = (BY_NAME[f"i32.{name}"].code for name in ("const", "add", "sub", "mul", "shl"))
_EQZ: Final = BY_NAME["i32.eqz"].code
_COMPARISONS: Final = {
    BY_NAME[f"i32.{name}"].code: name for name in "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u".split()
}
_OPPOSITES: Final = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}
_MIRRORED: Final = {"eq": "eq", "ne": "ne", "lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}


def _mapped(names: dict[str, str], comparison: str) -> str:
    return names[comparison[:2]] + comparison[2:]


def _is_plain(name: str, family: str) -> bool:
    """It neither traps nor touches anything but its operands."""
    if family == "binary":
        return not name.startswith(("i32.div", "i32.rem", "i64.div", "i64.rem"))
    if family == "convert":
        return ".trunc_f" not in name
    return family in {"const", "test", "compare", "unary"}


_FEATURES: Final = frozenset(("mvp", "sign_extension", "saturating", "multi_value"))
_PLAIN: Final = {
    op.code: (len(op.pops), len(op.pushes))
    for op in OPS.values()
    if op.feature in _FEATURES and not op.irregular and _is_plain(op.name, op.family)
}
_DIVISIONS: Final = {
    BY_NAME[f"{valtype}.{name}"].code for valtype in ("i32", "i64") for name in ("div_s", "div_u", "rem_s", "rem_u")
}
_ACCESSES: Final = {
    op.code: (len(op.pops), 1 << op.align)
    for op in OPS.values()
    if op.family in {"load", "store"} and op.align is not None and op.feature == "mvp"
}
_STEPPED_OVER: Final = {BY_NAME["nop"].code}
_DROP, _SELECT = BY_NAME["drop"].code, BY_NAME["select"].code

Products = Callable[[int], int | None]
"""Tells of a function whether a call stores a product of 128 bits, at its first argument: in which memory."""


def find_loops(
    module: Module, functype: FuncType, code: Code, products: Products = lambda _: None
) -> dict[int, CheckedLoop]:
    """File offset of the `loop` -> what is known of it, for the loops of a valid function that can be checked so."""
    found = {}
    start = -1
    nested = 0
    instrs = code.instrs
    types = (*functype.params, *code.locals)
    for index, (opcode, _, immediate) in enumerate(instrs):
        if opcode == _LOOP:
            # Whatever was open before is not innermost.
            start, nested = (index, 0) if immediate == FuncType() else (-1, 0)
        elif start >= 0:
            if opcode in (_BLOCK, _IF):
                nested += 1
            elif opcode == _END:
                nested -= 1
                if nested < 0:
                    if index - start <= MAX_BODY and instrs[index - 1][0] == _BR_IF and instrs[index - 1][2] == 0:
                        loop = _Loop(module, types, instrs[start + 1 : index], products).examine()
                        if loop is not None:
                            found[instrs[start][1]] = loop
                    start = -1
    return found


class _Unsuitable(Exception):
    pass


@dataclass
class _Access:
    memory: int
    address: Sum
    static_offset: int
    width: int
    opcode: int
    nested: bool
    """It is not done in every round."""


class _Loop:
    """One round of a loop, by what is known of its values."""

    def __init__(self, module: Module, types: Sequence[ValType], body: Sequence[Instr], products: Products) -> None:
        self._module = module
        self._products = products
        self._types = types
        self._body = body
        self._assigned = _assigned(body)
        self._locals: dict[int, Value] = {}
        self._stack: list[Value] = []
        self._heights: list[tuple[int, FuncType, set[int]]] = []
        self._accesses: dict[int, _Access] = {}

    def examine(self) -> CheckedLoop | None:
        try:
            for position, (opcode, offset, immediate) in enumerate(self._body[:-1]):
                self._step(position, opcode, offset, immediate)
            if not self._accesses or self._heights:
                return None
            return self._result(self._stack[-1])
        except _Unsuitable:
            return None

    def _step(self, position: int, opcode: int, offset: int, immediate: Any) -> None:
        stack = self._stack
        if opcode == _LOCAL_GET:
            stack.append(self._local(immediate))
        elif opcode in (_LOCAL_SET, _LOCAL_TEE):
            self._locals[immediate] = stack[-1]
            if opcode == _LOCAL_SET:
                stack.pop()
        elif opcode == _I32_CONST:
            stack.append(Sum((), immediate & _MASK))
        elif opcode in (_ADD, _SUB, _MUL, _SHL):
            right, left = stack.pop(), stack.pop()
            stack.append(arithmetic(opcode, left, right))
        elif opcode in _COMPARISONS:
            right, left = stack.pop(), stack.pop()
            if isinstance(left, Sum) and isinstance(right, Sum):
                stack.append(Comparison(_COMPARISONS[opcode], left, right))
            else:
                stack.append(None)
        elif opcode == _EQZ:
            stack.append(_negated(stack.pop()))
        elif opcode in _PLAIN:
            pops, pushes = _PLAIN[opcode]
            del stack[len(stack) - pops :]
            stack += [None] * pushes
        elif opcode in _ACCESSES:
            pops, width = _ACCESSES[opcode]
            address = stack[-pops]
            del stack[-pops:]
            self._access(opcode, offset, immediate, address, width)
            if pops == 1:
                stack.append(None)
        elif opcode == _CALL:
            memory = self._products(immediate)
            if memory is None:
                raise _Unsuitable
            address = stack[-5]
            del stack[-5:]
            self._access(opcode, offset, (0, 0, memory), address, 16)
        else:
            self._structure(position, opcode, immediate)

    def _structure(self, position: int, opcode: int, immediate: Any) -> None:
        stack = self._stack
        if opcode == _GLOBAL_GET:
            # No instruction in here sets a global.
            is_i32 = self._module.all_globals[immediate].valtype == I32
            stack.append(Sum(((("global", immediate), 1),), 0) if is_i32 else None)
        elif opcode in (_BLOCK, _IF):
            if opcode == _IF:
                stack.pop()
            self._heights.append((len(stack) - len(immediate.params), immediate, _assigned(self._inside(position))))
        elif opcode in (_ELSE, _END):
            height, functype, assigned = self._heights[-1]
            del stack[height:]
            stack += [None] * len(functype.params if opcode == _ELSE else functype.results)
            self._locals |= dict.fromkeys(assigned)
            if opcode == _END:
                self._heights.pop()
        elif opcode == _BR_IF:
            if immediate >= len(self._heights):
                raise _Unsuitable
            stack.pop()
        elif opcode == _DROP:
            stack.pop()
        elif opcode == _SELECT:
            del stack[-3:]
            stack.append(None)
        elif opcode in _DIVISIONS:
            divisor = stack[-1]
            # By -1 it may overflow. An i64 divisor is not followed.
            if not isinstance(divisor, Sum) or divisor.terms or divisor.constant in (0, _MASK):
                raise _Unsuitable
            stack.pop()
            stack[-1] = None
        elif opcode not in _STEPPED_OVER:
            raise _Unsuitable

    def _inside(self, position: int) -> Sequence[Instr]:
        """The instructions of the block that begins at a position."""
        nested = 0
        for index in range(position, len(self._body)):
            opcode = self._body[index][0]
            nested += (opcode in (_BLOCK, _IF)) - (opcode == _END)
            if not nested:
                return self._body[position:index]
        raise _Unsuitable

    def _local(self, index: int) -> Value:
        if index in self._locals:
            return self._locals[index]
        return Sum(((("local", index), 1),), 0) if self._types[index] == I32 else None

    def _access(self, opcode: int, offset: int, memarg: tuple[int, int, int], address: Value, width: int) -> None:
        _, static_offset, memory = memarg
        # What other threads do to a shared memory must be seen.
        if not isinstance(address, Sum) or self._module.all_memories[memory].shared:
            raise _Unsuitable
        self._accesses[offset] = _Access(memory, address, static_offset, width, opcode, bool(self._heights))

    def _stride(self, value: Sum) -> int:
        """Signed: by how much the value grows from round to round."""
        stride = 0
        for (kind, index), factor in value.terms:
            if kind == "local" and index in self._assigned:
                end = self._locals.get(index)
                if not isinstance(end, Sum) or end.terms != ((("local", index), 1),):
                    raise _Unsuitable
                stride += factor * end.constant
        stride = signed(stride & _MASK)
        if not -MAX_STRIDE < stride < MAX_STRIDE:
            raise _Unsuitable
        return stride

    def _result(self, condition: Value) -> CheckedLoop | None:
        if isinstance(condition, Sum):
            condition = Comparison("ne", condition, Sum((), 0))
        if condition is None:
            return None
        name, left, right = condition.name, condition.left, condition.right
        step, bound_step = self._stride(left), self._stride(right)
        if step == 0:
            name, left, right, step, bound_step = _mapped(_MIRRORED, name), right, left, bound_step, step
        upwards = {"lt": True, "le": True, "gt": False, "ge": False}.get(name[:2])
        if step == 0 or bound_step != 0 or name == "eq" or (upwards is not None and upwards != (step > 0)):
            return None
        groups, accesses = self._groups()
        return CheckedLoop(
            body=self._body,
            counter=left,
            step=step,
            comparison=name,
            bound=right,
            groups=groups,
            accesses=accesses,
            scratch=frozenset(
                number
                for number, group in enumerate(groups)
                if not group.stride and self._is_scratch({at: of[1] for at, of in accesses.items() if of[0] == number})
            ),
        )

    def _groups(self) -> tuple[tuple[Group, ...], dict[int, tuple[int, int]]]:
        by_terms: dict[tuple[int, tuple[tuple[Place, int], ...]], list[int]] = {}
        for offset, access in self._accesses.items():
            by_terms.setdefault((access.memory, access.address.terms), []).append(offset)
        groups = []
        accesses = {}
        for number, ((memory, terms), offsets) in enumerate(by_terms.items()):
            constants = {offset: signed(self._accesses[offset].address.constant) for offset in offsets}
            lowest = min(constants.values())
            reach = 0
            for offset in offsets:
                access = self._accesses[offset]
                delta = constants[offset] - lowest + access.static_offset
                accesses[offset] = number, delta
                reach = max(reach, delta + access.width)
            start = Sum(terms, lowest & _MASK)
            groups.append(Group(memory=memory, start=start, stride=self._stride(start), reach=reach))
        return tuple(groups), accesses

    def _is_scratch(self, distances: dict[int, int]) -> bool:
        """Of a group, by offset -> distance from its start: every round stores each i64 before it loads it."""
        stored: set[int] = set()
        for offset, distance in distances.items():  # in the order of execution
            access = self._accesses[offset]
            if access.nested or access.opcode not in (_CALL, _I64_LOAD, _I64_STORE):
                return False
            if access.opcode != _I64_LOAD:
                stored.update(range(distance, distance + access.width, 8))
            elif distance not in stored:
                return False
        # Apart: no store changes a part of what another one stores.
        places = sorted(stored)
        return bool(places) and all(later - place >= 8 for place, later in pairwise(places))


def _assigned(instrs: Sequence[Instr]) -> set[int]:
    return {immediate for opcode, _, immediate in instrs if opcode in (_LOCAL_SET, _LOCAL_TEE)}


def signed(value: int) -> int:
    """A number modulo 2**32 as a signed one."""
    return (value ^ 1 << 31) - (1 << 31)


def arithmetic(opcode: int, left: Value, right: Value) -> Value:
    if not isinstance(left, Sum) or not isinstance(right, Sum):
        return None
    if opcode in (_ADD, _SUB):
        return left.plus(right, 1 if opcode == _ADD else -1)
    if opcode == _SHL:
        return None if right.terms else left.times(1 << (right.constant & 31))
    if left.terms and right.terms:
        return None
    return left.times(right.constant) if left.terms else right.times(left.constant)


def _negated(value: Value) -> Value:
    if isinstance(value, Sum):
        return Comparison("eq", value, Sum((), 0))
    return None if value is None else Comparison(_mapped(_OPPOSITES, value.name), value.left, value.right)
