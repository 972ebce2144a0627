"""A line on the terminal while compiling takes long."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self

DELAY: Final = 1.0
"""Seconds before anything is shown: most compilations need no line."""


class Progress:
    """Shows "compiling prog.wasm: 40 %" on standard error if that is a terminal; erased when the block ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = time.monotonic()
        self._shown = False
        self._enabled = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        if self._enabled and time.monotonic() - self._start >= DELAY:
            self._shown = True
            print(
                f"\r\033[Kcompiling {self._name}: {100 * done // max(total, 1)} %", end="", file=sys.stderr, flush=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
