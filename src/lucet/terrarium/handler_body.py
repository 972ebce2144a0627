"""Bodies as http-wasm's handlers read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lucet.terrarium.http import BytesBody, Rest, read_all

if TYPE_CHECKING:
    from lucet.terrarium.http import Body

BUFFER_REQUEST: Final = 1
BUFFER_RESPONSE: Final = 2
SUPPORTED: Final = BUFFER_REQUEST | BUFFER_RESPONSE
"""Of the features; trailers are not."""


class Reading:
    """A body that a handler reads, by and by."""

    __slots__ = ("_body", "_data", "_position", "ended")

    def __init__(self, body: Body) -> None:
        data = body.at_once()
        self._body = body
        self._data = data or b""
        self._position = 0
        self.ended = data is not None
        """Whether nothing more comes than there is."""

    @property
    def at_end(self) -> bool:
        return self.ended and self._position == len(self._data)

    def take(self, limit: int) -> bytes:
        """Of what is there."""
        part = self._data[self._position : self._position + limit]
        self._position += len(part)
        return part

    async def receive(self, limit: int | None) -> None:
        """More of it; limit: all of it, and at most so many bytes."""
        if limit is None:
            self._data, self._position = await self._body.read(), 0
            self.ended = not self._data
        else:
            self._data = await read_all(self._body, limit)
            self.ended = True

    def left(self, *, whole: bool) -> Body:
        """For the next handler. whole: also what has been read, if all of it is there."""
        if self.ended:
            return BytesBody(self._data if whole else self._data[self._position :])
        return Rest(self._data[self._position :], self._body)
