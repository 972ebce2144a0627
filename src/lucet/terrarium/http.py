"""An HTTP request, and where its response goes: what front ends, filters and guests' interfaces have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

Headers = list[tuple[bytes, bytes]]
"""Names, in lower case, and values, in their order; a name may occur several times."""


class BodyTooLarge(Exception):
    """A request's body is larger than its tenant may send."""


class ClientGone(Exception):
    """The client has closed the connection, or was too slow for it to be kept."""


class Body(Protocol):
    """A body as it arrives."""

    @property
    def length(self) -> int | None:
        """Bytes, if that is known."""

    def at_once(self) -> bytes | None:
        """All of it, if it has arrived already and nothing of it has been read; else None, and nothing happens."""

    async def read(self, limit: int = 65536, /) -> bytes:
        """At most `limit` bytes of what comes next; b"" at the end. BodyTooLarge, ClientGone."""


async def read_all(body: Body, limit: int) -> bytes:
    """A whole body of at most `limit` bytes. BodyTooLarge, ClientGone."""
    whole = body.at_once()
    if whole is None:
        parts, size = [], 0
        while part := await body.read():
            size += len(part)
            if size > limit:
                raise BodyTooLarge(f"the body is larger than {limit} bytes")
            parts.append(part)
        whole = b"".join(parts)
    if len(whole) > limit:
        raise BodyTooLarge(f"the body of {len(whole)} bytes is larger than {limit}")
    return whole


class BytesBody:
    """A body that is there."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._position = 0

    @property
    def length(self) -> int:
        return len(self._data)

    def at_once(self) -> bytes | None:
        if self._position:
            return None
        self._position = len(self._data)
        return self._data

    async def read(self, limit: int = 65536, /) -> bytes:
        part = self._data[self._position : self._position + limit]
        self._position += len(part)
        return part


class Rest:
    """A body of which somebody has read the beginning: `first` is of that what is to be read again."""

    __slots__ = ("_body", "_first")

    def __init__(self, first: bytes, body: Body) -> None:
        self._first = first
        self._body = body

    @property
    def length(self) -> None:
        return None

    def at_once(self) -> bytes | None:
        return None

    async def read(self, limit: int = 65536, /) -> bytes:
        if not self._first:
            return await self._body.read(limit)
        part, self._first = self._first[:limit], self._first[limit:]
        return part


@dataclass(slots=True, kw_only=True)
class Request:
    """What a client asks."""

    method: str
    """As sent: "GET"."""
    target: str
    """Path and query as sent, "/a%20b?c=d"; always begins with "/" (or is "*", for OPTIONS)."""
    headers: Headers
    body: Body
    host: str = ""
    """Of the Host header or :authority, in lower case, without the port."""
    scheme: str = "http"
    version: str = "1.1"
    client: tuple[str, int] = ("", 0)
    server: tuple[str, int] = ("", 0)
    id: str = ""
    """Of this request, in logs and in errors."""
    route: str = "/..."
    """The path of the route that led here (router.Route)."""
    traceparent: bytes | None = None
    """The header, if there is one."""

    @property
    def path(self) -> str:
        """As sent, without the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; its name in lower case."""
        return next((value for key, value in self.headers if key == name), None)


class Exchange(ABC):
    """One request and its response: either respond(), once, or start(), write()... and end().

    The front end adds Date, Server, Content-Length or Transfer-Encoding, and whatever else the protocol needs; headers
    about the connection that a guest gives are dropped. A status outside of 200..599 or a header that is none is a
    ValueError.
    """

    __slots__ = ("added", "request", "status")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.added: Headers | None = None
        """Headers that the response is to have besides those of the guest."""
        self.status = 0
        """Of the response that was begun; 0 before."""

    @abstractmethod
    def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Give the whole response. Does not wait."""

    @abstractmethod
    async def start(self, status: int, headers: Headers) -> None:
        """Begin a response whose body is written in parts."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Write some of the body; waits while the client is slower. ClientGone."""

    @abstractmethod
    async def end(self) -> None:
        """The body is complete. A response that was begun and is not ended is cut off, so that the client notices."""


class OutgoingRefused(Exception):
    """An outgoing request is not allowed: its destination, or one more of them."""


class OutgoingFailed(Exception):
    """An outgoing request got no response: no such host, no connection, a timeout, no HTTP."""


@dataclass(slots=True, kw_only=True)
class OutgoingRequest:
    method: str
    url: str
    """Absolute."""
    headers: Headers = field(default_factory=list)
    body: Body | bytes = b""
    follow_redirects: bool = False


@dataclass(slots=True, kw_only=True)
class OutgoingResponse:
    status: int
    headers: Headers
    body: Body
    version: str = "1.1"


class Outgoing(Protocol):
    """Where an application's own HTTP requests go, within what it is allowed. One for each request's run."""

    async def send(self, request: OutgoingRequest, /) -> OutgoingResponse:
        """OutgoingRefused, OutgoingFailed. Redirects are followed if asked for, each hop checked."""

    async def close(self) -> None:
        """Drop what is still open."""
