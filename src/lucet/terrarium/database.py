"""The server's database: its tables, transactions that are on the disk when they end, reads that wait for nobody."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lucet.errors import LucetError
from lucet.terrarium.catalogue import AppKey

VERSION: Final = 1
"""Of the tables below, kept in user_version."""

_TABLES: Final = """
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('revision', 0);
CREATE TABLE tenants (name TEXT PRIMARY KEY, settings TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE applications (
    tenant TEXT NOT NULL REFERENCES tenants,
    name TEXT NOT NULL,
    settings TEXT NOT NULL,
    shares TEXT NOT NULL DEFAULT '[]',      -- [[version, weight], ...]
    previous TEXT NOT NULL DEFAULT '[]',    -- what shares were before, for rolling back
    sticky TEXT NOT NULL DEFAULT '',
    expires REAL,
    stopped INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL,
    next_version INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant, name)
) WITHOUT ROWID;
CREATE INDEX expiring ON applications (expires) WHERE expires IS NOT NULL;
CREATE TABLE versions (
    tenant TEXT NOT NULL,
    application TEXT NOT NULL,
    number INTEGER NOT NULL,
    digest TEXT NOT NULL,                   -- of the .wasm
    interface TEXT NOT NULL,
    size INTEGER NOT NULL,
    kind TEXT NOT NULL,                     -- what it was built from
    log TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (tenant, application, number),
    FOREIGN KEY (tenant, application) REFERENCES applications ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX version_digests ON versions (digest);
CREATE TABLE routes (
    host TEXT NOT NULL,
    path TEXT NOT NULL,
    tenant TEXT NOT NULL,
    application TEXT NOT NULL,
    PRIMARY KEY (host, path),
    FOREIGN KEY (tenant, application) REFERENCES applications ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX application_routes ON routes (tenant, application);
CREATE TABLE configuration (
    tenant TEXT NOT NULL,
    application TEXT NOT NULL,
    store TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (tenant, application, store, key),
    FOREIGN KEY (tenant, application) REFERENCES applications ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE secrets (
    tenant TEXT NOT NULL,
    application TEXT NOT NULL,
    store TEXT NOT NULL,
    key TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (tenant, application, store, key),
    FOREIGN KEY (tenant, application) REFERENCES applications ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE assets (
    tenant TEXT NOT NULL,
    application TEXT NOT NULL,
    number INTEGER NOT NULL,
    path TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    PRIMARY KEY (tenant, application, number, path),
    FOREIGN KEY (tenant, application, number) REFERENCES versions ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX asset_digests ON assets (digest);
CREATE TABLE artifacts (
    digest TEXT NOT NULL,                   -- of the .wasm
    options TEXT NOT NULL,                  -- "fast", "default": the level
    compiler TEXT NOT NULL,                 -- digest of the compiler and all other options
    artifact TEXT NOT NULL,                 -- of the shared object
    PRIMARY KEY (digest, options)
) WITHOUT ROWID;
CREATE INDEX artifact_digests ON artifacts (artifact);
CREATE TABLE events (
    at REAL NOT NULL,
    tenant TEXT NOT NULL,
    application TEXT NOT NULL,
    what TEXT NOT NULL
);
CREATE INDEX application_events ON events (tenant, application);
"""


class StoreFailed(LucetError):
    """The disk is full or broken, or another process keeps the database: nothing was changed."""


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StoreFailed(f"the database: {error}") from error


@dataclass(slots=True)
class Change:
    """A transaction: what it has changed."""

    database: sqlite3.Connection
    keys: set[AppKey] = field(default_factory=set)

    def run(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self.database.execute(statement, values)


class Database:
    """on_change(keys) is called after each transaction that has changed applications, in the thread that made it."""

    def __init__(self, path: Path) -> None:
        self.on_change: Callable[[frozenset[AppKey]], None] = lambda keys: None
        self._writing = threading.RLock()
        self._current: Change | None = None
        self._reading = threading.Lock()
        self._writer = _connect(path)
        self._reader = _connect(path, read_only=True)

    def close(self) -> None:
        # SQLite does not survive that a connection is closed while another thread uses it.
        with self._writing, self._reading:
            self._writer.close()
            self._reader.close()

    @contextmanager
    def change(self) -> Iterator[Change]:
        """One transaction; an exception undoes it. Those inside it are part of it. StoreFailed."""
        with self._writing, _told():
            if self._current is not None:
                yield self._current
                return
            change = self._current = Change(self._writer)
            try:
                change.run("BEGIN IMMEDIATE")
                try:
                    yield change
                    self._count(change)
                    change.run("COMMIT")
                except BaseException:
                    if self._writer.in_transaction:
                        change.run("ROLLBACK")
                    raise
            finally:
                self._current = None
        if change.keys:
            self.on_change(frozenset(change.keys))

    @staticmethod
    def _count(change: Change) -> None:
        ((revision,),) = change.run(
            "UPDATE counters SET value = value + 1 WHERE name = 'revision' RETURNING value"
        ).fetchall()
        for key in change.keys:
            change.run("UPDATE applications SET generation = ? WHERE tenant = ? AND name = ?", revision, *key)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Several reads of one moment. StoreFailed."""
        with self._reading, _told():
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")

    def rows(self, statement: str, *values: object) -> list[Any]:
        """StoreFailed."""
        with self._reading, _told():
            return self._reader.execute(statement, values).fetchall()

    def row(self, statement: str, *values: object) -> Any:
        """StoreFailed."""
        with self._reading, _told():
            return self._reader.execute(statement, values).fetchone()

    def changed_elsewhere(self) -> int:
        """A number that changes when another process changes the database."""
        with self._reading, _told():
            (version,) = self._reader.execute("PRAGMA data_version").fetchone()
        return int(version)


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """The database, made if there is none. LucetError: it is damaged or of another version."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.execute("PRAGMA journal_mode = WAL")
        # What is acknowledged is on the disk: each commit waits for it.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if not read_only:
            _make(connection)
        connection.execute(f"PRAGMA query_only = {int(read_only)}")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise LucetError(f"{path}: {error}") from error
    if found != VERSION:
        connection.close()
        raise LucetError(f"{path}: is of version {found} of the tables, this server knows version {VERSION}")
    return connection


def _make(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
