"""What the commands that run a guest give it: options, the sandbox they describe, and calls of single functions."""

from __future__ import annotations

import argparse
import os
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lucet.cli.common import EXIT_TRAP, Failure, Parser

if TYPE_CHECKING:
    from lucet.runtime import Instance, Module

UNITS: Final = {"": 0, "K": 10, "M": 20, "G": 30}
SIZE: Final = re.compile(r"(\d+)\s*([KMG]?)(?:i?B)?", re.IGNORECASE)
BACKLOG: Final = 128

EPILOG: Final = f"""\
examples:
  PROG program.wasm one two                    arguments one and two
  PROG --dir . program.wasm file.txt           the program sees this directory
  PROG --dir data::/data::ro program.wasm      data as /data, to read only
  PROG --invoke add module.wasm 1 2            calls a function and prints its result
  PROG --timeout 5 --max-heap-size 64M p.wasm  within bounds

A program gets nothing but what is given: no directory, no variable, no network.

exit status: the program's own, modulo 256; {EXIT_TRAP} if it trapped, or ran out of time or fuel;
2 if the command was used wrongly, 1 if the program could not be run."""


def add_guest_options(parser: Parser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG.replace("PROG", parser.prog)
    group = parser.add_argument_group("what the guest is given")
    group.add_argument(
        "--dir",
        action="append",
        default=[],
        type=_directory,
        metavar="HOST[::GUEST[::ro]]",
        help="a directory, under the name GUEST (default: the same name); ro: to read only; may be repeated",
    )
    group.add_argument(
        "--env", action="append", default=[], type=_variable, metavar="NAME=VALUE", help="a variable; may be repeated"
    )
    group.add_argument("--inherit-env", action="store_true", help="all variables of this process; --env changes them")
    group.add_argument("--argv0", metavar="NAME", help="the program's own name; default: PROGRAM without its folder")
    for name, what in (("in", "input"), ("out", "output"), ("err", "error")):
        where = "from" if name == "in" else "to"
        group.add_argument(
            f"--std{name}", metavar="FILE", help=f"standard {what} is {where} this file; default: this process's own"
        )
    group.add_argument(
        "--listen",
        action="append",
        default=[],
        type=_address,
        metavar="ADDRESS:PORT",
        help="a socket that listens, or unix:PATH; its descriptor comes after those of the directories (the first of"
        " which is 3); may be repeated",
    )
    group.add_argument(
        "--invoke", metavar="NAME", help="call this exported function with the arguments and print its results"
    )
    group = parser.add_argument_group("bounds")
    group.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="for how long it may run; then it is ended, as by a trap"
    )
    group.add_argument(
        "--fuel", type=_fuel, metavar="N", help="instructions that it may execute (and count them); then it is ended"
    )
    group.add_argument(
        "--max-heap-size", type=_size, metavar="SIZE", help="bytes of memory, as 1000, 512K, 64M or 2G; default: 4G"
    )
    group.add_argument("--max-stack-size", type=_size, metavar="SIZE", help="bytes of stack; default: 1M")


def _directory(text: str) -> tuple[str, str, bool]:
    host, *rest = text.split("::")
    is_read_only = len(rest) == 2 and rest[1] == "ro"
    if is_read_only:
        rest.pop()
    if not host or len(rest) > 1 or not all(rest):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST or HOST::GUEST or HOST::GUEST::ro")
    return host, rest[0] if rest else host, is_read_only


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _fuel(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63 - 1:
        raise argparse.ArgumentTypeError(f"must be a number below 2**63 - 1, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) or not 0 < float(text) < 10**9:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return float(text)


def _size(text: str) -> int:
    match = SIZE.fullmatch(text)
    size = int(match[1]) << UNITS[match[2].upper()] if match and len(match[1]) < 20 else 0
    if not 0 < size < 1 << 63:
        raise argparse.ArgumentTypeError(f"must be a size such as 65536, 64K, 64M or 2G, not {text!r}")
    return size


def _address(text: str) -> tuple[int, Any]:
    """(family, what bind wants)"""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return socket.AF_UNIX, text.removeprefix("unix:")
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS:PORT or unix:PATH")
    if host.startswith("[") and host.endswith("]"):
        return socket.AF_INET6, (host[1:-1], int(port))
    return socket.AF_INET, (host, int(port))


def check_options(given: argparse.Namespace) -> None:
    """What can be known to be wrong before anything is compiled."""
    for host, _, _ in given.dir:
        if not Path(host).is_dir():
            raise Failure(f"--dir {host}: no such directory")


def check_entry(given: argparse.Namespace, module: Module) -> None:
    """Whether the module has what is to be run."""
    from lucet.wasm.types import FuncType

    functions = {export.name for export in module.exports if isinstance(export.type, FuncType)}
    if given.invoke is not None and given.invoke not in functions:
        raise Failure(f"{given.program}: exports no function {given.invoke!r}")
    if given.invoke is None and not {"_start", "_initialize"} & functions:
        others = ", ".join(sorted(functions)[:5])
        hint = f" (--invoke NAME calls one of: {others})" if others else ""
        raise Failure(f"{given.program}: exports no _start, so it is not a WASI command{hint}")


def execute(module: Module, arguments: list[str], given: argparse.Namespace, at_end: Callable[[Instance], None]) -> int:
    """Run the program, or call the function, in the sandbox that the options describe; then at_end(instance)."""
    from lucet.runtime import Region
    from lucet.wasi import WasiContext, initialize, run_command

    sizes = {} if given.max_stack_size is None else {"stack_size": given.max_stack_size}
    try:
        region = Region(slots=1, **sizes)
    except ValueError as error:
        raise Failure(f"--max-stack-size: {error}") from None
    with ExitStack() as opened:
        streams = _streams(given, opened)
        context = opened.enter_context(
            WasiContext(
                args=arguments,
                env={**(os.environ if given.inherit_env else {}), **dict(given.env)},
                preopens=given.dir,
                sockets=[opened.enter_context(_listener(*address)) for address in given.listen],
                stdin=streams["stdin"],
                stdout=streams["stdout"],
                stderr=streams["stderr"],
            )
        )
        instance = region.new_instance(
            module,
            context.imports(),
            memory_limit=given.max_heap_size or 0,
            fuel=given.fuel,
            timeout=given.timeout,
        )
        try:
            if given.invoke is None:
                return run_command(instance)
            return initialize(instance) or _invoke(instance, given.invoke, given.arguments)
        finally:
            at_end(instance)


def _streams(given: argparse.Namespace, opened: ExitStack) -> dict[str, int]:
    streams = {"stdin": 0, "stdout": 1, "stderr": 2}
    files: dict[str, int] = {}
    for name in streams:
        path = getattr(given, name)
        if path is None:
            continue
        if path not in files or name == "stdin":  # both outputs to one file share its position
            flags = os.O_RDONLY if name == "stdin" else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            try:
                fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise Failure(f"--{name} {path}: {error.strerror}") from None
            opened.callback(os.close, fd)
            streams[name] = fd
            if name != "stdin":
                files[path] = fd
        else:
            streams[name] = files[path]
    return streams


def _listener(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        where = address if isinstance(address, str) else ":".join(map(str, address))
        raise Failure(f"--listen {where}: {error.strerror or error}") from None
    return listener


def _invoke(instance: Instance, name: str, arguments: list[str]) -> int:
    """Call it and print the results, one in a line."""
    from lucet.runtime import Func

    function = instance.export(name)
    assert isinstance(function, Func)
    params = function.type.params
    if len(params) != len(arguments):
        raise Failure(f"--invoke {name}: takes {len(params)} arguments ({', '.join(params)}), not {len(arguments)}")
    values = [_value(text, valtype, name) for text, valtype in zip(arguments, params, strict=True)]
    result = instance.run(name, *values)
    for value in result if isinstance(result, tuple) else () if result is None else (result,):
        print(value, flush=True)
    return 0


def _value(text: str, valtype: str, name: str) -> int | float:
    try:
        if valtype in ("i32", "i64"):
            bits = int(valtype[1:])
            value = int(text, 0)
            if -(1 << (bits - 1)) <= value < 1 << bits:
                return value
        elif valtype in ("f32", "f64"):
            return float(text)
        else:
            raise Failure(f"--invoke {name}: an argument of type {valtype} cannot be given here")
    except ValueError:
        pass
    raise Failure(f"--invoke {name}: {text!r} is not an {valtype}")
