"""`lucetc`, `lucet compile`: a WebAssembly module to a shared object, or to one of the steps before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lucet.cli.common import Failure, Parser, about, guarded, write_output
from lucet.cli.inputs import Kind, add_compile_options, compile_options, kind_of, read_source
from lucet.cli.progress import Progress

SUFFIXES: Final = {"so": ".so", "obj": ".o", "asm": ".s", "ir": ".ll"}
"""--emit -> how the output is called unless -o says."""


def main(arguments: Sequence[str] | None = None, prog: str = "lucetc") -> int:
    """Run the command and return its exit status."""
    return guarded(prog, lambda given: _compile(given, prog), arguments)


def _compile(arguments: Sequence[str], prog: str) -> int:
    given = _parser(prog).parse_args(arguments)
    kind = kind_of(given.module)
    if kind is Kind.ARTIFACT:
        raise Failure(f"{given.module}: is compiled already")
    output = given.output or Path(given.module).stem + SUFFIXES[given.emit]
    with about(given.module):
        source = read_source(given.module, kind)
        from lucet.compile.driver import compile_module

        with Progress(given.module) as progress, source.located():
            data = compile_module(source.wasm, compile_options(given), emit=given.emit, progress=progress)
    write_output(output, data)
    return 0


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options] MODULE.wasm [-o OUTPUT]",
        description="Compiles a WebAssembly module to a native shared object for `lucet run` and lucet.Module.load.",
    )
    parser.add_argument("module", metavar="MODULE.wasm", help="the module, binary or text (.wat)")
    parser.add_argument(
        "-o", "--output", help="where to write; default: the module's name with another suffix; -: standard output"
    )
    parser.add_argument(
        "--emit",
        choices=SUFFIXES,
        default="so",
        help="so: shared object (default); obj: relocatable object; asm, ir: text",
    )
    add_compile_options(parser)
    return parser
