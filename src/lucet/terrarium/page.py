"""The editor page: static files, on the admin's socket. Everything that it does goes through the admin API."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lucet.terrarium.admin import PREFIX
from lucet.terrarium.original import OriginalApi

if TYPE_CHECKING:
    from lucet.terrarium.admin import Admin
    from lucet.terrarium.http import Exchange, Headers

_FOLDER: Final = Path(__file__).parent / "page"
_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".svg": b"image/svg+xml",
}
_SECURITY: Final[Headers] = [
    # Applications are on other hosts, and only within a frame.
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src *; "
        b"frame-src http: https:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    content: bytes
    headers: Headers
    tag: bytes


def _read(path: Path) -> _File:
    content = path.read_bytes()
    tag = b'"%s"' % hashlib.sha256(content).hexdigest()[:32].encode()
    headers = [(b"content-type", _TYPES[path.suffix]), (b"etag", tag), *_SECURITY]
    return _File(content=content, headers=headers, tag=tag)


def files() -> dict[str, _File]:
    """By path."""
    found = {f"/{path.name}": _read(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}
    found["/"] = found["/index.html"]
    return found


def front(admin: Admin, original: OriginalApi | None) -> Callable[[Exchange], Coroutine[Any, Any, None] | None]:
    """What the admin's socket answers: the page, the admin API, and the original's to those who have the token."""
    pages = files()

    def handle(exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        request = exchange.request
        path = request.path
        if path.startswith(PREFIX + "/"):
            return admin.handle(exchange)
        if original is not None and original.is_for(path):
            return original.handle(exchange) if admin.may(exchange) else None
        page = pages.get(path)
        if page is None:
            exchange.respond(404, [(b"content-type", b"text/plain")], b"there is no such page\n")
        elif request.method not in ("GET", "HEAD"):
            exchange.respond(405, [(b"allow", b"GET, HEAD")])
        elif request.header(b"if-none-match") == page.tag:
            exchange.respond(304, page.headers)
        else:
            exchange.respond(200, page.headers, page.content)
        return None

    return handle
