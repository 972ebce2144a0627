"""Tenants' key-value stores in Redis, which all servers of a site may share.

Each tenant has a hash of what it uses and, for each store, a sorted set of its keys, in their order; each entry is a
hash. Entries that expire stand in another sorted set: Redis itself does not delete them, so that what is used stays
known. Scripts make each write one step.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from lucet.terrarium.environment import Entry, KeyValues, StoreFull, StoreUnavailable, Write, check_name
from lucet.terrarium.keys import OVERHEAD
from lucet.terrarium.limits import Limits

if TYPE_CHECKING:
    from redis.asyncio import Redis

CONNECTIONS: Final = 32
"""Commands under way at once; more wait."""

_DROP: Final = """
local function drop(entry, keys, key, expiring, used)
    local size = tonumber(redis.call('HGET', entry, 'size') or 0)
    redis.call('DEL', entry)
    redis.call('ZREM', keys, key)
    redis.call('ZREM', expiring, entry)
    redis.call('HINCRBY', used, 'used', -size)
end
"""
# KEYS: entry, the store's keys, expiring, used.
# ARGV: key, now, value, mode, metadata, time to live or '', generation or '', limits kv_value and kv_bytes, overhead.
_PUT: Final = (
    _DROP
    + """
local entry, keys, expiring, used = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local key, now, value, mode, metadata = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local old = redis.call('HMGET', entry, 'generation', 'expires', 'size')
local generation, expires, old_size = tonumber(old[1] or 0), old[2] or '', tonumber(old[3] or 0)
if expires ~= '' and tonumber(expires) <= now then
    drop(entry, keys, key, expiring, used)
    generation, expires, old_size = 0, '', 0
end
local absent = generation == 0
if (ARGV[7] ~= '' and tonumber(ARGV[7]) ~= generation) or (mode == 'add' and not absent) then
    return {0, absent and 1 or 0}
end
local new_expires = ARGV[6] ~= '' and string.format('%.6f', now + tonumber(ARGV[6])) or ''
if not absent and (mode == 'append' or mode == 'prepend') then
    local before = redis.call('HGET', entry, 'value')
    if #before + #value > tonumber(ARGV[8]) then return {-1, 0} end
    value = mode == 'append' and before .. value or value .. before
    if metadata == '' then metadata = redis.call('HGET', entry, 'metadata') end
    if new_expires == '' then new_expires = expires end
end
if #value > tonumber(ARGV[8]) then return {-1, 0} end
local size = #key + #value + #metadata + tonumber(ARGV[10])
local room = tonumber(ARGV[9])
local total = tonumber(redis.call('HGET', used, 'used') or 0) + size - old_size
if total > room then
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', expiring, '-inf', now, 'LIMIT', 0, 1000)) do
        local where = redis.call('HMGET', name, 'keys', 'key')
        drop(name, where[1], where[2], expiring, used)
    end
    total = tonumber(redis.call('HGET', used, 'used') or 0) + size - old_size
end
if total > room then return {-2, total} end
local number = redis.call('HINCRBY', used, 'generation', 1)
redis.call('HSET', entry, 'value', value, 'metadata', metadata, 'generation', number, 'expires', new_expires,
    'size', size, 'keys', keys, 'key', key)
redis.call('ZADD', keys, 0, key)
if new_expires == '' then redis.call('ZREM', expiring, entry)
else redis.call('ZADD', expiring, new_expires, entry) end
redis.call('HSET', used, 'used', total)
return {1, absent and 1 or 0}
"""
)
# KEYS: as above. ARGV: key, now.
_DELETE: Final = (
    _DROP
    + """
local expires = redis.call('HGET', KEYS[1], 'expires')
if not expires then return 0 end
drop(KEYS[1], KEYS[2], ARGV[1], KEYS[3], KEYS[4])
return (expires == '' or tonumber(expires) > tonumber(ARGV[2])) and 1 or 0
"""
)
# KEYS: the store's keys, expiring, used. ARGV: from, to, limit, now.
_KEYS: Final = (
    _DROP
    + """
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[4], 'LIMIT', 0, 1000)) do
    local where = redis.call('HMGET', name, 'keys', 'key')
    drop(name, where[1], where[2], KEYS[2], KEYS[3])
end
return redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
"""
)


class RedisStores:
    """The stores of all tenants, at a URL such as "redis://127.0.0.1:6379/0". Needs lucet[serve-redis].

    prefix: of all names in Redis.
    """

    def __init__(self, url: str, prefix: str = "lucet", clock: Callable[[], float] = time.time) -> None:
        from redis.asyncio import BlockingConnectionPool, Redis

        pool = BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, timeout=None)
        self.redis: Redis = Redis.from_pool(pool)
        self.prefix = prefix
        self.clock = clock
        self.put = self.redis.register_script(_PUT)
        self.delete = self.redis.register_script(_DELETE)
        self.keys = self.redis.register_script(_KEYS)

    def tenant(self, name: str, limits: Limits) -> RedisKeys:
        """Its store, with the limits kv_bytes and kv_value."""
        return RedisKeys(self, name, limits)

    async def close(self) -> None:
        await self.redis.aclose()


class RedisKeys(KeyValues):
    """One tenant's: RedisStores.tenant()."""

    __slots__ = ("_stores", "_tag", "limits")

    def __init__(self, stores: RedisStores, name: str, limits: Limits) -> None:
        self.limits = limits
        self._stores = stores
        # In braces: all of a tenant is in one slot of a cluster, as scripts need it.
        self._tag = f"{stores.prefix}:{{{name.encode().hex()}}}:".encode()

    def _names(self, store: str, key: bytes) -> list[bytes]:
        keys = self._tag + b"keys:" + store.encode().hex().encode()
        return [keys + b":" + key, keys, self._tag + b"expiring", self._tag + b"used"]

    async def get(self, store: str, key: bytes) -> Entry | None:
        check_name(store, key)
        name: Any = self._names(store, key)[0]  # which may be bytes, whatever its annotation says
        found: Any = self._stores.redis.hmget(name, ["value", "metadata", "generation", "expires"])
        value, metadata, generation, expires = await _answer(found)
        until = float(expires) if expires else None
        if value is None or (until is not None and until <= self._stores.clock()):
            return None
        return Entry(value=value, metadata=metadata, generation=int(generation), expires=until)

    async def write(self, write: Write) -> tuple[bool, bool]:
        limits = self.limits
        arguments = (
            *(write.key, self._stores.clock(), write.value, write.mode, write.metadata),
            *("" if one is None else one for one in (write.ttl, write.if_generation)),
            *(limits.kv_value, limits.kv_bytes, OVERHEAD),
        )
        outcome, detail = await self._run(self._stores.put, self._names(write.store, write.key), arguments)
        if outcome == -1:
            raise StoreFull(f"the value is too large: at most {limits.kv_value} bytes are allowed")
        if outcome == -2:
            raise StoreFull(f"the store would have {detail} bytes: at most {limits.kv_bytes} are allowed")
        return outcome == 1, detail == 1

    async def delete(self, store: str, key: bytes) -> bool:
        check_name(store, key)
        return bool(await self._run(self._stores.delete, self._names(store, key), (key, self._stores.clock())))

    async def keys(self, store: str, *, prefix: bytes = b"", after: bytes = b"", limit: int = 1000) -> list[bytes]:
        check_name(store)
        _, keys, expiring, used = self._names(store, b"")
        first = b"(" + after if after >= prefix else b"[" + prefix
        last = b"[" + prefix + b"\xff" * 1025 if prefix else b"+"
        arguments = (first, last, limit, self._stores.clock())
        found: list[bytes] = await self._run(self._stores.keys, [keys, expiring, used], arguments)
        return found

    @staticmethod
    async def _run(script: Any, names: list[bytes], arguments: tuple[object, ...]) -> Any:
        return await _answer(script(keys=names, args=arguments))


async def _answer(command: Awaitable[Any]) -> Any:
    from redis.exceptions import RedisError

    try:
        return await command
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"Redis: {error}") from error
