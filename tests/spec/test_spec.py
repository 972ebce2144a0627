"""A part of the official suite that is quick and touches everything; all of it: python -m tests.spec."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.shared import shared_path

ROOT = Path(__file__).parents[2]

SCRIPTS = """
    address align block br_table bulk call call_indirect comments conversions data elem endianness exports
    f32 f64_bitwise fac float_exprs float_literals func_ptrs global i32 i64 id if imports int_exprs
    left-to-right linking local_tee loop memory memory_copy memory_fill memory_init nop ref_func return_call
    return_call_indirect select skip-stack-guard-page stack start switch table_copy table_fill table_get
    table_grow table_init table_set token traps unreached-invalid unwind
"""


def test_a_part_of_the_official_suite() -> None:
    suite = shared_path("spec")
    done = subprocess.run(
        [sys.executable, "-m", "tests.spec", "--timeout", "50", *SCRIPTS.split()],
        cwd=ROOT,
        env={**os.environ, "LUCET_SHARED": str(suite.parent)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(SCRIPTS.split())} scripts: " in done.stdout
