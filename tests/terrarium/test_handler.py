"""http-wasm's handlers: all their functions, what they must not do, and how they begin."""

from __future__ import annotations

import pytest

import lucet
from lucet.terrarium.handler import Handler
from lucet.terrarium.handler_calls import FUNCTIONS
from lucet.terrarium.http import Headers
from lucet.terrarium.limits import Limits
from tests.kit.handlers import ANSWER, PASS, TYPES, T, app, body_of, get, get_i32, handler
from tests.kit.terrarium import Arriving


def test_the_interface_is_whole() -> None:
    assert set(FUNCTIONS) == set(TYPES)
    assert len(FUNCTIONS) == 19


def test_what_a_request_is() -> None:
    assert body_of(get_i32("get_method"), method="PATCH") == b"PATCH"
    assert body_of(get_i32("get_uri"), target="/a%20b?c=d%26e&f") == b"/a%20b?c=d%26e&f"
    assert body_of(get_i32("get_protocol_version")) == b"HTTP/1.1"
    assert body_of(get_i32("get_protocol_version"), version="2") == b"HTTP/2.0"
    assert body_of(get_i32("get_source_addr")) == b"192.0.2.7:4711"
    assert body_of(get_i32("get_source_addr"), client=("2001:db8::1", 7)) == b"[2001:db8::1]:7"


def test_configuration() -> None:
    configuration = {"": {"": "enabled=\udcff"}}
    assert body_of(get_i32("get_config"), configuration=configuration) == b"enabled=\xff"
    assert body_of(get_i32("get_config")) == b""


def test_what_does_not_fit_is_not_written() -> None:
    told = "(call $digit (call $get_method (i32.const 4096) (i32.const 4)))"
    nothing = f"{told} (call $digit (i32.load8_u (i32.const 4096))) {ANSWER}"
    assert body_of(nothing, method="PATCH").startswith(b"50")
    just = nothing.replace("(i32.const 4)", "(i32.const 5)")
    assert body_of(just, method="PATCH") == b"5" + bytes([48 + ord("P")])


HEADERS: Headers = [(b"accept", b"a"), (b"x-a", b"1"), (b"x-a", b"2")]


def test_header_names_and_values() -> None:
    names = "(call $get_header_names (i32.const 0) (i32.const 4096) (i32.const 4096))"
    assert body_of(get(names), headers=HEADERS) == b"host\0accept\0x-a\0"
    count = f"(call $digit (i32.wrap_i64 (i64.shr_u {names} (i64.const 32)))) {ANSWER}"
    assert body_of(count, headers=HEADERS) == b"3"
    values = f"(call $get_header_values (i32.const 0) {T('X-A')} (i32.const 4096) (i32.const 4096))"
    assert body_of(get(values), headers=HEADERS) == b"1\0" + b"2\0"
    assert body_of(count.replace(names, values), headers=HEADERS) == b"2"
    absent = f"(call $get_header_values (i32.const 0) {T('x-b')} (i32.const 4096) (i32.const 4096))"
    assert body_of(get(absent), headers=HEADERS) == b""
    assert body_of(count.replace(names, absent), headers=HEADERS) == b"0"
    trailers = "(call $get_header_names (i32.const 2) (i32.const 4096) (i32.const 4096))"
    assert body_of(get(trailers), headers=HEADERS) == b""


def test_a_response() -> None:
    answer = app(
        handler(
            f"""
            (call $set_status_code (i32.const 403))
            (call $set_header_value (i32.const 1) {T("X-One")} {T("old")})
            (call $set_header_value (i32.const 1) {T("x-one")} {T("1")})
            (call $add_header_value (i32.const 1) {T("X-Two")} {T("2")})
            (call $add_header_value (i32.const 1) {T("x-two")} {T(" 3")})
            (call $add_header_value (i32.const 1) {T("x-gone")} {T("4")})
            (call $remove_header (i32.const 1) {T("X-Gone")})
            (call $write_body (i32.const 1) {T("no ")})
            (call $write_body (i32.const 1) {T("entry")})
            {ANSWER}"""
        )
    ).get("/")
    assert (answer.status, answer.body) == (403, b"no entry")
    assert answer.headers == [(b"x-one", b"1"), (b"x-two", b"2"), (b"x-two", b"3")]


def test_without_a_word_it_is_an_empty_200() -> None:
    answer = app(handler(ANSWER)).get("/")
    assert (answer.status, answer.headers, answer.body) == (200, [], b"")


def test_nothing_is_behind_it() -> None:
    assert app(handler(PASS)).get("/").status == 404


READ = f"""
  (local $got i64)
  (loop $l
    (local.set $got (call $read_body (i32.const 0) (i32.const 4096) (i32.const 1000)))
    (call $say (i32.wrap_i64 (local.get $got)))
    (br_if $l (i64.eqz (i64.shr_u (local.get $got) (i64.const 32)))))
  {ANSWER}"""


@pytest.mark.parametrize("body", [b"", b"a" * 5, b"b" * 1000, b"c" * 5000])
def test_a_body_that_is_there(body: bytes) -> None:
    assert body_of(READ, method="POST", body=body) == body


def test_a_body_that_arrives() -> None:
    parts = [b"x" * 700, b"y" * 2000, b"z"]
    assert body_of(READ, method="POST", body=Arriving(*parts)) == b"".join(parts)
    buffered = "(drop (call $enable_features (i32.const 1)))"
    declared, _, rest = READ.partition("(loop")
    assert body_of(f"{declared}{buffered}(loop{rest}", method="POST", body=Arriving(*parts)) == b"".join(parts)


def test_a_buffer_is_filled() -> None:
    whole = f"""(local $got i64)
        (local.set $got (call $read_body (i32.const 0) (i32.const 4096) (i32.const 100)))
        (call $digit (i32.wrap_i64 (i64.shr_u (local.get $got) (i64.const 32))))
        (call $say (i32.wrap_i64 (local.get $got))) {ANSWER}"""
    assert body_of(whole, method="POST", body=Arriving(b"one ", b"two ", b"three")) == b"1one two three"
    assert body_of(whole, method="POST", body=Arriving(b"x" * 60, b"y" * 60)) == b"0" + b"x" * 60 + b"y" * 40
    assert body_of(whole, method="POST", body=b"z" * 100) == b"1" + b"z" * 100


def test_a_buffered_body_is_bounded() -> None:
    declared, _, rest = READ.partition("(loop")
    module = handler(f"{declared}(drop (call $enable_features (i32.const 1)))(loop{rest}")
    answer = app(module, limits=Limits(request_body=1000)).request("POST", "/", Arriving(b"x" * 600, b"x" * 600))  # type: ignore[arg-type]
    assert (answer.status, answer.record.limit) == (413, "request_body")


def test_features() -> None:
    assert body_of(f"(call $digit (call $enable_features (i32.const 7))) {ANSWER}") == b"3", "no trailers"


def test_log() -> None:
    one = app(
        handler(
            f"""(call $log (i32.const 0) {T("hello")}) (call $log (i32.const 2) {T("alas")})
            (call $log (i32.const -1) {T("detail")}) (call $log (i32.const 3) {T("never")})
            (call $digit (call $log_enabled (i32.const -1))) (call $digit (call $log_enabled (i32.const 0)))
            (call $digit (call $log_enabled (i32.const 3))) {ANSWER}"""
        )
    )
    answer = one.get("/")
    assert answer.body == b"110"
    assert answer.record.log_lines == ["application: hello", "application: error: alas", "application: debug: detail"]
    one.served.environment.development = False
    quiet = one.get("/")
    assert quiet.body == b"010"
    assert quiet.record.log_lines == ["application: hello", "application: error: alas"]


INJECTED = b"x\r\nSet-Cookie: y"
NUL = b"\0"
BAD_CALLS = {
    "not a header's name": f"(call $set_header_value (i32.const 1) {T('a b')} {T('x')})",
    "name: b''": f"(call $add_header_value (i32.const 1) {T('')} {T('x')})",
    "control characters": f"(call $set_header_value (i32.const 1) {T('a')} {T(INJECTED)})",
    "control characters: ": f"(call $add_header_value (i32.const 0) {T('a')} {T(b'x' + NUL)})",
    "not the status of a response": "(call $set_status_code (i32.const 100))",
    "a method: b'GE T'": f"(call $set_method {T('GE T')})",
    "a method: b''": f"(call $set_method {T('')})",
    "leaves the root": f"(call $set_uri {T('/../x')})",
    "begins with /": f"(call $set_uri {T('http://x/')})",
    "cannot have": f"(call $set_uri {T('/a b')})",
    "not a query": f"(call $set_uri {T('/a?b c')})",
    "not a query:": f"(call $set_uri {T('/a?b' + chr(10))})",
    "trailers are not supported": f"(call $set_header_value (i32.const 2) {T('a')} {T('b')})",
    "headers of the kind 4": f"(call $set_header_value (i32.const 4) {T('a')} {T('b')})",
    "headers of the kind -1": "(drop (call $get_header_names (i32.const -1) (i32.const 0) (i32.const 0)))",
    "body of the kind 2": f"(call $write_body (i32.const 2) {T('a')})",
    "no body of the kind 2": "(drop (call $read_body (i32.const 2) (i32.const 0) (i32.const 1)))",
    "no room for it": "(drop (call $read_body (i32.const 0) (i32.const 0) (i32.const 0)))",
    "without a name": f"(drop (call $get_header_values (i32.const 0) {T('')} (i32.const 0) (i32.const 0)))",
    "a value of 70000 bytes": f"(call $set_header_value (i32.const 1) {T('a')} (i32.const 0) (i32.const 70000))",
    "more than 256 headers": f"(loop $l (call $add_header_value (i32.const 1) {T('a')} {T('b')}) (br $l))",
    "more than 65536 bytes of headers": f"""(memory.fill (i32.const 8192) (i32.const 97) (i32.const 500))
        (loop $l (call $set_header_value (i32.const 1) {T("a")} (i32.const 8192) (i32.const 500)) (br $l))""",
    "more than 67108864 bytes": "(loop $l (call $write_body (i32.const 1) (i32.const 0) (i32.const 200000)) (br $l))",
    "write_body: ": "(call $write_body (i32.const 1) (i32.const -16) (i32.const 32))",
    "get_method: ": "(drop (call $get_method (i32.const -2) (i32.const 100)))",
}


@pytest.mark.parametrize("reason", BAD_CALLS)
def test_what_a_guest_must_not_do(reason: str) -> None:
    call = BAD_CALLS[reason]
    answer = app(handler(f"{call} {ANSWER}")).get("/")
    assert answer.status == 500
    assert answer.record.fault is not None
    assert answer.record.fault.startswith("filter application: ")
    assert reason.rstrip(": ") in answer.record.fault


def test_what_it_returns_is_0_or_1() -> None:
    answer = app(handler("(i64.const 2)")).get("/")
    assert answer.status == 500
    assert "next=2" in (answer.record.fault or "")


def test_a_module_with_functions_of_other_types() -> None:
    with pytest.raises(lucet.LinkError, match="handle_response"):
        app('(module (memory (export "memory") 1) (func (export "handle_request") (result i64) (i64.const 0)))')


def test_it_is_recognised() -> None:
    module = lucet.Module.from_bytes(lucet.compile(handler(ANSWER)))
    imports = frozenset((one.module, one.name) for one in module.imports)
    assert Handler.speaks(imports, frozenset())
    assert Handler.speaks(frozenset(), frozenset({"handle_request", "handle_response"}))
    assert not Handler.speaks(frozenset({("env", "f")}), frozenset({"handle_request", "_start"}))


def test_a_module_is_initialised_before_its_first_function() -> None:
    for name in ("_initialize", "_start"):
        begun = (
            f"""(global $begun (mut i32) (i32.const 0)) (func (export "{name}") (global.set $begun (i32.const 7)))"""
        )
        assert app(handler(f"(call $digit (global.get $begun)) {ANSWER}", more=begun)).get("/").body == b"7"


def test_an_initialisation_without_end() -> None:
    endless = '(func (export "_start") (loop $l (br $l)))'
    answer = app(handler(ANSWER, more=endless), limits=Limits(cpu_time=0.05)).get("/")
    assert (answer.status, answer.record.limit) == (503, "cpu_time")
