"""The package as a user meets it: what it exports, what importing it costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import lucet
import lucet.errors
from lucet.cli.main import COMMANDS
from lucet.runtime import _core

INIT = Path(__file__).parents[2] / "src" / "lucet" / "__init__.py"


def test_public_names_are_sorted_and_resolve() -> None:
    assert lucet.__all__ == sorted(lucet.__all__)
    for name in lucet.__all__:
        assert getattr(lucet, name) is not None


def test_type_checkers_see_the_same_names() -> None:
    """The imports under TYPE_CHECKING are __all__, and each comes from where __getattr__ looks."""
    imported = {
        alias.name: node.module
        for node in ast.walk(ast.parse(INIT.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lucet.")
        for alias in node.names
    }
    assert sorted(imported) == lucet.__all__
    for name, home in imported.items():
        if name != "compile":
            assert getattr(lucet, name) is getattr(importlib.import_module(home), name)


def test_every_exception_is_public() -> None:
    classes = {
        name for name, value in vars(lucet.errors).items() if isinstance(value, type) and issubclass(value, Exception)
    }
    assert {name for name in classes - {"LocatedError"} if name[0] != "_"} <= set(lucet.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
        _ = lucet.no_such_thing  # type: ignore[attr-defined]


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout.decode().split())


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import lucet", {"llvmlite", "lucet.compile", "lucet.runtime", "lucet.wasi"}),
        ("import lucet; lucet.Trap", {"llvmlite", "lucet.compile", "lucet.runtime"}),
        ("import lucet; lucet.Module", {"llvmlite", "lucet.compile", "lucet.wasm.decode"}),
        ("import lucet; lucet.compile", {"llvmlite", "lucet.runtime"}),
        ("import lucet.cli.run", {"llvmlite", "lucet.compile", "lucet.runtime", "lucet.wasi"}),
    ],
)
def test_importing_brings_no_more_than_needed(code: str, absent: set[str]) -> None:
    assert modules_after(code) & absent == set()


def test_importing_is_cheap() -> None:
    """What takes the time is the number of modules; the time itself is printed by `just package`."""
    assert modules_after("import lucet") - modules_after("") == {"lucet", "__future__"}


def test_the_extension_needs_only_the_stable_abi_of_the_oldest_python() -> None:
    tool = Path(sys.executable).parent / "abi3audit"
    if not tool.exists():
        pytest.skip("abi3audit is not installed")
    command = [str(tool), "--strict", "--assume-minimum-abi3", "3.11", str(_core.__file__)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_compile_is_the_package_and_the_function() -> None:
    """Importing a submodule rebinds lucet.compile to the package: that must not matter."""
    importlib.import_module("lucet.compile.options")
    empty = b"\0asm\x01\0\0\0"
    assert lucet.compile(empty, opt_level="none")[:4] == b"\x7fELF"
    function: object = lucet.compile
    assert function is sys.modules["lucet.compile"]


@pytest.mark.parametrize("name", ["lucet", "lucetc", "lucet-wasi"])
def test_entry_points(name: str) -> None:
    (entry,) = entry_points(group="console_scripts", name=name)
    assert callable(entry.load())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_file(name: str) -> None:
    assert callable(importlib.import_module(f"lucet.cli.{name}").main)
