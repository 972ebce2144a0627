"""WASI for guests of the server: linked once for all instances of a module, and waiting suspends the guest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lucet.errors import InstanceError, MemoryAccessError
from lucet.runtime import HostFunction, Suspend
from lucet.wasi import WasiContext
from lucet.wasi.calls_process import put_sizes, put_strings
from lucet.wasi.clocks import NANOSECONDS, SystemClock
from lucet.wasi.errors import WasiError
from lucet.wasi.files import Buffers, Descriptor
from lucet.wasi.streams import MEMORY_RIGHTS, MEMORY_SYNC_RIGHTS
from lucet.wasi.tables import ABIS, MASK32, Errno, FileType, Right

if TYPE_CHECKING:
    from lucet.runtime import ImportType, Instance
    from lucet.terrarium.record import Record
    from lucet.wasi.tables import ClockId

_SAME_FOR_ALL: Final = frozenset({"args_get", "args_sizes_get", "clock_time_get", "random_get"})
"""Calls that have nothing to do with the instance, as nobody has arguments: the core's, bound once."""
_LONGEST_LINE: Final = 8192
_LONGEST_SLEEP: Final = 86400.0
"""Seconds; no request takes longer."""


class _MustWait(Exception):
    """In poll_oneoff: nothing is ready for so many nanoseconds."""


class _ServerClock(SystemClock):
    """The host's clocks for a guest whose sleeping is done by others.

    poll_oneoff is made again afterwards. It has waited for `slept` then, when it comes to waiting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0
        self._ahead = 0

    def time(self, clock: ClockId) -> int:
        return super().time(clock) + self._ahead

    def sleep(self, nanoseconds: int) -> None:
        if not nanoseconds:
            return
        if not self.slept:
            raise _MustWait(nanoseconds)
        self._ahead = self.slept

    def go_on(self) -> None:
        """The call is over."""
        self.slept = self._ahead = 0


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
    return WasiContext(stdout=stdout, stderr=stderr, clock=_ServerClock(), max_descriptors=16)


class SharedWasi:
    """Host functions that instances of one linkage share. Each call finds its own context, which it may have to make.

    find: the caller's context, and its imports(). environ: its environment, as WasiContext.environ, which programs ask
    for when they need no context otherwise.
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
        call = self._call(module, name)

        def poll(caller: Instance, *args: int) -> Any:
            try:
                return call(caller, *args)
            except _MustWait as waiting:
                return Suspend(self._later(call, caller, args, waiting.args[0]))

        return poll

    async def _later(self, call: Callable[..., Any], caller: Instance, args: tuple[int, ...], nanoseconds: int) -> Any:
        await asyncio.sleep(min(nanoseconds / NANOSECONDS, _LONGEST_SLEEP))
        clock = self._find(caller)[0].clock
        assert isinstance(clock, _ServerClock)
        clock.slept = nanoseconds
        try:
            return call(caller, *args)
        finally:
            clock.go_on()
