"""Programs that nobody here wrote, from the shared folder: each must give the bytes that its native build gives."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("LUCET_SHARED", ROOT.parent / "shared"))
GUESTS = SHARED / "guests"
APPS = ("cmark", "gofmt", "lua", "python", "quickjs", "sqlite3", "zstd")
CANON = ("as", "c-debian", "c-zig", "cpp-debian", "cpp-zig", "go", "rust-debian", "rust-debian13")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the shared folder (LUCET_SHARED) is absent"),
]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "LUCET_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}


@pytest.mark.parametrize("name", APPS)
def test_application(name: str, environment: dict[str, str]) -> None:
    runner = shlex.join([sys.executable, "-m", "lucet", "run"])
    command = [sys.executable, str(SHARED / "apps" / "run_apps.py"), "--runner", runner, name]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    print(outcome.stdout, outcome.stderr)
    assert outcome.returncode == 0
    assert " FAIL" not in outcome.stdout
    assert " ok " in outcome.stdout


@pytest.mark.parametrize("build", CANON)
def test_one_program_in_many_languages(build: str, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "lucet", "run", str(GUESTS / f"canon-{build}.wasm")]
    with (GUESTS / "text.txt").open("rb") as text:
        outcome = subprocess.run(command, stdin=text, env=environment, capture_output=True, timeout=300, check=False)
    assert outcome.stderr == b""
    assert outcome.returncode == 0
    assert outcome.stdout == (GUESTS / "canon.out").read_bytes()
