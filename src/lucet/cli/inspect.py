"""`lucet inspect`: what is in an artifact, which is not run."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from lucet.abi.artifact_report import report
from lucet.cli.common import Failure, Parser, about, guarded
from lucet.cli.inputs import Kind, add_verify_option, kind_of, read_public_key

_MOST_SHOWN: Final = 50
"""Imports, exports and so on: --all shows the others."""


def main(arguments: Sequence[str] | None = None, prog: str = "lucet inspect") -> int:
    """Run the command and return its exit status: 1 if the artifact is damaged."""
    return guarded(prog, lambda given: _inspect(given, prog), arguments)


def _inspect(arguments: Sequence[str], prog: str) -> int:
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options] ARTIFACT.so",
        description="Shows what is in an artifact: sections, functions, imports, exports, memories, features, traps.",
    )
    parser.add_argument("artifact", metavar="ARTIFACT.so")
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.add_argument("--all", action="store_true", help="all functions and all traps, too")
    add_verify_option(parser)
    given = parser.parse_args(arguments)
    if kind_of(given.artifact) is not Kind.ARTIFACT:
        raise Failure(f"{given.artifact}: is not compiled (lucetc does that)")
    with about(given.artifact):
        data = Path(given.artifact).read_bytes()
        signed = None
        if given.verify is not None:
            from lucet import signing

            signed = signing.verify_file(data, Path(given.artifact), read_public_key(given.verify))
        found = report(data)
    if given.json:
        json.dump({**found, "signed": signed}, sys.stdout, indent=1)
        print()
    else:
        print("\n".join(_printable(line) for line in _lines(found, signed, everything=given.all)))
    return 0 if found["intact"] else 1


def _printable(line: str) -> str:
    """Names in an artifact are the guest's: a terminal must not obey them."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)


def _lines(found: dict[str, Any], signed: str | None, *, everything: bool) -> Iterator[str]:
    state = "whole" if found["intact"] else "DAMAGED: not what the compiler wrote"
    yield f"artifact   format {found['format_version']}, {found['size']} bytes, {state}"
    if signed is not None:
        yield f"signed     {signed}"
    yield f"digest     {found['digest']}"
    yield f"source     {found['source_digest']}"
    yield f"producer   {found['producer']}"
    yield f"CPU        {found['cpu']['name']}: {' '.join(found['cpu']['features']) or 'any x86-64'}"
    counts = ", counts instructions" if found["counts_instructions"] else ""
    yield f"instance   {found['instance_size']} bytes{counts}"
    yield from _part("sections", [_section(one) for one in found["sections"]], everything=True)
    yield from _part("memories", [_memory(one) for one in found["memories"]], everything=everything)
    yield from _part("tables", [_table(one) for one in found["tables"]], everything=everything)
    imports = [f"{one['module']}.{one['name']}  {_kind(one)}" for one in found["imports"]]
    yield from _part("imports", imports, everything=everything)
    yield from _part("exports", [f"{one['name']}  {_kind(one)}" for one in found["exports"]], everything=everything)
    functions = [one for one in found["functions"] if not one["imported"]]
    total = sum(one["size"] for one in functions)
    yield f"functions  {len(functions)}, {total} bytes of code"
    if everything:
        yield from (_function(one) for one in functions)
    kinds = Counter(one["trap"] for one in found["traps"])
    yield f"traps      {len(found['traps'])}: {', '.join(f'{name} {count}' for name, count in kinds.most_common())}"
    if everything:
        for one in found["traps"]:
            offset = "-" if one["wasm_offset"] is None else f"{one['wasm_offset']:#x}"
            yield f"  {one['address']:#10x}  {one['trap']}  function {one['function']} at offset {offset}"


def _part(name: str, lines: Sequence[str], *, everything: bool) -> Iterator[str]:
    yield f"{name:10} {len(lines)}"
    shown = lines if everything else lines[:_MOST_SHOWN]
    yield from (f"  {line}" for line in shown)
    if len(shown) < len(lines):
        yield f"  ... and {len(lines) - len(shown)} more (--all)"


def _section(one: dict[str, Any]) -> str:
    place = "         -" if one["address"] is None else f"{one['address']:#10x}"
    return f"{place}  {one['size']:>10}  {one['name']}{', executable' if one['executable'] else ''}"


def _limits(one: dict[str, Any]) -> str:
    return f"{one['minimum']} to {'any' if one['maximum'] is None else one['maximum']}"


def _memory(one: dict[str, Any]) -> str:
    kinds = [word for word in ("imported", "shared") if one[word]]
    checks = (
        "accesses are compared"
        if one["bounds"] == "explicit"
        else f"{one['reserved'] >> 20} MiB reserved, {one['guard'] >> 10} KiB guard"
    )
    return ", ".join([f"{_limits(one)} pages of {one['page_size']} bytes, {one['index_type']}", *kinds, checks])


def _table(one: dict[str, Any]) -> str:
    kinds = [word for word in ("imported", "static") if one[word]]
    return ", ".join([f"{_limits(one)} elements of {one['type']}", *kinds])


def _kind(one: dict[str, Any]) -> str:
    return f"{one['kind']} {one['index']}" + (f" {one['type']}" if "type" in one else "")


def _function(one: dict[str, Any]) -> str:
    name = one["name"] or f"function {one['index']}"
    return f"  {one['address']:#10x}  {one['size']:>7}  {name}  {one['type']}  from offset {one['wasm_offset']:#x}"
