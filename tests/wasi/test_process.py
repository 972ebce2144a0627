"""Arguments, environment, clocks, random numbers, the program's end: to the byte."""

from __future__ import annotations

import os
import struct
import time

import pytest

from lucet.errors import Exit
from lucet.wasi import ClockId, WasiContext
from lucet.wasi.tables import PREVIEW0, Errno
from tests.wasi.fake import SIZE, FakeInstance, FakeMemory, Guest


def guest(**options: object) -> Guest:
    return Guest(WasiContext(**options))  # type: ignore[arg-type]


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def test_args() -> None:
    program = guest(args=["prog", b"", "zwölf"])
    program.check(Errno.SUCCESS, {0x10: u32(3), 0x20: u32(5 + 1 + 7)}, "args_sizes_get", 0x10, 0x20)
    program.check(
        Errno.SUCCESS,
        {0x100: u32(0x200, 0x205, 0x206), 0x200: b"prog\0\0" + "zwölf".encode() + b"\0"},
        "args_get",
        0x100,
        0x200,
    )


def test_args_of_the_command_line_that_are_not_utf8_stay_as_they_are() -> None:
    program = guest(args=[os.fsdecode(b"\xff")], env={"A": os.fsdecode(b"\xfe")})
    program.check(Errno.SUCCESS, {0: u32(8), 8: b"\xff\0"}, "args_get", 0, 8)
    program.check(Errno.SUCCESS, {0: u32(8), 8: b"A=\xfe\0"}, "environ_get", 0, 8)


def test_no_args() -> None:
    program = guest()
    program.check(Errno.SUCCESS, {0x10: u32(0), 0x20: u32(0)}, "args_sizes_get", 0x10, 0x20)
    program.check(Errno.SUCCESS, {}, "args_get", SIZE, SIZE)


def test_environ() -> None:
    program = guest(env={"A": "1", "EMPTY": ""})
    program.check(Errno.SUCCESS, {0: u32(2), 4: u32(4 + 7)}, "environ_sizes_get", 0, 4)
    program.check(Errno.SUCCESS, {8: u32(32, 36), 32: b"A=1\0EMPTY=\0"}, "environ_get", 8, 32)


def test_environ_as_pairs_keeps_order_and_repetition() -> None:
    program = guest(env=[("B", "2"), ("A", "1"), ("B", "3")])
    program.check(Errno.SUCCESS, {8: u32(32, 36, 40), 32: b"B=2\0A=1\0B=3\0"}, "environ_get", 8, 32)


@pytest.mark.parametrize(("argv", "argv_buf"), [(SIZE - 7, 0), (0, SIZE - 6), (0xFFFFFFFF, 0), (0, 0xFFFFFFFF)])
def test_args_that_do_not_fit_change_nothing(argv: int, argv_buf: int) -> None:
    guest(args=["prog", "x"]).check(Errno.FAULT, {}, "args_get", argv, argv_buf)


def test_args_that_just_fit() -> None:
    program = guest(args=["prog", "x"])
    place = SIZE - 7
    program.check(Errno.SUCCESS, {0: u32(place, place + 5), place: b"prog\0x\0"}, "args_get", 0, place)


@pytest.mark.parametrize("options", [{"args": ["a\0b"]}, {"env": {"A": "1\0"}}])
def test_nul_in_a_string_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="contains a NUL"):
        guest(**options)


class StoppedClock:
    """Says 1000 + the clock's number."""

    def time(self, clock: ClockId) -> int:
        return 1000 + clock

    def resolution(self, clock: ClockId) -> int:
        return 10 + clock


@pytest.mark.parametrize("clock", range(4))
def test_clocks(clock: int) -> None:
    program = guest(clock=StoppedClock())
    program.check(Errno.SUCCESS, {0x80: struct.pack("<Q", 1000 + clock)}, "clock_time_get", clock, 0, 0x80)
    program.check(Errno.SUCCESS, {0x80: struct.pack("<Q", 10 + clock)}, "clock_res_get", clock, 0x80)


@pytest.mark.parametrize("clock", [4, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_clock_that_does_not_exist(clock: int) -> None:
    guest().check(Errno.INVAL, {}, "clock_time_get", clock, 0, 0)
    guest().check(Errno.INVAL, {}, "clock_res_get", clock, 0)


def test_the_host_s_clocks() -> None:
    program = guest()

    def now(clock: ClockId) -> int:
        program.ok("clock_time_get", clock, 0, 0)
        return program.u64(0)

    before = time.time_ns()
    assert before <= now(ClockId.REALTIME) <= time.time_ns()
    first = now(ClockId.MONOTONIC)
    assert 0 < first < now(ClockId.MONOTONIC) < 10**10, "starts with the context"
    assert now(ClockId.PROCESS_CPUTIME_ID) <= now(ClockId.PROCESS_CPUTIME_ID) < 10**10
    for clock in ClockId:
        program.ok("clock_res_get", clock, 0)
        assert 0 < program.u64(0) <= 10**9


def test_random() -> None:
    asked: list[int] = []

    def random(count: int) -> bytes:
        asked.append(count)
        return bytes([len(asked)]) * count

    program = Guest(WasiContext(random=random), size=1 << 18)
    program.check(Errno.SUCCESS, {0x40: b"\1" * 5}, "random_get", 0x40, 5)
    program.check(Errno.SUCCESS, {}, "random_get", 0x40, 0)
    asked.clear()
    program.check(Errno.SUCCESS, {1: b"\1" * 65536 + b"\2" * 65536 + b"\3" * 3}, "random_get", 1, 2 * 65536 + 3)
    assert asked == [65536, 65536, 3], "in pieces: the host must not hold as much as the guest asks for"


def test_random_out_of_range_draws_nothing() -> None:
    program = guest(random=lambda count: pytest.fail(f"drew {count}"))
    program.check(Errno.FAULT, {}, "random_get", 1, SIZE)
    program.check(Errno.FAULT, {}, "random_get", 0, 0xFFFFFFFF)
    program.check(Errno.FAULT, {}, "random_get", 0xFFFFFFFF, 0xFFFFFFFF)


@pytest.mark.parametrize("status", [0, 1, 126, 255, 256, 0xFFFFFFFF])
def test_exit(status: int) -> None:
    with pytest.raises(Exit) as caught:
        guest().call("proc_exit", status)
    assert caught.value.status == status


@pytest.mark.parametrize(("signal", "status"), [(6, 134), (9, 137), (15, 143), (11, 139)])
def test_raise_ends_as_a_shell_would_say(signal: int, status: int) -> None:
    number = {6: 6, 9: 9, 15: 15, 11: 11}[signal]  # ABRT, KILL, TERM, SEGV have the same numbers in WASI
    with pytest.raises(Exit) as caught:
        guest().call("proc_raise", number)
    assert caught.value.status == status


def test_raise_of_a_harmless_or_unknown_signal() -> None:
    assert guest().call("proc_raise", 0) == Errno.SUCCESS
    assert guest().call("proc_raise", 13) == Errno.SUCCESS  # SIGPIPE
    assert guest().call("proc_raise", 31) == Errno.INVAL
    assert guest().call("proc_raise", 0xFFFFFFFF) == Errno.INVAL


def test_yield() -> None:
    guest().check(Errno.SUCCESS, {}, "sched_yield")


def test_an_instance_without_memory_gets_fault() -> None:
    from lucet.wasi.calls import functions

    calls = functions(WasiContext(args=["x"]), PREVIEW0)
    nothing = FakeInstance(None)
    assert calls["args_sizes_get"](nothing, 0, 4) == Errno.FAULT
    assert calls["random_get"](nothing, 0, 1) == Errno.FAULT
    assert calls["random_get"](nothing, 0, 0) == Errno.SUCCESS
    assert calls["fd_close"](nothing, 0) == Errno.SUCCESS
    with pytest.raises(Exit):
        calls["proc_exit"](nothing, 0)


@pytest.mark.python_only
def test_memory_is_asked_for_its_size_at_every_call() -> None:
    program = guest(random=bytes)
    assert program.call("random_get", SIZE, 1) == Errno.FAULT
    program.memory = FakeMemory(SIZE + 1)
    assert program.call("random_get", SIZE, 1) == Errno.SUCCESS
