"""What every command shares: one clear line for each failure, exit statuses, and files written whole or not at all."""

from __future__ import annotations

import argparse
import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from lucet.errors import Exit, LocatedError, LucetError, Trap, WasmException

EXIT_ERROR: Final = 1
EXIT_USAGE: Final = 2
EXIT_TRAP: Final = 134
"""What a shell shows for a program that aborted (128 + SIGABRT)."""


class Failure(LucetError):
    """The command cannot do what it was asked to; the message is the line that the user sees.

    details: lines that follow it, such as the place in a text.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class Parser(argparse.ArgumentParser):
    """argparse with one line for a usage error, and no abbreviations: a new option would change what they mean."""

    def __init__(self, *, prog: str, description: str, usage: str) -> None:
        super().__init__(prog=prog, description=description, usage=usage, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def guarded(
    prog: str,
    command: Callable[[Sequence[str]], int],
    arguments: Sequence[str] | None,
    *,
    as_json: bool = False,
) -> int:
    """Call the command and turn whatever it raises into an exit status and one line on standard error.

    as_json: as [{"error": ...}].
    """
    given = sys.argv[1:] if arguments is None else arguments
    if os.environ.get("LUCET_DEBUG") == "1":
        return command(given)
    try:
        return command(given)
    except Exit as ended:
        return ended.status & 0xFF
    except Trap as trap:
        return _complain(f"{prog}: trap: {trap}", EXIT_TRAP, "\n".join(trap.__notes__))
    except WasmException as exception:
        return _complain(f"{prog}: {exception}", EXIT_TRAP, "\n".join(exception.__notes__))
    except KeyboardInterrupt:
        die_of_interrupt()
    except (LucetError, OSError, MemoryError) as error:
        said = describe(error) if isinstance(error, OSError) else str(error) or "out of memory"
        details = error.details if isinstance(error, Failure) else ""
    except Exception as error:  # a bug in Lucet: the user gets a line all the same, and a way to the traceback
        said, details = f"internal error: {type(error).__name__}: {error} (LUCET_DEBUG=1 shows where)", ""
    if as_json:
        return _complain(json.dumps([{"error": said}]), EXIT_ERROR)
    return _complain(f"{prog}: error: {said}", EXIT_ERROR, details)


def _complain(line: str, status: int, details: str = "") -> int:
    lines = [line, *details.splitlines()]
    printable = "\n".join(
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in one) for one in lines
    )
    with suppress(OSError, ValueError, AttributeError):  # standard error may be closed
        print(printable, file=sys.stderr, flush=True)
    return status


def describe(error: OSError) -> str:
    """An OSError without its number: "prog.wasm: No such file or directory"."""
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


@contextmanager
def about(path: str) -> Iterator[None]:
    """Put the file's name in front of what Lucet says about it."""
    try:
        yield
    except (Trap, WasmException, Exit, Failure):
        raise
    except LocatedError as error:
        if error.line is None:
            raise Failure(f"{path}: {error}") from error
        what = error.message if error.function is None else f"{error.message} in function {error.function}"
        raise Failure(f"{path}:{error.line}:{error.column}: {what}", error.excerpt or "") from error
    except LucetError as error:
        raise Failure(f"{path}: {error}") from error


def default_signals() -> None:
    """Die of SIGINT and of a closed pipe as any Unix program does; Python's own handlers would wait for the guest."""
    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # else whoever started us ignores it, and so do we
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def die_of_interrupt() -> NoReturn:
    """End as the shell expects of an interrupted program: killed by SIGINT, status 130."""
    default_signals()
    os.kill(os.getpid(), signal.SIGINT)
    raise SystemExit(128 + signal.SIGINT)


def write_output(path: str, data: bytes) -> None:
    """Write a whole file: a reader sees the old contents or the new ones, and a failure leaves the old ones."""
    target = Path(path)
    if path == "-" or (target.exists() and not stat.S_ISREG(target.stat().st_mode)):
        # Standard output, /dev/null, a pipe: not ours to replace.
        with open(1 if path == "-" else path, "wb", closefd=path != "-") as file:
            file.write(data)
        return
    target = target.resolve()  # a symbolic link stays one
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(target)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
