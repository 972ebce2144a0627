"""What the parts of the edge server cost a request, without HTTP: microseconds of CPU time.

usage: python -m bench.edge_parts [--rounds N]

A fresh instance answers each request: of the original's interface, of Fastly Compute's, of CGI in the text format and
in C (with the package ziglang), and of the first behind one to three filters that each look for a header. Routing is
among 10,000 hosts. Prints a Markdown table of medians.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import lucet
from bench.common import conditions, table
from bench.edge_servers import HELLO
from bench.measure import Body, blocks, clocked, quartiles
from lucet.terrarium import filters, guest
from lucet.terrarium.cgi import Cgi
from lucet.terrarium.compute import Compute
from lucet.terrarium.environment import Environment, NoOutgoing
from lucet.terrarium.handler import Handler
from lucet.terrarium.hostcalls import Hostcalls
from lucet.terrarium.http import BytesBody, Exchange, Headers, Request
from lucet.terrarium.interface import Interface
from lucet.terrarium.keys import MemoryKeys
from lucet.terrarium.limits import Limits
from lucet.terrarium.normal import normal_host
from lucet.terrarium.record import Record
from lucet.terrarium.router import Route, Router
from lucet.terrarium.split import Split

CGI: Final = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\27\\00\\00\\00")
  (data (i32.const 16) "Content-Type: text/plain\\0a\\0aHello, world!")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
COMPUTE: Final = """(module
  (import "fastly_http_req" "body_downstream_get" (func $get (param i32 i32) (result i32)))
  (import "fastly_http_req" "method_get" (func $method (param i32 i32 i32 i32) (result i32)))
  (import "fastly_http_req" "uri_get" (func $uri (param i32 i32 i32 i32) (result i32)))
  (import "fastly_http_resp" "new" (func $response (param i32) (result i32)))
  (import "fastly_http_body" "new" (func $body (param i32) (result i32)))
  (import "fastly_http_body" "write" (func $write (param i32 i32 i32 i32 i32) (result i32)))
  (import "fastly_http_resp" "send_downstream" (func $send (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "Hello, world!")
  (func (export "_start")
    (drop (call $get (i32.const 0) (i32.const 4)))
    (drop (call $method (i32.load (i32.const 0)) (i32.const 128) (i32.const 64) (i32.const 16)))
    (drop (call $uri (i32.load (i32.const 0)) (i32.const 256) (i32.const 1024) (i32.const 16)))
    (drop (call $response (i32.const 8)))
    (drop (call $body (i32.const 12)))
    (drop (call $write (i32.load (i32.const 12)) (i32.const 64) (i32.const 13) (i32.const 0) (i32.const 16)))
    (drop (call $send (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.const 0)))))"""
CGI_IN_C: Final = r"""
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **arguments) {
    const char *method = getenv("REQUEST_METHOD");
    printf("Content-Type: text/plain\r\n\r\n%s, world!", method && *arguments[0] ? "Hello" : "Who");
    return 0;
}"""
"""Reads a variable and an argument, for which wasi-libc makes its memory larger."""
FILTER: Final = """(module
  (import "http_handler" "get_header_values" (func $values (param i32 i32 i32 i32 i32) (result i64)))
  (memory (export "memory") 1) (data (i32.const 0) "authorization")
  (func (export "handle_request") (result i64)
    (i64.shr_u (call $values (i32.const 0) (i32.const 0) (i32.const 13) (i32.const 64) (i32.const 64)) (i64.const 32)))
  (func (export "handle_response") (param i32 i32)))"""
HEADERS: Final[Headers] = [
    (b"host", b"app77.example.test"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-US,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"authorization", b"Bearer token"),
    (b"cookie", b"session=0123456789abcdef; variant=b"),
]
LIMITS: Final = Limits()


class Kept(Exchange):
    """A response that is kept."""

    body = b""

    def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        self.status = status
        self.body = body

    async def start(self, status: int, headers: Headers) -> None:
        self.status = status

    async def write(self, data: bytes) -> None:
        self.body += data

    async def end(self) -> None: ...


def request() -> Request:
    return Request(
        method="GET",
        target="/index/some/page.html?a=b",
        headers=HEADERS,
        body=BytesBody(),
        host="app77.example.test",
        client=("192.0.2.7", 4711),
        server=("127.0.0.1", 80),
    )


def interface(kind: type[Interface], wasm: bytes | str, region: lucet.Region) -> Any:
    environment = Environment(
        tenant="bench",
        application="bench",
        version="1",
        region=region,
        limits=LIMITS,
        keys=MemoryKeys(LIMITS),
        outgoing=NoOutgoing,
    )
    return kind(lucet.Module.from_bytes(lucet.compile(wasm)), environment)


def in_c() -> bytes | None:
    if importlib.util.find_spec("ziglang") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "hello.c"), Path(folder, "hello.wasm")
        source.write_text(CGI_IN_C)
        command = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi", "-O2", "-s"]
        subprocess.run([*command, str(source), "-o", str(out)], check=True)
        return out.read_bytes()


def answering(answer: Callable[[Exchange, Record], Any]) -> Body:
    def body(count: int) -> None:
        for _ in range(count):
            exchange, record = Kept(request()), Record(perf_counter(), LIMITS)
            rest = answer(exchange, record)
            if rest is not None:  # the machine has taken the CPU away for a slice
                _LOOP.run_until_complete(rest)
            if exchange.body != b"Hello, world!":
                raise SystemExit(f"the guest answered {exchange.status}: {record.fault} {exchange.body!r}")

    return body


_LOOP: Final = asyncio.new_event_loop()


def bodies(region: lucet.Region) -> dict[str, Body]:
    hello = interface(Hostcalls, HELLO, region)
    cgi = interface(Cgi, CGI, region)
    compute = interface(Compute, COMPUTE, region)
    handler = interface(Handler, FILTER, region)
    found = {
        "a guest of the original's interface": answering(lambda e, r: guest.answer(hello, e, r)),
        "a guest of Compute's interface, seven calls": answering(lambda e, r: guest.answer(compute, e, r)),
        "a CGI program, text format": answering(lambda e, r: guest.answer(cgi, e, r)),
    }
    wasm = in_c()
    if wasm is not None:
        from_c = interface(Cgi, wasm, region)
        found["a CGI program in C"] = answering(lambda e, r: guest.answer(from_c, e, r))
    for count in (1, 2, 3):
        chain = (handler,) * count
        found[f"the first behind {count} filter{'s' * (count > 1)}"] = answering(
            lambda e, r, chain=chain: filters.answer(chain, hello, e, r)  # type: ignore[misc]
        )
    router = Router([Route(host=f"app{number}.example.test", target=number) for number in range(10_000)])
    split = Split([("a", 90), ("b", 10)], sticky="cookie:session")
    one = request()

    def routed(count: int) -> None:
        for _ in range(count):
            router.match(one)

    def split_up(count: int) -> None:
        for _ in range(count):
            split.choose(one)

    def named(count: int) -> None:
        for _ in range(count):
            normal_host("App77.example.test:8080")

    found["routing"] = routed
    found["a split by a cookie"] = split_up
    found["a Host header"] = named
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    samples = blocks({name: clocked(body) for name, body in bodies(lucet.Region(slots=8)).items()}, given.rounds)
    rows = []
    for name, values in samples.items():
        low, high = quartiles(values)
        rows.append([name, f"{statistics.median(values) / 1e3:.2f}", f"{low / 1e3:.2f} to {high / 1e3:.2f}"])
    print(table(["", "µs", "half of the rounds"], rows))
    print(f"\n{conditions(given.rounds)}")


if __name__ == "__main__":
    main()
