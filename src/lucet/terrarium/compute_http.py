"""Compute's functions for requests, responses and bodies."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from lucet.terrarium.compute_body import PIECE, Content, DownstreamSink, Item, Refused, send
from lucet.terrarium.compute_table import Status
from lucet.terrarium.compute_visit import (
    PER_HEADER,
    ComputeVisit,
    Request,
    Response,
    headers_size,
    version_number,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lucet.terrarium.http import Headers

ABI_VERSION: Final = 1
MAX_HEAD: Final = 128 << 10
"""Bytes of names and values of one message's headers, or of its body's trailers."""
AT_ONCE: Final = 1 << 20
"""Bytes of a body that are copied without a pause."""
MAX_URI: Final = 32 << 10
MAX_METHOD: Final = 256
BACK, FRONT = 0, 1
MANUALLY_FROM_HEADERS: Final = 1

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_URI: Final = re.compile(rb"[\x21-\x7e\x80-\xff]+")


class Promise(Item):
    """Of another request for this instance, which never comes: every request has an instance of its own."""

    __slots__ = ()


def nothing(_visit: ComputeVisit, *_arguments: Any) -> None:
    """Accepted, and of no effect."""


def absent(_visit: ComputeVisit, *_arguments: Any) -> Any:
    """There is no such value here."""
    raise Refused(Status.NONE)


def zero(_visit: ComputeVisit, *_arguments: Any) -> int:
    return 0


def abi_init(_visit: ComputeVisit, version: int) -> None:
    if version != ABI_VERSION:
        raise Refused(Status.ERROR)


# ---- headers: of requests and of responses ----


def _name(name: bytes) -> bytes:
    if not _TOKEN.fullmatch(name):
        raise Refused(Status.HTTPINVALID)
    return name.lower()


def _value(value: bytes) -> bytes:
    if not _VALUE.fullmatch(value):
        raise Refused(Status.HTTPINVALID)
    return value


def _resize(visit: ComputeVisit, message: Request | Response, by: int) -> None:
    """Its headers are to have so many bytes more. Refused if that is too much."""
    if message.size is None:
        message.size = headers_size(message.headers)
    size = message.size + by
    if size > MAX_HEAD:
        raise Refused(Status.HTTPHEADTOOLARGE)
    _hold(visit, message, by)
    message.size = size


def _hold(visit: ComputeVisit, message: Request | Response, by: int) -> None:
    """What was there from the start is not counted, so it gives nothing back."""
    by = max(by, -message.held)
    visit.store.hold(by)
    message.held += by


def message_close(visit: ComputeVisit, message: Request | Response) -> None:
    message.release(visit.store)


def header_names_get(_visit: ComputeVisit, message: Request | Response) -> Sequence[bytes]:
    return list(dict.fromkeys(name for name, _ in message.headers))


def header_value_get(_visit: ComputeVisit, message: Request | Response, name: bytes) -> bytes:
    wanted = _name(name)
    for key, value in message.headers:
        if key == wanted:
            return value
    raise Refused(Status.INVAL)


def header_values_get(_visit: ComputeVisit, message: Request | Response, name: bytes) -> Sequence[bytes]:
    wanted = _name(name)
    return [value for key, value in message.headers if key == wanted]


def header_values_set(visit: ComputeVisit, message: Request | Response, name: bytes, values: bytes) -> None:
    """values: each ended by a NUL; what comes after the last is ignored."""
    key = _name(name)
    if values.count(0) * PER_HEADER > MAX_HEAD:
        raise Refused(Status.HTTPHEADTOOLARGE)
    new = [(key, _value(value)) for value in values.split(b"\0")[:-1]]
    _replace(visit, message, key, new)


def header_insert(visit: ComputeVisit, message: Request | Response, name: bytes, value: bytes) -> None:
    """In place of all values that it had."""
    key = _name(name)
    _replace(visit, message, key, [(key, _value(value))])


def _replace(visit: ComputeVisit, message: Request | Response, key: bytes, new: Headers) -> None:
    old = [header for header in message.headers if header[0] == key]
    _resize(visit, message, headers_size(new) - headers_size(old))
    if old:
        message.headers = [header for header in message.headers if header[0] != key]
    message.headers += new


def header_append(visit: ComputeVisit, message: Request | Response, name: bytes, value: bytes) -> None:
    header = _name(name), _value(value)
    _resize(visit, message, headers_size([header]))
    message.headers.append(header)


def header_remove(visit: ComputeVisit, message: Request | Response, name: bytes) -> None:
    key = _name(name)
    left = [header for header in message.headers if header[0] != key]
    if len(left) == len(message.headers):
        raise Refused(Status.INVAL)
    _resize(visit, message, headers_size(left) - headers_size(message.headers))
    message.headers = left


def version_get(_visit: ComputeVisit, message: Request | Response) -> int:
    return message.version


def version_set(_visit: ComputeVisit, message: Request | Response, version: int) -> None:
    if version > 4:
        raise Refused(Status.INVAL)
    message.version = version


def framing_headers_mode_set(_visit: ComputeVisit, _message: Request | Response, mode: int) -> None:
    """How a body is framed is always decided by who sends it, so that it is framed rightly."""
    if mode > MANUALLY_FROM_HEADERS:
        raise Refused(Status.INVAL)


# ---- requests ----


def http_req_body_downstream_get(visit: ComputeVisit) -> tuple[int, int]:
    """The same handles each time."""
    if visit.downstream is None:
        asked = visit.exchange.request
        host = asked.header(b"host") or asked.host.encode("latin-1")
        target = asked.target if asked.target.startswith("/") else "/"
        uri = b"%b://%b%b" % (asked.scheme.encode(), host, target.encode("latin-1", "replace"))
        request = Request(asked.method, uri, version_number(asked.version))
        request.headers = [*asked.headers]
        request.size = None
        visit.downstream = visit.add(request), visit.add(Content(visit.store, asked.body))
    return visit.downstream


def http_req_new(_visit: ComputeVisit) -> Request:
    return Request()


def http_req_method_get(_visit: ComputeVisit, request: Request) -> bytes:
    return request.method.encode("latin-1")


def http_req_method_set(_visit: ComputeVisit, request: Request, method: bytes) -> None:
    if len(method) > MAX_METHOD or not _TOKEN.fullmatch(method):
        raise Refused(Status.HTTPINVALID)
    request.method = method.decode()


def http_req_uri_get(_visit: ComputeVisit, request: Request) -> bytes:
    return request.uri


def http_req_uri_set(visit: ComputeVisit, request: Request, uri: bytes) -> None:
    if len(uri) > MAX_URI or not _URI.fullmatch(uri):
        raise Refused(Status.HTTPINVALID)
    _hold(visit, request, len(uri) - len(request.uri))
    request.uri = uri


def http_req_original_header_names_get(visit: ComputeVisit, _request: Request | None = None) -> Sequence[bytes]:
    return list(dict.fromkeys(name for name, _ in visit.exchange.request.headers))


def http_req_original_header_count(visit: ComputeVisit, _request: Request | None = None) -> int:
    return len(visit.exchange.request.headers)


def http_req_downstream_client_ip_addr(visit: ComputeVisit, _request: Request | None = None) -> bytes:
    return _octets(visit.exchange.request.client[0])


def http_req_downstream_server_ip_addr(visit: ComputeVisit, _request: Request | None = None) -> bytes:
    return _octets(visit.exchange.request.server[0])


def _octets(address: str) -> bytes:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).packed
    except ValueError:
        raise Refused(Status.NONE) from None


def http_req_downstream_client_request_id(visit: ComputeVisit, _request: Request | None = None) -> bytes:
    return visit.exchange.request.id.encode()


def http_downstream_next_request(_visit: ComputeVisit, _mask: int, _options: int) -> Promise:
    return Promise()


def http_downstream_next_request_wait(_visit: ComputeVisit, _promise: Promise) -> Any:
    raise Refused(Status.NONE)


# ---- responses ----


def http_resp_new(_visit: ComputeVisit) -> Response:
    return Response()


def http_resp_status_get(_visit: ComputeVisit, response: Response) -> int:
    return response.status


def http_resp_status_set(_visit: ComputeVisit, response: Response, status: int) -> None:
    if not 100 <= status <= 999:
        raise Refused(Status.HTTPINVALIDSTATUS)
    response.status = status


def http_resp_send_downstream(
    visit: ComputeVisit, response: Response, body: Content, streaming: int
) -> Coroutine[Any, Any, None] | None:
    """Give the response. streaming: what the guest writes to the body afterwards is sent as it comes."""
    if not 200 <= response.status <= 599:
        raise Refused(Status.HTTPUSER)
    if visit.sent:
        raise Refused(Status.ERROR)
    visit.sent = True
    response.release(visit.store)
    limit = visit.compute.environment.limits.streamed_body
    if streaming:
        return _begin(visit, response, body, DownstreamSink(visit.exchange, limit))
    visit.forget(body)
    whole = body.at_once()
    if whole is None:
        visit.pump = visit.start(send(body, visit.exchange, response.status, response.headers, limit))
    else:
        visit.exchange.respond(response.status, response.headers, whole)
    return None


async def _begin(visit: ComputeVisit, response: Response, body: Content, sink: DownstreamSink) -> None:
    await visit.exchange.start(response.status, response.headers)
    async for data in body.chunks():
        await sink.write(data)
    body.sink = sink


# ---- bodies ----


def http_body_new(visit: ComputeVisit) -> Content:
    return Content(visit.store)


def http_body_append(_visit: ComputeVisit, body: Content, other: Content) -> Coroutine[Any, Any, None] | None:
    if body is other:
        raise Refused(Status.BADF)
    if body.sink is not None:
        return _pass_on(body, other)
    body.take_all(other)
    return None


async def _pass_on(body: Content, other: Content) -> None:
    assert body.sink is not None
    try:
        async for data in other.chunks():
            await body.sink.write(data)
    finally:
        other.drop()


def http_body_read(_visit: ComputeVisit, body: Content, limit: int) -> bytes | Coroutine[Any, Any, bytes]:
    if not limit:
        return b""
    data = body.read_now(min(limit, PIECE))
    return body.read(limit) if data is None else data


def http_body_write(
    visit: ComputeVisit, body: Content, span: tuple[int, int], end: int
) -> int | Coroutine[Any, Any, int]:
    if end > FRONT:
        raise Refused(Status.INVAL)
    start, size = span
    if body.sink is not None:
        if end == FRONT:
            raise Refused(Status.BADF)
        return _write(visit, body, start, size)
    if size > body.store.limit:
        raise Refused(Status.LIMITEXCEEDED)
    if size > AT_ONCE and end == BACK:
        return _add(visit, body, start, size)
    body.add(visit.memory.read(start, size), in_front=end == FRONT)
    return size


async def _add(visit: ComputeVisit, body: Content, start: int, size: int) -> int:
    """Others have their turn meanwhile."""
    for at in range(start, start + size, AT_ONCE):
        body.add(visit.memory.read(at, min(AT_ONCE, start + size - at)))
        await asyncio.sleep(0)
    return size


async def _write(visit: ComputeVisit, body: Content, start: int, size: int) -> int:
    """In pieces, so that the host never holds much of what the guest has."""
    sink = body.sink
    assert sink is not None
    for at in range(start, start + size, PIECE):
        await sink.write(visit.memory.read(at, min(PIECE, start + size - at)))
    return size


def http_body_close(_visit: ComputeVisit, body: Content) -> Coroutine[Any, Any, None] | None:
    sink, body.sink = body.sink, None
    body.drop()
    return None if sink is None else sink.finish()


def http_body_abandon(_visit: ComputeVisit, body: Content) -> None:
    body.drop()


def http_body_known_length(_visit: ComputeVisit, body: Content) -> int:
    length = None if body.sink is not None else body.length
    if length is None:
        raise Refused(Status.NONE)
    return length


# ---- trailers ----


def http_body_trailer_append(_visit: ComputeVisit, body: Content, name: bytes, value: bytes) -> None:
    """They are kept for who reads the body here, and are not sent."""
    header = _name(name), _value(value)
    if headers_size([*body.trailers, header]) > MAX_HEAD:
        raise Refused(Status.HTTPHEADTOOLARGE)
    body.hold(headers_size([header]))
    body.trailers.append(header)


def _trailers(body: Content) -> Headers:
    if body.sink is not None:
        raise Refused(Status.INVAL)
    if body.parts:
        raise Refused(Status.AGAIN)
    return body.trailers


def http_body_trailer_names_get(_visit: ComputeVisit, body: Content) -> Sequence[bytes]:
    return list(dict.fromkeys(name for name, _ in _trailers(body)))


def http_body_trailer_value_get(_visit: ComputeVisit, body: Content, name: bytes) -> bytes:
    wanted = _name(name)
    for key, value in _trailers(body):
        if key == wanted:
            return value
    raise Refused(Status.INVAL)


def http_body_trailer_values_get(_visit: ComputeVisit, body: Content, name: bytes) -> Sequence[bytes]:
    wanted = _name(name)
    return [value for key, value in _trailers(body) if key == wanted]
