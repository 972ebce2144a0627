"""Statistics and interleaving of the benchmarks."""

from __future__ import annotations

from functools import partial

import pytest

from bench import measure


def test_every_round_does_every_job_once_and_orders_differ() -> None:
    log: list[str] = []

    def job(name: str) -> float:
        log.append(name)
        return float(len(log))

    names = "abcdef"
    samples = measure.interleaved({name: partial(job, name) for name in names}, 6, seed=1)
    rounds = [log[i : i + 6] for i in range(0, 36, 6)]
    assert all(sorted(one) == list(names) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert {name: len(values) for name, values in samples.items()} == dict.fromkeys(names, 6)
    assert samples["a"] == [i * 6 + one.index("a") + 1 for i, one in enumerate(rounds)]  # in the order of the rounds


def test_a_block_is_long_enough_and_a_sample_is_of_one() -> None:
    counts: list[int] = []

    def clock(count: int) -> float:
        counts.append(count)
        return 100.0 * count

    assert measure.calibrated(clock, block_ns=1000) == 8
    assert measure.blocks({"it": clock}, 3, block_ns=1000) == {"it": [100.0, 100.0, 100.0]}
    assert counts[-3:] == [8, 8, 8]


def test_timed_divides_by_what_is_in_it() -> None:
    done: list[int] = []
    job = measure.timed(lambda: done.append(sum(range(200_000))), 1_000_000)
    assert 0 < job() < 1_000_000
    assert len(done) == 1


@pytest.mark.parametrize(("values", "expected"), [([7.0], (7, 7)), ([1.0, 2, 3, 4, 5], (2, 4)), ([5.0, 1], (2, 4))])
def test_quartiles(values: list[float], expected: tuple[float, float]) -> None:
    assert measure.quartiles(values) == expected


def test_percentile_is_one_of_the_values() -> None:
    values = [float(i) for i in range(100, 0, -1)]
    assert [measure.percentile(values, share) for share in (0, 0.5, 0.99, 1)] == [1, 51, 100, 100]


def test_rounds_are_compared_with_themselves() -> None:
    assert measure.less([10, 20], [1, 2]) == [9, 18]
    assert measure.ratios([10, 20], [5, 40]) == [2, 0.5]
    with pytest.raises(ValueError, match="argument"):
        measure.ratios([1, 2], [1])


def test_the_interval_holds_the_median_and_narrows_with_more_values() -> None:
    few = [0.8, 1.0, 1.3, 0.9, 1.1]
    low, high = measure.interval(few)
    assert 0.8 <= low < 1.0 < high <= 1.3
    more = measure.interval(few * 40)
    assert more[1] - more[0] < high - low
    assert measure.interval(few) == (low, high)  # no chance in it
    assert measure.interval([1.25]) == (1.25, 1.25)
