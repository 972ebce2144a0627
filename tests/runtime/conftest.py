"""Compiling small modules from text, each once per session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

import lucet
from lucet.wasm.text import text_to_binary

Load = Callable[[str], lucet.Module]


@cache
def load_text(text: str) -> lucet.Module:
    return lucet.Module.from_bytes(lucet.compile(text_to_binary(text), opt_level="none"))


@pytest.fixture(scope="session")
def load() -> Load:
    """load(text) -> lucet.Module"""
    return load_text


@pytest.fixture
def region() -> lucet.Region:
    return lucet.Region(slots=8)
