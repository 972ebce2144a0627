"""The rules of the layout that no other tool holds."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lucet.abi.tables import TRAPS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "lucet"


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listing.decode().split("\0") if name and (ROOT / name).exists()]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", tracked("*.py"), ids=named)
def test_first_line_of_a_python_file_says_what_it_is(path: Path) -> None:
    lines = path.read_text().splitlines()
    if lines:
        first = lines[1] if lines[0].startswith("#!") else lines[0]
        assert first.startswith('"""'), first


@pytest.mark.parametrize("path", tracked("*.c", "*.h", "*.S", "*.def"), ids=named)
def test_first_line_of_a_c_file_says_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("/*")


@pytest.mark.parametrize("path", tracked("native/*.[chS]", "tests/native/*.[ch]"), ids=named)
def test_python_header_only_in_the_binding_and_the_binding_sees_only_the_public_header(path: Path) -> None:
    included = re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)
    if (ROOT / "native" / "py") in path.parents:
        own = {one.name for one in (ROOT / "native" / "py").iterdir()}
        ours = {name for name in included if (ROOT / "native").joinpath(name).exists()}
        assert ours <= own, "the binding may use lucet.h only"
    else:
        assert "Python.h" not in included


def opcode_literals(tree: ast.AST) -> Iterator[ast.Constant]:
    """Opcodes written as numbers: prefixed ones anywhere, one-byte ones where they are compared with an opcode."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) is int and 0xFB00 <= node.value <= 0xFEFF:
            yield node
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(is_opcode(side) for side in sides):
                yield from (side for side in sides if isinstance(side, ast.Constant) and type(side.value) is int)
        elif isinstance(node, ast.Match) and is_opcode(node.subject):
            patterns = [one for case in node.cases for one in ast.walk(case.pattern)]
            values = [one.value for one in patterns if isinstance(one, ast.MatchValue)]
            yield from (value for value in values if isinstance(value, ast.Constant) and type(value.value) is int)


def is_opcode(node: ast.AST) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in ("op", "opcode")


@pytest.mark.parametrize("path", tracked("src/lucet/wasm/*.py", "src/lucet/compile/*.py"), ids=named)
def test_opcodes_are_numbers_in_their_table_only(path: Path) -> None:
    found = [f"{path.name}:{node.lineno}: {node.value!r}" for node in opcode_literals(ast.parse(path.read_text()))]
    if path.name == "opcodes.py":
        assert found  # so the search finds what it looks for
    else:
        assert found == []


def test_the_search_for_opcodes_finds_them() -> None:
    text = "x = 0xFC0A\nif op == 0x10: pass\nif 3 < n: pass\nmatch opcode:\n    case 2: pass\n    case _: pass\n"
    assert sorted(node.lineno for node in opcode_literals(ast.parse(text))) == [1, 2, 5]


def test_ci_runs_the_second_command_of_the_readme() -> None:
    commands = re.findall(r"^ {4}(python3 -m venv .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == commands[1]


def test_meson_lists_every_source_file() -> None:
    build = (ROOT / "meson.build").read_text()
    missing = [named(path) for path in tracked("native/*.c", "native/*.S") if f"'{named(path)}'" not in build]
    assert missing == []


def test_meson_leaves_out_the_caches_of_every_package() -> None:
    build = (ROOT / "meson.build").read_text()
    packages = {path.parent for path in tracked("src/lucet/*.py")}
    caches = [str((package / "__pycache__").relative_to(SOURCE)) for package in packages]
    assert [cache for cache in caches if f"'{cache}'" not in build] == []


@pytest.mark.parametrize("document", tracked("*.md"), ids=named)
def test_documents_name_files_that_exist(document: Path) -> None:
    text = document.read_text()
    paths = re.findall(r"`((?:src|native|tests|docs|bench|fuzz|examples|tools)/[\w./-]+)`", text)
    paths += re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text)
    missing = [path for path in paths if not (document.parent / path).exists()]
    assert [path for path in missing if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", tracked("*.md"), ids=named)
def test_links_lead_to_headings_that_exist(document: Path) -> None:
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text()):
        target = document.parent / path if path else document
        include = re.search(r"^```\{include\} (\S+)", target.read_text(), re.MULTILINE)
        text = (target.parent / include[1]).read_text() if include else target.read_text()
        assert anchor in {anchor_of(line) for line in re.findall(r"^#+ (.*)", text, re.MULTILINE)}, f"{path}#{anchor}"


def anchor_of(heading: str) -> str:
    """As GitHub and MyST have it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_architecture_names_every_folder_and_every_file_of_the_core() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    parts = [path.relative_to(ROOT).parts for path in tracked("*")]
    top = {path[0] for path in parts if len(path) > 1} - {"src", ".ci"}
    packages = {"/".join(path[:3]) for path in parts if path[:2] == ("src", "lucet") and len(path) > 3}
    core = {"/".join(path) for path in parts if path[0] == "native" and len(path) == 2}
    assert min(len(top), len(packages), len(core)) > 6
    alone = {"/".join(path) for path in parts if path[:2] == ("src", "lucet") and len(path) == 3}
    alone -= {f"src/lucet/{name}" for name in ("__init__.py", "__main__.py", "errors.py", "limits.py", "py.typed")}
    assert sorted(name for name in top | packages | core | alone if f"`{name}`" not in text) == []


def test_every_trap_is_provoked_by_a_test() -> None:
    """By its code's name, or by its text, which the official suite has, too."""
    tests = "".join(path.read_text() for path in tracked("tests/*.py", "tests/*.c") if path != Path(__file__))
    found = [trap.name for trap in TRAPS.values() if re.search(rf"\b(TRAP_)?{trap.name}\b|{trap.text}", tests)]
    assert sorted(TRAPS.keys() - set(found)) == []
