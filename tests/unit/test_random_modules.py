"""The generator of fuzz/fuzz_differential.py: its modules are valid, use every family, and are the seed's alone."""

from __future__ import annotations

import random
from collections import Counter

from fuzz.module_bytes import bodies, joined, sections, with_bodies, with_everything_exported
from fuzz.random_modules import ModuleMaker
from lucet.wasm.check import check_module
from lucet.wasm.decode import decode_module
from lucet.wasm.opcodes import FAMILIES, OPS
from lucet.wasm.text import text_to_binary


def module(seed: int) -> bytes:
    return text_to_binary(ModuleMaker(random.Random(seed), functions=6).text())


def test_valid_and_reproducible() -> None:
    for seed in range(6):
        wasm = module(seed)
        check_module(wasm)
        assert wasm == module(seed)
    assert module(1) != module(2)


def test_every_family_and_feature_occurs() -> None:
    ops = Counter(
        OPS[instr[0]].code
        for seed in range(25)
        for body in bodies(decode_module(module(seed)))
        for instr in body.code.instrs
    )
    assert {OPS[code].family for code in ops} == set(FAMILIES)
    assert {OPS[code].feature for code in ops} == {op.feature for op in OPS.values()} - {
        "legacy_exceptions"
    }  # which wasmtime has not


def test_taken_apart_and_put_together() -> None:
    wasm = module(3)
    assert joined(sections(wasm)) == wasm
    again = with_bodies(wasm, [body.encoded() for body in bodies(decode_module(wasm))])
    assert decode_module(again).bodies[0].body == decode_module(wasm).bodies[0].body
    exported = with_everything_exported(wasm)
    check_module(exported)
    names = {one.name for one in decode_module(exported).exports}
    assert {"function 1", "memory 0", "global 0"} <= names
