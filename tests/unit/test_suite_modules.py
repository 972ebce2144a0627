"""The official suite's modules through decoder and validator: what it says of malformed, invalid and valid ones.

The runner of whole scripts is elsewhere; this is the language half alone.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from lucet.errors import CompileError, Invalid, Malformed, Unsupported
from lucet.wasm.check import check_module
from tests.shared import shared_path

FEATURES = {
    "threads",
    *("bulk_memory", "reference_types", "multi_value", "tail_call", "function_references", "multi_memory", "memory64"),
    "exceptions",
}

# Commands whose module needs a feature that index.json does not count, as it only looks at valid modules.
UNSUPPORTED: dict[tuple[str, int], str] = {}


def scripts() -> Iterator[str]:
    index = json.loads(shared_path("spec", "index.json").read_text())
    return (name for name, entry in index.items() if name.startswith("core/") and set(entry["features"]) <= FEATURES)


def commands(name: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The commands of a script that have a binary module."""
    script = json.loads(shared_path("spec", "json", name).read_text())
    for command in script["commands"]:
        file = script["files"].get(command.get("binary_filename") or command.get("filename"), {})
        if "b64" in file:
            yield command, base64.b64decode(file["b64"])


def verdict(data: bytes) -> CompileError | None:
    try:
        check_module(data)
    except CompileError as error:
        return error
    return None


def test_modules_of_the_suite() -> None:
    expected = {"assert_malformed": Malformed, "assert_invalid": Invalid}
    wrong = []
    seen = Counter[str]()
    for name in scripts():
        for command, data in commands(name):
            seen[command["type"]] += 1
            error = verdict(data)
            place = f"{name}:{command['line']}: {command['type']}"
            if (name, command["line"]) in UNSUPPORTED:
                feature = UNSUPPORTED[name, command["line"]]
                if not isinstance(error, Unsupported) or feature not in error.message:
                    wrong.append(f"{place}: expected Unsupported {feature}, got {error!r}")
            elif command["type"] not in expected:
                if error is not None:
                    wrong.append(f"{place}: {error!r}")
            elif type(error) is not expected[command["type"]] or not error.message.startswith(command["text"]):
                wrong.append(f"{place}: expected {command['text']!r}, got {error!r}")
    assert not wrong, "\n".join(wrong)
    assert seen["module"] > 900
    assert seen["assert_malformed"] > 600
    assert seen["assert_invalid"] > 1300


def test_other_scripts_raise_only_what_they_should() -> None:
    """Scripts of features that are missing: nothing but a clean verdict, and Unsupported never for a plain module."""
    index = json.loads(shared_path("spec", "index.json").read_text())
    features = Counter[str]()
    for name, entry in index.items():
        if name.startswith("core/") and set(entry["features"]) <= FEATURES:
            continue
        for command, data in commands(name):
            error = verdict(data)
            if isinstance(error, Unsupported):
                features[error.message.removeprefix("unsupported feature: ")] += 1
            elif command["type"] == "module" and name.startswith("core/"):
                assert error is None, f"{name}:{command['line']}: {error!r}"
    assert set(features) == {
        "garbage collection",
    }


@pytest.mark.parametrize("folder", ["apps", "guests", "bench", "wasi"])
def test_real_programs(folder: str) -> None:
    paths = sorted(shared_path(folder).rglob("*.wasm"))
    assert paths
    for path in paths:
        error = verdict(path.read_bytes())
        assert error is None or isinstance(error, Unsupported), f"{path}: {error!r}"
