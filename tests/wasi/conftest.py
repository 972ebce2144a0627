"""The folder that a guest is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wasi.fake import ENGINES, Guest, engine, guest_in


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test runs twice: with the calls in Python alone, and with those of the core in front.

    python_only: those that put something in the place of the host's functions, which the core does not ask.
    core_only: those that need an engine themselves.
    """
    only = [mark.name.removesuffix("_only") for mark in metafunc.definition.iter_markers() if "_only" in mark.name]
    metafunc.parametrize("backend", only or list(ENGINES), indirect=True)


@pytest.fixture(autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    monkeypatch.setitem(engine, "is_used", ENGINES[name])
    return name


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
