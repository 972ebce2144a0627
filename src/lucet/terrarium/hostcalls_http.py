"""Host functions of the interface hostcalls: requests and responses."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from lucet.runtime import Instance, Suspend, host_function, i32
from lucet.runtime.hostfunc import Awaited
from lucet.terrarium.hostcalls_traffic import ERROR, MAX_METHOD, MAX_URL, Draft, Response, Traffic
from lucet.terrarium.hostcalls_visit import HostcallsVisit, bytes_steps, give_bytes, give_later, give_slices
from lucet.terrarium.http import read_all

if TYPE_CHECKING:
    from lucet.terrarium.http import Headers

OK: Final = 0
INVALID: Final = 1
INCOMING: Final = 0
OUTGOING: Final = 0
NOT_READY: Final = -2

MAX_HEADERS: Final = 256
"""Of one message; each value is one."""
MAX_HEADERS_SIZE: Final = 65536
"""Bytes of names and values of one message's headers."""
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NO_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|\A[ \t]|[ \t]\Z")
_KNOWN: Final = 1024
_slice: Final = struct.Struct("<II").unpack
_FEW: Final = 64
_SHORT: Final = 256
"""Bytes of a header that is remembered."""


@host_function
def hostcall_init_mm(caller: Instance, malloc: i32, free: i32) -> None:
    """The guest's allocator: indices in table 0."""
    visit = caller.context
    visit.malloc_index = malloc
    visit.malloc = None


# ---- headers ----


def _set_header(
    caller: Instance, message: HostcallsVisit | Draft, name: int, name_size: int, values: int, count: int
) -> int:
    """Give a header new values, in place of all that it had. If one of them is none, nothing changes."""
    known = caller.context.interface.headers
    memory = caller.memory
    count &= 0xFFFFFFFF
    name_size &= 0xFFFFFFFF
    if count > MAX_HEADERS or name_size > MAX_HEADERS_SIZE:
        return INVALID
    key = memory.read(name & 0xFFFFFFFF, name_size)
    if _TOKEN.fullmatch(key) is None:
        return INVALID
    lower = key.lower()
    headers = [header for header in message.headers if header[0] != lower]
    size = sum(len(one) + len(value) for one, value in headers)
    if len(headers) + count > MAX_HEADERS:
        return INVALID
    values &= 0xFFFFFFFF
    for at in range(values, values + 8 * count, 8):
        entry = memory.read_u64(at)
        length = entry >> 32
        size += name_size + length
        if size > MAX_HEADERS_SIZE:
            return INVALID
        value = memory.read(entry & 0xFFFFFFFF, length)
        if _NO_VALUE.search(value) is not None:
            return INVALID
        header = lower, value
        headers.append(header)
        if count == 1 and name_size + length <= _SHORT and len(known) < _KNOWN:
            known[key, value] = header
    message.headers = headers
    return OK


def _values(headers: Headers, name: bytes) -> list[bytes]:
    name = name.lower()
    return [value for key, value in headers if key == name]


def _names(headers: Headers) -> list[bytes]:
    return list(dict.fromkeys(name for name, _ in headers))


def _read_name(caller: Instance, name: int, size: int) -> bytes:
    """No header has a longer one than is read."""
    return caller.memory.read(name & 0xFFFFFFFF, min(size & 0xFFFFFFFF, MAX_HEADERS_SIZE))


# ---- the request that is answered ----

_CLIENT_IP: Final = b"fastly-client-ip"
_OTHER_CLIENT_IP: Final = b"x-fastly-client-ip"
"""What programs look for first, and the original did not set: so a client must not."""


def _incoming(caller: Instance) -> Headers:
    """The headers as guests see them: the client's address is one, whatever the client says."""
    request = caller.context.exchange.request
    headers = [header for header in request.headers if header[0] not in {_CLIENT_IP, _OTHER_CLIENT_IP}]
    headers.append((_CLIENT_IP, request.client[0].encode()))
    return headers


@host_function
def hostcall_req_get_header(
    caller: Instance, values: i32, count: i32, req: i32, name: i32, name_size: i32
) -> Suspend | None:
    wanted = _read_name(caller, name, name_size)
    found = _values(_incoming(caller), wanted) if req == INCOMING else []
    return give_slices(caller, values, count, found, None)


@host_function
def hostcall_req_get_headers(caller: Instance, names: i32, count: i32, req: i32) -> Suspend | None:
    return give_slices(caller, names, count, _names(_incoming(caller)) if req == INCOMING else [], None)


@host_function
def hostcall_req_get_method(caller: Instance, method: i32, size: i32, req: i32) -> Suspend | None:
    found = caller.context.exchange.request.method.encode("latin-1") if req == INCOMING else None
    return give_bytes(caller, method, size, found, None)


@host_function
def hostcall_req_get_path(caller: Instance, path: i32, size: i32, req: i32) -> Suspend | None:
    """And the query."""
    found = caller.context.exchange.request.target.encode("latin-1") if req == INCOMING else None
    return give_bytes(caller, path, size, found, None)


@host_function
def hostcall_req_get_body(caller: Instance, body: i32, size: i32, req: i32) -> Suspend | None:
    visit = caller.context
    if req != INCOMING:
        return give_bytes(caller, body, size, None, None)
    if visit.received is None:
        visit.received = visit.exchange.request.body.at_once()
        if visit.received is None:
            return Suspend(Awaited(_receive_body, (caller, body, size)))
    return give_bytes(caller, body, size, visit.received, None)


async def _receive_body(caller: Instance, body: int, size: int) -> None:
    visit = caller.context
    limit = visit.interface.environment.limits.request_body
    visit.received = await read_all(visit.exchange.request.body, limit)
    await give_later(caller, bytes_steps(caller, body, size, visit.received, None))


# ---- the response to it ----


@host_function
def hostcall_resp_set_header(caller: Instance, resp: i32, name: i32, name_size: i32, values: i32, count: i32) -> i32:
    if resp != OUTGOING:
        return INVALID
    visit = caller.context
    if count == 1 and 0 < name_size < _SHORT and len(visit.headers) < _FEW:
        value, value_size = _slice(caller._read(values, 8))
        if value_size < _SHORT:
            header = visit.interface.headers.get((caller._read(name, name_size), caller._read(value, value_size)))
            if header is not None:
                for one in visit.headers:
                    if one[0] == header[0]:
                        break
                else:
                    visit.headers.append(header)
                    return OK
    return _set_header(caller, visit, name, name_size, values, count)


@host_function
def hostcall_resp_set_body(caller: Instance, resp: i32, body: i32, size: i32) -> i32:
    visit = caller.context
    if resp != OUTGOING or size > visit.interface.response_body or size < 0:
        return INVALID
    visit.body = caller._read(body, size)
    return OK


@host_function
def hostcall_resp_set_response_code(caller: Instance, resp: i32, code: i32) -> i32:
    if resp != OUTGOING or not 200 <= code <= 599:
        return INVALID
    caller.context.status = code
    return OK


# ---- requests that the guest makes ----


def _traffic(caller: Instance) -> Traffic:
    visit = caller.context
    if visit.traffic is None:
        visit.traffic = Traffic(visit)
    traffic: Traffic = visit.traffic
    return traffic


@host_function
def hostcall_req_create(caller: Instance, method: i32, method_size: i32, url: i32, url_size: i32) -> i32:
    """The URL is absolute."""
    method_size &= 0xFFFFFFFF
    url_size &= 0xFFFFFFFF
    if method_size > MAX_METHOD or url_size > MAX_URL:
        return ERROR
    memory = caller.memory
    return _traffic(caller).create(
        memory.read(method & 0xFFFFFFFF, method_size), memory.read(url & 0xFFFFFFFF, url_size)
    )


@host_function
def hostcall_req_set_header(caller: Instance, req: i32, name: i32, name_size: i32, values: i32, count: i32) -> i32:
    draft = _traffic(caller).drafts.get(req)
    return INVALID if draft is None else _set_header(caller, draft, name, name_size, values, count)


@host_function
def hostcall_req_set_body(caller: Instance, req: i32, body: i32, size: i32) -> i32:
    traffic = _traffic(caller)
    draft = traffic.drafts.get(req)
    size &= 0xFFFFFFFF
    if draft is None or not traffic.take_room(size - len(draft.body)):
        return INVALID
    draft.body = caller.memory.read(body & 0xFFFFFFFF, size)
    return OK


@host_function
async def hostcall_req_send(caller: Instance, req: i32) -> i32:
    traffic = _traffic(caller)
    return await traffic.wait(traffic.start(req))


@host_function
def hostcall_req_send_async(caller: Instance, req: i32) -> i32:
    return _traffic(caller).start(req)


@host_function
async def hostcall_pending_req_wait(caller: Instance, pending: i32) -> i32:
    return await _traffic(caller).wait(pending)


@host_function
async def hostcall_pending_req_poll(caller: Instance, pending: i32) -> i32:
    response = await _traffic(caller).poll(pending)
    return NOT_READY if response is None else response


@host_function
async def hostcall_pending_req_select(caller: Instance, pending: i32, count: i32, which: i32) -> i32:
    """Those that are not written to `which` stay valid."""
    memory = caller.memory
    traffic = _traffic(caller)
    count &= 0xFFFFFFFF
    handles: list[int] = []
    if count <= caller.context.interface.environment.limits.outgoing_requests:
        handles += struct.unpack(f"<{count}i", memory.read(pending & 0xFFFFFFFF, 4 * count))
    done, response = await traffic.select(handles)
    memory.write_u32(which & 0xFFFFFFFF, done)
    return response


# ---- the responses to those ----


def _response(caller: Instance, resp: int) -> Response | None:
    traffic = caller.context.traffic
    return None if traffic is None else traffic.responses.get(resp)


@host_function
def hostcall_resp_get_header(
    caller: Instance, values: i32, count: i32, resp: i32, name: i32, name_size: i32
) -> Suspend | None:
    wanted = _read_name(caller, name, name_size)
    response = _response(caller, resp)
    return give_slices(caller, values, count, _values(response.headers, wanted) if response else [], None)


@host_function
def hostcall_resp_get_headers(caller: Instance, names: i32, count: i32, resp: i32) -> Suspend | None:
    response = _response(caller, resp)
    return give_slices(caller, names, count, _names(response.headers) if response else [], None)


@host_function
def hostcall_resp_get_body(caller: Instance, body: i32, size: i32, resp: i32) -> Suspend | None:
    response = _response(caller, resp)
    return give_bytes(caller, body, size, response.body if response else None, None)


@host_function
def hostcall_resp_get_response_code(caller: Instance, resp: i32) -> i32:
    """0 if there is no such response."""
    response = _response(caller, resp)
    return response.status if response else 0
