"""`lucet serve` as a user starts it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")

PATIENCE = 60
HELLO = """(module
  (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
  (memory 1) (data (i32.const 16) "hello")
  (func (export "run") (drop (call $body (i32.const 0) (i32.const 16) (i32.const 5)))))"""
TRAP = """(module
  (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
  (memory 1) (func (export "run") unreachable))"""


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server's process, and its URL."""
    command = [sys.executable, "-m", "lucet", "serve", "--listen", "127.0.0.1:0", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"lucet serve: (https?://127\.0\.0\.1:\d+/)\n", line)
        assert found, line + (process.communicate(timeout=PATIENCE)[1] if not line else "")
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_programs_by_their_names_until_sigterm(tmp_path: Path) -> None:
    (tmp_path / "hello.wat").write_text(HELLO)
    (tmp_path / "trap.wat").write_text(TRAP)
    log = tmp_path / "log"
    with serving(tmp_path / "hello.wat", f"other={tmp_path / 'trap.wat'}", "--log", log, "--development") as (
        process,
        url,
    ):
        assert get(url + "hello") == (200, b"hello")
        assert get(url + "hello/below?x") == (200, b"hello")
        status, body = get(url + "other")
        assert status == 500 and b"UNREACHABLE" in body
        assert get(url)[0] == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["application"], line["status"]) for line in lines] == [("hello", 200), ("hello", 200), ("other", 500)]


def test_one_program_has_every_path(tmp_path: Path) -> None:
    (tmp_path / "hello.wat").write_text(HELLO)
    with serving(tmp_path / "hello.wat", "--quiet") as (process, url):
        assert get(url) == get(url + "a/b") == (200, b"hello")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None and process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.wasm"], "missing.wasm"),
        (["hello.wat", "--listen", "nowhere"], "HOST:PORT"),
        (["hello.wat", "hello.wat"], "the same name"),
        (["hello.wat", "--env", "nonsense"], "NAME=VALUE"),
        (["hello.wat", "--certificate", "x"], "belong together"),
        (["hello.wat", "--certificate", "x", "--key", "y"], "No such file"),
        (["hello.wat", "--listen", "192.0.2.1:80"], "192.0.2.1"),
        ([], "PROGRAM"),
    ],
)
def test_what_cannot_be_served_is_said(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "hello.wat").write_text(HELLO)
    (tmp_path / "library.wat").write_text('(module (func (export "f")))')
    ended = subprocess.run(
        [sys.executable, "-m", "lucet", "serve", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode in (1, 2) and message in ended.stderr
    assert "Traceback" not in ended.stderr
