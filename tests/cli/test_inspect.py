"""What `lucet inspect` says of an artifact."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lucet.abi.artifact_report import report
from lucet.errors import ArtifactError
from tests.cli.programs import HELLO, Lucet

Refuses = Callable[..., str]

TEXT = """(module
  (import "env" "log" (func $log (param i32 f64)))
  (memory (export "memory") 1 7) (data (i32.const 70) "hello")
  (table 3 funcref) (elem (i32.const 0) $divide)
  (global (export "counter") (mut i64) (i64.const 0))
  (func $divide (export "divide") (param i32 i32) (result i32)
    (i32.div_u (local.get 0) (local.get 1)))
  (func $never unreachable)
  (func (export "call") (param i32) (result i32)
    (call_indirect (param i32 i32) (result i32) (i32.const 7) (i32.const 1) (local.get 0)))
  (func $start) (start $start))"""


@pytest.fixture
def artifact(lucet: Lucet, tmp_path: Path) -> Path:
    (tmp_path / "module.wat").write_text(TEXT)
    options = ("--target-cpu", "x86-64-v2", "--count-instructions")
    assert lucet("compile", "module.wat", "-o", "module.so", *options).returncode == 0
    return tmp_path / "module.so"


def test_json_has_everything(lucet: Lucet, artifact: Path) -> None:
    outcome = lucet("inspect", "--json", artifact)
    assert outcome.returncode == 0
    found = json.loads(outcome.stdout)
    assert (found["size"], found["intact"], found["signed"]) == (artifact.stat().st_size, True, None)
    assert found["cpu"] == {"name": "x86-64-v2", "features": ["sse4_1", "sse4_2", "popcnt", "ssse3"]}
    assert found["counts_instructions"] is True
    assert found["imports"] == [{"module": "env", "name": "log", "kind": "func", "index": 0, "type": "[i32 f64] -> []"}]
    assert [(one["name"], one["kind"], one["index"], one.get("type")) for one in found["exports"]] == [
        ("memory", "memory", 0, None),
        ("counter", "global", 0, "i64"),
        ("divide", "func", 1, "[i32 i32] -> [i32]"),
        ("call", "func", 3, "[i32] -> [i32]"),
    ]
    assert [(one["minimum"], one["maximum"], one["bounds"]) for one in found["memories"]] == [(1, 7, "guard")]
    assert [(one["minimum"], one["type"]) for one in found["tables"]] == [(3, "funcref")]
    assert found["start"] == 4
    assert found["images"] == [{"memory_offset": 0, "size": 4096}]
    sections = {one["name"]: one for one in found["sections"]}
    assert sections[".text"]["executable"]
    assert sections[".lucet.image"]["size"] == 4096
    assert sections[".symtab"]["address"] is None
    names = {one["name"]: one for one in found["functions"]}
    assert names["log"]["imported"]
    assert names["divide"]["type"] == "[i32 i32] -> [i32]"
    assert names["divide"]["size"] > 0


def test_traps_are_where_they_were_written(artifact: Path, lucet: Lucet) -> None:
    from lucet.wasm.text import text_to_binary

    wasm = text_to_binary(TEXT)
    found = json.loads(lucet("inspect", "--json", artifact).stdout)
    traps = {(one["trap"], one["function"], wasm[one["wasm_offset"]]) for one in found["traps"]}
    assert traps >= {("INTEGER_DIVIDE_BY_ZERO", 1, 0x6E), ("UNREACHABLE", 2, 0x00)}
    assert {trap for trap, function, _ in traps if function == 3} >= {"UNDEFINED_ELEMENT"}


def test_for_people(lucet: Lucet, artifact: Path) -> None:
    outcome = lucet("inspect", artifact)
    text = outcome.stdout.decode()
    assert outcome.returncode == 0
    assert "bytes, whole\n" in text
    assert "CPU        x86-64-v2: sse4_1 sse4_2 popcnt ssse3\n" in text
    assert "  env.log  func 0 [i32 f64] -> []\n" in text
    assert "  1 to 7 pages of 65536 bytes, i32, 4096 MiB reserved, 32768 KiB guard\n" in text
    assert "divide  [i32 i32] -> [i32]  from offset" not in text
    everything = lucet("inspect", "--all", artifact).stdout.decode()
    assert "divide  [i32 i32] -> [i32]  from offset" in everything
    assert "INTEGER_DIVIDE_BY_ZERO  function 1 at offset" in everything


def test_a_damaged_artifact(lucet: Lucet, artifact: Path) -> None:
    data = bytearray(artifact.read_bytes())
    data[0x1000] ^= 1
    artifact.write_bytes(data)
    outcome = lucet("inspect", artifact)
    assert outcome.returncode == 1
    assert b"DAMAGED" in outcome.stdout


def test_what_is_no_artifact(refuses: Refuses, tmp_path: Path) -> None:
    assert "hello.wasm: is not compiled" in refuses("inspect", HELLO)
    (tmp_path / "head.so").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))
    assert "head.so: " in refuses("inspect", "head.so")
    assert "none.so: No such file" in refuses("inspect", "none.so")


def test_names_are_not_sent_to_the_terminal(lucet: Lucet, tmp_path: Path) -> None:
    (tmp_path / "red.wat").write_text('(func (export "\\1b[31mred\\n"))')
    assert lucet("compile", "red.wat").returncode == 0
    assert b"\\x1b[31mred\\n  func 0" in lucet("inspect", "red.so").stdout


@pytest.mark.parametrize("seed", range(4))
def test_hostile_artifacts(artifact: Path, seed: int) -> None:
    rng = random.Random(seed)
    whole = artifact.read_bytes()
    found: dict[str, Any] = report(whole)
    module = next(one for one in found["sections"] if one["name"] == ".lucet.module")
    places = [range(64), range(len(whole) - 1500, len(whole)), range(module["offset"], module["offset"] + 1000)]
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.choice(rng.choice(places))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        with suppress(ArtifactError):
            assert report(bytes(data))["intact"] is (data == whole)
