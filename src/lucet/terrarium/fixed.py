"""A catalogue that never changes: for applications given by files, without a store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lucet.runtime import Module
from lucet.sandbox import load_program
from lucet.terrarium import interfaces
from lucet.terrarium.catalogue import Application, Catalogue, Deployment, Listener, NotDeployed, Route, Snapshot
from lucet.terrarium.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Program:
    """An application in a file: a .wasm, .wat, or an artifact."""

    name: str
    path: Path
    routes: tuple[Route, ...] = (Route(host="*"),)
    limits: Limits = field(default_factory=Limits)
    interface: str | None = None
    """None: detected."""
    configuration: tuple[tuple[str, str], ...] = ()


class FixedCatalogue(Catalogue):
    """CompileError, ArtifactError, UnknownInterface, OSError for a program that cannot be served."""

    def __init__(self, programs: Iterable[Program]) -> None:
        self._modules: dict[str, Module] = {}
        self._deployments: dict[tuple[str, str, str], Deployment] = {}
        applications = {}
        for program in programs:
            digest = hashlib.sha256(program.path.read_bytes()).hexdigest()
            module = self._modules.get(digest) or load_program(program.path)
            self._modules[digest] = module
            application = Application(
                tenant="default", name=program.name, routes=program.routes, shares=((digest[:12], 1),)
            )
            applications[application.key] = application
            interface = program.interface or interfaces.detect(module).name
            self._deployments["default", program.name, digest[:12]] = Deployment(
                tenant="default",
                application=program.name,
                version=digest[:12],
                generation=0,
                digest=digest,
                interface=interface,
                limits=program.limits,
                configuration={"": dict(program.configuration)},
            )
        self._snapshot = Snapshot(revision=0, applications=applications)

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return lambda: None

    def deployment(self, tenant: str, application: str, version: str) -> Deployment:
        try:
            return self._deployments[tenant, application, version]
        except KeyError:
            raise NotDeployed(f"there is no version {version} of {application}") from None

    async def load(self, digest: str) -> Module:
        try:
            return self._modules[digest]
        except KeyError:
            raise NotDeployed(f"there is no module {digest}") from None
