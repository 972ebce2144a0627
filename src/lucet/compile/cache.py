"""The cache of artifacts: what was compiled once is found again by its content.

An entry is two files in one directory, <key>.so and <key>.sha256, which holds the digest of the first: a damaged entry
is one that does not fit its digest, and is compiled again. Beside them are objects, of which a module that has changed
a little is put together: see compile/objects.py. The key covers everything that decides the artifact's bytes,
so entries are never stale, only unused; beyond the size limit, those unused for longest go. Files appear whole, by
renaming, so that processes need no locks; two that compile the same module at once write the same bytes.

Loading an artifact is running code. The directory must therefore be the user's own, and closed to others.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Final, NamedTuple

from lucet.compile.options import Options
from lucet.errors import LucetError

Progress = Callable[[int, int], None]

DEFAULT_SIZE: Final = 1 << 30
"""Bytes; the environment variable LUCET_CACHE_SIZE has another number, with K, M or G."""
GRACE_SECONDS: Final = 10
"""An entry used this recently stays whatever the limit: its user may not have loaded it yet."""
ABANDONED_SECONDS: Final = 3600
"""A temporary file this old is from a process that died."""

_HOW_ONLY: Final = frozenset({"workers", "worker_memory", "worker_seconds", "incremental"})
"""Options that do not decide what is generated."""


def cached_compile(wasm: bytes, options: Options | None = None, *, progress: Progress | None = None) -> Path:
    """The artifact of a module, from the cache or compiled into it.

    Raises OSError, before anything is compiled, if the cache's directory cannot be used.
    """
    options = options or Options()
    directory, limit = cache_directory(), cache_size()
    prepare(directory)
    key = cache_key(wasm, options)
    path = directory / f"{key}.so"
    if _is_intact(path):
        return path
    from lucet.compile.driver import compile_module  # imports the whole compiler, which a cached run needs not

    artifact = compile_module(wasm, replace(options, incremental=True), progress=progress)
    _store(path, artifact)
    evict(directory, limit)
    return path


def cache_directory() -> Path:
    """LUCET_CACHE_DIR, else `lucet` in XDG_CACHE_HOME, else in ~/.cache."""
    if own := os.environ.get("LUCET_CACHE_DIR"):
        return Path(own).absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():  # the XDG specification: a relative path is to be ignored
        return shared / "lucet"
    try:
        return Path.home() / ".cache" / "lucet"
    except RuntimeError:  # no HOME, and a user that the system does not know
        raise FileNotFoundError(errno.ENOENT, "no home directory for the cache; LUCET_CACHE_DIR can name one") from None


def cache_size() -> int:
    """The limit in bytes."""
    text = os.environ.get("LUCET_CACHE_SIZE", "")
    if not text:
        return DEFAULT_SIZE
    match = re.fullmatch(r"([0-9]{1,15})([KMG]?)", text, re.IGNORECASE | re.ASCII)
    if match is None:
        raise LucetError(f"LUCET_CACHE_SIZE must be a number of bytes, or one with K, M or G, not {text!r}")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]


def cache_key(wasm: bytes, options: Options) -> str:
    """Hexadecimal digest of everything that decides the artifact's bytes."""
    parts = [
        hashlib.sha256(wasm).hexdigest(),
        *(f"{one.name}={getattr(options, one.name)}" for one in fields(options) if one.name not in _HOW_ONLY),
        _compiler_digest(),
        _llvmlite_version(),
        _this_cpu() if options.target_cpu == "native" else "",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def compiler_version() -> str:
    """What decides, besides the module and the options, what comes out."""
    return f"{_compiler_digest()} llvmlite {_llvmlite_version()}"


def _compiler_digest() -> str:
    """Digest of the compiler's own sources: stricter than its version, which stays the same while it is worked on."""
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for folder in (package, package / "abi", package / "wasm", package / "compile"):
        for entry in sorted(os.scandir(folder), key=lambda one: one.name):
            if entry.name.endswith((".py", ".def")):
                data = Path(entry.path).read_bytes()
                digest.update(f"{entry.name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _llvmlite_version() -> str:
    """As its metadata has it, but from the mere name of its folder if possible: importlib.metadata takes 20 ms."""
    for folder in filter(None, sys.path):
        for found in Path(folder).glob("llvmlite-*.dist-info"):
            return found.name
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("llvmlite")
    except PackageNotFoundError:
        return "none"


def _this_cpu() -> str:
    """The model and the features of the CPU."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    first = text.split("\n\n", 1)[0]
    return "\n".join(re.findall(r"^(?:vendor_id|cpu family|model|model name|stepping|flags)\s*:.*", first, re.M))


def prepare(directory: Path) -> None:
    """Create the directory, or make sure that nobody else has a say in what is in it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.geteuid():
        problem = "the cache directory belongs to another user"
    elif status.st_mode & 0o022:
        problem = "other users can write to the cache directory"
    elif not os.access(directory, os.W_OK | os.X_OK):
        problem = "the cache directory is not writable"
    else:
        return
    raise PermissionError(errno.EACCES, f"{problem} (LUCET_CACHE_DIR names another)", str(directory))


def _digest_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _is_intact(path: Path) -> bool:
    try:
        os.utime(path)  # used now: from here on evict leaves it
        expected = _digest_path(path).read_text(encoding="ascii")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == expected
    except (OSError, UnicodeDecodeError):
        return False


def _store(path: Path, artifact: bytes) -> None:
    # The digest comes last: an entry without one does not exist yet.
    write_whole(path, artifact)
    write_whole(_digest_path(path), hashlib.sha256(artifact).hexdigest().encode())


def write_whole(path: Path, data: bytes) -> None:
    """A file that is there whole or not at all."""
    descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY_PREFIX, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


_TEMPORARY_PREFIX: Final = ".new-"
_ENTRY_NAME: Final = re.compile(r"[0-9a-f]{64}\.(so|o)")


class _Entry(NamedTuple):
    used: float
    size: int
    path: Path


def evict(directory: Path, limit: int) -> None:
    """Remove the entries unused for longest until the rest is within the limit, and what dead processes left."""
    now = time.time()
    entries = sorted(_entries(directory, now))
    total = sum(entry.size for entry in entries)
    for entry in entries:
        if total <= limit or entry.used > now - GRACE_SECONDS:
            return
        # The digest goes first: what is left of an entry must not look whole.
        _digest_path(entry.path).unlink(missing_ok=True)
        entry.path.unlink(missing_ok=True)
        total -= entry.size


def _entries(directory: Path, now: float) -> Iterator[_Entry]:
    with os.scandir(directory) as found:
        for one in found:
            with suppress(FileNotFoundError):  # another process evicts, too
                status = one.stat(follow_symlinks=False)
                if one.name.startswith(_TEMPORARY_PREFIX):
                    if status.st_mtime < now - ABANDONED_SECONDS:
                        Path(one.path).unlink(missing_ok=True)
                elif _ENTRY_NAME.fullmatch(one.name):
                    yield _Entry(used=status.st_mtime, size=status.st_size, path=Path(one.path))
