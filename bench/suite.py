"""The suite: which sections there are, and how one of them is measured.

A section is a module of bench/sections with `measure(settings) -> Measured`. Each runs in a process of its own: the
signal handlers, worker processes and memory of one are nothing to the next, and one that fails is stated in the report.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench import common
from bench.results import Chart, Historical, Point, Section, Series, section, section_to_json

CHILD: Final = "--child"
TIMEOUT: Final = 1800
"""Seconds after which a section is given up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    rounds: int
    quick: bool
    shared: Path
    without: tuple[str, ...] = ()
    """Peers to do as if they were not installed."""

    def some(self, all_of_them: Sequence[int], quick: Sequence[int]) -> Sequence[int]:
        return quick if self.quick else all_of_them

    def some_names(self, all_of_them: Sequence[str], quick: Sequence[str]) -> Sequence[str]:
        return quick if self.quick else all_of_them

    def few(self, rounds: int) -> int:
        """Rounds of something that takes long."""
        return 1 if self.quick else min(self.rounds, rounds)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    charts: tuple[Chart, ...]
    absent: tuple[str, ...] = ()


class Absent(Exception):
    """The whole section cannot be measured here; the message says why."""


SECTIONS: Final[dict[str, str]] = {
    # name: title
    "lifecycle": "The life of an instance",
    "calls": "Calls into guests and out of them",
    "memory": "Memory of idle instances",
    "load": "Loading artifacts",
    "compile": "Compile time",
    "code": "Code against native code and peers",
    "programs": "Real programs",
    "wasi": "WASI calls",
    "fuel": "Counting instructions",
    "exceptions": "Exceptions",
    "asyncio": "Guests under asyncio",
    "data": "Columns and bytes",
    "edge": "Requests per second",
}


# ---- peers ----


def has_peer(name: str, settings: Settings) -> bool:
    if name in settings.without:
        return False
    if name == "node":
        return shutil.which("node") is not None
    return importlib.util.find_spec(name) is not None


def why_absent(name: str, settings: Settings) -> str:
    how = {"node": "there is no `node` in PATH"}.get(name, f"`pip install {name}`")
    return f"{name}: left out by `--without`" if name in settings.without else f"{name} is not installed: {how}"


def need(name: str, settings: Settings) -> None:
    if not has_peer(name, settings):
        raise Absent(why_absent(name, settings))


# ---- charts ----

Samples = Mapping[str, Mapping[str, Sequence[float]]]
"""Series -> x -> samples."""


def series(samples: Samples) -> tuple[Series, ...]:
    """Those that have any."""
    return tuple(
        Series(name=name, points=tuple(Point(x=x, samples=tuple(values)) for x, values in points.items() if values))
        for name, points in samples.items()
        if any(points.values())
    )


def everywhere(label: str, value: float, xs: Sequence[str]) -> Historical:
    """A figure that does not depend on x."""
    return Historical(label=label, values=tuple((x, value) for x in xs))


# ---- sections in their processes ----


def run_section(name: str, settings: Settings) -> Section:
    """Measures it in a child process; whatever goes wrong there is what the section says."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "section.json"
        given = json.dumps({**asdict(settings), "shared": str(settings.shared)})
        command = [sys.executable, "-m", "bench", CHILD, name, given, str(result)]
        try:
            done = subprocess.run(
                command, check=False, cwd=common.ROOT, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired:
            return _empty(name, f"it took more than {TIMEOUT} s", begin, failed=True)
        sys.stderr.write(done.stderr)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return _empty(name, f"it failed with exit status {done.returncode}: {last}", begin, failed=True)
        return section(json.loads(result.read_text(encoding="utf-8")))


def _empty(name: str, why: str, begin: float, *, failed: bool = False) -> Section:
    return Section(
        name=name,
        title=SECTIONS[name],
        words="",
        command=f"python -m bench {name}",
        charts=(),
        absent=(why,),
        seconds=time.monotonic() - begin,
        failed=failed,
    )


def measure(name: str, settings: Settings) -> Section:
    """In this process."""
    module = importlib.import_module(f"bench.sections.{name}")
    begin = time.monotonic()
    words = " ".join((module.__doc__ or "").partition("\n\n")[2].split())
    try:
        measured: Measured = module.measure(settings)
    except Absent as why:
        return _empty(name, str(why), begin)
    return Section(
        name=name,
        title=SECTIONS[name],
        words=words,
        command=f"python -m bench {name}",
        charts=measured.charts,
        absent=measured.absent,
        seconds=time.monotonic() - begin,
    )


def child(name: str, given: str, result: str) -> None:
    """What the process of a section does."""
    stored = json.loads(given)
    settings = Settings(**{**stored, "shared": Path(stored["shared"]), "without": tuple(stored["without"])})
    Path(result).write_text(json.dumps(section_to_json(measure(name, settings))), encoding="utf-8")
