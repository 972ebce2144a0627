"""Bodies that Compute guests hold: bytes, bodies that arrive, and those that are sent while the guest writes them."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from lucet.terrarium.compute_table import Status
from lucet.terrarium.http import OutgoingFailed
from lucet.terrarium.interface import GuestError

if TYPE_CHECKING:
    from lucet.terrarium.http import Body, Exchange, Headers

PIECE: Final = 65536
"""Bytes that are read or sent at once."""
PART: Final = 64
"""Bytes that a part costs besides its own."""


class Refused(Exception):
    """A call is answered with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Store:
    """How many bytes the host holds for a guest: bodies that it has made or been given."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def hold(self, size: int) -> None:
        if not self.has_room(size):
            raise Refused(Status.LIMITEXCEEDED)
        self.held += size

    def has_room(self, size: int) -> bool:
        return self.held + size <= self.limit

    def give_back(self, size: int) -> None:
        self.held -= size


class Item:
    """What a guest has a handle of."""

    __slots__ = ("handle", "held")

    def __init__(self) -> None:
        self.handle = 0
        self.held = 0
        """Of the visit's store."""

    def release(self, store: Store) -> None:
        """It is used up, or nobody has a handle of it."""
        store.give_back(self.held)
        self.held = 0


class Sink(Protocol):
    """Where the bytes of a body go that is sent while the guest writes it."""

    async def write(self, data: bytes, /) -> None:
        """Waits while the reader is slower. ClientGone, Refused."""

    async def finish(self) -> None: ...

    def abandon(self) -> None:
        """What was sent is not all of it, and the reader is to notice."""


class Content(Item):
    """A body. Its parts are bytearrays, and bodies that arrive; it can be read, or it has a sink and is written."""

    __slots__ = ("arriving", "parts", "sink", "store", "trailers")

    def __init__(self, store: Store, *parts: Body) -> None:
        super().__init__()
        self.store = store
        self.parts: deque[Any] = deque(parts)
        self.sink: Sink | None = None
        # held: for each bytearray its length and PART, and for trailers.
        self.arriving: asyncio.Task[bytes] | None = None
        """Reads ahead from the first part, for who waits for several things."""
        self.trailers: Headers = []

    # ---- by the guest ----

    def add(self, data: bytes, *, in_front: bool = False) -> None:
        """Refused if it cannot be held."""
        if not data:
            return
        parts = self.parts
        if in_front and self.arriving is not None:
            raise Refused(Status.AGAIN)  # what arrives would come before it
        neighbour = (parts[0] if in_front else parts[-1]) if parts else None
        if isinstance(neighbour, bytearray) and (not in_front or len(neighbour) < PIECE):
            self.hold(len(data))
            at = 0 if in_front else len(neighbour)
            neighbour[at:at] = data
        else:
            self.hold(len(data) + PART)
            (parts.appendleft if in_front else parts.append)(bytearray(data))

    def hold(self, size: int) -> None:
        """Refused."""
        self.store.hold(size)
        self.held += size

    def take_all(self, other: Content, *, in_front: bool = False) -> None:
        """Everything of another body, which is used up, comes after what is here, or before it."""
        if other.arriving is not None:
            other.parts[0] = _Begun(other.parts[0], other.arriving)
            other.arriving = None
        if in_front:
            self.parts.extendleft(reversed(other.parts))
        else:
            self.parts += other.parts
        self.trailers += other.trailers
        self.held += other.held
        other.held = 0
        other.parts.clear()

    def drop(self) -> None:
        """Nobody reads it any more."""
        self._give_back(self.held)
        if self.arriving is not None:
            self.arriving.cancel()
            self.arriving = None
        self.parts.clear()
        if self.sink is not None:
            self.sink.abandon()
            self.sink = None

    def release(self, store: Store) -> None:
        self.drop()

    # ---- reading ----

    @property
    def length(self) -> int | None:
        """Bytes that are left, if that is known."""
        total = 0
        for part in self.parts:
            size = len(part) if type(part) is bytearray else part.length
            if size is None or self.arriving is not None:
                return None
            total += size
        return total

    def at_once(self) -> bytes | None:
        """All of it, which is used up then; None if it has yet to arrive."""
        for i, part in enumerate(self.parts):
            if type(part) is not bytearray:
                whole = self._whole(part)
                if whole is None:
                    return None
                self.parts[i] = whole
        data = b"".join(self.parts)
        self.parts.clear()
        self._give_back(self.held)
        return data

    def read_now(self, limit: int) -> bytes | None:
        """At most so many bytes, b"" at the end; None: they have to be waited for."""
        while self.parts:
            first = self.parts[0]
            if type(first) is not bytearray:
                if self.arriving is not None and self.arriving.done():
                    self._arrived()
                    continue
                whole = self._whole(first)
                if whole is None:
                    return None
                first = self.parts[0] = whole
            if len(first) > limit:
                data = bytes(first[:limit])
                del first[:limit]
                self._give_back(limit)
                return data
            self.parts.popleft()
            self._give_back(len(first) + PART)
            if first:
                return bytes(first)
        return b""

    async def read(self, limit: int = PIECE) -> bytes:
        """At most so many bytes, b"" at the end. ClientGone, BodyTooLarge; OutgoingFailed if it is cut off."""
        while (data := self.read_now(limit)) is None:
            if self.arriving is not None:
                await asyncio.wait((self.arriving,))
                continue
            data = await self._begun().read(min(limit, PIECE))
            if len(data) > limit:  # it was asked for more before
                self._keep(data[limit:])
                return data[:limit]
            if data:
                return data
            self.parts.popleft()
        return data

    def ready(self) -> asyncio.Task[bytes] | None:
        """None if a call for it would not wait; else what ends then."""
        if self.sink is not None or not self.parts or type(self.parts[0]) is bytearray:
            return None
        if self.arriving is None:
            whole = self._whole(self.parts[0])
            if whole is not None:
                self.parts[0] = whole
                return None
            self.arriving = asyncio.ensure_future(self._begun().read(PIECE))
            self.arriving.add_done_callback(seen)
        return None if self.arriving.done() else self.arriving

    async def chunks(self) -> AsyncIterator[bytes]:
        while data := await self.read():
            yield data

    def _whole(self, part: Body) -> bytearray | None:
        """A part that has arrived, if it can be held."""
        if self.arriving is not None or part.length is None or not self.store.has_room(part.length + PART):
            return None
        whole = part.at_once()
        if whole is None:
            return None
        self.hold(len(whole) + PART)
        return bytearray(whole)

    def _begun(self) -> _Begun:
        """The first part, whose length is not what is left of it any more."""
        first = self.parts[0]
        if not isinstance(first, _Begun):
            first = self.parts[0] = _Begun(first)
        return first

    def _arrived(self) -> None:
        task, self.arriving = self.arriving, None
        assert task is not None
        data = task.result()
        if data:
            self._keep(data)
        else:
            self.parts.popleft()

    def _keep(self, data: bytes) -> None:
        """A piece that was read already comes next; held whether or not there is room."""
        self.parts.appendleft(bytearray(data))
        self.store.held += len(data) + PART
        self.held += len(data) + PART

    def _give_back(self, size: int) -> None:
        self.held -= size
        self.store.give_back(size)


class _Begun:
    """A body of which something was read, or is being read."""

    length = None

    def __init__(self, rest: Body, task: asyncio.Task[bytes] | None = None) -> None:
        self._rest = rest
        self._task = task

    def at_once(self) -> bytes | None:
        return None

    async def read(self, limit: int = PIECE, /) -> bytes:
        """What is being read already may be more than the limit."""
        task, self._task = self._task, None
        return await (self._rest.read(limit) if task is None else task)


def seen(task: asyncio.Future[Any]) -> None:
    """Somebody looks at how it ended, or it does not matter: asyncio need not say that nobody did."""
    if not task.cancelled():
        task.exception()


class DownstreamSink:
    """To the client."""

    def __init__(self, exchange: Exchange, limit: int) -> None:
        self._exchange = exchange
        self._room = limit

    async def write(self, data: bytes, /) -> None:
        self._room -= len(data)
        if self._room < 0:
            raise Refused(Status.LIMITEXCEEDED)
        await self._exchange.write(data)

    async def finish(self) -> None:
        await self._exchange.end()

    def abandon(self) -> None:
        """The front end cuts off a response that is not ended."""


class Pipe:
    """To a backend, which reads it as the body of a request."""

    def __init__(self, length: int | None = None) -> None:
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._end: str = ""
        self._moved = asyncio.Event()
        self.length = length

    def at_once(self) -> bytes | None:
        return None

    async def read(self, limit: int = PIECE, /) -> bytes:
        while not self._parts:
            if self._end == "finished":
                return b""
            if self._end:
                raise OutgoingFailed("the guest has abandoned the body of its request")
            self._moved.clear()
            await self._moved.wait()
        part = self._parts.popleft()
        if len(part) > limit:
            self._parts.appendleft(part[limit:])
            part = part[:limit]
        self._size -= len(part)
        self._moved.set()
        return part

    async def write(self, data: bytes, /) -> None:
        while self._size >= PIECE and not self._end:
            self._moved.clear()
            await self._moved.wait()
        if self._end:
            raise Refused(Status.ERROR)
        self._parts.append(data)
        self._size += len(data)
        self._moved.set()

    async def finish(self) -> None:
        self._end = self._end or "finished"
        self._moved.set()

    def abandon(self) -> None:
        """Also when nobody reads it any more."""
        self._end = self._end or "abandoned"
        self._moved.set()


class Inflated:
    """A body in gzip, as what was compressed. OutgoingFailed if it is not gzip."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._rest = b""

    length = None

    def at_once(self) -> bytes | None:
        return None

    async def read(self, limit: int = PIECE, /) -> bytes:
        while True:
            try:
                data = self._inflate.decompress(self._rest, min(limit, PIECE))
            except zlib.error as error:
                raise OutgoingFailed(f"the response's body is not gzip: {error}") from None
            self._rest = self._inflate.unconsumed_tail
            if data:
                return data
            if self._inflate.eof:
                return b""
            if not (more := await self._body.read(PIECE)):
                raise OutgoingFailed("the response's body, in gzip, ends too early")
            self._rest += more


class Outbound:
    """A guest's body as the body of an outgoing request."""

    def __init__(self, content: Content) -> None:
        self._content = content

    @property
    def length(self) -> int | None:
        return self._content.length

    def at_once(self) -> bytes | None:
        return self._content.at_once()

    async def read(self, limit: int = PIECE, /) -> bytes:
        return await self._content.read(limit)


async def send(content: Content, exchange: Exchange, status: int, headers: Headers, limit: int) -> None:
    """Give a response whose body has yet to arrive."""
    await exchange.start(status, headers)
    sink = DownstreamSink(exchange, limit)
    try:
        async for data in content.chunks():
            await sink.write(data)
    except OutgoingFailed as error:
        raise GuestError(f"the body of the response could not be had: {error}") from None
    except Refused:
        raise GuestError(f"the body of the response is larger than {limit} bytes") from None
    finally:
        content.drop()
    await sink.finish()


def multi_value(items: Sequence[bytes], cursor: int, room: int) -> tuple[bytes, int] | int:
    """As many of the items from the cursor on as there is room for, each with a NUL, and the next cursor, -1 at the
    end; or the room that the first needs if there is less.
    """
    out = bytearray()
    for index in range(cursor, len(items)):
        item = items[index]
        if len(out) + len(item) + 1 > room:
            return (bytes(out), index) if out else len(item) + 1
        out += item
        out.append(0)
    return bytes(out), -1
