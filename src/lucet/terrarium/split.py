"""Several versions of an application at once: each client keeps the one that it got."""

from __future__ import annotations

import hashlib
import math
import random
import re
import secrets
from bisect import bisect_right
from collections.abc import Sequence
from ipaddress import IPv6Address
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from lucet.terrarium.http import Request

T = TypeVar("T")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MAX_AGE: Final = 30 * 86400


class Split(Generic[T]):
    """Chooses among targets by weight.

    weights: the targets, and their shares as numbers of any sum.
    sticky: what decides, so that the same gets the same: "cookie:NAME", "header:NAME", "client" (the address; of IPv6
        the network, its first 64 bits), None (each request anew).
    salt: splits of different salts choose independently of each other. With the same, a target whose share grows keeps
        its clients if it is the first or the last one.

    A client without the cookie is given one with a new key; a request without the header is treated by its address.
    """

    __slots__ = ("_bounds", "_header", "_key", "_kind", "_targets")

    def __init__(self, weights: Sequence[tuple[T, float]], sticky: str | None = None, salt: str = "") -> None:
        shares = [share for _, share in weights]
        if not all(share >= 0 for share in shares) or not 0 < sum(shares) < math.inf:
            raise ValueError(f"weights are numbers from 0 on, not all 0: {shares}")
        kind, _, name = (sticky or "").partition(":")
        self._header = name.encode() if kind == "cookie" else name.lower().encode()
        if kind not in {"", "client", "cookie", "header"} or bool(name) != (kind in {"cookie", "header"}):
            raise ValueError(f"sticky is cookie:NAME, header:NAME or client, not {sticky!r}")
        if name and not _TOKEN.fullmatch(self._header):
            raise ValueError(f"no name of a {kind}: {name!r}")
        total = sum(shares)
        self._targets = [target for target, _ in weights]
        # The last that has a share takes what rounding leaves; those after it never have their turn.
        last = max(index for index, share in enumerate(shares) if share)
        self._bounds = [round(2**64 * (part / total)) for part in accumulate(shares)][:last]
        self._kind = kind
        self._key = hashlib.blake2b(salt.encode(), digest_size=32).digest()

    def choose(self, request: Request) -> tuple[T, bytes | None]:
        """The target for a request, and the value of a Set-Cookie header that the response is to have, or None."""
        cookie = None
        match self._kind:
            case "":
                return self._at(random.getrandbits(64)), None
            case "cookie":
                key = _cookie(request, self._header)
                if key is None:
                    key = secrets.token_urlsafe(12).encode()
                    secure = b"; Secure" if request.scheme == "https" else b""
                    cookie = b"%s=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax%s" % (
                        self._header,
                        key,
                        _MAX_AGE,
                        secure,
                    )
            case "header":
                key = request.header(self._header) or _client(request)
            case _:
                key = _client(request)
        digest = hashlib.blake2b(key, digest_size=8, key=self._key).digest()
        return self._at(int.from_bytes(digest)), cookie

    def _at(self, point: int) -> T:
        return self._targets[bisect_right(self._bounds, point)]


def _client(request: Request) -> bytes:
    address = request.client[0]
    if ":" in address:
        try:
            return IPv6Address(address.partition("%")[0]).packed[:8]
        except ValueError:
            pass  # whatever the front end calls its clients
    return address.encode()


def _cookie(request: Request, name: bytes) -> bytes | None:
    for key, value in request.headers:
        if key == b"cookie" and name in value:
            for pair in value.split(b";"):
                label, _, content = pair.strip().partition(b"=")
                if label == name and content:
                    return content
    return None
