"""The text format's instructions, plain and folded, to binary code: specification, "Text Format / Instructions".

Nesting is kept on an explicit stack, so its depth is bounded by memory only. What follows an instruction's name is
decided by the immediates column of the instruction table.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from lucet.wasm.leb128 import signed_leb128, unsigned_leb128
from lucet.wasm.opcodes import BY_NAME, Op, split_code
from lucet.wasm.text_cursor import Cursor, Space
from lucet.wasm.text_encode import vector
from lucet.wasm.text_keywords import BLOCKS, CATCHES, INSTRS, KNOWN, UNSUPPORTED_INSTRS
from lucet.wasm.text_lexer import Kind
from lucet.wasm.text_types import Spaces, TypeParser

_MEMORY_INDEX_FLAG: Final = 0x40
_CATCH_ALL: Final = 2
_NO_INSTR: Final = frozenset({Kind.KEYWORD, Kind.RESERVED, Kind.ERROR})
_MEMARG_WORDS: Final = ("offset=", "align=")
_SHAPES: Final = frozenset(("i8x16", "i16x8", "i32x4", "i64x2", "f32x4", "f64x2"))


def _opcode(op: Op) -> bytes:
    if op.code < 0x100:
        return bytes([op.code])
    prefix, number = split_code(op.code)
    return bytes([prefix]) + unsigned_leb128(number)


_OPCODES: Final = {name: _opcode(op) for name, op in BY_NAME.items()}
_SELECT_T: Final = _OPCODES["select_t"]
_ELSE: Final = _OPCODES["else"]
_CLAUSES: Final = frozenset({"catch", "catch_all", "delegate"})
"""Of `try`: what may follow its body."""
_END: Final = _OPCODES["end"]


class _State(Enum):
    """What an open construct waits for."""

    BODY = auto()
    """Instructions, until a parenthesis that is not its own closes."""
    BLOCK = auto()
    """Instructions, until `end`."""
    IF = auto()
    """Instructions, until `else` or `end`."""
    FOLDED = auto()
    """Folded operands, until the parenthesis closes; then the instruction itself is written."""
    FOLDED_BLOCK = auto()
    """Instructions, until the parenthesis closes."""
    FOLDED_IF = auto()
    """Folded operands, until `(then`."""
    ARM = auto()
    """The instructions of a then or else, until the parenthesis closes."""
    AFTER_THEN = auto()
    """`(else`, or the closing parenthesis."""
    AFTER_ELSE = auto()
    """The closing parenthesis."""
    TRY = auto()
    """Instructions, until a clause or `end`."""
    CATCH = auto()
    """The same, but `delegate`."""
    FOLDED_TRY = auto()
    """`(do`."""
    AFTER_DO = auto()
    """`(catch`, `(catch_all`, `(delegate`, or the closing parenthesis."""
    AFTER_CATCH = auto()
    """The same, but `(delegate`."""


_TAKES_INSTRS: Final = frozenset(
    {_State.BODY, _State.BLOCK, _State.IF, _State.FOLDED_BLOCK, _State.ARM, _State.TRY, _State.CATCH}
)
_TAKES_FOLDED: Final = _TAKES_INSTRS | {_State.FOLDED, _State.FOLDED_IF}


@dataclass
class _Frame:
    state: _State
    instr: bytes = b""
    """FOLDED and FOLDED_IF: the instruction to write after its operands."""
    label: str | None = None
    token: int = 0
    """The first of the instruction."""


class Expressions:
    """Parses instruction sequences at the cursor."""

    def __init__(self, cursor: Cursor, spaces: Spaces, types: TypeParser) -> None:
        self.cursor = cursor
        self.spaces = spaces
        self.types = types
        self.locals = Space("local")
        self.uses_data = False
        """Some instruction named a data segment."""
        self.output = bytearray()
        self.marks: list[tuple[int, int]] | None = None
        """Where instructions begin in the output, and their tokens, if somebody wants to know."""
        self.frames: list[_Frame] = []
        self.labels: list[str | None] = []
        self.label_depths: dict[str, list[int]] = {}
        """For each name the positions in `labels` that have it, innermost last."""
        self.immediates: dict[str, Callable[[], bytes]] = {
            "": bytes,
            "label": self.label,
            "br_table": self.label_table,
            "func": self.index_in(spaces.funcs),
            "type": self.index_in(spaces.types),
            "type_table": self.type_and_table,
            "local": self.local,
            "global": self.index_in(spaces.globals),
            "table": self.optional_in(spaces.tables),
            "memarg": self.memarg,
            "zero": lambda: b"\0",
            "memory": self.optional_in(spaces.memories),
            "data_memory": self.data_and_memory,
            "memory_memory": self.optional_pair_in(spaces.memories),
            "data": self.data,
            "elem_table": self.elem_and_table,
            "elem": self.index_in(spaces.elems),
            "table_table": self.optional_pair_in(spaces.tables),
            "i32": lambda: signed_leb128(cursor.expect_signed(32)),
            "i64": lambda: signed_leb128(cursor.expect_signed(64)),
            "f32": lambda: struct.pack("<I", cursor.expect_float_bits(32)),
            "f64": lambda: struct.pack("<Q", cursor.expect_float_bits(64)),
            "v128": self.vector_literal,
            "lane": self.lane,
            "lanes": self.lanes,
            "memarg_lane": self.memarg_and_lane,
            "reftype": types.heaptype,
            "tag": self.index_in(spaces.tags),
        }

    def sequence(self, local_names: Space | None = None) -> bytes:
        """Instructions up to a closing parenthesis, which is left, as an expression with its `end`."""
        self.locals = Space("local") if local_names is None else local_names
        self.frames.append(_Frame(_State.BODY))
        return self.run()

    def folded(self) -> bytes:
        """One folded instruction as an expression with its `end`."""
        self.locals = Space("local")
        self.open()
        return self.run()

    def run(self) -> bytes:
        kinds = self.cursor.kinds
        while self.frames:
            kind = kinds[self.cursor.index]
            if kind is Kind.KEYWORD:
                self.keyword()
            elif kind is Kind.OPEN:
                self.open()
            elif kind is Kind.CLOSE:
                self.close()
            else:
                raise self.cursor.unexpected()
        self.mark(self.cursor.index)
        expression = bytes(self.output) + _END
        self.output.clear()
        return expression

    # Steps: one token, or one instruction, each.

    def keyword(self) -> None:
        cursor, frame = self.cursor, self.frames[-1]
        if frame.state not in _TAKES_INSTRS:
            raise cursor.unexpected()
        self.mark(cursor.index)
        word = cursor.text
        if word in BLOCKS:
            label, instr = self.block_start()
            self.output += instr
            state = {"if": _State.IF, "try": _State.TRY}.get(word, _State.BLOCK)
            self.push_block(_Frame(state, label=label))
        elif word in _CLAUSES and frame.state in (_State.TRY, _State.CATCH):
            self.clause(frame)
        elif word == "else" and frame.state is _State.IF:
            cursor.index += 1
            self.repeated_label(frame)
            self.output += _ELSE
            frame.state = _State.BLOCK
        elif word == "end" and frame.state in (_State.IF, _State.BLOCK, _State.TRY, _State.CATCH):
            cursor.index += 1
            self.repeated_label(frame)
            self.pop_block()
        else:
            self.output += self.plain()

    def open(self) -> None:
        cursor = self.cursor
        state = self.frames[-1].state if self.frames else _State.BODY
        cursor.expect_open()
        token = cursor.index
        word = cursor.text if cursor.kind is Kind.KEYWORD else ""
        if word == "then" and state is _State.FOLDED_IF:
            self.open_then()
        elif word == "else" and state is _State.AFTER_THEN:
            cursor.index += 1
            self.mark(token)
            self.output += _ELSE
            self.frames[-1].state = _State.AFTER_ELSE
            self.frames.append(_Frame(_State.ARM))
        elif word == "do" and state is _State.FOLDED_TRY:
            cursor.index += 1
            self.frames[-1].state = _State.AFTER_DO
            self.frames.append(_Frame(_State.ARM))
        elif word in _CLAUSES and state in (_State.AFTER_DO, _State.AFTER_CATCH):
            self.mark(token)
            self.folded_clause()
        elif state not in _TAKES_FOLDED:
            raise cursor.unexpected()
        elif word == "if":
            label, instr = self.block_start()
            self.frames.append(_Frame(_State.FOLDED_IF, instr=instr, label=label, token=token))
        elif word in BLOCKS:
            label, instr = self.block_start()
            self.mark(token)
            self.output += instr
            self.push_block(_Frame(_State.FOLDED_TRY if word == "try" else _State.FOLDED_BLOCK, label=label))
        else:
            self.frames.append(_Frame(_State.FOLDED, instr=self.plain(), token=token))

    def open_then(self) -> None:
        """The condition is complete: the if and its label begin here."""
        self.cursor.index += 1
        frame = self.frames.pop()
        self.mark(frame.token)
        self.output += frame.instr
        frame.state = _State.AFTER_THEN
        self.push_block(frame)
        self.frames.append(_Frame(_State.ARM))

    def clause(self, frame: _Frame) -> None:
        """`catch $tag`, `catch_all`, or `delegate $label`, which ends the block."""
        word = self.cursor.text
        if word == "delegate":
            if frame.state is not _State.TRY:
                raise self.cursor.unexpected()
            self.delegate()
            self.pop_block(b"")
        else:
            self.cursor.index += 1
            self.output += _OPCODES[word]
            frame.state = _State.BLOCK
            if word == "catch":
                self.output += unsigned_leb128(self.cursor.expect_index(self.spaces.tags))
                frame.state = _State.CATCH

    def folded_clause(self) -> None:
        cursor, frame = self.cursor, self.frames[-1]
        word = cursor.text
        if word == "delegate":
            if frame.state is not _State.AFTER_DO:
                raise cursor.unexpected()
            self.delegate()
            cursor.expect_close()
            self.pop_block(b"")
            cursor.expect_close()
            return
        cursor.index += 1
        self.output += _OPCODES[word]
        if word == "catch":
            self.output += unsigned_leb128(cursor.expect_index(self.spaces.tags))
        frame.state = _State.AFTER_CATCH if word == "catch" else _State.AFTER_ELSE
        self.frames.append(_Frame(_State.ARM))

    def delegate(self) -> None:
        """The label is one outside: the block that ends here does not count."""
        self.cursor.index += 1
        own = self.labels.pop()
        if own is not None:
            self.label_depths[own].pop()
        self.output += _OPCODES["delegate"] + self.label()
        self.labels.append(own)
        if own is not None:
            self.label_depths[own].append(len(self.labels) - 1)

    def close(self) -> None:
        frame = self.frames[-1]
        match frame.state:
            case _State.BODY:
                self.frames.pop()
                return
            case _State.FOLDED:
                self.mark(frame.token)
                self.output += frame.instr
                self.frames.pop()
            case _State.ARM:
                self.frames.pop()
            case _State.FOLDED_BLOCK | _State.AFTER_THEN | _State.AFTER_ELSE | _State.AFTER_DO | _State.AFTER_CATCH:
                self.mark(self.cursor.index)
                self.pop_block()
            case _:
                raise self.cursor.unexpected()
        self.cursor.index += 1

    def mark(self, token: int) -> None:
        """The instruction that is written next began with this token."""
        if self.marks is not None:
            self.marks.append((len(self.output), token))

    # Blocks and their labels

    def block_start(self) -> tuple[str | None, bytes]:
        """The label and the code of `block`, `loop`, `if` or `try_table`."""
        word = self.cursor.text
        self.cursor.index += 1
        label = self.cursor.take_id()
        instr = _OPCODES[word] + self.types.blocktype()
        return label, instr + self.catches() if word == "try_table" else instr

    def catches(self) -> bytes:
        """The clauses of a try_table, whose labels are those outside of it."""
        cursor = self.cursor
        clauses = []
        while (kind := next((kind for kind, word in enumerate(CATCHES) if cursor.take_form(word)), None)) is not None:
            tag = b"" if kind & _CATCH_ALL else unsigned_leb128(cursor.expect_index(self.spaces.tags))
            clauses.append(bytes([kind]) + tag + self.label())
            cursor.expect_close()
        return vector(clauses)

    def push_block(self, frame: _Frame) -> None:
        if frame.label is not None:
            self.label_depths.setdefault(frame.label, []).append(len(self.labels))
        self.labels.append(frame.label)
        self.frames.append(frame)

    def pop_block(self, end: bytes = _END) -> None:
        self.output += end
        self.frames.pop()
        label = self.labels.pop()
        if label is not None:
            self.label_depths[label].pop()

    def repeated_label(self, frame: _Frame) -> None:
        cursor = self.cursor
        index = cursor.index
        label = cursor.take_id()
        if label is not None and label != frame.label:
            raise cursor.malformed("mismatching label", f"${label}", index=index)

    # Plain instructions and their immediates

    def plain(self) -> bytes:
        cursor = self.cursor
        word = cursor.text
        if cursor.kind is not Kind.KEYWORD or word not in INSTRS or word in _CLAUSES | {"else", "end"}:
            raise cursor.unexpected(UNSUPPORTED_INSTRS)
        cursor.index += 1
        if word == "select" and cursor.at_form("result"):
            return _SELECT_T + vector(self.types.results())
        return _OPCODES[word] + self.immediates[BY_NAME[word].immediates]()

    def index_in(self, space: Space) -> Callable[[], bytes]:
        return lambda: unsigned_leb128(self.cursor.expect_index(space))

    def optional_in(self, space: Space) -> Callable[[], bytes]:
        return lambda: unsigned_leb128(self.cursor.expect_index(space) if self.cursor.at_index() else 0)

    def optional_pair_in(self, space: Space) -> Callable[[], bytes]:
        def pair() -> bytes:
            if not self.cursor.at_index():
                return bytes(2)
            first = self.cursor.expect_index(space)
            return unsigned_leb128(first) + unsigned_leb128(self.cursor.expect_index(space))

        return pair

    def local(self) -> bytes:
        return unsigned_leb128(self.cursor.expect_index(self.locals))

    def data(self) -> bytes:
        self.uses_data = True
        return unsigned_leb128(self.cursor.expect_index(self.spaces.datas))

    def label(self) -> bytes:
        cursor = self.cursor
        if cursor.kind is not Kind.ID:
            return unsigned_leb128(cursor.expect_unsigned(32))
        positions = self.label_depths.get(cursor.text)
        if not positions:
            raise cursor.malformed("unknown label", f"${cursor.text}")
        cursor.index += 1
        return unsigned_leb128(len(self.labels) - 1 - positions[-1])

    def label_table(self) -> bytes:
        labels = [self.label()]
        while self.cursor.at_index():
            labels.append(self.label())
        return vector(labels[:-1]) + labels[-1]

    def type_and_table(self) -> bytes:
        cursor = self.cursor
        table = cursor.expect_index(self.spaces.tables) if cursor.at_index() else 0
        return unsigned_leb128(self.types.anonymous_typeuse().index) + unsigned_leb128(table)

    def memarg(self, *, has_memory: bool | None = None) -> bytes:
        """has_memory: whether the next token is the index of a memory; None: if it is an index at all."""
        cursor = self.cursor
        op = BY_NAME[cursor.texts[cursor.index - 1]]
        has_memory = cursor.at_index() if has_memory is None else has_memory
        memory = cursor.expect_index(self.spaces.memories) if has_memory else 0
        offset = cursor.take_memarg_word("offset") or 0
        index = cursor.index
        align = cursor.take_memarg_word("align")
        if align is None:
            assert op.align is not None
            exponent = op.align
        else:
            exponent = align.bit_length() - 1
            if align.bit_count() != 1 or exponent >= _MEMORY_INDEX_FLAG:
                raise cursor.malformed("alignment must be a power of two", index=index)
        if memory:
            return unsigned_leb128(exponent | _MEMORY_INDEX_FLAG) + unsigned_leb128(memory) + unsigned_leb128(offset)
        return unsigned_leb128(exponent) + unsigned_leb128(offset)

    def memarg_and_lane(self) -> bytes:
        """The index of a memory can be told from the lane by what follows it."""
        cursor = self.cursor
        followed = cursor.kinds[cursor.index + 1] is Kind.NAT or cursor.texts[cursor.index + 1].startswith(
            _MEMARG_WORDS
        )
        return self.memarg(has_memory=cursor.at_index() and followed) + self.lane()

    def lane(self) -> bytes:
        return bytes([self.cursor.expect_unsigned(8)])

    def lanes(self) -> bytes:
        cursor = self.cursor
        self.expect_numbers(16, "invalid lane length")
        if any(kind is not Kind.NAT for kind in cursor.kinds[cursor.index : cursor.index + 16]):
            raise cursor.malformed("i8 constant out of range")
        return b"".join(self.lane() for _ in range(16))

    def vector_literal(self) -> bytes:
        cursor = self.cursor
        shape = cursor.text if cursor.kind is Kind.KEYWORD else ""
        if shape not in _SHAPES:
            raise cursor.unexpected()
        cursor.index += 1
        lane, count = shape.split("x")
        self.expect_numbers(int(count), "wrong number of lane literals")
        bits = int(lane[1:])
        expect = cursor.expect_float_bits if lane[0] == "f" else cursor.expect_signed
        mask = (1 << bits) - 1
        return b"".join((expect(bits) & mask).to_bytes(bits // 8, "little") for _ in range(int(count)))

    def expect_numbers(self, count: int, message: str) -> None:
        """Exactly so many numbers must follow."""
        cursor = self.cursor
        end = cursor.index
        while cursor.kinds[end] in (Kind.NAT, Kind.INT, Kind.FLOAT):
            end += 1
        if end - cursor.index == count:
            return
        if cursor.kinds[end] in _NO_INSTR and cursor.texts[end] not in KNOWN:
            cursor.index = end
            raise cursor.unexpected()
        raise cursor.malformed(message)

    def data_and_memory(self) -> bytes:
        """`memory.init x? y`: the memory comes first in the text, last in the code."""
        self.uses_data = True
        memory, data = self.optional_then(self.spaces.memories, self.spaces.datas)
        return unsigned_leb128(data) + unsigned_leb128(memory)

    def elem_and_table(self) -> bytes:
        """`table.init x? y`, likewise."""
        table, elem = self.optional_then(self.spaces.tables, self.spaces.elems)
        return unsigned_leb128(elem) + unsigned_leb128(table)

    def optional_then(self, optional: Space, required: Space) -> tuple[int, int]:
        cursor = self.cursor
        two = cursor.at_index() and cursor.kinds[cursor.index + 1] in (Kind.NAT, Kind.ID)
        first = cursor.expect_index(optional) if two else 0
        return first, cursor.expect_index(required)
