"""Guests' own HTTP requests: to where their application may send them, within its limits.

Whether a host is allowed is decided by its name, and then again for the address that a connection is made to, however
it was found: the name of an allowed host may lead to anywhere. Each hop of a redirect is a request of its own.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import ContextVar
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from lucet.terrarium.http import (
    Body,
    ClientGone,
    Headers,
    Outgoing,
    OutgoingFailed,
    OutgoingRefused,
    OutgoingRequest,
    OutgoingResponse,
)
from lucet.terrarium.limits import Limits
from lucet.terrarium.outgoing_rules import PORTS, Rules, address_of, host_of

if TYPE_CHECKING:
    import ssl


Own = Callable[[OutgoingRequest], Awaitable[OutgoingResponse] | None]
"""Answers requests to hosts of this server itself, without a connection; None for others."""

MAX_HOPS: Final = 10
MAX_DEPTH: Final = 4
"""Applications that answer each other's requests within one."""
CONNECT_TIME: Final = 10.0
SILENCE: Final = 30.0
"""Seconds without a byte after which a response is given up."""
IDLE: Final = 60.0
"""Seconds that an application's connections are kept after its last request."""
_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_URL: Final = re.compile(r"[\x21-\x7e]{1,16384}")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_OURS: Final = frozenset(
    b"connection content-length expect keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
"""Headers that are about the connection, or the body's length: a guest's are dropped."""
_BETWEEN_ORIGINS: Final = frozenset({b"authorization", b"cookie", b"host"})
_OF_A_BODY: Final = frozenset({b"content-type", b"content-encoding", b"content-language", b"content-location"})
_AUTOMATIC: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_NOT_THERE: Final = (301, 302, 303, 307, 308)
_depth: ContextVar[int] = ContextVar("lucet.terrarium.outgoing.depth", default=0)


class _Forbidden(OSError):
    """An address that no connection may be made to."""


class Client:
    """Sends guests' requests. To be made in a running event loop.

    own: answers what is for this server itself. tls: whom to trust; None: whom the system trusts. resolver: asks for
    the addresses of names; None: the system. Its close() drops all connections.
    """

    def __init__(
        self,
        *,
        own: Own | None = None,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self.own = own
        self.tls = tls
        self.resolver = resolver or aiohttp.ThreadedResolver()
        self.sessions: set[_Session] = set()

    def outgoing(self, patterns: Iterable[str], limits: Limits) -> Callable[[], Outgoing]:
        """For an application: what Environment.outgoing is. BadPattern."""
        session = _Session(self, Rules(patterns), limits)
        return lambda: _Run(session)

    async def close(self) -> None:
        for session in tuple(self.sessions):
            await session.close()
        await self.resolver.close()


class _Session:
    """An application's connections: nobody else's, since what it may connect to is its own. Made when first needed."""

    def __init__(self, client: Client, rules: Rules, limits: Limits) -> None:
        self.client = client
        self.rules = rules
        self.limits = limits
        self._session: aiohttp.ClientSession | None = None
        self._runs = 0
        self._closing: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._runs += 1
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def end(self) -> None:
        self._runs -= 1
        if self._runs == 0 and self._session is not None:
            loop = asyncio.get_running_loop()
            self._closing = loop.call_later(IDLE, lambda: _keep(loop.create_task(self.close())))

    async def close(self) -> None:
        session, self._session = self._session, None
        self.client.sessions.discard(self)
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if session is not None:
            await session.close()

    def get(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_Resolver(self),
                socket_factory=self._socket,
                use_dns_cache=False,
                limit=self.limits.outgoing_requests * self.limits.concurrency,
                ssl=self.client.tls or True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=_AUTOMATIC,
                timeout=aiohttp.ClientTimeout(
                    total=self.limits.wall_time, sock_connect=CONNECT_TIME, sock_read=SILENCE
                ),
                read_bufsize=65536,
            )
            self.client.sessions.add(self)
        return self._session

    def _socket(self, found: tuple[Any, ...]) -> socket.socket:
        """Called for each address that a connection is tried to. _Forbidden."""
        family, kind, protocol, _, where = found
        address = ip_address(where[0])
        if not self.rules.allow_address(address, _host.get()):
            raise _Forbidden(f"{_host.get()} has the address {address}, which is not public")
        return socket.socket(family, kind, protocol)


_host: ContextVar[str] = ContextVar("lucet.terrarium.outgoing.host")
"""Of the URL that a connection is made for."""


class _Resolver(AbstractResolver):
    """Only with addresses that connections may be made to. _Forbidden if there are only others."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._session.client.resolver.resolve(host, port, family)
        allowed = [
            one for one in found if self._session.rules.allow_address(ip_address(one["host"].partition("%")[0]), host)
        ]
        if found and not allowed:
            raise _Forbidden(f"{host} has the address {found[0]['host']}, which is not public")
        return allowed

    async def close(self) -> None:
        pass


_closing: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    """Until it is done."""
    _closing.add(task)
    task.add_done_callback(_closing.discard)


class _Run:
    """What a request's run may send: an Outgoing."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._left = session.limits.outgoing_requests
        self._turns = asyncio.Semaphore(session.limits.outgoing_concurrency)
        self._open: set[aiohttp.ClientResponse] = set()
        self._is_closed = False
        session.begin()

    async def send(self, request: OutgoingRequest, /) -> OutgoingResponse:
        url = _checked(request)
        for _ in range(MAX_HOPS + 1 if request.follow_redirects else 1):
            response = await self._send(request, url)
            target = _target(response, url) if request.follow_redirects else None
            if target is None or not (isinstance(request.body, bytes) or response.status == 303):
                return response
            if isinstance(response.body, _ResponseBody):
                response.body.drop()
            request = _redirected(request, response.status, url, target)
            url = _checked(request)
        raise OutgoingFailed(f"more than {MAX_HOPS} redirects")

    async def _send(self, request: OutgoingRequest, url: URL) -> OutgoingResponse:
        host, port = host_of(url.raw_host or ""), url.port or 0
        if not self._session.rules.allow(url.scheme, host, port):
            raise OutgoingRefused(f"{url.scheme}://{host}:{port} is not allowed")
        if self._is_closed or self._left <= 0:
            raise OutgoingRefused(f"it is one more than the {self._session.limits.outgoing_requests} that are allowed")
        self._left -= 1
        async with self._turns:
            return await (self._to_ourselves(request) or self._to_others(request, url, host))

    def _to_ourselves(self, request: OutgoingRequest) -> Awaitable[OutgoingResponse] | None:
        own = self._session.client.own
        answer = None if own is None else own(request)
        return None if answer is None else _deeper(answer)

    async def _to_others(self, request: OutgoingRequest, url: URL, host: str) -> OutgoingResponse:
        rules = self._session.rules
        address = address_of(host)
        if address is not None and not rules.allow_address(address, host):
            raise OutgoingRefused(f"{host} is not a public address")
        _host.set(host)
        headers = [
            (name.decode(), value.decode("latin-1")) for name, value in request.headers if name.lower() not in _OURS
        ]
        data: Any = request.body or None
        if data is not None and not isinstance(data, bytes):
            if data.length is not None:
                headers.append(("Content-Length", str(data.length)))
            data = _parts(data)
        try:
            response = await self._session.get().request(
                request.method, url, headers=headers, data=data, allow_redirects=False
            )
        except aiohttp.ClientConnectorError as error:
            forbidden = _forbidden(error)
            if forbidden is not None:
                raise OutgoingRefused(str(forbidden)) from None
            raise OutgoingFailed(f"{error}") from error
        except TimeoutError:
            raise OutgoingFailed(f"{host} does not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise OutgoingFailed(f"{type(error).__name__}: {error}") from error
        self._open.add(response)
        return OutgoingResponse(
            status=response.status,
            headers=_received(response.raw_headers),
            body=_ResponseBody(response, self._session.limits.streamed_body, self._open),
            version=f"{response.version.major}.{response.version.minor}" if response.version else "1.1",
        )

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        for response in tuple(self._open):
            response.close()
        self._open.clear()
        self._session.end()


class _ResponseBody:
    """A response's body, as it comes, in the encoding in which it comes."""

    def __init__(self, response: aiohttp.ClientResponse, limit: int, still_open: set[aiohttp.ClientResponse]) -> None:
        self._response = response
        self._left = limit
        self._open = still_open

    @property
    def length(self) -> int | None:
        return self._response.content_length

    def at_once(self) -> bytes | None:
        return None

    async def read(self, limit: int = 65536, /) -> bytes:
        try:
            part = await self._response.content.read(limit)
        except TimeoutError:
            raise OutgoingFailed("the rest of the response does not come in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise OutgoingFailed(f"the response breaks off: {error}") from error
        self._left -= len(part)
        if self._left < 0:
            self.drop()
            raise OutgoingFailed("the response is too large: the limit streamed_body")
        if not part:
            self._open.discard(self._response)  # its connection is free already
        return part

    def drop(self) -> None:
        self._response.close()
        self._open.discard(self._response)


async def _deeper(answer: Awaitable[OutgoingResponse]) -> OutgoingResponse:
    """One application's request that another one answers, or itself."""
    depth = _depth.get()
    if depth >= MAX_DEPTH:
        if asyncio.iscoroutine(answer):
            answer.close()
        raise OutgoingRefused(f"more than {MAX_DEPTH} applications would answer each other")
    token = _depth.set(depth + 1)
    try:
        return await answer
    finally:
        _depth.reset(token)


def _checked(request: OutgoingRequest) -> URL:
    """Its URL. OutgoingRefused if the request is none that can be sent."""
    if _METHOD.fullmatch(request.method) is None or request.method.upper() == "CONNECT":
        raise OutgoingRefused(f"not a method: {request.method[:100]!r}")
    for name, value in request.headers:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise OutgoingRefused(f"not a header: {name[:100]!r}")
    if _URL.fullmatch(request.url) is None:
        raise OutgoingRefused(f"not a URL: {request.url[:100]!r}")
    try:
        url = URL(request.url, encoded=True)
        port, host = url.port, url.raw_host
    except ValueError as error:
        raise OutgoingRefused(f"not a URL: {request.url[:100]!r}: {error}") from None
    if url.scheme not in PORTS or not host or not port:
        raise OutgoingRefused(f"not an absolute URL of http or https: {request.url[:100]!r}")
    if url.raw_user is not None or url.raw_password is not None or "\\" in url.raw_authority:
        raise OutgoingRefused("the URL has a user in it")
    return url.with_fragment(None)


def _target(response: OutgoingResponse, url: URL) -> URL | None:
    """Where a response redirects to, if it does."""
    if response.status not in _NOT_THERE:
        return None
    location = next((value for name, value in response.headers if name == b"location"), None)
    if location is None:
        return None
    try:
        return url.join(URL(location.decode("ascii"), encoded=True))
    except ValueError:
        return None


def _redirected(request: OutgoingRequest, status: int, url: URL, target: URL) -> OutgoingRequest:
    """RFC 9110, 15.4: what is for one host is not shown to another."""
    is_same = (target.scheme, target.raw_host, target.port) == (url.scheme, url.raw_host, url.port)
    dropped = {b"host"} if is_same else set(_BETWEEN_ORIGINS)
    method, body = request.method, request.body
    if (status == 303 and method != "HEAD") or (status in {301, 302} and method == "POST"):
        method, body = "GET", b""
        dropped |= _OF_A_BODY
    headers = [header for header in request.headers if header[0].lower() not in dropped]
    return OutgoingRequest(method=method, url=str(target), headers=headers, body=body, follow_redirects=True)


def _forbidden(error: BaseException | None) -> _Forbidden | None:
    """Among what an error comes from."""
    seen: list[BaseException | None] = [error]
    while seen:
        one = seen.pop()
        if isinstance(one, _Forbidden):
            return one
        if isinstance(one, BaseExceptionGroup):
            seen += one.exceptions
        elif isinstance(one, aiohttp.ClientConnectorError):
            seen += [one.os_error, one.__cause__]
        elif one is not None:
            seen.append(one.__cause__)
    return None


def _received(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(name.lower(), value) for name, value in headers if name.lower() not in _OURS - {b"content-length"}]


async def _parts(body: Body) -> AsyncIterator[bytes]:
    try:
        while part := await body.read():
            yield part
    except ClientGone as error:
        raise OutgoingFailed(f"the body that is sent breaks off: {error}") from error
