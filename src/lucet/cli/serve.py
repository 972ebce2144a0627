"""`lucet serve`: answer HTTP requests, each with a fresh instance of an application."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lucet.cli.common import Failure, Parser, about, guarded

if TYPE_CHECKING:
    from lucet.terrarium.catalogue import Catalogue

_DEFAULT_LISTEN = "127.0.0.1:8080"


def main(arguments: Sequence[str] | None = None, prog: str = "lucet serve") -> int:
    """Run the command until SIGTERM or Ctrl-C, and return its exit status."""
    return guarded(prog, lambda given: _serve(given, prog), arguments)


def _serve(arguments: Sequence[str], prog: str) -> int:
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options] [NAME=]PROGRAM...\n       {prog} --config FILE",
        description="Serves applications over HTTP: each request has a fresh instance.",
    )
    parser.add_argument("--config", metavar="FILE", help="TOML: tenants, limits, the admin API and its page")
    parser.add_argument(
        "programs",
        metavar="[NAME=]PROGRAM",
        nargs="*",
        help="a .wasm, .wat or artifact; with several, NAME is the first segment of the path (/NAME/...)",
    )
    parser.add_argument("--listen", metavar="HOST:PORT", default=_DEFAULT_LISTEN, help=f"default: {_DEFAULT_LISTEN}")
    parser.add_argument("--certificate", metavar="FILE", help="PEM: serve TLS, HTTP/1.1 and HTTP/2")
    parser.add_argument("--key", metavar="FILE", help="PEM: the certificate's private key")
    parser.add_argument("--env", metavar="NAME=VALUE", action="append", default=[], help="configuration of the guests")
    parser.add_argument("--log", metavar="FILE", help="a line of JSON for each request; default: standard error")
    parser.add_argument("--quiet", action="store_true", help="no line for each request")
    parser.add_argument("--development", action="store_true", help="responses tell what went wrong in a guest")
    parser.add_argument("--grace", metavar="SECONDS", type=float, default=30.0, help="for requests at the end (30)")
    given = parser.parse_args(arguments)
    try:
        import httptools  # noqa: F401 - whether it is there
    except ImportError:
        raise Failure("serving needs more packages: pip install 'lucet[serve]'") from None
    if given.config is not None:
        if given.programs:
            raise Failure("--config goes without programs: the file declares them")
        _in_loop(_run_platform(given.config, prog))
        return 0
    if not given.programs:
        raise Failure("a PROGRAM or --config FILE is expected")
    if (given.certificate is None) != (given.key is None):
        raise Failure("--certificate and --key belong together")
    _in_loop(_run(_catalogue(given), given, prog))
    return 0


def _in_loop(main: Coroutine[Any, Any, None]) -> None:
    run: Any = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(main)


async def _run_platform(file: str, prog: str) -> None:
    from lucet.terrarium.config import read_config
    from lucet.terrarium.platform import Platform

    with about(file):
        config = read_config(Path(file))
    platform = Platform(config)
    await platform.start()
    for address in platform.addresses:
        print(f"{prog}: {address}", flush=True)
    if platform.admin_address is not None:
        print(f"{prog}: administration: {platform.admin_address} (token: {platform.token_file})", flush=True)
    await _until_told()
    await platform.close()


async def _until_told() -> None:
    """SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


def _catalogue(given: argparse.Namespace) -> Catalogue:
    from lucet.terrarium.catalogue import Route
    from lucet.terrarium.fixed import FixedCatalogue, Program
    from lucet.terrarium.interfaces import UnknownInterface

    configuration = []
    for one in given.env:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise Failure(f"--env {one}: NAME=VALUE is expected")
        configuration.append((name, value))
    programs = []
    for text in given.programs:
        name, equals, path = text.partition("=")
        if not equals:
            name, path = Path(text).stem, text
        prefix = f"/{name}" if len(given.programs) > 1 else "/"
        routes = (Route(host="*", path=prefix),)
        programs.append(Program(name=name, path=Path(path), routes=routes, configuration=tuple(configuration)))
    paths = [program.routes for program in programs]
    if len(set(paths)) < len(paths):
        raise Failure("two programs have the same name: NAME=PROGRAM gives them others")
    with about(given.programs[0] if len(programs) == 1 else "the programs"):
        try:
            return FixedCatalogue(programs)
        except UnknownInterface as error:
            raise Failure(str(error)) from None


async def _run(catalogue: Catalogue, given: argparse.Namespace, prog: str) -> None:
    from lucet.terrarium.environment import NoOutgoing
    from lucet.terrarium.frontend import Bounds, FrontEnd
    from lucet.terrarium.keys import MemoryKeys
    from lucet.terrarium.log import Log
    from lucet.terrarium.server import Server
    from lucet.terrarium.tls import TlsFrontEnd

    host, _, port = given.listen.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise Failure(f"--listen {given.listen}: HOST:PORT is expected")
    file = None
    if not given.quiet:
        file = sys.stderr.buffer if given.log is None else Path(given.log).open("ab")  # noqa: SIM115 - for good
    server = Server(
        catalogue,
        keys=lambda tenant, limits: MemoryKeys(limits),
        outgoing=lambda deployment: NoOutgoing,
        log=Log(file),
        development=given.development,
    )
    front: FrontEnd | TlsFrontEnd
    with about(given.listen):
        if given.certificate is None:
            front = FrontEnd(server.handle)
            address, port = await front.listen(host.strip("[]") or "0.0.0.0", int(port))
        else:
            front = TlsFrontEnd(server.handle, Bounds())
            address, port = await front.listen(
                host.strip("[]") or "0.0.0.0", int(port), certificate=Path(given.certificate), key=Path(given.key)
            )
    shown = f"[{address}]" if ":" in address else address
    print(f"{prog}: http{'s' if given.certificate else ''}://{shown}:{port}/", flush=True)
    await _until_told()
    await front.close(given.grace)
    server.close()
