"""CGI programs in the text format, and what they are told: what tests of CGI share."""

from __future__ import annotations

from typing import Any

from lucet.terrarium.limits import Limits
from tests.kit.terrarium import Answer, App

PATIENT = Limits(cpu_time=20.0)
"""Seconds of computing: for a machine that does something else, too."""

IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func $put (param $fd i32) (param $from i32) (param $size i32)
    (loop $l
      (i32.store (i32.const 0) (local.get $from))
      (i32.store (i32.const 4) (local.get $size))
      (if (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))
      (local.set $from (i32.add (local.get $from) (i32.load (i32.const 8))))
      (local.set $size (i32.sub (local.get $size) (i32.load (i32.const 8))))
      (br_if $l (local.get $size))))
  (func $get (param $to i32) (param $size i32) (result i32)
    (i32.store (i32.const 0) (local.get $to))
    (i32.store (i32.const 4) (local.get $size))
    (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))
    (i32.load (i32.const 8)))
  (func $sleep (param $nanoseconds i64)
    (memory.fill (i32.const 64) (i32.const 0) (i32.const 48))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (local.get $nanoseconds))
    (if (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 8)) (then (unreachable))))
"""


def text(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def program(body: str, data: bytes = b"") -> str:
    """A module whose _start is `body`; data stand from address 1024 on."""
    return f'(module {IMPORTS} (data (i32.const 1024) "{text(data)}") (func (export "_start") {body}))'


def printing(output: bytes, *, status: int = 0, error: bytes = b"") -> str:
    return program(
        f"(call $put (i32.const 1) (i32.const 1024) (i32.const {len(output)}))"
        f"(call $put (i32.const 2) (i32.const {1024 + len(output)}) (i32.const {len(error)}))"
        + (f"(call $exit (i32.const {status}))" if status else ""),
        output + error,
    )


def app(wasm: Any, **options: Any) -> App:
    return App(wasm, "cgi", **{"limits": PATIENT, **options})


def answer_of(output: bytes, **options: Any) -> Answer:
    return app(printing(output, **options)).get("/")


HEAD = b"Content-Type: text/plain\n\n"
ENVIRONMENT = program(
    """
    (call $put (i32.const 1) (i32.const 1024) (i32.const 26))
    (drop (call $environ_sizes (i32.const 16) (i32.const 20)))
    (drop (call $environ (i32.const 70000) (i32.const 100000)))
    (call $put (i32.const 1) (i32.const 100000) (i32.load (i32.const 20)))
    (call $put (i32.const 1) (i32.const 1049) (i32.const 1))
    (drop (call $args_sizes (i32.const 16) (i32.const 20)))
    (drop (call $args (i32.const 70000) (i32.const 100000)))
    (call $put (i32.const 1) (i32.const 100000) (i32.load (i32.const 20)))""",
    HEAD,
)


class Told:
    """What a request becomes for the program."""

    def __init__(self, answer: Answer) -> None:
        assert answer.status == 200, answer.body
        variables, _, arguments = answer.body.partition(b"\n")
        pairs = [one.decode(errors="surrogateescape").partition("=") for one in variables.split(b"\0")[:-1]]
        self.variables = {name: value for name, _, value in reversed(pairs)}
        assert len(self.variables) == len(pairs), "a variable is there twice"
        self.arguments = [one.decode() for one in arguments.split(b"\0")[:-1]]


ECHO = program(
    """(local $n i32)
    (call $put (i32.const 1) (i32.const 1024) (i32.const 26))
    (loop $l
      (local.set $n (call $get (i32.const 65536) (i32.const 65536)))
      (call $put (i32.const 1) (i32.const 65536) (local.get $n))
      (br_if $l (local.get $n)))""",
    HEAD,
)
