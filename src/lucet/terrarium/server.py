"""The server: from a request to the application that it is for, and to a fresh instance of that.

Front ends call handle(). What is deployed comes from a Catalogue; code is loaded when the first request wants it, and
unloaded when it was not wanted for a while and there is much of it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from lucet.errors import LucetError
from lucet.runtime import Budget, Region
from lucet.terrarium import assets, filters, guest, interfaces
from lucet.terrarium.admission import Admission, Load, Overloaded
from lucet.terrarium.catalogue import AppKey, Application, Catalogue, Deployment, FilterUse, NotDeployed, Snapshot
from lucet.terrarium.config import Capacity
from lucet.terrarium.environment import Environment, KeyValues, Resolver
from lucet.terrarium.handler import Handler
from lucet.terrarium.http import BodyTooLarge, BytesBody, ClientGone, Exchange, Headers, Outgoing, Request, read_all
from lucet.terrarium.limits import Limits
from lucet.terrarium.log import Log
from lucet.terrarium.metrics import TenantMetrics, prometheus
from lucet.terrarium.normal import BadTarget
from lucet.terrarium.record import Record
from lucet.terrarium.router import Route, Router
from lucet.terrarium.split import Split

if TYPE_CHECKING:
    from lucet.terrarium.interface import Interface

_WARM: Final = 4
_SWEEP: Final = 10.0
"""Seconds between two looks at what may be unloaded."""
_QUIET: Final = 15.0
"""Seconds after which a follower of a log is told that there is nothing new."""
_TEXT: Final[Headers] = [(b"content-type", b"text/plain; charset=utf-8")]


class Tenant:
    """What a tenant's applications share."""

    __slots__ = ("_log_room", "_log_time", "keys", "load", "metrics", "name")

    def __init__(self, name: str, limits: Limits, keys: KeyValues, admission: Admission) -> None:
        self.name = name
        self.load = Load(limits, admission)
        self.metrics = TenantMetrics()
        self.keys = keys
        self._log_room = float(limits.log_rate)
        self._log_time = 0.0

    def bound_log(self, record: Record) -> None:
        """Drop what its guests print beyond `log_rate` bytes in a second."""
        rate = self.load.limits.log_rate
        now = perf_counter()
        self._log_room = min(rate, self._log_room + (now - self._log_time) * rate)
        self._log_time = now
        size = sum(len(line) + 1 for line in record.log_lines or ())
        if size > self._log_room:
            record.log_lost += size
            record.log_lines = None
        else:
            self._log_room -= size


class Loaded:
    """A version that can answer."""

    __slots__ = ("assets", "deployment", "filters", "in_flight", "interface", "limits", "tenant", "used", "whole_body")

    def __init__(
        self, deployment: Deployment, tenant: Tenant, interface: Interface, filters_: tuple[Handler, ...] = ()
    ) -> None:
        self.deployment = deployment
        self.tenant = tenant
        self.interface = interface
        self.filters = filters_
        self.limits = deployment.limits
        self.assets = assets.may_answer(deployment)
        # With filters the body is received behind them.
        self.whole_body = interface.whole_body and not filters_
        self.in_flight = 0
        self.used = True
        """Since the last sweep."""

    def has_filter(self, key: AppKey) -> bool:
        """Whether the version in service of an application is one of its filters."""
        uses = self.deployment.filters
        return any((self.deployment.tenant, one.application) == key and one.version is None for one in uses)

    def answer(self, exchange: Exchange, record: Record) -> Coroutine[Any, Any, None] | None:
        if self.filters:
            return filters.answer(self.filters, self.interface, exchange, record)
        return guest.answer(self.interface, exchange, record)


class Served:
    """An application in service."""

    __slots__ = ("application", "loading", "only", "split", "versions")

    def __init__(self, application: Application) -> None:
        self.application = application
        self.split: Split[str] | None = None
        if len(application.shares) > 1:
            self.split = Split(application.shares, application.sticky or None, "/".join(application.key))
        self.versions: dict[str, Loaded] = {}
        self.only: Loaded | None = None
        """The version that answers, if it is loaded and nothing else is to be asked."""
        self.loading: dict[str, asyncio.Task[Loaded]] = {}


class Server:
    """Answers requests, and what the admin API wants to know of it (catalogue.Operations).

    keys: makes a tenant's key-value store. outgoing: what a deployment's requests to others go through. resolver:
    for guests that ask the domain name system. log: a Log.
    development: responses tell what went wrong in a guest.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        keys: Callable[[str, Limits], KeyValues],
        outgoing: Callable[[Deployment], Callable[[], Outgoing]],
        resolver: Resolver | None = None,
        log: Log | None = None,
        capacity: Capacity | None = None,
        development: bool = False,
    ) -> None:
        self.catalogue = catalogue
        self.capacity = capacity or Capacity()
        self.log = log or Log()
        self.development = development
        self.region = Region(
            self.capacity.instances, stack_size=self.capacity.stack, budget=Budget(self.capacity.memory)
        )
        self._keys = keys
        self._outgoing = outgoing
        self._resolver = resolver
        self._tenants: dict[str, Tenant] = {}
        self._served: dict[AppKey, Served] = {}
        self._loaded: set[Loaded] = set()
        self._warm: deque[Loaded] = deque(maxlen=_WARM)
        """What is about to be deployed: its code stays mapped until then."""
        self._retired: set[Loaded] = set()
        """Versions that answer what they began, and nothing new."""
        self._router: Router[Served] = Router()
        self._admission = Admission(asyncio.get_running_loop())
        self._prefix = secrets.token_hex(4)
        self._count = 0
        self._started = time.time()
        self._take(catalogue.snapshot, catalogue.snapshot.applications.keys())
        self._unsubscribe = catalogue.subscribe(self._take)
        self._sweeping = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)

    def close(self) -> None:
        self._unsubscribe()
        self._sweeping.cancel()
        for served in self._served.values():
            for task in served.loading.values():
                task.cancel()
        self.log.flush()

    # What is deployed.

    def _take(self, snapshot: Snapshot, changed: Iterable[AppKey]) -> None:
        """Serve what there is now: requests that began are not concerned."""
        touched: set[str] = set()
        for key in changed:
            old = self._served.pop(key, None)
            application = snapshot.applications.get(key)
            if old is not None:
                touched.update(route.host for route in old.application.routes)
                for loaded in old.versions.values():
                    self._retire(loaded)
            if application is not None and application.shares:
                self._served[key] = Served(application)
                touched.update(route.host for route in application.routes)
            for loaded in [one for one in self._loaded if one.deployment.filters and one.has_filter(key)]:
                self._unload(loaded)
        by_host: dict[str, list[Route[Served]]] = {host: [] for host in touched}
        for served in self._served.values():
            for one in served.application.routes:
                if one.host in by_host:
                    path = one.path.rstrip("/") + "/..."
                    by_host[one.host].append(Route(target=served, host=one.host, path=path))
        if len(touched) > 16:
            routes = [route for route in self._router.routes if route.host not in touched]
            self._router = Router([*routes, *(route for some in by_host.values() for route in some)])
        else:
            router = self._router
            for host, some in by_host.items():
                router = router.with_host(host, some)
            self._router = router

    def _retire(self, loaded: Loaded) -> None:
        self._loaded.discard(loaded)
        if loaded.in_flight:
            self._retired.add(loaded)

    def _tenant(self, name: str, limits: Limits) -> Tenant:
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = Tenant(name, limits, self._keys(name, limits), self._admission)
        tenant.load.limits = limits
        return tenant

    async def _version(self, served: Served, version: str) -> Loaded:
        """Load it, once for all that want it. NotDeployed, LucetError."""
        task = served.loading.get(version)
        if task is None:
            task = served.loading[version] = asyncio.create_task(self._load(served, version))
            task.add_done_callback(lambda _: served.loading.pop(version, None))
        return await asyncio.shield(task)

    async def _load(self, served: Served, version: str) -> Loaded:
        deployment = self.catalogue.deployment(*served.application.key, version)
        loaded = await self._make(deployment)
        if self._served.get(served.application.key) is served:
            served.versions[version] = loaded
            if served.split is None:
                served.only = loaded
            self._loaded.add(loaded)
        return loaded  # for those who waited for it, at least

    async def _make(self, deployment: Deployment) -> Loaded:
        tenant = self._tenant(deployment.tenant, deployment.limits)
        interface = await self._interface(deployment, tenant)
        return Loaded(
            deployment, tenant, interface, tuple([await self._filter(use, tenant) for use in deployment.filters])
        )

    async def _filter(self, use: FilterUse, tenant: Tenant) -> Handler:
        """NotDeployed, LucetError: the application is not available without it."""
        version = use.version
        if version is None:
            application = self.catalogue.snapshot.applications.get((tenant.name, use.application))
            if application is None or not application.shares:
                raise NotDeployed(f"the filter {use.application} is not in service")
            version = application.shares[0][0]
        deployment = self.catalogue.deployment(tenant.name, use.application, version)
        configuration = {"": {"": use.configuration.decode(errors="surrogateescape")}}
        interface = await self._interface(deployment, tenant, configuration)
        if not isinstance(interface, Handler):
            raise NotDeployed(f"{use.application} is no filter: its interface is {interface.name}")
        return interface

    async def _interface(
        self, deployment: Deployment, tenant: Tenant, configuration: dict[str, dict[str, str]] | None = None
    ) -> Interface:
        module = await self.catalogue.load(deployment.digest)
        environment = Environment(
            tenant=deployment.tenant,
            application=deployment.application,
            version=deployment.version,
            region=self.region,
            limits=deployment.limits,
            keys=tenant.keys,
            outgoing=self._outgoing(deployment),
            resolver=self._resolver,
            configuration=deployment.configuration if configuration is None else configuration,
            secrets=deployment.secrets,
            backends=deployment.backends,
            reroute=self._reroute,
            development=self.development or deployment.development,
        )
        return interfaces.named(deployment.interface)(module, environment)

    def _sweep(self) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
        self._retired = {loaded for loaded in self._retired if loaded.in_flight}
        self.log.forget_others(self.catalogue.snapshot.applications)
        excess = len(self._loaded) - self.capacity.loaded
        for loaded in tuple(self._loaded):
            if excess > 0 and not loaded.used and not loaded.in_flight:
                excess -= 1
                self._unload(loaded)
            loaded.used = False

    def _unload(self, loaded: Loaded) -> None:
        """The next request that wants it loads it anew."""
        self._retire(loaded)
        served = self._served.get((loaded.deployment.tenant, loaded.deployment.application))
        if served is not None and served.versions.get(loaded.deployment.version) is loaded:
            del served.versions[loaded.deployment.version]
            served.only = None

    # Requests.

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        """Answer a request: at once, or in what is to be awaited."""
        begun = perf_counter()
        request = exchange.request
        self._count += 1
        request.id = f"{self._prefix}{self._count:06x}"
        try:
            route = self._router.match(request)
        except BadTarget as error:
            self._nobody(exchange, begun, 400, str(error))
            return None
        if route is None:
            self._nobody(exchange, begun, 404, "nothing is deployed here")
            return None
        served = route.target
        loaded = served.only
        if loaded is None or loaded.assets or request.traceparent is not None:
            return self._at_length(served, exchange, begun)
        record = Record(begun, loaded.limits)
        load = loaded.tenant.load
        if (loaded.whole_body and type(request.body) is not BytesBody) or not load.begin(begun):
            return self._answer(loaded, exchange, record)
        loaded.in_flight += 1
        loaded.used = True
        rest = loaded.answer(exchange, record)
        if rest is not None:
            load.charge(record)  # now, not only at its end: more of the kind may come before
            return self._finish(loaded, exchange, record, rest)
        self._over(loaded, exchange, record)
        return None

    async def _at_length(self, served: Served, exchange: Exchange, begun: float) -> None:
        """With everything that the shortest way leaves out."""
        request = exchange.request
        application = served.application
        if application.stopped or (application.expires is not None and time.time() >= application.expires):
            self._nobody(exchange, begun, 503 if application.stopped else 404, "the application is not in service")
            return
        version = application.shares[0][0]
        if served.split is not None:
            version, cookie = served.split.choose(request)
            if cookie is not None:
                exchange.added = [(b"set-cookie", cookie)]
        try:
            loaded = served.versions.get(version) or await self._version(served, version)
        except (NotDeployed, LucetError, OSError) as error:
            self.log.event(*application.key, "not loaded", version=version, error=str(error))
            self._nobody(exchange, begun, 503, str(error) if self.development else "the application is not available")
            return
        if application.expires is not None:
            served.only = None  # so that its end is looked for
        record = Record(begun, loaded.limits)
        if request.traceparent is not None:
            _trace(request, record)
        if loaded.assets:
            loaded.in_flight += 1
            try:
                answered = await assets.answer(loaded.deployment, exchange)
            except ClientGone:
                answered = True
            except OSError as error:
                answered = True
                record.fault = f"an asset: {error}"
                _respond(exchange, 503, "the application is not available")
            finally:
                loaded.in_flight -= 1
            if answered:
                loaded.in_flight += 1
                loaded.tenant.load.running += 1
                self._over(loaded, exchange, record)
                return
        await self._answer(loaded, exchange, record)

    async def _answer(self, loaded: Loaded, exchange: Exchange, record: Record) -> None:
        """A request that has to wait, for its body or for its turn."""
        loaded.in_flight += 1
        loaded.used = True
        load = loaded.tenant.load
        admitted = False
        try:
            if loaded.whole_body and type(exchange.request.body) is not BytesBody:
                await self._receive(exchange.request, loaded.limits)
            if not load.begin(perf_counter()):
                async with asyncio.timeout(loaded.limits.wall_time):
                    await self._admission.wait(load)
            admitted = True
            rest = loaded.answer(exchange, record)
            if rest is not None:
                load.charge(record)
                await rest
        except BodyTooLarge as error:
            record.limit = "request_body"
            _respond(exchange, 413, str(error))
        except ClientGone:
            record.fault = "client gone"
        except TimeoutError:
            record.limit = "wall_time"
            _respond(exchange, 408 if not admitted else 504, "limit: wall_time")
        except Overloaded:
            record.limit = "queue"
            _respond(exchange, 503, "too many requests of this tenant wait", (b"retry-after", b"1"))
        finally:
            if not admitted:
                load.running += 1  # which the end takes back
            self._over(loaded, exchange, record)

    async def _receive(self, request: Request, limits: Limits) -> None:
        length = request.body.length
        if length is not None and length > limits.request_body:
            raise BodyTooLarge(f"the body of {length} bytes is larger than {limits.request_body}")
        async with asyncio.timeout(limits.wall_time):
            request.body = BytesBody(await read_all(request.body, limits.request_body))

    async def _finish(
        self, loaded: Loaded, exchange: Exchange, record: Record, rest: Coroutine[Any, Any, None]
    ) -> None:
        try:
            await rest
        finally:
            self._over(loaded, exchange, record)

    def _reroute(self, exchange: Exchange, record: Record) -> Coroutine[Any, Any, None] | None:
        """An application has replaced the exchange's request by another. It is part of the same run: neither admitted
        nor counted again.
        """
        try:
            route = self._router.match(exchange.request)
        except BadTarget as error:
            _respond(exchange, 400, str(error))
            return None
        if route is None:
            _respond(exchange, 404, "nothing is deployed here")
            return None
        return self._rerouted(route.target, exchange, record)

    async def _rerouted(self, served: Served, exchange: Exchange, record: Record) -> None:
        application = served.application
        version = application.shares[0][0] if served.split is None else served.split.choose(exchange.request)[0]
        try:
            loaded = served.versions.get(version) or await self._version(served, version)
        except (NotDeployed, LucetError, OSError) as error:
            self.log.event(*application.key, "not loaded", version=version, error=str(error))
            _respond(exchange, 503, "the application is not available")
            return
        if loaded.assets and await assets.answer(loaded.deployment, exchange):
            return
        rest = loaded.answer(exchange, record)
        if rest is not None:
            await rest

    def _over(self, loaded: Loaded, exchange: Exchange, record: Record) -> None:
        """Count it, log it."""
        loaded.in_flight -= 1
        tenant = loaded.tenant
        load = tenant.load
        load.charge(record)
        load.ended(record.cpu_time)
        load.running -= 1
        if load.queue:
            self._admission.ended()
        if record.log_lines is not None:
            tenant.bound_log(record)
        duration = (record.ended or perf_counter()) - record.begun
        status = exchange.status
        tenant.metrics.add(record, status, duration)
        self.log.add(loaded.deployment, exchange.request, record, status, duration)

    def _nobody(self, exchange: Exchange, begun: float, status: int, text: str) -> None:
        """Answer what no application does."""
        _respond(exchange, status, text)
        tenant = self._tenants.get("")
        if tenant is None:
            tenant = self._tenants[""] = Tenant("", Limits(), self._keys("", Limits()), self._admission)
        tenant.metrics.add(Record(begun, tenant.load.limits), status, perf_counter() - begun)

    # Operations.

    async def warm(self, deployment: Deployment, health: str | None = None) -> None:
        loaded = await self._make(deployment)
        self._warm.append(loaded)
        if health is None:
            exchange = _Probe(Request(method="GET", target="/", headers=[], body=BytesBody()))
            visit = loaded.interface.visit(exchange, Record(0.0, deployment.limits))
            try:
                visit.new_instance().close()
            finally:
                visit.close()
            return
        host = b"localhost"
        request = Request(
            method="GET", target=health, headers=[(b"host", host)], body=BytesBody(), host="localhost", id="health"
        )
        exchange = _Probe(request)
        record = Record(perf_counter(), deployment.limits)
        if not await assets.answer(deployment, exchange):
            rest = guest.answer(loaded.interface, exchange, record)
            if rest is not None:
                await rest
        if not 200 <= exchange.status < 400:
            raise NotDeployed(f"GET {health} was answered with {exchange.status}: {record.fault or record.limit or ''}")

    def serves(self, host: str) -> bool:
        """Whether something is deployed for this host, in normal form: not what is for all hosts."""
        return self._router.names(host)

    def in_flight(self, tenant: str, application: str, version: str) -> int:
        key = (tenant, application, version)
        return sum(
            one.in_flight
            for one in (*self._loaded, *self._retired)
            if (one.deployment.tenant, one.deployment.application, one.deployment.version) == key
        )

    def keys(self, tenant: str) -> KeyValues:
        return self._tenant(tenant, Limits()).keys if tenant not in self._tenants else self._tenants[tenant].keys

    def metrics(self) -> str:
        return prometheus(
            ((name, tenant.metrics) for name, tenant in sorted(self._tenants.items())),
            (
                ("lucet_instances", "Instances that exist now.", self.region.used),
                ("lucet_instances_limit", "Instances that may exist.", self.region.capacity),
                ("lucet_applications", "Applications that are deployed.", len(self._served)),
                ("lucet_applications_loaded", "Versions whose code is mapped.", len(self._loaded)),
                ("lucet_log_lines_lost", "Log lines that could not be written.", self.log.lost),
                ("lucet_start_time_seconds", "When the server started, since the epoch.", self._started),
            ),
        )

    def log_tail(self, tenant: str, application: str, limit: int) -> list[dict[str, Any]]:
        lines = self.log.recent(tenant, application)
        return [json.loads(line) for line in lines[-limit:]] if limit > 0 else []

    async def log_follow(self, tenant: str, application: str) -> AsyncGenerator[dict[str, Any] | None, None]:
        lines: asyncio.Queue[str] = asyncio.Queue(1000)

        def take(line: str) -> None:
            if not lines.full():
                lines.put_nowait(line)

        stop = self.log.follow(tenant, application, take)
        try:
            while True:
                try:
                    async with asyncio.timeout(_QUIET):
                        line = await lines.get()
                except TimeoutError:
                    yield None
                else:
                    yield json.loads(line)
        finally:
            stop()


class _Probe(Exchange):
    """A response that nobody sees."""

    def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        self.status = status

    async def start(self, status: int, headers: Headers) -> None:
        self.status = status

    async def write(self, data: bytes) -> None: ...

    async def end(self) -> None: ...


def _respond(exchange: Exchange, status: int, text: str, *more: tuple[bytes, bytes]) -> None:
    if not exchange.status:
        exchange.respond(status, [*_TEXT, *more], f"{text}\nrequest {exchange.request.id}\n".encode())


def _trace(request: Request, record: Record) -> None:
    """Take part in the client's trace (W3C Trace Context 1): the guest is told of a span of its own."""
    given = request.traceparent or b""
    parts = given.split(b"-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2] or parts[0] == b"ff":
        return
    try:
        if not int(parts[1], 16) or not int(parts[2], 16) or given != given.lower():
            return
    except ValueError:
        return
    record.trace = parts[1].decode()
    parts[2] = secrets.token_hex(8).encode()
    parent = b"-".join(parts)
    request.headers = [(name, parent if name == b"traceparent" else value) for name, value in request.headers]
