"""Target CPU "multi": functions worth it in three versions, of which the machine's is taken."""

from __future__ import annotations

import re

import pytest

import lucet
from lucet.compile.driver import compile_module, emit_ir
from lucet.compile.options import Options
from lucet.wasm.text import text_to_binary

TEXT = """(module (memory (export "memory") 1)
  (func (export "scale") (param $n i32) (param $by f64) (result f64) (local $i i32)
    (loop $l
      (f64.store (local.get $i) (f64.mul (local.get $by) (f64.load offset=8 (local.get $i))))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (local.get $n))))
    (f64.load (i32.const 0)))
  (func (export "plain") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "three") (param $n i32) (result i32 i32 i32)
    (loop $l
      (i32.store8 (local.get $n) (i32.const 1))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i32.const 1) (i32.const 2) (i32.const 3)))"""


@pytest.mark.parametrize("opt_level", ["default", "best"])
def test_results_and_places_of_traps(opt_level: str) -> None:
    wasm = text_to_binary(TEXT)
    expected, multi = (
        lucet.Region(1).new_instance(
            lucet.Module.from_bytes(lucet.compile(wasm, opt_level=opt_level, target_cpu=target_cpu))
        )
        for target_cpu in ("x86-64-v3", "multi")
    )
    seen = []
    for instance in (expected, multi):
        instance.memory.write(0, bytes(range(250)) * 8)
        outcomes: list[object] = [instance.run("scale", 1000, 2.5), instance.run("three", 100)]
        for name, *operands in (("scale", -1, 0.5), ("three", 65537), ("plain", -1)):
            with pytest.raises(lucet.Trap) as caught:
                instance.run(name, *operands)
            outcomes.append((caught.value.code, caught.value.function, caught.value.offset))
        seen.append((outcomes, instance.memory.read(0, 65536)))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("opt_level", ["default", "best"])
def test_exceptions_pass_through_the_choice(opt_level: str) -> None:
    text = """(module (tag $e (param i32))
      (func $sum (param $n i32) (result i32) (local $s i32)
        (loop $again
          (local.set $s (i32.add (local.get $s) (local.get $n)))
          (if (i32.eqz (local.get $n)) (then (throw $e (local.get $s))))
          (local.set $n (i32.sub (local.get $n) (i32.const 1)))
          (br $again))
        (unreachable))
      (func (export "caught") (param i32) (result i32)
        (loop $again
          (if (i32.eqz (local.get 0)) (then (return (i32.const -1))))
          (return (block $h (result i32)
            (try_table (catch $e $h) (drop (call $sum (local.get 0)))) (br $again))))
        (unreachable)))"""
    artifact = lucet.compile(text_to_binary(text), opt_level=opt_level, target_cpu="multi", hot=(0, 1))
    with lucet.Region(1).new_instance(lucet.Module.from_bytes(artifact)) as instance:
        assert [instance.run("caught", n) for n in (10, 1, 0)] == [55, 1, -1]


def test_what_there_is_in_versions() -> None:
    wasm = text_to_binary(TEXT)
    asm = compile_module(wasm, Options(target_cpu="multi"), emit="asm").decode()
    assert re.findall(r"^(f\d\S*):", asm, re.M) == [
        "f1",
        "f0",
        "f0.v4",
        "f0.v3",
        "f0.v2",
        "f2",
        "f2.v4",
        "f2.v3",
        "f2.v2",
    ]
    parts = dict(re.findall(r"^(f0\S*):\n(.*?)^\t\.size", asm, re.M | re.S))
    assert "ymm" in parts["f0.v3"]
    assert "ymm" in parts["f0.v4"]
    assert "%v0" not in parts["f0.v2"]
    assert "xmm" in parts["f0.v2"]
    assert "ymm" not in parts["f0.v2"]
    assert re.findall(r"jn?[ez]\s|jmp\s+f0\S*|jmpq?\s+\*?f0\S*", parts["f0"])
    assert Options(target_cpu="multi").features() == Options(target_cpu="x86-64-v2").features()


def test_without_effect_where_nothing_is_optimised_hard() -> None:
    wasm = text_to_binary(TEXT)
    for options in (
        Options(opt_level="fast", target_cpu="multi"),
        Options(count_instructions=True, target_cpu="multi"),
    ):
        assert ".v3(" not in emit_ir(wasm, options)
    assert "@f0.v3(" in emit_ir(wasm, Options(target_cpu="multi"))
