"""The text format to the binary format: specification, "Text Format / Modules".

    tokenize -> declare (all names, since a text may use one before its definition) -> define (each field in turn)

The result is not validated. The words of the errors are the test suite's; places are line:column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from lucet.errors import Malformed
from lucet.limits import WASM_PAGE_SIZE_LOG2
from lucet.wasm.leb128 import unsigned_leb128
from lucet.wasm.text_cursor import Cursor, Space
from lucet.wasm.text_declare import declare
from lucet.wasm.text_encode import Sections, name, run_lengths, sized, vector
from lucet.wasm.text_instr import Expressions
from lucet.wasm.text_keywords import UNSUPPORTED_FORMS
from lucet.wasm.text_lexer import Kind, Tokens, tokenize
from lucet.wasm.text_segments import Segments
from lucet.wasm.text_types import Spaces, TextLimits, TypeParser, TypeUse

_KINDS: Final = {"func": b"\x00", "table": b"\x01", "memory": b"\x02", "global": b"\x03", "tag": b"\x04"}
"""Codes of imports and exports."""

_EXCEPTION: Final = b"\x00"
"""The attribute of a tag."""

_TABLE_WITH_INIT: Final = b"\x40\x00"


def text_to_binary(text: str | bytes) -> bytes:
    """The binary of one module, `(module ...)` or just its fields. Raises Malformed, Unsupported or LimitExceeded."""
    return parse(decode_text(text)).binary


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Which token each part of the binary began with."""

    fields: dict[str, list[int]] = field(default_factory=dict)
    """For each list of text_encode.Sections, a token for each entry."""
    bodies: list[tuple[int, list[tuple[int, int]]]] = field(default_factory=list)
    """For each function body the size of its code, and (offset in the code, token) of each instruction."""


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A parsed text. Only the trace says where things came from, and only if one was asked for."""

    binary: bytes
    tokens: Tokens
    sections: Sections
    imported_funcs: int
    trace: Trace


def parse(text: str, *, trace: bool = False) -> Parsed:
    tokens = tokenize(text)
    parser = _ModuleParser(Cursor(tokens), trace=trace)
    binary = parser.module()
    imported_funcs = parser.counts["func"] - len(parser.sections.funcs)
    return Parsed(
        binary=binary, tokens=tokens, sections=parser.sections, imported_funcs=imported_funcs, trace=parser.trace
    )


def decode_text(text: str | bytes) -> str:
    """The text as UTF-8 has it, without lone surrogates."""
    try:
        return (text.encode() if isinstance(text, str) else text).decode()
    except UnicodeEncodeError as error:
        raise Malformed(f"malformed UTF-8 encoding at character {error.start}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        column = error.start - error.object.rfind(b"\n", 0, error.start)
        raise Malformed("malformed UTF-8 encoding", line=line, column=column) from error


class _ModuleParser:
    def __init__(self, cursor: Cursor, *, trace: bool) -> None:
        self.cursor = cursor
        self.trace = Trace()
        self.tracing = trace
        self.spaces = Spaces()
        self.sections = Sections()
        self.types = TypeParser(cursor, self.spaces.types)
        self.expressions = Expressions(cursor, self.spaces, self.types)
        self.segments = Segments(cursor, self.spaces, self.types, self.expressions, self.sections)
        self.counts = dict.fromkeys(_KINDS, 0)
        """How many of each index space have been defined so far."""
        self.definitions = {
            "import": self.define_import,
            "func": self.define_func,
            "table": self.define_table,
            "memory": self.define_memory,
            "global": self.define_global,
            "tag": self.define_tag,
            "export": self.define_export,
            "start": self.define_start,
            "elem": self.segments.define_elem,
            "data": self.segments.define_data,
        }

    def module(self) -> bytes:
        cursor = self.cursor
        wrapped = cursor.take_form("module")
        self.sections.module_name = cursor.take_id() if wrapped else None
        declare(cursor, self.spaces)
        self.define_types()
        self.define_fields()
        if wrapped:
            cursor.expect_close()
        if cursor.kind is not Kind.END:
            raise cursor.unexpected()
        self.sections.types = [functype.encode() for functype in self.spaces.types.types]
        self.sections.needs_data_count = self.expressions.uses_data
        return self.sections.encode()

    def define_types(self) -> None:
        """The types of the text first: a type use may add a type, which goes behind all of them. The cursor stays."""
        cursor = self.cursor
        start = cursor.index
        while cursor.kind is Kind.OPEN:
            if cursor.at_form("type"):
                self.trace.fields.setdefault("types", []).append(cursor.index)
                self.define_type()
                cursor.expect_close()
            elif cursor.at_form("rec"):
                cursor.index += 1
                raise cursor.unexpected(UNSUPPORTED_FORMS)
            else:
                cursor.index = cursor.tokens.closes[cursor.index]
                if not cursor.take_close():
                    break
        cursor.index = start

    def define_fields(self) -> None:
        cursor = self.cursor
        while cursor.kind is Kind.OPEN:
            if cursor.at_form("type"):
                cursor.index = cursor.tokens.closes[cursor.index]
            else:
                opened = cursor.index
                cursor.index += 1
                self.define_field()
                self.trace_field(opened)
            cursor.expect_close()

    def trace_field(self, opened: int) -> None:
        """The field whose parenthesis is the token `opened` is complete: what entries it has made are its."""
        if self.tracing:
            for kind, entries in vars(self.sections).items():
                if isinstance(entries, list):
                    tokens = self.trace.fields.setdefault(kind, [])
                    tokens += [opened] * (len(entries) - len(tokens))

    def define_field(self) -> None:
        cursor = self.cursor
        if cursor.kind is not Kind.KEYWORD or cursor.text not in self.definitions:
            raise cursor.unexpected(UNSUPPORTED_FORMS)
        define = self.definitions[cursor.text]
        cursor.index += 1
        define()

    # Fields: each method parses what follows the field's word, up to its closing parenthesis.

    def define_type(self) -> None:
        cursor = self.cursor
        cursor.index += 2
        cursor.take_id()
        cursor.expect_open()
        if not cursor.take_keyword("func"):
            raise cursor.unexpected(UNSUPPORTED_FORMS)
        self.spaces.types.add(self.types.functype())
        cursor.expect_close()

    def define_import(self) -> None:
        cursor = self.cursor
        origin = name(cursor.expect_name()) + name(cursor.expect_name())
        kind = self.open_kind()
        self.begin(kind)
        self.add_import(kind, origin)
        cursor.expect_close()

    def define_func(self) -> None:
        index = self.begin("func")
        if self.abbreviations("func", index):
            return
        typeuse = self.types.typeuse()
        local_names = self.parameters(typeuse)
        locals_ = self.locals(local_names)
        self.sections.funcs.append(unsigned_leb128(typeuse.index))
        self.expressions.marks = [] if self.tracing else None
        code = self.expressions.sequence(local_names)
        if self.expressions.marks is not None:
            self.trace.bodies.append((len(code), self.expressions.marks))
            self.expressions.marks = None
        self.sections.codes.append(sized(locals_ + code))

    def define_table(self) -> None:
        cursor = self.cursor
        index = self.begin("table")
        if self.abbreviations("table", index):
            return
        address_64 = self.types.address_64()
        if not self.types.at_reftype():
            tabletype = self.types.tabletype(address_64)
            init = None if cursor.kind is Kind.CLOSE else self.expressions.sequence()
            self.sections.tables.append(tabletype if init is None else _TABLE_WITH_INIT + tabletype + init)
            return
        reftype = self.types.reftype()
        size = self.segments.inline_elem(index, reftype, address_64)
        limits = TextLimits(address_64=address_64, minimum=size, maximum=size)
        self.sections.tables.append(reftype + limits.encode())

    def define_memory(self) -> None:
        index = self.begin("memory")
        if self.abbreviations("memory", index):
            return
        address_64 = self.types.address_64()
        if not self.cursor.at_form("data") and not self.cursor.at_form("pagesize"):
            self.sections.memories.append(self.types.memtype(address_64))
            return
        page_size_log2 = self.types.page_size_log2()
        size = self.segments.inline_data(index, address_64)
        pages = -(-size >> (WASM_PAGE_SIZE_LOG2 if page_size_log2 is None else page_size_log2))
        limits = TextLimits(address_64=address_64, minimum=pages, maximum=pages, page_size_log2=page_size_log2)
        self.sections.memories.append(limits.encode())

    def define_global(self) -> None:
        index = self.begin("global")
        if not self.abbreviations("global", index):
            self.sections.globals.append(self.types.globaltype() + self.expressions.sequence())

    def define_tag(self) -> None:
        index = self.begin("tag")
        if not self.abbreviations("tag", index):
            self.sections.tags.append(self.tagtype())

    def tagtype(self) -> bytes:
        return _EXCEPTION + unsigned_leb128(self.types.typeuse().index)

    def define_export(self) -> None:
        cursor = self.cursor
        exported = cursor.expect_name()
        kind = self.open_kind()
        self.add_export(exported, kind, cursor.expect_index(self.spaces.by_word[kind]))
        cursor.expect_close()

    def define_start(self) -> None:
        if self.sections.start is not None:
            raise self.cursor.malformed("multiple start sections")
        self.sections.start = unsigned_leb128(self.cursor.expect_index(self.spaces.funcs))

    # Parts of fields

    def open_kind(self) -> str:
        """Steps over `(func` or another kind of import and export."""
        cursor = self.cursor
        cursor.expect_open()
        if cursor.kind is not Kind.KEYWORD or cursor.text not in _KINDS:
            raise cursor.unexpected(UNSUPPORTED_FORMS)
        cursor.index += 1
        return cursor.texts[cursor.index - 1]

    def begin(self, kind: str) -> int:
        """The index of the definition whose identifier, if any, is at the cursor."""
        index = self.counts[kind]
        self.counts[kind] += 1
        identifier = self.cursor.take_id()
        if identifier is not None and kind == "func":
            self.sections.func_names[index] = identifier
        return index

    def abbreviations(self, kind: str, index: int) -> bool:
        """Inline exports, then an inline import: whether there is one, and then the definition is complete."""
        cursor = self.cursor
        while cursor.take_form("export"):
            self.add_export(cursor.expect_name(), kind, index)
            cursor.expect_close()
        if not cursor.take_form("import"):
            return False
        origin = name(cursor.expect_name()) + name(cursor.expect_name())
        cursor.expect_close()
        self.add_import(kind, origin)
        return True

    def add_import(self, kind: str, origin: bytes) -> None:
        match kind:
            case "func":
                desc = unsigned_leb128(self.types.typeuse().index)
            case "table":
                desc = self.types.tabletype(self.types.address_64())
            case "tag":
                desc = self.tagtype()
            case "memory":
                desc = self.types.memtype(self.types.address_64())
            case _:
                desc = self.types.globaltype()
        self.sections.imports.append(origin + _KINDS[kind] + desc)

    def add_export(self, exported: str, kind: str, index: int) -> None:
        self.sections.exports.append(name(exported) + _KINDS[kind] + unsigned_leb128(index))

    def parameters(self, typeuse: TypeUse) -> Space:
        """The space of the locals with the parameters in it."""
        local_names = Space("local")
        for param, index in typeuse.param_names:
            local_names.count = param
            self.cursor.declare(local_names, index)
        local_names.count = len(typeuse.functype.params) if typeuse.functype is not None else 0
        return local_names

    def locals(self, local_names: Space) -> bytes:
        """The locals that a function declares, encoded."""
        cursor = self.cursor
        declared: list[bytes] = []
        first = local_names.count
        while cursor.take_form("local"):
            if cursor.kind is Kind.ID:
                local_names.count = first + len(declared)
                cursor.declare(local_names, cursor.index)
                cursor.index += 1
                declared.append(self.types.valtype())
                cursor.expect_close()
            else:
                declared += self.types.valtypes()
        return vector([unsigned_leb128(count) + valtype for count, valtype in run_lengths(declared)])
