"""Compute: bodies, streaming in both directions, and what the host holds of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lucet.terrarium.compute_table import Status
from lucet.terrarium.http import BodyTooLarge, ClientGone
from lucet.terrarium.limits import Limits
from tests.kit.compute import Arriving, Caller, Never
from tests.kit.terrarium import MemoryExchange

BACK, FRONT = 0, 1


# ---- reading and writing ----


def test_a_body_of_the_guest() -> None:
    with Caller() as guest:
        body = guest.good("fastly_http_body.new")
        assert guest.good("fastly_http_body.write", body, b"two", BACK) == 3
        assert guest.good("fastly_http_body.write", body, b"one", FRONT) == 3
        assert guest.good("fastly_http_body.write", body, b"three", BACK) == 5
        assert guest.status("fastly_http_body.write", body, b"x", 2) == Status.INVAL
        assert guest.good("fastly_http_body.known_length", body) == 11
        assert guest.good("fastly_http_body.read", body, room=4) == b"onet"
        assert guest.good("fastly_http_body.known_length", body) == 7
        assert guest.good("fastly_http_body.read", body, room=0) == b""
        assert guest.read(body) == b"wothree"
        assert guest.good("fastly_http_body.read", body) == b""
        assert guest.good("fastly_http_body.write", body, b"more", BACK) == 4
        assert guest.read(body) == b"more"
        assert guest.call("fastly_http_body.close", body) == (0,)
        assert guest.status("fastly_http_body.read", body) == Status.BADF


def test_appending_uses_up_the_other() -> None:
    with Caller() as guest:
        first, second = guest.body(b"one"), guest.body(b"two")
        assert guest.call("fastly_http_body.append", first, second) == (0,)
        assert guest.read(first) == b"onetwo"
        assert guest.status("fastly_http_body.append", first, second) == Status.BADF
        assert guest.status("fastly_http_body.read", second) == Status.BADF


def test_a_body_is_not_appended_to_itself() -> None:
    with Caller() as guest:
        body = guest.body(b"one")
        assert guest.status("fastly_http_body.append", body, body) == Status.BADF
        assert guest.visit.store.held == 0


def test_the_requests_body_arrives() -> None:
    with Caller("POST", body=Arriving(b"one", b"two", b"three")) as guest:
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        assert guest.status("fastly_http_body.known_length", body) == Status.NONE
        assert guest.good("fastly_http_body.read", body) == b"one"
        assert guest.good("fastly_http_body.read", body, room=1) == b"t"
        assert guest.read(body) == b"wothree"


def test_the_length_of_a_body_that_arrives() -> None:
    with Caller("POST", body=Arriving(b"text", length=4)) as guest:
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        assert guest.good("fastly_http_body.known_length", body) == 4
        assert guest.good("fastly_http_body.write", body, b"head", FRONT) == 4
        assert guest.good("fastly_http_body.known_length", body) == 8


def test_something_before_and_after_what_arrives() -> None:
    with Caller("POST", body=Arriving(b"two", b"three")) as guest:
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        guest.good("fastly_http_body.write", body, b"one", FRONT)
        guest.good("fastly_http_body.write", body, b"four", BACK)
        other = guest.body(b"zero")
        assert guest.call("fastly_http_body.append", other, body) == (0,)
        assert guest.read(other) == b"zeroonetwothreefour"


def test_what_was_read_ahead_is_not_lost() -> None:
    with Caller("POST", body=Arriving(b"one", b"two")) as guest:
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        assert guest.good("fastly_async_io.is_ready", body) == 0
        other = guest.body(b"zero")
        assert guest.call("fastly_http_body.append", other, body) == (0,)
        assert guest.read(other) == b"zeroonetwo"


def test_what_was_read_ahead_is_read_in_pieces() -> None:
    with Caller("POST", body=Arriving(b"0123456789" * 10, b"end")) as guest:
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        assert guest.good("fastly_async_io.is_ready", body) == 0
        other = guest.body()
        assert guest.call("fastly_http_body.append", other, body) == (0,)
        assert guest.good("fastly_http_body.read", other, room=7) == b"0123456"
        assert guest.read(other, room=8) == (b"0123456789" * 10)[7:] + b"end"
        assert guest.visit.store.held == 0


def test_the_length_of_what_is_left_is_not_known() -> None:
    with Caller("POST", body=Arriving(b"one", b"two", length=6)) as guest:
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        assert guest.good("fastly_http_body.known_length", body) == 6
        assert guest.good("fastly_http_body.read", body) == b"one"
        assert guest.status("fastly_http_body.known_length", body) == Status.NONE
        other = guest.body(b"zero")
        assert guest.call("fastly_http_body.append", other, body) == (0,)
        assert guest.status("fastly_http_body.known_length", other) == Status.NONE
        assert guest.read(other) == b"zerotwo"
        assert guest.good("fastly_http_body.known_length", other) == 0


def test_a_whole_body_that_is_more_than_may_be_held() -> None:
    with Caller("POST", body=b"x" * 50_000, limits=Limits(response_body=20_000)) as guest:
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        assert guest.good("fastly_http_body.known_length", body) == 50_000
        assert len(guest.read(body)) == 50_000
        assert guest.visit.store.held == 0


def test_a_body_that_is_ready() -> None:
    with Caller("POST", body=Arriving(b"one", b"two")) as guest:
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        assert guest.good("fastly_async_io.is_ready", body) == 0
        assert guest.good("fastly_async_io.select", [body], 0) == 0
        assert guest.good("fastly_async_io.is_ready", body) == 1
        assert guest.status("fastly_http_body.write", body, b"x", FRONT) == Status.AGAIN
        assert guest.good("fastly_http_body.read", body) == b"one"
        assert guest.read(body) == b"two"


@pytest.mark.parametrize("error", [ClientGone("gone"), BodyTooLarge("large")])
def test_a_client_that_does_not_finish_ends_the_guest(error: Exception) -> None:
    with Caller("POST", body=Arriving(b"one", error)) as guest:
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        assert guest.good("fastly_http_body.read", body) == b"one"
        with pytest.raises(type(error)):
            guest.call("fastly_http_body.read", body)


# ---- what the host holds ----


def test_the_host_holds_so_much_and_no_more() -> None:
    with Caller(limits=Limits(response_body=100_000)) as guest:
        body = guest.body(b"x" * 65536)
        assert guest.status("fastly_http_body.write", body, b"x" * 65536, BACK) == Status.LIMITEXCEEDED
        assert guest.good("fastly_http_body.known_length", body) == 65536
        # What is read, or closed, makes room again.
        assert len(guest.read(body)) == 65536
        assert guest.good("fastly_http_body.write", body, b"x" * 65536, BACK) == 65536
        other = guest.body()
        assert guest.status("fastly_http_body.write", other, b"x" * 65536, BACK) == Status.LIMITEXCEEDED
        assert guest.call("fastly_http_body.append", other, body) == (0,)
        assert guest.call("fastly_http_body.close", other) == (0,)
        assert guest.visit.store.held == 0
        assert guest.status("fastly_secret_store.from_bytes", b"x" * 65536) == 0
        assert guest.status("fastly_secret_store.from_bytes", b"x" * 65536) == Status.LIMITEXCEEDED


def test_a_large_write() -> None:
    data = bytes(range(256)) * (13 << 10)
    with Caller() as guest:
        body = guest.body()
        for _ in range(2):
            at, written = guest.put(data), guest.room(4)
            assert guest.raw("fastly_http_body.write", body, at, len(data), BACK, written) == 0
            assert guest.memory.read_u32(written) == len(data)
            guest.at = at
        assert guest.read(body) == data * 2


@pytest.mark.parametrize("end", [BACK, FRONT])
def test_small_writes_cost_little(end: int) -> None:
    with Caller() as guest:
        body = guest.body()
        numbers = guest.arguments("fastly_http_body.write", body, b"ab", end)
        for _ in range(1000):
            assert guest.raw("fastly_http_body.write", *numbers) == 0
        content = guest.visit.handles[body]
        assert len(content.parts) == 1
        assert guest.read(body) == b"ab" * 1000


def test_small_parts_are_counted_as_what_they_cost() -> None:
    with Caller(limits=Limits(response_body=10_000)) as guest:
        body = guest.body()
        refused = 0
        for _ in range(1000):
            part = guest.good("fastly_http_body.new")
            status = guest.status("fastly_http_body.write", part, b"x", BACK)
            refused += status == Status.LIMITEXCEEDED
            assert guest.call("fastly_http_body.append", body, part) == (0,)
        assert refused > 500


# ---- the response ----


def send(guest: Caller, body: int, streaming: int, status: int = 200) -> int:
    response = guest.good("fastly_http_resp.new")
    guest.good("fastly_http_resp.status_set", response, status)
    guest.good("fastly_http_resp.header_insert", response, b"X-Test", b"yes")
    return guest.status("fastly_http_resp.send_downstream", response, body, streaming)


def test_a_whole_response() -> None:
    with Caller() as guest:
        body = guest.body(b"text")
        assert send(guest, body, 0, 201) == 0
        exchange = guest.exchange
        assert (exchange.status, exchange.headers, exchange.parts) == (201, [(b"x-test", b"yes")], [b"text"])
        assert guest.status("fastly_http_body.write", body, b"x", BACK) == Status.BADF
        assert send(guest, guest.body(), 0) == Status.ERROR
        assert guest.visit.returned(0) is None


def test_a_response_as_it_is_written() -> None:
    with Caller() as guest:
        body = guest.body(b"before")
        assert send(guest, body, 1) == 0
        exchange: Any = guest.exchange
        assert exchange.parts == [b"before"]
        assert guest.good("fastly_http_body.write", body, b"one", BACK) == 3
        assert exchange.parts == [b"before", b"one"]
        assert not exchange.ended
        assert guest.call("fastly_http_body.append", body, guest.body(b"two")) == (0,)
        assert guest.status("fastly_http_body.write", body, b"x", FRONT) == Status.BADF
        assert guest.status("fastly_http_body.read", body) == Status.BADF
        assert guest.status("fastly_http_body.known_length", body) == Status.NONE
        # Where something is wanted that can be read, it is refused, and goes on.
        assert guest.status("fastly_http_body.append", guest.body(), body) == Status.BADF
        store = guest.good("fastly_object_store.open", "things")
        assert guest.status("fastly_object_store.insert", store, "key", body) == Status.BADF
        assert (
            guest.status("fastly_http_resp.send_downstream", guest.good("fastly_http_resp.new"), body, 0) == Status.BADF
        )
        assert guest.good("fastly_async_io.is_ready", body) == 1
        assert guest.call("fastly_http_body.close", body) == (0,)
        assert exchange.ended
        assert exchange.parts == [b"before", b"one", b"two"]
        assert guest.status("fastly_http_body.write", body, b"x", BACK) == Status.BADF


def test_large_writes_are_passed_on_in_pieces() -> None:
    with Caller() as guest:
        body = guest.body()
        assert send(guest, body, 1) == 0
        assert guest.good("fastly_http_body.write", body, b"x" * 200_000, BACK) == 200_000
        assert [len(part) for part in guest.exchange.parts] == [65536, 65536, 65536, 200_000 - 3 * 65536]


def test_an_abandoned_response_is_not_ended() -> None:
    with Caller() as guest:
        body = guest.body(b"part")
        assert send(guest, body, 1) == 0
        assert guest.call("fastly_http_body.abandon", body) == (0,)
        assert guest.visit.returned(0) is None
        assert not guest.exchange.ended


def test_a_response_that_arrives_goes_on_without_the_guest() -> None:
    with Caller("POST", body=Arriving(b"one", b"two")) as guest:
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        assert send(guest, body, 0) == 0
        rest = guest.visit.returned(0)
        assert rest is not None
        guest.loop.run_until_complete(rest)
        assert guest.exchange.parts == [b"one", b"two"]
        assert guest.exchange.ended


def test_a_client_that_goes_away_ends_a_response_that_arrives() -> None:
    with Caller("POST", body=Arriving(b"one", ClientGone("gone"))) as guest:
        assert send(guest, guest.good("fastly_http_req.body_downstream_get")[1], 0) == 0
        rest = guest.visit.returned(0)
        assert rest is not None
        with pytest.raises(ClientGone):
            guest.loop.run_until_complete(rest)
        assert not guest.exchange.ended


def test_a_response_that_arrives_ends_with_the_request() -> None:
    with Caller("POST", body=Never()) as guest:
        assert send(guest, guest.good("fastly_http_req.body_downstream_get")[1], 0) == 0
    assert not guest.visit.tasks


@pytest.mark.parametrize("status", [100, 103, 199, 600, 999])
def test_a_status_that_ends_no_response(status: int) -> None:
    with Caller() as guest:
        assert send(guest, guest.body(), 0, status) == Status.HTTPUSER
        assert guest.exchange.status == 0
        assert send(guest, guest.body(), 0) == 0


def test_a_slow_client_makes_the_guest_wait() -> None:
    class Slow(MemoryExchange):
        gate: Any = None

        async def write(self, data: bytes) -> None:
            self.parts.append(data)
            self.gate = asyncio.get_running_loop().create_future()
            await self.gate

    with Caller(exchange=Slow) as guest:
        body = guest.body()
        assert send(guest, body, 1) == 0
        numbers = guest.arguments("fastly_http_body.write", body, b"x", BACK)

        async def run() -> None:
            writing = asyncio.ensure_future(guest._raw("fastly_http_body.write", tuple(numbers)))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not writing.done()
            exchange: Any = guest.exchange
            exchange.gate.set_result(None)
            assert await writing == 0

        guest.loop.run_until_complete(run())


# ---- trailers ----


def test_trailers() -> None:
    with Caller() as guest:
        body = guest.body(b"text")
        assert guest.call("fastly_http_body.trailer_append", body, b"X-A", b"1") == (0,)
        assert guest.call("fastly_http_body.trailer_append", body, b"x-a", b"2") == (0,)
        assert guest.status("fastly_http_body.trailer_append", body, b"x a", b"2") == Status.HTTPINVALID
        assert guest.status("fastly_http_body.trailer_names_get", body) == Status.AGAIN
        assert guest.read(body) == b"text"
        assert guest.good("fastly_http_body.trailer_names_get", body) == (b"x-a\0", -1)
        assert guest.good("fastly_http_body.trailer_value_get", body, b"x-a") == b"1"
        assert guest.call("fastly_http_body.trailer_value_get", body, b"x-a", room=0) == (Status.BUFLEN, 1)
        assert guest.good("fastly_http_body.trailer_values_get", body, b"x-a") == (b"1\x002\0", -1)
        assert guest.status("fastly_http_body.trailer_value_get", body, b"x-b") == Status.INVAL


def test_too_many_trailers() -> None:
    with Caller() as guest:
        numbers = guest.arguments("fastly_http_body.trailer_append", guest.body(), b"x", b"y" * 1000)
        statuses = [guest.raw("fastly_http_body.trailer_append", *numbers) for _ in range(200)]
        assert statuses[0] == 0
        assert statuses[-1] == Status.HTTPHEADTOOLARGE
