"""docs/terrarium-config.md tells what the configuration's dataclasses have: every key, its default and its docstring.

`python -m tests.docs.test_terrarium_config` prints the tables anew, to be put into the page.
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
from dataclasses import MISSING, Field, fields, is_dataclass
from types import ModuleType
from typing import Any, Final

from lucet.terrarium import catalogue, config, limits
from tests.docs.blocks import ROOT, blocks

PAGE: Final = ROOT / "docs" / "terrarium-config.md"
SECTIONS: Final[list[tuple[str, type[Any], ModuleType]]] = [
    ("", config.Config, config),
    ("[tls]", config.Tls, config),
    ("[admin]", config.Admin, config),
    ("[limits]", limits.Limits, limits),
    ("[capacity]", config.Capacity, config),
    ("[build]", config.Build, config),
    ("[original]", config.Original, config),
    ("[log]", config.Log, config),
    ("[tenants.NAME]", config.Tenant, config),
    ("[tenants.NAME.apps.NAME]", config.App, config),
    ("filters", catalogue.FilterUse, catalogue),
    ("secrets.STORE.KEY", config.SecretSource, config),
]


def docstrings(cls: type[Any], module: ModuleType) -> dict[str, str]:
    """Of fields: the string that stands after each."""
    tree = ast.parse(inspect.getsource(module))
    body = next(one.body for one in tree.body if isinstance(one, ast.ClassDef) and one.name == cls.__name__)
    found = {}
    for one, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            found[one.target.id] = " ".join(str(text).split())
    return found


def default(one: Field[Any], kind: Any) -> str:
    value = one.default if one.default_factory is MISSING else one.default_factory()
    if value is MISSING:
        return "required"
    if is_dataclass(value):
        return "its own"
    if value is None or value in ((), {}, b""):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{part}"' for part in value) + "]"
    if kind is int and value >= 1024 and value % 1024 == 0:
        for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
            if value % (1 << shift) == 0:
                return f"{value >> shift} {unit}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(cls: type[Any], module: ModuleType) -> str:
    told, hints = docstrings(cls, module), typing.get_type_hints(cls)
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for one in fields(cls):
        rows.append(f"| `{one.name}` | {default(one, hints[one.name])} | {told[one.name]} |")
    return "\n".join(rows)


def tables() -> dict[str, str]:
    return {name: table(cls, module) for name, cls, module in SECTIONS}


def test_the_page_has_every_key_with_its_default_and_meaning() -> None:
    page = PAGE.read_text()
    shown = {
        heading.replace("`", "") if heading != "The server" else "": text
        for heading, text in re.findall(r"^## (.*?)\n.*?(^\| key .*?)(?:\n\n|\Z)", page, re.M | re.S)
    }
    assert {name: text.rstrip("\n") for name, text in shown.items()} == tables()


def test_the_examples_in_terrariums_pages_are_accepted() -> None:
    pages = sorted(PAGE.parent.glob("terrarium*.md"))
    found = [
        (page, block)
        for page in pages
        for block in blocks(page)
        if block.language == "toml" and (page == PAGE or "[tenants." in block.text)  # others are parts of one
    ]
    assert len({page for page, _ in found}) > 2
    for page, block in found:
        config.parse_config(block.text.encode(), f"{page.name}, line {block.line}")


def test_the_example_file_is_accepted() -> None:
    path = ROOT / "examples" / "terrarium" / "terrarium.toml"
    found = config.read_config(path)
    assert found.tenants["acme"].apps["hello"].module == path.parent / "hello.wat"


if __name__ == "__main__":
    for name, text in tables().items():
        print(f"## {f'`{name}`' if name else 'The server'}\n\n{text}\n")
