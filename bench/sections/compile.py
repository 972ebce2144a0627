"""CPU time of compiling a module, by its size and Lucet's level, against wasmtime's default and node's two compilers.

All threads and processes count. Each compilation is in a process of its own that has compiled something small before,
so worker processes and engines are there already. node is measured with both of its compilers, each alone and not
lazily: the one that starts programs (Liftoff) and the one that optimises them (TurboFan).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from bench import compile_time, guests
from bench.measure import interleaved
from bench.node import Node
from bench.results import Chart
from bench.suite import Absent, Measured, Settings, has_peer, series, why_absent

MODULES: Final = ("keccak", "richards", "cmark", "zstd", "quickjs")
_NODE: Final = {
    "node, Liftoff": ("--liftoff", "--no-wasm-tier-up", "--no-wasm-lazy-compilation"),
    "node, TurboFan": ("--no-liftoff", "--no-wasm-tier-up", "--no-wasm-lazy-compilation"),
}


def measure(settings: Settings) -> Measured:
    absent = [why_absent(peer, settings) for peer in ("wasmtime", "node") if not has_peer(peer, settings)]
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        paths = _modules(settings, folder, absent)
        if not paths:
            raise Absent("; ".join(absent))
        engines = [
            *settings.some_names(compile_time.LEVELS, ("fast",)),
            *([compile_time.PEER] if has_peer("wasmtime", settings) else []),
        ]
        jobs: dict[tuple[str, str], Callable[[], float]] = {
            (engine, x): partial(_cpu_time, path, engine) for x, path in paths.items() for engine in engines
        }
        if has_peer("node", settings):
            for x, path in paths.items():
                jobs |= {(name, x): partial(_by_node, options, path) for name, options in _NODE.items()}
        found = interleaved(jobs, settings.few(3), progress=not settings.quick)
    shown = {level: f"Lucet, {level}" for level in compile_time.LEVELS}
    samples: dict[str, dict[str, list[float]]] = {}
    for engine in ("default", "fast", "best", compile_time.PEER, *_NODE):
        samples[shown.get(engine, engine)] = {x: values for (name, x), values in found.items() if name == engine}
    chart = Chart(
        name="compile",
        title="CPU time of compiling a module, by its size",
        kind="lines",
        x_label="module",
        series=series(samples),
        words=(
            "The original published no compile times. A cache keeps what was compiled, so a program pays this once "
            "for each version of a module; `docs/compile-time.md` has more modules, wall-clock time and memory."
        ),
    )
    return Measured(charts=(chart,), absent=tuple(absent))


def _cpu_time(path: Path, engine: str) -> float:
    return compile_time.child(path, engine, 0).cpu * 1e9


def _by_node(options: tuple[str, ...], path: Path) -> float:
    with Node(*options) as node:
        return node.ask(compile=str(path))


def _modules(settings: Settings, folder: Path, absent: list[str]) -> dict[str, Path]:
    """By what the axis says, smallest first."""
    (folder / "usual.wasm").write_bytes(guests.usual())
    paths = [folder / "usual.wasm"]
    if has_peer("ziglang", settings):
        (folder / "hello.wasm").write_bytes(guests.hello())
        paths.append(folder / "hello.wasm")
    for name in settings.some_names(MODULES, ()):
        path = settings.shared / compile_time.MODULES[name]
        if path.exists():
            paths.append(path)
        else:
            absent.append(f"{name}: no {path}")
    paths.sort(key=lambda path: path.stat().st_size)
    return {f"{_name(path)} {path.stat().st_size / 1000:.1f} kB": path for path in paths}


def _name(path: Path) -> str:
    return path.parent.name if path.stem == "benchmark" else path.stem.removeprefix("shootout-")
