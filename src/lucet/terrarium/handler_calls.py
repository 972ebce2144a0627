"""The 19 host functions of http-wasm's handlers (https://http-wasm.io/http-handler-abi/).

A guest that gives something that is none (a header, a status, a URI), or asks for what its features or the moment do
not allow, has failed: GuestError. Trailers are not supported, and so empty when read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from lucet.runtime import HostFunction, Instance, Suspend, host_function, i32, i64
from lucet.runtime.hostfunc import Awaited
from lucet.terrarium import headers as fields
from lucet.terrarium.handler_body import BUFFER_REQUEST, BUFFER_RESPONSE, SUPPORTED, Reading
from lucet.terrarium.interface import GuestError
from lucet.terrarium.normal import BadTarget, normal_path

if TYPE_CHECKING:
    from lucet.terrarium.handler import HandlerVisit
    from lucet.terrarium.http import Headers

MODULE: Final = "http_handler"
REQUEST: Final = 0
RESPONSE: Final = 1
TRAILERS: Final = (2, 3)
MAX_HEADERS: Final = 256
MAX_HEADERS_SIZE: Final = 65536
"""Bytes of names and values that a handler may give in a request; and of one value that it gives."""
MAX_URI: Final = 16384
_LEVELS: Final = {-1: "debug: ", 0: "", 1: "warning: ", 2: "error: "}
_NONE: Final = 3
_MASK: Final = 0xFFFFFFFF
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_QUERY: Final = re.compile(r"[!$-;=?-~]*")
"""Characters of a query: no control characters, no space, nothing beyond ASCII, no quote, no "#"."""


# ---- what the guest gives, and what it gets ----


def _visit(caller: Instance) -> HandlerVisit:
    visit: HandlerVisit = caller.context
    return visit


def _given(caller: Instance, pointer: int, size: int, most: int = MAX_HEADERS_SIZE) -> bytes:
    if size & _MASK > most:
        raise GuestError(f"a value of {size & _MASK} bytes: there may be {most}")
    return caller.memory.read(pointer & _MASK, size & _MASK)


def _give(caller: Instance, buffer: int, limit: int, value: bytes) -> int:
    """Its length; it is written if it fits."""
    if len(value) <= limit & _MASK:
        caller.memory.write(buffer & _MASK, value)
    return len(value)


def _give_all(caller: Instance, buffer: int, limit: int, values: list[bytes]) -> int:
    """Each with its NUL: count and length."""
    if not values:
        return 0
    text = b"\0".join(values) + b"\0"
    return len(values) << 32 | _give(caller, buffer, limit, text)


def _headers(visit: HandlerVisit, kind: int) -> Headers:
    if kind == REQUEST:
        return visit.request.headers
    if kind == RESPONSE:
        return visit.headers
    if kind in TRAILERS:
        return []
    raise GuestError(f"there are no headers of the kind {kind}")


def _changed_headers(visit: HandlerVisit, kind: int, what: str) -> Headers:
    if kind == REQUEST:
        _require_before(visit, what)
        return visit.own_request().headers
    if kind in TRAILERS:
        raise GuestError(f"{what}: trailers are not supported")
    return _headers(visit, kind)


def _require_before(visit: HandlerVisit, what: str) -> None:
    if visit.after_next:
        raise GuestError(f"{what}: the request was passed on already")


def _require_body(visit: HandlerVisit, what: str) -> None:
    if visit.after_next and not visit.features & BUFFER_RESPONSE:
        raise GuestError(f"{what}: the response is not buffered: enable_features(2) makes it so")


def _header(visit: HandlerVisit, what: str, name: bytes, value: bytes) -> tuple[bytes, bytes]:
    try:
        fields.lines([(name, value)])
    except ValueError as error:
        raise GuestError(f"{what}: {error}") from None
    visit.header_bytes += len(name) + len(value)
    if visit.header_bytes > MAX_HEADERS_SIZE:
        raise GuestError(f"{what}: more than {MAX_HEADERS_SIZE} bytes of headers")
    return name.lower(), value.strip(b" \t")


def _add(headers: Headers, header: tuple[bytes, bytes], what: str) -> None:
    headers.append(header)
    if len(headers) > MAX_HEADERS:
        raise GuestError(f"{what}: more than {MAX_HEADERS} headers")


# ---- administration ----


@host_function
def get_config(caller: Instance, buf: i32, buf_limit: i32) -> i32:
    return _give(caller, buf, buf_limit, _visit(caller).handler.configuration)


@host_function
def enable_features(caller: Instance, features: i32) -> i32:
    _visit(caller).features |= features & SUPPORTED
    return SUPPORTED


@host_function
def log(caller: Instance, level: i32, message: i32, message_len: i32) -> None:
    visit = _visit(caller)
    if _is_logged(visit, level):
        size = min(message_len & _MASK, MAX_HEADERS_SIZE)
        text = _given(caller, message, size).decode(errors="replace")
        visit.record.log(_LEVELS.get(level, "") + text)


@host_function
def log_enabled(caller: Instance, level: i32) -> i32:
    return int(_is_logged(_visit(caller), level))


def _is_logged(visit: HandlerVisit, level: int) -> bool:
    return (level >= 0 or visit.handler.environment.development) and level < _NONE


# ---- headers ----


@host_function
def get_header_names(caller: Instance, kind: i32, buf: i32, buf_limit: i32) -> i64:
    headers = _headers(_visit(caller), kind)
    return _give_all(caller, buf, buf_limit, list(dict.fromkeys(name for name, _ in headers)))


@host_function
def get_header_values(caller: Instance, kind: i32, name: i32, name_len: i32, buf: i32, buf_limit: i32) -> i64:
    wanted = _given(caller, name, name_len).lower()
    if not wanted:
        raise GuestError("get_header_values: a header without a name")
    values = [value for key, value in _headers(_visit(caller), kind) if key == wanted]
    return _give_all(caller, buf, buf_limit, values)


@host_function
def set_header_value(caller: Instance, kind: i32, name: i32, name_len: i32, value: i32, value_len: i32) -> None:
    visit, what = _visit(caller), "set_header_value"
    headers = _changed_headers(visit, kind, what)
    new = _header(visit, what, _given(caller, name, name_len), _given(caller, value, value_len))
    _remove(headers, new[0])
    _add(headers, new, what)


@host_function
def add_header_value(caller: Instance, kind: i32, name: i32, name_len: i32, value: i32, value_len: i32) -> None:
    visit, what = _visit(caller), "add_header_value"
    headers = _changed_headers(visit, kind, what)
    _add(headers, _header(visit, what, _given(caller, name, name_len), _given(caller, value, value_len)), what)


@host_function
def remove_header(caller: Instance, kind: i32, name: i32, name_len: i32) -> None:
    _remove(_changed_headers(_visit(caller), kind, "remove_header"), _given(caller, name, name_len).lower())


def _remove(headers: Headers, name: bytes) -> None:
    if any(one[0] == name for one in headers):
        headers[:] = [one for one in headers if one[0] != name]


# ---- bodies ----


@host_function
def read_body(caller: Instance, kind: i32, buf: i32, buf_limit: i32) -> i64 | Suspend:
    visit = _visit(caller)
    what = "read_body"
    if not buf_limit & _MASK:
        raise GuestError(f"{what}: no room for it")
    limit: int | None = None
    if kind == REQUEST:
        reading = visit.reading
        if visit.features & BUFFER_REQUEST:
            limit = visit.handler.environment.limits.request_body
        else:
            _require_before(visit, what)
        if reading is None:
            reading = visit.reading = Reading(visit.request.body)
    elif kind == RESPONSE:
        _require_body(visit, what)
        reading = visit.response_body
        if reading is None:
            return 1 << 32  # there is none
    else:
        raise GuestError(f"{what}: there is no body of the kind {kind}")
    count = _read(caller, reading, buf & _MASK, buf_limit & _MASK)
    if count < buf_limit & _MASK and not reading.ended:
        return Suspend(Awaited(_read_later, (caller, reading, limit, buf & _MASK, buf_limit & _MASK, count)))
    return reading.at_end << 32 | count


async def _read_later(
    caller: Instance, reading: Reading, limit: int | None, buf: int, buf_limit: int, count: int
) -> int:
    """Until the buffer is full, or the body at its end: guests with much room take it that they have it whole."""
    while count < buf_limit and not reading.ended:
        await reading.receive(limit)
        count += _read(caller, reading, buf + count, buf_limit - count)
    return reading.at_end << 32 | count


def _read(caller: Instance, reading: Reading, buf: int, limit: int) -> int:
    data = reading.take(limit)
    caller.memory.write(buf, data)
    return len(data)


@host_function
def write_body(caller: Instance, kind: i32, body: i32, body_len: i32) -> None:
    visit = _visit(caller)
    what = "write_body"
    limits = visit.handler.environment.limits
    if kind not in {REQUEST, RESPONSE}:
        raise GuestError(f"{what}: there is no body of the kind {kind}")
    if kind == REQUEST:
        _require_before(visit, what)
        written, most = visit.request_written, limits.request_body
    else:
        _require_body(visit, what)
        written, most = visit.body_written, limits.response_body
    if written is None:
        written = []
        if kind == REQUEST:
            visit.request_written = written
        else:
            visit.body_written = written
    # Each piece counts for something, or a guest could have as many as it likes.
    visit.written += (body_len & _MASK) + 64
    if visit.written > most + 64:
        raise GuestError(f"{what}: more than {most} bytes")
    written.append(_given(caller, body, body_len, most))


# ---- requests ----


@host_function
def get_method(caller: Instance, buf: i32, buf_limit: i32) -> i32:
    return _give(caller, buf, buf_limit, _visit(caller).request.method.encode())


@host_function
def set_method(caller: Instance, method: i32, method_len: i32) -> None:
    visit = _visit(caller)
    _require_before(visit, "set_method")
    given = _given(caller, method, method_len)
    if not _TOKEN.fullmatch(given):
        raise GuestError(f"set_method: not a method: {given[:100]!r}")
    visit.own_request().method = given.decode()


@host_function
def get_uri(caller: Instance, buf: i32, buf_limit: i32) -> i32:
    return _give(caller, buf, buf_limit, _visit(caller).request.target.encode("latin-1", "replace"))


@host_function
def set_uri(caller: Instance, uri: i32, uri_len: i32) -> None:
    visit = _visit(caller)
    _require_before(visit, "set_uri")
    given = _given(caller, uri, uri_len, MAX_URI).decode("latin-1")
    path, mark, query = given.partition("?")
    try:
        normal, _ = normal_path(path or "/")
    except BadTarget as error:
        raise GuestError(f"set_uri: {given[:100]!r}: {error}") from None
    if not _QUERY.fullmatch(query):
        raise GuestError(f"set_uri: not a query: {query[:100]!r}")
    visit.own_request().target = f"{normal}{mark}{query}"


@host_function
def get_protocol_version(caller: Instance, buf: i32, buf_limit: i32) -> i32:
    version = _visit(caller).request.version
    return _give(caller, buf, buf_limit, f"HTTP/{version if '.' in version else f'{version}.0'}".encode())


@host_function
def get_source_addr(caller: Instance, buf: i32, buf_limit: i32) -> i32:
    address, port = _visit(caller).request.client
    return _give(
        caller, buf, buf_limit, f"[{address}]:{port}".encode() if ":" in address else f"{address}:{port}".encode()
    )


# ---- responses ----


@host_function
def get_status_code(caller: Instance) -> i32:
    return _visit(caller).status


@host_function
def set_status_code(caller: Instance, status_code: i32) -> None:
    try:
        fields.check_status(status_code)
    except ValueError as error:
        raise GuestError(f"set_status_code: {error}") from None
    _visit(caller).status = status_code


FUNCTIONS: Final[dict[str, HostFunction[..., Any]]] = {
    name: value for name, value in list(globals().items()) if isinstance(value, HostFunction)
}
