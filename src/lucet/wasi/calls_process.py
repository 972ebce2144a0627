"""The calls about the program itself: arguments, environment, clocks, random numbers, its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from struct import Struct
from typing import Final

from lucet.errors import Exit
from lucet.wasi.context import WasiContext
from lucet.wasi.errors import WasiError
from lucet.wasi.memory import Memory
from lucet.wasi.tables import HARMLESS_SIGNALS, SIGNALS, ClockId, Errno

RANDOM_PIECE: Final = 1 << 16
CLOCK_IDS: Final = tuple(ClockId)


class ProcessCalls:
    """args_*, environ_*, clock_*, random_get, proc_*, sched_yield."""

    context: WasiContext

    def args_sizes_get(self, memory: Memory, argc: int, argv_buf_size: int) -> int:
        return put_sizes(memory, self.context.args, argc, argv_buf_size)

    def args_get(self, memory: Memory, argv: int, argv_buf: int) -> int:
        return put_strings(memory, self.context.args, argv, argv_buf)

    def environ_sizes_get(self, memory: Memory, environ_count: int, environ_buf_size: int) -> int:
        return put_sizes(memory, self.context.environ, environ_count, environ_buf_size)

    def environ_get(self, memory: Memory, environ: int, environ_buf: int) -> int:
        return put_strings(memory, self.context.environ, environ, environ_buf)

    def clock_res_get(self, memory: Memory, clock: int, resolution: int) -> int:
        memory.write_u64(resolution, self.context.clock.resolution(clock_id(clock)))
        return 0

    def clock_time_get(self, memory: Memory, clock: int, _precision: int, time: int) -> int:
        memory.write_u64(time, self.context.clock.time(clock_id(clock)))
        return 0

    def random_get(self, memory: Memory, buf: int, buf_len: int) -> int:
        # In pieces, so that a guest cannot have the host hold as much again as it has itself.
        for start in range(0, buf_len, RANDOM_PIECE):
            memory.write(buf + start, self.context.random(min(RANDOM_PIECE, buf_len - start)))
        return 0

    def sched_yield(self, _memory: Memory) -> int:
        os.sched_yield()
        return 0

    def proc_exit(self, _memory: Memory, rval: int) -> int:
        raise Exit(rval)

    def proc_raise(self, _memory: Memory, sig: int) -> int:
        """End as the signal would end a program, with the status that a shell reports; the host gets no signal."""
        if sig >= len(SIGNALS):
            raise WasiError(Errno.INVAL)
        if SIGNALS[sig] in HARMLESS_SIGNALS:
            return 0
        raise Exit(128 + getattr(signal, "SIG" + SIGNALS[sig]))


def clock_id(number: int) -> ClockId:
    if number >= len(CLOCK_IDS):
        raise WasiError(Errno.INVAL)
    return CLOCK_IDS[number]


def put_sizes(memory: Memory, strings: Sequence[bytes], count: int, size: int) -> int:
    """How many strings there are, and their bytes together."""
    memory.write_u32(count, len(strings))
    memory.write_u32(size, sum(map(len, strings)))
    return 0


def put_strings(memory: Memory, strings: Sequence[bytes], pointers: int, buf: int) -> int:
    """The strings one after the other at buf, and where each begins at pointers."""
    addresses = []
    end = buf
    for string in strings:
        addresses.append(end)
        end += len(string)
    if pointers + 4 * len(strings) > memory.size:
        raise WasiError(Errno.FAULT)  # before anything is written
    memory.write(buf, b"".join(strings))
    memory.write(pointers, Struct(f"<{len(addresses)}I").pack(*addresses))
    return 0
