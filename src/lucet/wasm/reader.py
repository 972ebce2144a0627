"""A position in the bytes of a module: integers in LEB128, names and types, with errors that know their file offset.

The rules and the words of the errors are those of the specification's "Binary Format / Values" and "Types".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from lucet.errors import Invalid, LimitExceeded, LocatedError, Malformed, Unsupported
from lucet.wasm.types import VALTYPE_CODES, FuncType, ValType, is_ref, non_null, ref_type

_E = TypeVar("_E", bound=LocatedError)

UNEXPECTED_END: Final = "unexpected end of section or function"

_REF_NULL: Final = 0x63
_REF: Final = 0x64
_HEAP_TYPES: Final = {code: valtype for code, valtype in VALTYPE_CODES.items() if is_ref(valtype)}
"""Abstract ones, as the nullable references to them."""
_UNSUPPORTED_HEAP_TYPES: Final = {
    # array, struct, i31, eq, any, none
    **dict.fromkeys((0x6A, 0x6B, 0x6C, 0x6D, 0x6E, 0x71), "garbage collection"),
}


class Reader:
    """Reads `data`, whose first byte is at file offset `base`; `function` is only for the errors.

    Each section and each function body has its own Reader over its own bytes, so that the end of the bytes is always
    the end that counts. `types` are the module's, as far as they are known: what a type index may stand for. The type
    that is just being defined comes behind them, and may be named, too, if `defines_type`.
    """

    __slots__ = ("base", "data", "defines_type", "function", "pos", "types")

    def __init__(
        self, data: bytes, *, base: int = 0, function: int | None = None, types: Sequence[FuncType] = ()
    ) -> None:
        self.data = data
        self.pos = 0
        self.base = base
        self.function = function
        self.types = types
        self.defines_type = False

    @property
    def offset(self) -> int:
        """Where in the file the next byte is."""
        return self.base + self.pos

    @property
    def remaining(self) -> int:
        return len(self.data) - self.pos

    def malformed(self, message: str, pos: int | None = None) -> Malformed:
        return self._located(Malformed, message, pos)

    def unsupported(self, feature: str, pos: int | None = None) -> Unsupported:
        return self._located(Unsupported, f"unsupported feature: {feature}", pos)

    def unexpected_end(self) -> Malformed:
        return self.malformed(UNEXPECTED_END, len(self.data))

    def byte(self) -> int:
        try:
            value = self.data[self.pos]
        except IndexError:
            raise self.unexpected_end() from None
        self.pos += 1
        return value

    def take(self, length: int) -> bytes:
        if length > self.remaining:
            raise self.unexpected_end()
        start = self.pos
        self.pos += length
        return self.data[start : self.pos]

    def u32(self) -> int:
        return self._unsigned(32)

    def u64(self) -> int:
        return self._unsigned(64)

    def s32(self) -> int:
        return self._signed(32)

    def s33(self) -> int:
        return self._signed(33)

    def s64(self) -> int:
        return self._signed(64)

    def length(self) -> int:
        """The length of a vector. Every element takes a byte at least: a claim of more than there is fails at once."""
        available = self.remaining
        start = self.pos
        length = self.u32()
        # Not reduced by the bytes of the length itself: that is what the test suite's wording comes from.
        if length > available:
            raise self.malformed("length out of bounds", start)
        return length

    def count(self, limit: int, what: str) -> int:
        """The length of a vector with an implementation limit."""
        start = self.pos
        count = self.length()
        if count > limit:
            raise self._located(LimitExceeded, f"too many {what}: {count}, the limit is {limit}", start)
        return count

    def name(self) -> str:
        length = self.length()
        start = self.pos
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise self.malformed("malformed UTF-8 encoding", start) from None

    def valtype(self) -> ValType:
        start = self.pos
        code = self.byte()
        valtype = VALTYPE_CODES.get(code)
        return self._reference(code, start, "malformed value type") if valtype is None else valtype

    def reftype(self) -> ValType:
        start = self.pos
        return self._reference(self.byte(), start, "malformed reference type")

    def heaptype(self) -> ValType:
        """A heap type, as the nullable reference type to it."""
        start = self.pos
        code = self.byte()
        if code in _HEAP_TYPES:
            return _HEAP_TYPES[code]
        if code in _UNSUPPORTED_HEAP_TYPES:
            raise self.unsupported(_UNSUPPORTED_HEAP_TYPES[code], start)
        self.pos = start
        index = self.s33()
        if index < 0:
            raise self._bad_type(code, start, "malformed heap type")
        if index < len(self.types):
            return self.types[index].ref(nullable=True)
        if index == len(self.types) and self.defines_type:
            return ref_type("#rec.0", nullable=True)
        # An error of validation, found here because the type would be the type index itself otherwise.
        raise self._located(Invalid, f"unknown type {index}", start)

    def _reference(self, code: int, start: int, message: str) -> ValType:
        if code in _HEAP_TYPES:
            return _HEAP_TYPES[code]
        if code in _UNSUPPORTED_HEAP_TYPES:
            raise self.unsupported(_UNSUPPORTED_HEAP_TYPES[code], start)
        if code == _REF_NULL:
            return self.heaptype()
        if code == _REF:
            return non_null(self.heaptype())
        raise self._bad_type(code, start, message)

    def _bad_type(self, code: int, start: int, message: str) -> Malformed:
        # Type codes are 7-bit signed integers, and a second byte is one too many.
        return self.malformed("integer representation too long" if code & 0x80 else message, start)

    def _unsigned(self, bits: int) -> int:
        data, start = self.data, self.pos
        pos, value, shift = start, 0, 0
        try:
            while shift < bits:
                byte = data[pos]
                pos += 1
                low = byte & 0x7F
                if bits - shift < 7 and low >> (bits - shift):
                    raise self.malformed("integer too large", start)
                value |= low << shift
                if byte < 0x80:
                    self.pos = pos
                    return value
                shift += 7
        except IndexError:
            raise self.unexpected_end() from None
        raise self.malformed("integer representation too long", start)

    def _signed(self, bits: int) -> int:
        data, start = self.data, self.pos
        pos, value, shift = start, 0, 0
        try:
            while shift < bits:
                byte = data[pos]
                pos += 1
                low = byte & 0x7F
                # The last byte's bits from the sign bit on must all be equal.
                if bits - shift < 7 and low >> (bits - shift - 1) not in (0, 0x7F >> (bits - shift - 1)):
                    raise self.malformed("integer too large", start)
                value |= low << shift
                shift += 7
                if byte < 0x80:
                    self.pos = pos
                    return value - (1 << shift) if byte & 0x40 else value
        except IndexError:
            raise self.unexpected_end() from None
        raise self.malformed("integer representation too long", start)

    def _located(self, error: type[_E], message: str, pos: int | None) -> _E:
        offset = self.base + (self.pos if pos is None else pos)
        return error(message, offset=offset, function=self.function)
