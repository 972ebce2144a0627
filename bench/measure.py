"""Taking samples and reducing them: interleaved rounds, blocks of calibrated length, quartiles, intervals of ratios.

Whatever else a machine does hits what is measured at that moment. So nothing is measured on its own: in each round
everything is measured once, in an order that changes, and what is compared is compared round by round.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import repeat
from time import thread_time_ns
from typing import Final, TypeVar

BLOCK_NS: Final = 10_000_000
"""How long a block takes, about: so long that reading the clock does not count."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

Body = Callable[[int], object]
"""Does something so many times."""
Clocked = Callable[[int], float]
"""Does something so many times, and returns the nanoseconds that it took."""


# ---- taking samples ----


def interleaved(
    jobs: Mapping[Key, Callable[[], Value]], rounds: int, *, progress: bool = False, seed: int | None = None
) -> dict[Key, list[Value]]:
    """What each job returned in each round; every round does every job once, in random order."""
    chooser = random.Random(seed)
    samples: dict[Key, list[Value]] = {key: [] for key in jobs}
    for number in range(rounds):
        for key in chooser.sample(list(jobs), len(jobs)):
            samples[key].append(jobs[key]())
        if progress:
            print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return samples


def blocks(bodies: Mapping[Key, Clocked], rounds: int, *, block_ns: int = BLOCK_NS) -> dict[Key, list[float]]:
    """Nanoseconds of one time of each body, in each round; calibrating a body also warms it up."""

    def job(body: Clocked, count: int) -> Callable[[], float]:
        return lambda: body(count) / count

    return interleaved({key: job(body, calibrated(body, block_ns)) for key, body in bodies.items()}, rounds)


def calibrated(body: Clocked, block_ns: int = BLOCK_NS) -> int:
    """How often the body must be done for a block."""
    count = 1
    while body(count) < block_ns / 2:
        count *= 2
    return count


def clocked(body: Body) -> Clocked:
    """By the CPU time of the thread, which leaves out what other processes take."""

    def timed(count: int) -> float:
        start = thread_time_ns()
        body(count)
        return thread_time_ns() - start

    return timed


def timed(body: Callable[[], object], per: int = 1) -> Callable[[], float]:
    """A job that does the body once: nanoseconds of CPU time of the thread, for each of `per` things in it."""
    clock = clocked(lambda _count: body())
    return lambda: clock(1) / per


def repeated(function: Callable[..., object], *args: object) -> Body:
    """Calls with one or two arguments, written out: unpacking would count."""

    def one(count: int) -> None:
        (value,) = args
        for _ in repeat(None, count):
            function(value)

    def two(count: int) -> None:
        a, b = args
        for _ in repeat(None, count):
            function(a, b)

    return two if len(args) == 2 else one


def empty_loop(count: int) -> None:
    """What `repeated` costs without the call."""
    for _ in repeat(None, count):
        pass


def clock_cost() -> float:
    """Nanoseconds that reading the clock of a thread's CPU time takes: a block has two readings."""
    samples = []
    for _ in range(101):
        start = thread_time_ns()
        samples.append(thread_time_ns() - start)
    return statistics.median(samples)


# ---- reducing them ----


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return low, high


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so great a share of them does not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def less(samples: Sequence[float], base: Sequence[float]) -> list[float]:
    """Without what else was in them, round by round."""
    return [sample - other for sample, other in zip(samples, base, strict=True)]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def interval(values: Sequence[float], *, confidence: float = 0.95, resamples: int = 2000) -> tuple[float, float]:
    """Where the median lies with that confidence: the bootstrap's percentiles. The same values give the same answer."""
    chooser = random.Random(0)
    medians = sorted(statistics.median(chooser.choices(values, k=len(values))) for _ in range(resamples))
    tail = (1 - confidence) / 2
    return medians[int(resamples * tail)], medians[min(int(resamples * (1 - tail)), resamples - 1)]
