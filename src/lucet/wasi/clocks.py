"""The clocks of a guest, and its random numbers."""

from __future__ import annotations

import random
import time
from typing import Final, Protocol

from lucet.wasi.tables import ClockId

NANOSECONDS: Final = 1_000_000_000


class Clock(Protocol):
    """Gives the guest its time; all in nanoseconds."""

    def time(self, clock: ClockId) -> int: ...
    def resolution(self, clock: ClockId) -> int: ...


class SystemClock:
    """The host's clocks. Those whose zero means nothing start with the context, and so tell nothing about the host."""

    def __init__(self) -> None:
        # By number, since a program may ask for the time very often.
        self._starts = (0, time.monotonic_ns(), time.process_time_ns(), 0)

    @property
    def starts(self) -> tuple[int, int, int, int]:
        """What each clock of the host, by number, is ahead of the guest's."""
        return self._starts

    def time(self, clock: ClockId) -> int:
        return _SOURCES[clock]() - self._starts[clock]

    def resolution(self, clock: ClockId) -> int:
        return max(round(time.clock_getres(_HOST_CLOCKS[clock]) * NANOSECONDS), 1)


class FixedClock:
    """Stands still while the guest computes. A wait is over at once, and moves the clock by what was waited for.

    realtime: nanoseconds since 1970; the other clocks begin at 0.
    """

    def __init__(self, realtime: int = 0) -> None:
        self._realtime = realtime
        self._waited = 0

    def time(self, clock: ClockId) -> int:
        return self._waited + (self._realtime if clock == ClockId.REALTIME else 0)

    def resolution(self, _clock: ClockId) -> int:
        return 1

    def sleep(self, nanoseconds: int) -> None:
        """Instead of waiting."""
        self._waited += nanoseconds


class SeededRandom:
    """The same bytes in every run; of no use where secrets are made."""

    def __init__(self, seed: int | str | bytes) -> None:
        self._source = random.Random(seed)

    def __call__(self, count: int) -> bytes:
        return self._source.randbytes(count)


_SOURCES: Final = (time.time_ns, time.monotonic_ns, time.process_time_ns, time.thread_time_ns)
_HOST_CLOCKS: Final = (
    time.CLOCK_REALTIME,
    time.CLOCK_MONOTONIC,
    time.CLOCK_PROCESS_CPUTIME_ID,
    time.CLOCK_THREAD_CPUTIME_ID,
)
