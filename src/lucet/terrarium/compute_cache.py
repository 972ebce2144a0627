"""Compute's functions for the cache of an application's own objects (`fastly_cache`), and for purging it.

What is cached stays in this process, for one version of the application, and may be forgotten at any time. Lookups in a
transaction do not wait for others that are about to insert the same object: each is told to insert it.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from struct import Struct
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from lucet.terrarium.compute_body import PIECE, Content, Item, Refused
from lucet.terrarium.compute_table import Status
from lucet.terrarium.compute_visit import headers_size
from lucet.terrarium.http import OutgoingFailed

if TYPE_CHECKING:
    from lucet.terrarium.compute_visit import ComputeVisit, Request

FOUND, USABLE, STALE, MUST_INSERT = 1, 2, 4, 8

# `cache_lookup_options`: request headers, service, its length. `cache_write_options`: maximum age, request headers,
# vary rule and its length, (alignment,) initial age, stale while revalidate, surrogate keys and their length, length,
# user metadata and its length, maximum age at the edge, service and its length. Times are nanoseconds.
LOOKUP_OPTIONS: Final = Struct("<III")
LOOKUP_HEADERS: Final = 1 << 1
LOOKUP_KNOWN: Final = (1 << 4) - 2
WRITE_OPTIONS: Final = Struct("<QIIIxxxxQQIIQIIQII")
(
    WRITE_HEADERS,
    WRITE_VARY,
    WRITE_INITIAL_AGE,
    WRITE_STALE,
    WRITE_SURROGATES,
    WRITE_LENGTH,
    WRITE_METADATA,
    _,
    _,
    _,
) = (1 << bit for bit in range(1, 11))
WRITE_KNOWN: Final = (1 << 11) - 2
PURGE_OPTIONS: Final = Struct("<III")
SOFT_PURGE, PURGE_ANSWER = 1, 2

MAX_TIME: Final = (1 << 64) - 1
MAX_KEY: Final = 8192
MAX_RULE: Final = 16384
"""Bytes of a vary rule, of surrogate keys, of metadata."""
MAX_VARIANTS: Final = 16
"""Objects under one key."""
PER_OBJECT: Final = 2048
"""Bytes that an object counts besides its own."""
CACHE_LIMIT: Final = 8 << 20
"""Bytes that one version of an application may have cached."""
POOL_LIMIT: Final = 128 << 20
"""Bytes of all caches of the process."""

Vary = tuple[tuple[bytes, tuple[bytes, ...]], ...]
"""Names of request headers, and the values that they must have."""


class Cached:
    """One object, complete or still being written."""

    __slots__ = (
        "begun",
        "data",
        "end",
        "grown",
        "hits",
        "length",
        "max_age",
        "metadata",
        "stale",
        "surrogates",
        "vary",
    )

    def __init__(self) -> None:
        self.data = bytearray()
        self.end = ""
        """"finished" or "abandoned", when it is."""
        self.grown = asyncio.Event()
        self.begun = monotonic_ns()
        """When its age was 0."""
        self.max_age = 0
        self.stale = 0
        """Nanoseconds beyond max_age for which it is still used, while somebody gets a new one."""
        self.vary: Vary = ()
        self.surrogates: frozenset[bytes] = frozenset()
        self.length: int | None = None
        self.metadata = b""
        self.hits = 0

    @property
    def size(self) -> int:
        names = sum(len(name) + sum(map(len, values)) for name, values in self.vary)
        return PER_OBJECT + len(self.data) + len(self.metadata) + names + sum(map(len, self.surrogates))

    @property
    def age(self) -> int:
        return monotonic_ns() - self.begun

    @property
    def state(self) -> int:
        age = self.age
        if age <= self.max_age:
            return FOUND | USABLE
        return FOUND | USABLE | STALE if age <= self.max_age + self.stale else 0

    def matches(self, request: Request | None) -> bool:
        return all(_values(request, name) == values for name, values in self.vary)


def _values(request: Request | None, name: bytes) -> tuple[bytes, ...]:
    return () if request is None else tuple(value for key, value in request.headers if key == name)


class Pool:
    """What all caches of a process hold together; those entries go first that were not used for longest."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.order: OrderedDict[tuple[Cache, bytes], None] = OrderedDict()

    def shrink(self) -> None:
        while self.size > self.limit:
            cache, key = next(iter(self.order))
            cache.forget(key)


POOL: Final = Pool(POOL_LIMIT)


class Cache:
    """Of one version of an application. Objects by key; under one key they differ by what they vary with."""

    def __init__(self, limit: int = CACHE_LIMIT, pool: Pool = POOL) -> None:
        self.limit = limit
        self.pool = pool
        self.size = 0
        self.objects: OrderedDict[bytes, list[Cached]] = OrderedDict()

    def find(self, key: bytes, request: Request | None) -> Cached | None:
        """One that can be used."""
        for one in self.objects.get(key, ()):
            if one.matches(request):
                if not one.state:
                    return None
                self.objects.move_to_end(key)
                self.pool.order.move_to_end((self, key))
                one.hits += 1
                return one
        return None

    def put(self, key: bytes, new: Cached) -> None:
        """In place of what it varies like; not at all, if it is too large."""
        if new.size > self.limit:
            return
        kept = [one for one in self.objects.get(key, ()) if one.vary != new.vary and one.state]
        self.forget(key)
        self.objects[key] = [new, *kept[: MAX_VARIANTS - 1]]
        self.pool.order[self, key] = None
        self._grow(sum(one.size for one in self.objects[key]) + len(key))
        while self.size > self.limit:
            self.forget(next(iter(self.objects)))
        self.pool.shrink()

    def forget(self, key: bytes) -> None:
        if key in self.objects:
            self._grow(-sum(one.size for one in self.objects.pop(key)) - len(key))
            del self.pool.order[self, key]

    def purge(self, surrogate: bytes, *, softly: bool) -> None:
        """softly: what is purged is stale from now on."""
        for key, found in tuple(self.objects.items()):
            hit = [one for one in found if surrogate in one.surrogates]
            if softly:
                for one in hit:
                    one.max_age = min(one.max_age, max(one.age - 1, 0))
            elif hit:
                self.forget(key)
                for one in reversed(found):
                    if one not in hit:
                        self.put(key, one)

    def _grow(self, by: int) -> None:
        self.size += by
        self.pool.size += by


class Lookup(Item):
    """What a guest has found, and whether it is to insert it."""

    __slots__ = ("found", "key", "request", "state")

    def __init__(self, key: bytes, request: Request | None, found: Cached | None, state: int) -> None:
        super().__init__()
        self.key = key
        self.request = request
        self.found = found
        self.state = state
        """`cache_lookup_state`, as it was then."""

    def ready(self) -> None:
        """It waits for nobody."""


class Busy(Item):
    """A lookup that does not have to wait for anybody."""

    __slots__ = ("lookup",)

    def __init__(self, lookup: Lookup) -> None:
        super().__init__()
        self.lookup = lookup
        self.held, lookup.held = lookup.held, 0

    def ready(self) -> None:
        """Always."""


class CacheSink:
    """An object as a guest writes it. What it writes counts until the request ends: others may still read it then."""

    def __init__(self, visit: ComputeVisit, key: bytes, new: Cached) -> None:
        self._visit = visit
        self._key = key
        self._new = new

    async def write(self, data: bytes, /) -> None:
        if len(self._new.data) + len(data) > self._visit.compute.cache.limit:
            raise Refused(Status.LIMITEXCEEDED)
        self._visit.keep(len(data))
        self._new.data += data
        self._new.grown.set()

    async def finish(self) -> None:
        if self._new.length in {None, len(self._new.data)}:
            self._visit.compute.cache.put(self._key, self._new)
        self._end("finished")

    def abandon(self) -> None:
        self._end("abandoned")

    def _end(self, how: str) -> None:
        self._new.end = how
        self._new.grown.set()


class Reading:
    """An object's data as a body, also while it is written."""

    def __init__(self, cached: Cached) -> None:
        self._cached = cached
        self._at = 0

    @property
    def length(self) -> int | None:
        return len(self._cached.data) if self._cached.end == "finished" else self._cached.length

    def at_once(self) -> bytes | None:
        return bytes(self._cached.data) if self._cached.end == "finished" and not self._at else None

    async def read(self, limit: int = PIECE, /) -> bytes:
        cached = self._cached
        while self._at == len(cached.data):
            if cached.end == "finished":
                return b""
            if cached.end:
                raise OutgoingFailed("who wrote the object has abandoned it")
            cached.grown.clear()
            await cached.grown.wait()
        data = bytes(cached.data[self._at : self._at + limit])
        self._at += len(data)
        return data


# ---- functions ----


def _lookup(visit: ComputeVisit, key: bytes, options: int, pointer: int, *, is_transaction: bool) -> Lookup:
    if len(key) > MAX_KEY or options & ~LOOKUP_KNOWN:
        raise Refused(Status.INVAL)
    request, held = None, len(key)
    if options & LOOKUP_HEADERS:
        request = visit.request_of(LOOKUP_OPTIONS.unpack(visit.memory.read(pointer, LOOKUP_OPTIONS.size))[0])
        held += headers_size(request.headers)
    found = visit.compute.cache.find(key, request)
    state = 0
    if found is not None:
        held += len(found.data)
        state = found.state
    if is_transaction and (not state or state & STALE):
        state |= MUST_INSERT
    visit.store.hold(held)
    lookup = Lookup(key, request, found, state)
    lookup.held = held
    return lookup


def cache_lookup(visit: ComputeVisit, key: bytes, options: int, pointer: int) -> Lookup:
    return _lookup(visit, key, options, pointer, is_transaction=False)


def cache_transaction_lookup(visit: ComputeVisit, key: bytes, options: int, pointer: int) -> Lookup:
    return _lookup(visit, key, options, pointer, is_transaction=True)


def cache_transaction_lookup_async(visit: ComputeVisit, key: bytes, options: int, pointer: int) -> Busy:
    return Busy(cache_transaction_lookup(visit, key, options, pointer))


def cache_cache_busy_handle_wait(_visit: ComputeVisit, busy: Busy) -> Lookup:
    busy.lookup.held, busy.held = busy.held, 0
    return busy.lookup


def cache_close(visit: ComputeVisit, item: Lookup | Busy) -> None:
    item.release(visit.store)


def _read_options(visit: ComputeVisit, new: Cached, options: int, pointer: int, request: Request | None) -> None:
    if options & ~WRITE_KNOWN:
        raise Refused(Status.INVAL)
    values = WRITE_OPTIONS.unpack(visit.memory.read(pointer, WRITE_OPTIONS.size))
    new.max_age, headers, rule, rule_size, initial, stale, keys, keys_size, length, about, about_size = values[:11]
    if options & WRITE_HEADERS:
        request = visit.request_of(headers)

    def text(at: int, size: int) -> bytes:
        if size > MAX_RULE:
            raise Refused(Status.LIMITEXCEEDED)
        data: bytes = visit.memory.read(at, size) if size else b""
        return data

    if options & WRITE_VARY:
        names = dict.fromkeys(text(rule, rule_size).lower().split())
        new.vary = tuple((name, _values(request, name)) for name in names)
    if options & WRITE_INITIAL_AGE:
        new.begun = monotonic_ns() - initial
    new.stale = stale if options & WRITE_STALE else 0
    if options & WRITE_SURROGATES:
        new.surrogates = frozenset(text(keys, keys_size).split())
    if options & WRITE_LENGTH:
        new.length = length
    if options & WRITE_METADATA:
        new.metadata = text(about, about_size)


def _writing(visit: ComputeVisit, key: bytes, new: Cached) -> Content:
    body = Content(visit.store)
    body.sink = CacheSink(visit, key, new)
    return body


def cache_insert(visit: ComputeVisit, key: bytes, options: int, pointer: int) -> Content:
    """The body that the guest writes the object to. It is there when that is closed."""
    if len(key) > MAX_KEY:
        raise Refused(Status.INVAL)
    new = Cached()
    _read_options(visit, new, options, pointer, None)
    return _writing(visit, key, new)


def cache_transaction_insert(visit: ComputeVisit, lookup: Lookup, options: int, pointer: int) -> Content:
    return cache_transaction_insert_and_stream_back(visit, lookup, options, pointer)[0]


def cache_transaction_insert_and_stream_back(
    visit: ComputeVisit, lookup: Lookup, options: int, pointer: int
) -> tuple[Content, Lookup]:
    """And a lookup that has found what is being written."""
    if not lookup.state & MUST_INSERT or options & WRITE_HEADERS:
        raise Refused(Status.INVAL)
    new = Cached()
    _read_options(visit, new, options, pointer, lookup.request)
    lookup.state &= ~MUST_INSERT
    return _writing(visit, lookup.key, new), Lookup(lookup.key, None, new, FOUND | USABLE)


def cache_transaction_update(visit: ComputeVisit, lookup: Lookup, options: int, pointer: int) -> None:
    """The object stays, with another age and other metadata."""
    found = lookup.found
    if found is None or not lookup.state & MUST_INSERT or options & WRITE_HEADERS:
        raise Refused(Status.INVAL)
    new = Cached()
    _read_options(visit, new, options, pointer, lookup.request)
    new.data, new.end, new.length, new.hits = found.data, "finished", None, found.hits
    lookup.state &= ~MUST_INSERT
    visit.compute.cache.put(lookup.key, new)


def cache_transaction_cancel(_visit: ComputeVisit, lookup: Lookup) -> None:
    if not lookup.state & MUST_INSERT:
        raise Refused(Status.INVAL)
    lookup.state &= ~MUST_INSERT


def cache_get_state(_visit: ComputeVisit, lookup: Lookup) -> int:
    return lookup.state


def _there(lookup: Lookup) -> Cached:
    if lookup.found is None or not lookup.state & FOUND:
        raise Refused(Status.NONE)
    return lookup.found


def cache_get_user_metadata(_visit: ComputeVisit, lookup: Lookup) -> bytes:
    return _there(lookup).metadata


def cache_get_body(visit: ComputeVisit, lookup: Lookup, options: int, _pointer: int) -> Content:
    """All of it: ranges are not supported."""
    found = _there(lookup)
    if options:
        raise Refused(Status.UNSUPPORTED)
    body = Content(visit.store, Reading(found))
    body.hold(len(found.data))
    return body


def cache_get_length(_visit: ComputeVisit, lookup: Lookup) -> int:
    found = _there(lookup)
    length = len(found.data) if found.end == "finished" else found.length
    if length is None:
        raise Refused(Status.NONE)
    return length


def cache_get_max_age_ns(_visit: ComputeVisit, lookup: Lookup) -> int:
    return _there(lookup).max_age


def cache_get_stale_while_revalidate_ns(_visit: ComputeVisit, lookup: Lookup) -> int:
    return _there(lookup).stale


def cache_get_age_ns(_visit: ComputeVisit, lookup: Lookup) -> int:
    return min(_there(lookup).age, MAX_TIME)


def cache_get_hits(_visit: ComputeVisit, lookup: Lookup) -> int:
    return _there(lookup).hits


def purge_purge_surrogate_key(visit: ComputeVisit, surrogate: str, options: int, pointer: int) -> None:
    """In this process, for this version."""
    if options & ~(SOFT_PURGE | PURGE_ANSWER) or not surrogate:
        raise Refused(Status.INVAL)
    if options & PURGE_ANSWER:
        answer = json.dumps({"status": "ok", "id": visit.exchange.request.id}).encode()
        buffer, room, written = PURGE_OPTIONS.unpack(visit.memory.read(pointer, PURGE_OPTIONS.size))
        visit.memory.write_u32(written, len(answer))
        if len(answer) > room:
            raise Refused(Status.BUFLEN)
        visit.memory.write(buffer, answer)
    visit.compute.cache.purge(surrogate.encode(), softly=bool(options & SOFT_PURGE))
