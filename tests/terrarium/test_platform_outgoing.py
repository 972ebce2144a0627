"""The platform as a configuration describes it: stores, name servers, and applications that ask each other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")
pytest.importorskip("aiohttp", reason="serving needs the extra lucet[serve]")

from lucet.terrarium.config import ConfigError, parse_config
from lucet.terrarium.http import BytesBody, Request
from lucet.terrarium.platform import Platform
from tests.kit.hostcalls import WAT, Script
from tests.kit.terrarium import MemoryExchange

CONFIG = """
listen = ["unix:socket"]
data = "data"
development = true
{more}
[admin]
listen = "unix:admin"
[tenants.acme.apps.outer]
module = "guest.wat"
routes = ["outer.test"]
allowed_outbound_hosts = ["http://inner.test", "http://127.0.0.1:*"]
[tenants.acme.apps.inner]
module = "guest.wat"
routes = ["inner.test"]
"""


async def ask(platform: Platform, host: str, script: Script) -> MemoryExchange:
    request = Request(
        method="POST",
        target="/",
        headers=[(b"host", host.encode())],
        body=BytesBody(script.body()),
        host=host,
        client=("192.0.2.1", 1),
    )
    exchange = MemoryExchange(request)
    rest = platform.handle(exchange)
    if rest is not None:
        await rest
    return exchange


def test_applications_ask_each_other(tmp_path: Path) -> None:
    inner = Script(dump=False)
    inner.call("resp_set_body", 0, b"from within")
    inner.call("kvstore_insert", b"key", b"value")
    outer = Script()
    outer.call("req_create", b"POST", b"http://inner.test/x")
    outer.call("req_set_body", 1, inner.body())
    outer.call("req_send", 1)
    at, value, raw = outer.room(), outer.room(), outer.room()
    outer.call("resp_get_body", at, at + 4, 3)
    outer.call("kvstore_get", value, value + 4, b"key")
    outer.call("dns_query_raw", raw, raw + 4, b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1")
    refused = Script()
    refused.call("req_create", b"GET", b"http://outer.test/")
    refused.call("req_send", 1)

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: object) -> None:
            self.transport.sendto(data[:2] + b"\x81\x80" + data[4:], addr)  # type: ignore[attr-defined]

    async def run() -> None:
        name_server, _ = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        port = name_server.get_extra_info("sockname")[1]
        (tmp_path / "guest.wat").write_text(WAT)
        config = CONFIG.format(more=f'resolver = "127.0.0.1:{port}"')
        platform = Platform(parse_config(config.encode(), base=tmp_path))
        await platform.start()
        try:
            answer = await ask(platform, "outer.test", outer)
            memory = b"".join(answer.parts)
            assert answer.status == 200, memory[:1000]
            where, size = (int.from_bytes(memory[at + i : at + i + 4], "little") for i in (0, 4))
            assert memory[where : where + size] == b"from within"
            where, size = (int.from_bytes(memory[value + i : value + i + 4], "little") for i in (0, 4))
            assert memory[where : where + size] == b"value"  # the store is the tenant's
            where, size = (int.from_bytes(memory[raw + i : raw + i + 4], "little") for i in (0, 4))
            assert memory[where : where + 4] == b"\x12\x34\x81\x80"
            answer = await ask(platform, "inner.test", refused)
            assert answer.status == 200
            lines = [line for one in platform.server.log_tail("acme", "inner", 10) for line in one.get("log", [])]
            assert any("refused" in line for line in lines), lines
        finally:
            await platform.close()
            name_server.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("more", "message"),
    [('keys = "http://nowhere"', "keys: "), ('resolver = "nowhere"', "resolver"), ('resolver = "unix:x"', "resolver")],
)
def test_places_that_are_none(tmp_path: Path, more: str, message: str) -> None:
    async def run() -> None:
        platform = Platform(parse_config(CONFIG.format(more=more).encode(), base=tmp_path))
        with pytest.raises((ConfigError, ValueError), match=message):
            await platform.start()

    (tmp_path / "guest.wat").write_text(WAT)
    asyncio.run(run())
