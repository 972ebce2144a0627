"""`lucet-wasi`: run an artifact, or a program as `lucet run` does by default."""

from __future__ import annotations

from collections.abc import Sequence

from lucet.cli.common import guarded
from lucet.cli.run import guest_parser, run_guest
from lucet.compile.options import Options


def main(arguments: Sequence[str] | None = None, prog: str = "lucet-wasi") -> int:
    """Run the command and return the guest's exit status."""
    return guarded(prog, lambda given: _run(given, prog), arguments)


def _run(arguments: Sequence[str], prog: str) -> int:
    parser = guest_parser(
        prog, "Runs a WASI command: an artifact that lucetc made, or a program that it compiles first."
    )
    return run_guest(parser.parse_args(arguments), Options())
