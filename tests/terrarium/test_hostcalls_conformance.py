"""The interface hostcalls: every function with what may go wrong.

Nothing to give, handles that are none, pointers outside of the memory, a malloc that fails in all the ways there are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from lucet.terrarium.limits import Limits
from tests.kit.hostcalls import CALLER, SENT, SIGNATURES, Script, sent
from tests.kit.hostcalls import app_with_world as app

OUTSIDE: Final = 0xFFFFFFF0


@dataclass(frozen=True)
class Call:
    """A valid call. pointers: which of its arguments are some; handle: which is the handle."""

    name: str
    arguments: Callable[[Script], tuple[int, ...]]
    pointers: tuple[int, ...] = ()
    handle: int | None = None
    allocates: bool = False


def out(script: Script) -> tuple[int, int]:
    at = script.room()
    return at, at + 4


def data(script: Script, data: bytes) -> tuple[int, int]:
    return script.data(data), len(data)


def one_slice(script: Script) -> tuple[int, int]:
    return script.slices(b"value"), 1


CALLS: Final = [
    Call("init_mm", lambda s: (1, 2)),
    Call("panic_hook", lambda s: data(s, b"message"), (0,)),
    Call("debug", lambda s: data(s, b"message"), (0,)),
    Call("req_create", lambda s: (*data(s, b"GET"), *data(s, b"http://there.test/")), (0, 2)),
    Call("req_send", lambda s: (4,), handle=0),
    Call("req_send_async", lambda s: (4,), handle=0),
    Call("pending_req_wait", lambda s: (5,), handle=0),
    Call("pending_req_poll", lambda s: (5,), handle=0),
    Call("pending_req_select", lambda s: (s.data(b"\5\0\0\0"), 1, s.room()), (0, 2)),
    Call("req_get_header", lambda s: (*out(s), 0, *data(s, b"many")), (0, 1, 3), 2, True),
    Call("resp_get_header", lambda s: (*out(s), SENT, *data(s, b"two")), (0, 1, 3), 2, True),
    Call("req_get_headers", lambda s: (*out(s), 0), (0, 1), 2, True),
    Call("resp_get_headers", lambda s: (*out(s), SENT), (0, 1), 2, True),
    Call("req_get_method", lambda s: (*out(s), 0), (0, 1), 2, True),
    Call("req_get_path", lambda s: (*out(s), 0), (0, 1), 2, True),
    Call("req_get_body", lambda s: (*out(s), 0), (0, 1), 2, True),
    Call("resp_get_body", lambda s: (*out(s), SENT), (0, 1), 2, True),
    Call("resp_get_response_code", lambda s: (SENT,), handle=0),
    Call("req_set_header", lambda s: (4, *data(s, b"name"), *one_slice(s)), (1, 3), 0),
    Call("resp_set_header", lambda s: (0, *data(s, b"name"), *one_slice(s)), (1, 3), 0),
    Call("req_set_body", lambda s: (4, *data(s, b"body")), (1,), 0),
    Call("resp_set_body", lambda s: (0, *data(s, b"body")), (1,), 0),
    Call("resp_set_response_code", lambda s: (0, 200), handle=0),
    Call("kvstore_insert", lambda s: (*data(s, b"key"), *data(s, b"value")), (0, 2)),
    Call("kvstore_upsert", lambda s: (*data(s, b"other"), *data(s, b"value")), (0, 2)),
    Call("kvstore_append", lambda s: (*data(s, b"key"), *data(s, b"value")), (0, 2)),
    Call("kvstore_get", lambda s: (*out(s), *data(s, b"there")), (0, 1, 2), None, True),
    Call("kvstore_remove", lambda s: data(s, b"there"), (0,)),
    Call("rng_next_u64", lambda s: ()),
    Call("time_now", lambda s: (s.room(),), (0,)),
    Call("dns_query_raw", lambda s: (*out(s), *data(s, b"question")), (0, 1, 2), None, True),
    Call("dns_query_ip", lambda s: (*out(s), *data(s, b"there.test"), 0), (0, 1, 2), None, True),
    Call("utf16_to_utf8_lossy", lambda s: (*out(s), s.data(b"a\0b\0"), 2), (0, 1, 2), None, True),
    Call("utf8_to_utf16_lossy", lambda s: (*out(s), *data(s, b"text")), (0, 1, 2), None, True),
]
ALLOCATING: Final = [call for call in CALLS if call.allocates]
named = functools.partial(pytest.mark.parametrize, ids=lambda one: one.name if isinstance(one, Call) else str(one))


def begun() -> Script:
    """With a response SENT, a draft 4 and, once that is sent, 5 for what is pending."""
    script = Script()
    sent(script)
    script.call("req_create", b"GET", b"http://there.test/")
    return script


def prepared(call: Call) -> Script:
    script = begun()
    if call.name.startswith("pending_"):
        script.call("req_send_async", 4)
    script.call("kvstore_insert", b"there", b"what was there")
    return script


def test_every_function_is_called() -> None:
    assert [call.name for call in CALLS] == list(SIGNATURES)
    assert len(SIGNATURES) == 32 + 2


@named("call", CALLS)
def test_a_valid_call(call: Call) -> None:
    script = prepared(call)
    script.call(call.name, *call.arguments(script))
    done = script.run(app(), **CALLER)
    assert (done.answer.record.fault, done.answer.record.limit, done.answer.status) == (None, None, 200)


@named(("call", "at"), [(call, at) for call in CALLS for at in call.pointers])
@pytest.mark.parametrize("pointer", [OUTSIDE, 17 * 65536, 17 * 65536 - 1, 0x80000000])
def test_pointers_outside_of_the_memory(call: Call, at: int, pointer: int) -> None:
    script = prepared(call)
    arguments = list(call.arguments(script))
    arguments[at] = pointer
    script.call(call.name, *arguments)
    fault = script.fault(app(), **CALLER)
    assert fault.startswith(f"hostcall_{call.name}: ")
    assert "outside the memory of 1114112 bytes" in fault


def sizes(call: Call) -> list[int]:
    """Which of its arguments are sizes of what the guest gives."""
    count = len(call.arguments(Script()))
    after = [at + 1 for at in call.pointers if not (call.allocates and at < 2)]
    return [at for at in after if at < count and at not in call.pointers]


@named(("call", "at"), [(call, at) for call in CALLS for at in sizes(call)])
def test_sizes_beyond_the_memory(call: Call, at: int) -> None:
    """Of what the guest gives: refused, or a fault. Nothing is written in vain."""
    script = prepared(call)
    arguments = list(call.arguments(script))
    arguments[at] = 0x7FFFFFFF
    number = script.call(call.name, *arguments)
    done = script.run(app(), **CALLER)
    record = done.answer.record
    assert record.fault is not None or record.limit is not None or done.results[number] in {1, -1, -7}


@named(
    ("call", "handle"),
    [
        (call, handle)
        for call in CALLS
        for handle in (1, 2, 99, -1, -2, 0x7FFFFFFF, 0)
        if call.handle is not None and call.arguments(Script())[call.handle] != handle
    ],
)
def test_handles_that_are_none(call: Call, handle: int) -> None:
    """Of the first request, which is gone; of nothing; and 0 where that is the wrong one."""
    script = prepared(call)
    arguments = list(call.arguments(script))
    assert call.handle is not None
    arguments[call.handle] = handle
    number = script.call(call.name, *arguments)
    done = script.run(app(), **CALLER)
    assert done.answer.record.fault is None
    result = done.results[number]
    if call.allocates:
        assert (done.u32(arguments[0]), done.u32(arguments[1])) == (0, 0)
    elif call.name == "resp_get_response_code":
        assert result == 0
    else:
        assert result == (1 if "_set_" in call.name else -1)


ABSENT: Final = {
    "req_get_header": (3, b"none"),
    "resp_get_header": (3, b"none"),
    "kvstore_get": (2, b"none"),
    "dns_query_raw": (2, b"none"),
    "dns_query_ip": (2, b"none"),
}


@named("call", [call for call in CALLS if call.name in ABSENT])
def test_what_is_not_there(call: Call) -> None:
    script = prepared(call)
    arguments = list(call.arguments(script))
    at, name = ABSENT[call.name]
    arguments[at : at + 2] = data(script, name)
    number = script.call(call.name, *arguments)
    done = script.run(app(), **CALLER)
    assert (done.u32(arguments[0]), done.u32(arguments[1])) == (0, 0)
    assert done.results[number] == (-7 if SIGNATURES[call.name][1] == "-" else 0)


FAULTS: Final = {
    "null": "has no memory for",
    "traps": "UNREACHABLE in traps",
    "outside": "outside the memory",
    "recursive": "calls itself through host functions",
    "no malloc": "is no malloc",
    "throws": "an exception that the guest does not catch",
}


@named("call", ALLOCATING)
@pytest.mark.parametrize("malloc", FAULTS)
def test_a_malloc_that_fails(call: Call, malloc: str) -> None:
    script = prepared(call)
    arguments = call.arguments(script)
    script.malloc(malloc)
    script.call(call.name, *arguments)
    assert FAULTS[malloc] in script.fault(app(), **CALLER)


@named("call", ALLOCATING)
def test_a_malloc_that_does_not_end(call: Call) -> None:
    script = prepared(call)
    arguments = call.arguments(script)
    script.malloc("endless")
    script.call(call.name, *arguments)
    answer = script.run(app(), **CALLER).answer
    assert (answer.status, answer.record.limit) == (503, "cpu_time")


@named("call", ALLOCATING)
@pytest.mark.parametrize("malloc", ["reentrant", "waits", "slow", "at the end"])
def test_a_malloc_that_is_unusual(call: Call, malloc: str) -> None:
    """It calls host functions, waits for a request, or computes for longer than a slice."""
    expected, results = [], []
    for kind in ("good", malloc):
        script = prepared(call)
        arguments = call.arguments(script)
        script.malloc(kind)
        number = script.call(call.name, *arguments)
        done = script.run(app(limits=Limits(cpu_time=5, wall_time=60)), **CALLER)
        assert (done.answer.record.fault, done.answer.record.limit) == (None, None)
        find = done.strings if "header" in call.name or call.name == "dns_query_ip" else done.string
        results.append(done.results[number])
        if call.name == "req_get_body":
            assert done.u32(arguments[1]) == len(script.body())
            continue
        expected.append(find(arguments[0]))
    assert results[0] == results[1]
    if expected:
        assert expected[0] is not None
    if expected and malloc != "at the end":  # where each overwrites the one before
        assert expected[0] == expected[1]


@named("call", ALLOCATING)
def test_a_malloc_that_gives_what_is_in_use(call: Call) -> None:
    """The guest hurts nobody but itself."""
    script = prepared(call)
    arguments = call.arguments(script)
    script.malloc("overlapping")
    script.call(call.name, *arguments)
    answer = script.run(app(), **CALLER).answer
    assert answer.status in {200, 500}
    assert answer.record.fault is None or "Traceback" not in answer.record.fault


def test_before_init_mm() -> None:
    script = Script()
    script.call("init_mm", -1, -1)
    at = script.room()
    script.call("req_get_path", at, at + 4, 0)
    assert script.fault(app()) == "the guest has not called hostcall_init_mm"


@pytest.mark.parametrize("index", [0, 15, 16, 0x7FFFFFFF, -2])
def test_a_malloc_that_is_not_in_the_table(index: int) -> None:
    script = Script()
    script.call("init_mm", index, 0)
    at = script.room()
    script.call("req_get_path", at, at + 4, 0)
    assert "is no malloc" in script.fault(app())
