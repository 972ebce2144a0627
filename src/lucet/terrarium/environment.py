"""What an application is given of the world: stores, outgoing requests, a log. Everything is the tenant's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from lucet.terrarium.http import OutgoingRefused
from lucet.terrarium.limits import Limits

if TYPE_CHECKING:
    from lucet.runtime import Region
    from lucet.terrarium.http import Exchange, Outgoing, OutgoingRequest, OutgoingResponse
    from lucet.terrarium.record import Record

T = TypeVar("T")
MaybeLater: TypeAlias = T | Awaitable[T]
"""A result, or what to await for it: stores on this machine answer at once, so that no guest is suspended for them."""


class StoreFull(Exception):
    """The tenant's store has no room for this."""


class StoreUnavailable(Exception):
    """The store does not answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What a store has under a key."""

    value: bytes
    metadata: bytes = b""
    generation: int = 0
    """Changes with each write."""
    expires: float | None = None
    """Seconds since the epoch."""


class KeyValues(ABC):
    """A tenant's key-value store. Keys are at most 1024 bytes; `store` names one of several, in 1 to 255 characters."""

    @abstractmethod
    def get(self, store: str, key: bytes) -> MaybeLater[Entry | None]: ...

    @abstractmethod
    def put(
        self,
        store: str,
        key: bytes,
        value: bytes,
        *,
        mode: str = "overwrite",
        metadata: bytes = b"",
        ttl: float | None = None,
        if_generation: int | None = None,
    ) -> MaybeLater[tuple[bool, bool]]:
        """mode: "overwrite", "add" (only if absent), "append", "prepend". Gives (was written, was absent before).
        StoreFull.
        """

    @abstractmethod
    def delete(self, store: str, key: bytes) -> MaybeLater[bool]:
        """Whether there was one."""

    @abstractmethod
    def keys(
        self, store: str, *, prefix: bytes = b"", after: bytes = b"", limit: int = 1000
    ) -> MaybeLater[list[bytes]]:
        """In their order, those beyond `after`."""


class Resolver(ABC):
    """Asks the domain name system."""

    @abstractmethod
    async def query(self, message: bytes) -> bytes:
        """The answer to a DNS message, with the same id. OutgoingFailed."""

    @abstractmethod
    async def addresses(self, name: bytes, *, v6: bool) -> list[bytes]:
        """Of 4 or 16 bytes each. OutgoingFailed."""


class NoOutgoing:
    """Of applications that may send nothing."""

    async def send(self, request: OutgoingRequest, /) -> OutgoingResponse:
        raise OutgoingRefused(f"{request.method} {request.url} is refused: no outgoing requests are allowed")

    async def close(self) -> None: ...


@dataclass(kw_only=True, slots=True)
class Environment:
    """Of one version of an application, shared by its requests."""

    tenant: str
    application: str
    version: str
    region: Region
    limits: Limits
    keys: KeyValues
    outgoing: Callable[[], Outgoing]
    """A new one, for a request's run."""
    configuration: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Configuration stores by name; "" is the application's own, and what CGI programs have as their environment."""
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Secret stores by name."""
    backends: Mapping[str, str] = field(default_factory=dict)
    """Names of places to send requests to, and their base URLs."""
    resolver: Resolver | None = None
    """For guests that ask the domain name system themselves; None: they get no answer."""
    reroute: Callable[[Exchange, Record], Coroutine[Any, Any, None] | None] | None = None
    """Has an exchange answered whose request an application has replaced; like guest.answer. None: there is nobody."""
    development: bool = False
    """Whether responses tell what went wrong in a guest."""
