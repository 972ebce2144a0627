"""Tenants' key-value stores: in memory, in SQLite, in Redis."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lucet.errors import LucetError
from lucet.terrarium.environment import Entry, KeyValues, StoreFull
from lucet.terrarium.keys import OVERHEAD, MemoryKeys
from lucet.terrarium.keys_sqlite import LARGE, SqliteStores
from lucet.terrarium.limits import Limits

NOW = 1_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Stores:
    """tenant: makes a tenant's store. Their clock stands still."""

    tenant: Callable[[str, Limits], KeyValues]
    clock: Clock
    close: Callable[[], Coroutine[Any, Any, None] | None]


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = shutil.which("redis-server")
    if server is None or importlib.util.find_spec("redis") is None:
        pytest.skip("redis-server (Debian) and redis (PyPI) are not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory = tmp_path_factory.mktemp("redis")
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(params=["memory", "sqlite", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Stores]:
    """Stores, in a running loop; the same each time where they last."""
    clock = Clock()
    if request.param == "memory":
        return lambda: Stores(lambda name, limits: MemoryKeys(limits, clock), clock, lambda: None)
    if request.param == "sqlite":

        def in_sqlite() -> Stores:
            stores = SqliteStores(tmp_path / "keys.db", clock)
            return Stores(stores.tenant, clock, stores.close)

        return in_sqlite
    url: str = request.getfixturevalue("redis_url")
    prefix = tmp_path.name

    def in_redis() -> Stores:
        from lucet.terrarium.keys_redis import RedisStores

        stores = RedisStores(url, prefix, clock)
        return Stores(stores.tenant, clock, stores.close)

    return in_redis


async def now(found: Any) -> Any:
    return await found if inspect.isawaitable(found) else found


Test = Callable[[Stores], Coroutine[Any, Any, None]]


def run(make: Callable[[], Stores], test: Test) -> None:
    async def in_loop() -> None:
        stores = make()
        try:
            await test(stores)
        finally:
            await now(stores.close())

    asyncio.run(in_loop())


def test_what_writes_do(make: Callable[[], Stores]) -> None:
    async def test(stores: Stores) -> None:
        keys = stores.tenant("acme", Limits())
        assert await now(keys.get("s", b"k")) is None
        assert await now(keys.put("s", b"k", b"one", metadata=b"m")) == (True, True)
        first: Entry = await now(keys.get("s", b"k"))
        assert (first.value, first.metadata, first.expires) == (b"one", b"m", None)
        assert await now(keys.put("s", b"k", b"two", mode="add")) == (False, False)
        assert await now(keys.put("s", b"k", b"+", mode="append")) == (True, False)
        assert await now(keys.put("s", b"k", b"-", mode="prepend")) == (True, False)
        second: Entry = await now(keys.get("s", b"k"))
        assert (second.value, second.metadata) == (b"-one+", b"m")
        assert second.generation not in {0, first.generation}
        assert await now(keys.put("s", b"k", b"3")) == (True, False)
        assert (await now(keys.get("s", b"k"))).metadata == b""
        for mode in ("add", "append", "prepend"):
            assert await now(keys.put("s", mode.encode(), b"new", mode=mode)) == (True, True)
            assert (await now(keys.get("s", mode.encode()))).value == b"new"
        assert await now(keys.delete("s", b"k")) is True
        assert await now(keys.delete("s", b"k")) is False
        assert await now(keys.get("s", b"k")) is None

    run(make, test)


def test_generations(make: Callable[[], Stores]) -> None:
    """A write that expects another one does nothing; those of an entry that was there before never come back."""

    async def test(stores: Stores) -> None:
        keys = stores.tenant("acme", Limits())
        assert await now(keys.put("", b"k", b"1", if_generation=5)) == (False, True)
        assert await now(keys.put("", b"k", b"1", if_generation=0)) == (True, True)
        generation = (await now(keys.get("", b"k"))).generation
        assert await now(keys.put("", b"k", b"2", if_generation=generation + 1)) == (False, False)
        assert await now(keys.put("", b"k", b"2", if_generation=generation)) == (True, False)
        assert await now(keys.put("", b"k", b"3", if_generation=generation)) == (False, False)
        await now(keys.delete("", b"k"))
        assert await now(keys.put("", b"k", b"4")) == (True, True)
        assert await now(keys.put("", b"k", b"5", if_generation=generation)) == (False, False)

    run(make, test)


def test_time_to_live(make: Callable[[], Stores]) -> None:
    async def test(stores: Stores) -> None:
        keys = stores.tenant("acme", Limits())
        await now(keys.put("", b"k", b"1", ttl=10))
        await now(keys.put("", b"k", b"2", mode="append"))
        await now(keys.put("", b"stays", b"2", ttl=5))
        await now(keys.put("", b"stays", b"2"))
        assert (await now(keys.get("", b"k"))).expires == pytest.approx(NOW + 10)
        stores.clock.now = NOW + 9.9
        assert (await now(keys.get("", b"k"))).value == b"12"
        stores.clock.now = NOW + 10
        assert await now(keys.get("", b"k")) is None
        assert await now(keys.keys("")) == [b"stays"]
        assert await now(keys.delete("", b"k")) is False
        assert await now(keys.put("", b"k", b"3", mode="add", ttl=1)) == (True, True)
        stores.clock.now = NOW + 20
        assert await now(keys.delete("", b"k")) is False
        assert await now(keys.put("", b"k", b"4", mode="append")) == (True, True)
        assert (await now(keys.get("", b"k"))).value == b"4"
        with pytest.raises(ValueError, match="time to live"):
            await now(keys.put("", b"k", b"", ttl=0))

    run(make, test)


def test_lists(make: Callable[[], Stores]) -> None:
    async def test(stores: Stores) -> None:
        keys = stores.tenant("acme", Limits())
        names = [b"", b"\0", b"a", b"ab", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xffz"]
        for name in reversed(names):
            await now(keys.put("s", name, name))
        await now(keys.put("other", b"a", b""))
        assert await now(keys.keys("s")) == names[1:]  # those beyond b""
        assert await now(keys.keys("s", prefix=b"a")) == [b"a", b"ab", b"a\xff", b"a\xff\xff"]
        assert await now(keys.keys("s", prefix=b"a", after=b"ab", limit=1)) == [b"a\xff"]
        assert await now(keys.keys("s", prefix=b"b", after=b"a")) == [b"b"]
        assert await now(keys.keys("s", prefix=b"a", after=b"b")) == []
        assert await now(keys.keys("s", prefix=b"\xff")) == [b"\xff", b"\xff\xffz"]
        assert await now(keys.keys("none")) == []

    run(make, test)


def test_tenants_and_stores_are_apart(make: Callable[[], Stores]) -> None:
    async def test(stores: Stores) -> None:
        places = [("acme", ""), ("acme", "s"), ("acme:s", ""), ("", "acme"), ("other", "s"), ("ä{}", "ä:")]
        for tenant, store in places:
            await now(stores.tenant(tenant, Limits()).put(store, b"k", f"{tenant}/{store}".encode()))
        for tenant, store in places:
            keys = stores.tenant(tenant, Limits())
            if isinstance(keys, MemoryKeys):
                continue
            assert (await now(keys.get(store, b"k"))).value == f"{tenant}/{store}".encode()
            assert await now(keys.keys(store)) == [b"k"]

    run(make, test)


def test_room(make: Callable[[], Stores]) -> None:
    async def test(stores: Stores) -> None:
        size = OVERHEAD + 1 + 100
        keys = stores.tenant("acme", Limits(kv_bytes=3 * size, kv_value=150))
        for name in (b"a", b"b", b"c"):
            await now(keys.put("s" + name.decode(), name, b"x" * 100))
        with pytest.raises(StoreFull, match="would have"):
            await now(keys.put("", b"d", b""))
        with pytest.raises(StoreFull, match="would have"):
            await now(keys.put("sa", b"a", b"x" * 101))
        with pytest.raises(StoreFull, match="would have"):
            await now(keys.put("sa", b"a", b"x", mode="append"))
        await now(keys.put("sa", b"a", b"x" * 36))
        await now(keys.put("", b"", b""))  # what it costs is what was given back
        with pytest.raises(StoreFull, match="would have"):
            await now(keys.put("", b"", b"x"))
        await now(keys.delete("", b""))
        with pytest.raises(StoreFull, match="at most 150"):
            await now(keys.put("sa", b"a", b"x" * 151))
        with pytest.raises(StoreFull, match="at most 150"):
            await now(keys.put("sa", b"a", b"x" * 115, mode="prepend"))
        assert (await now(keys.get("sa", b"a"))).value == b"x" * 36
        for name in (b"a", b"b", b"c"):
            assert await now(keys.delete("s" + name.decode(), name)) is True
        for name in (b"a", b"b", b"c"):
            await now(keys.put("", name, b"x" * 100))

    run(make, test)


def test_what_has_expired_makes_room(make: Callable[[], Stores]) -> None:
    async def test(stores: Stores) -> None:
        size = OVERHEAD + 1
        keys = stores.tenant("acme", Limits(kv_bytes=4 * size))
        for name in b"abcd":
            await now(keys.put("", bytes([name]), b"", ttl=10))
        with pytest.raises(StoreFull):
            await now(keys.put("", b"e", b""))
        stores.clock.now = NOW + 10
        for name in b"aefg":
            await now(keys.put("", bytes([name]), b""))
        with pytest.raises(StoreFull):
            await now(keys.put("", b"h", b""))
        assert await now(keys.keys("")) == [b"a", b"e", b"f", b"g"]

    run(make, test)


def test_names_that_are_too_long(make: Callable[[], Stores]) -> None:
    async def test(stores: Stores) -> None:
        keys = stores.tenant("acme", Limits())
        await now(keys.put("s" * 255, b"k" * 1024, b""))
        for store, key in (("s" * 256, b""), ("", b"k" * 1025)):
            with pytest.raises(ValueError, match="at most"):
                await now(keys.put(store, key, b""))
            with pytest.raises(ValueError, match="at most"):
                await now(keys.get(store, key))
            with pytest.raises(ValueError, match="at most"):
                await now(keys.delete(store, key))
        with pytest.raises(ValueError, match="mode"):
            await now(keys.put("", b"", b"", mode="replace"))

    run(make, test)


def test_large_values(make: Callable[[], Stores]) -> None:
    async def test(stores: Stores) -> None:
        keys = stores.tenant("acme", Limits())
        large = bytes(range(256)) * (LARGE // 128)
        assert await now(keys.put("", b"k", large)) == (True, True)
        assert (await now(keys.get("", b"k"))).value == large
        assert await now(keys.put("", b"k", b"!", mode="append")) == (True, False)
        assert (await now(keys.get("", b"k"))).value == large + b"!"
        assert await now(keys.put("", b"k", b"small")) == (True, False)
        assert (await now(keys.get("", b"k"))).value == b"small"

    run(make, test)


def test_many_at_once(make: Callable[[], Stores]) -> None:
    """Each of them is seen."""

    async def test(stores: Stores) -> None:
        keys = stores.tenant("acme", Limits())
        await asyncio.gather(*(now(keys.put("", b"k", b"x", mode="append")) for _ in range(200)))
        assert (await now(keys.get("", b"k"))).value == b"x" * 200

    run(make, test)


# ---- SQLite ----


def test_sqlite_lasts(tmp_path: Path) -> None:
    first = SqliteStores(tmp_path / "keys.db")
    first.tenant("acme", Limits()).put("", b"k", b"v")
    first.close()
    second = SqliteStores(tmp_path / "keys.db")
    entry = second.tenant("acme", Limits()).get("", b"k")
    assert isinstance(entry, Entry)
    assert entry.value == b"v"
    second.close()


def test_sqlite_does_not_wait_in_the_event_loop(tmp_path: Path) -> None:
    """While another process writes, the loop goes on, and the write is done afterwards."""

    async def in_loop() -> None:
        stores = SqliteStores(tmp_path / "keys.db")
        keys = stores.tenant("acme", Limits())
        keys.put("", b"k", b"1")
        other = sqlite3.connect(tmp_path / "keys.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = keys.put("", b"k", b"2", mode="append")
        assert inspect.isawaitable(waiting)
        task = asyncio.ensure_future(waiting)
        await asyncio.sleep(0.05)
        assert not task.done()
        entry = keys.get("", b"k")  # readers do not wait for writers
        assert isinstance(entry, Entry)
        assert entry.value == b"1"
        other.execute("ROLLBACK")
        other.close()
        assert await task == (True, False)
        entry = keys.get("", b"k")
        assert isinstance(entry, Entry)
        assert entry.value == b"12"
        stores.close()

    asyncio.run(in_loop())


@pytest.mark.parametrize("size", [10, 4 << 20])
def test_sqlite_moves_its_log(tmp_path: Path, size: int) -> None:
    """However small or large the writes are: nobody fills the disk with what was overwritten long ago."""

    async def run() -> None:
        stores = SqliteStores(tmp_path / "keys.db")
        keys = stores.tenant("acme", Limits())
        largest = 0
        for i in range(40 if size > LARGE else 20_000):
            await now(keys.put("", b"k", b"%d" % i + bytes(size)))
            if size > LARGE or i % 500 == 0:
                await asyncio.sleep(0)
                largest = max(largest, (tmp_path / "keys.db-wal").stat().st_size)
        assert largest < 80 << 20
        stores.close()
        assert not (tmp_path / "keys.db-wal").exists()

    asyncio.run(run())


def test_sqlite_refuses_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "keys.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(LucetError, match=r"keys\.db: "):
        SqliteStores(tmp_path / "keys.db")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(LucetError, match="version 99"):
        SqliteStores(tmp_path / "other.db")


def test_a_full_disk(tmp_path: Path) -> None:
    """Nothing is half written."""
    stores = SqliteStores(tmp_path / "keys.db")
    keys = stores.tenant("acme", Limits())
    keys.put("", b"k", b"1")
    stores.here.execute("PRAGMA max_page_count = 12")
    with pytest.raises(StoreFull, match="full"):
        for i in range(200):
            keys.put("", b"%d" % i, b"x" * 1000)
    entry = keys.get("", b"k")
    assert isinstance(entry, Entry)
    assert entry.value == b"1"
    stores.here.execute("PRAGMA max_page_count = 10000")
    assert keys.put("", b"after", b"x") == (True, True)
    stores.close()
