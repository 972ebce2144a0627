"""The folder that a guest is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wasi.fake import Guest, guest_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the guest is given. Its neighbour `secret` is what it must not reach."""
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.fixture
def guest(folder: Path) -> Iterator[Guest]:
    with guest_in(folder) as guest:
        yield guest
