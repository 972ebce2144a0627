"""The life of an instance, step by step, by heap size, in warm and in cold slots, on several threads.

The original presented the steps so, for a WASI hello world, and its "instantiate" was measured with the destruction
that had to follow; here both are shown, and creation alone. Steps are timed by the processor's counter, blocks of
whole cycles by the thread's CPU time. Every experiment is a process in which Lucet and wasmtime take turns; each round
runs all of them once, and what Python and node do in between. Imports of the hello world are bound to functions that
are never called.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import guests, python_lifecycle
from bench.common import peer_library
from bench.lifecycle import Bench, build
from bench.measure import calibrated, clocked, interleaved
from bench.node import Node
from bench.results import Chart, Historical
from bench.suite import Measured, Settings, everywhere, has_peer, series, why_absent

KIB: Final = 1 << 10
SHOWN: Final = {"lucet": "Lucet", "wasmtime": "wasmtime"}
_DENSE: Final = (0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_SPARSE: Final = (0, 256, 512, 1024, 2048, 4096)
_DROP: Final = 37.5e3
"""Of the original, nanoseconds for each MiB of heap: 35 to 40 microseconds."""

Found = dict[str, dict[str, list[float]]]
"""What one process found: series -> engine -> samples."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One process of bench/native/lifecycle.c."""

    name: str
    wasms: tuple[bytes, ...]
    a: int = 1
    b: int = 2


def measure(settings: Settings) -> Measured:
    """Every round does each experiment once, and what Python and node do, too."""
    absent = [why_absent(peer, settings) for peer in ("wasmtime", "node") if not has_peer(peer, settings)]
    hello = usual = guests.usual()
    if has_peer("ziglang", settings):
        hello = guests.hello()
    else:
        absent.append(why_absent("ziglang", settings) + "; in place of the hello world: a module of 2 pages, by hand")
    experiments = {
        ("load", ""): Experiment(name="load", wasms=(hello,)),
        ("bare", ""): Experiment(name="create_destroy", wasms=(hello,)),
        ("bare parts", ""): Experiment(name="bare_parts", wasms=(hello,)),
        ("parts", ""): Experiment(name="parts", wasms=(usual,)),
        ("cycle", ""): Experiment(name="cycle", wasms=(usual,)),
        ("calls", ""): Experiment(name="calls", wasms=(guests.caller(),)),
        ("cold", ""): Experiment(name="cold", wasms=(usual,)),
        **_heaps(settings),
        **_slots(),
        **{
            ("dirty", f"{pages}"): Experiment(name="cycle", wasms=(guests.toucher(),), a=pages, b=guests.PAGE)
            for pages in settings.some((0, *(1 << i for i in range(11))), (0, 8, 64))
        },
        **{
            ("threads", f"{count}"): Experiment(name="threads", wasms=(usual,), a=count, b=0)
            for count in _thread_counts()
        },
    }
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        peer = peer_library() if has_peer("wasmtime", settings) else None
        bench = Bench(program=build(), folder=folder, rounds=1, peer=peer)
        jobs: dict[tuple[str, str], Callable[[], Found]] = {
            key: _process(bench, one) for key, one in experiments.items()
        }
        jobs |= _python(settings)
        if has_peer("node", settings):
            jobs |= _node(opened.enter_context(Node()))
        rounds = interleaved(jobs, settings.rounds)
        noise = _noise(bench, settings)
    found = {key: _gathered(values) for key, values in rounds.items()}
    charts = (*_steps(found), *_by_heap(found), _cold(found), _dirty(found), _threads(found), noise)
    return Measured(charts=charts, absent=tuple(absent))


def _process(bench: Bench, one: Experiment) -> Callable[[], Found]:
    return lambda: bench.run(one.name, one.a, one.b, *one.wasms)


def _gathered(rounds: Sequence[Found]) -> Found:
    """One sample of each round, the median if a process took several."""
    gathered: Found = {}
    for one in rounds:
        for name, engines in one.items():
            for engine, values in engines.items():
                shown = SHOWN.get(engine, engine)
                gathered.setdefault(name, {}).setdefault(shown, []).append(statistics.median(values))
    return gathered


# ---- Python and node, as experiments ----


def _python(settings: Settings) -> dict[tuple[str, str], Callable[[], Found]]:
    # The peer first: then its signal handlers are behind Lucet's and cost it nothing.
    names = {"lucet": "Lucet, Python"}
    bodies = {}
    if has_peer("wasmtime", settings):
        bodies = python_lifecycle.wasmtime_bodies()
        names = {"wasmtime": "wasmtime-py", **names}
    bodies |= python_lifecycle.lucet_bodies()
    jobs: dict[tuple[str, str], Callable[[], Found]] = {}
    for engine, name in names.items():
        for what in ("cycle", "call"):
            clock = clocked(bodies[f"{engine} {what}"])
            jobs[f"python {what}", engine] = _block(what, name, clock, calibrated(clock))
    return jobs


def _node(node: Node) -> dict[tuple[str, str], Callable[[], Found]]:
    return {
        (f"node {what}", ""): _block(what, "node", node.body(what), calibrated(node.body(what)))
        for what in ("cycle", "create", "call")
    }


def _block(what: str, engine: str, clock: Callable[[int], float], count: int) -> Callable[[], Found]:
    return lambda: {what: {engine: [clock(count) / count]}}


# ---- the charts ----


def _steps(found: dict[tuple[str, str], Found]) -> tuple[Chart, ...]:
    python: dict[str, dict[str, list[float]]] = {}
    for (what, _), one in found.items():
        if what.startswith(("python ", "node ")):
            for name, engines in one.items():
                python.setdefault(name, {}).update(engines)
    steps = {
        "load, reserve, create": found["load", ""]["load"],
        "create": {**found["bare parts", ""]["create"]},
        "create and destroy": {**found["bare", ""]["cycle"], **python.get("create", {})},
        "first run of an instance": found["parts", ""]["call"],
        "enter and leave again": {**found["calls", ""]["call"], **python.get("call", {})},
        "destroy": found["bare parts", ""]["destroy"],
        "create, run, destroy": {**found["cycle", ""]["cycle"], **python.get("cycle", {})},
    }
    historical = {
        "load, reserve, create": ("2019: 52 µs", 52e3),
        "create and destroy": ("2019: 30 µs, called instantiate", 30e3),
        "first run of an instance": ("2019: 4.9 µs, with installing signal handlers", 4.9e3),
        "enter and leave again": ("2019: 0.5 µs", 500.0),
        "destroy": ("2019: 23 µs", 23e3),
        "create, run, destroy": ("2019: less than 60 µs", 60e3),
    }
    chart = Chart(
        name="lifecycle-steps",
        title="The steps of an instance's life, in warm slots",
        kind="bars",
        series=series(_by_engine(steps)),
        historical=tuple(Historical(label=label, values=((x, at),)) for x, (label, at) in historical.items()),
        words=(
            'The first two, "create and destroy" and "destroy": a WASI hello world compiled from C; the others: a '
            "trivial function, with two pages of memory, some data, a table and a global. wasmtime loads its own "
            "compiled form, with an engine for one instance made each time, since slots belong to an engine. node "
            "never destroys: its cycles have in them what collecting garbage takes. A first run now installs nothing: "
            "signal handlers are there once for the process."
        ),
    )
    return (chart,)


def _by_engine(points: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """x -> engine -> samples turned round, engines in the order that is usual."""
    order = ["Lucet", "Lucet, Python", "wasmtime", "wasmtime-py", "node"]
    engines = list(dict.fromkeys(engine for one in points.values() for engine in one))
    engines.sort(key=lambda name: order.index(name) if name in order else len(order))
    return {engine: {x: one[engine] for x, one in points.items() if engine in one} for engine in engines}


def _heaps(settings: Settings) -> dict[tuple[str, str], Experiment]:
    experiments = {}
    for what, sizes in (("dense", settings.some(_DENSE, (0, 64, 512))), ("sparse", settings.some(_SPARSE, (0, 512)))):
        for size in sizes:
            wasm = guests.image(size=size * KIB, sparse=what == "sparse", of=8)
            for share, written in (("", 0), (", an eighth written", size * KIB // guests.PAGE // 8)):
                if size or not share:
                    experiments[what + share, f"{size}"] = Experiment(
                        name="parts", wasms=(wasm,), a=written, b=8 * guests.PAGE
                    )
    return experiments


def _by_heap(found: dict[tuple[str, str], Found]) -> tuple[Chart, ...]:
    def of(what: str, *parts: str) -> dict[str, dict[str, list[float]]]:
        """Series -> size -> the sum of these parts, from the counter."""
        gathered: dict[str, dict[str, list[float]]] = {}
        for share in ("", ", an eighth written"):
            for (name, size), one in found.items():
                for engine in one["create"] if name == what + share else ():
                    sums = [sum(values) for values in zip(*(one[part][engine] for part in parts), strict=True)]
                    gathered.setdefault(engine + share, {})[size] = sums
        return gathered

    written = (
        "No guest writes in one kind of instances; in the other each writes one byte in an eighth of these pages, "
        "which then must be restored. "
    )
    charts = []
    for what, words in (
        ("dense", "Every page of the first so many KiB has initial data. "),
        ("sparse", "One page of eight has initial data, as in the original's measurement. "),
    ):
        samples = of(what, "create", "destroy")
        sizes = list(dict.fromkeys(x for one in samples.values() for x in one))
        charts.append(
            Chart(
                name=f"lifecycle-{what}",
                title=f"Create and destroy, by {what} initial heap",
                kind="lines",
                x_label="KiB of initial heap",
                series=series(samples),
                historical=(everywhere("2019: 30 µs for the hello world", 30e3, sizes),),
                words=words
                + written
                + "The original showed a line that rises with the size and gave no figures for it.",
            )
        )
    for what in ("dense", "sparse"):
        samples = of(what, "destroy")
        sizes = [x for x in dict.fromkeys(x for one in samples.values() for x in one) if int(x)]
        share = 1.0 if what == "dense" else 1 / 8
        charts.append(
            Chart(
                name=f"lifecycle-destroy-{what}",
                title=f"Destroy, by {what} initial heap",
                kind="lines",
                x_label="KiB of initial heap",
                series=series(samples),
                historical=(
                    Historical(
                        label="2019: 35 to 40 µs for each MiB" + (" of data" if what == "sparse" else ""),
                        values=tuple((x, int(x) / 1024 * share * _DROP) for x in sizes),
                    ),
                ),
                words=written + "The original's figure is the rise alone, without the 23 µs of an empty heap.",
            )
        )
    return tuple(charts)


def _slots() -> dict[tuple[str, str], Experiment]:
    usual = guests.usual()
    others = {
        "one of the same size": guests.usual(table="private"),
        "one of 17 pages": guests.usual(memory_pages=17),
        "one with 1 MiB of data": guests.image(size=1024 * KIB, sparse=False),
    }
    return {
        ("alternate", f"in turn with {what}"): Experiment(name="alternate", wasms=(usual, other), a=0, b=0)
        for what, other in others.items()
    }


def _cold(found: dict[tuple[str, str], Found]) -> Chart:
    cold = found["cold", ""]
    points = {
        "create and run, slot never used": cold["first_create_and_call"],
        "destroy, slot never used before": cold["first_destroy"],
        "create and run, slot used once": cold["second_create_and_call"],
        "whole cycle, warm slot": found["cycle", ""]["cycle"],
        **{f"whole cycle, {x}": one["cycle"] for (name, x), one in found.items() if name == "alternate"},
    }
    return Chart(
        name="lifecycle-slots",
        title="Cold and warm slots",
        kind="bars",
        series=series(_by_engine(points)),
        historical=(
            Historical(label="2019: 30 + 4.9 µs", values=(("create and run, slot never used", 34.9e3),)),
            Historical(label="2019: 23 µs", values=(("destroy, slot never used before", 23e3),)),
        ),
        words=(
            "64 instances at once, each in a slot that was never used (its pages are not there yet), and then again; "
            "and cycles of two modules in turn in one slot, whose memory must be made anew each time: one cycle on "
            "average. The original gave all pages back to the kernel with every instance, so its slots were always "
            "cold."
        ),
    )


def _dirty(found: dict[tuple[str, str], Found]) -> Chart:
    points = {pages: one["cycle"] for (what, pages), one in found.items() if what == "dirty"}
    return Chart(
        name="lifecycle-dirty",
        title="Create, run, destroy: the guest writes one byte in each of k pages",
        kind="lines",
        x_label="k, pages of 4 KiB, of 5 MiB without data",
        series=series(_by_engine(points)),
        historical=(everywhere("2019: less than 60 µs, hello world", 60e3, list(points)),),
        words="The time of the guest's writes is in it, and of the page faults that they cause.",
    )


def _thread_counts() -> list[int]:
    cpus = min(len(os.sched_getaffinity(0)), 16)
    return [*range(1, cpus + 1), 2 * cpus]


def _threads(found: dict[tuple[str, str], Found]) -> Chart:
    samples: dict[str, dict[str, list[float]]] = {}
    for kind, what in (("own_slots", "slots of its own"), ("shared_slots", "shared slots")):
        for (name, count), one in found.items():
            for engine, values in one[kind].items() if name == "threads" else ():
                samples.setdefault(f"{engine}, {what}", {})[count] = values
    return Chart(
        name="lifecycle-threads",
        title="Create, run, destroy on several threads at once: each thread's cycle",
        kind="lines",
        x_label=f"threads; this machine has {os.cpu_count()} CPUs",
        series=series(dict(sorted(samples.items()))),
        historical=(everywhere("2019: less than 60 µs, one thread", 60e3, [str(one) for one in _thread_counts()]),),
        words=(
            "Wall-clock time from the first thread's begin to the last one's end, for each cycle of a thread; either "
            "each thread has slots of its own (Lucet: a region, wasmtime: an engine), or all take those of one."
        ),
    )


# ---- the distribution, alone and with busy neighbours ----

_NEIGHBOUR: Final = "data = bytearray(1 << 25)\nwhile True:\n    data[:] = bytes(data)\n"


def _noise(bench: Bench, settings: Settings) -> Chart:
    """Raw samples of a cycle with half a MiB of initial data, as in the original's post."""
    wasm = guests.image(size=512 * KIB, sparse=False)
    samples: dict[str, dict[str, list[float]]] = {}
    for round_number in range(settings.few(3)):
        for what, neighbours in (("alone", 0), ("beside busy neighbours", os.cpu_count() or 1)):
            with ExitStack() as opened:
                for _ in range(neighbours):
                    process = opened.enter_context(subprocess.Popen([sys.executable, "-c", _NEIGHBOUR]))
                    opened.callback(process.kill)
                found = bench.run("distribution", 16, 8 * guests.PAGE, wasm)["cycle"]
            for engine, values in found.items():
                kept = values[round_number::5]  # so that the file of results stays small
                samples.setdefault(f"{SHOWN[engine]}, {what}", {}).setdefault("", []).extend(kept)
    return Chart(
        name="lifecycle-distribution",
        title="How long one cycle takes: 512 KiB of initial data, 16 pages written",
        kind="density",
        x_label="create, run, destroy",
        series=series(samples),
        words=(
            "Single cycles by the processor's counter, wall-clock time. The neighbours are as many processes as there "
            "are CPUs, each copying 32 MiB back and forth: they take CPU time, caches and memory bandwidth. The 1 % "
            "that took longest are outside the plot; the table has them. The original's post showed such a "
            "distribution without figures, with Hyper-Threading and Turbo on and off."
        ),
    )
