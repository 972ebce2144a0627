"""Loops of WASI calls: Lucet and wasmtime-py with the same guest, interleaved, and the same calls of a native program.

usage: python -m bench.wasi [--rounds N] [--calls N] [--size MiB] [--only FUNCTION]... [--folder PATH]

Each loop runs in one call of an exported function; its time is the wall clock's, in each round once for both engines,
which take turns at being first. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

import wasmtime

import lucet
from bench import common
from bench.common import Compared
from bench.measure import interleaved
from lucet.wasi import WasiContext
from lucet.wasm.text import text_to_binary

PIECE: Final = 4096
ARGUMENTS: Final = ("program", "first", "second")
ENVIRONMENT: Final = {"HOME": "/", "LANG": "C", "PATH": "/bin:/usr/bin"}

GUEST: Final = r"""
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0x100) "hello, world\n\n\n\n")
  (data (i32.const 0x200) "file")
  (data (i32.const 0x300) "\00\01\00\00\10\00\00\00")
  (data (i32.const 0x308) "\00\10\00\00\00\10\00\00")
  (func $must (param i32) (if (local.get 0) (then unreachable)))
  (func (export "fd_write") (param i32)
    (loop (call $must (call $write (i32.const 1) (i32.const 0x300) (i32.const 1) (i32.const 0x400)))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "clock_time_get") (param i32)
    (loop (call $must (call $clock (i32.const 1) (i64.const 0) (i32.const 0x400)))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "random_get") (param i32)
    (loop (call $must (call $random (i32.const 0x500) (i32.const 16)))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "args_sizes_get") (param i32)
    (loop (call $must (call $args_sizes (i32.const 0x400) (i32.const 0x404)))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "args_get") (param i32)
    (loop (call $must (call $args (i32.const 0x500) (i32.const 0x600)))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "environ_get") (param i32)
    (loop (call $must (call $environ (i32.const 0x500) (i32.const 0x600)))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "path_open") (param i32)
    (loop (call $must (call $open (i32.const 3) (i32.const 1) (i32.const 0x200) (i32.const 4) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0x400)))
      (call $must (call $close (i32.load (i32.const 0x400))))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "fd_read") (param i32)
    (local $total i64)
    (call $must (call $open (i32.const 3) (i32.const 1) (i32.const 0x200) (i32.const 4) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0x404)))
    (loop (call $must (call $read (i32.load (i32.const 0x404)) (i32.const 0x308) (i32.const 1) (i32.const 0x400)))
      (local.set $total (i64.add (local.get $total) (i64.load32_u (i32.const 0x400))))
      (br_if 0 (i32.load (i32.const 0x400))))
    (call $must (call $close (i32.load (i32.const 0x404))))
    (if (i64.ne (local.get $total) (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 12))) (then unreachable))))
"""

NATIVE: Final = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static char pool[4096];
static uint32_t words[64];
static char **strings;
static const char *path;

#define TASK __attribute__((noinline)) static void

static void must(int ok) {
    if (!ok)
        abort();
}

TASK clock_time_get(void) {
    struct timespec now;
    must(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    *(volatile uint64_t *)pool = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

TASK random_get(void) {
    must(getrandom(pool, 16, 0) == 16);
}

TASK sizes(void) {
    uint32_t count = 0, size = 0;
    for (; strings[count]; count++)
        size += (uint32_t)strlen(strings[count]) + 1;
    ((volatile uint32_t *)words)[0] = count, ((volatile uint32_t *)words)[1] = size;
}

TASK copies(void) {
    uint32_t count = 0, size = 0;
    for (; strings[count]; count++) {
        size_t length = strlen(strings[count]) + 1;
        memcpy(pool + size, strings[count], length);
        ((volatile uint32_t *)words)[count] = size;
        size += (uint32_t)length;
    }
}

TASK fd_write(void) {
    must(write(1, "hello, world\n\n\n", 16) == 16);
}

TASK path_open(void) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    must(fd >= 0 && close(fd) == 0);
}

int main(int argc, char **argv, char **environment) {
    static const struct {
        const char *name;
        void (*task)(void);
    } tasks[] = {{"clock_time_get", clock_time_get}, {"random_get", random_get}, {"args_sizes_get", sizes},
                 {"args_get", copies}, {"environ_get", copies}, {"fd_write", fd_write}, {"path_open", path_open}};
    void (*volatile task)(void) = 0;
    must(argc > 3);
    strings = strcmp(argv[1], "environ_get") ? argv + 4 : environment;
    path = argv[3];
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        if (strcmp(tasks[i].name, argv[1]) == 0)
            task = tasks[i].task;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    if (task) {
        for (long n = atol(argv[2]); n > 0; n--)
            task();
    } else { /* fd_read */
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        must(fd >= 0);
        while (read(fd, pool, sizeof pool) > 0)
            ;
        close(fd);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    fprintf(stderr, "%ld\n", (end.tv_sec - start.tv_sec) * 1000000000 + (end.tv_nsec - start.tv_nsec));
    return 0;
}
"""

Loop = Callable[[int], int]
"""Makes so many calls and returns the nanoseconds that they took."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares loops of WASI calls with wasmtime-py's and native ones.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=1024, help="of the file that is read, in MiB")
    parser.add_argument("--only", metavar="FUNCTION", action="append", help="one of the guest's loops; may be repeated")
    parser.add_argument("--folder", type=Path, help="where the file is made; default: a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        pieces = make_file(folder / "file", given.size)
        native = build_native(folder)
        rows = cases(given.calls, given.size, pieces)
        rows = [row for row in rows if given.only is None or row.function in given.only]
        samples = [measure(case, folder, native, given.rounds) for case in rows]
    print(common.conditions(given.rounds))
    print("\nNanoseconds are those of one call (path_open + fd_close: of both).\n")
    print(common.compared_table([against_wasmtime(*pair) for pair in zip(rows, samples, strict=True)]))
    print()
    print(
        common.compared_table(
            [against_native(*pair) for pair in zip(rows, samples, strict=True)], peer="native, a process of its own"
        )
    )
    return 0


class Case:
    """One loop: its name for people, the exported function, how many calls, and where standard output goes."""

    def __init__(self, what: str, function: str, calls: int, output: str) -> None:
        self.what, self.function, self.calls, self.output = what, function, calls, output


def cases(calls: int, size: int, pieces: int) -> list[Case]:
    """All loops: so many calls of each, and a file of `size` MiB that is read in so many pieces."""
    return [
        Case("fd_write to /dev/null", "fd_write", calls, "null"),
        Case("fd_write to a pipe", "fd_write", calls, "pipe"),
        Case("fd_write to a FIFO", "fd_write", calls, "fifo"),
        Case("clock_time_get", "clock_time_get", calls, "null"),
        Case("path_open + fd_close", "path_open", calls, "null"),
        Case(f"fd_read of {size} MiB by {PIECE} bytes", "fd_read", pieces, "null"),
        Case("random_get of 16 bytes", "random_get", calls, "null"),
        Case("args_sizes_get", "args_sizes_get", calls, "null"),
        Case("args_get", "args_get", calls, "null"),
        Case("environ_get", "environ_get", calls, "null"),
    ]


Samples = dict[str, list[float]]


def measure(case: Case, folder: Path, native: Path, rounds: int) -> Samples:
    """Nanoseconds per call of each, once in every round."""
    with output(case.output) as path:
        loops = {
            "lucet": lucet_loop(case, folder, path),
            "wasmtime": wasmtime_loop(case, folder, path),
            "native": native_loop(case, folder, native, path),
        }
        for loop in loops.values():
            loop(max(case.calls // 100, 1) if case.function != "fd_read" else case.calls)
        rates = {name: partial(rate, loop, case.calls) for name, loop in loops.items()}
        return interleaved(rates, rounds)


def rate(loop: Loop, calls: int) -> float:
    return loop(calls) / calls


def lucet_loop(case: Case, folder: Path, out: str) -> Loop:
    module = lucet.Module.from_bytes(lucet.compile(text_to_binary(GUEST), workers=1))
    fd = os.open(out, os.O_WRONLY)
    context = WasiContext(args=ARGUMENTS, env=ENVIRONMENT, preopens=[(folder, "/")], stdout=fd)
    os.close(fd)
    instance = lucet.Region(slots=1).new_instance(module, context.imports())

    def loop(calls: int) -> int:
        start = perf_counter_ns()
        instance.run(case.function, calls)
        return perf_counter_ns() - start

    return loop


def wasmtime_loop(case: Case, folder: Path, out: str) -> Loop:
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    config = wasmtime.WasiConfig()
    config.argv = list(ARGUMENTS)
    config.env = list(ENVIRONMENT.items())
    config.stdout_file = out
    config.preopen_dir(str(folder), "/")
    store = wasmtime.Store(engine)
    store.set_wasi(config)
    instance = linker.instantiate(store, wasmtime.Module(engine, text_to_binary(GUEST)))
    function: Any = instance.exports(store)[case.function]

    def loop(calls: int) -> int:
        start = perf_counter_ns()
        function(store, calls)
        return perf_counter_ns() - start

    return loop


def native_loop(case: Case, folder: Path, native: Path, out: str) -> Loop:
    def loop(calls: int) -> int:
        with Path(out).open("wb") as file:
            command = [str(native), case.function, str(calls), str(folder / "file"), *ARGUMENTS]
            done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, env=ENVIRONMENT, check=True)
        return int(done.stderr)

    return loop


def against_wasmtime(case: Case, samples: Samples) -> Compared:
    return Compared(
        what=case.what,
        lucet=samples["lucet"],
        peer=samples["wasmtime"],
        goal="≤ 1.0",
        met=lambda row: row.ratio <= 1.0,
    )


def against_native(case: Case, samples: Samples) -> Compared:
    in_memory = case.function in ("clock_time_get", "random_get", "args_sizes_get", "args_get", "environ_get")
    return Compared(
        what=case.what,
        lucet=samples["lucet"],
        peer=samples["native"],
        goal="≤ 3" if in_memory else "",
        met=(lambda row: row.ratio <= 3) if in_memory else None,
    )


@contextmanager
def output(kind: str) -> Iterator[str]:
    """A path to write to: the null device, or a pipe that a process empties."""
    if kind == "null":
        yield "/dev/null"
        return
    with tempfile.TemporaryDirectory() as folder:
        if kind == "pipe":
            readable, writable = os.pipe()
            path = f"/proc/self/fd/{writable}"
        else:
            path = str(Path(folder) / "fifo")
            os.mkfifo(path)
            readable = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(readable, True)
            writable = os.open(path, os.O_WRONLY)  # so that the reader does not end between two writers
        with subprocess.Popen(["cat"], stdin=readable, stdout=subprocess.DEVNULL) as reader:
            os.close(readable)
            try:
                yield path
            finally:
                os.close(writable)
                reader.kill()


def make_file(path: Path, size: int) -> int:
    """A file of `size` MiB, in the page cache; how many pieces it has."""
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(size):
            file.write(block)
    return (size << 20) // PIECE


def build_native(folder: Path) -> Path:
    source, program = folder / "native.c", folder / "native"
    source.write_text(NATIVE)
    subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    return program


if __name__ == "__main__":
    sys.exit(main())
