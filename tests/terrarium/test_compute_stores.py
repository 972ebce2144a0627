"""Compute: configuration, secrets, keys and values, the old object stores."""

from __future__ import annotations

import asyncio
import base64
import json
from struct import pack
from typing import Any

import pytest

from lucet.terrarium.compute_table import KvError, Status
from lucet.terrarium.environment import Entry, StoreFull
from lucet.terrarium.limits import Limits
from tests.kit.compute import Arriving, Caller, SlowKeys
from tests.kit.terrarium import DictKeys


class FullKeys(DictKeys):
    def put(self, store: str, key: bytes, value: bytes, **how: Any) -> tuple[bool, bool]:
        raise StoreFull


class FullSlowKeys(DictKeys):
    async def put(self, store: str, key: bytes, value: bytes, **how: Any) -> tuple[bool, bool]:
        raise StoreFull


@pytest.mark.parametrize("module", ["fastly_dictionary", "fastly_config_store"])
def test_configuration(module: str) -> None:
    stores = {"settings": {"name": "välue", "empty": ""}, "": {"own": "1"}, "fastly:geolocation": {"a": "b"}}
    with Caller(configuration=stores) as guest:
        store = guest.good(f"{module}.open", "settings")
        assert guest.good(f"{module}.get", store, "name") == "välue".encode()
        assert guest.good(f"{module}.get", store, "empty") == b""
        assert guest.call(f"{module}.get", store, "name", room=5) == (Status.BUFLEN, 6)
        assert guest.status(f"{module}.get", store, "absent") == Status.NONE
        assert guest.status(f"{module}.get", store, b"\xff") == Status.INVAL
        assert guest.status(f"{module}.get", 99, "name") == Status.BADF
        for name in ("absent", "", "fastly:geolocation"):
            assert guest.status(f"{module}.open", name) == Status.BADF


def test_secrets() -> None:
    with Caller(secrets={"vault": {"key": b"\0secret"}}) as guest:
        store = guest.good("fastly_secret_store.open", "vault")
        secret = guest.good("fastly_secret_store.get", store, "key")
        assert guest.good("fastly_secret_store.plaintext", secret) == b"\0secret"
        assert guest.call("fastly_secret_store.plaintext", secret, room=6) == (Status.BUFLEN, 7)
        assert guest.status("fastly_secret_store.get", store, "absent") == Status.NONE
        assert guest.status("fastly_secret_store.open", "absent") == Status.NONE
        assert guest.status("fastly_secret_store.plaintext", store) == Status.BADF
        own = guest.good("fastly_secret_store.from_bytes", b"made here")
        assert guest.good("fastly_secret_store.plaintext", own) == b"made here"
        assert guest.status("fastly_secret_store.from_bytes", b"x" * 65537) == Status.LIMITEXCEEDED


# ---- keys and values ----


def lookup(guest: Caller, store: int, key: str, version: str = "_v2") -> tuple[Any, ...]:
    """Value, metadata, generation; or the kv_error."""
    pending = guest.good("fastly_kv_store.lookup", store, key, 0, 0)
    body, metadata, generation, error = guest.good(f"fastly_kv_store.lookup_wait{version}", pending)
    assert guest.status(f"fastly_kv_store.lookup_wait{version}", pending) == Status.BADF
    return (guest.read(body), metadata, generation) if error == KvError.OK else (error,)


def insert(guest: Caller, store: int, key: str, value: bytes, mode: int = 0, **how: Any) -> int:
    metadata = how.get("metadata", b"")
    options = 8 * ("metadata" in how) | 16 * ("ttl" in how) | 32 * ("generation" in how)
    at = guest.put(metadata)
    config = pack("<IIIIIIQ", mode, 0, at, len(metadata), how.get("ttl", 0), 0, how.get("generation", 0))
    pending = guest.good("fastly_kv_store.insert", store, key, guest.body(value), options, guest.put(config))
    error: int = guest.good("fastly_kv_store.insert_wait", pending)
    return error


@pytest.mark.parametrize("keys", [DictKeys, SlowKeys])
def test_keys_and_values(keys: type[DictKeys]) -> None:
    with Caller(keys=keys()) as guest:
        store = guest.good("fastly_kv_store.open", "things")
        assert lookup(guest, store, "key") == (KvError.NOT_FOUND,)
        assert insert(guest, store, "key", b"one", metadata=b"about", ttl=60) == KvError.OK
        assert lookup(guest, store, "key") == (b"one", b"about", 1)
        assert lookup(guest, store, "key", "") == (b"one", b"about", 0)
        assert insert(guest, store, "key", b"two", 1) == KvError.PRECONDITION_FAILED
        assert insert(guest, store, "key", b"two", 2) == KvError.OK
        assert insert(guest, store, "key", b"zero", 3) == KvError.OK
        assert lookup(guest, store, "key")[0] == b"zeroonetwo"
        assert insert(guest, store, "key", b"new", generation=1) == KvError.PRECONDITION_FAILED
        assert insert(guest, store, "key", b"new", generation=3) == KvError.OK
        pending = guest.good("fastly_kv_store.delete", store, "key", 0, 0)
        guest.good("fastly_async_io.select", [pending], 0)
        assert guest.good("fastly_kv_store.delete_wait", pending) == KvError.OK
        assert lookup(guest, store, "key") == (KvError.NOT_FOUND,)
        other = guest.good("fastly_kv_store.open", "others")
        assert insert(guest, other, "key", b"elsewhere") == KvError.OK
        assert lookup(guest, store, "key") == (KvError.NOT_FOUND,)


def test_metadata_that_does_not_fit() -> None:
    with Caller() as guest:
        store = guest.good("fastly_kv_store.open", "things")
        assert insert(guest, store, "key", b"one", metadata=b"about") == KvError.OK
        pending = guest.good("fastly_kv_store.lookup", store, "key", 0, 0)
        handles = len(guest.visit.handles)
        status, _, size, *_ = guest.call("fastly_kv_store.lookup_wait_v2", pending, room=4)
        assert (status, size) == (Status.BUFLEN, 5)
        assert len(guest.visit.handles) == handles
        assert guest.visit.store.held == 0
        # The lookup is still there for another try.
        assert guest.good("fastly_kv_store.lookup_wait_v2", pending, room=5)[1] == b"about"


@pytest.mark.parametrize("keys", [DictKeys, SlowKeys])
def test_listing(keys: type[DictKeys]) -> None:
    with Caller(keys=keys()) as guest:
        store = guest.good("fastly_kv_store.open", "things")
        for i in range(5):
            assert insert(guest, store, f"a{i}", b"") == KvError.OK
        assert insert(guest, store, "b", b"") == KvError.OK

        def listing(options: int = 0, cursor: bytes = b"", limit: int = 0, prefix: bytes = b"") -> Any:
            at = guest.put(cursor), guest.put(prefix)
            config = guest.put(pack("<IIIIII", 0, at[0], len(cursor), limit, at[1], len(prefix)))
            pending = guest.good("fastly_kv_store.list", store, options, config)
            body, error = guest.good("fastly_kv_store.list_wait", pending)
            assert error == KvError.OK
            return json.loads(guest.read(body))

        everything = ["a0", "a1", "a2", "a3", "a4", "b"]
        assert listing() == {"data": everything, "meta": {"limit": 100}}
        first = listing(4 | 8, limit=3, prefix=b"a")
        cursor = base64.b64encode(b"a2").decode()
        assert first == {"data": ["a0", "a1", "a2"], "meta": {"limit": 3, "prefix": "a", "next_cursor": cursor}}
        rest = listing(2 | 4 | 8, cursor=cursor.encode(), limit=3, prefix=b"a")
        assert rest == {"data": ["a3", "a4"], "meta": {"limit": 3, "prefix": "a"}}
        config = guest.put(pack("<IIIIII", 0, guest.put(b"?!"), 2, 0, 0, 0))
        assert guest.status("fastly_kv_store.list", store, 2, config) == Status.INVAL


@pytest.mark.parametrize(
    "key", ["", "a" * 1025, ".", "..", "a/../b", "a\nb", "a#b", "a?b", ".well-known/acme-challenge/x"]
)
def test_what_is_no_key(key: str) -> None:
    with Caller() as guest:
        store = guest.good("fastly_kv_store.open", "things")
        assert guest.status("fastly_kv_store.lookup", store, key, 0, 0) == Status.INVAL
        assert guest.status("fastly_kv_store.delete", store, key, 0, 0) == Status.INVAL
        config = guest.put(bytes(32))
        assert guest.status("fastly_kv_store.insert", store, key, guest.body(), 0, config) == Status.INVAL


def test_stores_and_configurations_that_are_wrong() -> None:
    with Caller() as guest:
        for name in ("", "n" * 256):
            assert guest.status("fastly_kv_store.open", name) == Status.INVAL
        store = guest.good("fastly_kv_store.open", "things")
        for options, config in (
            (1 << 6, bytes(32)),
            (0, pack("<I", 4) + bytes(28)),
            (8, bytes(32)),
            (8, pack("<IIII", 0, 0, 0, 5000) + bytes(16)),
        ):
            body = guest.body(b"x")
            assert guest.status("fastly_kv_store.insert", store, "k", body, options, guest.put(config)) == Status.INVAL
        assert guest.status("fastly_kv_store.insert", store, "k", guest.body(), 0, 0xFFFFFF00) == Status.INVAL
        assert guest.visit.store.held == 0


@pytest.mark.parametrize("keys", [FullKeys, FullSlowKeys])
def test_a_full_store(keys: type[DictKeys]) -> None:
    with Caller(keys=keys()) as guest:
        store = guest.good("fastly_kv_store.open", "things")
        assert insert(guest, store, "key", b"one") == KvError.PAYLOAD_TOO_LARGE
        assert guest.status("fastly_object_store.insert", store, "key", guest.body(b"one")) == Status.LIMITEXCEEDED


def test_a_value_that_is_too_large() -> None:
    body = Arriving(*[b"x" * 50] * 100)
    with Caller("POST", body=body, limits=Limits(kv_value=1000)) as guest:
        store = guest.good("fastly_kv_store.open", "things")
        assert insert(guest, store, "key", b"x" * 1001) == KvError.PAYLOAD_TOO_LARGE
        arriving = guest.good("fastly_http_req.body_downstream_get")[1]
        config = guest.put(bytes(32))
        pending = guest.good("fastly_kv_store.insert", store, "key", arriving, 0, config)
        assert guest.good("fastly_kv_store.insert_wait", pending) == KvError.PAYLOAD_TOO_LARGE
        # It was not read to its end.
        assert len(body.parts) > 70


def test_a_value_that_arrives() -> None:
    with Caller("POST", body=Arriving(b"one", b"two")) as guest:
        store = guest.good("fastly_kv_store.open", "things")
        body = guest.good("fastly_http_req.body_downstream_get")[1]
        pending = guest.good("fastly_kv_store.insert", store, "key", body, 0, guest.put(bytes(32)))
        assert guest.good("fastly_kv_store.insert_wait", pending) == KvError.OK
        assert lookup(guest, store, "key")[0] == b"onetwo"


def test_values_that_the_guest_holds_are_counted() -> None:
    with Caller(limits=Limits(response_body=10_000)) as guest:
        store = guest.good("fastly_kv_store.open", "things")
        assert insert(guest, store, "key", b"x" * 4000) == KvError.OK
        calls = [guest.call("fastly_kv_store.lookup", store, "key", 0, 0) for _ in range(4)]
        assert [status for status, _ in calls] == [0, 0, Status.LIMITEXCEEDED, Status.LIMITEXCEEDED]
        # Asking for it does not need as much again.
        body = guest.good("fastly_kv_store.lookup_wait_v2", calls[0][1])[0]
        assert guest.status("fastly_kv_store.lookup", store, "key", 0, 0) == Status.LIMITEXCEEDED
        assert guest.call("fastly_http_body.close", body) == (0,)
        assert guest.status("fastly_kv_store.lookup", store, "key", 0, 0) == 0


def test_values_that_come_later_are_counted() -> None:
    class Gated(SlowKeys):
        asked = 0
        gate = asyncio.Event()

        async def get(self, store: str, key: bytes) -> Entry | None:  # type: ignore[override]
            self.asked += 1
            await self.gate.wait()
            return Entry(value=b"x" * 4000)

    keys = Gated()
    with Caller(limits=Limits(response_body=10_000), keys=keys) as guest:
        store = guest.good("fastly_kv_store.open", "things")
        pending = [guest.good("fastly_kv_store.lookup", store, "key", 0, 0) for _ in range(20)]
        assert guest.good("fastly_async_io.is_ready", pending[0]) == 0
        assert keys.asked == 8
        keys.gate.set()
        statuses = [guest.status("fastly_kv_store.lookup_wait_v2", one) for one in pending]
        assert statuses == [0, 0] + [Status.LIMITEXCEEDED] * 18


# ---- object stores ----


@pytest.mark.parametrize("keys", [DictKeys, SlowKeys])
def test_object_stores(keys: type[DictKeys]) -> None:
    with Caller(keys=keys()) as guest:
        store = guest.good("fastly_object_store.open", "things")
        at = guest.put(b"\xfe\xff\xff\xff")
        key = guest.put(b"key")
        assert guest.raw("fastly_object_store.lookup", store, key, 3, at) == 0
        assert guest.memory.read_u32(at) == 0xFFFFFFFE
        assert guest.call("fastly_object_store.insert", store, "key", guest.body(b"one")) == (0,)
        assert guest.read(guest.good("fastly_object_store.lookup", store, "key")) == b"one"
        pending = guest.good("fastly_object_store.insert_async", store, "key", guest.body(b"two"))
        assert guest.call("fastly_object_store.pending_insert_wait", pending) == (0,)
        pending = guest.good("fastly_object_store.lookup_async", store, "key")
        assert guest.read(guest.good("fastly_object_store.pending_lookup_wait", pending)) == b"two"
        for expected in (0, Status.NONE):
            pending = guest.good("fastly_object_store.delete_async", store, "key")
            assert guest.status("fastly_object_store.pending_delete_wait", pending) == expected
