"""Requests to guests, without a front end: what the tests of the guest interfaces share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import lucet
from lucet.terrarium import guest, interfaces
from lucet.terrarium.environment import Environment, KeyValues, Resolver
from lucet.terrarium.http import BytesBody, Exchange, Headers, Outgoing, OutgoingRefused, OutgoingResponse, Request
from lucet.terrarium.keys import MemoryKeys
from lucet.terrarium.limits import Limits
from lucet.terrarium.record import Record


class MemoryExchange(Exchange):
    """A response that is kept."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.headers: Headers = []
        self.parts: list[bytes] = []
        self.ended = False

    def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        assert not self.status, "a second response"
        self.status, self.headers, self.parts, self.ended = status, headers, [body], True

    async def start(self, status: int, headers: Headers) -> None:
        assert not self.status, "a second response"
        self.status, self.headers = status, headers

    async def write(self, data: bytes) -> None:
        assert self.status and not self.ended
        self.parts.append(data)
        await asyncio.sleep(0)

    async def end(self) -> None:
        assert self.status and not self.ended
        self.ended = True


class DictKeys(MemoryKeys):
    """With the limits of every tenant that has no others."""

    def __init__(self) -> None:
        super().__init__(Limits())


class NoOutgoing:
    """Nothing is allowed, or what `answer` says."""

    def __init__(self, answer: Callable[[Any], Awaitable[OutgoingResponse]] | None = None) -> None:
        self.answer = answer

    async def send(self, request: Any, /) -> OutgoingResponse:
        if self.answer is None:
            raise OutgoingRefused(f"{request.url} is not allowed")
        return await self.answer(request)

    async def close(self) -> None:
        pass


@dataclass
class Answer:
    status: int
    headers: Headers
    body: bytes
    ended: bool
    record: Record
    exchange: MemoryExchange

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


class Arriving:
    """A body that arrives in parts."""

    def __init__(self, *parts: bytes, length: int | None = None) -> None:
        self.parts = list(parts)
        self.length = length

    def at_once(self) -> bytes | None:
        return None

    async def read(self, limit: int = 65536, /) -> bytes:
        await asyncio.sleep(0.001)
        part = self.parts.pop(0) if self.parts else b""
        if len(part) > limit:
            part, rest = part[:limit], part[limit:]
            self.parts.insert(0, rest)
        return part


def request_of(method: str, target: str, body: Any = b"", headers: Headers | None = None) -> Request:
    return Request(
        method=method,
        target=target,
        headers=[(b"host", b"example.test"), *(headers or [])],
        body=BytesBody(body) if isinstance(body, bytes) else body,
        host="example.test",
        client=("192.0.2.7", 4711),
        server=("127.0.0.1", 80),
        id="request-1",
    )


@dataclass
class App:
    """A module as an application: `answer = App(wasm).get("/path")`."""

    wasm: bytes | str | lucet.Module
    interface: str | None = None
    limits: Limits = field(default_factory=Limits)
    configuration: dict[str, dict[str, str]] = field(default_factory=dict)
    secrets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    backends: dict[str, str] = field(default_factory=dict)
    keys: KeyValues = field(default_factory=DictKeys)
    outgoing: Callable[[], Outgoing] = NoOutgoing
    resolver: Resolver | None = None
    development: bool = True
    exchange: type[MemoryExchange] = MemoryExchange

    def __post_init__(self) -> None:
        wasm = self.wasm
        module = wasm if isinstance(wasm, lucet.Module) else lucet.Module.from_bytes(lucet.compile(wasm))
        kind = interfaces.detect(module) if self.interface is None else interfaces.named(self.interface)
        environment = Environment(
            tenant="tenant",
            application="application",
            version="1",
            region=lucet.Region(slots=16),
            limits=self.limits,
            keys=self.keys,
            outgoing=self.outgoing,
            configuration=self.configuration,
            secrets=self.secrets,
            backends=self.backends,
            resolver=self.resolver,
            development=self.development,
        )
        self.served = kind(module, environment)

    def get(self, target: str, **changes: Any) -> Answer:
        return self.request("GET", target, **changes)

    def request(
        self, method: str, target: str, body: bytes = b"", headers: Headers | None = None, **changes: Any
    ) -> Answer:
        """In a loop of its own. changes: other fields of the Request."""
        return asyncio.run(self.answer(method, target, body, headers, **changes))

    async def answer(
        self, method: str, target: str, body: Any = b"", headers: Headers | None = None, **changes: Any
    ) -> Answer:
        request = request_of(method, target, body, headers)
        for name, value in changes.items():
            setattr(request, name, value)
        exchange = self.exchange(request)
        record = Record(0.0, self.limits)
        rest = guest.answer(self.served, exchange, record)
        if rest is not None:
            await rest
        return Answer(exchange.status, exchange.headers, b"".join(exchange.parts), exchange.ended, record, exchange)
