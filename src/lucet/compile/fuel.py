"""Counts instructions: what a function's text has in addition when Options.count_instructions is set.

The count stands in a stack slot, %fuel, that LLVM turns into values, and in the instance word FUEL: see docs/fuel.md.
Code is counted in units. Once a unit's first instruction is executed, all the others will be, unless the guest traps:
a unit ends at a loop, and where a branch may leave the frames that were opened in it, but goes on behind a block or if
whose branches all lead to its own end. What a unit costs is added where it begins; that is known when it has ended, so
its line in the text is filled in last.
"""

from __future__ import annotations

from typing import Final

from lucet.abi.tables import BUILTINS, VMCTX
from lucet.compile.ir import INVARIANT, LIKELY, SLOT_SIZE, Frame, FunctionWriter
from lucet.compile.plan import Plan
from lucet.wasm.costs import BULK, COSTS
from lucet.wasm.module import Code, Module
from lucet.wasm.opcodes import OPS
from lucet.wasm.types import FuncType

_CALLS: Final = frozenset(op.code for op in OPS.values() if op.family == "call")
_NOWHERE: Final = 1 << 30
_MOST_UNITS: Final = 1 << 37
"""What a bulk instruction costs at most: as much as one over the largest reservation of memory."""
_COLD_CALL: Final = "preserve_mostcc "
"""A call that is hardly ever made must not cost registers: out_of_fuel keeps all of the general ones."""


class Unit:
    """Instructions that are charged together."""

    __slots__ = ("check", "cost", "number", "place", "was_dirty")

    def __init__(self, number: int, place: int, was_dirty: bool) -> None:
        self.number = number
        self.place = place
        """The line of the text that charges it."""
        self.cost = 0
        self.check: str | None = None
        """Where the fuel is checked: the location of the call that is made when it has run out."""
        self.was_dirty = was_dirty


class _State:
    """What is to be known of a frame."""

    __slots__ = ("clean_at_end", "dirty_at_end", "dirty_at_start", "lowest", "may_settle", "then", "unit")

    def __init__(self, unit: Unit, dirty: bool) -> None:
        self.unit = unit
        self.lowest = _NOWHERE
        """The depth of the outermost frame that a branch out of this one leads to; -1 if it contains a loop."""
        self.dirty_at_start = dirty
        self.clean_at_end = False
        """A branch to the frame's label comes from where the word is that of %fuel."""
        self.dirty_at_end = False
        """One comes from where it is not, and others go elsewhere from there."""
        self.may_settle: list[int] = []
        """Lines in front of jumps to the label, from where it is not."""
        self.then: Unit | None = None
        """Of an if: what its first arm begins with."""


class CountingWriter(FunctionWriter):
    """A FunctionWriter that counts."""

    __slots__ = ("_checks_entry", "_dirty", "_entry_location", "_forks", "_interrupted", "_states", "_unit", "_units")

    def __init__(self, module: Module, plan: Plan, functype: FuncType, *, wasm_offset: int, scope: int) -> None:
        super().__init__(module, plan, functype, wasm_offset=wasm_offset, scope=scope)
        self._units: list[Unit] = []
        self._states: list[_State] = []
        self._unit = Unit(0, 0, False)
        self._interrupted = self._unit, False
        self._forks: list[tuple[Unit, Unit, Unit]] = []
        """Of each if with an else: the unit that it stands in, and those that its arms begin with."""
        self._dirty = False
        """The instance's word is older than %fuel, or may be."""
        self._entry_location = self.location(wasm_offset)
        self._checks_entry = True

    def begin(self, code: Code, escapes: bool) -> None:
        """Before the first instruction. escapes: the host may call the function.

        A function that neither calls nor is called by the host need not look at the fuel: it cannot go on for ever
        without a loop.
        """
        self._checks_entry = escapes or any(opcode in _CALLS for opcode, _, _ in code.instrs)
        self.alloca("%fuel", "i64")
        self.prelude["%fuel.word"] = f"  %fuel.word = getelementptr i8, ptr %vmctx, i64 {VMCTX['FUEL']}"
        self.return_from()

    def count(self, opcode: int) -> None:
        self._unit.cost += COSTS[opcode]

    # ---- units ----

    def _begin_unit(self, was_dirty: bool) -> Unit:
        self.next += 1
        self._unit = unit = Unit(self.next, len(self.out), was_dirty)
        self._units.append(unit)
        self.out.append("")
        self._dirty = True
        return unit

    def enter_frame(self, frame: Frame) -> None:
        if not self.frames:
            unit = self._begin_unit(False)
            if self._checks_entry:
                unit.check = self._entry_location
        self._states.append(_State(self._unit, self._is_dirty()))
        super().enter_frame(frame)

    def leave_frame(self) -> None:
        super().leave_frame()
        state = self._states.pop()
        if self._states and state.lowest < len(self._states):
            outer = self._states[-1]
            outer.lowest = min(outer.lowest, state.lowest)

    def reach(self, frame: Frame, *, only: bool = False) -> None:
        super().reach(frame)
        innermost, target = self._states[-1], self._states[frame.depth]
        innermost.lowest = min(innermost.lowest, frame.depth)
        if not self._is_dirty():
            target.clean_at_end = True
        elif only:
            target.may_settle.append(len(self.out))
            self.out.append("")
        else:
            target.dirty_at_end = True

    def leave_function(self) -> None:
        self._states[-1].lowest = min(self._states[-1].lowest, 0)

    def begin_arm(self, frame: Frame | None) -> None:
        if frame is None:
            self._begin_unit(self._is_dirty())
            return
        state = self._states[frame.depth]
        unit = self._begin_unit(state.dirty_at_start)
        if state.then is None:
            state.then = unit
        else:
            self._forks.append((state.unit, state.then, unit))

    def begin_continuation(self, frame: Frame) -> None:
        state = self._states[frame.depth]
        # Where some have settled and all others can, they do it on their way here.
        dirty = state.dirty_at_end or not state.clean_at_end
        if not dirty:
            for place in state.may_settle:
                self.out[place] = self._settle_text()
        if state.lowest < frame.depth:
            self._begin_unit(dirty)
        else:
            self._unit = state.unit
            self._dirty = dirty

    def begin_loop(self, offset: int) -> None:
        self._begin_unit(True).check = self.location(offset)
        self._states[-1].lowest = -1

    def _is_dirty(self) -> bool:
        return self._dirty and (self._unit.cost > 0 or self._unit.was_dirty)

    # ---- the instance's word ----

    def settle(self) -> None:
        if self._is_dirty():
            self.out.append(self._settle_text())
            self._dirty = False

    def return_from(self) -> None:
        """The word is what counts: %fuel becomes that."""
        self.out.append(f"  store i64 {self.emit('load i64, ptr %fuel.word')}, ptr %fuel")

    def heap_address(self, memory: int, operand: str, static_offset: int, width: int, offset: int) -> str:
        if not self.plan.memories[memory].checked:
            self.settle()  # the access may fault
        return super().heap_address(memory, operand, static_offset, width, offset)

    def trap_text(self, trap: str, offset: int) -> str:
        text = super().trap_text(trap, offset)
        return f"{self._settle_text()}\n{text}" if self._is_dirty() else text

    def _settle_text(self) -> str:
        self.next += 1
        name = f"%fuel.s{self.next}"
        return f"  {name} = load i64, ptr %fuel\n  store volatile i64 {name}, ptr %fuel.word"

    def begin_handler(self) -> None:
        self._interrupted = self._unit, self._dirty
        self._unit, self._dirty = Unit(0, 0, False), False

    def begin_clause(self) -> None:
        self._dirty = False
        self._states[-1].lowest = -1
        self._begin_unit(False)

    def end_handler(self) -> None:
        self._unit, self._dirty = self._interrupted

    # ---- what depends on an operand ----

    def charge(self, name: str, size: str, offset: int, result: str = "") -> None:
        shift = BULK[name].bit_length() - 1
        units = size[4:]
        if shift:
            units = self.emit(f"lshr {size}, {shift}")
        if result:
            success = self.emit(f"icmp ne i64 {result}, -1")
            units = self.emit(f"select i1 {success}, {size}, i64 0")
        else:
            # A size beyond all limits traps, but behind the charge, which must neither overflow nor count backwards.
            units = self.emit(f"call i64 @llvm.umin.i64(i64 {units}, i64 {_MOST_UNITS})")
        self.next += 1
        number = self.next
        before = f"  %fuel.a{number} = load i64, ptr %fuel"
        self.out.append(before)
        self.out.append(self._charge_text(number, units, self.location(offset)))
        self._dirty = True
        self._unit.was_dirty = True

    # ---- the text ----

    def definition(self, name: str, *, convention: str = "") -> str:
        for unit, then, otherwise in reversed(self._forks):
            least = min(then.cost, otherwise.cost)
            unit.cost += least
            then.cost -= least
            otherwise.cost -= least
        for unit in self._units:
            self.out[unit.place] = self._unit_text(unit)
        self.out = [line for line in self.out if line]
        return super().definition(name, convention=convention)

    def _unit_text(self, unit: Unit) -> str:
        number = unit.number
        if not unit.cost:
            # A loop that does nothing ends; a function that has done nothing yet is in a loop, or at its end.
            return ""
        load = f"  %fuel.a{number} = load i64, ptr %fuel"
        return f"{load}\n{self._charge_text(number, str(unit.cost), unit.check)}"

    def _charge_text(self, number: int, units: str, check: str | None) -> str:
        text = f"  %fuel.b{number} = add i64 %fuel.a{number}, {units}\n  store i64 %fuel.b{number}, ptr %fuel"
        if check is None:
            return text
        self.cold.append(self._cold_text(number, check))
        return (
            f"{text}\n  %fuel.c{number} = icmp slt i64 %fuel.b{number}, 0\n"
            f"  br i1 %fuel.c{number}, label %g{number}, label %o{number}{LIKELY}\ng{number}:"
        )

    def _cold_text(self, number: int, location: str) -> str:
        """The fuel has run out: the host gives more, or this never returns."""
        n = number
        return (
            f"o{n}:\n  store volatile i64 %fuel.b{n}, ptr %fuel.word\n"
            f"  %fuel.d{n} = getelementptr i8, ptr %vmctx, i64 {VMCTX['BUILTINS']}\n"
            f"  %fuel.e{n} = load ptr, ptr %fuel.d{n}{INVARIANT}\n"
            f"  %fuel.f{n} = getelementptr i8, ptr %fuel.e{n}, i64 {BUILTINS['out_of_fuel'].index * SLOT_SIZE}\n"
            f"  %fuel.g{n} = load ptr, ptr %fuel.f{n}{INVARIANT}\n"
            f"  notail call {_COLD_CALL}void %fuel.g{n}(ptr %vmctx){location}\n"
            f"  %fuel.h{n} = load i64, ptr %fuel.word\n"
            f"  store i64 %fuel.h{n}, ptr %fuel\n  br label %g{n}"
        )
