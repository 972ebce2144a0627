"""Modules from text, compiled at every optimisation level and instantiated."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

import lucet
from lucet.compile.options import OPT_LEVELS
from lucet.wasm.text import text_to_binary

Instantiate = Callable[..., lucet.Instance]


@cache
def _artifact(text: str, opt_level: str, target_cpu: str, bounds: str) -> lucet.Module:
    wasm = text_to_binary(text)
    return lucet.Module.from_bytes(lucet.compile(wasm, opt_level=opt_level, target_cpu=target_cpu, bounds=bounds))


@pytest.fixture(params=OPT_LEVELS)
def opt_level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def region() -> lucet.Region:
    return lucet.Region(slots=200)


@pytest.fixture
def instantiate(opt_level: str, region: lucet.Region) -> Instantiate:
    """instantiate(text, imports={}, target_cpu=..., bounds=...) -> Instance, at this test's optimisation level."""

    def make(
        text: str,
        imports: dict[str, dict[str, object]] | None = None,
        *,
        target_cpu: str = "x86-64-v3",
        bounds: str = "guard",
    ) -> lucet.Instance:
        return region.new_instance(_artifact(text, opt_level, target_cpu, bounds), imports or {})

    return make
