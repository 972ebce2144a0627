"""examples/udf.py: every way gives the same column, which the program checks itself."""

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
    ways = {way.strip() for way, _ in found}
    assert {"Lucet, Func.map", "Lucet, a call for each row"} <= ways, run.stdout
    assert "wasmtime-py, a call for each row" in ways or "wasmtime is not installed" in run.stdout
    assert re.search(r"Arrow: a new column of 300000 rows, double|pyarrow is not installed", run.stdout)
