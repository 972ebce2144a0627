"""Functions made to take a compiler's time and memory: compiled in bounds, with the right result, or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import lucet
from lucet.compile import extreme
from lucet.compile.driver import compile_module
from lucet.compile.extreme import is_extreme
from lucet.compile.options import Options
from lucet.errors import LimitExceeded
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module

BOUNDS = Options(workers=1, worker_seconds=60, worker_memory=2 << 30)
GET, I32_ADD, LOAD, STORE, DROP, END = b"\x20\0", b"\x6a", b"\x28\2", b"\x36\2", b"\x1a", b"\x0b"
BLOCK, LOOP, IF, BR_IF, BR_TABLE = b"\2\x40", b"\3\x40", b"\4\x40", b"\x0d", b"\x0e"


def u32(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def section(number: int, data: bytes) -> bytes:
    return bytes([number]) + u32(len(data)) + data


def module(body: bytes, *, count: int = 0) -> bytes:
    """One function [i32] -> [i32], exported as f, with `count` more locals, and one page of memory."""
    code = (b"\1" + u32(count) + b"\x7f" if count else b"\0") + body + END
    return b"\0asm\1\0\0\0" + b"".join(
        (
            section(1, b"\1\x60\1\x7f\1\x7f"),
            section(3, b"\1\0"),
            section(5, b"\1\0\1"),
            section(7, b"\1\1f\0\0"),
            section(10, b"\1" + u32(len(code)) + code),
        )
    )


def add_to_local(local: int, constant: int) -> bytes:
    return GET + b"\x41" + u32(constant) + I32_ADD + b"\x21" + u32(local)


def sum_of(locals_: range) -> bytes:
    return b"\x41\0" + b"".join(b"\x20" + u32(local) + I32_ADD for local in locals_)


LOCALS = range(1, 2500)
SLOW = {
    "locals that are live across a loop": (
        module(
            b"".join(add_to_local(local, local % 50) for local in LOCALS)
            + b"".join(BLOCK + GET + BR_IF + b"\0" + END for _ in range(2000))
            + sum_of(LOCALS),
            count=2500,
        ),
        1,
        sum(1 + local % 50 for local in LOCALS),
    ),
    "a long sum of loads": (
        module(GET + b"".join(GET + LOAD + u32(4 * i) + I32_ADD for i in range(10_000))),
        8,
        8,
    ),
    "all loads, then all sums": (
        module(b"".join(GET + LOAD + u32(4 * i) for i in range(10_000)) + I32_ADD * 9_999),
        8,
        0,
    ),
    "stores": (module(b"".join(GET + GET + STORE + u32(4 * i) for i in range(10_000)) + GET + LOAD + b"\4"), 8, 8),
    "a straight line": (module(GET + (b"\x41\3" + I32_ADD) * 60_000), 5, 180_005),
    "loops in loops": (module(LOOP * 5000 + END * 5000 + GET), 7, 7),
    "blocks in blocks": (module(BLOCK * 20_000 + GET + BR_IF + b"\0" + END * 20_000 + GET), 7, 7),
    "a long table": (
        module(BLOCK * 2 + GET + BR_TABLE + u32(200_000) + b"\0\1" * 100_000 + b"\0" + END + b"\x41\1\x0f" + END + GET),
        3,
        3,
    ),
    "minima": (module(GET + b"\xb7" + (GET + b"\xb7\xa4") * 12_000 + b"\xaa"), 9, 9),
    "divisions": (module(GET + (GET + b"\x6d") * 12_000), 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOW)
def test_extreme_functions_are_compiled_in_bounds(name: str) -> None:
    wasm, argument, expected = SLOW[name]
    artifact = compile_module(wasm, BOUNDS)
    instance = lucet.Region(1).new_instance(lucet.Module.from_bytes(artifact))
    assert instance.run("f", argument) == expected


def test_as_many_locals_as_there_may_be() -> None:
    artifact = compile_module(module(GET, count=49_999), BOUNDS)
    assert lucet.Region(1).new_instance(lucet.Module.from_bytes(artifact)).run("f", 3) == 3
    with pytest.raises(LimitExceeded, match="too many locals: 50001 with the parameters, the limit is 50000"):
        compile_module(module(GET, count=50_000), BOUNDS)


def extreme_of(body: bytes, *, count: int = 0) -> bool:
    decoded = decode_module(module(body, count=count))
    return is_extreme(decode_code(decoded, 0))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("MAX_INSTRS", lambda n: (BLOCK + END) * (n // 2 - 1) + GET),
        ("MAX_RUN", lambda n: GET + b"\x41\1\x6a" * (n // 2 - 1)),
        ("MAX_ACCESSES", lambda n: GET + (LOAD + b"\0") * n),
        ("MAX_TABLE_LABELS", lambda n: BLOCK + GET + BR_TABLE + u32(n) + b"\0" * n + b"\0" + END + GET),
        ("MAX_LOOP_DEPTH", lambda n: LOOP * n + END * n + GET),
    ],
)
def test_each_limit(name: str, make: Callable[[int], bytes]) -> None:
    limit = getattr(extreme, name)
    assert not extreme_of(make(limit))
    assert extreme_of(make(limit + 4))


def test_locals_by_labels() -> None:
    labels = extreme.MAX_LOCALS_BY_LABELS // 2000
    body = (BLOCK + END) * (labels - 1) + GET
    assert not extreme_of(body, count=2000)
    assert extreme_of(body, count=2001)


def test_loops_side_by_side_are_not_deep() -> None:
    assert not extreme_of((LOOP + END) * 10 * extreme.MAX_LOOP_DEPTH + GET)


@pytest.mark.parametrize("level", ["fast", "default", "best"])
def test_vectors_in_a_function_that_no_pass_changes(level: str) -> None:
    """Its blend of vectors, with a mask of bit 7, fails an assertion in one of LLVM's passes."""
    through_float = b"\xfd\x11" + b"\xfd\xfb\1" + b"\xfd\xf9\1" + b"\xfd\x1b\0"
    body = GET + through_float + (b"\x41\0" + I32_ADD) * extreme.MAX_RUN
    assert extreme_of(body)
    artifact = compile_module(module(body), Options(opt_level=level, workers=1))
    assert lucet.Region(1).new_instance(lucet.Module.from_bytes(artifact)).run("f", -(1 << 31)) == -(1 << 31)
