"""Lucet with garbage in the upper half of every register that an i32 is in at a call or a return.

Whoever takes such a register for a 64-bit value computes nonsense, and an address in particular: `python -m tests.spec
--engine poisoned`. Nothing says that the halves are zero but that LLVM likes to write them so. The generated text is
changed before LLVM sees it: callers pass, and functions return, an i64 where the other side has an i32.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

import lucet
from lucet.compile import artifact, llvm
from lucet.compile.chunks import chunk_text, whole_module
from lucet.compile.driver import _provenance
from lucet.compile.layout import make_plan
from lucet.compile.options import Options
from lucet.wasm.decode import decode_module
from lucet.wasm.valid import validate_module
from tests.spec.engines import Lucet

POISON: Final = 0xDEADBEEF00000000 - (1 << 64)

_CALL: Final = re.compile(
    r"(?P<head>\s*(?:%[\w.]+ = )?(?:notail |tail )?(?:call|invoke) (?:tailcc )?.*?)(?P<callee>(?:@[ft]\d+|%[\w.]+))"
    r"\((?P<arguments>ptr .*?)\)(?P<rest>(?:,? ?(?:!dbg|#\d|to label).*)?)$"
)
_DEFINE: Final = re.compile(r"(define [\w ]*?)i32 (@\S+\()")
_RETURN: Final = re.compile(r"(\s*)ret i32 (\S+?)(,.*)?$")
_TAIL: Final = re.compile(r"\s*(%\S+) = tail call ")


class PoisonedLucet(Lucet):
    """One optimisation level for each process, as a compiler process has."""

    def compile(self, wasm: bytes) -> lucet.Module:
        return lucet.Module.from_bytes(compile_poisoned(wasm, Options(opt_level=self.opt_level)))


def compile_poisoned(wasm: bytes, options: Options) -> bytes:
    """As compile_module, in this process."""
    _initialize(options.opt_level)
    module = decode_module(wasm)
    validate_module(module)
    plan = make_plan(module, options)
    text = poisoned(chunk_text(module, plan, whole_module(module)))
    return artifact.build(module, plan, [llvm.compile_text(text, options)], _provenance(wasm, options, module))


@cache
def _initialize(opt_level: str) -> None:
    llvm.initialize(opt_level)


def poisoned(text: str) -> str:
    """The LLVM module with the garbage."""
    out: list[str] = []
    returns_i32 = False
    jumped = ""
    for number, line in enumerate(text.splitlines()):
        if line.startswith("define "):
            returns_i32 = _DEFINE.match(line) is not None
            out.append(_DEFINE.sub(r"\1i64 \2", line))
        elif returns_i32 and (found := _RETURN.match(line)):
            if found[2] == jumped:
                value = jumped
            else:
                out += _with_garbage(f"r{number}", found[2])
                value = f"%poison.r{number}"
            out.append(f"{found[1]}ret i64 {value}{found[3] or ''}")
        elif call := _CALL.match(line):
            arguments = []
            for index, argument in enumerate(call["arguments"].split(", ")):
                if argument.startswith("i32 "):
                    out += _with_garbage(f"a{number}.{index}", argument.removeprefix("i32 "))
                    arguments.append(f"i64 %poison.a{number}.{index}")
                else:
                    arguments.append(argument)
            head = call["head"]
            tail = _TAIL.match(line)
            jumped = tail[1] if tail and returns_i32 else ""
            if jumped:
                head = head.replace("i32 ", "i64 ")
            out.append(f"{head}{call['callee']}({', '.join(arguments)}){call['rest']}")
        else:
            out.append(line)
    return "\n".join(out) + "\n"


def _with_garbage(name: str, value: str) -> list[str]:
    return [f"  %whole.{name} = zext i32 {value} to i64", f"  %poison.{name} = or i64 %whole.{name}, {POISON}"]
