"""Validates function bodies: the algorithm of the specification's appendix "Validation Algorithm".

Two differences serve speed. The operand stack is one list in which every control frame has put a _BASE below its
operands, so an operand that is as expected cannot be another frame's, and the common case needs no look at the frame.
And the regular instructions are checked in the loop itself, from the table; what does not match at once (a mistake, or
unreachable code, or a subtype) goes to the slow, exact path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from lucet.errors import Invalid
from lucet.wasm.module import Catch, Code, Module
from lucet.wasm.opcodes import BY_NAME, OPS, Op
from lucet.wasm.types import (
    BOTTOM_REF,
    EXNREF,
    FUNCREF,
    I32,
    I64,
    NUMTYPES,
    FuncType,
    ValType,
    defaultable,
    is_ref,
    matches,
    non_null,
)

_BASE: Final = ValType("nothing")
"""Lies below the operands of a control frame. Equal to no value type."""
_BOTTOM: Final = ValType("anything")
"""The type of a value that unreachable code makes up, which matches every type."""

_MAX_OFFSET: Final = (1 << 32) - 1

_BLOCK: Final = BY_NAME["block"].code
_LOOP: Final = BY_NAME["loop"].code
_IF: Final = BY_NAME["if"].code
_ELSE: Final = BY_NAME["else"].code
_LEGACY: Final = frozenset(BY_NAME[name].code for name in ("try", "catch", "catch_all"))
_LEGACY_CATCHES: Final = _LEGACY - {BY_NAME["try"].code}
_LOCAL_GET: Final = BY_NAME["local.get"].code

# What the hot loop does with an instruction, roughly most frequent first.
_PUSH: Final = 0
_BINARY: Final = 1
_SET: Final = 2
_TEE: Final = 3
_LOAD: Final = 4
_STORE: Final = 5
_UNARY: Final = 6
_RULE: Final = 7
_NOTHING: Final = 8


def validate_code(module: Module, func_index: int, code: Code) -> None:
    """Raises Invalid if the body of a defined function has not the function's type. code is as decode_code made it."""
    _Validator(module, func_index, code).run()


class _Frame:
    """One open block."""

    __slots__ = ("code", "height", "label", "set_height", "type", "unreachable")

    def __init__(self, code: int, block_type: FuncType, height: int, set_height: int) -> None:
        self.code = code
        self.type = block_type
        self.label = block_type.params if code == _LOOP else block_type.results
        """What a branch to the block takes along."""
        self.set_height = set_height
        """How many locals that have no default value had been set when the block began."""
        self.height = height
        """The stack's length without operands of this block, but with its _BASE."""
        self.unreachable = False


class _ReadableLocals:
    """Types of locals, some of which have no default value: KeyError for such a one until it is known to be set."""

    __slots__ = ("known_set", "params_count", "types")

    def __init__(self, types: tuple[ValType, ...], params_count: int) -> None:
        self.types = types
        self.params_count = params_count
        self.known_set: set[int] = set()

    def __getitem__(self, index: int) -> ValType:
        valtype = self.types[index]
        if index in self.known_set or index < self.params_count or defaultable(valtype):
            return valtype
        raise KeyError(index)


class _Validator:
    def __init__(self, module: Module, func_index: int, code: Code) -> None:
        self.module = module
        self.func_index = func_index
        self.func_type = module.func_type(func_index).unrolled
        self.locals = self.func_type.params + code.locals
        self.readable = (
            self.locals if code.all_defaultable else _ReadableLocals(self.locals, len(self.func_type.params))
        )
        """The types of the locals that may be read here."""
        self.set_locals: list[int] = []
        """Those that have become readable in the open blocks, in that order."""
        self.instrs = code.instrs
        self.stack: list[ValType] = [_BASE]
        # The body is a block with the function's results. The parameters are locals, not operands.
        self.frames = [_Frame(_BLOCK, FuncType(results=self.func_type.results), 1, 0)]
        # Where we are, for the errors; the hot loop sets them only before it calls something.
        self.code = 0
        self.offset = 0

    def run(self) -> None:
        stack = self.stack
        push = stack.append
        local_types = self.readable
        address_types = [memory.limits.index_type for memory in self.module.all_memories]
        memory_count = len(address_types)
        shapes = _SHAPES
        for code, offset, immediate in self.instrs:
            if code == _LOCAL_GET:
                try:
                    push(local_types[immediate])
                except LookupError:
                    self._unknown_local(code, offset, immediate)
                continue
            shape, first, second, result = shapes[code]
            if shape == _PUSH:
                push(result)
                continue
            if shape == _BINARY:
                if stack[-1] == second and stack[-2] == first:
                    del stack[-1]
                    stack[-1] = result
                    continue
            elif shape <= _TEE:
                try:
                    first = local_types[immediate]
                except LookupError:
                    first = self._set_local(code, offset, immediate)
                if stack[-1] == first:
                    if shape == _SET:
                        del stack[-1]
                    continue
                result = first
            elif shape <= _STORE:
                align, memarg_offset, memory = immediate
                if align > _NATURAL_ALIGN[code] or memarg_offset > _MAX_OFFSET or memory >= memory_count:
                    self._check_memarg(code, offset, immediate)
                first = address_types[memory]
                if shape == _LOAD:
                    if stack[-1] == first:
                        stack[-1] = result
                        continue
                elif stack[-1] == second and stack[-2] == first:
                    del stack[-2:]
                    continue
            elif shape == _UNARY:
                if stack[-1] == first:
                    stack[-1] = result
                    continue
            else:
                if shape == _RULE:
                    self.code = code
                    self.offset = offset
                    _RULES[code](self, immediate)
                continue
            self.code = code
            self.offset = offset
            if shape in (_BINARY, _STORE):
                self._pop(second)
            self._pop(first)
            if shape not in (_STORE, _SET):
                push(result)

    # Operands

    def _pop(self, expected: ValType) -> ValType:
        actual = self._pop_any(expected)
        if actual not in (expected, _BOTTOM) and not matches(actual, expected):
            self._mismatch(f"expects {expected}", actual)
        return actual

    def _pop_ref(self) -> ValType:
        actual = self._pop_any("a reference")
        if actual == _BOTTOM:
            return BOTTOM_REF
        if not is_ref(actual):
            self._mismatch("expects a reference", actual)
        return actual

    def _pop_any(self, expected: str = "a value") -> ValType:
        actual = self.stack[-1]
        if actual == _BASE:
            if self.frames[-1].unreachable:
                return _BOTTOM
            self._mismatch(f"expects {expected}", actual)
        del self.stack[-1]
        return actual

    def _pop_all(self, expected: tuple[ValType, ...]) -> Sequence[ValType]:
        """The operands as they are. Written for a thousand of them: a function can have as many."""
        count = len(expected)
        if not count:
            return ()
        stack = self.stack
        actual = tuple(stack[-count:])
        if actual == expected:
            del stack[-count:]
            return actual
        frame = self.frames[-1]
        present = min(count, len(stack) - frame.height)
        missing = count - present
        if missing and frame.unreachable and tuple(stack[frame.height :]) == expected[missing:]:
            del stack[frame.height :]
            return (_BOTTOM,) * missing + expected[missing:]
        if not missing and _BOTTOM not in actual and _all_match(actual, expected):
            del stack[-count:]
            return actual
        return [self._pop(valtype) for valtype in reversed(expected)][::-1]

    def _push_all(self, valtypes: Sequence[ValType]) -> None:
        self.stack.extend(valtypes)

    # Frames

    def _push_frame(self, block_type: FuncType) -> None:
        params = block_type.params
        self._pop_all(params)
        stack = self.stack
        stack.append(_BASE)
        self.frames.append(_Frame(self.code, block_type, len(stack), len(self.set_locals)))
        stack.extend(params)

    def _close(self, frame: _Frame) -> None:
        """Takes the frame's results off the stack, and its _BASE; locals that were set in it need not be set."""
        if frame.code in _LEGACY:
            self._pop_in_suites_words(frame.type.results)
            if len(self.stack) != frame.height:
                self._invalid(f"type mismatch: block requires [] but stack has [{self.stack[-1]}]")
        else:
            self._pop_all(frame.type.results)
        if len(self.stack) != frame.height:
            self._mismatch("leaves a value on the stack", self.stack[-1])
        del self.stack[-1]
        while len(self.set_locals) > frame.set_height:
            assert isinstance(self.readable, _ReadableLocals)
            self.readable.known_set.remove(self.set_locals.pop())

    def _frame_at(self, label: int) -> _Frame:
        if label >= len(self.frames):
            self._invalid(f"unknown label {label}")
        return self.frames[-1 - label]

    def _rest_is_unreachable(self) -> None:
        frame = self.frames[-1]
        del self.stack[frame.height :]
        frame.unreachable = True

    # Rules of the instructions that have their own, called with the immediate

    def _rule_unreachable(self, _: None) -> None:
        self._rest_is_unreachable()

    def _rule_block(self, block_type: FuncType) -> None:
        self._push_frame(block_type)

    def _rule_if(self, block_type: FuncType) -> None:
        self._pop(I32)
        self._push_frame(block_type)

    def _rule_else(self, _: None) -> None:
        frame = self.frames[-1]
        self._close(frame)
        self.frames.pop()
        stack = self.stack
        stack.append(_BASE)
        self.frames.append(_Frame(_ELSE, frame.type, len(stack), frame.set_height))
        stack.extend(frame.type.params)

    def _rule_end(self, _: None) -> None:
        frame = self.frames[-1]
        self._close(frame)
        # An `if` without `else` passes its parameters on as its results.
        if frame.code == _IF and not _all_match(frame.type.params, frame.type.results):
            self._invalid(f"type mismatch: if without else is of type {frame.type}")
        self.frames.pop()
        self.stack.extend(frame.type.results)

    def _rule_br(self, label: int) -> None:
        self._pop_all(self._frame_at(label).label)
        self._rest_is_unreachable()

    def _rule_br_if(self, label: int) -> None:
        frame = self._frame_at(label)
        self._pop(I32)
        if frame.label:
            self._pop_all(frame.label)
            self.stack.extend(frame.label)

    def _rule_br_table(self, immediate: tuple[tuple[int, ...], int]) -> None:
        labels, default = immediate
        self._pop(I32)
        expected = self._frame_at(default).label
        # Each type is looked at once, however many labels have it: else this would take labels times results.
        checked: set[tuple[ValType, ...]] = {expected}
        for label in sorted({*labels}):
            valtypes = self._frame_at(label).label
            if valtypes in checked:
                continue
            checked.add(valtypes)
            if len(valtypes) != len(expected):
                self._invalid(f"type mismatch: label {label} takes {len(valtypes)} values, the default {len(expected)}")
            self._push_all(self._pop_all(valtypes))
        self._pop_all(expected)
        self._rest_is_unreachable()

    def _rule_br_on_null(self, label: int) -> None:
        frame = self._frame_at(label)
        actual = self._pop_ref()
        self._pop_all(frame.label)
        self.stack.extend(frame.label)
        self.stack.append(non_null(actual))

    def _rule_br_on_non_null(self, label: int) -> None:
        frame = self._frame_at(label)
        if not frame.label or not is_ref(frame.label[-1]):
            self._invalid(f"type mismatch: br_on_non_null to label {label}, which takes no reference last")
        actual = self._pop_ref()
        self.stack.append(non_null(actual))
        self._pop_all(frame.label)
        self.stack.extend(frame.label[:-1])

    def _rule_return(self, _: None) -> None:
        self._pop_all(self.func_type.results)
        self._rest_is_unreachable()

    def _rule_call(self, func: int) -> None:
        func_type = self._func_type(func)
        self._pop_all(func_type.params)
        self.stack.extend(func_type.results)

    def _rule_call_indirect(self, immediate: tuple[int, int]) -> None:
        func_type = self._indirect_type(immediate)
        self._pop(self._table_index_type(immediate[1]))
        self._pop_all(func_type.params)
        self.stack.extend(func_type.results)

    def _rule_return_call(self, func: int) -> None:
        self._tail_call(self._func_type(func))

    def _rule_return_call_indirect(self, immediate: tuple[int, int]) -> None:
        func_type = self._indirect_type(immediate)
        self._pop(self._table_index_type(immediate[1]))
        self._tail_call(func_type)

    def _rule_call_ref(self, type_index: int) -> None:
        func_type = self._pop_func_of_type(type_index)
        self._pop_all(func_type.params)
        self.stack.extend(func_type.results)

    def _rule_return_call_ref(self, type_index: int) -> None:
        self._tail_call(self._pop_func_of_type(type_index))

    def _pop_func_of_type(self, type_index: int) -> FuncType:
        self._check_index("type", type_index, self.module.types)
        func_type = self.module.types[type_index]
        self._pop(func_type.ref(nullable=True))
        return func_type.unrolled

    def _tail_call(self, func_type: FuncType) -> None:
        if not _all_match(func_type.results, self.func_type.results):
            self._invalid(f"type mismatch: a tail call of {func_type} in a function of type {self.func_type}")
        self._pop_all(func_type.params)
        self._rest_is_unreachable()

    def _rule_throw(self, tag: int) -> None:
        self._pop_in_suites_words(self._tag_params(tag))
        self._rest_is_unreachable()

    def _pop_in_suites_words(self, expected: tuple[ValType, ...]) -> None:
        """_pop_all, but the test suite has other words for what these instructions find."""
        present = self.stack[self.frames[-1].height :][-max(len(expected), 1) :]
        try:
            self._pop_all(expected)
        except Invalid:
            wanted, found = " ".join(expected), " ".join(present)
            self._invalid(f"type mismatch: instruction requires [{wanted}] but stack has [{found}]")

    # The first proposal: a try, its clauses, and an end; or a try and a delegate, which is its end.

    def _rule_catch(self, tag: int) -> None:
        self._begin_clause(self._tag_params(tag))

    def _rule_catch_all(self, _: None) -> None:
        self._begin_clause(())

    def _begin_clause(self, values: tuple[ValType, ...]) -> None:
        frame = self.frames[-1]
        self._close(frame)
        self.frames.pop()
        self.stack.append(_BASE)
        self.frames.append(_Frame(self.code, frame.type, len(self.stack), frame.set_height))
        self.stack.extend(values)

    def _rule_delegate(self, label: int) -> None:
        frame = self.frames[-1]
        self._close(frame)
        self.frames.pop()
        self._frame_at(label)
        self.stack.extend(frame.type.results)

    def _rule_rethrow(self, label: int) -> None:
        if self._frame_at(label).code not in _LEGACY_CATCHES:
            self._invalid(f"invalid rethrow label {label}")
        self._rest_is_unreachable()

    def _rule_throw_ref(self, _: None) -> None:
        self._pop(EXNREF)
        self._rest_is_unreachable()

    def _rule_try_table(self, immediate: tuple[FuncType, tuple[Catch, ...]]) -> None:
        block_type, catches = immediate
        for catch in dict.fromkeys(catches):
            # A clause branches to a label outside: the values that it brings must be the label's, whatever is below.
            values = () if catch.tag is None else self._tag_params(catch.tag)
            if catch.with_ref:
                values += (non_null(EXNREF),)
            wanted = self._frame_at(catch.label).label
            if len(values) != len(wanted) or not all(map(matches, values, wanted)):
                self._invalid(
                    f"type mismatch: a catch clause brings [{' '.join(values)}] to a label that takes "
                    f"[{' '.join(wanted)}]"
                )
        self._push_frame(block_type)

    def _rule_drop(self, _: None) -> None:
        self._pop_any()

    def _rule_select(self, _: None) -> None:
        self._pop(I32)
        second = self._pop_any()
        first = self._pop_any()
        for actual in (first, second):
            if actual not in NUMTYPES and actual != _BOTTOM:
                self._mismatch("without a type expects numbers", actual)
        if first != second and _BOTTOM not in (first, second):
            self._mismatch(f"expects {first} twice", second)
        self.stack.append(second if first == _BOTTOM else first)

    def _rule_select_t(self, valtypes: tuple[ValType, ...]) -> None:
        if len(valtypes) != 1:
            self._invalid(f"invalid result arity {len(valtypes)} of select")
        self._pop(I32)
        self._pop(valtypes[0])
        self._pop(valtypes[0])
        self.stack.append(valtypes[0])

    def _rule_global_get(self, index: int) -> None:
        self._check_index("global", index, self.module.all_globals)
        self.stack.append(self.module.all_globals[index].valtype)

    def _rule_global_set(self, index: int) -> None:
        self._check_index("global", index, self.module.all_globals)
        global_type = self.module.all_globals[index]
        if not global_type.mutable:
            self._invalid(f"immutable global {index}")
        self._pop(global_type.valtype)

    def _rule_table_get(self, table: int) -> None:
        reftype = self._reftype(table)
        self._pop(self._table_index_type(table))
        self.stack.append(reftype)

    def _rule_table_set(self, table: int) -> None:
        reftype = self._reftype(table)
        self._pop(reftype)
        self._pop(self._table_index_type(table))

    def _rule_table_grow(self, table: int) -> None:
        reftype, index_type = self._reftype(table), self._table_index_type(table)
        self._pop(index_type)
        self._pop(reftype)
        self.stack.append(index_type)

    def _rule_table_fill(self, table: int) -> None:
        reftype, index_type = self._reftype(table), self._table_index_type(table)
        self._pop(index_type)
        self._pop(reftype)
        self._pop(index_type)

    def _rule_table_size(self, table: int) -> None:
        self._reftype(table)
        self.stack.append(self._table_index_type(table))

    def _rule_table_copy(self, immediate: tuple[int, int]) -> None:
        destination, source = (self._reftype(table) for table in immediate)
        if not matches(source, destination):
            self._invalid(f"type mismatch: table.copy from {source} to {destination}")
        self._pop_copy(*(self._table_index_type(table) for table in immediate))

    def _rule_table_init(self, immediate: tuple[int, int]) -> None:
        elem, table = immediate
        reftype = self._reftype(table)
        self._check_index("elem segment", elem, self.module.elems)
        if not matches(self.module.elems[elem].reftype, reftype):
            self._invalid(f"type mismatch: table.init from {self.module.elems[elem].reftype} to {reftype}")
        self._pop_all((self._table_index_type(table), I32, I32))

    def _rule_elem_drop(self, elem: int) -> None:
        self._check_index("elem segment", elem, self.module.elems)

    def _rule_memory_size(self, memory: int) -> None:
        self.stack.append(self._address_type(memory))

    def _rule_memory_grow(self, memory: int) -> None:
        address_type = self._address_type(memory)
        self._pop(address_type)
        self.stack.append(address_type)

    def _rule_memory_fill(self, memory: int) -> None:
        address_type = self._address_type(memory)
        self._pop_all((address_type, I32, address_type))

    def _rule_memory_copy(self, immediate: tuple[int, int]) -> None:
        self._pop_copy(*map(self._address_type, immediate))

    def _pop_copy(self, destination: ValType, source: ValType) -> None:
        # The count must fit the smaller of the two.
        self._pop_all((destination, source, I64 if destination == source == I64 else I32))

    def _rule_memory_init(self, immediate: tuple[int, int]) -> None:
        data, memory = immediate
        address_type = self._address_type(memory)
        self._check_data(data)
        self._pop_all((address_type, I32, I32))

    def _rule_data_drop(self, data: int) -> None:
        self._check_data(data)

    def _rule_ref_null(self, reftype: ValType) -> None:
        self.stack.append(reftype)

    def _rule_ref_is_null(self, _: None) -> None:
        self._pop_ref()
        self.stack.append(I32)

    def _rule_ref_as_non_null(self, _: None) -> None:
        self.stack.append(non_null(self._pop_ref()))

    def _rule_ref_func(self, func: int) -> None:
        self._check_index("function", func, self.module.all_funcs)
        if func not in self.module.declared_refs:
            self._invalid(f"undeclared function reference {func}")
        self.stack.append(self.module.func_type(func).ref())

    def _rule_lane(self, lane: int) -> None:
        self._check_lanes((lane,))
        self._regular()

    def _rule_lanes(self, lanes: tuple[int, ...]) -> None:
        self._check_lanes(lanes)
        self._regular()

    def _rule_memarg_lane(self, immediate: tuple[int, int, int, int]) -> None:
        *_, memory, lane = immediate
        self._check_memarg(self.code, self.offset, immediate[:3])
        self._check_lanes((lane,))
        op = OPS[self.code]
        self._pop_all((self._address_type(memory), *op.pops[1:]))
        self.stack.extend(op.pushes)

    def _rule_atomic(self, memarg: tuple[int, int, int]) -> None:
        align, _, memory = memarg
        self._check_memarg(self.code, self.offset, memarg)
        if align != _NATURAL_ALIGN[self.code]:
            self._invalid(f"atomic alignment must be natural: 2**{align}")
        op = OPS[self.code]
        self._pop_all((self._address_type(memory), *op.pops[1:]))
        self.stack.extend(op.pushes)

    def _rule_regular(self, _: None) -> None:
        self._regular()

    def _regular(self) -> None:
        op = OPS[self.code]
        self._pop_all(op.pops)
        self.stack.extend(op.pushes)

    # Index spaces

    def _check_index(self, what: str, index: int, space: Sequence[object]) -> None:
        if index >= len(space):
            self._invalid(f"unknown {what} {index}")

    def _check_data(self, data: int) -> None:
        # By the data count section, not the segments: a decoder of one pass has nothing else when it gets here.
        if data >= (self.module.data_count or 0):
            self._invalid(f"unknown data segment {data}")

    def _check_lanes(self, lanes: tuple[int, ...]) -> None:
        count = OPS[self.code].lanes
        assert count is not None
        if max(lanes) >= count:
            self._invalid(f"invalid lane index {max(lanes)}: there are {count}")

    def _func_type(self, func: int) -> FuncType:
        self._check_index("function", func, self.module.all_funcs)
        return self.module.func_type(func).unrolled

    def _reftype(self, table: int) -> ValType:
        self._check_index("table", table, self.module.all_tables)
        return self.module.all_tables[table].reftype

    def _table_index_type(self, table: int) -> ValType:
        """Of a table that is there."""
        return self.module.all_tables[table].limits.index_type

    def _address_type(self, memory: int) -> ValType:
        self._check_index("memory", memory, self.module.all_memories)
        return self.module.all_memories[memory].limits.index_type

    def _indirect_type(self, immediate: tuple[int, int]) -> FuncType:
        type_index, table = immediate
        reftype = self._reftype(table)
        if not matches(reftype, FUNCREF):
            self._invalid(f"type mismatch: an indirect call through a table of {reftype}")
        self._check_index("type", type_index, self.module.types)
        return self.module.types[type_index].unrolled

    def _tag_params(self, tag: int) -> tuple[ValType, ...]:
        self._check_index("tag", tag, self.module.all_tags)
        return self.module.tag_params(tag)

    # Errors

    def _invalid(self, message: str) -> None:
        raise Invalid(message, offset=self.offset, function=self.func_index)

    def _mismatch(self, expectation: str, actual: ValType) -> None:
        self._invalid(f"type mismatch: {OPS[self.code].name} {expectation}, found {actual}")

    def _unknown_local(self, code: int, offset: int, index: int) -> None:
        self.code, self.offset = code, offset
        if index < len(self.locals):
            self._invalid(f"uninitialized local {index}")
        self._invalid(f"unknown local {index}")

    def _set_local(self, code: int, offset: int, index: int) -> ValType:
        """The type of a local that is set and could not be read up to here."""
        if index >= len(self.locals):
            self._unknown_local(code, offset, index)
        assert isinstance(self.readable, _ReadableLocals)
        self.readable.known_set.add(index)
        self.set_locals.append(index)
        return self.locals[index]

    def _check_memarg(self, code: int, offset: int, immediate: tuple[int, int, int]) -> None:
        """Something about it is unusual, or the instruction is."""
        self.code, self.offset = code, offset
        align, memarg_offset, memory = immediate
        address_type = self._address_type(memory)
        if align > _NATURAL_ALIGN[code]:
            self._invalid(f"alignment must not be larger than natural: 2**{align}")
        if memarg_offset > _MAX_OFFSET and address_type == I32:
            self._invalid(f"offset out of range: {memarg_offset}")


def _all_match(subs: Sequence[ValType], sups: Sequence[ValType]) -> bool:
    return subs == sups or (len(subs) == len(sups) and all(map(matches, subs, sups)))


_RULES_BY_NAME: Final[dict[str, Callable[[_Validator, Any], None]]] = {
    "unreachable": _Validator._rule_unreachable,
    "block": _Validator._rule_block,
    "loop": _Validator._rule_block,
    "if": _Validator._rule_if,
    "else": _Validator._rule_else,
    "end": _Validator._rule_end,
    "br": _Validator._rule_br,
    "br_if": _Validator._rule_br_if,
    "br_table": _Validator._rule_br_table,
    "br_on_null": _Validator._rule_br_on_null,
    "br_on_non_null": _Validator._rule_br_on_non_null,
    "return": _Validator._rule_return,
    "call": _Validator._rule_call,
    "call_indirect": _Validator._rule_call_indirect,
    "return_call": _Validator._rule_return_call,
    "return_call_indirect": _Validator._rule_return_call_indirect,
    "call_ref": _Validator._rule_call_ref,
    "return_call_ref": _Validator._rule_return_call_ref,
    "throw": _Validator._rule_throw,
    "throw_ref": _Validator._rule_throw_ref,
    "try": _Validator._rule_block,
    "catch": _Validator._rule_catch,
    "catch_all": _Validator._rule_catch_all,
    "delegate": _Validator._rule_delegate,
    "rethrow": _Validator._rule_rethrow,
    "try_table": _Validator._rule_try_table,
    "drop": _Validator._rule_drop,
    "select": _Validator._rule_select,
    "select_t": _Validator._rule_select_t,
    "global.get": _Validator._rule_global_get,
    "global.set": _Validator._rule_global_set,
    "table.get": _Validator._rule_table_get,
    "table.set": _Validator._rule_table_set,
    "table.init": _Validator._rule_table_init,
    "elem.drop": _Validator._rule_elem_drop,
    "table.copy": _Validator._rule_table_copy,
    "table.grow": _Validator._rule_table_grow,
    "table.size": _Validator._rule_table_size,
    "table.fill": _Validator._rule_table_fill,
    "memory.size": _Validator._rule_memory_size,
    "memory.grow": _Validator._rule_memory_grow,
    "memory.init": _Validator._rule_memory_init,
    "data.drop": _Validator._rule_data_drop,
    "memory.copy": _Validator._rule_memory_copy,
    "memory.fill": _Validator._rule_memory_fill,
    "ref.null": _Validator._rule_ref_null,
    "ref.is_null": _Validator._rule_ref_is_null,
    "ref.func": _Validator._rule_ref_func,
    "ref.as_non_null": _Validator._rule_ref_as_non_null,
}

_RULES_BY_IMMEDIATES: Final[dict[str, Callable[[_Validator, Any], None]]] = {
    "lane": _Validator._rule_lane,
    "lanes": _Validator._rule_lanes,
    "memarg_lane": _Validator._rule_memarg_lane,
}

_ARITIES: Final = {(0, 0): _NOTHING, (0, 1): _PUSH, (1, 1): _UNARY, (2, 1): _BINARY}
"""Operands and results that the hot loop knows."""

_RULES: Final[dict[int, Callable[[_Validator, Any], None]]] = {
    **{
        op.code: _Validator._rule_regular
        for op in OPS.values()
        if not (op.irregular or op.immediates == "memarg" or (len(op.pops), len(op.pushes)) in _ARITIES)
    },
    **{op.code: _RULES_BY_IMMEDIATES[op.immediates] for op in OPS.values() if op.immediates in _RULES_BY_IMMEDIATES},
    **{op.code: _Validator._rule_atomic for op in OPS.values() if op.family == "atomic" and op.immediates == "memarg"},
    **{BY_NAME[name].code: rule for name, rule in _RULES_BY_NAME.items()},
}

_NATURAL_ALIGN: Final = {op.code: op.align for op in OPS.values() if op.align is not None}

_Shape = tuple[int, ValType, ValType, ValType]


def _shape(op: Op) -> _Shape:
    """(what to do, first operand, second operand, result), with _BASE for what there is not."""
    if op.code in _RULES:
        shape = _RULE
    elif op.name in ("local.get", "local.set", "local.tee"):
        # local.get does not come here: the loop asks for it before all others.
        shape = _TEE if op.name == "local.tee" else _SET
    elif op.immediates == "memarg":
        shape = _LOAD if op.pushes else _STORE
    else:
        shape = _ARITIES[len(op.pops), len(op.pushes)]
    first, second = (*op.pops, _BASE, _BASE)[:2]
    return shape, first, second, (*op.pushes, _BASE)[0]


_SHAPES: Final[dict[int, _Shape]] = {op.code: _shape(op) for op in OPS.values()}
