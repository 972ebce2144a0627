"""How good the code is: Lucet's levels, wasmtime-py and native code by the same clang, in one interleaved run.

usage: python -m bench.code_quality [--rounds N] [--processes N] [--samples FILE] [--output FILE] [KERNEL]...

The kernels are bench/kernels/*.c, compiled by `python -m ziglang cc` at -O3 once to WebAssembly and twice natively, and
those of the shared folder's bench/, which exist as WebAssembly only. For each kernel several processes are started, one
after the other. Each loads all engines' code, runs it once to compare the checksums (or what is printed), and then does
every engine once per round, in random order. A sample is CPU time of the process; a cell is the median over the
processes of each process's median, since where code and data lie decides as much as what they are.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bench import common
from bench.measure import interleaved
from bench.node import Node

KERNELS: Final = common.ROOT / "bench" / "kernels"
CC: Final = (sys.executable, "-m", "ziglang", "cc", "-O3", "-ffp-contract=off", "-Wall", "-Wextra")
_WASM_CPU: Final = "generic+bulk_memory+sign_ext+nontrapping_fptoint+mutable_globals+multivalue+reference_types"
_NATIVE: Final = ("-target", "x86_64-linux-gnu", "-fPIC", "-shared", "-fvisibility=hidden")

LUCET: Final = {
    "default": ("default", "x86-64-v3"),
    "best": ("best", "x86-64-v3"),
    "fast": ("fast", "x86-64-v3"),
    "default-base": ("default", "x86-64"),
    "best-base": ("best", "x86-64"),
    "best-host": ("best", "native"),
}
"""Engine -> level and target CPU."""
CLANG: Final[dict[str, str]] = {"clang-base": "x86_64", "clang-host": "native"}
"""Engine -> zig's name of the CPU."""
NODE: Final = ("--no-liftoff", "--no-wasm-lazy-compilation")
"""The optimising compiler only."""
OWN: Final = (*CLANG, *LUCET, "wasmtime", *(["node"] if shutil.which("node") else []))
SHARED: Final = ("fast", "default", "best", "wasmtime")

Samples = dict[str, list[list[float]]]
"""Engine -> for each process its samples in seconds."""


# ---- what is run ----


class Kernel:
    """One program: `engines` that can run it, and a file for each."""

    def __init__(self, name: str, wasm: Path, engines: Sequence[str], folder: Path | None = None) -> None:
        self.name = name
        self.wasm = wasm
        self.engines = engines
        self.folder = folder
        """Of a kernel that is a WASI command: where its inputs are."""
        self.files: dict[str, str] = {}
        self.repeats = True
        """It prints the same every time."""


def own_kernels(only: Sequence[str], engines: Sequence[str] = OWN) -> list[Kernel]:
    """The kernels in C, compiled by clang."""
    sources = [one for one in sorted(KERNELS.glob("*.c")) if not only or one.stem in only]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(partial(_own_kernel, engines=engines), sources))


def _own_kernel(source: Path, engines: Sequence[str]) -> Kernel:
    kernel = Kernel(source.stem, wasm_of(source), engines)
    for engine, cpu in CLANG.items():
        kernel.files[engine] = str(built([*CC, *_NATIVE, f"-mcpu={cpu}", str(source)], source, engine))
    return kernel


def wasm_of(source: Path) -> Path:
    """The kernel as WebAssembly; simd_* with vectors."""
    cpu = _WASM_CPU + ("+simd128" if source.stem.startswith("simd_") else "")
    linking = ("-target", "wasm32-wasi", "-mexec-model=reactor", "-Wl,--strip-all")
    return built([*CC, f"-mcpu={cpu}", *linking, str(source)], source, "wasm")


def built(command: Sequence[str], source: Path, suffix: str) -> Path:
    inputs = [source, *KERNELS.glob("*.h"), *KERNELS.glob("image.c")]
    digest = _digest(*command, version("ziglang"), *(one.read_text() for one in inputs))
    built = common.cache() / "kernels" / f"{source.stem}-{digest}.{suffix}"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as folder:
            result = Path(folder) / "result"
            subprocess.run([*command, "-o", str(result)], check=True)
            result.rename(built)
    return built


def shared_kernels(shared: Path, only: Sequence[str]) -> list[Kernel]:
    """Those of the shared folder that do enough for its time to mean something."""
    index = json.loads((shared / "bench" / "index.json").read_text())
    kernels = []
    for relative in index:
        name = Path(relative).stem if "shootout" in relative else f"sightglass-{Path(relative).parent.name}"
        # The second takes microseconds.
        if name not in {"sightglass-noop", "shootout-nestedloop"} and (not only or name in only):
            wasm = (shared / "bench" / relative).resolve()
            kernels.append(Kernel(name, wasm, SHARED, folder=wasm.parent))
            kernels[-1].repeats = not {"stdout", "stdout_file"}.isdisjoint(index[relative])
    return kernels


def compile_with_lucet(kernel: Kernel) -> None:
    import lucet

    wasm = kernel.wasm.read_bytes()
    sources = [one.read_text() for one in sorted((common.ROOT / "src/lucet").rglob("*.py"))]
    for engine in [one for one in kernel.engines if one in LUCET]:
        level, cpu = LUCET[engine]
        digest = _digest(hashlib.sha256(wasm).hexdigest(), level, cpu, *sources)
        artifact = common.cache() / "kernels" / f"{kernel.name}-{digest}.{engine}"
        if not artifact.exists():
            try:
                code = lucet.compile(wasm, opt_level=level, target_cpu=cpu)
            except lucet.CompileError as error:
                print(f"{kernel.name}: {engine}: {error}", file=sys.stderr)
                kernel.engines = [one for one in kernel.engines if one not in LUCET]
                return
            artifact.with_suffix(".new").write_bytes(code)
            artifact.with_suffix(".new").rename(artifact)
        kernel.files[engine] = str(artifact)


def _digest(*parts: str) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


# ---- one process: all engines of one kernel ----

Run = Callable[[], tuple[float, object]]
"""Runs the kernel once: seconds, and a result that must be the same everywhere."""


def child(job: dict[str, Any]) -> None:
    make = _command if job["folder"] else _function
    runs = {engine: make(engine, job) for engine in job["engines"]}
    results = {engine: run()[1] for engine, run in runs.items()}
    if job["repeats"] and len(set(results.values())) != 1:
        raise SystemExit(f"{job['name']}: the results differ: {results}")
    samples = interleaved(runs, job["rounds"])
    json.dump({engine: [seconds for seconds, _ in ones] for engine, ones in samples.items()}, sys.stdout)


def _function(engine: str, job: dict[str, Any]) -> Run:
    """A kernel that is one function without arguments."""
    if engine == "node":
        return _in_node(job)
    call = _load_function(engine, job)

    def run() -> tuple[float, object]:
        start = time.process_time_ns()
        result = call()
        return (time.process_time_ns() - start) / 1e9, result & 0xFFFFFFFFFFFFFFFF

    return run


def _in_node(job: dict[str, Any]) -> Run:
    node = Node(*NODE).__enter__()  # it ends with this process
    node.ask(kernel=job["wasm"])
    return lambda: (node.ask(body="kernel", count=1) / 1e9, int(node.answer(last=True)))


def _load_function(engine: str, job: dict[str, Any]) -> Callable[[], int]:
    if engine in CLANG:
        function = ctypes.CDLL(job["files"][engine]).run
        function.restype = ctypes.c_uint64
        return function
    if engine == "wasmtime":
        import wasmtime

        store = wasmtime.Store(wasmtime.Engine())
        module = wasmtime.Module.from_file(store.engine, job["wasm"])
        exported: Any = wasmtime.Instance(store, module, []).exports(store)["run"]
        return lambda: exported(store)
    import lucet

    # Pages are written from the start: neither engine is to be measured by its page faults.
    instance = lucet.Region(1, track_writes=False).new_instance(lucet.Module.load(job["files"][engine]))
    return lambda: instance.run("run")


def _command(engine: str, job: dict[str, Any]) -> Run:
    """A WASI command that says when the work begins and ends."""
    run = _wasmtime_command(job) if engine == "wasmtime" else _lucet_command(job["files"][engine], job)

    def measured() -> tuple[float, object]:
        marks: list[int] = []
        with tempfile.TemporaryFile() as stdout:

            def mark() -> None:
                marks.append(time.process_time_ns())

            run(mark, stdout.fileno())
            stdout.seek(0)
            return (marks[1] - marks[0]) / 1e9, hashlib.sha256(stdout.read()).hexdigest()

    return measured


def _lucet_command(artifact: str, job: dict[str, Any]) -> Callable[[Callable[[], None], int], None]:
    import lucet
    from lucet.wasi import WasiContext, run_command

    module = lucet.Module.load(artifact)

    def run(mark: Callable[[], None], stdout: int) -> None:
        with (
            open(os.devnull, "r+b", buffering=0) as null,  # noqa: PTH123
            WasiContext(
                args=[Path(job["wasm"]).name], preopens=[(job["folder"], ".")], stdin=null.fileno(), stdout=stdout,
                stderr=null.fileno(),
            ) as context,
        ):  # fmt: skip
            marker = lucet.host_function(mark)
            imports = {**context.imports(), "bench": {"start": marker, "end": marker}}
            if run_command(lucet.Region(1, track_writes=False).new_instance(module, imports)):
                raise SystemExit(f"{job['name']} failed")

    return run


def _wasmtime_command(job: dict[str, Any]) -> Callable[[Callable[[], None], int], None]:
    import wasmtime

    engine = wasmtime.Engine()
    module = wasmtime.Module.from_file(engine, job["wasm"])

    def run(mark: Callable[[], None], stdout: int) -> None:
        store = wasmtime.Store(engine)
        wasi = wasmtime.WasiConfig()
        wasi.argv = [Path(job["wasm"]).name]
        wasi.preopen_dir(job["folder"], ".")
        wasi.stdin_file = wasi.stderr_file = os.devnull
        wasi.stdout_file = f"/proc/self/fd/{stdout}"
        store.set_wasi(wasi)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        for name in ("start", "end"):
            linker.define_func("bench", name, wasmtime.FuncType([], []), mark)
        main: Any = linker.instantiate(store, module).exports(store)["_start"]
        try:
            main(store)
        except wasmtime.ExitTrap as ended:
            if ended.code:
                raise

    return run


# ---- all processes ----


def measure(kernel: Kernel, rounds: int, processes: int) -> Samples:
    job = {
        "name": kernel.name,
        "wasm": str(kernel.wasm),
        "engines": list(kernel.engines),
        "files": kernel.files,
        "folder": str(kernel.folder) if kernel.folder else "",
        "rounds": rounds,
        "repeats": kernel.repeats,
    }
    samples: Samples = {engine: [] for engine in kernel.engines}
    for _ in range(processes):
        command = [sys.executable, "-m", "bench.code_quality", "--child", json.dumps(job)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for engine, times in found.items():
            samples[engine].append(times)
    return samples


def typical(processes: Sequence[Sequence[float]]) -> float:
    return statistics.median(statistics.median(times) for times in processes)


def ratio(samples: Samples, engine: str, base: str) -> float:
    return typical(samples[engine]) / typical(samples[base])


def scatter(samples: Samples, engine: str, base: str) -> float:
    """Half the range of the processes' ratios, or of the rounds' if there was one process, relative to the median."""
    ones, others = samples[engine], samples[base]
    if len(ones) == 1:
        ones, others = ([[time] for time in times[0]] for times in (ones, others))
    ratios = [statistics.median(one) / statistics.median(other) for one, other in zip(ones, others, strict=True)]
    return (max(ratios) - min(ratios)) / 2 / statistics.median(ratios)


# ---- tables ----

_COMPARED: Final[tuple[tuple[str, str], ...]] = (
    ("best-base", "clang-base"),
    ("best", "clang-base"),
    ("best-host", "clang-host"),
    ("default-base", "clang-base"),
    ("default", "clang-base"),
    ("fast", "clang-base"),
    ("best", "wasmtime"),
    ("best-host", "wasmtime"),
    ("default", "wasmtime"),
    ("fast", "wasmtime"),
)
_GOALS: Final[dict[tuple[str, str], float]] = {
    ("best-base", "clang-base"): 1.00,
    ("best-host", "clang-host"): 1.00,
    ("default-base", "clang-base"): 1.08,
    ("best", "wasmtime"): 1 / 1.30,
    ("default", "wasmtime"): 1 / 1.15,
}


def tables(results: dict[str, Samples]) -> str:
    own = {name: one for name, one in results.items() if "clang-base" in one}
    others = {name: one for name, one in results.items() if "clang-base" not in one}
    parts = [_summary(results)]
    if own:
        native = [pair for pair in _COMPARED if pair[1] in CLANG]
        parts += ["\n## Against native code: bench/kernels\n", _ratios(own, native, "clang-base")]
        peer = [pair for pair in _COMPARED if pair[1] == "wasmtime"]
        parts += ["\n## Against wasmtime: bench/kernels\n", _ratios(own, peer, "wasmtime")]
    if others:
        peer = [pair for pair in _COMPARED if pair[1] == "wasmtime"]
        parts += ["\n## Against wasmtime: the shared kernels\n", _ratios(others, peer, "wasmtime")]
    return "\n".join(parts)


def _summary(results: dict[str, Samples]) -> str:
    rows = []
    for engine, base in _COMPARED:
        ratios = [ratio(one, engine, base) for one in results.values() if engine in one and base in one]
        if ratios:
            mean = statistics.geometric_mean(ratios)
            goal = _GOALS.get((engine, base))
            verdict = "" if goal is None else common.verdict(f"at most {goal:.2f}", mean <= goal + 0.005)
            slow = sum(one > 1.3 for one in ratios)
            rows.append([engine, base, str(len(ratios)), f"**{mean:.3f}**", f"{1 / mean:.2f}", str(slow), verdict])
    header = ["engine", "relative to", "kernels", "geometric mean of times", "times faster", "slower than 1.3", "goal"]
    return common.table(header, rows)


def _ratios(results: dict[str, Samples], pairs: Sequence[tuple[str, str]], base: str) -> str:
    shown = [
        pair for pair in pairs if all(engine in one for engine in pair for one in results.values() if len(one) > 3)
    ]
    rows = []
    for name, one in results.items():
        cells = [name, common.time(typical(one[base]) * 1e9)]
        for engine, other in shown:
            has = engine in one and other in one
            cells.append(f"{ratio(one, engine, other):.2f} ±{100 * scatter(one, engine, other):.0f} %" if has else "-")
        rows.append(cells)
    means = ["geometric mean", ""]
    for engine, other in shown:
        found = [ratio(one, engine, other) for one in results.values() if engine in one and other in one]
        means.append(f"**{statistics.geometric_mean(found):.3f}**")
    return common.table(["kernel", base, *(f"{engine} / {other}" for engine, other in shown)], [*rows, means])


_WORDS: Final = """\
Written by `python -m bench.code_quality`, which says how it measures. A ratio is time relative to another engine's:
below 1 is faster. clang-base is `clang -O3` for plain x86-64, clang-host the same with -march=native, both with
-ffp-contract=off, so that all engines compute the same; `best-base` is Lucet at the best level for plain x86-64,
`best-host` for this machine's CPU, `best` for the default target, x86-64-v3. So best-base / clang-base and best-host /
clang-host compare code for the same CPU, best / clang-base what users have when they change no option with what a
distribution ships. wasmtime has no such choice: its code is for the machine it runs on. ± is half the range over
processes, or over rounds if there was one process.
"""

_NOTES: Final = """\
## What is slower than 1.3, and why

* `gemm` on the machine's own CPU: vectors of 256 bits, where native code has several of 512 in flight.
* `simd_*` on the machine's own CPU: vectors in WebAssembly have 128 bits, clang's native ones 512.

`radixsort` waits for memory, as do `heapsort` and `tree`: their ratios differ from run to run more than from engine to
engine. `interpreter` owes its 0.64 to the CPU: the same instructions in an order that it predicts well.

`bignum` is at 1.2 for plain x86-64: WebAssembly has neither a product of 128 bits nor a carry. The product is one
`mul` here, too (`multi3.py`), and stays in registers but in a loop's last round, but carries are comparisons. `shapes`
and `closures` pay for the checks of indirect calls: the table's bounds and the type.

Kernels that walk structures with pointers (`list`, `tree`, `dijkstra`) can be faster than native code, because their
pointers have 32 bits. `floyd` is where the copy of the loop is vectorised and clang's native one is not.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares Lucet's code with native code and wasmtime's.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--samples", type=Path, help="keep them in this file, and go on from what is there")
    parser.add_argument("--own", action="store_true", help="only the kernels of this project")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("LUCET_SHARED", "../shared")))
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    given = parser.parse_args()
    kernels = own_kernels(given.kernels)
    if not given.own and (given.shared / "bench").is_dir():
        kernels += shared_kernels(given.shared, given.kernels)
    results: dict[str, Samples] = {}
    if given.samples is not None and given.samples.exists():
        results = json.loads(given.samples.read_text())
    for kernel in kernels:
        if kernel.name in results:
            continue
        compile_with_lucet(kernel)
        results[kernel.name] = measure(kernel, given.rounds, given.processes)
        ratios = ", ".join(
            f"{engine} {ratio(results[kernel.name], engine, kernel.engines[0]):.2f}" for engine in kernel.engines
        )
        print(f"{kernel.name}: {ratios}", file=sys.stderr)
        if given.samples is not None:
            given.samples.write_text(json.dumps(results))
    about = f"{common.conditions(given.rounds)} {given.processes} processes; clang of ziglang {version('ziglang')}."
    text = f"# Code quality\n\n{_WORDS}\n{about}\n\n{tables(results)}\n\n{_NOTES}"
    if given.output:
        given.output.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
        sys.exit(0)
    sys.exit(main())
