"""The examples do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared import shared_path

EXAMPLES = Path(__file__).parents[2] / "examples"

EXPECTED = {
    "agent_tool.py": """\
'2 * 3 + 4': 10
'1 +!': failed: [stopped: limit of time]
'import os': failed: [crashed: unreachable in _start at offset """,
    "asyncio_service.py": """\
200 customers asked for 2000 prices
the one that never ends: TimeoutError
the one that asks for too much: no item 1001
free again: 202; one after the other, that would take 10 s
""",
    "threads.py": """\
33860 primes below 400000, counted by 2 threads
the one that never ends: interrupted in forever
""",
}


def output(*arguments: str | Path) -> str:
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("name", EXPECTED)
def test_it_runs(name: str) -> None:
    assert output(EXAMPLES / name).startswith(EXPECTED[name])


@pytest.mark.slow
def test_the_agent_writes_javascript() -> None:
    quickjs = shared_path("apps", "quickjs", "quickjs.wasm")
    codes = ["console.log([1, 2, 3].map(n => n * n).join())", "throw new Error('no')", "for (;;);"]
    lines = output(EXAMPLES / "agent_tool.py", quickjs, *codes).splitlines()
    assert lines[0].endswith(": 1,4,9")
    assert any("Error: no" in line for line in lines[1:])
    assert lines[-1].endswith("[stopped: limit of time]")
