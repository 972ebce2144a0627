"""Calling an exported function of two numbers, and a host function from a guest, from C and from Python.

A call from Python is that of a loop of calls less the empty loop. A host function is called 20,000 times by a loop of
the guest, and what the same loop takes without the call is subtracted, but not what the host function itself takes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench import guests, node, python_lifecycle
from bench.common import peer_library
from bench.lifecycle import Bench, build
from bench.measure import Clocked, calibrated, clocked, interleaved, less
from bench.results import Chart, Historical
from bench.suite import Measured, Settings, has_peer, series, why_absent

CALL, CHECKED, HOST = "call a guest's function", "the same, types checked by the engine", "call a host function"


def measure(settings: Settings) -> Measured:
    absent = [why_absent(peer, settings) for peer in ("wasmtime", "node") if not has_peer(peer, settings)]
    with ExitStack() as opened:
        bodies: dict[str, Clocked] = {}
        # The peer first: then its signal handlers are behind Lucet's and cost it nothing.
        python = python_lifecycle.wasmtime_bodies() if has_peer("wasmtime", settings) else {}
        python |= python_lifecycle.lucet_bodies() | python_lifecycle.python_bodies()
        bodies |= {name: clocked(body) for name, body in python.items() if not name.endswith("cycle")}
        if has_peer("node", settings):
            peer = opened.enter_context(node.Node())
            bodies |= {f"node {name}": peer.body(name) for name in ("call", "host", "empty")}
        jobs: dict[str, Callable[[], dict[str, float]]] = {
            name: _block(name, body, calibrated(body)) for name, body in bodies.items()
        }
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        library = peer_library() if has_peer("wasmtime", settings) else None
        bench = Bench(program=build(), folder=folder, rounds=1, peer=library)
        jobs["C"] = lambda: {
            f"C {engine} {name}": values[0]
            for name, engines in bench.run("calls", 1, 2, guests.caller()).items()
            for engine, values in engines.items()
        }
        rounds = interleaved(jobs, settings.rounds)
    samples: dict[str, list[float]] = {}
    for each in rounds.values():
        for one in each:
            for name, value in one.items():
                samples.setdefault(name, []).append(value)
    return Measured(charts=(_chart(samples),), absent=tuple(absent))


def _block(name: str, body: Clocked, count: int) -> Callable[[], dict[str, float]]:
    return lambda: {name: body(count) / count}


def _chart(samples: dict[str, list[float]]) -> Chart:
    empty = samples["empty loop"]
    shown: dict[str, dict[str, list[float]]] = {"Lucet": {}, "Lucet, Python": {}, "wasmtime": {}, "wasmtime-py": {}}
    for engine, name in (("lucet", "Lucet"), ("wasmtime", "wasmtime")):
        if f"C {engine} call" in samples:
            shown[name][CALL] = samples[f"C {engine} call"]
            shown[name][CHECKED] = samples[f"C {engine} checked_call"]
            shown[name][HOST] = less(samples[f"C {engine} host_loop"], samples[f"C {engine} empty_loop"])
    for engine, name in (("lucet", "Lucet, Python"), ("wasmtime", "wasmtime-py")):
        if f"{engine} call" in samples:
            shown[name][CALL] = less(samples[f"{engine} call"], empty)
            loops = less(samples[f"{engine} host"], samples[f"{engine} no host"])
            shown[name][HOST] = [one / python_lifecycle.LOOPS for one in loops]
    if "node call" in samples:
        loops = less(samples["node host"], samples["node empty"])
        shown["node"] = {CALL: samples["node call"], HOST: [one / node.LOOPS for one in loops]}
    shown["Python alone"] = {
        CALL: less(samples["operator.add"], empty),
        HOST: less(samples["plain call"], empty),
    }
    return Chart(
        name="calls",
        title="A call into a guest and back, a call out of it and back",
        kind="bars",
        series=series(shown),
        historical=(
            Historical(label="2019: 0.5 µs, a switch to a trivial function and back", values=((CALL, 500.0),)),
        ),
        words=(
            '"Python alone" is operator.add and a call of the same Python function without any guest: less than that '
            "a call from Python cannot take. node compiles calls between JavaScript and WebAssembly into one another."
        ),
    )
