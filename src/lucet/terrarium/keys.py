"""Tenants' key-value stores: what a write does, and the store that lives in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from lucet.terrarium.environment import Entry, KeyValues, StoreFull, Write, check_name
from lucet.terrarium.limits import Limits

OVERHEAD: Final = 64
"""Bytes that an entry counts besides its key, value and metadata, so that empty ones are not for nothing."""


def size_of(key: bytes, entry: Entry | None) -> int:
    """What an entry counts."""
    return 0 if entry is None else len(key) + len(entry.value) + len(entry.metadata) + OVERHEAD


def check_room(key: bytes, entry: Entry, used: int, limits: Limits) -> None:
    """used: bytes of the tenant's store with this entry. StoreFull."""
    if len(entry.value) > limits.kv_value:
        raise StoreFull(f"a value of {len(entry.value)} bytes: at most {limits.kv_value} are allowed")
    if used > limits.kv_bytes:
        raise StoreFull(f"the store would have {used} bytes: at most {limits.kv_bytes} are allowed")


class MemoryKeys(KeyValues):
    """In this process, and gone with it."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        self.limits = limits
        self._clock = clock
        self._stores: dict[str, dict[bytes, Entry]] = {}
        self._used = 0
        self._generation = 0

    def _live(self, store: str, key: bytes) -> Entry | None:
        check_name(store, key)
        entry = self._stores.get(store, {}).get(key)
        if entry is not None and entry.expires is not None and entry.expires <= self._clock():
            self._drop(store, key)
            return None
        return entry

    def _drop(self, store: str, key: bytes) -> None:
        entries = self._stores[store]
        self._used -= size_of(key, entries.pop(key))
        if not entries:
            del self._stores[store]

    def get(self, store: str, key: bytes) -> Entry | None:
        return self._live(store, key)

    def write(self, write: Write) -> tuple[bool, bool]:
        old = self._live(write.store, write.key)
        entry = write.onto(old, self._generation + 1, self._clock())
        if entry is None:
            return False, old is None
        used = self._used + size_of(write.key, entry) - size_of(write.key, old)
        if used > self.limits.kv_bytes:
            self._drop_expired()
            used = self._used + size_of(write.key, entry) - size_of(write.key, old)
        check_room(write.key, entry, used, self.limits)
        self._generation += 1
        self._used = used
        self._stores.setdefault(write.store, {})[write.key] = entry
        return True, old is None

    def _drop_expired(self) -> None:
        now = self._clock()
        for store, entries in list(self._stores.items()):
            for key in [key for key, entry in entries.items() if entry.expires is not None and entry.expires <= now]:
                self._drop(store, key)

    def delete(self, store: str, key: bytes) -> bool:
        if self._live(store, key) is None:
            return False
        self._drop(store, key)
        return True

    def keys(self, store: str, *, prefix: bytes = b"", after: bytes = b"", limit: int = 1000) -> list[bytes]:
        check_name(store)
        self._drop_expired()
        return sorted(key for key in self._stores.get(store, {}) if key.startswith(prefix) and key > after)[:limit]
