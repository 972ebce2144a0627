"""Compute: the cache of an application's own objects, and purging it."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest

from lucet.terrarium import compute_cache
from lucet.terrarium.compute_cache import (
    FOUND,
    MUST_INSERT,
    PER_OBJECT,
    STALE,
    USABLE,
    WRITE_HEADERS,
    WRITE_INITIAL_AGE,
    WRITE_LENGTH,
    WRITE_METADATA,
    WRITE_STALE,
    WRITE_SURROGATES,
    WRITE_VARY,
    Cache,
    Cached,
    Pool,
)
from lucet.terrarium.compute_table import Status
from lucet.terrarium.limits import Limits
from tests.kit.compute import Caller

SECOND = 10**9


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Time:
        now = 1000 * SECOND

    monkeypatch.setattr(compute_cache, "monotonic_ns", lambda: Time.now)
    return Time


def options(guest: Caller, max_age: int = 60 * SECOND, **how: Any) -> tuple[int, int]:
    """Mask, and where the structure is."""
    bits = {
        "request": WRITE_HEADERS,
        "vary": WRITE_VARY,
        "initial_age": WRITE_INITIAL_AGE,
        "stale": WRITE_STALE,
        "surrogates": WRITE_SURROGATES,
        "length": WRITE_LENGTH,
        "metadata": WRITE_METADATA,
    }
    texts = {
        name: (guest.put(how.get(name, b"")), len(how.get(name, b""))) for name in ("vary", "surrogates", "metadata")
    }
    data = pack(
        "<QIIIxxxxQQIIQIIQII",
        max_age,
        how.get("request", 0),
        *texts["vary"],
        how.get("initial_age", 0),
        how.get("stale", 0),
        *texts["surrogates"],
        how.get("length", 0),
        *texts["metadata"],
        0,
        0,
        0,
    )
    return sum(bits[name] for name in how), guest.put(data)


def write(guest: Caller, body: int, data: bytes) -> None:
    if data:
        assert guest.good("fastly_http_body.write", body, data, 0) == len(data)
    assert guest.call("fastly_http_body.close", body) == (0,)


def insert(guest: Caller, key: bytes, data: bytes, **how: Any) -> None:
    write(guest, guest.good("fastly_cache.insert", key, *options(guest, **how)), data)


def lookup(guest: Caller, key: bytes, request: int = 0) -> int:
    at = guest.put(request.to_bytes(4, "little") + bytes(8))
    return int(guest.good("fastly_cache.lookup", key, 2 if request else 0, at))


def content(guest: Caller, key: bytes, request: int = 0) -> bytes | None:
    handle = lookup(guest, key, request)
    status, body = guest.call("fastly_cache.get_body", handle, 0, 0)
    data = guest.read(body) if status == 0 else None
    if status == 0:
        assert guest.call("fastly_http_body.close", body) == (0,)
    assert guest.call("fastly_cache.close", handle) == (0,)
    return data


def another(guest: Caller, **app: Any) -> Caller:
    """Another request of the same application."""
    other = Caller(**app)
    other.visit.compute = guest.visit.compute
    return other


def test_an_object(time: Any) -> None:
    with Caller() as guest:
        assert content(guest, b"key") is None
        insert(guest, b"key", b"object", metadata=b"about", stale=10 * SECOND, initial_age=5 * SECOND)
        time.now += SECOND
        handle = lookup(guest, b"key")
        assert guest.good("fastly_cache.get_state", handle) == FOUND | USABLE
        assert guest.good("fastly_cache.get_user_metadata", handle) == b"about"
        assert guest.call("fastly_cache.get_user_metadata", handle, room=4) == (Status.BUFLEN, 5)
        assert guest.good("fastly_cache.get_length", handle) == 6
        assert guest.good("fastly_cache.get_max_age_ns", handle) == 60 * SECOND
        assert guest.good("fastly_cache.get_stale_while_revalidate_ns", handle) == 10 * SECOND
        assert guest.good("fastly_cache.get_age_ns", handle) == 6 * SECOND
        assert guest.good("fastly_cache.get_hits", handle) == 1
        assert guest.read(guest.good("fastly_cache.get_body", handle, 0, 0)) == b"object"
        assert guest.status("fastly_cache.get_body", handle, 2, 0) == Status.UNSUPPORTED
        with another(guest) as other:
            assert content(other, b"key") == b"object"
        insert(guest, b"key", b"new")
        assert content(guest, b"key") == b"new"


def test_another_version_has_another_cache() -> None:
    with Caller() as guest, Caller() as other:
        insert(guest, b"key", b"object")
        assert content(other, b"key") is None


def test_objects_age(time: Any) -> None:
    with Caller() as guest:
        insert(guest, b"key", b"object", max_age=10 * SECOND, stale=5 * SECOND)
        states = []
        for _ in range(4):
            states.append(guest.good("fastly_cache.get_state", lookup(guest, b"key")))
            time.now += 6 * SECOND
        assert states == [FOUND | USABLE, FOUND | USABLE, FOUND | USABLE | STALE, 0]
        handle = lookup(guest, b"key")
        for function in ("get_length", "get_max_age_ns", "get_stale_while_revalidate_ns", "get_age_ns", "get_hits"):
            assert guest.status(f"fastly_cache.{function}", handle) == Status.NONE
        assert guest.status("fastly_cache.get_user_metadata", handle) == Status.NONE


def test_an_age_that_is_extreme(time: Any) -> None:
    with Caller() as guest:
        most = (1 << 64) - 1
        insert(guest, b"key", b"object", max_age=most, stale=most, initial_age=most)
        time.now += SECOND
        assert guest.good("fastly_cache.get_age_ns", lookup(guest, b"key")) == most


def test_transactions(time: Any) -> None:
    with Caller() as guest:
        first = guest.good("fastly_cache.transaction_lookup", b"key", 0, 0)
        assert guest.good("fastly_cache.get_state", first) == MUST_INSERT
        assert guest.good("fastly_async_io.select", [first], 0) == 0
        body, back = guest.good(
            "fastly_cache.transaction_insert_and_stream_back", first, *options(guest, max_age=SECOND, stale=9 * SECOND)
        )
        assert guest.good("fastly_cache.get_state", first) == 0
        assert guest.good("fastly_cache.get_state", back) == FOUND | USABLE
        assert guest.status("fastly_cache.get_length", back) == Status.NONE
        # What is written can be read at once.
        reading = guest.good("fastly_cache.get_body", back, 0, 0)
        assert guest.good("fastly_async_io.is_ready", reading) == 0
        assert guest.good("fastly_http_body.write", body, b"one", 0) == 3
        assert guest.good("fastly_async_io.select", [reading], 0) == 0
        assert guest.good("fastly_http_body.read", reading) == b"one"
        assert content(guest, b"key") is None
        write(guest, body, b"two")
        assert guest.read(reading) == b"two"
        assert content(guest, b"key") == b"onetwo"
        assert guest.status("fastly_cache.transaction_insert", first, *options(guest)) == Status.INVAL
        # Stale: used, and to be renewed.
        time.now += 2 * SECOND
        busy = guest.good("fastly_cache.transaction_lookup_async", b"key", 0, 0)
        assert guest.good("fastly_async_io.is_ready", busy) == 1
        second = guest.good("fastly_cache.cache_busy_handle_wait", busy)
        assert guest.good("fastly_cache.get_state", second) == FOUND | USABLE | STALE | MUST_INSERT
        assert guest.call("fastly_cache.transaction_update", second, *options(guest, metadata=b"renewed")) == (0,)
        third = guest.good("fastly_cache.transaction_lookup", b"key", 0, 0)
        assert guest.good("fastly_cache.get_state", third) == FOUND | USABLE
        assert guest.good("fastly_cache.get_user_metadata", third) == b"renewed"
        assert content(guest, b"key") == b"onetwo"
        assert guest.status("fastly_cache.transaction_cancel", third) == Status.INVAL
        fourth = guest.good("fastly_cache.transaction_lookup", b"other", 0, 0)
        assert guest.status("fastly_cache.transaction_update", fourth, *options(guest)) == Status.INVAL
        assert guest.call("fastly_cache.transaction_cancel", fourth) == (0,)
        assert guest.status("fastly_cache.transaction_insert", fourth, *options(guest)) == Status.INVAL
        busy = guest.good("fastly_cache.transaction_lookup_async", b"key", 0, 0)
        assert guest.call("fastly_cache.close_busy", busy) == (0,)


def test_an_object_that_is_abandoned() -> None:
    with Caller() as guest:
        pending = guest.good("fastly_cache.transaction_lookup", b"key", 0, 0)
        body, back = guest.good("fastly_cache.transaction_insert_and_stream_back", pending, *options(guest))
        reading = guest.good("fastly_cache.get_body", back, 0, 0)
        assert guest.good("fastly_http_body.write", body, b"one", 0) == 3
        assert guest.call("fastly_http_body.abandon", body) == (0,)
        assert guest.good("fastly_http_body.read", reading) == b"one"
        assert guest.status("fastly_http_body.read", reading) == Status.HTTPINCOMPLETE
        assert content(guest, b"key") is None


def test_an_object_of_another_length_than_was_said() -> None:
    with Caller() as guest:
        insert(guest, b"short", b"one", length=4)
        insert(guest, b"right", b"four", length=4)
        assert content(guest, b"short") is None
        assert content(guest, b"right") == b"four"


def test_what_objects_vary_with() -> None:
    with Caller() as guest:

        def asking(language: bytes) -> int:
            request: int = guest.good("fastly_http_req.new")
            assert guest.call("fastly_http_req.header_insert", request, b"Accept-Language", language) == (0,)
            return request

        german, english = asking(b"de"), asking(b"en")
        for request, text in ((german, b"Hallo"), (english, b"hello")):
            insert(guest, b"key", text, request=request, vary=b"Accept-Language accept")
        assert content(guest, b"key", german) == b"Hallo"
        assert content(guest, b"key", english) == b"hello"
        assert content(guest, b"key", asking(b"fr")) is None
        assert content(guest, b"key") is None
        at = guest.put((999).to_bytes(4, "little") + bytes(8))
        assert guest.status("fastly_cache.lookup", b"key", 2, at) == Status.BADF


def test_purging(time: Any) -> None:
    with Caller() as guest:
        for key, surrogates in ((b"a", b"one two"), (b"b", b"two"), (b"c", b"three")):
            insert(guest, key, key, surrogates=surrogates, stale=60 * SECOND)
        time.now += SECOND
        assert guest.call("fastly_purge.purge_surrogate_key", "one", 0, 0) == (0,)
        assert [content(guest, key) for key in (b"a", b"b", b"c")] == [None, b"b", b"c"]
        assert guest.call("fastly_purge.purge_surrogate_key", "two", 1, 0) == (0,)
        assert guest.good("fastly_cache.get_state", lookup(guest, b"b")) == FOUND | USABLE | STALE
        buffer, written = guest.room(100), guest.room(4)
        at = guest.put(pack("<III", buffer, 100, written))
        assert guest.call("fastly_purge.purge_surrogate_key", "three", 2, at) == (0,)
        answer = b'{"status": "ok", "id": "request-1"}'
        assert guest.memory.read(buffer, guest.memory.read_u32(written)) == answer
        at = guest.put(pack("<III", buffer, 5, written))
        assert guest.status("fastly_purge.purge_surrogate_key", "three", 2, at) == Status.BUFLEN
        assert guest.memory.read_u32(written) == len(answer)
        assert content(guest, b"c") is None
        for name, mask in (("", 0), ("x", 4)):
            assert guest.status("fastly_purge.purge_surrogate_key", name, mask, 0) == Status.INVAL


def test_what_is_wrong() -> None:
    with Caller() as guest:
        assert guest.status("fastly_cache.lookup", b"k" * 8193, 0, 0) == Status.INVAL
        assert guest.status("fastly_cache.lookup", b"k", 1, 0) == Status.INVAL
        assert guest.status("fastly_cache.lookup", b"k", 1 << 4, 0) == Status.INVAL
        assert guest.status("fastly_cache.insert", b"k", 1, options(guest)[1]) == Status.INVAL
        assert guest.status("fastly_cache.insert", b"k", 0, 0xFFFFFF00) == Status.INVAL
        assert (
            guest.status("fastly_cache.insert", b"k", *options(guest, metadata=b"x" * 20_000)) == Status.LIMITEXCEEDED
        )
        assert guest.status("fastly_cache.insert", b"k", *options(guest, request=99)) == Status.BADF
        assert guest.status("fastly_cache.get_state", 99) == Status.BADF


# ---- bounds ----


def test_an_object_is_bounded() -> None:
    with Caller() as guest:
        guest.visit.compute.cache.limit = 10_000
        body = guest.good("fastly_cache.insert", b"key", *options(guest))
        assert guest.good("fastly_http_body.write", body, b"x" * 6000, 0) == 6000
        assert guest.status("fastly_http_body.write", body, b"x" * 6000, 0) == Status.LIMITEXCEEDED
        assert guest.call("fastly_http_body.close", body) == (0,)
        assert content(guest, b"key") == b"x" * 6000


def test_what_a_request_caches_and_finds_is_counted() -> None:
    with Caller(limits=Limits(response_body=20_000)) as guest:
        insert(guest, b"key", b"x" * 9000)
        assert guest.visit.kept == guest.visit.store.held == 9000
        first = lookup(guest, b"key")
        assert guest.status("fastly_cache.lookup", b"key", 0, 0) == Status.LIMITEXCEEDED
        assert guest.call("fastly_cache.close", first) == (0,)
        lookup(guest, b"key")
    with another(guest, limits=Limits(response_body=20_000)) as other:
        found = lookup(other, b"key")
        other.good("fastly_cache.get_body", found, 0, 0)
        assert other.status("fastly_cache.get_body", found, 0, 0) == Status.LIMITEXCEEDED


def made(size: int, vary: Any = ()) -> Cached:
    one = Cached()
    one.data = bytearray(size)
    one.max_age = 60 * SECOND
    one.vary = vary
    return one


def test_caches_are_bounded() -> None:
    pool = Pool(100_000)
    first, second = Cache(60_000, pool), Cache(60_000, pool)
    for number in range(100):
        first.put(b"%d" % number, made(1000))
        assert first.size <= 60_000
    assert first.find(b"0", None) is None
    assert first.find(b"99", None) is not None
    before = first.size
    for number in range(100):
        second.put(b"%d" % number, made(1000))
        assert pool.size == first.size + second.size <= 100_000
    # Those go first that were not used for longest, whosever they are; the one that was used last is still there.
    assert first.size < before
    assert first.find(b"99", None) is not None
    first.put(b"large", made(60_000))
    assert first.find(b"large", None) is None
    for cache in (first, second):
        for key in tuple(cache.objects):
            cache.forget(key)
    assert pool.size == first.size == second.size == 0
    assert not pool.order


def test_variants_are_bounded() -> None:
    cache = Cache(1 << 20, Pool(1 << 20))
    for number in range(100):
        cache.put(b"key", made(10, ((b"x", (b"%d" % number,)),)))
    assert len(cache.objects[b"key"]) == compute_cache.MAX_VARIANTS
    assert cache.size <= compute_cache.MAX_VARIANTS * (PER_OBJECT + 100)
