"""Changes modules of the official suite and of the guests in ways that often leave them valid."""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fuzz.engines import Call
from fuzz.fuzz_decode import opcode
from fuzz.fuzz_vectors import CORNERS
from fuzz.module_bytes import Body, bodies, with_bodies, with_everything_exported
from lucet.errors import CompileError
from lucet.wasm.check import check_module
from lucet.wasm.decode import decode_module
from lucet.wasm.leb128 import signed_leb128, unsigned_leb128
from lucet.wasm.module import Module
from lucet.wasm.opcodes import BY_NAME, OPS, Op
from lucet.wasm.types import EXTERNREF, FUNCREF, NUMTYPES, FuncType, ValType
from tests.spec.values import NotInLanguage, constant

LARGEST: Final = 40_000
"""Bytes of a module to mutate: what takes long to compile gives few runs."""
CHANGES: Final = (1, 1, 2, 4, 12)
TRIES: Final = 6
CALLS: Final = 24
FOLDERS: Final = ("core", "threads", "wide-arithmetic", "custom-page-sizes")

ALIKE: Final[dict[tuple[Any, ...], list[Op]]] = {}
"""Instructions that may stand for one another."""
for _op in OPS.values():
    if not _op.irregular and _op.family not in ("control", "call", "variable", "table") and ".wait" not in _op.name:
        key = (_op.pops, _op.pushes, _op.immediates, _op.lanes, _op.family == "atomic" and _op.align)
        if _op.feature != "relaxed_simd":
            ALIKE.setdefault(key, []).append(_op)
_ALIKE_OF: Final = {op.code: ops for ops in ALIKE.values() for op in ops}
_WAITS: Final = {op.code for op in OPS.values() if ".wait" in op.name}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    wasm: bytes
    calls: tuple[Call, ...]


class Seeds:
    """Modules to change, with calls that their scripts make."""

    def __init__(self) -> None:
        self.modules: list[tuple[str, bytes, list[Call]]] = []
        folder = Path(os.environ.get("LUCET_SHARED", Path(__file__).parent.parent.parent / "shared"))
        for name in FOLDERS:
            for script in sorted((folder / "spec" / "json" / name).glob("**/*.json")):
                self._read_script(script)
        for path in sorted([*(folder / "guests").glob("*.wasm"), *(folder / "bench").glob("**/*.wasm")]):
            if path.stat().st_size <= LARGEST:
                self.modules.append((path.name, path.read_bytes(), []))
        self.described = f"{len(self.modules)} modules to mutate"

    @property
    def empty(self) -> bool:
        return not self.modules

    def _read_script(self, path: Path) -> None:
        script = json.loads(path.read_text())
        if not isinstance(script, dict):
            return
        files, current = script["files"], None
        for command in script["commands"]:
            if command["type"] == "module" and "filename" in command:
                data = base64.b64decode(files[command["filename"]].get("b64") or "")
                current = None
                if 8 < len(data) <= LARGEST:
                    current = (f"{path.stem}:{command.get('line')}", data, list[Call]())
                    self.modules.append(current)
            action = command.get("action")
            if current and action and action["type"] == "invoke" and "module" not in action:
                try:
                    values = [constant(one) for one in action.get("args", ())]
                except NotInLanguage:
                    continue
                if all(value.ref is None for value in values):
                    bits = tuple(
                        value.bits if value.valtype in ("i32", "i64", "f32", "f64", "v128") else None
                        for value in values
                    )
                    current[2].append(Call(name=action["field"], arguments=bits))

    def mutant(self, rng: random.Random, is_valid: Callable[[bytes], bool]) -> Mutant | None:
        """None if the module is not for this."""
        _, wasm, calls = rng.choice(self.modules)
        try:
            module = decode_module(wasm)
            check_module(wasm)
        except CompileError:
            return None
        if not _usable(module) or not is_valid(wasm):
            return None
        if rng.random() < 0.5:
            wasm = with_everything_exported(wasm)
            module = decode_module(wasm)
        if module.bodies:
            for _ in range(rng.choice(CHANGES)):
                for _ in range(TRIES):
                    changed = _changed(wasm, rng)
                    if changed is not None and is_valid(changed):
                        wasm = changed
                        break
        return Mutant(wasm=wasm, calls=tuple(_calls(module, calls, rng)))


def _usable(module: Module) -> bool:
    """Whether both engines can be expected to agree on it: imports are functions alone, and no limit is near."""
    if any(not isinstance(one.desc, int) for one in module.imports):
        return False
    if any(memory.minimum_size > 1 << 20 for memory in module.all_memories) or len(module.all_memories) > 1:
        return False
    codes = {instr[0] for body in bodies(module) for instr in body.code.instrs}
    return not codes & _WAITS and not any(OPS[code].feature == "relaxed_simd" for code in codes)


def _calls(module: Module, known: list[Call], rng: random.Random) -> list[Call]:
    calls = rng.sample(known, min(len(known), CALLS // 2))
    exported = [(one.name, module.func_type(one.index)) for one in module.exports if one.kind == "func"]
    exported = [(name, functype) for name, functype in exported if _callable(functype)]
    names = {name for name, _ in exported}
    calls = [call for call in calls if call.name in names]
    for _ in range(CALLS - len(calls) if exported else 0):
        name, functype = rng.choice(exported)
        calls.append(Call(name=name, arguments=tuple(_bits(valtype, rng) for valtype in functype.params)))
    rng.shuffle(calls)
    return calls


def _callable(functype: FuncType) -> bool:
    return {*functype.params, *functype.results} <= {*NUMTYPES, FUNCREF, EXTERNREF}


def _bits(valtype: ValType, rng: random.Random) -> int | None:
    if valtype in ("funcref", "externref"):
        return None
    if valtype == "v128":
        return sum(rng.choice(CORNERS[32]) << 32 * lane for lane in range(4))
    width = int(valtype[1:])
    return rng.choice(CORNERS[width]) if rng.random() < 0.7 else rng.getrandbits(width)


def _changed(wasm: bytes, rng: random.Random) -> bytes | None:
    """With one change to one function, valid or not."""
    all_bodies = bodies(decode_module(wasm))
    index = rng.randrange(len(all_bodies))
    body = all_bodies[index]
    at = rng.randrange(len(body.instrs))
    instead = _replacement(body, at, rng)
    if instead is None:
        return None
    encoded = [one.encoded() for one in all_bodies]
    encoded[index] = body.encoded([*body.instrs[:at], *instead])
    return with_bodies(wasm, encoded)


def _replacement(body: Body, at: int, rng: random.Random) -> list[bytes] | None:
    """What stands from the instruction on."""
    code, _, immediate = body.code.instrs[at]
    op = OPS[code]
    this, rest = body.instrs[at], list(body.instrs[at + 1 :])
    constants = {"i32": 32, "i64": 64, "f32": 32, "f64": 64}
    if op.immediates in constants and rng.random() < 0.7:
        return [_constant(op.immediates, rng), *rest]
    if code in _ALIKE_OF and rng.random() < 0.5:
        other = rng.choice(_ALIKE_OF[code])
        operands = this[len(opcode(op)) :]
        if op.immediates.startswith("memarg") and other.family != "atomic" and immediate[2] == 0:
            operands = (
                b"\0" + unsigned_leb128(immediate[1]) + operands[len(operands) - (op.immediates == "memarg_lane") :]
            )
        return [opcode(other) + operands, *rest]
    if op.immediates == "memarg" and immediate[2] == 0 and rng.random() < 0.6:
        offset = rng.choice((0, 1, 4, 8, 65535, 65536, 1 << 31, (1 << 32) - 1, immediate[1] + 1))
        align = immediate[0] if op.family == "atomic" else rng.randrange(immediate[0] + 1)
        return [opcode(op) + unsigned_leb128(align) + unsigned_leb128(offset), *rest]
    match rng.randrange(6):
        case 0:
            return rest  # gone
        case 1:
            return [this, this, *rest]
        case 2 if rest:
            return [rest[0], this, *rest[1:]]
        case 3 if len(op.pushes) == 1 and op.pushes[0] in constants:
            return [this, *_operation(op.pushes[0], rng), *rest]
        case 4 if op.immediates == "local":
            count = len(body.code.locals) + 4
            return [opcode(op) + unsigned_leb128(rng.randrange(count)), *rest]
        case 5:
            other_at = rng.randrange(len(body.instrs))
            return [this, body.instrs[other_at], *rest]
        case _:
            return None


def _constant(valtype: str, rng: random.Random) -> bytes:
    width = int(valtype[1:])
    bits = rng.choice(CORNERS[width]) if rng.random() < 0.7 else rng.getrandbits(rng.randrange(1, width + 1))
    op = opcode(BY_NAME[f"{valtype}.const"])
    if valtype[0] == "f":
        return op + bits.to_bytes(width // 8, "little")
    return op + signed_leb128(bits - (1 << width) if bits >> width - 1 else bits)


def _operation(valtype: str, rng: random.Random) -> list[bytes]:
    """Something done to the value on the stack."""
    fitting = [op for op in OPS.values() if op.pushes == (valtype,) and op.pops in ((valtype,), (valtype, valtype))]
    op = rng.choice([op for op in fitting if not op.immediates])
    operands = [_constant(valtype, rng)] * (len(op.pops) - 1)
    return [*operands, opcode(op)]
