"""The text format's types and type uses, in the binary format's encoding: specification, "Text Format / Types"."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from lucet.wasm.leb128 import signed_leb128, unsigned_leb128
from lucet.wasm.text_cursor import Cursor, Space
from lucet.wasm.text_encode import vector
from lucet.wasm.text_keywords import HEAPTYPES, REF, REF_NULL, REFTYPES, VALTYPES
from lucet.wasm.text_lexer import Kind

_FUNC: Final = b"\x60"
_EMPTY_BLOCK: Final = b"\x40"
_MUTABILITY: Final = {False: b"\x00", True: b"\x01"}
_HAS_MAXIMUM: Final = 0x01
_SHARED: Final = 0x02
_ADDRESS_64: Final = 0x04
_PAGE_SIZE: Final = 0x08


@dataclass(frozen=True)
class TextFuncType:
    """A function type of encoded value types."""

    params: tuple[bytes, ...] = ()
    results: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        return _FUNC + vector(self.params) + vector(self.results)


class TypeSpace(Space):
    """The type index space: explicit types first, then those that type uses add."""

    def __init__(self) -> None:
        super().__init__("type")
        self.types: list[TextFuncType] = []
        self.indices: dict[TextFuncType, int] = {}
        """The smallest index of each type."""

    def add(self, functype: TextFuncType) -> int:
        self.indices.setdefault(functype, len(self.types))
        self.types.append(functype)
        return len(self.types) - 1

    def index_of(self, functype: TextFuncType) -> int:
        known = self.indices.get(functype)
        return self.add(functype) if known is None else known


class Spaces:
    """The index spaces of a module, also by the words that introduce their definitions."""

    def __init__(self) -> None:
        self.types = TypeSpace()
        self.funcs = Space("function")
        self.tables = Space("table")
        self.memories = Space("memory")
        self.globals = Space("global")
        self.tags = Space("tag")
        self.elems = Space("elem segment")
        self.datas = Space("data segment")
        self.by_word: dict[str, Space] = {
            "type": self.types,
            "func": self.funcs,
            "table": self.tables,
            "memory": self.memories,
            "global": self.globals,
            "tag": self.tags,
            "elem": self.elems,
            "data": self.datas,
        }


@dataclass(kw_only=True)
class TypeUse:
    """A type index, with the parameters' identifiers where the text has them."""

    index: int
    functype: TextFuncType | None
    """None when there is no such type, which validation reports."""
    param_names: list[tuple[int, int]] = field(default_factory=list)
    """(parameter, index of its identifier's token)"""


@dataclass(frozen=True, kw_only=True)
class TextLimits:
    address_64: bool
    minimum: int
    maximum: int | None
    shared: bool = False
    page_size_log2: int | None = None
    """None: not stated."""

    def encode(self) -> bytes:
        flags = (_ADDRESS_64 if self.address_64 else 0) | (0 if self.maximum is None else _HAS_MAXIMUM)
        flags |= (_SHARED if self.shared else 0) | (0 if self.page_size_log2 is None else _PAGE_SIZE)
        numbers = [n for n in (self.minimum, self.maximum, self.page_size_log2) if n is not None]
        return bytes([flags]) + b"".join(unsigned_leb128(number) for number in numbers)


class TypeParser:
    """Parses types at the cursor; identifiers of types are those in `space`."""

    def __init__(self, cursor: Cursor, space: TypeSpace) -> None:
        self.cursor = cursor
        self.space = space

    def functype(self) -> TextFuncType:
        """The parameters and results of `(func ...)`, whose parameters' names mean nothing."""
        return self._params_and_results([])

    def typeuse(self) -> TypeUse:
        names: list[tuple[int, int]] = []
        return self._typeuse(names)

    def anonymous_typeuse(self) -> TypeUse:
        """A type use within an instruction, where parameters have no names."""
        return self._typeuse(None)

    def blocktype(self) -> bytes:
        cursor = self.cursor
        if not cursor.at_form("type"):
            functype = self._params_and_results(None)
            if not functype.params and len(functype.results) < 2:
                return functype.results[0] if functype.results else _EMPTY_BLOCK
            return signed_leb128(self.space.index_of(functype))
        return signed_leb128(self._typeuse(None).index)

    def results(self) -> list[bytes]:
        cursor = self.cursor
        results: list[bytes] = []
        while cursor.take_form("result"):
            results += self.valtypes()
        return results

    def valtypes(self) -> list[bytes]:
        """Value types up to and with the closing parenthesis."""
        valtypes: list[bytes] = []
        while not self.cursor.take_close():
            valtypes.append(self.valtype())
        return valtypes

    def valtype(self) -> bytes:
        if self.cursor.at_form("ref"):
            return self.reftype()
        return self._word(VALTYPES)

    def at_reftype(self) -> bool:
        cursor = self.cursor
        return cursor.at_form("ref") or (cursor.kind is Kind.KEYWORD and cursor.text in REFTYPES)

    def reftype(self) -> bytes:
        cursor = self.cursor
        if not cursor.take_form("ref"):
            return self._word(REFTYPES)
        nullable = cursor.take_keyword("null")
        short = nullable and cursor.kind is Kind.KEYWORD
        heaptype = self.heaptype()
        cursor.expect_close()
        if short:
            return heaptype
        return (REF_NULL if nullable else REF) + heaptype

    def heaptype(self) -> bytes:
        if self.cursor.at_index():
            return signed_leb128(self.cursor.expect_index(self.space))
        return self._word(HEAPTYPES)

    def globaltype(self) -> bytes:
        cursor = self.cursor
        if not cursor.take_form("mut"):
            return self.valtype() + _MUTABILITY[False]
        valtype = self.valtype()
        cursor.expect_close()
        return valtype + _MUTABILITY[True]

    def address_64(self) -> bool:
        """Whether the address type is i64; it is i32 where none is stated."""
        if self.cursor.take_keyword("i64"):
            return True
        self.cursor.take_keyword("i32")
        return False

    def limits(self, address_64: bool) -> TextLimits:
        cursor = self.cursor
        minimum = cursor.expect_unsigned(64)
        maximum = cursor.expect_unsigned(64) if cursor.kind is Kind.NAT else None
        return TextLimits(address_64=address_64, minimum=minimum, maximum=maximum)

    def memtype(self, address_64: bool) -> bytes:
        cursor = self.cursor
        limits = self.limits(address_64)
        shared = cursor.take_keyword("shared")
        return replace(limits, shared=shared, page_size_log2=self.page_size_log2()).encode()

    def page_size_log2(self) -> int | None:
        """`(pagesize n)`, if it is there."""
        cursor = self.cursor
        if not cursor.take_form("pagesize"):
            return None
        index = cursor.index
        size = cursor.expect_unsigned(64)
        if size.bit_count() != 1:
            raise cursor.malformed("invalid custom page size", str(size), index=index)
        cursor.expect_close()
        return size.bit_length() - 1

    def tabletype(self, address_64: bool) -> bytes:
        limits = self.limits(address_64)
        return self.reftype() + limits.encode()

    def _word(self, encodings: dict[str, bytes]) -> bytes:
        cursor = self.cursor
        if cursor.kind is not Kind.KEYWORD or cursor.text not in encodings:
            raise cursor.unexpected()
        cursor.index += 1
        return encodings[cursor.texts[cursor.index - 1]]

    def _typeuse(self, names: list[tuple[int, int]] | None) -> TypeUse:
        cursor = self.cursor
        if not cursor.take_form("type"):
            functype = self._params_and_results(names)
            return TypeUse(index=self.space.index_of(functype), functype=functype, param_names=names or [])
        at = cursor.index
        index = cursor.expect_index(self.space)
        cursor.expect_close()
        inline = self._params_and_results(names)
        explicit = self.space.types[index] if index < len(self.space.types) else None
        if inline != TextFuncType():
            if explicit is None:
                raise cursor.malformed("unknown type", cursor.texts[at], index=at)
            if inline != explicit:
                raise cursor.malformed("inline function type does not match explicit type", index=at)
        return TypeUse(index=index, functype=explicit, param_names=names or [])

    def _params_and_results(self, names: list[tuple[int, int]] | None) -> TextFuncType:
        """names: where to put the parameters' names, None if they may have none."""
        cursor = self.cursor
        params: list[bytes] = []
        while cursor.take_form("param"):
            if names is not None and cursor.kind is Kind.ID:
                names.append((len(params), cursor.index))
                cursor.index += 1
                params.append(self.valtype())
                cursor.expect_close()
            else:
                params += self.valtypes()
        results = self.results()
        if cursor.at_form("param"):
            cursor.index += 1
            raise cursor.unexpected()
        return TextFuncType(tuple(params), tuple(results))
