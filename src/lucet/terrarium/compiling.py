"""Compiling what tenants upload: in a child process with limits, which may die without taking the server along.

`python -m lucet.terrarium.compiling LEVEL SECONDS MEMORY` reads a module, or its text, from standard input, compiles
it, loads the artifact to see that it is one, and writes a line of JSON, the .wasm and the artifact to standard output.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import sys
from dataclasses import dataclass
from typing import Any, Final

from lucet.errors import LocatedError, LucetError

_OUTPUT: Final = 1 << 30
"""Bytes of a child's answer."""


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
    """wall_time: seconds for one module. cpu_time: seconds of each process; memory: bytes of each."""

    wall_time: float = 300.0
    cpu_time: float = 240.0
    memory: int = 4 << 30

    @staticmethod
    def version() -> str:
        """What artifacts are named by: those of another compiler, or for another machine, are made anew."""
        from lucet.compile.cache import compiler_version

        return compiler_version()

    async def compile(self, module: bytes, level: str = "fast", name: str = "module") -> Compiled:
        """A .wasm or its text. name: of its file, for messages. BuildFailed."""
        seconds, memory = str(int(self.cpu_time)), str(self.memory)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "lucet.terrarium.compiling", level, seconds, memory),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self.wall_time):
                output, errors = await process.communicate(module)
        except TimeoutError:
            raise BuildFailed(f"compiling took more than {self.wall_time:g} seconds") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, 9)
                await process.wait()
        line, _, contents = output.partition(b"\n")
        if process.returncode or not line:
            last = errors.decode(errors="replace").strip().rpartition("\n")[2][:500]
            raise BuildFailed(f"the compiler died (status {process.returncode}): {last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BuildFailed(f"{name}:{answer['error']}")
        size = answer["wasm"]
        return Compiled(wasm=contents[:size], artifact=contents[size:], interface=answer["interface"])


def _child(level: str, seconds: int, memory: int) -> None:
    os.nice(10)  # requests come first
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_OUTPUT, _OUTPUT))
    from lucet.compile.driver import compile_module
    from lucet.compile.options import Options
    from lucet.runtime import Module
    from lucet.terrarium.interfaces import UnknownInterface, detect
    from lucet.wasm.text import decode_text, text_to_binary

    wasm = sys.stdin.buffer.read()
    try:
        if not wasm.startswith(b"\0asm"):
            wasm = text_to_binary(decode_text(wasm))
        options = Options(opt_level=level, worker_seconds=seconds, worker_memory=memory)
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
    _answer({"wasm": len(wasm), "interface": interface}, wasm, artifact)


def _answer(header: dict[str, Any], *contents: bytes) -> None:
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + b"".join(contents))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
