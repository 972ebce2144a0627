"""poll_oneoff: clocks, files, pipes, and its errors, to the byte."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lucet.wasi import WasiContext
from lucet.wasi.tables import PREVIEW0, ClockId, Errno, EventType, OpenFlag, Right
from tests.wasi.fake import RESULT, Guest

IN, OUT = 0x3000, 0x5000
MS = 1_000_000


def clock(userdata: int, timeout: int, *, which: int = ClockId.MONOTONIC, flags: int = 0) -> bytes:
    return struct.pack("<QBxxxxxxxIxxxxQQHxxxxxx", userdata, EventType.CLOCK, which, timeout, 0, flags)


def readable(userdata: int, fd: int) -> bytes:
    return struct.pack("<QBxxxxxxxI", userdata, EventType.FD_READ, fd).ljust(48, b"?")


def writable(userdata: int, fd: int) -> bytes:
    return struct.pack("<QBxxxxxxxI", userdata, EventType.FD_WRITE, fd).ljust(48, b"?")


def event(userdata: int, kind: int, error: int = 0, nbytes: int = 0, flags: int = 0) -> bytes:
    return struct.pack("<QHBxxxxxQHxxxxxx", userdata, error, kind, nbytes, flags)


def check(guest: Guest, subscriptions: list[bytes], events: list[bytes]) -> float:
    """These events, no other byte; returns how long it took."""
    guest.memory.write(IN, b"".join(subscriptions))
    start = time.monotonic()
    changes = {OUT: b"".join(events), RESULT: struct.pack("<I", len(events))}
    guest.check(Errno.SUCCESS, changes, "poll_oneoff", IN, OUT, len(subscriptions), RESULT)
    return time.monotonic() - start


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def guest(folder: Path, pipe: tuple[int, int]) -> Iterator[Guest]:
    with WasiContext(preopens=[(folder, "/")], stdin=pipe[0], stdout=pipe[1]) as context:
        yield Guest(context)


def test_a_relative_clock(guest: Guest) -> None:
    assert check(guest, [clock(1, 30 * MS)], [event(1, EventType.CLOCK)]) >= 0.03


def test_the_earliest_clock_wins(guest: Guest) -> None:
    took = check(guest, [clock(1, 10**12), clock(2, 20 * MS), clock(3, 10**12)], [event(2, EventType.CLOCK)])
    assert 0.02 <= took < 5


@pytest.mark.parametrize("which", [ClockId.MONOTONIC, ClockId.REALTIME])
def test_an_absolute_clock(guest: Guest, which: ClockId) -> None:
    past = guest.context.clock.time(which)
    future = past + 30 * MS
    assert check(guest, [clock(1, past, which=which, flags=1)], [event(1, EventType.CLOCK)]) < 5
    check(guest, [clock(2, future, which=which, flags=1)], [event(2, EventType.CLOCK)])
    assert guest.context.clock.time(which) >= future


def test_a_zero_timeout_and_several_at_once(guest: Guest) -> None:
    check(guest, [clock(1, 0), clock(2, 0), clock(3, 10**15)], [event(1, EventType.CLOCK), event(2, EventType.CLOCK)])


def test_the_longest_timeouts_do_not_overflow(guest: Guest) -> None:
    for flags in (0, 1):
        check(guest, [clock(1, (1 << 64) - 1, flags=flags), clock(2, 0)], [event(2, EventType.CLOCK)])


def test_a_pipe_with_data(guest: Guest, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"abc")
    check(guest, [clock(1, 10**12), readable(2, 0)], [event(2, EventType.FD_READ, nbytes=3)])


def test_a_pipe_without_data_times_out(guest: Guest) -> None:
    assert check(guest, [readable(1, 0), clock(2, 20 * MS)], [event(2, EventType.CLOCK)]) >= 0.02


def test_data_that_comes_while_waiting(guest: Guest, pipe: tuple[int, int]) -> None:
    threading.Timer(0.05, os.write, (pipe[1], b"x")).start()
    took = check(guest, [clock(1, 10**13), readable(2, 0)], [event(2, EventType.FD_READ, nbytes=1)])
    assert 0.02 < took < 20


def test_a_pipe_can_be_written_until_it_is_full(guest: Guest, pipe: tuple[int, int]) -> None:
    check(guest, [writable(1, 1), clock(2, 10**12)], [event(1, EventType.FD_WRITE, nbytes=1)])
    os.set_blocking(pipe[1], False)
    os.write(pipe[1], bytes(1 << 20))
    check(guest, [writable(1, 1), clock(2, MS)], [event(2, EventType.CLOCK)])


def test_both_ends_and_one_descriptor_twice(guest: Guest, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"abc")
    check(
        guest,
        [readable(1, 0), writable(2, 1), readable(3, 0)],
        [
            event(1, EventType.FD_READ, nbytes=3),
            event(2, EventType.FD_WRITE, nbytes=1),
            event(3, EventType.FD_READ, nbytes=3),
        ],
    )


def test_a_closed_pipe_hangs_up(folder: Path) -> None:
    reader, writer = os.pipe()
    with WasiContext(stdin=reader) as context:
        os.close(writer)
        check(Guest(context), [readable(1, 0)], [event(1, EventType.FD_READ, flags=1)])
    os.close(reader)


def test_files_are_always_ready(guest: Guest, folder: Path) -> None:
    (folder / "file").write_bytes(b"0123456789")
    fd = guest.open("file")
    guest.ok("fd_seek", fd, 4, 0, RESULT)
    events = [event(1, EventType.FD_READ, nbytes=6), event(2, EventType.FD_WRITE, nbytes=1)]
    check(guest, [readable(1, fd), writable(2, fd), clock(3, 10**12)], events)


def test_errors_are_events(guest: Guest, folder: Path) -> None:
    deaf = guest.open("new", oflags=OpenFlag.CREAT, rights=Right.FD_READ)
    subscriptions = [
        readable(1, 99),
        readable(2, 1),
        writable(3, 0),
        readable(4, deaf),
        clock(5, 0, which=4),
        clock(6, 10**12, flags=2),
    ]
    events = [
        event(1, EventType.FD_READ, Errno.BADF),
        event(2, EventType.FD_READ, Errno.NOTCAPABLE),
        event(3, EventType.FD_WRITE, Errno.NOTCAPABLE),
        event(4, EventType.FD_READ, Errno.NOTCAPABLE),
        event(5, EventType.CLOCK, Errno.INVAL),
        event(6, EventType.CLOCK, Errno.INVAL),
    ]
    check(guest, [*subscriptions, clock(7, 10**12)], events)


def test_streams_in_memory_are_always_ready() -> None:
    with WasiContext(stdin=b"abc") as context:
        events = [event(1, EventType.FD_READ, nbytes=3), event(2, EventType.FD_WRITE, nbytes=1)]
        check(Guest(context), [readable(1, 0), writable(2, 1)], events)


@pytest.mark.parametrize(("count", "errno"), [(0, Errno.INVAL), (4096, Errno.SUCCESS), (4097, Errno.INVAL)])
def test_number_of_subscriptions(count: int, errno: Errno) -> None:
    with WasiContext() as context:
        guest = Guest(context, size=1 << 20)
        guest.memory.write(0, clock(0, 0) * 4097)
        assert guest.call("poll_oneoff", 0, 0x80000, count, 0xF0000) == errno


def test_an_unknown_kind(guest: Guest) -> None:
    guest.memory.write(IN, struct.pack("<QB", 1, 3).ljust(48, b"\0"))
    guest.check(Errno.INVAL, {}, "poll_oneoff", IN, OUT, 1, RESULT)


def test_events_may_lie_over_the_subscriptions(guest: Guest) -> None:
    guest.memory.write(IN, clock(7, 0) + clock(8, 0))
    events = event(7, EventType.CLOCK) + event(8, EventType.CLOCK)
    guest.check(Errno.SUCCESS, {IN: events, RESULT: b"\2\0\0\0"}, "poll_oneoff", IN, IN, 2, RESULT)


def test_preview_0_has_an_identifier_in_its_clocks(guest: Guest) -> None:
    old = Guest(guest.context, abi=PREVIEW0)
    row = struct.pack("<QBxxxxxxxQIxxxxQQHxxxxxx", 1, EventType.CLOCK, 0xABCDEF, ClockId.MONOTONIC, 0, 0, 0)
    other = struct.pack("<QBxxxxxxxI", 2, EventType.FD_READ, 99).ljust(56, b"?")
    old.memory.write(IN, row + other)
    events = event(1, EventType.CLOCK) + event(2, EventType.FD_READ, Errno.BADF)
    old.check(Errno.SUCCESS, {OUT: events, RESULT: b"\2\0\0\0"}, "poll_oneoff", IN, OUT, 2, RESULT)
