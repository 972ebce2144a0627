"""A request as a CGI program is told it: meta-variables and arguments (RFC 3875, section 4; WAGI).

What a client sends can become a variable only under HTTP_, and only if the header's name is made of letters, digits and
hyphens: "X_Real_IP" would be taken for "X-Real-IP". "Proxy" never does, since programs take HTTP_PROXY for their
configuration (CVE-2016-5385).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from lucet.terrarium.normal import decoded
from lucet.terrarium.router import REST, decoded_pattern

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lucet.terrarium.http import Request

_NAME: Final = re.compile(rb"[A-Za-z0-9-]+")
_NO_VARIABLE: Final = frozenset({b"proxy", b"content-type", b"content-length", b"connection", b"transfer-encoding"})
_MAX_NAMES: Final = 4096
_names: dict[bytes, bytes | None] = {}
"""Of headers, and their variables' beginnings; None for those that become none."""


def static_variables(configuration: Mapping[str, str]) -> bytes:
    """What is the same in all requests, each with its NUL. ValueError if a name or value cannot be a variable's."""
    variables = ["GATEWAY_INTERFACE=CGI/1.1", "SERVER_SOFTWARE=Lucet", "AUTH_TYPE=", "REMOTE_USER="]
    for name, value in configuration.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"no environment variable: {name!r}")
        variables.append(f"{name}={value}")
    return b"".join(f"{variable}\0".encode(errors="surrogateescape") for variable in variables)


def places(request: Request) -> tuple[str, str, str]:
    """SCRIPT_NAME, PATH_INFO and X_RAW_PATH_INFO: the route's path, and what comes after it."""
    path = request.path
    info = decoded(path)
    if request.route == REST:
        return "", info, path
    script = _script(request.route)
    if info != script and not info.startswith(script + "/"):
        return "", info, path  # a filter has changed the path
    info = info[len(script) :]
    # With escapes in the route's part the rest's place in the path as sent is not told by its length.
    return script, info, path[len(script) :] if path.startswith(script) else quote(info, errors="surrogateescape")


@lru_cache(maxsize=1024)
def _script(route: str) -> str:
    return decoded_pattern(route.removesuffix(REST))


def variables(request: Request, script: str, info: str, raw_info: str, static: bytes) -> bytes:
    """All of a request's variables, each with its NUL; `static` are the last of them. ValueError."""
    server, port = request.server
    client, client_port = request.client
    host = request.host or server
    asked = request.header(b"host")
    authority = host if asked is None else asked.decode("latin-1")
    text = (
        f"REQUEST_METHOD={request.method}\0REQUEST_URI={request.target}\0QUERY_STRING={request.query}\0"
        f"SCRIPT_NAME={script}\0PATH_INFO={info}\0PATH_TRANSLATED={info}\0X_RAW_PATH_INFO={raw_info}\0"
        f"SERVER_NAME={host}\0SERVER_PORT={port}\0SERVER_PROTOCOL=HTTP/{request.version}\0"
        f"REMOTE_ADDR={client}\0REMOTE_HOST={client}\0REMOTE_PORT={client_port}\0REQUEST_SCHEME={request.scheme}\0"
        f"X_MATCHED_ROUTE={request.route}\0X_FULL_URL={request.scheme}://{authority}{request.target}"
    )
    count = 16
    if request.scheme == "https":
        text += "\0HTTPS=on"
        count += 1
    length = request.body.length
    if length:
        text += f"\0CONTENT_LENGTH={length}"
        count += 1
    parts = [text.encode(errors="surrogateescape"), *_headers(request)]
    blob = b"\0".join(parts) + b"\0"
    if blob.count(0) != count + len(parts) - 1:
        raise ValueError("a request with a NUL")
    return blob + static


def _headers(request: Request) -> list[bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in request.headers:
        variable = _names.get(name, b"")
        if not variable:
            if variable is None:
                continue
            variable = _variable(name)
            if len(_names) < _MAX_NAMES:
                _names[name] = variable
            if variable is None:
                continue
        if variable in found:
            if name != b"content-type":
                found[variable] += (b"; " if name == b"cookie" else b", ") + value
        else:
            found[variable] = variable + value
    return [*found.values()]


def _variable(name: bytes) -> bytes | None:
    if name == b"content-type":
        return b"CONTENT_TYPE="
    if name in _NO_VARIABLE or not _NAME.fullmatch(name):
        return None
    return b"HTTP_%s=" % name.upper().replace(b"-", b"_")


def arguments(request: Request, script: str, template: str) -> bytes:
    """The program's arguments, each with its NUL: `template` in words, "${ARGS}" one for each part of the query."""
    found: list[str] = []
    for word in template.split():
        if word == "${ARGS}":
            found += request.query.split("&") if request.query else []
        else:
            found.append(word.replace("${SCRIPT_NAME}", script or "/"))
    blob = ("\0".join(found) + "\0").encode(errors="surrogateescape")
    if blob.count(0) != len(found):
        raise ValueError("a request with a NUL")
    return blob
