"""One guest on the real runtime: what an embedder writes, in three lines."""

from __future__ import annotations

from pathlib import Path

import pytest

import lucet
from lucet.wasi import Capture, WasiContext, run_command

HELLO = Path(__file__).parents[2] / "examples" / "hello.wasm"


@pytest.fixture(scope="module")
def hello() -> lucet.Module:
    return lucet.Module.from_bytes(lucet.compile(HELLO.read_bytes()))


def test_a_guest_s_output_is_captured(hello: lucet.Module) -> None:
    out = Capture()
    context = WasiContext(args=["hello"], stdout=out)
    assert run_command(lucet.Region(slots=1).new_instance(hello, context.imports()), context) == 0
    assert out.getvalue().startswith(b"hello, world")


def test_a_guest_that_cannot_write_hears_of_it(hello: lucet.Module) -> None:
    """wasi-libc drops what it cannot write, so the capture shows where it stopped."""
    out = Capture(limit=5)
    context = WasiContext(args=["hello"], stdout=out)
    run_command(lucet.Region(slots=1).new_instance(hello, context.imports()), context)
    assert out.getvalue() == b"hello"
