"""Toolchains for what tenants upload as source, each run where it can do no harm (jail.py)."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lucet.terrarium.compiling import BuildFailed
from lucet.terrarium.config import Build
from lucet.terrarium.deploy import COMPILED, Language
from lucet.terrarium.jail import Jail, JailFailed, JailLimits, JailRequest, JailResult

_OUTPUT: Final = "out.wasm"
_BINDINGS: Final = Path(__file__).parent / "guests"
"""The interface of the original Terrarium for programs: lucet_http.h and so on."""
_MAIN: Final = re.compile(rb"^[\w\s*]*\bmain\s*\(", re.MULTILINE)
_RUN: Final = re.compile(rb"^[\w\s*]*\brun\s*\(", re.MULTILINE)
_NO_WASI: Final = re.compile(rb'@external\(\s*"(env|http_handler|fastly_\w+)"|\blucet_http\b')
_WASI_SHIM: Final = Path("@assemblyscript", "wasi-shim", "asconfig.json")
_ZIG_FIRST: Final = b'#include <stdio.h>\nint main(void) { puts(""); return 0; }\n'


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recipe:
    command: Sequence[str]
    reads: Sequence[str] = ()
    copies: Sequence[tuple[str, str]] = ()
    links: Sequence[tuple[str, str]] = ()
    """See jail.JailRequest."""
    env: Mapping[str, str] | None = None
    adds: Mapping[str, bytes] = field(default_factory=dict)
    """Files besides the tenant's, unless it has its own."""


class Toolchains:
    """deploy.Toolchain: those that are installed here. directory: where what they need once is kept."""

    def __init__(self, directory: Path, limits: Build, jail: Jail) -> None:
        self.directory = directory
        self.limits = limits
        self._jail = jail
        self._node_modules = _node_modules(limits.assemblyscript, directory)
        self._zig = importlib.util.find_spec("ziglang")
        self._zig_ready: asyncio.Task[Path] | None = None
        self._rust = _rust_target()

    def languages(self) -> list[Language]:
        node = shutil.which("node")
        return [
            *COMPILED,
            Language(kind="c", title="C", available=self._zig is not None, missing="pip install 'lucet[guests]'"),
            Language(
                kind="assemblyscript",
                title="AssemblyScript",
                available=self._node_modules is not None and node is not None,
                missing=f"npm install --prefix {self.directory} assemblyscript",
            ),
            Language(
                kind="rust",
                title="Rust",
                available=self._rust is not None,
                missing="rustc with the target wasm32-wasip1, wasm32-wasi or wasm32-unknown-unknown",
            ),
        ]

    async def build(self, kind: str, files: Mapping[str, bytes], say: Callable[[str], None]) -> bytes:
        """BuildFailed."""
        language = next((one for one in self.languages() if one.kind == kind), None)
        if language is None or not language.available:
            raise BuildFailed(f"this server cannot build {kind}: {language.missing if language else 'unknown'}")
        match kind:
            case "c":
                recipe = await self._c(files)
            case "assemblyscript":
                recipe = self._assemblyscript(files)
            case _:
                recipe = self._rust_recipe(files)
        result = await self._run(recipe, files)
        if result.log:
            say(result.log)
        if result.timed_out:
            raise BuildFailed(f"the build took more than {self.limits.wall_time:g} seconds")
        wasm = result.outputs.get(_OUTPUT)
        if result.status or wasm is None:
            ended = f"signal {-result.status}" if result.status < 0 else f"status {result.status}"
            raise BuildFailed(f"the build failed ({ended})")
        return wasm

    async def _run(self, recipe: _Recipe, files: Mapping[str, bytes]) -> JailResult:
        limits = self.limits
        request = JailRequest(
            command=recipe.command,
            files={**recipe.adds, **files},
            outputs={_OUTPUT: limits.module},
            reads=recipe.reads,
            copies=recipe.copies,
            links=recipe.links,
            env=recipe.env or {},
            limits=JailLimits(
                wall=limits.wall_time,
                cpu=int(limits.cpu_time),
                memory=limits.memory,
                scratch=limits.scratch,
                file=limits.scratch,
                processes=limits.processes,
                log=limits.log,
            ),
        )
        try:
            return await self._jail.run(request)
        except JailFailed as error:
            raise BuildFailed(f"the build cannot run: {error}") from error

    # C: clang, as the PyPI package ziglang brings it.

    async def _c(self, files: Mapping[str, bytes]) -> _Recipe:
        sources = [name for name in files if name.endswith(".c")]
        if not sources:
            raise BuildFailed("there is no .c file")
        if self._zig_ready is None or (self._zig_ready.done() and self._zig_ready.exception() is not None):
            self._zig_ready = asyncio.create_task(self._prepare_zig())
        cache = await asyncio.shield(self._zig_ready)
        assert self._zig is not None
        assert self._zig.origin is not None
        folder = Path(self._zig.origin).parent
        model = [] if any(_MAIN.search(files[name]) for name in sources) else ["-mexec-model=reactor"]
        if model and any(_RUN.search(files[name]) for name in sources):
            model.append("-Wl,--export=run")  # the entry of the original interface, whether the source says so or not
        folders = sorted({str(Path(name).parent) for name in files})
        arguments = [
            *(str(folder / "zig"), "cc", "--target=wasm32-wasi", "-O2", "-s", *model),
            *(f"-I{one}" for one in folders),
            f"-I{_BINDINGS}",
            *("-o", _OUTPUT, *sources),
        ]
        return _Recipe(
            command=arguments,
            reads=[str(folder), str(_BINDINGS)],
            # The cache must be writable, and nothing that a build writes is to be another's.
            copies=[(str(cache), ".zig")],
            env={"ZIG_GLOBAL_CACHE_DIR": "{work}/.zig", "ZIG_LOCAL_CACHE_DIR": "{work}/.zig"},
        )

    async def _prepare_zig(self) -> Path:
        """The C library, compiled once: for every program it would take half a minute."""
        cache = self.directory / "zig-cache"
        if (cache / "ready").exists():
            return cache
        with tempfile.TemporaryDirectory(dir=_made(self.directory), prefix="zig-") as scratch:
            source = Path(scratch, "a.c")
            source.write_bytes(_ZIG_FIRST)
            environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": f"{scratch}/g", "ZIG_LOCAL_CACHE_DIR": f"{scratch}/g"}
            for model in ([], ["-mexec-model=reactor"]):
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi", "-O2", "-s", *model),
                    *(str(source), "-o", f"{scratch}/a.wasm"),
                    env=environment,
                    # What is found below the present folder is remembered by another name.
                    cwd=scratch,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                )
                _, errors = await process.communicate()
                if process.returncode:
                    raise BuildFailed(f"the C library cannot be built: {errors.decode(errors='replace')[-500:]}")
            Path(scratch, "g", "ready").touch()
            for path in Path(scratch, "g").rglob("*"):  # builds are other users
                path.chmod(0o755 if path.is_dir() else 0o644)
            Path(scratch, "g").chmod(0o755)
            shutil.rmtree(cache, ignore_errors=True)
            with suppress(FileExistsError, OSError):
                Path(scratch, "g").rename(cache)
        return cache

    # AssemblyScript: its compiler from npm, run by node.

    def _assemblyscript(self, files: Mapping[str, bytes]) -> _Recipe:
        sources = [name for name in files if name.endswith(".ts")]
        entry = next((one for one in ("assembly/index.ts", "index.ts", "main.ts") if one in files), None)
        if entry is None:
            if len(sources) != 1:
                raise BuildFailed("the entry is assembly/index.ts, index.ts or main.ts, or the only .ts file")
            entry = sources[0]
        node = shutil.which("node")
        assert node is not None
        assert self._node_modules is not None
        asc = self._node_modules / "assemblyscript" / "bin" / "asc.js"
        options = ["--runtime", "minimal", "--use", "abort=", "-O2", "--noAssert", "--exportTable"]
        if (self._node_modules / _WASI_SHIM).is_file() and not any(_NO_WASI.search(files[name]) for name in sources):
            # It finds the rest of itself from the current folder.
            options = ["-O3", "--config", str("node_modules" / _WASI_SHIM)]
        return _Recipe(
            command=[node, str(asc), entry, "-o", _OUTPUT, *options],
            reads=[str(self._node_modules), str(Path(node).resolve().parent)],
            links=[(str(self._node_modules), "node_modules")],
            adds=_binding("lucet_http.ts", entry),
            env={"NODE_OPTIONS": "--max-old-space-size=1024"},
        )

    # Rust: a rustc that knows a target for WebAssembly.

    def _rust_recipe(self, files: Mapping[str, bytes]) -> _Recipe:
        entry = next((one for one in ("src/main.rs", "src/lib.rs", "main.rs", "lib.rs") if one in files), None)
        sources = [name for name in files if name.endswith(".rs")]
        if entry is None:
            if len(sources) != 1:
                raise BuildFailed("the entry is src/main.rs, src/lib.rs, main.rs or lib.rs, or the only .rs file")
            entry = sources[0]
        assert self._rust is not None
        rustc, target, sysroot = self._rust
        kind = "bin" if re.search(rb"^\s*(pub\s+)?fn\s+main\s*\(", files[entry], re.MULTILINE) else "cdylib"
        return _Recipe(
            command=[
                *(rustc, "--target", target, "--crate-type", kind, "-O", "-C", "strip=symbols", "--edition", "2021"),
                *("-o", _OUTPUT, entry),
            ],
            reads=[sysroot, str(Path(rustc).resolve().parent)],
            adds=_binding("lucet_http.rs", entry),
        )


def _binding(name: str, entry: str) -> dict[str, bytes]:
    """Beside a program's first file."""
    return {str(Path(entry).with_name(name)): (_BINDINGS / name).read_bytes()}


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    return directory


def _node_modules(configured: Path | None, directory: Path) -> Path | None:
    """One with AssemblyScript's compiler."""
    asc = shutil.which("asc")
    found = [configured, directory / "node_modules", *([Path(asc).resolve().parents[2]] if asc else [])]
    for one in found:
        if one is not None and (one / "assemblyscript" / "bin" / "asc.js").is_file():
            return one.resolve()
    return None


def _rust_target() -> tuple[str, str, str] | None:
    """(rustc, target, its folder of libraries)."""
    for found in dict.fromkeys(filter(None, ("/usr/bin/rustc", shutil.which("rustc")))):
        if not Path(found).is_file():
            continue
        done = subprocess.run([found, "--print", "sysroot"], capture_output=True, text=True, check=False)
        root = Path(done.stdout.strip() or "/usr")
        for target in ("wasm32-wasip1", "wasm32-wasi", "wasm32-unknown-unknown"):
            if any((root / "lib" / "rustlib" / target / "lib").glob("libcore-*.rlib")):
                # Not rustup's own command, which would look for its settings.
                return str(root / "bin" / "rustc"), target, str(root)
    return None
