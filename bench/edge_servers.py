"""The servers that bench.edge compares, each in a process of its own: `python -m bench.edge_servers KIND PORT`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

BODY: Final = b"Hello, world!"

HELLO: Final = """(module
  (import "env" "hostcall_init_mm" (func $init_mm (param i32 i32)))
  (import "env" "hostcall_resp_set_header" (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
  (memory (export "memory") 17)
  (table 3 funcref)
  (elem (i32.const 1) $malloc $free)
  (data (i32.const 16) "content-type" "text/plain")
  (data (i32.const 64) "\\1c\\00\\00\\00\\0a\\00\\00\\00")
  (data (i32.const 128) "Hello, world!")
  (global $top (mut i32) (i32.const 65536))
  (func $malloc (param i32) (result i32)
    (global.get $top) (global.set $top (i32.add (global.get $top) (local.get 0))))
  (func $free (param i32))
  (func (export "run")
    (call $init_mm (i32.const 1) (i32.const 2))
    (drop (call $header (i32.const 0) (i32.const 16) (i32.const 12) (i32.const 64) (i32.const 1)))
    (drop (call $body (i32.const 0) (i32.const 128) (i32.const 13)))))
"""
"""A guest of the original's interface, as its template for the text format was."""


def front_end(port: int) -> None:
    """Lucet's front end with a handler in Python, and nothing else."""
    import uvloop

    from lucet.terrarium.frontend import FrontEnd
    from lucet.terrarium.http import Exchange

    def handle(exchange: Exchange) -> None:
        exchange.respond(200, [(b"content-type", b"text/plain")], BODY)

    async def main() -> None:
        await FrontEnd(handle).listen("127.0.0.1", port)
        await asyncio.Event().wait()

    uvloop.run(main())


def uvicorn(port: int) -> None:
    import uvicorn

    async def app(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        access_log=False,
        log_level="warning",
        loop="uvloop",
        http="httptools",
        lifespan="off",
    )


KINDS: Final = {"front-end": front_end, "uvicorn": uvicorn}

if __name__ == "__main__":
    KINDS[sys.argv[1]](int(sys.argv[2]))
