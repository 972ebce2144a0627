"""A small writer of LLVM IR text: types and literals, one function body at a time, and whole modules.

Operands on the writer's stack are typed strings, "i32 %5", so that most instructions are one f-string. Values and
labels share one counter: LLVM accepts gaps in the numbers of values as long as they grow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final

from lucet.abi.tables import BUILTINS, TRAPS, VMCTX
from lucet.compile.effort import Effort
from lucet.compile.plan import Plan
from lucet.wasm.module import Instr, Module
from lucet.wasm.types import F32, F64, I32, I64, V128, FuncType, ValType, is_ref


class _LLVMTypes(dict[ValType, str]):
    """All references are pointers."""

    def __missing__(self, valtype: ValType) -> str:
        if is_ref(valtype):
            return "ptr"
        raise KeyError(valtype)


LLVM_TYPES: Final = _LLVMTypes({I32: "i32", I64: "i64", F32: "float", F64: "double", V128: "<2 x i64>"})
"""A v128 on the writer's stack may have any of the types in vector.py; in locals, slots and calls it has this one."""

MAX_DIRECT_RESULTS: Final = 2
"""More results than this are stored through a pointer that the caller passes behind vmctx. LLVM would do the like on
its own, but at a number that depends on the types, and a call that it does this for is no tail call any more."""

SLOT_SIZE: Final = 8

_INTEGER_REGISTERS: Final = 5
"""That arguments can be in, besides vmctx, in the x86-64 psABI and so in tailcc."""
_VECTOR_REGISTERS: Final = 8

_ADDRESS_SPACE: Final = 1 << 48
"""More bytes than any memory can have."""

# Metadata that every module has; functions' subprograms follow.
_UNIT, _FILE, _SUBROUTINE, _LIKELY, _INVARIANT, _DWARF, _DEBUG = range(7)
FIRST_SUBPROGRAM: Final = 8
LIKELY: Final = f", !prof !{_LIKELY}"
INVARIANT: Final = f", !invariant.load !{_INVARIANT}"
"""The word never changes while the instance exists."""

BODY_ATTRIBUTES: Final = "#0"
UNWINDING_ATTRIBUTES: Final = "#2"
"""Of functions through which exceptions pass."""
EXCEPTION: Final = "%exception"
"""The stack slot of a function with handlers that the exception being handled is in."""
PERSONALITY: Final = "lucet_personality"
"""What LLVM wants functions with landing pads to name. It does not exist: see compile/unwind.py."""
_THROWING: Final = frozenset({"hostcall", "throw", "throw_ref"})
"""Builtins out of which exceptions come."""
_TRAP_ATTRIBUTES: Final = "#1"
_ATTRIBUTES: Final = (
    # No frame is skipped over a guard page, no loop becomes a call of memset, and unwind tables are exact everywhere.
    # A line is relative to its function, so an inlined one would name the wrong place; producers have inlined already.
    'attributes #0 = { noinline nounwind uwtable "probe-stack"="inline-asm" "no-builtins" }\n'
    'attributes #2 = { noinline uwtable "probe-stack"="inline-asm" "no-builtins" }\n'
    # Merged traps would share one location in the .wasm.
    "attributes #1 = { nomerge noreturn nounwind }\n"
)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """How a function type looks in LLVM IR."""

    params: tuple[str, ...]
    results: tuple[str, ...]
    by_pointer: bool
    """Results are stored to slots behind the pointer %results, the parameter after vmctx."""
    returns: str
    """The LLVM return type."""
    slots: tuple[int, ...]
    """By_pointer: where each result stands, in bytes, and where the last one ends."""
    spilled: dict[int, int]
    """Parameters that tailcc has no register for -> offset in the instance's words for those: see emit_call.py."""
    spilled_size: int
    """Bytes of these words."""

    def parameters(self, *, spills: bool = False) -> str:
        """The parameter list of a definition or declaration. spills: without those that are in memory."""
        passed = enumerate(self.params)
        names = [f"{valtype} %p{index}" for index, valtype in passed if not spills or index not in self.spilled]
        return ", ".join(["ptr %vmctx", *(["ptr %results"] if self.by_pointer else []), *names])


@lru_cache(maxsize=4096)
def signature(functype: FuncType) -> Signature:
    results = tuple(LLVM_TYPES[valtype] for valtype in functype.results)
    by_pointer = len(results) > MAX_DIRECT_RESULTS
    if by_pointer or not results:
        returns = "void"
    else:
        returns = results[0] if len(results) == 1 else f"{{ {', '.join(results)} }}"
    params = tuple(LLVM_TYPES[valtype] for valtype in functype.params)
    spilled, spilled_size = _spilled(params, _INTEGER_REGISTERS - by_pointer)
    return Signature(
        params=params,
        spilled=spilled,
        spilled_size=spilled_size,
        results=results,
        by_pointer=by_pointer,
        returns=returns,
        slots=slot_offsets(functype.results),
    )


def slot_offsets(valtypes: Iterable[ValType]) -> tuple[int, ...]:
    """Byte offsets of values in slots, where a v128 has two, and behind them that of the end."""
    return tuple(accumulate((SLOT_SIZE * (2 if one == V128 else 1) for one in valtypes), initial=0))


def slot_alignment(llvm_type: str) -> str:
    """What an access of a value in a slot has to say: LLVM expects a vector at a multiple of 16."""
    return f", align {SLOT_SIZE}" if llvm_type[0] == "<" else ""


def _spilled(params: tuple[str, ...], integer_registers: int) -> tuple[dict[int, int], int]:
    registers = {"integer": integer_registers, "vector": _VECTOR_REGISTERS}
    spilled, size = {}, 0
    for index, llvm_type in enumerate(params):
        kind = "integer" if llvm_type[0] in "ip" else "vector"
        if registers[kind]:
            registers[kind] -= 1
        else:
            spilled[index] = size
            size += 2 * SLOT_SIZE if llvm_type[0] == "<" else SLOT_SIZE
    return spilled, size


def f32_literal(bits: int) -> str:
    """The value, typed. LLVM writes a float as the double it equals, which no signalling NaN does."""
    if bits & 0x7F800000 == 0x7F800000 and bits & 0x007FFFFF:
        return f"float bitcast (i32 {bits} to float)"
    (value,) = struct.unpack("<f", bits.to_bytes(4, "little"))
    return f"float 0x{struct.pack('>d', value).hex().upper()}"


def f64_literal(bits: int) -> str:
    return f"double 0x{bits:016X}"


_LITERALS: Final = {F32: f32_literal, F64: f64_literal}
FENCED_BITS: Final = {
    F32: frozenset({0, 0x80000000, 0x3F800000, 0xBF800000}),
    F64: frozenset({0, 1 << 63, 0x3FF << 52, 0xBFF << 52}),
}
"""0, -0, 1, -1: see FunctionWriter.opaque."""


class Frame:
    """A control frame: a block, loop, if, or the function itself."""

    __slots__ = (
        "alternative",
        "behind",
        "clause",
        "depth",
        "handler",
        "height",
        "kind",
        "label",
        "params",
        "reached",
        "results",
    )

    def __init__(self, kind: str, label: str, functype: FuncType, height: int, depth: int) -> None:
        self.kind = kind
        self.label = label
        self.params = functype.params
        self.results = functype.results
        self.height = height
        self.depth = depth
        self.reached = False
        """A branch goes to the label."""
        self.behind = ""
        """Of a loop with a copy: where both go on."""
        self.handler = 0
        """Number of the innermost try_table or try that catches what is thrown in the frame; 0 for none."""
        self.clause = ""
        """Of a `try`: the label from where what no clause so far has taken goes on; "" behind catch_all."""
        self.alternative: tuple[str, list[str]] | None = None
        """Of an `if` whose `else` has not come yet: label and parameters of the other arm."""


class FunctionWriter:
    """The text of one function while its instructions are translated."""

    __slots__ = (
        "allocas",
        "bit",
        "bit_of",
        "called",
        "checked_ends",
        "cold",
        "contents",
        "depth",
        "frames",
        "functype",
        "handler",
        "instrs",
        "last_load",
        "line_base",
        "loaded_vectors",
        "loads",
        "local_types",
        "module",
        "next",
        "out",
        "plain_pointers",
        "plan",
        "pointers",
        "prelude",
        "roots",
        "scope",
        "scratch",
        "stack",
        "tables",
        "values",
    )

    def __init__(self, module: Module, plan: Plan, functype: FuncType, *, wasm_offset: int = 0, scope: int = 0) -> None:
        self.module = module
        self.plan = plan
        self.functype = functype
        self.line_base = wasm_offset - 1
        self.scope = f", scope: !{scope})" if scope else ""
        self.next = 0
        self.out: list[str] = []
        self.cold: list[str] = []
        self.allocas: dict[str, str] = {}
        self.prelude: dict[str, str] = {}
        """Values computed once, on entry: name -> lines."""
        self.called: set[int] = set()
        self.tables: set[int] = set()
        """Static tables referred to."""
        self.stack: list[str] = []
        self.frames: list[Frame] = []
        self.handler = 0
        """The innermost frame's."""
        self.local_types: list[str] = []
        self.values: dict[int, str] = {}
        """Local -> its value, where that has been computed since the last label that several branches lead to."""
        self.pointers: dict[tuple[int, str], str] = {}
        """(memory, address operand) -> pointer to that byte, likewise."""
        self.checked_ends: dict[tuple[int, str], int] = {}
        """The same -> how many bytes from there on have been found to be in the memory, likewise: it never shrinks."""
        self.plain_pointers: dict[int, tuple[str, int]] = {}
        """In the copy of a loop that cannot trap: file offset of an access -> pointer, and bytes to add to it.
        "scratch" and a number in place of a pointer: nothing is there, what is stored is kept in .scratch."""
        self.scratch: dict[tuple[str, int], str] = {}
        """Such a place -> the i64 that this round has stored there."""
        self.contents: dict[tuple[int, str, int, str], tuple[str, str, int]] = {}
        """(memory, root, displacement, type) -> the value last stored there since the last label, call, or store at
        another root, with that store's address and static offset. See place()."""
        self.roots: dict[str, tuple[str, int]] = {}
        """Operand that is the sum of another and a constant -> those."""
        self.instrs: Iterator[Instr] = iter(())
        self.loads: dict[str, int] = {}
        """Operand that comes of a load of the heap -> the load's offset."""
        self.last_load: tuple[int, int, str, int, int] | None = None
        """Of the last load of the heap: its offset, memory, address operand, static offset and width."""
        self.loaded_vectors: set[str] = set()
        """v128 operands that are loads of the heap: no folding can make them constant."""
        self.bit_of = ""
        self.bit = ""
        """The i1 that the last comparison's i32 result, bit_of, was made of."""

    # What counting instructions adds is in compile/fuel.py; without it, nothing is to be done at these places.

    def enter_frame(self, frame: Frame) -> None:
        """A block, loop, if or try_table begins."""
        frame.handler = self.handler
        self.frames.append(frame)

    def leave_frame(self) -> None:
        """Behind it."""
        self.frames.pop()
        self.handler = self.frames[-1].handler if self.frames else 0

    def reach(self, frame: Frame, *, only: bool = False) -> None:
        """A branch to the frame's label is written here; only: nothing else can follow what came before."""
        frame.reached = True

    def begin_arm(self, frame: Frame | None) -> None:
        """What came before need not lead here: in `then`, in `else` (with the frame), behind br_if (without)."""

    def begin_continuation(self, frame: Frame) -> None:
        """At the label of a frame that is not a loop."""

    def begin_loop(self, offset: int) -> None:
        """At a loop's label."""

    def settle(self) -> None:
        """What comes next may leave the function, if only for a while."""

    def return_from(self) -> None:
        """A call that may have changed the instance has returned."""

    def begin_handler(self) -> None:
        """An exception has been caught: where it came from, everything was settled."""

    def begin_clause(self) -> None:
        """A clause of a `try` begins, at its label; the same."""

    def end_handler(self) -> None:
        """On with the code in front of begin_handler."""

    def charge(self, name: str, size: str, offset: int, result: str = "") -> None:
        """An instruction whose work depends on an operand, an i64; with result, only if that is not -1."""

    def leave_function(self) -> None:
        """A tail call is written here."""

    def fresh(self) -> str:
        self.next += 1
        return f"%{self.next}"

    def constant(self, valtype: ValType, bits: int) -> str:
        """A typed operand with these bits; references have no constants but null."""
        if valtype in _LITERALS:
            literal = _LITERALS[valtype](bits)
            return self.fence(literal) if bits in FENCED_BITS[valtype] else literal
        if valtype in (I32, I64):
            # Signed, as i32.const has it: whoever looks for a constant -1 must find it.
            sign = 1 << (int(valtype[1:]) - 1)
            return f"{valtype} {(bits ^ sign) - sign}"
        if valtype == V128:
            return f"<2 x i64> <i64 {bits & 0xFFFFFFFFFFFFFFFF}, i64 {bits >> 64}>"
        return "ptr null"

    def emit(self, instruction: str) -> str:
        """Append an instruction that has a result; returns the result's name."""
        self.next += 1
        name = f"%{self.next}"
        self.out.append(f"  {name} = {instruction}")
        return name

    def location(self, offset: int) -> str:
        """The suffix that makes an instruction's address lead to its offset in the .wasm."""
        return f", !dbg !DILocation(line: {offset - self.line_base}{self.scope}" if self.scope else ""

    def step(self, llvm_type: str, instruction: str, *sources: str) -> str:
        """Append an instruction of a sequence; returns its typed result. sources: its operands, see push."""
        self.next = number = self.next + 1
        result = f"{llvm_type} %{number}"
        offset = 0
        for source in sources:
            offset = max(offset, self.loads.get(source, 0))
        if offset:
            self.loads[result] = offset
            instruction += self.location(offset)
        self.out.append(f"  %{number} = {instruction}")
        return result

    def push(self, llvm_type: str, instruction: str, operand: str, other: str = "") -> None:
        """Append an instruction with one or two operands and push its result.

        LLVM may fold the load of an operand into it; the machine instruction has the location of this one then, so it
        must be the load's. Only the last load can be folded, because volatile accesses keep their order. Results
        inherit the offset, since LLVM also makes one instruction of several.
        """
        self.next = number = self.next + 1
        result = f"{llvm_type} %{number}"
        loads = self.loads
        if operand in loads or other in loads:
            loads[result] = offset = max(loads.get(operand, 0), loads.get(other, 0))
            instruction += self.location(offset)
        self.out.append(f"  %{number} = {instruction}")
        self.stack.append(result)

    def push_index(self, name: str, is_64: bool) -> None:
        """Push an i64 as an address, index or size."""
        self.stack.append(f"i64 {name}" if is_64 else f"i32 {self.emit(f'trunc i64 {name} to i32')}")

    def trap_unless(self, condition: str, trap: str, offset: int) -> None:
        self.next += 1
        number = self.next
        self.out.append(f"  br i1 {condition}, label %c{number}, label %t{number}{LIKELY}\nc{number}:")
        self.cold.append(f"t{number}:\n{self.trap_text(trap, offset)}")

    def trap_text(self, trap: str, offset: int) -> str:
        code = TRAPS[trap].code
        return f"  call void @llvm.ubsantrap(i8 {code}) {_TRAP_ATTRIBUTES}{self.location(offset)}\n  unreachable"

    def address(self, offset: int) -> str:
        """A pointer to the word at an offset from vmctx."""
        return self.emit(f"getelementptr i8, ptr %vmctx, i64 {offset}")

    def word(self, offset: int, llvm_type: str = "ptr") -> str:
        """An immutable word of the instance area."""
        return self.emit(f"load {llvm_type}, ptr {self.address(offset)}{INVARIANT}")

    def entry_word(self, name: str, offset: int) -> str:
        """The same, loaded once on entry."""
        self.prelude[name] = (
            f"  {name}.at = getelementptr i8, ptr %vmctx, i64 {offset}\n  {name} = load ptr, ptr {name}.at{INVARIANT}"
        )
        return name

    def memory_base(self, memory: int) -> str:
        offset = self.plan.memories[memory].offset
        return self.entry_word(f"%memory{memory}", offset) if offset else "%vmctx"

    def memory_size(self, memory: int) -> str:
        """The memory's current size in bytes, an i64; its word stands just below the memory, whoever owns it."""
        word = self.emit(f"getelementptr i8, ptr {self.memory_base(memory)}, i64 {VMCTX['MEMORY_SIZE']}")
        if self.plan.memories[memory].shared:
            return self.emit(f"load atomic i64, ptr {word} seq_cst, align 8")
        return self.emit(f"load i64, ptr {word}")

    def place(self, operand: str, static_offset: int) -> tuple[str, int]:
        """Root and displacement of an access: places of one root that differ by less than 2**32 are apart by that.

        The sum is modulo 2**32, so two accesses of the same displacement may have different addresses; but one of them
        is then outside of every memory and traps.
        """
        if operand[4] != "%":
            return "", (int(operand[4:]) + static_offset) & 0xFFFFFFFF
        root, displacement = self.roots.get(operand, (operand, 0))
        return root, (displacement + static_offset) & 0xFFFFFFFF

    def heap_address(self, memory: int, operand: str, static_offset: int, width: int, offset: int) -> str:
        """A pointer for an access of `width` bytes at an operand of the memory's address type."""
        self.contents = {}  # whoever asks may write there
        plan, end = self.plan.memories[memory], static_offset + width
        known = self.checked_ends.get((memory, operand), 0)
        if plan.checked or end > plan.guard:
            if end > known:
                self._check_end(memory, operand, end, offset)
                self.checked_ends[memory, operand] = end
        elif plan.is_64 and not known:
            # What begins in the memory ends in it, or in its guard.
            begins = self.emit(f"icmp ult {operand}, {self.memory_size(memory)}")
            self.trap_unless(begins, "OUT_OF_BOUNDS_MEMORY_ACCESS", offset)
            self.checked_ends[memory, operand] = 1
        if operand[4] != "%":
            mask = (1 << 64) - 1 if plan.is_64 else (1 << 32) - 1
            address = ((int(operand[4:]) & mask) + static_offset) & ((1 << 64) - 1)
            return self.emit(f"getelementptr i8, ptr {self.memory_base(memory)}, i64 {address}")
        pointer = self.pointers.get((memory, operand))
        if pointer is None:
            pointer = self.emit(f"getelementptr i8, ptr {self.memory_base(memory)}, {self.extend(operand)}")
            self.pointers[memory, operand] = pointer
        # A step of its own, so that it becomes the displacement of the access.
        return self.emit(f"getelementptr i8, ptr {pointer}, i64 {static_offset}") if static_offset else pointer

    def _check_end(self, memory: int, operand: str, size: int, offset: int) -> None:
        if not self.plan.memories[memory].is_64:
            end = self.emit(f"add {self.extend(operand)}, {size}")
            fits = self.emit(f"icmp ule i64 {end}, {self.memory_size(memory)}")
        elif size <= _ADDRESS_SPACE:
            # Neither side can overflow: room is the number of places where such an access may begin.
            present, plan = self.memory_size(memory), self.plan.memories[memory]
            if size <= plan.minimum << plan.page_size_log2:
                room = self.emit(f"sub nuw i64 {present}, {size - 1}")
            else:
                room = self.emit(f"call i64 @llvm.usub.sat.i64(i64 {present}, i64 {size - 1})")
            fits = self.emit(f"icmp ult {operand}, {room}")
        else:
            fits = "false"
        self.trap_unless(fits, "OUT_OF_BOUNDS_MEMORY_ACCESS", offset)

    def extend(self, operand: str) -> str:
        """An i32 operand as an i64, zero-extended; an i64 as it is."""
        if operand.startswith("i64"):
            return operand
        # The upper half of the register that held the i32 may be anything.
        if operand[4] != "%":
            return f"i64 {int(operand[4:]) & 0xFFFFFFFF}"
        return f"i64 {self.emit(f'zext {operand} to i64')}"

    def pop_extended(self, count: int) -> list[str]:
        """The integers on top as i64, zero-extended, in the order they were pushed."""
        operands = self.stack[-count:]
        del self.stack[-count:]
        return [self.extend(operand) for operand in operands]

    def condition(self) -> str:
        """Pop an i32 and return it as an i1: the one it was made of, where possible."""
        operand = self.stack.pop()
        if operand != self.bit_of:
            self.push("i1", f"icmp ne {operand}, 0", operand)
            return self.stack.pop()[3:]
        if self.out[-1].startswith(f"  {operand[4:]} = zext"):
            self.out.pop()
        return self.bit

    def push_bit(self, instruction: str, operand: str, other: str = "") -> None:
        """Append an instruction that gives an i1, and push the i32 that WebAssembly's comparisons give."""
        self.push("i1", instruction, operand, other)
        self.next += 1
        self.bit = f"%{self.next - 1}"
        self.bit_of = self.stack[-1] = f"i32 %{self.next}"
        self.out.append(f"  %{self.next} = zext i1 {self.bit} to i32")

    def builtin(self, name: str, arguments: Iterable[str], offset: int) -> str:
        """Call a runtime function; returns the result's name, "" if it has none."""
        builtin = BUILTINS[name]
        table = self.word(VMCTX["BUILTINS"])
        entry = self.emit(f"getelementptr i8, ptr {table}, i64 {builtin.index * SLOT_SIZE}")
        code = self.emit(f"load ptr, ptr {entry}{INVARIANT}")
        call = f"{builtin.result} {code}({', '.join(['ptr %vmctx', *arguments])})"
        self.settle()
        result = self.emit_call(call, self.location(offset), unwinds=name in _THROWING)
        self.return_from()
        return result

    def emit_call(self, call: str, location: str, *, convention: str = "", unwinds: bool = True) -> str:
        """Append a call, given from its result type on; returns the result's name, "" if it has none.

        Exceptions that come out of it go to the landing pad of the innermost try_table.
        """
        self.contents = {}
        result, head = "", "  "
        if not call.startswith("void "):
            result = self.fresh()
            head = f"  {result} = "
        if not self.handler or not unwinds:
            self.out.append(f"{head}notail call {convention}{call}{location}")
        else:
            self.next += 1
            text = (
                f"{head}invoke {convention}{call} to label %next{self.next} unwind label %pad{self.handler}{location}"
            )
            self.out.append(f"{text}\nnext{self.next}:")
        return result

    def label(self, name: str) -> None:
        """Begin a block that several branches may lead to: what was computed before may not have been."""
        self.out.append(f"{name}:")
        self.values.clear()
        self.pointers.clear()
        self.contents = {}
        self.checked_ends.clear()

    def opaque(self, operand: str) -> str:
        """The operand as others expect it: of its type in LLVM_TYPES, and fenced if it is a floating-point literal.

        LLVM folds x * 1, x / 1, x - 0 and so on to x, which is wrong for a signalling NaN. So that no such constant
        comes about, 0, -0, 1 and -1 are fenced where they occur, and other literals (0.5 + 0.5) unless they meet a
        value that is none in the next instruction.
        """
        if operand[0] == "<":
            if operand.startswith("<2 x i64>"):
                return operand
            return self.step("<2 x i64>", f"bitcast {operand} to <2 x i64>", operand)
        return self.fence(operand) if operand[0] in "fd" and "%" not in operand else operand

    def fence(self, operand: str) -> str:
        """The same value, of which LLVM's folds know nothing. No instruction comes of it."""
        llvm_type = operand[: operand.index(" ")]
        suffix = "f32" if llvm_type == "float" else "f64"
        return f"{llvm_type} {self.emit(f'call {llvm_type} @llvm.arithmetic.fence.{suffix}({operand})')}"

    def alloca(self, name: str, llvm_type: str) -> str:
        self.allocas[name] = f"  {name} = alloca {llvm_type}"
        return name

    def slot(self, frame: Frame, index: int, valtype: ValType) -> str:
        """Where a branch to the frame leaves one of its values; frames of the same depth share them."""
        llvm_type = LLVM_TYPES[valtype]
        kind = "v128" if llvm_type[0] == "<" else llvm_type
        return self.alloca(f"%s{frame.depth}.{index}.{kind}", llvm_type)

    def definition(self, name: str, *, convention: str = "") -> str:
        """The finished function."""
        sig = signature(self.functype)
        debug = f" !dbg {self.scope[9:-1]}" if self.scope else ""
        linkage = "weak hidden" if convention else "hidden"  # see emit_call.py
        attributes = UNWINDING_ATTRIBUTES if self.plan.exceptions else BODY_ATTRIBUTES
        if EXCEPTION in self.allocas:
            debug = f" personality ptr @{PERSONALITY}{debug}"
        parameters = sig.parameters(spills=bool(convention))
        if convention:
            self._load_spilled(sig)
        head = f"define {linkage} {convention}{sig.returns} @{name}({parameters}) {attributes}{debug} {{"
        return "\n".join([head, *self.allocas.values(), *self.prelude.values(), *self.out, *self.cold, "}\n"])

    def _load_spilled(self, sig: Signature) -> None:
        for index, offset in sig.spilled.items():
            self.prelude[f"%p{index}"] = (
                f"  %p{index}.at = getelementptr i8, ptr %vmctx, i64 {self.plan.spill_offset + offset}\n"
                f"  %p{index} = load {sig.params[index]}, ptr %p{index}.at, align {SLOT_SIZE}"
            )


@dataclass(frozen=True, kw_only=True)
class FunctionText:
    """A translated function, and what it needs declared."""

    definition: str
    symbol: str
    subprogram: str = ""
    """Its debug metadata node, "" if it has none."""
    effort: Effort = Effort.USUAL
    called: frozenset[int] = frozenset()
    tables: frozenset[int] = frozenset()


def subprogram_text(number: int, name: str) -> str:
    return (
        f'!{number} = distinct !DISubprogram(name: "{name}", scope: !{_FILE}, file: !{_FILE}, line: 1, '
        f"type: !{_SUBROUTINE}, spFlags: DISPFlagDefinition, unit: !{_UNIT})\n"
    )


def module_text(functions: Iterable[FunctionText], declarations: Iterable[str], *, optimise: bool = True) -> str:
    """A whole LLVM module; without optimise, no pass changes it, and instructions are selected one by one."""
    functions = list(functions)
    header = 'target triple = "x86_64-unknown-linux-gnu"\n'
    footer = (
        f"!llvm.dbg.cu = !{{!{_UNIT}}}\n!llvm.module.flags = !{{!{_DWARF}, !{_DEBUG}}}\n"
        f"!{_UNIT} = distinct !DICompileUnit(language: DW_LANG_C11, file: !{_FILE}, emissionKind: LineTablesOnly)\n"
        f'!{_FILE} = !DIFile(filename: "module.wasm", directory: "")\n'
        f"!{_SUBROUTINE} = !DISubroutineType(types: !{{}})\n"
        f'!{_LIKELY} = !{{!"branch_weights", i32 1048575, i32 1}}\n!{_INVARIANT} = !{{}}\n'
        f'!{_DWARF} = !{{i32 7, !"Dwarf Version", i32 4}}\n!{_DEBUG} = !{{i32 2, !"Debug Info Version", i32 3}}\n'
    )
    return "\n".join(
        [
            header,
            *(function.definition for function in functions),
            "\n".join(declarations),
            _ATTRIBUTES if optimise else _ATTRIBUTES.replace(" noinline ", " noinline optnone "),
            footer + "".join(function.subprogram for function in functions),
        ]
    )
