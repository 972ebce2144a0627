"""Who is served next: a tenant with more requests, or heavier ones, than its share waits, and its neighbours do not.

A request of a tenant that has neither used its share of the present moment nor all its instances begins at once. Others
queue, each tenant in a queue of its own, and the queues have their turns one after the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lucet.terrarium.limits import Limits

if TYPE_CHECKING:
    from lucet.terrarium.record import Record

WINDOW: Final = 0.010
"""Seconds of a moment."""
SHARE: Final = 0.004
"""Seconds of guests' computing in a moment, from which on a tenant's requests queue."""
SHARED: Final = 0.1
"""Seconds from a tenant's request for which it is to be considered by its neighbours."""
_BATCH: Final = 0.002
"""Seconds of computing that one turn is meant to take."""


class Overloaded(Exception):
    """As many requests of the tenant wait as may."""


class Load:
    """A tenant's, at present."""

    __slots__ = ("_admission", "_average", "_used", "_window_end", "limits", "queue", "running")

    def __init__(self, limits: Limits, admission: Admission) -> None:
        self.limits = limits
        self._admission = admission
        self.running = 0
        self.queue: deque[asyncio.Future[None]] = deque()
        self._used = 0.0
        self._window_end = 0.0
        self._average = 0.0
        """Seconds that a request of late has computed."""

    def begin(self, now: float) -> bool:
        """Whether a request may begin at once, as it does then. now: of a monotonic clock."""
        if self.queue or self.running >= self.limits.concurrency:
            return False
        admission = self._admission
        if admission.latest is not self:
            if admission.latest is not None:
                admission.shared_until = now + SHARED
            admission.latest = self
        if now > self._window_end:
            self._window_end = now + WINDOW
            self._used = 0.0
        elif self._used > SHARE and now < admission.shared_until:
            return False
        self.running += 1
        return True

    def charge(self, record: Record) -> None:
        """What its guest has computed since the last time."""
        self._used += record.cpu_time - record.charged
        record.charged = record.cpu_time

    def ended(self, seconds: float) -> None:
        """A request that computed for so long is over."""
        self._average += (seconds - self._average) * 0.1

    @property
    def batch(self) -> int:
        """Requests of one turn."""
        return max(1, int(_BATCH / (self._average + 1e-6)))


class Admission:
    """The turns of all tenants whose requests queue."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turns: deque[Load] = deque()
        self._due = False
        self.latest: Load | None = None
        """Whose request came last."""
        self.shared_until = 0.0
        """Until then there are several tenants that ask for something; one alone has the whole machine."""

    async def wait(self, load: Load) -> None:
        """Until a request of the tenant may begin, as it does then. Overloaded."""
        if len(load.queue) >= load.limits.queue:
            raise Overloaded
        future = self._loop.create_future()
        if not load.queue:
            self._turns.append(load)
        load.queue.append(future)
        self._schedule()
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled():
                load.running -= 1
                self._schedule()
            else:
                with suppress(ValueError):  # unless a round has passed over it already
                    load.queue.remove(future)
                    if not load.queue:
                        self._turns.remove(load)
            raise

    def ended(self) -> None:
        """A request of a tenant whose requests queue is over."""
        self._schedule()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            # Beyond the callbacks that are due already, so that new requests of others come first.
            self._loop.call_soon(self._loop.call_soon, self._round)

    def _round(self) -> None:
        self._due = False
        for _ in range(len(self._turns)):
            load = self._turns.popleft()
            for _ in range(load.batch):
                if not load.queue or load.running >= load.limits.concurrency:
                    break
                future = load.queue.popleft()
                if not future.done():
                    load.running += 1
                    future.set_result(None)
            if load.queue:
                self._turns.append(load)
        if any(load.running < load.limits.concurrency for load in self._turns):
            self._schedule()
