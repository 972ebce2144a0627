"""poll_oneoff: wait until one of several clocks or descriptors is ready."""

from __future__ import annotations

import select
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lucet.runtime import wait
from lucet.wasi.calls_process import clock_id
from lucet.wasi.clocks import NANOSECONDS, Clock
from lucet.wasi.context import WasiContext
from lucet.wasi.errors import WasiError
from lucet.wasi.fdtable import FdTable
from lucet.wasi.files import Descriptor
from lucet.wasi.memory import Memory
from lucet.wasi.tables import (
    EVENT,
    MASK32,
    MAX_SUBSCRIPTIONS,
    Abi,
    ClockId,
    Errno,
    EventFlag,
    EventType,
    Right,
    SubscriptionFlag,
)

LONGEST_WAIT: Final = 60 * NANOSECONDS
"""Then the clocks are read again: one that is set forward does not wake us."""
HOST_EVENTS: Final = {EventType.FD_READ: select.POLLIN, EventType.FD_WRITE: select.POLLOUT}
NEEDED: Final = {
    EventType.FD_READ: Right.POLL_FD_READWRITE | Right.FD_READ,
    EventType.FD_WRITE: Right.POLL_FD_READWRITE | Right.FD_WRITE,
}


@dataclass(kw_only=True, slots=True)
class Subscription:
    """One thing that is waited for, and what came of it."""

    userdata: int
    type: int
    is_ready: bool = False
    error: Errno = Errno.SUCCESS
    nbytes: int = 0
    flags: int = 0

    def event(self) -> bytes:
        return EVENT.pack(self.userdata, self.error, self.type, self.nbytes, self.flags)

    def fail(self, error: Errno) -> None:
        self.is_ready, self.error = True, error


@dataclass(kw_only=True, slots=True)
class ClockSubscription(Subscription):
    clock: ClockId
    deadline: int

    def remaining(self, clock: Clock) -> int:
        return max(self.deadline - clock.time(self.clock), 0)


@dataclass(kw_only=True, slots=True)
class FileSubscription(Subscription):
    file: Descriptor
    fd: int

    def succeed(self, host_events: int) -> None:
        self.is_ready = True
        if host_events & select.POLLNVAL:
            self.error = Errno.BADF
        if host_events & (select.POLLHUP | select.POLLERR):
            self.flags = EventFlag.HANGUP
        # How much can be written is unknown, but it is something.
        self.nbytes = self.file.available() if self.type == EventType.FD_READ else 1


class PollCalls:
    context: WasiContext
    fds: FdTable
    abi: Abi

    def poll_oneoff(self, memory: Memory, subscriptions: int, out: int, count: int, nevents: int) -> int:
        return self._poll(memory, self._subscriptions(memory, subscriptions, count), out, nevents)

    def _subscriptions(self, memory: Memory, subscriptions: int, count: int) -> list[Subscription]:
        """What the guest asks for."""
        if not 0 < count <= MAX_SUBSCRIPTIONS:
            raise WasiError(Errno.INVAL)
        rows = self.abi.subscription.iter_unpack(memory.read(subscriptions, count * self.abi.subscription.size))
        return [self._subscription(*row) for row in rows]

    def _poll(self, memory: Memory, waiting: list[Subscription], out: int, nevents: int) -> int:
        """Wait for one of them, and tell the guest which."""
        _wait(waiting, self.context.clock)
        events = [subscription.event() for subscription in waiting if subscription.is_ready]
        memory.write(out, b"".join(events))
        memory.write_u32(nevents, len(events))
        return 0

    def _subscription(self, userdata: int, tag: int, what: int, *rest: int) -> Subscription:
        """A row of the array; `what` is a descriptor, or where a clock's id or preview 0's clock identifier is."""
        if tag == EventType.CLOCK:
            clock, timeout, _precision, flags = (what, *rest)[-4:]
            return self._clock(userdata, clock, timeout, flags)
        if tag not in NEEDED:
            raise WasiError(Errno.INVAL)
        try:
            file = self.fds.get(what & MASK32, NEEDED[tag])
        except WasiError as error:
            return Subscription(userdata=userdata, type=tag, is_ready=True, error=error.errno)
        fd = file.host_fd()
        subscription = FileSubscription(userdata=userdata, type=tag, file=file, fd=-1 if fd is None else fd)
        if fd is None:
            subscription.succeed(0)
        return subscription

    def _clock(self, userdata: int, clock: int, timeout: int, flags: int) -> Subscription:
        try:
            if flags & ~SubscriptionFlag.ALL:
                raise WasiError(Errno.INVAL)
            which = clock_id(clock)
        except WasiError as error:
            return Subscription(userdata=userdata, type=EventType.CLOCK, is_ready=True, error=error.errno)
        start = 0 if flags & SubscriptionFlag.ABSTIME else self.context.clock.time(which)
        return ClockSubscription(userdata=userdata, type=EventType.CLOCK, clock=which, deadline=start + timeout)


def time_left(waiting: list[Subscription], clock: Clock) -> int:
    """Nanoseconds until a clock's time has come, if they are all clocks; else 0."""
    left = [s.remaining(clock) for s in waiting if isinstance(s, ClockSubscription) and not s.is_ready]
    return min(left) if len(left) == len(waiting) else 0


def _wait(waiting: list[Subscription], clock: Clock) -> None:
    """Return when at least one of them is ready; all that are ready then are marked."""
    files = [s for s in waiting if isinstance(s, FileSubscription) and not s.is_ready]
    clocks = [s for s in waiting if isinstance(s, ClockSubscription)]
    is_ready = any(s.is_ready for s in waiting)
    sleep = getattr(clock, "sleep", None)
    if sleep is not None and clocks:
        _wait_for_files(files, 0)
        if not any(s.is_ready for s in waiting):
            sleep(min(s.remaining(clock) for s in clocks))
    while True:
        left = 0 if is_ready else min([s.remaining(clock) for s in clocks], default=LONGEST_WAIT)
        _wait_for_files(files, min(left, LONGEST_WAIT))
        for subscription in clocks:
            subscription.is_ready = subscription.remaining(clock) == 0
        if any(s.is_ready for s in waiting):
            return


def _wait_for_files(files: Iterable[FileSubscription], nanoseconds: int) -> None:
    events: dict[int, int] = {}
    for subscription in files:
        events[subscription.fd] = events.get(subscription.fd, 0) | HOST_EVENTS[subscription.type]
    happened = dict(zip(events, wait([*events.items()], nanoseconds), strict=True))
    for subscription in files:
        occurred = happened.get(subscription.fd, 0)
        if occurred & (HOST_EVENTS[subscription.type] | select.POLLHUP | select.POLLERR | select.POLLNVAL):
            subscription.succeed(occurred)
