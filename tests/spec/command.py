"""Runs `python -m tests.spec`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.spec.shared_folder import ROOT

SECONDS: Final = 600
"""Far beyond what any test runs of the suite take."""


def run_spec(shared: Path, *arguments: str) -> tuple[int, str]:
    """(exit status, all output), with that shared folder."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.spec", *arguments],
        cwd=ROOT,
        env={**os.environ, "LUCET_SHARED": str(shared)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout
