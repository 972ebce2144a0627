"""Loops that are copied: what they compute, where they trap, and what they leave behind."""

from __future__ import annotations

import pytest

import lucet
from lucet.compile.driver import compile_module
from lucet.compile.emit_inline import Inliner
from lucet.compile.loops import CheckedLoop, find_loops
from lucet.compile.options import Options
from lucet.compile.reroll import is_serial, reloads, reroll
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.text import text_to_binary
from tests.compile.test_inline import LIBRARY

PAGE = 65536


def _loop(body: str, advance: str, condition: str) -> str:
    return f"""(func (export "f") (param $p i32) (param $q i32) (param $n i32) (result i32)
      (local $i i32) (local $s i32) (local $t i32) (local $u i32) (local $w i64)
      (loop $l {body} {advance} (br_if $l {condition}))
      (i32.add (i32.add (i32.add (local.get $s) (local.get $i)) (i32.mul (local.get $t) (i32.const 3)))
        (i32.mul (local.get $u) (i32.const 5))))"""


UP = "(local.set $i (i32.add (local.get $i) (i32.const 4)))"
DOWN = "(local.set $i (i32.sub (local.get $i) (i32.const 4)))"
AT = "(i32.add (local.get $p) (local.get $i))"
FILL = f"(i32.store {AT} (i32.add (local.get $i) (i32.const 7)))"
COPY = f"(i32.store offset=4 (i32.add (local.get $q) (local.get $i)) (i32.load {AT}))"
SUM = f"(local.set $s (i32.add (local.get $s) (i32.load16_u {AT})))"
NESTED = f"(if (i32.and (local.get $i) (i32.const 8)) (then {COPY}) (else {FILL}))"
TWICE = f"(i32.store {AT} (i32.const 1)) (i32.store8 offset=5 {AT} (i32.load8_s offset=2 {AT}))"
DIVIDED = f"(i32.store {AT} (i32.div_u (i32.load {AT}) (i32.const 3)))"
SCRATCH = f"""(i64.store offset=8 (local.get $q) (i64.load32_u {AT})) (i32.store8 offset=1 {AT} (local.get $i))
  (i64.store (local.get $q) (i64.add (i64.load offset=8 (local.get $q)) (i64.const 3)))
  (local.set $s (i32.add (local.get $s) (i32.wrap_i64 (i64.load (local.get $q)))))"""
PRODUCT = f"""(call $multi3 (local.get $q) (i64.load32_u {AT}) (i64.const -1) (i64.const -7) (i64.const 0))
  (call $multi3 (i32.add (local.get $q) (i32.const 16)) (i64.load offset=8 (local.get $q)) (i64.load (local.get $q))
    (i64.extend_i32_u (local.get $i)) (i64.const 5))
  (local.set $s (i32.xor (local.get $s) (i32.wrap_i64 (i64.load offset=24 (local.get $q)))))"""
QAT = "(i32.add (local.get $q) (local.get $i))"
_BYTE = f"(i32.store8 offset={{0}} {QAT} (i32.xor (i32.load8_s offset={{0}} {AT}) (i32.load8_u offset=1{{0}} {AT})))"
BYTES, DESCENDING = ("".join(_BYTE.format(j) for j in order) for order in (range(4), range(3, -1, -1)))
SHORTS = f"""(i32.store16 {AT} (i32.shr_u (i32.mul (i32.load16_u {AT}) (local.get $i)) (i32.const 1)))
  (local.set $t
    (i32.shr_u (i32.mul (i32.add (local.get $i) (i32.const 2)) (i32.load16_u offset=2 {AT})) (i32.const 1)))
  (i32.store16 (i32.add {AT} (i32.const 2)) (local.get $t))"""
CLAMPED = f"""(local.set $t (i32.load16_s {AT}))
  (local.set $t (select (local.get $t) (i32.const 5000) (i32.lt_s (local.get $t) (i32.const 5000))))
  (local.set $u (i32.load16_s offset=2 {AT}))
  (local.set $u (select (local.get $u) (i32.const 5000) (i32.lt_s (local.get $u) (i32.const 5000))))
  (local.set $s (i32.add (local.get $u) (i32.add (local.get $t) (local.get $s))))"""
SHIFTED = f"""(local.set $t (i32.load16_u {AT})) (i32.store16 offset=2 {QAT} (local.get $t))
  (local.set $u (i32.load16_u offset=2 {AT})) (i32.store16 offset=4 {QAT} (local.get $u))"""
NEIGHBOURS = f"""(i32.store8 offset=9 {AT} (i32.add (local.get $t) (local.tee $t (i32.load8_s offset=2 {AT}))))
  (local.set $s (i32.xor (local.get $s) (local.get $u))) (local.set $u (i32.load {QAT}))"""
WIDE = f"""(local.set $w (i64.add (i64.load16_u offset=2 {AT}) (i64.add (local.get $w) (i64.load16_u {AT}))))
  (local.set $s (i32.wrap_i64 (local.get $w)))"""

BODIES = {
    "fill": FILL,
    "copy": COPY,
    "sum": SUM,
    "nested": NESTED,
    "twice": TWICE,
    "divided": DIVIDED,
    "scratch": SCRATCH,
    "product": PRODUCT,
    "bytes": BYTES,
    "descending": DESCENDING,
    "neighbours": NEIGHBOURS,
    "shorts": SHORTS,
    "clamped": CLAMPED,
    "shifted": SHIFTED,
    "wide": WIDE,
}
CONDITIONS = {
    "ne": (UP, "(i32.ne (local.get $i) (local.get $n))"),
    "lt_u": (UP, "(i32.lt_u (local.get $i) (local.get $n))"),
    "le_s": (UP, "(i32.le_s (local.get $i) (local.get $n))"),
    "gt_u mirrored": (UP, "(i32.gt_u (local.get $n) (local.get $i))"),
    "not ge": (UP, "(i32.eqz (i32.ge_s (local.get $i) (local.get $n)))"),
    "ge_s down": (DOWN, "(i32.ge_s (local.get $i) (i32.sub (i32.const 0) (local.get $n)))"),
    "gt_s down": (DOWN, "(i32.gt_s (local.get $i) (i32.sub (i32.const 0) (local.get $n)))"),
    "to zero": (UP + "(local.set $n (i32.sub (local.get $n) (i32.const 4)))", "(local.get $n)"),
}

REROLLED = {"bytes": 4, "descending": 4, "shorts": 2, "clamped": 2, "shifted": 2, "wide": 2}
"""Body -> how many rounds a round is cut into."""

RELOADED = {"neighbours": 2}
"""Body -> how many locals begin a round as what the one before has loaded."""

PLACES = [
    (0, 4000, 1000),
    (4000, 0, 1000),
    (0, 2, 1000),  # overlapping
    (2, 0, 1000),
    (100, 104, 4),  # one round
    (PAGE - 100, 0, 100),  # to the last byte
    (PAGE - 100, 0, 96),
    (PAGE - 100, 0, 104),  # beyond it
    (0, PAGE - 96, 96),
    (0, PAGE - 100, 4000),  # the second of two accesses leaves the memory
    (PAGE - 64, PAGE - 4000, 4000),
    (0xFFFFFFF0, 0, 400),  # the address wraps around: outside first
    (0xFFFFFFF0, 4000, 400),
    (400, 4000, 0),
    (400, 4000, 6),  # never equal: on until it traps
    (40, 4000, 0x7FFFFFFF),
    (40, 4000, 0xFFFFFFFC),
    (2000, 4000, 1000),
    (0, 400, 1000),  # with a place in the middle that is written over and over
    (3996, 3000, 996),
    (3000, 3996, 996),
    (40, 4000, 1000),  # downwards: below address 0
]


def _module(body: str, condition: str) -> bytes:
    loop = _loop(BODIES[body], *CONDITIONS[condition])
    return text_to_binary(f'(module (memory (export "memory") 1) {loop} {LIBRARY})')


def _factor(loop: CheckedLoop) -> int:
    rerolled = reroll(loop, [*["i32"] * 7, "i64"])
    return rerolled.factor if rerolled is not None else 1


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("body", BODIES)
def test_like_the_loop_itself(body: str, condition: str) -> None:
    """Results, traps, and all of the memory are those of a level that copies no loops."""
    wasm = _module(body, condition)
    module = decode_module(wasm)
    loops = find_loops(module, module.func_type(0), decode_code(module, 0), Inliner(module).product_memory)
    assert [bool(loop.scratch) for loop in loops.values()] == [body in {"scratch", "product"}]
    assert [_factor(loop) for loop in loops.values()] == [
        REROLLED.get(body, 1) if ("down" in condition) == (body == "descending") else 1
    ]
    local_types = [*["i32"] * 7, "i64"]
    assert [len(reloads(loop, local_types)) for loop in loops.values()] == [RELOADED.get(body, 0)]
    instances = [
        lucet.Region(1).new_instance(lucet.Module.from_bytes(lucet.compile(wasm, opt_level=level)))
        for level in ("fast", "default", "best")
    ]
    contents = bytes(range(251)) * 262
    for p, q, n in PLACES:
        seen = []
        for instance in instances:
            instance.memory.write(0, contents[:PAGE])
            try:
                outcome: object = instance.run("f", p, q, n)
            except lucet.Trap as trap:
                outcome = trap.code, trap.offset
            seen.append((outcome, instance.memory.read(0, PAGE)))
        assert seen[0] == seen[1] == seen[2], (p, q, n)


@pytest.mark.parametrize(
    "loop",
    [
        "(loop $l (call $f) (i32.store (local.get 0) (local.get 1)) {next})",
        "(loop $l (i32.store (i32.load (local.get 0)) (local.get 1)) {next})",
        "(loop $l (i32.store (i32.div_u (local.get 0) (local.get 1)) (local.get 1)) {next})",
        "(loop $l (i32.store (local.get 0) (i32.div_s (local.get 0) (i32.const -1))) {next})",
        "(loop $l (i32.store (local.get 0) (memory.grow (i32.const 0))) {next})",
        "(block $out (loop $l (br_if $out (i32.load (local.get 0))) {next}))",
        "(loop $l (if (local.get 1) (then (local.set 0 (i32.const 5)))) (i32.store8 (local.get 0) (i32.const 1)) "
        "{next})",
        "(loop $l (i32.store (local.get 0) (i32.trunc_f64_s (f64.const 5))) {next})",
        "(loop $l (global.set 0 (i32.const 5)) (i32.store (local.get 0) (local.get 1)) {next})",
        "(loop $l (i32.store (local.get 0) (local.get 1)) (local.set 0 (i32.add (local.get 0) (local.get 1))) "
        "(br_if $l (i32.ne (local.get 0) (i32.const 400))))",
        "(loop $l (i32.store (local.get 0) (local.get 1)) (br_if $l (i32.ne (local.get 0) (i32.const 400))))",
        "(loop $l (i32.store (local.get 0) (local.get 1)) (local.set 0 (i32.add (local.get 0) (i32.const 4))) "
        "(br_if $l (i32.eq (local.get 0) (i32.const 400))))",
    ],
)
def test_loops_that_are_not_copied(loop: str) -> None:
    step = "(local.set 0 (i32.add (local.get 0) (i32.const 4))) (br_if $l (i32.ne (local.get 0) (i32.const 400)))"
    text = f"""(module (memory 1) (global (mut i32) (i32.const 0)) (func $g (param i32 i32) {loop.format(next=step)})
      (func $f))"""
    module = decode_module(text_to_binary(text))
    assert not find_loops(module, module.func_type(0), decode_code(module, 0))


@pytest.mark.parametrize(
    "body",
    [
        "(i64.store (local.get 1) (i64.add (i64.load (local.get 1)) (i64.const 1)))",
        "(i64.store (local.get 1) (i64.const 1)) (i64.store offset=4 (local.get 1) (i64.const 2))",
        "(i64.store (local.get 1) (i64.const 1)) (drop (i64.load offset=4 (local.get 1)))",
        "(i64.store (local.get 1) (i64.const 1)) (i64.store32 (local.get 1) (i64.const 2))",
        "(if (local.get 0) (then (i64.store (local.get 1) (i64.const 1))))",
        "(i64.store (local.get 0) (i64.const 1))",
        "(drop (i64.load (local.get 1)))",
    ],
)
def test_what_is_no_scratch(body: str) -> None:
    text = f"""(module (memory 1) (func (param i32 i32) (loop $l {body}
      (local.set 0 (i32.add (local.get 0) (i32.const 4))) (br_if $l (i32.ne (local.get 0) (i32.const 400))))))"""
    module = decode_module(text_to_binary(text))
    (loop,) = find_loops(module, module.func_type(0), decode_code(module, 0)).values()
    assert not loop.scratch


STORE_BOTH = "(i32.store16 {at} (local.get 2)) (i32.store16 offset=2 {at} (local.get 3))"
LOAD_BOTH = "(local.set 2 (i32.load16_u (local.get 0))) (local.set 3 (i32.load16_u offset=2 (local.get 0)))"


@pytest.mark.parametrize(
    ("body", "factor"),
    [
        (LOAD_BOTH + STORE_BOTH.format(at="(local.get 0)"), 2),
        # The second load may find what the first store has left, if it comes behind it.
        (LOAD_BOTH + STORE_BOTH.format(at="(i32.add (local.get 0) (local.get 1))"), 1),
        (LOAD_BOTH + "(i32.store16 offset=2 (local.get 0) (local.get 2)) "
         "(i32.store16 offset=4 (local.get 0) (local.get 3))", 1),
        ("(i32.store16 (local.get 0) (i32.const 1)) (i32.store16 offset=2 (local.get 0) (i32.const 1))", 2),
        ("(i32.store16 (local.get 0) (i32.const 1)) (i32.store16 offset=2 (local.get 0) (i32.const 2))", 1),
        ("(i32.store16 (local.get 0) (local.get 0)) (i32.store16 offset=2 (local.get 0) (local.get 0))", 1),
        ("(i32.store16 (local.get 0) (i32.const 1)) (i32.store16 offset=1 (local.get 0) (i32.const 1))", 1),
        ("(i32.store16 offset=2 (local.get 0) (i32.const 1)) (i32.store16 (local.get 0) (i32.const 1))", 1),
        # What is carried over is used in between.
        ("(local.set 2 (i32.add (local.get 2) (i32.load16_u (local.get 0)))) (i32.store16 (local.get 0) (local.get 2))"
         "(local.set 2 (i32.add (local.get 2) (i32.load16_u offset=2 (local.get 0)))) "
         "(i32.store16 offset=2 (local.get 0) (local.get 2))", 1),
        ("(local.set 2 (i32.add (local.get 2) (i32.load16_u (local.get 0)))) "
         "(local.set 2 (i32.sub (local.get 2) (i32.load16_u offset=2 (local.get 0))))", 1),
        ("(local.set 2 (i32.sub (local.get 2) (i32.load16_u (local.get 0)))) "
         "(local.set 2 (i32.sub (i32.load16_u offset=2 (local.get 0)) (local.get 2)))", 1),
        ("(local.set 4 (f32.add (local.get 4) (f32.load (local.get 0))))", 1),
        # Two locals change places.
        ("(local.set 5 (local.get 2)) (local.set 2 (local.get 3)) (local.set 3 (local.get 5)) "
         "(i32.store16 (local.get 0) (local.get 2)) (i32.store16 offset=2 (local.get 0) (local.get 2))", 1),
    ],
)  # fmt: skip
def test_what_is_unrolled(body: str, factor: int) -> None:
    text = f"""(module (memory 1) (func (param i32 i32) (local i32 i32 f32 i32) (loop $l {body}
      (local.set 0 (i32.add (local.get 0) (i32.const 4))) (br_if $l (i32.ne (local.get 0) (i32.const 400))))))"""
    module = decode_module(text_to_binary(text))
    (loop,) = find_loops(module, module.func_type(0), decode_code(module, 0)).values()
    rerolled = reroll(loop, ["i32"] * 4 + ["float", "i32"])
    assert (rerolled.factor if rerolled is not None else 1) == factor


@pytest.mark.parametrize(
    ("value", "serial"),
    [
        ("(i32.xor (i32.shl (local.get 2) (i32.const 5)) (i32.load (local.get 0)))", True),
        ("(i32.add (i32.const 3) (i32.rotl (i32.load (local.get 0)) (local.get 2)))", True),
        ("(i32.add (local.get 2) (i32.shl (i32.load (local.get 0)) (i32.const 3)))", False),
        ("(i32.shl (i32.load (local.get 0)) (local.get 1))", False),
        ("(i32.shl (local.get 0) (i32.const 3))", False),
    ],
)
def test_loops_that_are_serial(value: str, serial: bool) -> None:
    text = f"""(module (memory 1) (func (param i32 i32) (local i32) (loop $l (local.set 2 {value})
      (i32.store (local.get 0) (local.get 2))
      (local.set 0 (i32.add (local.get 0) (i32.const 4))) (br_if $l (i32.ne (local.get 0) (i32.const 400))))))"""
    wasm = text_to_binary(text)
    module = decode_module(wasm)
    (loop,) = find_loops(module, module.func_type(0), decode_code(module, 0)).values()
    assert is_serial(loop, ["i32"] * 3) == serial
    # The copy of a loop has pointers that are made of integers.
    assert (b"inttoptr" in compile_module(wasm, Options(), emit="ir")) == (not serial)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("(i32.store8 offset=8 (local.get 0) (local.get 2)) (local.set 2 (i32.load (local.get 0)))", True),
        ("(local.set 2 (i32.load (local.get 0))) (i32.store8 offset=8 (local.get 0) (local.get 3))", False),
        ("(i32.store offset=8 (local.get 0) (local.get 2)) (local.set 2 (i32.load (local.get 0))) "
         "(i32.store8 offset=3 (local.get 0) (i32.const 1))", False),
        ("(i32.store offset=8 (local.get 0) (local.get 2)) (local.set 2 (i32.load (local.get 0))) "
         "(i32.store8 (local.get 1) (i32.const 1))", False),
        ("(i32.store offset=8 (local.get 0) (local.get 2)) (local.set 2 (i32.load (local.get 1)))", False),
    ],
)  # fmt: skip
def test_what_is_loaded_again(body: str, found: bool) -> None:
    """What nothing uses, what was overwritten since then, and what stays where it is, is not."""
    text = f"""(module (memory 1) (func (param i32 i32) (local i32 i32) (loop $l {body}
      (local.set 0 (i32.add (local.get 0) (i32.const 4))) (br_if $l (i32.ne (local.get 0) (i32.const 400))))))"""
    module = decode_module(text_to_binary(text))
    (loop,) = find_loops(module, module.func_type(0), decode_code(module, 0)).values()
    assert bool(reloads(loop, ["i32"] * 4)) == found
