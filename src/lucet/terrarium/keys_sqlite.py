"""Tenants' key-value stores in one SQLite database, which several processes may share.

Calls are answered at once, in the event loop's thread: a read takes some 5 us, a write some 25. What would take longer
goes to a thread: large values, and whatever has to wait for another process's write. Commits are in the system's hands
when a write is answered: they survive the process, not a power cut, in which the last ones may be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from lucet.errors import LucetError
from lucet.terrarium.environment import Entry, KeyValues, MaybeLater, StoreFull, Write, check_name
from lucet.terrarium.keys import check_room, size_of
from lucet.terrarium.limits import Limits

T = TypeVar("T")

VERSION: Final = 1
LARGE: Final = 1 << 16
"""Bytes of a value that is read and written in a thread."""
ANY: Final = 1 << 62
PATIENCE: Final = 10.0
"""Seconds that a thread waits for another process's write."""
CHECKPOINT: Final = 4 << 20
"""Bytes of writes after which the log is moved into the database, in a thread: that waits for the disk."""
PAGE: Final = 3 * 4096
"""Bytes that the smallest write adds to the log, about."""

_TABLES: Final = """
CREATE TABLE tenants (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    used INTEGER NOT NULL DEFAULT 0,        -- bytes
    generation INTEGER NOT NULL DEFAULT 0   -- of the last write
);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenants,
    store TEXT NOT NULL,
    key BLOB NOT NULL,
    generation INTEGER NOT NULL,
    expires REAL,
    size INTEGER NOT NULL,                  -- what it counts
    metadata BLOB NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (tenant, store, key)
);
CREATE INDEX expiring ON entries (tenant, expires) WHERE expires IS NOT NULL;
"""
_TENANT: Final = "SELECT id FROM tenants WHERE name = ?"
_NEW_TENANT: Final = "INSERT OR IGNORE INTO tenants (name) VALUES (?)"
_USED: Final = "SELECT used, generation FROM tenants WHERE id = ?"
_USE: Final = "UPDATE tenants SET used = ?, generation = ? WHERE id = ?"
_GET: Final = """
SELECT CASE WHEN size <= ? THEN value END, metadata, generation, expires, size FROM entries
WHERE tenant = ? AND store = ? AND key = ?
"""
_PUT: Final = """
INSERT INTO entries (tenant, store, key, generation, expires, size, metadata, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, store, key) DO UPDATE SET
    generation = excluded.generation, expires = excluded.expires, size = excluded.size,
    metadata = excluded.metadata, value = excluded.value
"""
_DELETE: Final = "DELETE FROM entries WHERE tenant = ? AND store = ? AND key = ? RETURNING size, expires"
_UNUSE: Final = "UPDATE tenants SET used = used - ? WHERE id = ?"
_EXPIRED: Final = """
DELETE FROM entries WHERE id IN (
    SELECT id FROM entries WHERE tenant = ? AND expires <= ? AND NOT (store = ? AND key = ?) LIMIT 1000
) RETURNING size
"""
_KEYS: Final = """
SELECT key FROM entries
WHERE tenant = ? AND store = ? AND key > ? AND key >= ? AND (? IS NULL OR key < ?) AND (expires IS NULL OR expires > ?)
ORDER BY key LIMIT ?
"""


class _TooLarge(Exception):
    """For the event loop's thread."""


Work = Callable[[sqlite3.Connection, int], T]
"""What is done with a connection: values of at most so many bytes may be read."""


class SqliteStores:
    """The database of all tenants. LucetError: it is damaged, or of another version."""

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.clock = clock
        self.here = _connect(path, 0)
        """For the event loop's thread: it does not wait."""
        self._there: sqlite3.Connection | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._written = 0
        try:
            self.here.execute(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")
            self.here.execute("BEGIN IMMEDIATE")
            if self.here.execute("PRAGMA user_version").fetchone() == (0,):
                for statement in _TABLES.split(";\n"):
                    self.here.execute(statement)
                self.here.execute(f"PRAGMA user_version = {VERSION}")
            (found,) = self.here.execute("PRAGMA user_version").fetchone()
            self.here.execute("COMMIT")
            self.here.execute("PRAGMA busy_timeout = 0")
        except sqlite3.DatabaseError as error:
            raise LucetError(f"{path}: {error}") from error
        if found != VERSION:
            self.here.close()
            raise LucetError(f"{path}: is of version {found} of the tables, this server knows version {VERSION}")

    def tenant(self, name: str, limits: Limits) -> SqliteKeys:
        """Its store, with the limits kv_bytes and kv_value."""
        return SqliteKeys(self, name, limits)

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()
        if self._there is not None:
            self._there.close()
        self.here.close()

    def do(self, work: Work[T], is_large: bool = False) -> MaybeLater[T]:
        """What the work gives, or what is to be awaited for it."""
        if not is_large:
            try:
                return work(self.here, LARGE)
            except _TooLarge:
                pass
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                    raise _full(error) from error
        return self._later(work)

    async def _later(self, work: Work[T]) -> T:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, "lucet-keys")
        return await asyncio.wrap_future(self._threads.submit(self._in_thread, work))

    def _in_thread(self, work: Work[T]) -> T:
        if self._there is None:
            self._there = _connect(self.path, PATIENCE)
        try:
            return work(self._there, ANY)
        except sqlite3.OperationalError as error:
            raise _full(error) from error

    def written(self, size: int) -> None:
        self._written += size + PAGE
        if self._written >= CHECKPOINT:
            self._written = 0
            if self._threads is None:
                self._threads = ThreadPoolExecutor(1, "lucet-keys")
            self._threads.submit(self._in_thread, _checkpoint)


def _checkpoint(database: sqlite3.Connection, _limit: int) -> None:
    with contextlib.suppress(sqlite3.OperationalError):  # the disk is full, say: there is another one soon
        ((_, pages, _),) = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        if pages > 2 * CHECKPOINT // 4096:  # somebody writes all the time, and the log only grows: let writers wait
            database.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()


def _full(error: sqlite3.OperationalError) -> Exception:
    if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR}:
        return StoreFull(f"the database: {error}")
    return error


def _connect(path: str | Path, patience: float) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
    except sqlite3.DatabaseError as error:
        raise LucetError(f"{path}: {error}") from error
    return database


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


class SqliteKeys(KeyValues):
    """One tenant's: SqliteStores.tenant()."""

    __slots__ = ("_id", "_name", "_stores", "limits")

    def __init__(self, stores: SqliteStores, name: str, limits: Limits) -> None:
        self.limits = limits
        self._stores = stores
        self._name = name
        self._id: int | None = None
        """None: it has written nothing yet, as far as is known."""

    def _find(self, database: sqlite3.Connection) -> int | None:
        if self._id is None:
            row = database.execute(_TENANT, (self._name,)).fetchone()
            if row is not None:
                self._id = row[0]
        return self._id

    def get(self, store: str, key: bytes) -> MaybeLater[Entry | None]:
        check_name(store, key)
        return self._stores.do(lambda database, limit: self._get(database, limit, store, key))

    def _get(self, database: sqlite3.Connection, limit: int, store: str, key: bytes) -> Entry | None:
        row = database.execute(_GET, (limit, self._find(database), store, key)).fetchone()
        return self._entry(row, self._stores.clock())

    @staticmethod
    def _entry(row: tuple[bytes | None, bytes, int, float | None, int] | None, now: float) -> Entry | None:
        if row is None or (row[3] is not None and row[3] <= now):
            return None
        if row[0] is None:
            raise _TooLarge
        return Entry(value=row[0], metadata=row[1], generation=row[2], expires=row[3])

    def write(self, write: Write) -> MaybeLater[tuple[bool, bool]]:
        if len(write.value) > self.limits.kv_value:
            raise StoreFull(f"a value of {len(write.value)} bytes: at most {self.limits.kv_value} are allowed")
        return self._stores.do(lambda database, limit: self._put(database, limit, write), len(write.value) > LARGE)

    def _put(self, database: sqlite3.Connection, limit: int, write: Write) -> tuple[bool, bool]:
        now = self._stores.clock()
        with _transaction(database):
            tenant = self._find(database)
            if tenant is None:
                database.execute(_NEW_TENANT, (self._name,))
                # Not remembered before it is committed.
                (tenant,) = database.execute(_TENANT, (self._name,)).fetchone()
            used, generation = database.execute(_USED, (tenant,)).fetchone()
            row = database.execute(_GET, (limit, tenant, write.store, write.key)).fetchone()
            if row is not None and write.mode in {"overwrite", "add"}:
                row = (b"", *row[1:])  # whatever it is
            old = self._entry(row, now)
            entry = write.onto(old, generation + 1, now)
            if entry is None:
                return False, old is None
            size = size_of(write.key, entry)
            used += size - (row[4] if row else 0)
            if used > self.limits.kv_bytes:
                used -= self._drop_expired(database, tenant, now, write)
            check_room(write.key, entry, used, self.limits)
            database.execute(
                _PUT,
                (
                    tenant,
                    write.store,
                    write.key,
                    entry.generation,
                    entry.expires,
                    size,
                    entry.metadata,
                    entry.value,
                ),
            )
            database.execute(_USE, (used, entry.generation, tenant))
        self._stores.written(size)
        return True, old is None

    @staticmethod
    def _drop_expired(database: sqlite3.Connection, tenant: int, now: float, write: Write) -> int:
        """Bytes that this gives back. Not of the entry that is being written: its size is accounted for already."""
        rows = database.execute(_EXPIRED, (tenant, now, write.store, write.key)).fetchall()
        return sum(size for (size,) in rows)

    def delete(self, store: str, key: bytes) -> MaybeLater[bool]:
        check_name(store, key)
        return self._stores.do(lambda database, _: self._delete(database, store, key))

    def _delete(self, database: sqlite3.Connection, store: str, key: bytes) -> bool:
        tenant = self._find(database)
        if tenant is None:
            return False
        with _transaction(database):
            row = database.execute(_DELETE, (tenant, store, key)).fetchone()
            if row is None:
                return False
            database.execute(_UNUSE, (row[0], tenant))
        self._stores.written(0)
        return row[1] is None or row[1] > self._stores.clock()

    def keys(
        self, store: str, *, prefix: bytes = b"", after: bytes = b"", limit: int = 1000
    ) -> MaybeLater[list[bytes]]:
        check_name(store)
        end = _behind(prefix)
        return self._stores.do(
            lambda database, _: [
                key
                for (key,) in database.execute(
                    _KEYS,
                    (self._find(database), store, after, prefix, end, end, self._stores.clock(), limit),
                )
            ]
        )


def _behind(prefix: bytes) -> bytes | None:
    """The first string beyond all with the prefix; None if there is none."""
    prefix = prefix.rstrip(b"\xff")
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else None
