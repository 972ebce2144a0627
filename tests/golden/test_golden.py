"""Golden files: NAME.wat and, beside it, the LLVM IR that it is translated to.

LUCET_BLESS=1 writes the IR anew; what changed is then to be read in the diff. An option in the first line of the text,
`;; bounds=explicit`, is one of lucet.compile.options.Options.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lucet.compile import llvm
from lucet.compile.driver import emit_ir
from lucet.compile.options import Options
from lucet.wasm.text import text_to_binary

SOURCES = sorted(Path(__file__).parent.glob("*.wat"))


def options_of(text: str) -> Options:
    first = text.splitlines()[0]
    words = first.removeprefix(";;").split() if first.startswith(";;") else []
    return Options(**dict(word.split("=") for word in words if "=" in word))  # type: ignore[arg-type]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_golden(source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    actual = emit_ir(text_to_binary(text), options_of(text))
    golden = source.with_suffix(".ll")
    if os.environ.get("LUCET_BLESS"):
        golden.write_text(actual, encoding="utf-8")
    assert actual == golden.read_text(encoding="utf-8"), f"{golden.name} differs: LUCET_BLESS=1 writes it anew"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_llvm_accepts_it(source: Path) -> None:
    llvm.initialize("none")
    ir = source.with_suffix(".ll").read_text(encoding="utf-8")
    assert llvm.compile_text(ir, Options(opt_level="none"), verify=True).startswith(b"\x7fELF")


def test_every_case_is_checked() -> None:
    assert len(SOURCES) >= 10
    assert {path.stem for path in SOURCES} == {path.stem for path in Path(__file__).parent.glob("*.ll")}
