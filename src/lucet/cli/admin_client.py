"""What the commands that administer a server have in common: its address, its token, requests and their errors."""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from lucet.cli.common import Failure, Parser

_ADMIN: Final = "http://127.0.0.1:8081"
_TOKEN: Final = "terrarium-data/admin.token"


def add_server_options(parser: Parser) -> None:
    parser.add_argument(
        "--admin",
        metavar="URL",
        default=os.environ.get("LUCET_ADMIN", _ADMIN),
        help=f"of the server's admin API (environment: LUCET_ADMIN; default: {_ADMIN})",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        default=Path(os.environ.get("LUCET_TOKEN_FILE", _TOKEN)),
        help=f"environment: LUCET_TOKEN_FILE; default: {_TOKEN}",
    )
    parser.add_argument("--tenant", metavar="NAME", default="default", help="whose applications (default)")


class Client:
    """Of one server's admin API, for one tenant's applications."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._base = f"{given.admin.rstrip('/')}/_admin/v1"
        self.tenant: str = given.tenant
        try:
            self._token = given.token_file.read_text().strip()
        except OSError as error:
            raise Failure(f"{given.token_file}: {error.strerror} (--token-file names the server's token)") from None

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        with self._open(method, path, body) as answer, self._about_answer():
            return json.load(answer)

    def app(self, method: str, app: str, what: str = "", body: Any = None) -> Any:
        """Of one application of the tenant."""
        return self.ask(method, self.path_of(app, what), body)

    def path_of(self, app: str, what: str = "") -> str:
        return f"/tenants/{quote(self.tenant, safe='')}/apps/{quote(app, safe='')}{what}"

    def lines(self, path: str) -> Iterator[Any]:
        """Server-sent events, as they come."""
        with self._open("GET", path, None, timeout=None) as answer, self._about_answer():
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    @contextmanager
    def _about_answer(self) -> Iterator[None]:
        try:
            yield
        except (http.client.HTTPException, ValueError) as error:
            raise Failure(f"{self._base}: the answer breaks off: {type(error).__name__}") from None

    def _open(self, method: str, path: str, body: Any, timeout: float | None = 60.0) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data=data, method=method, headers=headers)
        try:
            return urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            with error:
                try:
                    message = json.load(error)["error"]
                except (ValueError, KeyError, TypeError):
                    message = f"the server answers {error.code}"
            raise Failure(message) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Failure(f"{self._base}: {reason} (--admin names the server's admin API)") from None


def plain(text: str) -> str:
    """Text of guests, clients or compilers for a terminal, which is to obey none of them: no control characters."""
    return "".join(one if one.isprintable() or one in "\n\t" else f"\\x{ord(one):02x}" for one in text)


def in_json(data: bytes) -> Any:
    """A file's content, as the API takes it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
