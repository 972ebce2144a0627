"""Profiles: the module that counts computes the same and counts right, and what is hot is optimised."""

from __future__ import annotations

import pytest

import lucet
from lucet.compile.options import Options
from lucet.compile.profile import EXPORT, Profile, instrument
from lucet.wasm.decode import decode_module
from lucet.wasm.text import text_to_binary

SUM = """(func $sum (export "sum") (param $n i32) (result i32) (local $s i32) (local $i i32)
  (loop $l
    (local.set $s (i32.add (local.get $s) (i32.load8_u (local.get $i))))
    (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
  (local.get $s))"""
REST = """(func $never (export "never") (param i32) (result i32) (local.get 0))
  (func $once (export "once") (result i32) (call $never (i32.const 3)))"""
IMPORT = '(import "env" "host" (func (param i32)))'

MODULES = {
    "memory": f'(module {IMPORT} (memory 1) (data (i32.const 3) "abc") {SUM} {REST} (func (call 0 (i32.const 1))))',
    "no memory": f'(module (global (mut i32) (i32.const 5)) {REST} (func (export "sum") (param i32) (result i32) '
    "(loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (i32.const 294)))",
    "more sections": f"""(module {IMPORT} (memory 1) (data $d "xyz") (data (i32.const 3) "abc") (table 2 funcref)
      (elem (i32.const 0) $sum) (tag (param i32)) {SUM} {REST}
      (func (block (try_table (catch_all 0) (throw 0 (i32.const 1)))) (memory.init $d (i32.const 0) (i32.const 0)
        (i32.const 1))))""",
}


def _run(wasm: bytes, opt_level: str = "default", hot: tuple[int, ...] | None = None) -> lucet.Instance:
    module = lucet.Module.from_bytes(lucet.compile(wasm, opt_level=opt_level, hot=hot))
    imports = {"env": {"host": lucet.host_function(_host)}} if module.imports else {}
    return lucet.Region(1).new_instance(module, imports)


def _host(_: int) -> None:
    pass


@pytest.mark.parametrize("name", MODULES)
def test_counts(name: str) -> None:
    wasm = text_to_binary(MODULES[name])
    instance = _run(instrument(wasm))
    assert instance.run("sum", 1000) == 294
    assert instance.run("sum", 200) == 294
    assert instance.run("once") == 3
    counters = instance.exports[EXPORT]
    assert isinstance(counters, lucet.Memory)
    profile = Profile.of(wasm, counters.read(0, len(counters)))
    module = decode_module(wasm)
    indices = {export.name: export.index for export in module.exports}
    assert set(profile.weights) == set(indices.values())
    # Instructions in the loop, with its end; 2 and 3 in the other functions.
    loop = 6 if name == "no memory" else 13
    assert loop * 1150 < profile.weights[indices["sum"]] < loop * 1250
    assert profile.weights[indices["never"]] == 2
    assert profile.weights[indices["once"]] == 3
    assert profile.hot(wasm) == (indices["sum"],)
    assert profile.hot(wasm, 1.0) == tuple(sorted(indices.values()))
    assert Profile.from_bytes(profile.to_bytes()) == profile
    for opt_level in ("fast", "default", "best"):
        assert _run(wasm, opt_level, profile.hot(wasm)).run("sum", 1000) == 294


def test_only_the_hot_functions_are_optimised_hard() -> None:
    from lucet.compile.driver import compile_module

    wasm = text_to_binary(f"(module (memory 1) {SUM} {SUM.replace('sum', 'other')})")
    vectors = {}
    for hot in (None, (), (0,), (0, 1)):
        asm = compile_module(wasm, Options(opt_level="best", hot=hot), emit="asm").decode()
        vectors[hot] = asm.count("vpmovzxbd")
    assert vectors[()] == 0
    assert 0 < vectors[0,] < vectors[0, 1] == vectors[None]


def test_bad_profiles() -> None:
    for data in (b"", b"[]", b"{}", b'{"format": "lucet profile 2"}', b"\xff"):
        with pytest.raises(ValueError, match="not a profile"):
            Profile.from_bytes(data)
    with pytest.raises(ValueError, match="another module"):
        Profile(module="00", weights={}).hot(b"")
    taken = text_to_binary(f'(module (memory (export "{EXPORT}") 1))')
    with pytest.raises(lucet.CompileError, match="exports lucet:profile already"):
        instrument(taken)
    with pytest.raises(lucet.CompileError):
        instrument(text_to_binary("(module (func i32.add drop))"))
