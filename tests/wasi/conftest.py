"""The folder that a guest is given, and the C core's part of it where the core is not built."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wasi import fake
from tests.wasi.fake import Guest, guest_in


@pytest.fixture(scope="session", autouse=True)
def _openat2() -> None:
    try:
        runtime = importlib.import_module("lucet.runtime")
    except ImportError:
        pytest.skip("lucet.runtime is not built")
    if not hasattr(runtime, "openat2"):
        runtime.openat2 = fake.openat2  # type: ignore[attr-defined]


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
