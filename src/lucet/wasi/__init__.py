"""WASI preview 1 for guests. What a program may see of the world is one WasiContext:

context = WasiContext(args=["prog"], preopens=[("data", "/data")], stdout=1)
instance = region.new_instance(module, context.imports())
status = run_command(instance, context)

or, where nothing of the host is needed, outcome = run_program(module, stdin=b"...", files={"/in": b"..."}).
"""

from __future__ import annotations

from lucet.wasi.clocks import Clock, FixedClock, SeededRandom, SystemClock
from lucet.wasi.context import WasiContext
from lucet.wasi.memfiles import MemoryFiles
from lucet.wasi.paths import ConfinementUnavailable
from lucet.wasi.run import Outcome, Runnable, initialize, run_command, run_program
from lucet.wasi.streams import Capture
from lucet.wasi.tables import ClockId

__all__ = [
    "Capture",
    "Clock",
    "ClockId",
    "ConfinementUnavailable",
    "FixedClock",
    "MemoryFiles",
    "Outcome",
    "Runnable",
    "SeededRandom",
    "SystemClock",
    "WasiContext",
    "initialize",
    "run_command",
    "run_program",
]
