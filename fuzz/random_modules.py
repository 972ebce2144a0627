"""Valid modules at random, as text, whose every run ends soon and computes the same on every correct engine.

Bodies are typed expressions and statements, drawn from the instruction table. What keeps runs short: every function and
every loop that is not counted takes from the global $fuel, and returns, or is left, when there is none. What keeps
results defined: bits of NaNs that an instruction computed never reach what could tell them apart (memory, integers,
vectors of other lanes), because values on the way there pass through _canonical; operands of relaxed instructions are
such that there is one result; memories and tables have small maximums, so that growing never depends on the machine.
"""

from __future__ import annotations

from typing import Final

from fuzz.random_expressions import LANE_KINDS, NUMBERS, Scope, Signature, Table, heap_type, wasm_type
from fuzz.random_statements import Statements

FUEL: Final = 60


class ModuleMaker(Statements):
    """One module. The same random numbers give the same module."""

    def text(self) -> str:
        parts = [f"(type {one.name} (func{one.text}))" for one in self.signatures]
        parts.append('(import "host" "mix" (func $mix (param i32 i64) (result i64)))')
        parts += [memory.declaration for memory in self.memories]
        for table in self.tables:
            index_type = "i64 " if table.address == "i64" else ""
            parts.append(f"(table {table.name} {index_type}{table.size} {table.size * 2} {table.kind})")
        parts += [f"(tag $e{index} (param {' '.join(tag)}))" for index, tag in enumerate(self.tags)]
        parts.append(f'(global $fuel (export "fuel") (mut i32) (i32.const {FUEL}))')
        parts.append('(global $escaped (export "escaped") (mut i32) (i32.const 0))')
        for name, kind, mutable in self.globals:
            declared = f"(mut {kind})" if mutable else kind
            parts.append(f'(global {name} (export "{name[1:]}") {declared} {self.constant(kind, initial=True)})')
        parts += [f"(global {name} (mut {kind}) (ref.null {heap_type(kind)}))" for name, kind in self.ref_globals]
        parts += self._segments()
        for index, signature in enumerate(self.functions):
            parts.append(self._function(index, signature))
            parts.append(self._entry(index, signature))
        parts += [self._observer(table) for table in self.tables]
        nulls = " ".join(f"(ref.is_null (global.get {name}))" for name, _ in self.ref_globals)
        parts.append(f'(func (export "nulls globals") (result{" i32" * len(self.ref_globals)}) {nulls})')
        return "(module\n" + "\n".join(parts) + ")"

    def _segments(self) -> list[str]:
        rng = self.rng
        parts = []
        for memory in self.memories:
            data = bytes(rng.choice((0, 1, 127, 128, 255, rng.randrange(256))) for _ in range(64))
            offset = rng.randrange(memory.size - 64 + 1)
            parts.append(f"(data (memory {memory.index}) ({memory.address}.const {offset}) {_quoted(data)})")
        for index in range(self.datas):
            parts.append(f"(data $d{index} {_quoted(rng.randbytes(rng.randrange(20)))})")
        members = " ".join(f"$f{rng.randrange(len(self.functions))}" for _ in range(11))
        parts.append(f"(elem (table $funcs) ({self.tables[0].address}.const 2) func {members})")
        parts.append(f"(elem $s0 func {members})")
        fitting = [f"(ref.func $f{index})" for index, one in enumerate(self.functions) if one == self.signatures[0]]
        parts.append(f"(elem (table $typed) (i32.const 1) {self.tables[1].kind} {' '.join(fitting[:3])})")
        parts.append(f"(elem declare func {' '.join(f'$f{index}' for index in range(len(self.functions)))})")
        return parts

    def _function(self, index: int, signature: Signature) -> str:
        rng = self.rng
        params = [(f"$p{number}", kind) for number, kind in enumerate(signature.params)]
        kinds = rng.choices((*NUMBERS, *LANE_KINDS), k=rng.randrange(2, 9))
        kinds += ["funcref", "externref", "exnref", f"(ref null {rng.choice(self.signatures).name})"]
        locals_ = [(f"$l{number}", kind) for number, kind in enumerate(kinds)]
        self.scope = Scope(
            readable=[*params, *locals_],
            writable=[*(one for one in params if rng.random() < 0.5), *locals_],
            results=signature.results,
        )
        body = self.statements(rng.randrange(3, 9))
        results = " ".join(self.expression(kind, 3) for kind in signature.results)
        if rng.random() < 0.15 and (call := self.tail_call()):
            results = call
        declared = "".join(f" (local {name} {wasm_type(kind)})" for name, kind in locals_)
        declared += "".join(f" (local {name} i32)" for name in self.scope.declared)
        declared += " (local $c32 f32) (local $c64 f64) (local $cv v128)"
        header = "".join(f" (param {name} {wasm_type(kind)})" for name, kind in params)
        header += "".join(f" (result {kind})" for kind in signature.results)
        defaults = " ".join(self.default(kind) for kind in signature.results)
        return (
            f"(func $f{index} (type {signature.name}){header}{declared}\n"
            f"  (global.set $fuel (i32.sub (global.get $fuel) (i32.const 1)))\n"
            f"  (if (i32.lt_s (global.get $fuel) (i32.const 0)) (then (return {defaults})))\n"
            f"{body}\n{results})"
        )

    def _entry(self, index: int, signature: Signature) -> str:
        """An export for the host: references are the default ones, and of results only whether they are null."""
        params = [(f"$p{number}", kind) for number, kind in enumerate(signature.params)]
        header = "".join(f" (param {name} {kind})" for name, kind in params if kind in NUMBERS)
        results = [kind if kind in NUMBERS else "i32" for kind in signature.results]
        arguments = " ".join(f"(local.get {name})" if kind in NUMBERS else self.default(kind) for name, kind in params)
        locals_ = " ".join(
            f"(local $r{number} {kind})"
            for number, kind in enumerate(signature.results)
            if not kind.startswith("(ref $")
        )
        taken = " ".join(
            "(drop)" if kind.startswith("(ref $") else f"(local.set $r{number})"
            for number, kind in reversed(list(enumerate(signature.results)))
        )
        given = " ".join(
            "(i32.const 0)"
            if kind.startswith("(ref $")
            else f"(local.get $r{number})"
            if kind in NUMBERS
            else f"(ref.is_null (local.get $r{number}))"
            for number, kind in enumerate(signature.results)
        )
        typed = "".join(f" (result {kind})" for kind in results)
        return (
            f'(func (export "f{index}"){header}{typed} {locals_}\n'
            f"  (global.set $fuel (i32.const {FUEL}))\n"
            f"  (block $escape (try_table (catch_all $escape) (call $f{index} {arguments}) {taken} (return {given})))\n"
            f"  (global.set $escaped (i32.add (global.get $escaped) (i32.const 1)))\n"
            f"  {' '.join(self.default(kind) for kind in results)})"
        )

    def _observer(self, table: Table) -> str:
        """Which elements are null, as a number."""
        t = table.address
        return (
            f'(func (export "nulls {table.name[1:]}") (result i64) (local $i {t}) (local $h i64)\n'
            f"  (loop $l (if ({t}.lt_u (local.get $i) (table.size {table.name})) (then\n"
            f"    (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 3))\n"
            f"      (i64.extend_i32_u (ref.is_null (table.get {table.name} (local.get $i))))))\n"
            f"    (local.set $i ({t}.add (local.get $i) ({t}.const 1))) (br $l))))\n"
            f"  (local.get $h))"
        )


def _quoted(data: bytes) -> str:
    return '"' + "".join(f"\\{byte:02x}" for byte in data) + '"'
