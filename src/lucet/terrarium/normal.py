"""The one form of hosts and paths that routes are matched in, and that guests are shown.

Whoever reads a path in another way than the router does could be led around a filter: "/admin/../x", "//admin",
"/%61dmin". So a request's path is brought into one form first (RFC 3986, 6.2), the guest gets that form and no other,
and what has no plain meaning is refused:

* Escapes of unreserved characters are resolved, other escapes are in capitals; characters that a URL does not have are
  escaped. Slashes that follow each other are one. Dot segments are gone.
* Refused are: a path that leaves the root, control characters, "#", "\\" and escapes that are none; dot segments
  beside an escaped slash or backslash.

An escaped slash stays what it is for the guest, but routes are matched as if it were a slash, like every other escape:
a guest that decodes the path, as CGI programs do, has passed the filter that it should have.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import unquote_to_bytes


class BadTarget(ValueError):
    """A request's host or path that is refused: a client's error (400)."""


_MAX_HOST: Final = 262
"""Characters: a name of 253, its dot, a port."""
_NAME: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_PORT: Final = re.compile(r"(?::[0-9]*)?")
_NOT_PLAIN: Final = re.compile(r"[^!$&-;=@-Z_a-z~]|//|/\.")
"""What a path in normal form without escapes does not have; the last of them may be in one."""
_REFUSED: Final = re.compile(r"[\x00-\x20\x7f#\\]|%(?![0-9A-Fa-f]{2})|%(?:[01][0-9A-Fa-f]|7[Ff])")
_ESCAPED: Final = re.compile(r"%[0-9A-Fa-f]{2}|[^!$&-;=@-Z_a-z~]")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SEPARATORS: Final = re.compile("%2F|%5C")
_SLASHES: Final = re.compile("//+")


def normal_host(host: str) -> str:
    """A Host header's value in lower case, without port and trailing dot; "[::1]" in its shortest form. BadTarget."""
    if len(host) > _MAX_HOST:
        raise BadTarget("the host is too long")
    return _normal_host(host)


@lru_cache(maxsize=4096)
def _normal_host(host: str) -> str:
    if host.startswith("["):
        address, bracket, port = host[1:].partition("]")
        try:
            name = f"[{IPv6Address(address).compressed}]" if bracket and "%" not in address else ""
        except ValueError:
            name = ""
    else:
        name, colon, port = host.partition(":")
        port = colon + port
        if not name and not port:
            return ""
        name = name.removesuffix(".").lower() if name.isascii() else ""
        if not _NAME.fullmatch(name):
            name = ""
    if not name or not _PORT.fullmatch(port):
        raise BadTarget(f"no host: {host!r}")
    return name


def normal_path(path: str) -> tuple[str, str]:
    """A path in normal form, and decoded, as routes are matched. BadTarget.

    path: as sent, without the query; octets beyond ASCII are Latin-1 characters, as they come from the wire.
    """
    if path[:1] != "/":
        raise BadTarget("a path begins with /")
    if _NOT_PLAIN.search(path) is None:
        return path, path
    refused = _REFUSED.search(path)
    if refused is not None:
        raise BadTarget(f"a path cannot have {refused[0]!r}")
    try:
        path = _ESCAPED.sub(_escape, path)
    except UnicodeEncodeError:
        raise BadTarget("a path is made of octets") from None
    normal = _without_dots(path)
    return normal, decoded(normal)


def decoded(path: str) -> str:
    """Of a path in normal form: all escapes resolved, as UTF-8 where it is that; escaped slashes are slashes."""
    if "%" not in path:
        return path
    return _SLASHES.sub("/", unquote_to_bytes(path).decode(errors="surrogateescape"))


def _escape(found: re.Match[str]) -> str:
    text: str = found[0]
    if len(text) == 1:
        return f"%{text.encode('latin-1')[0]:02X}"
    character = chr(int(text[1:], 16))
    return character if character in _UNRESERVED else text.upper()


def _without_dots(path: str) -> str:
    segments: list[str] = []
    last = ""
    for last in path.split("/"):
        if last == "..":
            if not segments:
                raise BadTarget("the path leaves the root")
            segments.pop()
        elif last not in {"", "."}:
            if "%" in last and not {".", ".."}.isdisjoint(_SEPARATORS.split(last)):
                raise BadTarget("dots beside an escaped slash")
            segments.append(last)
    if last in {"", ".", ".."} and segments:
        segments.append("")
    return "/" + "/".join(segments)
