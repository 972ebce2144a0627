"""CGI: what a program is told of a request, and what it may answer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lucet
from lucet.terrarium import guest
from lucet.terrarium import headers as fields
from lucet.terrarium.cgi import Response
from lucet.terrarium.cgi_response import MalformedOutput
from lucet.terrarium.http import Headers
from lucet.terrarium.limits import Limits
from lucet.wasi.tables import Errno
from tests.kit.cgi import ENVIRONMENT, HEAD, Told, answer_of, app, printing, program
from tests.kit.terrarium import App, MemoryExchange, request_of


@pytest.fixture(scope="module")
def environment() -> App:
    return app(ENVIRONMENT)


def test_variables(environment: App) -> None:
    headers: Headers = [
        (b"user-agent", b"curl"),
        (b"x-a-b", b"1"),
        (b"x-a-b", b"2"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"content-type", b"text/x"),
    ]
    told = Told(
        environment.request("POST", "/shop/caf%C3%A9%2F/x?a=b&c", b"12345", headers, route="/shop/...", version="1.0")
    )
    assert told.variables == {
        "AUTH_TYPE": "",
        "CONTENT_LENGTH": "5",
        "CONTENT_TYPE": "text/x",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_HOST": "example.test",
        "HTTP_USER_AGENT": "curl",
        "HTTP_X_A_B": "1, 2",
        "PATH_INFO": "/café/x",
        "PATH_TRANSLATED": "/café/x",
        "QUERY_STRING": "a=b&c",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_HOST": "192.0.2.7",
        "REMOTE_PORT": "4711",
        "REMOTE_USER": "",
        "REQUEST_METHOD": "POST",
        "REQUEST_SCHEME": "http",
        "REQUEST_URI": "/shop/caf%C3%A9%2F/x?a=b&c",
        "SCRIPT_NAME": "/shop",
        "SERVER_NAME": "example.test",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.0",
        "SERVER_SOFTWARE": "Lucet",
        "X_FULL_URL": "http://example.test/shop/caf%C3%A9%2F/x?a=b&c",
        "X_MATCHED_ROUTE": "/shop/...",
        "X_RAW_PATH_INFO": "/caf%C3%A9%2F/x",
    }
    assert told.arguments == ["/shop", "a=b", "c"]


@pytest.mark.parametrize(
    ("route", "target", "script", "info", "raw"),
    [
        ("/...", "/", "", "/", "/"),
        ("/...", "/a%20b", "", "/a b", "/a%20b"),
        ("/a/...", "/a", "/a", "", ""),
        ("/a/...", "/a/", "/a", "/", "/"),
        ("/a/b", "/a/b", "/a/b", "", ""),
        ("/a b/...", "/a%20b/c%3F", "/a b", "/c?", "/c%3F"),
        ("/a/b/...", "/a%2Fb/c", "/a/b", "/c", "/c"),
        ("/a/...", "/elsewhere", "", "/elsewhere", "/elsewhere"),
        ("/a", "/ab", "", "/ab", "/ab"),
    ],
)
def test_the_path_in_parts(environment: App, route: str, target: str, script: str, info: str, raw: str) -> None:
    told = Told(environment.get(target, route=route))
    assert [told.variables[name] for name in ("SCRIPT_NAME", "PATH_INFO", "X_RAW_PATH_INFO")] == [script, info, raw]
    assert told.arguments == [script or "/"]


def test_headers_that_must_not_become_variables(environment: App) -> None:
    headers: Headers = [
        (b"proxy", b"http://evil"),
        (b"x_real_ip", b"evil"),
        (b"x-real-ip", b"good"),
        (b"x=y", b"evil"),
        (b"x.y", b"evil"),
        (b"content-length", b"99"),
        (b"x-\xe9", b"evil"),
        (b"content-type", b"good"),
        (b"content-type", b"evil"),
    ]
    told = Told(environment.get("/", headers=headers))
    assert {name for name in told.variables if name.startswith("HTTP_")} == {"HTTP_HOST", "HTTP_X_REAL_IP"}
    assert "evil" not in " ".join(told.variables.values())
    assert "CONTENT_LENGTH" not in told.variables, "of no body"
    assert told.variables["CONTENT_TYPE"] == "good"


@pytest.mark.parametrize(
    "changes",
    [{"method": "GE\0T"}, {"target": "/a?b=c\0HTTP_X=1"}, {"host": "a\0b"}, {"target": "/a%00b"}],
)
def test_a_nul_makes_no_variable(environment: App, changes: dict[str, str]) -> None:
    answer = environment.request(**{"method": "GET", "target": "/", **changes})  # type: ignore[arg-type]
    assert answer.status == 500
    assert answer.record.fault is not None
    assert "NUL" in answer.record.fault
    header = environment.get("/", headers=[(b"x-a", b"1\x00HTTP_PROXY=evil")])
    assert header.status == 500


def test_configuration_is_the_programs_environment() -> None:
    told = Told(app(ENVIRONMENT, configuration={"": {"GREETING": "hi=there", "LANG": "de"}}).get("/"))
    assert told.variables["GREETING"] == "hi=there"
    assert told.variables["LANG"] == "de"
    with pytest.raises(ValueError, match="no environment variable"):
        app(ENVIRONMENT, configuration={"": {"A=B": "x"}})


def test_arguments_by_a_template() -> None:
    configuration = {"cgi": {"argv": "prog --root=${SCRIPT_NAME} ${ARGS} end"}}
    told = Told(app(ENVIRONMENT, configuration=configuration).get("/x?-a+b&c%20d", route="/x/..."))
    assert told.arguments == ["prog", "--root=/x", "-a+b", "c%20d", "end"]


def test_https(environment: App) -> None:
    told = Told(environment.get("/x?y", scheme="https", server=("127.0.0.1", 443)))
    assert told.variables["HTTPS"] == "on"
    assert told.variables["X_FULL_URL"] == "https://example.test/x?y"


@pytest.mark.parametrize(
    ("output", "status", "headers", "body"),
    [
        (b"Content-Type: text/plain\n\nhello", 200, [(b"content-type", b"text/plain")], b"hello"),
        (b"Content-Type:text/plain \r\n\r\nhello\r\n\r\nx", 200, [(b"content-type", b"text/plain")], b"hello\r\n\r\nx"),
        (b"Status: 404 Not Found\nX-A: \n\n", 404, [(b"x-a", b"")], b""),
        (b"status: 204\n\n", 204, [], b""),
        (
            b"Set-Cookie: a\nSet-Cookie: b\nContent-Type: x\n\n",
            200,
            [(b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"content-type", b"x")],
            b"",
        ),
        (b"Location: http://other.test/x\n\n", 302, [(b"location", b"http://other.test/x")], b""),
        (b"Location: //other.test/x\n\n", 302, [(b"location", b"//other.test/x")], b""),
        (b"Status: 301\nLocation: /x\n\n", 301, [(b"location", b"/x")], b""),
        (b"Location: /x\nContent-Type: a\n\nmoved", 302, [(b"location", b"/x"), (b"content-type", b"a")], b"moved"),
        (b"Location: /nobody/routes\n\n", 302, [(b"location", b"/nobody/routes")], b""),
    ],
)
def test_responses(output: bytes, status: int, headers: Headers, body: bytes) -> None:
    answer = answer_of(output)
    assert (answer.status, answer.headers, answer.body, answer.ended) == (status, headers, body, True)


OUTPUTS = st.lists(
    st.sampled_from([b"Content-Type: a", b"Status: 404", b"X: y", b"\n", b"\r\n", b"\r", b" ", b"\0", b":", b"body"])
).map(b"".join)


def written(pieces: list[bytes]) -> tuple[int, Headers, bytes] | str:
    """What becomes of output that is written in these pieces."""
    exchange = MemoryExchange(request_of("GET", "/"))
    response = Response(exchange, 1 << 20)
    try:
        for piece in pieces:
            assert response.write([memoryview(piece)]) == len(piece)
    except MalformedOutput as error:
        return str(error)
    return (
        "unfinished" if response.head is None else (response.head.status, response.head.headers, bytes(response.rest))
    )


@given(OUTPUTS, st.lists(st.integers(0, 40), max_size=4))
def test_output_may_be_written_in_any_pieces(output: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(output)), len(output)]
    pieces = [output[start:end] for start, end in pairwise(bounds)]
    found = written([output])
    assert written(pieces) == found
    if not isinstance(found, str):
        fields.checked(found[0], found[1])
        assert not any(set(name + value) & set(b"\r\n\0") for name, value in found[1])


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (b"", "no output"),
        (b"hello", "no end of its headers"),
        (b"Content-Type: text/plain\n", "no end of its headers"),
        (b"\nhello", "no headers"),
        (b"\r\n\r\nhello", "no headers"),
        (b"hello, world\n\nx", "line 1 of the output is no header"),
        (b"Content-Type: x\nHTTP/1.1 200 OK\n\n", "line 2 of the output is no header"),
        (b"Content-Type: x\n folded: y\n\n", "line 2 of the output is no header"),
        (b"Content-Type: x\nA b: c\n\n", "line 2 of the output is no header"),
        (b"Content-Type: x\nX: a\rSet-Cookie: b\n\n", "line 2 of the output is no header"),
        (b"Content-Type: x\nX: a\0b\n\n", "line 2 of the output is no header"),
        (b"Status: 99\n\n", "no status"),
        (b"Status: 100\n\n", "no status"),
        (b"Status: 2000\n\n", "no status"),
        (b"Status: OK\n\n", "no status"),
        (b"Status: 200\nStatus: 200\n\n", "a second one"),
        (b"X-A: b\n\nhello", "none of Content-Type, Status and Location"),
        (b"X-A: " + b"b" * 65536 + b"\n\n", "first 65536 bytes"),
        (b"X-A: b\n" * 10000, "first 65536 bytes"),
    ],
)
def test_output_that_is_no_response(output: bytes, reason: str) -> None:
    answer = answer_of(output)
    assert answer.status == 502
    assert answer.record.fault is not None
    assert reason in answer.record.fault
    assert reason.encode() in answer.body, "in development the client is told"


def test_in_production_the_client_is_not_told() -> None:
    answer = app(printing(b"hello"), development=False).get("/")
    assert answer.status == 502
    assert answer.body == b"the application failed\nrequest request-1\n"


def test_exit_status() -> None:
    silent = answer_of(b"", status=3)
    assert silent.status == 500
    assert silent.record.fault == "exit status 3, and no output"
    speaking = answer_of(HEAD + b"sorry", status=3, error=b"it broke")
    assert (speaking.status, speaking.body) == (200, b"sorry")
    assert speaking.record.log_lines == ["exit status 3", "it broke"]


def test_a_trap_before_and_within_a_response() -> None:
    before = app(program("(unreachable)")).get("/")
    assert before.status == 500
    within = app(program("(call $put (i32.const 1) (i32.const 1024) (i32.const 26)) (unreachable)", HEAD)).get("/")
    assert within.status == 500, "nothing was sent yet"


def test_standard_error_is_the_log() -> None:
    error = b"one\ntwo\n\n\xff" + b"x" * 5000
    answer = answer_of(HEAD, error=error)
    assert answer.record.log_lines == ["one", "two", "", "\ufffd" + "x" * 5000]


def test_a_log_without_end_is_bounded() -> None:
    flood = program("(loop $l (call $put (i32.const 2) (i32.const 4096) (i32.const 100000)) (br $l))")
    answer = app(flood, limits=Limits(cpu_time=0.2)).get("/")
    assert answer.status == 503
    assert sum(map(len, answer.record.log_lines or [])) <= Limits().log_bytes
    assert answer.record.log_lost > 1_000_000


@pytest.mark.parametrize(
    ("call", "errno"),
    [
        ("(call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const -4))", Errno.FAULT),
        ("(call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 262141))", Errno.FAULT),
        ("(call $write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 8))", Errno.FAULT),
        ("(call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 8))", Errno.FAULT),
        ("(call $write (i32.const 1) (i32.const 0) (i32.const 2000) (i32.const 8))", Errno.INVAL),
        ("(call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8))", Errno.SUCCESS),
        ("(call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))", Errno.SUCCESS),
        ("(call $write (i32.const 9) (i32.const 0) (i32.const 1) (i32.const 8))", Errno.BADF),
        ("(call $write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))", Errno.NOTCAPABLE),
        ("(drop (call $close (i32.const 1))) (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))",
         Errno.BADF),
        ("(drop (call $rights (i32.const 1) (i64.const 0) (i64.const 0)))"
         "(call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))", Errno.NOTCAPABLE),
        ("(drop (call $renumber (i32.const 1) (i32.const 2)))"
         "(call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))", Errno.BADF),
        ("(drop (call $renumber (i32.const 1) (i32.const 0)))"
         "(call $write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))", Errno.SUCCESS),
    ],
)  # fmt: skip
def test_writing_is_checked(call: str, errno: Errno) -> None:
    """The guest exits with what the call has returned, plus 100. Of the body "!" there is what was written."""
    imports = """
        (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_fdstat_set_rights" (func $rights (param i32 i64 i64) (result i32)))
        (memory"""
    body = f"""(call $put (i32.const 1) (i32.const 1024) (i32.const {len(HEAD)}))
        (i32.store (i32.const 0) (i32.const {1024 + len(HEAD)})) (i32.store (i32.const 4) (i32.const 1))
        (i32.store (i32.const 16) (i32.const 262143)) (i32.store (i32.const 20) (i32.const 2))
        (call $exit (i32.add (i32.const 100) (block (result i32) {call})))"""
    answer = app(program(body, HEAD + b"!").replace("(memory", imports, 1)).get("/")
    assert answer.status == 200
    assert answer.record.log_lines == [f"exit status {100 + errno}"]
    is_written = errno == Errno.SUCCESS and "(i32.const 0) (i32.const 0) (i32.const 8)" not in call
    assert answer.body == (b"!" if is_written else b"")


LOCAL = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\\00\\04\\00\\00\\14\\00\\00\\00")
  (data (i32.const 1024) "Location: /new?x=1\\0a\\0a")
  (data (i32.const 2048) "Content-Type: a\\0a\\0anew")
  (func (export "_start")
    (drop (call $environ (i32.const 4096) (i32.const 8192)))
    ;; REQUEST_METHOD=GET and REQUEST_URI=/new are at the front.
    (if (i32.eq (i32.load8_u (i32.const 8224)) (i32.const 110)) (then
      (i32.store (i32.const 0) (i32.const 2048))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
"""


def test_local_redirect() -> None:
    one = app(LOCAL)
    seen = []

    def reroute(exchange: Any, record: Any) -> Any:
        seen.append((exchange.request.method, exchange.request.target, exchange.request.headers))
        return guest.answer(one.served, exchange, record)

    one.served.environment.reroute = reroute
    answer = one.request("GET", "/old", b"body", [(b"content-type", b"x"), (b"accept", b"y")])
    assert (answer.status, answer.body) == (200, b"new")
    assert seen == [("GET", "/new?x=1", [(b"host", b"example.test"), (b"accept", b"y")])]
    assert answer.record.redirects == 1


def test_local_redirects_without_end() -> None:
    one = app(printing(b"Location: /again\n\n"))
    one.served.environment.reroute = lambda exchange, record: guest.answer(one.served, exchange, record)
    answer = one.get("/")
    assert answer.status == 500
    assert answer.record.fault == "more than 10 local redirects"


def test_a_module_that_imports_something_else() -> None:
    other = '(module (import "env" "f" (func)) (func (export "_start")))'
    with pytest.raises(lucet.LinkError):
        app(other)
