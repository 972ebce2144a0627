"""examples/udf.py: every way gives the same column, and Func.map takes a twentieth of wasmtime-py's time at most."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "examples" / "udf.py"


@pytest.mark.slow
def test_a_column() -> None:
    run = subprocess.run([sys.executable, PROGRAM, "300000"], capture_output=True, text=True, check=True)
    found = re.findall(r"^(.{34}) *([0-9.]+) ns a row", run.stdout, re.MULTILINE)
    times = {way.strip(): float(ns) for way, ns in found}
    mapped = times["Lucet, Func.map"]
    assert times["Lucet, a call for each row"] > 3 * mapped, run.stdout
    if "wasmtime is not installed" not in run.stdout:
        assert times["wasmtime-py, a call for each row"] > 20 * mapped, run.stdout
    assert re.search(r"Arrow: a new column of 300000 rows, double|pyarrow is not installed", run.stdout)
