"""Running a program from its start to its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from lucet.errors import Exit
from lucet.wasi.clocks import Clock
from lucet.wasi.context import Input, Preopen, Text, WasiContext
from lucet.wasi.memfiles import MemoryFiles
from lucet.wasi.streams import DEFAULT_CAPTURE, Capture

if TYPE_CHECKING:
    from lucet.runtime import Module

DEFAULT_STACK: Final = 1 << 20


class Runnable(Protocol):
    """What running a program needs of an instance."""

    @property
    def exports(self) -> Container[str]: ...
    def run(self, name: str, /) -> object: ...


def run_command(instance: Runnable, context: WasiContext | None = None) -> int:
    """Run a program to its end and return its exit status: what it gave to proc_exit, or 0. A trap is raised.

    The context, if given, is closed then. A module without `_start` is a reactor: only its `_initialize` is run, if it
    has one, and its context is left open for the calls to come.
    """
    if "_start" not in instance.exports:
        return initialize(instance)
    try:
        return _status(instance, "_start")
    finally:
        if context is not None:
            context.close()


def initialize(instance: Runnable) -> int:
    """Run a reactor's `_initialize`, if it has one, before any other of its functions is called."""
    return _status(instance, "_initialize") if "_initialize" in instance.exports else 0


def _status(instance: Runnable, name: str) -> int:
    try:
        instance.run(name)
    except Exit as end:
        return end.status
    return 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a program."""

    status: int
    """0 to 2**32 - 1; 0 is success."""
    stdout: bytes
    stderr: bytes


def run_program(
    module: Module,
    *,
    args: Sequence[Text] = ("program",),
    stdin: Input = None,
    files: MemoryFiles | Mapping[str, bytes] | None = None,
    preopens: Iterable[Preopen] = (),
    env: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    timeout: float | None = None,
    fuel: int | None = None,
    memory_limit: int = 0,
    stack_size: int = DEFAULT_STACK,
    output_limit: int = DEFAULT_CAPTURE,
    clock: Clock | None = None,
    random: Callable[[int], bytes] = os.urandom,
) -> Outcome:
    """Run a program once in a sandbox of its own and return what it printed. Traps are raised, TimedOut among them.

    files: its "/", in memory: a MemoryFiles, which shows afterwards what the program left there, or contents by path.
    timeout: seconds. fuel: instructions, if the module counts them. memory_limit: bytes, 0 for what the module
    declares. stack_size: bytes. output_limit: bytes of standard output, and as many of standard error; what is more
    the program cannot write. The others: see WasiContext.
    """
    from lucet.runtime import Region

    out, err = Capture(output_limit), Capture(output_limit)
    folders = [*preopens]
    if files is not None:
        folders.insert(0, (files if isinstance(files, MemoryFiles) else MemoryFiles(files), "/"))
    with WasiContext(
        args=args, env=env, preopens=folders, stdin=stdin, stdout=out, stderr=err, clock=clock, random=random
    ) as context:
        region = Region(slots=1, stack_size=stack_size)
        with region.new_instance(
            module, context.imports(), memory_limit=memory_limit, fuel=fuel, timeout=timeout
        ) as instance:
            status = run_command(instance)
    return Outcome(status=status, stdout=out.getvalue(), stderr=err.getvalue())
