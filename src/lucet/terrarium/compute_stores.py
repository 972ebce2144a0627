"""Compute's functions for stores: configuration, secrets, keys and values."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from inspect import isawaitable
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lucet.terrarium.compute_body import Content, Item, Refused
from lucet.terrarium.compute_table import KvError, Status
from lucet.terrarium.environment import Entry, StoreFull

if TYPE_CHECKING:
    from lucet.terrarium.compute_visit import ComputeVisit

T = TypeVar("T")

PLATFORM: Final = "fastly:"
MAX_NAME: Final = 255
MAX_KEY: Final = 1024
MAX_METADATA: Final = 2000
MAX_SECRET: Final = 64 << 10
MAX_LIST: Final = 1000
USUAL_LIST: Final = 100

# `kv_insert_config`: mode, unused, metadata, its length, time to live, (alignment,) generation; `kv_list_config`:
# mode, cursor, its length, limit, prefix, its length.
INSERT_CONFIG: Final = Struct("<IIIIIxxxxQ")
LIST_CONFIG: Final = Struct("<IIIIII")
MODES: Final = ("overwrite", "add", "append", "prepend")
INSERT_METADATA, INSERT_TTL, INSERT_GENERATION = 1 << 3, 1 << 4, 1 << 5
INSERT_OPTIONS: Final = (1 << 6) - 1
LIST_CURSOR, LIST_LIMIT, LIST_PREFIX = 1 << 1, 1 << 2, 1 << 3

_FORBIDDEN: Final = frozenset("\r\n#;?^|")


class Dictionary(Item):
    """An open configuration store."""

    __slots__ = ("items",)

    def __init__(self, items: Mapping[str, str]) -> None:
        super().__init__()
        self.items = items


def dictionary_open(visit: ComputeVisit, name: str) -> Dictionary:
    found = visit.compute.environment.configuration.get(name)
    if found is None or not name or name.startswith(PLATFORM):
        raise Refused(Status.BADF)
    return Dictionary(found)


def dictionary_get(_visit: ComputeVisit, dictionary: Dictionary, key: str) -> bytes:
    value = dictionary.items.get(key)
    if value is None:
        raise Refused(Status.NONE)
    return value.encode()


# ---- secrets ----


class SecretStore(Item):
    __slots__ = ("items",)

    def __init__(self, items: Mapping[str, bytes]) -> None:
        super().__init__()
        self.items = items


class Secret(Item):
    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        super().__init__()
        self.value = value


def secret_store_open(visit: ComputeVisit, name: str) -> SecretStore:
    found = visit.compute.environment.secrets.get(name)
    if found is None:
        raise Refused(Status.NONE)
    return SecretStore(found)


def secret_store_get(_visit: ComputeVisit, store: SecretStore, name: str) -> Secret:
    value = store.items.get(name)
    if value is None:
        raise Refused(Status.NONE)
    return Secret(value)


def secret_store_plaintext(_visit: ComputeVisit, secret: Secret) -> bytes:
    return secret.value


def secret_store_from_bytes(visit: ComputeVisit, value: bytes) -> Secret:
    if len(value) > MAX_SECRET:
        raise Refused(Status.LIMITEXCEEDED)
    visit.store.hold(len(value))
    secret = Secret(value)
    secret.held = len(value)
    return secret


# ---- keys and values ----


class KvStore(Item):
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class _Operation(Item):
    """Something that was asked of a store, done or under way."""

    __slots__ = ("_store", "result")

    def __init__(self, visit: ComputeVisit, result: Any, held: int = 0) -> None:
        """result: what it came to, or what is to be awaited for it. held: of the visit's store, until that is done.

        What it comes to is held, too, until the guest asks for it: Refused if that is too much.
        """
        super().__init__()
        self._store = visit.store
        if isawaitable(result):
            visit.store.hold(held)
            self.result: Any = visit.start(self._come(visit, result), held)
        else:
            self.result = self._keep(result)

    async def _come(self, visit: ComputeVisit, result: Awaitable[Any]) -> Any:
        async with visit.store_turns:
            return self._keep(await result)

    def _keep(self, result: Any) -> Any:
        size = len(result) if isinstance(result, bytes) else len(result.value) if isinstance(result, Entry) else 0
        self._store.hold(size)
        self.held = size
        return result

    def ready(self) -> asyncio.Future[Any] | None:
        return self.result if isinstance(self.result, asyncio.Future) and not self.result.done() else None

    def then(self, finish: Callable[[Any], T]) -> T | Coroutine[Any, Any, T]:
        """finish() of what it came to, now or later."""
        if not isinstance(self.result, asyncio.Future):
            return self._finish(self.result, finish)
        if self.result.done():
            return self._finish(self.result.result(), finish)
        return self._later(self.result, finish)

    async def _later(self, task: asyncio.Future[Any], finish: Callable[[Any], T]) -> T:
        await asyncio.wait((task,))
        return self._finish(task.result(), finish)

    def _finish(self, result: Any, finish: Callable[[Any], T]) -> T:
        self.release(self._store)  # who has it from now on holds it
        return finish(result)


class KvLookup(_Operation):
    """Comes to an Entry or None."""

    __slots__ = ()


class KvInsert(_Operation):
    """Comes to a kv_error."""

    __slots__ = ()


class KvDelete(_Operation):
    """Comes to whether there was one."""

    __slots__ = ()


class KvList(_Operation):
    """Comes to the JSON that a guest is given."""

    __slots__ = ()


def kv_store_open(_visit: ComputeVisit, name: str) -> KvStore:
    """Every name is one of the tenant's stores: they need not be made first."""
    if not 0 < len(name) <= MAX_NAME:
        raise Refused(Status.INVAL)
    return KvStore(name)


def _key(key: str) -> bytes:
    """As the platform's documentation says which keys there are."""
    data = key.encode()
    parts = key.split("/")
    if (
        not 0 < len(data) <= MAX_KEY
        or not _FORBIDDEN.isdisjoint(key)
        or key.startswith(".well-known/acme-challenge")
        or "." in parts
        or ".." in parts
    ):
        raise Refused(Status.INVAL)
    return data


def kv_store_lookup(visit: ComputeVisit, store: KvStore, key: str, _options: int = 0, _config: int = 0) -> KvLookup:
    return KvLookup(visit, visit.compute.environment.keys.get(store.name, _key(key)))


def _found(visit: ComputeVisit, entry: Entry | None) -> tuple[Content | None, bytes | None, int | None, int]:
    if entry is None:
        return None, None, None, KvError.NOT_FOUND
    return visit.body_of(entry.value), entry.metadata, entry.generation, KvError.OK


def kv_store_lookup_wait(visit: ComputeVisit, lookup: KvLookup) -> Any:
    """Gives no generation: that is what lookup_wait_v2 came for."""

    def finish(entry: Entry | None) -> tuple[Content | None, bytes | None, int | None, int]:
        body, metadata, _generation, error = _found(visit, entry)
        return body, metadata, 0, error

    return lookup.then(finish)


def kv_store_lookup_wait_v2(visit: ComputeVisit, lookup: KvLookup) -> Any:
    return lookup.then(lambda entry: _found(visit, entry))


def kv_store_insert(
    visit: ComputeVisit, store: KvStore, key: str, body: Content, options: int, config: int
) -> KvInsert | Coroutine[Any, Any, KvInsert]:
    mode, _, metadata, metadata_size, ttl, generation = INSERT_CONFIG.unpack(
        visit.memory.read(config, INSERT_CONFIG.size)
    )
    if options & ~INSERT_OPTIONS or mode >= len(MODES):
        raise Refused(Status.INVAL)
    how: dict[str, Any] = {"mode": MODES[mode]}
    if options & INSERT_METADATA:
        if not 0 < metadata_size <= MAX_METADATA:
            raise Refused(Status.INVAL)
        how["metadata"] = visit.memory.read(metadata, metadata_size)
    if options & INSERT_TTL:
        how["ttl"] = float(ttl)
    if options & INSERT_GENERATION:
        how["if_generation"] = generation
    return _insert(visit, store, _key(key), body, how)


def _insert(
    visit: ComputeVisit, store: KvStore, key: bytes, body: Content, how: dict[str, Any]
) -> KvInsert | Coroutine[Any, Any, KvInsert]:
    whole = body.at_once()
    if whole is None:
        return _insert_later(visit, store, key, body, how)
    return _put(visit, store, key, whole, how)


async def _insert_later(
    visit: ComputeVisit, store: KvStore, key: bytes, body: Content, how: dict[str, Any]
) -> KvInsert:
    limit = visit.compute.environment.limits.kv_value
    parts = bytearray()
    try:
        async for data in body.chunks():
            parts += data
            if len(parts) > limit:
                return KvInsert(visit, KvError.PAYLOAD_TOO_LARGE)
    finally:
        body.drop()
    return _put(visit, store, key, bytes(parts), how)


def _put(visit: ComputeVisit, store: KvStore, key: bytes, value: bytes, how: dict[str, Any]) -> KvInsert:
    environment = visit.compute.environment
    if len(value) > environment.limits.kv_value:
        return KvInsert(visit, KvError.PAYLOAD_TOO_LARGE)
    try:
        result = environment.keys.put(store.name, key, value, **how)
    except StoreFull:
        return KvInsert(visit, KvError.PAYLOAD_TOO_LARGE)
    return KvInsert(visit, _written(result) if isawaitable(result) else _error(result), len(value))


async def _written(result: Awaitable[tuple[bool, bool]]) -> int:
    try:
        return _error(await result)
    except StoreFull:
        return KvError.PAYLOAD_TOO_LARGE


def _error(result: tuple[bool, bool]) -> int:
    return KvError.OK if result[0] else KvError.PRECONDITION_FAILED


def kv_store_insert_wait(_visit: ComputeVisit, insert: KvInsert) -> Any:
    return insert.then(lambda error: error)


def kv_store_delete(visit: ComputeVisit, store: KvStore, key: str, _options: int = 0, _config: int = 0) -> KvDelete:
    return KvDelete(visit, visit.compute.environment.keys.delete(store.name, _key(key)))


def kv_store_delete_wait(_visit: ComputeVisit, delete: KvDelete) -> Any:
    """Whether or not there was one."""
    return delete.then(lambda _was_there: KvError.OK)


def kv_store_list(visit: ComputeVisit, store: KvStore, options: int, config: int) -> KvList:
    _, cursor, cursor_size, limit, prefix, prefix_size = LIST_CONFIG.unpack(visit.memory.read(config, LIST_CONFIG.size))
    after, start = b"", b""
    if options & LIST_CURSOR:
        try:
            after = base64.b64decode(visit.memory.read(cursor, min(cursor_size, 2 * MAX_KEY)), validate=True)
        except binascii.Error:
            raise Refused(Status.INVAL) from None
    if options & LIST_PREFIX:
        start = visit.memory.read(prefix, min(prefix_size, MAX_KEY))
    count = min(limit, MAX_LIST) if options & LIST_LIMIT and limit else USUAL_LIST
    keys = visit.compute.environment.keys.keys(store.name, prefix=start, after=after, limit=count + 1)

    def listed(found: list[bytes]) -> bytes:
        meta: dict[str, Any] = {"limit": count}
        if start:
            meta["prefix"] = start.decode(errors="replace")
        if len(found) > count:
            meta["next_cursor"] = base64.b64encode(found[count - 1]).decode()
        data = [key.decode(errors="replace") for key in found[:count]]
        return json.dumps({"data": data, "meta": meta}, separators=(",", ":"), ensure_ascii=False).encode()

    return KvList(visit, _listed_later(keys, listed) if isawaitable(keys) else listed(keys))


async def _listed_later(keys: Awaitable[list[bytes]], listed: Callable[[list[bytes]], bytes]) -> bytes:
    return listed(await keys)


def kv_store_list_wait(visit: ComputeVisit, listing: KvList) -> Any:
    return listing.then(lambda found: (visit.body_of(found), KvError.OK))


# ---- the old interface to the same stores ----


def object_store_lookup(visit: ComputeVisit, store: KvStore, key: str) -> Any:
    """No handle if there is no such key: the guest has its own invalid one there."""
    return object_store_pending_lookup_wait(visit, kv_store_lookup(visit, store, key))


def object_store_lookup_async(visit: ComputeVisit, store: KvStore, key: str) -> KvLookup:
    return kv_store_lookup(visit, store, key)


def object_store_pending_lookup_wait(visit: ComputeVisit, lookup: KvLookup) -> Any:
    return lookup.then(lambda entry: None if entry is None else visit.body_of(entry.value))


def object_store_insert(visit: ComputeVisit, store: KvStore, key: str, body: Content) -> Any:
    insert = object_store_insert_async(visit, store, key, body)
    if isinstance(insert, KvInsert):
        return object_store_pending_insert_wait(visit, insert)
    return _inserted(visit, insert)


async def _inserted(visit: ComputeVisit, insert: Awaitable[KvInsert]) -> None:
    done = object_store_pending_insert_wait(visit, await insert)
    if isawaitable(done):
        await done


def object_store_insert_async(visit: ComputeVisit, store: KvStore, key: str, body: Content) -> Any:
    return _insert(visit, store, _key(key), body, {})


def object_store_pending_insert_wait(_visit: ComputeVisit, insert: KvInsert) -> Any:
    def finish(error: int) -> None:
        if error != KvError.OK:
            raise Refused(Status.LIMITEXCEEDED if error == KvError.PAYLOAD_TOO_LARGE else Status.INVAL)

    return insert.then(finish)


def object_store_delete_async(visit: ComputeVisit, store: KvStore, key: str) -> KvDelete:
    return kv_store_delete(visit, store, key)


def object_store_pending_delete_wait(_visit: ComputeVisit, delete: KvDelete) -> Any:
    def finish(was_there: bool) -> None:
        if not was_there:
            raise Refused(Status.NONE)

    return delete.then(finish)
