"""docs/comparison.md: what it says of wasmtime-py that a program can check, so that it changes when the peer does."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from typing import Any

import pytest

import lucet
from tests.docs.blocks import ROOT

wasmtime: Any = pytest.importorskip("wasmtime")

PAGE = (ROOT / "docs" / "comparison.md").read_text()


def function(text: str) -> tuple[Any, Any]:
    """A store, and the function that the module exports as f."""
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    return store, wasmtime.Instance(store, wasmtime.Module(engine, text), []).exports(store)["f"]


def test_the_version_is_the_one_that_was_checked() -> None:
    (named,) = set(re.findall(r"wasmtime-py (\d+)\.[\d.]+ ", PAGE))
    assert importlib.metadata.version("wasmtime").split(".")[0] == named


def test_vectors_do_not_cross_the_boundary() -> None:
    store, call = function('(module (func (export "f") (result v128) (v128.const i64x2 1 2)))')
    with pytest.raises(wasmtime.WasmtimeError, match="wasmtime_valkind_t"):
        call(store)


def test_what_does_not_fit_loses_its_high_bits() -> None:
    store, call = function('(module (func (export "f") (param i32) (result i32) (local.get 0)))')
    assert call(store, 2**40 + 7) == 7
    with (
        lucet.Region(1).new_instance(
            lucet.Module.from_bytes(lucet.compile('(module (func (export "f") (param i32)))'))
        ) as instance,
        pytest.raises(OverflowError),
    ):
        instance.run("f", 2**40 + 7)


def test_pooling_is_not_in_its_configuration() -> None:
    assert [name for name in dir(wasmtime.Config) if "pool" in name or "async" in name] == []


def test_what_it_has_and_lucet_has_not() -> None:
    assert importlib.util.find_spec("wasmtime.component") is not None
    collected = """(module (type $s (struct (field i32)))
      (func (export "f") (result i32) (struct.get $s 0 (struct.new $s (i32.const 5)))))"""
    store, call = function(collected)
    assert call(store) == 5
    with pytest.raises(lucet.Unsupported, match="garbage collection"):
        lucet.compile(collected)
