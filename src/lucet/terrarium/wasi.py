"""WASI for guests of the server: linked once for all instances of a module, and waiting suspends the guest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lucet.errors import InstanceError, MemoryAccessError
from lucet.runtime import HostFunction, Suspend
from lucet.runtime.hostfunc import Awaited
from lucet.wasi import WasiContext
from lucet.wasi.calls import Calls, Imports
from lucet.wasi.calls_poll import Subscription, time_left
from lucet.wasi.calls_process import put_sizes, put_strings
from lucet.wasi.clocks import NANOSECONDS
from lucet.wasi.errors import WasiError
from lucet.wasi.files import Buffers, Descriptor
from lucet.wasi.streams import MEMORY_RIGHTS, MEMORY_SYNC_RIGHTS
from lucet.wasi.tables import ABIS, MASK32, Errno, FileType, Right

if TYPE_CHECKING:
    from lucet.runtime import ImportType, Instance
    from lucet.terrarium.record import Record
    from lucet.wasi.memory import Memory

_SAME_FOR_ALL: Final = frozenset({"args_get", "args_sizes_get", "clock_time_get", "random_get"})
"""Calls that have nothing to do with the instance, as nobody has arguments: the core's, bound once."""
_LONGEST_LINE: Final = 8192
_LONGEST_SLEEP: Final = 86400.0
"""Seconds; no request takes longer."""


class Wait(Exception):
    """Raised in a call, or by a Descriptor in one: it cannot be done now.

    begin: awaited while the guest is suspended. Then the call is made again, or `end` gives its errno.
    """

    def __init__(self, begin: Callable[[], Awaitable[object]], end: Callable[[], int] | None = None) -> None:
        super().__init__()
        self.begin = begin
        self.end = end


def patient(call: Callable[..., int]) -> Callable[..., int | Suspend]:
    """A call that suspends its guest as long as it must Wait."""

    def patient(caller: Instance, *arguments: int) -> int | Suspend:
        try:
            return call(caller, *arguments)
        except Wait as wait:
            return Suspend(Awaited(_until_done, (wait, call, caller, arguments)))

    return patient


async def _until_done(wait: Wait, call: Callable[..., int], caller: Instance, arguments: tuple[int, ...]) -> int:
    while True:
        await wait.begin()
        if wait.end is not None:
            return wait.end()
        try:
            return call(caller, *arguments)
        except Wait as again:
            wait = again


class WaitingCalls(Calls):
    """None of these waits: poll_oneoff raises Wait. Descriptors are those of programs in memory, and always ready."""

    def poll_oneoff(self, memory: Memory, subscriptions: int, out: int, count: int, nevents: int) -> int:
        waiting = self._subscriptions(memory, subscriptions, count)
        end = partial(self._poll, memory, waiting, out, nevents)
        if time_left(waiting, self.context.clock) <= 0:
            return end()
        raise Wait(partial(self._sleep, waiting), end)

    async def _sleep(self, waiting: list[Subscription]) -> None:
        while (nanoseconds := time_left(waiting, self.context.clock)) > 0:
            await asyncio.sleep(min(nanoseconds / NANOSECONDS, _LONGEST_SLEEP))


def waiting_imports(context: WasiContext) -> dict[str, Imports]:
    """As WasiContext.imports, with these calls."""
    return {abi.module: Imports(WaitingCalls(context, abi)) for abi in ABIS}


class LogOutput(Descriptor):
    """Output whose lines go to a request's log."""

    __slots__ = ("_line", "_record")

    def __init__(self, record: Record) -> None:
        super().__init__(filetype=FileType.UNKNOWN, rights=MEMORY_RIGHTS | MEMORY_SYNC_RIGHTS | Right.FD_WRITE)
        self._record = record
        self._line = bytearray()

    def write(self, buffers: Buffers) -> int:
        # A part of it at a time: the guest asks again with the rest.
        count = 0
        for view in buffers:
            with view[: _LONGEST_LINE - count] as piece:
                self._line += piece
                count += piece.nbytes
        *lines, rest = bytes(self._line).split(b"\n")
        for line in lines:
            self._log(line)
        self._line = bytearray(rest)
        if len(rest) >= _LONGEST_LINE:
            self.flush()
        return count

    def flush(self) -> None:
        """What is no whole line yet."""
        if self._line:
            self._log(bytes(self._line))
            self._line.clear()

    def _log(self, line: bytes) -> None:
        self._record.log(line.decode(errors="replace"))


def guest_context(output: Iterable[LogOutput]) -> WasiContext:
    """For one instance: no arguments, no files, nothing to read; its environment is SharedWasi's to give."""
    stdout, stderr = output
    return WasiContext(stdout=stdout, stderr=stderr, max_descriptors=16)


class SharedWasi:
    """Host functions that instances of one linkage share. Each call finds its own context, which it may have to make.

    find: the caller's context, and its waiting_imports. environ: its environment, as WasiContext.environ, which
    programs ask for when they need no context otherwise.
    """

    def __init__(
        self,
        find: Callable[[Instance], tuple[WasiContext, Mapping[str, Any]]],
        environ: Callable[[Instance], Sequence[bytes]],
    ) -> None:
        self._find = find
        self._environ = environ
        self._common = WasiContext(max_descriptors=16)

    def imports_for(self, needed: Iterable[ImportType]) -> dict[str, dict[str, HostFunction[..., Any]]]:
        """Host functions for what a module imports of WASI."""
        modules = {abi.module: abi for abi in ABIS}
        found: dict[str, dict[str, HostFunction[..., Any]]] = {}
        for one in needed:
            abi = modules.get(one.module)
            if abi is None or one.name not in abi.calls:
                continue
            call = abi.calls[one.name]
            make = {"poll_oneoff": self._poll, "environ_get": self._put, "environ_sizes_get": self._put}.get(
                one.name, self._call
            )
            found.setdefault(one.module, {})[one.name] = HostFunction(
                make(one.module, one.name),
                tuple(param.type for param in call.params),
                call.results,
                native=self._common.fds.core.function(one.module, one.name) if one.name in _SAME_FOR_ALL else None,
            )
        return found

    def _call(self, module: str, name: str) -> Callable[..., Any]:
        find = self._find

        def call(caller: Instance, *args: int) -> Any:
            return find(caller)[1][module][name].callable(caller, *args)

        return call

    def _put(self, _module: str, name: str) -> Callable[..., Any]:
        put = put_sizes if name == "environ_sizes_get" else put_strings
        environ = self._environ

        def call(caller: Instance, first: int, second: int) -> int:
            try:
                return put(caller.memory, environ(caller), first & MASK32, second & MASK32)
            except (MemoryAccessError, WasiError, InstanceError):
                return Errno.FAULT

        return call

    def _poll(self, module: str, name: str) -> Callable[..., Any]:
        return patient(self._call(module, name))
