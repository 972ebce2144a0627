"""Compute: the table of functions in the documentation says what there is."""

from __future__ import annotations

import re
from pathlib import Path

from lucet.terrarium.compute_calls import make
from lucet.terrarium.compute_table import CALLS

DOCUMENT = Path(__file__).parents[2] / "docs/terrarium-compute.md"


def test_every_function_is_listed() -> None:
    listed = {}
    for line in DOCUMENT.read_text().splitlines():
        cells = [re.findall(r"`([a-z0-9_]+)`", cell) for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0] and cells[0][0].startswith("fastly_"):
            listed.update({(cells[0][0], name): "yes" for name in cells[1]})
            listed.update({(cells[0][0], name): "accepted" for name in cells[2]})
    assert listed == {key: call.state for key, call in CALLS.items()}


def test_every_function_is_there() -> None:
    for call in CALLS.values():
        function = make(call)
        assert function.params == call.params
        assert function.results == ("i32",)
