"""A guest made of calls: memory filled with '?', and the calls as a program's imports would be called.

Without an engine only Python executes the calls; with one, a module that passes everything on to its imports, the core
executes first what it does itself. Both must do the same: the tests run with each.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final, Self

import lucet
from lucet.errors import InstanceError, MemoryAccessError
from lucet.wasi import WasiContext
from lucet.wasi.calls import functions
from lucet.wasi.tables import (
    ABIS,
    ALL_RIGHTS,
    DIRECTORY_RIGHTS,
    DIRENT,
    FDSTAT,
    FILESTAT,
    MASK32,
    MASK64,
    PREVIEW1,
    Abi,
    Errno,
    LookupFlag,
    OpenFlag,
)
from lucet.wasm.text import text_to_binary

FILL: Final = b"?"
SIZE: Final = 1 << 16
FOLLOW: Final = LookupFlag.SYMLINK_FOLLOW

# Where the helpers put things; tests that look at bytes choose their own places.
PATHS: Final = (0x100, 0x1200)
RESULT: Final = 0x2300
IOVECS: Final = 0x2400
DATA: Final = 0x4000


class FakeMemory:
    """An instance's memory as the runtime has it."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.data = bytearray(FILL * size)
        self.views: list[memoryview] = []

    def _check(self, offset: int, length: int) -> None:
        assert offset >= 0 and length >= 0, "the runtime takes unsigned numbers"
        if offset + length > self.size:
            raise MemoryAccessError(f"{length} bytes at {offset:#x}")

    def read(self, offset: int, length: int, /) -> bytes:
        self._check(offset, length)
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes, /) -> None:
        self._check(offset, len(data))
        self.data[offset : offset + len(data)] = data

    def write_u32(self, offset: int, value: int, /) -> None:
        self.write(offset, struct.pack("<I", value))

    def write_u64(self, offset: int, value: int, /) -> None:
        self.write(offset, struct.pack("<Q", value))

    def view(self, offset: int, length: int, /, writable: bool = False) -> memoryview:
        self._check(offset, length)
        whole = memoryview(self.data)
        view = (whole if writable else whole.toreadonly())[offset : offset + length]
        self.views.append(view)
        return view

    def assert_released(self) -> None:
        for view in self.views:
            try:
                view.tobytes()
            except ValueError:
                continue
            raise AssertionError("a view of guest memory outlives the call")
        self.views.clear()


class FakeInstance:
    """The calling instance: as a real one, it complains if it is asked for a memory that it has not."""

    def __init__(self, memory: FakeMemory | EngineMemory | None) -> None:
        self._memory = memory

    @property
    def memory(self) -> FakeMemory | EngineMemory:
        if self._memory is None:
            raise InstanceError("the module has no memory")
        return self._memory


@dataclass(frozen=True, kw_only=True)
class Stat:
    """A filestat that a guest has read."""

    dev: int
    ino: int
    filetype: int
    nlink: int
    size: int
    atim: int
    mtim: int
    ctim: int


ENGINES: Final = {"python": False, "core": True}
engine = {"is_used": False}
"""Whether guests get one unless they say: the fixture `backend` turns it on."""


@cache
def forwarder(version: str) -> lucet.Module:
    """A module that exports each import as its own."""
    (abi,) = (abi for abi in ABIS if abi.module == version)
    imports, functions = [], []
    for name, call in abi.calls.items():
        types = "".join(f" (param {param.type})" for param in call.params) + "".join(
            f" (result {result})" for result in call.results
        )
        arguments = "".join(f" (local.get {i})" for i in range(len(call.params)))
        imports.append(f'(import "{abi.module}" "{name}" (func ${name}{types}))')
        functions.append(f'(func (export "{name}"){types} (call ${name}{arguments}))')
    text = f'(module {" ".join(imports)} (memory (export "memory") 1) {" ".join(functions)})'
    return lucet.Module.from_bytes(lucet.compile(text_to_binary(text), workers=1))


@cache
def region() -> lucet.Region:
    return lucet.Region(slots=1000)


class EngineMemory:
    """The memory of an instance, as the tests use a FakeMemory."""

    def __init__(self, instance: lucet.Instance) -> None:
        self._memory = instance.memory
        self.size = self._memory.size
        self.read, self.write = self._memory.read, self._memory.write
        self.write_u32, self.write_u64 = self._memory.write_u32, self._memory.write_u64
        self.data = self._memory.view(0, self.size, True)
        self.data[:] = FILL * self.size

    def view(self, offset: int, length: int, /, writable: bool = False) -> memoryview:
        return self._memory.view(offset, length, writable)

    def assert_released(self) -> None:
        """The runtime counts views itself."""


class Guest:
    """Calls by name with unsigned numbers, and helpers that fail unless the call succeeds."""

    def __init__(self, context: WasiContext, *, abi: Abi = PREVIEW1, size: int = SIZE) -> None:
        self.context = context
        self.abi = abi
        self.memory: FakeMemory | EngineMemory = FakeMemory(size)
        self._functions: dict[str, Callable[..., int]] = dict(functions(context, abi))
        if engine["is_used"] and size == SIZE:
            instance = region().new_instance(forwarder(abi.module), context.imports())
            self.memory = EngineMemory(instance)
            for name in abi.calls:
                function = instance.exports[name]
                assert isinstance(function, lucet.runtime.Func)
                self._functions[name] = partial(_forward, function)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def call(self, name: str, *arguments: int) -> Errno:
        """As wasm calls: arguments are signed; the result must be an errno."""
        params = self.abi.calls[name].params
        assert len(arguments) == len(params), f"{name} has {len(params)} parameters"
        signed = [_signed(value, param.type) for value, param in zip(arguments, params, strict=True)]
        result = self._functions[name](FakeInstance(self.memory), *signed)
        self.memory.assert_released()
        return Errno(result)

    def check(self, errno: Errno, changes: Mapping[int, bytes], name: str, *arguments: int) -> None:
        """The call answers so and changes these bytes of memory, and no other."""
        before = bytes(self.memory.data)
        assert self.call(name, *arguments) == errno, name
        expected = bytearray(before)
        for offset, data in changes.items():
            expected[offset : offset + len(data)] = data
        if self.memory.data != expected:
            assert _ranges(before, self.memory.data) == _ranges(before, expected), name

    def ok(self, name: str, *arguments: int) -> None:
        errno = self.call(name, *arguments)
        assert errno == Errno.SUCCESS, f"{name}: {errno.name}"

    def path(self, path: str | bytes, slot: int = 0) -> tuple[int, int]:
        """Put a path into memory: (pointer, length)."""
        data = os.fsencode(path)
        self.memory.write(PATHS[slot], data)
        return PATHS[slot], len(data)

    def iovecs(self, *pieces: bytes | int) -> tuple[int, int]:
        """Put buffers into memory, or make room for so many bytes, from DATA on: (pointer, number)."""
        place = DATA
        rows = b""
        for piece in pieces:
            length = piece if isinstance(piece, int) else len(piece)
            if isinstance(piece, bytes):
                self.memory.write(place, piece)
            rows += struct.pack("<II", place, length)
            place += length
        self.memory.write(IOVECS, rows)
        return IOVECS, len(pieces)

    def u32(self, offset: int = RESULT) -> int:
        return int.from_bytes(self.memory.read(offset, 4), "little")

    def u64(self, offset: int = RESULT) -> int:
        return int.from_bytes(self.memory.read(offset, 8), "little")

    def try_open(
        self,
        path: str | bytes,
        *,
        fd: int = 3,
        oflags: int = 0,
        rights: int = ALL_RIGHTS,
        inheriting: int = ALL_RIGHTS,
        fdflags: int = 0,
        follow: int = FOLLOW,
    ) -> Errno:
        return self.call("path_open", fd, follow, *self.path(path), oflags, rights, inheriting, fdflags, RESULT)

    def open(
        self,
        path: str | bytes,
        *,
        fd: int = 3,
        oflags: int = 0,
        rights: int = ALL_RIGHTS,
        inheriting: int = ALL_RIGHTS,
        fdflags: int = 0,
    ) -> int:
        errno = self.try_open(path, fd=fd, oflags=oflags, rights=rights, inheriting=inheriting, fdflags=fdflags)
        assert errno == Errno.SUCCESS, f"path_open: {errno.name}"
        return self.u32()

    def open_directory(
        self, path: str | bytes, *, fd: int = 3, rights: int = ALL_RIGHTS, inheriting: int = ALL_RIGHTS
    ) -> int:
        # To ask for reading and writing is to ask for a file.
        return self.open(
            path, fd=fd, oflags=OpenFlag.DIRECTORY, rights=rights & DIRECTORY_RIGHTS, inheriting=inheriting
        )

    def write(self, fd: int, *pieces: bytes) -> int:
        self.ok("fd_write", fd, *self.iovecs(*pieces), RESULT)
        return self.u32()

    def read(self, fd: int, length: int) -> bytes:
        self.ok("fd_read", fd, *self.iovecs(length), RESULT)
        return self.memory.read(DATA, self.u32())

    def fdstat(self, fd: int) -> tuple[int, int, int, int]:
        """(filetype, flags, rights, inheriting)"""
        self.ok("fd_fdstat_get", fd, RESULT)
        return FDSTAT.unpack(self.memory.read(RESULT, FDSTAT.size))

    def filestat(self, fd: int) -> Stat:
        self.ok("fd_filestat_get", fd, RESULT)
        return self._stat()

    def stat(self, path: str | bytes, *, fd: int = 3, follow: int = FOLLOW) -> Stat:
        self.ok("path_filestat_get", fd, follow, *self.path(path), RESULT)
        return self._stat()

    def _stat(self) -> Stat:
        names = ("dev", "ino", "filetype", "nlink", "size", "atim", "mtim", "ctim")
        return Stat(**dict(zip(names, FILESTAT.unpack(self.memory.read(RESULT, FILESTAT.size)), strict=True)))

    def readdir(self, fd: int, cookie: int = 0, size: int = 0x8000) -> list[tuple[int, int, bytes, int]]:
        """The whole entries of one fd_readdir: (cookie of the next, inode, name, filetype)."""
        self.ok("fd_readdir", fd, DATA, size, cookie, RESULT)
        data = self.memory.read(DATA, self.u32())
        rows = []
        while len(data) >= DIRENT.size:
            following, ino, length, filetype = DIRENT.unpack_from(data)
            name = data[DIRENT.size : DIRENT.size + length]
            if len(name) == length:
                rows.append((following, ino, name, filetype))
            data = data[DIRENT.size + length :]
        return rows


def _forward(function: lucet.runtime.Func, _caller: object, *arguments: int) -> int:
    result: int = function(*arguments)
    return result


def guest_in(folder: Path, *, read_only: bool = False, **options: object) -> Guest:
    """A guest whose descriptor 3 is the folder, by the name "/"."""
    return Guest(WasiContext(preopens=[(folder, "/", read_only)], **options))  # type: ignore[arg-type]


def _signed(value: int, valtype: str) -> int:
    bits, mask = (32, MASK32) if valtype == "i32" else (64, MASK64)
    assert 0 <= value <= mask, value
    return value - (1 << bits) if value >> (bits - 1) else value


def _ranges(before: bytes, after: bytes | bytearray | memoryview) -> list[tuple[int, bytes]]:
    """What differs, as runs: readable where a comparison of two memories would not be."""
    runs: list[tuple[int, bytes]] = []
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            if runs and runs[-1][0] + len(runs[-1][1]) == i:
                runs[-1] = (runs[-1][0], runs[-1][1] + bytes([new]))
            else:
                runs.append((i, bytes([new])))
    return runs
