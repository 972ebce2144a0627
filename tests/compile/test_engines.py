"""What the fuzzers compare: a guest's ends have the same words here and on wasmtime."""

from __future__ import annotations

import pytest

import lucet
from fuzz.engines import Call, Peer, Setting, differences, run_here
from lucet.wasm.text import text_to_binary

ENDS = {
    "unreachable": "unreachable",
    "integer divide by zero": "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
    "integer overflow": "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))",
    "invalid conversion to integer": "(drop (i32.trunc_f32_s (f32.const nan)))",
    "out of bounds memory access": "(drop (i32.load (i32.const -1)))",
    "out of bounds table access": "(drop (table.get (i32.const 9)))",
    "uninitialized element": "(call_indirect (i32.const 0))",
    "indirect call type mismatch": "(call_indirect (i32.const 1))",
    "null reference": "(call_ref $t (ref.null $t))",
    "unaligned atomic": "(drop (i32.atomic.load (i32.const 1)))",
    "uncaught exception": "(throw $e (i32.const 1))",
}
BEGIN = """(module (type $t (func)) (tag $e (param i32)) (memory 1) (table 2 funcref)
  (elem (i32.const 1) func $other) (func $other (param i32))"""


@pytest.fixture(scope="module")
def peer() -> Peer:
    return Peer()


SETTING = Setting(opt_level="fast", target_cpu="x86-64-v2", bounds="guard", count_instructions=False)


def test_of_calls(peer: Peer) -> None:
    functions = "".join(f'(func (export "{end}") {body})' for end, body in ENDS.items())
    wasm = text_to_binary(f"{BEGIN} {functions})")
    calls = [Call(name=end, arguments=()) for end in ENDS]
    here, there = run_here(wasm, SETTING, calls, lucet.Region(1)), peer.run(wasm, calls)
    assert here.calls == tuple(ENDS)
    assert differences(here, there) == []


@pytest.mark.parametrize("end", ["unreachable", "uncaught exception"])
def test_of_start_functions(peer: Peer, end: str) -> None:
    wasm = text_to_binary(f"{BEGIN} (func $start {ENDS[end]}) (start $start))")
    here, there = run_here(wasm, SETTING, [], lucet.Region(1)), peer.run(wasm, [])
    assert (here.start, there.start) == (end, end)
