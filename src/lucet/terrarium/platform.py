"""The whole platform, as a configuration describes it: store, server, front ends, admin API, page."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from lucet.errors import LucetError
from lucet.terrarium.admin import Admin
from lucet.terrarium.build import Toolchains
from lucet.terrarium.compiling import Compiler
from lucet.terrarium.config import App, Config, ConfigError, secret_of, split_address
from lucet.terrarium.deploy import Deployer, Job, Upload
from lucet.terrarium.dns import UdpResolver
from lucet.terrarium.environment import NoOutgoing
from lucet.terrarium.frontend import Bounds, FrontEnd
from lucet.terrarium.jail import Jail
from lucet.terrarium.keys_sqlite import SqliteStores
from lucet.terrarium.log import Log
from lucet.terrarium.original import OriginalApi
from lucet.terrarium.own import OwnHosts
from lucet.terrarium.page import front
from lucet.terrarium.sealed import private_file
from lucet.terrarium.server import Server
from lucet.terrarium.sources import read_sources
from lucet.terrarium.store import Store
from lucet.terrarium.stored import StoredCatalogue
from lucet.terrarium.tls import TlsFrontEnd

if TYPE_CHECKING:
    from lucet.terrarium.catalogue import Deployment
    from lucet.terrarium.http import Exchange, Outgoing
    from lucet.terrarium.keys_redis import RedisStores
    from lucet.terrarium.outgoing import Client

_COLLECT: Final = 600.0
"""Seconds between two removals of files that nothing needs."""


class Platform:
    """Running between start() and close()."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.addresses: list[str] = []
        """URLs, or paths of sockets, that are answered."""
        self.admin_address: str | None = None
        self.token_file = config.admin.token_file or config.data / "admin.token"
        self._fronts: list[FrontEnd | TlsFrontEnd] = []
        self._admin_front: FrontEnd | None = None
        self._client: Client | None = None
        """For guests' own requests; none before an application may send some."""

    async def start(self) -> None:
        """LucetError, OSError."""
        config = self.config
        self.store = Store(config.data, defaults=config.limits)
        build = config.build
        jail = Jail(
            config.data / "scratch",
            say=lambda text: self.server.log.event("", "", text),
            required=build.require_isolation,
        )
        compiler = Compiler(
            wall_time=build.wall_time, cpu_time=build.cpu_time, memory=build.memory, module=build.module, jail=jail
        )
        self.catalogue = StoredCatalogue(self.store, compiler)
        self._keys = self._stores()
        self.server = Server(
            self.catalogue,
            keys=self._keys.tenant,
            outgoing=self._outgoing,
            resolver=self._resolver(),
            log=Log(self._log_file()),
            capacity=config.capacity,
            development=config.development,
        )
        toolchains = Toolchains(config.data / "toolchains", build, jail)
        self.deployer = Deployer(self.store, self.catalogue, compiler, toolchains, self.server, build)
        self.original = None if config.original is None else OriginalApi(self.deployer, config.original)
        self._collecting = asyncio.create_task(self._collect())
        await self._declare()
        await self._listen()
        await self._listen_admin()

    def _stores(self) -> SqliteStores | RedisStores:
        if not self.config.keys:
            return SqliteStores(self.config.data / "keys.db")
        from lucet.terrarium.keys_redis import RedisStores

        try:
            return RedisStores(self.config.keys)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"keys: {error}") from error

    def _resolver(self) -> UdpResolver | None:
        if not self.config.resolver:
            return None
        where = split_address(self.config.resolver, "resolver")
        if isinstance(where, Path):
            raise ConfigError("resolver: must be address:port")
        return UdpResolver(*where)

    async def _collect(self) -> None:
        """Remove files of what was deleted or has expired, now and then."""
        while True:
            try:
                await asyncio.to_thread(self.store.collect_garbage)
            except (LucetError, OSError) as error:  # there is no room, or no right to
                self.server.log.event("", "", "files that nothing needs are not removed", error=str(error))
            await asyncio.sleep(_COLLECT)

    def _outgoing(self, deployment: Deployment) -> Callable[[], Outgoing]:
        if not deployment.allowed_outbound_hosts:
            return NoOutgoing
        if self._client is None:
            from lucet.terrarium.outgoing import Client

            self._client = Client(own=OwnHosts(self.server.serves, self.handle))
        return self._client.outgoing(deployment.allowed_outbound_hosts, deployment.limits)

    def _log_file(self) -> IO[bytes] | None:
        log = self.config.log
        if not log.requests:
            return None
        return sys.stderr.buffer if log.file is None else log.file.open("ab")

    # Listening.

    async def _listen(self) -> None:
        config = self.config
        for text in config.listen:
            where = split_address(text, "listen")
            if isinstance(where, Path):
                front_end = FrontEnd(self.handle)
                await _listen_unix(front_end, where)
                self.addresses.append(f"unix:{where}")
                self._fronts.append(front_end)
                continue
            if config.tls is None:
                front_end = FrontEnd(self.handle)
                address = await front_end.listen(*where)
                self._fronts.append(front_end)
            else:
                tls = TlsFrontEnd(self.handle, Bounds())
                address = await tls.listen(*where, certificate=config.tls.certificate, key=config.tls.key)
                self._fronts.append(tls)
            self.addresses.append(_url("https" if config.tls else "http", *address))
            if self.original is not None and self.original.port is None:
                self.original.port = address[1]

    async def _listen_admin(self) -> None:
        listen = self.config.admin.listen
        if listen is None:
            return
        token = private_file(self.token_file, lambda: secrets.token_urlsafe(32))
        admin = Admin(self.store, self.deployer, self.server, token, self._page_url())
        self._admin_front = FrontEnd(front(admin, self.original))
        where = split_address(listen, "admin.listen")
        if isinstance(where, Path):
            await _listen_unix(self._admin_front, where)
            self.admin_address = f"unix:{where}"
        else:
            self.admin_address = _url("http", *await self._admin_front.listen(*where))

    def _page_url(self) -> str:
        """Where the page's applications are, with {name} for theirs."""
        if self.original is not None:
            return self.original.url("{name}")
        for address in self.addresses:
            scheme, _, rest = address.partition("://")
            port = rest.rpartition(":")[2]
            if scheme in ("http", "https"):
                return f"{scheme}://{{name}}.localhost:{port}"
        return ""

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        """Of the public side."""
        original = self.original
        if original is not None and exchange.request.host in original.settings.hosts:
            return original.handle(exchange)
        return self.server.handle(exchange)

    # Applications that the file declares.

    async def _declare(self) -> None:
        jobs: deque[tuple[str, Job]] = deque()
        for name, tenant in self.config.tenants.items():
            self.store.put_tenant(name, tenant.limits)
            for app_name, app in _filters_first(tenant.apps):
                if len(jobs) >= self.deployer.limits.queue:
                    await self._declared(*jobs.popleft())
                job = self._declare_app(name, app_name, app)
                if job is not None:
                    jobs.append((f"tenants.{name}.apps.{app_name}", job))
        for where, job in jobs:
            await self._declared(where, job)

    @staticmethod
    async def _declared(where: str, job: Job) -> None:
        while not job.done:
            await job.changed.wait()
        if not job.success:
            raise ConfigError(f"{where}: {job.status}\n{job.log}".rstrip())

    def _declare_app(self, tenant: str, name: str, app: App) -> Job | None:
        """None if what is to answer does so already."""
        where = f"tenants.{tenant}.apps.{name}"
        kind, files = read_sources(app.module)
        self.store.put_application(tenant, name, settings=app.settings(), routes=app.routes)
        for store, values in app.configuration.items():
            self.store.put_configuration(tenant, name, store, dict(values))
        for store, sources in app.secrets.items():
            given = {key: secret_of(source, f"{where}.secrets.{store}.{key}") for key, source in sources.items()}
            self.store.put_secrets(tenant, name, store, given)
        application = self.store.applications([(tenant, name)])[tenant, name]
        if kind == "wasm" and len(application.shares) == 1:
            from hashlib import sha256

            active = self.store.deployment(tenant, name, application.shares[0][0])
            if len(files) == 1 and active.digest == sha256(next(iter(files.values()))).hexdigest():
                return None
        return self.deployer.submit(
            Upload(tenant=tenant, application=name, kind=kind, files=files, only_if_changed=True)
        )

    async def close(self) -> None:
        """Let what runs end, within the grace."""
        if self._admin_front is not None:
            await self._admin_front.close(1.0)
        await asyncio.gather(*(one.close(self.config.grace) for one in self._fronts))
        self._collecting.cancel()
        await self.deployer.close()
        self.server.close()
        if self._client is not None:
            await self._client.close()
        self.catalogue.close()
        closing = self._keys.close()
        if closing is not None:
            await closing
        self.store.close()


def _filters_first(apps: Mapping[str, App]) -> list[tuple[str, App]]:
    """An application cannot be warmed before those that stand in front of it."""
    filters = {use.application for app in apps.values() for use in app.filters}
    return sorted(apps.items(), key=lambda one: (one[0] not in filters, bool(one[1].filters)))


async def _listen_unix(front_end: FrontEnd, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_socket():
            path.unlink()
    await front_end.listen_unix(str(path))
    path.chmod(0o600)


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"
