"""Guests' requests to this server's own hosts: answered without a connection, as if they had come through one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final
from urllib.parse import urlsplit

from lucet.terrarium.http import (
    BytesBody,
    ClientGone,
    Exchange,
    Headers,
    OutgoingFailed,
    OutgoingRequest,
    OutgoingResponse,
    Request,
)
from lucet.terrarium.normal import normal_host

Handle = Callable[[Exchange], Coroutine[Any, Any, None] | None]

PARTS: Final = 4
"""Of a response's body that are written and not read yet; then the one who writes waits."""


class OwnHosts:
    """An outgoing.Own. serves: whether a host, in normal form, is one of this server's. handle: answers an exchange."""

    def __init__(self, serves: Callable[[str], bool], handle: Handle) -> None:
        self._serves = serves
        self._handle = handle
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, request: OutgoingRequest) -> Awaitable[OutgoingResponse] | None:
        try:
            url = urlsplit(request.url)
            host = normal_host(url.netloc)
        except ValueError:
            return None
        if not self._serves(host):
            return None
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = [header for header in request.headers if header[0].lower() != b"host"]
        incoming = Request(
            method=request.method,
            target=target,
            headers=[(b"host", url.netloc.encode("latin-1")), *((name.lower(), value) for name, value in headers)],
            body=BytesBody(request.body) if isinstance(request.body, bytes) else request.body,
            host=host,
            scheme=url.scheme,
            client=("127.0.0.1", 0),
        )
        return self._answer(_Local(incoming))

    async def _answer(self, exchange: _Local) -> OutgoingResponse:
        task = asyncio.get_running_loop().create_task(self._run(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await exchange.response
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _run(self, exchange: _Local) -> None:
        try:
            rest = self._handle(exchange)
            if rest is not None:
                await rest
        finally:
            exchange.over()


class _Local(Exchange):
    """Whose response is somebody's here. Its body is read as it is written."""

    __slots__ = ("_ended", "_parts", "response")

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.response: asyncio.Future[OutgoingResponse] = asyncio.get_running_loop().create_future()
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(PARTS)
        self._ended = False

    def _begin(self, status: int, headers: Headers, body: BytesBody | _LocalBody) -> None:
        self.status = status
        if not self.response.done():
            headers = [*headers, *(self.added or [])]
            self.response.set_result(OutgoingResponse(status=status, headers=headers, body=body))

    def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        self._begin(status, headers, BytesBody(body))

    async def start(self, status: int, headers: Headers) -> None:
        self._begin(status, headers, _LocalBody(self._parts))

    async def write(self, data: bytes) -> None:
        if self.response.cancelled():
            raise ClientGone("nobody waits for the response any more")
        if data:
            await self._parts.put(data)

    async def end(self) -> None:
        await self._parts.put(b"")
        self._ended = True

    def over(self) -> None:
        """Nothing comes any more; if it has not ended, it is cut off."""
        if not self.response.done():
            self.response.set_exception(OutgoingFailed("there is no response"))
        if not self._ended:
            while self._parts.full():
                self._parts.get_nowait()
            self._parts.put_nowait(None)


class _LocalBody:
    def __init__(self, parts: asyncio.Queue[bytes | None]) -> None:
        self._parts = parts
        self._rest = b""
        self._ended = False

    @property
    def length(self) -> int | None:
        return None

    def at_once(self) -> bytes | None:
        return None

    async def read(self, limit: int = 65536, /) -> bytes:
        if not self._rest and not self._ended:
            part = await self._parts.get()
            if part is None:
                raise OutgoingFailed("the response breaks off")
            self._rest, self._ended = part, not part
        part, self._rest = self._rest[:limit], self._rest[limit:]
        return part
