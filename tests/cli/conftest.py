"""Running the commands as a user does: as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.programs import Lucet, Outcome


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests, so that hello.wasm is compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def environment(cache_folder: Path) -> dict[str, str]:
    return {**os.environ, "LUCET_CACHE_DIR": str(cache_folder), "LUCET_DEBUG": "0"}


@pytest.fixture
def lucet(tmp_path: Path, environment: dict[str, str]) -> Lucet:
    """lucet("run", ...) -> the finished process, run in tmp_path."""

    def run(*arguments: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None) -> Outcome:
        return subprocess.run(
            [sys.executable, "-m", "lucet", *(os.fspath(one) for one in arguments)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=environment if env is None else env,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def refuses(tmp_path: Path, lucet: Lucet) -> Callable[..., str]:
    """refuses(*arguments, status=1) -> the one line that says why; the folder is as before."""

    def check(*arguments: str | Path, status: int = 1) -> str:
        before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        outcome = lucet(*arguments)
        lines = outcome.stderr.decode().splitlines()
        assert outcome.returncode == status, lines
        assert outcome.stdout == b""
        assert len(lines) == 1, lines
        assert lines[0].startswith("lucet"), lines
        assert ": error: " in lines[0]
        assert "internal error" not in lines[0]
        assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
        return lines[0]

    return check
