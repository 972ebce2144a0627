"""The worker processes: what happens when they, their input or their parent fail; the same bytes whoever compiles."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lucet
from lucet.compile import chunks, pool, wire
from lucet.compile.driver import compile_module
from lucet.compile.layout import make_plan
from lucet.compile.options import Options
from lucet.errors import CompileError, CompilerFailed, Invalid, LimitExceeded, Malformed
from lucet.wasm.decode import decode_module
from lucet.wasm.text import text_to_binary

FUNCTION = "(func (param i32) (result i32) (i32.add (local.get 0) (i32.const {})))"


def module_text(functions: int) -> str:
    return f"(module {' '.join(FUNCTION.format(n) for n in range(functions))})"


def job_of(wasm: bytes, options: Options, *, chunk_size: int = 100) -> tuple[wire.Job, list[chunks.Chunk]]:
    module = decode_module(wasm)
    plan = make_plan(module, options)
    job = wire.Job(wasm=wasm, plan=plan, options=options, emit="obj")
    return job, chunks.make_chunks(module, plan, chunk_size=chunk_size)


def slow_module() -> bytes:
    """Takes seconds at any level that optimises: as much of everything as a function may have that is optimised."""
    step = "(local.set 0 (i32.mul (local.get 0) (i32.xor (i32.load (local.get 0)) (i32.const 3))))"
    block = f"(block (br_if 0 (local.get 0)) {step * 1000})"
    return text_to_binary(f"(module (memory 1) (func (param i32) {block * 28}) {FUNCTION.format(1)})")


@pytest.fixture(scope="module")
def slow() -> bytes:
    return slow_module()


@pytest.fixture
def fresh_pool() -> Iterator[pool._Pool]:
    """The pool, empty before and after."""
    pool._POOL.stop()
    yield pool._POOL
    pool._POOL.stop()


def worker_pids() -> list[int]:
    return [worker._process.pid for worker in pool._POOL._all]


def when_busy(action: object, *, count: int = 1) -> threading.Thread:
    """Call action(pids) in a thread as soon as `count` workers have used a second of CPU time."""

    def watch() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            busy = [pid for pid in worker_pids() if cpu_seconds(pid) > 0.5]
            if len(busy) >= count:
                action(busy)  # type: ignore[operator]
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- the ordinary case


def test_order_and_reuse(fresh_pool: pool._Pool) -> None:
    job, parts = job_of(text_to_binary(module_text(20)), Options(opt_level="none"))
    assert len(parts) > 8
    objects = pool.compile_chunks(job, parts)
    for position, (one, part) in enumerate(zip(objects, parts, strict=True)):
        assert one.startswith(b"\x7fELF")
        names = {b"f%d\0" % function for function in range(part.start, part.stop)}
        assert all(name in one for name in names), f"chunk {position} has other functions"
    pids = worker_pids()
    assert 1 <= len(pids) <= pool.available_cpus()
    assert pool.compile_chunks(job, parts) == objects
    assert worker_pids() == pids


def test_a_small_module_starts_one_worker(fresh_pool: pool._Pool) -> None:
    lucet.compile(text_to_binary(module_text(3)))
    assert len(worker_pids()) == 1


def test_progress() -> None:
    job, parts = job_of(text_to_binary(module_text(20)), Options(opt_level="none"))
    seen: list[tuple[int, int]] = []
    pool.compile_chunks(job, parts, lambda done, total: seen.append((done, total)))
    total = sum(part.size for part in parts)
    assert [one for _, one in seen] == [total] * (len(parts) + 1)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert (seen[0][0], seen[-1][0]) == (0, total)


def test_an_error_in_progress_is_the_callers(fresh_pool: pool._Pool) -> None:
    job, parts = job_of(text_to_binary(module_text(20)), Options(opt_level="none"))

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.compile_chunks(job, parts, stop)
    assert all(part.startswith(b"\x7fELF") for part in pool.compile_chunks(job, parts))


# ---- invalid input


def broken_module(*positions: int) -> bytes:
    """Functions that return an i64 as an i32, at these indices."""
    functions = [FUNCTION.format(n) for n in range(20)]
    for position in positions:
        functions[position] = f"(func (param i32) (result i32) {'(nop)' * (40 - position)} (i64.const 1))"
    return text_to_binary(f"(module {' '.join(functions)})")


@pytest.mark.parametrize("positions", [(0,), (19,), (3, 4), (19, 2, 11)])
def test_the_first_invalid_function_is_reported(positions: tuple[int, ...]) -> None:
    job, parts = job_of(broken_module(*positions), Options(opt_level="none"))
    for _ in range(3):
        with pytest.raises(Invalid, match="type mismatch") as caught:
            pool.compile_chunks(job, parts)
        assert caught.value.function == min(positions)
        assert caught.value.offset is not None


def test_malformed_code() -> None:
    wasm = bytearray(text_to_binary("(module (func (drop (i32.const 1))))"))
    wasm[-2] = 0xFF  # the drop
    with pytest.raises(Malformed) as caught:
        lucet.compile(bytes(wasm))
    assert caught.value.offset == len(wasm) - 2


# ---- workers that die


def test_a_dead_worker_is_an_error_that_names_functions_and_signal(fresh_pool: pool._Pool, slow: bytes) -> None:
    job, parts = job_of(slow, Options())
    thread = when_busy(lambda pids: os.kill(pids[0], signal.SIGSEGV))
    with pytest.raises(CompilerFailed, match=r"a compiler process died compiling function 0: SIGSEGV"):
        pool.compile_chunks(job, parts)
    thread.join()
    assert not [pid for pid in worker_pids() if not Path(f"/proc/{pid}").exists()]
    lucet.compile(text_to_binary(module_text(1)))


def test_an_idle_worker_that_died_is_replaced(fresh_pool: pool._Pool) -> None:
    wasm = text_to_binary(module_text(1))
    expected = lucet.compile(wasm)
    (pid,) = worker_pids()
    os.kill(pid, signal.SIGKILL)
    while fresh_pool._idle[0].alive:
        time.sleep(0.01)
    assert lucet.compile(wasm) == expected
    assert pid not in worker_pids()


def test_time_limit(fresh_pool: pool._Pool, slow: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(LimitExceeded, match=r"function 0: compiling takes more than worker_seconds, 1"):
        compile_module(slow, Options(worker_seconds=1))
    assert time.monotonic() - started < 30


def test_memory_limit(fresh_pool: pool._Pool, slow: bytes) -> None:
    with pytest.raises(LimitExceeded, match=r"function 0: compiling needs more than worker_memory, 262144000 bytes"):
        compile_module(slow, Options(worker_memory=250 << 20))
    lucet.compile(text_to_binary(module_text(1)))


def test_llvm_aborts(fresh_pool: pool._Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker whose LLVM ends the process."""
    site = tmp_path / "sitecustomize.py"
    site.write_text("import lucet.compile.llvm as l, os\nl.compile_texts = lambda *a, **k: os.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CompilerFailed, match=r"functions 0 to 2: SIGABRT"):
        lucet.compile(text_to_binary(module_text(3)))


def test_an_internal_error_is_reported_and_the_worker_goes_on(
    fresh_pool: pool._Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = tmp_path / "sitecustomize.py"
    site.write_text("import lucet.compile.llvm as l\ndef f(*a, **k): raise KeyError('surprise')\nl.compile_texts = f\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for _ in range(2):
        with pytest.raises(CompilerFailed, match=r"internal error in the compiler: (.|\n)*KeyError: 'surprise'"):
            lucet.compile(text_to_binary(module_text(1)))
    assert len(worker_pids()) == 1


def test_python_cannot_be_started(fresh_pool: pool._Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(CompilerFailed, match="cannot start a compiler process"):
        lucet.compile(text_to_binary(module_text(1)))


# ---- threads, fork, signals, exit


def test_threads_share_the_pool(fresh_pool: pool._Pool) -> None:
    texts = [text_to_binary(module_text(count)) for count in range(1, 9)]
    expected = [lucet.compile(wasm, opt_level="none") for wasm in texts]
    results: list[bytes | None] = [None] * len(texts)

    def run(index: int) -> None:
        results[index] = lucet.compile(texts[index], opt_level="none")

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == expected
    assert len(worker_pids()) <= pool.available_cpus()


def test_levels_take_turns(fresh_pool: pool._Pool) -> None:
    """Each worker is set up for one level, and there may be fewer of them than levels."""
    wasm = text_to_binary(module_text(2))
    first = {level: lucet.compile(wasm, opt_level=level) for level in ("none", "fast", "default", "best")}
    for level, expected in first.items():
        assert lucet.compile(wasm, opt_level=level) == expected
    assert len(worker_pids()) <= pool.available_cpus()


def run_script(text: str, *, kill_after: float | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a script in a new session; with kill_after, its process group gets SIGINT, as by Ctrl-C."""
    path = os.pathsep.join([str(Path(lucet.__file__).parent.parent), str(Path.cwd())])
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    ) as process:
        if kill_after is not None:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(kill_after)
            os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_ctrl_c_ends_the_workers() -> None:
    done = run_script(
        """
        import sys, os, time
        from tests.compile.test_pool import slow_module
        import lucet
        from lucet.compile.pool import _POOL
        wasm = slow_module()
        print("ready", flush=True)
        try:
            lucet.compile(wasm)
        except KeyboardInterrupt:
            assert _POOL._all == set(_POOL._idle)
            print("interrupted")
        """,
        kill_after=1.5,
    )
    assert done.stdout == "interrupted\n"
    assert done.stderr == ""


def test_a_forked_child_has_a_pool_of_its_own() -> None:
    done = run_script(
        """
        import os, sys, lucet
        from lucet.compile import pool
        from lucet.wasm.text import text_to_binary
        from tests.compile.test_pool import worker_pids
        wasm = text_to_binary("(module (func))")
        expected = lucet.compile(wasm)
        before = worker_pids()
        child = os.fork()
        if not child:
            assert worker_pids() == []
            assert lucet.compile(wasm) == expected
            assert worker_pids() and not set(worker_pids()) & set(before)
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert lucet.compile(wasm) == expected
        assert worker_pids() == before
        print("done")
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_workers_end_with_their_process() -> None:
    done = run_script(
        """
        import lucet
        from lucet.wasm.text import text_to_binary
        from tests.compile.test_pool import worker_pids
        lucet.compile(text_to_binary("(module (func))"))
        print(*worker_pids())
        """
    )
    assert done.stderr == ""
    (pid,) = map(int, done.stdout.split())
    assert not Path(f"/proc/{pid}").exists()


def test_workers_end_when_their_process_is_killed() -> None:
    done = run_script(
        """
        import lucet, os, signal
        from lucet.wasm.text import text_to_binary
        from tests.compile.test_pool import worker_pids
        lucet.compile(text_to_binary("(module (func))"))
        print(*worker_pids(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    (pid,) = map(int, done.stdout.split())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_no_descriptors_leak(fresh_pool: pool._Pool) -> None:
    wasm = text_to_binary(module_text(1))
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(2):
        lucet.compile(wasm)
        fresh_pool.stop()
    assert set(os.listdir("/proc/self/fd")) == before
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > 0, "the workers were waited for"


# ---- the same bytes


def test_the_same_bytes_for_any_hash_seed_directory_and_number_of_workers(tmp_path: Path) -> None:
    text = """
        import hashlib, os, sys
        from lucet.compile import chunks
        from lucet.compile.driver import compile_module
        from lucet.compile.options import Options
        from lucet.wasm.text import text_to_binary
        os.chdir(sys.argv[1])
        chunks.make_chunks.__kwdefaults__["chunk_size"] = 300
        functions = " ".join(
            f'(func $f{n} (export "f{n}") (param i32) (result i32) (call $f{(n * 7 + 1) % 40} (call $i (local.get 0))))'
            for n in range(40)
        )
        wasm = text_to_binary(
            '(module (import "m" "f" (func $i (param i32) (result i32))) (memory 1) (data (i32.const 7) "abc")'
            '(table 9 funcref) (elem (i32.const 1) $f3 $i $f5) (global (export "g") (mut i64) (i64.const 5))'
            + functions + ')'
        )
        print(hashlib.sha256(compile_module(wasm, Options(workers=int(sys.argv[2])))).hexdigest())
        """
    digests = set()
    for seed, workers, directory in (("0", "1", "/"), ("1", "2", str(tmp_path)), ("12345", "2", "/tmp")):
        command = [sys.executable, "-c", textwrap.dedent(text), directory, workers]
        path = str(Path(lucet.__file__).resolve().parent.parent)
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        digests.add(subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60).stdout)
    assert len(digests) == 1
    assert len(digests.pop()) == 2 * hashlib.sha256().digest_size + 1


def test_chunks_depend_on_the_module_alone() -> None:
    module = decode_module(text_to_binary(module_text(50)))
    plan = make_plan(module, Options(workers=1))
    parts = chunks.make_chunks(module, plan, chunk_size=500)
    assert parts == chunks.make_chunks(module, make_plan(module, Options(workers=7)), chunk_size=500)
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert (parts[0].start, parts[-1].stop) == (0, 50)
    assert [part.runtime for part in parts] == [True, *[False] * (len(parts) - 1)]
    assert len(chunks.make_chunks(decode_module(text_to_binary("(module)")), plan)) == 1


# ---- the wire


def test_errors_travel() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as replies, os.fdopen(write, "wb", buffering=0) as requests:
        errors: list[CompileError] = [
            Invalid("type mismatch", offset=7, function=3),
            Malformed("unexpected end", offset=None, function=None),
            CompilerFailed("it broke"),
        ]
        for error in errors:
            wire.reply(requests, error)
            with pytest.raises(type(error)) as caught:
                wire.read_reply(replies)
            assert str(caught.value) == str(error)
            assert vars(caught.value) == vars(error)
        wire.reply(requests, b"object")
        assert wire.read_reply(replies) == b"object"
        requests.write((1000).to_bytes(8, "little") + b"o only a part")
        requests.close()
        assert wire.read_reply(replies) is None
