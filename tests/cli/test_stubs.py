"""`lucet stubs`: what it writes is what type checkers then know of a module's exports."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lucet as package
from lucet.runtime import ExportType
from lucet.runtime.stubs import stub
from lucet.wasm.text import text_to_binary
from lucet.wasm.types import FuncType, ValType
from tests.cli.programs import Lucet

Refuses = Callable[..., str]

TEXT = """(module
  (memory (export "memory") 1) (table (export "table") 1 funcref) (global (export "count") (mut i32) (i32.const 1))
  (tag (export "tag") (param i32)) (memory (export "shared") 1 1 shared)
  (func (export "add") (param i32 i64) (result i32) (local.get 0))
  (func (export "map") (param f32 f64) (result f64 i32) (local.get 1) (i32.const 3))
  (func (export "two words")) (func (export "get") (result i32) (i32.const 7)) (func (export "int"))
  (func (export "class")) (func (export "__len__")) (func (export "\\22\\5c\\0a\\f0\\9f\\8d\\90"))
  (func (export "references") (param externref funcref exnref (ref null func) (ref extern) nullfuncref v128)
    (result v128 (ref func)) unreachable))"""

USE = """
from collections.abc import Callable
from typing import cast
import lucet
import prog

module = lucet.Module.load("guest.so")
exports = cast(prog.Exports, lucet.Region(1).new_instance(module).exports)
number: int = exports.add(1, 2)
same: Callable[[int, int], int] = exports.add
pair: tuple[float, int] = exports.map(1.5, 2)
by_name: int = exports["get"]()
exports["two words"](), exports["int"](), exports["class"](), exports['"\\\\\\n\\U0001f350']()
count: int = exports.count.value
size: int = exports.memory.size + exports.shared.notify(0)
columns = exports.add.map(b"abc", 1)
"""
WRONG = [
    'exports.add("1", 2)',
    "exports.add(1)",
    "text: str = exports.add(1, 2)",
    "exports.ad(1, 2)",
    'exports["ad"]',
    "exports.memory(1)",
    "exports.map(1.5, 2)[2]",
]


@pytest.fixture
def folder(lucet: Lucet, tmp_path: Path) -> Path:
    (tmp_path / "prog.wat").write_text(TEXT)
    assert lucet("compile", "prog.wat", "-o", "guest.so").returncode == 0
    outcome = lucet("stubs", "guest.so")
    assert (outcome.returncode, outcome.stderr) == (0, b"")
    (tmp_path / "prog.pyi").write_bytes(outcome.stdout)
    return tmp_path


def test_text_binary_and_artifact_have_one_stub(lucet: Lucet, folder: Path) -> None:
    written = (folder / "prog.pyi").read_text()
    (folder / "prog.wasm").write_bytes(text_to_binary(TEXT))
    for name in ("prog.wat", "prog.wasm"):
        assert lucet("stubs", name, "-o", "other.pyi").returncode == 0
        assert (folder / "other.pyi").read_text() == written.replace("guest.so", name)
        assert lucet("stubs", name, "--check", "other.pyi").returncode == 0


def test_check_says_what_differs(lucet: Lucet, folder: Path) -> None:
    assert lucet("stubs", "guest.so", "--check", "prog.pyi").returncode == 0
    (folder / "prog.wat").write_text(
        TEXT.replace("(param i32 i64)", "(param f32 i64)").replace("local.get 0", "i32.const 1")
    )
    assert lucet("compile", "prog.wat", "-o", "guest.so").returncode == 0
    outcome = lucet("stubs", "guest.so", "--check", "prog.pyi")
    assert outcome.returncode == 1
    said = outcome.stderr.decode()
    assert "prog.pyi: is not the stub of guest.so" in said
    assert "+    def add(self) -> Function[[float, int], int]: ..." in said


def test_it_is_true(folder: Path) -> None:
    """The program runs, so what the checkers say of it is right; and the stub can be imported as it is."""
    (folder / "prog.py").write_bytes((folder / "prog.pyi").read_bytes())
    (folder / "use.py").write_text(USE)
    subprocess.run([sys.executable, "use.py"], cwd=folder, check=True)


CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--no-error-summary"],
    "basedpyright": [str(Path(sys.executable).with_name("basedpyright")), "--level", "error"],
}


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_checkers_read_it(folder: Path, checker: str) -> None:
    command = CHECKERS[checker]
    if not Path(command[0]).exists():
        pytest.skip(f"no {checker}")
    where = Path(package.__file__).parents[1]  # checkers find what is installed by themselves
    extra = [] if "site-packages" in where.parts else [str(where)]
    config = {"typeCheckingMode": "standard", "pythonVersion": "3.11", "extraPaths": extra}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    (folder / "mypy.ini").write_text("[mypy]\n" + "".join(f"mypy_path = {path}\n" for path in extra))
    (folder / "use.py").write_text(USE)
    fine = subprocess.run([*command, "use.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert fine.returncode == 0, fine.stdout
    first = USE.count("\n") + 1
    (folder / "use.py").write_text(USE + "\n".join(WRONG) + "\n")
    found = subprocess.run([*command, "use.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    places = {int(line.split("use.py:")[1].split(":")[0]) for line in found.stdout.splitlines() if "use.py:" in line}
    assert places == set(range(first, first + len(WRONG))), found.stdout


def test_names_cannot_leave_their_strings() -> None:
    """An export's name is the guest's: it must not become code of the stub."""
    names = [
        '"',
        "'",
        "\\",
        '"]): import os #',
        "\n\n@x\n",
        "\u2028",
        "a\0b",
        "é",
        "self",
        "_instance",
        "None",
        "x" * 1000,
    ]
    text = stub('evil"""\nimport os\n"""', [ExportType(name, FuncType((ValType("i32"),), ())) for name in names])
    tree = ast.parse(text)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(tree.body) == 5
    items = [node for node in classes[0].body if isinstance(node, ast.FunctionDef) and node.name == "__getitem__"]
    annotations = [node.args.posonlyargs[1].annotation for node in items]
    found = [ast.literal_eval(one.slice) for one in annotations if isinstance(one, ast.Subscript)]
    assert found == names
    attributes = {node.name for node in classes[0].body if isinstance(node, ast.FunctionDef)}
    assert attributes == {"__getitem__", "self", "x" * 1000}
    ast.parse(stub("nothing", []))


def test_what_is_refused(refuses: Refuses, folder: Path) -> None:
    assert "No such file" in refuses("stubs", "absent.so")
    (folder / "bad.wasm").write_bytes(b"\0asm\1\0\0\0\x63")
    assert "malformed section id" in refuses("stubs", "bad.wasm")
    (folder / "bad.so").write_bytes(b"\x7fELF nothing")
    assert "bad.so" in refuses("stubs", "bad.so")
