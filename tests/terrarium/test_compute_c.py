"""Compute: an application in C, each of its routes to the byte."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import lucet
from lucet.terrarium.http import OutgoingRequest, OutgoingResponse, read_all
from lucet.terrarium.limits import Limits
from tests.kit.compute import Arriving, InTurn
from tests.kit.terrarium import App, DictKeys, NoOutgoing

SOURCE = Path(__file__).parent / "guests/compute/app.c"


async def origin(request: OutgoingRequest, in_turn: InTurn) -> OutgoingResponse:
    body = request.body if isinstance(request.body, bytes) else await read_all(request.body, 1 << 20)
    if "/slow/" in request.url:
        return await in_turn(request.url)
    headers = b" ".join(b"%b=%b" % header for header in request.headers)
    text = b"%b %b (%b) %b\n" % (request.method.encode(), request.url.encode(), headers, body)
    return OutgoingResponse(status=202, headers=[], body=Arriving(text[:10], text[10:]))


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> lucet.Module:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    wasm = tmp_path_factory.mktemp("compute") / "app.wasm"
    command = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi", "-O2", "-s"]
    subprocess.run([*command, str(SOURCE), "-o", str(wasm)], check=True)
    return lucet.Module.from_bytes(lucet.compile(wasm.read_bytes(), opt_level="fast"))


@pytest.fixture
def app(module: lucet.Module) -> App:
    return App(
        module,
        configuration={"settings": {"greeting": "hello"}},
        secrets={"vault": {"key": b"s3cret"}},
        backends={"origin": "http://origin.test"},
        keys=DictKeys(),
        outgoing=lambda: NoOutgoing(partial(origin, in_turn=InTurn())),
        # The loaded machine's clock is not what is tested.
        limits=Limits(cpu_time=5.0),
    )


HEAD = """GET http://example.test/head?a=b 2
host: [example.test]
x-one: [1] [3]
x-two: [2]
192.0.2.7
"""
FETCHED = b"origin said 202: PUT http://origin.test/asked?by=c (host=origin.test x-from=app.c) asking\n"
UPLOADED = b"GET http://origin.test/up (host=origin.test) begin more more more from the client\n"
STORES = b"greeting hello\nabsent 10\nshort 4 needs 5\nsecret s3cret\n"


@pytest.mark.parametrize(
    ("target", "body", "expected"),
    [
        ("/", b"", b"Hello from C!\n"),
        ("/head?a=b", b"", HEAD.encode()),
        ("/echo", b"some text " * 5000, b"some text " * 5000),
        ("/upper", b"some text " * 5000, b"SOME TEXT " * 5000),
        ("/stream", b"", b"".join(b"line %d\n" % i for i in range(1000))),
        ("/pass", b"text", b"<text>"),
        ("/fetch", b"", FETCHED),
        ("/parallel", b"", b"1 0\n1 1\n1 2\n"),
        ("/upload", b"from the client", UPLOADED),
        ("/stores", b"", STORES),
        ("/nap", b"", b"slept: 1\n"),
        ("/unsupported", b"", b"status 5\n"),
    ],
)
@pytest.mark.parametrize("arriving", [False, True])
def test_a_route(app: App, target: str, body: bytes, expected: bytes, arriving: bool) -> None:
    headers = [(b"x-one", b"1"), (b"x-two", b"2"), (b"x-one", b"3")]
    sent: Any = Arriving(*[body[i : i + 777] for i in range(0, len(body), 777)]) if arriving else body
    answer = asyncio.run(app.answer("GET", target, sent, headers))
    assert (answer.record.fault, answer.record.limit) == (None, None), answer.record.log_lines
    assert answer.body == expected
    # The backend's response is passed on with its own head.
    assert (answer.status, answer.headers, answer.ended) == (202 if target == "/fetch" else 200, [], True)


def test_no_route(app: App) -> None:
    answer = app.get("/nowhere")
    assert (answer.status, answer.headers, answer.body) == (404, [(b"x-reason", b"no route")], b"no /nowhere\n")


def test_counting(app: App) -> None:
    assert app.get("/count").body == b"0, , generation 0\nerror 1\n"
    assert app.get("/count").body == b"1, by app.c, generation 1\nerror 1\n"
    assert app.get("/count").body == b"2, by app.c, generation 1\nerror 1\n"


def test_logs(app: App) -> None:
    answer = app.get("/logs")
    assert answer.body == b"version 1 of application\n"
    assert answer.record.log_lines == ["access: one line", "printed", "and complained"]


def test_faults_of_one_request_are_its_own(app: App) -> None:
    answer = app.get("/crash")
    assert answer.status == 500
    assert "UNREACHABLE" in str(answer.record.fault)
    assert app.get("/").body == b"Hello from C!\n"


def test_an_endless_loop(module: lucet.Module) -> None:
    app = App(module, limits=Limits(cpu_time=0.05))

    async def run() -> list[Any]:
        return await asyncio.gather(app.answer("GET", "/loop"), *(app.answer("GET", "/") for _ in range(3)))

    loop, *others = asyncio.run(run())
    assert (loop.status, loop.record.limit) == (503, "cpu_time")
    assert [one.body for one in others] == [b"Hello from C!\n"] * 3


def test_a_request_without_a_backend(module: lucet.Module) -> None:
    answer = App(module).get("/fetch")
    assert answer.status == 500
    assert answer.record.fault == "exit status 70"
    assert answer.record.log_lines == ["send: status 2"]


# ---- through the server's own client ----


def real(module: lucet.Module, it: Any, *patterns: str) -> App:
    return App(
        module,
        backends={"origin": it.url("origin.test").rstrip("/")},
        outgoing=lambda: it.run(*patterns),
        limits=Limits(cpu_time=5.0),
    )


def test_requests_that_are_really_sent(module: lucet.Module) -> None:
    pytest.importorskip("aiohttp")
    from tests.terrarium.test_outgoing import HERE, world

    async def test(it: Any) -> None:
        app = real(module, it, "http://origin.test:P", HERE)
        fetched = await app.answer("GET", "/fetch")
        assert (fetched.status, fetched.body) == (200, b"origin said 200: reached"), fetched.record.log_lines
        assert fetched.header(b"x-seen") == b"yes"
        uploaded = await app.answer("GET", "/upload", Arriving(b"from ", b"the client"))
        assert uploaded.body == b"reached"
        assert [(one.method, one.path, one.host) for one in it.seen] == [
            ("PUT", "/asked", "origin.test"),
            ("GET", "/up", "origin.test"),
        ]
        assert it.seen[0].headers["X-From"] == "app.c"
        assert it.bodies == [b"asking", b"begin more more more from the client"]

    world(test)


def test_requests_that_are_not_allowed(module: lucet.Module) -> None:
    pytest.importorskip("aiohttp")
    from tests.terrarium.test_outgoing import HERE, world

    async def test(it: Any) -> None:
        for patterns in ((), ("http://other.test:P", HERE), ("http://origin.test:P",)):
            refused = await real(module, it, *patterns).answer("GET", "/fetch")
            assert (refused.status, refused.record.fault) == (500, "exit status 70")
            assert "request refused" in str(refused.record.log_lines)
        assert it.seen == []

    world(test)
