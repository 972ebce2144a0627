"""What benchmarks share in words: comparisons as rows of tables, conditions, C programs built on first use."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from bench.measure import quartiles, ratios

ROOT: Final = Path(__file__).resolve().parent.parent
NATIVE: Final = ROOT / "native"
"""The core's C sources: a benchmark can be built with others to compare."""

# As meson.build has them.
_FLAGS: Final = (
    "-O2 -g -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -fno-strict-aliasing -fstack-clash-protection "
    "-fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2"
).split()


# ---- comparisons ----


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One thing measured of both engines, once in each round: nanoseconds."""

    what: str
    lucet: Sequence[float]
    peer: Sequence[float]
    goal: str = ""
    """In words, for people."""
    met: Callable[[Compared], bool] | None = None

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.lucet) / statistics.median(self.peer)

    def row(self) -> list[str]:
        low, high = quartiles(ratios(self.lucet, self.peer))
        return [
            self.what,
            spread(self.lucet),
            spread(self.peer),
            f"**{number(self.ratio)}** ({number(low)} .. {number(high)})",
            number(min(self.lucet) / min(self.peer)),
            verdict(self.goal, None if self.met is None else self.met(self)),
        ]


def compared_table(rows: Sequence[Compared], *, peer: str = "wasmtime") -> str:
    header = ["", "Lucet: median (quartiles), min", peer, "ratio of medians (quartiles)", "of minima", "goal"]
    return table(header, [row.row() for row in rows])


def verdict(goal: str, met: bool | None) -> str:
    if met is None:
        return goal
    return f"{goal}: {'met' if met else '**missed**'}"


def spread(values: Sequence[float]) -> str:
    low, high = quartiles(values)
    return f"{time(statistics.median(values))} ({time(low)} .. {time(high)}), {time(min(values))}"


def time(ns: float) -> str:
    """Three digits, and the unit that suits them."""
    for unit, size in (("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)):
        if abs(ns) < 999.5 * size:
            return f"{number(ns / size)} {unit}"
    return f"{ns / 1e9:.0f} s"


def number(value: float) -> str:
    """Three significant digits, never as an exponent."""
    magnitude = abs(value)
    digits = 0 if magnitude >= 99.95 else 1 if magnitude >= 9.995 else 2 if magnitude >= 0.0995 else 4
    return f"{value:.{digits}f}"


# ---- tables ----


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown that is also easy to read as it is."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(header), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def conditions(rounds: int | None = None) -> str:
    """What a figure means nothing without."""
    interleaved = f"{rounds} interleaved rounds; " if rounds else ""
    return (
        f"{date.today()}: {interleaved}lucet {version_of('lucet')}, wasmtime {version_of('wasmtime')}, "
        f"Python {platform.python_version()}, Linux {platform.release()}, {cpu()}, {os.cpu_count()} CPUs, "
        f"load {os.getloadavg()[0]:.1f}."
    )


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "from its sources"


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


# ---- C programs ----


def build(name: str, sources: Sequence[Path], *, native: Path = NATIVE) -> Path:
    """A program of these sources and the core's; built again only when something that goes into it has changed.

    The facts that the core shares with Python are those of the tree that `native` is in.
    """
    abi = native.parent / "src" / "lucet" / "abi"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    all_sources = [*sources, *sorted(native.glob("*.c")), *sorted(native.glob("*.S"))]
    headers = [*sorted(native.rglob("*.h")), *sorted(abi.glob("*.def"))]
    headers += sorted({header for source in sources for header in source.parent.glob("*.h")})
    includes = [f"-I{folder}" for folder in (native / "include", abi)]
    digest = hashlib.sha256(repr((compiler, _FLAGS, _compiler_version(compiler))).encode())
    for file in [*all_sources, *headers]:
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    program = cache() / f"{name}-{digest.hexdigest()[:24]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            built = Path(folder) / name
            command = [*compiler, *_FLAGS, *includes, *map(str, all_sources), "-o", str(built), "-lpthread", "-ldl"]
            subprocess.run(command, check=True)
            built.rename(program)
    return program


def _compiler_version(compiler: Sequence[str]) -> str:
    return subprocess.run([*compiler, "--version"], check=True, capture_output=True, text=True).stdout


def cache() -> Path:
    """Where benchmarks keep what they build."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "lucet" / "bench"


def peer_library() -> Path:
    """wasmtime's shared library, as its wheel installs it."""
    spec = importlib.util.find_spec("wasmtime")
    if spec is None or spec.origin is None:
        raise SystemExit("the peer is missing: pip install wasmtime")
    library = Path(spec.origin).parent / "linux-x86_64" / "_libwasmtime.so"
    if not library.exists():
        raise SystemExit(f"the wheel of wasmtime has no {library}")
    return library
