"""Hostile clients of all kinds at once, on one server whose applications change meanwhile: nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")
pytest.importorskip("cryptography")

from lucet.terrarium.frontend import Bounds
from lucet.terrarium.limits import Limits
from tests.kit.cgi import ECHO
from tests.kit.site import TOKEN, Site, site
from tests.terrarium.test_server import FOREVER, TRAPPING, saying

LIMITS = Limits(cpu_time=0.02, wall_time=1.0, concurrency=4, queue=8)
APPS = {"says": saying("hello"), "computes": FOREVER, "traps": TRAPPING, "streams": ECHO}
PATIENCE = 120
ROUNDS = 60
VICTIM = b"GET / HTTP/1.1\r\nHost: victim.test\r\nConnection: close\r\n\r\n"


def request(chance: random.Random) -> bytes:
    host = chance.choice(list(APPS)).encode()
    body = bytes(chance.choice((0, 1, 5000, 100_000)))
    match chance.randrange(6):
        case 0:
            return b"GET / HTTP/1.1\r\nHost: %b.test\r\n\r\n" % host
        case 1:
            return b"POST / HTTP/1.1\r\nHost: %b.test\r\nContent-Length: %d\r\n\r\n" % (host, len(body)) + body
        case 2:
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (b"a", body) if part)
            return b"POST / HTTP/1.1\r\nHost: %b.test\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (host, chunks)
        case 3:
            return b"POST / HTTP/1.1\r\nHost: %b.test\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n" % host
        case 4:
            return b"GET / HTTP/1.1\r\nHost: %b.test\r\n%b\r\n" % (host, b"x: y\r\n" * chance.choice((1, 1000)))
        case _:
            return b"POST / HTTP/1.1\r\nHost: %b.test\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n" % host


async def client(one: Site, chance: random.Random) -> None:
    """Some requests in pieces, of which it takes some answers, or none; then it is gone, one way or another."""
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    data = b"".join(request(chance) for _ in range(chance.choice((1, 1, 2, 20))))
    data = data[: chance.choice((len(data), len(data), chance.randrange(len(data))))]
    with contextlib.suppress(OSError):
        while data:
            size = chance.choice((1, 50, 3000, len(data)))
            writer.write(data[:size])
            data = data[size:]
            if chance.random() < 0.3:
                await asyncio.sleep(chance.choice((0, 0.001, 0.01)))
            if chance.random() < 0.05:
                break
        if chance.random() < 0.6:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(chance.choice((1, 1 << 20))), chance.choice((0.01, 1.0)))
        if chance.random() < 0.2:
            writer.write_eof()
    if chance.random() < 0.5:
        writer.transport.abort()
    else:
        writer.close()


async def follower(one: Site, chance: random.Random) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", one.admin_port)
    path = f"/_admin/v1/tenants/t/apps/{chance.choice(list(APPS))}/logs/follow"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    await asyncio.sleep(chance.random() / 10)
    writer.transport.abort()


async def change(one: Site, chance: random.Random) -> None:
    """Something that its operator might do; much of it is refused."""
    name = chance.choice(list(APPS))
    path = f"/tenants/t/apps/{name}"
    version = str(chance.randrange(1, 6))
    match chance.randrange(8):
        case 0 | 1 | 2:
            await one.deploy(name, APPS[name], routes=[f"{name}.test"], activate=chance.random() < 0.7)
        case 3:
            await one.ask("POST", path + "/rollback", {})
        case 4:
            shares = [{"version": version, "weight": 1}, {"version": "1", "weight": 2}]
            await one.ask("POST", path + "/activate", {"shares": shares})
        case 5:
            await one.ask("DELETE", f"{path}/versions/{version}")
        case 6:
            await one.ask("DELETE", path)
        case _:
            await one.ask("POST", path + chance.choice(("/stop", "/start")), {})


async def victim(one: Site) -> None:
    """Another tenant, who gets all answers."""
    for _ in range(ROUNDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(VICTIM)
        assert (await reader.read()).endswith(b"victim")
        writer.close()
        await asyncio.sleep(0.01)


async def repeatedly(times: int, one: Site, chance: random.Random) -> None:
    for _ in range(times):
        match chance.randrange(10):
            case 0:
                await change(one, chance)
            case 1:
                await follower(one, chance)
            case _:
                await client(one, chance)


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_left_of_hostile_clients(seed: int, tmp_path: Path) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        bounds = Bounds(stall_time=0.5, head_time=0.5, pipelined=4, header_count=50)
        async with asyncio.timeout(PATIENCE), site(tmp_path, limits=LIMITS, bounds=bounds) as one:
            assert (await one.deploy("victim", saying("victim"), tenant="other", routes=["victim.test"]))["success"]
            for name, text in APPS.items():
                assert (await one.deploy(name, text, routes=[f"{name}.test"]))["success"]
            async with asyncio.TaskGroup() as group:
                group.create_task(victim(one))
                for _ in range(8):
                    group.create_task(repeatedly(ROUNDS, one, random.Random(chance.random())))
            assert one.server._count > ROUNDS

    asyncio.run(main())
