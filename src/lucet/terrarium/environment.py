"""What an application is given of the world: stores, outgoing requests, a log. Everything is the tenant's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

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


MAX_KEY: Final = 1024
MAX_STORE: Final = 255
MODES: Final = frozenset({"overwrite", "add", "append", "prepend"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Write:
    """What KeyValues.put is to do, checked. ValueError."""

    store: str
    key: bytes
    value: bytes
    mode: str = "overwrite"
    """Of MODES; "add": only if there is none."""
    metadata: bytes = b""
    ttl: float | None = None
    """Seconds."""
    if_generation: int | None = None
    """Only if the entry has this generation; 0: if there is none."""

    def __post_init__(self) -> None:
        check_name(self.store, self.key)
        if self.mode not in MODES:
            raise ValueError(f"no such mode: {self.mode!r}")
        if self.ttl is not None and not self.ttl > 0:
            raise ValueError(f"a time to live of {self.ttl} seconds")

    def onto(self, old: Entry | None, generation: int, now: float) -> Entry | None:
        """What is there after it, if this was; None if nothing is to be written."""
        if self.if_generation is not None and self.if_generation != (old.generation if old else 0):
            return None
        expires = None if self.ttl is None else now + self.ttl
        new = Entry(value=self.value, metadata=self.metadata, generation=generation, expires=expires)
        if old is None or self.mode == "overwrite":
            return new
        if self.mode == "add":
            return None
        value = old.value + self.value if self.mode == "append" else self.value + old.value
        # What is not said stays as it was.
        return replace(new, value=value, metadata=self.metadata or old.metadata, expires=expires or old.expires)


def check_name(store: str, key: bytes = b"") -> None:
    """ValueError: the name of a store, or a key, is too long."""
    if len(store) > MAX_STORE:
        raise ValueError(f"the name of a store has at most {MAX_STORE} characters")
    if len(key) > MAX_KEY:
        raise ValueError(f"a key has at most {MAX_KEY} bytes")


class KeyValues(ABC):
    """A tenant's key-value store. Keys are at most 1024 bytes; `store` names one of several, in 1 to 255 characters."""

    @abstractmethod
    def get(self, store: str, key: bytes) -> MaybeLater[Entry | None]: ...

    def put(self, store: str, key: bytes, value: bytes, **how: Any) -> MaybeLater[tuple[bool, bool]]:
        """how: the other fields of a Write. Gives (was written, was absent before). ValueError, StoreFull."""
        return self.write(Write(store=store, key=key, value=value, **how))

    @abstractmethod
    def write(self, write: Write) -> MaybeLater[tuple[bool, bool]]:
        """As put."""

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
