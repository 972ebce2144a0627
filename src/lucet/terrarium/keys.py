"""Tenants' key-value stores: what a write does, and the store that lives in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from lucet.terrarium.environment import Entry, KeyValues, StoreFull
from lucet.terrarium.limits import Limits

MAX_KEY: Final = 1024
MAX_STORE: Final = 255
OVERHEAD: Final = 64
"""Bytes that an entry counts besides its key, value and metadata, so that empty ones are not for nothing."""
MODES: Final = frozenset({"overwrite", "add", "append", "prepend"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Write:
    """The arguments of KeyValues.put, checked. ValueError."""

    store: str
    key: bytes
    value: bytes
    mode: str = "overwrite"
    metadata: bytes = b""
    ttl: float | None = None
    if_generation: int | None = None

    def __post_init__(self) -> None:
        check_name(self.store, self.key)
        if self.mode not in MODES:
            raise ValueError(f"no such mode: {self.mode!r}")
        if self.ttl is not None and not self.ttl > 0:
            raise ValueError(f"a time to live of {self.ttl} seconds")

    def onto(self, old: Entry | None, generation: int, now: float) -> Entry | None:
        """What is there after it, if this was; None if nothing is to be written."""
        if self.if_generation is not None and self.if_generation != (old.generation if old else 0):
            return None
        expires = None if self.ttl is None else now + self.ttl
        new = Entry(value=self.value, metadata=self.metadata, generation=generation, expires=expires)
        if old is None or self.mode == "overwrite":
            return new
        if self.mode == "add":
            return None
        value = old.value + self.value if self.mode == "append" else self.value + old.value
        # What is not said stays as it was.
        return replace(new, value=value, metadata=self.metadata or old.metadata, expires=expires or old.expires)


def check_name(store: str, key: bytes = b"") -> None:
    """ValueError: the name of a store, or a key, is too long."""
    if len(store) > MAX_STORE:
        raise ValueError(f"the name of a store has at most {MAX_STORE} characters")
    if len(key) > MAX_KEY:
        raise ValueError(f"a key has at most {MAX_KEY} bytes")


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

    def put(
        self,
        store: str,
        key: bytes,
        value: bytes,
        *,
        mode: str = "overwrite",
        metadata: bytes = b"",
        ttl: float | None = None,
        if_generation: int | None = None,
    ) -> tuple[bool, bool]:
        write = Write(
            store=store, key=key, value=value, mode=mode, metadata=metadata, ttl=ttl, if_generation=if_generation
        )
        old = self._live(store, key)
        entry = write.onto(old, self._generation + 1, self._clock())
        if entry is None:
            return False, old is None
        used = self._used + size_of(key, entry) - size_of(key, old)
        if used > self.limits.kv_bytes:
            self._drop_expired()
            used = self._used + size_of(key, entry) - size_of(key, old)
        check_room(key, entry, used, self.limits)
        self._generation += 1
        self._used = used
        self._stores.setdefault(store, {})[key] = entry
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
