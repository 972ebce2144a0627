"""The HTTP/1.1 front end: asyncio's transports (uvloop's where it is there), httptools' parser, and nothing between.

A request whose guest neither waits nor computes for long is answered within the callback that its last bytes came with:
no task, no queue. Everything that a client can keep busy is bounded: heads, bodies, pipelined requests, time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final

import httptools

from lucet.terrarium import headers as fields
from lucet.terrarium.http import BytesBody, ClientGone, Exchange, Headers, Request
from lucet.terrarium.normal import BadTarget, normal_host

Handle = Callable[[Exchange], Coroutine[Any, Any, None] | None]
"""Answers an exchange, at once (None) or in the coroutine that it gives. Raises nothing but ClientGone."""

_WATCH: Final = 1.0
"""Seconds between two looks at who is too slow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What one client's connection may take."""

    head_bytes: int = 65536
    header_count: int = 128
    target_bytes: int = 16384
    head_time: float = 10.0
    """Seconds from a request's first byte to the end of its head."""
    idle_time: float = 75.0
    """Seconds without a request until a connection is closed."""
    body_rate: int = 1024
    """Bytes in a second that a body must come with on the average, after the first `stall_time` seconds."""
    stall_time: float = 20.0
    """Seconds in which the client must take some of a response: `body_rate` bytes for each of them."""
    pipelined: int = 16
    connections: int = 20_000


class StreamBody:
    """A request's body that is still arriving."""

    __slots__ = ("_chunks", "_connection", "_ended", "_gone", "_waiter", "begun", "length", "received", "size")

    def __init__(self, connection: Connection, length: int | None) -> None:
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._gone = False
        self._waiter: asyncio.Future[None] | None = None
        self.length = length
        self.size = 0
        """Bytes that wait to be read."""
        self.received = 0
        self.begun = connection.front.now

    @property
    def complete(self) -> bool:
        return self._ended

    def at_once(self) -> bytes | None:
        if not self._ended or self.received != self.size:
            return None
        data = b"".join(self._chunks)
        self._chunks.clear()
        self.size = 0
        return data

    async def read(self, limit: int = 65536, /) -> bytes:
        while not self._chunks:
            if self._gone:
                raise ClientGone("the client went away before the end of its request")
            if self._ended:
                return b""
            self._connection.wants_body()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        part = self._chunks.popleft()
        if len(part) > limit:
            self._chunks.appendleft(part[limit:])
            part = part[:limit]
        self.size -= len(part)
        if self.size < _BODY_LOW:
            self._connection.resume_reading()
        return part

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self.size += len(data)
        self.received += len(data)
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def lose(self) -> None:
        self._gone = not self._ended
        self._wake()

    def discard(self) -> None:
        """Nobody reads it any more."""
        self._chunks.clear()
        self.size = 0

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


_BODY_HIGH: Final = 262144
_BODY_LOW: Final = 65536
_DISCARDED: Final = 1 << 20
"""Bytes of a body that nobody wants for which a connection is kept."""
_LINGER: Final = 2.0
"""Seconds for a client that sends more than is wanted to read why."""


class HttpExchange(Exchange):
    """A request of a connection, and its response."""

    __slots__ = ("_chunked", "_connection", "_ended", "_length", "expects", "keep_alive")

    def __init__(self, connection: Connection, request: Request, keep_alive: bool) -> None:
        super().__init__(request)
        self._connection = connection
        self._chunked = False
        self._ended = False
        self.keep_alive = keep_alive
        self.expects = False
        """Whether the client waits for "100 Continue" before it sends its body."""

    @property
    def ended(self) -> bool:
        return self._ended

    def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        if self.status:
            raise RuntimeError("the response has been begun already")
        connection = self._connection
        front = connection.front
        head = front.heads.get(status) or front.head(status)
        block = fields.lines(headers if self.added is None else headers + self.added)
        self.status = status
        self._ended = True
        end = self._end_of_head()
        if status in fields.NO_BODY:
            connection.write(b"".join((head, block, end)))
        elif self.request.method == "HEAD":
            connection.write(b"".join((head, block, b"content-length: %d\r\n" % len(body), end)))
        else:
            connection.write(b"".join((head, block, b"content-length: %d\r\n" % len(body), end, body)))

    async def start(self, status: int, headers: Headers) -> None:
        if self.status:
            raise RuntimeError("the response has been begun already")
        front = self._connection.front
        head = front.heads.get(status) or front.head(status)
        parts = [head, fields.lines(headers if self.added is None else headers + self.added)]
        self.status = status
        if status not in fields.NO_BODY and self.request.method != "HEAD":
            if self.request.version == "1.0":
                self.keep_alive = False
            else:
                self._chunked = True
                parts.append(b"transfer-encoding: chunked\r\n")
        parts.append(self._end_of_head())
        self._connection.write(b"".join(parts))

    def _end_of_head(self) -> bytes:
        if self.keep_alive and not self._connection.front.closing:
            return b"\r\n" if self.request.version != "1.0" else b"connection: keep-alive\r\n\r\n"
        self.keep_alive = False
        return b"connection: close\r\n\r\n"

    async def write(self, data: bytes) -> None:
        if not self.status or self._ended:
            raise RuntimeError("the response is not open")
        if data and self.status not in fields.NO_BODY and self.request.method != "HEAD":
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        await self._connection.drain()

    async def end(self) -> None:
        if not self.status or self._ended:
            raise RuntimeError("the response is not open")
        self._ended = True
        if self._chunked:
            self._connection.write(b"0\r\n\r\n")


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, answered in their order."""

    __slots__ = (
        "_body",
        "_client",
        "_current",
        "_framing",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_lingers",
        "_much",
        "_parser",
        "_paused",
        "_refused",
        "_server",
        "_shared",
        "_target",
        "_task",
        "_transport",
        "_unread",
        "_unsent",
        "_waiting",
        "_writable",
        "deadline",
        "front",
        "secure",
    )

    def __init__(self, front: FrontEnd, secure: bool) -> None:
        self.front = front
        self.secure = secure
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._client = self._server = ("", 0)
        self._headers: Headers = []
        self._target = b""
        self._in_head = False
        self._head_bytes = 0
        """Of a head that is not complete; -1 while it is in the data that another request ends in."""
        self._framing = 0
        """Bytes of a body that are none of its content: chunks' heads, trailers."""
        self._unsent = 0
        """Bytes that the client had still to take when that was looked at."""
        self._lingers = False
        self._much = False
        """Whether so much came at once that a head in it may be too large."""
        self._shared = False
        """Whether a request ended in what came."""
        self._body: StreamBody | None = None
        """Of the request that is being received."""
        self._unread: HttpExchange | None = None
        """A request whose head is complete and whose body is not, before it is begun."""
        self._current: HttpExchange | None = None
        self._waiting: deque[HttpExchange] = deque()
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._refused = False
        """Whether nothing more is to be read from it."""
        self._writable: asyncio.Future[None] | None = None
        self.deadline = front.now + front.bounds.head_time

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._client = _address(transport.get_extra_info("peername"))
        self._server = _address(transport.get_extra_info("sockname"))
        if not self.front.join(self):
            # Nobody watches it, so it cannot stay to see whether the client reads this.
            self._refused = True
            self._transport.write(self.front.head(503) + _NOTHING_MORE)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._refused = True
        self.front.connections.discard(self)
        if self._body is not None:
            self._body.lose()
        self._wake_writer()
        self._waiting.clear()
        if self._task is not None:
            # After its first step: a task that never began gives nothing back of what its request has.
            self.front.loop.call_soon(self._task.cancel)
        self.front.left()

    def eof_received(self) -> bool:
        """A client that closes its side is taken to be gone: no guest is to work for nobody."""
        return False

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()
            self._unsent = self._transport.get_write_buffer_size()
            self.deadline = self.front.now + self.front.bounds.stall_time

    def resume_writing(self) -> None:
        self._wake_writer()
        self._begin_waiting()
        if self._current is None:
            self._read_on()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        most = self.front.bounds.head_bytes
        self._much = len(data) > most
        self._shared = False
        body = self._body
        received = 0 if body is None else body.received
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # What follows is in no protocol that is spoken here.
            self._refused = True
            if self._current is None and not self._waiting:
                self._close()
        except httptools.HttpParserError as error:
            refusal = error.__context__
            self._refuse(refusal.status if isinstance(refusal, _Refusal) else 400)
            return
        if self._in_head:
            if self._head_bytes < 0:
                self._head_bytes = self._size_of_head() if self._much else len(data)
            else:
                self._head_bytes += len(data)
            if self._head_bytes > most:
                self._refuse(431)
                return
        elif body is not None and self._body is body:
            self._framing += len(data) - (body.received - received)
            # A chunk of one byte has five besides.
            if self._framing > most + 8 * body.received:
                self._refuse(431)
                return
        if self._unread is not None:
            exchange, self._unread = self._unread, None
            self._enqueue(exchange)
        if self._body is not None and self._body.size > _BODY_HIGH:
            self._pause_reading()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._headers = []
        self._target = b""
        self._in_head = True
        self._head_bytes = -1 if self._shared else 0
        if self._current is None and self._writable is None:
            self.deadline = self.front.now + self.front.bounds.head_time

    def on_url(self, part: bytes) -> None:
        self._target += part
        if len(self._target) > self.front.bounds.target_bytes:
            raise _Refusal(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer, which nobody here reads
            self._headers.append((name.lower(), value))
            if len(self._headers) > self.front.bounds.header_count:
                raise _Refusal(431)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._much and self._size_of_head() > self.front.bounds.head_bytes:
            raise _Refusal(431)
        parser = self._parser
        version = parser.get_http_version()
        authority, length, expects, body_follows, trace = _told(self._headers, version)
        method = parser.get_method().decode()
        target, host = _target(self._target, authority, method)
        request = Request(
            method=method,
            target=target,
            headers=self._headers,
            body=_EMPTY,
            host=host,
            scheme="https" if self.secure else "http",
            version=version,
            client=self._client,
            server=self._server,
            traceparent=trace,
        )
        exchange = HttpExchange(self, request, parser.should_keep_alive())
        if body_follows:
            request.body = self._body = StreamBody(self, length)
            self._framing = 0
            exchange.expects = expects
        self._unread = exchange

    def _size_of_head(self) -> int:
        return len(self._target) + sum(len(name) + len(value) for name, value in self._headers)

    def on_body(self, data: bytes) -> None:
        body = self._body
        if body is None:
            return
        current = self._current
        if current is not None and current.request.body is body and current.ended:
            body.received += len(data)
            if body.received > _DISCARDED:
                self._linger()
            return
        body.feed(data)

    def on_message_complete(self) -> None:
        self._shared = True
        if self._body is not None:
            self._body.end()
            self._body = None
        exchange, self._unread = self._unread, None
        if exchange is not None:
            self._enqueue(exchange)
        elif self._current is not None and self._current.ended and self._task is None:
            self._finished(self._current)

    # One request after the other.

    def _enqueue(self, exchange: HttpExchange) -> None:
        if self._current is None and not self._waiting and self._writable is None:
            self._begin(exchange)
            return
        self._waiting.append(exchange)
        if self._writable is not None or len(self._waiting) >= self.front.bounds.pipelined:
            self._pause_reading()

    def _begin_waiting(self) -> None:
        """Unless the client does not even take the responses that it has."""
        while self._current is None and self._waiting and self._writable is None:
            self._begin(self._waiting.popleft())

    def _begin(self, exchange: HttpExchange) -> None:
        self._current = exchange
        front = self.front
        self.deadline = front.never
        rest = front.handle(exchange)
        if rest is None:
            self._finished(exchange)
        else:
            self._task = front.loop.create_task(rest)
            self._task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ClientGone):
            self.front.loop.call_exception_handler({"message": "answering a request failed", "exception": error})
        exchange = self._current
        if exchange is not None:
            self._finished(exchange)
            self._begin_waiting()

    def _finished(self, exchange: HttpExchange) -> None:
        """The guest is done."""
        if not exchange.ended:
            if exchange.status:
                self._close()  # in the middle of a response, so that the client notices
                return
            exchange.respond(500, [], b"")
        body = exchange.request.body
        if not exchange.keep_alive or self._refused:
            if isinstance(body, StreamBody) and not body.complete:
                self._linger()
            else:
                self._close()
            return
        if isinstance(body, StreamBody) and not body.complete:
            body.discard()
            self.resume_reading()
            if exchange.expects:
                self._close()
            elif (body.length or 0) > _DISCARDED:
                self._linger()
            else:
                self.deadline = self.front.now + self.front.bounds.stall_time
            return  # the rest of it is on its way; the next request comes after
        self._current = None
        if self._writable is None:
            self.deadline = self.front.now + self.front.bounds.idle_time
            self._read_on()

    def _read_on(self) -> None:
        if len(self._waiting) < self.front.bounds.pipelined:
            self.resume_reading()

    # For the exchange and its body.

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has taken enough of what was written."""
        if self._transport.is_closing():
            raise ClientGone("the client closed the connection")
        if self._writable is not None:
            await asyncio.shield(self._writable)
            if self._transport.is_closing():
                raise ClientGone("the client closed the connection")

    def wants_body(self) -> None:
        exchange = self._current
        if exchange is not None and exchange.expects and not exchange.status:
            exchange.expects = False
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def resume_reading(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _wake_writer(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        self.deadline = self.front.never if self._current is not None else self.front.now + self.front.bounds.idle_time

    # Ends.

    def _refuse(self, status: int) -> None:
        """What came is not a request that can be answered."""
        self._refused = True
        self._unread = None
        if self._current is None and not self._transport.is_closing():
            if self._waiting:
                self._waiting.clear()  # whose responses the client has no room for
            else:
                self._transport.write(self.front.head(status) + _NOTHING_MORE)
            self._linger()
        elif self._current is not None:
            self._current.keep_alive = False
            self._waiting.clear()
            if self._body is not None:
                self._body.lose()

    def _linger(self) -> None:
        """Close it while the client may still be sending: what comes is dropped for a while, since closing at once
        would make its system drop the response.
        """
        self._refused = True
        if self._transport.is_closing() or not self._transport.can_write_eof():
            self._close()
            return
        self._transport.write_eof()
        self.resume_reading()
        self._lingers = True
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = self.front.now + (self.front.bounds.stall_time if self._unsent else _LINGER)

    def _close(self) -> None:
        self._refused = True
        self._transport.close()
        # A client that does not take what is left of the response has a while to do so.
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = self.front.now + self.front.bounds.stall_time

    def watch(self, now: float) -> None:
        """Called every second."""
        body = self._body
        if now > self.deadline:
            if self._transport.is_closing() or self._writable is not None or self._lingers:
                if self._takes_more():
                    self.deadline = now + self.front.bounds.stall_time
                else:
                    self._transport.abort()
            elif self._in_head:
                self._refuse(408)
            else:
                self._close()
        elif body is not None and not self._paused:
            elapsed = now - body.begun - self.front.bounds.stall_time
            if elapsed > 0 and body.received < elapsed * self.front.bounds.body_rate:
                body.lose()

    def _takes_more(self) -> bool:
        """Whether the client has taken enough of what it is sent since the last look."""
        left = self._transport.get_write_buffer_size()
        taken, self._unsent = self._unsent - left, left
        return bool(taken >= self.front.bounds.body_rate * self.front.bounds.stall_time)

    def shut_down(self) -> None:
        """Close it as soon as it is idle."""
        if self._current is None and not self._in_head:
            self._close()


class FrontEnd:
    """Listens, and gives every request to `handle`."""

    def __init__(self, handle: Handle, bounds: Bounds | None = None, *, name: bytes = b"lucet") -> None:
        self.handle = handle
        self.bounds = bounds or Bounds()
        self.connections: set[Connection] = set()
        self.heads: dict[int, bytes] = {}
        """Status line, date and server of a response, made anew every second."""
        self.closing = False
        self.now = time.monotonic()
        self.never = float("inf")
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment] # until it listens
        self._name = name
        self._servers: list[asyncio.Server] = []
        self._ticking: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    async def listen(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, reuse_port: bool = False
    ) -> tuple[str, int]:
        """Give the address, whose port is a free one for port 0. OSError."""
        self.loop = asyncio.get_running_loop()
        secure = tls is not None
        server = await self.loop.create_server(
            lambda: Connection(self, secure), host, port, ssl=tls, reuse_port=reuse_port or None, backlog=2048
        )
        self._servers.append(server)
        if self._ticking is None:
            self._tick()
        return _address(server.sockets[0].getsockname())

    async def listen_unix(self, path: str) -> None:
        self.loop = asyncio.get_running_loop()
        self._servers.append(await self.loop.create_unix_server(lambda: Connection(self, False), path))
        if self._ticking is None:
            self._tick()

    def head(self, status: int) -> bytes:
        """Of a response. ValueError for a status that is none."""
        made = b"%bdate: %b\r\nserver: %b\r\n" % (
            fields.status_line(status),
            formatdate(usegmt=True).encode(),
            self._name,
        )
        self.heads[status] = made
        return made

    def join(self, connection: Connection) -> bool:
        """Whether there is room for one more."""
        if self.closing or len(self.connections) >= self.bounds.connections:
            return False
        self.connections.add(connection)
        return True

    def left(self) -> None:
        if self._empty is not None and not self.connections and not self._empty.done():
            self._empty.set_result(None)

    async def close(self, grace: float = 30.0) -> None:
        """Accept nothing more, let the requests that run end within `grace` seconds, then cut off what is left."""
        self.closing = True
        for server in self._servers:
            server.close()
        for connection in tuple(self.connections):
            connection.shut_down()
        if self.connections:
            self._empty = self.loop.create_future()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty, grace)
        tasks = [connection._task for connection in self.connections if connection._task is not None]
        for connection in tuple(self.connections):
            connection._transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)  # they are cancelled, and have their requests to log
        if self._ticking is not None:
            self._ticking.cancel()

    def _tick(self) -> None:
        self.now = now = time.monotonic()
        self.heads.clear()
        for connection in tuple(self.connections):
            connection.watch(now)
        self._ticking = self.loop.call_later(_WATCH, self._tick)


class _Refusal(Exception):
    """Raised in a callback of the parser: the request is answered with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


_EMPTY: Final = BytesBody()
_NOTHING_MORE: Final = b"content-length: 0\r\nconnection: close\r\n\r\n"
_TOLD: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"traceparent"})


def _told(headers: Headers, version: str) -> tuple[bytes | None, int | None, bool, bool, bytes | None]:
    """What the headers say: host, body's length, whether the client waits for 100, whether there is a body, trace."""
    host = length = trace = None
    expects = chunked = False
    for name, value in headers:
        if name not in _TOLD:
            continue
        match name:
            case b"host":
                if host is not None:
                    raise _Refusal(400)
                host = value
            case b"content-length":
                length = int(value)  # which the parser has checked
            case b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise _Refusal(501)
                chunked = True
            case b"expect":
                if value.lower() != b"100-continue":
                    raise _Refusal(417)
                expects = version != "1.0"
            case _:
                trace = value
    if host is None and version != "1.0":
        raise _Refusal(400)
    return host, length, expects, chunked or bool(length), trace


def _target(target: bytes, host: bytes | None, method: str) -> tuple[str, str]:
    """The target in origin form, and the host's name."""
    try:
        if not target.startswith(b"/"):
            if method == "CONNECT":
                raise _Refusal(405)
            if (target, method) != (b"*", "OPTIONS"):
                url = httptools.parse_url(target)
                if url.schema not in (b"http", b"https") or not url.host:
                    raise _Refusal(400)
                host = url.host
                target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
        return target.decode("ascii"), normal_host((host or b"").decode("ascii"))
    except (UnicodeDecodeError, BadTarget, httptools.HttpParserInvalidURLError):
        raise _Refusal(400) from None


def _address(address: Any) -> tuple[str, int]:
    return (address[0], address[1]) if isinstance(address, tuple) else ("", 0)
