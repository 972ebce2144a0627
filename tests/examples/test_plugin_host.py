"""examples/plugin_host.py does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "examples" / "plugin_host.py"

EXPECTED = """\
texts are cut to 9 bytes
shout: 'WHAT A DAY'
shorten: 'What a da'
crash: OUT_OF_BOUNDS_MEMORY_ACCESS in function transform
hang: took too long
lie: named bytes that it does not have: 4294967295 bytes at 1024 are outside the memory of 65536 bytes
logged: shout: shouting
"""


def test_the_plugin_host_runs() -> None:
    run = subprocess.run([sys.executable, PROGRAM, "What a day"], capture_output=True, text=True, check=True)
    assert run.stdout == EXPECTED
