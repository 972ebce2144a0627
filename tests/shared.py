"""Finds the shared folder: the official test suite and real programs, which are no part of this project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_PROJECT = Path(__file__).resolve().parent.parent


def shared_path(*parts: str) -> Path:
    """A file or folder of the shared folder ($LUCET_SHARED, or ../shared beside the project); skips if it is absent."""
    path = Path(os.environ.get("LUCET_SHARED") or _PROJECT.parent / "shared", *parts)
    if not path.exists():
        pytest.skip(f"the shared folder has no {'/'.join(parts) or 'content'} (LUCET_SHARED is where it is): {path}")
    return path
