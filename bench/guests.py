"""The guests of the lifecycle benchmarks: small modules that export functions (i32, i32) -> i32, first of all run."""

from __future__ import annotations

from typing import Final

from lucet.wasm.text import text_to_binary

PAGE: Final = 4096
"""Of the host: what memory costs is counted in these."""

_RUN: Final = "(func $run (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))"
_STORE: Final = "(i32.store8 (i32.const 0) (i32.const 1))"

_TOUCH: Final = """
(func (export "run") (param $pages i32) (param $stride i32) (result i32)
  (local $at i32)
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $pages)))
      (i32.store8 (local.get $at) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (local.get $stride)))
      (local.set $pages (i32.sub (local.get $pages) (i32.const 1)))
      (br $next)))
  (local.get $at))
"""
"""Writes one byte in each of some pages."""


def usual(*, table: str = "exported", memory_pages: int = 2, writes: bool = False) -> bytes:
    """Some pages of memory, some data, a table, a mutable global, and a trivial function.

    An exported table is one that the host could change, so every instance has its own. A "private" one that nobody
    changes is data of the program, like that of compiled C. If it `writes`, run stores a byte beside the data.
    """
    export = '(export "table") ' if table == "exported" else ""
    return text_to_binary(f"""(module
      (type $binary (func (param i32 i32) (result i32)))
      (export "run" (func $run))
      (memory (export "memory") {memory_pages})
      (table {export}8 funcref)
      (elem (i32.const 1) $run $count)
      (global $counter (mut i32) (i32.const 7))
      (data (i32.const 1024) "{"some data, as every program has; " * 16}")
      {_RUN if not writes else _RUN.replace("(i32.add", f"{_STORE} (i32.add")}
      (func $count (export "count") (type $binary)
        (global.set $counter (i32.add (global.get $counter) (i32.const 1)))
        (call_indirect (type $binary) (local.get 0) (global.get $counter) (local.get 1))))""")


def hello() -> bytes:
    """A program in C that prints a line, as the original's measurements had it. Needs ziglang."""
    from bench import common
    from bench.code_quality import CC, built

    source = common.ROOT / "bench" / "native" / "hello.c"
    command = [*CC, "-target", "wasm32-wasi", "-Wl,--strip-all", str(source)]
    return built(command, source, "wasm").read_bytes()


def toucher(*, memory_pages: int = 80) -> bytes:
    """A memory without data; run(count, stride) writes that many bytes, so far apart."""
    return text_to_binary(f"(module (memory {memory_pages}) {_TOUCH})")


def image(*, size: int, sparse: bool, memory_pages: int = 80, of: int = 2) -> bytes:
    """A memory whose first `size` bytes are data: all of them, or one of so many pages."""
    whole = "\\a5" * PAGE
    pages = range(0, size, of * PAGE if sparse else PAGE)
    datas = "".join(f'(data (i32.const {offset}) "{whole}")' for offset in pages)
    return text_to_binary(f"(module (memory {memory_pages}) {_TOUCH} {datas})")


def many(functions: int = 150) -> bytes:
    """So many functions with a loop, branches, a memory and calls of the one before: something to compile."""
    text = "".join(
        f"""(func $f{i} (param $n i32) (param $seed i32) (result i32) (local $sum i64)
          (loop $next
            (if (i32.and (local.get $n) (i32.const {i % 7 + 1}))
              (then (i64.store (i32.and (local.get $n) (i32.const 0xfff8)) (local.get $sum)))
              (else (local.set $sum (i64.add (local.get $sum) (i64.load32_u offset={8 * i} (local.get $seed))))))
            (local.set $seed (i32.rotl (i32.mul (local.get $seed) (i32.const {2 * i + 3})) (i32.const {i % 31 + 1})))
            (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
          {f"(call $f{i - 1} (local.get $seed) (i32.wrap_i64 (local.get $sum)))" if i else "(local.get $seed)"})"""
        for i in range(functions)
    )
    return text_to_binary(f'(module (memory 2) {text} (export "run" (func $f{functions - 1})))')


def caller() -> bytes:
    """host_loop(n, seed) calls env.host n times; empty_loop does the same without the call."""

    def loop(name: str, value: str) -> str:
        return f"""(func (export "{name}") (param $n i32) (param $value i32) (result i32)
          (loop $next
            (local.set $value (i32.rotl (i32.xor {value} (local.get $n)) (i32.const 5)))
            (local.set $n (i32.sub (local.get $n) (i32.const 1)))
            (br_if $next (local.get $n)))
          (local.get $value))"""

    return text_to_binary(f"""(module
      (import "env" "host" (func $host (param i32) (result i32)))
      (export "run" (func $run))
      {_RUN}
      {loop("host_loop", "(call $host (local.get $value))")}
      {loop("empty_loop", "(local.get $value)")})""")
