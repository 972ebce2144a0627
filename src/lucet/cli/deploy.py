"""`lucet deploy`: give a server a new version of an application."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lucet.cli.admin_client import Client, add_server_options, in_json, plain
from lucet.cli.common import EXIT_ERROR, Parser, about, guarded


def main(arguments: Sequence[str] | None = None, prog: str = "lucet deploy") -> int:
    """Run the command and return its exit status: 1 if the version does not answer."""
    return guarded(prog, lambda given: _deploy(given, prog), arguments)


def _deploy(arguments: Sequence[str], prog: str) -> int:
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options] APP PATH",
        description="Builds, stores, warms and activates a version: of a .wasm, .wat, .c, .rs or .ts file, or of a "
        "directory with sources, and assets/ to be served as they are.",
    )
    parser.add_argument("app", metavar="APP", help="the application's name")
    parser.add_argument("path", metavar="PATH", type=Path)
    parser.add_argument(
        "--route",
        metavar="HOST[/PATH]",
        action="append",
        help="what it answers, instead of what it had; *.HOST and * are hosts, too",
    )
    parser.add_argument("--keep", action="store_true", help="make it ready, but let the version before answer on")
    parser.add_argument("--health", metavar="PATH", help="activate it only if it answers this with 200 to 399")
    add_server_options(parser)
    given = parser.parse_args(arguments)
    from lucet.terrarium.sources import read_sources

    client = Client(given)
    with about(str(given.path)):
        kind, files = read_sources(given.path)
    body = {"kind": kind, "files": {name: in_json(data) for name, data in files.items()}, "activate": not given.keep}
    if given.route is not None:
        body["routes"] = given.route
    if given.health is not None:
        body["health"] = given.health
    client.ask("PUT", f"/tenants/{client.tenant}", {})
    job = client.app("POST", given.app, "/deploy", body)
    shown = ""
    while True:
        if job["status"] != shown and not (job["done"] and not job["success"]):
            shown = job["status"]
            print(shown, file=sys.stderr)
        if job["done"]:
            break
        time.sleep(0.1)
        job = client.ask("GET", f"/jobs/{job['job']}")
    if job["log"]:
        print(plain(job["log"].rstrip()), file=sys.stderr)
    if not job["success"]:
        print(f"{prog}: {plain(job['status'])}", file=sys.stderr)
        return EXIT_ERROR
    print(f"{given.app}: version {job['version']} {'is ready' if given.keep else 'answers'}")
    return 0
