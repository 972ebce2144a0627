"""lucet.Sandbox: what a program may use, what becomes of one that wants more, and several at once."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import lucet
from lucet.wasi import FixedClock, MemoryFiles, SeededRandom

WASI = """
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1 4000)
  (func $write (param $fd i32) (param $at i32) (param $size i32) (result i32)
    (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $size))
    (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))"""

PROGRAMS = {
    "cat": """(func (export "_start")
      (block $end (loop $again
        (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 60000))
        (br_if $end (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $end (i32.eqz (i32.load (i32.const 8))))
        (drop (call $write (i32.const 1) (i32.const 1024) (i32.load (i32.const 8))))
        (br $again))))""",
    "args": """(func (export "_start")
      (drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
      (drop (call $args_get (i32.const 1024) (i32.const 2048)))
      (drop (call $write (i32.const 1) (i32.const 2048) (i32.load (i32.const 20))))
      (call $proc_exit (i32.load (i32.const 16))))""",
    "spin": '(func (export "_start") (loop $again (br $again)))',
    "spin and yield": '(func (export "_start") (loop $again (drop (call $yield)) (br $again)))',
    "start and yield": """(func $start (drop (call $yield))) (start $start)
      (func (export "_start") (drop (call $yield)) (drop (call $yield)))""",
    "flood": """(func (export "_start")
      (loop $again (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 1000)))
        (drop (call $write (i32.const 2) (i32.const 1024) (i32.const 10))) (br $again)))""",
    "hoard": """(func (export "_start")
      (loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable)""",
    "deep": '(func $deep (export "_start") (call $deep) (call $deep))',
    "trap": '(func (export "_start") unreachable)',
    "fail": '(func (export "_start") (call $proc_exit (i32.const 3)))',
    "open": """(data (i32.const 512) "file") (func (export "_start")
      (call $proc_exit (call $path_open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 4)
        (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16))))""",
}


def program(name: str) -> bytes:
    return f"(module {WASI} {PROGRAMS[name]})".encode()


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCET_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "sandbox-cache"))


def test_one_line(tmp_path: Path) -> None:
    (tmp_path / "cat.wat").write_bytes(program("cat"))
    result = lucet.Sandbox(tmp_path / "cat.wat").run(stdin=b"some bytes" * 10_000)
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"some bytes" * 10_000, b"")
    assert (result.ok, result.limit, result.trap) == (True, None, None)
    usage = result.usage
    assert 0 < usage.cpu_time <= usage.wall_time + 0.1
    assert (usage.output, usage.memory, usage.fuel) == (100_000, 65536, None)
    assert usage.host_calls == 2 * 2 + 1  # 60,000 bytes at a time, and the end


def test_arguments_and_exit_codes() -> None:
    sandbox = lucet.Sandbox(program("args"))
    result = sandbox.run(["one", b"two"])
    assert (result.exit_code, result.stdout, result.ok) == (3, b"program\0one\0two\0", False)
    assert sandbox.run(name="tool").stdout == b"tool\0"
    assert lucet.Sandbox(program("fail")).run().limit is None


@pytest.mark.parametrize(
    ("name", "options", "limit"),
    [
        ("spin", {"time": 0.1}, "time"),
        ("spin", {"cpu_time": 0.05}, "cpu_time"),
        ("spin and yield", {"time": 0.1}, "time"),
        ("spin and yield", {"host_calls": 1000}, "host_calls"),
        ("spin and yield", {"host_calls": 0}, "host_calls"),
        ("start and yield", {"host_calls": 2}, "host_calls"),
        ("spin", {"fuel": 100_000}, "fuel"),
        ("flood", {}, "output"),
        ("flood", {"output": 0}, "output"),
        ("hoard", {}, "memory"),
        ("hoard", {"memory": 65536}, "memory"),
        ("deep", {}, "stack"),
        ("deep", {"stack": 10_000}, "stack"),
    ],
)
def test_limits(name: str, options: dict[str, float], limit: str) -> None:
    sandbox = lucet.Sandbox(program(name), **options)  # type: ignore[arg-type]
    for _ in range(2):
        result = sandbox.run()
        assert (result.exit_code, result.limit) == (None, limit)
        assert result.usage.output <= sandbox.output
        assert len(result.stdout) + len(result.stderr) == result.usage.output
        assert result.usage.memory <= sandbox.memory
        if limit == "output":
            assert result.usage.output == sandbox.output
        if limit == "memory":
            assert result.usage.memory > sandbox.memory - 65536
        if limit == "host_calls":
            assert result.usage.host_calls == sandbox.host_calls
        if limit == "fuel":
            assert result.usage.fuel == 100_001


def test_a_trap_is_no_limit() -> None:
    result = lucet.Sandbox(program("trap")).run()
    assert (result.exit_code, result.limit) == (None, None)
    assert isinstance(result.trap, lucet.Trap)
    assert result.trap.code == "UNREACHABLE"


def test_nothing_of_the_host_is_there(tmp_path: Path) -> None:
    badf, noent = 8, 44
    (tmp_path / "file").write_bytes(b"x")
    assert lucet.Sandbox(program("open")).run().exit_code == badf
    assert lucet.Sandbox(program("open"), files={}).run().exit_code == noent
    assert lucet.Sandbox(program("open"), files={"/file": b"x"}).run().exit_code == 0
    assert lucet.Sandbox(program("open"), preopens=[(tmp_path, "/")]).run().exit_code == 0
    sandbox = lucet.Sandbox(program("open"), files={})
    assert sandbox.run(files={"/file": b"y"}).exit_code == 0
    assert sandbox.run(files=MemoryFiles({"/file": b"y"})).exit_code == 0
    assert sandbox.run().exit_code == noent


def test_what_does_not_fit() -> None:
    with pytest.raises(lucet.LimitsExceeded, match="does not fit the sandbox"):
        lucet.Sandbox(program("cat"), memory=4096).run()
    with pytest.raises(ValueError, match="time must be"):
        lucet.Sandbox(program("cat"), time=0)
    with pytest.raises(ValueError, match="memory must be"):
        lucet.Sandbox(program("cat"), memory=0)
    with pytest.raises(lucet.Malformed):
        lucet.Sandbox(b"(module")
    with pytest.raises(FileNotFoundError):
        lucet.Sandbox("/there/is/no/such.wasm")


def test_many_threads_share_a_sandbox() -> None:
    sandbox = lucet.Sandbox(program("cat"))
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: sandbox.run(stdin=b"%d" % n).stdout, range(500)))
    assert results == [b"%d" % n for n in range(500)]
    assert all(region.used == 0 for region in sandbox._regions)


def test_more_at_once_than_a_region_has() -> None:
    sandbox = lucet.Sandbox(program("spin"), time=0.3)
    with ThreadPoolExecutor(80) as pool:
        results = list(pool.map(lambda _: sandbox.run().limit, range(80)))
    assert results == ["time"] * 80


def test_async_and_cancelled() -> None:
    async def main() -> None:
        cat, spin = lucet.Sandbox(program("cat")), lucet.Sandbox(program("spin"), time=60)
        results = await asyncio.gather(*(cat.run_async(stdin=b"%d" % n) for n in range(50)))
        assert [result.stdout for result in results] == [b"%d" % n for n in range(50)]
        task = asyncio.create_task(spin.run_async())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        end = time.monotonic() + 10
        while any(region.used for region in spin._regions):
            assert time.monotonic() < end
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_repeatable() -> None:
    sandbox = lucet.Sandbox(program("cat"), clock=FixedClock(), random=SeededRandom(1))
    assert sandbox.run(stdin=b"x").stdout == b"x"


def _child(sandbox: lucet.Sandbox, data: bytes) -> bytes:
    return sandbox.run(stdin=data).stdout


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_other_processes(method: str) -> None:
    sandbox = lucet.Sandbox(program("cat"))
    assert sandbox.run(stdin=b"here").stdout == b"here"
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(_child, [(sandbox, b"%d" % n) for n in range(10)]) == [b"%d" % n for n in range(10)]


def test_modules_are_pickled(tmp_path: Path) -> None:
    artifact = lucet.compile(program("cat").decode())
    (tmp_path / "cat.so").write_bytes(artifact)
    for module in (lucet.Module.from_bytes(artifact), lucet.Module.load(tmp_path / "cat.so")):
        again = pickle.loads(pickle.dumps(module))
        assert again.source_digest == module.source_digest
        assert lucet.Sandbox(again).run(stdin=b"x").stdout == b"x"
    assert lucet.Sandbox(os.fspath(tmp_path / "cat.so")).run(stdin=b"y").stdout == b"y"
    assert lucet.Sandbox(artifact).run(stdin=b"z").stdout == b"z"
