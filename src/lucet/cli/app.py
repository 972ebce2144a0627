"""`lucet app`: what a server's applications are, and which of their versions answer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from lucet.cli.admin_client import Client, add_server_options, plain
from lucet.cli.common import Failure, Parser, guarded


def main(arguments: Sequence[str] | None = None, prog: str = "lucet app") -> int:
    """Run the command and return its exit status."""
    return guarded(prog, lambda given: _app(given, prog), arguments)


def _app(arguments: Sequence[str], prog: str) -> int:
    actions = "; ".join(f"{name}: {action.__doc__}" for name, action in ACTIONS.items())
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options] ACTION [APP] [ARGUMENT]...",
        description=f"Administers the applications of a server. Actions: {actions}.",
    )
    parser.add_argument("action", metavar="ACTION", choices=[*ACTIONS], help=", ".join(ACTIONS))
    parser.add_argument("app", metavar="APP", nargs="?")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs="*")
    parser.add_argument("--sticky", metavar="KEY", help="split: cookie:NAME, header:NAME or client")
    parser.add_argument("--follow", action="store_true", help="logs: go on with those to come")
    add_server_options(parser)
    given = parser.parse_intermixed_args(arguments)
    if given.app is None and given.action != "list":
        raise Failure(f"{given.action}: the name of an application is expected")
    ACTIONS[given.action](Client(given), given)
    return 0


def _list(client: Client, given: argparse.Namespace) -> None:
    """the tenant's applications, their routes and versions"""
    for one in client.ask("GET", f"/tenants/{client.tenant}/apps")["apps"]:
        print(f"{one['app']}: {_shares(one['shares'])}; {', '.join(one['routes']) or 'no route'}")


def _versions(client: Client, given: argparse.Namespace) -> None:
    """its versions, newest first"""
    for one in client.app("GET", given.app, "/versions")["versions"]:
        created = datetime.fromtimestamp(one["created"], UTC).strftime("%Y-%m-%d %H:%M:%S")
        state = f"answers ({one['weight']})" if one["weight"] else "ready"
        print(f"{one['version']}: {state}; {one['interface']}, {one['size']} bytes, {created} UTC")


def _activate(client: Client, given: argparse.Namespace) -> None:
    """let one VERSION answer everything"""
    (version,) = _arguments(given, 1, "a VERSION")
    print(_shares(client.app("POST", given.app, "/activate", {"version": version})["shares"]))


def _split(client: Client, given: argparse.Namespace) -> None:
    """let several answer, by their weights: VERSION=WEIGHT..."""
    shares = []
    for one in given.arguments:
        version, equals, weight = one.partition("=")
        if not equals or not weight.isdecimal():
            raise Failure(f"split: VERSION=WEIGHT is expected, not {one}")
        shares.append({"version": version, "weight": int(weight)})
    if not shares:
        raise Failure("split: VERSION=WEIGHT... is expected")
    body: dict[str, Any] = {"shares": shares}
    if given.sticky is not None:
        body["sticky"] = given.sticky
    print(_shares(client.app("POST", given.app, "/activate", body)["shares"]))


def _rollback(client: Client, given: argparse.Namespace) -> None:
    """to what answered before"""
    print(_shares(client.app("POST", given.app, "/rollback", {})["shares"]))


def _filters(client: Client, given: argparse.Namespace) -> None:
    """put applications in front of it: [FILTER[=CONFIGURATION]]..."""
    filters = []
    for one in given.arguments:
        name, _, configuration = one.partition("=")
        filters.append({"application": name, "configuration": configuration})
    client.app("PATCH", given.app, "", {"filters": filters})
    print(f"{given.app}: {' -> '.join([*(one['application'] for one in filters), given.app])}")


def _set(client: Client, given: argparse.Namespace) -> None:
    """set configuration values: NAME=VALUE... (NAME= removes)"""
    values: dict[str, str | None] = {}
    for one in given.arguments:
        name, equals, value = one.partition("=")
        if not equals:
            raise Failure(f"set: NAME=VALUE is expected, not {one}")
        values[name] = value or None
    client.app("PUT", given.app, "/configuration/-", values)


def _logs(client: Client, given: argparse.Namespace) -> None:
    """its last requests, with what the guest printed"""
    for line in client.app("GET", given.app, "/logs?limit=100")["lines"]:
        print(_line(line))
    if given.follow:
        for line in client.lines(client.path_of(given.app, "/logs/follow")):
            print(_line(line), flush=True)


def _delete(client: Client, given: argparse.Namespace) -> None:
    """with all its versions"""
    client.app("DELETE", given.app)


def _arguments(given: argparse.Namespace, count: int, what: str) -> list[str]:
    if len(given.arguments) != count:
        raise Failure(f"{given.action}: {what} is expected")
    return list(given.arguments)


def _shares(shares: Sequence[dict[str, Any]]) -> str:
    if len(shares) == 1:
        return f"version {shares[0]['version']} answers"
    total = sum(one["weight"] for one in shares)
    return ", ".join(f"version {one['version']}: {one['weight'] / total:.0%}" for one in shares) or "nothing answers"


def _line(line: dict[str, Any]) -> str:
    if "event" in line:
        return json.dumps(line)
    said = "".join(f"\n    {text}" for text in line.get("log", ()))
    wrong = line.get("limit") or line.get("fault")
    took = f"{line['duration_us'] / 1000:.2f} ms"
    shown = (
        f"{line['time']} {line['status'] or 'gone'} {line['method']} {line['target']} version {line['version']} {took}"
    )
    return plain(f"{shown}{f' ({wrong})' if wrong else ''}{said}")


ACTIONS: Final[dict[str, Callable[[Client, argparse.Namespace], None]]] = {
    "list": _list,
    "versions": _versions,
    "activate": _activate,
    "split": _split,
    "rollback": _rollback,
    "filters": _filters,
    "set": _set,
    "logs": _logs,
    "delete": _delete,
}
