"""The initial contents of memory 0 as whole pages, so that the loader can map or copy them without reading segments."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Final

from lucet.compile.plan import ImageRun
from lucet.limits import HOST_PAGE_SIZE

MAX_GROWTH: Final = 16
"""An image may be at most this many times larger than its segments (many tiny ones, pages apart) ..."""
SMALL_IMAGE: Final = 1 << 20
"""... unless it is smaller than this. Beyond both, init copies the segments."""

_ZERO_PAGE: Final = bytes(HOST_PAGE_SIZE)


def page_image(segments: Iterable[tuple[int, bytes]]) -> tuple[ImageRun, ...] | None:
    """Lay out (address, bytes) segments, later ones over earlier ones; None if that takes too much room."""
    pages: dict[int, bytearray] = {}
    total = 0
    for address, data in segments:
        total += len(data)
        _write(pages, address, data)
        if len(pages) * HOST_PAGE_SIZE > max(SMALL_IMAGE, MAX_GROWTH * total):
            return None
    return _runs({number: page for number, page in pages.items() if page != _ZERO_PAGE})


def _write(pages: dict[int, bytearray], address: int, data: bytes) -> None:
    position = 0
    while position < len(data):
        number, start = divmod(address + position, HOST_PAGE_SIZE)
        size = min(HOST_PAGE_SIZE - start, len(data) - position)
        page = pages.setdefault(number, bytearray(HOST_PAGE_SIZE))
        page[start : start + size] = data[position : position + size]
        position += size


def _runs(pages: dict[int, bytearray]) -> tuple[ImageRun, ...]:
    runs = []
    # Consecutive page numbers have the same difference to their position in the sorted list.
    for _, group in groupby(enumerate(sorted(pages)), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in group]
        contents = b"".join(pages[number] for number in numbers)
        runs.append(ImageRun(heap_offset=numbers[0] * HOST_PAGE_SIZE, bytes=contents))
    return tuple(runs)
