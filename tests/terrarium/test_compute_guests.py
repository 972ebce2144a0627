"""Compute: guests in text format, from their start to their end: WASI, what is not supported, and how they end."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from typing import Any

import pytest

import lucet
from lucet.terrarium.guest import answer
from lucet.terrarium.http import BytesBody, Request
from lucet.terrarium.limits import Limits
from lucet.terrarium.record import Record
from tests.kit.compute import Arriving, Never
from tests.kit.terrarium import App, MemoryExchange

SENDS = """
  (import "fastly_http_resp" "new" (func $response (param i32) (result i32)))
  (import "fastly_http_body" "new" (func $body (param i32) (result i32)))
  (import "fastly_http_body" "write" (func $write (param i32 i32 i32 i32 i32) (result i32)))
  (import "fastly_http_resp" "send_downstream" (func $send (param i32 i32 i32) (result i32)))
"""
ANSWER = """
  (func $answer (param $at i32) (param $size i32)
    (drop (call $response (i32.const 0)))
    (drop (call $body (i32.const 4)))
    (drop (call $write (i32.load (i32.const 4)) (local.get $at) (local.get $size) (i32.const 0) (i32.const 8)))
    (drop (call $send (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 0))))
"""


def guest(imports: str = "", code: str = "", start: str = "", data: str = "", **app: Any) -> App:
    """A program that imports something more, and starts with this."""
    text = f"""(module {SENDS} {imports}
      (memory (export "memory") 2) {data} {ANSWER} {code}
      (func (export "_start") (local $i i32) {start}))"""
    return App(lucet.Module.from_bytes(lucet.compile(text, opt_level="none")), **app)


WASI = '(import "wasi_snapshot_preview1" '


def test_nothing_is_answered_with_an_empty_200() -> None:
    result = guest().get("/")
    assert (result.status, result.headers, result.body) == (200, [], b"")


@pytest.mark.parametrize("status", [0, 3])
def test_ending_by_proc_exit(status: int) -> None:
    exits = WASI + '"proc_exit" (func $exit (param i32)))'
    result = guest(
        exits, start=f"(call $answer (i32.const 64) (i32.const 2)) (call $exit (i32.const {status}))",
        data='(data (i32.const 64) "ok")',
    ).get("/")  # fmt: skip
    assert (result.status, result.body) == (200, b"ok")
    assert result.record.fault == (f"exit status {status}" if status else None)
    result = guest(exits, start=f"(call $exit (i32.const {status}))").get("/")
    assert result.status == (500 if status else 200)


def test_a_trap_is_answered_with_500() -> None:
    result = guest(start="unreachable").get("/")
    assert result.status == 500
    assert "UNREACHABLE" in str(result.record.fault)


def test_what_is_not_supported_is_told_once() -> None:
    app = guest(
        '(import "fastly_shielding" "shield_info" (func $lookup (param i32 i32 i32 i32 i32) (result i32)))',
        start="""(i32.store8 (i32.const 64) (i32.add (i32.const 48)
            (call $lookup (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
            (call $answer (i32.const 64) (i32.const 1))""",
    )
    answers = [app.get("/") for _ in range(2)]
    assert [one.body for one in answers] == [b"5", b"5"]
    assert [one.record.log_lines for one in answers] == [["fastly_shielding.shield_info is not supported here"], None]


@pytest.mark.parametrize(
    "imports",
    [
        '(import "fastly_cache" "lookup" (func (param i32)))',
        '(import "fastly_http_resp" "close" (func (param i64) (result i32)))',
        '(import "env" "something" (func))',
        '(import "fastly_x" "memory" (global i32))',
        WASI + '"fd_write" (func (param i32)))',
    ],
)
def test_imports_that_cannot_be_linked(imports: str) -> None:
    with pytest.raises(lucet.LinkError):
        guest(imports)


# ---- WASI ----

PRINT = WASI + '"fd_write" (func $print (param i32 i32 i32 i32) (result i32)))'


def test_what_a_guest_prints() -> None:
    # Two lines and a part of one, on both streams.
    app = guest(
        PRINT,
        data=r'(data (i32.const 64) "one\ntwo\nthree") (data (i32.const 32) "\40\00\00\00\0d\00\00\00")',
        start="""(drop (call $print (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 8)))
                 (drop (call $print (i32.const 2) (i32.const 32) (i32.const 1) (i32.const 8)))""",
    )
    lines = app.get("/").record.log_lines
    assert lines == ["one", "two", "one", "two", "three", "three"]


def test_a_very_long_line() -> None:
    app = guest(
        PRINT,
        data=r'(data (i32.const 32) "\00\00\01\00\ff\ff\00\00")',
        start="""(loop $more
            (drop (call $print (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 8)))
            (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))""",
    )
    record = app.get("/").record
    assert record.log_lost > 500_000
    assert sum(map(len, record.log_lines or [])) <= app.limits.log_bytes


def test_environment_variables() -> None:
    app = guest(
        WASI + '"environ_get" (func $get (param i32 i32) (result i32)))'
        + WASI + '"environ_sizes_get" (func $sizes (param i32 i32) (result i32)))',
        start="""(drop (call $sizes (i32.const 16) (i32.const 20)))
                 (drop (call $get (i32.const 64) (i32.const 1024)))
                 (call $answer (i32.const 1024) (i32.load (i32.const 20)))""",
    )  # fmt: skip
    variables = dict(one.split("=") for one in app.get("/").body.decode().strip("\0").split("\0"))
    assert variables["FASTLY_SERVICE_ID"] == "application"
    assert variables["FASTLY_SERVICE_VERSION"] == "1"
    assert variables["FASTLY_TRACE_ID"] == "request-1"
    assert app.request("GET", "/", id="another").body.count(b"FASTLY_TRACE_ID=another") == 1


def test_environment_variables_out_of_bounds() -> None:
    app = guest(
        WASI + '"environ_get" (func $get (param i32 i32) (result i32)))'
        + WASI + '"environ_sizes_get" (func $sizes (param i32 i32) (result i32)))',
        start="""(i32.store8 (i32.const 64) (call $sizes (i32.const -4) (i32.const 20)))
                 (i32.store8 (i32.const 65) (call $get (i32.const 64) (i32.const 0x1fff0)))
                 (i32.store8 (i32.const 66) (call $get (i32.const -1) (i32.const 1024)))
                 (call $answer (i32.const 64) (i32.const 3))""",
    )  # fmt: skip
    assert app.get("/").body == bytes([21, 21, 21])


def test_instances_share_no_descriptors() -> None:
    app = guest(
        PRINT + WASI + '"fd_close" (func $close (param i32) (result i32)))',
        data=r'(data (i32.const 64) "x\n") (data (i32.const 32) "\40\00\00\00\02\00\00\00")',
        start="""(drop (call $print (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 8)))
                 (i32.store8 (i32.const 100) (i32.add (i32.const 48) (call $close (i32.const 1))))
                 (i32.store8 (i32.const 101) (i32.add (i32.const 48) (call $close (i32.const 1))))
                 (call $answer (i32.const 100) (i32.const 2))""",
    )
    for _ in range(2):
        result = app.get("/")
        assert result.body == b"08"
        assert result.record.log_lines == ["x"]


def test_clock_and_random_numbers() -> None:
    app = guest(
        WASI + '"clock_time_get" (func $time (param i32 i64 i32) (result i32)))'
        + WASI + '"random_get" (func $random (param i32 i32) (result i32)))',
        start="""(drop (call $time (i32.const 0) (i64.const 1) (i32.const 64)))
                 (drop (call $random (i32.const 72) (i32.const 16)))
                 (call $answer (i32.const 64) (i32.const 24))""",
    )  # fmt: skip
    before = time.time_ns()
    first, second = app.get("/").body, app.get("/").body
    assert before <= int.from_bytes(first[:8], "little") <= int.from_bytes(second[:8], "little") <= time.time_ns()
    assert first[8:] != second[8:]


SLEEPER = {
    "imports": WASI + '"poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))',
    # Subscriptions: userdata 7; a clock, monotonic, relative, 50 ms.
    "data": r'(data (i32.const 64) "\07") (data (i32.const 80) "\01") (data (i32.const 88) "\80\f0\fa\02")',
    "start": """(i32.store8 (i32.const 300) (i32.add (i32.const 48)
                    (call $poll (i32.const 64) (i32.const 200) (i32.const 1) (i32.const 232))))
                (i32.store8 (i32.const 301) (i32.add (i32.const 48) (i32.load (i32.const 232))))
                (i32.store8 (i32.const 302) (i32.add (i32.const 48) (i32.load (i32.const 200))))
                (call $answer (i32.const 300) (i32.const 3))""",
}


def test_sleeping_suspends_the_guest() -> None:
    app = guest(**SLEEPER)

    async def run() -> tuple[float, list[Any]]:
        begun = time.monotonic()
        answers = await asyncio.gather(*(app.answer("GET", "/") for _ in range(10)))
        return time.monotonic() - begun, answers

    took, answers = asyncio.run(run())
    assert took >= 0.05
    assert [one.body for one in answers] == [b"017"] * 10
    # They slept at the same time: had each made the others wait, the last would have run for half a second.
    assert all(one.record.cpu_time < 0.04 for one in answers)


def test_a_guest_that_sleeps_for_too_long() -> None:
    data = SLEEPER["data"].replace(r"\80\f0\fa\02", r"\ff\ff\ff\ff\ff\ff\ff\ff")
    result = guest(**{**SLEEPER, "data": data}, limits=Limits(wall_time=0.1)).get("/")
    assert result.status == 504
    assert result.record.limit == "wall_time"


# ---- a body that is sent back as it comes ----

ECHO = {
    "imports": """
      (import "fastly_http_req" "body_downstream_get" (func $get (param i32 i32) (result i32)))
      (import "fastly_http_body" "read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "fastly_http_body" "close" (func $close (param i32) (result i32)))""",
    "start": """
      (drop (call $get (i32.const 16) (i32.const 20)))
      (drop (call $response (i32.const 0)))
      (drop (call $body (i32.const 4)))
      (drop (call $send (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 1)))
      (block $end (loop $more
        (drop (call $read (i32.load (i32.const 20)) (i32.const 65536) (i32.const 65536) (i32.const 24)))
        (br_if $end (i32.eqz (i32.load (i32.const 24))))
        (drop (call $write (i32.load (i32.const 4)) (i32.const 65536) (i32.load (i32.const 24))
            (i32.const 0) (i32.const 8)))
        (br $more)))
      (drop (call $close (i32.load (i32.const 4))))""",
}


@pytest.mark.parametrize("body", [b"", b"text", b"x" * 300_000])
def test_an_echo(body: bytes) -> None:
    app = guest(**ECHO)
    assert app.request("POST", "/", body).body == body
    parts = [body[i : i + 1000] for i in range(0, len(body), 1000)]
    result = asyncio.run(app.answer("POST", "/", Arriving(*parts)))
    assert (result.body, result.ended) == (body, True)


def test_an_echo_of_a_body_that_stops() -> None:
    result = asyncio.run(guest(**ECHO, limits=Limits(wall_time=0.2)).answer("POST", "/", Never()))
    assert (result.status, result.ended, result.record.limit) == (200, False, "wall_time")


class Large:
    """A body of so many bytes, which is never anywhere as a whole."""

    def __init__(self, size: int) -> None:
        self.length = self.left = size

    def at_once(self) -> bytes | None:
        return None

    async def read(self, limit: int = 65536, /) -> bytes:
        size = min(limit, self.left)
        self.left -= size
        return bytes(size)


class Counting(MemoryExchange):
    """Counts the response, and how much of the request was under way when it came."""

    passed = 0
    most = 0

    async def write(self, data: bytes) -> None:
        self.passed += len(data)
        body: Any = self.request.body
        self.most = max(self.most, body.length - body.left - self.passed + len(data))
        await asyncio.sleep(0)


def test_mebibytes_pass_a_small_guest() -> None:
    """64 of them; `just terrarium-stream` makes it 1024."""
    size = int(os.environ.get("LUCET_STREAM_MIB", "64")) << 20
    app = guest(**ECHO, limits=Limits(cpu_time=600, wall_time=600, response_body=1 << 20))
    assert app.request("POST", "/", b"text").body == b"text"
    exchange = Counting(Request(method="POST", target="/", headers=[], body=Large(size)))
    record = Record(0.0, app.limits)

    async def run() -> None:
        rest = answer(app.served, exchange, record)
        assert rest is not None
        await rest

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    asyncio.run(run())
    assert (exchange.ended, record.fault, record.limit) == (True, None, None)
    assert exchange.passed == size
    assert exchange.most <= 65536
    assert record.memory == 2 * 65536
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10  # KiB


def test_requests_at_once_are_apart() -> None:
    app = guest(**ECHO)

    async def run() -> list[Any]:
        return await asyncio.gather(
            *(app.answer("POST", "/", Arriving(*[b"%d " % i] * 20)) for i in range(10)),
            *(app.answer("POST", "/", BytesBody(b"whole")) for _ in range(3)),
        )

    answers = asyncio.run(run())
    assert [one.body for one in answers] == [b"%d " % i * 20 for i in range(10)] + [b"whole"] * 3
