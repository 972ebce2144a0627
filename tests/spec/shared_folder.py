"""Where the shared folder is, for the runner, which needs no pytest."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def shared_folder() -> Path:
    return Path(os.environ.get("LUCET_SHARED") or ROOT.parent / "shared")
