"""Regions that share one budget of memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import lucet

Load = Callable[[str], lucet.Module]

PAGE = 65536
GUEST = """(module (memory (export "memory") 2 10)
  (func (export "grow") (param i32) (result i32) local.get 0 memory.grow))"""


def test_regions_share_a_budget(load: Load) -> None:
    budget = lucet.Budget(6 * PAGE)
    regions = [lucet.Region(slots=4, budget=budget), lucet.Region(slots=4, budget=budget, track_writes=False)]
    first, second = (region.new_instance(load(GUEST)) for region in regions)
    assert (budget.limit, budget.used) == (6 * PAGE, 4 * PAGE)
    assert first.run("grow", 3) == -1
    assert first.run("grow", 2) == 2
    with pytest.raises(lucet.LimitsExceeded, match="budget"):
        regions[1].new_instance(load(GUEST))
    with pytest.raises(lucet.LimitsExceeded):
        second.memory.grow(1)
    first.reset()
    assert budget.used == 4 * PAGE
    third = regions[0].new_instance(load(GUEST))
    assert budget.used == 6 * PAGE
    for instance in (first, second, third):
        instance.close()
    assert budget.used == 0
    assert [region.used for region in regions] == [0, 0]


def test_a_budget_is_checked_and_kept_by_its_regions(load: Load) -> None:
    with pytest.raises(TypeError):
        lucet.Region(slots=1, budget=3)  # type: ignore[arg-type]
    region = lucet.Region(slots=1, budget=lucet.Budget(2 * PAGE))
    instance = region.new_instance(load(GUEST))
    assert instance.run("grow", 1) == -1
