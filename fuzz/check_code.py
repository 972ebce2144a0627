"""Checks the machine code of artifacts: `python -m fuzz.check_code prog.so ...` (needs the PyPI package capstone).

For every instruction of a guest function that touches memory, it is shown that the address is one of

* the stack pointer and a number;
* a constant of the artifact (relative to the instruction), with a bounded index;
* vmctx and a negative number: a word of the instance;
* vmctx and a number below the 4 GiB of a memory and its guard, or the sum of such a number and others that are known to
  be less than 2**32, such as what a 32-bit instruction left in a register;
* a pointer that was loaded from a word of the instance that holds one, or through such a pointer, and a small number;

or else the instruction is reported. This follows registers and stack slots through the function's control flow, as
intervals of 64-bit numbers on top of what they are relative to. Arguments and results of calls are anything at all: so
an i32 whose upper half nobody cleared is found when it is used as an address.

What is not shown here: indices that code has compared with a bound (tables, 64-bit memories, explicit bounds, copies of
loops), that pointers loaded from the instance are right, and that nothing else overwrites spilled values.
"""

from __future__ import annotations

import argparse
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import capstone
from capstone import x86_const as x86

from lucet.abi.artifact_reader import ArtifactInfo, read_artifact
from lucet.abi.tables import CONSTANTS
from lucet.limits import MEMORY_GUARD_SIZE

_4_GIB: Final = 1 << 32
_NUMERIC: Final = frozenset((0x7F, 0x7E, 0x7D, 0x7C, 0x7B))
_SMALL: Final = 1 << 16
_AREA: Final = 1 << 20
"""Bytes that an instance may have below vmctx."""


@dataclass(frozen=True)
class Value:
    """What a 64-bit register holds: something between low and high on top of the base."""

    base: str
    """number, vmctx, stack, constant (of the artifact), pointer."""
    low: int
    high: int


ANYTHING: Final = Value("number", 0, (1 << 64) - 1)
WORD: Final = Value("number", 0, _4_GIB - 1)
POINTER: Final = Value("pointer", 0, 0)


def plus(left: Value, right: Value) -> Value:
    if left.base != "number" and right.base != "number":
        return ANYTHING
    base = left.base if right.base == "number" else right.base
    low, high = left.low + right.low, left.high + right.high
    return Value(base, low, high) if low > -(1 << 62) and high < 1 << 62 else ANYTHING


def times(value: Value, factor: int) -> Value:
    if factor == 1:
        return value
    if value.base != "number" or value.high * factor >= 1 << 62:
        return ANYTHING
    return Value("number", value.low * factor, value.high * factor)


def joined(left: Value, right: Value) -> Value:
    if left == right:
        return left
    if left.base != right.base:
        return ANYTHING
    low, high = min(left.low, right.low), max(left.high, right.high)
    # In few steps, so that loops come to an end.
    if low < 0 and low != left.low:
        low = next((bound for bound in (-(1 << 31),) if bound <= low), -(1 << 62))
    if high != left.high:
        high = next((bound - 1 for bound in (1 << 8, 1 << 16, 1 << 31, 1 << 32) if bound > high), 1 << 62)
    value = Value(left.base, min(low, 0) if low != left.low else low, high)
    return ANYTHING if value.high >= 1 << 62 or value.low <= -(1 << 62) else value


State = dict[Any, Value]
"""By register (the names of all 64 bits), and by stack slot: its distance from the stack pointer on entry, with "half"
if it has four bytes. With "low": the lower half of a register."""


def _is_slot(key: Any) -> bool:
    return isinstance(key, int) or key[0] == "half"


_FULL: Final = {
    **{
        name: full
        for letter in "abcd"
        for full in (f"r{letter}x",)
        for name in (full, f"e{letter}x", f"{letter}x", f"{letter}l", f"{letter}h")
    },
    **{name: f"r{word}" for word in ("si", "di", "bp", "sp") for name in (f"r{word}", f"e{word}", word, f"{word}l")},
    **{f"r{number}{suffix}": f"r{number}" for number in range(8, 16) for suffix in ("", "d", "w", "b")},
}
_PRESERVED: Final = ("rbx", "rbp", "rsp", "r12", "r13", "r14", "r15")


_CONDITIONS: Final[dict[str, tuple[int | None, int | None]]] = {
    "jb": (-1, None),
    "jbe": (0, None),
    "ja": (None, 0),
    "jae": (None, -1),
    "je": (0, None),
    "jne": (None, 0),
}
"""Conditional jump -> what the compared number is at most, less what it is compared with: where it leads; behind."""


@dataclass
class Report:
    accesses: Counter[str] = field(default_factory=Counter)
    """How many of each form; "not shown" is the rest."""
    not_shown: list[str] = field(default_factory=list)


class Checker:
    def __init__(self, data: bytes) -> None:
        self.info: ArtifactInfo = read_artifact(data)
        self.disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.disassembler.detail = True
        self.report = Report()
        guards = [row["guard"] for row in self.info.memories if not row["offset"]]
        self.reach = _4_GIB + min(guards, default=MEMORY_GUARD_SIZE)
        indirect = CONSTANTS["LUCET_FLAG_INDIRECT"]
        self.numbers = [row["offset"] for row in self.info.globals if not row["flags"] & indirect]
        self.bodies = sorted(self.info.body(index)[0] for index in range(len(self.info.functions)))

    def check(self) -> Report:
        for index, row in enumerate(self.info.functions):
            if row["wasm_offset"]:
                _Function(self, index).check()
        return self.report


class _Function:
    def __init__(self, checker: Checker, index: int) -> None:
        self.checker = checker
        self.name = checker.info.functions[index]["name"] or f"function {index}"
        self.index = index
        self.start, self.end = checker.info.body(index)
        code = bytes(checker.info.span(self.start, self.end - self.start))
        self.code = list(checker.disassembler.disasm(code, self.start))
        self.at = {one.address: number for number, one in enumerate(self.code)}
        self.successors: list[list[int]] = [[] for _ in self.code]
        self.states: list[State | None] = [None] * len(self.code)
        self.pads: list[int] = []

    def check(self) -> None:
        self._find_successors()
        _, results = self.checker.info.valtypes(self.checker.info.functions[self.index]["type"])
        entry: State = {"rdi": Value("vmctx", 0, 0), "rsp": Value("stack", 0, 0)}
        if len(results) > 2:
            entry["rsi"] = POINTER
        self.states[0] = entry
        work = [0]
        while work:
            number = work.pop()
            state = self.states[number]
            assert state is not None
            after = self._after(number, dict(state))
            compared = self._compared(number)
            for successor in self.successors[number]:
                there = after
                if compared is not None:
                    there = self._narrowed(number, compared, after, jumps=successor != number + 1)
                if self._join(successor, there):
                    work.append(successor)
        for number, state in enumerate(self.states):
            if state is not None:
                self._look_at(number, state)

    def _find_successors(self) -> None:
        reached = {0}
        indirect = []
        for number, one in enumerate(self.code):
            following = [number + 1] if number + 1 < len(self.code) else []
            if one.group(x86.X86_GRP_JUMP):
                operand = one.operands[0]
                targets = [self.at[operand.imm]] if operand.type == x86.X86_OP_IMM and operand.imm in self.at else []
                if operand.type != x86.X86_OP_IMM:
                    indirect.append(number)
                self.successors[number] = targets + (following if one.mnemonic != "jmp" else [])
            elif one.group(x86.X86_GRP_RET) or one.mnemonic in ("ud1", "ud2", "int3"):
                pass
            else:
                self.successors[number] = following
            reached.update(self.successors[number])
        targets = sorted(self._jump_targets())
        for number in indirect:
            self.successors[number] = targets
        reached.update(targets)
        # What nothing leads to is where exceptions are caught, if it is not padding.
        self.pads = [
            number
            for number, one in enumerate(self.code)
            if number not in reached and one.mnemonic not in ("nop", "int3", "ud2") and self._begins(number)
        ]
        if self.pads and any(one["type"] is not None for one in self.checker.info.tags):
            for number, one in enumerate(self.code):
                if one.group(x86.X86_GRP_CALL):
                    self.successors[number] += self.pads

    def _begins(self, number: int) -> bool:
        before = self.code[number - 1]
        return before.mnemonic in ("jmp", "ret", "ud1", "ud2", "int3", "nop")

    def _jump_targets(self) -> Iterator[int]:
        """Of all jump tables that the function has the address of: numbers relative to the table."""
        for one in self.code:
            if one.mnemonic != "lea" or one.operands[1].mem.base != x86.X86_REG_RIP:
                continue
            table = at = one.address + one.size + one.operands[1].mem.disp
            while at + 4 <= len(self.checker.info.loaded):
                (distance,) = struct.unpack_from("<i", self.checker.info.loaded, at)
                if table + distance not in self.at or not distance:
                    break
                yield self.at[table + distance]
                at += 4

    def _join(self, number: int, after: State) -> bool:
        before = self.states[number]
        if before is None:
            self.states[number] = dict(after)
            return True
        changed = False
        for key in list(before):
            value = joined(before[key], after.get(key, ANYTHING))
            if value == before[key]:
                continue
            changed = True
            if value == ANYTHING:
                del before[key]
            else:
                before[key] = value
        return changed

    def _compared(self, number: int) -> tuple[list[Any], int, int] | None:
        """(registers and stack slots that hold the same, their size, a number) that a conditional jump depends on: the
        comparison is right before it, or there are only moves in between."""
        if self.code[number].mnemonic not in _CONDITIONS:
            return None
        for before in range(number - 1, max(-1, number - 6), -1):
            one = self.code[before]
            if self.successors[before] != [before + 1]:
                return None
            if one.mnemonic in ("cmp", "sub"):
                if one.operands[1].type != x86.X86_OP_IMM or one.operands[0].size < 4:
                    return None
                first = self._key(before, one.operands[0])
                keys = [] if first is None else self._same(first, before, number)
                if one.mnemonic == "sub":
                    keys = [key for key in keys if key != first]  # which is what is left
                return (keys, one.operands[0].size, one.operands[1].imm) if keys else None
            if one.mnemonic not in ("mov", "lea", "movabs"):
                return None
        return None

    def _key(self, number: int, operand: Any) -> Any:
        """Of a register or a stack slot in a state."""
        state = self.states[number]
        if operand.type == x86.X86_OP_REG:
            return _FULL.get(self.code[number].reg_name(operand.reg))
        if state is None or operand.type != x86.X86_OP_MEM:
            return None
        return self._slot(self._address(self.code[number], operand, state), operand.size)

    @staticmethod
    def _slot(address: Value, size: int) -> Any:
        if address.base != "stack" or address.low != address.high or size not in (4, 8):
            return None
        return address.low if size == 8 else ("half", address.low)

    def _same(self, key: Any, at: int, until: int) -> list[Any]:
        """What holds the same as the key there, because it was just moved, and is not changed before the jump."""
        keys = [key]
        for before in range(at - 1, max(-1, at - 4), -1):
            one = self.code[before]
            if one.mnemonic != "mov" or self.successors[before] != [before + 1]:
                break
            first, second = (self._key(before, operand) for operand in one.operands)
            if None not in (first, second) and keys[0] in (first, second) and first != second:
                keys.append(second if first == keys[0] else first)
                break
            if first == keys[0] or first is None:
                break
        changed = {self._key(number, self.code[number].operands[0]) for number in range(at + 1, until)}
        return [one for one in keys if one not in changed]

    def _narrowed(self, number: int, compared: tuple[list[Any], int, int], state: State, *, jumps: bool) -> State:
        """What a comparison without sign says, where the jump leads or behind it."""
        keys, size, bound = compared
        high = _CONDITIONS[self.code[number].mnemonic][0 if jumps else 1]
        if high is None or bound < 0:
            return state
        narrowed = dict(state)
        for key in keys:
            value = state.get(key, WORD if isinstance(key, tuple) else ANYTHING)
            fits = value.base == "number" and value.low >= 0 and (size == 8 or value.high < _4_GIB)
            if not fits and size == 4 and isinstance(key, str):
                narrowed["low", key] = Value("number", 0, min(bound + high, _4_GIB - 1))
            elif fits and bound + high >= value.low:
                narrowed[key] = Value("number", value.low, min(value.high, bound + high))
        return narrowed

    # What an instruction does to the registers

    def _after(self, number: int, state: State) -> State:
        one = self.code[number]
        if one.group(x86.X86_GRP_CALL):
            return {key: value for key, value in state.items() if _is_slot(key) or key in _PRESERVED}
        operands = one.operands
        if one.mnemonic in ("push", "pop"):
            pushed = self._read(one, operands[0], state)
            state["rsp"] = plus(state["rsp"], Value("number", *([-8 if one.mnemonic == "push" else 8] * 2)))
            top = state["rsp"].low
            if one.mnemonic == "push":
                self._set(state, top, pushed)
            else:
                self._set(state, _FULL[one.reg_name(operands[0].reg)], state.get(top - 8, ANYTHING))
            return state
        if operands and operands[0].type == x86.X86_OP_MEM and operands[0].access & capstone.CS_AC_WRITE:
            address = self._address(one, operands[0], state)
            if address.base == "stack":
                moved = one.mnemonic == "mov" and len(operands) > 1
                self._store(
                    state, address, operands[0].size, self._read(one, operands[1], state) if moved else ANYTHING
                )
        value = self._result(one, state)
        _, written = one.regs_access()
        for register in written:
            name = one.reg_name(register)
            if name not in _FULL:
                continue
            is_first = operands and operands[0].type == x86.X86_OP_REG and operands[0].reg == register
            if is_first and value is not None:
                new = value
            elif name.startswith("e") or name.endswith("d"):
                new = WORD
            elif name.startswith("r") and name[-1] not in "wb":
                new = ANYTHING
            else:  # a part: the rest stays
                old = state.get(_FULL[name], ANYTHING)
                new = WORD if old.base == "number" and old.low >= 0 and old.high < _4_GIB else ANYTHING
            self._set(state, _FULL[name], new)
        return state

    @staticmethod
    def _set(state: State, key: Any, value: Value) -> None:
        state.pop(("low", key), None)
        if value == ANYTHING:
            state.pop(key, None)
        else:
            state[key] = value

    def _store(self, state: State, address: Value, size: int, value: Value) -> None:
        """To the stack: what overlaps is forgotten."""
        for key in list(state):
            if not _is_slot(key):
                continue
            start, length = (key[1], 4) if isinstance(key, tuple) else (key, 8)
            if start < address.high + size and address.low < start + length:
                del state[key]
        if (key := self._slot(address, size)) is not None:
            self._set(state, key, value)

    def _result(self, one: Any, state: State) -> Value | None:
        """Of the first operand, None if only its width is known."""
        operands = one.operands
        if not operands or operands[0].type != x86.X86_OP_REG:
            return None
        size = operands[0].size
        if size < 4:
            return None
        value = self._computed(one, state)
        if size == 8:
            return value
        if value is not None and value.base == "number" and value.low >= 0 and value.high < _4_GIB:
            return value
        return WORD

    def _computed(self, one: Any, state: State) -> Value | None:
        operands = one.operands

        def operand(number: int) -> Value:
            return self._read(one, operands[number], state)

        match one.mnemonic:
            case "mov" | "movabs":
                return operand(1)
            case "movzx":
                return Value("number", 0, (1 << 8 * operands[1].size) - 1)
            case "movsxd" | "movsx" | "cdqe":
                return None
            case "lea":
                return self._address(one, operands[1], state)
            case "add":
                return plus(operand(0), operand(1))
            case "sub" if operands[1].type == x86.X86_OP_IMM:
                return plus(operand(0), Value("number", -operands[1].imm, -operands[1].imm))
            case "inc" | "dec":
                step = 1 if one.mnemonic == "inc" else -1
                return plus(operand(0), Value("number", step, step))
            case "xor" if operands[1].type == x86.X86_OP_REG and operands[0].reg == operands[1].reg:
                return Value("number", 0, 0)
            case "and":
                bounds = [value.high for value in map(operand, (0, 1)) if value.base == "number" and value.low >= 0]
                return Value("number", 0, min(bounds)) if bounds else None
            case "shl" if operands[1].type == x86.X86_OP_IMM:
                return times(operand(0), 1 << operands[1].imm)
            case "shr" if operands[1].type == x86.X86_OP_IMM:
                value = operand(0)
                high = value.high if value.base == "number" and value.low >= 0 else (1 << 64) - 1
                return Value("number", 0, min(high, (1 << 8 * operands[0].size) - 1) >> operands[1].imm)
            case "or" | "xor":
                values = [operand(0), operand(1)]
                if all(value.base == "number" and value.low >= 0 and value.high < _4_GIB for value in values):
                    return WORD
                return None
            case "popcnt" | "lzcnt" | "tzcnt" | "bsf" | "bsr":
                return Value("number", 0, 64)
            case mnemonic if mnemonic.startswith("cmov"):
                return joined(operand(0), operand(1))
            case "shrx" | "bzhi":
                value = operand(1)
                return value if value.base == "number" and value.low >= 0 else None
            case _:
                return None

    def _read(self, one: Any, operand: Any, state: State) -> Value:
        """The operand as a number of 64 bits, where it has as many; else of as many as it has."""
        if operand.type == x86.X86_OP_IMM:
            return Value("number", operand.imm, operand.imm)
        if operand.type == x86.X86_OP_REG:
            value = state.get(_FULL.get(one.reg_name(operand.reg)), ANYTHING)
            if operand.size == 8:
                return value
            value = state.get(("low", _FULL.get(one.reg_name(operand.reg))), value)
            fits = value.base == "number" and value.low >= 0 and value.high < 1 << 8 * operand.size
            return value if fits else Value("number", 0, (1 << 8 * operand.size) - 1)
        address = self._address(one, operand, state)
        if operand.size < 8:
            least = Value("number", 0, (1 << 8 * operand.size) - 1)
            slot = self._slot(address, operand.size)
            whole = state.get(address.low, least) if slot is not None else least
            fits = whole.base == "number" and whole.low >= 0 and whole.high <= least.high
            return state.get(slot, whole if fits else least)
        if address.base == "stack" and address.low == address.high:
            return state.get(address.low, ANYTHING)
        if address.base == "pointer":
            return POINTER
        if address.base == "vmctx" and address.low == address.high < 0 and address.low not in self.checker.numbers:
            return POINTER
        return ANYTHING

    def _address(self, one: Any, operand: Any, state: State) -> Value:
        memory = operand.mem
        if memory.base == x86.X86_REG_RIP:
            base = Value("constant", 0, 0)
        else:
            base = plus(Value("number", memory.disp, memory.disp), self._register(one, memory.base, state))
        return plus(base, times(self._register(one, memory.index, state), memory.scale))

    @staticmethod
    def _register(one: Any, register: int, state: State) -> Value:
        if not register:
            return Value("number", 0, 0)
        name = one.reg_name(register)
        value = state.get(_FULL.get(name), ANYTHING)
        if name.startswith("e") or name.endswith("d"):
            return value if value.base == "number" and value.low >= 0 and value.high < _4_GIB else WORD
        return value

    # Accesses

    def _look_at(self, number: int, state: State) -> None:
        one = self.code[number]
        if one.mnemonic in ("lea", "nop", "ud1", "endbr64"):
            return
        for operand in one.operands:
            if operand.type != x86.X86_OP_MEM:
                continue
            form = self._form(self._address(one, operand, state), max(operand.size, 1))
            self.checker.report.accesses[form] += 1
            if form == "not shown":
                where = self.checker.info.locate(one.address)
                place = f"{where.offset:#x}" if where and where.offset is not None else "?"
                text = f"{self.name} at {place}: {one.address:#x} {one.mnemonic} {one.op_str}"
                self.checker.report.not_shown.append(f"{text}: {self._address(one, operand, state)}")

    def _form(self, address: Value, size: int) -> str:
        low, high = address.low, address.high + size
        match address.base:
            case "stack" if low > -(1 << 31) and high < 1 << 31:
                return "stack"
            case "constant" if low >= 0 and high < 1 << 31:
                return "constant"
            case "vmctx" if low >= -_AREA and high <= 0 and low + size == high:
                return "instance"
            case "vmctx" if low >= 0 and high <= self.checker.reach:
                return "memory"
            case "pointer" if low > -_SMALL and high < _SMALL:
                return "pointer"
            case _:
                return "not shown"


def check_artifact(data: bytes) -> Report:
    return Checker(data).check()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.check_code", description="Check the code of artifacts.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("-v", "--verbose", action="store_true", help="every access that could not be shown")
    options = parser.parse_args(arguments)
    status = 0
    for path in options.files:
        report = check_artifact(path.read_bytes())
        total = report.accesses.total()
        forms = ", ".join(f"{count} {form}" for form, count in report.accesses.most_common())
        print(f"{path}: {total} accesses: {forms}")
        if options.verbose:
            print(*report.not_shown, sep="\n")
        status |= bool(report.not_shown)
    return status


if __name__ == "__main__":
    sys.exit(main())
