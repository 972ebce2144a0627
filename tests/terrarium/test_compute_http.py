"""Compute: requests, responses and headers, by calls of the host functions, and their conventions."""

from __future__ import annotations

import pytest

import lucet
from lucet.terrarium.compute_table import INVALID_HANDLE, Status
from lucet.terrarium.limits import Limits
from tests.kit.compute import Caller
from tests.kit.terrarium import App

ABSENT_NAME = b"x-absent"


def downstream(guest: Caller) -> int:
    return int(guest.good("fastly_http_req.body_downstream_get")[0])


def test_abi_version() -> None:
    with Caller() as guest:
        assert guest.call("fastly_abi.init", 1) == (0,)
        assert guest.call("fastly_abi.init", 2) == (Status.ERROR,)


def test_the_clients_request() -> None:
    with Caller("POST", "/a%20b?c=d", b"text", [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")]) as guest:
        request, body = guest.good("fastly_http_req.body_downstream_get")
        assert guest.good("fastly_http_req.body_downstream_get") == (request, body)
        assert guest.good("fastly_http_req.method_get", request) == b"POST"
        assert guest.good("fastly_http_req.uri_get", request) == b"http://example.test/a%20b?c=d"
        assert guest.good("fastly_http_req.version_get", request) == 2
        assert guest.good("fastly_http_req.header_names_get", request) == (b"host\0x-a\0x-b\0", -1)
        assert guest.good("fastly_http_req.header_values_get", request, b"X-A") == (b"1\x003\0", -1)
        assert guest.good("fastly_http_req.header_value_get", request, b"X-A") == b"1"
        assert guest.good("fastly_http_req.original_header_names_get") == (b"host\0x-a\0x-b\0", -1)
        assert guest.good("fastly_http_req.original_header_count") == 4
        assert guest.good("fastly_http_body.known_length", body) == 4
        assert guest.read(body) == b"text"


@pytest.mark.parametrize(
    ("client", "octets"),
    [("192.0.2.7", bytes([192, 0, 2, 7])), ("2001:db8::1", bytes.fromhex("20010db8000000000000000000000001"))],
)
def test_addresses(client: str, octets: bytes) -> None:
    with Caller(client=(client, 1)) as guest:
        request = downstream(guest)
        assert guest.good("fastly_http_req.downstream_client_ip_addr") == octets
        assert guest.good("fastly_http_downstream.downstream_client_ip_addr", request) == octets
        assert guest.good("fastly_http_downstream.downstream_server_ip_addr", request) == bytes([127, 0, 0, 1])


def test_a_client_without_an_address() -> None:
    with Caller(client=("", 0)) as guest:
        assert guest.status("fastly_http_req.downstream_client_ip_addr") == Status.NONE


def test_what_is_not_known_of_the_client() -> None:
    with Caller() as guest:
        request = downstream(guest)
        assert guest.status("fastly_http_downstream.downstream_tls_protocol", request) == Status.NONE
        assert guest.status("fastly_http_downstream.downstream_tls_protocol", 99) == Status.BADF
        assert guest.good("fastly_http_downstream.downstream_client_ddos_detected", request) == 0
        assert guest.good("fastly_http_downstream.downstream_client_request_id", request) == b"request-1"


# ---- the protocol of buffers ----


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("fastly_http_req.method_get", ()),
        ("fastly_http_req.uri_get", ()),
        ("fastly_http_req.header_value_get", (b"x-a",)),
        ("fastly_http_downstream.downstream_client_request_id", ()),
    ],
)
def test_a_buffer_that_is_too_short(name: str, extra: tuple[bytes, ...]) -> None:
    with Caller(headers=[(b"x-a", b"value")]) as guest:
        request = downstream(guest)
        whole = guest.good(name, request, *extra)
        assert guest.good(name, request, *extra, room=len(whole)) == whole
        assert guest.call(name, request, *extra, room=len(whole) - 1) == (Status.BUFLEN, len(whole))
        assert guest.call(name, request, *extra, room=0) == (Status.BUFLEN, len(whole))


@pytest.mark.parametrize("name", ["fastly_http_req.header_values_get", "fastly_http_resp.header_values_get"])
def test_lists_with_a_cursor(name: str) -> None:
    with Caller() as guest:
        module = name.partition(".")[0]
        message = guest.good(f"{module}.new")
        for value in (b"one", b"two", b"three", b""):
            assert guest.call(f"{module}.header_append", message, b"x", value) == (0,)
        assert guest.good(name, message, b"x") == (b"one\0two\0three\0\0", -1)
        assert guest.good(name, message, b"x", room=8) == (b"one\0two\0", 2)
        assert guest.good(name, message, b"x", room=9) == (b"one\0two\0", 2)
        assert guest.good(name, message, b"x", room=7) == (b"one\0", 1)
        assert guest.good(name, message, b"x", room=6, cursor=2) == (b"three\0", 3)
        assert guest.good(name, message, b"x", cursor=3) == (b"\0", -1)
        assert guest.good(name, message, b"x", cursor=4) == (b"", -1)
        assert guest.good(name, message, b"x", cursor=0xFFFFFFFF) == (b"", -1)
        # One that does not fit: how much it would take.
        assert guest.call(name, message, b"x", room=5, cursor=2) == (Status.BUFLEN, (6, -1))
        assert guest.good(name, message, ABSENT_NAME) == (b"", -1)


def test_a_cursor_that_is_not_wanted() -> None:
    with Caller(headers=[(b"x-a", b"1")]) as guest:
        numbers = guest.arguments("fastly_http_req.header_names_get", downstream(guest))
        numbers[4] = 0
        before = guest.memory.read(0, 8)
        assert guest.raw("fastly_http_req.header_names_get", *numbers) == 0
        assert guest.memory.read(0, 8) == before


# ---- headers ----


@pytest.mark.parametrize("module", ["fastly_http_req", "fastly_http_resp"])
def test_headers_are_changed(module: str) -> None:
    with Caller() as guest:
        message = guest.good(f"{module}.new")
        assert guest.call(f"{module}.header_insert", message, b"X-Name", b"a") == (0,)
        assert guest.call(f"{module}.header_insert", message, b"x-name", b"b") == (0,)
        assert guest.call(f"{module}.header_append", message, b"x-NAME", b"c") == (0,)
        assert guest.good(f"{module}.header_names_get", message) == (b"x-name\0", -1)
        assert guest.good(f"{module}.header_values_get", message, b"x-name") == (b"b\0c\0", -1)
        assert guest.call(f"{module}.header_values_set", message, b"x-name", b"d\0e\0ignored") == (0,)
        assert guest.good(f"{module}.header_values_get", message, b"x-name") == (b"d\0e\0", -1)
        assert guest.call(f"{module}.header_values_set", message, b"x-name", b"") == (0,)
        assert guest.status(f"{module}.header_value_get", message, b"x-name") == Status.INVAL
        assert guest.status(f"{module}.header_remove", message, b"x-name") == Status.INVAL
        assert guest.call(f"{module}.header_append", message, b"x-name", b"f") == (0,)
        assert guest.call(f"{module}.header_remove", message, b"X-name") == (0,)
        assert guest.good(f"{module}.header_names_get", message) == (b"", -1)


NO_HEADERS = [
    (b"", b"v"),
    (b"a b", b"v"),
    (b"a:", b"v"),
    (b"a\r\nb", b"v"),
    (b"a\0", b"v"),
    (b"\xe4", b"v"),
    (b"a", b"v\r\nx-injected: 1"),
    (b"a", b"v\n"),
    (b"a", b"\x7f"),
]


@pytest.mark.parametrize("module", ["fastly_http_req", "fastly_http_resp"])
@pytest.mark.parametrize(("name", "value"), NO_HEADERS)
def test_what_is_no_header(module: str, name: bytes, value: bytes) -> None:
    with Caller() as guest:
        message = guest.good(f"{module}.new")
        for function, end in (("header_insert", b""), ("header_append", b""), ("header_values_set", b"\0")):
            assert guest.status(f"{module}.{function}", message, name, value + end) == Status.HTTPINVALID
        assert guest.status(f"{module}.header_insert", message, b"a", b"v\0w") == Status.HTTPINVALID
        assert guest.good(f"{module}.header_names_get", message) == (b"", -1)


@pytest.mark.parametrize("module", ["fastly_http_req", "fastly_http_resp"])
def test_too_many_headers(module: str) -> None:
    with Caller() as guest:
        message = guest.good(f"{module}.new")
        numbers = guest.arguments(f"{module}.header_append", message, b"x", b"")
        statuses = {guest.raw(f"{module}.header_append", *numbers) for _ in range(5000)}
        assert statuses == {Status.OK, Status.HTTPHEADTOOLARGE}
        assert guest.status(f"{module}.header_insert", message, b"y", b"z" * (128 << 10)) == Status.HTTPHEADTOOLARGE
        assert guest.status(f"{module}.header_values_set", message, b"y", b"\0" * 5000) == Status.HTTPHEADTOOLARGE
        # What is removed makes room.
        assert guest.call(f"{module}.header_remove", message, b"x") == (0,)
        assert guest.call(f"{module}.header_insert", message, b"y", b"z" * 65536) == (0,)
        assert guest.call(f"{module}.header_insert", message, b"y", b"z" * 100_000) == (0,)


# ---- heads ----


def test_a_request_of_the_guest() -> None:
    with Caller() as guest:
        request = guest.good("fastly_http_req.new")
        assert guest.good("fastly_http_req.method_get", request) == b"GET"
        assert guest.call("fastly_http_req.method_set", request, b"PATCH") == (0,)
        assert guest.good("fastly_http_req.method_get", request) == b"PATCH"
        assert guest.call("fastly_http_req.uri_set", request, b"https://a.test/b?c") == (0,)
        assert guest.good("fastly_http_req.uri_get", request) == b"https://a.test/b?c"
        assert guest.call("fastly_http_req.version_set", request, 3) == (0,)
        assert guest.good("fastly_http_req.version_get", request) == 3
        assert guest.status("fastly_http_req.version_set", request, 5) == Status.INVAL
        for method in (b"", b"GET /", b"A\r\nB", b"A" * 1000):
            assert guest.status("fastly_http_req.method_set", request, method) == Status.HTTPINVALID
        for uri in (b"", b"http://a/ b", b"http://a/\r\nx", b"http://a/\0", b"a" * 100_000):
            assert guest.status("fastly_http_req.uri_set", request, uri) == Status.HTTPINVALID
        assert guest.call("fastly_http_req.framing_headers_mode_set", request, 1) == (0,)
        assert guest.status("fastly_http_req.framing_headers_mode_set", request, 2) == Status.INVAL
        assert guest.call("fastly_http_req.cache_override_set", request, 1, 0, 0) == (0,)
        assert guest.call("fastly_http_req.cache_override_v2_set", request, 1, 0, 0, b"key") == (0,)
        assert guest.call("fastly_http_req.close", request) == (0,)
        assert guest.status("fastly_http_req.close", request) == Status.BADF


def test_the_status_of_a_response() -> None:
    with Caller() as guest:
        response = guest.good("fastly_http_resp.new")
        assert guest.good("fastly_http_resp.status_get", response) == 200
        assert guest.call("fastly_http_resp.status_set", response, 418) == (0,)
        assert guest.good("fastly_http_resp.status_get", response) == 418
        for status in (0, 99, 1000, 65536 + 200):
            assert guest.status("fastly_http_resp.status_set", response, status) == Status.HTTPINVALIDSTATUS
        assert guest.good("fastly_http_resp.status_get", response) == 418


def test_the_status_has_two_bytes() -> None:
    with Caller() as guest:
        response = guest.good("fastly_http_resp.new")
        at = guest.put(b"\xff" * 4)
        assert guest.raw("fastly_http_resp.status_get", response, at) == 0
        assert guest.memory.read(at, 4) == b"\xc8\0\xff\xff"
        assert guest.raw("fastly_http_resp.status_get", response, at + 1) == Status.BADALIGN


# ---- handles and pointers ----


def test_handles_of_another_kind() -> None:
    with Caller() as guest:
        request, body = guest.good("fastly_http_req.body_downstream_get")
        response = guest.good("fastly_http_resp.new")
        for wrong in (0, body, response, 12345, INVALID_HANDLE, 0xFFFFFFFF):
            assert guest.status("fastly_http_req.method_get", wrong) == Status.BADF
        for wrong in (0, body, request, INVALID_HANDLE):
            assert guest.status("fastly_http_resp.status_get", wrong) == Status.BADF
        for wrong in (0, response, request, INVALID_HANDLE):
            assert guest.status("fastly_http_body.read", wrong) == Status.BADF
            assert guest.status("fastly_http_body.close", wrong) == Status.BADF
            assert guest.status("fastly_async_io.is_ready", wrong) == Status.BADF


def test_handles_are_bounded() -> None:
    with Caller() as guest:
        at = guest.room(4)
        statuses = [guest.raw("fastly_http_body.new", at) for _ in range(10_001)]
        assert statuses[:10_000] == [0] * 10_000
        assert statuses[10_000] == Status.LIMITEXCEEDED
        assert guest.raw("fastly_http_body.close", guest.memory.read_u32(at)) == 0
        assert guest.raw("fastly_http_body.new", at) == 0


@pytest.mark.parametrize("pointer", [0xFFFFFFF0, 0xFFFFFFFC, 64 << 16, (64 << 16) - 2])
def test_pointers_out_of_bounds(pointer: int) -> None:
    with Caller(headers=[(b"x", b"y")]) as guest:
        request, body = guest.good("fastly_http_req.body_downstream_get")
        handles = len(guest.visit.handles)
        wrong = {Status.INVAL, Status.BADALIGN}
        assert guest.raw("fastly_http_req.new", pointer) in wrong
        assert guest.raw("fastly_http_req.body_downstream_get", pointer, 16) in wrong
        assert guest.raw("fastly_http_req.version_get", request, pointer) in wrong
        assert guest.raw("fastly_http_req.method_get", request, pointer, 10, 16) == Status.INVAL
        assert guest.raw("fastly_http_req.method_get", request, 16, 10, pointer) in wrong
        assert guest.raw("fastly_http_req.header_value_get", request, pointer, 8, 16, 10, 32) == Status.INVAL
        assert guest.raw("fastly_http_req.header_names_get", request, pointer, 64, 0, 16, 32) == Status.INVAL
        assert guest.raw("fastly_http_req.header_names_get", request, 64, 64, 0, pointer, 32) in wrong
        assert guest.raw("fastly_http_body.write", body, pointer, 100, 0, 16) == Status.INVAL
        assert guest.raw("fastly_http_body.write", body, 16, 0xFFFFFFFF, 0, 16) == Status.INVAL
        assert guest.raw("fastly_async_io.select", pointer, 4, 0, 16) in wrong
        # No handle was made that the guest does not know.
        assert len(guest.visit.handles) == handles


def test_pointers_that_are_not_aligned() -> None:
    with Caller() as guest:
        assert guest.raw("fastly_http_req.new", 18) == Status.BADALIGN
        request = downstream(guest)
        assert guest.raw("fastly_http_req.header_names_get", request, 65, 64, 0, 20, 32) == Status.BADALIGN
        assert guest.raw("fastly_http_req.header_names_get", request, 65, 64, 0, 24, 33) == Status.BADALIGN
        assert guest.raw("fastly_http_req.header_names_get", request, 65, 64, 0, 24, 36) == 0
        assert guest.raw("fastly_async_io.select", 1026, 1, 5, 16) == Status.BADALIGN


def test_arguments_are_bounded() -> None:
    with Caller(configuration={"settings": {}}) as guest:
        request = downstream(guest)
        at = guest.put(b"x" * (257 << 10))
        size = 257 << 10
        assert guest.raw("fastly_http_req.header_insert", request, 1024, 1, at, size) == Status.LIMITEXCEEDED
        assert guest.raw("fastly_http_req.uri_set", request, at, size) == Status.LIMITEXCEEDED
        store = guest.good("fastly_config_store.open", "settings")
        numbers = (store, at, size, 64, 0, 64)
        assert guest.raw("fastly_config_store.get", *numbers) == Status.LIMITEXCEEDED


def test_heads_are_counted_as_what_the_host_holds() -> None:
    with Caller(limits=Limits(response_body=100_000)) as guest:
        requests = [guest.good("fastly_http_req.new") for _ in range(3)]
        statuses = [guest.status("fastly_http_req.header_insert", one, b"x", b"y" * 40_000) for one in requests]
        assert statuses == [0, 0, Status.LIMITEXCEEDED]
        assert guest.call("fastly_http_req.header_insert", requests[0], b"x", b"y") == (0,)
        assert guest.call("fastly_http_req.header_insert", requests[2], b"x", b"y" * 40_000) == (0,)
        assert guest.call("fastly_http_req.close", requests[2]) == (0,)
        assert guest.call("fastly_http_req.uri_set", requests[0], b"http://a.test/" + b"a" * 30_000) == (0,)
        response = guest.good("fastly_http_resp.new")
        assert guest.status("fastly_http_resp.header_append", response, b"x", b"y" * 40_000) == Status.LIMITEXCEEDED
        for one in requests[:2]:
            assert guest.call("fastly_http_req.close", one) == (0,)
        assert guest.visit.store.held == 0


def test_the_clients_own_headers_give_nothing_back() -> None:
    with Caller(headers=[(b"x", b"y" * 10_000)]) as guest:
        request = downstream(guest)
        assert guest.call("fastly_http_req.header_remove", request, b"x") == (0,)
        assert guest.visit.store.held == 0
        assert guest.call("fastly_http_req.header_insert", request, b"x", b"y") == (0,)
        assert guest.visit.store.held == 34


def test_memory_that_is_not_exported_and_none() -> None:
    imports = '(import "fastly_http_req" "new" (func $new (param i32) (result i32)))'
    text = """(module {} {} (global $status (mut i32) (i32.const 99))
      (func (export "_start") (global.set $status (call $new (i32.const 16)))
        (if (i32.ne (global.get $status) (i32.const {})) (then unreachable))))"""
    for memory, status in (("(memory 1)", 0), ("", Status.INVAL)):
        wasm = lucet.compile(text.format(imports, memory, status), opt_level="none")
        answer = App(lucet.Module.from_bytes(wasm)).get("/")
        assert (answer.status, answer.record.fault) == (200, None)
