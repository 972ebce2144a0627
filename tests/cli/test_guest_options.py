"""The options that say what a guest is given, and its bounds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.programs import WASI, Lucet

ECHO = r"""(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\00\01\00\00\00\01\00\00")
  (func (export "_start") ;; standard input to standard output and error
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 32)))))"""

ENVIRON = r"""(module
  (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 0) "\00\00\02\00")
  (func (export "_start")
    (drop (call $sizes (i32.const 8) (i32.const 4)))
    (drop (call $get (i32.const 64) (i32.const 0x20000)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"""

CREATE = f"""(module
  (import "{WASI}" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "{WASI}" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "new")
  (func (export "_start")
    (call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 1)
      (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 8)))))"""

ACCEPT = f"""(module
  (import "{WASI}" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "{WASI}" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\05\\00\\00\\00")
  (data (i32.const 16) "hello")
  (func (export "_start")
    (if (call $accept (i32.const 3) (i32.const 0) (i32.const 8)) (then unreachable))
    (if (call $send (i32.load (i32.const 8)) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 12))
      (then unreachable))))"""

FUNCTIONS = """(module
  (global $started (mut i32) (i32.const 0))
  (memory (export "memory") 1)
  (func (export "_initialize") (global.set $started (i32.const 1)))
  (func (export "started") (result i32) (global.get $started))
  (func (export "nothing"))
  (func (export "both") (param i32 i64 f32 f64) (result i32 i64 f32 f64)
    (local.get 0) (local.get 1) (local.get 2) (local.get 3))
  (func (export "reference") (param externref))
  (func $deep (export "deep") (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
      (else (i32.const 0))))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "spin") (loop (br 0))))"""


@pytest.fixture
def wat(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "guest.wat").write_text(text)
        return "guest.wat"

    return write


def test_files_in_place_of_the_streams(lucet: Lucet, tmp_path: Path, wat: Callable[[str], str]) -> None:
    (tmp_path / "in").write_text("from a file")
    (tmp_path / "out").write_text("something longer than that")
    outcome = lucet("run", "--stdin", "in", "--stdout", "out", "--stderr", "err", wat(ECHO))
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, b"", b"")
    assert (tmp_path / "out").read_text() == (tmp_path / "err").read_text() == "from a file"


def test_both_outputs_in_one_file(lucet: Lucet, tmp_path: Path, wat: Callable[[str], str]) -> None:
    assert lucet("run", "--stdout", "all", "--stderr", "all", wat(ECHO), stdin=b"x").returncode == 0
    assert (tmp_path / "all").read_bytes() == b"xx"


@pytest.mark.parametrize("option", ["--stdin", "--stdout"])
def test_a_stream_that_cannot_be_opened(refuses: Callable[..., str], wat: Callable[[str], str], option: str) -> None:
    assert f"{option} nowhere/file: No such file or directory" in refuses("run", option, "nowhere/file", wat(ECHO))


def test_inherited_environment(lucet: Lucet, environment: dict[str, str], wat: Callable[[str], str]) -> None:
    given = {**environment, "FROM_HOST": "1", "CHANGED": "1"}
    name = wat(ENVIRON)
    assert b"FROM_HOST" not in lucet("run", name, env=given).stdout
    shown = lucet("run", "--inherit-env", "--env", "CHANGED=2", name, env=given).stdout.split(b"\0")
    assert b"FROM_HOST=1" in shown
    assert b"CHANGED=2" in shown
    assert b"CHANGED=1" not in shown


@pytest.mark.parametrize(("suffix", "status"), [("", 0), ("::/here", 0), ("::/here::ro", 76)])
def test_directories(lucet: Lucet, tmp_path: Path, wat: Callable[[str], str], suffix: str, status: int) -> None:
    (tmp_path / "data").mkdir()
    assert lucet("run", "--dir", f"data{suffix}", wat(CREATE)).returncode == status
    assert (tmp_path / "data" / "new").exists() == (status == 0)


@pytest.mark.parametrize("text", ["", "::", "a::", "::b", "a::b::c", "a::b::ro::c", "a::::ro"])
def test_what_is_no_directory_option(refuses: Callable[..., str], wat: Callable[[str], str], text: str) -> None:
    assert "is not HOST or HOST::GUEST or HOST::GUEST::ro" in refuses("run", "--dir", text, wat(CREATE), status=2)


def test_a_timeout(lucet: Lucet, wat: Callable[[str], str]) -> None:
    start = time.monotonic()
    outcome = lucet("run", "--timeout", "0.2", "--invoke", "spin", wat(FUNCTIONS))
    assert outcome.returncode == 134
    assert outcome.stderr.startswith(b"lucet run: trap: timed out in spin")
    starts = '(module (memory (export "memory") 1) (func $s (loop (br 0))) (start $s) (func (export "_start")))'
    assert b"timed out" in lucet("run", "--timeout", "0.2", wat(starts)).stderr, "the start function, too"
    assert time.monotonic() - start < 50


def test_a_timeout_ends_a_guest_that_waits_for_input(wat: Callable[[str], str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "lucet", "run", "--timeout", "0.2", wat(ECHO)]
    outcome = subprocess.run(command, stdin=reader, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    os.close(reader)
    os.close(writer)
    assert outcome.returncode == 134
    assert b"timed out" in outcome.stderr


def test_bounds_of_memory(lucet: Lucet, wat: Callable[[str], str]) -> None:
    name = wat(FUNCTIONS)
    for size, pages, answer in (("64K", 1, -1), ("128K", 1, 1), ("128k", 2, -1), ("1MiB", 15, 1), ("131072", 1, 1)):
        outcome = lucet("run", "--max-heap-size", size, "--invoke", "grow", name, str(pages))
        assert outcome.stdout == f"{answer}\n".encode(), (size, outcome.stderr)
    outcome = lucet("run", "--max-heap-size", "1K", "--invoke", "nothing", name)
    assert outcome.returncode == 1
    assert b"limit" in outcome.stderr


def test_bounds_of_the_stack(lucet: Lucet, wat: Callable[[str], str]) -> None:
    name = wat(FUNCTIONS)
    small = lucet("run", "--max-stack-size", "64K", "--invoke", "deep", name, "100000")
    assert small.returncode == 134
    assert b"call stack exhausted" in small.stderr
    assert lucet("run", "--max-stack-size", "64M", "--invoke", "deep", name, "100000").stdout == b"100000\n"


@pytest.mark.parametrize("option", ["--max-heap-size", "--max-stack-size"])
@pytest.mark.parametrize("size", ["0", "x", "-1", "1T", "1.5M", "", "9" * 30])
def test_what_is_no_size(refuses: Callable[..., str], option: str, size: str) -> None:
    assert "must be a size such as" in refuses("run", f"{option}={size}", "x.wasm", status=2)


@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "inf", "1e3"])
def test_what_is_no_time(refuses: Callable[..., str], text: str) -> None:
    assert "must be a number of seconds above 0" in refuses("run", f"--timeout={text}", "x.wasm", status=2)


def test_invoke(lucet: Lucet, wat: Callable[[str], str]) -> None:
    name = wat(FUNCTIONS)
    for arguments, printed in (
        (("nothing",), b""),
        (("started",), b"1\n"),
        (("both", "-1", "0x10", "0.5", "1e300"), b"-1\n16\n0.5\n1e+300\n"),
        (("both", "4294967295", "18446744073709551615", "nan", "-inf"), b"-1\n-1\nnan\n-inf\n"),
    ):
        outcome = lucet("run", "--invoke", arguments[0], name, *arguments[1:])
        assert (outcome.returncode, outcome.stdout) == (0, printed), outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing",), "exports no function 'missing'"),
        (("memory",), "exports no function 'memory'"),
        (("nothing", "1"), "takes 0 arguments (), not 1"),
        (("both", "1"), "takes 4 arguments (i32, i64, f32, f64), not 1"),
        (("both", "4294967296", "1", "1", "1"), "'4294967296' is not an i32"),
        (("both", "1", "one", "1", "1"), "'one' is not an i64"),
        (("both", "1", "1", "x", "1"), "'x' is not an f32"),
        (("reference", "1"), "an argument of type externref cannot be given here"),
    ],
)
def test_what_cannot_be_invoked(
    refuses: Callable[..., str], wat: Callable[[str], str], arguments: tuple[str, ...], words: str
) -> None:
    assert words in refuses("run", "--invoke", arguments[0], wat(FUNCTIONS), *arguments[1:])


def test_a_library_says_what_it_has(refuses: Callable[..., str], wat: Callable[[str], str]) -> None:
    line = refuses("run", wat('(module (func (export "f")) (func (export "g")))'))
    assert line.endswith("exports no _start, so it is not a WASI command (--invoke NAME calls one of: f, g)")


@pytest.mark.parametrize("kind", ["unix", "inet"])
def test_listen(wat: Callable[[str], str], tmp_path: Path, kind: str) -> None:
    address: str | tuple[str, int]
    if kind == "unix":
        address, option, family = str(tmp_path / "socket"), "unix:socket", socket.AF_UNIX
    else:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = taken.getsockname()
        option, family = f"127.0.0.1:{address[1]}", socket.AF_INET
    command = [sys.executable, "-m", "lucet", "run", "--listen", option, wat(ACCEPT)]
    with subprocess.Popen(command, cwd=tmp_path) as guest, socket.socket(family) as client:
        for _ in range(600):
            try:
                client.connect(address)
                break
            except OSError:
                time.sleep(0.05)
        assert client.recv(99) == b"hello"
        assert guest.wait(60) == 0


@pytest.mark.parametrize("text", ["", "80", "host:", ":80", "host:99999", "unix:"])
def test_what_is_no_address(refuses: Callable[..., str], text: str) -> None:
    assert "is not ADDRESS:PORT or unix:PATH" in refuses("run", f"--listen={text}", "x.wasm", status=2)


def test_an_address_that_cannot_be_had(refuses: Callable[..., str], wat: Callable[[str], str]) -> None:
    assert "--listen 192.0.2.1:80: " in refuses("run", "--listen", "192.0.2.1:80", wat(ACCEPT))


def test_help_has_examples_and_statuses(lucet: Lucet) -> None:
    text = lucet("run", "--help").stdout.decode()
    for word in ("examples:", "lucet run --dir", "exit status:", "134", "--inherit-env", "--listen", "bounds:"):
        assert word in text
