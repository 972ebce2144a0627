"""Makes host functions of the calls: masks and checks the guest's numbers, and turns every failure into an errno."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import and_
from typing import Any, Final, Protocol

from lucet.errors import InstanceError, MemoryAccessError
from lucet.runtime import HostFunction
from lucet.wasi.calls_fd import FdCalls
from lucet.wasi.calls_path import PathCalls
from lucet.wasi.calls_poll import PollCalls
from lucet.wasi.calls_process import ProcessCalls
from lucet.wasi.calls_sock import SockCalls
from lucet.wasi.context import WasiContext
from lucet.wasi.errors import WasiError, from_host
from lucet.wasi.memory import Memory, NoMemory
from lucet.wasi.tables import ABIS, Abi, Call, Errno

NO_MEMORY: Final = NoMemory()


class Caller(Protocol):
    """The instance that calls, as far as it matters here."""

    @property
    def memory(self) -> Memory: ...


HostCall = Callable[..., int]


class Calls(ProcessCalls, FdCalls, PathCalls, PollCalls, SockCalls):
    """All calls of one version of the interface, on one context.

    A method takes the caller's memory and then the parameters of its row in the table, unsigned, and returns an errno,
    or raises WasiError or OSError. Whatever memory the row says it touches is within bounds when it is called.
    """

    def __init__(self, context: WasiContext, abi: Abi) -> None:
        self.context = context
        self.fds = context.fds
        self.abi = abi


def functions(context: WasiContext, abi: Abi) -> Mapping[str, HostCall]:
    """The calls as functions of the calling instance and the wasm arguments, signed or not."""
    calls = Calls(context, abi)
    return {name: _adapt(getattr(calls, name), call) for name, call in abi.calls.items()}


class Imports(Mapping[str, HostFunction[..., int]]):
    """The host functions of one version, each made when it is asked for: most modules import a few."""

    def __init__(self, calls: Calls) -> None:
        self._calls, self._abi = calls, calls.abi
        self._made: dict[str, HostFunction[..., int]] = {}

    def __getitem__(self, name: str) -> HostFunction[..., int]:
        made = self._made.get(name)
        if made is None:
            call = self._abi.calls[name]
            made = self._made[name] = self._function(name, _adapt(getattr(self._calls, name), call), call)
        return made

    def _function(self, name: str, function: HostCall, call: Call) -> HostFunction[..., Any]:
        native = self._calls.fds.core.function(self._abi.module, name)
        return HostFunction(function, tuple(param.type for param in call.params), call.results, native=native)

    def __iter__(self) -> Iterator[str]:
        return iter(self._abi.calls)

    def __len__(self) -> int:
        return len(self._abi.calls)


def imports(context: WasiContext) -> Mapping[str, Mapping[str, HostFunction[..., int]]]:
    """The host functions of both versions, for region.new_instance."""
    return {abi.module: Imports(Calls(context, abi)) for abi in ABIS}


def _adapt(method: Callable[..., int], call: Call) -> HostCall:
    masks = tuple(param.mask for param in call.params)
    spans = call.spans

    def adapter(caller: Caller, *arguments: int) -> int:
        try:
            memory = caller.memory
        except InstanceError:
            memory = NO_MEMORY
        unsigned = (*map(and_, arguments, masks),)
        size = memory.size
        for pointer, element, length in spans:
            if unsigned[pointer] + (element if length is None else element * unsigned[length]) > size:
                return Errno.FAULT
        try:
            return method(memory, *unsigned)
        except WasiError as error:
            return error.errno
        except OSError as error:
            return from_host(error)
        except MemoryAccessError:
            return Errno.FAULT
        except MemoryError:
            return Errno.NOMEM

    adapter.__name__ = adapter.__qualname__ = call.name
    return adapter
