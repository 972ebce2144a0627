"""docs/terrarium.md: its files and commands, in their order, in one shell; what they print is what the page says."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")

from tests.docs.blocks import ROOT, blocks

PAGE = ROOT / "docs" / "terrarium.md"
MARK = "-- end of command --"
LISTENING = re.compile(r"lucet serve: ")
PATIENCE = 300


def free_ports() -> list[str]:
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return [str(probe.getsockname()[1]) for probe in (one, other)]


def expected(text: str) -> re.Pattern[str]:
    """ "..." in a line stands for anything in it, a line of three dots for any lines."""
    lines = []
    for line in text.splitlines():
        lines.append(r"(?:.*\n)*?" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + "\n")
    return re.compile("".join(lines))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_tutorial(tmp_path: Path) -> None:
    ports = dict(zip(("8080", "8081"), free_ports(), strict=True))

    def ported(text: str) -> str:
        return re.sub(r"\b(8080|8081)\b", lambda match: ports[match[0]], text)

    commands: list[tuple[str, str]] = []
    for block in blocks(PAGE):
        first = block.text.partition("\n")[0]
        if block.language in ("toml", "wat"):
            (tmp_path / first.lstrip(";# ")).write_text(ported(block.text))
            continue
        assert block.language == "console", block
        for part in re.split(r"^\$ ", ported(block.text), flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            commands.append((command, output))
    lucet = tmp_path / "bin" / "lucet"
    lucet.parent.mkdir()
    lucet.write_text(f'#!/bin/sh\nexec {sys.executable} -m lucet "$@"\n')
    lucet.chmod(0o755)
    script = ["set -u", f'export LUCET_ADMIN="http://127.0.0.1:{ports["8081"]}"']
    for command, _ in commands:
        script += [f"{{ {command}\n}} 2>&1" if not command.endswith("&") else f"{command[:-1]} > served 2>&1 &"]
        if command.endswith("&"):  # until it says where it listens
            script += ["for i in $(seq 600); do [ $(grep -c 'lucet serve: ' served) = 2 ] && break; sleep 0.1; done"]
            script += ["cat served"]
        script += [f"echo '{MARK}'"]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{lucet.parent}:{os.environ['PATH']}"},
        timeout=PATIENCE,
        check=False,
    )
    outputs = done.stdout.split(f"{MARK}\n")[:-1]
    assert len(outputs) == len(commands), done.stdout[-2000:] + done.stderr[-2000:]
    for (command, output), printed in zip(commands, outputs, strict=True):
        assert expected(output).fullmatch(printed), f"$ {command}\n{printed}instead of\n{output}"
