"""The table of the original's options says what lucetc has, and all of it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

from lucet.compile.driver import compile
from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "options.md").read_text()
ROWS = [tuple(cell.strip() for cell in row.split("|")[1:5]) for row in re.findall(r"^\| `-.*", PAGE, re.M)]

ORIGINAL = """
    --output --emit --opt-level --target --target-cpu --target-feature --bindings --wiggle-bindings --witx --wasi_exe
    --min-reserved-size --max-reserved-size --reserved-size --guard-size --signature-keygen --signature-verify
    --signature-create --signature-pk --signature-sk --count-instructions --veriwasm --error-style --no-translate-wat
    --version-info --precious --min-os-version --sdk-version --version --help
"""


def options(text: str) -> set[str]:
    return set(re.findall(r"`(--?[\w-]+)`", text))


def test_the_table_is_what_lucetc_has() -> None:
    command = [sys.executable, "-m", "lucet", "compile", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"^  (-[^\n]*)", shown, re.M)
    has = {name for line in lines for name in re.findall(r"(?<![\w-])--?\w[\w-]*", line)}
    told = {option for row in ROWS for option in options(row[1])} | options(PAGE.partition("New:")[2])
    assert told | {"--wasi_exe"} == has


def test_every_option_of_the_original_has_a_row() -> None:
    assert {option for row in ROWS for option in options(row[0]) if option.startswith("--")} == set(ORIGINAL.split())
    assert all(row[3] or row[0] == "`-h`, `--help`" for row in ROWS)


def test_keywords_are_those_of_compile() -> None:
    keywords = inspect.signature(compile).parameters.keys()
    told = {keyword for row in ROWS for keyword in re.findall(r"`(\w+)`", row[2])}
    assert told <= keywords
    new = set(re.findall(r"\(`(\w+)`", PAGE.partition("New:")[2]))
    assert keywords - told - new == {"wasm", "worker_memory", "worker_seconds", "progress"}
