"""Time of small programs in C, relative to the same clang's native code.

Native code is `clang -O3 -ffp-contract=off` for plain x86-64, the WebAssembly of all engines comes from the same
clang. In each process all engines run the same program in random order; a ratio is that of a process's medians.
`docs/code-quality.md` has more kernels, other targets, and what the slow ones are slow at.
"""

from __future__ import annotations

import statistics
from typing import Final

from bench import code_quality
from bench.results import Chart
from bench.suite import Measured, Settings, has_peer, need, series, why_absent

NATIVE: Final = "clang-base"
SHOWN: Final = {
    "best": "Lucet, best",
    "default": "Lucet, default",
    "fast": "Lucet, fast",
    "best-base": "Lucet, best for plain x86-64",
    "clang-host": "native, for this CPU",
    "wasmtime": "wasmtime",
    "node": "node",
}


def measure(settings: Settings) -> Measured:
    need("ziglang", settings)
    absent = [why_absent(peer, settings) for peer in ("wasmtime", "node") if not has_peer(peer, settings)]
    engines = [NATIVE, *(one for one in SHOWN if one not in ("wasmtime", "node") or has_peer(one, settings))]
    kernels = code_quality.own_kernels(settings.some_names((), ("fib", "sieve")), engines)
    ratios: dict[str, dict[str, list[float]]] = {name: {} for name in SHOWN.values()}
    for kernel in kernels:
        code_quality.compile_with_lucet(kernel)
        samples = code_quality.measure(kernel, settings.few(3), settings.few(2))
        native = [statistics.median(times) for times in samples[NATIVE]]
        for engine, name in SHOWN.items():
            times = [statistics.median(each) for each in samples.get(engine, [])]
            ratios[name][kernel.name] = [one / base for one, base in zip(times, native, strict=bool(times))]
    chart = Chart(
        name="code",
        title="Time of kernels relative to native code",
        kind="strip",
        unit="ratio",
        x_label="time relative to clang -O3 for plain x86-64; further left is faster",
        series=series(ratios),
        words=(
            "A dot is one kernel, the large mark the geometric mean. Lucet's default target is x86-64-v3, wasmtime's "
            "and node's is the machine they run on. node compiles with TurboFan only. The original published no "
            "results of its kernels."
        ),
    )
    return Measured(charts=(chart,), absent=tuple(absent))
