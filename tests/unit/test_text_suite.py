"""The text format on the official suite: the texts in its scripts, and its sources against the binaries of them."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from lucet.errors import CompileError, Malformed, Unsupported
from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.module import Instr, Module
from lucet.wasm.opcodes import BY_NAME
from lucet.wasm.text import text_to_binary
from lucet.wasm.text_lexer import Kind, tokenize
from lucet.wasm.types import FuncType
from tests.shared import shared_path

FEATURES = {"bulk_memory", "reference_types", "multi_value", "tail_call"}
TYPE_AND_TABLE = {op.code for op in BY_NAME.values() if op.immediates == "type_table"}


def scripts(*, in_scope: bool) -> list[str]:
    index = json.loads(shared_path("spec", "index.json").read_text())
    return [
        name
        for name, entry in index.items()
        if name.startswith("core/") and (set(entry["features"]) <= FEATURES) is in_scope
    ]


def script(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(shared_path("spec", "json", name).read_text())
    return loaded


def texts(name: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The commands of a script whose module is a text."""
    loaded = script(name)
    for command in loaded["commands"]:
        if command.get("module_type") == "text":
            file = loaded["files"][command["filename"]]
            yield command, base64.b64decode(file["text_b64"]) if "text_b64" in file else file["text"].encode()


def verdict(text: bytes) -> CompileError | None:
    try:
        text_to_binary(text)
    except CompileError as error:
        return error
    return None


@pytest.mark.parametrize("in_scope", [True, False])
def test_texts_in_scripts(in_scope: bool) -> None:
    """Malformed ones are, with the suite's words; the others are not. Missing features are said to be that."""
    wrong = []
    seen = Counter[str]()
    for name in scripts(in_scope=in_scope):
        for command, text in texts(name):
            error = verdict(text)
            seen[command["type"]] += 1
            if isinstance(error, Unsupported) and not in_scope:
                continue
            if command["type"] == "assert_malformed":
                good = isinstance(error, Malformed) and error.message.startswith(command["text"])
            else:
                good = error is None
            if not good:
                wrong.append(f"{name}:{command['line']}: {command['type']} {command.get('text')!r}: {error!r}")
    assert not wrong, "\n".join(wrong)
    assert seen["assert_malformed"] == (636 if in_scope else 593)


def module_forms(source: str) -> Iterator[str]:
    """The text of each module of a .wast script, in the order in which the converted script numbers its files.

    Empty for `(module binary ...)` and `(module quote ...)`, which are no text of a module.
    """
    tokens = tokenize(source)
    if tokens.kinds[-1] is Kind.ERROR:
        raise AssertionError(tokens.texts[-1])
    index = 0
    while tokens.kinds[index] is Kind.OPEN:
        opened = index
        index = tokens.closes[index] + 1
        word = tokens.texts[opened + 1]
        if word not in ("module", "register", "invoke", "get") and not word.startswith("assert_"):
            yield source
            return
        if word.startswith("assert_"):
            opened += 2
        if tokens.texts[opened + 1] == "module" and tokens.texts[opened + 2] != "instance":
            yield module_form(source, tokens.starts[opened : tokens.closes[opened] + 1], tokens.texts[opened + 2 :])


def module_form(source: str, starts: list[int], texts: list[str]) -> str:
    text = source[starts[0] : starts[-1] + 1]
    if texts[0] == "definition":
        text = text.replace("definition", "", 1)
        texts = texts[1:]
    return "" if {"binary", "quote"} & set(texts[:2]) else text


def meaning(binary: bytes) -> dict[str, Any]:
    """What a module's binary says, without offsets, and with types instead of their indices."""
    module = decode_module(binary)

    def instrs(sequence: Any) -> list[Any]:
        return [plain(module, instr) for instr in sequence]

    defined = range(module.imported_func_count, len(module.all_funcs))
    return {
        "imports": [
            (one.module, one.field, functype(module, one.desc) if isinstance(one.desc, int) else one.desc)
            for one in module.imports
        ],
        "funcs": [functype(module, index) for index in module.all_funcs],
        "codes": [(code.locals, instrs(code.instrs)) for code in (decode_code(module, index) for index in defined)],
        "tables": [(table.type, table.init and instrs(table.init)) for table in module.tables],
        "memories": module.memories,
        "globals": [(one.type, instrs(one.init)) for one in module.globals],
        "exports": [(export.name, export.kind, export.index) for export in module.exports],
        "start": module.start,
        "elems": [
            (
                elem.reftype,
                elem.mode,
                elem.table,
                elem.offset_expr and instrs(elem.offset_expr),
                [*map(instrs, elem.items)],
            )
            for elem in module.elems
        ],
        "datas": [
            (data.bytes, data.mode, data.memory, data.offset_expr and instrs(data.offset_expr)) for data in module.datas
        ],
        "names": (module.module_name, module.func_names),
    }


def plain(module: Module, instr: Instr) -> tuple[int, Any]:
    opcode, _, immediate = instr
    if opcode in TYPE_AND_TABLE:
        immediate = (functype(module, immediate[0]), immediate[1])
    return opcode, immediate


def functype(module: Module, index: int) -> FuncType | int:
    """The type, if there is one of that index: modules of assert_invalid may lack it."""
    return module.types[index] if index < len(module.types) else index


def same_meaning(text: str, binary: bytes) -> bool:
    try:
        wanted = meaning(binary)
    except CompileError as error:
        return type(verdict_of_meaning(text)) is type(error)
    return meaning(text_to_binary(text)) == wanted


def verdict_of_meaning(text: str) -> CompileError | None:
    try:
        meaning(text_to_binary(text))
    except CompileError as error:
        return error
    return None


def modules(name: str) -> Iterator[tuple[str, str, bytes]]:
    """(file, text, binary) of each module of a script that has both."""
    files = script(name)["files"]
    stem = name.removesuffix(".json").rpartition("/")[2]
    source = shared_path("spec", "wast", f"{name.removeprefix('core/').removesuffix('.json')}.wast").read_text()
    for number, text in enumerate(module_forms(source)):
        file = f"{stem}.{number}.wasm"
        if text and file in files:
            yield file, text, base64.b64decode(files[file]["b64"])


def test_sources_assemble_to_the_binaries_of_the_scripts() -> None:
    compared = [
        (file, text, same_meaning(text, binary))
        for name in scripts(in_scope=True)
        for file, text, binary in modules(name)
    ]
    assert [f"{file}:\n{text}" for file, text, same in compared if not same] == []
    assert len(compared) == 2221


def test_sources_of_missing_features_are_unsupported_or_assemble() -> None:
    wrong = []
    seen = Counter[str]()
    for name in scripts(in_scope=False):
        for file, text, binary in modules(name):
            error = verdict(text.encode())
            seen[type(error).__name__] += 1
            if error is None and not same_meaning(text, binary):
                wrong.append(f"{file}:\n{text}")
            elif isinstance(error, Malformed):
                wrong.append(f"{file}: {error}")
    assert wrong == []
    assert seen["NoneType"] > 100
    assert seen["Unsupported"] > 100
