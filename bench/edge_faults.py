"""What one tenant's faults do to another's requests: none may fail, nothing acknowledged may be lost, memory returns.

usage: python -m bench.edge_faults [--seconds S] [FAULT]...

A server of its own for each fault. A neighbour asks its application 200 times a second throughout: before the fault,
during it, and after. Prints a Markdown table: the neighbour's requests and failures, its median and 99th percentile
before and during the fault, the server's resident memory before and after, and what the fault met. Exit status 1 if a
request of the neighbour failed, something was lost, or memory did not return.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.common import table
from bench.edge_servers import HELLO
from bench.measure import percentile

_RATE: Final = 200
_CALM, _BAD = "calm.test", "bad.test"
_RETURNED: Final = 48 << 20
"""Bytes that resident memory may differ by: caches of the interpreter and of code that was loaded."""
_CONFIG: Final = """
listen = ["127.0.0.1:{port}"]
data = "data"
grace = 5
[admin]
listen = "127.0.0.1:{admin}"
[log]
file = "requests.log"
[build]
optimise = false
"""

Fault = Callable[["Edge"], Awaitable[str]]


def guest(code: str, *, memory: str = "1") -> str:
    return f"""(module (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
      (memory {memory}) (func (export "run") {code}))"""


LOOP: Final = guest("(loop $again (br $again))")
TRAP: Final = guest("(unreachable)")
EATER: Final = guest(
    """(local i32) (loop $more
         (if (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0)) (then
           (local.set 0 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1048576)))
           (loop $touch (i32.store (local.get 0) (i32.const 1))
             (local.set 0 (i32.add (local.get 0) (i32.const 4096)))
             (br_if $touch (i32.lt_u (local.get 0) (i32.mul (memory.size) (i32.const 65536)))))
           (br $more))))"""
)


@dataclass
class Seen:
    """What the neighbour saw in one phase."""

    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Neighbour:
    """Asks at its rate, whatever happens, over connections that it keeps."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.phases: dict[str, Seen] = {}
        self.phase = "before"
        self.expects_restart = False
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        due = time.perf_counter()
        while True:
            due += 1 / _RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._ask(self.phases.setdefault(self.phase, Seen())))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)
        for _, writer in self._idle:
            writer.close()

    async def _ask(self, seen: Seen) -> None:
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(30):
                answer = await self._answer()
            if not answer.startswith(b"HTTP/1.1 200 "):
                seen.failures.append(answer.partition(b"\r\n")[0].decode())
        except (OSError, EOFError, TimeoutError) as error:
            if not self.expects_restart:
                seen.failures.append(repr(error))
            return
        seen.latencies.append(time.perf_counter() - begun)

    async def _answer(self) -> bytes:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % _CALM.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(size)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return head


class Edge:
    """A server with a neighbour's application, and the means to hurt it."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.seconds = seconds
        self.port, self.admin = _free_port(), _free_port()
        self.neighbour = Neighbour(self.port)
        (folder / "lucet.toml").write_text(_CONFIG.format(port=self.port, admin=self.admin))

    def start(self) -> None:
        command = [sys.executable, "-m", "lucet", "serve", "--config", str(self.folder / "lucet.toml")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    async def ready(self) -> float:
        """Seconds until it answered."""
        begun = time.perf_counter()
        while True:
            if self.process.poll() is not None:
                assert self.process.stderr is not None
                raise RuntimeError(f"the server ended: {self.process.stderr.read().decode()[-2000:]}")
            try:
                await self.api("GET", "/status")
                return time.perf_counter() - begun
            except OSError:
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        if self.process.stderr is not None:
            self.process.stderr.close()

    @property
    def memory(self) -> int:
        """Bytes that are resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def api(self, method: str, path: str, body: Any = None) -> Any:
        token = (self.folder / "data" / "admin.token").read_text().strip()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin}/_admin/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}"},
        )

        def ask() -> Any:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)

        return await asyncio.to_thread(ask)

    async def deploy(self, tenant: str, app: str, source: str, host: str, **more: Any) -> str:
        """The version, acknowledged."""
        await self.api("PUT", f"/tenants/{tenant}", {})
        body = {"kind": "text", "files": {"main.wat": source}, "routes": [host], **more}
        job = await self.api("POST", f"/tenants/{tenant}/apps/{app}/deploy", body)
        while not job["done"]:
            await asyncio.sleep(0.05)
            job = await self.api("GET", f"/jobs/{job['job']}")
        if not job["success"]:
            raise RuntimeError(f"{job['status']}: {job['log']}")
        return str(job["version"])

    async def ask(self, host: str = _BAD, head: bytes = b"GET / HTTP/1.1\r\n") -> str:
        """A request on a connection of its own: its status, or how it ended."""
        try:
            async with asyncio.timeout(60):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(head + b"Host: %b\r\nConnection: close\r\n\r\n" % host.encode())
                line = await reader.readline()
                await reader.read()
                writer.close()
                return line.split()[1].decode() if line else "closed"
        except (OSError, TimeoutError) as error:
            return type(error).__name__

    async def flood(self, width: int = 32) -> str:
        """Requests of the bad tenant, `width` at a time: how many of each status."""
        found: dict[str, int] = {}
        end = time.monotonic() + self.seconds

        async def one() -> None:
            while time.monotonic() < end:
                status = await self.ask()
                found[status] = found.get(status, 0) + 1

        await asyncio.gather(*(one() for _ in range(width)))
        return ", ".join(f"{count} x {status}" for status, count in sorted(found.items()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- the faults ----


async def loop(edge: Edge) -> str:
    """guests in endless loops, 32 at a time"""
    await edge.deploy("bad", "loop", LOOP, _BAD)
    return await edge.flood()


async def trap(edge: Edge) -> str:
    """a guest that traps in every request"""
    await edge.deploy("bad", "trap", TRAP, _BAD)
    return await edge.flood()


async def eater(edge: Edge) -> str:
    """guests that take and touch all memory they can get, 8 at a time"""
    await edge.deploy("bad", "eater", EATER, _BAD, limits={"memory": 64 << 20})
    return await edge.flood(8)


async def slow(edge: Edge) -> str:
    """300 clients that send a byte of their request in a second"""

    async def one() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        try:
            for byte in b"GET / HTTP/1.1\r\nHost: bad.test\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaa":
                writer.write(bytes([byte]))
                with suppress(TimeoutError):
                    return (await asyncio.wait_for(reader.readline(), 1.0)).decode().strip() or "closed"
            return "never closed"
        finally:
            writer.close()

    ends = await asyncio.gather(*(one() for _ in range(300)), return_exceptions=True)
    return ", ".join(f"{ends.count(end)} x {end}" for end in sorted(set(map(str, ends))))


async def upload(edge: Edge) -> str:
    """uploads of 1 GiB to an application that takes 8 MiB, with and without a length, 4 at a time"""
    await edge.deploy("bad", "trap", HELLO, _BAD)

    async def one(chunked: bool) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        kind = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 1073741824"
        part = b"100000\r\n" + bytes(1 << 20) + b"\r\n" if chunked else bytes(1 << 20)
        sent = 0
        answer = asyncio.create_task(reader.readline())
        try:
            writer.write(b"POST / HTTP/1.1\r\nHost: bad.test\r\n%b\r\n\r\n" % kind)
            while sent < 1024 and not answer.done():
                writer.write(part)
                await asyncio.wait_for(writer.drain(), 30)
                sent += 1
        except (OSError, TimeoutError):
            pass
        with suppress(OSError, TimeoutError):
            line = await asyncio.wait_for(answer, 30)
            writer.close()
            return f"{line.decode().split(' ', 1)[1].strip()} after {sent} MiB"
        return f"cut off after {sent} MiB"

    ends = await asyncio.gather(*(one(bool(number % 2)) for number in range(4)))
    return ", ".join(ends)


async def full_disk(edge: Edge) -> str:
    """no file can grow any more: deployments are refused, and said to be"""
    version = await edge.deploy("bad", "app", HELLO, _BAD)
    import resource

    resource.prlimit(edge.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    refused = ""
    try:
        await edge.deploy("bad", "app", TRAP, _BAD)
    except (RuntimeError, urllib.error.HTTPError) as error:
        refused = str(error)
    resource.prlimit(edge.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if not refused:
        raise RuntimeError("a deployment was acknowledged on a full disk")
    if await edge.ask() != "200":
        raise RuntimeError("the version before does not answer")
    again = await edge.deploy("bad", "app", HELLO.replace("Hello", "Salve"), _BAD)
    return f"refused ({refused.strip().splitlines()[0][:60]}); then version {version} -> {again}"


async def corrupted(edge: Edge) -> str:
    """an artifact is overwritten, and the server killed and restarted"""
    await edge.deploy("bad", "app", HELLO, _BAD)
    await restart(edge)
    for file in (edge.folder / "data" / "artifacts").rglob("*"):
        if file.is_file():
            data = bytearray(file.read_bytes())
            for _ in range(100):
                data[random.randrange(len(data))] ^= 0xFF
            file.write_bytes(data)
    seconds = await restart(edge)
    status = await edge.ask()
    if status != "200":
        raise RuntimeError(f"the application answers {status}")
    return f"found, compiled anew; back after {seconds:.2f} s"


async def killed(edge: Edge) -> str:
    """SIGKILL five times, in the middle of deployments; each that was acknowledged is there afterwards"""
    acknowledged: dict[str, str] = {}
    counter = 0
    back = []
    for _ in range(5):

        async def deploying() -> None:
            nonlocal counter
            while True:
                counter += 1
                name = f"app{counter}"
                acknowledged[name] = await edge.deploy("bad", name, HELLO, f"{name}.test")

        task = asyncio.create_task(deploying())
        await asyncio.sleep(random.uniform(3.0, 6.0))
        edge.neighbour.expects_restart = True
        edge.process.send_signal(signal.SIGKILL)
        with suppress(Exception):
            await task
        back.append(await restart(edge, kill=False))
        edge.neighbour.expects_restart = False
        for name in acknowledged:
            if (status := await edge.ask(f"{name}.test")) != "200":
                raise RuntimeError(f"{name} was acknowledged, and answers {status}")
    return f"{len(acknowledged)} acknowledged, all there; back after {statistics.median(back):.2f} s"


async def restart(edge: Edge, *, kill: bool = True) -> float:
    edge.neighbour.expects_restart = True
    if kill:
        edge.process.send_signal(signal.SIGKILL)
    edge.process.wait(60)
    if edge.process.stderr is not None:
        edge.process.stderr.close()
    edge.start()
    seconds = await edge.ready()
    edge.neighbour.expects_restart = False
    return seconds


async def deployments(edge: Edge) -> str:
    """20 deployments and 5 rollbacks of the neighbour's own application, during the load"""
    for number in range(20):
        await edge.deploy("calm", "app", HELLO.replace("Hello", f"He{number:03}"), _CALM)
        if number % 4 == 3:
            await edge.api("POST", "/tenants/calm/apps/app/rollback", {})
        await asyncio.sleep(edge.seconds / 20)
    return "20 deployments, 5 rollbacks"


FAULTS: Final[dict[str, Fault]] = {
    "loop": loop,
    "eater": eater,
    "trap": trap,
    "slow": slow,
    "upload": upload,
    "full-disk": full_disk,
    "corrupted": corrupted,
    "killed": killed,
    "deployments": deployments,
}


async def suffer(fault: Fault, seconds: float) -> tuple[list[str], bool]:
    """A row of the table, and whether all was well."""
    with tempfile.TemporaryDirectory() as name:
        edge = Edge(Path(name), seconds)
        edge.start()
        try:
            await edge.ready()
            await edge.deploy("calm", "app", HELLO, _CALM)
            asking = asyncio.create_task(edge.neighbour.run())
            await asyncio.sleep(seconds)
            before = edge.memory
            edge.neighbour.phase = "during"
            try:
                met = await fault(edge)
                lost = False
            except RuntimeError as error:
                met, lost = f"**{error}**", True
            edge.neighbour.phase = "after"
            await asyncio.sleep(seconds)
            asking.cancel()
            await edge.neighbour.end()
            after = edge.memory
        finally:
            edge.stop()
    phases = edge.neighbour.phases
    failures = [one for seen in phases.values() for one in seen.failures]
    count = sum(len(seen.latencies) for seen in phases.values())
    grown = after - before > _RETURNED
    cells = [
        (fault.__doc__ or "").partition("\n")[0],
        f"{count}",
        f"{len(failures)}" + (f" ({failures[0][:40]})" if failures else ""),
        *(_times(phases[phase]) for phase in ("before", "during")),
        f"{before >> 20} / {after >> 20} MiB" + (" **grown**" if grown else ""),
        met,
    ]
    return cells, not failures and not lost and not grown


def _times(seen: Seen) -> str:
    if not seen.latencies:
        return "-"
    return f"{statistics.median(seen.latencies) * 1e3:.2f} / {percentile(seen.latencies, 0.99) * 1e3:.1f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description="Hurts a server, and watches a neighbour.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each phase")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)}; default: all")
    given = parser.parse_args()
    if unknown := [name for name in given.faults if name not in FAULTS]:
        parser.error(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    rows, well = [], True
    for name in given.faults or FAULTS:
        print(f"{name} ...", file=sys.stderr)
        row, is_well = asyncio.run(suffer(FAULTS[name], given.seconds))
        rows.append([name, *row])
        well &= is_well
    header = ["fault", "what", "requests", "failed", "p50 / p99 before", "during", "memory", "what it met"]
    print(table(header, rows))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
