"""The exceptions of Lucet.

LucetError(Exception)
+-- CompileError            something about the input of the compiler
|   +-- Malformed           the bytes are not a module             (offset, function; of a text: line, column, excerpt)
|   +-- Invalid             a module, but not a valid one          (the same)
|   +-- Unsupported         valid perhaps, but uses a feature that is not implemented  (the same)
|   +-- LimitExceeded       larger than an implementation limit    (the same)
|   +-- CompilerFailed      a compiler process died or misbehaved
+-- ArtifactError           not an artifact of this version, or not for this machine
|   +-- SignatureError      a signature is missing or is another's, or a key is none
+-- LinkError               an import is missing or of another type
+-- LimitsExceeded          the region cannot hold the instance
+-- RegionFull              no free slot
+-- InstanceError           an operation that the instance's state does not allow
+-- MemoryAccessError(IndexError)  the host asked for bytes outside guest memory
+-- Trap                    the guest trapped  (code, function, offset)
|   +-- TimedOut(TimeoutError)  it ran for longer than it was given
|   +-- OutOfFuel           it was to execute more instructions than Instance.fuel allows
+-- WasmException           the guest threw an exception that it did not catch  (tag, values, function, offset)
+-- Exit                    the guest ended its program  (status)
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Sequence
from functools import cached_property


class LucetError(Exception):
    """Base of every exception that Lucet raises on purpose.

    element: of Func.map, which element of the arrays it was, counted in C order; else None.
    """

    element: int | None = None


class CompileError(LucetError):
    """The compiler refuses its input."""


class LocatedError(CompileError):
    """A CompileError at a place in the .wasm: offset in bytes, function index where there is one.

    Of a text also line and column, both from 1, and excerpt: that line with a caret under the place, in two lines.
    """

    def __init__(
        self,
        message: str,
        *,
        offset: int | None = None,
        function: int | None = None,
        line: int | None = None,
        column: int | None = None,
        excerpt: str | None = None,
    ) -> None:
        super().__init__(message, offset, function)
        self.message = message
        self.offset = offset
        self.function = function
        self.line = line
        self.column = column
        self.excerpt = excerpt

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_located, (type(self), self.message), vars(self)

    def __str__(self) -> str:
        place = "" if self.function is None else f" in function {self.function}"
        if self.line is not None:
            return f"{self.message}{place} at {self.line}:{self.column}"
        place += "" if self.offset is None else f" at offset {self.offset:#x}"
        return self.message + place


def _rebuild_located(cls: type[LocatedError], message: str) -> LocatedError:
    return cls(message)


class Malformed(LocatedError):
    """The bytes are not a WebAssembly module; the message begins with the test suite's words."""


class Invalid(LocatedError):
    """The module is not valid; the message begins with the test suite's words."""


class Unsupported(LocatedError):
    """The module uses a feature of WebAssembly that is not implemented; the message names it."""


class LimitExceeded(LocatedError):
    """The module exceeds one of the implementation limits in lucet.limits; the message names it."""


class CompilerFailed(CompileError):
    """A compiler process died, ran out of its limits or answered nonsense."""


class ArtifactError(LucetError):
    """A file is not an artifact that this runtime and this machine can run."""


class SignatureError(ArtifactError):
    """A signature is missing, or is not one of this file by this key; or a key is not one."""


class LinkError(LucetError):
    """An import is missing or does not match."""


class LimitsExceeded(LucetError):
    """A module or instance needs more than the region's limits allow."""


class RegionFull(LucetError):
    """The region has no free slot."""


class InstanceError(LucetError):
    """The operation is not allowed in the instance's present state."""


class MemoryAccessError(LucetError, IndexError):
    """The host asked for bytes outside guest memory."""


class _GuestFrames(LucetError):
    """Shows the guest's frames where a run ended."""

    _frames: Sequence[tuple[str, int | None, bytes | None] | None]

    @property
    def frames(self) -> tuple[tuple[str, int | None], ...]:
        return tuple(frame[:2] for frame in self._frames if frame is not None)

    @cached_property
    def sources(self) -> tuple[tuple[str, int] | None, ...]:
        """(file, line) of each frame, None where it is not known: the module must carry DWARF."""
        return tuple(_find_source(frame[1], frame[2]) for frame in self._frames if frame is not None)

    # What Python shows below an exception; made when somebody looks, and then a list like any other exception's.
    @cached_property
    def __notes__(self) -> list[str]:  # type: ignore[override]  # typeshed has a plain attribute
        both = zip(self.frames, self.sources, strict=True)
        lines = [_shown(number, *frame, source) for number, (frame, source) in enumerate(both)]
        if len(self._frames) > len(lines):
            lines.append("  ... and more")
        return ["guest frames, innermost first:\n" + "\n".join(lines)] if lines else []


class Trap(_GuestFrames):
    """The guest trapped.

    code: the name in abi/traps.def ("UNREACHABLE"); function: the guest function's name or None;
    offset: byte offset of the instruction in the .wasm or None; frames: the guest's, innermost first, each a function's
    name and an offset or None, the first 64 of them. Tracebacks show them.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        function: str | None = None,
        offset: int | None = None,
        frames: Sequence[tuple[str, int | None, bytes | None] | None] = (),
    ) -> None:
        super().__init__(message, code, function, offset)
        self.message = message
        self.code = code
        self.function = function
        self.offset = offset
        self._frames = frames

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_trap, (type(self), self.message, self.code), vars(self)

    def __str__(self) -> str:
        place = "" if self.function is None else f" in {self.function}"
        place += "" if self.offset is None else f" at offset {self.offset:#x}"
        return self.message + place


def _rebuild_trap(cls: type[Trap], message: str, code: str) -> Trap:
    return cls(message, code=code)


def _shown(number: int, function: str, offset: int | None, source: tuple[str, int] | None) -> str:
    place = "" if offset is None else f" at offset {offset:#x}"
    place += "" if source is None else f" ({source[0]}:{source[1]})"
    return "".join(one if one.isprintable() else "?" for one in f"  #{number} {function}{place}")


def _find_source(offset: int | None, packed: bytes | None) -> tuple[str, int] | None:
    return None if offset is None or packed is None else source_finder(offset, packed)


def _no_sources(offset: int, packed: bytes) -> tuple[str, int] | None:
    del offset, packed
    return None


source_finder: Callable[[int, bytes], tuple[str, int] | None] = _no_sources
"""From an offset in a .wasm and what its artifact has of its DWARF to file and line: lucet.runtime replaces it."""


class TimedOut(Trap, TimeoutError):
    """The run took longer than Instance.timeout allows."""


class OutOfFuel(Trap):
    """The run needs more instructions than Instance.fuel allows."""


class WasmException(_GuestFrames):
    """A WebAssembly exception: one that the guest did not catch, or one for a host function to throw at the guest.

    tag: the lucet.Tag; values: what it carries, a tuple that fits the tag's params; function, offset: where the guest
    threw it, and frames, as in Trap.
    """

    def __init__(
        self,
        tag: object,
        values: abc.Iterable[object] = (),
        *,
        function: str | None = None,
        offset: int | None = None,
        frames: Sequence[tuple[str, int | None, bytes | None] | None] = (),
    ) -> None:
        super().__init__(tag, tuple(values))
        self._frames = frames
        self.tag = tag
        self.values: tuple[object, ...] = self.args[1]
        self.function = function
        self.offset = offset

    def __str__(self) -> str:
        place = "" if self.function is None else f" in {self.function}"
        place += "" if self.offset is None else f" at offset {self.offset:#x}"
        return f"uncaught exception {self.values!r} with {self.tag!r}{place}"


class Exit(LucetError):
    """The guest asked to end its program (WASI proc_exit) with an exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
