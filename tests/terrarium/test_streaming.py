"""A CGI program behind a filter, over HTTP: bodies pass in both directions while they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lucet.terrarium.catalogue import FilterUse
from lucet.terrarium.environment import NoOutgoing
from lucet.terrarium.limits import Limits
from tests.kit.catalogue import MemoryCatalogue
from tests.kit.cgi import ECHO
from tests.kit.handlers import PASS, T, handler
from tests.kit.terrarium import DictKeys

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")

PATIENCE = 60
PIECE = 50_000
FILTER = handler(
    f"(call $set_header_value (i32.const 0) {T('x-user')} {T('ada')}) {PASS}",
    f"(call $set_header_value (i32.const 1) {T('x-filter')} {T('seen')})",
)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    from lucet.terrarium.frontend import FrontEnd
    from lucet.terrarium.server import Server

    limits = Limits(cpu_time=30.0, wall_time=120.0)
    catalogue = MemoryCatalogue()
    catalogue.deploy("tenant", "filter", FILTER, limits=limits)
    catalogue.deploy(
        "tenant", "echo", ECHO, "*", interface="cgi", limits=limits, filters=(FilterUse(application="filter"),)
    )
    server = Server(catalogue, keys=lambda tenant, limits: DictKeys(), outgoing=lambda deployment: NoOutgoing)
    front = FrontEnd(server.handle)
    address, port = await front.listen("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(address, port)
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
    finally:
        await front.close(0.1)
        assert server.region.used == 0, "what is cut off is gone"
        server.close()
        writer.transport.abort()


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readline(), 16)
    return (await reader.readexactly(size + 2))[:-2]


def test_what_is_sent_comes_back_before_the_rest_is_sent() -> None:
    async def run() -> None:
        async with connected() as (reader, writer):
            count = 60
            writer.write(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: %d\r\n\r\n" % (count * PIECE))
            received = b""
            for number in range(count):
                writer.write(bytes([number]) * PIECE)
                if number == 4:
                    answered = await head(reader)
                    assert answered.startswith(b"HTTP/1.1 200 OK\r\n")
                    assert b"x-filter: seen\r\n" in answered
                    received += await chunk(reader)
            while part := await chunk(reader):
                received += part
            assert received == b"".join(bytes([number]) * PIECE for number in range(count))
            # And the connection serves the next request.
            writer.write(b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            assert b"content-length: 3\r\n" in await head(reader)
            assert await reader.readexactly(3) == b"abc"

    asyncio.run(run())


def test_a_client_that_does_not_read_holds_up_nobody_but_its_guest() -> None:
    async def run() -> None:
        async with connected() as (_, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000000000\r\n\r\n")
            sent = 0
            try:
                while True:
                    async with asyncio.timeout(1.0):
                        writer.write(bytes(1_000_000))
                        await writer.drain()
                    sent += 1_000_000
                    assert sent < 500_000_000, "somebody keeps it all"
            except TimeoutError:
                pass  # nothing more is taken: the guest waits for us to read
            other_reader, other = await asyncio.open_connection(*writer.get_extra_info("peername"))
            other.write(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n\r\nhi")
            assert b"x-filter: seen\r\n" in await head(other_reader)
            assert await other_reader.readexactly(2) == b"hi"
            other.close()

    asyncio.run(run())
