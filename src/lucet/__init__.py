"""Lucet: compiles WebAssembly ahead of time to native code and runs it in sandboxes.

The public names, each imported from its home on first use: `import lucet` costs next to nothing and needs no LLVM.
"""

from __future__ import annotations

TYPE_CHECKING = False  # true for type checkers: importing `typing` would cost more than all the rest
if TYPE_CHECKING:
    from lucet.compile.driver import compile as compile
    from lucet.errors import ArtifactError as ArtifactError
    from lucet.errors import CompileError as CompileError
    from lucet.errors import CompilerFailed as CompilerFailed
    from lucet.errors import Exit as Exit
    from lucet.errors import InstanceError as InstanceError
    from lucet.errors import Invalid as Invalid
    from lucet.errors import LimitExceeded as LimitExceeded
    from lucet.errors import LimitsExceeded as LimitsExceeded
    from lucet.errors import LinkError as LinkError
    from lucet.errors import LucetError as LucetError
    from lucet.errors import Malformed as Malformed
    from lucet.errors import MemoryAccessError as MemoryAccessError
    from lucet.errors import OutOfFuel as OutOfFuel
    from lucet.errors import RegionFull as RegionFull
    from lucet.errors import SignatureError as SignatureError
    from lucet.errors import TimedOut as TimedOut
    from lucet.errors import Trap as Trap
    from lucet.errors import Unsupported as Unsupported
    from lucet.errors import WasmException as WasmException
    from lucet.runtime import Budget as Budget
    from lucet.runtime import Func as Func
    from lucet.runtime import FuncType as FuncType
    from lucet.runtime import Instance as Instance
    from lucet.runtime import Memory as Memory
    from lucet.runtime import Module as Module
    from lucet.runtime import Region as Region
    from lucet.runtime import SharedMemory as SharedMemory
    from lucet.runtime import Suspend as Suspend
    from lucet.runtime import Suspended as Suspended
    from lucet.runtime import Tag as Tag
    from lucet.runtime import exnref as exnref
    from lucet.runtime import externref as externref
    from lucet.runtime import f32 as f32
    from lucet.runtime import f64 as f64
    from lucet.runtime import funcref as funcref
    from lucet.runtime import host_function as host_function
    from lucet.runtime import i32 as i32
    from lucet.runtime import i64 as i64
    from lucet.runtime import v128 as v128
    from lucet.sandbox import Sandbox as Sandbox

    __version__: str

__all__ = [
    "ArtifactError",
    "Budget",
    "CompileError",
    "CompilerFailed",
    "Exit",
    "Func",
    "FuncType",
    "Instance",
    "InstanceError",
    "Invalid",
    "LimitExceeded",
    "LimitsExceeded",
    "LinkError",
    "LucetError",
    "Malformed",
    "Memory",
    "MemoryAccessError",
    "Module",
    "OutOfFuel",
    "Region",
    "RegionFull",
    "Sandbox",
    "SharedMemory",
    "SignatureError",
    "Suspend",
    "Suspended",
    "Tag",
    "TimedOut",
    "Trap",
    "Unsupported",
    "WasmException",
    "compile",
    "exnref",
    "externref",
    "f32",
    "f64",
    "funcref",
    "host_function",
    "i32",
    "i64",
    "v128",
]

if not TYPE_CHECKING:  # a checker that saw __getattr__ would accept any name

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("lucet")
        if name not in __all__:
            raise AttributeError(f"module 'lucet' has no attribute {name!r}")
        import importlib

        if name == "compile":
            return importlib.import_module("lucet.compile")  # the package is callable, see there
        if name == "Sandbox":
            home = importlib.import_module("lucet.sandbox")
        else:
            home = importlib.import_module("lucet.errors")
            if not hasattr(home, name):
                home = importlib.import_module("lucet.runtime")
        value: object = getattr(home, name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
