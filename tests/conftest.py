"""What tests of several folders share."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class CBuild:
    """The C library and the C example, built and installed by the commands of examples/README.md."""

    folder: Path
    """In place of build-c."""
    output: str
    """What the last command, the example itself, printed."""

    @property
    def compile_flags(self) -> list[str]:
        return [f"-I{self.folder}/installed/include"]

    @property
    def link_flags(self) -> list[str]:
        return [f"-L{self.folder}/installed/lib", "-llucet_core", "-pthread", "-ldl"]


@pytest.fixture(scope="session")
def c_build(tmp_path_factory: pytest.TempPathFactory) -> CBuild:
    """Runs the commands of examples/README.md in another folder than build-c."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler: cc")
    folder = tmp_path_factory.mktemp("installed-c-library")
    (block,) = re.findall(r"((?:^ {4}.*build-c.*\n)+)", (ROOT / "examples" / "README.md").read_text(), re.MULTILINE)
    commands = re.sub(r"(\$PWD/)?build-c", str(folder), block)
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # meson and lucetc are there
    run = subprocess.run(
        ["sh", "-e"],
        input=commands,
        cwd=ROOT,
        env={**os.environ, "PATH": tools},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    program = subprocess.run([folder / "embed", folder / "embed_guest.so"], capture_output=True, text=True, check=True)
    assert run.stdout.endswith(program.stdout)
    return CBuild(folder=folder, output=program.stdout)
