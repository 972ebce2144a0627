"""Options that decide what may be used, how much address space is reserved, and what imports are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lucet
from lucet.abi.artifact_reader import read_artifact
from lucet.abi.tables import CONSTANTS
from lucet.compile.driver import emit_ir
from lucet.compile.imports import read_bindings
from lucet.compile.options import Options
from lucet.wasm.text import text_to_binary
from lucet.wasm.types import I32, FuncType

MEMORY = """(module (memory (export "memory") 1)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "far") (param i32) (result i32) (i32.load offset=65536 (local.get 0))))"""
IMPORTS = """(module
  (import "env" "a" (func $a (result i32))) (import "env" "b" (func $b (result i32))) (import "env" "m" (memory 1))
  (func (export "f") (result i32) (i32.sub (call $a) (call $b))))"""


def compiled(text: str, **options: object) -> lucet.Module:
    return lucet.Module.from_bytes(lucet.compile(text, opt_level="fast", workers=1, **options))  # type: ignore[arg-type]


def features(**options: object) -> set[str]:
    return set(Options(**options).features())  # type: ignore[arg-type]


def test_features_bring_what_they_need_and_take_along_what_needs_them() -> None:
    v2, v3 = features(target_cpu="x86-64-v2"), features(target_cpu="x86-64-v3")
    assert features(target_cpu="nehalem") == v2
    assert features(target_cpu="baseline", target_features=("+sse42",)) == {"SSSE3", "SSE4_1", "SSE4_2"}
    assert features(target_cpu="baseline", target_features=("+fma",)) == {"SSSE3", "SSE4_1", "SSE4_2", "AVX", "FMA"}
    assert features(target_features=("-avx",)) == v3 - {"AVX", "AVX2", "FMA", "F16C"}
    assert features(target_features=("-avx", "+avx")) == v3 - {"AVX2", "FMA", "F16C"}  # the later one wins
    assert features(target_features=("+sse3", "-lzcnt", "+lzcnt")) == v3


@pytest.mark.parametrize(
    "options",
    [
        {"target_features": ("avx",)},
        {"target_features": ("+mmx",)},
        {"target_features": ("+avx",), "target_cpu": "native"},
        {"guard_size": 100},
        {"min_reserved_size": -4096},
        {"max_reserved_size": 16 << 30},
        {"min_reserved_size": 8192, "max_reserved_size": 4096},
    ],
)
def test_bad_values_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|go with"):
        Options(**options)  # type: ignore[arg-type]


def test_features_decide_the_code_and_what_the_artifact_requires() -> None:
    text = '(func (export "f") (param i64) (result i64) (i64.clz (local.get 0)))'
    with_, without = (lucet.compile(text, workers=1, target_features=one) for one in ((), ("-lzcnt",)))
    flag = CONSTANTS["LUCET_CPU_LZCNT"]
    assert read_artifact(with_).header["cpu_features"] & flag
    assert not read_artifact(without).header["cpu_features"] & flag
    lzcnt = b"\xf3\x48\x0f\xbd"
    assert lzcnt in with_
    assert lzcnt not in without
    for artifact in (with_, without):
        instance = lucet.Region(slots=1).new_instance(lucet.Module.from_bytes(artifact))
        assert instance.run("f", 1) == 63


def test_a_reservation_bounds_growth() -> None:
    instance = lucet.Region(slots=1).new_instance(compiled(MEMORY, min_reserved_size=3 << 16))
    assert [instance.run("grow", 3), instance.run("grow", 2), instance.run("grow", 1)] == [-1, 1, -1]
    assert instance.run("far", (2 << 16) - 4) == 0
    with pytest.raises(lucet.Trap) as caught:
        instance.run("far", (2 << 16) - 3)
    assert caught.value.code == "OUT_OF_BOUNDS_MEMORY_ACCESS"
    with pytest.raises(lucet.MemoryAccessError):
        instance.memory.read(3 << 16, 1)


def test_a_memory_that_begins_larger_is_reserved_whole_or_refused() -> None:
    large = MEMORY.replace('"memory") 1', '"memory") 5')
    instance = lucet.Region(slots=1).new_instance(compiled(large, min_reserved_size=1 << 16))
    assert instance.run("grow", 1) == -1
    assert instance.memory.pages == 5
    with pytest.raises(lucet.LimitExceeded, match="max_reserved_size is 65536"):
        compiled(large, max_reserved_size=1 << 16)


def test_a_module_with_a_reservation_fits_a_small_region() -> None:
    small = lucet.Region(slots=1, memory_reserved=1 << 20, memory_guard=0)
    with pytest.raises(lucet.LimitsExceeded):
        small.new_instance(compiled(MEMORY))
    assert small.new_instance(compiled(MEMORY, max_reserved_size=1 << 20)).run("grow", 15) == 1


def test_accesses_beyond_the_guard_are_compared() -> None:
    binary = text_to_binary(MEMORY)
    assert "OUT_OF_BOUNDS" not in comparisons(binary, 1 << 20)
    assert comparisons(binary, 1 << 16) != comparisons(binary, 1 << 20)
    module = compiled(MEMORY, guard_size=4096)
    instance = lucet.Region(slots=1, memory_guard=1 << 16).new_instance(module)
    with pytest.raises(lucet.Trap) as caught:
        instance.run("far", -1)
    assert caught.value.code == "OUT_OF_BOUNDS_MEMORY_ACCESS"


def comparisons(binary: bytes, guard_size: int) -> str:
    return emit_ir(binary, Options(guard_size=guard_size))


# ---- imports


def test_bindings_are_the_names_that_the_host_has() -> None:
    module = compiled(IMPORTS, bindings={"env": {"a": "first", "b": "other::second"}})
    assert [(one.module, one.name) for one in module.imports] == [("env", "first"), ("other", "second"), ("env", "m")]
    region = lucet.Region(slots=2)
    memory = region.new_instance(compiled(MEMORY)).export("memory")
    answer = lucet.host_function(_answer)
    with pytest.raises(lucet.LinkError):
        region.new_instance(module, {"env": {"a": answer, "b": answer, "m": memory}})
    two = lucet.host_function(_two)
    instance = region.new_instance(module, {"env": {"first": answer, "m": memory}, "other": {"second": two}})
    assert instance.run("f") == 40


def _answer(caller: lucet.Instance) -> lucet.i32:
    return lucet.i32(42)


def _two(caller: lucet.Instance) -> lucet.i32:
    return lucet.i32(2)


def test_all_imports_that_are_not_bound_are_named() -> None:
    with pytest.raises(lucet.LinkError, match=r"env\.a is not bound; env\.b is not bound"):
        compiled(IMPORTS, bindings={"env": {"c": "x"}})


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["{"], "must be JSON"),
        (["[" * 100_000], "must be JSON"),
        (["[]"], "must be {"),
        (['{"env": 1}'], "must be {"),
        (['{"env": {"a": 1}}'], "env.a is bound to something else"),
        (['{"env": {"a": "x"}}', '{"env": {"a": "y"}}'], "env.a is bound to two names"),
    ],
)
def test_bad_bindings_are_refused(texts: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("{", r"\{")):
        read_bindings(texts)
    assert read_bindings(['{"env": {"a": "x"}}', '{"env": {"a": "x"}}']) == (("env", "a", "env", "x"),)


def test_imports_that_are_not_described_are_all_named() -> None:
    functions = IMPORTS.replace('(import "env" "m" (memory 1))', "")
    described = {"env": {"a": FuncType((), (I32,)), "b": FuncType((), (I32,))}}
    compiled(functions, validate=described)
    with pytest.raises(lucet.LinkError, match=r"env\.m is no function"):
        compiled(IMPORTS, validate=described)
    with pytest.raises(lucet.LinkError, match=r"there is no env\.a; env\.b is \[\] -> \[\], not \[\] -> \[i32\]"):
        compiled(functions, validate={"env": {"b": FuncType()}})


def test_a_long_list_of_problems_is_cut() -> None:
    text = "".join(f'(import "env" "f{index}" (func))' for index in range(1000))
    with pytest.raises(lucet.LinkError, match="and 980 more") as caught:
        compiled(text, validate={})
    assert len(str(caught.value)) < 1000


def test_bindings_are_part_of_the_cache_key(tmp_path: Path) -> None:
    from lucet.compile.cache import cache_key

    keys = {
        cache_key(b"", Options()),
        cache_key(b"", Options(bindings=read_bindings([json.dumps({"env": {"a": "x"}})]))),
        cache_key(b"", Options(guard_size=4096)),
        cache_key(b"", Options(target_features=("-avx",))),
    }
    assert len(keys) == 4
