"""Two commits against each other: what counts as slower."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import compare
from bench.compare import Verdict, of_counts, of_times

STEADY = [100.0, 102, 98, 101, 99, 100, 103, 97, 100, 101]


@pytest.mark.parametrize(
    ("factor", "slower", "word"), [(1.0, False, ""), (1.2, True, "**slower**"), (0.8, False, "faster")]
)
def test_a_ratio_beyond_its_threshold_is_slower(factor: float, slower: bool, word: str) -> None:
    verdict = of_times("it", STEADY, [value * factor for value in reversed(STEADY)], 1.05)
    assert verdict.slower == slower
    assert verdict.low <= factor <= verdict.high
    assert verdict.row()[-1] == word


def test_noise_is_not_slower_though_its_median_is_beyond_the_threshold() -> None:
    verdict = of_times("it", [100.0] * 5, [80.0, 85, 110, 130, 150], 1.05)
    assert verdict.second / verdict.first > 1.05
    assert not verdict.slower


def test_counts_need_no_confidence() -> None:
    assert of_counts("it", 1000, 1011, 1.01).slower
    assert not of_counts("it", 1000, 1010, 1.01).slower
    assert of_counts("it", 1000, 1011, 1.01).row() == ["it", "1,000", "1,011", "1.011", "**slower**"]


@contextmanager
def no_worktrees(revisions: Sequence[str], folder: Path) -> Iterator[list[Path]]:
    assert revisions == ["a", "b"]
    yield [folder, folder]


@pytest.mark.parametrize(("second", "status"), [(1000, 0), (1100, 1)])
def test_the_exit_status_says_whether_something_is_slower(
    second: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(trees: Sequence[Path], given: object) -> list[Verdict]:
        return [of_times("time", STEADY, STEADY, 1.05), of_counts("count", 1000, second, 1.01)]

    monkeypatch.setattr(compare, "worktrees", no_worktrees)
    monkeypatch.setattr(compare, "compared", found)
    assert compare.main(["a", "b"]) == status
    assert ("Slower: count." in capsys.readouterr().out) == bool(status)


def test_a_revision_that_there_is_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["no-such-revision", "HEAD"]) == 2
    assert "no-such-revision" in capsys.readouterr().err
