"""The guest's frames of a trap: by name and place, wherever and however the run ended."""

from __future__ import annotations

import pickle
import traceback

import pytest

import lucet
from lucet.wasm.text import text_to_binary
from tests.compile.conftest import Instantiate

TEXT = """(module
  (import "env" "h" (func $host))
  (memory 1) (table 2 funcref) (elem (i32.const 0) $c)
  (func $a (export "a") (param i32) (result i32)
    (i32.add (call $b (local.get 0)) (i32.const 1)))
  (func $b (param i32) (result i32)
    (i32.add (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0)) (i32.const 1)))
  (func $c (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then unreachable))
    (if (i32.eq (local.get 0) (i32.const 2)) (then (memory.fill (i32.const -1) (i32.const 0) (i32.const 100))))
    (if (i32.eq (local.get 0) (i32.const 3)) (then (call $host)))
    (if (i32.eq (local.get 0) (i32.const 4)) (then (loop (br 0))))
    (i32.load (i32.sub (local.get 0) (i32.const 10))))
  (func $deep (export "deep") (param i32) (result i32)
    (i32.add (call $deep (local.get 0)) (i32.const 1))))"""
WASM = text_to_binary(TEXT)
UNREACHABLE, CALL, CALL_INDIRECT, LOAD, MISC = 0x00, 0x10, 0x11, 0x28, 0xFC


@pytest.fixture
def instance(instantiate: Instantiate) -> lucet.Instance:
    return instantiate(TEXT, {"env": {"h": lucet.host_function(_again)}})


def _again(caller: lucet.Instance) -> None:
    caller.run("a", 0)


def trap_of(instance: lucet.Instance, name: str, argument: int) -> lucet.Trap:
    with pytest.raises(lucet.Trap) as caught:
        instance.run(name, argument)
    return caught.value


@pytest.mark.parametrize(("argument", "opcode"), [(0, UNREACHABLE), (1, LOAD), (2, MISC), (4, None)])
def test_frames_of_a_trap(instance: lucet.Instance, argument: int, opcode: int | None) -> None:
    """An instruction that traps, an access that faults, a builtin, an interrupt."""
    instance.timeout = 0.05
    trap = trap_of(instance, "a", argument)
    assert [name for name, _ in trap.frames] == ["c", "b", "a"]
    opcodes = [None if offset is None else WASM[offset] for _, offset in trap.frames]
    assert opcodes[1:] == [CALL_INDIRECT, CALL]
    if opcode is not None:
        assert opcodes[0] == opcode
        assert trap.frames[0] == (trap.function, trap.offset)


def test_the_frames_are_those_of_the_inner_run(instance: lucet.Instance) -> None:
    trap = trap_of(instance, "a", 3)
    assert [name for name, _ in trap.frames] == ["c", "b", "a"]
    assert trap.code == "UNREACHABLE"


def test_of_deep_recursion_the_innermost_are_shown(instance: lucet.Instance) -> None:
    trap = trap_of(instance, "deep", 0)
    assert trap.code == "CALL_STACK_EXHAUSTED"
    assert len(trap.frames) == 64
    assert {name for name, _ in trap.frames} == {"deep"}
    assert trap.__notes__[0].endswith("... and more")


def test_frames_of_several_instances(instance: lucet.Instance, instantiate: Instantiate) -> None:
    importer = instantiate(
        """(module (import "other" "a" (func $a (param i32) (result i32)))
             (func $outer (export "outer") (param i32) (result i32) (i32.add (call $a (local.get 0)) (i32.const 1)))
           )""",
        {"other": {"a": instance.export("a")}},
    )
    assert [name for name, _ in trap_of(importer, "outer", 0).frames] == ["c", "b", "a", "outer"]


def test_tracebacks_show_the_frames(instance: lucet.Instance) -> None:
    trap = trap_of(instance, "a", 0)
    shown = "".join(traceback.format_exception(trap))
    places = [f"  #{number} {name} at offset {offset:#x}" for number, (name, offset) in enumerate(trap.frames)]
    assert "guest frames, innermost first:\n" + "\n".join(places) in shown
    trap.add_note("and this")
    assert "and this" in "".join(traceback.format_exception(trap))
    assert lucet.Trap("text", code="UNREACHABLE").__notes__ == []


def test_names_of_frames_are_printable() -> None:
    text = '(func $"\\1b[31m" (export "f") unreachable)'
    instance = lucet.Region(slots=1).new_instance(lucet.Module.from_bytes(lucet.compile(text, workers=1)))
    with pytest.raises(lucet.Trap) as caught:
        instance.run("f")
    assert "\x1b" not in caught.value.__notes__[0]


def test_out_of_fuel_has_frames() -> None:
    text = '(func $loop (loop (br 0))) (func $main (export "main") (call $loop))'
    module = lucet.Module.from_bytes(lucet.compile(text, count_instructions=True, workers=1))
    instance = lucet.Region(slots=1).new_instance(module, fuel=1000)
    with pytest.raises(lucet.OutOfFuel) as caught:
        instance.run("main")
    assert [name for name, _ in caught.value.frames] == ["loop", "main"]


def test_traps_can_be_copied(instance: lucet.Instance) -> None:
    trap = trap_of(instance, "a", 0)
    again = pickle.loads(pickle.dumps(trap))
    assert (str(again), again.frames) == (str(trap), trap.frames)
