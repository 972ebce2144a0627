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
        self._monotonic = time.monotonic_ns()
        self._process = time.process_time_ns()

    def time(self, clock: ClockId) -> int:
        if clock == ClockId.MONOTONIC:
            return time.monotonic_ns() - self._monotonic
        if clock == ClockId.REALTIME:
            return max(time.time_ns(), 0)
        if clock == ClockId.PROCESS_CPUTIME_ID:
            return time.process_time_ns() - self._process
        return time.thread_time_ns()

    def resolution(self, clock: ClockId) -> int:
        return max(round(time.clock_getres(_HOST_CLOCKS[clock]) * NANOSECONDS), 1)


_HOST_CLOCKS: Final = {
    ClockId.REALTIME: time.CLOCK_REALTIME,
    ClockId.MONOTONIC: time.CLOCK_MONOTONIC,
    ClockId.PROCESS_CPUTIME_ID: time.CLOCK_PROCESS_CPUTIME_ID,
    ClockId.THREAD_CPUTIME_ID: time.CLOCK_THREAD_CPUTIME_ID,
}
