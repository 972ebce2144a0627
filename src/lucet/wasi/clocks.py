"""The clocks of a guest, and its random numbers."""

from __future__ import annotations

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


_SOURCES: Final = (time.time_ns, time.monotonic_ns, time.process_time_ns, time.thread_time_ns)
_HOST_CLOCKS: Final = (
    time.CLOCK_REALTIME,
    time.CLOCK_MONOTONIC,
    time.CLOCK_PROCESS_CPUTIME_ID,
    time.CLOCK_THREAD_CPUTIME_ID,
)
