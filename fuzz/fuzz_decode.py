"""Fuzzes decoder and validator: `python fuzz/fuzz_decode.py --seconds 300 [more .wasm files to mutate]`.

Whatever the bytes, only CompileErrors may come out, and within a time that is linear in the size of the input. One
part of the inputs are mutations of the given modules; the others are made by hypothesis from parts that look like
sections and code, which gets deeper into the validator. With --compare, wasmtime must give the same verdict on each.
What fails is written to fuzz/failures/ and ends the run with status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from lucet.errors import CompileError, LimitExceeded, Unsupported
from lucet.wasm.check import check_module
from lucet.wasm.disasm import describe_module
from lucet.wasm.leb128 import unsigned_leb128
from lucet.wasm.opcodes import OPS, UNSUPPORTED_OPS, Op, split_code

FAILURES = Path(__file__).parent / "failures"

SECONDS_PER_INPUT = 0.5
SECONDS_PER_BYTE = 60e-6
"""Some hundred times what real code takes: 50,000 locals can be declared in seven bytes."""

LARGEST_SEED = 200_000

INTERESTING = (
    *(
        b"\x00",
        b"\x01",
        b"\x0b",
        b"\x3f",
        b"\x40",
        b"\x63",
        b"\x64",
        b"\x6f",
        b"\x70",
        b"\x7b",
        b"\x7f",
        b"\x80",
        b"\xfc",
    ),
    *(b"\xfd", b"\xfe", b"\xff", b"\x80\x80\x04", b"\xd0\x86\x03", b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x10"),
    *(b"\xff\xff\xff\xff\x07", b"\x80\x80\x80\x80\x78", b"\xff" * 9 + b"\x01", b"\x80" * 9 + b"\x7f"),
)


HEADER = b"\0asm\1\0\0\0"
ONE_BYTE_OPCODES = [code for code in OPS if code <= 0xFF]


class Failure(Exception):
    """An input did what no input may do."""


class Campaign:
    """Runs inputs, and counts what came of them."""

    def __init__(self, oracle: Callable[[bytes], bool] | None) -> None:
        self.outcomes = Counter[str]()
        self.oracle = oracle

    def run(self, data: bytes) -> None:
        start = time.process_time()
        refusal: CompileError | None = None
        try:
            for _ in describe_module(check_module(data)):
                pass
            outcome = "valid"
        except CompileError as error:
            refusal = error
            outcome = f"{type(error).__name__}: {' '.join(str(error).split()[:2])}"
        except Exception as error:
            raise Failure(f"{self._keep(data)}:\n{traceback.format_exc()}") from error
        seconds = time.process_time() - start
        if seconds > SECONDS_PER_INPUT + SECONDS_PER_BYTE * len(data):
            raise Failure(f"{self._keep(data)}: {seconds:.1f} s for {len(data)} bytes ({outcome})")
        comparable = not isinstance(refusal, Unsupported | LimitExceeded)
        if self.oracle and comparable and self.oracle(data) != (refusal is None):
            raise Failure(f"{self._keep(data)}: {outcome}, and wasmtime thinks otherwise")
        self.outcomes[outcome] += 1

    @staticmethod
    def _keep(data: bytes) -> Path:
        FAILURES.mkdir(exist_ok=True)
        path = FAILURES / f"{hashlib.sha256(data).hexdigest()[:16]}.wasm"
        path.write_bytes(data)
        return path


def main() -> int:
    parser = argparse.ArgumentParser(description="fuzz decoder and validator")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="for the same inputs again")
    parser.add_argument("--compare", action="store_true", help="compare the verdicts with those of wasmtime")
    parser.add_argument("files", nargs="*", type=Path, help=".wasm files to mutate")
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.seconds:g} s")
    rng = random.Random(seed)
    seeds = [data for path in arguments.files if len(data := path.read_bytes()) <= LARGEST_SEED]
    campaign = Campaign(wasmtime_oracle() if arguments.compare else None)
    deadline = time.monotonic() + arguments.seconds
    try:
        while time.monotonic() < deadline:
            made = generate(campaign, rng, examples=200)
            mutate(campaign, rng, seeds + made, count=400, deadline=deadline)
    except Failure as failure:
        print(f"FAILED after {campaign.outcomes.total()} inputs: {failure}")
        return 1
    print(f"{campaign.outcomes.total()} inputs, {len(campaign.outcomes)} different outcomes")
    for outcome, count in campaign.outcomes.most_common(40):
        print(f"{count:8d} {outcome}")
    return 0


def wasmtime_oracle() -> Callable[[bytes], bool]:
    """Whether wasmtime finds a module valid: as WebAssembly 3.0, so that all we refuse must be refused there too."""
    import wasmtime

    config = wasmtime.Config()
    for feature in ("threads", "tail_call", "multi_memory", "memory64", "function_references", "gc", "exceptions"):
        setattr(config, f"wasm_{feature}", True)
    engine = wasmtime.Engine(config)

    def is_valid(data: bytes) -> bool:
        try:
            wasmtime.Module.validate(engine, data)
        except wasmtime.WasmtimeError:
            return False
        return True

    return is_valid


def generate(campaign: Campaign, rng: random.Random, *, examples: int) -> list[bytes]:
    """Runs modules made by hypothesis, and returns some of them for the mutations."""
    made: list[bytes] = []

    @hypothesis_seed(rng.randrange(1 << 32))
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(modules())
    def run_all(data: bytes) -> None:
        made.append(data)
        campaign.run(data)

    run_all()
    return made[-5:]


def mutate(campaign: Campaign, rng: random.Random, seeds: list[bytes], *, count: int, deadline: float) -> None:
    for _ in range(count):
        if time.monotonic() > deadline:
            return
        data = bytearray(rng.choice(seeds))
        change = rng.choice((mutate_once, mutate_in_place, mutate_in_place))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            change(rng, data, seeds)
        campaign.run(bytes(data))


def mutate_in_place(rng: random.Random, data: bytearray, _seeds: list[bytes]) -> None:
    """Leaves all sizes as they are: most of what comes out is still a module, with other code."""
    if len(data) <= len(HEADER):
        return
    position = rng.randrange(len(HEADER), len(data))
    neighbour = rng.randrange(max(len(HEADER), position - 10), position + 1)
    match rng.randrange(4):
        case 0:
            data[position] = rng.choice(ONE_BYTE_OPCODES)
        case 1:
            data[position] = rng.randrange(5)
        case 2:
            data[position] = data[rng.randrange(len(data))]
        case _:
            data[position], data[neighbour] = data[neighbour], data[position]


def mutate_once(rng: random.Random, data: bytearray, seeds: list[bytes]) -> None:
    position = rng.randrange(len(data) + 1)
    length = rng.choice((1, 1, 1, 2, 4, 16, 256))
    match rng.randrange(7):
        case 0:
            data[position : position + 1] = bytes([rng.randrange(256)])
        case 1 if position < len(data):
            data[position] ^= 1 << rng.randrange(8)
        case 2:
            del data[position : position + length]
        case 3:
            value = rng.choice(INTERESTING)
            data[position : position + rng.choice((0, 1, len(value)))] = value
        case 4:
            data[position:position] = data[position : position + length] * rng.choice((1, 2, 50))
        case 5:
            other = rng.choice(seeds)
            start = rng.randrange(len(other) + 1)
            data[position : position + length] = other[start : start + length]
        case _:
            del data[position:]


def integers(largest: int = 3) -> SearchStrategy[bytes]:
    """Mostly small, as indices must be to be valid; now and then at an edge, or nonsense."""
    small = st.integers(0, largest).map(unsigned_leb128)
    nonsense = st.one_of(st.sampled_from(INTERESTING), st.integers(0, 1 << 32).map(unsigned_leb128))
    return rarely(nonsense, small)


def rarely(rare: SearchStrategy[bytes], usual: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    return st.integers(0, 59).flatmap(lambda number: rare if number == 59 else usual)


def sized(contents: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    return contents.map(lambda data: unsigned_leb128(len(data)) + data)


def vectors(element: SearchStrategy[bytes], largest: int = 4) -> SearchStrategy[bytes]:
    return st.lists(element, max_size=largest).map(lambda elements: unsigned_leb128(len(elements)) + b"".join(elements))


def join(*parts: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


def valtypes() -> SearchStrategy[bytes]:
    numbers = st.sampled_from([b"\x7f", b"\x7f", b"\x7e", b"\x7d", b"\x7c", b"\x7b"])
    usual = st.one_of(numbers, numbers, reftypes())
    return rarely(st.sampled_from([b"\x63\x70", b"\x40", b"\x6e", b"\xff\x7f"]), usual)


def reftypes() -> SearchStrategy[bytes]:
    abstract = st.sampled_from([b"\x70", b"\x70", b"\x6f", b"\x73", b"\x64\x70", b"\x64\x6f", b"\x64\x73"])
    concrete = join(st.sampled_from([b"\x63", b"\x64"]), integers(3))
    rare = [b"\x63\x70", b"\x63\x6f", b"\x64\x72", b"\x69", b"\x64\x69", b"\x74", b"\x6e", b"\x7f"]
    return rarely(st.sampled_from(rare), st.one_of(abstract, concrete))


def immediates(kind: str) -> SearchStrategy[bytes]:
    match kind:
        case "":
            return st.just(b"")
        case "blocktype":
            return st.one_of(st.just(b"\x40"), valtypes(), integers())
        case "try_table":
            catches = st.one_of(
                [join(st.just(bytes([kind])), *[integers(3)] * (1 if kind & 2 else 2)) for kind in range(4)]
            )
            return join(immediates("blocktype"), vectors(catches, 3))
        case "br_table":
            return join(vectors(integers(), 6), integers())
        case "memarg":
            return join(integers(3), integers(100))
        case "i32" | "i64":
            return st.one_of(st.integers(0, 0x7F).map(unsigned_leb128), st.sampled_from(INTERESTING))
        case "f32":
            return st.binary(min_size=4, max_size=4)
        case "f64":
            return st.binary(min_size=8, max_size=8)
        case "v128" | "lanes":
            return st.binary(min_size=16, max_size=16)
        case "lane":
            return st.binary(min_size=1, max_size=1)
        case "memarg_lane":
            return join(immediates("memarg"), immediates("lane"))
        case "reftype":
            return st.one_of(st.sampled_from([b"\x70", b"\x6f", b"\x73", b"\x72", b"\x69", b"\x74"]), integers())
        case "valtypes":
            return vectors(valtypes(), 2)
        case _:
            return join(*[integers()] * (2 if "_" in kind else 1))


def opcode(op: Op) -> bytes:
    if op.code <= 0xFF:
        return bytes([op.code])
    prefix, number = split_code(op.code)
    return bytes([prefix]) + unsigned_leb128(number)


def instructions() -> SearchStrategy[bytes]:
    regular = st.one_of([immediates(op.immediates).map(opcode(op).__add__) for op in OPS.values()])
    other = [bytes([code, 0]) for code in UNSUPPORTED_OPS] + [b"\xfd\x9a\x01", b"\xfb\x00", b"\xff", b"\x27"]
    return rarely(st.sampled_from(other), regular)


def expressions() -> SearchStrategy[bytes]:
    """Nested as it should be for the most part."""
    flat = st.lists(instructions(), max_size=8).map(b"".join)
    ends = st.integers(0, 3).map(lambda count: b"\x0b" * count)
    heads = st.sampled_from([b"", b"\0", b"\x02\x40", b"\x03\x40", b"\x41\0\x04\x7f", b"\x41\0\x41\0\x41\0", b"\x42\0"])
    return join(heads, flat, ends, flat).map(lambda code: code + b"\x0b")


def constants() -> SearchStrategy[bytes]:
    good = [b"\x41\0\x0b", b"\x41\1\x0b", b"\x23\0\x0b", b"\x42\1\x42\1\x7c\x0b"]
    good += [b"\xd0\x70\x0b", b"\xd0\0\x0b", b"\xd2\0\x0b"]
    return st.one_of(st.sampled_from(good), st.sampled_from(good), expressions())


def limits() -> SearchStrategy[bytes]:
    usual = st.one_of(join(st.just(b"\0"), integers(10)), join(st.just(b"\1"), integers(3), integers(10)))
    return rarely(st.binary(max_size=4), usual)


def sections() -> list[tuple[int, SearchStrategy[bytes]]]:
    """In their order, with what may be in them."""
    names = sized(rarely(st.binary(max_size=2), st.text(max_size=3).map(str.encode)))
    func_types = join(st.just(b"\x60"), vectors(valtypes(), 3), vectors(valtypes(), 2))
    table_types = join(reftypes(), limits())
    global_types = join(valtypes(), rarely(st.just(b"\2"), st.sampled_from([b"\0", b"\1"])))
    imports = rarely(
        st.one_of(join(st.just(b"\2"), limits()), join(st.just(b"\4"), integers())),
        st.one_of(
            join(st.just(b"\0"), integers(1)), join(st.just(b"\1"), table_types), join(st.just(b"\3"), global_types)
        ),
    )
    funcs, exprs = vectors(integers(1)), vectors(constants())
    elems = st.one_of(
        join(st.just(b"\0"), constants(), funcs),
        join(st.sampled_from([b"\1\0", b"\3\0"]), funcs),
        join(st.just(b"\2"), integers(), constants(), st.just(b"\0"), funcs),
        join(st.just(b"\4"), constants(), exprs),
        join(st.sampled_from([b"\5", b"\7"]), reftypes(), exprs),
        join(st.just(b"\6"), integers(), constants(), reftypes(), exprs),
    )
    datas = join(st.one_of(st.just(b"\1"), join(st.just(b"\0"), constants())), sized(st.binary(max_size=5)))
    codes = sized(join(vectors(join(integers(5), valtypes()), 3), expressions()))
    tables = st.one_of(table_types, join(st.just(b"\x40\0"), table_types, constants()))
    exports = join(names, st.sampled_from([b"\0", b"\1", b"\2", b"\3"]), integers(1))
    return [
        (1, rarely(st.binary(max_size=8), vectors(func_types))),
        (2, vectors(join(names, names, imports), 2)),
        (3, vectors(integers(1))),
        (4, vectors(tables, 3)),
        (5, vectors(limits(), 1)),
        (13, rarely(st.binary(max_size=3), st.just(b"\0"))),
        (6, vectors(join(global_types, constants()))),
        (7, vectors(exports)),
        (8, integers(1)),
        (9, vectors(elems)),
        (12, integers(2)),
        (10, vectors(codes)),
        (11, vectors(datas)),
        (0, join(st.just(b"\4name"), st.binary(max_size=20))),
    ]


@st.composite
def modules(draw: st.DrawFn) -> bytes:
    """Modules of which about every second has functions and code in agreement."""
    contents = {}
    for section_id, strategy in _SECTIONS:
        if draw(st.integers(0, 3)):
            contents[section_id] = draw(strategy)
    if draw(st.booleans()):
        count = draw(st.integers(0, 3))
        bodies = [draw(_CODES) for _ in range(count)]
        # The last two refer to the first and to themselves.
        contents[1] = b"\5\x60\0\0\x60\1\x7f\1\x7f\x60\2\x7f\x7e\0\x60\2\x63\0\x64\0\1\x64\0\x60\1\x64\4\1\x63\4"
        contents[3] = bytes([count]) + bytes(draw(st.integers(0, 4)) for _ in range(count))
        contents[5] = b"\1\0\1"
        contents[10] = bytes([count]) + b"".join(bodies)
        contents.pop(12, None)
        for section_id in draw(st.sets(st.sampled_from([2, 4, 6, 7, 8, 9, 11, 13]))):
            contents.pop(section_id, None)
    order = [section_id for section_id, _ in _SECTIONS if section_id in contents]
    return HEADER + b"".join(bytes([i]) + unsigned_leb128(len(contents[i])) + contents[i] for i in order)


_SECTIONS = sections()
_CODES = sized(join(vectors(join(integers(5), valtypes()), 3), expressions()))


if __name__ == "__main__":
    sys.exit(main())
