"""Ten thousand applications in one server: how long it takes to start, and what one costs that is idle.

usage: python -m bench.edge_many [--applications N]

Applications with a host each are put into a store, in some hundred tenants; then the server is started on it, and every
application is asked once. Prints a Markdown table; goals: started within a minute, less than 50 KiB of resident memory
for an application, beyond its code. Exit status 1 if one is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.common import table
from bench.edge_faults import Edge
from bench.edge_servers import HELLO

_TENANTS: Final = 100
_START: Final = 60.0
_EACH: Final = 50 << 10


def fill(folder: Path, count: int) -> None:
    """Straight into the store of a server that is not running, as deployments have left it."""
    from lucet.terrarium.catalogue import Route
    from lucet.terrarium.store import NewVersion, Store

    store = Store(folder / "data")
    source = store.versions("calm", "app")[0]
    version = NewVersion(digest=source.digest, interface=source.interface, size=source.size, kind=source.kind)
    with store.change():
        for number in range(_TENANTS):
            store.put_tenant(f"tenant{number}")
        for number in range(count):
            key = (f"tenant{number % _TENANTS}", f"app{number}")
            store.put_application(*key, routes=(Route(host=f"app{number}.test"),))
            store.activate(*key, [(store.add_version(*key, version), 1)])
    store.close()


async def ask_all(edge: Edge, count: int) -> float:
    """Each application once, over 16 connections. Seconds."""
    begun = time.perf_counter()
    numbers = iter(range(count))

    async def some() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        for number in numbers:
            writer.write(b"GET / HTTP/1.1\r\nHost: app%d.test\r\n\r\n" % number)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"app{number}: {head!r}")
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.close()

    await asyncio.gather(*(some() for _ in range(16)))
    return time.perf_counter() - begun


async def measure(count: int) -> list[tuple[str, float, int]]:
    """(what, seconds, bytes resident)."""
    with tempfile.TemporaryDirectory() as name:
        edge = Edge(Path(name), 1.0)
        edge.start()
        try:
            alone = await edge.ready()
            await edge.deploy("calm", "app", HELLO, "calm.test")
            await edge.ask("calm.test")
            rows = [("one application", alone, edge.memory)]
            edge.stop()
            fill(Path(name), count)
            edge.start()
            started = await edge.ready()
            await edge.ask("app0.test")
            rows.append((f"{count:,} applications, idle", started, edge.memory))
            asked = await ask_all(edge, count)
            rows.append((f"{count:,} applications, each asked once", asked, edge.memory))
        finally:
            edge.stop()
    return rows


def _each(size: int, count: int) -> str:
    return f"{size / count / 1024:.2f} KiB"


def main() -> int:
    parser = argparse.ArgumentParser(description="Starts a server with many applications.")
    parser.add_argument("--applications", type=int, default=10_000)
    given = parser.parse_args()
    rows = asyncio.run(measure(given.applications))
    base = rows[0][2]
    cells = [
        [
            what,
            f"{seconds:.2f} s",
            f"{memory / 2**20:.1f} MiB",
            f"{(memory - base) / given.applications / 1024:.2f} KiB",
        ]
        for what, seconds, memory in rows
    ]
    print(table(["server", "started, or asked, in", "resident", "for each application"], cells))
    missed = rows[1][1] > _START or any((memory - base) / given.applications > _EACH for _, _, memory in rows[1:])
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
