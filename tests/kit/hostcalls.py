"""A guest of the interface hostcalls that does what the request's body says: call these functions, show me your memory.

    script = Script()
    out = script.room(8)
    script.call("req_get_path", out, out + 4, 0)
    done = script.run()
    assert done.string(out) == b"/path?query"

Neither its memory nor its table is exported.
"""

from __future__ import annotations

import asyncio
import functools
import struct
from dataclasses import dataclass
from typing import Any, Final

import lucet
from lucet.terrarium.environment import Resolver
from lucet.terrarium.http import BytesBody, OutgoingFailed, OutgoingRefused, OutgoingRequest, OutgoingResponse
from tests.kit.terrarium import Answer, App, NoOutgoing

SIGNATURES: Final = {
    name: (params, result)
    for name, params, result in (
        line.split()
        for line in """\
        init_mm                 ii     -
        panic_hook              ii     -
        debug                   ii     -
        req_create              iiii   i
        req_send                i      i
        req_send_async          i      i
        pending_req_wait        i      i
        pending_req_poll        i      i
        pending_req_select      iii    i
        req_get_header          iiiii  -
        resp_get_header         iiiii  -
        req_get_headers         iii    -
        resp_get_headers        iii    -
        req_get_method          iii    -
        req_get_path            iii    -
        req_get_body            iii    -
        resp_get_body           iii    -
        resp_get_response_code  i      i
        req_set_header          iiiii  i
        resp_set_header         iiiii  i
        req_set_body            iii    i
        resp_set_body           iii    i
        resp_set_response_code  ii     i
        kvstore_insert          iiii   i
        kvstore_upsert          iiii   i
        kvstore_append          iiii   i
        kvstore_get             iiii   i
        kvstore_remove          ii     i
        rng_next_u64            -      I
        time_now                i      I
        dns_query_raw           iiii   i
        dns_query_ip            iiiii  i
        utf16_to_utf8_lossy     iiii   -
        utf8_to_utf16_lossy     iiii   -""".splitlines()
    )
}
"""Name without hostcall_ -> parameters, result: i is an i32, I an i64. The original's 32, and the two for text."""
_NAMES: Final = list(SIGNATURES)
_TYPES: Final = {"i": "i32", "I": "i64"}

MALLOCS: Final = {
    "good": 1,
    "null": 2,
    "traps": 3,
    "outside": 4,
    "endless": 5,
    "recursive": 6,
    "reentrant": 7,
    "waits": 8,
    "slow": 9,
    "no malloc": 10,
    "overlapping": 11,
    "throws": 12,
    "at the end": 13,
}
"""What there is in table 0."""
BODY: Final = 65536
"""Where the request's body is, and with it what the script has."""
RESULTS: Final = 4096
PAGES: Final = 17


def _import(name: str) -> str:
    params, result = SIGNATURES[name]
    types = "".join(f" (param {_TYPES[one]})" for one in params if one != "-")
    types += "" if result == "-" else f" (result {_TYPES[result]})"
    return f'  (import "env" "hostcall_{name}" (func ${name}{types}))'


def _case(index: int) -> str:
    """A call, its result in $result."""
    name = _NAMES[index]
    params, result = SIGNATURES[name]
    arguments = " ".join(f"(i32.load offset={4 * (i + 1)} (local.get $at))" for i in range(len(params.strip("-"))))
    call = f"(call ${name} {arguments})"
    value = {"-": f"{call} (i64.const -7)", "i": f"(i64.extend_i32_s {call})", "I": call}[result]
    return f"(if (i32.eq (i32.load (local.get $at)) (i32.const {index})) (then (local.set $result {value})))"


WAT: Final = f"""(module
{chr(10).join(_import(name) for name in SIGNATURES)}
  (memory {PAGES} 600)
  (table 16 funcref)
  (elem (i32.const 1) $good $null $traps $outside $endless $recursive $reentrant $waits $slow $run $overlapping $throws
    $at_the_end)
  (tag $exception)
  (global $top (mut i32) (i32.const {BODY}))
  (global $inside (mut i32) (i32.const 0))
  (data (i32.const 64) "GET" "http://there.test/")
  (func $good (param i32) (result i32)
    (global.get $top)
    (global.set $top (i32.and (i32.add (global.get $top) (i32.add (local.get 0) (i32.const 15))) (i32.const -16))))
  (func $null (param i32) (result i32) (i32.const 0))
  (func $traps (param i32) (result i32) (unreachable))
  (func $outside (param i32) (result i32) (i32.const -16))
  (func $endless (param i32) (result i32) (loop $again (br $again)) (unreachable))
  (func $recursive (param i32) (result i32) (call $req_get_method (i32.const 32) (i32.const 36) (i32.const 0))
    (i32.load (i32.const 32)))
  (func $reentrant (param i32) (result i32)
    (if (i32.eqz (global.get $inside)) (then
      (global.set $inside (i32.const 1))
      (call $req_get_method (i32.const 32) (i32.const 36) (i32.const 0))
      (global.set $inside (i32.const 0))))
    (call $good (local.get 0)))
  (func $waits (param i32) (result i32)
    (i32.store (i32.const 40) (call $req_send
      (call $req_create (i32.const 64) (i32.const 3) (i32.const 67) (i32.const 18))))
    (call $good (local.get 0)))
  (func $slow (param i32) (result i32) (local $rounds i32) (local i64)
    (local.set $rounds (i32.const 6000000))
    (loop $again
      (local.set 2 (i64.xor (i64.rotl (local.get 2) (i64.const 5)) (i64.extend_i32_u (local.get $rounds))))
      (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (i64.store (i32.const 48) (local.get 2))
    (call $good (local.get 0)))
  (func $overlapping (param i32) (result i32) (i32.const 32))
  (func $throws (param i32) (result i32) (throw $exception))
  (func $at_the_end (param i32) (result i32)
    (i32.sub (i32.shl (memory.size) (i32.const 16)) (local.get 0)))
  (func $run (export "run") (local $at i32) (local $count i32) (local $result i64) (local $to i32)
    (call $init_mm (i32.const 1) (i32.const 0))
    (call $req_get_body (i32.const 16) (i32.const 20) (i32.const 0))
    (local.set $at (i32.add (i32.load (i32.const 16)) (i32.const 8)))
    (local.set $count (i32.load (i32.load (i32.const 16))))
    (local.set $to (i32.const {RESULTS}))
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $count)))
      {" ".join(_case(index) for index in range(len(_NAMES)))}
      (i64.store (local.get $to) (local.get $result))
      (local.set $to (i32.add (local.get $to) (i32.const 8)))
      (local.set $at (i32.add (local.get $at) (i32.const 32)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next)))
    (if (i32.load offset=4 (i32.load (i32.const 16))) (then
      (drop (call $resp_set_body (i32.const 0) (i32.const 0) (i32.shl (memory.size) (i32.const 16))))))))"""


@functools.cache
def module() -> lucet.Module:
    return lucet.Module.from_bytes(lucet.compile(WAT))


@dataclass
class Done:
    """What came of a script."""

    answer: Answer
    results: list[int]
    memory: bytes

    def u32(self, at: int) -> int:
        return int.from_bytes(self.memory[at : at + 4], "little")

    def string(self, at: int) -> bytes | None:
        """Of a pointer and a size, which stand at `at`."""
        pointer, size = self.u32(at), self.u32(at + 4)
        if not pointer:
            assert not size
            return None
        return self.memory[pointer : pointer + size]

    def strings(self, at: int) -> list[bytes | None] | None:
        """Of a pointer to an array of those, and their number."""
        pointer, count = self.u32(at), self.u32(at + 4)
        if not pointer:
            assert not count
            return None
        return [self.string(pointer + 8 * i) for i in range(count)]


class Script:
    """Calls one after the other, and data for them."""

    def __init__(self, *, dump: bool = True, calls: int = 64) -> None:
        self._calls = b""
        self._count = 0
        self._dump = dump
        self._data = bytearray()
        self._data_at = BODY + 8 + 32 * calls

    def data(self, data: bytes) -> int:
        """Its address."""
        at = self._data_at + len(self._data)
        self._data += data + bytes(-len(data) % 8)
        return at

    def room(self, size: int = 8) -> int:
        return self.data(b"\xaa" * size)

    def slices(self, *items: bytes) -> int:
        """The address of an array."""
        return self.data(b"".join(struct.pack("<II", self.data(item), len(item)) for item in items))

    def call(self, name: str, *arguments: int | bytes) -> int:
        """The number of its result. Bytes are two arguments, where they are and how many."""
        numbers: list[int] = []
        for one in arguments:
            numbers += [self.data(one), len(one)] if isinstance(one, bytes) else [one]
        assert len(numbers) == len(SIGNATURES[name][0].strip("-")), f"{name}: {len(numbers)} arguments"
        words = [_NAMES.index(name), *numbers] + [0] * (7 - len(numbers))
        self._calls += struct.pack("<8I", *(word & 0xFFFFFFFF for word in words))
        self._count += 1
        return self._count - 1

    def malloc(self, kind: str) -> None:
        """Be given memory by another malloc from here on."""
        self.call("init_mm", MALLOCS[kind], 0)

    def body(self) -> bytes:
        head = struct.pack("<II", self._count, self._dump) + self._calls
        return head + bytes(self._data_at - BODY - len(head)) + bytes(self._data)

    def run(self, app: App | None = None, target: str = "/path?query", method: str = "POST", **changes: Any) -> Done:
        """Faults and limits are in the answer's record; then there are neither results nor memory."""
        answer = (app or App(module())).request(method, target, self.body(), **changes)
        memory = answer.body if self._dump and not (answer.record.fault or answer.record.limit) else b""
        end = RESULTS + 8 * self._count
        results = list(struct.unpack(f"<{self._count}q", memory[RESULTS:end])) if memory else []
        return Done(answer, results, memory)

    def fault(self, app: App | None = None, **changes: Any) -> str:
        done = self.run(app, **changes)
        assert done.answer.status == 500
        assert done.answer.record.fault is not None, "no fault"
        return done.answer.record.fault


# ---- a world for it ----

SENT: Final = 3
"""The handle of the response to the first request that is sent: the draft is 1, what is pending 2."""
CALLER: Final[dict[str, Any]] = {"headers": [(b"one", b"1"), (b"many", b"a"), (b"many", b"b")], "method": "PUT"}


class Names(Resolver):
    async def query(self, message: bytes) -> bytes:
        await asyncio.sleep(0)
        if b"none" in message:
            raise OutgoingFailed("no answer")
        return b"answer to " + message

    async def addresses(self, name: bytes, *, v6: bool) -> list[bytes]:
        await asyncio.sleep(0)
        return [] if b"none" in name else [bytes(range(16))] if v6 else [b"\1\2\3\4", b"\5\6\7\10"]


async def answer_there(request: OutgoingRequest) -> OutgoingResponse:
    await asyncio.sleep(0)
    if "failed" in request.url:
        raise OutgoingFailed("no connection")
    if "refused" in request.url:
        raise OutgoingRefused("not allowed")
    headers = [(b"seen", f"{request.method} {request.url}".encode()), (b"two", b"1"), (b"two", b"2"), *request.headers]
    body = request.body if isinstance(request.body, bytes) else b""
    return OutgoingResponse(status=203, headers=headers, body=BytesBody(body or b"from there"))


def app_with_world(**changes: Any) -> App:
    return App(module(), outgoing=lambda: NoOutgoing(answer_there), resolver=Names(), **changes)


def sent(script: Script, url: bytes = b"http://there.test/", body: bytes = b"") -> None:
    """Have a response, SENT."""
    script.call("req_create", b"GET", url)
    if body:
        script.call("req_set_body", 1, body)
    script.call("req_send", 1)
