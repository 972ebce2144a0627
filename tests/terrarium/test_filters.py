"""http-wasm's handlers: all their functions, and chains of them in front of applications of every kind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

import lucet
from lucet.terrarium import filters, guest
from lucet.terrarium.handler import Handler
from lucet.terrarium.handler_calls import FUNCTIONS
from lucet.terrarium.http import Headers
from lucet.terrarium.limits import Limits
from lucet.terrarium.record import Record
from tests.kit.terrarium import Answer, App, MemoryExchange, request_of

PATIENT = Limits(cpu_time=20.0)
TYPES = {
    "get_config": "(param i32 i32) (result i32)",
    "enable_features": "(param i32) (result i32)",
    "log": "(param i32 i32 i32)",
    "log_enabled": "(param i32) (result i32)",
    "get_header_names": "(param i32 i32 i32) (result i64)",
    "get_header_values": "(param i32 i32 i32 i32 i32) (result i64)",
    "set_header_value": "(param i32 i32 i32 i32 i32)",
    "add_header_value": "(param i32 i32 i32 i32 i32)",
    "remove_header": "(param i32 i32 i32)",
    "read_body": "(param i32 i32 i32) (result i64)",
    "write_body": "(param i32 i32 i32)",
    "get_method": "(param i32 i32) (result i32)",
    "set_method": "(param i32 i32)",
    "get_uri": "(param i32 i32) (result i32)",
    "set_uri": "(param i32 i32)",
    "get_protocol_version": "(param i32 i32) (result i32)",
    "get_source_addr": "(param i32 i32) (result i32)",
    "get_status_code": "(result i32)",
    "set_status_code": "(param i32)",
}
RESULT = """
  ;; a result that tells a length in its lower half: the text of that length at 4096
  (func $say (param $size i32) (call $write_body (i32.const 1) (i32.const 4096) (local.get $size)))
  ;; a number from 0 to 9
  (func $digit (param $value i32)
    (i32.store8 (i32.const 64) (i32.add (i32.const 48) (local.get $value)))
    (call $write_body (i32.const 1) (i32.const 64) (i32.const 1)))
"""
PASS = "(i64.const 1)"
ANSWER = "(i64.const 0)"


class Texts:
    """Puts texts into a module's memory: `texts("abc")` is where, and how long, as two operands."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, text: str | bytes) -> str:
        data = text.encode() if isinstance(text, str) else text
        position = 1024 + len(self.data)
        self.data += data
        return f"(i32.const {position}) (i32.const {len(data)})"


T = Texts()
"""All modules here have all texts."""


def literal(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def handler(request: str, response: str = "", more: str = "") -> str:
    """A handler with these two bodies. $context and $error are handle_response's parameters."""
    imports = "".join(f'(import "http_handler" "{name}" (func ${name} {type_}))' for name, type_ in TYPES.items())
    return f"""(module {imports} (memory (export "memory") 4)
      (data (i32.const 1024) "{literal(T.data)}") {RESULT} {more}
      (func (export "handle_request") (result i64) {request})
      (func (export "handle_response") (param $context i32) (param $error i32) {response}))"""


def app(wasm: Any, interface: str = "http-handler", **options: Any) -> App:
    return App(wasm, interface, **{"limits": PATIENT, **options})


def get(operation: str) -> str:
    """Has the text that an operation with a buffer gives as the body."""
    return f"(call $say (i32.wrap_i64 {operation})) {ANSWER}"


def get_i32(name: str) -> str:
    return get(f"(i64.extend_i32_u (call ${name} (i32.const 4096) (i32.const 4096)))")


def body_of(request: str, **options: Any) -> bytes:
    answer = app(handler(request), **{key: options.pop(key) for key in ("configuration",) if key in options}).request(
        options.pop("method", "GET"), options.pop("target", "/"), **options
    )
    assert answer.status == 200, answer.body
    return answer.body


# ---- a handler by itself: its functions


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


class Arriving:
    length = None

    def __init__(self, *parts: bytes) -> None:
        self.parts = list(parts)

    def at_once(self) -> bytes | None:
        return None

    async def read(self, limit: int = 65536, /) -> bytes:
        await asyncio.sleep(0.001)
        return self.parts.pop(0) if self.parts else b""


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


# ---- chains


@dataclass
class Chain:
    """Filters in front of an application."""

    filters: list[App]
    application: App
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, one in enumerate(self.filters):
            one.served.environment.application = f"filter{number}"

    def request(self, method: str, target: str, body: Any = b"", headers: Headers | None = None) -> Answer:
        return asyncio.run(self.answer(method, target, body, headers))

    def get(self, target: str, headers: Headers | None = None) -> Answer:
        return self.request("GET", target, headers=headers)

    async def answer(self, method: str, target: str, body: Any = b"", headers: Headers | None = None) -> Answer:
        exchange = MemoryExchange(request_of(method, target, body, headers))
        record = Record(0.0, PATIENT)
        chain = [one.served for one in self.filters if isinstance(one.served, Handler)]
        rest = filters.answer(chain, self.application.served, exchange, record)
        self.was_at_once = rest is None
        if rest is not None:
            await rest
        return Answer(exchange.status, exchange.headers, b"".join(exchange.parts), exchange.ended, record, exchange)


@pytest.fixture(scope="module")
def show() -> App:
    """Answers with what it has been asked: method and URI."""
    shown = "(call $say (call $get_method (i32.const 4096) (i32.const 4096)))"
    uri = "(call $say (call $get_uri (i32.const 4096) (i32.const 4096)))"
    header = f"(call $set_header_value (i32.const 1) {T('x-app')} {T('yes')})"
    return app(handler(f"{header} {shown} (call $digit (i32.const 0)) {uri} {ANSWER}"))


def cgi(show_body: bool = False) -> App:
    """A CGI program that answers with its request's body, after 11 bytes of its own; or with these alone."""
    output = b"Content-Type: text/x\nX-App: cgi\n\nfrom a cgi "
    echo = """(loop $l
        (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 60000))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
        (br_if $l (i32.load (i32.const 8))))"""
    return app(
        f"""(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 2) (data (i32.const 1024) "{literal(output)}")
          (func (export "_start")
            (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const {len(output)}))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            {echo if show_body else ""}))""",
        "cgi",
    )


def hostcalls() -> App:
    """A guest of the original interface: it has request bodies whole, and answers with its request's."""
    return app(
        """(module
          (import "env" "hostcall_init_mm" (func $init (param i32 i32)))
          (import "env" "hostcall_req_get_body" (func $body (param i32 i32 i32)))
          (import "env" "hostcall_resp_set_body" (func $set (param i32 i32 i32) (result i32)))
          (memory 2) (table funcref (elem $malloc $free))
          (func $malloc (param i32) (result i32) (i32.const 4096))
          (func $free (param i32))
          (func (export "run")
            (call $init (i32.const 0) (i32.const 1))
            (call $body (i32.const 16) (i32.const 20) (i32.const 0))
            (drop (call $set (i32.const 0) (i32.load (i32.const 16)) (i32.load (i32.const 20))))))""",
        "hostcalls",
    )


def filter_(request: str = PASS, response: str = "", more: str = "", **options: Any) -> App:
    return app(handler(request, response, more), **options)


def test_a_chain_may_be_empty() -> None:
    exchange = MemoryExchange(request_of("GET", "/"))
    record = Record(0.0, PATIENT)

    async def run() -> None:
        rest = filters.answer((), cgi().served, exchange, record)
        if rest is not None:
            await rest

    asyncio.run(run())
    assert exchange.parts == [b"from a cgi "]


def test_a_request_is_rewritten(show: App) -> None:
    rewrite = filter_(f"(call $set_method {T('PUT')}) (call $set_uri {T('//new/./path?x=y')}) {PASS}")
    chain = Chain([rewrite], show)
    asked = request_of("GET", "/old?a")
    answer = chain.get("/old?a")
    assert answer.body == b"PUT0/new/path?x=y"
    # Unless the machine takes the CPU away for a slice: then it is a task's.
    assert any(chain.get("/").ended and chain.was_at_once for _ in range(50))
    assert asked.target == "/old?a"
    assert answer.exchange.request.target == "/old?a", "the log tells of what the client asked"


def test_request_headers_are_rewritten() -> None:
    shown = get(f"(call $get_header_values (i32.const 0) {T('x-user')} (i32.const 4096) (i32.const 4096))")
    other = get(f"(call $get_header_values (i32.const 0) {T('cookie')} (i32.const 4096) (i32.const 4096))")
    rewrite = filter_(
        f"""(call $set_header_value (i32.const 0) {T("X-User")} {T("ada")})
        (call $add_header_value (i32.const 0) {T("x-user")} {T("grace")})
        (call $remove_header (i32.const 0) {T("Cookie")}) {PASS}"""
    )
    headers: Headers = [(b"x-user", b"forged"), (b"cookie", b"a=b")]
    assert Chain([rewrite], filter_(shown)).get("/", headers).body == b"ada\0grace\0"
    assert Chain([rewrite], filter_(other)).get("/", headers).body == b""
    assert headers == [(b"x-user", b"forged"), (b"cookie", b"a=b")]


def test_a_filter_answers_itself(show: App) -> None:
    deny = filter_(f"(call $set_status_code (i32.const 401)) (call $write_body (i32.const 1) {T('who?')}) {ANSWER}")
    answer = Chain([deny], show).get("/")
    assert (answer.status, answer.body, answer.headers) == (401, b"who?", [])


def test_headers_that_a_filter_sets_first_come_with_whatever_comes(show: App) -> None:
    early = filter_(
        f"""(call $set_header_value (i32.const 1) {T("x-early")} {T("1")})
        (call $set_header_value (i32.const 1) {T("X-App")} {T("overridden")}) {PASS}"""
    )
    assert Chain([early], show).get("/").headers == [(b"x-early", b"1"), (b"x-app", b"yes")]


CONTEXT = f"""(call $set_header_value (i32.const 1) {T("x-seen")} (i32.const 64) (i32.const 1))"""


def test_a_response_is_rewritten_by_the_same_instance(show: App) -> None:
    same = filter_(
        "(i32.store8 (i32.const 64) (i32.const 65)) (i64.const 0x8000000700000001)",
        f"""(if (i32.ne (local.get $context) (i32.const 0x80000007)) (then (unreachable)))
        (if (local.get $error) (then (unreachable)))
        (if (i32.ne (call $get_status_code) (i32.const 200)) (then (unreachable)))
        {CONTEXT}
        (call $set_status_code (i32.const 202))""",
    )
    answer = Chain([same], show).get("/x")
    assert (answer.status, answer.body) == (202, b"GET0/x")
    assert answer.headers == [(b"x-app", b"yes"), (b"x-seen", b"A")]


BUFFER = "(drop (call $enable_features (i32.const 2)))"


def around(begin: str, end: str) -> str:
    """Puts these around a response's body, if that is short."""
    return f"""
        (local $got i64)
        (local.set $got (call $read_body (i32.const 1) (i32.const 4096) (i32.const 4096)))
        (call $write_body (i32.const 1) {T(begin)})
        (call $say (i32.wrap_i64 (local.get $got)))
        (call $write_body (i32.const 1) {T(end)})"""


def test_a_body_is_rewritten_if_it_is_buffered(show: App) -> None:
    outer = filter_(f"{BUFFER} {PASS}", around("[", "]"))
    assert Chain([outer], show).get("/x").body == b"[GET0/x]"
    twice = Chain([outer, filter_(f"{BUFFER} {PASS}", around("<", ">"))], cgi())
    assert twice.get("/x").body == b"[<from a cgi >]"


@pytest.mark.parametrize("call", ["(drop (call $read_body (i32.const 1) (i32.const 0) (i32.const 9)))",
                                  f"(call $write_body (i32.const 1) {T('x')})"])  # fmt: skip
def test_without_buffering_a_body_cannot_be_seen(call: str, show: App) -> None:
    answer = Chain([filter_(PASS, call)], show).get("/")
    assert answer.status == 500
    assert "not buffered" in (answer.record.fault or "")
    assert b"GET0" not in answer.body, "what the application answered is dropped"


@pytest.mark.parametrize(
    "call",
    [
        f"(call $set_method {T('X')})",
        f"(call $set_uri {T('/')})",
        f"(call $set_header_value (i32.const 0) {T('a')} {T('b')})",
        f"(call $remove_header (i32.const 0) {T('a')})",
        f"(call $write_body (i32.const 0) {T('a')})",
    ],
)
def test_a_request_that_is_passed_on_is_not_changed_any_more(call: str, show: App) -> None:
    answer = Chain([filter_(PASS, call)], show).get("/")
    assert answer.status == 500
    assert "passed on already" in (answer.record.fault or "")


def writing_cgi(count: int) -> App:
    """Streams `count` times 60000 bytes."""
    return app(
        f"""(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 2) (data (i32.const 1024) "Content-Type: text/x\\0a\\0a")
          (func (export "_start") (local $i i32)
            (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 22))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 60000))
            (loop $l
              (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
              (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {count})))) ))""",
        "cgi",
    )


def test_a_stream_passes_through() -> None:
    seen = filter_(PASS, f"(call $set_header_value (i32.const 1) {T('x-seen')} {T('1')})")
    answer = Chain([seen, seen], writing_cgi(20)).get("/")
    assert answer.ended
    assert answer.body == bytes(1_200_000)
    assert len(answer.exchange.parts) > 5, "in parts, as it is written"
    assert answer.header(b"x-seen") == b"1"


def test_a_stream_is_whole_if_a_filter_buffers_it() -> None:
    brackets = filter_(f"{BUFFER} {PASS}", f"(call $write_body (i32.const 1) {T('short')})")
    answer = Chain([filter_(), brackets], writing_cgi(20)).get("/")
    assert (answer.status, answer.body) == (200, b"short")


def test_a_buffered_response_is_bounded() -> None:
    brackets = filter_(f"{BUFFER} {PASS}", limits=Limits(cpu_time=20.0, response_body=500_000))
    answer = Chain([brackets], writing_cgi(20)).get("/")
    assert answer.record.limit == "response_body"
    assert answer.status >= 500


def test_a_filter_that_fails_when_a_stream_begins() -> None:
    answer = Chain([filter_(PASS, "(unreachable)")], writing_cgi(20)).get("/")
    assert answer.status == 500
    assert answer.ended
    assert bytes(100) not in answer.body
    assert (answer.record.fault or "").startswith("filter filter0: UNREACHABLE")


FAILURES = {
    "a trap": "(unreachable)",
    "endless": "(loop $l (br $l)) (i64.const 1)",
    "too much memory": """(drop (memory.grow (i32.const 2000)))
        (i32.store (i32.const 100000000) (i32.const 1)) (i64.const 1)""",
    "a wrong call": f"(call $set_uri {T('x')}) (i64.const 1)",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_filter_that_fails_is_an_end(failure: str) -> None:
    logging = filter_(f"(call $log (i32.const 0) {T('ran')}) {ANSWER}")
    chain = Chain([filter_(FAILURES[failure], limits=Limits(cpu_time=0.05, memory=32 << 20))], logging)
    answer = chain.get("/")
    assert answer.status in {500, 503}
    assert answer.record.log_lines is None, "the application is not run"
    assert (answer.record.fault or "").startswith("filter filter0: ")


def test_an_outer_filter_sees_that_an_inner_one_has_failed(show: App) -> None:
    outer = filter_(
        PASS,
        f"""(if (i32.eqz (local.get $error)) (then (unreachable)))
        (call $set_header_value (i32.const 1) {T("x-seen")} {T("error")})""",
    )
    answer = Chain([outer, filter_("(unreachable)")], show).get("/")
    assert (answer.status, answer.header(b"x-seen")) == (500, b"error")
    later = Chain([outer, filter_(PASS, "(unreachable)")], show).get("/")
    assert (later.status, later.header(b"x-seen")) == (500, b"error")


def test_a_filter_sees_that_the_application_has_failed() -> None:
    outer = filter_(
        PASS,
        """(if (i32.eqz (local.get $error)) (then (unreachable)))
        (call $set_status_code (i32.const 418))""",
    )
    broken = app('(module (func (export "_start") (unreachable)))', "cgi")
    answer = Chain([outer], broken).get("/")
    assert answer.status == 418
    assert (answer.record.fault or "").startswith("UNREACHABLE")


def test_each_request_has_fresh_filters(show: App) -> None:
    counting = filter_(
        f"""(i32.store8 (i32.const 64) (i32.add (i32.load8_u (i32.const 64)) (i32.const 49)))
        (call $set_header_value (i32.const 1) {T("x-count")} (i32.const 64) (i32.const 1)) {PASS}"""
    )
    chain = Chain([counting], show)
    assert [chain.get("/").header(b"x-count") for _ in range(3)] == [b"1"] * 3


def test_order(show: App) -> None:
    def marking(name: str) -> App:
        return filter_(
            f"(call $add_header_value (i32.const 0) {T('x-way')} {T(name)}) {PASS}",
            f"(call $add_header_value (i32.const 1) {T('x-back')} {T(name)})",
        )

    way = get(f"(call $get_header_values (i32.const 0) {T('x-way')} (i32.const 4096) (i32.const 4096))")
    answer = Chain([marking("a"), marking("b"), marking("c")], filter_(way)).get("/")
    assert answer.body == b"a\0b\0c\0"
    assert answer.headers == [(b"x-back", b"c"), (b"x-back", b"b"), (b"x-back", b"a")]


# ---- request bodies


def reading(limit: int, more: str = "") -> str:
    return f"{more} (drop (call $read_body (i32.const 0) (i32.const 4096) (i32.const {limit}))) {PASS}"


@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.parametrize(
    ("request_", "left"),
    [
        (PASS, b"0123456789"),
        (reading(4, "(drop (call $enable_features (i32.const 1)))"), b"0123456789"),
        (reading(4), b"456789"),
        (reading(100), b""),
        (
            f"(call $write_body (i32.const 0) {T('new ')}) (call $write_body (i32.const 0) {T('one')}) {PASS}",
            b"new one",
        ),
        (f"(call $write_body (i32.const 0) {T('')}) {PASS}", b""),
    ],
)
@pytest.mark.parametrize("kind", ["cgi", "hostcalls"])
def test_what_is_left_of_a_body(request_: str, left: bytes, arrives: bool, kind: str) -> None:
    application, before = (cgi(True), b"from a cgi ") if kind == "cgi" else (hostcalls(), b"")
    body = Arriving(b"0123456789") if arrives else b"0123456789"
    answer = Chain([filter_(request_)], application).request("POST", "/", body)
    assert answer.status == 200, answer.body
    assert answer.body == before + left


def test_a_body_that_is_too_large_for_the_application() -> None:
    application = hostcalls()
    application.served.environment.limits = Limits(request_body=5)
    for body in (b"0123456789", Arriving(b"0123456789")):
        answer = Chain([filter_()], application).request("POST", "/", body)
        assert (answer.status, answer.record.limit) == (413, "request_body")


def test_a_new_body_has_a_new_length() -> None:
    shown = get(f"(call $get_header_values (i32.const 0) {T('content-length')} (i32.const 4096) (i32.const 4096))")
    rewrite = filter_(f"(call $write_body (i32.const 0) {T('new body')}) {PASS}")
    answer = Chain([rewrite], filter_(shown)).request("POST", "/", b"x", [(b"content-length", b"1")])
    assert answer.body == b"8\0"


def test_a_client_that_goes_while_a_filter_reads() -> None:
    class Broken(Arriving):
        async def read(self, limit: int = 65536, /) -> bytes:
            from lucet.terrarium.http import ClientGone

            await asyncio.sleep(0)
            raise ClientGone("gone")

    answer = Chain([filter_(reading(4))], cgi()).request("POST", "/", Broken())
    assert answer.status == 0
    assert answer.record.fault in {"client gone", "filter filter0: client gone"}


# ---- at length


def test_a_filter_that_computes_longer_than_a_slice(show: App) -> None:
    slow = """(local $i i64) (loop $l
        (local.set $i (i64.xor (i64.mul (local.get $i) (i64.const 3)) (i64.const 1)))
        (br_if $l (i64.ne (i64.and (local.get $i) (i64.const 0x1ffffff)) (i64.const 0))))"""
    chain = Chain([filter_(f"{slow} {PASS}", slow)], show)
    answer = chain.get("/x")
    assert answer.body == b"GET0/x"
    assert answer.record.cpu_time > 0.005


def test_a_filter_that_never_ends_in_its_response(show: App) -> None:
    chain = Chain([filter_(PASS, "(loop $l (br $l))", limits=Limits(cpu_time=0.05))], show)
    answer = chain.get("/")
    assert (answer.status, answer.record.limit) == (503, "cpu_time")


def test_nothing_is_left_of_requests(show: App) -> None:
    chain = Chain([filter_(f"{BUFFER} {PASS}", around("[", "]")), filter_(), filter_("(unreachable)")], show)
    for _ in range(40):
        chain.get("/")
    for one in (*chain.filters, chain.application):
        assert one.served.environment.region.used == 0


def test_a_request_that_is_cancelled() -> None:
    waiting = Chain([filter_(reading(4))], cgi())

    class Never(Arriving):
        async def read(self, limit: int = 65536, /) -> bytes:
            await asyncio.sleep(60)
            return b""

    async def run() -> None:
        task = asyncio.ensure_future(waiting.answer("POST", "/", Never()))
        await asyncio.sleep(0.05)
        assert waiting.filters[0].served.environment.region.used == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert waiting.filters[0].served.environment.region.used == 0


def test_guest_answer_knows_what_a_filter_is(show: App) -> None:
    exchange = MemoryExchange(request_of("GET", "/x"))

    async def run() -> None:
        rest = guest.answer(show.served, exchange, Record(0.0, PATIENT))
        if rest is not None:
            await rest

    asyncio.run(run())
    assert b"".join(exchange.parts) == b"GET0/x"
