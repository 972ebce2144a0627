"""node as a peer: one process that does on demand what bench/peer.mjs can do, to take its turn in every round."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench import common, guests
from bench.measure import Clocked

LOOPS: Final = 20_000
"""Calls of a host function by one run of the guest."""


class Node:
    """Started by `with`."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._opened = ExitStack()

    def __enter__(self) -> Node:
        folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory()))
        (folder / "usual.wasm").write_bytes(guests.usual())
        (folder / "caller.wasm").write_bytes(guests.caller())
        script = common.ROOT / "bench" / "peer.mjs"
        files = [str(folder / "usual.wasm"), str(folder / "caller.wasm"), str(LOOPS)]
        self._process = self._opened.enter_context(
            subprocess.Popen(
                ["node", *self._options, str(script), *files],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._opened.close()

    def ask(self, **command: Any) -> float:
        """For commands that are answered with a number."""
        return float(self.answer(**command))

    def answer(self, **command: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"node ended with exit status {self._process.wait()} at {command}")
        return json.loads(answer)

    def body(self, name: str) -> Clocked:
        """One of the script's bodies."""
        return lambda count: self.ask(body=name, count=count)
