"""Scripts as text: read as wast2json converts them, and with the same outcome."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.shared import shared_path
from tests.spec.command import run_spec
from tests.spec.run import task_of
from tests.spec.wast import load_wast


def plain(value: Any) -> Any:
    """Without names of files, and with integers by their bits, which the converted scripts have signed."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    valtype = value.get("type")
    if valtype in ("i32", "i64") and "value" in value:
        return {"type": valtype, "value": int(value["value"]) % (1 << int(valtype[1:]))}
    if valtype == "v128" and value["lane_type"].startswith("i"):
        bits = int(value["lane_type"][1:])
        return {**value, "value": [int(lane) % (1 << bits) for lane in value["value"]]}
    return {
        key: plain(one)
        for key, one in value.items()
        if key not in ("filename", "binary_filename", "module_type", "features")
    }


def test_all_scripts_are_read_as_they_are_converted() -> None:
    suite = shared_path("spec")
    index = json.loads((suite / "index.json").read_text())
    commands = 0
    for name, entry in index.items():
        converted = json.loads((suite / "json" / name).read_text())["commands"]
        read = load_wast(task_of(suite, name, entry, wast=True).path)["commands"]
        assert plain(read) == plain(converted), name
        commands += len(read)
    assert commands == 67_119


def run(*arguments: str) -> tuple[int, str]:
    status, output = run_spec(shared_path("spec").parent, "--opt-level", "fast", "--jobs", "1", *arguments)
    return status, re.sub(r" \([\d.]+ s\)", "", output)


SCRIPTS = ("comments", "elem", "exports", "imports", "instance", "memory", "ref_null", "start")


def test_both_forms_have_the_same_outcome() -> None:
    status, converted = run("-v", *SCRIPTS)
    assert status == 0
    assert converted.count(" passed") >= len(SCRIPTS)
    read_status, read = run("-v", "--wast", *SCRIPTS)
    assert outcomes(read) == outcomes(converted)
    assert read_status == status


def outcomes(output: str) -> list[str]:
    """Without the errors' words: a binary and its text are not refused for a missing feature by the same step."""
    short = re.sub(r"((?:skipped|FAILED|expected failure): ).*", r"\1", output)
    return sorted(re.sub(r"\.(?:json|wast)", "", short).splitlines())


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ('(func (export "f") (result i32) (i32.const 1))', 0, "1 passed"),
        ('(module (func (export "f")))(assert_return (invoke "f"))', 0, "2 passed"),
        (
            '(module (func (export "f") (result f32) (f32.const nan)))\n(assert_return (invoke "f") (f32.const 1))',
            1,
            "line 2: assert_return: FAILED: returned f32 0x7fc00000",
        ),
        ('(module\n(func (export "f")))\n(assert_sorted (invoke "f"))', 0, "1 passed, 1 skipped"),
        ('(assert_return (invoke "f") (i32.const x))', 1, "line 1: script: FAILED: the script cannot be read: unknown"),
        ('(module)\n(assert_return "f")', 1, "line 2: script: FAILED"),
        ("\n\n(module binary 1)", 1, "line 3: script: FAILED"),
    ],
)
def test_any_script(script: str, status: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / "own.wast"
    path.write_text(script)
    done = run(str(path))
    assert done[0] == status, done[1]
    assert said in done[1]
