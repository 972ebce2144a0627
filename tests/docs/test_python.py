"""The Python blocks of every document run as they stand: those of one document in their order, as one program."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import lucet
from lucet import runtime
from lucet.compile.options import Options
from tests.docs.blocks import ROOT, blocks

PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *PAGES, *sorted((ROOT / "examples").glob("*.md"))]
LANGUAGES = {"", "c", "console", "python", "text", "toml", "wat"}
DIRECTIVES = {"{code-block}", "{lucet}", "{toctree}", "{include}"}
REFERENCE = ROOT / "docs" / "python-api.md"


def program(document: Path) -> str:
    """The blocks at the lines where they stand, so that tracebacks lead there."""
    lines: list[str] = []
    for block in blocks(document):
        if block.language == "python":
            lines += ["\n"] * (block.line - 1 - len(lines)) + block.text.splitlines(keepends=True)
    return "".join(lines)


PROGRAMS = {str(path.relative_to(ROOT)): program(path) for path in DOCUMENTS}


def test_the_documents_with_programs_are_found() -> None:
    assert {name for name, text in PROGRAMS.items() if text} >= {"README.md", "docs/python-api.md"}


@pytest.mark.parametrize("name", [name for name, text in PROGRAMS.items() if text])
def test_the_program_runs(name: str, tmp_path: Path) -> None:
    code = f"exec(compile({PROGRAMS[name]!r}, {name!r}, 'exec'), {{'__name__': '__main__'}})"
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_block_is_in_a_language_that_nobody_runs(document: Path) -> None:
    languages = {block.language for block in blocks(document)}
    assert {one for one in languages if one.partition(" ")[0] not in DIRECTIVES} <= LANGUAGES


# ---- the reference is complete


def test_every_public_name_is_described() -> None:
    told = set(re.findall(r"\w+", REFERENCE.read_text()))
    assert set(lucet.__all__) - told == set()


def test_every_option_of_the_compiler_is_described() -> None:
    told = set(re.findall(r"\w+", REFERENCE.read_text()))
    assert {field.name for field in fields(Options)} - told == set()


CLASSES = [runtime.Module, runtime.Region, runtime.Budget, runtime.Instance, runtime.Suspended, runtime.Func]
CLASSES += [runtime.Memory, runtime.SharedMemory, runtime.Table, runtime.Global, runtime.Exports, runtime.HostFunction]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: str(cls.__name__))
def test_every_method_and_attribute_is_described(cls: type) -> None:
    told = set(re.findall(r"\w+", REFERENCE.read_text()))
    inherited = {
        name for base in cls.__mro__ if base.__module__ in ("builtins", "collections.abc") for name in vars(base)
    }
    own = {name for name, _ in inspect.getmembers_static(cls) if not name.startswith("_")} - inherited
    assert own - told - {"write_u16", "write_u32", "write_u64"} == set()  # "write_u8 ..." stands for these
