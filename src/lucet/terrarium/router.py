"""Which application a request is for: by host, then by path.

A host's routes are those of the most specific pattern for it and no others: its own name, else the longest "*.suffix",
else any. Of these the exact path wins, else the longest prefix. Paths are matched in their normal form (normal.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar
from urllib.parse import quote

from lucet.terrarium.normal import BadTarget, normal_host, normal_path

if TYPE_CHECKING:
    from lucet.terrarium.http import Request

T = TypeVar("T")
REST: Final = "/..."


class RouteError(ValueError):
    """A route that is none, or one that there is twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Route(Generic[T]):
    """Where requests go.

    host: "shop.example"; "*.shop.example", which are all names that end so, at any depth; "" or "*", which is any.
    path: "/cart", only that; "/cart/...", that and all below; "/..." is every path. Escapes are as in a URL; other
    characters stand for themselves.
    """

    target: T
    host: str = ""
    path: str = REST


class _Paths(Generic[T]):
    """Of one host."""

    __slots__ = ("depth", "exact", "prefixes", "rest", "routes")

    def __init__(self) -> None:
        self.routes: list[Route[T]] = []
        self.exact: dict[str, Route[T]] = {}
        self.prefixes: dict[str, Route[T]] = {}
        """By their path without "/..."."""
        self.depth = 0
        """Of the deepest prefix, in segments."""
        self.rest: Route[T] | None = None
        """Of "/..."."""

    def add(self, route: Route[T]) -> None:
        is_prefix = route.path.endswith(REST)
        key = "" if route.path == REST else decoded_pattern(route.path.removesuffix(REST))
        where = self.prefixes if is_prefix else self.exact
        if key in where:
            raise RouteError(f"two routes for {route.host or '*'}{route.path}")
        where[key] = route
        self.routes.append(route)
        if not key:
            self.rest = route
        elif is_prefix:
            self.depth = max(self.depth, key.count("/"))

    def longest(self, path: str) -> Route[T] | None:
        ends = []
        end = 0
        for _ in range(self.depth):  # no more of a path of thousands of segments
            end = path.find("/", end + 1)
            if end < 0:
                ends.append(len(path))
                break
            ends.append(end)
        for end in reversed(ends):
            route = self.prefixes.get(path[:end])
            if route is not None:
                return route
        return self.rest


def decoded_pattern(path: str) -> str:
    """Of a route, decoded as requests' paths are."""
    try:
        normal, key = normal_path(quote(path, safe="%/!$&'()*+,;=:@~"))
    except BadTarget as error:
        raise RouteError(f"no path of a route: {path!r}: {error}") from None
    if normal.count("/") != path.count("/") or path.endswith(("/.", "/..")) or "..." in path.split("/"):
        raise RouteError(f"no path of a route: {path!r}: segments that are empty or dots, or '...' not at its end")
    return key


def _host(pattern: str) -> str:
    """In normal form, "" for any. Names beyond ASCII as the network knows them."""
    star = pattern.startswith("*.")
    if pattern in {"", "*"}:
        return ""
    name = pattern[2:] if star else pattern
    try:
        name = normal_host(name if name.isascii() else name.encode("idna").decode())
    except ValueError as error:
        raise RouteError(f"no host of a route: {pattern!r}: {error}") from None
    if not name or ":" in pattern.removeprefix("[").partition("]")[2] or (":" in pattern and name[:1] != "["):
        raise RouteError(f"no host of a route: {pattern!r}: a name without a port is expected")
    return f"*.{name}" if star else name


class Router(Generic[T]):
    """Routes that never change. Building one takes time in proportion to their number. RouteError."""

    __slots__ = ("_any", "_hosts", "_labels", "_wildcards")

    def __init__(self, routes: Iterable[Route[T]] = ()) -> None:
        self._hosts: dict[str, _Paths[T]] = {}
        self._wildcards: dict[str, _Paths[T]] = {}
        self._any: _Paths[T] | None = None
        hosts: dict[str, _Paths[T]] = {}
        for route in routes:
            host = _host(route.host)
            paths = hosts.get(host)
            if paths is None:
                paths = hosts[host] = _Paths()
            paths.add(route)
        for host, paths in hosts.items():
            self._set(host, paths)
        self._count_labels()

    def _set(self, host: str, paths: _Paths[T] | None) -> None:
        if not host:
            self._any = paths
            return
        where = self._wildcards if host.startswith("*.") else self._hosts
        host = host.removeprefix("*.")
        if paths is None:
            where.pop(host, None)
        else:
            where[host] = paths

    def _count_labels(self) -> None:
        self._labels = max((host.count(".") + 1 for host in self._wildcards), default=0)

    def with_host(self, host: str, routes: Iterable[Route[T]]) -> Router[T]:
        """Another router that differs in one host pattern: these are its routes then. None: it has no routes."""
        new: Router[T] = Router()
        new._hosts, new._wildcards, new._any = self._hosts.copy(), self._wildcards.copy(), self._any
        host = _host(host)
        paths: _Paths[T] = _Paths()
        for route in routes:
            if _host(route.host) != host:
                raise RouteError(f"the route {route.host or '*'}{route.path} is not one of the host {host or '*'}")
            paths.add(route)
        new._set(host, paths if paths.routes else None)
        new._count_labels()
        return new

    @property
    def routes(self) -> list[Route[T]]:
        paths = [*self._hosts.values(), *self._wildcards.values(), *([self._any] if self._any else [])]
        return [route for one in paths for route in one.routes]

    def match(self, request: Request) -> Route[T] | None:
        """The route of a request, or None. Its target is brought into normal form, its `route` is noted. BadTarget.

        The request's host is in normal form already (normal_host).
        """
        path, mark, query = request.target.partition("?")
        if path == "*":
            return None
        normal, key = normal_path(path)
        if normal is not path:
            request.target = f"{normal}{mark}{query}"
        route = self.find(request.host, key)
        if route is not None:
            request.route = route.path
        return route

    def names(self, host: str) -> bool:
        """Whether there are routes for just this host in normal form, or for a pattern "*.domain" that it matches."""
        return host in self._hosts or self._wildcard(host) is not None

    def find(self, host: str, path: str) -> Route[T] | None:
        """The route for a host in normal form and a decoded path."""
        paths = self._hosts.get(host)
        if paths is None:
            paths = self._wildcard(host) or self._any
            if paths is None:
                return None
        route = paths.exact.get(path)
        if route is not None:
            return route
        return paths.longest(path) if paths.depth else paths.rest

    def _wildcard(self, host: str) -> _Paths[T] | None:
        found = None
        end = len(host)
        for _ in range(self._labels):  # no more of a name of a hundred labels
            end = host.rfind(".", 0, end)
            if end < 0:
                break
            found = self._wildcards.get(host[end + 1 :], found)
        return found
