"""One request at a guest of the interface hostcalls: its response, and memory that the guest's own malloc gives."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from time import thread_time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lucet.aio.turns import turns
from lucet.runtime import Func, FuncType, Suspend
from lucet.runtime.hostfunc import Awaited
from lucet.terrarium.guest import LimitReached, finish
from lucet.terrarium.interface import GuestError, Visit
from lucet.terrarium.wasi import LogOutput, guest_context
from lucet.wasm.types import I32

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from lucet.runtime import Instance
    from lucet.terrarium.hostcalls import Hostcalls
    from lucet.terrarium.hostcalls_traffic import Traffic
    from lucet.terrarium.http import Exchange, Headers
    from lucet.terrarium.record import Record
    from lucet.wasi import WasiContext

_MALLOC: Final = FuncType((I32,), (I32,))
MAX_DEPTH: Final = 4
"""Calls of malloc under way: one may call host functions that need memory, too."""


class HostcallsVisit(Visit):
    """What the host functions find as their caller's context."""

    __slots__ = (
        "body",
        "depth",
        "dns_queries",
        "headers",
        "interface",
        "malloc",
        "malloc_index",
        "received",
        "status",
        "traffic",
        "world",
    )

    def __init__(self, interface: Hostcalls, exchange: Exchange, record: Record) -> None:
        self.exchange = exchange
        self.record = record
        self.interface = interface
        # The response to the client, which has handle 0.
        self.status = 200
        self.headers: Headers = []
        self.body = b""
        self.received: bytes | None = None
        """The request's body, once it was asked for."""
        self.malloc_index = -1
        """Of the guest's malloc in table 0; -1 before init_mm."""
        self.malloc: Func | None = None
        self.depth = 0
        self.dns_queries = 0
        self.traffic: Traffic | None = None
        """Requests that the guest makes; none before the first."""
        self.world: tuple[WasiContext, Mapping[str, Any], list[LogOutput]] | None = None
        """What the guest has of WASI; none before it calls something of that."""

    def new_instance(self) -> Instance:
        interface = self.interface
        return interface.new_instance(interface.linkage, context=self, memory_limit=interface.memory_limit, start=False)

    def wasi(self) -> tuple[WasiContext, Mapping[str, Any]]:
        """For SharedWasi."""
        if self.world is None:
            output = [LogOutput(self.record), LogOutput(self.record)]
            context = guest_context(output)
            self.world = context, context.imports(), output
        return self.world[:2]

    def returned(self, status: int) -> Coroutine[Any, Any, None] | None:
        if status and not (self.body or self.headers) and self.status == 200:
            raise GuestError(f"the guest ended with status {status} and has set no response")
        self.exchange.respond(self.status, self.headers, self.body)
        return None if self.traffic is None else self.traffic.close()

    def close(self) -> None:
        self.malloc = None
        if self.traffic is not None:
            self.traffic.abandon()
        if self.world is not None:
            context, _, output = self.world
            for stream in output:
                stream.flush()
            context.close()

    def find_malloc(self, caller: Instance) -> Func:
        index = self.malloc_index & 0xFFFFFFFF
        if self.malloc_index == -1:
            raise GuestError("the guest has not called hostcall_init_mm")
        try:
            found = caller._element(index)
        except IndexError:
            found = None
        known = self.interface.mallocs
        if not isinstance(found, Func) or (index not in known and found.type != _MALLOC):
            raise GuestError(f"element {index} of table 0, which hostcall_init_mm was given, is no malloc")
        known.add(index)  # a guest that puts something else there meanwhile gets a fault all the same
        caller._inner_runs_wait = True  # an endless one must not keep the event loop
        self.malloc = found
        return found


# ---- memory of the guest's malloc ----
#
# Whatever is put there is a generator: it yields sizes, is sent addresses, and returns what the host function returns.

R = TypeVar("R")
Steps = Generator[int, int, R]


def give(caller: Instance, steps: Steps[R]) -> R | Suspend:
    """Take the steps. A Suspend if malloc takes longer than its slice, or waits for a host function."""
    visit = caller.context
    malloc = visit.malloc or visit.find_malloc(caller)
    if visit.depth >= MAX_DEPTH:
        raise GuestError("the guest's malloc calls itself through host functions")
    visit.depth += 1
    try:
        size = next(steps)
        while True:
            at = malloc(size)
            if at.__class__ is not int:
                return Suspend(Awaited(_give_on, (caller, steps, size, at)))
            size = steps.send(_address(at, size))
    except StopIteration as end:
        result: R = end.value
        return result
    except TypeError:
        raise _refused(malloc) from None
    finally:
        visit.depth -= 1


async def give_later(caller: Instance, steps: Steps[R]) -> R:
    """Take the steps in a host function that has already suspended the guest."""
    return await _give_on(caller, steps, 0, None)


async def _give_on(caller: Instance, steps: Steps[R], size: int, run: Any) -> R:
    visit = caller.context
    record, limit = visit.record, visit.interface.environment.limits.cpu_time
    malloc = visit.malloc or visit.find_malloc(caller)
    mine = turns()
    visit.depth += 1
    try:
        if run is None:
            size = next(steps)
        while True:
            if run is None:
                if record.cpu_time >= limit:
                    raise LimitReached("cpu_time")
                await mine.begin()
                start = thread_time()
                run = malloc(size)
                record.cpu_time += thread_time() - start
                mine.finish()
            at = await finish(run, record, limit, caller)
            run = None
            size = steps.send(_address(at, size))
    except StopIteration as end:
        result: R = end.value
        return result
    except TypeError:
        raise _refused(malloc) from None
    finally:
        mine.finish()
        visit.depth -= 1


def _refused(malloc: Func) -> Exception:
    """What a TypeError in the call of malloc means."""
    if malloc.type != _MALLOC:
        return GuestError("the guest's malloc is none any more")
    return RuntimeError("the host's own fault, in the call of malloc")


def _address(at: Any, size: int) -> int:
    if at.__class__ is not int:
        raise GuestError("the guest's malloc is none any more")
    if not at:
        raise GuestError(f"the guest's malloc has no memory for {size} bytes")
    return int(at) & 0xFFFFFFFF


def bytes_steps(caller: Instance, pointer: int, size: int, data: bytes, result: R, unit: int = 1) -> Steps[R]:
    """Put data into the guest's memory, and its address and size, in units, where the guest wants them.

    A NUL follows, which the size does not count: programs in C rely on it. So there is always something to free.
    """
    at = yield len(data) + unit
    memory = caller.memory
    memory.write(at, data + bytes(unit))
    memory.write_u32(pointer & 0xFFFFFFFF, at)
    memory.write_u32(size & 0xFFFFFFFF, len(data) // unit)
    return result


def slices_steps(caller: Instance, pointer: int, count: int, items: Sequence[bytes], result: R) -> Steps[R]:
    """Likewise an array of struct { u32 pointer, size; }."""
    memory = caller.memory
    slices: list[bytes] = []
    for item in items:
        at = yield len(item) + 1
        memory.write(at, item + b"\0")
        slices += (at.to_bytes(4, "little"), len(item).to_bytes(4, "little"))
    at = yield 8 * len(items)
    memory.write(at, b"".join(slices))
    memory.write_u32(pointer & 0xFFFFFFFF, at)
    memory.write_u32(count & 0xFFFFFFFF, len(items))
    return result


def give_bytes(caller: Instance, pointer: int, size: int, data: bytes | None, result: R) -> R | Suspend:
    """As bytes_steps; NULL if there is nothing."""
    if data is None:
        return give_nothing(caller, pointer, size, result)
    visit = caller.context
    if visit.depth:
        return give(caller, bytes_steps(caller, pointer, size, data, result))
    # The same without a generator: what nearly all calls are.
    malloc = visit.malloc or visit.find_malloc(caller)
    visit.depth = 1
    try:
        at = malloc(len(data) + 1)
    except TypeError:
        raise _refused(malloc) from None
    finally:
        visit.depth = 0
    if at.__class__ is not int:
        steps = bytes_steps(caller, pointer, size, data, result)
        return Suspend(Awaited(_give_on, (caller, steps, next(steps), at)))
    at = _address(at, len(data) + 1)
    memory = caller.memory
    memory.write(at, data + b"\0")
    memory.write_u32(pointer & 0xFFFFFFFF, at)
    memory.write_u32(size & 0xFFFFFFFF, len(data))
    return result


def give_slices(caller: Instance, pointer: int, count: int, items: Sequence[bytes], result: R) -> R | Suspend:
    """As slices_steps; NULL if there are none."""
    if not items:
        return give_nothing(caller, pointer, count, result)
    return give(caller, slices_steps(caller, pointer, count, items, result))


def give_nothing(caller: Instance, pointer: int, size: int, result: R) -> R:
    memory = caller.memory
    memory.write_u32(pointer & 0xFFFFFFFF, 0)
    memory.write_u32(size & 0xFFFFFFFF, 0)
    return result
