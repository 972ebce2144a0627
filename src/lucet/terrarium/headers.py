"""Header fields as they are sent: checked, and without those that are the front end's business."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from lucet.terrarium.http import Headers

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

OF_THE_CONNECTION: Final = frozenset(
    b"connection content-length date keep-alive proxy-authenticate proxy-connection server te trailer "
    b"transfer-encoding upgrade".split()
)
"""What a guest cannot say: the front end does (RFC 9110, 7.6.1)."""

NO_BODY: Final = frozenset({204, 304})

_REMEMBERED: Final = 4096
_LONGEST: Final = 256
_lines: dict[tuple[bytes, bytes], bytes] = {}


def line(header: tuple[bytes, bytes]) -> bytes:
    """The line of one header, b"" for one of the connection's. ValueError if it is none.

    Those that are sent again and again are checked once.
    """
    name, value = header
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"not a header's name: {name!r}")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the header {name.decode()} has a value with control characters: {value[:100]!r}")
    lower = name.lower()
    made = b"" if lower in OF_THE_CONNECTION else b"%b: %b\r\n" % (lower, value.strip(b" \t"))
    if len(made) <= _LONGEST:
        if len(_lines) >= _REMEMBERED:
            _lines.clear()
        _lines[header] = made
    return made


def lines(headers: Headers) -> bytes:
    """The lines of a header section. ValueError names the one that is none."""
    known = _lines
    return b"".join([known[one] if one in known else line(one) for one in headers])


def checked(status: int, headers: Headers) -> Headers:
    """The same as pairs, for front ends that write them themselves. ValueError."""
    check_status(status)
    return [(name.lower(), value.strip(b" \t")) for name, value in headers if line((name, value))]


def check_status(status: int) -> None:
    """ValueError unless a guest can end a response with it."""
    if not 200 <= status <= 599:
        raise ValueError(f"{status} is not the status of a response: it must be in 200..599")


def status_line(status: int) -> bytes:
    """ValueError, as check_status."""
    check_status(status)
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    return f"HTTP/1.1 {status} {reason}\r\n".encode()
