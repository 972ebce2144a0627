"""Filters in front of applications of every kind: what they may change, and what happens when they fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lucet.terrarium import filters, guest
from lucet.terrarium.http import Headers
from lucet.terrarium.limits import Limits
from lucet.terrarium.record import Record
from tests.kit.handlers import ANSWER, PASS, PATIENT, Chain, T, app, get, handler, literal
from tests.kit.terrarium import App, Arriving, MemoryExchange, request_of


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
