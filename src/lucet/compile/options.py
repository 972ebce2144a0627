"""What the user may choose, and what each target CPU means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lucet.errors import LimitExceeded
from lucet.limits import HOST_PAGE_SIZE, MEMORY_GUARD_SIZE

FULL_RESERVATION: Final = 4 << 30
"""Bytes that a 32-bit index reaches: with so much address space for a memory no access needs to be compared."""
MAX_RESERVED_SIZE: Final = 8 << 30
"""The most that a region reserves for a memory."""

OPT_LEVELS: Final = ("none", "fast", "default", "best")
"""none: no passes, for debugging the compiler; fast: fast instruction selection; best: vectorisers and inlining."""

OPT_LEVEL_ALIASES: Final = {
    "0": "none",
    "1": "fast",
    "2": "default",
    "3": "best",
    "speed": "default",
    "speed_and_size": "default",
}
"""Digits, and the names that the original Lucet had."""

_V2: Final = ("SSE4_1", "SSE4_2", "POPCNT", "SSSE3")
_V3: Final = (*_V2, "AVX", "AVX2", "BMI1", "BMI2", "LZCNT", "FMA", "MOVBE", "F16C")
_V4: Final = (*_V3, "AVX512")

CPU_FEATURES: Final[dict[str, tuple[str, ...]]] = {
    "x86-64": (),
    "x86-64-v2": _V2,
    "x86-64-v3": _V3,
    "x86-64-v4": _V4,
    "multi": _V2,
}
"""Target CPU -> what the machine must have, as named in artifact.def (LUCET_CPU_...). multi: see versions.py."""

TARGET_CPUS: Final = (*CPU_FEATURES, "native")

TARGET_CPU_ALIASES: Final = {
    "baseline": "x86-64",
    "nehalem": "x86-64-v2",
    "sandybridge": "x86-64-v2",
    "haswell": "x86-64-v3",
    "broadwell": "x86-64-v3",
    "skylake": "x86-64-v3",
    "znver1": "x86-64-v3",
    "cannonlake": "x86-64-v4",
    "icelake": "x86-64-v4",
}
"""The names that the original Lucet had: the highest level that such a CPU has."""

_NEEDS: Final = {
    "SSE4_1": ("SSSE3",),
    "SSE4_2": ("SSE4_1",),
    "AVX": ("SSE4_2",),
    "AVX2": ("AVX",),
    "FMA": ("AVX",),
    "F16C": ("AVX",),
    "AVX512": ("AVX2", "FMA", "F16C"),
}
"""Feature -> those that it cannot be without."""

TARGET_FEATURES: Final = {
    **{name.lower(): name for name in _V4},
    "sse41": "SSE4_1",
    "sse42": "SSE4_2",
    "sse4.1": "SSE4_1",
    "sse4.2": "SSE4_2",
    "sse3": "",
}
"""What users call a feature -> its name in artifact.def; sse3 is no feature of its own here, ssse3 includes it."""

LLVM_FEATURES: Final = {
    **{name: (name.lower(),) for name in _V4},
    "SSE4_1": ("sse4.1",),
    "SSE4_2": ("sse4.2",),
    "BMI1": ("bmi",),
    "AVX512": ("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"),
}
"""Feature -> what LLVM calls it."""

Binding = tuple[str, str, str, str]
"""Module and field of an import, and the module and field that the host has for it."""

BOUNDS: Final = ("guard", "explicit")
"""guard: 4 GiB of address space are reserved for each memory and the hardware checks; explicit: every access is
compared with the memory's size."""

EMITS: Final = ("so", "obj", "asm", "ir")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything but the last four decides what is generated; those decide how."""

    opt_level: str = "default"
    """One of OPT_LEVELS, "none", "fast", "default", "best", or a name that the original Lucet had."""
    target_cpu: str = "x86-64-v3"
    """One of TARGET_CPUS: what the code may use, and the machine must have then."""
    bounds: str = "guard"
    """One of BOUNDS, "guard" or "explicit": who checks that accesses stay in the memory, the hardware or code."""
    target_features: tuple[str, ...] = ()
    """"+name" and "-name" of TARGET_FEATURES: what the code may use beyond target_cpu, or may not after all."""
    count_instructions: bool = False
    """Count them, and let the host bound the count: docs/fuel.md."""
    min_reserved_size: int | None = None
    """Bytes of address space for each memory, at least; None: 4 GiB, or max_reserved_size if that is less.

    The size for a memory is this or its initial size, whichever is more. From 4 GiB on the hardware checks accesses;
    below, they are compared with the memory's size, and the memory cannot grow beyond.
    """
    max_reserved_size: int | None = None
    """A memory that needs more is refused."""
    guard_size: int = MEMORY_GUARD_SIZE
    """Bytes after 4 GiB of address space that fault: an access whose static offset is within them needs no check."""
    debug_info: bool = False
    """Native DWARF: source lines for debuggers, if the module carries DWARF."""
    bindings: tuple[Binding, ...] = ()
    """The names that the host has for imported functions; if there are any, all must have one."""
    hot: tuple[int, ...] | None = None
    """Indices of the functions that matter, from Profile.hot. The best level does the most for these only, the default
    level does for the others what the fast level does. None: nobody knows."""
    workers: int | None = None
    """Processes to compile in at most; None: one for each CPU that this process may use."""
    worker_memory: int = 4 << 30
    """Bytes of address space of one worker."""
    worker_seconds: int = 600
    """CPU seconds that one chunk may take."""
    incremental: bool = False
    """Keep objects in the cache's directory, and take those of unchanged functions from there. OSError if that cannot
    be used."""

    def __post_init__(self) -> None:
        level = OPT_LEVEL_ALIASES.get(self.opt_level, self.opt_level)
        object.__setattr__(self, "opt_level", _one_of("opt_level", level, OPT_LEVELS))
        cpu = TARGET_CPU_ALIASES.get(self.target_cpu, self.target_cpu)
        object.__setattr__(self, "target_cpu", _one_of("target_cpu", cpu, TARGET_CPUS))
        if self.target_features and cpu == "native":
            raise ValueError("target_features go with a named target_cpu, not with native, which has those it has")
        for feature in self.target_features:
            _one_of("a target feature", feature, tuple(f"{sign}{name}" for name in TARGET_FEATURES for sign in "+-"))
        for name in ("min_reserved_size", "max_reserved_size", "guard_size"):
            size = getattr(self, name)
            if size is not None and (size % HOST_PAGE_SIZE or not 0 <= size <= MAX_RESERVED_SIZE):
                raise ValueError(f"{name} must be a multiple of {HOST_PAGE_SIZE} up to {MAX_RESERVED_SIZE}, not {size}")
        if (self.min_reserved_size or 0) > (self.max_reserved_size or MAX_RESERVED_SIZE):
            raise ValueError("min_reserved_size must not be greater than max_reserved_size")
        _one_of("bounds", self.bounds, BOUNDS)
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, not {self.workers}")

    def features(self) -> tuple[str, ...]:
        """What target_cpu and target_features come to, as named in artifact.def. Not for "native"."""
        chosen = set(CPU_FEATURES[self.target_cpu])
        for signed in self.target_features:
            feature = TARGET_FEATURES[signed[1:]]
            if not feature:
                continue
            if signed.startswith("+"):
                chosen |= {feature, *_all_needed(feature)}
            else:
                chosen -= {feature, *(one for one in _NEEDS if feature in _all_needed(one))}
        return tuple(one for one in _V4 if one in chosen)

    def reservation(self, initial: int) -> tuple[int, bool]:
        """(Bytes of address space for a memory of that initial size, 0 for any, whether accesses are compared).

        LimitExceeded: it would be more than max_reserved_size.
        """
        maximum = MAX_RESERVED_SIZE if self.max_reserved_size is None else self.max_reserved_size
        minimum = min(FULL_RESERVATION, maximum) if self.min_reserved_size is None else self.min_reserved_size
        size = max(initial, minimum)
        if size > maximum:
            raise LimitExceeded(f"a memory of {initial} bytes, max_reserved_size is {maximum}")
        if size >= FULL_RESERVATION:
            explicit = self.bounds == "explicit"
            return 0 if explicit else FULL_RESERVATION, explicit
        return size, True


def _all_needed(feature: str) -> set[str]:
    direct = _NEEDS.get(feature, ())
    return {*direct, *(further for one in direct for further in _all_needed(one))}


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; not {value!r}")
    return value
