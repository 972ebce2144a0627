"""What docs/extension makes of the sources is complete, and the pages use all of it."""

from __future__ import annotations

import re
from dataclasses import fields
from xml.etree import ElementTree

import pytest

import lucet
import lucet.wasi
from docs.extension import api, drawings, tables
from lucet.abi.tables import BUILTINS, STRUCTS, TRAPS, VMCTX
from lucet.cli.main import COMMANDS
from lucet.compile.options import Options
from lucet.wasm.opcodes import OPS
from tests.docs.blocks import ROOT, blocks

PAGES = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))


def cells(text: str, column: int) -> list[str]:
    """The cells of a column of Markdown tables, without the heads, backticks removed."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    heads = {i - 1 for i, row in enumerate(rows) if row[0].strip() == "---"}
    kept = (row for i, row in enumerate(rows) if i not in heads and row[0].strip() != "---")
    return [row[column].strip().strip("`") for row in kept]


def test_tables_have_every_row() -> None:
    assert cells(tables.traps(), 0) == list(TRAPS)
    assert cells(tables.builtins(), 1) == list(BUILTINS)
    assert cells(tables.instance_words(), 0) == list(VMCTX)
    assert len(cells(tables.structures(), 0)) == sum(len(one.fields) for one in STRUCTS.values())
    assert sorted(cells(tables.instructions(), 1)) == sorted(op.name for op in OPS.values())
    assert cells(tables.instruction_counts(), 1)[-1] == str(len(OPS))
    assert cells(tables.compiler_options(), 0) == [field.name for field in fields(Options)]
    assert all(cells(tables.compiler_options(), 2))
    assert "MAX_FUNCTION_SIZE" in cells(tables.implementation_limits(), 0)
    assert all(f"**lucet {name}**" in tables.commands() for name in COMMANDS)
    assert all(name in tables.errors() for name in api.names("lucet", "exception"))


def test_files_are_told_by_their_first_lines() -> None:
    told = tables.files()
    assert "| `region.c` | address space in slots of one size, free slots, guest stacks |" in told
    assert (
        "| `opcodes.py` | THE table of instructions: every fact about an instruction that is data, one row each |"
        in told
    )
    silent = [name for name, text in zip(cells(told, 0), cells(told, 1), strict=True) if not text]
    assert set(silent) <= {"__init__.py"}


def test_notes_are_there() -> None:
    assert "load base" in tables.structures()
    assert "a per-slot secret" in tables.instance_words()
    assert "Lucet's own" in tables.implementation_limits()


def test_every_transition_is_in_the_table() -> None:
    text = (ROOT / "src" / "lucet" / "abi" / "transitions.def").read_text()
    rows = [line for line in tables.transitions().splitlines()[2:] if line]
    filled = sum(1 for row in rows for cell in row.split(" | ")[1:] if cell.strip(" |"))
    assert filled == len(re.findall(r"^TRANSITION\(", text, re.MULTILINE)) > 40
    assert " | running (TRAPPED follows, with trap INTERRUPTED) | " in tables.transitions()


def test_wasi_calls_say_where_they_are_done() -> None:
    page = (ROOT / "docs" / "wasi.md").read_text()
    by_hand = dict(re.findall(r"^\| `(\w+)` \| (core|Python) \|", page, re.MULTILINE))
    made = dict(zip(cells(tables.wasi_calls(), 0), cells(tables.wasi_calls(), 2), strict=True))
    assert made == by_hand
    assert len(made) > 40


def test_every_public_name_is_described() -> None:
    for module in (lucet, lucet.wasi):
        used = [kind for name, kind in re.findall(r"\{lucet\} api ([\w.]+) (\w+)", PAGES) if name == module.__name__]
        assert len(used) == len(set(used))
        described = {name for kind in used for name in api.names(module.__name__, kind)}
        assert described == set(module.__all__)


def test_members_are_described_with_their_types() -> None:
    text = api.api("lucet", "class")
    assert "{py:method} new_instance(module: Module | Linkage, /, imports:" in text
    assert "{py:property} fuel_used\n:type: int" in text
    assert "{py:method} load(path:" in text  # of the class in Python
    assert "{py:property} producer" in text  # of the one in C that it extends
    for cls in (lucet.Memory, lucet.SharedMemory, lucet.Region, lucet.Instance, lucet.Func, lucet.Suspended):
        described = set(re.findall(r"\{py:(?:method|property|attribute)\} (\w+)", api.described("lucet", "", cls)))
        assert described >= {name for name in vars(cls) if not name.startswith("_")}
    assert "opt_level: str='default'" in api.api("lucet", "function")


def words(drawing: str) -> set[str | None]:
    return {element.text for element in ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")}


def test_drawings_have_every_word() -> None:
    assert {*VMCTX, "vmctx", "memory 0", "reserved: 4 GiB", "32 MiB", "64 KiB"} <= words(drawings.slot())
    states = {text for (_, text), _ in tables.macros("states.def", "STATE")}
    events = {name.lower().replace("_", " ") for (name, _), _ in tables.macros("transitions.def", "EVENT")}
    assert words(drawings.states()) == states | events - {"link", "interrupt"}  # which change no state


@pytest.mark.parametrize("what", ["stub.def", "traps"])
def test_what_cannot_be_read_is_an_error(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "traps":
        with pytest.raises(ValueError, match="none of"):
            api.names("lucet", what)
    else:
        monkeypatch.setattr(tables, "ABI", ROOT / "nowhere")
        with pytest.raises(FileNotFoundError):
            tables.macros(what, "STATE")


def test_the_pages_use_every_table() -> None:
    used = set(re.findall(r"\{lucet\} (\w+)", PAGES)) - {"api", "drawing"}
    helpers = {"table", "code", "macros", "attribute_docs", "by_feature", "opcode", "signature"}
    helpers |= {"sources", "first_line"}
    made = {name for name, value in vars(tables).items() if getattr(value, "__module__", "") == tables.__name__}
    assert used == made - helpers


def test_every_page_is_in_the_navigation() -> None:
    """Sphinx says so too, but only when the pages are built."""
    index = ROOT / "docs" / "index.md"
    entries = [line for block in blocks(index) if block.language == "{toctree}" for line in block.text.splitlines()]
    named = [line for line in entries if line and not line.startswith(":")]
    shown = {path for name in named for path in (ROOT / "docs").glob(f"{name}.md")}
    assert len(shown) >= len(named) > 20  # no entry leads nowhere
    assert sorted(set((ROOT / "docs").rglob("*.md")) - shown) == [index]
