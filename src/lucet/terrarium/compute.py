"""Fastly Compute's core interface: modules that import fastly_* and WASI preview 1 (docs/terrarium-compute.md)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Final

from lucet.terrarium.compute_body import seen
from lucet.terrarium.compute_cache import Cache
from lucet.terrarium.compute_calls import imports_for
from lucet.terrarium.compute_more import Acl, Rates
from lucet.terrarium.compute_visit import ComputeVisit
from lucet.terrarium.interface import Interface
from lucet.terrarium.wasi import SharedWasi

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lucet.runtime import Module
    from lucet.terrarium.environment import Environment
    from lucet.terrarium.http import Exchange, Outgoing
    from lucet.terrarium.record import Record

PLATFORM: Final = "fastly:"
"""What names of configuration stores begin with that are not the guest's to open, but what calls are answered from:
"fastly:geolocation" (JSON by address), "fastly:device_detection" (JSON by user agent), "fastly:acl:NAME" (actions by
prefix), "fastly:override_host" (Host headers by backend).
"""


class Compute(Interface):
    """Modules that import something of fastly_*."""

    name: ClassVar[str] = "compute"
    whole_body: ClassVar[bool] = False

    def __init__(self, module: Module, environment: Environment) -> None:
        super().__init__(module, environment)
        needed = module.imports
        wasi = SharedWasi(lambda caller: caller.context.wasi(), lambda caller: caller.context.environ())
        imports = {**imports_for(needed), **wasi.imports_for(needed)}
        self.linkage = environment.region.link(module, imports)
        variables = {
            "FASTLY_CACHE_GENERATION": "0",
            "FASTLY_CUSTOMER_ID": environment.tenant,
            "FASTLY_HOSTNAME": "localhost",
            "FASTLY_POP": "XXX",
            "FASTLY_REGION": "Somewhere",
            "FASTLY_SERVICE_ID": environment.application,
            "FASTLY_SERVICE_VERSION": environment.version,
        }
        self.variables = tuple(f"{name}={value}\0".encode() for name, value in variables.items())
        self.told: set[str] = set()
        """Functions that are not supported, of which a log tells already."""
        self.rates = Rates()
        self.cache = Cache()
        self.acls: dict[str, Acl] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @staticmethod
    def speaks(imports: frozenset[tuple[str, str]], exports: frozenset[str]) -> bool:
        return any(module.startswith("fastly_") for module, _ in imports)

    def visit(self, exchange: Exchange, record: Record) -> ComputeVisit:
        return ComputeVisit(self, exchange, record)

    def settings(self, name: str) -> Mapping[str, str]:
        """What calls are answered from; empty if nothing is configured."""
        return self.environment.configuration.get(PLATFORM + name, {})

    def close_later(self, outgoing: Outgoing) -> None:
        """What a request has used for its own requests."""

        async def close() -> None:
            await outgoing.close()

        task = asyncio.ensure_future(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.add_done_callback(seen)
