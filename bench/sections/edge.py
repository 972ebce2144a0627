"""Requests that a server answers each second, each in an instance of its own."""

from __future__ import annotations

import importlib
import importlib.util

from bench.suite import Absent, Measured, Settings


def measure(settings: Settings) -> Measured:
    """bench/edge.py has `charts(settings)`, which gives the charts and what is absent."""
    if importlib.util.find_spec("bench.edge") is None:
        raise Absent("the server and its benchmark are not in this tree")
    charts, absent = importlib.import_module("bench.edge").charts(settings)
    return Measured(charts=tuple(charts), absent=tuple(absent))
