"""`lucetc`, `lucet compile`: a WebAssembly module to a shared object, or to one of the steps before it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lucet.cli.common import Failure, Parser, about, guarded, write_output
from lucet.cli.inputs import Kind, add_compile_options, add_verify_option, compile_options, kind_of, read_source
from lucet.cli.progress import Progress
from lucet.errors import ArtifactError

if TYPE_CHECKING:
    from lucet.compile.options import Options
    from lucet.signing import SecretKey
    from lucet.wasm.types import FuncType

SUFFIXES: Final = {"so": ".so", "obj": ".o", "asm": ".s", "ir": ".ll"}
"""--emit -> how the output is called unless -o says."""


def main(arguments: Sequence[str] | None = None, prog: str = "lucetc") -> int:
    """Run the command and return its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--error-style=json" in given or ("--error-style", "json") in pairwise(given)
    return guarded(prog, lambda given: _compile(given, prog), given, as_json=as_json)


def _compile(arguments: Sequence[str], prog: str) -> int:
    parser = _parser(prog)
    given = parser.parse_args(arguments)
    if given.keygen is not None:
        from lucet.cli.sign import keygen

        keygen(given.keygen, encrypted=not given.no_password)
        return 0
    if given.module is None:
        parser.error("the following arguments are required: MODULE.wasm")
    if given.sign and (given.output == "-" or given.emit != "so"):
        parser.error("--sign writes a signature beside a shared object")
    kind = kind_of(given.module)
    if kind is Kind.ARTIFACT and given.sign:
        _sign_artifact(given)
        return 0
    if kind is Kind.ARTIFACT:
        raise Failure(f"{given.module}: is compiled already")
    if kind is Kind.TEXT and given.no_translate_wat:
        raise Failure(f"{given.module}: is in the text format (--no-translate-wat)")
    options = _options(given)
    output = given.output or Path(given.module).stem + SUFFIXES[given.emit]
    with about(given.module):
        key = _signing_key(given.sign)
        source = read_source(given.module, kind, given.verify)
        from lucet.compile.driver import compile_module

        if given.profile is not None:
            options = replace(options, hot=_hot(given.profile, source.wasm))
        with Progress(given.module) as progress, source.located():
            data = compile_module(
                source.wasm,
                options,
                emit=given.emit,
                progress=progress,
                description=_wasi() if given.validate else None,
                command=given.wasi_exe,
            )
    write_output(output, data)
    if key is not None:
        from lucet.cli.sign import sign_file

        sign_file(output, data, key)
    return 0


def _signing_key(path: str | None) -> SecretKey | None:
    """Before anything is compiled: a password may have to be asked for."""
    if path is None:
        return None
    from lucet.cli.sign import read_secret_key

    return read_secret_key(path)


def _sign_artifact(given: argparse.Namespace) -> None:
    """Sign what is compiled already, if it is whole."""
    from lucet.abi.artifact_reader import is_intact, read_artifact
    from lucet.cli.sign import read_secret_key, sign_file

    with about(given.module):
        data = Path(given.module).read_bytes()
        if not is_intact(data, read_artifact(data)):
            raise ArtifactError("the artifact is damaged")
    sign_file(given.module, data, read_secret_key(given.sign))


def _hot(path: str, wasm: bytes) -> tuple[int, ...]:
    from lucet.compile.profile import Profile

    try:
        return Profile.from_bytes(Path(path).read_bytes()).hot(wasm)
    except ValueError as error:
        raise Failure(f"{path}: {error}") from error


def _options(given: argparse.Namespace) -> Options:
    from lucet.compile.imports import read_bindings
    from lucet.compile.options import Options

    minimum, maximum = given.min_reserved_size, given.max_reserved_size
    if given.reserved_size is not None:
        minimum = maximum = given.reserved_size
    texts = [Path(path).read_bytes() for path in given.bindings]
    try:
        bindings = read_bindings(texts)
    except ValueError as error:
        raise Failure(f"{', '.join(given.bindings)}: {error}") from error
    return compile_options(
        given,
        min_reserved_size=minimum,
        max_reserved_size=maximum,
        guard_size=Options.guard_size if given.guard_size is None else given.guard_size,
        bindings=bindings,
        debug_info=given.debug_info,
        incremental=given.incremental,
    )


def _wasi() -> dict[str, dict[str, FuncType]]:
    """The functions of WASI preview 1, and of preview 0."""
    from lucet.wasi.tables import ABIS
    from lucet.wasm.types import FuncType, ValType

    return {
        abi.module: {
            name: FuncType(tuple(ValType(one.type) for one in call.params), tuple(map(ValType, call.results)))
            for name, call in abi.calls.items()
        }
        for abi in ABIS
    }


_SIZE: Final = re.compile(r"(\d{1,15})\s*(?:([KMGT])(i?B)?|B)?", re.IGNORECASE | re.ASCII)
_UNITS: Final = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a number of bytes, or one like 64 MiB, not {text!r}")
    return int(match[1]) << _UNITS[(match[2] or "").upper()]


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options] MODULE.wasm [-o OUTPUT]",
        description="Compiles a WebAssembly module to a native shared object for `lucet run` and lucet.Module.load.",
    )
    parser.add_argument("module", metavar="MODULE.wasm", nargs="?", help="the module, binary or text (.wat)")
    parser.add_argument(
        "-o", "--output", help="where to write; default: the module's name with another suffix; -: standard output"
    )
    parser.add_argument(
        "--emit",
        choices=SUFFIXES,
        default="so",
        help="so: shared object (default); obj: relocatable object; asm, ir: text",
    )
    parser.add_argument(
        "--incremental",
        action="store_true",
        help="keep objects in the cache's directory, and take those of unchanged functions from there",
    )
    parser.add_argument(
        "-g",
        action="store_true",
        dest="debug_info",
        help="source lines for gdb, if the module has DWARF (clang -g)",
    )
    add_compile_options(parser)
    parser.add_argument(
        "--profile",
        metavar="FILE",
        help="what `lucet run` wrote when it counted: optimise hard only what took the time",
    )
    group = parser.add_argument_group("memory")
    group.add_argument(
        "--min-reserved-size",
        type=_size,
        metavar="SIZE",
        help="address space for each memory, at least; default: 4 GiB, which makes comparisons unnecessary",
    )
    group.add_argument(
        "--max-reserved-size", type=_size, metavar="SIZE", help="refuse memories that begin with more; default: 8 GiB"
    )
    group.add_argument("--reserved-size", type=_size, metavar="SIZE", help="both of these")
    group.add_argument(
        "--guard-size", type=_size, metavar="SIZE", help="address space after 4 GiB that faults; default: 32 MiB"
    )
    group = parser.add_argument_group("imports")
    group.add_argument(
        "--bindings",
        action="append",
        default=[],
        metavar="FILE",
        help='JSON, {"module": {"field": "name"}}: what the host calls each imported function; may be repeated',
    )
    group.add_argument("--validate", action="store_true", help="refuse imports that WASI preview 1 does not have")
    group.add_argument(
        "--wasi-exe", "--wasi_exe", action="store_true", help="refuse a module without the function _start of a command"
    )
    group = parser.add_argument_group("signatures")
    group.add_argument("--keygen", metavar="KEY", help="write a new secret key, KEY, and its public key, KEY.pub")
    group.add_argument("--no-password", action="store_true", help="the new key is not encrypted")
    group.add_argument(
        "--sign", metavar="KEY", help="sign the shared object, also one that is compiled already: OUTPUT.minisig"
    )
    add_verify_option(group)
    group = parser.add_argument_group("the command itself")
    group.add_argument("--no-translate-wat", action="store_true", help="refuse the text format")
    group.add_argument(
        "--error-style", choices=("human", "json"), default="human", help="of errors about the input; default: human"
    )
    return parser
