"""Statements at random: what bodies of random modules do, in the end always. See random_modules.py."""

from __future__ import annotations

from typing import Final

from fuzz.random_expressions import (
    BY_RESULT,
    LANE_KINDS,
    NUMBERS,
    STORES,
    TRAPPING,
    WIDE,
    Expressions,
    Label,
    kinds_of,
    wasm_type,
)
from lucet.wasm.opcodes import Op

MAX_LOOPS: Final = 2


class Statements(Expressions):
    """Of the function that scope is about."""

    def statements(self, count: int) -> str:
        return "\n".join(self.statement() for _ in range(count))

    def statement(self) -> str:
        if self.scope.budget <= 0:
            return "(nop)"
        self.scope.budget -= 4
        ways = [
            (14, self.assignment),
            (10, self.store),
            (4, self.accumulation),
            (5, self.call_statement),
            (4, self.if_statement),
            (4, self.block_statement),
            (5, self.counted_loop),
            (2, self.fuel_loop),
            (3, self.bulk),
            (3, self.table_statement),
            (2, self.try_statement),
            (2, self.leave),
            (1, self.switch),
            (1, self.wide),
            (2, self.global_assignment),
            (1, self.null_branch),
            (1, lambda: f"(drop {self.expression(self.any_kind(), 3)})"),
            (1, self.odd_atomics),
        ]
        (way,) = self.rng.choices([way for _, way in ways], [weight for weight, _ in ways])
        return str(way())

    def any_kind(self) -> str:
        return self.rng.choice((*NUMBERS, *LANE_KINDS, "i32", "i64"))

    def assignment(self) -> str:
        name, kind = self.rng.choice(self.scope.writable)
        return f"(local.set {name} {self.expression(kind, 4)})"

    def accumulation(self) -> str:
        """What loops do: a variable and something new make the variable."""
        fitting = [one for one in self.scope.writable if one[1] in BY_RESULT]
        if not fitting:
            return self.store()
        name, kind = self.rng.choice(fitting)
        ops = [op for op in BY_RESULT[kind] if kinds_of(op)[0] == (kind, kind) and not _traps(op)]
        op = self.rng.choice(ops)
        operands = [f"(local.get {name})", self.load(kind) or self.expression(kind, 2)]
        self.rng.shuffle(operands)
        if op.name.endswith("copysign"):
            operands[1] = self._canonical(kind, operands[1])
        lanes = self._lanes(op)
        return f"(local.set {name} ({op.name} {lanes} {' '.join(operands)}))"

    def global_assignment(self) -> str:
        mutable = [(name, kind) for name, kind, is_mutable in self.globals if is_mutable] + self.ref_globals
        name, kind = self.rng.choice(mutable)
        return f"(global.set {name} {self.expression(kind, 3)})"

    def store(self) -> str:
        op = self.rng.choice(STORES)
        immediates, address = self.access(op)
        value = self.known(op.pops[1], 3)
        lane = f" {self.rng.randrange(op.lanes)}" if op.lanes else ""
        return f"({op.name} {immediates}{lane} {address} {value})"

    def odd_atomics(self) -> str:
        memory = self.rng.choice(self.memories)
        address = f"({memory.address}.const {self.rng.randrange(memory.size // 8) * 8})"
        match self.rng.randrange(3):
            case 0:
                return "(atomic.fence)"
            case 1:
                return f"(drop (memory.atomic.notify $m{memory.index} {address} {self.expression('i32', 2)}))"
            case _:
                if not memory.shared:
                    return "(atomic.fence)"
                width = self.rng.choice((32, 64))
                expected = self.expression(f"i{width}", 2)
                return f"(drop (memory.atomic.wait{width} $m{memory.index} {address} {expected} (i64.const 10)))"

    def call_statement(self) -> str:
        call, results = self.call()
        return self._take(call, results)

    def _take(self, call: str, results: tuple[str, ...]) -> str:
        """Runs it, and puts what it gives into locals as far as there are any for it."""
        parts = [call]
        for kind in reversed(results):
            fitting = [name for name, other in self.scope.writable if other == kind]
            parts.append(f"(local.set {self.rng.choice(fitting)})" if fitting else "(drop)")
        return " ".join(parts)

    def tail_call(self) -> str:
        fitting = [(index, one) for index, one in enumerate(self.functions) if one.results == self.scope.results]
        index, signature = self.rng.choice(fitting)
        arguments = " ".join(self.expression(kind, 2) for kind in signature.params)
        match self.rng.randrange(3):
            case 0:
                return f"(return_call $f{index} {arguments})"
            case 1:
                return f"(return_call_indirect $funcs (type {signature.name}) {arguments} {self.element()})"
            case _:
                return f"(return_call_ref {signature.name} {arguments} (ref.func $f{index}))"

    def if_statement(self) -> str:
        condition = self.condition()
        label = self._label()
        self.scope.labels.append(Label(name=label, kinds=()))
        arms = f"(then {self.statements(self.rng.randrange(1, 4))})"
        if self.rng.random() < 0.5:
            arms += f" (else {self.statements(self.rng.randrange(1, 4))})"
        self.scope.labels.pop()
        return f"(if {label} {condition} {arms})"

    def block_statement(self) -> str:
        """A block with results, and ways out of it."""
        kinds = tuple(self.rng.choices((*NUMBERS, *LANE_KINDS), k=self.rng.choice((0, 0, 1, 2, 3))))
        label = self._label()
        self.scope.labels.append(Label(name=label, kinds=kinds))
        body = self.statements(self.rng.randrange(1, 4))
        if self.rng.random() < 0.5:
            values = " ".join(self.expression(kind, 2) for kind in kinds)
            drops = "(drop)" * len(kinds)
            body += f" {values} (br_if {label} {self.condition()}) {drops}"
        self.scope.labels.pop()
        values = " ".join(self.expression(kind, 2) for kind in kinds)
        header = "".join(f" (result {wasm_type(kind)})" for kind in kinds)
        return self._take(f"(block {label}{header} {body} {values})", kinds)

    def counted_loop(self) -> str:
        """It ends whatever its body does: that cannot write the counter, nor branch to the loop."""
        scope, rng = self.scope, self.rng
        if scope.loops >= MAX_LOOPS:
            return self.store()
        counter, label = f"$i{self._number()}", self._label()
        scope.declared.append(counter)
        step = rng.choice((1, 1, 1, 2, 3, 4, 8))
        rounds = rng.choice((1, 3, 8, 17, 40) if not scope.loops else (1, 2, 5, 9))
        bound = f"(i32.const {rounds * step})"
        if rng.random() < 0.5:
            limit = f"$n{self._number()}"
            scope.declared.append(limit)
            front = f"(local.set {limit} (i32.and {self.expression('i32', 2)} (i32.const {rounds * step})))"
            bound = f"(local.get {limit})"
        else:
            front = ""
        scope.readable.append((counter, "i32"))
        scope.counters.append(counter)
        scope.loops += 1
        body = self.statements(rng.randrange(1, 4))
        scope.loops -= 1
        scope.counters.pop()
        comparison = rng.choice(("lt_u", "lt_s", "le_s", "le_u"))
        following = f"(i32.add (local.get {counter}) (i32.const {step}))"
        if rng.random() < 0.6:
            last = f"(br_if {label} (i32.{comparison} (local.tee {counter} {following}) {bound}))"
        else:
            last = f"(local.set {counter} {following}) (br_if {label} (i32.{comparison} (local.get {counter}) {bound}))"
        start = rng.choice((0, 0, 1, 4))
        return f"{front} (local.set {counter} (i32.const {start})) (loop {label} {body} {last})"

    def fuel_loop(self) -> str:
        """Anything may branch to it; each round takes of the fuel."""
        scope = self.scope
        if scope.loops >= MAX_LOOPS:
            return self.assignment()
        label, end = self._label(), self._label()
        scope.labels += [Label(name=end, kinds=()), Label(name=label, kinds=())]
        scope.loops += 1
        body = self.statements(self.rng.randrange(1, 4))
        condition = self.condition()
        scope.loops -= 1
        del scope.labels[-2:]
        return (
            f"(block {end} (loop {label} (global.set $fuel (i32.sub (global.get $fuel) (i32.const 1)))"
            f" (br_if {end} (i32.lt_s (global.get $fuel) (i32.const 0))) {body} (br_if {label} {condition})))"
        )

    def bulk(self) -> str:
        rng = self.rng
        to, source = rng.choice(self.memories), rng.choice(self.memories)
        t = to.address
        match rng.randrange(4):
            case 0:
                length_type = "i64" if to.address == source.address == "i64" else "i32"
                operands = (
                    f"{self.place(to)} {self.place(source)} {self.length(length_type, min(to.size, source.size))}"
                )
                return f"(memory.copy $m{to.index} $m{source.index} {operands})"
            case 1:
                return (
                    f"(memory.fill $m{to.index} {self.place(to)} {self.expression('i32', 2)} {self.length(t, to.size)})"
                )
            case 2:
                index = rng.randrange(self.datas)
                operands = f"{self.place(to)} (i32.const {rng.randrange(4)}) (i32.const {rng.randrange(6)})"
                return f"(memory.init $m{to.index} $d{index} {operands})"
            case _:
                if rng.random() < 0.2:
                    return f"(data.drop $d{rng.randrange(self.datas)})"
                pages = rng.choice((0, 1, 1, 100)) if to.page > 1 else rng.randrange(100)
                return self._take(f"(memory.grow $m{to.index} ({t}.const {pages}))", (t,))

    def length(self, kind: str, size: int) -> str:
        """Rarely too much for a memory of the size."""
        most = 500 if size > 1000 else 16
        if self.rng.random() < 0.5:
            return f"({kind}.const {self.rng.choice((0, 1, 7, 8, 16, most))})"
        return f"({kind}.and {self.expression(kind, 2)} ({kind}.const {self.rng.choice((15, most // 2))}))"

    def table_statement(self) -> str:
        rng = self.rng
        table = rng.choice(self.tables)
        t = table.address

        def index() -> str:
            if rng.random() < 0.6:
                return f"({t}.const {rng.randrange(table.size)})"
            return f"({t}.and {self.expression(t, 2)} ({t}.const {3 if table.size < 16 else 15}))"

        def few() -> str:
            return f"({t}.const {rng.randrange(4)})"

        match rng.randrange(6):
            case 0:
                return f"(table.set {table.name} {index()} {self.expression(table.kind, 2)})"
            case 1:
                return f"(table.fill {table.name} {index()} {self.expression(table.kind, 2)} {few()})"
            case 2:
                return f"(table.copy {table.name} {table.name} {index()} {index()} {few()})"
            case 3:
                grown = f"(table.grow {table.name} {self.expression(table.kind, 2)} {few()})"
                return self._take(grown, (t,))
            case 4 if table.kind == "funcref":
                return f"(table.init {table.name} $s0 {index()} (i32.const {rng.randrange(8)}) (i32.const 3))"
            case _:
                fitting = [name for name, kind in self.scope.writable if kind == table.kind]
                get = f"(table.get {table.name} {index()})"
                return f"(local.set {rng.choice(fitting)} {get})" if fitting else f"(drop {get})"

    def try_statement(self) -> str:
        rng = self.rng
        tag = rng.randrange(len(self.tags))
        kinds = self.tags[tag]
        with_ref, all_of_them = rng.random() < 0.4, rng.random() < 0.3
        label, end = self._label(), self._label()
        self.scope.labels.append(Label(name=end, kinds=()))
        body = self.statements(rng.randrange(1, 4))
        if rng.random() < 0.6:
            body += f" (if {self.condition()} (then {self.throw()}))"
        self.scope.labels.pop()
        caught = () if all_of_them else kinds
        if with_ref:
            caught = (*caught, "exnref")
        what = "catch_all" if all_of_them else "catch"
        clause = f"({what}{'_ref' * with_ref} {'' if all_of_them else f'$e{tag} '}{label})"
        header = "".join(f" (result {kind})" for kind in caught)
        # A handler's reference cannot be null, which matches where it may be.
        handler = f"(block {label}{header} (block {end} (try_table {clause} {body})) {self._defaults(caught)})"
        return self._take(handler, caught)

    def _defaults(self, kinds: tuple[str, ...]) -> str:
        return " ".join(self.default(kind) for kind in kinds)

    def throw(self) -> str:
        tag = self.rng.randrange(len(self.tags))
        exceptions = [name for name, kind in self.scope.readable if kind == "exnref"]
        if exceptions and self.rng.random() < 0.2:
            name = self.rng.choice(exceptions)
            return f"(if (i32.eqz (ref.is_null (local.get {name}))) (then (throw_ref (local.get {name}))))"
        values = " ".join(self.expression(kind, 2) for kind in self.tags[tag])
        return f"(throw $e{tag} {values})"

    def leave(self) -> str:
        """A branch out of something, or an end, under a condition."""
        rng = self.rng
        if self.scope.labels and rng.random() < 0.7:
            label = rng.choice(self.scope.labels)
            values = " ".join(self.expression(kind, 2) for kind in label.kinds)
            way = f"(br {label.name} {values})"
            if not label.kinds and rng.random() < 0.6:
                return f"(br_if {label.name} {self.condition()})"
        else:
            match rng.randrange(12):
                case 0:
                    way = "(unreachable)"
                case 1 | 2 | 3:
                    way = self.throw()
                case 4 | 5:
                    way = self.tail_call()
                case _:
                    way = f"(return {' '.join(self.expression(kind, 2) for kind in self.scope.results)})"
        return f"(if {self.condition()} (then {way}))"

    def switch(self) -> str:
        labels = [self._label() for _ in range(self.rng.randrange(2, 5))]
        selector = f"(i32.and {self.expression('i32', 2)} (i32.const 7))"
        text = f"(br_table {' '.join(self.rng.choices(labels, k=self.rng.randrange(1, 7)))} {selector})"
        for position, label in enumerate(labels):
            self.scope.labels += [Label(name=one, kinds=()) for one in labels[position + 1 :]]
            after = self.statements(1)
            del self.scope.labels[len(self.scope.labels) - len(labels[position + 1 :]) :]
            text = f"(block {label} {text}) {after}"
        return text

    def wide(self) -> str:
        op = self.rng.choice(WIDE)
        operands = " ".join(self.expression(kind, 2) for kind in op.pops)
        return self._take(f"({op.name} {operands})", op.pushes)

    def null_branch(self) -> str:
        fitting = [
            (name, kind) for name, kind in self.scope.writable if kind == "funcref" or kind.startswith("(ref null")
        ]
        name, kind = self.rng.choice(fitting)
        label = self._label()
        return f"(block {label} (local.set {name} (br_on_null {label} {self.expression(kind, 2)})))"


def _traps(op: Op) -> bool:
    return op.name.partition(".")[2] in TRAPPING
