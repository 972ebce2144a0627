"""CGI: bodies in both directions as they come, and programs that sleep, are many, or are cut off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lucet.terrarium.limits import Limits
from tests.kit.cgi import ECHO, ENVIRONMENT, HEAD, Told, app, program
from tests.kit.terrarium import Answer, App, Arriving, MemoryExchange


@pytest.fixture(scope="module")
def environment() -> App:
    return app(ENVIRONMENT)


class Watched(MemoryExchange):
    """The one that was made last can be looked at."""

    last: Watched | None = None

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        Watched.last = self


def writing(count: int) -> str:
    """Writes `count` pieces of 64 KiB."""
    return program(
        f"""(local $i i32)
        (memory.fill (i32.const 65536) (i32.const 120) (i32.const 65536))
        (call $put (i32.const 1) (i32.const 1024) (i32.const 26))
        (loop $l
          (call $put (i32.const 1) (i32.const 65536) (i32.const 65536))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $l (i32.lt_u (local.get $i) (i32.const {count}))))""",
        HEAD,
    )


def test_a_large_body_is_sent_in_parts() -> None:
    answer = app(writing(100)).get("/")
    assert answer.status == 200
    assert answer.ended
    assert answer.body == b"x" * 6_553_600
    assert max(map(len, answer.exchange.parts)) == 65536


def test_the_limit_of_a_body() -> None:
    limits = Limits(cpu_time=20.0, response_body=1_000_000)
    answer = app(writing(100), limits=limits).get("/")
    assert answer.record.limit == "response_body"
    assert not answer.ended, "cut off"
    assert len(answer.body) < 1_000_000
    at_once = app(writing(100), limits=Limits(cpu_time=20.0, response_body=1000)).get("/")
    assert at_once.status == 503


SLEEPY = program(
    """
    (call $put (i32.const 1) (i32.const 1024) (i32.const 26))
    (call $put (i32.const 1) (i32.const 1024) (i32.const 12))
    (call $sleep (i64.const 300_000_000))
    (call $put (i32.const 1) (i32.const 1036) (i32.const 12))""",
    HEAD,
)


def test_a_program_that_sleeps_keeps_nobody_waiting_and_has_sent_what_it_wrote() -> None:
    async def run() -> tuple[Answer, list[bytes]]:
        one = app(SLEEPY, exchange=Watched)
        task = asyncio.ensure_future(one.answer("GET", "/"))
        while Watched.last is None or not Watched.last.parts:
            await asyncio.sleep(0.001)
        before = list(Watched.last.parts)
        assert not task.done()
        return await task, before

    answer, before = asyncio.run(run())
    assert before == [b"Content-Type"]
    assert answer.body == b"Content-Type: text/plain"
    assert answer.ended


def test_a_request_that_is_cancelled_while_its_program_sleeps() -> None:
    async def run() -> Answer:
        one = app(SLEEPY)
        task = asyncio.ensure_future(one.answer("GET", "/"))
        await asyncio.sleep(0.05)
        assert one.served.environment.region.used == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert one.served.environment.region.used == 0
        return await one.answer("GET", "/")

    assert asyncio.run(run()).body == b"Content-Type: text/plain"


def test_sleeping_is_within_the_wall_time() -> None:
    forever = program("(call $sleep (i64.const 1_000_000_000_000))")
    answer = app(forever, limits=Limits(wall_time=0.1)).get("/")
    assert (answer.status, answer.record.limit) == (504, "wall_time")


def test_a_body_is_read_as_it_arrives() -> None:
    echo = app(ECHO)
    assert echo.request("POST", "/", b"at once").body == b"at once"
    answer = echo.request("POST", "/", Arriving(b"one ", b"two ", b"x" * 1_000_000))  # type: ignore[arg-type]
    assert answer.body == b"one two " + b"x" * 1_000_000
    assert echo.request("POST", "/").body == b""


def test_a_body_of_unknown_length_is_measured_if_it_is_small(environment: App) -> None:
    def length(body: Any) -> str | None:
        return Told(environment.request("POST", "/", body)).variables.get("CONTENT_LENGTH")

    assert length(Arriving(b"one ", b"two")) == "7"
    assert length(Arriving()) is None
    assert length(Arriving(*[b"x" * 65536] * 15)) == "983040"
    assert length(Arriving(*[b"x" * 65536] * 16)) is None, "large: as it arrives"
    assert length(Arriving(b"one", length=3)) == "3"


def test_a_body_that_never_comes() -> None:
    class Never(Arriving):
        async def read(self, limit: int = 65536, /) -> bytes:
            await asyncio.sleep(60)
            return b""

    answer = app(ECHO, limits=Limits(wall_time=0.1)).request("POST", "/", Never())  # type: ignore[arg-type]
    assert (answer.status, answer.record.limit) == (504, "wall_time")


def test_a_body_that_breaks_off() -> None:
    class Broken(Arriving):
        async def read(self, limit: int = 65536, /) -> bytes:
            from lucet.terrarium.http import ClientGone

            raise ClientGone("gone")

    answer = app(ECHO).request("POST", "/", Broken())  # type: ignore[arg-type]
    assert answer.status == 0
    assert answer.record.fault == "client gone"


def test_nothing_of_a_request_is_left_for_the_next(environment: App) -> None:
    first = Told(environment.request("POST", "/secret?token=1", b"body", [(b"x-secret", b"s")]))
    assert first.variables["HTTP_X_SECRET"] == "s"
    second = Told(environment.get("/"))
    assert not {"HTTP_X_SECRET", "CONTENT_LENGTH"} & set(second.variables)
    assert second.arguments == ["/"]
    # A program that has closed its streams, and one after it.
    closing = app(
        program(
            """(call $put (i32.const 1) (i32.const 1024) (i32.const 26))
            (if (call $close (i32.const 1)) (then (unreachable)))""",
            HEAD,
        ).replace(
            "(memory", '(import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32))) (memory', 1
        )
    )
    assert [closing.get("/").status for _ in range(3)] == [200, 200, 200]


def test_many_at_once() -> None:
    async def run() -> list[Answer]:
        one = app(SLEEPY)
        return await asyncio.gather(*(one.answer("GET", f"/{n}") for n in range(12)))

    answers = asyncio.run(run())
    assert {(one.status, one.body) for one in answers} == {(200, b"Content-Type: text/plain")}
