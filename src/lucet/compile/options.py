"""What the user may choose, and what each target CPU means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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
}
"""Target CPU -> what the machine must have, as named in artifact.def (LUCET_CPU_...)."""

TARGET_CPUS: Final = (*CPU_FEATURES, "native")

BOUNDS: Final = ("guard", "explicit")
"""guard: 4 GiB of address space are reserved for each memory and the hardware checks; explicit: every access is
compared with the memory's size."""

EMITS: Final = ("so", "obj", "asm", "ir")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything but the last three decides what is generated; those decide how."""

    opt_level: str = "default"
    target_cpu: str = "x86-64-v3"
    bounds: str = "guard"
    count_instructions: bool = False
    """Count them, and let the host bound the count: docs/fuel.md."""
    workers: int | None = None
    """Processes to compile in at most; None: one for each CPU that this process may use."""
    worker_memory: int = 8 << 30
    """Bytes of address space of one worker."""
    worker_seconds: int = 1800
    """CPU seconds that one chunk may take."""

    def __post_init__(self) -> None:
        level = OPT_LEVEL_ALIASES.get(self.opt_level, self.opt_level)
        object.__setattr__(self, "opt_level", _one_of("opt_level", level, OPT_LEVELS))
        _one_of("target_cpu", self.target_cpu, TARGET_CPUS)
        _one_of("bounds", self.bounds, BOUNDS)
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, not {self.workers}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; not {value!r}")
    return value
