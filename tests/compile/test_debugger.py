"""What gdb shows of a guest that traps: functions by name always, source lines of a module with DWARF and -g."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lucet
from lucet.wasm.text import text_to_binary
from lucet.wasm.text_encode import name, sized
from tests.unit.test_dwarf import LINE_STR, program, unit

TEXT = """(module
  (func $inner (param i32) (result i32) unreachable)
  (func $outer (export "outer") (param i32) (result i32) (i32.add (call $inner (local.get 0)) (i32.const 1))))"""
RUN = """import sys, lucet
lucet.Region(slots=1).new_instance(lucet.Module.load(sys.argv[1])).run("outer", 1)
"""


def backtrace(path: Path) -> list[str]:
    """Where gdb stops, and the frames from there."""
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    (path.parent / "run.py").write_text(RUN)
    commands = ["set auto-load off", "handle SIGSEGV nostop noprint pass", "handle SIGILL stop", "run", "backtrace 4"]
    options = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-q", "-nx", "-batch", *options, "--args", sys.executable, path.parent / "run.py", path],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    frames = re.findall(r"^#\d+ .*", done.stdout, re.M)
    if not frames:
        pytest.skip(f"gdb cannot run programs here: {done.stderr[-200:]}")
    return frames


def test_functions_by_name(tmp_path: Path) -> None:
    path = tmp_path / "plain.so"
    path.write_bytes(lucet.compile(TEXT, opt_level="fast", workers=1))
    frames = backtrace(path)
    assert [re.search(r"\binner\b", frames[0]), re.search(r"\bouter\b", frames[1])].count(None) == 0
    assert "lucet_entry_" in frames[2]


def test_lines(tmp_path: Path) -> None:
    wasm = text_to_binary(TEXT)
    lines = b"".join(
        b"\0" + sized(name(section) + contents)
        for section, contents in ((".debug_line", unit(5, program(2))), (".debug_line_str", LINE_STR))
    )
    path = tmp_path / "debug.so"
    path.write_bytes(lucet.compile(wasm + lines, opt_level="fast", debug_info=True, workers=1))
    plain = lucet.compile(wasm + lines, opt_level="fast", workers=1)
    assert b".debug_info\0" in path.read_bytes()
    assert b".debug_info\0" not in plain
    frames = backtrace(path)
    assert re.search(r"inner \(\) at /w/a\.c:1[02]$", frames[0]), frames
    assert re.search(r"outer \(\) at /w/a\.c:12$", frames[1]), frames
