"""The guest's memory as the calls use it, once calls.py has checked the ranges that the table of calls states."""

from __future__ import annotations

from typing import Protocol

from lucet.errors import MemoryAccessError
from lucet.wasi.errors import WasiError
from lucet.wasi.tables import IOVEC, MAX_IOVECS, MAX_PATH, Errno


class Memory(Protocol):
    """What a call needs of an instance's memory; offsets are unsigned, out of range is MemoryAccessError."""

    @property
    def size(self) -> int: ...
    def read(self, offset: int, length: int, /) -> bytes: ...
    def write(self, offset: int, data: bytes, /) -> object: ...
    def write_u32(self, offset: int, value: int, /) -> object: ...
    def write_u64(self, offset: int, value: int, /) -> object: ...
    def view(self, offset: int, length: int, /, writable: bool = False) -> memoryview: ...


class NoMemory:
    """Stands for the memory of an instance that has none: every access is out of range."""

    size = 0

    def read(self, offset: int, length: int, /) -> bytes:
        raise MemoryAccessError(f"the instance has no memory: {length} bytes at {offset:#x}")

    def write(self, offset: int, data: bytes, /) -> None:
        self.read(offset, len(data))

    def write_u32(self, offset: int, _value: int, /) -> None:
        self.read(offset, 4)

    def write_u64(self, offset: int, _value: int, /) -> None:
        self.read(offset, 8)

    def view(self, offset: int, length: int, /, writable: bool = False) -> memoryview:
        return memoryview(self.read(offset, length))


def gather(memory: Memory, iovecs: int, count: int, *, writable: bool) -> list[memoryview]:
    """The pieces of guest memory that a list of iovecs names, without the empty ones; to be given to `release`."""
    if count > MAX_IOVECS:
        raise WasiError(Errno.INVAL)
    if count == 1:  # as most programs do
        buf, buf_len = IOVEC.unpack(memory.read(iovecs, IOVEC.size))
        return [memory.view(buf, buf_len, writable)] if buf_len else []
    views: list[memoryview] = []
    try:
        for buf, buf_len in IOVEC.iter_unpack(memory.read(iovecs, count * IOVEC.size)):
            if buf_len:
                views.append(memory.view(buf, buf_len, writable))
    except BaseException:
        release(views)
        raise
    return views


def release(views: list[memoryview]) -> None:
    """Give the pieces back: no view of guest memory may outlive the call."""
    for view in views:
        view.release()


def read_path(memory: Memory, path: int, length: int) -> bytes:
    """A path that the guest gave: UTF-8 without NUL, as the host takes it."""
    if length > MAX_PATH:
        raise WasiError(Errno.NAMETOOLONG)
    data = memory.read(path, length)
    if 0 in data:
        raise WasiError(Errno.INVAL)
    if not is_utf8(data):
        raise WasiError(Errno.ILSEQ)
    return data


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
