"""A part of the official suite with garbage in the upper halves of registers at calls: see poisoned.py."""

from __future__ import annotations

import re

import pytest

import lucet
from lucet.compile.driver import emit_ir
from lucet.compile.options import Options
from lucet.runtime import Func
from lucet.wasm.text import text_to_binary
from tests.shared import shared_path
from tests.spec.command import run_spec
from tests.spec.poisoned import compile_poisoned, poisoned

SCRIPTS = """
    address align br_table call call_indirect call_ref conversions endianness fac func func_ptrs i32 i64 imports
    left-to-right linking load memory memory_grow memory_trap return_call return_call_indirect return_call_ref select
    stack start store switch table_grow table_set traps try_table memory_redundancy
"""
MODULE = """(module
  (import "host" "same" (func $same (param i32) (result i32)))
  (memory 1) (table funcref (elem $load $same))
  (type $t (func (param i32) (result i32)))
  (func $load (type $t) (i32.load8_u (local.get 0)))
  (func (export "direct") (type $t) (call $load (local.get 0)))
  (func (export "indirect") (type $t) (call_indirect (type $t) (local.get 0) (i32.const 0)))
  (func (export "by way of the host") (type $t) (i32.load8_u (call $same (local.get 0))))
  (func (export "result as an address") (type $t) (i32.load8_u (call $load (local.get 0))))
  (func (export "extended") (param i32) (result i64) (i64.extend_i32_u (call $load (local.get 0)))))"""


@lucet.host_function
def same(value: lucet.i32) -> lucet.i32:
    return value


@pytest.mark.parametrize("bounds", ["guard", "explicit"])
def test_addresses_through_calls(bounds: str) -> None:
    wasm = text_to_binary(MODULE)
    artifact = compile_poisoned(wasm, Options(opt_level="fast", bounds=bounds))
    with lucet.Region(1).new_instance(lucet.Module.from_bytes(artifact), {"host": {"same": same}}) as instance:
        instance.memory.write(65535, b"\7")
        for name in ("direct", "indirect", "by way of the host", "extended"):
            assert instance.run(name, 65535) == 7
            function = instance.exports[name]
            assert isinstance(function, Func)
            assert function.call_raw([0xFFFFFFFF_0000FFFF]) == [7]
            with pytest.raises(lucet.Trap, match="out of bounds"):
                instance.run(name, 65536)
        assert instance.run("result as an address", 0) == 0


def test_every_call_and_return_has_the_garbage() -> None:
    text = emit_ir(text_to_binary(MODULE))
    changed = poisoned(text)
    passed = [line for line in text.splitlines() if re.search(r"call .*\(ptr .*\bi32 ", line) and "@llvm" not in line]
    assert len(passed) == 6
    assert changed.count("zext i32") >= len(passed) + len(re.findall(r"\n  ret i32", text))
    assert not re.search(r"call [^@\n]*(@[ft]\d+|%\w+)\(ptr [^\n]*\bi32 ", changed)
    assert "ret i32" not in changed


@pytest.mark.parametrize("level", ["fast", "best"])
def test_a_part_of_the_official_suite(level: str) -> None:
    status, output = run_spec(
        shared_path("spec").parent, "--engine", "poisoned", "--opt-level", level, *SCRIPTS.split()
    )
    assert status == 0, output
    assert f"{len(SCRIPTS.split())} scripts: " in output
