"""The head of what a CGI program answers (RFC 3875, section 6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lucet.terrarium.interface import GuestError

if TYPE_CHECKING:
    from lucet.terrarium.http import Headers

MAX_HEAD: Final = 65536
"""Bytes of a response's head."""
_END: Final = re.compile(rb"\r?\n\r?\n")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS: Final = re.compile(rb"([2-5][0-9][0-9])(?: .*)?")


class MalformedOutput(GuestError):
    """What the program wrote is no CGI response."""

    status = 502


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    status: int
    headers: Headers
    local: str | None
    """The path of a local redirect, whose response is that of another request, if it has no body."""


def end_of_head(output: bytes | bytearray, start: int = 0) -> tuple[int, int] | None:
    """Where the head ends and the body begins, or None if that has not been written yet. MalformedOutput.

    start: how much of the output has been searched before.
    """
    if output.startswith((b"\n", b"\r")):
        raise MalformedOutput("the output begins with an empty line: it has no headers")
    found = _END.search(output, max(start - 3, 0))
    if (len(output) if found is None else found.start()) > MAX_HEAD:
        raise MalformedOutput(f"the output has no end of its headers in the first {MAX_HEAD} bytes")
    return None if found is None else found.span()


def parse_head(head: bytes) -> Head:
    """Its lines, without the empty one. MalformedOutput names the line that is none."""
    headers: Headers = []
    status = location = None
    has_type = False
    for number, line in enumerate(head.split(b"\n"), 1):
        name, colon, value = line.removesuffix(b"\r").partition(b":")
        value = value.strip(b" \t")
        if not colon or not _NAME.fullmatch(name) or _CONTROL.search(value):
            raise MalformedOutput(f"line {number} of the output is no header: {line[:80]!r}")
        name = name.lower()
        if name == b"status":
            found = _STATUS.fullmatch(value)
            if found is None or status is not None:
                raise MalformedOutput(f"line {number} of the output is no status, or a second one: {line[:80]!r}")
            status = int(found[1])
        else:
            if name == b"location":
                location = value
            has_type = has_type or name == b"content-type"
            headers.append((name, value))
    if status is None and location is None and not has_type:
        raise MalformedOutput("the output's headers have none of Content-Type, Status and Location")
    local = None
    if location is not None and status is None:
        if len(headers) == 1 and location.startswith(b"/") and not location.startswith(b"//"):
            local = location.decode("latin-1")
        status = 302
    return Head(status=status or 200, headers=headers, local=local)
