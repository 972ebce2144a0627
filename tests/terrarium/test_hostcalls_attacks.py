"""The interface hostcalls: guests that mean harm, and what WASI there is for those that do not."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from lucet.terrarium.http import OutgoingRequest, OutgoingResponse
from lucet.terrarium.limits import Limits
from tests.kit.hostcalls import SIGNATURES, Script, module
from tests.kit.hostcalls import app_with_world as app
from tests.kit.terrarium import App

ENDLESS = {
    "hostcalls": """(module (import "env" "hostcall_rng_next_u64" (func (result i64)))
      (func $start (loop $again (br $again))) (start $start) (func (export "run")))""",
    "initialize": """(module (import "env" "hostcall_rng_next_u64" (func (result i64)))
      (func (export "_initialize") (loop $again (br $again))) (func (export "run")))""",
    "calls": """(module (import "env" "hostcall_rng_next_u64" (func $next (result i64)))
      (func (export "run") (loop $again (drop (call $next)) (br $again))))""",
    "cgi": """(module (func $start (loop $again (br $again))) (start $start) (func (export "_start")))""",
    "compute": """(module (import "fastly_abi" "init" (func (param i64) (result i32))) (memory (export "memory") 1)
      (func $start (loop $again (br $again))) (start $start) (func (export "_start")))""",
    "filter": """(module (func $start (loop $again (br $again))) (start $start) (memory (export "memory") 1)
      (func (export "handle_request") (result i64) (i64.const 1))
      (func (export "handle_response") (param i32 i32)))""",
}


@pytest.mark.parametrize("guest", ENDLESS)
def test_what_never_ends_is_ended(guest: str) -> None:
    """A start function, too; and meanwhile the event loop goes on."""
    turns = 0

    async def both() -> None:
        nonlocal turns
        endless = asyncio.create_task(App(ENDLESS[guest], limits=Limits(cpu_time=0.1)).answer("GET", "/"))
        while not endless.done():
            await asyncio.sleep(0)
            turns += 1
        answer = await endless
        assert (answer.status, answer.record.limit) == (503, "cpu_time")

    asyncio.run(both())
    assert turns > 10


def test_a_start_function_asks_the_host() -> None:
    """As programs in AssemblyScript do: what stands outside of functions is one."""
    answer = App("""(module
      (import "env" "hostcall_init_mm" (func $init_mm (param i32 i32)))
      (import "env" "hostcall_req_get_method" (func $method (param i32 i32 i32)))
      (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
      (memory 1) (table funcref (elem $malloc))
      (func $malloc (param i32) (result i32) (i32.const 1024))
      (func $start (call $init_mm (i32.const 0) (i32.const 0))) (start $start)
      (func (export "run")
        (call $method (i32.const 16) (i32.const 20) (i32.const 0))
        (drop (call $body (i32.const 0) (i32.load (i32.const 16)) (i32.load (i32.const 20))))))""").get("/")
    assert (answer.record.fault, answer.body) == (None, b"GET")


def test_an_endless_number_of_calls_of_malloc() -> None:
    """Each is short, and has a slice of its own: together they are the guest's."""
    script = Script(calls=2001)
    at = script.room()
    script.malloc("slow")
    for _ in range(2000):
        script.call("req_get_path", at, at + 4, 0)
    answer = script.run(app(limits=Limits(cpu_time=0.2))).answer
    assert (answer.status, answer.record.limit) == (503, "cpu_time")
    assert answer.record.cpu_time < 1


def test_a_malloc_that_waits_for_ever() -> None:
    async def run() -> None:
        script = Script()
        script.malloc("waits")
        at = script.room()
        script.call("req_get_path", at, at + 4, 0)

        application = App(module(), outgoing=NeverOutgoing, limits=Limits(wall_time=0.2))
        answer = await application.answer("POST", "/", script.body())
        assert (answer.status, answer.record.limit) == (504, "wall_time")
        assert application.served.environment.region.used == 0

    asyncio.run(run())


class NeverOutgoing:
    closed = 0

    async def send(self, request: OutgoingRequest, /) -> OutgoingResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    async def close(self) -> None:
        type(self).closed += 1


def test_what_is_pending_at_the_end_is_given_up() -> None:
    """However the request ends: by a response, a fault, a limit."""
    for how in ("response", "fault", "limit"):
        NeverOutgoing.closed = 0
        script = Script()
        script.call("req_create", b"GET", b"http://there.test/")
        script.call("req_send_async", 1)
        if how == "fault":
            script.call("debug", 0xFFFFFFF0, 8)
        if how == "limit":
            script.call("pending_req_wait", 2)

        async def run(script: Script = script) -> int:
            application = App(module(), outgoing=NeverOutgoing, limits=Limits(wall_time=0.2))
            answer = await application.answer("POST", "/", script.body())
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == 1
            return answer.status

        status = asyncio.run(run())
        assert status == {"response": 200, "fault": 500, "limit": 504}[how]
        assert NeverOutgoing.closed == 1


def test_nothing_stays_of_many_requests() -> None:
    """Not an instance, not a stack, whatever the malloc did."""

    async def run() -> None:
        application = app(limits=Limits(cpu_time=0.05))
        for kind in ("good", "slow", "traps", "endless", "reentrant", "recursive", "waits", "throws") * 3:
            script = Script()
            script.malloc(kind)
            at = script.room()
            script.call("req_get_path", at, at + 4, 0)
            await application.answer("POST", "/", script.body())
        assert application.served.environment.region.used == 0

    asyncio.run(run())


@pytest.mark.parametrize("other", ["$two", "$float", "$wide", "$none"])
def test_a_malloc_that_turns_into_something_else(other: str) -> None:
    """In a request after one in which it was one."""
    application = App(f"""(module
      (import "env" "hostcall_init_mm" (func $init_mm (param i32 i32)))
      (import "env" "hostcall_req_get_path" (func $path (param i32 i32 i32)))
      (import "env" "hostcall_req_get_headers" (func $names (param i32 i32 i32)))
      (memory 1) (table $table 2 funcref) (elem (i32.const 0) $malloc $malloc)
      (elem declare func {other})
      (func $malloc (param i32) (result i32) (i32.const 1024))
      (func $two (param i32 i32) (result i32) (i32.const 1024))
      (func $float (param i32) (result f64) (f64.const 1024))
      (func $wide (param i32) (result i64) (i64.const 0x100000400))
      (func $none (param i32))
      (func (export "run")
        (call $init_mm (i32.const 0) (i32.const 0))
        (call $path (i32.const 16) (i32.const 20) (i32.const 0))
        (if (i32.eq (i32.load8_u offset=1 (i32.load (i32.const 16))) (i32.const 120)) (then
          (table.set $table (i32.const 0) (ref.func {other}))
          (call $init_mm (i32.const 0) (i32.const 0))
          (if (i32.eq (i32.load8_u offset=2 (i32.load (i32.const 16))) (i32.const 121))
            (then (call $names (i32.const 16) (i32.const 20) (i32.const 0)))
            (else (call $path (i32.const 16) (i32.const 20) (i32.const 0))))))))""")
    assert application.get("/").record.fault is None
    for path in ("/x", "/xy"):
        answer = application.get(path)
        assert answer.record.fault is None or "malloc" in answer.record.fault
        assert "Traceback" not in (answer.record.fault or "")
        assert answer.status == (200 if other == "$wide" else 500)


# ---- WASI ----

WITH_WASI = """(module
  (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "\\20\\00\\00\\00\\0b\\00\\00\\00")
  (data (i32.const 32) "hello\\nthere") (data (i32.const 64) "response")
  (global $initialized (mut i32) (i32.const 0))
  (func (export "_initialize") (global.set $initialized (i32.const 1)))
  (func (export "run")
    (if (i32.eqz (global.get $initialized)) (then (unreachable)))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 8)))
    (drop (call $environ (i32.const 128) (i32.const 256)))
    (if (i32.eq (i32.load8_u (i32.const 256)) (i32.const 65)) (then
      (drop (call $body (i32.const 0) (i32.const 256) (i32.const 3)))
      (call $exit (i32.const 0))))
    (if (i32.load8_u (i32.const 256)) (then (call $exit (i32.const 3))))
    (drop (call $body (i32.const 0) (i32.const 64) (i32.const 8)))
    (call $exit (i32.const 1))
    (unreachable)))"""


def test_a_response_before_exit_is_sent() -> None:
    """As the original's C programs end after an error: exit(1), behind a response."""
    answer = App(WITH_WASI).get("/")
    assert (answer.status, answer.body, answer.record.fault) == (200, b"response", None)
    assert answer.record.log_lines == ["hello", "there"]


def test_configuration_is_the_environment() -> None:
    answer = App(WITH_WASI, configuration={"": {"A": "b"}}).get("/")
    assert (answer.status, answer.body) == (200, b"A=b")


def test_exit_without_a_response() -> None:
    answer = App(WITH_WASI, configuration={"": {"Z": "b"}}).get("/")
    assert (answer.status, answer.record.fault) == (500, "the guest ended with status 3 and has set no response")


def test_time_without_nanoseconds() -> None:
    """NULL, as the original's C programs give, is not written to."""
    script = Script()
    script.call("time_now", 0)
    done = script.run(app())
    assert done.u32(0) == 0
    assert done.results[0] > 1_600_000_000


INTERESTING = (
    *(0, 1, 2, 3, 4, 5, 8, 16, 40, 255, 256, 257, 1024, 4095, 65535, 65536, 65600, 131072, 17 * 65536 - 1, 17 * 65536),
    *(-1, -2, -3, -4, -16, 0x7FFFFFFF, -0x80000000, 0x10000000, 8 << 20, (8 << 20) + 1),
)


@pytest.mark.parametrize("seed", range(60))
def test_any_calls(seed: int) -> None:
    """Whatever a guest calls, in whatever order, with whatever numbers: a response, a fault of its own, or a limit."""
    random = Random(seed)
    application = app(
        limits=Limits(cpu_time=0.5, wall_time=20, response_body=1 << 21, kv_bytes=1 << 20, kv_value=1 << 19)
    )
    names = [name for name in SIGNATURES if name != "init_mm"]

    async def run() -> None:
        for _ in range(15):
            script = Script(dump=random.random() < 0.5)
            places = [
                script.data(one) for one in (b"GET", b"http://there.test/", b"content-type", b"text/plain", b"key")
            ]
            places += [script.slices(b"a", b"b"), script.room(16), script.data(b"\1\0\0\0\2\0\0\0")]
            script.malloc(random.choice(["good"] * 5 + ["reentrant", "overlapping", "at the end", "slow", "waits"]))
            for _ in range(random.randrange(1, 40)):
                name = random.choice(names)
                count = len(SIGNATURES[name][0].strip("-"))
                script.call(
                    name, *(random.choice(places if random.random() < 0.8 else INTERESTING) for _ in range(count))
                )
            answer = await application.answer("POST", "/", script.body())
            assert answer.status in range(200, 600)
            assert "Traceback" not in (answer.record.fault or ""), answer.record.fault
        assert application.served.environment.region.used == 0

    asyncio.run(run())
