"""A whole server in one event loop: store, deployer, admin API and both front ends, with a compiler in the process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import lucet
from lucet.terrarium import interfaces
from lucet.terrarium.admin import PREFIX, Admin
from lucet.terrarium.compiling import BuildFailed, Compiled, Compiler
from lucet.terrarium.config import Build, Original
from lucet.terrarium.deploy import Deployer, NoToolchain
from lucet.terrarium.environment import NoOutgoing
from lucet.terrarium.frontend import Bounds, FrontEnd
from lucet.terrarium.limits import Limits
from lucet.terrarium.log import Log
from lucet.terrarium.original import OriginalApi
from lucet.terrarium.page import front
from lucet.terrarium.server import Server
from lucet.terrarium.store import Store
from lucet.terrarium.stored import StoredCatalogue
from lucet.wasm.text import text_to_binary
from tests.kit.terrarium import DictKeys

TOKEN = "secret"


@lru_cache
def _compiled(module: bytes) -> Compiled:
    try:
        wasm = module if module.startswith(b"\0asm") else text_to_binary(module.decode())
        artifact = lucet.compile(wasm, opt_level="fast")
        interface = interfaces.detect(lucet.Module.from_bytes(artifact)).name
    except lucet.LucetError as error:
        raise BuildFailed(str(error)) from error
    return Compiled(wasm=wasm, artifact=artifact, interface=interface)


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickCompiler(Compiler):
    """Neither jailed nor limited: of the tests' own modules."""

    @staticmethod
    def version() -> str:
        return "of the tests"

    async def compile(self, module: bytes, level: str = "fast", name: str = "module") -> Compiled:
        await asyncio.sleep(0.001)
        return _compiled(module)


@dataclass(kw_only=True)
class Site:
    store: Store
    catalogue: StoredCatalogue
    server: Server
    deployer: Deployer
    public: FrontEnd
    administration: FrontEnd
    port: int
    admin_port: int
    failures: list[dict[str, Any]] = field(default_factory=list)
    """What the loop's exception handler was called for."""

    async def ask(self, method: str, path: str, body: Any = None, token: str = TOKEN) -> tuple[int, Any]:
        """Of the admin API. body: bytes as they are, others as JSON."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} {PREFIX}{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin_port)
        try:
            writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            answer = await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()
        first, _, content = answer.partition(b"\r\n\r\n")
        return int(first.split()[1]), json.loads(content) if content else None

    async def deploy(self, app: str, text: str, tenant: str = "t", **more: Any) -> dict[str, Any]:
        """The job at its end."""
        body = {"kind": "text", "files": {"module.wat": text}, **more}
        status, job = await self.ask("POST", f"/tenants/{tenant}/apps/{app}/deploy", body)
        assert status == 202, job
        while not job["done"]:
            await asyncio.sleep(0.005)
            _, job = await self.ask("GET", f"/jobs/{job['job']}")
        found: dict[str, Any] = job
        return found


@asynccontextmanager
async def site(folder: Path, *, limits: Limits | None = None, bounds: Bounds | None = None) -> AsyncIterator[Site]:
    """Nothing of it is left at the end: no task, no instance, no request that is still counted."""
    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    before = asyncio.all_tasks()
    store = Store(folder, defaults=limits)
    compiler = QuickCompiler()
    catalogue = StoredCatalogue(store, compiler)
    server = Server(catalogue, keys=lambda *_: DictKeys(), outgoing=lambda deployment: NoOutgoing, log=Log())
    deployer = Deployer(store, catalogue, compiler, NoToolchain(), server, Build())
    original = OriginalApi(deployer, Original(domain="example.test"))
    public = FrontEnd(server.handle, bounds)
    administration = FrontEnd(front(Admin(store, deployer, server, TOKEN), original), bounds)
    _, port = await public.listen("127.0.0.1", 0)
    _, admin_port = await administration.listen("127.0.0.1", 0)
    one = Site(
        store=store,
        catalogue=catalogue,
        server=server,
        deployer=deployer,
        public=public,
        administration=administration,
        port=port,
        admin_port=admin_port,
        failures=failures,
    )
    try:
        yield one
    finally:
        await administration.close(0.2)
        await public.close(0.2)
        await deployer.close()
        server.close()
        catalogue.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):  # what is cut off has to notice it
                while asyncio.all_tasks() != before:
                    await asyncio.sleep(0.01)
        store.close()
    told = [(one["message"], traceback.format_exception(one.get("exception"))) for one in failures]
    assert not told, "\n".join(f"{message}: {''.join(lines)}" for message, lines in told)
    assert server.region.used == 0, asyncio.all_tasks()
    loads = [tenant.load for tenant in server._tenants.values()]
    assert [load.running for load in loads] == [0] * len(loads)
    assert not any(load.queue for load in loads)
    assert not any(loaded.in_flight for loaded in (*server._loaded, *server._retired))
    assert not server.log._followers
    assert not public.connections and not administration.connections
    assert asyncio.all_tasks() == before
