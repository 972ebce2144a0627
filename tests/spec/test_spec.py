"""A part of the official suite that is quick and touches everything; all of it: python -m tests.spec."""

from __future__ import annotations

from tests.shared import shared_path
from tests.spec.command import run_spec

SCRIPTS = """
    address align block br_table bulk call call_indirect comments conversions data elem endianness exports
    f32 f64_bitwise fac float_exprs float_literals func_ptrs global i32 i64 id if imports int_exprs
    left-to-right linking local_tee loop memory memory_copy memory_fill memory_init nop ref_func return_call
    return_call_indirect select skip-stack-guard-page stack start switch table_copy table_fill table_get
    table_grow table_init table_set token traps unreached-invalid unwind
"""


def test_a_part_of_the_official_suite() -> None:
    status, output = run_spec(shared_path("spec").parent, "--timeout", "50", *SCRIPTS.split())
    assert status == 0, output
    assert f"{len(SCRIPTS.split())} scripts: " in output
