"""What is deployed, as the server reads it: immutable values, found by application and version; code comes when needed.

The server keeps the Snapshot that it was given last, routes by it, and asks for a version's Deployment and Module when
the first request wants them. A change gives a new Snapshot; requests that began keep what they have. An Environment and
an Interface may be kept under (tenant, application, version, Application.generation): what they were made from changes
with the generation only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from lucet.terrarium.limits import Limits

if TYPE_CHECKING:
    from lucet.runtime import Module
    from lucet.terrarium.environment import KeyValues
    from lucet.terrarium.http import Exchange

AppKey: TypeAlias = tuple[str, str]
"""(tenant, application's name)."""


class NotDeployed(Exception):
    """There is no such application or version, or its code is lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Which requests an application gets: no two applications have the same one."""

    host: str
    """In lower case, without a port; "*.example.com": one label or more in front of it; "*": any."""
    path: str = "/"
    """A prefix of whole segments, as sent: "/a" is for "/a" and "/a/b", not for "/ab"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Application:
    """What routing needs. Small: there may be many thousands."""

    tenant: str
    name: str
    routes: tuple[Route, ...]
    shares: tuple[tuple[str, int], ...]
    """(version, weight) of those that answer; of one only, unless requests are split. Empty: nothing is deployed yet,
    and the application is not found."""
    sticky: str = ""
    """What decides a request's version if there are several: "cookie:NAME", "header:NAME", "client" (its address);
    "": chance."""
    expires: float | None = None
    """Seconds since the epoch from when on it is not found any more."""
    stopped: bool = False
    """Requests are answered with 503."""
    generation: int = 0
    """Changes with everything that its deployments are made from."""

    @property
    def key(self) -> AppKey:
        return self.tenant, self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterUse:
    """A guest of the interface http-handler in front of an application: another application of the tenant."""

    application: str
    version: str | None = None
    """None: that which is active when the deployment is read."""
    configuration: bytes = b""
    """What the filter gets from get_config."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """A file that is served in front of the guest."""

    file: Path
    size: int
    content_type: str
    digest: str
    """SHA-256, in hexadecimal: its entity tag."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """One version of an application with its present settings: all that an Environment is made from."""

    tenant: str
    application: str
    version: str
    generation: int
    digest: str
    """SHA-256 of the .wasm, in hexadecimal: what Catalogue.load takes."""
    interface: str
    """By its name in lucet.terrarium.interfaces."""
    limits: Limits
    configuration: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    backends: Mapping[str, str] = field(default_factory=dict)
    allowed_outbound_hosts: tuple[str, ...] = ()
    """Patterns "scheme://host:port", as lucet.terrarium.outgoing reads them. Empty: outgoing requests are refused."""
    filters: tuple[FilterUse, ...] = ()
    """Outermost first."""
    assets: Mapping[str, Asset] = field(default_factory=dict, repr=False)
    """By path, "/style.css": see lucet.terrarium.assets, which answers requests for them."""
    health: bool = False
    """GET /__health is answered by the platform, as the original did."""
    development: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All applications at one moment."""

    revision: int
    applications: Mapping[AppKey, Application]


Listener: TypeAlias = Callable[[Snapshot, frozenset[AppKey]], None]
"""Called in the event loop's thread with what there is now, and whose Application is new, changed or gone."""


class Catalogue(ABC):
    @property
    @abstractmethod
    def snapshot(self) -> Snapshot: ...

    @abstractmethod
    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have it called after each change, not for what there is already. What is returned ends that."""

    @abstractmethod
    def deployment(self, tenant: str, application: str, version: str) -> Deployment:
        """With the settings of now. Reads some rows, which takes well below a millisecond. NotDeployed."""

    @abstractmethod
    async def load(self, digest: str) -> Module:
        """Code that is verified; compiled anew if it is damaged or for another compiler. The same object while
        somebody keeps it. NotDeployed, CompileError, ArtifactError.
        """


class Service(Protocol):
    """Something of the platform that answers requests itself: the admin API, the original's POST /deploy."""

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """Answers whatever is asked; raises nothing but ClientGone."""


class Operations(Protocol):
    """What deploying and the admin API want of the running server."""

    async def warm(self, deployment: Deployment, health: str | None = None) -> None:
        """Make one instance, with all that its requests would have; with `health`, a path, let it answer a GET of
        that. An exception, whose text the operator gets, if that fails or the answer is not below 400.
        """

    def in_flight(self, tenant: str, application: str, version: str) -> int:
        """Requests that it is answering."""

    def keys(self, tenant: str) -> KeyValues: ...

    def metrics(self) -> str:
        """In Prometheus' text format."""

    def log_tail(self, tenant: str, application: str, limit: int) -> list[dict[str, Any]]:
        """The last requests' lines, oldest first, each as JSON has it."""

    def log_follow(self, tenant: str, application: str) -> AsyncGenerator[dict[str, Any] | None, None]:
        """Those to come; None now and then, when there are none. What a reader is too slow for is dropped."""
