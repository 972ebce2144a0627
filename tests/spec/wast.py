"""Reads a script in the text format, a .wast file, into the form of the converted ones: wast2json's commands and files.

The specification's reference interpreter defines the commands ("interpreter/README.md", "Scripts"). Tokens and numbers
are read by the project's own lexer; modules stay text, and are assembled when the script is run.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from pathlib import Path
from typing import Any, Final

from lucet.errors import CompileError, Malformed
from lucet.wasm.text import decode_text
from lucet.wasm.text_cursor import Cursor
from lucet.wasm.text_lexer import Kind, tokenize
from lucet.wasm.text_place import NEWLINE

Json = dict[str, Any]

_LANES: Final = {"i8x16": 16, "i16x8": 8, "i32x4": 4, "i64x2": 2, "f32x4": 4, "f64x2": 2}
_ABOUT_MODULES: Final = frozenset(
    {"assert_malformed", "assert_invalid", "assert_unlinkable", "assert_malformed_custom", "assert_invalid_custom"}
)
_NAN_PATTERNS: Final = ("nan:canonical", "nan:arithmetic")
_NULLS: Final = {
    "func": {"type": "funcref", "value": "null"},
    "extern": {"type": "externref", "value": "null"},
    "exn": {"type": "exnref", "value": "null"},
    "any": {"type": "anyref", "value": "null"},
    "none": {"type": "nullref"},
    "nofunc": {"type": "nullfuncref"},
    "noextern": {"type": "nullexternref"},
    "noexn": {"type": "nullexnref"},
}


def load_wast(path: Path) -> Json:
    """The script. One that cannot be read is a single command of the type "script", which says why."""
    try:
        return _Script(decode_text(path.read_bytes()), path.stem).script()
    except CompileError as error:
        line = getattr(error, "line", None) or 1
        return {"source_filename": path.name, "commands": [{"type": "script", "line": line, "text": str(error)}]}


class _Script:
    def __init__(self, source: str, stem: str) -> None:
        self.source = source
        self.stem = stem
        self.cursor = Cursor(tokenize(source))
        self.files: Json = {}
        self.line_starts = [0, *(match.end() for match in NEWLINE.finditer(source))]

    def script(self) -> Json:
        cursor = self.cursor
        commands: list[Json] = []
        if cursor.kind is Kind.OPEN and not self.at_command():
            commands.append({"type": "module", "line": 1, **self.file({"text": self.source}, "text")})
            cursor.index = len(cursor.kinds) - 1
        while cursor.kind is not Kind.END:
            line = self.line()
            command = self.command()
            commands.append({"type": command.pop("type"), "line": line, **command})
        return {"source_filename": f"{self.stem}.wast", "commands": commands, "files": self.files}

    def line(self) -> int:
        """As the converted scripts have it: where the word `module` or `invoke` is, also of a command around those."""
        cursor = self.cursor
        inner = 2 * (self.word().startswith("assert_") and cursor.kinds[cursor.index + 2] is Kind.OPEN)
        return bisect_right(self.line_starts, cursor.tokens.starts[cursor.index + 1 + inner])

    def at_command(self) -> bool:
        words = ("module", "register", "invoke", "get")
        return any(map(self.cursor.at_form, words)) or self.word().startswith("assert_")

    def word(self) -> str:
        """The keyword behind the parenthesis at the cursor."""
        cursor = self.cursor
        return cursor.texts[cursor.index + 1] if cursor.kinds[cursor.index + 1] is Kind.KEYWORD else ""

    def command(self) -> Json:
        cursor = self.cursor
        close = cursor.tokens.closes.get(cursor.index, cursor.index)
        word = self.word()
        if word == "module":
            return self.module_command()
        if word in ("invoke", "get"):
            return {"type": "action", "action": self.action()}
        cursor.expect_open()
        cursor.index += 1
        command: Json = {"type": word}
        if word == "register":
            registered = cursor.expect_name()
            command |= self.optional("name") | {"as": registered}
        elif word in _ABOUT_MODULES or (word == "assert_trap" and cursor.at_form("module")):
            command["type"] = "assert_uninstantiable" if word == "assert_trap" else word
            command |= self.module() | {"text": cursor.expect_name()}
        elif word == "assert_return":
            command |= {"action": self.action(), "expected": self.values()}
        elif word == "assert_exception":
            command["action"] = self.action()
        elif word in ("assert_trap", "assert_exhaustion"):
            command |= {"action": self.action(), "text": cursor.expect_name()}
        elif word:  # of a proposal that the runner does not know: it says so
            cursor.index = close
        else:
            raise cursor.unexpected()
        cursor.expect_close()
        return command

    def optional(self, key: str) -> Json:
        name = self.cursor.take_id()
        return {} if name is None else {key: name}

    # Modules

    def module_command(self) -> Json:
        cursor = self.cursor
        following = cursor.index + 2
        if cursor.kinds[following] is Kind.KEYWORD and cursor.texts[following] == "instance":
            cursor.index += 3
            command = {"type": "module_instance", **self.optional("instance"), **self.optional("module")}
            cursor.expect_close()
            return command
        definition = cursor.kinds[following] is Kind.KEYWORD and cursor.texts[following] == "definition"
        return {"type": "module_definition" if definition else "module", **self.module()}

    def module(self) -> Json:
        """Of a `(module ...)`: its name, and a file with what is in it."""
        cursor = self.cursor
        opened = cursor.index
        if not cursor.take_form("module"):
            raise cursor.unexpected()
        definition = cursor.index if cursor.at_keyword("definition") else None
        cursor.take_keyword("definition")
        name = self.optional("name")
        if cursor.take_keyword("binary"):
            return name | self.file({"b64": base64.b64encode(self.strings()).decode()}, "binary")
        if cursor.take_keyword("quote"):
            return name | self.file({"text_b64": base64.b64encode(self.strings()).decode()}, "text")
        cursor.index = cursor.tokens.closes[opened]
        starts = cursor.tokens.starts
        text = self.source[starts[opened] : starts[cursor.index] + 1]
        if definition is not None:
            at = starts[definition] - starts[opened]
            text = text[:at] + text[at + len("definition") :]
        cursor.expect_close()
        return name | self.file({"text": text}, "text")

    def strings(self) -> bytes:
        """Strings up to and with the closing parenthesis."""
        parts = []
        while not self.cursor.take_close():
            parts.append(self.cursor.expect_string())
        return b"".join(parts)

    def file(self, contents: Json, module_type: str) -> Json:
        name = f"{self.stem}.{len(self.files)}"
        self.files[name] = contents
        return {"filename": name, "module_type": module_type}

    # Actions, their arguments and results

    def action(self) -> Json:
        cursor = self.cursor
        for word in ("invoke", "get"):
            if cursor.take_form(word):
                action = {"type": word, **self.optional("module"), "field": cursor.expect_name()}
                if word == "invoke":
                    action["args"] = self.values()
                cursor.expect_close()
                return action
        raise cursor.unexpected()

    def values(self) -> list[Json]:
        values = []
        while self.cursor.kind is Kind.OPEN:
            values.append(self.value())
        return values

    def value(self) -> Json:
        cursor = self.cursor
        cursor.expect_open()
        word = cursor.text
        cursor.index += 1
        prefix, _, suffix = word.partition(".")
        if word == "either":
            value: Json = {"type": "either", "values": self.values()}
        elif word == "v128.const":
            value = self.vector()
        elif suffix == "const":
            value = {"type": prefix, "value": self.number(prefix)}
        elif word == "ref.null":
            value = self.null()
        elif prefix == "ref" and suffix:
            number = {} if cursor.kind is Kind.CLOSE else {"value": str(cursor.expect_unsigned(32))}
            value = {"type": "anyref" if suffix == "host" else f"{suffix}ref", **number}
        else:
            cursor.index -= 1
            raise cursor.unexpected()
        cursor.expect_close()
        return value

    def number(self, valtype: str) -> str:
        cursor = self.cursor
        bits = int(valtype[1:]) if valtype[1:].isdecimal() else 0
        if valtype in ("f32", "f64"):
            if cursor.text in _NAN_PATTERNS:
                cursor.index += 1
                return cursor.texts[cursor.index - 1]
            return str(cursor.expect_float_bits(bits))
        if valtype in ("i8", "i16", "i32", "i64"):
            return str(cursor.expect_signed(bits))
        raise cursor.unexpected()

    def vector(self) -> Json:
        cursor = self.cursor
        shape = cursor.text
        if shape not in _LANES:
            raise cursor.unexpected()
        cursor.index += 1
        lane_type = shape.partition("x")[0]
        return {"type": "v128", "lane_type": lane_type, "value": [self.number(lane_type) for _ in range(_LANES[shape])]}

    def null(self) -> Json:
        cursor = self.cursor
        if cursor.kind is Kind.CLOSE:
            return {"type": "refnull"}
        heaptype = cursor.text
        if heaptype not in _NULLS:
            raise Malformed(f"null of a type that no script has: {heaptype}")
        cursor.index += 1
        return dict(_NULLS[heaptype])
