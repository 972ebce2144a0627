"""`lucet run`, `lucetc` and `lucet-wasi` on programs that work, exit, trap, are interrupted and lose their reader."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli import programs
from tests.cli.programs import HELLO, Lucet

Guest = subprocess.Popen[bytes]


def test_arguments_and_environment_reach_the_guest(lucet: Lucet) -> None:
    outcome = lucet("run", "--env", "NAME=you", HELLO, "--env", "-x", "--", "last one")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr == b""
    assert outcome.stdout.decode().splitlines() == [
        "hello, you, from WebAssembly compiled to native code",
        "argument 1: --env",
        "argument 2: -x",
        "argument 3: --",
        "argument 4: last one",
        "78498 primes are below 1000000",
    ]


def test_the_host_environment_does_not(lucet: Lucet, environment: dict[str, str]) -> None:
    assert b"hello, world," in lucet("run", HELLO, env={**environment, "NAME": "secret"}).stdout


@pytest.mark.parametrize("status", [0, 1, 7, 255, 256, 300, -1])
def test_exit_status_is_the_guests_modulo_256(lucet: Lucet, tmp_path: Path, status: int) -> None:
    (tmp_path / "exits.wasm").write_bytes(programs.exits_with(status))
    outcome = lucet("run", "exits.wasm")
    assert outcome.returncode == status & 0xFF
    assert outcome.stderr == b""


def test_an_exception_that_nobody_catches(lucet: Lucet, tmp_path: Path) -> None:
    body = '(func $main (export "_start") (throw $e (i32.const 3)))'
    text = f'(module (tag $e (param i32)) (memory (export "memory") 1) {body})'
    (tmp_path / "throws.wat").write_text(text)
    outcome = lucet("run", "throws.wat")
    assert outcome.returncode == 134
    assert re.fullmatch(
        r"lucet run: uncaught exception \(3,\) with <Tag \('i32',\)> in main at offset 0x[0-9a-f]+\n"
        r"guest frames, innermost first:\n  #0 main at offset 0x[0-9a-f]+\n",
        outcome.stderr.decode(),
    )


def test_a_trap_says_what_and_where(lucet: Lucet, tmp_path: Path) -> None:
    wasm = programs.traps()
    (tmp_path / "traps.wasm").write_bytes(wasm)
    outcome = lucet("run", "traps.wasm")
    offset = wasm.index(programs.UNREACHABLE + programs.END)
    assert outcome.returncode == 134
    first, *frames = outcome.stderr.decode().splitlines()
    assert first == f"lucet run: trap: unreachable in the_culprit at offset {offset:#x}"
    assert frames[:2] == ["guest frames, innermost first:", f"  #0 the_culprit at offset {offset:#x}"]


def test_fuel(lucet: Lucet, tmp_path: Path) -> None:
    text = '(module (memory (export "memory") 1) (func $spin (export "_start") (loop (br 0))))'
    (tmp_path / "spins.wat").write_text(text)
    outcome = lucet("run", "--fuel", "1000000", "spins.wat")
    assert outcome.returncode == 134
    assert outcome.stderr.decode().startswith("lucet run: trap: out of fuel in spin at offset 0x")
    assert lucet("run", "--fuel", "100000000000", HELLO).returncode == 0
    assert lucet("compile", "--count-instructions", "spins.wat", "-o", "counting.so").returncode == 0
    assert b"out of fuel" in lucet("run", "--fuel", "10", "counting.so").stderr


def test_fuel_for_an_artifact_that_does_not_count(lucet: Lucet) -> None:
    assert lucet("compile", HELLO, "-o", "hello.so").returncode == 0
    outcome = lucet("run", "--fuel", "10", "hello.so")
    assert outcome.returncode == 1
    assert outcome.stderr == b"lucet run: error: hello.so: the module was compiled without count_instructions\n"


def test_text_is_assembled(lucet: Lucet, tmp_path: Path) -> None:
    (tmp_path / "exits.wat").write_text(
        f'(module (import "{programs.WASI}" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1)'
        ' (func (export "_start") (call $exit (i32.const 42))))'
    )
    assert lucet("run", "exits.wat").returncode == 42


def test_compile_then_run_the_artifact(lucet: Lucet, tmp_path: Path) -> None:
    assert lucet("compile", HELLO).returncode == 0
    for command in (["run"], ["run", "--no-cache"]):
        outcome = lucet(*command, "hello.so", "one")
        assert b"argument 1: one\n" in outcome.stdout, outcome.stderr


def test_lucet_wasi_runs_an_artifact(lucet: Lucet, tmp_path: Path, environment: dict[str, str]) -> None:
    assert lucet("compile", HELLO, "-o", "hello.so").returncode == 0
    code = "import sys; from lucet.cli.wasi import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--env", "NAME=it", "hello.so"]
    outcome = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=True)
    assert b"hello, it," in outcome.stdout


def test_the_same_input_gives_the_same_bytes(lucet: Lucet, tmp_path: Path) -> None:
    for name, jobs in (("a.so", "1"), ("b.so", "2")):
        assert lucet("compile", HELLO, "-o", name, "-j", jobs).returncode == 0
    assert (tmp_path / "a.so").read_bytes() == (tmp_path / "b.so").read_bytes()


@pytest.mark.parametrize(
    ("emit", "suffix", "contains"), [("ir", ".ll", b"define "), ("asm", ".s", b".text"), ("obj", ".o", b"\x7fELF")]
)
def test_emit(lucet: Lucet, tmp_path: Path, emit: str, suffix: str, contains: bytes) -> None:
    outcome = lucet("compile", HELLO, "--emit", emit)
    assert outcome.returncode == 0, outcome.stderr
    assert contains in (tmp_path / f"hello{suffix}").read_bytes()


def test_output_to_standard_output(lucet: Lucet, tmp_path: Path) -> None:
    to_file, to_stdout = lucet("compile", HELLO, "-o", "hello.so"), lucet("compile", HELLO, "-o", "-")
    assert to_file.returncode == to_stdout.returncode == 0
    assert to_stdout.stdout == (tmp_path / "hello.so").read_bytes()


def test_output_that_is_no_regular_file_is_not_replaced(lucet: Lucet) -> None:
    before = Path("/dev/null").stat()
    assert lucet("compile", HELLO, "-o", "/dev/null").returncode == 0
    assert Path("/dev/null").stat().st_ino == before.st_ino


def test_the_second_run_comes_from_the_cache(lucet: Lucet, environment: dict[str, str], tmp_path: Path) -> None:
    environment["LUCET_CACHE_DIR"] = str(tmp_path / "own-cache")
    assert lucet("run", HELLO, env=environment).returncode == 0
    kept = sorted(path for path in (tmp_path / "own-cache").rglob("*") if path.is_file())
    assert kept
    # Without LLVM in reach, only the cache can serve it.
    blocked = tmp_path / "blocked" / "llvmlite"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise SystemExit('llvmlite was imported')\n")
    environment["PYTHONPATH"] = os.pathsep.join([str(blocked.parent), environment.get("PYTHONPATH", "")])
    assert lucet("run", HELLO, env=environment).returncode == 0
    assert sorted(path for path in (tmp_path / "own-cache").rglob("*") if path.is_file()) == kept


def test_no_cache_leaves_nothing(lucet: Lucet, environment: dict[str, str], tmp_path: Path) -> None:
    environment["LUCET_CACHE_DIR"] = str(tmp_path / "own-cache")
    assert lucet("run", "--no-cache", HELLO, env=environment).returncode == 0
    assert not list((tmp_path / "own-cache").rglob("*"))


def start(
    tmp_path: Path,
    environment: dict[str, str],
    wasm: bytes,
    stdout: int | None = None,
    on_interrupt: signal.Handlers = signal.SIG_DFL,
) -> Guest:
    """on_interrupt: what the process inherits, whatever the tests themselves were started with."""
    (tmp_path / "guest.wasm").write_bytes(wasm)
    return subprocess.Popen(
        [sys.executable, "-m", "lucet", "run", "guest.wasm"],
        cwd=tmp_path,
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, on_interrupt),  # noqa: PLW1509  there are no threads
    )


def test_interrupt_ends_a_guest_that_runs_forever(tmp_path: Path, environment: dict[str, str]) -> None:
    with start(tmp_path, environment, programs.runs_forever()) as process:
        time.sleep(2)  # until the guest runs; an earlier signal must give the same result
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == -signal.SIGINT  # a shell shows 130
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_an_interrupt_that_is_ignored_stays_so(tmp_path: Path, environment: dict[str, str]) -> None:
    with start(tmp_path, environment, programs.prints_forever(), subprocess.PIPE, signal.SIG_IGN) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"y\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read(1_000_000).count(b"y") == 500_000
        process.kill()


def test_no_compiler_process_waits_while_the_guest_runs(tmp_path: Path, environment: dict[str, str]) -> None:
    with start(tmp_path, environment, programs.prints_forever(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"y\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        process.kill()
    assert children == ""


def test_a_lost_reader_ends_the_guest(tmp_path: Path, environment: dict[str, str]) -> None:
    with start(tmp_path, environment, programs.prints_forever(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(timeout=10) == -signal.SIGPIPE
        assert process.stderr.read() == b""


def test_standard_output_that_is_closed_from_the_start(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "exits.wasm").write_bytes(programs.exits_with(3))
    command = f'exec "{sys.executable}" -m lucet run exits.wasm >&- 2>&-'
    outcome = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, timeout=60, check=False)
    assert outcome.returncode == 3


def test_progress_only_on_a_terminal_and_only_when_slow(environment: dict[str, str], tmp_path: Path) -> None:
    code = """
import time
from lucet.cli import progress
progress.DELAY = 0.05
with progress.Progress("big.wasm") as report:
    report(0, 4)
    time.sleep(0.1)
    report(1, 4)
"""
    leader, follower = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stderr=follower, env=environment, timeout=60, check=True)
    os.close(follower)
    shown = os.read(leader, 1000).decode()
    os.close(leader)
    assert shown.count("compiling") == 1
    assert "compiling big.wasm: 25 %" in shown
    assert shown.endswith("\r\x1b[K")
    piped = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, env=environment, timeout=60, check=True
    )
    assert piped.stderr == b""


def test_a_bug_shows_its_traceback_only_when_asked(environment: dict[str, str]) -> None:
    code = "import sys; from lucet.cli.common import guarded; sys.exit(guarded('lucet', lambda _: 1 // 0, []))"
    command = [sys.executable, "-c", code]
    quiet = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert quiet.returncode == 1
    assert quiet.stderr.startswith(b"lucet: error: internal error: ZeroDivisionError")
    assert quiet.stderr.count(b"\n") == 1
    loud = subprocess.run(
        command, env={**environment, "LUCET_DEBUG": "1"}, capture_output=True, timeout=60, check=False
    )
    assert b"Traceback" in loud.stderr


def test_without_a_usable_cache_it_runs_all_the_same(lucet: Lucet, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    outcome = lucet("run", HELLO, env={**environment, "LUCET_CACHE_DIR": str(tmp_path / "file")})
    assert outcome.returncode == 0
    assert outcome.stderr == b""
    assert outcome.stdout.startswith(b"hello")
