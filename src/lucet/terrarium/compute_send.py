"""Compute's functions for requests to backends, and for waiting for several things."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from struct import Struct
from typing import Any, Final
from urllib.parse import urlsplit

from lucet.terrarium.compute_body import Content, Item, Outbound, Pipe, Refused
from lucet.terrarium.compute_cache import Busy, Lookup
from lucet.terrarium.compute_stores import KvDelete, KvInsert, KvList, KvLookup
from lucet.terrarium.compute_table import INVALID_HANDLE, NO_INDEX, SendError, Status
from lucet.terrarium.compute_visit import MAX_DYNAMIC_BACKENDS, ComputeVisit, Request, Response, headers_size
from lucet.terrarium.http import OutgoingFailed, OutgoingRefused, OutgoingRequest, OutgoingResponse

GZIP: Final = 1
SEND_ERROR_DETAIL: Final = Struct("<II")
"""Its tag and mask; of what the mask says, nothing is known here."""

# `backend_config_options` and what of `dynamic_backend_config` matters here: host_override, host_override_len.
HOST_OVERRIDE: Final = 1 << 1
USE_SSL: Final = 1 << 5
KNOWN_OPTIONS: Final = (1 << 19) - 2
CONFIG_HEAD: Final = Struct("<II")
MAX_HOST: Final = 1024
MAX_BACKEND_NAME: Final = 255

_OF_THE_HOST: Final = frozenset({b"connection", b"content-length", b"host", b"keep-alive", b"transfer-encoding"})
"""Headers of a guest's request that are decided for it."""


class Pending(Item):
    """A request that was sent, and whose response was not taken yet."""

    __slots__ = ("decompress", "task")

    def __init__(self, task: asyncio.Future[OutgoingResponse], *, decompress: bool) -> None:
        super().__init__()
        self.task = task
        self.decompress = decompress

    def ready(self) -> asyncio.Future[Any] | None:
        return None if self.task.done() else self.task


ITEMS: Final = (Content, Pending, KvLookup, KvInsert, KvDelete, KvList, Busy, Lookup)
"""What can be waited for."""


class _Failed(Refused):
    """A request was not sent, or got no response."""

    def __init__(self, status: int, tag: int) -> None:
        super().__init__(status)
        self.tag = tag


def _target(visit: ComputeVisit, backend: str) -> tuple[str, str]:
    """A backend's base URL, and the Host to send instead of the request's own, or "". Refused."""
    environment = visit.compute.environment
    if backend in visit.dynamic:
        return visit.dynamic[backend]
    if backend in environment.backends:
        return environment.backends[backend], visit.compute.settings("override_host").get(backend, "")
    raise _Failed(Status.INVAL, SendError.DESTINATION_NOT_FOUND)


def _outgoing(visit: ComputeVisit, request: Request, body: Content, backend: str) -> OutgoingRequest:
    base, override = _target(visit, backend)
    uri = urlsplit(request.uri.decode("latin-1"))
    if not uri.scheme or not uri.netloc:
        raise Refused(Status.HTTPUSER)
    own = next((value for name, value in request.headers if name == b"host"), uri.netloc.encode("latin-1"))
    headers = [(b"host", override.encode() or own)]
    headers += [header for header in request.headers if header[0] not in _OF_THE_HOST]
    path = uri.path or "/"
    query = f"?{uri.query}" if uri.query else ""
    request.release(visit.store)
    whole = body.at_once()
    return OutgoingRequest(
        method=request.method,
        url=f"{base.rstrip('/')}{path}{query}",
        headers=headers,
        body=Outbound(body) if whole is None else whole,
    )


def _exchange(visit: ComputeVisit, outgoing: OutgoingRequest) -> asyncio.Future[OutgoingResponse]:
    """Under way. Refused, with what the guest is told; also when it is awaited."""
    held = len(outgoing.body) if isinstance(outgoing.body, bytes) else 0
    held += headers_size(outgoing.headers) + len(outgoing.url)
    visit.store.hold(held)
    return visit.start(_sent(visit, outgoing), held)


async def _sent(visit: ComputeVisit, outgoing: OutgoingRequest) -> OutgoingResponse:
    visit.record.outgoing += 1
    try:
        return await visit.outgoing.send(outgoing)
    except OutgoingRefused as error:
        visit.record.log(f"request refused: {error}")
        raise _Failed(Status.INVAL, SendError.DESTINATION_NOT_FOUND) from None
    except OutgoingFailed as error:
        visit.record.log(f"request failed: {error}")
        raise _Failed(Status.ERROR, SendError.DESTINATION_UNAVAILABLE) from None


def _told(visit: ComputeVisit, detail: int, refused: Refused) -> None:
    """Tell a guest that has asked for it why its request failed."""
    if detail:
        tag = refused.tag if isinstance(refused, _Failed) else SendError.INTERNAL_ERROR
        visit.memory.write(detail, SEND_ERROR_DETAIL.pack(tag, 0))


# ---- sending ----


async def http_req_send(
    visit: ComputeVisit, request: Request, body: Content, backend: str, detail: int = 0
) -> tuple[Response, Content]:
    try:
        response = await _exchange(visit, _outgoing(visit, request, body, backend))
    except Refused as refused:
        _told(visit, detail, refused)
        raise
    finally:
        body.drop()
    return visit.response_of(response, decompress=request.decompress)


http_req_send_v2 = http_req_send


def http_req_send_async(visit: ComputeVisit, request: Request, body: Content, backend: str) -> Pending:
    outgoing = _outgoing(visit, request, body, backend)
    return Pending(_exchange(visit, outgoing), decompress=request.decompress)


def http_req_send_async_streaming(visit: ComputeVisit, request: Request, body: Content, backend: str) -> Pending:
    """What the guest writes to the body afterwards is sent as it comes."""
    pipe = Pipe()
    sent = Content(visit.store, pipe)
    outgoing = _outgoing(visit, request, sent, backend)
    sent.take_all(body, in_front=True)
    body.sink = pipe
    pending = Pending(_exchange(visit, outgoing), decompress=request.decompress)
    pending.task.add_done_callback(lambda task: pipe.abandon() if task.cancelled() or task.exception() else None)
    return pending


def http_req_send_async_v2(
    visit: ComputeVisit, request: Request, body: Content, backend: str, streaming: int
) -> Pending:
    if streaming:
        return http_req_send_async_streaming(visit, request, body, backend)
    visit.forget(body)
    return http_req_send_async(visit, request, body, backend)


def http_req_auto_decompress_response_set(_visit: ComputeVisit, request: Request, encodings: int) -> None:
    if encodings & ~GZIP:
        raise Refused(Status.INVAL)
    request.decompress = bool(encodings & GZIP)


# ---- what was sent ----


def _result(visit: ComputeVisit, pending: Pending, detail: int) -> tuple[Response, Content]:
    """Of one that is done, and whose handle is used up."""
    try:
        return visit.response_of(pending.task.result(), decompress=pending.decompress)
    except Refused as refused:
        _told(visit, detail, refused)
        raise


def http_req_pending_req_poll(visit: ComputeVisit, pending: Pending, detail: int = 0) -> tuple[int, int, int]:
    if not pending.task.done():
        return 0, INVALID_HANDLE, INVALID_HANDLE
    visit.forget(pending)
    response, body = _result(visit, pending, detail)
    return 1, visit.add(response), visit.add(body)


async def http_req_pending_req_wait(visit: ComputeVisit, pending: Pending, detail: int = 0) -> tuple[Response, Content]:
    await asyncio.wait((pending.task,))
    return _result(visit, pending, detail)


def http_req_pending_req_select(visit: ComputeVisit, handles: memoryview, detail: int = 0) -> Any:
    """The first that is done, with its response; with invalid handles if it failed."""
    found = [visit.handles.get(handle) for handle in handles]
    if not found:
        raise Refused(Status.INVAL)
    if not all(type(item) is Pending for item in found):
        raise Refused(Status.BADF)

    def finish(index: int) -> tuple[int, int, int]:
        pending = found[index]
        assert isinstance(pending, Pending)
        visit.forget(pending)
        try:
            response, body = _result(visit, pending, detail)
        except Refused:
            return index, INVALID_HANDLE, INVALID_HANDLE
        return index, visit.add(response), visit.add(body)

    return _select(found, None, finish)


# ---- waiting ----


def async_io_select(visit: ComputeVisit, handles: memoryview, timeout: int) -> Any:
    """The index of the first that is ready; NO_INDEX after so many milliseconds (0: never)."""
    found = [visit.handles.get(handle) for handle in handles]
    if not all(isinstance(item, ITEMS) for item in found):
        raise Refused(Status.BADF)
    if not found and not timeout:
        raise Refused(Status.INVAL)
    return _select(found, timeout / 1000 if timeout else None, lambda index: index)


def async_io_is_ready(_visit: ComputeVisit, item: Any) -> int:
    return 1 if item.ready() is None else 0


def _select(items: list[Any], timeout: float | None, finish: Callable[[int], Any]) -> Any | Coroutine[Any, Any, Any]:
    waiting = set()
    for index, item in enumerate(items):
        future = item.ready()
        if future is None:
            return finish(index)
        waiting.add(future)
    return _select_later(items, waiting, timeout, finish)


async def _select_later(
    items: Iterable[Any], waiting: set[asyncio.Future[Any]], timeout: float | None, finish: Callable[[int], Any]
) -> Any:
    if waiting:
        await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    elif timeout is not None:
        await asyncio.sleep(timeout)
    for index, item in enumerate(items):
        if item.ready() is None:
            return finish(index)
    return NO_INDEX


# ---- backends that the guest makes ----


def http_req_register_dynamic_backend(visit: ComputeVisit, name: str, target: str, options: int, config: int) -> None:
    """Where it may really send requests to is decided when it does: by what outgoing requests are allowed."""
    environment = visit.compute.environment
    if options & ~KNOWN_OPTIONS or not name or len(name) > MAX_BACKEND_NAME:
        raise Refused(Status.INVAL)
    scheme = "https" if options & USE_SSL else "http"
    base = f"{scheme}://{target}"
    try:
        parts = urlsplit(base)
        ok = parts.netloc == target and parts.hostname and "@" not in target and (parts.port or True)
    except ValueError:
        ok = False
    if not ok or not target.isascii() or any(c <= " " for c in target):
        raise Refused(Status.INVAL)
    override = ""
    if options & HOST_OVERRIDE:
        pointer, size = CONFIG_HEAD.unpack(visit.memory.read(config, CONFIG_HEAD.size))
        if not 0 < size <= MAX_HOST:
            raise Refused(Status.INVAL)
        override = _host(visit.memory.read(pointer, size))
    if name in visit.dynamic or name in environment.backends:
        raise Refused(Status.ERROR)
    if len(visit.dynamic) >= MAX_DYNAMIC_BACKENDS:
        raise Refused(Status.LIMITEXCEEDED)
    visit.dynamic[name] = base, override


def _host(data: bytes) -> str:
    if not data.isascii() or any(not 0x20 < byte < 0x7F for byte in data):
        raise Refused(Status.INVAL)
    return data.decode()


# ---- asking about backends ----


def backend_exists(visit: ComputeVisit, name: str) -> int:
    return int(name in visit.dynamic or name in visit.compute.environment.backends)


def backend_is_dynamic(visit: ComputeVisit, name: str) -> int:
    _target(visit, name)
    return int(name in visit.dynamic)


def backend_is_healthy(visit: ComputeVisit, name: str) -> int:
    """Unknown: nothing asks backends how they are."""
    _target(visit, name)
    return 0


def backend_get_host(visit: ComputeVisit, name: str) -> bytes:
    return (urlsplit(_target(visit, name)[0]).hostname or "").encode()


def backend_get_override_host(visit: ComputeVisit, name: str) -> bytes:
    override = _target(visit, name)[1]
    if not override:
        raise Refused(Status.NONE)
    return override.encode()


def backend_get_port(visit: ComputeVisit, name: str) -> int:
    parts = urlsplit(_target(visit, name)[0])
    return parts.port or (443 if parts.scheme == "https" else 80)


def backend_is_ssl(visit: ComputeVisit, name: str) -> int:
    return int(_target(visit, name)[0].startswith("https:"))
