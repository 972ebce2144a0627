"""lucet.compile.cache: found again, never stale, never damaged, never somebody else's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import lucet
from lucet.abi.artifact_reader import read_artifact
from lucet.compile import cache, driver
from lucet.compile.cache import cache_directory, cache_key, cache_size, cached_compile
from lucet.compile.options import Options
from lucet.errors import LucetError, Malformed

WASM = bytes.fromhex("0061736d010000000105016000017f03020100070501016600000a06010400412a0b")


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("LUCET_CACHE_SIZE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LUCET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was compiled: a stand-in for the compiler notes it, and answers 1000 bytes that begin with the module."""
    calls: list[bytes] = []

    def compile_module(wasm: bytes, options: Options, *, progress: Callable[[int, int], None] | None = None) -> bytes:
        calls.append(wasm)
        if progress is not None:
            progress(1, 1)
        return wasm.ljust(1000, b"\0")

    monkeypatch.setattr(driver, "compile_module", compile_module)
    return calls


def grow_old(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_the_real_compiler() -> None:
    path = cached_compile(WASM)
    info = read_artifact(path.read_bytes())
    assert [row["name"] for row in info.exports] == ["f"]
    before = path.stat().st_ino
    assert cached_compile(WASM) == path
    assert path.stat().st_ino == before, "compiled again"


def test_a_second_time_comes_from_the_cache(compiled: list[bytes], directory: Path) -> None:
    first = cached_compile(b"one")
    files = sorted(directory.iterdir())
    assert cached_compile(b"one") == first
    assert compiled == [b"one"]
    assert first.read_bytes().startswith(b"one")
    assert sorted(directory.iterdir()) == files
    assert [path.suffix for path in files] == [".sha256", ".so"]


def test_a_hit_does_not_import_the_compiler(compiled: list[bytes]) -> None:
    cached_compile(b"one")
    program = (
        "import sys\nfrom lucet.compile.cache import cached_compile\ncached_compile(b'one')\n"
        "assert 'lucet.compile.driver' not in sys.modules and 'llvmlite' not in sys.modules\n"
    )
    source = str(Path(lucet.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": source}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)


def test_progress_is_handed_on(compiled: list[bytes]) -> None:
    seen: list[tuple[int, int]] = []
    cached_compile(b"one", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]


def test_errors_are_not_kept(directory: Path) -> None:
    for _ in range(2):
        with pytest.raises(Malformed):
            cached_compile(b"not a module")
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncate", "change", "no digest", "no artifact", "other digest", "binary digest"])
def test_a_damaged_entry_is_compiled_again(compiled: list[bytes], damage: str) -> None:
    path = cached_compile(b"one")
    good = path.read_bytes()
    digest = path.with_suffix(".sha256")
    match damage:
        case "truncate":
            path.write_bytes(good[:-1])
        case "change":
            path.write_bytes(b"x" + good[1:])
        case "no digest":
            digest.unlink()
        case "no artifact":
            path.unlink()
        case "other digest":
            digest.write_text("0" * 64)
        case "binary digest":
            digest.write_bytes(b"\xff\xfe")
    assert cached_compile(b"one") == path
    assert compiled == [b"one", b"one"]
    assert path.read_bytes() == good
    cached_compile(b"one")
    assert len(compiled) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"opt_level": "fast"}, {"opt_level": "default"}),
        ({"target_cpu": "x86-64-v2"}, {"target_cpu": "x86-64-v3"}),
        ({"target_cpu": "native"}, {"target_cpu": "x86-64-v3"}),
        ({"bounds": "guard"}, {"bounds": "explicit"}),
    ],
)
def test_options_that_matter_are_in_the_key(one: dict[str, str], other: dict[str, str]) -> None:
    assert cache_key(WASM, Options(**one)) != cache_key(WASM, Options(**other))  # type: ignore[arg-type]


def test_options_that_do_not_matter_are_not_in_the_key() -> None:
    plain = cache_key(WASM, Options())
    assert plain == cache_key(WASM, Options(workers=1, worker_memory=1 << 30, worker_seconds=5))
    assert plain == cache_key(WASM, Options(opt_level="2"))
    assert plain != cache_key(WASM + b"\0", Options())


@pytest.mark.parametrize("what", ["_compiler_digest", "_llvmlite_version"])
def test_another_compiler_has_other_keys(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    before = cache_key(WASM, Options())
    monkeypatch.setattr(cache, what, lambda: "another")
    assert cache_key(WASM, Options()) != before


def test_another_cpu_matters_for_native_only(monkeypatch: pytest.MonkeyPatch) -> None:
    native, plain = Options(target_cpu="native"), Options()
    before = cache_key(WASM, native), cache_key(WASM, plain)
    monkeypatch.setattr(cache, "_this_cpu", lambda: "another")
    assert cache_key(WASM, native) != before[0]
    assert cache_key(WASM, plain) == before[1]


def test_the_versions_are_known() -> None:
    assert version("llvmlite") in cache._llvmlite_version()
    assert "flags" in cache._this_cpu()


def test_the_directory_is_private(compiled: list[bytes], directory: Path) -> None:
    cached_compile(b"one")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in directory.iterdir()} == {0}


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777, 0o702])
def test_a_directory_open_to_others_is_refused(compiled: list[bytes], directory: Path, mode: int) -> None:
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(PermissionError, match="other users can write") as caught:
        cached_compile(b"one")
    assert caught.value.filename == str(directory)
    assert (compiled, list(directory.iterdir())) == ([], [])


def test_a_directory_of_another_user_is_refused(
    compiled: list[bytes], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir(mode=0o700)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        cached_compile(b"one")
    assert compiled == []


def test_a_file_in_the_way(directory: Path, compiled: list[bytes]) -> None:
    directory.write_text("a file")
    with pytest.raises(FileExistsError):
        cached_compile(b"one")
    assert compiled == []


def test_the_longest_unused_go_first(compiled: list[bytes], directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCET_CACHE_SIZE", "3K")
    paths = {name: cached_compile(name.encode()) for name in "abc"}
    for age, name in enumerate("cba"):
        grow_old(paths[name], 1000 * (age + 1))
    assert cached_compile(b"a") == paths["a"]  # a, the oldest, is used again
    paths["d"] = cached_compile(b"d")
    left = {name for name, path in paths.items() if path.exists()}
    assert left == {"a", "c", "d"}
    assert len(list(directory.iterdir())) == 2 * len(left), "a digest was left behind"
    assert compiled == [b"a", b"b", b"c", b"d"]


def test_what_was_just_used_stays(compiled: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCET_CACHE_SIZE", "0")
    first, second = cached_compile(b"one"), cached_compile(b"two")
    assert first.exists() and second.exists()
    grow_old(first, cache.GRACE_SECONDS + 1)
    cached_compile(b"three")
    assert second.exists() and not first.exists()


def test_files_of_others_stay(compiled: list[bytes], directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCET_CACHE_SIZE", "0")
    directory.mkdir(mode=0o700)
    strange = directory / "notes.so"
    strange.write_text("mine")
    abandoned, current = directory / ".new-abandoned", directory / ".new-current"
    for path in (abandoned, current):
        path.write_text("")
    for path in (strange, abandoned):
        grow_old(path, cache.ABANDONED_SECONDS + 1)
    cached_compile(b"one")
    assert strange.exists() and current.exists()
    assert not abandoned.exists()


def test_a_failed_write_leaves_nothing(compiled: list[bytes], directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        cached_compile(b"one")
    assert list(directory.iterdir()) == []


def test_many_processes_at_once(compiled: list[bytes], directory: Path) -> None:
    """They compile, damage, evict and find the same few entries; every path that they get leads to a whole artifact."""
    program = (
        "import random, sys\n"
        "from lucet.compile import cache, driver\n"
        "driver.compile_module = lambda wasm, options, progress=None: wasm * 20_000\n"
        "cache.GRACE_SECONDS = 2\n"
        "rng = random.Random(int(sys.argv[1]))\n"
        "for _ in range(60):\n"
        "    wasm = bytes([rng.randrange(6)]) * 10\n"
        "    path = cache.cached_compile(wasm)\n"
        "    assert path.read_bytes() == wasm * 20_000\n"
        "    if rng.randrange(5) == 0:\n"
        "        path.with_suffix('.sha256').unlink(missing_ok=True)\n"
    )
    source = str(Path(lucet.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": source, "LUCET_CACHE_SIZE": "500K"}
    processes = [subprocess.Popen([sys.executable, "-c", program, str(seed)], env=environment) for seed in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert not list(directory.glob(".new-*"))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LUCET_CACHE_DIR": "/own/place"}, "/own/place"),
        ({"LUCET_CACHE_DIR": "/own/place", "XDG_CACHE_HOME": "/xdg"}, "/own/place"),
        ({"LUCET_CACHE_DIR": "", "XDG_CACHE_HOME": "/xdg"}, "/xdg/lucet"),
        ({"LUCET_CACHE_DIR": "", "XDG_CACHE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.cache/lucet"),
        ({"LUCET_CACHE_DIR": "", "HOME": "/home/me"}, "/home/me/.cache/lucet"),
    ],
)
def test_where_it_is(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_directory() == Path(expected)


def test_a_user_without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LUCET_CACHE_DIR")
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(FileNotFoundError, match="LUCET_CACHE_DIR"):
        cache_directory()


@pytest.mark.parametrize(
    ("text", "expected"), [("", 1 << 30), ("0", 0), ("12345", 12345), ("3k", 3072), ("2M", 2 << 20), ("1G", 1 << 30)]
)
def test_sizes(monkeypatch: pytest.MonkeyPatch, text: str, expected: int) -> None:
    monkeypatch.setenv("LUCET_CACHE_SIZE", text)
    assert cache_size() == expected


@pytest.mark.parametrize("text", ["-1", "1T", "many", "1.5G", " 1"])
def test_bad_sizes(monkeypatch: pytest.MonkeyPatch, text: str, compiled: list[bytes]) -> None:
    monkeypatch.setenv("LUCET_CACHE_SIZE", text)
    with pytest.raises(LucetError, match="LUCET_CACHE_SIZE must be a number"):
        cached_compile(b"one")
    assert compiled == []
