"""Instances in threads: guests compute at the same time, because they run without the GIL.

    python examples/threads.py [threads]

Each thread has an instance of its own, of one module in one region. They are counting primes, each in its part of the
numbers; the main thread looks in, and ends one that takes too long.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import lucet

GUEST = """(module
  (func $is_prime (param $n i32) (result i32) (local $d i32)
    (if (i32.lt_u (local.get $n) (i32.const 2)) (then (return (i32.const 0))))
    (local.set $d (i32.const 2))
    (loop $next
      (if (i32.gt_u (i32.mul (local.get $d) (local.get $d)) (local.get $n)) (then (return (i32.const 1))))
      (if (i32.eqz (i32.rem_u (local.get $n) (local.get $d))) (then (return (i32.const 0))))
      (local.set $d (i32.add (local.get $d) (i32.const 1)))
      (br $next))
    (unreachable))
  (func (export "primes") (param $from i32) (param $to i32) (result i32) (local $count i32)
    (loop $next
      (local.set $count (i32.add (local.get $count) (call $is_prime (local.get $from))))
      (br_if $next (i32.lt_u (local.tee $from (i32.add (local.get $from) (i32.const 1))) (local.get $to))))
    (local.get $count))
  (func (export "forever") (loop $again (br $again))))"""
NUMBERS = 400_000


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    module = lucet.Module.from_bytes(lucet.compile(GUEST))
    region = lucet.Region(slots=threads + 1)

    def count(part: int) -> int:
        with region.new_instance(module) as instance:
            primes: int = instance.run("primes", part * NUMBERS // threads, (part + 1) * NUMBERS // threads)
            return primes

    with ThreadPoolExecutor(threads + 1) as pool:
        start = perf_counter()
        endless = region.new_instance(module)
        hangs = pool.submit(endless.run, "forever")
        parts = list(pool.map(count, range(threads)))
        print(f"{sum(parts)} primes below {NUMBERS}, counted by {threads} threads")
        while not endless.interrupt():  # from any thread, once it runs
            pass
        error = hangs.exception()
        print(f"the one that never ends: {error}")
        endless.close()
    print(f"{perf_counter() - start:.2f} s", file=sys.stderr)
    assert region.used == 0


if __name__ == "__main__":
    main()
