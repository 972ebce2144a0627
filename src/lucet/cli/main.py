"""`lucet`: the command that finds the other commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Final

from lucet.cli.common import EXIT_USAGE

COMMANDS: Final = {
    "run": "run a WebAssembly program or an artifact",
    "compile": "compile a WebAssembly module to a shared object (also: lucetc)",
    "stubs": "write a typed stub of what a module exports",
    "serve": "answer HTTP requests, each with a fresh instance",
    "deploy": "give a server a new version of an application",
    "app": "which applications a server has, and which versions answer",
    "inspect": "show what is in an artifact, and whether it is whole and signed",
}
"""Each in the file of its name, whose main(arguments, prog) is called."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `lucet COMMAND ...` and return its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    command = given[0] if given else ""
    if command in COMMANDS:
        status: int = importlib.import_module(f"lucet.cli.{command}").main(given[1:], prog=f"lucet {command}")
        return status
    if command in ("-h", "--help"):
        print(_help())
        return 0
    if command in ("-V", "--version"):
        import lucet

        print(f"lucet {lucet.__version__}")
        return 0
    problem = f"unknown command {command!r}" if command else "no command"
    print(f"lucet: error: {problem} (see lucet --help)", file=sys.stderr)
    return EXIT_USAGE


def _help() -> str:
    lines = ["usage: lucet COMMAND ...", "", "Compiles WebAssembly to native code and runs it in a sandbox.", ""]
    lines += [f"  {name:10} {summary}" for name, summary in COMMANDS.items()]
    lines += ["", "lucet COMMAND --help says more; --version prints the version."]
    return "\n".join(lines)
