"""Inlined functions: their results, where they trap, and __multi3 in the forms that compilers give it."""

from __future__ import annotations

import random

import pytest

import lucet
from lucet.compile.multi3 import MULTI3, is_multi3
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.text import text_to_binary
from tests.compile.conftest import Instantiate

LIBRARY = """(func $multi3 (param i32 i64 i64 i64 i64) (local i64)
  local.get 0 local.get 4 local.get 1 i64.mul local.get 2 local.get 3 i64.mul i64.add local.get 3 i64.const 32
  i64.shr_u local.tee 2 local.get 1 i64.const 32 i64.shr_u local.tee 4 i64.mul i64.add local.get 3
  i64.const 4294967295 i64.and local.tee 3 local.get 1 i64.const 4294967295 i64.and local.tee 1 i64.mul local.tee 5
  i64.const 32 i64.shr_u local.get 3 local.get 4 i64.mul i64.add local.tee 3 i64.const 32 i64.shr_u i64.add
  local.get 3 i64.const 4294967295 i64.and local.get 2 local.get 1 i64.mul i64.add local.tee 1 i64.const 32 i64.shr_u
  i64.add i64.store offset=8 local.get 0 local.get 1 i64.const 32 i64.shl local.get 5 i64.const 4294967295 i64.and
  i64.or i64.store)"""
CARRIES = """(func $multi3 (param i32 i64 i64 i64 i64) (local i64 i64 i64 i64 i64 i64)
  local.get 0 local.get 3 i64.const 4294967295 i64.and local.tee 5 local.get 1 i64.const 4294967295 i64.and
  local.tee 6 i64.mul local.tee 7 local.get 3 i64.const 32 i64.shr_u local.tee 8 local.get 6 i64.mul local.tee 6
  local.get 5 local.get 1 i64.const 32 i64.shr_u local.tee 9 i64.mul i64.add local.tee 5 i64.const 32 i64.shl
  i64.add local.tee 10 i64.store local.get 0 local.get 8 local.get 9 i64.mul local.get 5 local.get 6 i64.lt_u
  i64.extend_i32_u i64.const 32 i64.shl local.get 5 i64.const 32 i64.shr_u i64.or i64.add local.get 10 local.get 7
  i64.lt_u i64.extend_i32_u i64.add local.get 4 local.get 1 i64.mul local.get 3 local.get 2 i64.mul i64.add i64.add
  i64.store offset=8)"""
WRONG = {
    "shift": LIBRARY.replace("i64.const 32\n  i64.shr_u", "i64.const 31\n  i64.shr_u"),
    "mask": LIBRARY.replace("i64.const 4294967295 i64.and local.tee 3", "i64.const 4294967294 i64.and local.tee 3"),
    "place": LIBRARY.replace("offset=8", "offset=16"),
    "carry": CARRIES.replace("local.get 10 local.get 7\n", "local.get 7 local.get 10\n"),
    "once": LIBRARY.replace("i64.or i64.store)", "i64.or drop drop)"),
}


def _module(multi3: str) -> str:
    return f"""(module (memory (export "memory") 1) {multi3}
      (func (export "f") (param i32 i64 i64 i64 i64) (result i64 i64)
        (call $multi3 (i32.add (local.get 0) (i32.const 16)) (local.get 1) (local.get 2) (local.get 3) (local.get 4))
        (i64.load offset=16 (local.get 0)) (i64.load offset=24 (local.get 0))))"""


def _recognised(multi3: str) -> bool:
    module = decode_module(text_to_binary(_module(multi3)))
    return is_multi3(module.func_type(0), decode_code(module, 0))


@pytest.mark.parametrize("multi3", [LIBRARY, CARRIES], ids=["library", "carries"])
def test_multi3(instantiate: Instantiate, multi3: str) -> None:
    assert _recognised(multi3)
    instance = instantiate(_module(multi3))
    chooser = random.Random(1)
    words = [0, 1, 0xFFFFFFFF, 1 << 32, (1 << 64) - 1, *(chooser.getrandbits(64) for _ in range(4))]
    for a in words:
        for b in words:
            c, d = chooser.choice(words), chooser.choice(words)
            low, high = instance.run("f", 64, a, c, b, d)
            product = (a + (c << 64)) * (b + (d << 64))
            assert (low % (1 << 64), high % (1 << 64)) == (product % (1 << 64), (product >> 64) % (1 << 64))
    with pytest.raises(lucet.Trap):
        instance.run("f", 65536 - 24, 3, 0, 5, 0)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_almost_multi3_is_not(wrong: str) -> None:
    text = WRONG[wrong]
    assert text not in (LIBRARY, CARRIES)
    assert decode_module(text_to_binary(_module(text))).func_type(0) == MULTI3
    assert not _recognised(text)


def test_a_trap_in_an_inlined_function_is_there(instantiate: Instantiate) -> None:
    for order in (("{small} {caller}"), ("{caller} {small}")):
        text = "(module (memory 1) {})".format(
            order.format(
                small="""(func $small (export "small") (param i32) (result i32) (local i32)
                    (local.set 1 (i32.add (local.get 1) (i32.div_u (i32.const 100) (local.get 0))))
                    (i32.add (local.get 1) (i32.load (i32.sub (local.get 0) (i32.const 1)))))""",
                caller="""(func (export "caller") (param $n i32) (result i32) (local $sum i32)
                    (loop $l
                      (local.set $sum (i32.add (local.get $sum) (call $small (local.get $n))))
                      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                    (i32.add (local.get $sum) (call $small (local.get $n))))""",
            )
        )
        instance = instantiate(text)
        assert instance.run("small", 7) == 14
        for argument in (0, 70000):
            caught = []
            for name in ("small", "caller"):
                with pytest.raises(lucet.Trap) as trap:
                    instance.run(name, argument)
                caught.append((trap.value.code, trap.value.function, trap.value.offset))
            if argument:
                assert caught[0] == caught[1]
            assert caught[0][1] == caught[1][1] == "small"


def test_what_a_store_left_is_what_a_load_finds(instantiate: Instantiate) -> None:
    instance = instantiate(
        """(module (memory (export "memory") 1)
          (func (export "f") (param $p i32) (param $q i32) (param $x i64) (result i64 i64 i64 i64)
            (i64.store offset=8 (local.get $p) (local.get $x))
            (i64.load (i32.add (local.get $p) (i32.const 8)))
            (i64.store32 offset=12 (local.get $p) (i64.const 5))
            (i64.load offset=8 (local.get $p))
            (i64.store offset=8 (local.get $p) (local.get $x))
            (i64.store8 (local.get $q) (i64.const 77))
            (i64.load offset=8 (local.get $p))
            (i64.store offset=16 (local.get $p) (i64.const -1))
            (i64.store offset=8 (local.get $p) (i64.const 3))
            (i64.load offset=16 (local.get $p)))
          (func (export "wraps") (param $p i32) (result i32)
            (i32.store (i32.add (local.get $p) (i32.const 16)) (i32.const 9))
            (i32.load offset=16 (local.get $p)))
          (func (export "narrow") (param $p i32) (param $x i32) (result i32 i32)
            (i32.store8 (local.get $p) (local.get $x))
            (i32.load8_s (local.get $p)) (i32.load8_u (local.get $p))))"""
    )
    x = 0x1122334455667788
    assert instance.run("f", 100, 900, x) == (x, x & 0xFFFFFFFF | 5 << 32, x, -1)
    assert instance.run("f", 100, 110, x) == (x, x & 0xFFFFFFFF | 5 << 32, x & ~0xFF0000 | 77 << 16, -1)
    assert instance.run("wraps", 40) == 9
    with pytest.raises(lucet.Trap, match="out of bounds memory access"):
        instance.run("wraps", -8)
    assert instance.memory.read_u32(8) == 9
    assert instance.run("narrow", 5, 0x1F0) == (-16, 240)
