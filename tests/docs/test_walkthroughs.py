"""Pages of files and shell commands: everything is done as the page says, in its order, and prints what it says."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import lucet
from tests.docs.blocks import ROOT, Block, blocks

ELSEWHERE = {"docs/terrarium.md": "tests/terrarium/test_tutorial.py"}
"""Pages that need more around them, with the test that walks through them."""
PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if str(path.relative_to(ROOT)) not in ELSEWHERE]
SECTIONS_APART = {"docs/howto/compile.md"}
"""Pages whose sections need nothing of each other, so that the others are tested where a tool is missing."""
TOOLS = ("lucet", "lucetc", "lucet-wasi")


def works(*command: str) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=120, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return False
    return done.returncode == 0


NEEDS: dict[str, Callable[[], bool]] = {
    "ziglang": lambda: importlib.util.find_spec("ziglang") is not None,
    "rustc with wasm32-wasi": lambda: bool(rustc()),
    "npm and its registry": lambda: works("npm", "view", "assemblyscript", "version"),
    "gdb that may trace": lambda: works("gdb", "-nx", "-batch", "-return-child-result", "-ex", "run", "true"),
    "perf that may record": lambda: works("perf", "record", "-o", "/dev/null", "true"),
    "cc and meson": lambda: bool(shutil.which("cc")) and importlib.util.find_spec("mesonbuild") is not None,
    "mypy": lambda: importlib.util.find_spec("mypy") is not None,
    "minisign": lambda: bool(shutil.which("minisign")),
}
"""What a block may need besides Lucet: `<!-- needs: NAME -->` above it."""


def rustc() -> Path | None:
    """The folder of a rustc that has the target."""
    for name in filter(None, (shutil.which("rustc"), shutil.which("rustc", path="/usr/bin"))):
        command = [name, "--print", "target-libdir", "--target", "wasm32-wasi"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode == 0 and any(Path(asked.stdout.strip()).glob("libstd-*")):
            return Path(name).parent
    return None


@dataclass(frozen=True)
class Step:
    """A file to write, or commands with what they print."""

    file: str | None
    text: str
    needs: str | None
    line: int


def steps(page: Path) -> Iterator[tuple[str, Step]]:
    """With the section that each is in."""
    lines = page.read_text().splitlines()
    for block in blocks(page):
        above = lines[block.line - 3] if block.line > 2 else ""
        needs = re.fullmatch(r"<!-- needs: (.*) -->", above)
        elsewhere = re.fullmatch(r"<!-- run by: (.*) -->", above)
        if elsewhere:
            assert (ROOT / elsewhere[1]).exists(), above
        elif block.language == "console":
            yield block.section, Step(None, block.text, needs and needs[1], block.line)
        elif named := file_of(block):
            yield block.section, Step(*named, needs and needs[1], block.line)


def file_of(block: Block) -> tuple[str, str] | None:
    """Name and contents of a block that is a file."""
    match = re.fullmatch(r":caption: (\S+)\n\n(.*)", block.text, re.DOTALL)
    return (match[1], match[2]) if match and block.language.startswith("{code-block}") else None


def walks() -> Iterator[tuple[str, list[Step]]]:
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        found = list(steps(page))
        if name in SECTIONS_APART:
            for section in dict.fromkeys(section for section, _ in found):
                yield f"{name}: {section}", [step for one, step in found if one == section]
        elif any(step.file is None for _, step in found):
            yield name, [step for _, step in found]


WALKS = dict(walks())


def environment(folder: Path) -> dict[str, str]:
    """With Lucet's commands, also where it is not installed, and a cache of its own."""
    tools = folder / "tools"
    tools.mkdir()
    for tool in TOOLS:
        entry = {"lucet": "main", "lucetc": "compile", "lucet-wasi": "wasi"}[tool]
        script = f"#!{sys.executable}\nimport sys\nfrom lucet.cli.{entry} import main\nsys.exit(main())\n"
        (tools / tool).write_text(script)
        (tools / tool).chmod(0o755)
    path = [str(tools), str(Path(sys.executable).parent), *filter(None, [str(rustc() or "")]), os.environ["PATH"]]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LUCET_")}
    source = Path(lucet.__file__).parents[1]  # in case that it is not installed
    kept["npm_config_loglevel"] = "error"  # a warning about somebody's configuration is none of the page's output
    kept["PYTHONPATH"] = os.pathsep.join([str(source), *filter(None, [kept.get("PYTHONPATH")])])
    return {**kept, "PATH": os.pathsep.join(path), "LUCET_CACHE_DIR": str(folder / "cache"), "LUCET": str(ROOT)}


@pytest.mark.slow
@pytest.mark.parametrize("name", WALKS)
def test_it_happens_as_the_page_says(name: str, tmp_path: Path) -> None:
    known = environment(tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    for step in WALKS[name]:
        if step.needs and not NEEDS[step.needs]():
            pytest.skip(f"from line {step.line} on this needs {step.needs}")
        if step.file:
            (work / step.file).parent.mkdir(parents=True, exist_ok=True)
            (work / step.file).write_text(step.text)
            continue
        for command, expected in commands(step.text):
            run = subprocess.run(
                ["bash", "-c", command],
                cwd=work,
                env=known,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=600,
            )
            place = f"{name}, block at line {step.line}: {command}"
            assert run.returncode == 0, f"{place}\n{run.stdout}"
            assert matches(expected, run.stdout), f"{place}\nexpected:\n{expected}\nprinted:\n{run.stdout}"


def commands(text: str) -> list[tuple[str, str]]:
    """Commands, each with the output that stands below it. A command that ends with a backslash goes on."""
    parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n", text, flags=re.MULTILINE)
    assert parts[0] == "", "a console block begins with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def matches(expected: str, printed: str) -> bool:
    """`...` in what is expected stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.rstrip("\n").split("..."))
    return re.fullmatch(pattern, printed.rstrip("\n"), re.DOTALL) is not None


def test_the_walks_are_found() -> None:
    assert [test for page, test in ELSEWHERE.items() if Path(page).name not in (ROOT / test).read_text()] == []
    assert "docs/tutorial.md" in WALKS
    assert all(step.needs in NEEDS for walk in WALKS.values() for step in walk if step.needs)


def test_every_console_block_and_every_named_file_is_in_a_walk() -> None:
    walked = sum(len(walk) for walk in WALKS.values())
    lines = "".join(path.read_text() for path in PAGES)
    elsewhere = lines.count("<!-- run by: ")
    assert walked + elsewhere == lines.count("\n```console\n") + lines.count("\n:caption: ") - lines.count("{toctree}")


def test_what_a_page_says_wrongly_is_noticed() -> None:
    assert commands("$ a \\\n  b\nc\nd\n$ e\n") == [("a \\\n  b", "c\nd\n"), ("e", "")]
    assert matches("a ... c", "a b\nb c\n") and not matches("a", "b") and not matches("", "a") and not matches("a", "")
