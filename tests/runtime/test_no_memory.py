"""Python's n-th allocation fails, for every n, in all that the binding does: MemoryError, and nothing is lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("_testcapi", reason="this Python has no _testcapi, which makes allocations fail")

PRELUDE = """
import gc, sys
import _testcapi
import lucet
from lucet.runtime import HostFunction
from lucet.wasm.text import text_to_binary
module = lucet.Module.from_bytes(artifact := lucet.compile(text_to_binary('''(module
  (import "h" "f" (func $f (param i32) (result i32)))
  (memory (export "memory") 1 3) (table (export "table") 2 9 funcref) (table (export "refs") 2 9 externref)
  (global (export "g") (mut i64) (i64.const 5))
  (func (export "trap") unreachable)
  (func (export "call") (param i32) (result i32) local.get 0 call $f)
  (func (export "wide") (param i64 i64) (result i64 i64) local.get 1 local.get 0)
  (func (export "keep") (param externref) (result externref)
    i32.const 0 local.get 0 table.set 1 i32.const 0 table.get 1)
  (func (export "loop") (loop br 0)))'''), opt_level="none", count_instructions=True))
region = lucet.Region(slots=2)
big = 1 << 40
def new(function=lambda n: n + 10**6):
    return region.new_instance(module, {"h": {"f": HostFunction(function, ("i32",), ("i32",), wants_caller=False)}})
def suspended():
    guest = new()
    guest.suspend_out_of_fuel, guest.fuel = True, 1000
    run = guest.run("loop")
    guest.fuel = 1000
    return run
def refused(action, kind):
    try:
        action()
    except kind:
        return
    raise AssertionError
guest = new()
guest.exports["g"], guest.exports.table, guest.memory
"""

ACTIONS = {
    "instance": "new().close()",
    "module": "lucet.Module.from_bytes(artifact).exports",
    "region": "lucet.Region(slots=2, budget=lucet.Budget(65536))",
    "call": "assert guest.run('wide', 2**60, 2**61) == (2**61, 2**60)",
    "host": "assert guest.run('call', 5) == 10**6 + 5",
    "suspend": "run = new(lambda n: lucet.Suspend(object())).run('call', 1); run.resume(10**6)",
    "fuel": "suspended().resume()",
    "fuel given up": "suspended().close()",
    "trap": "refused(lambda: guest.run('trap'), lucet.Trap)",
    "externref": "value = object(); assert guest.run('keep', value) is value",
    "exports": "[guest.exports[name] for name in guest.exports]",
    "memory": "memory = guest.memory; memory.write(0, bytes(9)); memory.read(0, 9); memoryview(memory).release()",
    "table": "table = guest.exports.table; table.set(0, guest.exports.trap); assert table.get(0) == guest.exports.trap",
    "global": "item = guest.globals['g']; item.value = 2**62; assert item.value == 2**62",
    "link": "region.link(module, {'h': {'f': HostFunction(abs, ('i32',), ('i32',), wants_caller=False)}})",
    "raw": "assert guest.export('wide').call_raw([2**63, 2**62]) == [2**62, 2**63]",
    "properties": "f = guest.export('call'); (f.type, f.name, guest.module.imports, guest.module.producer, guest.fuel)",
}

EACH = """
def action():
    {action}
action()  # what is made on first use is there from here on
gc.collect()
used = region.used
failed = 0
for n in range(100_000):
    try:
        _testcapi.set_nomemory(n, n + 1)
        action()
        _testcapi.remove_mem_hooks()
        if n > 20 and not failed:
            raise SystemExit("no allocation failed")
        if failed and n > last + 50:
            break
    except MemoryError:
        _testcapi.remove_mem_hooks()
        failed, last = failed + 1, n
    except BaseException:
        _testcapi.remove_mem_hooks()
        raise
gc.collect()
assert region.used == used, region.used
assert guest.run("call", 1) == 10**6 + 1
action()
print(failed)
"""


@pytest.mark.parametrize("name", ACTIONS)
def test_each_allocation_fails_in_turn(name: str) -> None:
    script = PRELUDE + EACH.format(action=ACTIONS[name])
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert int(run.stdout) > 0
