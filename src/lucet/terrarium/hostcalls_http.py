"""Host functions of the interface hostcalls: requests and responses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from lucet.runtime import Instance, host_function, i32
from lucet.terrarium.hostcalls_visit import give_bytes, give_slices

if TYPE_CHECKING:
    from lucet.terrarium.hostcalls import Hostcalls
    from lucet.terrarium.http import Headers

OK: Final = 0
INVALID: Final = 1
INCOMING: Final = 0
OUTGOING: Final = 0
ERROR: Final = -1
NOT_READY: Final = -2

MAX_VALUES: Final = 256
"""Values of one header, and headers of one message."""
MAX_HEADERS_SIZE: Final = 65536
"""Bytes of names and values of one message's headers."""
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NO_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$")
_KNOWN: Final = 1024
_SHORT: Final = 128


@host_function
def hostcall_init_mm(caller: Instance, malloc: i32, free: i32) -> None:
    """The guest's allocator: indices in table 0."""
    visit = caller.context
    visit.malloc_index = malloc
    visit.malloc = None


# ---- headers ----


def header_name(interface: Hostcalls, name: bytes) -> bytes | None:
    """In lower case; None if it is none."""
    if _TOKEN.fullmatch(name) is None:
        return None
    lower = name.lower()
    if len(interface.names) < _KNOWN and len(name) < _SHORT:
        interface.names[name] = lower
    return lower


def is_value(interface: Hostcalls, value: bytes) -> bool:
    if _NO_VALUE.search(value) is not None:
        return False
    if len(interface.values) < _KNOWN and len(value) < _SHORT:
        interface.values.add(value)
    return True


def _set_header(
    caller: Instance, headers: Headers, size: int, name: int, name_size: int, values: int, count: int
) -> int:
    """Give a header new values, in place of all that it had. The size of the headers then; -1: something is invalid."""
    interface = caller.context.interface
    memory = caller.memory
    count &= 0xFFFFFFFF
    name_size &= 0xFFFFFFFF
    if count > MAX_VALUES or name_size > MAX_HEADERS_SIZE:
        return -1
    key = memory.read(name & 0xFFFFFFFF, name_size)
    lower = interface.names.get(key) or header_name(interface, key)
    if lower is None:
        return -1
    if headers:
        for one, value in headers:
            if one == lower:
                size -= len(lower) + len(value)
    added = []
    values &= 0xFFFFFFFF
    for at in range(values, values + 8 * count, 8):
        entry = memory.read_u64(at)
        length = entry >> 32
        size += len(lower) + length
        if size > MAX_HEADERS_SIZE:
            return -1
        value = memory.read(entry & 0xFFFFFFFF, length)
        if value not in interface.values and not is_value(interface, value):
            return -1
        added.append((lower, value))
    if headers:
        headers[:] = [header for header in headers if header[0] != lower]
        if len(headers) + count > MAX_VALUES:
            return -1
    headers += added
    return size


def _values(headers: Headers, name: bytes) -> list[bytes]:
    name = name.lower()
    return [value for key, value in headers if key == name]


def _names(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return list(dict.fromkeys(name for name, _ in headers))


# ---- the request that is answered ----


@host_function
def hostcall_req_get_header(caller: Instance, values: i32, count: i32, req: i32, name: i32, name_size: i32) -> None:
    wanted = caller.memory.read(name & 0xFFFFFFFF, name_size & 0xFFFFFFFF)
    found = _values(caller.context.exchange.request.headers, wanted) if req == INCOMING else []
    give_slices(caller, values, count, found)


@host_function
def hostcall_req_get_headers(caller: Instance, names: i32, count: i32, req: i32) -> None:
    found = _names(caller.context.exchange.request.headers) if req == INCOMING else []
    give_slices(caller, names, count, found)


@host_function
def hostcall_req_get_method(caller: Instance, method: i32, size: i32, req: i32) -> None:
    give_bytes(caller, method, size, caller.context.exchange.request.method.encode())


@host_function
def hostcall_req_get_path(caller: Instance, path: i32, size: i32, req: i32) -> None:
    give_bytes(caller, path, size, caller.context.exchange.request.target.encode("latin-1"))


@host_function
def hostcall_req_get_body(caller: Instance, body: i32, size: i32, req: i32) -> None:
    visit = caller.context
    if visit.received is None:
        visit.received = visit.exchange.request.body.at_once()
    give_bytes(caller, body, size, visit.received or b"")


# ---- the response ----


@host_function
def hostcall_resp_set_header(caller: Instance, resp: i32, name: i32, name_size: i32, values: i32, count: i32) -> i32:
    if resp != OUTGOING:
        return INVALID
    visit = caller.context
    size = _set_header(caller, visit.headers, visit.headers_size, name, name_size, values, count)
    if size < 0:
        return INVALID
    visit.headers_size = size
    return OK


@host_function
def hostcall_resp_set_body(caller: Instance, resp: i32, body: i32, size: i32) -> i32:
    visit = caller.context
    size &= 0xFFFFFFFF
    if resp != OUTGOING or size > visit.interface.response_body:
        return INVALID
    visit.body = caller.memory.read(body & 0xFFFFFFFF, size)
    return OK


@host_function
def hostcall_resp_set_response_code(caller: Instance, resp: i32, code: i32) -> i32:
    if resp != OUTGOING or not 200 <= code <= 599:
        return INVALID
    caller.context.status = code
    return OK
