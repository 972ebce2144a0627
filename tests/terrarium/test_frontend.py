"""The HTTP/1.1 front end, byte by byte: what it answers, what it refuses, and what it does not wait for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")

from lucet.terrarium.frontend import Bounds, Connection, FrontEnd
from lucet.terrarium.http import ClientGone, Exchange, read_all

PATIENCE = 60.0
HEAD = b"Host: a.test\r\n"


class Client:
    """A connection, with what comes back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        """Each part in a packet of its own, as far as one can tell."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def response(self, *, head_only: bool = False) -> tuple[int, dict[bytes, bytes], bytes]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        first, *lines = head[:-4].split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        status = int(first.split()[1])
        body = b""
        if not head_only and status >= 200:
            if headers.get(b"transfer-encoding") == b"chunked":
                while size := int(await self.reader.readline(), 16):
                    body += await self.reader.readexactly(size)
                    assert await self.reader.readexactly(2) == b"\r\n"
                assert await self.reader.readexactly(2) == b"\r\n"
            elif b"content-length" in headers:
                body = await self.reader.readexactly(int(headers[b"content-length"]))
        return status, headers, body

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), PATIENCE)


Test = Callable[[Client], Awaitable[None]]


def serve(handle: Callable[[Exchange], Coroutine[Any, Any, None] | None], test: Test, **bounds: Any) -> FrontEnd:
    """Have a client talk to a front end; nothing is left of either."""

    async def run() -> FrontEnd:
        front = FrontEnd(handle, Bounds(**bounds))
        _, port = await front.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await test(Client(reader, writer))
        finally:
            writer.close()
            await front.close(5.0)
        await asyncio.sleep(0)
        assert not front.connections
        return front

    return asyncio.run(run())


def echo(exchange: Exchange) -> Coroutine[Any, Any, None] | None:
    request = exchange.request
    text = f"{request.method} {request.host} {request.target} {request.version}".encode()
    whole = request.body.at_once()
    if whole is not None:
        exchange.respond(200, [(b"content-type", b"text/plain")], text + b" " + whole)
        return None

    async def later() -> None:
        exchange.respond(200, [], text + b" " + await read_all(request.body, 1 << 24))

    return later()


def test_a_request_in_one_piece_and_in_single_bytes() -> None:
    async def test(client: Client) -> None:
        whole = b"GET /a?b=%20c HTTP/1.1\r\nHost: A.Test:8080\r\n\r\n"
        await client.send(whole)
        status, headers, body = await client.response()
        assert (status, body) == (200, b"GET a.test /a?b=%20c 1.1 ")
        assert headers[b"content-type"] == b"text/plain"
        assert headers[b"server"] == b"lucet" and headers[b"date"].endswith(b"GMT")
        await client.send(*(whole[i : i + 1] for i in range(len(whole))))
        assert (await client.response())[2] == b"GET a.test /a?b=%20c 1.1 "

    serve(echo, test)


def test_pipelined_requests_are_answered_in_their_order() -> None:
    def handle(exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        number = int(exchange.request.target[1:])
        if number % 3:
            exchange.respond(200, [], b"%d" % number)
            return None

        async def later() -> None:
            await asyncio.sleep(0.01)
            exchange.respond(200, [], b"%d" % number)

        return later()

    async def test(client: Client) -> None:
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\n%b\r\n" % (i, HEAD) for i in range(100)))
        assert [(await client.response())[2] for _ in range(100)] == [b"%d" % i for i in range(100)]

    serve(handle, test, pipelined=4)


def test_bodies_by_length_and_in_chunks() -> None:
    async def test(client: Client) -> None:
        await client.send(b"POST / HTTP/1.1\r\n%bContent-Length: 5\r\n\r\nhello" % HEAD)
        assert (await client.response())[2].endswith(b" hello")
        await client.send(b"POST / HTTP/1.1\r\n%bContent-Length: 10\r\n\r\nhello" % HEAD, b"world")
        assert (await client.response())[2].endswith(b" helloworld")
        chunks = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: ignored\r\n\r\n"
        await client.send(b"POST / HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % HEAD, chunks[:7], chunks[7:])
        assert (await client.response())[2].endswith(b" abcdefg")
        await client.send(b"GET /next HTTP/1.1\r\n%b\r\n" % HEAD)
        assert b"/next" in (await client.response())[2]

    serve(echo, test)


def test_large_bodies_stop_the_client_while_nobody_reads() -> None:
    most = 0

    def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
        async def later() -> None:
            nonlocal most
            await asyncio.sleep(0.1)
            size = 0
            while part := await exchange.request.body.read(10000):
                size += len(part)
                most = max(most, exchange.request.body.size)  # type: ignore[attr-defined]
            exchange.respond(200, [], b"%d" % size)

        return later()

    async def test(client: Client) -> None:
        client.writer.write(b"POST / HTTP/1.1\r\n%bContent-Length: 20000000\r\n\r\n" % HEAD)
        client.writer.write(bytes(20_000_000))
        assert (await client.response())[2] == b"20000000"
        assert most < 2_000_000

    serve(handle, test)


def test_streamed_responses() -> None:
    def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
        async def later() -> None:
            await exchange.start(201, [(b"x-a", b"1"), (b"Connection", b"nonsense"), (b"content-length", b"9999")])
            await exchange.write(b"abc")
            await exchange.write(b"")
            await exchange.write(b"defg")
            await exchange.end()

        return later()

    async def test(client: Client) -> None:
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD)
            status, headers, body = await client.response()
            assert (status, headers[b"x-a"], body) == (201, b"1", b"abcdefg")
            assert b"connection" not in headers and b"content-length" not in headers
        await client.send(b"HEAD / HTTP/1.1\r\n%b\r\n" % HEAD)
        assert (await client.response(head_only=True))[0] == 201
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert b"connection: close" in head and b"chunked" not in head and body == b"abcdefg"

    serve(handle, test)


def test_a_slow_reader_holds_the_writer_not_the_memory() -> None:
    written = 0

    def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
        async def later() -> None:
            nonlocal written
            await exchange.start(200, [])
            for _ in range(300):
                await exchange.write(bytes(65536))
                written += 65536
            await exchange.end()

        return later()

    async def test(client: Client) -> None:
        await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD)
        await asyncio.sleep(0.3)
        assert written < 15_000_000
        assert len((await client.response())[2]) == 300 * 65536

    serve(handle, test)


def test_responses_without_a_body() -> None:
    def handle(exchange: Exchange) -> None:
        exchange.respond(int(exchange.request.target[1:]), [], b"ignored" if exchange.request.target == "/204" else b"")

    async def test(client: Client) -> None:
        for status in (204, 304, 200):
            await client.send(b"GET /%d HTTP/1.1\r\n%b\r\n" % (status, HEAD))
            got, headers, body = await client.response()
            assert (got, body, b"content-length" in headers) == (status, b"", status == 200)

    serve(handle, test)


def test_a_guest_cannot_break_the_response() -> None:
    seen = []

    def handle(exchange: Exchange) -> None:
        for status, header in (
            (200, (b"a\r\nb", b"c")),
            (200, (b"a", b"b\r\nset-cookie: c")),
            (200, (b"a", b"b\0")),
            (200, (b"a b", b"c")),
            (200, (b"", b"c")),
            (100, (b"a", b"b")),
            (999, (b"a", b"b")),
        ):
            with pytest.raises(ValueError) as error:
                exchange.respond(status, [header])
            seen.append(str(error.value))
        exchange.respond(200, [(b"a", b"\x80 \t b")], b"ok")
        with pytest.raises(RuntimeError, match="already"):
            exchange.respond(200, [], b"twice")

    async def test(client: Client) -> None:
        await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD)
        assert (await client.response())[2] == b"ok"
        assert len(seen) == 7

    serve(handle, test)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET nonsense HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 400),
        (b"G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\nContent-Length: 1\r\n\r\n", 417),
        (b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 20000), 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"a" * 100000), 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100000, 431),  # a header without an end
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(head: bytes, status: int) -> None:
    async def test(client: Client) -> None:
        await client.send(head)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert answer.count(b"HTTP/1.1") == 1 and b"connection: close" in answer

    serve(echo, test)


def test_targets_in_absolute_form_and_the_asterisk() -> None:
    async def test(client: Client) -> None:
        await client.send(b"GET http://B.test:1/x?y HTTP/1.1\r\n%b\r\n" % HEAD)
        assert (await client.response())[2] == b"GET b.test /x?y 1.1 "
        await client.send(b"OPTIONS * HTTP/1.1\r\n%b\r\n" % HEAD)
        assert (await client.response())[2] == b"OPTIONS a.test * 1.1 "

    serve(echo, test)


def test_an_upgrade_is_not_taken_up() -> None:
    async def test(client: Client) -> None:
        await client.send(b"GET / HTTP/1.1\r\n%bConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /x" % HEAD)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 ") and answer.count(b"HTTP/1.1 ") == 1

    serve(echo, test)


def test_100_continue_is_sent_when_the_body_is_wanted() -> None:
    async def test(client: Client) -> None:
        await client.send(b"POST / HTTP/1.1\r\n%bExpect: 100-continue\r\nContent-Length: 5\r\n\r\n" % HEAD)
        assert (await client.response())[0] == 100
        await client.send(b"hello")
        assert (await client.response())[2].endswith(b" hello")

    serve(echo, test)


def test_a_body_that_nobody_reads() -> None:
    def handle(exchange: Exchange) -> None:
        exchange.respond(413, [], b"")

    async def small(client: Client) -> None:
        await client.send(b"POST / HTTP/1.1\r\n%bContent-Length: 8\r\n\r\nabcd" % HEAD)
        assert (await client.response())[0] == 413
        await client.send(b"efghGET / HTTP/1.1\r\n%b\r\n" % HEAD)
        assert (await client.response())[0] == 413

    async def large(client: Client) -> None:
        """Sends on, and gets the response all the same."""
        await client.send(b"POST / HTTP/1.1\r\n%bContent-Length: 80000000\r\n\r\nabcd" % HEAD)
        client.writer.write(bytes(20_000_000))
        assert (await client.rest()).startswith(b"HTTP/1.1 413 ")

    serve(handle, small)
    serve(handle, large)


def test_a_client_that_goes_away_ends_its_request() -> None:
    ends: list[str] = []

    def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
        async def later() -> None:
            try:
                if exchange.request.target == "/body":
                    await read_all(exchange.request.body, 1000)
                else:
                    await asyncio.sleep(1000)
            except BaseException as error:
                ends.append(type(error).__name__)
                raise

        return later()

    async def wait_for_end() -> None:
        async with asyncio.timeout(PATIENCE):
            while not ends:
                await asyncio.sleep(0.01)

    async def waiting(client: Client) -> None:
        await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD)
        await asyncio.sleep(0.05)
        client.writer.transport.abort()
        await wait_for_end()

    async def sending(client: Client) -> None:
        ends.clear()
        await client.send(b"POST /body HTTP/1.1\r\n%bContent-Length: 100\r\n\r\nabc" % HEAD)
        await asyncio.sleep(0.05)
        client.writer.transport.abort()
        await wait_for_end()

    serve(handle, waiting)
    assert ends == ["CancelledError"]
    serve(handle, sending)
    assert ends[0] in ("CancelledError", ClientGone.__name__)


def test_a_response_that_is_cut_off_is_seen_to_be() -> None:
    def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
        async def later() -> None:
            await exchange.start(200, [])
            await exchange.write(b"abc")

        return later()

    async def test(client: Client) -> None:
        await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD)
        assert (await client.rest()).endswith(b"3\r\nabc\r\n")  # and no last chunk

    serve(handle, test)


def test_a_handler_that_answers_nothing() -> None:
    async def test(client: Client) -> None:
        await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD)
        assert (await client.response())[0] == 500

    serve(lambda _: None, test)


def test_slow_heads_idle_connections_and_slow_bodies() -> None:
    async def slow_head(client: Client) -> None:
        await client.send(b"GET / HTT")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")

    async def idle(client: Client) -> None:
        await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD)
        assert (await client.response())[0] == 200
        assert await client.rest() == b""

    async def slow_body(client: Client) -> None:
        await client.send(b"POST / HTTP/1.1\r\n%bContent-Length: 1000000\r\n\r\na" % HEAD)
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")

    gone = []

    def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
        async def later() -> None:
            try:
                await read_all(exchange.request.body, 1 << 20)
            except ClientGone:
                gone.append(True)
                exchange.respond(408, [], b"")

        return later()

    serve(echo, slow_head, head_time=0.5)
    serve(echo, idle, idle_time=0.5)
    serve(handle, slow_body, stall_time=0.5, body_rate=10**9)
    assert gone


def test_a_client_that_does_not_take_its_response() -> None:
    ends: list[str] = []

    def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
        async def later() -> None:
            try:
                await exchange.start(200, [])
                while True:
                    await exchange.write(bytes(1 << 20))
            except BaseException as error:
                ends.append(type(error).__name__)
                raise

        return later()

    async def test(client: Client) -> None:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD)
        async with asyncio.timeout(PATIENCE):
            while not ends:
                await asyncio.sleep(0.05)

    serve(handle, test, stall_time=0.5)


def test_pipelined_responses_that_are_not_taken_are_not_made() -> None:
    made = 0

    def handle(exchange: Exchange) -> None:
        nonlocal made
        made += 1
        exchange.respond(200, [], bytes(1 << 20))

    async def test(client: Client) -> None:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD * 300)
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert 1 <= made < 50
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(300):
            assert len((await client.response())[2]) == 1 << 20
        await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD)
        assert (await client.response())[0] == 200

    serve(handle, test, pipelined=4)


def test_a_slow_client_that_takes_its_response_gets_all_of_it() -> None:
    size = 6 << 20

    async def test(client: Client) -> None:
        transport = client.writer.transport
        await client.send(b"GET / HTTP/1.1\r\nConnection: close\r\n%b\r\n" % HEAD)
        got = 0
        for _ in range(12):  # longer than stall_time, never as long without taking something
            transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.4)
            transport.resume_reading()  # type: ignore[attr-defined]
            got += len(await asyncio.wait_for(client.reader.read(512 << 10), PATIENCE))
        assert got + len(await client.rest()) > size

    serve(lambda exchange: exchange.respond(200, [], bytes(size)), test, stall_time=2.0)


def test_trailers_and_the_framing_of_chunks_are_bounded() -> None:
    async def test(client: Client) -> None:
        await client.send(b"POST / HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n0\r\nX: " % HEAD)
        with contextlib.suppress(OSError):
            for _ in range(100):
                await client.send(b"a" * 100_000)
        with contextlib.suppress(OSError):
            assert not (await client.rest()).startswith(b"HTTP/1.1 200 ")

    begun = time.monotonic()
    serve(echo, test, stall_time=PATIENCE, head_time=PATIENCE)
    assert time.monotonic() - begun < PATIENCE  # it did not take the end of its time


def test_a_head_may_follow_much_of_something_else() -> None:
    async def test(client: Client) -> None:
        first = b"POST /1 HTTP/1.1\r\n%bContent-Length: 200000\r\n\r\n" % HEAD + bytes(200_000)
        await client.send(first + b"GET /2 HT")
        assert (await client.response())[0] == 200
        await client.send(b"TP/1.1\r\n%b\r\n" % HEAD)
        assert b"/2" in (await client.response())[2]

    serve(echo, test, head_bytes=4096)


def test_a_request_whose_client_is_gone_before_it_begins_gives_back_what_it_has() -> None:
    """Pipelined behind another, which ends in the same turn of the loop as the connection."""
    events: list[str] = []
    first: asyncio.Future[None]

    def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
        async def answer(name: str) -> None:
            try:
                if name == "/1":
                    await first
                    exchange.respond(200, [], b"")
                else:
                    await asyncio.sleep(PATIENCE)
            finally:
                events.append(f"{name} over")

        events.append(f"{exchange.request.target} counted")
        return answer(exchange.request.target)

    async def run() -> None:
        nonlocal first
        loop = asyncio.get_running_loop()
        first = loop.create_future()
        front = FrontEnd(handle)
        _, port = await front.listen("127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /1 HTTP/1.1\r\n%b\r\nGET /2 HTTP/1.1\r\n%b\r\n" % (HEAD, HEAD))
        while not events or not next(iter(front.connections))._waiting:
            await asyncio.sleep(0)
        (connection,) = front.connections
        begin = connection._begin

        def begin_and_lose(exchange: Any) -> None:
            begin(exchange)
            connection.connection_lost(None)

        Connection._begin, kept = lambda self, exchange: begin_and_lose(exchange), Connection._begin  # type: ignore[method-assign]
        try:
            first.set_result(None)
            while "/2 over" not in events:
                await asyncio.wait_for(asyncio.sleep(0.001), PATIENCE)
                if connection._task is None and "/2 counted" in events:
                    break
        finally:
            Connection._begin = kept  # type: ignore[method-assign]
        assert events == ["/1 counted", "/1 over", "/2 counted", "/2 over"]
        writer.close()
        await front.close(1.0)

    asyncio.run(run())


def test_more_connections_than_there_may_be() -> None:
    async def test(client: Client) -> None:
        await client.send(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD)
        await client.response()
        host, port = client.writer.get_extra_info("peername")
        reader, writer = await asyncio.open_connection(host, port)
        assert (await asyncio.wait_for(reader.read(), PATIENCE)).startswith(b"HTTP/1.1 503 ")
        # The server has closed it whole: that the client does not is of no use to it.
        with pytest.raises(OSError):
            for _ in range(100):
                await Client(reader, writer).send(b"x")
                await asyncio.sleep(0.01)
        writer.close()

    serve(echo, test, connections=1)


def test_closing_lets_requests_end() -> None:
    async def run() -> None:
        begun = asyncio.Event()

        def handle(exchange: Exchange) -> Coroutine[Any, Any, None]:
            async def later() -> None:
                begun.set()
                await asyncio.sleep(0.2)
                exchange.respond(200, [], b"done")

            return later()

        front = FrontEnd(handle)
        _, port = await front.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n%b\r\n" % HEAD)
        await begun.wait()
        await front.close(PATIENCE)
        answer = await reader.read()
        assert answer.endswith(b"done") and b"connection: close" in answer
        assert await idle_reader.read() == b""
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        idle_writer.close()

    asyncio.run(run())
