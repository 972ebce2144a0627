"""docs/c-api.md: its blocks are one program, which compiles without warnings and prints what the page says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import lucet
from lucet.wasm.text import text_to_binary
from tests.conftest import CBuild
from tests.docs.blocks import ROOT, blocks, only

PAGE = ROOT / "docs" / "c-api.md"
HEADER = ROOT / "native" / "include" / "lucet.h"
WARNINGS = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Werror"]


@pytest.fixture(scope="session")
def program(c_build: CBuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c-api")
    source = "".join(f'#line {block.line} "{PAGE}"\n{block.text}' for block in blocks(PAGE) if block.language == "c")
    (folder / "page.c").write_text(source)
    (folder / "guest.so").write_bytes(lucet.compile(text_to_binary(only(PAGE, "wat")), count_instructions=True))
    command = ["cc", *WARNINGS, *c_build.compile_flags, "page.c", "-o", "page", *c_build.link_flags]
    subprocess.run(command, cwd=folder, check=True)
    return folder


def test_the_program_prints_what_the_page_says(program: Path) -> None:
    run = subprocess.run(["./page", "guest.so"], cwd=program, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == only(PAGE, "text")
    assert run.stderr == ""


def test_every_function_is_described() -> None:
    declared = set(re.findall(r"^[\w *]*?(lucet_\w+)\(", HEADER.read_text(), re.MULTILINE))
    assert len(declared) > 50
    text = PAGE.read_text()
    told = set(re.findall(r"lucet_\w+", text))
    assert {name for name in declared - told if not name.endswith("_retain")} == set()


def test_every_option_of_a_region_is_described() -> None:
    (body,) = re.findall(r"typedef struct lucet_region_config \{(.*?)\}", HEADER.read_text(), re.DOTALL)
    fields = re.findall(r"^    [\w *]+?(\w+);", body, re.MULTILINE)
    assert len(fields) > 8
    assert [field for field in fields if f"| `{field}` |" not in PAGE.read_text()] == []


def test_every_error_and_outcome_is_described() -> None:
    outcomes = "RETURNED|TRAPPED|THREW|SUSPENDED|TERMINATED|OUT_OF_FUEL|FAILED"
    names = re.findall(rf"^    (LUCET_(?:ERROR_\w+|{outcomes}))", HEADER.read_text(), re.MULTILINE)
    assert len(names) == 15
    assert [name for name in names if f"| `{name}` |" not in PAGE.read_text()] == []
