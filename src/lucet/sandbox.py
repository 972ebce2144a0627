"""Sandbox: programs run with safe limits, one line each.

    result = lucet.Sandbox("tool.wasm").run(["arg"], stdin=b"...")

Each run has an instance of its own, and nothing of the host but what it is given: no files, no network, no environment.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from lucet.errors import Exit, LimitsExceeded, OutOfFuel, RegionFull, TimedOut, Trap, WasmException
from lucet.limits import HOST_PAGE_SIZE
from lucet.runtime import Func, Instance, Module, Region, Suspended
from lucet.wasi import Capture, Clock, MemoryFiles, WasiContext

if TYPE_CHECKING:
    from lucet.compile.options import Options

Limit = Literal["time", "cpu_time", "memory", "table", "stack", "fuel", "output", "host_calls"]
"""Which of a Sandbox's limits a program ran into, by the name of the option."""

LOOK: Final = 0.01
"""Seconds of computing after which the CPU time is looked at."""
_LIMITS_OF_TRAPS: Final[dict[str, Limit]] = {"CALL_STACK_EXHAUSTED": "stack", "HOST_CALLS_EXHAUSTED": "host_calls"}
LEAST_STACK: Final = 16384
SLOTS: Final = 64
"""Instances that a region of a sandbox has room for; there are as many regions as are needed."""

Files = MemoryFiles | Mapping[str, bytes]
Preopen = tuple[str | os.PathLike[str], str] | tuple[str | os.PathLike[str], str, bool]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a run has used."""

    wall_time: float
    """Seconds."""
    cpu_time: float
    """Seconds of the guest and its host functions."""
    memory: int
    """Bytes of the guest's memories at their largest."""
    host_calls: int
    output: int
    """Bytes written to standard output and standard error."""
    fuel: int | None
    """Instructions executed; None if they are not counted."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended."""

    exit_code: int | None
    """What the program gave to proc_exit, or 0; None if it did not come to that."""
    stdout: bytes
    stderr: bytes
    usage: Usage
    limit: Limit | None
    """The limit that ended it; with an exit code, one that was in its way: it had asked for more memory, say."""
    trap: Trap | WasmException | None
    """Why it has no exit code, if that was no limit that the sandbox watches from outside."""

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


class Sandbox:
    """A WASI program, and the limits that each of its runs has.

    program: a path of a .wasm, .wat or .so file, the bytes of a module or an artifact, or a Module.
    time: seconds of wall-clock time; cpu_time: seconds of computing, looked at every 10 ms. memory: bytes of all
    memories. table: elements of each table. stack: bytes. output: bytes of standard output and standard error
    together. open_files: descriptors, the standard ones included. host_calls: calls of WASI functions. fuel:
    instructions; the module is compiled to count them. None is no limit.
    files: what "/" is to have, in memory; given to a run, they are that run's only. preopens: directories of the host,
    (host path, guest path[, read only]). env: environment variables. clock, random: for runs that must repeat.

    A sandbox can be used by several threads at once, pickled (unless clock, random or a Module made of bytes that are
    not kept are given to it), and used after a fork.
    """

    def __init__(
        self,
        program: str | os.PathLike[str] | bytes | Module,
        /,
        *,
        time: float | None = 5.0,
        cpu_time: float | None = None,
        memory: int = 128 << 20,
        table: int = 1_000_000,
        stack: int = 1 << 20,
        output: int = 1 << 20,
        open_files: int = 64,
        host_calls: int | None = None,
        fuel: int | None = None,
        files: Files | None = None,
        preopens: Iterable[Preopen] = (),
        env: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        for name, number in {"time": time, "cpu_time": cpu_time}.items():
            if number is not None and not number > 0:
                raise ValueError(f"{name} must be a positive number of seconds or None, not {number!r}")
        for name, count in {"memory": memory, "table": table, "stack": stack, "open_files": open_files}.items():
            if count <= 0:
                raise ValueError(f"{name} must be a positive number, not {count!r}")
        self.time = time
        self.cpu_time = cpu_time
        self.memory = memory
        self.table = table
        self.stack = max(-(-stack // HOST_PAGE_SIZE) * HOST_PAGE_SIZE, LEAST_STACK)
        self.output = output
        self.open_files = open_files
        self.host_calls = host_calls
        self.fuel = fuel
        self.files = files
        self.preopens = tuple(preopens)
        self.env = dict(env or {})
        self.clock = clock
        self.random = random
        self.module = program if isinstance(program, Module) else load_program(program, counts=fuel is not None)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._regions: list[Region] = []
        self._threads: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def run(
        self,
        args: Sequence[str | bytes] = (),
        *,
        stdin: bytes = b"",
        files: Files | None = None,
        env: Mapping[str, str] | None = None,
        name: str = "program",
    ) -> Result:
        """Run the program once. args: without its own name, which is `name`. files, env: in place of the sandbox's,
        and beside its variables. Does not raise for what the program does, a trap included.
        """
        return _Run(self, (name, *args), stdin, files, env).finish()

    async def run_async(
        self,
        args: Sequence[str | bytes] = (),
        *,
        stdin: bytes = b"",
        files: Files | None = None,
        env: Mapping[str, str] | None = None,
        name: str = "program",
    ) -> Result:
        """The same without blocking the event loop: it runs in a thread. A task that is cancelled ends it."""
        import asyncio

        run = _Run(self, (name, *args), stdin, files, env)
        future = self._executor().submit(run.finish)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            run.cancel()
            raise

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._threads is None or self._process != os.getpid():
                self._threads = ThreadPoolExecutor(max(4, os.cpu_count() or 4), thread_name_prefix="lucet-sandbox")
                self._process = os.getpid()
            return self._threads

    def new_instance(self, imports: Mapping[str, Mapping[str, Any]]) -> Instance:
        """An instance with the sandbox's limits, in the first of its regions that has room."""
        given = {
            "memory_limit": self.memory,
            "fuel": self.fuel,
            "host_calls": self.host_calls,
            "timeout": self.time,
        }
        with self._lock:
            regions = tuple(self._regions)
        for region in regions:
            try:
                return region.new_instance(self.module, imports, **given)  # type: ignore[arg-type]
            except RegionFull:
                continue
        region = Region(SLOTS, stack_size=self.stack, table_limit=self.table)
        with self._lock:
            self._regions.append(region)
        return region.new_instance(self.module, imports, **given)  # type: ignore[arg-type]


def load_program(program: str | os.PathLike[str] | bytes, *, counts: bool = False) -> Module:
    """A .wasm, .wat or .so, or what is in one. Compiled, through the cache, if it is no artifact yet."""
    if isinstance(program, bytes):
        data, path = program, None
    else:
        path = os.fspath(program)
        data = Path(os.fsdecode(path)).read_bytes()
    if data.startswith(b"\x7fELF"):
        return Module.from_bytes(data) if path is None else Module.load(path)
    if not data.startswith(b"\0asm"):
        from lucet.wasm.text import decode_text, text_to_binary

        data = text_to_binary(decode_text(data))
    from lucet.compile.cache import cached_compile

    options: Options | None = None
    if counts:
        from lucet.compile.options import Options

        options = Options(count_instructions=True)
    return Module.load(cached_compile(data, options))


class _Ended(BaseException):
    """Raised in a host function to end the run: a limit was reached. Nothing in between is to catch it."""

    def __init__(self, limit: Limit) -> None:
        self.limit: Limit = limit


class _Output(Capture):
    """Standard output or standard error; both count for one limit."""

    __slots__ = ("_run",)

    def __init__(self, run: _Run) -> None:
        super().__init__(run.sandbox.output)
        self._run = run

    def write(self, buffers: Any) -> int:
        room = self._run.sandbox.output - self._run.output
        if sum(memoryview(buffer).nbytes for buffer in buffers) > room:
            self.limit = len(self.getvalue()) + room
            if room:
                self._run.output += super().write(buffers)
            raise _Ended("output")
        written = super().write(buffers)
        self._run.output += written
        return written


class _Run:
    """One run of a sandbox's program."""

    def __init__(
        self,
        sandbox: Sandbox,
        args: tuple[str | bytes, ...],
        stdin: bytes,
        files: Files | None,
        env: Mapping[str, str] | None,
    ) -> None:
        self.sandbox = sandbox
        self.args = args
        self.stdin = stdin
        self.files = sandbox.files if files is None else files
        self.env = sandbox.env if env is None else {**sandbox.env, **env}
        self.output = 0
        self.cpu_time = 0.0
        self._instance: Instance | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """From another thread: end it soon, whatever it does."""
        self._cancelled = True
        instance = self._instance
        if instance is not None and instance.state != "closed":
            instance.interrupt()

    def finish(self) -> Result:
        sandbox = self.sandbox
        out, err = _Output(self), _Output(self)
        exit_code: int | None = None
        limit: Limit | None = None
        trap: Trap | WasmException | None = None
        raw_usage, fuel = (0, 0, False, False), None
        start, self._cpu_start = time.monotonic(), time.thread_time()
        with WasiContext(
            args=self.args,
            env=self.env,
            preopens=self._preopens(),
            stdin=self.stdin,
            stdout=out,
            stderr=err,
            clock=sandbox.clock,
            random=sandbox.random,
            max_descriptors=sandbox.open_files,
        ) as context:
            try:
                self._instance = instance = sandbox.new_instance(context.imports())
                with instance:
                    try:
                        exit_code = self._run_program(instance)
                    finally:
                        raw_usage = instance._raw_usage
                        fuel = instance.fuel_used if sandbox.fuel is not None else None
            except LimitsExceeded as error:
                raise LimitsExceeded(f"the program does not fit the sandbox: {error}") from None
            except _Ended as end:
                limit = end.limit
            except TimedOut as error:
                limit, trap = "time", error
            except OutOfFuel as error:
                limit, trap = "fuel", error
            except (Trap, WasmException) as error:
                limit = _LIMITS_OF_TRAPS.get(error.code) if isinstance(error, Trap) else None
                trap = error
        if limit is None and exit_code != 0:
            limit = "memory" if raw_usage[2] else "table" if raw_usage[3] else None
        usage = Usage(
            wall_time=time.monotonic() - start,
            cpu_time=time.thread_time() - self._cpu_start,
            memory=raw_usage[1],
            host_calls=raw_usage[0],
            output=self.output,
            fuel=fuel,
        )
        return Result(
            exit_code=exit_code, stdout=out.getvalue(), stderr=err.getvalue(), usage=usage, limit=limit, trap=trap
        )

    def _preopens(self) -> list[Any]:
        folders: list[Any] = [*self.sandbox.preopens]
        if self.files is not None:
            files = self.files if isinstance(self.files, MemoryFiles) else MemoryFiles(self.files)
            folders.insert(0, (files, "/"))
        return folders

    def _run_program(self, instance: Instance) -> int:
        instance.time_slice = LOOK if self.sandbox.cpu_time is not None else None
        start = instance.export("_start")
        if not isinstance(start, Func):
            raise TypeError("the program's _start is not a function")
        try:
            self._look(instance)
            run = start()
            while isinstance(run, Suspended):
                try:
                    self._look(instance)
                except BaseException:
                    run.close()
                    raise
                run = run.resume()
            self._look(instance)
        except Exit as end:
            return end.status
        return 0

    def _look(self, instance: Instance) -> None:
        """Raises what ends the run, if a limit has been reached that nobody else watches."""
        sandbox = self.sandbox
        if self._cancelled:
            instance.interrupt()
            raise _Ended("time")
        if sandbox.cpu_time is not None and time.thread_time() - self._cpu_start > sandbox.cpu_time:
            raise _Ended("cpu_time")
