"""WASI commands as guests of the server: those that wait are suspended, and the server goes on.

A module is linked once for each program that runs at a time, not for each that runs: a World is lent to one program
after the other, with nothing of the one before left in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lucet.errors import InstanceError, MemoryAccessError
from lucet.runtime import HostFunction, Instance, Suspend
from lucet.runtime.hostfunc import Awaited
from lucet.terrarium.wasi import Wait, WaitingCalls, patient
from lucet.wasi.calls import HostCall, Imports
from lucet.wasi.calls_poll import Subscription
from lucet.wasi.clocks import SystemClock
from lucet.wasi.context import WasiContext
from lucet.wasi.files import Buffers, Descriptor
from lucet.wasi.memfiles import MemoryDirectory, MemoryFiles
from lucet.wasi.memory import Memory
from lucet.wasi.streams import MEMORY_RIGHTS, MEMORY_SYNC_RIGHTS, first_bytes
from lucet.wasi.tables import ABIS, IOVEC, MASK32, READ_ONLY_RIGHTS, Call, ClockId, FileType, Right

if TYPE_CHECKING:
    from lucet.runtime import Linkage, Module, Region
    from lucet.terrarium.http import Body

MODULES: Final = frozenset(abi.module for abi in ABIS)
"""The names of import modules that are WASI's."""
INPUT_RIGHTS: Final = MEMORY_RIGHTS | Right.FD_READ
OUTPUT_RIGHTS: Final = MEMORY_RIGHTS | MEMORY_SYNC_RIGHTS | Right.FD_WRITE
MAX_DESCRIPTORS: Final = 256
MAX_WRITE: Final = 1 << 20
"""Bytes that are taken from a guest in one call: it may write the rest in the next."""
_IDLE: Final = 4
"""Worlds that are kept for the next requests."""
_FEW: Final = 4
_STARTING: Final = (ClockId.MONOTONIC, ClockId.PROCESS_CPUTIME_ID)
"""Clocks that start with a context. The others' starts are always the same."""
_WAITING_CALLS: Final = frozenset({"fd_read", "fd_write", "poll_oneoff"})


class Output(Descriptor):
    """What a guest writes to somebody who may be slow."""

    __slots__ = ("is_due",)

    def __init__(self) -> None:
        super().__init__(filetype=FileType.UNKNOWN, rights=OUTPUT_RIGHTS)
        self.is_due = False
        """Whether what has been written must be sent before the guest goes on."""

    def write(self, buffers: Buffers) -> int:
        data = first_bytes(buffers, MAX_WRITE)
        self.take(data)
        return len(data)

    def take(self, data: bytes | bytearray) -> None:
        """Something that the guest writes: at most MAX_WRITE bytes."""
        raise NotImplementedError

    async def flush(self) -> None:
        """Send it. ClientGone."""
        raise NotImplementedError


class BodyInput(Descriptor):
    """A request's body as a program's input, as it arrives."""

    __slots__ = ("_body", "_rest")

    def __init__(self, body: Body) -> None:
        super().__init__(filetype=FileType.UNKNOWN, rights=INPUT_RIGHTS)
        whole = body.at_once()
        self._body = body if whole is None else None
        self._rest = memoryview(whole or b"")

    def read(self, buffers: Buffers) -> int:
        if not self._rest and self._body is not None and buffers:
            raise Wait(self._receive)
        count = 0
        for view in buffers:
            piece = self._rest[: view.nbytes]
            view[: piece.nbytes] = piece
            self._rest = self._rest[piece.nbytes :]
            count += piece.nbytes
        return count

    async def _receive(self) -> None:
        if self._body is not None:
            part = await self._body.read()
            self._rest = memoryview(part)
            if not part:
                self._body = None

    def available(self) -> int:
        return self._rest.nbytes


class _Calls(WaitingCalls):
    output: Output | None = None

    def fd_write(self, memory: Memory, fd: int, iovs: int, iovs_len: int, nwritten: int) -> int:
        errno = super().fd_write(memory, fd, iovs, iovs_len, nwritten)
        if self.output is not None and self.output.is_due:
            raise Wait(self.output.flush, lambda: errno)
        return errno

    async def _sleep(self, waiting: list[Subscription]) -> None:
        if self.output is not None:
            await self.output.flush()
        await super()._sleep(waiting)

    def writing(self, otherwise: Callable[..., int | Suspend]) -> Callable[..., int | Suspend]:
        """fd_write, at a third of its cost where it is what it nearly always is: some of the output, whole."""

        def fd_write(caller: Instance, fd: int, iovs: int, iovs_len: int, nwritten: int) -> int | Suspend:
            output = self.output
            if fd != 1 or output is None or not 0 < iovs_len <= _FEW or not self.fds.is_at(1, output):
                return otherwise(caller, fd, iovs, iovs_len, nwritten)
            try:
                memory = caller.memory
                vectors = [*IOVEC.iter_unpack(memory.read(iovs & MASK32, iovs_len * IOVEC.size))]
                size = sum([size for _, size in vectors])
                if size > MAX_WRITE or not output.rights & Right.FD_WRITE:
                    return otherwise(caller, fd, iovs, iovs_len, nwritten)
                data = b"".join([memory.read(buf, size) for buf, size in vectors])
                memory.write_u32(nwritten & MASK32, size)
            except (MemoryAccessError, InstanceError):
                return otherwise(caller, fd, iovs, iovs_len, nwritten)
            output.take(data)
            return Suspend(Awaited(_flush, (output,))) if output.is_due else 0

        return fd_write


async def _flush(output: Output) -> int:
    await output.flush()
    return 0


class _Imports(Imports):
    _calls: _Calls

    def _function(self, name: str, function: HostCall, call: Call) -> HostFunction[..., Any]:
        if name not in _WAITING_CALLS:
            return super()._function(name, function, call)
        waiting = patient(function)
        if name == "fd_write":
            waiting = self._calls.writing(waiting)
        return HostFunction(waiting, tuple(param.type for param in call.params), call.results)


class World:
    """A WasiContext, and a module that is linked with it."""

    __slots__ = ("_calls", "_context", "_files", "linkage")

    def __init__(
        self,
        module: Module,
        region: Region,
        others: Mapping[str, Mapping[str, HostFunction[..., Any]]],
        files: MemoryFiles | None,
    ) -> None:
        self._context = WasiContext(max_descriptors=MAX_DESCRIPTORS)
        self._context.fds.close_all()
        self._calls = [_Calls(self._context, abi) for abi in ABIS]
        self._files = files
        self.linkage: Linkage = region.link(
            module, {**{calls.abi.module: _Imports(calls) for calls in self._calls}, **others}
        )

    def begin(self, arguments: bytes, variables: bytes, streams: tuple[Descriptor, Descriptor, Descriptor]) -> None:
        """Lend it to another program.

        arguments, variables: each with its NUL. streams: what it has as descriptors 0 to 2.
        """
        context, fds = self._context, self._context.fds
        # The core answers for these; what it leaves to Python are pointers that lead nowhere.
        context.args, context.environ = (arguments,), (variables,)
        fds.core.set_strings(arguments, variables)
        context.clock = clock = SystemClock()
        for number in _STARTING:
            fds.core.set_clock(number, clock.starts[number])
        output = streams[1] if isinstance(streams[1], Output) else None
        for calls in self._calls:
            calls.output = output
        for stream in streams:
            fds.add(stream)
        if self._files is not None:
            rights = READ_ONLY_RIGHTS
            fds.add(MemoryDirectory(self._files, self._files.root, rights=rights, inheriting=rights, preopen=b"/"))

    def end(self) -> None:
        """Close what the program has open."""
        self._context.fds.close_all()
        for calls in self._calls:
            calls.output = None


class Worlds:
    """Those of one module.

    others: host functions besides WASI's. files: what programs find under "/", for reading only.
    """

    def __init__(
        self,
        module: Module,
        region: Region,
        others: Mapping[str, Mapping[str, HostFunction[..., Any]]] | None = None,
        files: MemoryFiles | None = None,
    ) -> None:
        self._make = partial(World, module, region, others or {}, files)
        self._idle = [self._make()]  # LinkError here, not at the first request

    def take(self) -> World:
        return self._idle.pop() if self._idle else self._make()

    def give_back(self, world: World) -> None:
        world.end()
        if len(self._idle) < _IDLE:
            self._idle.append(world)
