"""Requests per second of the edge server, beside its own front end without a guest, uvicorn without a guest, and node.

usage: python -m bench.edge [--rounds N] [--seconds S] [--connections N]

All servers run at once, idle but for the one whose turn it is; wrk, on the same cores, asks each of them in every
round, in random order. The guest is a hello world of the original Terrarium's interface, and every request has a fresh
instance: of Lucet, and of node (WebAssembly.Instance). Goals: with a guest at least 90 % of the front end's own hello
world, at least uvicorn's (uvloop, httptools) without one, at least 5 times node's; the 99th percentile within twice the
front end's. Prints a Markdown table; exit status 1 if a goal is missed. CPU is the server's, for each request.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.common import table
from bench.edge_servers import HELLO
from bench.measure import interleaved, ratios

if TYPE_CHECKING:
    from bench.results import Chart
    from bench.suite import Settings

_GUEST: Final = "lucet serve: a guest"
_LOGGED: Final = "lucet serve: a guest, a log line each"
_FRONT: Final = "its front end alone"
_UVICORN: Final = "uvicorn alone"
_NODE: Final = "node: a guest"
_GOALS: Final = ((_FRONT, 0.9), (_UVICORN, 1.0), (_NODE, 5.0))
_TAIL: Final = "99th percentile"
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    rate: float
    """Requests per second."""
    p99: float
    """Seconds."""
    cpu: float
    """Seconds of the server's CPU time for a request."""


class Peers:
    """Servers that listen, and their processes."""

    def __init__(self, absent: list[str]) -> None:
        self.ports: dict[str, int] = {}
        self.processes: dict[str, int] = {}
        self.absent = absent


@contextmanager
def servers(folder: Path) -> Iterator[Peers]:
    """Started, each having answered a request. What is not there is told."""
    guest = folder / "hello.wat"
    guest.write_text(HELLO)
    binary = folder / "hello.wasm"
    from lucet.wasm.text import text_to_binary

    binary.write_bytes(text_to_binary(HELLO))
    python = [sys.executable, "-m"]
    serve = [*python, "lucet", "serve", str(guest), "--listen"]
    commands = {
        _FRONT: [*python, "bench.edge_servers", "front-end", "{port}"],
        _GUEST: [*serve, "127.0.0.1:{port}", "--quiet"],
        _LOGGED: [*serve, "127.0.0.1:{port}", "--log", str(folder / "log")],
        _UVICORN: [*python, "bench.edge_servers", "uvicorn", "{port}"],
        _NODE: ["node", str(Path(__file__).with_suffix("").with_name("edge_servers.mjs")), str(binary), "{port}"],
    }
    peers = Peers([])
    if shutil.which("node") is None:
        peers.absent.append("node is not installed")
        del commands[_NODE]
    try:
        import uvicorn  # noqa: F401 - whether it is there
    except ImportError:
        peers.absent.append("uvicorn is not installed")
        del commands[_UVICORN]
    with ExitStack() as opened:
        for name, command in commands.items():
            port = _free_port()
            filled = [part.format(port=port) for part in command]
            process = opened.enter_context(subprocess.Popen(filled, stdout=subprocess.DEVNULL))
            opened.callback(process.terminate)
            peers.ports[name], peers.processes[name] = port, process.pid
        for name, port in peers.ports.items():
            _wait_for(name, port)
        yield peers


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(name: str, port: int) -> None:
    for _ in range(600):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b""
                while part := connection.recv(65536):
                    answer += part
                if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith((b"Hello, world!", b"\r\n0\r\n\r\n")):
                    raise RuntimeError(f"{name} answers {answer!r}")
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{name} does not listen")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(port: int, pid: int, seconds: float, connections: int) -> Sample:
    before = _cpu(pid)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", f"http://127.0.0.1:{port}/"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu = _cpu(pid) - before
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"wrk saw errors:\n{text}")
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", text)[1])
    count = int(_found(r"(\d+) requests in", text)[1])
    tail = _found(r"99%\s+([\d.]+)(us|ms|s|m)\b", text)
    return Sample(rate=rate, p99=float(tail[1]) * _UNITS[tail[2]], cpu=cpu / count)


def _found(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk printed something else:\n{text}")
    return match


def measure(rounds: int, seconds: float, connections: int) -> tuple[dict[str, list[Sample]], list[str]]:
    """The samples of each server, and what is not there."""
    if shutil.which("wrk") is None:
        raise FileNotFoundError("wrk is not installed (Debian's package wrk)")
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as peers:
        jobs = {
            name: partial(ask, port, peers.processes[name], seconds, connections) for name, port in peers.ports.items()
        }
        for job in jobs.values():
            job()  # what is slow once
        return interleaved(jobs, rounds), peers.absent


def goals(samples: Mapping[str, list[Sample]]) -> list[tuple[str, float, float]]:
    """What is compared, its ratio, and the goal: medians of the rounds' ratios."""
    rates = {name: [sample.rate for sample in some] for name, some in samples.items()}
    found = [
        (f"requests per second, of {name}'s", statistics.median(ratios(rates[_GUEST], rates[name])), goal)
        for name, goal in _GOALS
        if name in rates
    ]
    tails = {name: [sample.p99 for sample in samples[name]] for name in (_GUEST, _FRONT)}
    return [
        *found,
        ("99th percentile, of the front end's", statistics.median(ratios(tails[_GUEST], tails[_FRONT])), 2.0),
    ]


def charts(settings: Settings) -> tuple[list[Chart], list[str]]:
    """For the suite."""
    from bench.results import Chart, Point, Series

    try:
        samples, absent = measure(settings.rounds, 1.0 if settings.quick else 2.0, 64)
    except FileNotFoundError as error:
        from bench.suite import Absent

        raise Absent(str(error)) from None
    series = tuple(
        Series(name=name, points=(Point(x="hello world", samples=tuple(sample.rate for sample in some)),))
        for name, some in samples.items()
    )
    title = "Requests per second: a fresh instance for each, beside servers without a guest"
    return [Chart(name="edge", title=title, kind="bars", series=series, unit="per second", log=False)], absent


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares requests per second.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=64)
    given = parser.parse_args()
    try:
        samples, absent = measure(given.rounds, given.seconds, given.connections)
    except FileNotFoundError as error:
        print(f"bench.edge: {error}", file=sys.stderr)
        return 2
    rows = []
    for name, some in samples.items():
        rate, p99, cpu = (
            statistics.median(getattr(sample, field) for sample in some) for field in ("rate", "p99", "cpu")
        )
        spread = (max(sample.rate for sample in some) - min(sample.rate for sample in some)) / rate
        rows.append([name, f"{rate:,.0f}", f"{spread:.0%}", f"{p99 * 1e3:.2f} ms", f"{cpu * 1e6:.1f} us"])
    print(table(["server", "requests/s", "spread", "99th percentile", "CPU for each"], rows))
    print("\n".join(f"\n(not compared: {one})" for one in absent))
    missed = False
    for name, ratio, goal in goals(samples):
        most = name.startswith(_TAIL)
        met = ratio <= goal if most else ratio >= goal
        missed |= not met
        bound = "at most" if most else "at least"
        print(f"{name}: {ratio:.2f} (goal {bound} {goal:g}){'' if met else ': missed'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
