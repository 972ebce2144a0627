"""docs/terrarium-hostcalls.md has every function with its type."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from lucet import terrarium
from lucet.terrarium.hostcalls import FUNCTIONS
from tests.docs.blocks import ROOT, blocks
from tests.kit import toolchains
from tests.kit.terrarium import App

PAGE = ROOT / "docs" / "terrarium-hostcalls.md"


def test_the_table_is_what_there_is() -> None:
    letters = {"i32": "i", "i64": "I"}
    rows = re.findall(r"^\| `(\w+)` \| (\w*) → ?(\w*) \|", PAGE.read_text(), re.MULTILINE)
    told = {f"hostcall_{name}": (params, results) for name, params, results in rows}
    there = {
        name: ("".join(letters[one] for one in function.params), "".join(letters[one] for one in function.results))
        for name, function in FUNCTIONS.items()
    }
    assert told == there
    assert len(there) == 32 + 2


def test_the_smallest_program() -> None:
    (text,) = [block.text for block in blocks(PAGE) if block.language == "wat"]
    assert App(text).get("/").body == b"hello"


def test_the_program_in_c(tmp_path: Path) -> None:
    (text,) = [block.text for block in blocks(PAGE) if block.language == "c"]
    for header in (Path(terrarium.__file__).parent / "guests").glob("*.h"):
        shutil.copy(header, tmp_path)
    (tmp_path / "hello.c").write_text(text)
    app = App(toolchains.c(tmp_path / "hello.c", tmp_path, "-mexec-model=reactor"))
    assert app.request("GET", "/", headers=[(b"x-name", b"you")]).body == b"you"
    assert app.get("/").body == b"nobody"
