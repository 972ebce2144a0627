"""Compile time and run time of Lucet and wasmtime-py on real programs, in one interleaved run.

usage: python -m bench.compare_wasmtime [--rounds N] [--opt-level LEVEL] [--shared FOLDER] [PROGRAM]...

Each round does every (program, step, engine) once, in random order and each in a process of its own; so whatever else
the machine does hits all alike. A cell is the median of the rounds, ± half their range; a ratio is that of the medians,
below 1 where Lucet is faster. Wall-clock time inside the process: importing, reading and loading are not counted. The
programs' outputs are compared. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench.measure import interleaved
from bench.workloads import WORKLOADS

ENGINES: Final = ("lucet", "wasmtime")
STEPS: Final = ("compile", "run")

Samples = dict[tuple[str, str, str], list[float]]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares Lucet with wasmtime-py.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--opt-level", default="default", help="Lucet's; wasmtime has its own default, speed")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("LUCET_SHARED", "../shared")))
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=f"of {', '.join(WORKLOADS)}")
    given = parser.parse_args()
    programs = given.programs or ["sqlite3", "quickjs", "zstd"]
    if unknown := set(programs) - set(WORKLOADS):
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    if not (given.shared / "apps").is_dir():
        parser.error(f"no programs in {given.shared}: --shared or LUCET_SHARED names the folder")
    with tempfile.TemporaryDirectory() as folder:
        samples = measure(programs, given, Path(folder))
    print(table(programs, samples, given))
    return 0


def measure(programs: list[str], given: argparse.Namespace, folder: Path, *, steps: Sequence[str] = STEPS) -> Samples:
    """Every round, after one compilation of each to have something to run."""
    outputs: dict[str, str] = {}
    jobs = [(program, step, engine) for program in programs for step in steps for engine in ENGINES]
    for program in programs:
        (folder / program).mkdir()
        WORKLOADS[program].prepare(folder / program)
    for engine in ENGINES:
        for program in programs:
            child(program, "compile", engine, given, folder)

    def once(program: str, step: str, engine: str) -> float:
        seconds, output = child(program, step, engine, given, folder)
        if step == "run" and outputs.setdefault(program, output) != output:
            raise SystemExit(f"{program}: the engines' outputs differ")
        return seconds

    return interleaved({job: partial(once, *job) for job in jobs}, given.rounds, progress=True)


def child(program: str, step: str, engine: str, given: argparse.Namespace, folder: Path) -> tuple[float, str]:
    """One step in a process of its own: its seconds, and a digest of what it printed."""
    workload = WORKLOADS[program]
    job = {
        "step": step,
        "engine": engine,
        "wasm": str(given.shared / "apps" / workload.program),
        "artifact": str(folder / f"{program}.{engine}"),
        "folder": str(folder / program),
        "arguments": [program, *workload.arguments],
        "opt_level": given.opt_level,
        "result": str(folder / "result"),
    }
    with (folder / "stdout").open("w+b") as output:
        command = [sys.executable, "-m", "bench.compare_wasmtime", "--child", json.dumps(job)]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, check=True)
        output.seek(0)
        return float((folder / "result").read_text()), hashlib.file_digest(output, "sha256").hexdigest()


def table(programs: list[str], samples: Samples, given: argparse.Namespace) -> str:
    lines = [
        f"Medians of {given.rounds} interleaved rounds on {os.cpu_count()} CPUs: lucet {version('lucet')} "
        f"--opt-level {given.opt_level} against wasmtime-py {version('wasmtime')}; ratios below 1: lucet is faster.",
        "",
        "| program | compile: lucet | wasmtime | ratio | run: lucet | wasmtime | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    ratios: dict[str, list[float]] = {step: [] for step in STEPS}
    for program in programs:
        cells = [program]
        for step in STEPS:
            medians = [statistics.median(samples[program, step, engine]) for engine in ENGINES]
            cells += [cell(samples[program, step, engine]) for engine in ENGINES]
            cells.append(f"**{medians[0] / medians[1]:.2f}**")
            ratios[step].append(medians[0] / medians[1])
        lines.append(f"| {' | '.join(cells)} |")
    means = {step: f"**{statistics.geometric_mean(ratios[step]):.2f}**" for step in STEPS}
    lines.append(f"| geometric mean | | | {means['compile']} | | | {means['run']} |")
    return "\n".join(lines)


def cell(seconds: list[float]) -> str:
    median = statistics.median(seconds)
    return f"{median:.2f} s ±{50 * (max(seconds) - min(seconds)) / median:.0f} %"


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def run_child(job: dict[str, str], arguments: list[str]) -> float:
    """What one process does; returns the seconds that count."""
    if job["step"] == "compile":
        return {"lucet": lucet_compile, "wasmtime": wasmtime_compile}[job["engine"]](job)
    return {"lucet": lucet_run, "wasmtime": wasmtime_run}[job["engine"]](job, arguments)


def lucet_compile(job: dict[str, str]) -> float:
    import lucet

    wasm = Path(job["wasm"]).read_bytes()
    artifact: list[bytes] = []
    seconds = timed(lambda: artifact.append(lucet.compile(wasm, opt_level=job["opt_level"])))
    Path(job["artifact"]).write_bytes(artifact[0])
    return seconds


def wasmtime_compile(job: dict[str, str]) -> float:
    import wasmtime

    wasm = Path(job["wasm"]).read_bytes()
    engine = wasmtime.Engine()
    module: list[wasmtime.Module] = []
    seconds = timed(lambda: module.append(wasmtime.Module(engine, wasm)))
    Path(job["artifact"]).write_bytes(module[0].serialize())
    return seconds


def lucet_run(job: dict[str, str], arguments: list[str]) -> float:
    import lucet
    from lucet.wasi import WasiContext, run_command

    module = lucet.Module.load(job["artifact"])

    def run() -> None:
        directories = [(job["folder"], "/work")]
        with WasiContext(
            args=arguments, env={"HOME": "/work"}, preopens=directories, stdin=0, stdout=1, stderr=2
        ) as context:
            if run_command(lucet.Region(slots=1).new_instance(module, context.imports())):
                raise SystemExit("the program failed")

    return timed(run)


def wasmtime_run(job: dict[str, str], arguments: list[str]) -> float:
    import wasmtime

    engine = wasmtime.Engine()
    module = wasmtime.Module.deserialize_file(engine, job["artifact"])

    def run() -> None:
        store = wasmtime.Store(engine)
        wasi = wasmtime.WasiConfig()
        wasi.argv = arguments
        wasi.env = [["HOME", "/work"]]
        wasi.preopen_dir(job["folder"], "/work")
        wasi.inherit_stdin()
        wasi.inherit_stdout()
        wasi.inherit_stderr()
        store.set_wasi(wasi)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        start = linker.instantiate(store, module).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        try:
            start(store)
        except wasmtime.ExitTrap as ended:
            if ended.code:
                raise

    return timed(run)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        given_job = json.loads(sys.argv[2])
        arguments_of_job = given_job.pop("arguments")
        Path(given_job["result"]).write_text(str(run_child(given_job, arguments_of_job)))
        sys.exit(0)
    sys.exit(main())
