"""Fuzzes the validator against wasmtime's: `python -m fuzz.fuzz_valid --seconds 300 [--seed N]`.

Bodies grow instruction by instruction in a module that has types, tables, globals and segments of all kinds of
references. Each next instruction is drawn at random from the instruction table; whether our validator takes it or not,
the module that ends there must have the same verdict from wasmtime. What was taken stays, so that bodies become long
and odd, and code behind a branch is as likely as code before. What fails is written to fuzz/failures/ and ends the run
with status 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from fuzz.fuzz_decode import Campaign, opcode, wasmtime_oracle
from lucet.errors import CompileError, Invalid
from lucet.wasm.check import check_module
from lucet.wasm.leb128 import unsigned_leb128
from lucet.wasm.opcodes import BY_NAME, OPS, Op
from lucet.wasm.text import text_to_binary

SKELETON: Final = """(module
  (type $none (func))
  (type $unary (func (param i32) (result i32)))
  (type $self (func (param (ref null $self) i32) (result (ref $self))))
  (type $maker (func (result (ref $unary))))
  (type $taker (func (param (ref null $unary) funcref) (result i32 (ref null $unary))))
  (type $same (func (param i32) (result i32)))
  (type $mixed (func (param (ref extern) externref (ref func)) (result funcref)))
  (import "m" "f" (func $imported (type $maker)))
  (import "m" "g" (global $given (ref $unary)))
  (table $a 2 funcref) (table $b 2 (ref null $unary)) (table $c 2 (ref $unary) (global.get $given))
  (table $d 2 externref) (table $e 2 nullfuncref)
  (memory 1)
  (tag) (tag (param i32)) (tag (param externref (ref $unary))) (tag (param exnref))
  (global (mut i32) (i32.const 0)) (global (mut funcref) (ref.null func))
  (global (mut (ref $unary)) (global.get $given)) (global (ref null $self) (ref.null $self))
  (global (mut (ref null $maker)) (ref.func $imported))
  (elem $p func 0) (elem $q (ref $unary) (global.get $given))
  (elem $r (ref null $same) (ref.null $same)) (elem $s externref)
  (elem declare func 0 1 2 3 4 5 6 7)
  (data "x")
  (func (type $none) unreachable) (func (type $unary) unreachable) (func (type $self) unreachable)
  (func (type $taker) unreachable) (func (type $same) unreachable) (func (type $mixed) unreachable)
  (func (type {}) unreachable))"""
TYPES: Final = ("$none", "$unary", "$self", "$maker", "$taker", "$mixed")
FUNCTIONS: Final = 8

LOCALS: Final = (
    b"\x7f",
    b"\x7e",
    b"\x70",
    b"\x6f",
    b"\x64\x01",
    b"\x63\x01",
    b"\x64\x02",
    b"\x63\x02",
    b"\x64\x70",
    b"\x73",
    b"\x69",
    b"\x64\x69",
)
BLOCK_TYPES: Final = (
    *(
        b"\x40",
        b"\x40",
        b"\x7f",
        b"\x70",
        b"\x6f",
        b"\x73",
        b"\x64\x70",
        b"\x63\x01",
        b"\x64\x01",
        b"\x63\x02",
        b"\x64\x73",
        b"\x69",
        b"\x64\x69",
    ),
    *(bytes([index]) for index in range(7)),
)
HEAP_TYPES: Final = (b"\x70", b"\x6f", b"\x73", b"\x72", b"\x69", b"\x74", b"\x01", b"\x02", b"\x03", b"\x05")
END: Final = bytes([BY_NAME["end"].code])
UNREACHABLE: Final = bytes([BY_NAME["unreachable"].code])
STUB: Final = b"\3\0" + UNREACHABLE + END
CODE_SECTION: Final = 10
OPENING: Final = frozenset({"block", "loop", "if", "try_table"})

ALL: Final = [op for op in OPS.values() if op.feature != "legacy_exceptions"]
"""wasmtime does not have the others."""

LIKELY: Final = [
    op
    for op in ALL
    if op.family in ("control", "call", "variable", "parametric", "reference", "table") or op.immediates == "i32"
]
"""Of all instructions, those whose rules are more than a line of the table."""


def immediate(op: Op, rng: random.Random, depth: int) -> bytes:
    match op.immediates:
        case "":
            return b""
        case "blocktype":
            return rng.choice(BLOCK_TYPES)
        case "try_table":
            catches = [catch(rng, depth) for _ in range(rng.randrange(3))]
            return rng.choice(BLOCK_TYPES) + bytes([len(catches)]) + b"".join(catches)
        case "tag":
            return bytes([rng.randrange(5)])
        case "label":
            return bytes([rng.randrange(depth + 1)])
        case "br_table":
            return bytes([2, *(rng.randrange(depth) for _ in range(3))])
        case "func":
            return bytes([rng.randrange(FUNCTIONS)])
        case "type":
            return bytes([rng.randrange(7)])
        case "type_table":
            return bytes([rng.randrange(7), rng.randrange(5)])
        case "local":
            return bytes([rng.randrange(12)])
        case "global":
            return bytes([rng.randrange(6)])
        case "table":
            return bytes([rng.randrange(5)])
        case "table_table":
            return bytes([rng.randrange(5), rng.randrange(5)])
        case "elem_table":
            return bytes([rng.randrange(4), rng.randrange(5)])
        case "elem":
            return bytes([rng.randrange(5)])
        case "reftype":
            return rng.choice(HEAP_TYPES)
        case "valtypes":
            return b"\1" + rng.choice(LOCALS)
        case "memarg":
            return bytes(2)
        case "f32":
            return bytes(4)
        case "f64":
            return bytes(8)
        case kind:
            return bytes(1 + (kind.count("_")))


def catch(rng: random.Random, depth: int) -> bytes:
    kind = rng.randrange(4)
    tag = b"" if kind & 2 else bytes([rng.randrange(5)])
    return bytes([kind]) + tag + bytes([rng.randrange(depth + 1)])


def section_bytes(section: int, contents: bytes) -> bytes:
    return bytes([section]) + unsigned_leb128(len(contents)) + contents


class Skeleton:
    """A module but for its last function's body."""

    def __init__(self, functype: str) -> None:
        wasm = text_to_binary(SKELETON.format(functype))
        self.rest: list[tuple[int, bytes]] = []
        at = 8
        while at < len(wasm):
            section, at = wasm[at], at + 1
            size = shift = 0
            while True:
                byte, at = wasm[at], at + 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            self.rest.append((section, wasm[at : at + size]))
            at += size

    def module(self, locals_: bytes, code: bytes) -> bytes:
        """The module with this body, which ends as it should."""
        parts = [b"\0asm\1\0\0\0"]
        body = locals_ + code
        for section, contents in self.rest:
            new = bytes([FUNCTIONS - 1]) + STUB * (FUNCTIONS - 2) + unsigned_leb128(len(body)) + body
            parts.append(section_bytes(section, new if section == CODE_SECTION else contents))
        return b"".join(parts)


def grow(skeleton: Skeleton, rng: random.Random, oracle: Callable[[bytes], bool], seen: Counter[str]) -> None:
    """One body, and the verdict on each of its beginnings."""
    chosen = [rng.choice(LOCALS) for _ in range(rng.randrange(9))]
    locals_ = bytes([len(chosen)]) + b"".join(b"\1" + valtype for valtype in chosen)
    code = b""
    frames = ["function"]
    for _ in range(rng.randrange(5, 40)):
        op = rng.choice(LIKELY) if rng.randrange(8) else rng.choice(ALL)
        after = [*frames]
        if op.name in OPENING:
            after.append(op.name)
        elif op.name == "else":
            if frames[-1] != "if":
                continue
            after[-1] = "else"
        elif op.name == "end":
            if len(frames) == 1:
                continue
            after.pop()
        longer = code + opcode(op) + immediate(op, rng, len(frames))
        closing = rng.choice((UNREACHABLE, b"")) + END + (UNREACHABLE + END) * (len(after) - 1)
        data = skeleton.module(locals_, longer + closing)
        verdict = "valid"
        try:
            check_module(data)
        except Invalid as error:
            verdict = error.message.split(":")[0]
        except CompileError as error:
            verdict = str(error)
        seen[f"{op.name}: {'valid' if verdict == 'valid' else 'invalid'}"] += 1
        if oracle(data) != (verdict == "valid"):
            raise SystemExit(f"{Campaign._keep(data)}: {verdict} after {op.name}, and wasmtime thinks otherwise")
        if verdict == "valid" or _is_valid(skeleton.module(locals_, longer + (UNREACHABLE + END) * len(after))):
            code, frames = longer, after


def _is_valid(data: bytes) -> bool:
    try:
        check_module(data)
    except CompileError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="fuzz the validator against wasmtime")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="for the same inputs again")
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.seconds:g} s")
    rng = random.Random(seed)
    oracle = wasmtime_oracle()
    skeletons = [Skeleton(functype) for functype in TYPES]
    for skeleton in skeletons:
        assert _is_valid(skeleton.module(b"\0", UNREACHABLE + END))
    seen = Counter[str]()
    deadline = time.monotonic() + arguments.seconds
    while time.monotonic() < deadline:
        grow(rng.choice(skeletons), rng, oracle, seen)
    print(f"{seen.total()} modules")
    for name in sorted({key.split(":")[0] for key in seen}):
        print(f"{name:24} {seen[f'{name}: valid']:8} valid {seen[f'{name}: invalid']:8} invalid")
    return 0


if __name__ == "__main__":
    sys.exit(main())
