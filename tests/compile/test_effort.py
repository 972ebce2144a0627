"""Which functions get little optimisation, and what is made of them."""

from __future__ import annotations

import re

import pytest

import lucet
from lucet.compile import driver
from lucet.compile.chunks import chunk_texts, whole_module
from lucet.compile.effort import Effort, is_control
from lucet.compile.layout import make_plan
from lucet.compile.options import Options
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.text import text_to_binary
from tests.shared import shared_path
from tests.spec.command import run_spec

STEP = "(local.set 0 (i32.add (local.get 0) (i32.const {})))\n"
"""Four instructions."""
CALL = "(if (i32.gt_s (local.get 0) (i32.const 1000000)) (then (local.set 0 (call $half (local.get 0)))))\n"
"""Eight, with a branch and a call."""
LOOP = "(local.set 1 (i32.const 3)) (loop {} (br_if 0 (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))\n"
NESTED = LOOP.format(STEP.format(1) * 80 + LOOP.format(STEP.format(1) * 5) + STEP.format(1) * 20)
DISPATCH = "(block (block (br_table" + " 0 1" * 9 + " (local.get 0))))"


def text(body: str) -> str:
    return f"""(module
      (func $half (param i32) (result i32) (i32.div_s (local.get 0) (i32.const 2)))
      (func (export "f") (param i32) (result i32) (local i32) {body} (local.get 0)))"""


def is_control_function(body: str) -> bool:
    module = decode_module(text_to_binary(text(body)))
    return is_control(decode_code(module, 1))


@pytest.mark.parametrize(
    ("expected", "body"),
    [
        (False, CALL * 20),
        (True, CALL * 40),
        # Arithmetic: a branch is rare.
        (False, STEP.format(1) * 1000 + CALL * 10),
        (True, STEP.format(1) * 50 + CALL * 40),
        # Vectors compute.
        (False, CALL * 60 + "(drop (v128.not (v128.const i64x2 0 0)))"),
        # Half of it in a loop.
        (True, CALL * 60 + LOOP.format(STEP.format(1) * 50)),
        (False, CALL * 20 + LOOP.format(STEP.format(1) * 120)),
        # The same with calls in the loop, which then is only what drives others ...
        (True, LOOP.format(CALL * 130)),
        (False, LOOP.format(CALL * 100)),
        # ... unless it chooses between many places, as an interpreter does ...
        (False, LOOP.format(CALL * 130 + DISPATCH)),
        # ... or a loop inside is where it works, also if that has another loop inside.
        (False, LOOP.format(CALL * 130 + LOOP.format(STEP.format(1) * 100))),
        (
            False,
            LOOP.format(
                CALL * 130 + LOOP.format(STEP.format(1) * 80 + LOOP.format(STEP.format(1) * 5) + STEP.format(1) * 20)
            ),
        ),
    ],
)
def test_what_is_control(expected: bool, body: str) -> None:
    assert is_control_function(body) == expected


def efforts(body: str, options: Options) -> dict[str, Effort]:
    """By the function's symbol."""
    module = decode_module(text_to_binary(text(body)))
    texts = chunk_texts(module, make_plan(module, options), whole_module(module))
    return {
        name: effort for effort, ir in texts.items() for name in re.findall(r"^define .*@(f\d+)\(", ir, re.MULTILINE)
    }


@pytest.mark.parametrize("level", ["none", "fast", "default", "best"])
def test_only_levels_that_optimise_make_a_difference(level: str) -> None:
    graded = level in {"default", "best"}
    control = Effort.LITTLE if graded else Effort.USUAL
    assert efforts(CALL * 60, Options(opt_level=level)) == {"f0": Effort.USUAL, "f1": control}


def test_a_profile_knows_better() -> None:
    assert efforts(CALL * 60, Options(hot=(1,))) == {"f0": Effort.LITTLE, "f1": Effort.HARD}
    assert efforts(CALL * 60, Options(hot=(0,))) == {"f0": Effort.HARD, "f1": Effort.LITTLE}
    vector = "(drop (v128.not (v128.const i64x2 0 0)))"
    assert efforts(CALL * 60 + vector, Options(hot=(0,))) == {"f0": Effort.HARD, "f1": Effort.USUAL}


@pytest.mark.parametrize("level", ["default", "best"])
@pytest.mark.parametrize("start", [0, 3_000_000])
def test_what_a_control_function_computes(level: str, start: int) -> None:
    source = text(STEP.format(5) + CALL * 40 + LOOP.format(STEP.format(7)))
    expected = start + 5
    while expected > 1_000_000:
        expected //= 2
    module = lucet.Module.from_bytes(driver.compile(source, opt_level=level))
    assert lucet.Region(1).new_instance(module).run("f", start) == expected + 21


def test_a_part_of_the_official_suite() -> None:
    scripts = "address call_indirect conversions f32 i64 if int_exprs memory_trap nop traps unwind".split()
    status, output = run_spec(shared_path("spec").parent, "--engine", "control", "--opt-level", "default", *scripts)
    assert status == 0, output
    assert f"{len(scripts)} scripts: " in output


def test_large_functions_that_tail_calling_ones_are_behind() -> None:
    """In an object they may stand far from the small functions that make them callable."""
    steps = " ".join(f"(i32.mul (i32.const {2 * n + 3})) (i32.xor (i32.const {n * 7919}))" for n in range(100))
    wasm = text_to_binary(f"""(module
      (func $small (export "small") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
      (func (export "large") (param i32) (result i32) (local.get 0) {steps} (return_call $small)))""")
    results = set()
    for hot in (None, (), (0,), (1,), (0, 1)):
        module = lucet.Module.from_bytes(lucet.compile(wasm, hot=hot))
        with lucet.Region(1).new_instance(module) as instance:
            results.add((instance.run("large", 5), instance.run("small", 1)))
    assert len(results) == 1
