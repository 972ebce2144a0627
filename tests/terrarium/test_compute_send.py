"""Compute: requests to backends, several at once, and waiting for them."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lucet.terrarium.compute_table import INVALID_HANDLE, NO_INDEX, SendError, Status
from lucet.terrarium.http import (
    BytesBody,
    OutgoingFailed,
    OutgoingRefused,
    OutgoingRequest,
    OutgoingResponse,
    read_all,
)
from lucet.terrarium.limits import Limits
from tests.kit.compute import Arriving, Caller
from tests.kit.terrarium import NoOutgoing

BACKENDS = {"origin": "http://origin.test:8080/base/", "other": "https://other.test"}


class Origin:
    """Answers with what it was asked; remembers it."""

    def __init__(self, answer: Callable[[OutgoingRequest], Awaitable[OutgoingResponse]] | None = None) -> None:
        self.requests: list[OutgoingRequest] = []
        self.bodies: list[bytes] = []
        self.answer = answer

    async def __call__(self, request: OutgoingRequest) -> OutgoingResponse:
        self.requests.append(request)
        body = request.body if isinstance(request.body, bytes) else await read_all(request.body, 1 << 30)
        self.bodies.append(body)
        if self.answer is not None:
            return await self.answer(request)
        return OutgoingResponse(status=203, headers=[(b"x-origin", b"1")], body=BytesBody(b"<" + body + b">"))


def caller(origin: Any, **app: Any) -> Caller:
    return Caller(backends=BACKENDS, outgoing=lambda: NoOutgoing(origin), **app)


def request_to(guest: Caller, uri: bytes = b"http://example.test/path?q=1", method: bytes = b"POST") -> int:
    request: int = guest.good("fastly_http_req.new")
    guest.good("fastly_http_req.method_set", request, method)
    guest.good("fastly_http_req.uri_set", request, uri)
    return request


@pytest.mark.parametrize("function", ["send", "send_v2", "send_v3"])
def test_a_request_and_its_response(function: str) -> None:
    origin = Origin()
    with caller(origin) as guest:
        request = request_to(guest)
        for header in ((b"x-a", b"1"), (b"content-length", b"999"), (b"connection", b"close")):
            guest.good("fastly_http_req.header_append", request, *header)
        extra = () if function == "send" else (0,)
        response, body = guest.good(f"fastly_http_req.{function}", request, guest.body(b"text"), "origin", *extra)
        assert guest.good("fastly_http_resp.status_get", response) == 203
        assert guest.good("fastly_http_resp.version_get", response) == 2
        assert guest.good("fastly_http_resp.header_value_get", response, b"x-origin") == b"1"
        assert guest.read(body) == b"<text>"
        assert guest.status("fastly_http_req.method_get", request) == Status.BADF
        assert guest.record.outgoing == 1
    sent = origin.requests[0]
    assert (sent.method, sent.url) == ("POST", "http://origin.test:8080/base/path?q=1")
    assert sent.headers == [(b"host", b"example.test"), (b"x-a", b"1")]


def test_the_host_that_is_sent() -> None:
    origin = Origin()
    with caller(origin, configuration={"fastly:override_host": {"other": "configured.test"}}) as guest:
        request = request_to(guest)
        guest.good("fastly_http_req.header_insert", request, b"Host", b"given.test")
        guest.good("fastly_http_req.send", request, guest.body(), "origin")
        guest.good("fastly_http_req.send", request_to(guest), guest.body(), "other")
        assert guest.good("fastly_backend.get_override_host", "other") == b"configured.test"
    assert [dict(one.headers)[b"host"] for one in origin.requests] == [b"given.test", b"configured.test"]


def test_a_body_that_arrives_is_passed_on() -> None:
    origin = Origin()
    with caller(origin, method="POST", body=Arriving(b"one", b"two")) as guest:
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        _, answer = guest.good("fastly_http_req.send", request_to(guest), body, "origin")
        assert guest.read(answer) == b"<onetwo>"


def test_a_backends_response_is_the_response() -> None:
    async def answer(_: OutgoingRequest) -> OutgoingResponse:
        return OutgoingResponse(status=200, headers=[(b"x-a", b"1")], body=Arriving(b"one", b"two"))

    with caller(Origin(answer)) as guest:
        response, body = guest.good("fastly_http_req.send", request_to(guest), guest.body(), "origin")
        assert guest.call("fastly_http_resp.send_downstream", response, body, 0) == (0,)
        guest.loop.run_until_complete(guest.visit.returned(0))
        assert guest.exchange.headers == [(b"x-a", b"1")]
        assert guest.exchange.parts == [b"one", b"two"]
        assert guest.exchange.ended


# ---- failures ----


@pytest.mark.parametrize(
    ("error", "status", "tag"),
    [
        (OutgoingRefused("not allowed"), Status.INVAL, SendError.DESTINATION_NOT_FOUND),
        (OutgoingFailed("no connection"), Status.ERROR, SendError.DESTINATION_UNAVAILABLE),
    ],
)
def test_a_request_that_fails(error: Exception, status: int, tag: int) -> None:
    async def answer(_: OutgoingRequest) -> OutgoingResponse:
        raise error

    with caller(Origin(answer)) as guest:
        assert guest.status("fastly_http_req.send", request_to(guest), guest.body(), "origin") == status
        detail = guest.put(bytes(20))
        assert guest.status("fastly_http_req.send_v2", request_to(guest), guest.body(), "origin", detail) == status
        assert guest.memory.read_u32(detail) == tag
        pending = guest.good("fastly_http_req.send_async", request_to(guest), guest.body(), "origin")
        assert guest.status("fastly_http_req.pending_req_wait", pending) == status
        pending = guest.good("fastly_http_req.send_async", request_to(guest), guest.body(), "origin")
        assert guest.good("fastly_http_req.pending_req_select", [pending]) == (0, INVALID_HANDLE, INVALID_HANDLE)
        assert str(error) in str(guest.record.log_lines)


def test_where_no_request_can_be_sent() -> None:
    origin = Origin()
    with caller(origin) as guest:
        detail = guest.put(bytes(20))
        assert guest.status("fastly_http_req.send_v2", request_to(guest), guest.body(), "no", detail) == Status.INVAL
        assert guest.memory.read_u32(detail) == SendError.DESTINATION_NOT_FOUND
        assert guest.status("fastly_http_req.send_async", request_to(guest), guest.body(), "no") == Status.INVAL
        for uri in (b"/path", b"example.test/path", b"http:/path"):
            assert (
                guest.status("fastly_http_req.send", request_to(guest, uri), guest.body(), "origin") == Status.HTTPUSER
            )
    assert origin.requests == []


def test_a_body_that_is_cut_off() -> None:
    async def answer(_: OutgoingRequest) -> OutgoingResponse:
        return OutgoingResponse(status=200, headers=[], body=Arriving(b"one", OutgoingFailed("reset")))

    with caller(Origin(answer)) as guest:
        _, body = guest.good("fastly_http_req.send", request_to(guest), guest.body(), "origin")
        assert guest.good("fastly_http_body.read", body) == b"one"
        assert guest.status("fastly_http_body.read", body) == Status.HTTPINCOMPLETE


# ---- several at once ----


class Gated:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}

    async def __call__(self, request: OutgoingRequest) -> OutgoingResponse:
        gate = self.gates.setdefault(request.url[-1], asyncio.Event())
        await gate.wait()
        return OutgoingResponse(status=200, headers=[], body=BytesBody(request.url[-1].encode()))

    def open(self, name: str) -> None:
        self.gates.setdefault(name, asyncio.Event()).set()


def test_several_requests_at_once() -> None:
    origin = Gated()
    with caller(origin) as guest:
        pending = [
            guest.good("fastly_http_req.send_async", request_to(guest, b"http://x/" + name), guest.body(), "origin")
            for name in (b"a", b"b", b"c")
        ]
        assert guest.good("fastly_http_req.pending_req_poll", pending[0]) == (0, INVALID_HANDLE, INVALID_HANDLE)
        assert guest.good("fastly_async_io.is_ready", pending[1]) == 0
        assert guest.good("fastly_async_io.select", pending, 1) == NO_INDEX
        origin.open("b")
        assert guest.good("fastly_async_io.select", pending, 0) == 1
        index, _, body = guest.good("fastly_http_req.pending_req_select", pending)
        assert index == 1
        assert guest.read(body) == b"b"
        assert guest.status("fastly_http_req.pending_req_select", pending) == Status.BADF
        origin.open("c")
        _, body = guest.good("fastly_http_req.pending_req_wait", pending[2])
        assert guest.read(body) == b"c"
        origin.open("a")
        assert guest.good("fastly_async_io.select", [pending[0]], 0) == 0
        done, _, body = guest.good("fastly_http_req.pending_req_poll", pending[0])
        assert done == 1
        assert guest.read(body) == b"a"
        assert guest.status("fastly_http_req.pending_req_poll", pending[0]) == Status.BADF


def test_what_is_under_way_is_counted() -> None:
    origin = Gated()
    with caller(origin, limits=Limits(response_body=100_000)) as guest:
        first, second = (guest.body(b"x" * 40_000) for _ in range(2))
        pending = guest.good("fastly_http_req.send_async", request_to(guest), first, "origin")
        assert guest.visit.store.held > 80_000
        assert guest.status("fastly_http_body.write", second, b"x" * 40_000, 0) == Status.LIMITEXCEEDED
        origin.open("1")
        _, body = guest.good("fastly_http_req.pending_req_wait", pending)
        assert guest.call("fastly_http_body.write", second, b"x" * 40_000, 0) == (0, 40_000)
        assert guest.call("fastly_http_body.close", second) == (0,)
        assert guest.call("fastly_http_body.close", body) == (0,)
        assert guest.visit.store.held == 0


def test_what_is_pending_ends_with_the_request() -> None:
    with caller(Gated()) as guest:
        for _ in range(3):
            guest.good("fastly_http_req.send_async", request_to(guest), guest.body(), "origin")
        assert len(guest.visit.tasks) == 3
    assert not guest.visit.tasks
    assert not guest.visit.handles


def test_selecting_among_nothing() -> None:
    with Caller() as guest:
        assert guest.status("fastly_async_io.select", [], 0) == Status.INVAL
        assert guest.good("fastly_async_io.select", [], 1) == NO_INDEX
        assert guest.status("fastly_http_req.pending_req_select", []) == Status.INVAL
        assert guest.status("fastly_http_req.pending_req_select", [guest.body()]) == Status.BADF
        assert guest.status("fastly_async_io.select", [guest.body(), 99], 0) == Status.BADF


def test_selecting_among_very_many() -> None:
    with Caller() as guest:
        handles = guest.put(guest.body().to_bytes(4, "little") * 100_000)
        assert guest.raw("fastly_async_io.select", handles, 100_000, 0, 16) == Status.LIMITEXCEEDED
        assert guest.raw("fastly_async_io.select", handles, 0xFFFFFFFF, 0, 16) == Status.LIMITEXCEEDED
        assert guest.raw("fastly_async_io.select", handles, 10_000, 0, 16) == 0


# ---- bodies that are written while they are sent ----


@pytest.mark.parametrize("function", ["send_async_streaming", "send_async_v2"])
def test_a_body_that_is_written_while_it_is_sent(function: str) -> None:
    origin = Origin()
    with caller(origin) as guest:
        body = guest.body(b"before ")
        extra = (1,) if function == "send_async_v2" else ()
        pending = guest.good(f"fastly_http_req.{function}", request_to(guest), body, "origin", *extra)
        assert guest.good("fastly_http_body.write", body, b"one ", 0) == 4
        assert guest.call("fastly_http_body.append", body, guest.body(b"two")) == (0,)
        assert guest.good("fastly_http_req.pending_req_poll", pending)[0] == 0
        assert guest.call("fastly_http_body.close", body) == (0,)
        _, answer = guest.good("fastly_http_req.pending_req_wait", pending)
        assert guest.read(answer) == b"<before one two>"


def test_send_async_v2_without_streaming_uses_up_the_body() -> None:
    with caller(Origin()) as guest:
        body = guest.body(b"text")
        pending = guest.good("fastly_http_req.send_async_v2", request_to(guest), body, "origin", 0)
        assert guest.status("fastly_http_body.write", body, b"x", 0) == Status.BADF
        _, answer = guest.good("fastly_http_req.pending_req_wait_v2", pending, 0)
        assert guest.read(answer) == b"<text>"


def test_an_abandoned_request() -> None:
    async def never(_: OutgoingRequest) -> OutgoingResponse:
        raise AssertionError("the body was complete")

    with caller(Origin(never)) as guest:
        body = guest.body(b"part")
        pending = guest.good("fastly_http_req.send_async_streaming", request_to(guest), body, "origin")
        assert guest.call("fastly_http_body.abandon", body) == (0,)
        assert guest.status("fastly_http_req.pending_req_wait", pending) == Status.ERROR


def test_writing_to_a_request_that_has_failed() -> None:
    async def refuse(_: OutgoingRequest) -> OutgoingResponse:
        raise OutgoingFailed("no connection")

    class Refusing(NoOutgoing):
        async def send(self, request: Any, /) -> OutgoingResponse:
            return await refuse(request)

    with Caller(backends=BACKENDS, outgoing=Refusing) as guest:
        body = guest.body()
        pending = guest.good("fastly_http_req.send_async_streaming", request_to(guest), body, "origin")
        assert guest.status("fastly_http_req.pending_req_wait", pending) == Status.ERROR
        assert guest.status("fastly_http_body.write", body, b"x" * 300_000, 0) == Status.ERROR
        assert guest.call("fastly_http_body.close", body) == (0,)


# ---- decompression ----


def compressed(data: bytes) -> Origin:
    async def answer(_: OutgoingRequest) -> OutgoingResponse:
        headers = [(b"content-encoding", b"GZIP"), (b"content-length", b"%d" % len(data)), (b"x-a", b"1")]
        return OutgoingResponse(status=200, headers=headers, body=BytesBody(data))

    return Origin(answer)


def test_a_compressed_response() -> None:
    data = gzip.compress(b"text " * 100_000)
    for encodings, expected in ((0, data), (1, b"text " * 100_000)):
        with caller(compressed(data)) as guest:
            request = request_to(guest)
            assert guest.call("fastly_http_req.auto_decompress_response_set", request, encodings) == (0,)
            assert guest.status("fastly_http_req.auto_decompress_response_set", request, 2) == Status.INVAL
            response, body = guest.good("fastly_http_req.send", request, guest.body(), "origin")
            names = guest.good("fastly_http_resp.header_names_get", response)[0]
            assert names == (b"x-a\0" if encodings else b"content-encoding\0content-length\0x-a\0")
            numbers = guest.arguments("fastly_http_body.read", body, room=65536)
            read = b""
            while guest.raw("fastly_http_body.read", *numbers) == 0 and (size := guest.memory.read_u32(numbers[3])):
                read += guest.memory.read(numbers[1], size)
            assert read == expected


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"text")[:-3]])
def test_what_is_not_gzip(data: bytes) -> None:
    with caller(compressed(data)) as guest:
        request = request_to(guest)
        guest.good("fastly_http_req.auto_decompress_response_set", request, 1)
        _, body = guest.good("fastly_http_req.send", request, guest.body(), "origin")
        statuses = [guest.status("fastly_http_body.read", body) for _ in range(2)]
        assert Status.HTTPINCOMPLETE in statuses


# ---- backends ----


def test_what_backends_there_are() -> None:
    with caller(Origin()) as guest:
        assert guest.good("fastly_backend.exists", "origin") == 1
        assert guest.good("fastly_backend.exists", "no") == 0
        assert guest.good("fastly_backend.get_host", "origin") == b"origin.test"
        assert guest.call("fastly_backend.get_host", "origin", room=3) == (Status.BUFLEN, 11)
        assert guest.good("fastly_backend.get_port", "origin") == 8080
        assert guest.good("fastly_backend.get_port", "other") == 443
        assert guest.good("fastly_backend.is_ssl", "origin") == 0
        assert guest.good("fastly_backend.is_ssl", "other") == 1
        assert guest.good("fastly_backend.is_dynamic", "origin") == 0
        assert guest.good("fastly_backend.is_healthy", "origin") == 0
        assert guest.status("fastly_backend.get_override_host", "origin") == Status.NONE
        for function in ("get_host", "get_port", "is_ssl", "is_dynamic", "is_healthy", "get_override_host"):
            assert guest.status(f"fastly_backend.{function}", "no") == Status.INVAL


def test_backends_that_the_guest_makes() -> None:
    origin = Origin()
    with caller(origin) as guest:
        register = "fastly_http_req.register_dynamic_backend"
        host = guest.put(b"override.test")
        config = guest.put(host.to_bytes(4, "little") + (13).to_bytes(4, "little") + bytes(92))
        assert guest.call(register, "mine", "mine.test:81", 0, config) == (0,)
        assert guest.call(register, "tls", "tls.test", 1 << 5 | 1 << 1, config) == (0,)
        assert guest.status(register, "mine", "mine.test", 0, config) == Status.ERROR
        assert guest.status(register, "origin", "mine.test", 0, config) == Status.ERROR
        assert guest.good("fastly_backend.is_dynamic", "mine") == 1
        for name in ("mine", "tls"):
            guest.good("fastly_http_req.send", request_to(guest), guest.body(), name)
    assert [one.url for one in origin.requests] == ["http://mine.test:81/path?q=1", "https://tls.test/path?q=1"]
    assert [dict(one.headers)[b"host"] for one in origin.requests] == [b"example.test", b"override.test"]


@pytest.mark.parametrize(
    "target", ["", "a b", "a/b", "user@a", "a:b", "a:99999", "a\r\nb", "a?b", "a#b", "\xe4", "[::1", "a\\b@c"]
)
def test_what_is_no_target_of_a_backend(target: str) -> None:
    with caller(Origin()) as guest:
        status = guest.status("fastly_http_req.register_dynamic_backend", "mine", target, 0, guest.put(bytes(100)))
        assert status == Status.INVAL


def test_options_of_a_backend_that_are_wrong() -> None:
    with caller(Origin()) as guest:
        config = guest.put(bytes(100))
        for name, options in (("", 0), ("n" * 256, 0), ("a", 1), ("a", 1 << 31), ("a", 1 << 1)):
            status = guest.status("fastly_http_req.register_dynamic_backend", name, "a.test", options, config)
            assert status == Status.INVAL


def test_so_many_backends_and_no_more() -> None:
    with caller(Origin()) as guest:
        config = guest.put(bytes(100))
        statuses = [
            guest.status("fastly_http_req.register_dynamic_backend", f"b{i}", "a.test", 0, config) for i in range(201)
        ]
        assert statuses == [0] * 200 + [Status.LIMITEXCEEDED]
