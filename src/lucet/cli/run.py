"""`lucet run`: compile a WASI command, unless the cache has it, and run it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lucet.cli.common import Failure, Parser, about, default_signals, describe, guarded
from lucet.cli.guest import add_guest_options, check_entry, check_options, execute
from lucet.cli.inputs import (
    Kind,
    add_compile_options,
    add_verify_option,
    compile_options,
    kind_of,
    read_public_key,
    read_source,
)
from lucet.cli.progress import Progress

if TYPE_CHECKING:
    from lucet.compile.options import Options
    from lucet.runtime import Instance, Module


def main(arguments: Sequence[str] | None = None, prog: str = "lucet run") -> int:
    """Run the command and return the guest's exit status."""
    return guarded(prog, lambda given: _run(given, prog), arguments)


def _run(arguments: Sequence[str], prog: str) -> int:
    parser = guest_parser(prog, "Compiles a WASI command, keeps the result in a cache, and runs it.")
    add_verify_option(parser)
    add_compile_options(parser)
    parser.add_argument("--no-cache", action="store_true", help="neither look in the cache nor keep the result there")
    parser.add_argument(
        "--profile-out",
        metavar="FILE",
        help="count what runs, and write a profile for lucetc --profile; code is slower",
    )
    given = parser.parse_args(arguments)
    if given.profile_out is not None:
        return _run_counted(given, compile_options(given))
    return run_guest(given, compile_options(given), cache=not given.no_cache, public_key=given.verify)


def guest_parser(prog: str, description: str) -> Parser:
    """The options that decide what the guest is given; lucet-wasi has them too."""
    parser = Parser(prog=prog, usage=f"{prog} [options] PROGRAM [ARGUMENT]...", description=description)
    parser.add_argument(
        "program", metavar="PROGRAM", help="a .wasm, .wat or artifact (.so); what follows is the guest's"
    )
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)
    add_guest_options(parser)
    return parser


def run_guest(given: argparse.Namespace, options: Options, *, cache: bool = True, public_key: str | None = None) -> int:
    """Run the program as the options say; returns its exit status. public_key: the file of who must have signed it."""
    check_options(given)
    if given.fuel is not None:
        options = replace(options, count_instructions=True)
    with about(given.program):
        module = _load(given.program, options, cache=cache, public_key=public_key)
    return _execute(module, given)


def _run_counted(given: argparse.Namespace, options: Options) -> int:
    """Run a module that counts, and write the profile, however the run ended."""
    from lucet.compile.driver import compile_module
    from lucet.compile.profile import EXPORT, Profile, instrument
    from lucet.runtime import Memory, Module

    kind = kind_of(given.program)
    if kind is Kind.ARTIFACT:
        raise Failure(f"{given.program}: is compiled already; --profile-out needs the module")
    check_options(given)
    with about(given.program):
        source = read_source(given.program, kind, given.verify)
        with Progress(given.program) as progress, source.located():
            module = Module.from_bytes(compile_module(instrument(source.wasm), options, progress=progress))

    def write(instance: Instance) -> None:
        counters = instance.exports[EXPORT]
        assert isinstance(counters, Memory)
        profile = Profile.of(source.wasm, counters.read(0, len(counters)))
        with about(given.profile_out):
            Path(given.profile_out).write_bytes(profile.to_bytes())

    return _execute(module, given, write)


def _execute(module: Module, given: argparse.Namespace, at_end: Callable[[Instance], None] = lambda _: None) -> int:
    """Run what the options say; at_end(instance) is called however it ended."""
    check_entry(given, module)
    arguments = [Path(given.program).name if given.argv0 is None else given.argv0, *given.arguments]
    default_signals()
    with about(given.program):
        return execute(module, arguments, given, at_end) & 0xFF


def _load(path: str, options: Options, *, cache: bool, public_key: str | None) -> Module:
    kind = kind_of(path)
    from lucet.runtime import Module

    if kind is Kind.ARTIFACT:
        return Module.load(path, public_key=None if public_key is None else read_public_key(public_key))
    source = read_source(path, kind, public_key)
    with Progress(path) as progress, source.located():
        path_in_cache = _in_cache(source.wasm, options, progress) if cache else None
        if path_in_cache is not None:
            module = Module.load(path_in_cache)
        else:
            from lucet.compile.driver import compile_module

            module = Module.from_bytes(compile_module(source.wasm, options, progress=progress))
    if "lucet.compile.pool" in sys.modules:  # it was not in the cache
        from lucet.compile.pool import end_idle_workers

        end_idle_workers()
    return module


def _in_cache(wasm: bytes, options: Options, progress: Progress) -> Path | None:
    """The artifact's file, compiled if need be; None where there can be no cache (a read-only home, say)."""
    from lucet.compile.cache import cached_compile

    try:
        return cached_compile(wasm, options, progress=progress)
    except OSError as error:
        if sys.stderr.isatty():  # a program's own standard error is not for our advice
            print(f"lucet: no cache, so every run compiles: {describe(error)}", file=sys.stderr)
        return None
