"""Random sequences of every public runtime call, in child processes: none may end its process.

    python fuzz/fuzz_api.py --seconds 120          many seeds, each in a child of its own
    python fuzz/fuzz_api.py --seed 1234 --trace    one seed in this process, each step printed before it is taken

Any exception of Python is fine; a signal, an abort, a hang or a wrong count of used slots at the end is not.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

STEPS = 400
STEP_LIMIT = 60.0

EXPORTER = """(module
  (memory (export "memory") 1 5) (table (export "table") 4 20 funcref) (table (export "refs") 2 30 externref)
  (global (export "g") (mut i32) (i32.const 5)) (global (export "r") (mut externref) (ref.null extern))
  (global (export "f") (mut funcref) (ref.null func)) (global (export "k") i64 (i64.const 9))
  (elem (i32.const 1) $set $spin) (data (i32.const 16) "some data") (data (i32.const 40000) "more")
  (func $set (export "set") (param i32) i32.const 64 local.get 0 i32.store)
  (func (export "poke") (param i32 i32) local.get 0 local.get 1 i32.store)
  (func (export "peek") (param i32) (result i32) local.get 0 i32.load)
  (func (export "indirect") (param i32 i32) local.get 1 local.get 0 call_indirect (param i32))
  (func (export "keep") (param externref) local.get 0 global.set 1 i32.const 0 local.get 0 table.set 1)
  (func (export "kept") (result externref) i32.const 0 table.get 1)
  (func (export "fill") (param i32 i32 i32) local.get 0 local.get 1 local.get 2 memory.fill)
  (func (export "grow") (param i32) (result i32) local.get 0 memory.grow)
  (func (export "tgrow") (param funcref i32) (result i32) local.get 0 local.get 1 table.grow 0)
  (func $spin (export "spin") (param i32)
    (local.set 0 (i32.or (i32.const 1) (i32.and (local.get 0) (i32.const 0xfffff))))
    (loop local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0))
  (func $deep (export "deep") (result i32) call $deep i32.const 1 i32.add)
  (func (export "many") (result i32 i64 f32 f64) i32.const 1 i64.const 2 f32.const 3 f64.const 4)
  (func (export "trap") unreachable))"""
IMPORTER = """(module
  (import "e" "memory" (memory 1)) (import "e" "table" (table 1 funcref)) (import "e" "g" (global $g (mut i32)))
  (import "e" "set" (func $set (param i32))) (import "e" "k" (global $k i64))
  (elem (i32.const 0) $mine) (data (i32.const 128) "importer")
  (func $mine (export "mine") (param i32) local.get 0 call $set)
  (func (export "poke") (param i32 i32) local.get 0 local.get 1 i32.store)
  (func (export "grow") (param i32) (result i32) local.get 0 memory.grow)
  (func (export "bump") global.get $g i32.const 1 i32.add global.set $g))"""
CALLER = """(module
  (import "h" "call" (func $call (param i32) (result i32)))
  (import "h" "ref" (func $ref (param externref) (result externref)))
  (memory (export "memory") 2) (global (export "n") (mut i32) (i32.const 0))
  (func (export "call") (param i32) (result i32) local.get 0 call $call i32.const 1 i32.add)
  (func (export "ref") (param externref) (result externref) local.get 0 call $ref)
  (func (export "peek") (param i32) (result i32) local.get 0 i32.load)
  (func $start (if (global.get 0) (then unreachable)) (global.set 0 (i32.const 1))) (start $start))"""
LARGE = """(module (memory (export "memory") 40)
  (func (export "poke") (param i32 i32) local.get 0 local.get 1 i32.store)
  (func (export "touch") (param i32 i32) (local.set 1 (i32.or (local.get 1) (i32.const 4096)))
    (loop local.get 0 local.get 0 i32.store
    local.get 0 local.get 1 i32.add local.tee 0 i32.const 2621432 i32.lt_u br_if 0)))"""

SHARER = """(module
  (import "e" "shared" (memory 0 9 shared)) (memory (export "memory") 1 3) (memory (export "long") i64 1 3)
  (memory (export "bytes") 100 9000 (pagesize 1)) (memory (export "shared") 1 4 shared)
  (data (memory 1) (i32.const 16) "some data") (data (memory 4) (i32.const 16) "more")
  (func (export "poke") (param i32 i32) (i32.store 1 (local.get 0) (local.get 1)))
  (func (export "peek") (param i32) (result i32) (i32.atomic.load 0 (local.get 0)))
  (func (export "add") (param i32) (result i64) (i64.atomic.rmw.add 4 (local.get 0) (i64.const 3)))
  (func (export "copy") (param i32 i64 i32) (memory.copy 0 2 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "fill") (param i32 i32 i32) (memory.fill 3 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "grow") (param i32) (result i32) (drop (memory.grow 2 (i64.const 1))) (memory.grow 0 (local.get 0)))
  (func (export "notify") (param i32 i32) (result i32) (memory.atomic.notify 0 (local.get 0) (local.get 1)))
  (func (export "wait") (param i32 i64) (result i32) ;; for a millisecond at most
    (memory.atomic.wait32 0 (local.get 0) (i32.const 0) (i64.and (local.get 1) (i64.const 0xfffff)))))"""


class Player:
    """Keeps pools of objects and takes random steps with them."""

    def __init__(self, seed: int, trace: bool) -> None:
        import lucet
        from lucet.wasm.text import text_to_binary

        self.lucet = lucet
        self.random = random.Random(seed)
        self.trace = trace
        self.modules = [
            lucet.Module.from_bytes(lucet.compile(text_to_binary(text), opt_level="none"))
            for text in (EXPORTER, IMPORTER, CALLER, LARGE)
        ] + [
            lucet.Module.from_bytes(
                lucet.compile(text_to_binary(text), opt_level="none", count_instructions=True, bounds="explicit")
            )
            for text in (EXPORTER, CALLER)
        ]
        self.sharer = lucet.Module.from_bytes(
            lucet.compile(text_to_binary(SHARER), opt_level="none", bounds="explicit")
        )
        self.budget = budget = lucet.Budget(40 * 65536)
        self.regions = [
            lucet.Region(slots=5),
            lucet.Region(slots=3, random_slots=True, track_writes=False, budget=budget),
            lucet.Region(4, memory_reserved=5 * 65536, memory_guard=0, track_writes=False, budget=budget, stacks=2),
        ]
        self.shared: list[Any] = []
        self.instances: list[Any] = []
        self.items: list[Any] = []
        self.views: list[Any] = []
        self.linkages: list[Any] = []
        self.suspended: list[Any] = []
        self.threads: list[threading.Thread] = []
        self.depth = 0
        from lucet.runtime import HostFunction

        call = HostFunction(self.nested, ("i32",), ("i32",), wants_caller=True)
        ref = HostFunction(lambda value: value, ("externref",), ("externref",), wants_caller=False)
        self.host = {"h": {"call": call, "ref": ref}}

    def nested(self, caller: Any, n: int) -> object:
        """What a host function does: more random steps, with its caller among the instances."""
        if self.depth < 3:
            self.depth += 1
            try:
                for _ in range(n % 4):
                    self.step()
                if n % 5 == 4:
                    raise RuntimeError("from a host function")
            finally:
                self.depth -= 1
        if n % 7 == 6:
            return caller.run("call", n - 1)
        if n % 3 == 2:
            return self.lucet.Suspend(self.value())
        return n

    def play(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
        self.end()

    def step(self) -> None:
        action = self.random.choice(self.actions)
        if self.trace:
            print(f"{'  ' * self.depth}{action.__name__}", file=sys.stderr, flush=True)
        with contextlib.suppress(Exception):
            action(self)

    # ---- choices

    def pick(self, pool: list[Any]) -> Any:
        return self.random.choice(pool)

    def instance(self) -> Any:
        """Mostly one that is open and not suspended: the others refuse almost everything."""
        ready = [instance for instance in self.instances if instance.state in {"ready", "running"}]
        return self.pick(ready if ready and self.random.random() < 0.9 else self.instances)

    def number(self) -> int:
        r = self.random
        return r.choice(
            [
                0,
                1,
                2,
                5,
                8,
                100,
                4096,
                65535,
                65536,
                -1,
                -4,
                2**31 - 1,
                -(2**31),
                2**32,
                2**63,
                2**64,
                -(2**64),
                r.randrange(200000),
                r.randrange(3000000),
            ]
        )

    def value(self) -> Any:
        return self.random.choice(
            [
                self.number(),
                self.number(),
                None,
                1.5,
                "text",
                b"bytes",
                [],
                float("nan"),
                object(),
                self,
                *self.items[-3:],
                *self.instances[-2:],
            ]
        )

    # ---- steps

    def make(self) -> None:
        module = self.pick([*self.modules[:1], *self.modules, *self.modules[4:]])
        imports: Any = self.host
        if module is self.modules[1]:
            imports = {"e": self.instance().exports}
        given = {"fuel": 1000} if module in self.modules[4:] else {}
        region = self.pick(self.regions)
        instance = region.new_instance(module, imports if self.random.random() < 0.9 else None, **given)
        if given:
            instance.suspend_out_of_fuel = self.random.random() < 0.7
        self.instances.append(instance)

    def make_sharer(self) -> None:
        r = self.random
        if r.random() < 0.4:
            budget = r.choice([None, self.budget, self.value()])
            keywords: Any = r.choice([{}, {}, {"index_type": "i64"}, {"page_size": 1}, {"page_size": self.number()}])
            memory = self.lucet.SharedMemory(r.randrange(3), r.choice([4, 9, self.number()]), budget=budget, **keywords)
        else:
            memory = self.pick([*self.shared, *self.items])
        self.shared.append(memory)
        del self.shared[:-5]
        self.instances.append(self.pick(self.regions).new_instance(self.sharer, {"e": {"shared": memory}}))

    def link(self) -> None:
        self.linkages.append(self.regions[0].link(self.modules[2], self.host))
        self.linkages.append(self.regions[0].link(self.modules[1], {"e": self.instance().exports}))

    def make_linked(self) -> None:
        self.instances.append(self.pick(self.regions).new_instance(self.pick(self.linkages)))

    def make_limited(self) -> None:
        self.instances.append(
            self.regions[0].new_instance(
                self.modules[0],
                memory_limit=self.random.choice([65536, 2 * 65536, self.number() % 2**64]),
                table_limit=self.random.choice([4, 10, self.number() % 2**64]),
            )
        )

    def close(self) -> None:
        self.instance().close()

    def drop(self) -> None:
        del self.instances[self.random.randrange(len(self.instances))]

    def reset(self) -> None:
        self.instance().reset()

    def export(self) -> None:
        instance = self.instance()
        self.items.append(instance.exports[self.pick(list(instance.exports))])

    def drop_item(self) -> None:
        del self.items[self.random.randrange(len(self.items))]

    def run(self) -> None:
        instance = self.instance()
        name = self.pick([*instance.exports, "call", "poke", "peek", "indirect"])
        if name == "spin":
            instance.run(name, self.random.choice([1, 1000, 100000]))
        else:
            instance.run(name, *(self.value() for _ in range(self.random.choice([0, 1, 1, 2, 2, 3]))))

    def run_well(self) -> None:
        instance, r = self.instance(), self.random
        exported = set(instance.exports)
        calls: list[tuple[str, tuple[Any, ...]]] = [
            ("spin", (r.choice([10, 10000]),)),
            ("poke", (r.randrange(65000), 7)),
            ("poke", (r.randrange(2621000), 7)),
            ("touch", (r.choice([0, 100000]), r.choice([4096, 8192, 65536, 100001]))),
            ("call", (r.randrange(40),)),
            ("keep", (object(),)),
            ("kept", ()),
            ("grow", (r.randrange(3),)),
            ("fill", (r.randrange(60000), 3, r.randrange(9000))),
            ("indirect", (r.randrange(5), 4)),
            ("deep", ()),
            ("trap", ()),
            ("many", ()),
            ("bump", ()),
            ("wait", (r.randrange(8) * 4, r.randrange(1 << 20))),
            ("notify", (r.randrange(8) * 4, 1)),
            ("add", (r.choice([0, 8, 65528]),)),
            ("copy", (r.randrange(9000), r.randrange(9000), r.randrange(99000))),
        ]
        name, arguments = r.choice([call for call in calls if call[0] in exported])
        result = instance.run(name, *arguments)
        if isinstance(result, self.lucet.Suspended):
            self.suspended.append(result)

    def configure(self) -> None:
        instance, r = self.instance(), self.random
        name, value = r.choice(
            [
                ("context", self.value()),
                ("timeout", r.choice([None, None, 0.001, 0.1, self.value()])),
                ("fuel", r.choice([None, 0, 100, 10_000, self.value()])),
                ("host_calls", r.choice([None, None, None, 0, 3, 1000, self.value()])),
                ("suspend_out_of_fuel", r.choice([True, True, True, False])),
            ]
        )
        setattr(instance, name, value)

    def refuel(self) -> None:
        run = self.pick(self.suspended)
        run.waiting.fuel = self.random.choice([None, 10, 1000, self.value()])

    def go_on(self) -> None:
        if not self.suspended:
            return
        run = self.suspended.pop(self.random.randrange(len(self.suspended)))
        if self.random.random() < 0.2:
            run.close()
        result = run.resume(self.random.choice([None, 1, 2, self.value()]))
        if isinstance(result, self.lucet.Suspended):
            self.suspended.append(result)

    def drop_run(self) -> None:
        del self.suspended[self.random.randrange(len(self.suspended))]

    def use_item(self) -> None:
        item, r = self.pick(self.items), self.random
        uses: dict[str, list[Callable[[], object]]] = {
            "Func": [
                lambda: item(*(self.value() for _ in range(r.randrange(3)))),
                lambda: item(r.randrange(100)),
                lambda: item.call_raw([self.number() for _ in range(r.randrange(3))]),
                lambda: (item.name, item.type, item.instance, item == self.pick(self.items)),
            ],
            "Table": [
                lambda: item.get(r.choice([0, 1, self.number()])),
                lambda: item.set(r.randrange(4), self.value()),
                lambda: item.grow(r.randrange(3), self.value()),
                lambda: item.grow(r.randrange(3)),
                lambda: (item.size, len(item), item.type),
            ],
            "Global": [
                lambda: setattr(item, "value", self.value()),
                lambda: (item.value, item.type, item.instance, repr(item), hash(item)),
            ],
            "Memory": [
                lambda: item.grow(r.randrange(2)),
                lambda: (item.size, item.pages, len(item)),
                lambda: item.read(r.choice([0, 65000, self.number()]), r.choice([8, 9000, self.number()])),
                lambda: item.write(r.choice([0, self.number()]), r.choice([b"x" * r.randrange(9000), self.value()])),
                lambda: item.write_u32(r.choice([65532, self.number()]), self.number()),
                lambda: item.read_u64(r.choice([65528, self.number()])),
            ],
            "SharedMemory": [
                lambda: item.grow(r.randrange(2)),
                lambda: (item.size, item.pages, len(item), hash(item), item == self.pick(self.items)),
                lambda: item.write(r.choice([0, self.number()]), r.choice([b"x" * r.randrange(9000), self.value()])),
                lambda: item.notify(r.choice([0, 4, self.number()]), r.choice([1, self.number()])),
                lambda: self.views.append(memoryview(item)),
            ],
        }
        every = [use for several in uses.values() for use in several]
        r.choice(uses.get(type(item).__name__, every) if r.random() < 0.8 else every)()

    def keep_result(self) -> None:
        item = self.pick(self.items)
        self.items.append(item.get(self.random.randrange(4)))

    def view(self) -> None:
        memory = self.instance().memory
        self.views.append(
            memory.view(self.number(), self.random.randrange(9000), writable=self.random.random() < 0.5)
            if self.random.random() < 0.6
            else memoryview(memory)
        )

    def array(self) -> None:
        import numpy

        self.views.append(numpy.frombuffer(self.pick([*self.views, self.instance().memory]), dtype=numpy.uint8))

    def column(self) -> Any:
        """Something to give to Func.map: an array of some kind, of guest memory perhaps, or anything."""
        import array
        import ctypes

        import numpy

        r = self.random
        size = r.choice([0, 1, 5, 5, 5, 300, 5000])
        kinds: list[Callable[[], Any]] = [
            lambda: numpy.arange(size, dtype=r.choice(["i4", "i4", "i8", "u1", "f8", "f4", ">i4", "O", "i4,i4"])),
            lambda: numpy.ones((size, 3), "i4").T[r.randrange(3)],
            lambda: numpy.lib.stride_tricks.as_strided(numpy.ones(1, "i4"), (size,), (0,)),
            lambda: array.array(r.choice("bBhiIqfd"), bytes(8 * size)),
            lambda: bytearray(size),
            lambda: bytes(size),
            ctypes.c_int * size,
            lambda: memoryview(self.pick([*self.views, self.instance().memory])).cast("B")[: size * 4].cast("i"),
            lambda: numpy.frombuffer(self.instance().memory, "u1")[r.randrange(9) :][:size],
            lambda: self.pick([*self.views, self.instance().memory]),
            self.value,
        ]
        return r.choice(kinds)()

    def map(self) -> None:
        item, r = self.pick([item for item in self.items if type(item).__name__ == "Func"]), self.random
        columns = [self.column()] if r.random() < 0.5 else [self.column(), r.choice([self.column, self.number])()]
        if r.random() < 0.3:
            item._map(tuple(columns), tuple(self.column() for _ in range(r.randrange(3))))
        else:
            item.map(*columns, out=r.choice([None, None, columns[0], self.column()]))

    def tensor(self) -> None:
        import numpy

        memory, r = self.instance().memory, self.random
        show: list[Callable[[], Any]] = [
            lambda: numpy.from_dlpack(memory),
            lambda: memory.__dlpack__(max_version=r.choice([None, (1, 0), self.value()]), copy=r.choice([None, False])),
            lambda: memory.array(r.choice(["u1", "f8", "i4", "O", self.value()]), self.number(), writable=True),
            lambda: memory.array("u1", r.randrange(100), r.choice([None, 5, self.number()])),
        ]
        self.views.append(r.choice(show)())

    def use_view(self) -> None:
        view = self.pick(self.views)
        at = self.random.randrange(len(view))
        view[at] = (int(view[at]) + 1) & 255
        bytes(view[at : at + 100])

    def release_view(self) -> None:
        view = self.views.pop(self.random.randrange(len(self.views)))
        if isinstance(view, memoryview):
            view.release()

    def look(self) -> None:
        instance = self.instance()
        _ = (instance.state, instance.module.imports, instance.module.exports, instance.region.used, repr(instance))
        _ = (len(instance.globals), list(instance.exports), instance.memory, instance.module.producer)

    def interrupt(self) -> None:
        self.instance().interrupt()

    def thread(self) -> None:
        """Another thread steps, too, or runs a loop that must be interrupted from here."""
        if len(self.threads) > 3:
            self.threads.pop(0).join(STEP_LIMIT)
            return
        instance = self.instance()

        def work() -> None:
            with contextlib.suppress(Exception):
                for _ in range(20):
                    instance.run("spin", 20000)
                    instance.run("poke", 500, 3)
                    instance.memory.read(0, 100)
                    if "wait" in instance.exports:
                        instance.run("wait", 4, 500_000)
                        instance.run("add", 8)

        self.threads.append(threading.Thread(target=work, daemon=True))
        self.threads[-1].start()

    def collect(self) -> None:
        gc.collect()

    def end(self) -> None:
        for thread in self.threads:
            thread.join(STEP_LIMIT)
            if thread.is_alive():
                raise SystemExit("a thread hangs")
        self.threads.clear()
        self.views.clear()
        self.items.clear()
        self.shared.clear()
        self.suspended.clear()
        self.linkages.clear()
        self.instances.clear()
        gc.collect()
        used = [region.used for region in self.regions] + [self.budget.used]
        if any(used):
            raise SystemExit(f"slots, and bytes of the budget, in use at the end: {used}")

    actions: tuple[Callable[[Player], None], ...] = (
        make, make, make, make_sharer, link, make_linked, make_limited, close, drop, reset, export, export, drop_item,
        run, run_well, run_well, run_well, configure, refuel, go_on, go_on, drop_run, use_item, use_item, use_item,
        keep_result, view, array, map, map, map, tensor, use_view, release_view, look, interrupt, thread, collect,
    )  # fmt: skip


def child(first: int, count: int) -> int:
    faulthandler.enable()
    for seed in range(first, first + count):
        print(seed, flush=True)
        faulthandler.dump_traceback_later(STEP_LIMIT, exit=True)
        Player(seed, trace=False).play(STEPS)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        return child(given.child, 20)
    if given.seed is not None:
        faulthandler.enable()
        Player(given.seed, given.trace).play(STEPS)
        return 0
    end, seed, failures = time.monotonic() + given.seconds, given.first, 0
    while time.monotonic() < end:
        outcome = subprocess.run(
            [sys.executable, __file__, "--child", str(seed)], capture_output=True, text=True, check=False, timeout=1500
        )
        if outcome.returncode:
            failures += 1
            last = outcome.stdout.split()[-1] if outcome.stdout.split() else "?"
            print(f"seed {last}: exit status {outcome.returncode}\n{outcome.stderr[-3000:]}", flush=True)
        seed += 20
    print(f"{seed - given.first} seeds of {STEPS} steps, {failures} failures")
    return failures != 0


if __name__ == "__main__":
    sys.exit(main())
