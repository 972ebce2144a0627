"""Compute: an application in JavaScript, as Fastly's kit builds it.

The kit is 450 MB, and compiling its JavaScript engine takes half a minute: `just terrarium-js` gets it and runs this.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import lucet
from lucet.terrarium.http import (
    BytesBody,
    OutgoingFailed,
    OutgoingRefused,
    OutgoingRequest,
    OutgoingResponse,
    read_all,
)
from lucet.terrarium.limits import Limits
from tests.kit.compute import Arriving, InTurn
from tests.kit.terrarium import App, DictKeys, NoOutgoing

SOURCE = Path(__file__).parent / "guests/compute/app.js"
DIGEST = b"982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1\n"
FAILURES = b"""Destination unavailable
Destination not found
Requested backend named 'absent' does not exist
"""


async def origin(request: OutgoingRequest, in_turn: InTurn) -> OutgoingResponse:
    body = request.body if isinstance(request.body, bytes) else await read_all(request.body, 1 << 20)
    if "/slow/" in request.url:
        return await in_turn(request.url)
    if request.url.endswith("/fail"):
        raise OutgoingFailed("no connection")
    if request.url.endswith("/refuse"):
        raise OutgoingRefused("not allowed")
    if request.url.endswith("/gzip"):
        compressed = BytesBody(gzip.compress(b"inflated\n"))
        return OutgoingResponse(status=200, headers=[(b"content-encoding", b"gzip")], body=compressed)
    headers = dict(request.headers)
    given = headers.get(b"x-from", headers[b"host"])
    text = b"%b %b by %b: %b\n" % (request.method.encode(), request.url.encode(), given, body)
    return OutgoingResponse(status=202, headers=[(b"x-origin", b"1")], body=Arriving(text[:10], text[10:]))


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> lucet.Module:
    kit = os.environ.get("LUCET_JS_COMPUTE")
    if not kit or not shutil.which("npx"):
        pytest.skip("needs npx, and LUCET_JS_COMPUTE: a directory with @fastly/js-compute from npm")
    wasm = tmp_path_factory.mktemp("compute") / "app.wasm"
    program = shutil.copy(SOURCE, Path(kit) / "app.js")
    subprocess.run(["npx", "js-compute", program, str(wasm)], cwd=kit, check=True)
    return lucet.Module.from_bytes(lucet.compile(wasm.read_bytes(), opt_level="none"))


@pytest.fixture
def app(module: lucet.Module) -> App:
    return App(
        module,
        configuration={
            "settings": {"greeting": "hello"},
            "fastly:geolocation": {"192.0.2.7": '{"city":"here","latitude":1.5}'},
            "fastly:device_detection": {"Browser/1": '{"device":{"name":"Browser"}}'},
            "fastly:acl:blocked": {"192.0.2.0/24": "BLOCK"},
        },
        secrets={"vault": {"key": b"s3cret"}},
        backends={"origin": "http://origin.test"},
        keys=DictKeys(),
        outgoing=lambda: NoOutgoing(partial(origin, in_turn=InTurn())),
        limits=Limits(cpu_time=5.0),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "body", "status", "expected"),
    [
        ("/", b"", 200, b"Hello from JavaScript!\n"),
        ("/head?a=b", b"", 200, b"POST\nhttp://example.test/head?a=b\nhost: example.test\nx-one: 1, 3\n192.0.2.7\n"),
        ("/echo", b"some text " * 5000, 200, b"some text " * 5000),
        ("/upper", b"some text " * 5000, 200, b"SOME TEXT " * 5000),
        ("/transform", b"some text " * 5000, 200, b"SOME TEXT " * 5000),
        ("/json", b'{"a": [1, 2]}', 201, b'{"got":{"a":[1,2]}}'),
        ("/stream", b"", 200, b"".join(b"line %d\n" % i for i in range(100))),
        ("/fetch", b"", 200, b"202 PUT http://origin.test/asked by js: asking\n"),
        ("/proxy", b"", 202, b"GET http://origin.test/proxied by origin.test: \n"),
        ("/parallel", b"", 200, b"0 of 2,1,0\n"),
        ("/config", b"", 200, b"hello null\n"),
        ("/secret", b"", 200, b"s3cret\n"),
        ("/kv", b"", 200, b"null value about key null\n"),
        ("/log", b"", 200, b"application 1\n"),
        ("/sleep", b"", 200, b"slept\n"),
        ("/digest", b"", 200, DIGEST),
        ("/absent", b"", 404, b"no route\n"),
        ("/throw", b"", 500, b""),
        ("/dynamic", b"", 200, b"GET https://dynamic.test:8443/made by dynamic.test:8443: \n"),
        ("/backend", b"", 200, b"true false GET http://mine.test:81/made by override.test: \n"),
        ("/upload", b"some text", 202, b"POST http://origin.test/upload by origin.test: some text\n"),
        ("/kv-stream", b"some text " * 5000, 200, b"some text " * 5000),
        ("/gzip", b"", 200, b"inflated\n"),
        ("/failures", b"", 200, FAILURES),
        ("/geo", b"", 200, b"here 1.5\n"),
        ("/device", b"", 200, b"Browser null\n"),
        ("/acl", b"", 200, b'[{"prefix":"192.0.2.0/24","action":"BLOCK"},null]'),
    ],
)
@pytest.mark.parametrize("arriving", [False, True])
def test_a_route(app: App, target: str, body: bytes, status: int, expected: bytes, arriving: bool) -> None:
    headers = [(b"x-one", b"1"), (b"x-one", b"3")]
    sent: Any = Arriving(*[body[i : i + 7777] for i in range(0, len(body), 7777)]) if arriving else body
    answer = asyncio.run(app.answer("POST", target, sent, headers))
    assert (answer.record.fault, answer.record.limit) == (None, None), answer.record.log_lines
    assert (answer.status, answer.body, answer.ended) == (status, expected, True)


@pytest.mark.slow
def test_what_is_logged(app: App) -> None:
    assert app.get("/log").record.log_lines == ["access: one line", "printed { a: 1 }"]
    assert app.get("/throw").record.log_lines == ["Error while running request handler."]


@pytest.mark.slow
def test_what_outlives_a_request(app: App) -> None:
    assert app.get("/rate").body == b"4 true false false\n"
    assert app.get("/rate").body == b"8 true false false\n"
    assert app.get("/cache").body == b"nothing made\n"
    assert app.get("/cache").body == b"made made\n"
    assert app.get("/purge").body == b"purged\n"
    assert app.get("/cache").body == b"nothing made\n"
    assert app.get("/wait-until").body == b"done\n"
    assert app.get("/later").body == b"value\n"


@pytest.mark.slow
def test_requests_at_once(app: App) -> None:
    async def run() -> list[Any]:
        return await asyncio.gather(*(app.answer("GET", "/parallel") for _ in range(10)))

    assert [one.body for one in asyncio.run(run())] == [b"0 of 2,1,0\n"] * 10
