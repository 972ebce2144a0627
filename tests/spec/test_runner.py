"""The runner itself, on small suites of its own: what is wrong must be seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.spec.command import run_spec

MODULE = """
(module
  (func (export "one") (result i32) (i32.const 1))
  (func (export "nan") (result f32) (f32.const nan:0x200001))
  (func (export "null") (result funcref) (ref.null func))
  (func (export "nothing"))
  (func (export "unreachable") unreachable)
  (func $deeper (export "deeper") (call $deeper))
  (global (export "global") i64 (i64.const -1))
  (func (export "crash"))
  (func (export "hang"))
  (table (export "table") 1 funcref))
"""
TRAPPING = "(func $f unreachable) (start $f)"
UNLINKABLE = '(import "nowhere" "nothing" (func))'
MISSING = "(type (struct))"

ONE = {"type": "i32", "value": "1"}
TWO = {"type": "i32", "value": "2"}


def invoke(field: str) -> dict[str, Any]:
    return {"type": "invoke", "field": field, "args": []}


def returns(field: str, *expected: Any) -> dict[str, Any]:
    return {"type": "assert_return", "action": invoke(field), "expected": list(expected)}


def traps(field: str, text: str, command: str = "assert_trap") -> dict[str, Any]:
    return {"type": command, "action": invoke(field), "text": text}


def module(command: str, source: str, /, **more: str) -> dict[str, Any]:
    return {"type": command, "module_type": "text", "filename": source, **more}


GOOD = [
    module("module", MODULE),
    returns("one", ONE),
    returns("nan", {"type": "f32", "value": "2141192193"}),
    returns("null", {"type": "funcref", "value": "null"}),
    returns("nothing"),
    {
        "type": "assert_return",
        "action": {"type": "get", "field": "global"},
        "expected": [{"type": "i64", "value": "-1"}],
    },
    traps("unreachable", "unreachable"),
    traps("deeper", "call stack exhausted", "assert_exhaustion"),
    module("assert_malformed", "(funk)", text="unknown operator"),
    module("assert_invalid", "(func (result i32))", text="type mismatch"),
    module("assert_uninstantiable", TRAPPING, text="unreachable"),
    module("assert_unlinkable", UNLINKABLE, text="unknown import"),
    {"type": "action", "action": invoke("one")},
    {"type": "register", "as": "mine"},
    module("module", '(import "mine" "one" (func $one (result i32))) (func (export "again") (result i32) call $one)'),
    returns("again", ONE),
]

BAD = [
    module("module", MODULE),
    returns("one", TWO),
    returns("one"),
    returns("one", ONE, ONE),
    returns("nan", {"type": "f32", "value": "nan:canonical"}),
    returns("nan", {"type": "f32", "value": "nan:arithmetic"}),
    returns("null", {"type": "funcref"}),
    returns("nothing", ONE),
    returns("unreachable"),
    returns("no such export"),
    traps("one", "unreachable"),
    traps("unreachable", "integer divide by zero"),
    traps("unreachable", "call stack exhausted", "assert_exhaustion"),
    {"type": "action", "action": invoke("unreachable")},
    module("assert_malformed", "(func)", text="unexpected token"),
    module("assert_invalid", "(func)", text="type mismatch"),
    module("assert_uninstantiable", "(func)", text="unreachable"),
    module("assert_uninstantiable", UNLINKABLE, text="unreachable"),
    module("assert_unlinkable", "(func)", text="unknown import"),
    module("assert_unlinkable", TRAPPING, text="unknown import"),
    module("module", TRAPPING),
    returns("one", ONE),  # the module before it has failed: there is no instance
    {"type": "register", "name": "nobody", "as": "nobody"},
]


class Suite:
    """A shared folder with scripts of our own; every command's line is its number, from 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index: dict[str, Any] = {}
        (folder / "spec" / "json" / "core").mkdir(parents=True)
        (folder / "spec" / "tools").mkdir()
        (folder / "spec" / "tools" / "spectest.wat").write_text('(module (func (export "print")))')
        self.expected = folder / "expected.txt"
        self.expected.write_text("# nothing\n\n")

    def add(self, name: str, commands: list[dict[str, Any]], *features: str) -> None:
        numbered = [{**command, "line": number} for number, command in enumerate(commands, 1)]
        files = {command["filename"]: {"text": command["filename"]} for command in commands if "filename" in command}
        self.index[f"core/{name}.json"] = {"commands": len(commands), "features": list(features)}
        path = self.folder / "spec" / "json" / "core" / f"{name}.json"
        path.write_text(json.dumps({"commands": numbered, "files": files}))

    def run(self, *arguments: str, engine: str = "tests.spec.doubles:Fragile") -> tuple[int, str]:
        (self.folder / "spec" / "index.json").write_text(json.dumps(self.index))
        return run_spec(self.folder, "--engine", engine, "--expected-failures", str(self.expected), *arguments)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


@pytest.mark.parametrize("engine", ["wasmtime", "lucet"])
def test_good_commands_pass_and_each_bad_one_fails(suite: Suite, engine: str) -> None:
    suite.add("good", GOOD)
    suite.add("bad", BAD)
    status, output = suite.run(engine=engine)
    assert status == 1, output
    assert f"core/good.json: {len(GOOD)} passed (" in output
    assert f"core/bad.json: 1 passed, {len(BAD) - 1} failed (" in output
    assert [f"line {number}: " in output for number in range(1, len(BAD) + 1)] == [False, *[True] * (len(BAD) - 1)]
    assert "2 scripts: 1 failed, 1 passed\n" in output
    assert f"commands: {len(GOOD) + 1} passed, {len(BAD) - 1} failed (0 expected), 0 skipped" in output


def test_good_commands_alone_are_success(suite: Suite) -> None:
    suite.add("good", GOOD)
    assert suite.run()[0] == 0


def test_the_words_of_errors_count(suite: Suite) -> None:
    suite.add(
        "words",
        [
            module("assert_malformed", "(funk)", text="unexpected token"),
            module("assert_malformed", "(func (result i32))", text="type mismatch"),
            module("assert_invalid", "(func (result i32))", text="unknown function"),
            module("assert_invalid", "(funk)", text="unknown operator"),
        ],
    )
    status, output = suite.run(engine="lucet")
    assert status == 1
    assert "0 passed, 4 failed" in output


def test_expected_failures(suite: Suite) -> None:
    suite.add("mixed", [*GOOD, returns("again", TWO)])
    failing = len(GOOD) + 1
    suite.expected.write_text(f"core/mixed.json {failing} not finished yet\ncore/other.json 1 not run\n")
    status, output = suite.run()
    assert status == 0, output
    assert f"line {failing}: assert_return: expected failure: not finished yet: returned i32 0x00000001" in output
    assert "1 failed (1 expected)" in output


def test_an_unexpected_pass_fails(suite: Suite) -> None:
    suite.add("good", GOOD)
    suite.expected.write_text("core/good.json 2 thought to fail\n")
    status, output = suite.run()
    assert status == 1
    assert "line 2: assert_return: UNEXPECTED PASS" in output


def test_an_expected_failure_of_no_command_fails(suite: Suite) -> None:
    suite.add("good", GOOD)
    suite.expected.write_text("core/good.json 99 thought to exist\n")
    status, output = suite.run()
    assert status == 1
    assert "line 99: FAILED: listed in" in output


def test_a_crash_ends_its_script_alone(suite: Suite) -> None:
    suite.add("crash", [module("module", MODULE), returns("one", ONE), returns("crash"), returns("one", ONE)])
    suite.add("good", GOOD)
    suite.add("good2", GOOD)
    status, output = suite.run("--jobs", "1", "-v")
    assert status == 1
    assert "core/crash.json: 2 passed, 2 failed" in output
    assert "line 3: assert_return: FAILED: crashed: SIGABRT" in output
    assert "line 4: assert_return: FAILED: not run" in output
    assert output.count(f"{len(GOOD)} passed") == 2


def test_a_script_that_hangs_is_stopped(suite: Suite) -> None:
    suite.add("hang", [module("module", MODULE), returns("hang"), returns("one", ONE)])
    suite.add("good", GOOD)
    status, output = suite.run("--timeout", "4")
    assert status == 1
    assert "line 2: assert_return: FAILED: did not end within 4 seconds" in output
    assert f"core/good.json: {len(GOOD)} passed" in output


def test_missing_features(suite: Suite) -> None:
    commands = [
        module("module", MODULE),
        module("module", MISSING, name="missing"),
        returns("one", ONE),
        {"type": "register", "name": "missing", "as": "v"},
        module("module", '(import "v" "f" (func))'),
        module("assert_invalid", MISSING, text=""),
        module("module", MODULE),
        returns("one", ONE),
    ]
    suite.add("structs", commands, "gc")
    suite.add("good", GOOD)
    assert "structs" not in suite.run()[1]
    status, output = suite.run("--all", "-v")
    assert status == 0, output
    assert "core/structs.json: 3 passed, 5 skipped" in output
    assert "line 2: module: skipped: unsupported feature: garbage collection" in output
    assert "1 passed, 1 passed in part, the rest skipped" in output
    # The same commands in a script that is said to need no such feature are failures.
    suite.add("structs", commands)
    status, output = suite.run()
    assert status == 1
    assert "core/structs.json: 3 passed, 5 failed" in output


def test_unknown_scripts_and_a_missing_suite(suite: Suite, tmp_path: Path) -> None:
    assert suite.run("nonsense") == (1, "tests.spec: there is no script nonsense\n")
    missing = Suite(tmp_path / "missing")
    missing.folder = tmp_path / "elsewhere"
    (missing.folder / "spec").mkdir(parents=True)
    (missing.folder / "spec").rename(tmp_path / "moved")
    status, output = run_spec(missing.folder)
    assert status == 2
    assert "LUCET_SHARED" in output
