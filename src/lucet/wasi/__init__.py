"""WASI preview 1 for guests. What a program may see of the world is one WasiContext:

context = WasiContext(args=["prog"], preopens=[("data", "/data")], stdout=1)
instance = region.new_instance(module, context.imports())
status = run_command(instance, context)
"""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

from lucet.errors import Exit
from lucet.wasi.clocks import Clock, SystemClock
from lucet.wasi.context import WasiContext
from lucet.wasi.paths import ConfinementUnavailable
from lucet.wasi.streams import Capture
from lucet.wasi.tables import ClockId

__all__ = [
    "Capture",
    "Clock",
    "ClockId",
    "ConfinementUnavailable",
    "SystemClock",
    "WasiContext",
    "initialize",
    "run_command",
]


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
