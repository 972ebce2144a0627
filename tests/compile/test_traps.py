"""Traps: that they happen, in order, with the effects before them and none after them, and where."""

from __future__ import annotations

import re

import pytest

import lucet
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.text import text_to_binary
from tests.compile.conftest import Instantiate

OUT = "(i32.const -4)"
"""Beyond a memory of one page."""


@pytest.mark.parametrize("bounds", ["guard", "explicit"])
@pytest.mark.parametrize(
    "body",
    [
        f"(drop (i32.load {OUT}))",
        f"(drop (f64.load {OUT}))",
        f"(drop (i64.load32_u offset=3 {OUT}))",
        f"(drop (i32.and (i32.const 0) (i32.load {OUT})))",
        f"(drop (i32.mul (i32.load8_u {OUT}) (i32.const 0)))",
        f"(i32.store8 {OUT} (i32.const 0))",
        "(drop (i32.load offset=0xffffffff (i32.const 0)))",
        "(drop (i32.load offset=0xfffffffc (i32.const 4)))",
        "(drop (i32.load offset=33554429 (local.get 0)))",
        "(drop (i64.load (i32.const 65529)))",
        "(i64.store (i32.const 65529) (i64.const 1))",
        "(i32.store16 offset=65535 (local.get 0) (i32.const 1))",
        # A conditional move must not make the load conditional.
        "(global.set $g (select (i32.load (i32.const -16)) (i32.const 7) (local.get 0)))",
        "(global.set $g (select (i32.const 7) (i32.load (i32.const -16)) (i32.eqz (local.get 0))))",
        """(local.set 1 (i32.load (i32.sub (global.get $g) (i32.const 20))))
            (global.set $g (select (local.get 1) (i32.const 0) (i32.lt_u (i32.and (i32.const 127) (local.get 0))
                                                                          (i32.const 0))))""",
    ],
)
def test_out_of_bounds(instantiate: Instantiate, body: str, bounds: str) -> None:
    instance = instantiate(
        f"""(module (memory 1) (global $g (mut i32) (i32.const 0))
              (func (export "f") (param i32) (local i32) {body}))""",
        bounds=bounds,
    )
    with pytest.raises(lucet.Trap, match="out of bounds memory access"):
        instance.run("f", 0)


def test_conditional_moves_in_a_loop(instantiate: Instantiate) -> None:
    """LLVM prefers branches to conditional moves in such loops, and would take the load along."""
    instance = instantiate(
        """(module (memory 1)
          (func (export "f") (param $p i32) (param $n i32) (result i32) (local $x i32) (local $sum i32)
            (loop $l
              (local.set $x (i32.load (local.get $p)))
              (local.set $sum (select (local.get $x) (local.get $sum) (i32.gt_u (local.get $sum) (local.get $n))))
              (local.set $p (i32.add (local.get $p) (i32.const 4)))
              (br_if $l (i32.lt_u (local.get $p) (i32.const 70000))))
            (local.get $sum)))"""
    )
    with pytest.raises(lucet.Trap, match="out of bounds memory access"):
        instance.run("f", 0, -1)


def test_effects_before_a_trap_and_none_after(instantiate: Instantiate) -> None:
    instance = instantiate(
        f"""(module (memory (export "memory") 1) (global $g (export "g") (mut i32) (i32.const 1))
          (func (export "f")
            (i32.store (i32.const 0) (i32.const 1))
            (global.set $g (i32.const 2))
            (drop (i32.load {OUT}))
            (i32.store (i32.const 0) (i32.const 2))
            (i32.store (i32.const 4) (i32.const 2))
            (global.set $g (i32.const 3)))
          (func (export "div") (param i32)
            (i32.store (i32.const 8) (i32.const 1))
            (i32.store (i32.const 8) (i32.div_u (i32.const 1) (local.get 0))))
          (func (export "straddle") (i64.store (i32.const 65532) (i64.const -1))))"""
    )
    for name, *operands in (("f",), ("div", 0), ("straddle",)):
        with pytest.raises(lucet.Trap):
            instance.run(name, *operands)
    assert instance.memory.read(0, 12) == bytes([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0])
    assert instance.globals["g"].value == 2
    assert instance.memory.read(65532, 4) == bytes(4)


def test_the_first_of_two_traps(instantiate: Instantiate) -> None:
    instance = instantiate(
        f"""(module (memory 1)
          (func (export "load first") (param i32)
            (drop (i32.div_u (i32.load {OUT}) (local.get 0))))
          (func (export "division first") (param i32)
            (drop (i32.add (i32.div_u (i32.const 1) (local.get 0)) (i32.load {OUT}))))
          (func (export "address first") (param i32)
            (i32.store {OUT} (i32.div_u (i32.const 1) (local.get 0)))))"""
    )
    with pytest.raises(lucet.Trap, match="out of bounds memory access"):
        instance.run("load first", 0)
    for name in ("division first", "address first"):
        with pytest.raises(lucet.Trap, match="integer divide by zero"):
            instance.run(name, 0)


def test_runaway_recursion_is_a_trap(instantiate: Instantiate) -> None:
    instance = instantiate(
        """(module
          (func $tail (export "tail") (param i32) (result i32) (call $tail (i32.add (local.get 0) (i32.const 1))))
          (func $nothing (export "nothing") (call $nothing))
          (func $a (export "mutual") (call $b)) (func $b (call $a))
          (type $t (func)) (table 1 1 funcref) (elem (i32.const 0) $indirect)
          (func $indirect (export "indirect") (call_indirect (type $t) (i32.const 0))))"""
    )
    for name, *operands in (("tail", 0), ("nothing",), ("mutual",), ("indirect",)):
        with pytest.raises(lucet.Trap, match="call stack exhausted"):
            instance.run(name, *operands)


# ---- where


ADDRESS = "(i32.sub (local.get 0) (i32.const 4))"
PLACES = f"""(module (memory 1) (table $d (export "t") 2 2 funcref) (table $s 2 2 funcref)
  (elem (table $s) (i32.const 0) func $a)
  (type $nothing (func)) (type $other (func (param i32)))
  (func $a)
  (func (export "unreachable") (param i32) (nop) (unreachable))
  (func (export "i32.div_s") (param i32) (drop (i32.div_s (i32.const 7) (local.get 0))))
  (func (export "i64.rem_u") (param i32) (drop (i64.rem_u (i64.const 7) (i64.extend_i32_u (local.get 0)))))
  (func (export "i32.trunc_f64_s") (param i32)
    (drop (i32.trunc_f64_s (f64.mul (f64.const 1e10) (f64.convert_i32_u (local.get 0)))))
    (drop (i32.trunc_f64_s (f64.const 1e10))))
  (func (export "i32.load8_u") (param i32)
    (drop (i32.eqz (local.get 0))) (local.set 0 (i32.eqz (i32.add (i32.load8_u {ADDRESS}) (i32.const 1))))
    (i32.store (i32.const 0) (local.get 0)))
  (func (export "i64.store32") (param i32)
    (i64.store (i32.const 0) (i64.const 3)) (i64.store32 {ADDRESS} (i64.const 3)))
  (func (export "f32.load") (param i32)
    (f32.store (i32.const 0) (f32.sqrt (f32.add (f32.const 2) (f32.load {ADDRESS})))))
  (func (export "i64.load16_s") (param i32)
    (if (i64.gt_s (i64.load16_s {ADDRESS}) (i64.const 2)) (then (i32.store (i32.const 0) (i32.const 1)))))
  (func (export "i32.load") (param i32)
    (if (i32.eqz (i32.load {ADDRESS})) (then (i32.store (i32.const 0) (i32.const 1)))))
  (func (export "i64.load") (param i32)
    (i64.store (i32.const 0) (i64.xor (i64.load (i32.const 8)) (i64.load {ADDRESS}))))
  (func (export "f64.load") (param i32)
    (f64.store (i32.const 0) (f64.mul (f64.load (i32.const 8)) (f64.load {ADDRESS}))))
  (func (export "call_indirect") (param i32) (call_indirect $s (type $nothing) (i32.sub (local.get 0) (i32.const 1))))
  (func (export "table.get") (param i32) (drop (table.get $d (i32.const 2))))
  (func (export "memory.fill") (param i32) (memory.fill (i32.const 1) (i32.const 0) (i32.const 65536))))"""


@pytest.mark.parametrize("name", re.findall(r'\(func \(export "(.*?)"', PLACES))
def test_offset_of_the_trap(instantiate: Instantiate, name: str) -> None:
    wasm = text_to_binary(PLACES)
    module = decode_module(wasm)
    index = next(export.index for export in module.exports if export.name == name)
    code = BY_NAME[name].code
    places = [offset for opcode, offset, _ in decode_code(module, index).instrs if opcode == code]
    with pytest.raises(lucet.Trap) as caught:
        instantiate(PLACES).run(name, 0)
    assert caught.value.offset == places[-1]
    assert caught.value.function == name


@pytest.mark.parametrize("width", ["8", "16", ""])
@pytest.mark.parametrize("operation", ["xor", "add", "mul"])
def test_offset_of_what_is_read_changed_and_written(instantiate: Instantiate, operation: str, width: str) -> None:
    """One instruction of the processor may do all three, and it is the load that traps."""
    load = f"i32.load{width}" + ("_u" if width else "")
    text = f"""(module (memory 1)
      (func (export "f") (param i32 i32)
        (i32.store{width} offset=3 (local.get 0) (i32.{operation} (local.get 1) ({load} offset=3 (local.get 0)))))
      (func (export "elsewhere") (param i32 i32)
        (i32.store{width} offset=4 (local.get 0) (i32.{operation} (local.get 1) ({load} offset=3 (local.get 0))))))"""
    instance = instantiate(text)
    module = decode_module(text_to_binary(text))
    width_bytes = int(width or 32) // 8
    for name, address, code in (
        ("f", 65536, load),
        ("f", 65533 - width_bytes + 1, load),
        ("elsewhere", 65533 - width_bytes + 1, load),
        ("elsewhere", 65533 - width_bytes, f"i32.store{width}"),
    ):
        instrs = decode_code(module, 0 if name == "f" else 1).instrs
        with pytest.raises(lucet.Trap) as caught:
            instance.run(name, address, 7)
        assert caught.value.offset == next(offset for opcode, offset, _ in instrs if opcode == BY_NAME[code].code)


def test_offset_where_two_paths_end_alike(instantiate: Instantiate) -> None:
    path = """(i64.store (i32.const 0) (i64.const 5))
              (local.set 1 (i32.load (i32.const 12)))
              (i32.store offset=1 (local.get 1) (local.get 0))
              (i32.store offset=1 (i32.load (i32.load (local.get 1))) (local.get 0))
              (i32.store offset=65536 (i32.load (i32.load (local.get 1))) (local.get 0))"""
    text = f"""(module (memory 1)
      (func (export "f") (param i32) (local i32)
        (if (i32.eqz (local.get 0)) (then (i64.store (i32.const 24) (i64.const 1)) {path}) (else {path}))))"""
    instrs = decode_code(decode_module(text_to_binary(text)), 0).instrs
    places = [offset for opcode, offset, _ in instrs if opcode == BY_NAME["i32.store"].code][2::3]
    instance = instantiate(text)
    for argument, place in zip((0, 1), places, strict=True):
        with pytest.raises(lucet.Trap) as caught:
            instance.run("f", argument)
        assert caught.value.offset == place
