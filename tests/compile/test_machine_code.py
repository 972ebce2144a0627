"""What fuzz/check_code.py shows of real code, and that it finds code that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

import lucet
from lucet.compile import artifact, llvm
from lucet.compile.chunks import chunk_text, whole_module
from lucet.compile.driver import _provenance
from lucet.compile.layout import make_plan
from lucet.compile.options import Options
from lucet.wasm.decode import decode_module
from lucet.wasm.text import text_to_binary
from tests.shared import shared_path

check_code = pytest.importorskip("fuzz.check_code", reason="capstone is not installed", exc_type=ImportError)

GOLDEN = Path(__file__).parents[1] / "golden"
PLAIN = "control floats globals integers rounding vectors wide".split()
"""Those without tables that change, static offsets beyond the guard, or memories of other kinds."""
MODULE = """(module (memory 1) (global $g (mut i32) (i32.const 0)) (table 4 funcref) (elem (i32.const 0) $load)
  (type $t (func (param i32 i32) (result i32)))
  (func $load (type $t)
    (i32.store offset=16 (local.get 0) (local.get 1))
    (i32.add (i32.load (local.get 0)) (i32.load8_u offset=77 (i32.add (local.get 0) (local.get 1)))))
  (func (export "sum") (type $t) (local $sum i32)
    (loop $again
      (local.set $sum (i32.add (local.get $sum) (i32.load (i32.shl (local.get 0) (i32.const 2)))))
      (global.set $g (call_indirect (type $t) (local.get $sum) (global.get $g) (i32.and (local.get 0) (i32.const 3))))
      (local.set 0 (i32.add (local.get 0) (local.get 1)))
      (br_if $again (i32.lt_u (local.get 0) (i32.const 1000))))
    (i32.load (call $load (local.get $sum) (local.get 1)))))"""


@pytest.mark.parametrize("name", PLAIN)
def test_every_access_of_small_modules_is_shown(opt_level: str, name: str) -> None:
    wasm = text_to_binary((GOLDEN / f"{name}.wat").read_text(encoding="utf-8"))
    report = check_code.check_artifact(lucet.compile(wasm, opt_level=opt_level))
    assert not report.not_shown


def test_forms(opt_level: str) -> None:
    report = check_code.check_artifact(lucet.compile(MODULE, opt_level=opt_level))
    assert not report.not_shown
    assert report.accesses["memory"] >= 5
    assert report.accesses["instance"] >= 2


def compiled(old: str, new: str) -> bytes:
    """MODULE, with the generated text changed."""
    options = Options(opt_level="none")
    wasm = text_to_binary(MODULE)
    module = decode_module(wasm)
    plan = make_plan(module, options)
    text = chunk_text(module, plan, whole_module(module))
    assert old in text
    llvm.initialize("none")
    return artifact.build(
        module, plan, [llvm.compile_text(text.replace(old, new), options)], _provenance(wasm, options, module)
    )


def test_nothing_was_wrong_before() -> None:
    assert not check_code.check_artifact(compiled("zext i32", "zext i32")).not_shown


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("zext i32", "sext i32"),  # an index may be negative
        ("ptr %7, i64 77", "ptr %7, i64 8589934592"),  # beyond the guard
        ("ptr %vmctx, i64 -72", "ptr %vmctx, i64 -16777216"),  # not the instance any more
    ],
)
def test_wrong_code_is_found(old: str, new: str) -> None:
    assert check_code.check_artifact(compiled(old, new)).not_shown


@pytest.mark.slow
@pytest.mark.parametrize("level", ["none", "fast"])
def test_guests(level: str) -> None:
    """All but a few, which are pointers that were spilled on one of several ways to a place."""
    for path in sorted(shared_path("guests").glob("canon-c-*.wasm")):
        report = check_code.check_artifact(lucet.compile(path.read_bytes(), opt_level=level))
        assert report.accesses.total() > 1000
        assert len(report.not_shown) < report.accesses.total() / 200, report.not_shown[:10]
