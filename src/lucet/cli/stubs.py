"""`lucet stubs`: what a module exports, as a stub for type checkers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from lucet.cli.common import Failure, Parser, about, guarded, write_output
from lucet.cli.inputs import Kind, kind_of, read_source
from lucet.runtime import ExportType, Module
from lucet.runtime.module import ExternType
from lucet.runtime.stubs import stub
from lucet.wasm.decode import decode_module
from lucet.wasm.module import Module as Decoded
from lucet.wasm.valid import validate_module


def main(arguments: Sequence[str] | None = None, prog: str = "lucet stubs") -> int:
    """Run the command and return its exit status: 1 if --check finds a difference."""
    return guarded(prog, lambda given: _stubs(given, prog), arguments)


def _stubs(arguments: Sequence[str], prog: str) -> int:
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options] MODULE",
        description="Writes a typed stub of what a module (.wasm, .wat, .so) exports: a class Exports, to cast "
        "instance.exports to.",
    )
    parser.add_argument("module", metavar="MODULE")
    parser.add_argument("-o", "--output", default="-", metavar="FILE.pyi", help="default: standard output")
    parser.add_argument("--check", metavar="FILE.pyi", help="write nothing: is that file still what would be written?")
    given = parser.parse_args(arguments)
    with about(given.module):
        text = stub(Path(given.module).name, _exports(given.module))
    if given.check is None:
        write_output(given.output, text.encode())
        return 0
    present = Path(given.check).read_text(errors="replace")
    if present != text:
        lines = difflib.unified_diff(present.splitlines(), text.splitlines(), "is", "should be", lineterm="", n=0)
        raise Failure(f"{given.check}: is not the stub of {given.module}", "\n".join(lines))
    return 0


def _exports(path: str) -> Sequence[ExportType]:
    kind = kind_of(path)
    if kind is Kind.ARTIFACT:
        return Module.load(path).exports
    source = read_source(path, kind)
    with source.located():
        module = decode_module(source.wasm)
        validate_module(module)
    return [ExportType(export.name, _type_of(module, export.kind, export.index)) for export in module.exports]


def _type_of(module: Decoded, kind: str, index: int) -> ExternType:
    match kind:
        case "func":
            return module.func_type(index)
        case "table":
            return module.all_tables[index]
        case "memory":
            return module.all_memories[index]
        case "global":
            return module.all_globals[index]
        case _:
            return module.all_tags[index]
