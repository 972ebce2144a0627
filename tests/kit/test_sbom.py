"""tools/sbom.py: the bill of materials says what pyproject.toml and meson.build say."""

from __future__ import annotations

import ast
import importlib.resources
import json
import re
import sys
import tomllib
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.conftest import ROOT
from tools.sbom import FOR_DEVELOPERS, bill, requirement

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def version() -> str:
    (found,) = re.findall(r"^    version: '(.*)',$", (ROOT / "meson.build").read_text(), re.MULTILINE)
    return str(found)


def versions(one: dict[str, Any]) -> str:
    (found,) = [part["value"] for part in one["properties"] if part["name"] == "lucet:versions"]
    return str(found)


def test_it_is_of_the_installed_package() -> None:
    installed = importlib.resources.files("lucet") / "sbom.cdx.json"
    if not installed.is_file():
        pytest.skip("lucet is imported from its sources")
    assert json.loads(installed.read_text()) == bill(PROJECT, version())


def test_the_schema_is_kept() -> None:
    text = json.dumps(bill(PROJECT, version()))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    broken = text.replace('"library"', '"book"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None


def test_everything_that_is_needed_is_there_and_nothing_else() -> None:
    content = bill(PROJECT, version())
    told = {one["name"] + versions(one): one["scope"] for one in content["components"]}
    extras = PROJECT["project"]["optional-dependencies"]
    assert told == {
        **dict.fromkeys(PROJECT["project"]["dependencies"], "required"),
        **{one: "optional" for name in extras.keys() - FOR_DEVELOPERS for one in extras[name]},
        **dict.fromkeys(PROJECT["build-system"]["requires"], "excluded"),
    }
    assert content["metadata"]["component"]["version"] == version()


def test_what_the_package_imports_is_in_it() -> None:
    imports = [
        node
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    named = {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    named |= {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    others = {str(name).partition(".")[0] for name in named} - sys.stdlib_module_names - {"lucet"}
    callers = {"numpy", "typing_extensions"}  # if the caller has it; for type checkers only
    assert "llvmlite" in others  # so the search finds what it looks for
    assert others - callers <= {one["name"] for one in bill(PROJECT, version())["components"]}


@pytest.mark.parametrize(
    "text", ["meson", "a>=1; python_version < '4'", "a[b]>=1", ">=1", "a @ https://example.org/a.whl"]
)
def test_requirements_that_it_cannot_say_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot read"):
        requirement(text)
