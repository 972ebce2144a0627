"""The official WebAssembly test suite on Lucet: prints scripts and commands passed and failed.

    python -m tests.spec [--opt-level LEVEL] [--jobs N] [--all] [--wast] [SCRIPT...]

Exit status 1 if anything failed that expected_failures.txt does not list, or passed that it does; 2 if the suite is not
there. The suite is in the shared folder ($LUCET_SHARED, or ../shared), converted to JSON, and as text for --wast.
A SCRIPT may also be the path of any .wast file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.spec.pool import Outcome, Settings, Task, run_tasks
from tests.spec.script import FAILED, PASSED, SKIPPED
from tests.spec.shared_folder import shared_folder

FEATURES: Final = frozenset(
    [
        *("bulk_memory", "custom_page_sizes", "exceptions", "function_references", "memory64", "multi_memory"),
        *("multi_value", "reference_types", "relaxed_simd", "simd", "tail_call", "threads", "wide_arithmetic"),
    ]
)
"""Of index.json: a script that needs no others runs whole."""

FOLDERS: Final = ("core/", "custom-page-sizes/", "legacy/", "threads/", "wide-arithmetic/")

EXTENDED_CONST: Final = frozenset({"core/data.json", "core/elem.json", "core/global.json"})
"""The scripts with extended constant expressions. They have modules of other features too, which are skipped."""

EXPECTED_FAILURES: Final = Path(__file__).with_name("expected_failures.txt")

ENGINES: Final = {
    "lucet": "tests.spec.engines:Lucet",
    "counting": "tests.spec.engines:CountingLucet",
    "control": "tests.spec.control:ControlLucet",
    "poisoned": "tests.spec.poisoned:PoisonedLucet",
    "wasmtime": "tests.spec.peer:Wasmtime",
}

Expected = Mapping[tuple[str, int], str]
"""(script, line) -> reason."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    suite = shared_folder() / "spec"
    if not suite.is_dir():
        print(f"tests.spec: there is no {suite}; LUCET_SHARED says where the shared folder is", file=sys.stderr)
        return 2
    index = json.loads((suite / "index.json").read_text())
    names = _selected(index, options.scripts, options.all)
    tasks = [task_of(suite, name, index.get(name), wast=options.wast) for name in names]
    settings = Settings(
        engine=ENGINES.get(options.engine, options.engine),
        opt_level=options.opt_level,
        target_cpu=options.target_cpu,
        timeout=options.timeout,
    )
    expected = read_expected(options.expected_failures.read_text())
    if options.wast:
        expected = {(_wast_name(name), line): reason for (name, line), reason in expected.items()}
    report = Report(expected=expected, verbose=options.verbose)
    # The longest scripts first, so that none of them is alone at the end.
    tasks.sort(key=lambda task: -task.path.stat().st_size)
    for outcome in run_tasks(tasks, settings, options.jobs):
        report.add(outcome)
    return report.summary()


def in_language(entry: Mapping[str, Any]) -> bool:
    return FEATURES.issuperset(entry["features"])


def read_expected(text: str) -> Expected:
    """Lines of `script line reason`; empty ones and those that begin with # are not entries."""
    expected: dict[tuple[str, int], str] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            script, number, reason = line.split(maxsplit=2)
            expected[script, int(number)] = reason
    return expected


class Report:
    """Prints outcomes as they come, and keeps the counts."""

    def __init__(self, *, expected: Expected, verbose: bool) -> None:
        self.expected = expected
        self.verbose = verbose
        self.scripts = Counter[str]()
        self.commands = Counter[str]()
        self.expected_failures = 0
        self.unexpected = 0

    def add(self, outcome: Outcome) -> None:
        failures = outcome.of(FAILED)
        failed_lines = {result.line for result in failures}
        here = {line: reason for (script, line), reason in self.expected.items() if script == outcome.name}
        surprises = [
            *(result for result in failures if result.line not in here),
            *(result for result in outcome.of(PASSED) if result.line in here and result.line not in failed_lines),
        ]
        unknown = sorted(here.keys() - {result.line for result in outcome.results})
        self.commands.update(result.status for result in outcome.results)
        self.expected_failures += len(failures) - sum(result.status == FAILED for result in surprises)
        self.unexpected += len(surprises) + len(unknown)
        self.scripts[self.verdict(outcome, bool(surprises or unknown))] += 1
        self.print_script(outcome, here, unknown)

    def verdict(self, outcome: Outcome, surprising: bool) -> str:
        if surprising:
            return "failed"
        if outcome.count(FAILED):
            return "with expected failures only"
        return "passed in part, the rest skipped" if outcome.count(SKIPPED) else "passed"

    def print_script(self, outcome: Outcome, here: Mapping[int, str], unknown: Sequence[int]) -> None:
        counts = [f"{outcome.count(status)} {status}" for status in (PASSED, FAILED, SKIPPED) if outcome.count(status)]
        print(f"{outcome.name}: {', '.join(counts) or 'no commands'} ({outcome.seconds:.1f} s)")
        for result in outcome.results:
            place = f"    line {result.line}: {result.command}"
            if result.status == FAILED and result.line in here:
                print(f"{place}: expected failure: {here[result.line]}: {result.message}")
            elif result.status == FAILED and (self.verbose or result.message != "not run"):
                print(f"{place}: FAILED: {result.message}")
            elif result.status == PASSED and result.line in here:
                print(f"{place}: UNEXPECTED PASS: listed in {EXPECTED_FAILURES.name}: {here[result.line]}")
            elif result.status == SKIPPED and self.verbose:
                print(f"{place}: skipped: {result.message}")
        for line in unknown:
            print(f"    line {line}: FAILED: listed in {EXPECTED_FAILURES.name}, but there is no such command")
        sys.stdout.flush()

    def summary(self) -> int:
        scripts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self.scripts.items()))
        print(f"{self.scripts.total()} scripts: {scripts or 'none'}")
        print(
            f"{self.commands.total()} commands: {self.commands[PASSED]} passed, {self.commands[FAILED]} failed "
            f"({self.expected_failures} expected), {self.commands[SKIPPED]} skipped for an unsupported feature"
        )
        if self.unexpected:
            print(f"{self.unexpected} unexpected results")
        return 1 if self.unexpected else 0


def _selected(index: Mapping[str, Any], scripts: Sequence[str], everything: bool) -> list[str]:
    if not scripts:
        return [
            name
            for name, entry in index.items()
            if name.startswith(FOLDERS) and (everything or in_language(entry) or name in EXTENDED_CONST)
        ]
    names = []
    for script in scripts:
        if script.endswith(".wast"):
            names.append(script)
            continue
        found = [name for name in index if script in (name, name.removesuffix(".json"), Path(name).stem)]
        if not found:
            raise SystemExit(f"tests.spec: there is no script {script}")
        names.append(found[0])
    return names


_WAST_FOLDERS: Final = {"core": ".", "custom": "custom", "legacy": "legacy"}
"""Folders of the converted suite -> of the texts; the others are proposals."""


def _wast_name(name: str) -> str:
    return f"{name.removesuffix('.json')}.wast"


def task_of(suite: Path, name: str, entry: Mapping[str, Any] | None, *, wast: bool) -> Task:
    if entry is None:  # not of the suite
        return Task(name=name, path=Path(name), may_skip=True)
    path = suite / "json" / name
    if wast:
        name = _wast_name(name)
        folder, _, file = name.partition("/")
        path = suite / "wast" / _WAST_FOLDERS.get(folder, f"proposals/{folder}") / file
    return Task(name=name, path=path, may_skip=not in_language(entry))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.spec", description="Run the official WebAssembly test suite."
    )
    add = parser.add_argument
    add("scripts", metavar="SCRIPT", nargs="*", help="i32 or core/i32.json, for example; default: all in scope")
    add("--opt-level", default="default", help="of the compiler (default: %(default)s)")
    add("--target-cpu", metavar="CPU", help="for Lucet's code (default: the compiler's)")
    add("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="scripts at a time (default: %(default)s)")
    add("--all", action="store_true", help="scripts of missing features too, as far as they go")
    add("--wast", action="store_true", help="the scripts as text, through the project's own parser")
    add("--timeout", type=float, default=300.0, help="seconds for one script (default: %(default)g)")
    add("--engine", default="lucet", help="wasmtime: checks the runner itself; or MODULE:FACTORY")
    add("--count-instructions", action="store_const", const="counting", dest="engine", help="in Lucet's code")
    add(
        "--expected-failures", type=Path, default=EXPECTED_FAILURES, help="a file like tests/spec/expected_failures.txt"
    )
    add("-v", "--verbose", action="store_true", help="print every skipped command too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
