"""Host functions of the interface hostcalls: the key-value store, names, time, random numbers, logs, text."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

from lucet.runtime import Instance, Suspend, host_function, i32, i64
from lucet.runtime.hostfunc import Awaited
from lucet.terrarium.guest import LimitReached
from lucet.terrarium.hostcalls_visit import bytes_steps, give, give_bytes, give_later, give_nothing, slices_steps
from lucet.terrarium.http import OutgoingFailed
from lucet.terrarium.interface import GuestError

if TYPE_CHECKING:
    from lucet.terrarium.environment import Entry, Environment

MAX_KEY: Final = 1024
MAX_TEXT: Final = 8 << 20
"""Bytes of text that are turned into another encoding at once."""
MAX_MESSAGE: Final = 65536
"""Bytes of one message to the log."""
MAX_DNS: Final = 65535
STORE: Final = ""
"""Which of the tenant's stores."""


# ---- the key-value store ----


def _environment(caller: Instance) -> Environment:
    environment: Environment = caller.context.interface.environment
    return environment


def _key(caller: Instance, key: int, size: int) -> bytes:
    size &= 0xFFFFFFFF
    if size > MAX_KEY:
        raise GuestError(f"a key of {size} bytes: they have at most {MAX_KEY}")
    return caller.memory.read(key & 0xFFFFFFFF, size)


def _put(caller: Instance, key: int, key_size: int, value: int, value_size: int, mode: str) -> int | Suspend:
    """1: there was nothing under the key. What does not fit ends the request: a guest could not be told otherwise."""
    environment = _environment(caller)
    name = _key(caller, key, key_size)
    value_size &= 0xFFFFFFFF
    if value_size > environment.limits.kv_value:
        raise LimitReached("kv_value")
    data = caller.memory.read(value & 0xFFFFFFFF, value_size)
    outcome = environment.keys.put(STORE, name, data, mode=mode)
    return Suspend(Awaited(_put_later, (outcome,))) if isinstance(outcome, Awaitable) else int(outcome[1])


async def _put_later(outcome: Awaitable[tuple[bool, bool]]) -> int:
    return int((await outcome)[1])


@host_function
def hostcall_kvstore_insert(caller: Instance, key: i32, key_size: i32, value: i32, value_size: i32) -> i32 | Suspend:
    """Overwrites."""
    return _put(caller, key, key_size, value, value_size, "overwrite")


@host_function
def hostcall_kvstore_upsert(caller: Instance, key: i32, key_size: i32, value: i32, value_size: i32) -> i32 | Suspend:
    """Only if there is nothing under the key, whatever the name says."""
    return _put(caller, key, key_size, value, value_size, "add")


@host_function
def hostcall_kvstore_append(caller: Instance, key: i32, key_size: i32, value: i32, value_size: i32) -> i32 | Suspend:
    return _put(caller, key, key_size, value, value_size, "append")


@host_function
def hostcall_kvstore_get(caller: Instance, value: i32, size: i32, key: i32, key_size: i32) -> i32 | Suspend:
    found = _environment(caller).keys.get(STORE, _key(caller, key, key_size))
    if isinstance(found, Awaitable):
        return Suspend(Awaited(_get_later, (caller, value, size, found)))
    return _give_or_not(caller, value, size, found.value if found else None)


def _give_or_not(caller: Instance, value: int, size: int, data: bytes | None) -> int | Suspend:
    if data is None:
        return give_nothing(caller, value, size, 0)
    return give_bytes(caller, value, size, data, 1)


async def _get_later(caller: Instance, value: int, size: int, found: Awaitable[Entry | None]) -> int:
    entry = await found
    return await _give_later_or_not(caller, value, size, entry.value if entry else None)


async def _give_later_or_not(caller: Instance, value: int, size: int, data: bytes | None) -> int:
    if data is None:
        return give_nothing(caller, value, size, 0)
    return await give_later(caller, bytes_steps(caller, value, size, data, 1))


@host_function
def hostcall_kvstore_remove(caller: Instance, key: i32, key_size: i32) -> i32 | Suspend:
    removed = _environment(caller).keys.delete(STORE, _key(caller, key, key_size))
    return Suspend(Awaited(_remove_later, (removed,))) if isinstance(removed, Awaitable) else int(removed)


async def _remove_later(removed: Awaitable[bool]) -> int:
    return int(await removed)


# ---- the domain name system ----


def _may_ask(caller: Instance) -> bool:
    """Queries count as outgoing requests do, apart from them."""
    visit = caller.context
    environment = _environment(caller)
    if environment.resolver is None or visit.dns_queries >= environment.limits.outgoing_requests:
        return False
    visit.dns_queries += 1
    return True


@host_function
async def hostcall_dns_query_raw(caller: Instance, answer: i32, size: i32, query: i32, query_size: i32) -> i32:
    """A DNS message, to which the resolver's answer comes back; its id is the guest's, whatever is sent."""
    resolver = _environment(caller).resolver
    message = caller.memory.read(query & 0xFFFFFFFF, min(query_size & 0xFFFFFFFF, MAX_DNS + 1))
    found = None
    if resolver is not None and _may_ask(caller):
        try:
            found = await resolver.query(message)
        except OutgoingFailed as error:
            caller.context.record.log(f"DNS query failed: {error}")
    return await _give_later_or_not(caller, answer, size, found)


@host_function
async def hostcall_dns_query_ip(caller: Instance, slices: i32, count: i32, name: i32, name_size: i32, v6: i32) -> i32:
    """Addresses of 4 or 16 bytes."""
    resolver = _environment(caller).resolver
    host = caller.memory.read(name & 0xFFFFFFFF, min(name_size & 0xFFFFFFFF, MAX_KEY))
    found: list[bytes] = []
    if resolver is not None and _may_ask(caller):
        try:
            found = await resolver.addresses(host, v6=v6 != 0)
        except OutgoingFailed as error:
            caller.context.record.log(f"DNS query failed: {error}")
    if not found:
        return give_nothing(caller, slices, count, 0)
    return await give_later(caller, slices_steps(caller, slices, count, found, 1))


# ---- random numbers, time ----


@host_function
def hostcall_rng_next_u64() -> i64:
    return int.from_bytes(os.urandom(8), "little")


@host_function
def hostcall_time_now(caller: Instance, nanoseconds: i32) -> i64:
    """Seconds since the epoch, and the nanoseconds beyond, if they are wanted: NULL is no place for them."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    if nanoseconds:
        caller.memory.write_u32(nanoseconds & 0xFFFFFFFF, rest)
    return seconds


# ---- the log ----


def _message(caller: Instance, at: int, size: int) -> str:
    """Of `size` bytes, or up to a NUL if that is -1; what is beyond MAX_MESSAGE is left out."""
    memory = caller.memory
    at &= 0xFFFFFFFF
    if size == -1:
        # A MemoryAccessError if there is nothing at all.
        data = memory.read(at, max(1, min(MAX_MESSAGE, len(memory) - at))).partition(b"\0")[0]
    else:
        data = memory.read(at, min(size & 0xFFFFFFFF, MAX_MESSAGE))
    return data.decode("utf-8", "replace")


@host_function
def hostcall_debug(caller: Instance, message: i32, size: i32) -> None:
    caller.context.record.log(_message(caller, message, size))


@host_function
def hostcall_panic_hook(caller: Instance, message: i32, size: i32) -> None:
    """What a guest says before it traps."""
    caller.context.record.log(f"panic: {_message(caller, message, size)}")


# ---- text, for AssemblyScript ----


def _text(caller: Instance, at: int, size: int) -> bytes:
    if size > MAX_TEXT:
        raise GuestError(f"a text of {size} bytes: they have at most {MAX_TEXT}")
    return caller.memory.read(at & 0xFFFFFFFF, size)


@host_function
def hostcall_utf16_to_utf8_lossy(caller: Instance, out: i32, out_size: i32, text: i32, units: i32) -> Suspend | None:
    """`units` of 16 bits to bytes; what is no text becomes U+FFFD."""
    found = _text(caller, text, 2 * (units & 0xFFFFFFFF)).decode("utf-16-le", "replace").encode()
    return give_bytes(caller, out, out_size, found, None)


@host_function
def hostcall_utf8_to_utf16_lossy(caller: Instance, out: i32, out_units: i32, text: i32, size: i32) -> Suspend | None:
    """Bytes to units of 16 bits, whose number is what comes back."""
    found = _text(caller, text, size & 0xFFFFFFFF).decode("utf-8", "replace").encode("utf-16-le")
    return give(caller, bytes_steps(caller, out, out_units, found, None, unit=2))
