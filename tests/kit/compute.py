"""Calls of Compute's host functions without a guest program: what its tests share."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import lucet
from lucet.runtime import Suspend
from lucet.terrarium.compute_table import CALLS
from lucet.terrarium.environment import Entry, Write
from lucet.terrarium.http import BytesBody, Headers, OutgoingResponse, Request
from lucet.terrarium.record import Record
from tests.kit.terrarium import App, DictKeys, MemoryExchange

_NUMBERS = {"u16": 2, "u32": 4, "u64": 8}
_SAID = '(module (import "fastly_abi" "init" (func (param i64) (result i32))) (memory (export "memory") 64 1024))'


@functools.cache
def _module() -> lucet.Module:
    return lucet.Module.from_bytes(lucet.compile(_SAID, opt_level="none"))


class Arriving:
    """A body whose parts come one after the other."""

    def __init__(self, *parts: bytes | Exception, length: int | None = None) -> None:
        self.parts = list(parts)
        self.length = length

    def at_once(self) -> bytes | None:
        return None

    async def read(self, limit: int = 65536, /) -> bytes:
        await asyncio.sleep(0)
        if not self.parts:
            return b""
        part = self.parts.pop(0)
        if isinstance(part, Exception):
            raise part
        if len(part) > limit:
            self.parts.insert(0, part[limit:])
        return part[:limit]


class Never(Arriving):
    async def read(self, limit: int = 65536, /) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError


class SlowKeys(DictKeys):
    """Answers later."""

    async def get(self, store: str, key: bytes) -> Entry | None:  # type: ignore[override]
        return super().get(store, key)

    async def write(self, write: Write) -> tuple[bool, bool]:  # type: ignore[override]
        return super().write(write)

    async def delete(self, store: str, key: bytes) -> bool:  # type: ignore[override]
        return super().delete(store, key)

    async def keys(self, store: str, **how: Any) -> list[bytes]:  # type: ignore[override]
        return super().keys(store, **how)


class InTurn:
    """Answers requests for .../0, .../1, ... in this order, whatever order they come in: each, when the one before was
    read to its end. For one run of a guest.
    """

    def __init__(self) -> None:
        self.read: dict[int, asyncio.Event] = {}

    async def __call__(self, url: str) -> OutgoingResponse:
        number = int(url[-1])
        if number:
            await self.event(number - 1).wait()
        body = BytesBody(b"%d" % number)
        event = self.event(number)

        class Read(BytesBody):
            def at_once(self) -> bytes | None:
                return None

            async def read(self, limit: int = 65536, /) -> bytes:
                data = await body.read(limit)
                if not data:
                    event.set()
                return data

        return OutgoingResponse(status=200, headers=[], body=Read())

    def event(self, number: int) -> asyncio.Event:
        return self.read.setdefault(number, asyncio.Event())


class Caller:
    """An instance whose host functions the test calls, as a guest would: a context manager.

        with Caller() as guest:
            status, handle = guest.call("fastly_http_req.new")

    Each call has its own piece of memory for what it takes and gives; room: the bytes of a buffer.
    """

    def __init__(
        self,
        method: str = "GET",
        target: str = "/",
        body: Any = b"",
        headers: Headers | None = None,
        exchange: type[MemoryExchange] = MemoryExchange,
        client: tuple[str, int] = ("192.0.2.7", 4711),
        **app: Any,
    ) -> None:
        self.app = App(_module(), **app)
        self.loop = asyncio.new_event_loop()
        request = Request(
            method=method,
            target=target,
            headers=[(b"host", b"example.test"), *(headers or [])],
            body=BytesBody(body) if isinstance(body, bytes) else body,
            host="example.test",
            client=client,
            server=("127.0.0.1", 80),
            id="request-1",
        )
        self.exchange = exchange(request)
        self.record = Record(0.0, self.app.limits)
        self.visit: Any = self.app.served.visit(self.exchange, self.record)
        self.instance = self.visit.new_instance()
        self.instance.context = self.visit
        self.memory = self.instance.memory
        self.at = 1024

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.visit.store.held >= 0, "more was given back than was held"
        self.instance.context = None
        self.instance.close()
        self.loop.run_until_complete(self._close())
        self.loop.close()

    async def _close(self) -> None:
        self.visit.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def put(self, data: bytes) -> int:
        """Where the data is now."""
        at = self.room(len(data))
        self.memory.write(at, data)
        return at

    def room(self, size: int) -> int:
        at = self.at
        self.at = (at + size + 15) & ~15
        assert self.at <= self.memory.size
        return at

    def raw(self, name: str, *arguments: int) -> int:
        """The status, of a call with these numbers."""
        return self.loop.run_until_complete(self._raw(name, arguments))

    async def _raw(self, name: str, arguments: tuple[int, ...]) -> int:
        module, _, function = name.partition(".")
        host_function = host_function_of(module, function)
        assert len(arguments) == len(host_function.params)
        result = host_function.callable(self.instance, *arguments)
        if isinstance(result, Suspend):
            result = await result.value
        assert isinstance(result, int)
        return result

    def arguments(self, name: str, *given: Any, room: int = 1024, cursor: int = 0) -> list[int]:
        """The numbers of a call: data is put into memory, and out-pointers point to room."""
        module, _, function = name.partition(".")
        call = CALLS[module, function]
        assert len(given) == len(call.takes)
        numbers: list[int] = []
        for kind, value in zip(call.takes, given, strict=True):
            if kind in {"bytes", "text", "span"}:
                data = value.encode() if isinstance(value, str) else value
                numbers += [self.put(data), len(data)]
            elif kind == "handles":
                numbers += [self.put(b"".join(one.to_bytes(4, "little") for one in value)), len(value)]
            else:
                numbers.append(value)
        for kind in call.gives:
            if kind in {"value", "chunk"}:
                numbers += [self.room(room), room, self.room(4)]
            elif kind == "values":
                numbers += [self.room(room), room, cursor, self.room(8), self.room(4)]
            elif kind == "address":
                numbers += [self.room(16), self.room(4)]
            else:
                numbers.append(self.room(8))
        return numbers

    def call(self, name: str, *given: Any, room: int = 1024, cursor: int = 0) -> tuple[Any, ...]:
        """The status, and what the call gives: for values (the bytes written, the next cursor)."""
        numbers = self.arguments(name, *given, room=room, cursor=cursor)
        status = self.raw(name, *numbers)
        module, _, function = name.partition(".")
        call = CALLS[module, function]
        at = len(numbers) - sum(_WIDTH.get(kind, 1) for kind in call.gives)
        results: list[Any] = []
        for kind in call.gives:
            if kind in {"value", "chunk"}:
                size = self.memory.read_u32(numbers[at + 2])
                results.append(self.memory.read(numbers[at], size) if status == 0 else size)
            elif kind == "values":
                size = self.memory.read_u32(numbers[at + 4])
                after = int.from_bytes(self.memory.read(numbers[at + 3], 8), "little", signed=True)
                results.append((self.memory.read(numbers[at], size) if status == 0 else size, after))
            elif kind == "address":
                results.append(self.memory.read(numbers[at], self.memory.read_u32(numbers[at + 1])))
            else:
                size = _NUMBERS.get(kind, 4)
                results.append(int.from_bytes(self.memory.read(numbers[at], size), "little"))
            at += _WIDTH.get(kind, 1)
        return status, *results

    def good(self, name: str, *given: Any, room: int = 1024, cursor: int = 0) -> Any:
        """What a call gives that has to succeed."""
        status, *results = self.call(name, *given, room=room, cursor=cursor)
        assert status == 0, f"{name} gave status {status}"
        return results[0] if len(results) == 1 else tuple(results)

    def status(self, name: str, *given: Any, room: int = 1024, cursor: int = 0) -> int:
        return int(self.call(name, *given, room=room, cursor=cursor)[0])

    def body(self, data: bytes = b"") -> int:
        """The handle of a body with this in it."""
        handle: int = self.good("fastly_http_body.new")
        if data:
            assert self.good("fastly_http_body.write", handle, data, 0) == len(data)
        return handle

    def read(self, body: int, room: int = 65536) -> bytes:
        """All of a body."""
        data, at = b"", self.at
        while part := self.good("fastly_http_body.read", body, room=room):
            data += part
            self.at = at
        return data


_WIDTH = {"value": 3, "chunk": 3, "values": 5, "address": 2}


@functools.cache
def host_function_of(module: str, function: str) -> Any:
    from lucet.terrarium.compute_calls import make

    return make(CALLS[module, function])
