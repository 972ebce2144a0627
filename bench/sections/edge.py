"""Requests that a server answers each second, with a fresh instance for each of them, beside servers without a guest.

All servers run at once, idle but for the one whose turn it is; wrk asks each of them in every round, on the same cores.
No figure of 2019 is known.
"""

from __future__ import annotations

from bench.suite import Measured, Settings


def measure(settings: Settings) -> Measured:
    from bench import edge

    charts, absent = edge.charts(settings)
    return Measured(charts=tuple(charts), absent=tuple(absent))
