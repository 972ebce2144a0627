"""The project's tables as Markdown: each function reads the facts where they stand, so that no page repeats them."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import lucet
from lucet import limits
from lucet.abi import tables as abi
from lucet.cli.main import COMMANDS
from lucet.compile import options
from lucet.wasi.tables import ABIS
from lucet.wasm.opcodes import FEATURES, OPS, Op, split_code

ROOT: Final = Path(__file__).parents[2]
ABI: Final = Path(abi.__file__).parent


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = [list(columns)]
    lines += [["---"] * len(lines[0])]
    lines += [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def code(text: object) -> str:
    return f"`{text}`"


# ---- the core


def traps() -> str:
    rows = ((code(one.name), one.code, one.text) for one in abi.TRAPS.values())
    return table(["`Trap.code`", "in the instruction", "text"], rows)


def macros(file: str, name: str) -> list[tuple[list[str], str]]:
    """The rows NAME(...) of a .def file: arguments, and the comment behind them."""
    text = (ABI / file).read_text(encoding="ascii")
    found = re.findall(rf"^{name}\((.*?)\)[ \t]*(?:/\*(.*?)\*/)?$", text, re.MULTILINE | re.DOTALL)
    if len(found) != len(re.findall(rf"^{name}\(", text, re.MULTILINE)):
        raise ValueError(f"{file}: cannot read every {name}")
    split = re.compile(r'"[^"]*"|[^\s,"]+')
    return [([one.strip('"') for one in split.findall(row)], " ".join(note.split())) for row, note in found]


def states() -> str:
    return table(["state", "meaning"], ((text, note) for (_, text), note in macros("states.def", "STATE")))


def transitions() -> str:
    """A row for each event, a column for each state that it may meet."""
    texts = {name: text for (name, text), _ in macros("states.def", "STATE")}
    texts |= {"INITIAL": "initial", "ERROR": "no"}
    pairs = {
        (state, event): f"{texts[to]} ({note.replace('ERROR', 'refused')})" if note else texts[to]
        for (state, event, to), note in macros("transitions.def", "TRANSITION")
    }
    columns = [state for state in texts if any(state == before for before, _ in pairs)]
    events = [one for one, _ in macros("transitions.def", "EVENT")]
    rows = [[text, *(pairs.get((state, name), "") for state in columns)] for name, text in events]
    return table(["event", *(texts[state] for state in columns)], rows)


def builtins() -> str:
    rows = ([one.index, code(one.name), code(", ".join(one.params)), code(one.result)] for one in abi.BUILTINS.values())
    return table(["index", "builtin", "parameters", "result"], rows)


def instance_words() -> str:
    notes = {name: note for (name, _), note in macros("instance.def", "VMCTX")}
    return table(["word", "from vmctx", "what"], ([code(n), at, notes[n]] for n, at in abi.VMCTX.items()))


def structures() -> str:
    """Every structure of the artifact, to the byte."""
    text = (ABI / "artifact.def").read_text(encoding="ascii")
    parts = []
    for one in abi.STRUCTS.values():
        notes = dict(re.findall(rf"^FIELD\({one.name}, \w+, (\w+), \d+\)\s*(?:/\*(.*?)\*/)?", text, re.M | re.S))
        rows = ([f.offset, code(f.type), code(f.name), " ".join(notes[f.name].split())] for f in one.fields.values())
        parts.append(f"**{one.name}**, {one.size} bytes\n\n{table(['offset', 'type', 'field', 'what'], rows)}")
    return "\n".join(parts)


# ---- the compile half


def attribute_docs(source: str) -> dict[str, tuple[str, str]]:
    """Name -> (value's source, string below it) of the assignments in a module or a class."""
    found: dict[str, tuple[str, str]] = {}
    body = ast.parse(source).body
    if len(body) == 1 and isinstance(body[0], ast.ClassDef):
        body = body[0].body
    for one, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            below = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            note = str(ast.literal_eval(following.value)) if below and isinstance(following, ast.Expr) else ""
            found[one.target.id] = (ast.unparse(one.value) if one.value else "", " ".join(note.split()))
    return found


def implementation_limits() -> str:
    notes = attribute_docs(Path(limits.__file__).read_text(encoding="utf-8"))
    rows = [(code(name), f"{getattr(limits, name):,}", note) for name, (_, note) in notes.items()]
    return table(["limit", "value", "what"], rows)


def compiler_options() -> str:
    """The fields of Options: what each is, from the text below it."""
    source = textwrap.dedent(inspect.getsource(options.Options))
    default = options.Options()
    rows = [
        [code(name), code(repr(getattr(default, name))), note] for name, (_, note) in attribute_docs(source).items()
    ]
    return table(["keyword", "default", "what"], rows)


def target_cpus() -> str:
    rows = [[code(name), ", ".join(map(code, needs)) or "nothing"] for name, needs in options.CPU_FEATURES.items()]
    old = [[code(name), f"as {code(level)}"] for name, level in options.TARGET_CPU_ALIASES.items()]
    return table(["`--target-cpu`", "what the machine must have"], rows + old)


def instructions() -> str:
    """All instructions, grouped by what brought them."""
    parts = []
    for feature, ops in by_feature().items():
        rows = [[code(opcode(op)), code(op.name), signature(op), op.immediates and code(op.immediates)] for op in ops]
        title = f"**{feature}**, {len(rows)} instructions"
        parts.append(f"{title}\n\n{table(['code', 'instruction', 'type', 'immediates'], rows)}")
    return "\n".join(parts)


def instruction_counts() -> str:
    """How many instructions each feature brought, and which families of the translator they are in."""
    rows = [[code(f), len(ops), ", ".join(sorted({op.family for op in ops}))] for f, ops in by_feature().items()]
    return table(["feature", "instructions", "families"], [*rows, ["all", len(OPS), ""]])


def by_feature() -> dict[str, list[Op]]:
    """Features that brought none, such as multi-value, are left out."""
    found = {feature: [op for op in OPS.values() if op.feature == feature] for feature in FEATURES}
    return {feature: ops for feature, ops in found.items() if ops}


def opcode(op: Op) -> str:
    if op.code < 0x100:
        return f"{op.code:02x}"
    prefix, number = split_code(op.code)
    return f"{prefix:02x} {number}"


def signature(op: Op) -> str:
    if op.irregular:
        return "by the validator's own rule"
    return code(f"[{' '.join(map(str, op.pops))}] -> [{' '.join(map(str, op.pushes))}]")


# ---- files, WASI, commands, errors


def files() -> str:
    """Every source file of the package and of the core, with what its first line says."""
    parts = []
    for folder in sorted({path.parent for path in sources()}):
        rows = [[code(path.name), first_line(path)] for path in sources() if path.parent == folder]
        parts.append(f"**{folder.relative_to(ROOT)}**\n\n{table(['file', 'what it is'], rows)}")
    return "\n".join(parts)


def sources() -> list[Path]:
    found = [*(ROOT / "src").rglob("*"), *(ROOT / "native").rglob("*")]
    return sorted(path for path in found if path.suffix in (".py", ".pyi", ".c", ".h", ".S", ".def"))


def first_line(path: Path) -> str:
    """The first sentence, without the marks of a comment, and without the file's own name, which C files begin with."""
    text = path.read_text(encoding="utf-8")
    match = re.match(r'(?:"""|/\*)\s*(?:[\w./]+: )?(.*?)(?:\n\s*\n|"""|\*/|\.\s)', text, re.DOTALL)
    return " ".join(match[1].replace("\n *", " ").split()).rstrip(".") if match else ""


def wasi_calls() -> str:
    """Name, parameters and results of each call, and whether the core does the usual case."""
    core = set(re.findall(r'^    \{"(\w+)", "\w*:', (ROOT / "native" / "wasi_calls.c").read_text(), re.MULTILINE))
    newest = ABIS[0]
    others = {name: [abi.module for abi in ABIS[1:] if name in abi.calls] for name in newest.calls}
    rows = [
        [
            code(name),
            ", ".join(f"{param.name}: {'pointer' if param.is_pointer else param.type}" for param in call.params),
            "core" if name in core else "Python",
            ", ".join(map(code, others[name])),
        ]
        for name, call in newest.calls.items()
    ]
    return table([f"call of `{newest.module}`", "parameters", "where", "also in"], rows)


def commands() -> str:
    """What each command says with --help."""
    parts = []
    for name in COMMANDS:
        command = [sys.executable, "-m", "lucet", name, "--help"]
        environment = {**os.environ, "COLUMNS": "96"}
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        parts.append(f"**lucet {name}**\n\n```text\n{told}```\n")
    return "\n".join(parts)


def errors() -> str:
    """The tree of exceptions, as the module draws it."""
    drawing = (lucet.errors.__doc__ or "").partition("\n\n")[2]
    return f"```text\n{drawing.strip()}\n```\n"
