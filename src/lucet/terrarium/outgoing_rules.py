"""Where an application may send requests to: patterns of its configuration, and which addresses are nobody's business.

A pattern is `scheme://host` or `scheme://host:port`. The scheme is http, https or `*` for both. The host is a name, an
address, `*.example.com` for all names below one, or `*`. Without a port it is the scheme's own; `*` is any.

A name that is allowed must still lead to a public address: not to this machine, its networks, or a cloud's metadata.
What else it may lead to are networks among the patterns, such as `10.1.0.0/16`; an address that is a pattern's host
may be used in URLs as it stands there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from lucet.errors import LucetError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PORTS: Final = {"http": 80, "https": 443}
_PATTERN: Final = re.compile(r"(https?|\*)://(\[[0-9a-f:.]+\]|[^\s/:?#@\[\]]+)(?::(\d{1,5}|\*))?/?", re.IGNORECASE)
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")


class BadPattern(LucetError, ValueError):
    """It is none."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    schemes: frozenset[str]
    host: str
    """ "*", "*.suffix", or all of it."""
    port: int | None
    """0: the scheme's; None: any."""

    def matches(self, scheme: str, host: str, port: int) -> bool:
        if scheme not in self.schemes or not (self.port is None or (self.port or PORTS[scheme]) == port):
            return False
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and len(host) > len(self.host) - 1
        return self.host in {"*", host}


class Rules:
    """What the patterns allow; nothing if there are none. BadPattern."""

    __slots__ = ("_addresses", "_networks", "_patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns: list[_Pattern] = []
        self._networks: list[Network] = []
        self._addresses: set[Address] = set()
        for pattern in patterns:
            self._add(pattern)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def _add(self, pattern: str) -> None:
        if "://" not in pattern:
            try:
                self._networks.append(ip_network(pattern))
            except ValueError:
                raise BadPattern(f"{pattern!r} is neither scheme://host:port nor a network") from None
            return
        match = _PATTERN.fullmatch(pattern)
        if match is None:
            raise BadPattern(f"{pattern!r} is not scheme://host or scheme://host:port")
        scheme, host, port = match[1].lower(), host_of(match[2]), match[3]
        address = address_of(host)
        if address is not None:
            self._addresses.add(address)
        elif match[2] != "*" and not _NAME.fullmatch(host.removeprefix("*.")):
            raise BadPattern(f"{pattern!r}: {match[2]!r} is no host")
        number = None if port == "*" else int(port or 0)
        if number is not None and (number > 65535 or (port and not number)):
            raise BadPattern(f"{pattern!r}: {port} is no port")
        schemes = frozenset(PORTS) if scheme == "*" else frozenset({scheme})
        self._patterns.append(_Pattern(schemes, host, number))

    def allow(self, scheme: str, host: str, port: int) -> bool:
        """Whether URLs with these may be asked for; host as host_of gives it."""
        return any(pattern.matches(scheme, host, port) for pattern in self._patterns)

    def allow_address(self, address: Address, host: str) -> bool:
        """Whether a connection to it may be made, for a URL with this host."""
        if is_public(address):
            return True
        if any(address in network for network in self._networks):
            return True
        return address in self._addresses and address_of(host) == address


def host_of(host: str) -> str:
    """In the form in which hosts are compared: in lower case, without brackets, without a last dot."""
    host = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    address = address_of(host)
    return host if address is None else str(address)


def address_of(host: str) -> Address | None:
    """Of a host that is written as an address."""
    try:
        return ip_address(host)
    except ValueError:
        return None


@lru_cache(1024)
def is_public(address: Address) -> bool:
    """Whether it is somebody's on the Internet, also where it stands within another address."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        inner = address.sixtofour or (address.teredo and address.teredo[1])
        if inner and not is_public(inner):
            return False
        if address.scope_id or address.is_site_local or address in _LOCAL_NAT64:
            return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_loopback
        and not address.is_link_local
        and not address.is_unspecified
    )
