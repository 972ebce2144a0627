"""The interface hostcalls: what each function is for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from lucet.terrarium.environment import StoreFull, StoreUnavailable
from lucet.terrarium.http import BytesBody, OutgoingRequest, OutgoingResponse
from lucet.terrarium.limits import Limits
from tests.kit.hostcalls import CALLER, SENT, Script, module
from tests.kit.hostcalls import app_with_world as app
from tests.kit.terrarium import App, DictKeys, NoOutgoing


def test_what_the_client_asks() -> None:
    script = Script()
    method, path, body, names, one, many, ip = (script.room() for _ in range(7))
    script.call("req_get_method", method, method + 4, 0)
    script.call("req_get_path", path, path + 4, 0)
    script.call("req_get_body", body, body + 4, 0)
    script.call("req_get_headers", names, names + 4, 0)
    script.call("req_get_header", one, one + 4, 0, b"ONE")
    script.call("req_get_header", many, many + 4, 0, b"Many")
    script.call("req_get_header", ip, ip + 4, 0, b"Fastly-Client-IP")
    done = script.run(app(), target="/a%20b?c=d", **CALLER)
    assert (done.string(method), done.string(path)) == (b"PUT", b"/a%20b?c=d")
    assert done.string(body) == script.body()
    assert done.strings(names) == [b"host", b"one", b"many", b"fastly-client-ip"]
    assert (done.strings(one), done.strings(many), done.strings(ip)) == ([b"1"], [b"a", b"b"], [b"192.0.2.7"])
    # A NUL follows each, as the original's C programs expect.
    assert done.memory[done.u32(path) + 10] == 0
    assert done.memory[done.u32(done.u32(many)) + 1] == 0


def test_nothing_is_given_without_malloc() -> None:
    """A guest that has none can ask for what is not there: the original's smallest template does."""
    script = Script()
    script.call("init_mm", -1, -1)
    at = script.room()
    script.call("req_get_header", at, at + 4, 0, b"X-Fastly-Debug")
    done = script.run(app())
    assert (done.answer.record.fault, done.strings(at)) == (None, None)


def test_a_client_cannot_say_where_it_is() -> None:
    script = Script()
    ip, other = script.room(), script.room()
    script.call("req_get_header", ip, ip + 4, 0, b"fastly-client-ip")
    script.call("req_get_header", other, other + 4, 0, b"x-fastly-client-ip")
    lies = [(b"fastly-client-ip", b"127.0.0.1"), (b"x-fastly-client-ip", b"127.0.0.1")]
    done = script.run(app(), headers=lies)
    assert (done.strings(ip), done.strings(other)) == ([b"192.0.2.7"], None)


def test_the_response() -> None:
    script = Script(dump=False)
    script.call("resp_set_header", 0, b"X-One", script.slices(b"old"), 1)
    script.call("resp_set_header", 0, b"x-many", script.slices(b"1", b"2"), 2)
    script.call("resp_set_header", 0, b"x-ONE", script.slices(b"new"), 1)
    script.call("resp_set_header", 0, b"x-gone", script.slices(b"1"), 1)
    script.call("resp_set_header", 0, b"x-gone", script.slices(), 0)
    script.call("resp_set_body", 0, b"first")
    script.call("resp_set_body", 0, b"second")
    script.call("resp_set_response_code", 0, 418)
    application = app()
    for _ in range(3):  # headers that are known, the second time
        answer = script.run(application).answer
        assert (answer.status, answer.body, answer.record.fault) == (418, b"second", None)
        assert answer.headers == [(b"x-many", b"1"), (b"x-many", b"2"), (b"x-one", b"new")]


def test_nothing_is_a_response_too() -> None:
    answer = Script(dump=False).run(app()).answer
    assert (answer.status, answer.headers, answer.body, answer.record.fault) == (200, [], b"", None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x", b"a\r\nset-cookie: b"),
        (b"x", b"a\nb"),
        (b"x", b"a\0b"),
        (b"x", b" a"),
        (b"x\r\ny", b"a"),
        (b"x y", b"a"),
        (b"x:", b"a"),
        (b"", b"a"),
        (b"\xc3\xa4", b"a"),
        (b"x", b"a" * 70000),
        (b"x" * 70000, b"a"),
    ],
    ids=range(11),
)
def test_headers_that_are_none(name: bytes, value: bytes) -> None:
    """Neither the first nor a later one is there, and what was there before stays."""
    script = Script()
    script.call("resp_set_header", 0, b"x", script.slices(b"old"), 1)
    wrong = script.call("resp_set_header", 0, name, script.slices(b"good", value), 2)
    again = script.call("resp_set_header", 0, name, script.slices(value), 1)
    script.call("req_create", b"GET", b"http://there.test/")
    draft = script.call("req_set_header", 1, name, script.slices(value), 1)
    done = script.run(app())
    assert [done.results[i] for i in (wrong, again, draft)] == [1, 1, 1]
    assert done.answer.headers == [(b"x", b"old")]


@pytest.mark.parametrize("code", [0, 99, 100, 199, 600, 1000, 65536 + 200, -1])
def test_status_codes_that_are_none(code: int) -> None:
    script = Script()
    wrong = script.call("resp_set_response_code", 0, code)
    done = script.run(app())
    assert (done.results[wrong], done.answer.status) == (1, 200)


def test_headers_are_bounded() -> None:
    script = Script(calls=64)
    value = script.data(b"v" * 2000)
    array = script.data(b"".join(value.to_bytes(4, "little") + (2000).to_bytes(4, "little") for _ in range(40)))
    short = script.data(b"".join(value.to_bytes(4, "little") + (1).to_bytes(4, "little") for _ in range(300)))
    results = [script.call("resp_set_header", 0, f"h{i}".encode(), array, 1) for i in range(40)]
    at_once = script.call("resp_set_header", 0, b"many", array, 40)
    too_many = script.call("resp_set_header", 0, b"many", short, 257)
    most = script.call("resp_set_header", 0, b"many", short, 210)
    one_more = [script.call("resp_set_header", 0, f"more{i}".encode(), short, 1) for i in range(20)]
    done = script.run(app())
    accepted = [i for i in results if done.results[i] == 0]
    assert len(accepted) == 65536 // 2003
    assert (done.results[at_once], done.results[too_many], done.results[most]) == (1, 1, 0)
    assert [done.results[i] for i in one_more] == [0] * (256 - 210 - len(accepted)) + [1] * (
        20 - (256 - 210 - len(accepted))
    )
    assert len(done.answer.headers) == 256


def test_a_body_is_bounded() -> None:
    script = Script(dump=False)
    script.call("resp_set_body", 0, b"before")
    script.call("resp_set_body", 0, script.data(b"x" * 5000), 5000)
    assert script.run(app(limits=Limits(response_body=4999))).answer.body == b"before"
    assert script.run(app(limits=Limits(response_body=5000))).answer.body == b"x" * 5000


def test_a_request_that_the_guest_makes() -> None:
    script = Script()
    script.call("req_create", b"POST", b"https://there.test/path?query")
    script.call("req_set_header", 1, b"X-Mine", script.slices(b"a", b"b"), 2)
    script.call("req_set_body", 1, b"mine")
    response = script.call("req_send", 1)
    code = script.call("resp_get_response_code", SENT)
    body, names, seen, two = (script.room() for _ in range(4))
    script.call("resp_get_body", body, body + 4, SENT)
    script.call("resp_get_headers", names, names + 4, SENT)
    script.call("resp_get_header", seen, seen + 4, SENT, b"Seen")
    script.call("resp_get_header", two, two + 4, SENT, b"two")
    again = script.call("req_send", 1)
    done = script.run(app())
    assert (done.results[response], done.results[code], done.results[again]) == (SENT, 203, -1)
    assert (done.string(body), done.strings(names)) == (b"mine", [b"seen", b"two", b"x-mine"])
    assert (done.strings(seen), done.strings(two)) == ([b"POST https://there.test/path?query"], [b"1", b"2"])
    assert done.answer.record.outgoing == 1


@pytest.mark.parametrize("url", [b"http://failed.test/", b"http://refused.test/"])
def test_a_request_without_a_response(url: bytes) -> None:
    script = Script()
    script.call("req_create", b"GET", url)
    first = script.call("req_send", 1)
    script.call("req_create", b"GET", url)
    pending = script.call("req_send_async", 3)
    second = script.call("pending_req_wait", 4)
    done = script.run(app())
    assert (done.results[first], done.results[pending], done.results[second]) == (-1, 4, -1)
    assert len(done.answer.record.log_lines or []) == 2


@pytest.mark.parametrize(
    ("method", "url"),
    [
        (b"GET", b"/relative"),
        (b"GET", b"ftp://there.test/"),
        (b"GET", b"http://"),
        (b"GET", b"http://there.test/a b"),
        (b"GET", b"http://there.test/\r\nx: y"),
        (b"GET", b"http://there.test/\xc3\xa4"),
        (b"GET", b""),
        (b"GE T", b"http://there.test/"),
        (b"GET\r\nX: y\r\n", b"http://there.test/"),
        (b"", b"http://there.test/"),
        (b"X" * 33, b"http://there.test/"),
        (b"GET", b"http://there.test/" + b"x" * 9000),
    ],
    ids=range(12),
)
def test_requests_that_are_none(method: bytes, url: bytes) -> None:
    script = Script()
    created = script.call("req_create", method, url)
    assert script.run(app()).results[created] == -1


def test_several_at_once() -> None:
    """send_async, poll, select and wait: what is pending stays so until it is taken."""
    gate = asyncio.Event()

    async def answer(request: OutgoingRequest) -> OutgoingResponse:
        if "slow" in request.url:
            await gate.wait()
        if "open" in request.url:
            gate.set()
        return OutgoingResponse(status=200, headers=[], body=BytesBody(request.url[-4:].encode()))

    script = Script()
    script.call("req_create", b"GET", b"http://there.test/slow")
    script.call("req_create", b"GET", b"http://there.test/fast")
    script.call("req_create", b"GET", b"http://there.test/open")
    slow = script.call("req_send_async", 1)
    early = script.call("pending_req_poll", 4)
    fast = script.call("req_send_async", 2)
    which = script.room()
    selected = script.call("pending_req_select", script.data(b"\4\0\0\0\5\0\0\0"), 2, which)
    gone = script.call("pending_req_wait", 5)
    script.call("req_send", 3)
    last = script.call("pending_req_wait", 4)
    first, second = script.room(), script.room()
    script.call("resp_get_body", first, first + 4, 6)
    script.call("resp_get_body", second, second + 4, 9)
    done = script.run(App(module(), outgoing=lambda: NoOutgoing(answer)))
    assert [done.results[i] for i in (slow, early, fast, selected, gone, last)] == [4, -2, 5, 6, -1, 9]
    assert (done.u32(which), done.string(first), done.string(second)) == (5, b"fast", b"slow")


def test_polling_lets_the_world_go_on() -> None:
    script = Script()
    script.call("req_create", b"GET", b"http://there.test/")
    script.call("req_send_async", 1)
    polls = [script.call("pending_req_poll", 2) for _ in range(10)]
    done = script.run(app())
    found = [done.results[i] for i in polls]
    assert found.index(SENT) > 0
    assert set(found[: found.index(SENT)]) == {-2}
    assert set(found[found.index(SENT) + 1 :]) == {-1}  # it was consumed


def test_selecting_one_that_failed() -> None:
    script = Script()
    script.call("req_create", b"GET", b"http://failed.test/")
    script.call("req_send_async", 1)
    which = script.room()
    selected = script.call("pending_req_select", script.data(b"\2\0\0\0"), 1, which)
    done = script.run(app())
    assert (done.results[selected], done.u32(which)) == (-1, 2)


@pytest.mark.parametrize("handles", [b"", b"\2\0\0\0\x09\0\0\0", b"\0\0\0\0", b"\2\0\0\0" * 33])
def test_selecting_what_is_not_pending(handles: bytes) -> None:
    script = Script()
    script.call("req_create", b"GET", b"http://there.test/")
    script.call("req_send_async", 1)
    which = script.room()
    selected = script.call("pending_req_select", script.data(handles), len(handles) // 4, which)
    last = script.call("pending_req_wait", 2)
    done = script.run(app())
    assert (done.results[selected], done.u32(which)) == (-1, 0xFFFFFFFF)
    assert done.results[last] == SENT  # it stays valid


def test_outgoing_requests_are_counted() -> None:
    script = Script()
    for i in range(3):
        script.call("req_create", b"GET", b"http://there.test/")
        script.call("req_send", 1 + 3 * i)
    script.call("req_create", b"GET", b"http://there.test/")
    refused = script.call("req_send_async", 10)
    done = script.run(app(limits=Limits(outgoing_requests=3)))
    assert (done.results[refused], done.answer.record.outgoing) == (-1, 3)
    assert any("outgoing_requests" in line for line in done.answer.record.log_lines or [])


def test_drafts_are_bounded() -> None:
    script = Script(calls=300)
    created = [script.call("req_create", b"GET", b"http://there.test/") for _ in range(258)]
    done = script.run(app())
    assert [done.results[i] for i in created] == [*range(1, 257), -1, -1]


def test_bodies_are_bounded_together() -> None:
    """Nothing that is kept for a guest is given back before its end."""
    data = b"x" * 400
    script = Script()
    script.call("req_create", b"POST", b"http://there.test/")
    script.call("req_create", b"POST", b"http://there.test/")
    body = script.data(data)
    results = [script.call("req_set_body", draft, body, 400) for draft in (1, 1, 2)]
    fits = script.call("req_send", 1)
    does_not = script.call("req_send", 2)
    small = app()
    small.served.environment.limits = Limits(response_body=1000)
    small.served.response_body = 1 << 30  # type: ignore[attr-defined]
    done = script.run(small)
    assert [done.results[i] for i in (*results, fits, does_not)] == [0, 0, 0, -1, -1]


def test_the_key_value_store() -> None:
    keys = DictKeys()
    script = Script()
    results = [
        script.call("kvstore_insert", b"a", b"1"),
        script.call("kvstore_insert", b"a", b"2"),
        script.call("kvstore_upsert", b"a", b"3"),
        script.call("kvstore_upsert", b"b", b"4"),
        script.call("kvstore_append", b"b", b"5"),
        script.call("kvstore_append", b"c", b"6"),
        script.call("kvstore_insert", b"empty", b""),
        script.call("kvstore_remove", b"c"),
        script.call("kvstore_remove", b"c"),
    ]
    rooms = {key: script.room() for key in (b"a", b"b", b"c", b"empty")}
    got = [script.call("kvstore_get", at, at + 4, key) for key, at in rooms.items()]
    done = script.run(app(keys=keys))
    assert [done.results[i] for i in results] == [1, 0, 0, 1, 0, 1, 1, 1, 0]
    assert [done.results[i] for i in got] == [1, 1, 0, 1]
    assert [done.string(at) for at in rooms.values()] == [b"2", b"45", None, b""]
    assert keys.keys("") == [b"a", b"b", b"empty"]
    later = Script()
    at = later.room()
    later.call("kvstore_get", at, at + 4, b"b")
    assert later.run(app(keys=keys)).string(at) == b"45"  # it outlives the request


class SlowKeys(DictKeys):
    """One that has to be waited for."""

    def get(self, *args: Any, **changes: Any) -> Any:
        return self._later(super().get, *args, **changes)

    def put(self, *args: Any, **changes: Any) -> Any:
        return self._later(super().put, *args, **changes)

    def delete(self, *args: Any, **changes: Any) -> Any:
        return self._later(super().delete, *args, **changes)

    async def _later(self, method: Callable[..., Any], *args: Any, **changes: Any) -> Any:
        await asyncio.sleep(0)
        return method(*args, **changes)


@pytest.mark.parametrize("malloc", ["good", "slow", "reentrant", "waits"])
def test_a_store_that_is_far_away(malloc: str) -> None:
    """The guest waits, and its malloc is called while it does."""
    script = Script()
    script.malloc(malloc)
    results = [script.call("kvstore_insert", b"a", b"1"), script.call("kvstore_append", b"a", b"2")]
    at, none = script.room(), script.room()
    results += [script.call("kvstore_get", at, at + 4, b"a"), script.call("kvstore_get", none, none + 4, b"b")]
    results += [script.call("kvstore_remove", b"a"), script.call("kvstore_remove", b"a")]
    done = script.run(app(keys=SlowKeys(), limits=Limits(cpu_time=5)))
    assert [done.results[i] for i in results] == [1, 0, 1, 0, 1, 0]
    assert (done.string(at), done.string(none)) == (b"12", None)


class FailingKeys(DictKeys):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def put(self, *args: Any, **changes: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "limit", "fault"), [(StoreFull("no"), "kv_bytes", None), (StoreUnavailable("gone"), None, "gone")]
)
def test_a_write_that_fails_ends_the_request(error: Exception, limit: str | None, fault: str | None) -> None:
    """What the guest has not stored it must not take for stored."""
    script = Script(dump=False)
    script.call("kvstore_insert", b"a", b"1")
    script.call("resp_set_body", 0, b"stored")
    answer = script.run(app(keys=FailingKeys(error))).answer
    assert (answer.status, answer.record.limit, answer.record.fault) == (503, limit, fault)


def test_a_value_is_bounded() -> None:
    script = Script(dump=False)
    script.call("kvstore_insert", b"a", b"12345")
    answer = script.run(app(limits=Limits(kv_value=4))).answer
    assert (answer.status, answer.record.limit) == (503, "kv_value")
    script = Script(dump=False)
    script.call("kvstore_get", 0, 4, b"k" * 1025)
    assert "a key of 1025 bytes" in script.fault(app())


def test_names() -> None:
    script = Script()
    raw, four, six, none, no_raw = (script.room() for _ in range(5))
    results = [
        script.call("dns_query_raw", raw, raw + 4, b"question"),
        script.call("dns_query_ip", four, four + 4, b"there.test", 0),
        script.call("dns_query_ip", six, six + 4, b"there.test", 1),
        script.call("dns_query_ip", none, none + 4, b"none.test", 0),
        script.call("dns_query_raw", no_raw, no_raw + 4, b"none"),
    ]
    done = script.run(app())
    assert [done.results[i] for i in results] == [1, 1, 1, 0, 0]
    assert done.string(raw) == b"answer to question"
    assert done.strings(four) == [b"\1\2\3\4", b"\5\6\7\10"]
    assert done.strings(six) == [bytes(range(16))]
    assert (done.strings(none), done.string(no_raw)) == (None, None)


def test_names_need_a_resolver() -> None:
    script = Script()
    at = script.room()
    results = [
        script.call("dns_query_raw", at, at + 4, b"question"),
        script.call("dns_query_ip", at, at + 4, b"there.test", 0),
    ]
    done = script.run(App(module()))
    assert [done.results[i] for i in results] == [0, 0]


def test_questions_are_counted() -> None:
    script = Script()
    at = script.room()
    results = [script.call("dns_query_raw", at, at + 4, b"question") for _ in range(3)]
    done = script.run(app(limits=Limits(outgoing_requests=2)))
    assert [done.results[i] for i in results] == [1, 1, 0]


def test_time_and_chance() -> None:
    script = Script()
    nanoseconds = script.room()
    now = script.call("time_now", nanoseconds)
    numbers = [script.call("rng_next_u64") for _ in range(20)]
    done = script.run(app())
    assert 1_600_000_000 < done.results[now] < 1 << 40
    assert done.u32(nanoseconds) < 1_000_000_000
    values = {done.results[i] for i in numbers}
    assert len(values) == 20
    assert any(value < 0 for value in values) and any(value > 0 for value in values)  # of 64 bits, not of 63


def test_the_log() -> None:
    script = Script()
    script.call("debug", b"first")
    script.call("debug", script.data(b"up to a NUL\0not this"), -1)
    script.call("panic_hook", b"at src/lib.rs:1")
    script.call("debug", b"\xff")
    record = script.run(app()).answer.record
    assert record.log_lines == ["first", "up to a NUL", "panic: at src/lib.rs:1", "\N{REPLACEMENT CHARACTER}"]


def test_the_log_is_bounded() -> None:
    script = Script()
    script.call("debug", 0, 1 << 20)
    script.call("debug", b"short")
    script.call("debug", 65536 * 17 - 1, -1)  # no NUL up to the memory's end
    record = script.run(app(limits=Limits(log_bytes=100))).answer.record
    assert record.log_lines is not None
    assert "short" in record.log_lines
    assert record.log_lost >= 65536


@pytest.mark.parametrize(
    ("text", "utf8"),
    [
        ("Grüße, 世界 🌍".encode("utf-16-le"), "Grüße, 世界 🌍".encode()),
        (b"", b""),
        (b"\x00\xd8a\x00", "\N{REPLACEMENT CHARACTER}a".encode()),
        (b"\x00\xdc", "\N{REPLACEMENT CHARACTER}".encode()),
    ],
    ids=range(4),
)
def test_text(text: bytes, utf8: bytes) -> None:
    script = Script()
    at = script.room()
    script.call("utf16_to_utf8_lossy", at, at + 4, script.data(text), len(text) // 2)
    assert script.run(app()).string(at) == utf8
    script = Script()
    at = script.room()
    script.call("utf8_to_utf16_lossy", at, at + 4, utf8)
    done = script.run(app())
    pointer, units = done.u32(at), done.u32(at + 4)
    assert done.memory[pointer : pointer + 2 * units] == utf8.decode().encode("utf-16-le")
    assert done.memory[pointer + 2 * units :][:2] == b"\0\0"


def test_text_that_is_none() -> None:
    script = Script()
    at = script.room()
    script.call("utf8_to_utf16_lossy", at, at + 4, b"a\xffb")
    done = script.run(app())
    assert done.memory[done.u32(at) :][:6].decode("utf-16-le") == "a\N{REPLACEMENT CHARACTER}b"
