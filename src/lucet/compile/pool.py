"""Worker processes: started when there is work, kept for the next compilation, ended with this process.

The pool belongs to one process: a forked child starts with an empty one and leaves its parent's workers alone. Several
threads may compile at once and share the pool's limit.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

import lucet
from lucet.compile import wire
from lucet.compile.chunks import CHUNK_SIZE, Chunk
from lucet.errors import CompileError, CompilerFailed, LimitExceeded

Progress = Callable[[int, int], None]
"""Called in the thread that compiles, with the work done and all of it, in the same unit."""

_GRACE_SECONDS: Final = 2
_STDERR_TAIL: Final = 2000
_NO_MEMORY: Final = ("bad_alloc", "out of memory", "allocation failed", "memoryerror", "cannot allocate memory")
"""One of these is in what a process says last that has reached its limit of memory."""
_LONG: Final = 2 * CHUNK_SIZE
"""Bytes of a chunk that is one large function."""


def compile_chunks(job: wire.Job, chunks: Sequence[Chunk], progress: Progress | None = None) -> list[bytes]:
    """Compile all chunks and return what became of them in their order.

    If some fail, the error of the first in order is raised, whichever failed first in time.
    """
    run = _Run(_POOL, job, chunks, progress)
    try:
        return run.results()
    finally:
        run.release()


def end_idle_workers() -> None:
    """End the processes that wait for the next compilation: for a program that goes on to something else."""
    _POOL.stop()


class _Worker:
    """One process and what it is busy with."""

    def __init__(self, opt_level: str) -> None:
        self.opt_level = opt_level
        self._job: wire.Job | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        package_parent = str(Path(lucet.__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH")]))
        try:
            self._process = subprocess.Popen(
                # -P: what lies in the current directory is not to be imported.
                [sys.executable, "-P", "-m", "lucet.compile.worker", opt_level],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**os.environ, "PYTHONPATH": path},
                process_group=0,  # Ctrl-C is for the parent, which decides what becomes of its workers
            )
        except OSError as error:
            self._stderr.close()
            raise CompilerFailed(f"cannot start a compiler process: {error}") from error

    @property
    def replies(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def _requests(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def submit(self, job: wire.Job, chunk: Chunk) -> None:
        # If the process has died, reading its reply says so.
        with contextlib.suppress(BrokenPipeError):
            if self._job is not job:
                wire.send(self._requests, job)
                self._job = job
            wire.send(self._requests, chunk)

    def receive(self) -> bytes:
        data = wire.read_reply(self.replies)
        if data is None:
            raise _WorkerDied(self._epitaph())
        return data

    def _epitaph(self) -> str:
        self.replies.close()
        status = self._process.wait()
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - _STDERR_TAIL))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1]}" if lines else how

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def forget_job(self) -> None:
        """Keep the module alive no longer than its compilation."""
        self._job = None

    def stop(self) -> None:
        """Let an idle process end by itself."""
        self._requests.close()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.close()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """After kill."""
        self._process.wait()
        self._stderr.close()
        self.replies.close()
        self._requests.close()

    def abandon(self) -> None:
        """In a forked child: the process is the parent's."""
        self._process.returncode = 0
        self._stderr.close()
        self.replies.close()
        self._requests.close()


class _WorkerDied(Exception):
    pass


class _Pool:
    """All workers of this process, idle or busy."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._changed = threading.Condition()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()

    def acquire(self, opt_level: str, *, wait: bool) -> _Worker | None:
        """A worker for this level; None if there is none to be had without waiting."""
        with self._changed:
            while True:
                for worker in [one for one in self._idle if not one.alive]:
                    self._discard(worker)
                for worker in self._idle:
                    if worker.opt_level == opt_level:
                        self._idle.remove(worker)
                        return worker
                if len(self._all) >= available_cpus() and self._idle:
                    self._discard(self._idle[0])  # one of another level makes room
                if len(self._all) < available_cpus():
                    worker = _Worker(opt_level)
                    self._all.add(worker)
                    return worker
                if not wait:
                    return None
                self._changed.wait()

    def _discard(self, worker: _Worker) -> None:
        self._idle.remove(worker)
        self._all.discard(worker)
        worker.kill()
        worker.close()

    def release(self, worker: _Worker, *, usable: bool) -> None:
        if not usable:
            worker.kill()
        worker.forget_job()
        with self._changed:
            if usable:
                self._idle.append(worker)
            else:
                self._all.discard(worker)
            self._changed.notify_all()
        if not usable:
            worker.close()  # waits, so it comes last: Ctrl-C may come once more

    def stop(self) -> None:
        with self._changed:
            idle, self._idle = self._idle, []
            self._all.difference_update(idle)
            self._changed.notify_all()
        for worker in idle:
            worker.stop()

    def abandon(self) -> None:
        workers = self._all
        self.reset()
        for worker in workers:
            worker.abandon()


def available_cpus() -> int:
    return len(os.sched_getaffinity(0))


class _Run:
    """One compilation's chunks on their way through workers."""

    def __init__(self, pool: _Pool, job: wire.Job, chunks: Sequence[Chunk], progress: Progress | None) -> None:
        self._pool = pool
        # Workers do not need what only the artifact does.
        self._job = replace(job, plan=replace(job.plan, images=(), template=b""))
        self._chunks = chunks
        self._progress = progress
        self._limit = job.options.workers or available_cpus()
        # Functions that take long come first, so that nobody waits for one alone at the end. To be popped.
        self._todo = sorted(range(len(chunks)), key=lambda index: (chunks[index].size < _LONG, index), reverse=True)
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, int] = {}
        self._results: list[bytes] = [b""] * len(chunks)
        self._done = 0
        self._failed: tuple[int, CompileError] | None = None

    def results(self) -> list[bytes]:
        self._report(0)
        self._submit()
        while self._busy and self._undecided():
            for worker in self._ready():
                self._collect(worker, self._busy.pop(worker))
            self._submit()
        if self._failed is not None:
            raise self._failed[1]
        return self._results

    def _undecided(self) -> bool:
        """Nothing has failed, or something that comes before it may."""
        return self._failed is None or any(index < self._failed[0] for index in (*self._busy.values(), *self._todo))

    def release(self) -> None:
        """Give the workers back; those that are still busy, after an error or Ctrl-C, end here."""
        for worker in self._busy:
            self._pool.release(worker, usable=False)
        for worker in self._idle:
            self._pool.release(worker, usable=True)

    def _submit(self) -> None:
        while self._todo:
            worker = self._worker()
            if worker is None:
                return
            index = self._todo.pop()
            self._busy[worker] = index
            worker.submit(self._job, self._chunks[index])

    def _worker(self) -> _Worker | None:
        if self._idle:
            return self._idle.pop()
        if len(self._busy) >= self._limit:
            return None
        return self._pool.acquire(self._job.options.opt_level, wait=not self._busy)

    def _ready(self) -> Iterable[_Worker]:
        with selectors.DefaultSelector() as selector:
            for worker in self._busy:
                selector.register(worker.replies, selectors.EVENT_READ, worker)
            return [key.data for key, _ in selector.select()]

    def _collect(self, worker: _Worker, index: int) -> None:
        try:
            self._results[index] = worker.receive()
        except _WorkerDied as died:
            self._pool.release(worker, usable=False)
            self._fail(index, self._explained(index, str(died)))
            return
        except CompileError as error:
            self._fail(index, error)
        except BaseException:
            self._pool.release(worker, usable=False)
            raise
        self._idle.append(worker)
        self._report(self._chunks[index].size)

    def _fail(self, index: int, error: CompileError) -> None:
        if self._failed is None or index < self._failed[0]:
            self._failed = index, error
            # An earlier chunk may fail, too, and its error is the one to report.
            self._todo = [one for one in self._todo if one < index]

    def _explained(self, index: int, how: str) -> CompileError:
        """What the death of a worker means."""
        options = self._job.options
        function = len(self._job.plan.function_imports) + self._chunks[index].start
        if how.startswith(signal.SIGXCPU.name):
            message = f"{self._name(index)}: compiling takes more than worker_seconds, {options.worker_seconds}"
            return LimitExceeded(message, function=function)
        if any(sign in how.lower() for sign in _NO_MEMORY):
            message = f"{self._name(index)}: compiling needs more than worker_memory, {options.worker_memory} bytes"
            return LimitExceeded(message, function=function)
        return CompilerFailed(f"a compiler process died compiling {self._name(index)}: {how}")

    def _name(self, index: int) -> str:
        chunk = self._chunks[index]
        first = len(self._job.plan.function_imports) + chunk.start
        last = len(self._job.plan.function_imports) + chunk.stop - 1
        return f"functions {first} to {last}" if first < last else f"function {first}"

    def _report(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(self._done, sum(chunk.size for chunk in self._chunks))


_POOL: Final = _Pool()
atexit.register(_POOL.stop)
os.register_at_fork(after_in_child=_POOL.abandon)
