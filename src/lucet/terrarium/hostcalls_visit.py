"""One request at a guest of the interface hostcalls: its response, and memory that the guest's own malloc gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from lucet.runtime import Func
from lucet.terrarium.interface import GuestError, Visit

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from lucet.runtime import Instance
    from lucet.terrarium.hostcalls import Hostcalls
    from lucet.terrarium.http import Exchange, Headers
    from lucet.terrarium.record import Record

MAX_DEPTH: Final = 4
"""Calls of malloc in host functions that malloc itself has called."""


class HostcallsVisit(Visit):
    """What the host functions find as their caller's context."""

    __slots__ = (
        "body",
        "depth",
        "headers",
        "headers_size",
        "interface",
        "malloc",
        "malloc_index",
        "received",
        "status",
    )

    def __init__(self, interface: Hostcalls, exchange: Exchange, record: Record) -> None:
        self.exchange = exchange
        self.record = record
        self.interface = interface
        # The response to the client, which has handle 0.
        self.status = 200
        self.headers: Headers = []
        self.headers_size = 0
        self.body = b""
        self.received: bytes | None = None
        """The request's body, once it was asked for."""
        self.malloc_index = -1
        """Of the guest's malloc in table 0; -1 before init_mm."""
        self.malloc: Func | None = None
        self.depth = 0

    def new_instance(self) -> Instance:
        interface = self.interface
        return interface.new_instance(interface.linkage, context=self, memory_limit=interface.memory_limit)

    def returned(self, status: int) -> Coroutine[Any, Any, None] | None:
        self.exchange.respond(self.status, self.headers, self.body)
        return None

    def close(self) -> None:
        self.malloc = None

    def allocate(self, caller: Instance, size: int) -> int:
        """The address of memory from the guest's malloc. GuestError."""
        malloc = self.malloc
        if malloc is None:
            malloc = self._find_malloc(caller)
        if self.depth >= MAX_DEPTH:
            raise GuestError("the guest's malloc calls itself through host functions")
        self.depth += 1
        at = malloc(size)
        self.depth -= 1
        if not at:
            raise GuestError(f"the guest's malloc has no memory for {size} bytes")
        return int(at) & 0xFFFFFFFF

    def _find_malloc(self, caller: Instance) -> Func:
        index = self.malloc_index & 0xFFFFFFFF
        if self.malloc_index == -1:
            raise GuestError("the guest has not called hostcall_init_mm")
        try:
            found = caller._element(index)
        except IndexError:
            raise GuestError(f"element {index} of table 0, which is to be malloc, does not exist") from None
        if not isinstance(found, Func) or (found.type.params, found.type.results) != (("i32",), ("i32",)):
            raise GuestError(f"element {index} of table 0, which is to be malloc, is no function [i32] -> [i32]")
        self.malloc = found
        return found


def give_bytes(caller: Instance, pointer: int, size: int, data: bytes) -> None:
    """Put data into the guest's memory, and its address and size where the guest wants them.

    A NUL follows, which the size does not count: programs in C rely on it. So there is always something to free.
    """
    memory = caller.memory
    at = caller.context.allocate(caller, len(data) + 1)
    memory.write(at, data + b"\0")
    memory.write_u32(pointer & 0xFFFFFFFF, at)
    memory.write_u32(size & 0xFFFFFFFF, len(data))


def give_slices(caller: Instance, pointer: int, count: int, items: Sequence[bytes]) -> None:
    """Likewise an array of struct { u32 pointer, size; }; NULL if there are none."""
    visit = caller.context
    memory = caller.memory
    at, slices = 0, b""
    for item in items:
        one = visit.allocate(caller, len(item) + 1)
        memory.write(one, item + b"\0")
        slices += one.to_bytes(4, "little") + len(item).to_bytes(4, "little")
    if items:
        at = visit.allocate(caller, len(slices))
        memory.write(at, slices)
    memory.write_u32(pointer & 0xFFFFFFFF, at)
    memory.write_u32(count & 0xFFFFFFFF, len(items))
