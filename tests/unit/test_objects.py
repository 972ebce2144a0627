"""Objects that are kept between compilations: what is reused, what is not, and that nobody can tell from the bytes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import lucet
from lucet.compile import driver, objects, pool
from lucet.compile.chunks import make_chunks
from lucet.compile.layout import make_plan
from lucet.compile.options import Options
from lucet.errors import Invalid
from lucet.wasm.decode import decode_module
from lucet.wasm.text import text_to_binary

COUNT = 600


def module_text(changed: dict[int, str] | None = None, *, data: str = "abc", more: str = "") -> str:
    """Functions of different sizes, each with a memory access and a call."""
    chooser = random.Random(1)
    functions = []
    for number in range(COUNT):
        filler = "(drop (i32.load offset=4 (local.get 0)))" * chooser.randint(1, 40)
        body = (changed or {}).get(number, f"(i32.const {number})")
        call = f"(drop (call {(number * 7) % COUNT} (local.get 0)))"
        functions.append(f"(func (param i32) (result i32) {filler} {call} {body})")
    return f'(module (memory 1) {more} {" ".join(functions)} (data (i32.const 9) "{data}") (export "f" (func 3)))'


@pytest.fixture(scope="module")
def wasm() -> bytes:
    return text_to_binary(module_text())


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("LUCET_CACHE_DIR", str(folder))
    monkeypatch.delenv("LUCET_CACHE_SIZE", raising=False)
    return folder


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many chunks each compilation has given to workers."""
    counts: list[int] = []

    def count(job: object, chunks: list[object], progress: object = None) -> list[bytes]:
        counts.append(len(chunks))
        return pool.compile_chunks(job, chunks, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(objects, "compile_chunks", count)
    yield counts


def incremental(wasm: bytes, **options: object) -> bytes:
    return driver.compile_module(wasm, Options(opt_level="none", incremental=True, **options))  # type: ignore[arg-type]


def plain(wasm: bytes) -> bytes:
    return driver.compile_module(wasm, Options(opt_level="none"))


def chunk_count(wasm: bytes) -> int:
    module = decode_module(wasm)
    return len(make_chunks(module, make_plan(module, Options())))


def test_nothing_is_compiled_again(wasm: bytes, directory: Path, compiled: list[int]) -> None:
    assert chunk_count(wasm) > 6
    first = incremental(wasm)
    assert first == plain(wasm)
    assert incremental(wasm) == first
    assert compiled == [chunk_count(wasm)]
    assert len(list(directory.glob("*.o"))) == chunk_count(wasm)


@pytest.mark.parametrize(
    "body",
    [
        "(i32.const 1000)",
        "(i32.mul (local.get 0) (i32.const 3))" + "(drop (i32.const 5))" * 3,
        "(i32.const 1)" + "(drop (i32.const 5))" * 30_000,
    ],
    ids=["the same size", "larger", "larger than a chunk"],
)
def test_a_changed_function(body: str, wasm: bytes, directory: Path, compiled: list[int]) -> None:
    changed = text_to_binary(module_text({311: body}))
    incremental(wasm)
    assert incremental(changed) == plain(changed)
    assert compiled[1] <= 4


def test_data_names_and_custom_sections_change_no_object(wasm: bytes, directory: Path, compiled: list[int]) -> None:
    incremental(wasm)
    other = text_to_binary(module_text(data="xyz")) + b"\0\3\1nn"
    assert incremental(other) == plain(other) != incremental(wasm)
    assert compiled == [chunk_count(wasm)]


@pytest.mark.parametrize("more", ["(global i32 (i32.const 1))", "(table 3 funcref)", "(type (func (param f64 f64)))"])
def test_what_functions_could_refer_to_changes_all(
    more: str, wasm: bytes, directory: Path, compiled: list[int]
) -> None:
    incremental(wasm)
    other = text_to_binary(module_text(more=more))
    assert incremental(other) == plain(other)
    assert compiled[1] == chunk_count(other)


def test_options_have_objects_of_their_own(wasm: bytes, directory: Path, compiled: list[int]) -> None:
    incremental(wasm)
    incremental(wasm, bounds="explicit")
    incremental(wasm, workers=1, worker_seconds=1000)
    assert compiled == [chunk_count(wasm)] * 2


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "not a file"])
def test_damaged_entries_are_compiled_again(damage: str, wasm: bytes, directory: Path, compiled: list[int]) -> None:
    expected = incremental(wasm)
    for path in sorted(directory.glob("*.o"))[:3]:
        data = bytearray(path.read_bytes())
        if damage == "not a file":
            path.unlink()
            path.mkdir()
            continue
        data[len(data) // 2] ^= 1
        path.write_bytes({"empty": b"", "cut": bytes(data[: len(data) // 2]), "flipped": bytes(data)}[damage])
    assert incremental(wasm) == expected
    assert compiled[1] == 3
    if damage != "not a file":
        assert incremental(wasm) == expected
        assert len(compiled) == 2


def test_errors_are_not_kept(directory: Path, compiled: list[int]) -> None:
    broken = text_to_binary(module_text({COUNT - 1: "(i64.const 1)"}))
    for _ in range(2):
        with pytest.raises(Invalid) as caught:
            incremental(broken)
        assert caught.value.function == COUNT - 1
    assert len(compiled) == 2


def test_the_limit_counts_objects(
    wasm: bytes, directory: Path, compiled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    incremental(wasm)
    for path in directory.glob("*.o"):
        os.utime(path, (1, 1))
    monkeypatch.setenv("LUCET_CACHE_SIZE", "1")
    incremental(text_to_binary("(module (func))"))
    assert len(list(directory.glob("*.o"))) == 1, "the one just used"


def test_a_directory_that_others_can_write_to(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(PermissionError):
        lucet.compile(text_to_binary("(module)"), incremental=True)


def test_wasm_without_functions(directory: Path, compiled: list[int]) -> None:
    empty = text_to_binary("(module)")
    assert incremental(empty) == incremental(empty) == plain(empty)
    assert compiled == [1]


def inlining(size: int, helper: int = 4) -> bytes:
    """Functions that call a short one which may trap; the one in the middle has `size` instructions more."""
    filler = "(nop)" * 9000
    caller = f"(func (param i32) (result i32) {{}} {filler} (call $helper (local.get 0)))"
    functions = " ".join(caller.format("(nop)" * size if number == 3 else "") for number in range(7))
    helper_text = f"(func $helper (param i32) (result i32) (i32.load offset={helper} (local.get 0)))"
    return text_to_binary(f"(module (memory 1) {functions.replace('(func', helper_text + ' (func', 1)} {functions})")


def test_inlined_functions(directory: Path, compiled: list[int]) -> None:
    """Where they are in the file is no matter of the object, but what is in them is."""

    def both(wasm: bytes) -> None:
        kept = driver.compile_module(wasm, Options(incremental=True))
        assert kept == driver.compile_module(wasm, Options())

    both(inlining(0))
    assert compiled[-1] > 6
    both(inlining(5))
    assert compiled[-1] <= 4
    other = inlining(5, helper=8)
    both(other)
    assert compiled[-1] == chunk_count(other)
