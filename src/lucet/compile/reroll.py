"""Undoes unrolling: a round of a loop that does the same k times becomes k rounds that each do it once.

Producers unroll loops that they cannot vectorise. Vectorised as they are, such loops need shuffles to take vectors
apart and put them together again. A round is followed as a graph of values. Its stores, in their order, and the locals
that it carries over are cut into k parts, and each part must be the first one with addresses and induction variables
that are further by a k-th of what a round adds. Loads may come at another time than before only where nothing is
stored in between. Locals that a round only leaves behind are not computed: the last round runs as it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lucet.compile.loops import CheckedLoop, Sum, Value, arithmetic, signed
from lucet.wasm.opcodes import BY_NAME, OPS

_FACTORS: Final = (16, 8, 4, 2)
_MAX_OTHERS: Final = 32
"""Locals that are assigned and no induction variables."""

_LOCAL_GET, _LOCAL_SET, _LOCAL_TEE = (BY_NAME[name].code for name in ("local.get", "local.set", "local.tee"))
_GLOBAL_GET, _DROP, _I32_CONST = (BY_NAME[name].code for name in ("global.get", "drop", "i32.const"))
_ARITHMETIC: Final = frozenset(BY_NAME[f"i32.{name}"].code for name in ("add", "sub", "mul", "shl"))
_SELECT: Final = BY_NAME["select"].code
_FAMILIES: Final = frozenset(("const", "test", "compare", "unary", "binary", "convert", "load", "store"))
_ARITY: Final = {
    **{op.code: len(op.pops) for op in OPS.values() if op.family in _FAMILIES and not op.irregular},
    _SELECT: 3,
}
_STORES: Final = frozenset(op.code for op in OPS.values() if op.family == "store")
_LOADS: Final = frozenset(op.code for op in OPS.values() if op.family == "load")
_WIDTHS: Final = {code: 1 << (OPS[code].align or 0) for code in _LOADS | _STORES}
_COMMUTATIVE: Final = frozenset(
    BY_NAME[f"{valtype}.{name}"].code for valtype in ("i32", "i64") for name in ("add", "mul", "and", "or", "xor")
)
_SERIAL: Final = frozenset(
    BY_NAME[f"{valtype}.{name}"].code
    for valtype in ("i32", "i64")
    for name in ("shl", "shr_u", "shr_s", "rotl", "rotr")
)
_LOCAL, _SUM = -1, -2


@dataclass(frozen=True, eq=False)
class Node:
    """A value of a round, or a store."""

    opcode: int
    """Or _LOCAL, what a local holds when the round begins, or _SUM."""
    offset: int
    immediate: Any
    """The local's index, the Sum, or the instruction's."""
    inputs: tuple[Node, ...] = ()
    position: int = -1
    """In the body; leaves come first."""


@dataclass(frozen=True, kw_only=True)
class Rerolled:
    """A k-th of a round."""

    factor: int
    nodes: Sequence[Node]
    """In the order in which they are computed; leaves are not among them."""
    shared: frozenset[Node]
    """Those with several uses."""
    carried: dict[int, Node]
    """Local -> its value at the end, of those that are no induction variables."""
    steps: dict[int, int]
    """Induction variable -> what is added to it."""


class _Unsuitable(Exception):
    pass


def is_leaf(node: Node) -> bool:
    return node.opcode in (_LOCAL, _SUM)


def leaf_sum(node: Node) -> Sum | None:
    """Of a leaf: the sum that it is; None: what the local `immediate` holds."""
    return node.immediate if node.opcode == _SUM else None


def reroll(loop: CheckedLoop, local_types: Sequence[str]) -> Rerolled | None:
    """local_types: as LLVM has them."""
    if loop.scratch:
        return None
    try:
        one = _Round(loop, local_types)
    except _Unsuitable:
        return None
    for factor in _FACTORS:
        try:
            return one.cut(factor)
        except _Unsuitable:
            continue
    return None


def is_serial(loop: CheckedLoop, local_types: Sequence[str]) -> bool:
    """Each round needs what the one before has computed, and does more with it than add: nothing can be vectorised."""
    try:
        return _Round(loop, local_types, classify=False).is_serial()
    except _Unsuitable:
        return False


def reloads(loop: CheckedLoop, local_types: Sequence[str]) -> dict[int, int]:
    """Local that begins a round as what the one before has loaded -> the load's offset, where it may be loaded again.

    The place is the load's, less what it moves by. To the vectoriser the local would be vectors that are shifted, of
    numbers as wide as the local.
    """
    if loop.scratch:
        return {}
    try:
        return _Round(loop, local_types, classify=False).reloads()
    except _Unsuitable:
        return {}


class _Round:
    """The graph of one round."""

    def __init__(self, loop: CheckedLoop, local_types: Sequence[str], *, classify: bool = True) -> None:
        self._loop = loop
        self._types = local_types
        self._locals: dict[int, Node] = {}
        self._stores: list[Node] = []
        self._loads: list[Node] = []
        self._follow()
        self._steps: dict[int, int] = {}
        if classify:
            self._classify()

    def _initial(self, index: int) -> Node:
        if self._types[index] == "i32":
            return Node(_SUM, 0, Sum(((("local", index), 1),), 0))
        return Node(_LOCAL, 0, index)

    def _follow(self) -> None:
        stack: list[Node] = []
        for position, (opcode, offset, immediate) in enumerate(self._loop.body[:-1]):
            if opcode == _LOCAL_GET:
                stack.append(self._locals.get(immediate) or self._initial(immediate))
            elif opcode in (_LOCAL_SET, _LOCAL_TEE):
                self._locals[immediate] = stack[-1]
                if opcode == _LOCAL_SET:
                    stack.pop()
            elif opcode == _DROP:
                stack.pop()
            elif opcode == _I32_CONST:
                stack.append(Node(_SUM, 0, Sum((), immediate & 0xFFFFFFFF)))
            elif opcode == _GLOBAL_GET:
                stack.append(Node(opcode, offset, immediate, (), position))
            elif opcode in _ARITY:
                count = _ARITY[opcode]
                inputs = tuple(stack[len(stack) - count :])
                del stack[len(stack) - count :]
                node = Node(opcode, offset, immediate, inputs, position)
                if opcode in _STORES:
                    self._stores.append(node)
                    continue
                if opcode in _LOADS:
                    self._loads.append(node)
                total: Value = None
                if opcode in _ARITHMETIC:
                    total = arithmetic(opcode, *(leaf_sum(one) for one in inputs))
                stack.append(node if not isinstance(total, Sum) else Node(_SUM, 0, total))
            else:
                raise _Unsuitable

    def _classify(self) -> None:
        """What each assigned local is: an induction variable, carried over in another way, or left behind only."""
        others = self._others()
        own = [index for index in others if index in self._begun_with([self._locals[index]])]
        carried = set(own)
        roots = [*self._stores, *(self._locals[index] for index in own)]
        while more := self._begun_with(roots) - carried:
            carried |= more
            roots += [self._locals[index] for index in more]
        self._roots = roots
        self._chains = {index: self._chain(index) for index in carried}

    def _others(self) -> list[int]:
        """Assigned locals that are no induction variables; those go to _steps."""
        others = []
        for index, node in self._locals.items():
            total = leaf_sum(node)
            if total is not None and total.terms == ((("local", index), 1),):
                self._steps[index] = signed(total.constant)
            else:
                others.append(index)
        if len(others) > _MAX_OTHERS:
            raise _Unsuitable
        return others

    def is_serial(self) -> bool:
        for index in self._others():
            needing: set[Node] = set()
            for node in sorted(self._reachable([self._locals[index]]), key=lambda node: node.position):
                if is_leaf(node):
                    needs = index in self._begun_with([node])
                else:
                    needs = not needing.isdisjoint(self._values(node))
                if needs:
                    needing.add(node)
                    if node.opcode in _SERIAL or (
                        node.opcode == _SUM and dict(node.immediate.terms)["local", index] != 1
                    ):
                        return True
        return False

    def reloads(self) -> dict[int, int]:
        others = self._others()
        used = self._begun_with([*self._stores, *(self._locals[index] for index in others)])
        found = {}
        for index in sorted(used):
            node = self._locals[index]
            if node.opcode in _LOADS and self._group(node)[0].stride:
                later = (store for store in self._stores if store.position > node.position)
                if all(self._are_apart(node, store) for store in later):
                    found[index] = node.offset
        return found

    def _begun_with(self, roots: Sequence[Node]) -> set[int]:
        """The locals, assigned but no induction variables, of which the roots need what they hold on entry."""
        found = set()
        for node in self._reachable(roots):
            if node.opcode == _LOCAL and node.immediate in self._locals:
                found.add(node.immediate)
            elif node.opcode == _SUM:
                places = node.immediate.terms
                found |= {index for (kind, index), _ in places if kind == "local" and self._is_other(index)}
        return found

    def _is_other(self, index: int) -> bool:
        return index in self._locals and index not in self._steps

    @staticmethod
    def _values(node: Node) -> tuple[Node, ...]:
        """The inputs that are no addresses."""
        if node.opcode in _LOADS:
            return ()
        return node.inputs[1:] if node.opcode in _STORES else node.inputs

    def _reachable(self, roots: Sequence[Node]) -> list[Node]:
        seen = dict.fromkeys(roots)
        todo = list(seen)
        while todo:
            for one in self._values(todo.pop()):
                if one not in seen:
                    seen[one] = None
                    todo.append(one)
        return list(seen)

    def _chain(self, index: int) -> list[Node]:
        """From the local's value to what it is at the end, each using the one before, and none used elsewhere."""
        if self._types[index] in ("float", "double"):
            raise _Unsuitable  # sums of those keep their order, and are not vectorised
        initial = self._initial(index)
        chain: list[Node] = []
        final = self._locals[index]
        nodes = self._reachable(self._roots)
        users: dict[Node, list[Node]] = {}
        for node in nodes:
            for one in self._values(node):
                users.setdefault(one, []).append(node)
        starts = [one for one in nodes if is_leaf(one) and index in self._begun_with([one])]
        if not all(self._is_initial(one, initial) for one in starts):
            raise _Unsuitable
        using = [user for start in starts for user in users.get(start, ())]
        while len(using) == 1:
            chain.append(using[0])
            if using[0] is final:
                # What its last value is used for in this round would be wrong.
                if users.get(final):
                    break
                return chain
            using = users.get(using[0], [])
        raise _Unsuitable

    @staticmethod
    def _is_initial(node: Node, initial: Node) -> bool:
        return node.opcode == initial.opcode and node.immediate == initial.immediate

    def cut(self, factor: int) -> Rerolled:
        groups = self._loop.groups
        if (
            len(self._stores) % factor
            or any(step % factor for step in self._steps.values())
            or any(group.stride % factor for group in groups)
            or any(len(chain) % factor for chain in self._chains.values())
            or not self._is_dense(factor)
        ):
            raise _Unsuitable
        if not self._roots:
            raise _Unsuitable
        count = len(self._stores) // factor
        first = self._stores[:count]
        carried = {index: chain[len(chain) // factor - 1] for index, chain in self._chains.items()}
        pairs: dict[tuple[Node, int], Node] = {}
        """(Node of the first part, number of another) -> the node there"""
        for part in range(1, factor):
            later = self._stores[part * count : (part + 1) * count]
            ends = [(node, self._chains[one][len(self._chains[one]) // factor * (part + 1) - 1])
                    for one, node in carried.items()]  # fmt: skip
            self._match([*zip(first, later, strict=True), *ends], part, factor, pairs, carried)
        nodes = [one for one in self._reachable([*first, *carried.values()]) if not is_leaf(one)]
        nodes.sort(key=lambda node: node.position)
        self._check_order(nodes, pairs, count)
        uses: dict[Node, int] = {}
        for node in nodes:
            for one in self._values(node):
                uses[one] = uses.get(one, 0) + 1
        for node in carried.values():
            uses[node] = uses.get(node, 0) + 1
        return Rerolled(
            factor=factor,
            nodes=nodes,
            shared=frozenset(node for node, times in uses.items() if times > 1),
            carried=carried,
            steps={index: step // factor for index, step in self._steps.items()},
        )

    def _is_dense(self, factor: int) -> bool:
        """The accesses of some group follow each other."""
        return any(
            abs(self._group(node)[0].stride) == factor * _WIDTHS[node.opcode] for node in (*self._loads, *self._stores)
        )

    def _group(self, node: Node) -> tuple[Any, int]:
        number, distance = self._loop.accesses[node.offset]
        return self._loop.groups[number], distance

    def _match(
        self,
        todo: list[tuple[Node, Node]],
        part: int,
        factor: int,
        pairs: dict[tuple[Node, int], Node],
        carried: dict[int, Node],
    ) -> None:
        """Each second node is what the first is in another part; or _Unsuitable."""
        before = {index: self._chains[index][len(self._chains[index]) // factor * part - 1] for index in carried}
        while todo:
            one, other = todo.pop()
            if is_leaf(one):
                if not self._is_later(one, other, part, factor, before):
                    raise _Unsuitable
                continue
            if (one, part) in pairs:
                if pairs[one, part] is not other:
                    raise _Unsuitable
                continue
            pairs[one, part] = other
            if one.opcode != other.opcode:
                raise _Unsuitable
            if one.opcode in _LOADS or one.opcode in _STORES:
                (group, distance), (other_group, other_distance) = self._group(one), self._group(other)
                if group is not other_group or other_distance - distance != part * (group.stride // factor):
                    raise _Unsuitable
            elif one.immediate != other.immediate:
                raise _Unsuitable
            mine, others = self._values(one), self._values(other)
            if one.opcode in _COMMUTATIVE and all(a.opcode != b.opcode for a, b in zip(mine, others, strict=True)):
                others = others[::-1]
            todo += zip(mine, others, strict=True)

    def _is_later(self, one: Node, other: Node, part: int, factor: int, before: dict[int, Node]) -> bool:
        """The leaf is the other one, in another part. before: what locals that are carried over hold there."""
        for index, node in before.items():
            if self._is_initial(one, self._initial(index)):
                return other is node
        if one.opcode == _SUM:
            return leaf_sum(other) == self._later(one.immediate, part, factor)
        return one.opcode == other.opcode and one.immediate == other.immediate

    def _later(self, total: Sum, part: int, factor: int) -> Sum:
        """What it is in another part."""
        constant = total.constant
        for (kind, index), count in total.terms:
            if kind == "local":
                constant += count * (self._steps.get(index, 0) // factor) * part
        return Sum(total.terms, constant & 0xFFFFFFFF)

    def _check_order(self, nodes: Sequence[Node], pairs: dict[tuple[Node, int], Node], count: int) -> None:
        """Where a load and a store change places, they are apart. (Stores keep their order.)"""
        loads = [node for node in nodes if node.opcode in _LOADS]
        parts = {part for _, part in pairs} | {0}
        if len(loads) * len(parts) * len(self._stores) > 100_000:
            raise _Unsuitable
        for load in loads:
            for part in parts:
                place = load if part == 0 else pairs[load, part]
                for number, store in enumerate(self._stores):
                    before = (part, load.position) < (number // count, self._stores[number % count].position)
                    if before != (place.position < store.position) and not self._are_apart(place, store):
                        raise _Unsuitable

    def _are_apart(self, one: Node, other: Node) -> bool:
        (group, distance), (other_group, other_distance) = self._group(one), self._group(other)
        return group is other_group and (
            distance + _WIDTHS[one.opcode] <= other_distance or other_distance + _WIDTHS[other.opcode] <= distance
        )
