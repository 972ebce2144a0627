"""A whole platform in the test's own event loop, and requests to it without sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lucet.terrarium.admin import PREFIX, Admin
from lucet.terrarium.config import parse_config
from lucet.terrarium.http import Exchange
from lucet.terrarium.original import OriginalApi
from lucet.terrarium.platform import Platform
from tests.kit.terrarium import MemoryExchange, request_of

TOKEN: Final = "the-token"
CONFIG: Final = """
listen = []
data = "data"
[log]
requests = false
[build]
optimise = false
[original]
domain = "apps.example.test"
hosts = ["deploy.example.test"]
"""


def says(text: str) -> str:
    """A guest of the original interface that answers every request with this text."""
    return f"""(module
      (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
      (memory 1) (data (i32.const 16) "{text}")
      (func (export "run") (drop (call $body (i32.const 0) (i32.const 16) (i32.const {len(text)})))))"""


TRAPS: Final = """(module
  (import "env" "hostcall_resp_set_body" (func (param i32 i32 i32) (result i32)))
  (memory 1) (func (export "run") unreachable))"""


@dataclass
class Running:
    platform: Platform
    api: Admin

    async def get(self, host: str, path: str = "/", method: str = "GET", body: Any = b"") -> MemoryExchange:
        """Of the public side."""
        return await self._ask(self.platform.handle, method, path, body, host=host)

    async def admin(self, method: str, path: str, body: Any = None, *, token: str = TOKEN) -> tuple[int, Any]:
        """(status, JSON)."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = [(b"authorization", f"Bearer {token}".encode())]
        exchange = await self._ask(self.api.handle, method, PREFIX + path, data, headers=headers)
        return exchange.status, json.loads(b"".join(exchange.parts) or b"null")

    async def deploy(self, app: str, source: str | bytes, host: str | None = None, **more: Any) -> dict[str, Any]:
        """A text or other files as an application of acme: the job when it is over."""
        body = {"kind": "text", "files": {"app.wat": source}, **more}
        if host is not None:
            body["routes"] = [host]
        status, job = await self.admin("POST", f"/tenants/acme/apps/{app}/deploy", body)
        assert status == 202, job
        return await self.job(job["job"])

    async def job(self, name: str) -> dict[str, Any]:
        async with asyncio.timeout(120):
            while True:
                _, job = await self.admin("GET", f"/jobs/{name}")
                if job["done"]:
                    return dict(job)
                await asyncio.sleep(0.02)

    @property
    def original(self) -> OriginalApi:
        assert self.platform.original is not None
        return self.platform.original

    @staticmethod
    async def _ask(
        handle: Callable[[Exchange], Coroutine[Any, Any, None] | None],
        method: str,
        target: str,
        body: Any,
        *,
        host: str = "admin.example.test",
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> MemoryExchange:
        request = request_of(method, target, body, headers)
        request.host = host
        exchange = MemoryExchange(request)
        rest = handle(exchange)
        if rest is not None:
            await rest
        return exchange


@asynccontextmanager
async def running(folder: Path, more: str = "") -> AsyncIterator[Running]:
    """more: of the configuration. The state stays in the folder."""
    platform = Platform(parse_config((CONFIG + more).encode(), base=folder))
    await platform.start()
    try:
        yield Running(platform, Admin(platform.store, platform.deployer, platform.server, TOKEN))
    finally:
        await platform.close()
