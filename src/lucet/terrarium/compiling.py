"""Compiling what tenants upload: in a child process with limits, which may die without taking the server along.

`python -m lucet.terrarium.compiling LEVEL SECONDS MEMORY` reads a module, or its text, from the file `module` of the
current folder, compiles it, loads the artifact to see that it is one, and leaves module.json, module.wasm, module.so.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lucet.errors import LocatedError, LucetError
from lucet.terrarium.jail import Jail, JailFailed, JailLimits, JailRequest, python_command

_OUTPUT: Final = 1 << 30
"""Bytes of an artifact."""
_HEADER: Final = 1 << 20
_MODULE: Final = "module"


class BuildFailed(LucetError):
    """Source or module is refused: the message is for whoever sent it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiled:
    wasm: bytes
    artifact: bytes
    interface: str
    """By its name in lucet.terrarium.interfaces."""

    @property
    def digest(self) -> str:
        """SHA-256 of the .wasm, in hexadecimal."""
        return hashlib.sha256(self.wasm).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiler:
    """wall_time: seconds for one module. cpu_time: seconds of each process; memory: bytes of each. module: bytes."""

    wall_time: float = 300.0
    cpu_time: float = 240.0
    memory: int = 4 << 30
    module: int = 64 << 20
    jail: Jail = field(default_factory=Jail)

    @staticmethod
    def version() -> str:
        """What artifacts are named by: those of another compiler, or for another machine, are made anew."""
        from lucet.compile.cache import compiler_version

        return compiler_version()

    async def compile(self, module: bytes, level: str = "fast", name: str = "module") -> Compiled:
        """A .wasm or its text. name: of its file, for messages. BuildFailed."""
        given = ("lucet.terrarium.compiling", level, str(int(self.cpu_time)), str(self.memory))
        command, reads, environment = python_command(*given)
        request = JailRequest(
            command=command,
            files={_MODULE: module},
            outputs={"module.json": _HEADER, "module.wasm": self.module, "module.so": _OUTPUT},
            reads=reads,
            env=environment,
            limits=JailLimits(
                wall=self.wall_time,
                cpu=int(self.cpu_time) + 5,
                memory=self.memory,
                scratch=2 * _OUTPUT,
                file=_OUTPUT,
            ),
        )
        try:
            result = await self.jail.run(request)
        except JailFailed as error:
            raise BuildFailed(f"the compiler cannot run: {error}") from error
        if result.timed_out:
            raise BuildFailed(f"compiling took more than {self.wall_time:g} seconds")
        found = result.outputs
        if result.status or "module.json" not in found:
            last = result.log.strip().rpartition("\n")[2][:500]
            raise BuildFailed(f"the compiler died (status {result.status}): {last}")
        answer: dict[str, Any] = json.loads(found["module.json"])
        if "error" in answer:
            raise BuildFailed(f"{name}:{answer['error']}")
        if not {"module.wasm", "module.so"} <= found.keys():
            raise BuildFailed(f"{name}: the module has more than {self.module} bytes, or its code more than {_OUTPUT}")
        return Compiled(wasm=found["module.wasm"], artifact=found["module.so"], interface=answer["interface"])


def _child(level: str, seconds: int, memory: int) -> None:
    from lucet.compile.driver import compile_module
    from lucet.compile.options import Options
    from lucet.runtime import Module
    from lucet.terrarium.interfaces import UnknownInterface, detect
    from lucet.wasm.text import decode_text, text_to_binary
    from lucet.wasm.text_map import located_in

    wasm = Path(_MODULE).read_bytes()
    try:
        options = Options(opt_level=level, worker_seconds=seconds, worker_memory=memory)
        if wasm.startswith(b"\0asm"):
            artifact = compile_module(wasm, options)
        else:
            text = decode_text(wasm)
            wasm = text_to_binary(text)
            with located_in(text):
                artifact = compile_module(wasm, options)
        interface = detect(Module.from_bytes(artifact)).name
    except LocatedError as error:
        if error.line is None:
            _answer({"error": f" {error}"})
        else:
            _answer({"error": f"{error.line}:{error.column}: {error.message}\n{error.excerpt or ''}".rstrip()})
        return
    except (LucetError, UnknownInterface) as error:
        _answer({"error": f" {error}"})
        return
    except MemoryError:
        _answer({"error": " compiling takes more memory than is allowed"})
        return
    Path("module.wasm").write_bytes(wasm)
    Path("module.so").write_bytes(artifact)
    _answer({"interface": interface})


def _answer(header: dict[str, str]) -> None:
    Path("module.json").write_text(json.dumps(header), encoding="ascii")


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
