"""The Python face of the runtime core: regions, modules, instances, host functions. Needs no compiler."""

from __future__ import annotations

import signal
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from lucet import errors
from lucet.runtime import _core
from lucet.runtime._core import (
    Budget,
    Func,
    Global,
    Instance,
    Linkage,
    Memory,
    Region,
    SharedMemory,
    Suspended,
    Table,
    Tag,
    Wasi,
    WasiFile,
    WasiFunction,
    openat2,
    wait,
)
from lucet.runtime.exports import Exports, Globals
from lucet.runtime.hostfunc import (
    HostFunction,
    Suspend,
    exnref,
    externref,
    f32,
    f64,
    funcref,
    host_function,
    i32,
    i64,
    v128,
)
from lucet.runtime.module import ExportType, ImportType, Module
from lucet.runtime.stubs import Function
from lucet.wasm.types import FuncType, GlobalType

if TYPE_CHECKING:
    from lucet.wasm.dwarf import Sources

__all__ = [
    "Budget",
    "ExportType",
    "Exports",
    "Func",
    "FuncType",
    "Function",
    "Global",
    "Globals",
    "HostFunction",
    "ImportType",
    "Instance",
    "Linkage",
    "Memory",
    "Module",
    "Region",
    "SharedMemory",
    "Suspend",
    "Suspended",
    "Table",
    "Tag",
    "Wasi",
    "WasiFile",
    "WasiFunction",
    "WasiKind",
    "exnref",
    "externref",
    "f32",
    "f64",
    "funcref",
    "host_function",
    "i32",
    "i64",
    "openat2",
    "v128",
    "wait",
]


class WasiKind:
    """What the core does with a WasiFile: lucet_wasi_kind of lucet.h."""

    OTHER: Final = _core.WASI_OTHER
    FILE: Final = _core.WASI_FILE
    STREAM: Final = _core.WASI_STREAM
    DIRECTORY: Final = _core.WASI_DIRECTORY
    DISCARD: Final = _core.WASI_DISCARD


_core._set_classes(HostFunction, Suspend, Exports, Globals, FuncType, GlobalType)


def _watch_ctrl_c() -> None:
    """Ctrl-C ends guest loops, too, where Python would turn it into KeyboardInterrupt."""
    if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
        _core._interrupt_on(signal.SIGINT)


_watch_ctrl_c()


@lru_cache(maxsize=4)
def _sources(packed: bytes) -> Sources:
    from lucet.wasm.dwarf import Sources

    return Sources(packed)


def _find_source(offset: int, packed: bytes) -> tuple[str, int] | None:
    return _sources(packed).find(offset)


errors.source_finder = _find_source
