"""Guests that ask this server itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from lucet.terrarium import guest
from lucet.terrarium.http import Exchange, Headers, OutgoingFailed, OutgoingRequest, read_all
from lucet.terrarium.limits import Limits
from lucet.terrarium.outgoing import Client
from lucet.terrarium.own import OwnHosts
from lucet.terrarium.record import Record
from lucet.terrarium.router import Route, Router
from tests.kit.hostcalls import Script, module
from tests.kit.terrarium import Answer, App


def test_a_guest_asks_another_one_and_itself() -> None:
    asked = []

    async def run() -> Answer:
        def handle(exchange: Exchange) -> Coroutine[Any, Any, None] | None:
            asked.append((exchange.request.host, exchange.request.target, exchange.request.scheme))
            return guest.answer(other.served, exchange, Record(0.0, Limits()))

        client = Client(own=OwnHosts(lambda host: host == "other.test", handle))
        other = App(module())
        first = App(module(), outgoing=client.outgoing(["*://other.test"], Limits()))
        inner = Script(dump=False)
        inner.call("resp_set_body", 0, b"from the other")
        inner.call("resp_set_response_code", 0, 202)
        outer = Script()
        outer.call("req_create", b"POST", b"https://OTHER.test/path?query")
        outer.call("req_set_body", 1, inner.body())
        outer.call("req_send", 1)
        outer.call("resp_get_response_code", 3)
        body = outer.room()
        outer.call("resp_get_body", body, body + 4, 3)
        answer = await first.answer("POST", "/", outer.body())
        await client.close()
        assert b"from the other" in answer.body
        return answer

    answer = asyncio.run(run())
    assert answer.record.fault is None
    assert asked == [("other.test", "/path?query", "https")]


async def ask(handle: Any, url: str = "http://own.test/") -> tuple[int, Headers, bytes]:
    answer = OwnHosts(lambda host: host == "own.test", handle)(OutgoingRequest(method="GET", url=url))
    assert answer is not None
    response = await answer
    return response.status, response.headers, await read_all(response.body, 1 << 20)


def test_responses_in_parts() -> None:
    async def parts(exchange: Exchange) -> None:
        exchange.added = [(b"set-cookie", b"x=y")]
        await exchange.start(201, [(b"a", b"b")])
        for _ in range(10):
            await exchange.write(b"part ")
        await exchange.end()

    assert asyncio.run(ask(parts)) == (201, [(b"a", b"b"), (b"set-cookie", b"x=y")], b"part " * 10)


@pytest.mark.parametrize("where", ["before", "within"])
def test_responses_that_break_off(where: str) -> None:
    async def broken(exchange: Exchange) -> None:
        if where == "within":
            await exchange.start(200, [])
            await exchange.write(b"half")

    async def run() -> None:
        with pytest.raises(OutgoingFailed):
            await ask(broken)

    asyncio.run(run())


def test_what_is_not_ours() -> None:
    async def run() -> None:
        own = OwnHosts(lambda host: host == "own.test", lambda exchange: None)
        for url in ("http://other.test/", "http://own.test.evil/", "http://[own.test/", "nonsense"):
            assert own(OutgoingRequest(method="GET", url=url)) is None

    asyncio.run(run())


def test_which_hosts_a_router_names() -> None:
    routes = [Route(target=1, host="a.test", path="/"), Route(target=2, host="*.b.test", path="/x/...")]
    router = Router([*routes, Route(target=3, host="*", path="/...")])
    assert [router.names(host) for host in ("a.test", "x.b.test", "b.test", "c.test")] == [True, True, False, False]
