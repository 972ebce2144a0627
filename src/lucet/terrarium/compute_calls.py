"""Makes host functions of the rows of compute_table: they read what a call takes, and write what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from lucet.errors import MemoryAccessError
from lucet.runtime import HostFunction, Suspend
from lucet.terrarium import compute_cache, compute_http, compute_more, compute_send, compute_stores
from lucet.terrarium.compute_body import Content, Item, Refused, multi_value
from lucet.terrarium.compute_table import CALLS, HANDLES, MASK32, Call, Status
from lucet.terrarium.compute_visit import MAX_HANDLES, ComputeVisit, Request, Response
from lucet.terrarium.http import OutgoingFailed

if TYPE_CHECKING:
    from lucet.runtime import ImportType, Instance

_CLASSES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "request": Request,
    "response": Response,
    "body": Content,
    "content": Content,
    "pending": compute_send.Pending,
    "dictionary": compute_stores.Dictionary,
    "kv": compute_stores.KvStore,
    "kv-lookup": compute_stores.KvLookup,
    "kv-insert": compute_stores.KvInsert,
    "kv-delete": compute_stores.KvDelete,
    "kv-list": compute_stores.KvList,
    "secrets": compute_stores.SecretStore,
    "secret": compute_stores.Secret,
    "endpoint": compute_more.Endpoint,
    "acl": compute_more.OpenAcl,
    "promise": compute_http.Promise,
    "cache": compute_cache.Lookup,
    "cache-busy": compute_cache.Busy,
    "item": compute_send.ITEMS,
}
_MODULES: Final = (compute_http, compute_send, compute_stores, compute_cache, compute_more)

_SIZES: Final = {"u16": 2, "u32": 4, "u64": 8}

MAX_ARGUMENT: Final = 256 << 10
"""Bytes of a name, a value, a text that a guest gives. Bodies and log messages are read in pieces."""

Taker = Callable[[ComputeVisit, Any, tuple[int, ...]], Any]
Giver = Callable[[ComputeVisit, Any, tuple[int, ...], Any], None]


class _TooShort(Exception):
    """What a buffer was to get does not fit; how much it would take is written already."""


def _take_u32(at: int) -> Taker:
    return lambda _visit, _memory, args: args[at] & MASK32


def _take_u64(at: int) -> Taker:
    return lambda _visit, _memory, args: args[at] & 0xFFFFFFFFFFFFFFFF


def _read(memory: Any, start: int, size: int) -> bytes:
    """What is looked at as a whole, so that it must not be much."""
    if size > MAX_ARGUMENT:
        raise Refused(Status.LIMITEXCEEDED)
    data: bytes = memory.read(start, size) if size else b""
    return data


def _take_bytes(at: int) -> Taker:
    return lambda _visit, memory, args: _read(memory, args[at] & MASK32, args[at + 1] & MASK32)


def _take_text(at: int) -> Taker:
    def take(_visit: ComputeVisit, memory: Any, args: tuple[int, ...]) -> str:
        try:
            return _read(memory, args[at] & MASK32, args[at + 1] & MASK32).decode()
        except UnicodeDecodeError:
            raise Refused(Status.INVAL) from None

    return take


def _take_span(at: int) -> Taker:
    def take(_visit: ComputeVisit, memory: Any, args: tuple[int, ...]) -> tuple[int, int]:
        start, size = args[at] & MASK32, args[at + 1] & MASK32
        if start + size > memory.size:
            raise Refused(Status.INVAL)
        return start, size

    return take


def _take_handles(at: int) -> Taker:
    def take(_visit: ComputeVisit, memory: Any, args: tuple[int, ...]) -> memoryview:
        start, count = args[at] & MASK32, args[at + 1] & MASK32
        if count > MAX_HANDLES:  # so there are some twice
            raise Refused(Status.LIMITEXCEEDED)
        if start & 3:
            raise Refused(Status.BADALIGN)
        return memoryview(memory.read(start, 4 * count)).cast("I")

    return take


def _take_handle(at: int, kind: str) -> Taker:
    wanted = _CLASSES[kind]

    def take(visit: ComputeVisit, _memory: Any, args: tuple[int, ...]) -> Any:
        found = visit.handles.get(args[at] & MASK32)
        if not isinstance(found, wanted):
            raise Refused(Status.BADF)
        if kind == "content" and isinstance(found, Content) and found.sink is not None:
            raise Refused(Status.BADF)
        return found

    return take


_TAKERS: Final = {
    "u32": _take_u32,
    "pointer": _take_u32,
    "u64": _take_u64,
    "bytes": _take_bytes,
    "text": _take_text,
    "span": _take_span,
    "handles": _take_handles,
}


def _give_u32(at: int) -> Giver:
    def give(_visit: ComputeVisit, memory: Any, args: tuple[int, ...], value: int | None) -> None:
        if value is not None:
            memory.write_u32(args[at] & MASK32, value & MASK32)

    return give


def _give_other(at: int, size: int) -> Giver:
    def give(_visit: ComputeVisit, memory: Any, args: tuple[int, ...], value: int | None) -> None:
        if value is not None:
            memory.write(args[at] & MASK32, value.to_bytes(size, "little"))

    return give


def _give_handle(at: int) -> Giver:
    def give(visit: ComputeVisit, memory: Any, args: tuple[int, ...], value: Any) -> None:
        if value is not None:
            memory.write_u32(args[at] & MASK32, visit.add(value))

    return give


def _give_value(at: int) -> Giver:
    def give(_visit: ComputeVisit, memory: Any, args: tuple[int, ...], value: bytes | None) -> None:
        if value is None:
            return
        memory.write_u32(args[at + 2] & MASK32, len(value))
        if len(value) > args[at + 1] & MASK32:
            raise _TooShort
        memory.write(args[at] & MASK32, value)

    return give


def _give_values(at: int) -> Giver:
    def give(_visit: ComputeVisit, memory: Any, args: tuple[int, ...], items: Sequence[bytes]) -> None:
        buffer, room, cursor, ending, written = (arg & MASK32 for arg in args[at : at + 5])
        found = multi_value(items, cursor, room)
        data, after = (b"", -1) if isinstance(found, int) else found
        if ending:  # old SDKs pass NULL
            memory.write(ending, after.to_bytes(8, "little", signed=True))
        memory.write_u32(written, found if isinstance(found, int) else len(data))
        if isinstance(found, int):
            raise _TooShort
        memory.write(buffer, data)

    return give


def _give_address(at: int) -> Giver:
    def give(_visit: ComputeVisit, memory: Any, args: tuple[int, ...], value: bytes) -> None:
        memory.write(args[at] & MASK32, value)
        memory.write_u32(args[at + 1] & MASK32, len(value))

    return give


def _givers(call: Call, at: int) -> tuple[tuple[tuple[int, Giver], ...], tuple[tuple[int, int, int], ...]]:
    """What writes the results, with their indices, and the out-pointers: (index, size, alignment less one).

    Those that may refuse with BUFLEN come first, so that nothing else has happened then.
    """
    first: list[tuple[int, Giver]] = []
    then: list[tuple[int, Giver]] = []
    outs = []
    for i, kind in enumerate(call.gives):
        if kind in {"value", "chunk"}:
            first.append((i, _give_value(at)))
            outs.append((at + 2, 4, 3))
            at += 3
        elif kind == "values":
            first.append((i, _give_values(at)))
            outs += [(at + 3, 8, 7), (at + 4, 4, 3)]
            at += 5
        elif kind == "address":
            then.append((i, _give_address(at)))
            outs.append((at + 1, 4, 3))
            at += 2
        else:
            size = _SIZES.get(kind, 4)
            give = _give_handle(at) if kind in HANDLES else _give_u32(at) if size == 4 else _give_other(at, size)
            then.append((i, give))
            outs.append((at, size, size - 1))
            at += 1
    return (*first, *then), tuple(outs)


def make(call: Call) -> HostFunction[..., Any]:
    """The host function of one row. It finds its visit as its caller's context."""
    function = next(getattr(module, call.function) for module in _MODULES if hasattr(module, call.function))
    takers: list[Taker] = []
    used_up: list[int] = []
    at = 0
    for kind in call.takes:
        plain = kind.removeprefix("-")
        if plain in HANDLES:
            takers.append(_take_handle(at, plain))
            if plain != kind:
                used_up.append(at)
        else:
            takers.append(_TAKERS[plain](at))
        at += 2 if plain in {"bytes", "text", "span", "handles"} else 1
    limit_at = at + 1 if call.gives == ("chunk",) else 0
    givers, outs = _givers(call, at)

    def finish(visit: ComputeVisit, args: tuple[int, ...], taken: dict[int, Any], result: Any) -> int:
        if not givers:
            return Status.OK
        memory = visit.memory
        results = result if len(givers) > 1 else (result,)
        try:
            for i, give in givers:
                give(visit, memory, args, results[i])
        except _TooShort:
            visit.handles.update(taken)  # the guest tries again with a longer one
            for item in results:
                if isinstance(item, Item):
                    item.release(visit.store)
            return Status.BUFLEN
        return Status.OK

    async def later(visit: ComputeVisit, args: tuple[int, ...], taken: dict[int, Any], rest: Any) -> int:
        try:
            return finish(visit, args, taken, await rest)
        except _REFUSALS as error:
            return _refused(visit, error, taken)

    def hostcall(caller: Instance, *args: int) -> int | Suspend:
        visit: ComputeVisit = caller.context
        memory = visit.memory
        taken: dict[int, Any] = {}
        try:
            if outs:
                end = memory.size
                for i, size, unaligned in outs:
                    pointer = args[i] & MASK32
                    if pointer & unaligned:
                        return Status.BADALIGN
                    if pointer + size > end:
                        return Status.INVAL
            values = [take(visit, memory, args) for take in takers]
            for i in used_up:
                number = args[i] & MASK32
                if number in visit.handles:  # it may be there twice
                    taken[number] = visit.handles.pop(number)
            if limit_at:
                values.append(args[limit_at] & MASK32)
            result = function(visit, *values)
            if type(result) is CoroutineType:
                return Suspend(later(visit, args, taken, result))
            return finish(visit, args, taken, result)
        except _REFUSALS as error:
            return _refused(visit, error, taken)

    hostcall.__name__ = hostcall.__qualname__ = f"{call.module}.{call.name}"
    return HostFunction(hostcall, call.params, ("i32",))


_REFUSALS: Final = (Refused, MemoryAccessError, OutgoingFailed)


def _refused(visit: ComputeVisit, error: Exception, taken: dict[int, Any]) -> int:
    """The status of a call that was refused, or has failed; what it has used up is gone."""
    for item in taken.values():
        item.release(visit.store)
    if isinstance(error, Refused):
        return error.status
    return Status.INVAL if isinstance(error, MemoryAccessError) else Status.HTTPINCOMPLETE


_made: dict[tuple[str, str], HostFunction[..., Any]] = {}


def imports_for(needed: Sequence[ImportType]) -> dict[str, dict[str, HostFunction[..., Any]]]:
    """Host functions for what a module imports of the interface; those that there are not, give UNSUPPORTED."""
    found: dict[str, dict[str, HostFunction[..., Any]]] = {}
    for one in needed:
        if not one.module.startswith("fastly_"):
            continue
        key = one.module, one.name
        if key not in CALLS:
            function = _unsupported(one)
        elif key in _made:
            function = _made[key]
        else:
            function = _made[key] = make(CALLS[key])
        found.setdefault(one.module, {})[one.name] = function
    return found


def _unsupported(one: ImportType) -> HostFunction[..., Any]:
    name = f"{one.module}.{one.name}"

    def unsupported(caller: Instance, *_args: Any) -> int:
        caller.context.tell_unsupported(name)
        return Status.UNSUPPORTED

    params: tuple[str, ...] = tuple(getattr(one.type, "params", ()))
    return HostFunction(unsupported, params, ("i32",))
