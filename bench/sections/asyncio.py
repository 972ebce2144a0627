"""Guests that wait for a slow host function, all in one thread; and how late a task is beside guests that compute.

Wall-clock time: these mean something on a quiet machine only.
"""

from __future__ import annotations

import asyncio

from bench.measure import percentile
from bench.results import Chart
from bench.suite import Measured, Settings, need, series


def measure(settings: Settings) -> Measured:
    need("wasmtime", settings)
    from bench import asyncio_guests as bench

    count = 50 if settings.quick else 1000
    instances = bench.guests(count)
    asyncio.run(bench.served(instances[:10]))
    waits: dict[str, dict[str, list[float]]] = {"Lucet": {}, "wasmtime-py": {}}
    for _ in range(settings.few(5)):
        waits["Lucet"].setdefault("all guests served", []).append(asyncio.run(bench.served(instances)) * 1e9)
        waits["wasmtime-py"].setdefault("all guests served", []).append(bench.served_by_peer(count) * 1e9)
    late: dict[str, dict[str, list[float]]] = {"Lucet, median": {}, "Lucet, 99th percentile": {}}
    for busy in settings.some((0, 1, 2, 8, 32), (0, 2)):
        for _ in range(settings.few(3)):
            found = asyncio.run(bench.lateness(bench.guests(busy) if busy else [], 0.3 if settings.quick else 2.0))
            for name, share in (("Lucet, median", 0.5), ("Lucet, 99th percentile", 0.99)):
                late[name].setdefault(f"{busy}", []).append(percentile(found, share) * bench.SLICE * 1e9)
    return Measured(
        charts=(
            Chart(
                name="asyncio-waiting",
                title=f"{count} guests, each waiting once for a host function that takes {bench.SLOW:g} s",
                kind="bars",
                log=False,
                series=series(waits),
                words=(
                    f"Lucet: one thread. wasmtime-py has no way but a thread for each guest that waits: {count}. The "
                    "original could suspend guests from 2020 on, and published no figure."
                ),
            ),
            Chart(
                name="asyncio-heartbeat",
                title=f"How late a task is beside busy guests with slices of {bench.SLICE * 1e3:g} ms",
                kind="lines",
                x_label="busy guests",
                log=False,
                series=series(late),
                words="A task that sleeps for a millisecond, time and again. No peer can do this in one thread.",
            ),
        )
    )
