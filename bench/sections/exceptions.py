"""A throw, with the calls down to where it is made, by how many functions lie between it and its handler.

CPU time of a loop, for each turn.
"""

from __future__ import annotations

from bench.measure import interleaved, timed
from bench.results import Chart
from bench.suite import Measured, Settings, need, series

SHOWN = {
    ("lucet", "throw"): "Lucet",
    ("lucet", "return"): "Lucet, the calls without a throw",
    ("wasmtime", "throw"): "wasmtime",
}


def measure(settings: Settings) -> Measured:
    need("wasmtime", settings)
    from bench import exceptions

    turns = (100_000, 2_000) if settings.quick else (exceptions.CALLS, exceptions.THROWS)
    things = exceptions.things("default", calls=turns[0], throws=turns[1])
    samples = interleaved({key: timed(*thing) for key, thing in things.items()}, settings.few(7))
    shown: dict[str, dict[str, list[float]]] = {name: {} for name in SHOWN.values()}
    for (engine, function, depth), values in samples.items():
        if (engine, function) in SHOWN:
            shown[SHOWN[engine, function]][f"{depth}"] = values
    throws = Chart(
        name="exceptions",
        title="Throw and catch, by depth",
        kind="lines",
        x_label="functions between the handler and the throw",
        series=series(shown),
        words="The original had no exceptions.",
    )
    paths = {
        name: {what: samples[engine, function, 0] for what, function in (("plain", "plain"), ("in a try_table", "try"))}
        for name, engine in (("Lucet", "lucet"), ("wasmtime", "wasmtime"))
    }
    calls = Chart(
        name="exceptions-path",
        title="A call that does not throw",
        kind="bars",
        log=False,
        series=series(paths),
        words="One call in a loop, without a handler around it and with one.",
    )
    return Measured(charts=(throws, calls))
