"""The same server as an ASGI application: for TLS and HTTP/2 behind granian, or within an application of one's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Final

from lucet.terrarium import headers as fields
from lucet.terrarium.http import BytesBody, ClientGone, Exchange, Headers, Request
from lucet.terrarium.normal import BadTarget, normal_host

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _ReceivedBody:
    """A request's body, message by message."""

    __slots__ = ("_chunk", "_more", "_receive", "length")

    def __init__(self, receive: Receive, length: int | None) -> None:
        self._receive = receive
        self._chunk = b""
        self._more = True
        self.length = length

    def at_once(self) -> bytes | None:
        return None

    async def read(self, limit: int = 65536, /) -> bytes:
        while not self._chunk and self._more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone("the client went away before the end of its request")
            self._chunk = message.get("body", b"")
            self._more = message.get("more_body", False)
        part, self._chunk = self._chunk[:limit], self._chunk[limit:]
        return part


class AsgiExchange(Exchange):
    """What is given at once is kept until the caller can send it."""

    __slots__ = ("_ended", "_send", "_whole")

    def __init__(self, request: Request, send: Send) -> None:
        super().__init__(request)
        self._send = send
        self._whole: tuple[Headers, bytes] | None = None
        self._ended = False

    def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        if self.status:
            raise RuntimeError("the response has been begun already")
        checked = fields.checked(status, headers + (self.added or []))
        self.status = status
        if status not in fields.NO_BODY:
            checked.append((b"content-length", b"%d" % len(body)))
        self._whole = (checked, b"" if status in fields.NO_BODY or self.request.method == "HEAD" else body)

    async def start(self, status: int, headers: Headers) -> None:
        if self.status:
            raise RuntimeError("the response has been begun already")
        checked = fields.checked(status, headers + (self.added or []))
        self.status = status
        await self._sent({"type": "http.response.start", "status": status, "headers": checked})

    async def write(self, data: bytes) -> None:
        if not self.status or self._ended or self._whole is not None:
            raise RuntimeError("the response is not open")
        if data and self.status not in fields.NO_BODY and self.request.method != "HEAD":
            await self._sent({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        if not self.status or self._ended or self._whole is not None:
            raise RuntimeError("the response is not open")
        self._ended = True
        await self._sent({"type": "http.response.body", "body": b"", "more_body": False})

    async def finish(self) -> None:
        """The guest is done. A response that it cut off is an error that the caller's server cuts off, too."""
        if self._whole is not None:
            headers, body = self._whole
            await self._sent({"type": "http.response.start", "status": self.status, "headers": headers})
            await self._sent({"type": "http.response.body", "body": body, "more_body": False})
        elif self.status and not self._ended:
            raise ConnectionAbortedError("the application ended in the middle of its response")

    async def _sent(self, message: MutableMapping[str, Any]) -> None:
        try:
            await self._send(message)
        except OSError as error:
            raise ClientGone(str(error)) from None


Handle = Callable[[Exchange], Coroutine[Any, Any, None] | None]
_SCHEMES: Final = {"http": "http", "https": "https"}


def request_of(scope: Scope, receive: Receive) -> Request:
    """BadTarget for one that is none."""
    headers: Headers = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
    raw = scope.get("raw_path") or scope["path"].encode()
    target = raw.partition(b"?")[0]
    if query := scope.get("query_string"):
        target += b"?" + query
    hosts = [value for name, value in headers if name in (b"host", b":authority")]
    length = next((value for name, value in headers if name == b"content-length"), None)
    chunked = any(name == b"transfer-encoding" for name, _ in headers)
    version = scope.get("http_version", "1.1")
    if len(set(hosts)) > 1:
        raise BadTarget("several hosts")
    try:
        size = int(length) if length is not None else None
        text = target.decode("ascii")
        host = normal_host(hosts[0].decode("ascii")) if hosts else ""
    except ValueError as error:
        raise BadTarget(str(error)) from None
    # HTTP/2 has bodies without a length, and without anything that announces them.
    no_body = size == 0 or (size is None and not chunked and (version[0] == "1" or scope["method"] in ("GET", "HEAD")))
    return Request(
        method=scope["method"],
        target=text,
        headers=[header for header in headers if not header[0].startswith(b":")],
        body=BytesBody() if no_body else _ReceivedBody(receive, size),
        host=host,
        scheme=_SCHEMES.get(scope.get("scheme", "http"), "http"),
        version="2" if version.startswith("2") else version,
        client=_address(scope.get("client")),
        server=_address(scope.get("server")),
        traceparent=next((value for name, value in headers if name == b"traceparent"), None),
    )


def application(handle: Handle) -> Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]:
    """An ASGI 3 application (HTTP only) that gives every request to `handle`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"no {scope['type']} here: only http")
        try:
            request = request_of(scope, receive)
        except BadTarget as error:
            exchange = AsgiExchange(Request(method="GET", target="/", headers=[], body=BytesBody()), send)
            exchange.respond(400, [(b"content-type", b"text/plain")], f"{error}\n".encode())
            await exchange.finish()
            return
        exchange = AsgiExchange(request, send)
        rest = handle(exchange)
        if rest is not None:
            await rest
        if not exchange.status:
            exchange.respond(500, [])
        await exchange.finish()

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _address(given: Any) -> tuple[str, int]:
    return (str(given[0]), int(given[1] or 0)) if given else ("", 0)
