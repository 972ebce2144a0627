"""A catalogue in memory: what tests of the server deploy without a database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lucet
from lucet.terrarium import interfaces
from lucet.terrarium.catalogue import (
    AppKey,
    Application,
    Catalogue,
    Deployment,
    Listener,
    NotDeployed,
    Route,
    Snapshot,
)
from lucet.terrarium.limits import Limits


class MemoryCatalogue(Catalogue):
    """`catalogue.deploy("tenant", "app", wasm, "app.example.test")`, again for a second version."""

    def __init__(self) -> None:
        self._snapshot = Snapshot(revision=0, applications={})
        self._deployments: dict[tuple[str, str, str], Deployment] = {}
        self._modules: dict[str, lucet.Module] = {}
        self._listeners: list[Listener] = []

    def deploy(
        self,
        tenant: str,
        name: str,
        wasm: bytes | str | lucet.Module,
        *hosts: str,
        activate: bool = True,
        **settings: Any,
    ) -> str:
        """The new version's name. settings: of Deployment."""
        module = wasm if isinstance(wasm, lucet.Module) else lucet.Module.from_bytes(lucet.compile(wasm))
        digest = module.source_digest.hex()
        self._modules[digest] = module
        old = self._snapshot.applications.get((tenant, name))
        version = str(1 + sum(key[:2] == (tenant, name) for key in self._deployments))
        generation = self._snapshot.revision + 1
        settings.setdefault("interface", interfaces.detect(module).name)
        settings.setdefault("limits", Limits())
        self._deployments[tenant, name, version] = Deployment(
            tenant=tenant, application=name, version=version, generation=generation, digest=digest, **settings
        )
        routes = tuple(Route(host=host) for host in hosts) or (old.routes if old else ())
        shares = ((version, 1),) if activate or old is None else old.shares
        self.put(Application(tenant=tenant, name=name, routes=routes, shares=shares))
        return version

    def put(self, application: Application) -> None:
        """Replace an application's entry; its generation is set."""
        revision = self._snapshot.revision + 1
        application = replace(application, generation=revision)
        self._publish(revision, {**self._snapshot.applications, application.key: application}, application.key)

    def remove(self, tenant: str, name: str) -> None:
        rest = {key: one for key, one in self._snapshot.applications.items() if key != (tenant, name)}
        self._publish(self._snapshot.revision + 1, rest, (tenant, name))

    def _publish(self, revision: int, applications: dict[AppKey, Application], changed: AppKey) -> None:
        self._snapshot = Snapshot(revision=revision, applications=applications)
        for listener in list(self._listeners):
            listener(self._snapshot, frozenset([changed]))

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def deployment(self, tenant: str, application: str, version: str) -> Deployment:
        try:
            found = self._deployments[tenant, application, version]
        except KeyError:
            raise NotDeployed(f"{tenant}/{application} has no version {version}") from None
        return replace(found, generation=self._snapshot.applications[tenant, application].generation)

    async def load(self, digest: str) -> lucet.Module:
        try:
            return self._modules[digest]
        except KeyError:
            raise NotDeployed(f"there is no module {digest}") from None
