"""Emits a second copy of a loop that loops.py found, for when a check on entry says that nothing in it can trap.

    check; if all rounds stay inside of the memories: the copy, with plain accesses; else: the loop as it is; behind it

The copy's accesses are at pointers that grow by the stride with a counter of rounds, both of 64 bits, which is what
LLVM's vectoriser understands best. Since no access of the copy can trap, nobody can see in which order they happen.
If the loop was unrolled, that is undone (reroll.py), and the last round has a copy of its own, as it is written.
If locals begin a round as what the one before has loaded, they are loaded again instead, from the second round on.
If groups are scratch, the last round has a copy, too, and the others keep what they would write there in values.
"""

from __future__ import annotations

from collections.abc import Mapping

from lucet.compile.handler import Handler
from lucet.compile.ir import LIKELY, Frame, FunctionWriter
from lucet.compile.loops import CheckedLoop, Group, Sum, signed
from lucet.compile.reroll import Node, Rerolled, is_leaf, leaf_sum, reloads, reroll
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.types import FuncType

_GET = {kind: BY_NAME[f"{kind}.get"].code for kind in ("local", "global")}
_LOCAL_SET = BY_NAME["local.set"].code
_LIMITS = {"_u": (0, (1 << 32) - 1), "_s": (-1 << 31, (1 << 31) - 1), "": (0, 0)}


def emit_checked(f: FunctionWriter, loop: CheckedLoop, handlers: Mapping[int, Handler], behind: str) -> None:
    """Emit the check and the copy, which goes on at the label `behind`; what follows is for the other case."""
    rerolled = reroll(loop, f.local_types)
    reloaded = reloads(loop, f.local_types) if rerolled is None else {}
    split = bool(loop.scratch) or rerolled is not None
    repeated, conditions = _repeated(f, loop, handlers)
    pointers = []
    ends = []
    for group in loop.groups:
        start = f"i64 {f.emit(f'zext {_value(f, group.start, handlers)} to i64')}"
        conditions.append(_fits(f, group, start, repeated))
        ends.append(_ends(f, group, start, repeated) if loop.scratch else ("", ""))
        # By way of an integer, so that to LLVM each group is an object of its own: it checks on entry that those do not
        # overlap. Of pointers into one object it would check each against each, and members of a group do overlap.
        base = f.emit(f"ptrtoint ptr {f.memory_base(group.memory)} to i64")
        pointers.append(f.emit(f"inttoptr i64 {f.emit(f'add {start}, {base}')} to ptr"))
    conditions += [
        _apart(f, ends[number], ends[other])
        for number in loop.scratch
        for other in range(len(ends))
        if loop.groups[other].memory == loop.groups[number].memory and (other not in loop.scratch or other < number)
    ]
    safe = conditions[0]
    for condition in conditions[1:]:
        safe = f.emit(f"and i1 {safe}, {condition}")
    if rerolled is not None:
        rounds = f.emit(f"mul nuw nsw i64 {repeated}, {rerolled.factor}")
    else:
        rounds = repeated if split else f.emit(f"add nuw nsw i64 {repeated}, 1")
    f.next += 1
    number = f.next
    counter = f.alloca(f"%rounds{number}", "i64")
    exit_ = f"last{number}" if split else behind
    f.out.append(f"  store i64 0, ptr {counter}\n  br i1 {safe}, label %l{number}, label %o{number}{LIKELY}")
    f.label(f"l{number}")
    if split:
        none = f.emit(f"icmp eq i64 {repeated}, 0")
        f.out.append(f"  br i1 {none}, label %{exit_}, label %r{number}")
        f.label(f"r{number}")
    if reloaded:
        _move(f, loop, "0", pointers, 1)
        _emit_copy(f, loop, handlers)
        f.out.append(f"  store i64 1, ptr {counter}")
        one = f.emit(f"icmp eq i64 {repeated}, 0")
        f.out.append(f"  br i1 {one}, label %{exit_}, label %r{number}")
        f.label(f"r{number}")
    round_ = f.emit(f"load i64, ptr {counter}")
    kept = [f"scratch {one}" if one in loop.scratch else pointer for one, pointer in enumerate(pointers)]
    _move(f, loop, round_, kept, rerolled.factor if rerolled is not None else 1)
    if rerolled is not None:
        _emit_part(f, rerolled, handlers)
    else:
        _reload(f, loop, reloaded, handlers)
        _emit_copy(f, loop, handlers)
    last = f.emit(f"load i64, ptr {counter}")
    after = f.emit(f"add nuw nsw i64 {last}, 1")
    f.out.append(f"  store i64 {after}, ptr {counter}")
    again = f.emit(f"icmp ne i64 {after}, {rounds}")
    f.out.append(f"  br i1 {again}, label %{'r' if split or reloaded else 'l'}{number}, label %{exit_}")
    if split:
        f.label(exit_)
        _move(f, loop, repeated, pointers, 1)
        _emit_copy(f, loop, handlers)
        f.out.append(f"  br label %{behind}")
    f.plain_pointers = {}
    f.label(f"o{number}")


def _move(f: FunctionWriter, loop: CheckedLoop, number: str, starts: list[str], factor: int) -> None:
    """Where the accesses are in a round; factor: how many rounds the loop's round was cut into."""
    moving = []
    for group, start in zip(loop.groups, starts, strict=True):
        if not group.stride:
            moving.append(start)
            continue
        flags = "nuw nsw" if group.stride >= 0 else "nsw"
        distance = f.emit(f"mul {flags} i64 {number}, {group.stride // factor}")
        moving.append(f.emit(f"getelementptr inbounds i8, ptr {start}, i64 {distance}"))
    f.plain_pointers = {offset: (moving[group], delta) for offset, (group, delta) in loop.accesses.items()}
    f.scratch = {}


def _reload(f: FunctionWriter, loop: CheckedLoop, reloaded: Mapping[int, int], handlers: Mapping[int, Handler]) -> None:
    """Load what the round before has loaded."""
    opcodes = {offset: opcode for opcode, offset, _ in loop.body}
    for index, offset in reloaded.items():
        pointer, distance = f.plain_pointers[offset]
        f.plain_pointers[offset] = pointer, distance - loop.groups[loop.accesses[offset][0]].stride
        f.stack.append("i32 0")
        handlers[opcodes[offset]](f, offset, (0, 0, 0))
        handlers[_LOCAL_SET](f, 0, index)
        f.plain_pointers[offset] = pointer, distance


def _emit_part(f: FunctionWriter, part: Rerolled, handlers: Mapping[int, Handler]) -> None:
    """One round of a loop whose unrolling was undone."""
    operands: dict[Node, str] = {}

    def operand(node: Node) -> str:
        if not is_leaf(node):
            return operands[node]
        total = leaf_sum(node)
        if total is not None:
            return _value(f, total, handlers)
        handlers[_GET["local"]](f, 0, node.immediate)
        return f.stack.pop()

    for node in part.nodes:
        # The address of an access is in plain_pointers.
        f.stack += [operand(one) if one in operands or is_leaf(one) else "i32 0" for one in node.inputs]
        height = len(f.stack) - len(node.inputs)
        handlers[node.opcode](f, node.offset, node.immediate)
        if len(f.stack) > height:
            operands[node] = f.stack.pop()
        if node in part.shared:
            f.bit_of = ""  # the i32 that a comparison was made into stays
    values = {index: operands[node] for index, node in part.carried.items()}
    values |= {index: _value(f, Sum(((("local", index), 1),), step), handlers) for index, step in part.steps.items()}
    for index, value in values.items():
        f.stack.append(value)
        handlers[_LOCAL_SET](f, 0, index)


def _emit_copy(f: FunctionWriter, loop: CheckedLoop, handlers: Mapping[int, Handler]) -> None:
    """One round, as it is written."""
    height = len(f.stack)
    outer = f.instrs
    f.instrs = iter(loop.body[:-1])
    f.enter_frame(Frame("loop", "", FuncType(), height, len(f.frames)))
    for opcode, offset, immediate in f.instrs:
        handlers[opcode](f, offset, immediate)
    f.leave_frame()
    f.instrs = outer
    del f.stack[height:]  # the condition, which the counter replaces


def _value(f: FunctionWriter, total: Sum, handlers: Mapping[int, Handler]) -> str:
    """The value that the sum has here, a typed i32."""
    result = ""
    for (kind, index), factor in total.terms:
        handlers[_GET[kind]](f, 0, index)
        term = f.stack.pop()
        if factor != 1:
            term = f"i32 {f.emit(f'mul {term}, {signed(factor)}')}"
        result = f"i32 {f.emit(f'add {result}, {term[4:]}')}" if result else term
    if not total.constant:
        return result or "i32 0"
    return f"i32 {f.emit(f'add {result}, {signed(total.constant)}')}" if result else f"i32 {signed(total.constant)}"


def _repeated(f: FunctionWriter, loop: CheckedLoop, handlers: Mapping[int, Handler]) -> tuple[str, list[str]]:
    """How often the loop is repeated (one less than its rounds), an i64; and conditions for that to be true."""
    first, bound = _value(f, loop.counter, handlers), _value(f, loop.bound, handlers)
    step = abs(loop.step)
    if loop.comparison == "ne":
        later, earlier = (bound, first) if loop.step > 0 else (first, bound)
        distance = f.emit(f"sub {later}, {earlier[4:]}")
        rest = f.emit(f"urem i32 {distance}, {step}")
        times = f.emit(f"udiv i32 {distance}, {step}")
        return f.emit(f"zext i32 {times} to i64"), [f.emit(f"icmp eq i32 {rest}, 0")]
    kind = loop.comparison[-2:]
    low, high = _LIMITS[kind]
    extension = "zext" if kind == "_u" else "sext"
    start, end = (f.emit(f"{extension} {operand} to i64") for operand in (first, bound))
    including = loop.comparison[1] == "e"
    later, earlier = (end, start) if loop.step > 0 else (start, end)
    distance = f.emit(f"sub i64 {later}, {earlier}")
    more = f.emit(f"icmp {'sge' if including else 'sgt'} i64 {distance}, 0")
    up = f.emit(f"add i64 {distance}, {step if including else step - 1}")
    times = f.emit(f"udiv i64 {up}, {step}")
    repeated = f.emit(f"select i1 {more}, i64 {times}, i64 0")
    # In the last round the counter is beyond the bound. There it must not have wrapped around.
    last = f.emit(f"add i64 {start}, {f.emit(f'mul i64 {repeated}, {loop.step}')}")
    return repeated, [f.emit(f"icmp {'sle' if loop.step > 0 else 'sge'} i64 {last}, {high if loop.step > 0 else low}")]


def _fits(f: FunctionWriter, group: Group, start: str, repeated: str) -> str:
    """All accesses of the group, in all rounds, are inside of the memory, and no address wraps around."""
    moved = f.emit(f"mul nsw i64 {repeated}, {group.stride}")
    last = f.emit(f"add nsw {start}, {moved}")
    size = f.memory_size(group.memory)
    if group.stride >= 0:
        return f.emit(f"icmp ule i64 {f.emit(f'add nsw i64 {last}, {group.reach}')}, {size}")
    not_below = f.emit(f"icmp sge i64 {last}, 0")
    inside = f.emit(f"icmp ule i64 {f.emit(f'add nsw {start}, {group.reach}')}, {size}")
    return f.emit(f"and i1 {not_below}, {inside}")


def _ends(f: FunctionWriter, group: Group, start: str, repeated: str) -> tuple[str, str]:
    """Where in the memory the accesses of all rounds begin and end, if the group fits: i64."""
    last = f.emit(f"add {start}, {f.emit(f'mul i64 {repeated}, {group.stride}')}")
    low, high = (start[4:], last) if group.stride >= 0 else (last, start[4:])
    return low, f.emit(f"add i64 {high}, {group.reach}")


def _apart(f: FunctionWriter, one: tuple[str, str], other: tuple[str, str]) -> str:
    below, above = f.emit(f"icmp ule i64 {one[1]}, {other[0]}"), f.emit(f"icmp ule i64 {other[1]}, {one[0]}")
    return f.emit(f"or i1 {below}, {above}")
