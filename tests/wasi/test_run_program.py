"""The embedder's side: run_program, clocks and random numbers that repeat."""

from __future__ import annotations

import time

import pytest

import lucet
from lucet.wasi import ClockId, FixedClock, MemoryFiles, SeededRandom, WasiContext, run_program
from lucet.wasi.tables import PREVIEW1, Errno
from lucet.wasm.text import text_to_binary
from tests.wasi.fake import DATA, RESULT, Guest

HOUR = 3600 * 10**9

PROGRAM = r"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\06\00\00\00")
  (data (i32.const 16) "hello\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $exit (i32.const 7))))"""


def module(text: str, *, count: bool = False) -> lucet.Module:
    return lucet.Module.from_bytes(lucet.compile(text_to_binary(text), workers=1, count_instructions=count))


@pytest.mark.core_only
def test_a_program_in_one_line() -> None:
    outcome = run_program(module(PROGRAM))
    assert (outcome.status, outcome.stdout, outcome.stderr) == (7, b"hello\n", b"hello\n")


@pytest.mark.core_only
def test_output_is_bounded() -> None:
    outcome = run_program(module(PROGRAM), output_limit=3)
    assert (outcome.stdout, outcome.stderr) == (b"hel", b"hel")


@pytest.mark.core_only
def test_bounds_of_a_run() -> None:
    endless = '(module (memory (export "memory") 1 9) (func (export "_start") (loop (br 0))))'
    with pytest.raises(lucet.TimedOut):
        run_program(module(endless), timeout=0.05)
    with pytest.raises(lucet.OutOfFuel):
        run_program(module(endless, count=True), fuel=1000)
    with pytest.raises(lucet.LimitsExceeded):
        run_program(module('(module (memory (export "memory") 2) (func (export "_start")))'), memory_limit=1 << 16)


@pytest.mark.core_only
def test_files_by_path_or_shared() -> None:
    assert run_program(module(PROGRAM), files={"/a": b"x"}).status == 7
    files = MemoryFiles({"/a": b"x"})
    assert run_program(module(PROGRAM), files=files, preopens=[(files, "/again", True)]).status == 7
    assert files.files() == {"/a": b"x"}


def test_a_fixed_clock_stands_still_and_waits_are_over_at_once() -> None:
    start = time.monotonic()
    with WasiContext(clock=FixedClock(1000)) as context:
        guest = Guest(context)
        for which, expected in ((0, 1000), (1, 0), (0, 1000)):
            guest.ok("clock_time_get", which, 0, RESULT)
            assert guest.u64() == expected
        guest.memory.write(DATA, PREVIEW1.subscription.pack(5, 0, ClockId.MONOTONIC, HOUR, 0, 0))
        guest.ok("poll_oneoff", DATA, DATA + 100, 1, RESULT)
        assert guest.u32() == 1
        for which, expected in ((0, 1000 + HOUR), (1, HOUR)):
            guest.ok("clock_time_get", which, 0, RESULT)
            assert guest.u64() == expected
        guest.ok("clock_res_get", 0, RESULT)
        assert guest.u64() == 1
    assert time.monotonic() - start < 60


def test_a_fixed_clock_does_not_move_while_something_else_is_ready() -> None:
    with WasiContext(clock=FixedClock(), stdin=b"x") as context:
        guest = Guest(context)
        rows = PREVIEW1.subscription.pack(5, 0, ClockId.MONOTONIC, HOUR, 0, 0)
        guest.memory.write(DATA, rows + PREVIEW1.subscription.pack(6, 1, 0, 0, 0, 0))
        guest.ok("poll_oneoff", DATA, DATA + 100, 2, RESULT)
        assert guest.u32() == 1
        guest.ok("clock_time_get", 1, 0, RESULT)
        assert guest.u64() == 0


def test_seeded_random_repeats() -> None:
    seen = []
    for seed in (1, 1, 2):
        with WasiContext(random=SeededRandom(seed)) as context:
            guest = Guest(context)
            guest.ok("random_get", DATA, 40)
            seen.append(guest.memory.read(DATA, 40))
            assert guest.call("random_get", DATA, 100) == Errno.SUCCESS
    assert seen[0] == seen[1] != seen[2]
