"""An agent's code tool: runs code that a language model wrote, with nothing to lose.

    python examples/agent_tool.py INTERPRETER.wasm 'print(1 + 2)'

The interpreter is any WASI build of one that runs a file: quickjs, lua, python, by its path. Without one, a small
calculator is used, which knows digits, + and *. The code gets no files, no network, 2 seconds, 64 MiB and 4 KiB of
output; what the agent is told is what it printed, and, if a limit ended it, which.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import lucet

# Sums of products: reads standard input, writes one number.
CALCULATOR = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\00\\01\\00\\00\\00\\10\\00\\00") ;; 4096 bytes at 256
  (func $write_number (param $n i32) (local $at i32)
    (local.set $at (i32.const 8192))
    (i32.store8 (local.get $at) (i32.const 10))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
      (br_if $digit (local.tee $n (i32.div_u (local.get $n) (i32.const 10)))))
    (i32.store (i32.const 16) (local.get $at))
    (i32.store (i32.const 20) (i32.sub (i32.const 8193) (local.get $at)))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
  (func (export "_start") (local $at i32) (local $c i32) (local $n i32) (local $product i32) (local $sum i32)
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $product (i32.const 1))
    (loop $next
      (local.set $c (i32.load8_u offset=256 (local.get $at)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (if (i32.lt_u (i32.sub (local.get $c) (i32.const 48)) (i32.const 10))
        (then
          (local.set $n (i32.add (i32.mul (local.get $n) (i32.const 10)) (i32.sub (local.get $c) (i32.const 48))))
          (br $next)))
      (br_if $next (i32.eq (local.get $c) (i32.const 32)))
      (local.set $product (i32.mul (local.get $product) (local.get $n)))
      (local.set $n (i32.const 0))
      (br_if $next (i32.eq (local.get $c) (i32.const 42)))
      (local.set $sum (i32.add (local.get $sum) (local.get $product)))
      (local.set $product (i32.const 1))
      (br_if $next (i32.eq (local.get $c) (i32.const 43)))
      (if (i32.eq (local.get $c) (i32.const 33)) (then (loop $hang (br $hang))))
      (if (local.get $c) (then (unreachable))))
    (call $write_number (local.get $sum))))"""


@dataclass(frozen=True)
class Answer:
    """What the agent is told."""

    text: str
    ok: bool


class CodeTool:
    """One interpreter, compiled once; each call has a sandbox of its own."""

    def __init__(self, interpreter: str | None = None) -> None:
        self.takes_file = interpreter is not None
        program = interpreter if interpreter is not None else CALCULATOR.encode()
        self.sandbox = lucet.Sandbox(program, time=2.0, memory=64 << 20, output=4096)

    def run(self, code: str) -> Answer:
        """Run the code, whatever it is."""
        if self.takes_file:
            result = self.sandbox.run(["/code"], files={"code": code.encode()})
        else:
            result = self.sandbox.run(stdin=code.encode())
        printed = (result.stdout + result.stderr).decode(errors="replace")
        if result.limit is not None:
            return Answer(f"{printed}[stopped: limit of {result.limit}]", ok=False)
        if result.trap is not None:
            return Answer(f"{printed}[crashed: {result.trap}]", ok=False)
        status = "" if result.exit_code == 0 else f"[exit status {result.exit_code}]"
        return Answer(printed + status, ok=result.ok)


def main() -> None:
    interpreter, codes = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 2 else (None, sys.argv[1:])
    tool = CodeTool(interpreter)
    for code in codes or ["2 * 3 + 4", "1 +!", "import os"]:
        answer = tool.run(code)
        print(f"{code!r}: {'' if answer.ok else 'failed: '}{answer.text.rstrip()}")


if __name__ == "__main__":
    main()
