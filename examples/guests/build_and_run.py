"""Builds count.c, .cpp, .rs and .ts for WASI with the toolchains that are here, and runs each with Lucet.

usage: python examples/guests/build_and_run.py [--install] [--folder FOLDER]

Languages without a toolchain are skipped, with the reason and what to install; --install lets npm fetch the
AssemblyScript compiler into the folder. The exit status is 1 if a program that could be built does not do what it
should.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lucet
from lucet.wasi import run_program

HERE = Path(__file__).parent
INPUT = b"one two three\nfour  five\n\tsix\nno newline"
EXPECTED = b"3 lines, 8 words, 40 bytes\n"
RUST_TARGETS = ("wasm32-wasip1", "wasm32-wasi")


class Skipped(Exception):
    """There is no toolchain: why, and what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds the programs of this folder for WASI and runs them.")
    parser.add_argument("--install", action="store_true", help="let npm fetch the AssemblyScript compiler")
    parser.add_argument("--folder", type=Path, help="where to build; default: a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        builders: dict[str, Callable[[Path], None]] = {
            "C": partial(c, HERE / "count.c", "cc"),
            "C++": partial(c, HERE / "count.cpp", "c++"),
            "Rust": partial(rust, HERE / "count.rs"),
            "AssemblyScript": partial(assemblyscript, HERE / "count.ts", folder, given.install),
        }
        failures = 0
        for language, build in builders.items():
            wasm = folder / f"count-{language.replace('+', 'p').lower()}.wasm"
            try:
                build(wasm)
            except Skipped as reason:
                print(f"{language}: skipped: {reason}", flush=True)
                continue
            problem = run(wasm)
            failures += problem is not None
            print(f"{language}: {problem or f'ok, {wasm.stat().st_size} bytes'}", flush=True)
    return 1 if failures else 0


def run(wasm: Path) -> str | None:
    """What is wrong with what the program does; None: nothing."""
    module = lucet.Module.from_bytes(lucet.compile(wasm.read_bytes()))
    for arguments, status in (([], 3), (["a", "b c"], 0)):
        outcome = run_program(module, args=["count", *arguments], stdin=INPUT, timeout=60)
        expected = EXPECTED + b"".join(b"argument: %s\n" % argument.encode() for argument in arguments)
        if (outcome.status, outcome.stdout, outcome.stderr) != (status, expected, b""):
            return f"FAILED with arguments {arguments}: {outcome}"
    return None


def c(source: Path, language: str, out: Path, *others: str) -> None:
    """With the compiler of the package ziglang, or with clang and wasi-libc."""
    options = ["--target=wasm32-wasi", "-O2", "-s", *others, str(source), "-o", str(out)]
    options += ["-fno-exceptions"] if language == "c++" else []
    if importlib.util.find_spec("ziglang"):
        build([sys.executable, "-m", "ziglang", language, *options])
        return
    clang = shutil.which("clang++" if language == "c++" else "clang")
    if clang is None or not Path("/usr/include/wasm32-wasi").is_dir():
        raise Skipped("neither ziglang (pip install ziglang) nor clang with wasi-libc is installed")
    build([clang, *options])


def rust(source: Path, out: Path, *options: str) -> None:
    for rustc in filter(None, (shutil.which("rustc"), shutil.which("rustc", path="/usr/bin"))):
        for target in RUST_TARGETS:
            command = [rustc, "--print", "target-libdir", "--target", target]
            asked = subprocess.run(command, capture_output=True, text=True, check=False)
            if asked.returncode == 0 and any(Path(asked.stdout.strip()).glob("libstd-*")):
                build([rustc, "--target", target, "-O", "-C", "strip=symbols", *options, str(source), "-o", str(out)])
                return
    targets = " or ".join(RUST_TARGETS)
    raise Skipped(
        f"no rustc has the target {targets} (rustup target add, or apt-get install libstd-rust-dev-wasm32 lld)"
    )


def assemblyscript(source: Path, folder: Path, install: bool, out: Path, *, wasi: bool = True) -> None:
    modules = folder / "node_modules"
    npm = shutil.which("npm")
    if not (modules / "assemblyscript").is_dir():
        if npm is None:
            raise Skipped("there is no npm")
        if not install:
            raise Skipped(f"the compiler is not in {modules} (--install fetches it)")
        build([npm, "install", "--silent", "--prefix", str(folder), "assemblyscript", "@assemblyscript/wasi-shim"])
    compiler = modules / "assemblyscript" / "bin" / "asc.js"
    config = "node_modules/@assemblyscript/wasi-shim/asconfig.json"  # whose paths are relative to this one
    copy = folder / source.name  # asc takes paths below where it runs
    shutil.copyfile(source, copy)
    # Without --exportTable the optimiser empties functions that are in the table for the host alone.
    options = ["--config", config] if wasi else ["--runtime", "stub", "--use", "abort=", "--exportTable"]
    build(["node", str(compiler.resolve()), copy.name, "-o", out.name, "-O3", *options], cwd=folder)


def build(command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
