"""Two commits against each other: ratios of times, with confidence, and counts of instructions.

usage: python -m bench compare [--rounds N] [--threshold T] [--instructions-threshold T] [--no-instructions] REV1 REV2

Each revision (anything that git understands, or "." for the files as they are now) is checked out into a temporary git
worktree and built there. Both are measured by the programs of this tree, in turn: a fast part of the suite. A ratio is
REV2's to REV1's, above 1 is slower; its interval holds the median of the rounds' ratios with a confidence of 95 %.
Counts of instructions are callgrind's, the same in every run or nearly so.

Exit status 1: an interval of times lies above the threshold as a whole, or a count's ratio is above its own. 2: a
revision cannot be built.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench import common, guests
from bench.lifecycle import Bench, build
from bench.measure import blocks, clocked, interleaved, interval, ratios
from lucet.wasm.text import text_to_binary

KIB: Final = 1 << 10
_LEVELS: Final = ("fast", "default")
_MODULES: Final[dict[str, Callable[[], bytes]]] = {
    "many": guests.many,
    "trivial": partial(text_to_binary, "(module (func))"),
}
"""To compile; the second starts everything that compiling needs, and costs nothing else. A smaller module than the
first would not stand out from what starting takes more or less of each time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Of one thing that was measured of both."""

    what: str
    first: float
    second: float
    ratio: float
    low: float
    high: float
    """The interval of the ratio; of a count both are the ratio itself."""
    threshold: float
    is_count: bool = False

    @property
    def slower(self) -> bool:
        return self.low > self.threshold

    def row(self) -> list[str]:
        show: Callable[[float], str] = (lambda value: f"{value:,.0f}") if self.is_count else common.time
        ratio = f"{self.ratio:.3f}" if self.is_count else f"{self.ratio:.3f} ({self.low:.3f} .. {self.high:.3f})"
        word = "**slower**" if self.slower else "faster" if self.high < 1 / self.threshold else ""
        return [self.what, show(self.first), show(self.second), ratio, word]


def of_times(what: str, first: Sequence[float], second: Sequence[float], threshold: float) -> Verdict:
    each = ratios(second, first)
    low, high = interval(each)
    return Verdict(
        what=what,
        ratio=statistics.median(each),
        first=statistics.median(first),
        second=statistics.median(second),
        low=low,
        high=high,
        threshold=threshold,
    )


def of_counts(what: str, first: int, second: int, threshold: float) -> Verdict:
    ratio = second / first
    return Verdict(
        what=what, first=first, second=second, ratio=ratio, low=ratio, high=ratio, threshold=threshold, is_count=True
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench compare", description="Compares two commits: ratios of times and counts of instructions."
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threshold", type=float, default=1.05, help="of times; default: 1.05")
    parser.add_argument("--instructions-threshold", type=float, default=1.02, help="of counts; default: 1.02")
    parser.add_argument("--no-instructions", action="store_true", help="leave the counts out, which take longest")
    parser.add_argument("revisions", nargs=2, metavar="REV", help='two commits; ".": the files as they are now')
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="lucet-compare-") as folder:
        try:
            with worktrees(given.revisions, Path(folder)) as trees:
                verdicts = list(compared(trees, given))
        except Failed as error:
            print(f"python -m bench compare: {error}", file=sys.stderr)
            return 2
    print(report(given.revisions, verdicts, given.rounds))
    return 1 if any(one.slower for one in verdicts) else 0


def report(revisions: Sequence[str], verdicts: Sequence[Verdict], rounds: int) -> str:
    header = ["", *revisions, "ratio (95 %)", ""]
    slower = [one.what for one in verdicts if one.slower]
    return "\n".join(
        [
            common.conditions(rounds),
            "",
            common.table(header, [one.row() for one in verdicts]),
            "",
            f"Slower: {', '.join(slower)}." if slower else "Nothing is slower beyond its threshold.",
        ]
    )


class Failed(Exception):
    """A revision cannot be had; the message says which, and why."""


# ---- revisions, built ----


@contextmanager
def worktrees(revisions: Sequence[str], folder: Path) -> Iterator[list[Path]]:
    """A built tree of each; removed from git's list in the end."""
    trees = [folder / name for name in ("first", "second")]
    try:
        for tree, revision in zip(trees, revisions, strict=True):
            _git("worktree", "add", "--detach", "--force", str(tree), _commit(revision))
            _build(tree, revision)
        yield trees
    finally:
        for tree in trees:
            shutil.rmtree(tree, ignore_errors=True)
        _git("worktree", "prune")


def _commit(revision: str) -> str:
    """Of ".": one of the tracked files as they are, which no branch knows."""
    if revision == ".":
        return _git("stash", "create") or _git("rev-parse", "HEAD")
    return _git("rev-parse", "--verify", f"{revision}^{{commit}}")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=common.ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _build(tree: Path, revision: str) -> None:
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in (["meson", "setup", "build", "-Dpython=true"], ["ninja", "-C", "build", "_core.abi3.so"]):
        done = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True, env=tools)
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise Failed(f"{revision} cannot be built: {' '.join(command)}:\n{last}")
    shutil.copy(tree / "build" / "_core.abi3.so", tree / "src" / "lucet" / "runtime")


# ---- what is measured ----


def compared(trees: Sequence[Path], given: argparse.Namespace) -> Iterator[Verdict]:
    """Times first, then counts."""
    rounds = _times(trees, given.rounds)
    for what in rounds[0][0]:
        first, second = ([one[what] for one in found] for found in rounds)
        yield of_times(what, first, second, given.threshold)
    if given.no_instructions:
        return
    if shutil.which("valgrind") is None:
        print("no counts of instructions: there is no valgrind", file=sys.stderr)
        return
    counts = [_counts(tree) for tree in trees]
    for what in counts[0]:
        yield of_counts(what, counts[0][what], counts[1][what], given.instructions_threshold)


def _times(trees: Sequence[Path], rounds: int) -> list[list[dict[str, float]]]:
    """Of each tree for each round what was measured."""
    jobs = {i: partial(_child, tree, "--times") for i, tree in enumerate(trees)}
    for job in jobs.values():
        job()  # compiles what is compiled once
    found = interleaved(jobs, rounds)
    return [[json.loads(one) for one in found[i]] for i in range(len(trees))]


def _child(tree: Path, what: str, *wrapper: str) -> str:
    """This file with the package of that tree."""
    paths = os.pathsep.join([str(tree / "src"), str(common.ROOT)])
    command = [*wrapper, sys.executable, "-m", "bench.compare", what, str(tree)]
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "0", "XDG_CACHE_HOME": str(tree / "cache")}
    done = subprocess.run(command, cwd=common.ROOT, check=False, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        raise Failed(f"{tree.name}: {what} failed with exit status {done.returncode}")
    return done.stdout


def _counts(tree: Path) -> dict[str, int]:
    """Instructions, without those of starting: the difference of a long and a short run."""
    program = build(tree / "native")
    bench = Bench(program=program, folder=tree / "modules", rounds=1)
    files = [str(file) for file in bench.files(guests.usual())]
    counts = {}
    for what, kind in (("create, run, destroy: instructions", "0"), ("call: instructions", "1")):
        runs = [
            _callgrind([str(program), "-", "1", "counted", times, kind, *files], tree) for times in ("1000", "3000")
        ]
        counts[what] = (runs[1] - runs[0]) // 2000
    compiling = {name: _callgrind([], tree, module=name) for name in _MODULES}
    counts["compile 150 functions: instructions"] = compiling["many"] - compiling["trivial"]
    return counts


def _callgrind(command: Sequence[str], tree: Path, *, module: str = "") -> int:
    """All processes' instructions."""
    with tempfile.TemporaryDirectory() as logs:
        wrapper = ["valgrind", "--tool=callgrind", "--trace-children=yes", "--callgrind-out-file=/dev/null"]
        wrapper.append(f"--log-file={logs}/%p")
        if module:
            _child(tree, f"--compile={module}", *wrapper)
        else:
            subprocess.run([*wrapper, *command], check=True, stdout=subprocess.DEVNULL)
        texts = [log.read_text() for log in Path(logs).iterdir()]
    return sum(int(number) for text in texts for number in re.findall(r"Collected : (\d+)", text))


def _artifact(tree: Path, name: str) -> Path:
    return tree / f"{name}.so"


# ---- in the process of one tree ----


def child(what: str, tree: Path) -> None:
    import lucet

    if not Path(lucet.__file__).is_relative_to(tree):
        raise SystemExit(f"lucet is that of {lucet.__file__}, not of {tree}")
    for name, make in _MODULES.items():
        if not _artifact(tree, name).exists():
            (tree / f"{name}.wasm").write_bytes(make())
            _artifact(tree, name).write_bytes(lucet.compile(make()))
    if what == "--times":
        print(json.dumps({**_native_times(tree), **_python_times()}))
    else:
        from lucet.compile import pool

        # Under callgrind everything takes fifty times as long, and a worker that is killed has counted for nothing.
        vars(pool).update(_GRACE_SECONDS=600)
        _compile((tree / f"{what.partition('=')[2]}.wasm").read_bytes(), "default")
        pool.end_idle_workers()


def _native_times(tree: Path) -> dict[str, float]:
    modules = tree / "modules"
    modules.mkdir(exist_ok=True)
    bench = Bench(program=build(tree / "native"), folder=modules, rounds=1)

    def take(prefix: str, experiment: str, a: int, b: int, wasm: bytes) -> dict[str, float]:
        found = bench.run(experiment, a, b, wasm)
        return {f"{prefix}{name}".replace("_", " "): engines["lucet"][0] for name, engines in found.items()}

    image = guests.image(size=512 * KIB, sparse=False)
    return {
        **take("C: ", "cycle", 1, 2, guests.usual()),
        **take("C: ", "calls", 1, 2, guests.caller()),
        **take("C: 16 dirty pages, ", "cycle", 16, guests.PAGE, guests.toucher()),
        **take("C: 512 KiB of data, ", "cycle", 16, 8 * guests.PAGE, image),
        **take("C: cold slot, ", "cold", 1, 2, guests.usual()),
        **take("C: ", "load", 0, 0, guests.usual()),
    }


def _python_times() -> dict[str, float]:
    from bench.python_lifecycle import lucet_bodies

    bodies = {name.replace("lucet ", "Python: "): clocked(body) for name, body in lucet_bodies().items()}
    found: Mapping[str, list[float]] = blocks(bodies, 1)
    times = {name: values[0] for name, values in found.items()}
    for level in _LEVELS:
        _compile(_MODULES["trivial"](), level)  # starts the worker process
        times[f"compile 150 functions, {level}"] = statistics.median(_cpu_of_compiling(level) for _ in range(3))
    return times


def _cpu_of_compiling(level: str) -> float:
    from bench.compile_time import cpu_seconds

    before = cpu_seconds()
    _compile(guests.many(), level)
    return (cpu_seconds() - before) * 1e9


def _compile(wasm: bytes, level: str) -> None:
    from lucet.compile.driver import compile_module
    from lucet.compile.options import Options

    compile_module(wasm, Options(opt_level=level, workers=1))


if __name__ == "__main__":
    child(sys.argv[1], Path(sys.argv[2]))
