"""A guest that waits in a call can be ended, and does not keep the rest of the process from running."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import lucet
from lucet.wasi import WasiContext
from lucet.wasi.tables import PREVIEW1
from tests.wasi.fake import FILL, forwarder, region

pytestmark = pytest.mark.core_only

LONG: Final = 60 * 10**9
WAITS = ["fd_read", "fd_write", "path_open", "poll_oneoff clock", "poll_oneoff read"]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def waiting(folder: Path, pipe: tuple[int, int]) -> Iterator[tuple[lucet.Instance, Callable[[str], int]]]:
    """An instance, and what makes it wait for good."""
    os.mkfifo(folder / "fifo")
    with WasiContext(stdin=pipe[0], stdout=pipe[1], preopens=[(folder, "/")]) as context:
        instance = region().new_instance(forwarder(PREVIEW1.module), context.imports())
        memory = instance.memory
        memory.write(0, FILL * 0x1000)
        memory.write(0, (0x100).to_bytes(4, "little") + (0x8000).to_bytes(4, "little"))
        memory.write(0x10, b"fifo")
        sleep = PREVIEW1.subscription.pack(1, 0, 1, LONG, 0, 0)
        read = PREVIEW1.subscription.pack(2, 1, 0, 0, 0, 0)
        memory.write(0x20, sleep)
        memory.write(0x60, read)

        def wait(how: str) -> int:
            call, _, rest = how.partition(" ")
            errno = 0
            while errno == 0:  # a pipe takes some before it is full
                arguments = {
                    "fd_read": (0, 0, 1, 0x50),
                    "fd_write": (1, 0, 1, 0x50),
                    "path_open": (3, 0, 0x10, 4, 0, 2, 0, 0, 0x50),
                    "poll_oneoff": (0x60 if rest == "read" else 0x20, 0x200, 1, 0x50),
                }[call]
                errno = instance.run(call, *arguments)
            return errno

        yield instance, wait
        instance.close()


@pytest.mark.parametrize("how", WAITS)
def test_a_timeout_ends_it(waiting: tuple[lucet.Instance, Callable[[str], int]], how: str) -> None:
    instance, wait = waiting
    instance.timeout = 0.1
    start = time.monotonic()
    with pytest.raises(lucet.TimedOut):
        wait(how)
    assert time.monotonic() - start < 10
    instance.timeout = None
    assert instance.run("sched_yield") == 0, "it can be used again"


@pytest.mark.parametrize("how", WAITS)
def test_an_interrupt_ends_it(waiting: tuple[lucet.Instance, Callable[[str], int]], how: str) -> None:
    """Whenever it comes: often just before the system call."""
    instance, wait = waiting
    for delay in (0, 0.0001, 0.001, 0.05):
        over = threading.Event()

        def interrupt(pause: float = delay, over: threading.Event = over) -> None:
            while not over.wait(pause or 0.00001):
                instance.interrupt()

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(lucet.Trap, match="interrupted"):
            wait(how)
        over.set()
        thread.join()


@pytest.mark.parametrize("how", WAITS)
def test_an_exception_of_a_signal_handler_ends_it(
    waiting: tuple[lucet.Instance, Callable[[str], int]], how: str
) -> None:
    _, wait = waiting
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        wait(how)
    timer.join()


def test_a_signal_without_exception_does_not_end_it(
    waiting: tuple[lucet.Instance, Callable[[str], int]], pipe: tuple[int, int]
) -> None:
    _, wait = waiting
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(True))
    timers = [
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGALRM)),
        threading.Timer(0.3, os.write, (pipe[1], b"x")),
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)),
    ]
    for timer in timers:
        timer.start()
    with pytest.raises(KeyboardInterrupt):
        wait("fd_read")
    for timer in timers:
        timer.join()
    signal.signal(signal.SIGALRM, before)
    assert seen
    assert os.get_blocking(pipe[0])


@pytest.mark.parametrize("how", WAITS)
def test_other_threads_run_meanwhile(waiting: tuple[lucet.Instance, Callable[[str], int]], how: str) -> None:
    instance, wait = waiting
    instance.timeout = 0.3
    turns = []

    def count() -> None:
        for i in range(10):
            turns.append(i)
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    with pytest.raises(lucet.TimedOut):
        wait(how)
    assert len(turns) == 10
    thread.join()


def test_closing_the_context_meanwhile(folder: Path) -> None:
    """Another thread may: the descriptor in use is closed when the call has returned."""
    (folder / "file").write_bytes(b"content")
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(20):
        context = WasiContext(preopens=[(folder, "/")])
        instance = region().new_instance(forwarder(PREVIEW1.module), context.imports())
        instance.memory.write(0x10, b"file")
        answers: set[int] = set()

        def work(instance: lucet.Instance = instance, answers: set[int] = answers) -> None:
            while len(answers) < 2:
                answers.add(instance.run("path_open", 3, 0, 0x10, 4, 0, 2, 0, 0, 0x50))
                fd = instance.memory.read_u32(0x50)
                instance.run("fd_read", fd, 0, 1, 0x60)
                instance.run("fd_close", fd)

        thread = threading.Thread(target=work)
        thread.start()
        while not answers:
            pass
        context.close()
        thread.join()
        assert answers == {0, 8}
        instance.close()
        context.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
